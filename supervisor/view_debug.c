// SPDX-License-Identifier: Apache-2.0
/* GET .../debug as the API shows it. The parts that a tenant is not shown are marked with all. */
#include "view.h"

#include "account.h"
#include "operate.h"
#include "util.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Whole numbers of 64 bits, which a JSON library's double would round; 2^64 - 1 is null. */
static void add_u64(cJSON *o, const char *name, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, value);
	cJSON_AddRawToObject(o, name, value == UINT64_MAX ? "null" : text);
}

/* "POWER_BUTTON" is the API's "power-button"; null for none. */
static void add_request_name(cJSON *o, const char *name, uint32_t type)
{
	char word[32];
	if (type == MSG_NONE) {
		cJSON_AddNullToObject(o, name);
		return;
	}
	snprintf(word, sizeof(word), "%s", msg_type_name(type));
	for (char *c = word; *c; c++)
		*c = *c == '_' ? '-' : (char)tolower((unsigned char)*c);
	cJSON_AddStringToObject(o, name, word);
}

static void add_supervisor(cJSON *o, const struct sandbox *sb)
{
	static const char *const shims[] = {
		[SANDBOX_SHIM_STARTING] = "starting",
		[SANDBOX_SHIM_UP] = "up",
		[SANDBOX_SHIM_LEAVING] = "leaving",
		[SANDBOX_SHIM_GONE] = "gone",
	};
	cJSON *s = cJSON_AddObjectToObject(o, "supervisor");
	if (sb->op == SANDBOX_OP_NONE)
		cJSON_AddNullToObject(s, "operation");
	else
		cJSON_AddStringToObject(s, "operation", operate_name(sb->op));
	cJSON_AddStringToObject(s, "shim", shims[sb->shim]);
	cJSON_AddBoolToObject(s, "linked", sb->link != NULL);
	cJSON_AddBoolToObject(s, "adopted", sb->adopted);
	if (sb->leftover)
		cJSON_AddStringToObject(s, "leftover", sb->leftover);
	else
		cJSON_AddNullToObject(s, "leftover");
}

static void add_shim(cJSON *o, const struct msg_debug_head *h, bool all)
{
	cJSON *s = cJSON_AddObjectToObject(o, "shim");
	cJSON_AddStringToObject(s, "phase", msg_phase_name(h->phase));
	add_u64(s, "phase_us", h->phase_us);
	add_u64(s, "age_us", h->age_us);
	add_request_name(s, "operation", h->op);
	if (h->op)
		add_u64(s, "operation_us", h->op_us);
	else
		cJSON_AddNullToObject(s, "operation_us");
	cJSON_AddNumberToObject(s, "console_waiters", h->console_waiters);
	cJSON_AddNumberToObject(s, "logs_dropped", h->logs_dropped);
	if (!all)
		return;
	cJSON_AddNumberToObject(s, "pid", h->shim_pid);
	cJSON_AddNumberToObject(s, "vmm_pid", h->vmm_pid);
	cJSON_AddNumberToObject(s, "vmm_uid", h->uid);
	cJSON *fds = cJSON_AddArrayToObject(s, "descriptors");
	for (uint32_t i = 0; i < h->fd_count; i++) {
		cJSON *fd = cJSON_CreateObject();
		cJSON_AddNumberToObject(fd, "fd", h->fds[i].fd);
		cJSON_AddStringToObject(fd, "what", h->fds[i].what);
		cJSON_AddItemToArray(fds, fd);
	}
}

/* ------------------------------------------------------------------ exchanges */

static cJSON *view_exchange(const struct msg_exchange *x)
{
	cJSON *o = cJSON_CreateObject();
	char method[MSG_EXCHANGE_REQUEST_MAX];
	size_t n = strcspn(x->request, " ");
	snprintf(method, sizeof(method), "%.*s", (int)n, x->request);
	view_add_time(o, "at", x->at_real_us);
	cJSON_AddStringToObject(o, "method", method);
	cJSON_AddStringToObject(o, "path", x->request + n + (x->request[n] == ' '));
	cJSON_AddStringToObject(o, "outcome", msg_debug_outcome_name(x->outcome));
	if (x->status)
		cJSON_AddNumberToObject(o, "status", x->status);
	else
		cJSON_AddNullToObject(o, "status");
	cJSON_AddNumberToObject(o, "took_us", x->took_us);
	if (x->error[0])
		cJSON_AddStringToObject(o, "error", x->error);
	return o;
}

static void add_exchanges(cJSON *o, const struct account_view *v)
{
	cJSON *open = cJSON_AddArrayToObject(o, "open_requests");
	cJSON *done = cJSON_AddArrayToObject(o, "exchanges");
	for (uint32_t i = 0; i < v->head->exchange_count; i++) {
		const struct msg_exchange *x = &v->exchanges[i];
		bool is_open =
			x->outcome == MSG_EXCHANGE_OPEN || x->outcome == MSG_EXCHANGE_OVERDUE;
		cJSON_AddItemToArray(is_open ? open : done, view_exchange(x));
	}
	add_u64(o, "exchanges_total", v->head->exchange_total);
}

/* ------------------------------------------------------------------ confinement */

static cJSON *view_ids(const uint32_t ids[4])
{
	cJSON *list = cJSON_CreateArray();
	for (int i = 0; i < 4; i++)
		cJSON_AddItemToArray(list, cJSON_CreateNumber(ids[i]));
	return list;
}

static cJSON *view_thread(const struct msg_thread *t, bool all)
{
	static const char *const sets[MSG_CAP_SETS] = {"inheritable", "permitted", "effective",
						       "bounding", "ambient"};
	char text[24];
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "name", t->name);
	if (all) {
		cJSON_AddNumberToObject(o, "tid", t->tid);
		cJSON_AddItemToObject(o, "uid", view_ids(t->uid));
		cJSON_AddItemToObject(o, "gid", view_ids(t->gid));
	}
	cJSON_AddNumberToObject(o, "groups", t->groups);
	cJSON *caps = cJSON_AddObjectToObject(o, "capabilities");
	for (size_t i = 0; i < MSG_CAP_SETS; i++) {
		snprintf(text, sizeof(text), "%016" PRIx64, t->caps[i]);
		cJSON_AddStringToObject(caps, sets[i], text);
	}
	cJSON_AddBoolToObject(o, "no_new_privs", t->no_new_privs != 0);
	cJSON_AddNumberToObject(o, "seccomp", t->seccomp);
	cJSON_AddNumberToObject(o, "seccomp_filters", t->filters);
	return o;
}

static void add_namespaces(cJSON *o, const struct msg_confine *c, bool all)
{
	static const char *const names[MSG_NS_COUNT] = {"pid", "mnt", "net", "ipc", "uts"};
	cJSON *list = cJSON_AddObjectToObject(o, "namespaces");
	for (size_t i = 0; i < MSG_NS_COUNT; i++) {
		cJSON *ns = cJSON_AddObjectToObject(list, names[i]);
		cJSON_AddBoolToObject(ns, "is_hosts", c->ns_vmm[i] == c->ns_host[i]);
		cJSON_AddBoolToObject(ns, "is_shims", c->ns_vmm[i] == c->ns_shim[i]);
		if (all) {
			add_u64(ns, "vmm", c->ns_vmm[i]);
			add_u64(ns, "shim", c->ns_shim[i]);
			add_u64(ns, "host", c->ns_host[i]);
		}
	}
	if (all) {
		cJSON *root = cJSON_AddObjectToObject(o, "root");
		add_u64(root, "dev", c->root_dev);
		add_u64(root, "ino", c->root_ino);
	}
}

static void add_limits(cJSON *o, const struct msg_confine *c)
{
	static const char *const names[MSG_LIMIT_COUNT] = {"as",     "nproc",	"fsize",
							   "nofile", "memlock", "core"};
	cJSON *list = cJSON_AddObjectToObject(o, "limits");
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++) {
		cJSON *limit = cJSON_AddObjectToObject(list, names[i]);
		add_u64(limit, "asked", c->limits[i].asked);
		add_u64(limit, "soft", c->limits[i].soft);
		add_u64(limit, "hard", c->limits[i].hard);
	}
}

static void add_confinement(cJSON *o, const struct account_view *v, bool all)
{
	const struct msg_confine *c = &v->head->confine;
	if (c->checks == 0) {
		cJSON_AddNullToObject(o, "confinement");
		return;
	}
	cJSON *f = cJSON_AddObjectToObject(o, "confinement");
	if (c->good == 2)
		cJSON_AddNullToObject(f, "as_asked");
	else
		cJSON_AddBoolToObject(f, "as_asked", c->good == 1);
	if (c->detail[0])
		cJSON_AddStringToObject(f, "detail", c->detail);
	else
		cJSON_AddNullToObject(f, "detail");
	view_add_time(f, "at", c->at_real_us);
	cJSON_AddStringToObject(f, "after", msg_debug_after_name(c->after));
	cJSON_AddNumberToObject(f, "checks", c->checks);
	cJSON_AddNumberToObject(f, "took_us", c->took_us);
	cJSON_AddBoolToObject(f, "own_cgroup", c->cgroup != 0);
	add_namespaces(f, c, all);
	add_limits(f, c);
	add_u64(f, "descriptors", c->vmm_fds ? c->vmm_fds : UINT64_MAX);
	cJSON_AddNumberToObject(f, "threads_ended", c->ended_threads);
	cJSON *threads = cJSON_AddArrayToObject(f, "threads");
	for (uint32_t i = 0; i < c->thread_count; i++)
		cJSON_AddItemToArray(threads, view_thread(&v->threads[i], all));
}

/* ------------------------------------------------------------------ the rest */

static void add_cgroup(cJSON *o, const struct msg_debug_head *h)
{
	const struct msg_cgroup *c = &h->cgroup;
	if (!h->has_cgroup) {
		cJSON_AddNullToObject(o, "cgroup");
		return;
	}
	cJSON *g = cJSON_AddObjectToObject(o, "cgroup");
	add_u64(g, "memory_current", c->memory_current);
	add_u64(g, "memory_max", c->memory_max);
	add_u64(g, "memory_oom", c->memory_oom);
	add_u64(g, "memory_oom_kill", c->memory_oom_kill);
	add_u64(g, "pids_current", c->pids_current);
	add_u64(g, "pids_max", c->pids_max);
	add_u64(g, "cpu_us", c->cpu_us);
	add_u64(g, "cpu_throttled_us", c->cpu_throttled_us);
}

static void add_console(cJSON *o, const struct msg_debug_head *h)
{
	cJSON *c = cJSON_AddObjectToObject(o, "console");
	add_u64(c, "bytes", h->console_end);
	cJSON_AddNumberToObject(c, "input_waiting", h->input_waiting);
}

static void add_events(cJSON *o, const struct msg_debug_head *h)
{
	cJSON *e = cJSON_AddObjectToObject(o, "events");
	add_u64(e, "records", h->event_records);
	add_u64(e, "unreadable", h->event_dropped);
	cJSON_AddNumberToObject(e, "reboots", h->reboots);
	cJSON *last = cJSON_AddArrayToObject(e, "last");
	for (uint32_t i = 0; i < h->event_count; i++) {
		cJSON *event = cJSON_CreateObject();
		view_add_time(event, "at", h->events[i].at_real_us);
		cJSON_AddStringToObject(event, "event", h->events[i].name);
		cJSON_AddItemToArray(last, event);
	}
}

static void add_stderr(cJSON *o, const struct msg_debug_head *h)
{
	cJSON *s = cJSON_AddObjectToObject(o, "stderr");
	add_u64(s, "bytes", h->stderr_bytes);
	cJSON_AddNumberToObject(s, "lines", h->stderr_lines);
	cJSON_AddNumberToObject(s, "errors", h->stderr_errors);
	cJSON *last = cJSON_AddArrayToObject(s, "last_errors");
	for (uint32_t i = 0; i < h->line_count; i++)
		cJSON_AddItemToArray(last, cJSON_CreateString(h->lines[i]));
}

cJSON *view_debug(const struct sandbox *sb, const struct account_view *view, bool all)
{
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	cJSON_AddStringToObject(o, "id", sb->id);
	cJSON_AddStringToObject(o, "tenant", sb->tenant);
	cJSON_AddStringToObject(o, "state", state_name(sb->state));
	add_supervisor(o, sb);
	if (sb->exit && sb->exit->cause != MSG_CAUSE_HIBERNATED)
		cJSON_AddItemToObject(o, "exit", view_exit(sb->exit));
	else
		cJSON_AddNullToObject(o, "exit");
	cJSON_AddStringToObject(o, "account", !view ? "none" : view->kept ? "kept" : "live");
	if (!view)
		return o;
	view_add_time(o, "at", view->head->at_real_us);
	add_shim(o, view->head, all);
	add_exchanges(o, view);
	add_confinement(o, view, all);
	add_cgroup(o, view->head);
	add_console(o, view->head);
	add_events(o, view->head);
	add_stderr(o, view->head);
	return o;
}
