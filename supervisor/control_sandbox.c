// SPDX-License-Identifier: Apache-2.0
#include "control.h"

#include "admit.h"
#include "json.h"
#include "log.h"
#include "operate.h"
#include "teardown.h"
#include "transcript.h"
#include "util.h"
#include "view.h"
#include "vmm_version.h"

#include <errno.h>
#include <event2/buffer.h>
#include <string.h>

#define INPUT_MAX MSG_DATA_MAX

/* ------------------------------------------------------------------ info, list, get */

void control_sandbox_info(struct control_request *r)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} features[] = {
		{"kvm", MSG_HOST_KVM},
		{"userfaultfd", MSG_HOST_USERFAULTFD},
		{"cgroup_kill", MSG_HOST_CGROUP_KILL},
		{"cpu_limit", MSG_HOST_CPU},
		{"memory_limit", MSG_HOST_MEMORY},
		{"pids_limit", MSG_HOST_PIDS},
		{"io_limit", MSG_HOST_IO},
	};
	const struct daemon *d = r->d;
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "version", CLOISTER_VERSION);
	cJSON_AddStringToObject(o, "api", "v1");
	cJSON *vmm = cJSON_AddObjectToObject(o, "vmm");
	cJSON_AddStringToObject(vmm, "version", d->vmm.vmm_version);
	cJSON_AddBoolToObject(vmm, "ondemand", vmm_version_has_ondemand(d->vmm.vmm_major));
	/* How many there are of others is none of a tenant's business. */
	const struct sandbox *sb;
	size_t seen = 0;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	seen += r->peer.admin || strcmp(sb->tenant, r->peer.name) == 0;
	cJSON *count = cJSON_AddObjectToObject(o, "sandboxes");
	cJSON_AddNumberToObject(count, "count", (double)seen);
	cJSON_AddNumberToObject(count, "max", d->config.policy.max_sandboxes);
	cJSON *host = cJSON_AddObjectToObject(o, "host");
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		cJSON_AddBoolToObject(host, features[i].name,
				      (d->vmm.features & features[i].bit) != 0);
	cJSON_AddNumberToObject(host, "landlock_abi", d->landlock_abi);
	cJSON_AddBoolToObject(host, "network", d->pool.usable > 0);
	cJSON_AddBoolToObject(host, "require_limits", (int)d->config.policy.require_limits);
	cJSON *you = cJSON_AddObjectToObject(o, "you");
	cJSON_AddStringToObject(you, "tenant", r->peer.name);
	cJSON_AddBoolToObject(you, "admin", r->peer.admin);
	cJSON_AddBoolToObject(o, "draining", drain_is_on(d));
	cJSON_AddNumberToObject(o, "uptime_s", (double)((clock_us() - d->started_us) / 1000000));
	reply_json(r->req, 200, o);
}

/* All labels that were asked for, and the state. */
static bool matches(const struct control_request *r, const struct sandbox *sb, int state)
{
	if (!r->all_tenants && strcmp(sb->tenant, r->tenant) != 0)
		return false;
	if (state >= 0 && (int)sb->state != state)
		return false;
	for (const struct evkeyval *q = r->query.tqh_first; q; q = q->next.tqe_next)
		if (strcmp(q->key, "label") == 0 && !spec_has_label(sb->spec, q->value))
			return false;
	return true;
}

void control_sandbox_list(struct control_request *r)
{
	struct err e;
	int state = -1;
	const char *wanted = evhttp_find_header(&r->query, "state");
	if (wanted && (state = state_from_name(wanted)) < 0) {
		err_set(&e, ERR_INVALID, 0,
			"state: \"%.40s\" is not allowed; must be creating, running, paused, "
			"snapshotting, hibernating, hibernated, waking, destroying, stopped, "
			"crashed or failed",
			wanted);
		str_clean(e.text);
		reply_error(r->req, 422, &e, NULL);
		return;
	}
	for (const struct evkeyval *q = r->query.tqh_first; q; q = q->next.tqe_next) {
		if (strcmp(q->key, "label") == 0 && !strchr(q->value, '=')) {
			err_set(&e, ERR_INVALID, 0, "label: \"%.80s\" must be KEY=VALUE", q->value);
			str_clean(e.text);
			reply_error(r->req, 422, &e, NULL);
			return;
		}
	}
	cJSON *o = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(o, "sandboxes");
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &r->d->registry.list, entry)
	if (matches(r, sb, state))
		cJSON_AddItemToArray(list, view_sandbox(sb));
	reply_json(r->req, 200, list ? o : NULL);
}

void control_sandbox_get(struct control_request *r)
{
	struct sandbox *sb = control_request_sandbox(r);
	if (sb)
		reply_json(r->req, 200, view_sandbox(sb));
}

/* ------------------------------------------------------------------ create */

static void done_create(void *arg, const struct sandbox *sb, const struct err *why)
{
	struct err e;
	/* An image that the shim did not find is the request's fault like any wrong field. */
	if (why && why->kind == ERR_NOT_FOUND) {
		e = *why;
		e.kind = ERR_INVALID;
		why = &e;
	}
	control_request_answer(arg, 201, sb, why);
}

static void done_unwatched(void *arg, const struct sandbox *sb, const struct err *why)
{
	(void)arg;
	(void)sb;
	(void)why;
}

static struct spec *read_spec(struct control_request *r)
{
	size_t length;
	struct err e;
	char id[NAME_SIZE];
	const char *text = control_request_body(r, &length);
	cJSON *body = json_parse_object(text, length, &e);
	if (!body) {
		reply_error(r->req, 400, &e, NULL);
		return NULL;
	}
	struct spec *spec = spec_from_json(body, &e);
	cJSON_Delete(body);
	if (spec && !spec->id) {
		spec_make_id(id);
		spec->id = strdup(id);
		if (!spec->id) {
			err_errno(&e, ENOMEM, "no memory for the request");
			spec_free(spec);
			spec = NULL;
		}
	}
	if (spec && admit_create(r->d, r->tenant, spec, &e) < 0) {
		spec_free(spec);
		spec = NULL;
	}
	if (!spec)
		reply_error(r->req, 0, &e, NULL);
	return spec;
}

void control_sandbox_create(struct control_request *r)
{
	struct err e;
	const char *wait = evhttp_find_header(&r->query, "wait");
	if (wait && strcmp(wait, "none") != 0) {
		err_set(&e, ERR_INVALID, 0,
			"wait: \"%.40s\" is not allowed; must be none, or absent", wait);
		str_clean(e.text);
		reply_error(r->req, 422, &e, NULL);
		return;
	}
	struct spec *spec = read_spec(r);
	if (!spec)
		return;
	if (wait) {
		const struct sandbox *sb =
			sandbox_create(r->d, r->tenant, spec, true, done_unwatched, NULL, &e);
		if (sb)
			reply_json(r->req, 202, view_sandbox(sb));
		else
			reply_error(r->req, 0, &e, NULL);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (!reply)
		spec_free(spec);
	else if (!sandbox_create(r->d, r->tenant, spec, false, done_create, reply, &e))
		control_request_refuse(reply, &e, NULL);
}

/* ------------------------------------------------------------------ operations */

static void operate(struct control_request *r,
		    int (*begin)(struct sandbox *, sandbox_done_fn *, void *, struct err *))
{
	struct err e;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_request_is_empty(r))
		return;
	struct reply *reply = control_request_hold(r);
	if (reply && begin(sb, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

void control_sandbox_pause(struct control_request *r)
{
	operate(r, operate_pause);
}

void control_sandbox_resume(struct control_request *r)
{
	operate(r, operate_resume);
}

void control_sandbox_power_button(struct control_request *r)
{
	operate(r, operate_power_button);
}

void control_sandbox_destroy(struct control_request *r)
{
	struct err e;
	uint64_t grace_s = 0;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_query_u64(r, "grace_s", 0, MSG_GRACE_MS_MAX / 1000, &grace_s) ||
	    !control_request_is_empty(r))
		return;
	struct reply *reply = control_request_hold(r);
	if (reply &&
	    teardown_destroy(sb, (uint32_t)grace_s * 1000, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

/* ------------------------------------------------------------------ console */

static void done_tail(void *arg, const char *data, size_t length, uint64_t end,
		      const struct err *why)
{
	char number[24];
	struct evhttp_request *req = reply_take(arg);
	if (!req)
		return;
	if (why) {
		reply_error(req, 0, why, NULL);
		return;
	}
	snprintf(number, sizeof(number), "%llu", (unsigned long long)end);
	evhttp_add_header(evhttp_request_get_output_headers(req), "X-Console-End", number);
	reply_bytes(req, data, length);
}

void control_sandbox_console(struct control_request *r)
{
	struct err e;
	uint64_t follow = 0, since = 0, tail = r->d->config.policy.console_bytes;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_query_u64(r, "follow", 0, 1, &follow) ||
	    !control_query_u64(r, "since", 0, UINT64_MAX, &since) ||
	    !control_query_u64(r, "tail", 0, r->d->config.policy.console_bytes, &tail))
		return;
	const char *odd = follow ? "tail" : "since";
	if (evhttp_find_header(&r->query, odd)) {
		err_set(&e, ERR_INVALID, 0, "%s: goes %s follow=1 only", odd,
			follow ? "without" : "with");
		reply_error(r->req, 422, &e, r->id);
		return;
	}
	if (follow) {
		control_stream_console(r, sb, since);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (reply)
		transcript_tail(sb, (uint32_t)tail, done_tail, reply);
}

static void done_input(void *arg, struct msg *m, const struct err *why)
{
	struct msg_done done;
	struct err e;
	struct evhttp_request *req = reply_take(arg);
	if (!req)
		return;
	if (!why && msg_read_done(m, &done, &e) < 0)
		why = &e;
	if (why) {
		reply_error(req, 0, why, NULL);
		return;
	}
	cJSON *o = cJSON_CreateObject();
	cJSON_AddNumberToObject(o, "written", done.value);
	reply_json(req, 200, o);
}

void control_sandbox_input(struct control_request *r)
{
	/* One record's body at a time, on the one thread of the loop. */
	static struct msg_console_write ask;
	struct err e;
	size_t length;
	struct sandbox *sb = control_request_sandbox(r);
	const char *data = control_request_body(r, &length);
	if (!sb)
		return;
	if (operate_check(sb, STATE_ASK_CONSOLE_INPUT, "console input", &e) < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	if (length < 1 || length > INPUT_MAX) {
		err_set(&e, ERR_INVALID, 0, "the body has %zu bytes, must have 1 to %d", length,
			INPUT_MAX);
		reply_error(r->req, length ? 413 : 422, &e, r->id);
		return;
	}
	ask.length = (uint32_t)length;
	memcpy(ask.data, data, length);
	struct reply *reply = control_request_hold(r);
	if (reply &&
	    link_request_console_write(sb->link, &ask, MSG_DONE, 5000, done_input, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}
