// SPDX-License-Identifier: Apache-2.0
#include "sandbox.h"

#include "cidr.h"
#include "daemon.h"
#include "log.h"
#include "quota.h"
#include "spawner.h"
#include "spec_disk.h"
#include "teardown.h"
#include "template.h"
#include "tenant.h"
#include "transcript.h"
#include "util.h"
#include "watcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MARGIN_MS 2000 /* for the shim's answer, once its own deadline is over */

struct sandbox *sandbox_new(struct daemon *d, const char *tenant, const char *id, struct spec *spec,
			    struct err *e)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));
	if (!sb) {
		spec_free(spec);
		err_errno(e, ENOMEM, "record of a sandbox");
		return NULL;
	}
	*sb = (struct sandbox){.d = d, .state = STATE_NONE, .spec = spec};
	str_copy(sb->tenant, sizeof(sb->tenant), tenant);
	if (!name_key_make(sb->key, tenant, id)) {
		err_set(e, ERR_INVALID, 0, "id: \"%s\" must be %s", id, NAME_RULE);
	} else if (registry_find(&d->registry, sb->key) ||
		   registry_is_reported(&d->registry, sb->key)) {
		err_set(e, ERR_STATE, 0,
			"there is a sandbox \"%s\" already; choose another id or destroy it first",
			id);
	} else if (!registry_add(&d->registry, sb)) {
		err_errno(e, ENOMEM, "table of sandboxes");
	} else {
		sb->id = sb->key + strlen(tenant) + 1;
		return sb;
	}
	spec_free(spec);
	free(sb);
	return NULL;
}

void sandbox_free(struct sandbox *sb)
{
	registry_remove(&sb->d->registry, sb);
	store_forget(sb);
	if (sb->addressed)
		pool_release(&sb->d->pool, &sb->spec->network);
	sandbox_release_template(sb);
	transcript_end(sb);
	link_free(sb->link);
	if (sb->timer)
		event_free(sb->timer);
	if (sb->op_timer)
		event_free(sb->op_timer);
	spec_free(sb->spec);
	free(sb->exit);
	free(sb->last.data);
	free(sb->fail);
	free(sb->leftover);
	free(sb);
}

void sandbox_keep_address(struct sandbox *sb)
{
	if (!sb->spec->networked)
		return;
	sb->addressed = pool_adopt(&sb->d->pool, &sb->spec->network);
	if (!sb->addressed)
		log_warning("%s: slot %u of the pool, or a port of the host, is another's or not "
			    "in [network] any more",
			    sb->key, sb->spec->network.slot);
}

bool sandbox_step(struct sandbox *sb, enum state_event event, const char *reason, cJSON *more)
{
	struct state_step step;
	if (!state_step(sb->state, event, &step)) {
		log_error("%s: event %d has no place in state %s", sb->key, (int)event,
			  state_name(sb->state));
		cJSON_Delete(more);
		return false;
	}
	enum state from = sb->state;
	sb->state = step.next;
	if (from == step.next) {
		cJSON_Delete(more);
		return true;
	}
	cJSON *o = cJSON_CreateObject();
	if (from == STATE_NONE)
		cJSON_AddNullToObject(o, "from");
	else
		cJSON_AddStringToObject(o, "from", state_name(from));
	if (step.next == STATE_NONE)
		cJSON_AddNullToObject(o, "to");
	else
		cJSON_AddStringToObject(o, "to", state_name(step.next));
	cJSON_AddStringToObject(o, "reason", reason);
	while (o && more && more->child) {
		cJSON *item = cJSON_DetachItemViaPointer(more, more->child);
		if (!cJSON_AddItemToObject(o, item->string, item))
			cJSON_Delete(item);
	}
	cJSON_Delete(more);
	log_info("%s: %s -> %s (%s)", sb->key, state_name(from), state_name(step.next), reason);
	events_emit(&sb->d->events, sb->id, sb->tenant, "state", o);
	if (step.next != STATE_NONE)
		store_note(sb);
	return true;
}

void sandbox_op_done(struct sandbox *sb, const struct err *why)
{
	struct sandbox_waiter waiter = sb->op_waiter;
	sb->op = SANDBOX_OP_NONE;
	sb->op_waiter = (struct sandbox_waiter){0};
	if (waiter.fn)
		waiter.fn(waiter.arg, sb, why);
}

void sandbox_set_fail(struct sandbox *sb, const struct err *why)
{
	if (sb->fail)
		return;
	sb->fail = malloc(sizeof(*sb->fail));
	if (sb->fail)
		*sb->fail = *why;
	log_warning("%s: %s", sb->key, why->text);
}

bool sandbox_is_starting(const struct sandbox *sb)
{
	return sb->state == STATE_CREATING || sb->state == STATE_WAKING;
}

void sandbox_clear_progress(struct sandbox *sb)
{
	sb->progress = (struct msg_progress){0};
	sb->progress_told_us = 0;
}

void sandbox_release_template(struct sandbox *sb)
{
	if (sb->from)
		sb->from->users--;
	sb->from = NULL;
}

void sandbox_reset(struct sandbox *sb, bool keep_console)
{
	if (!keep_console) {
		transcript_end(sb);
		free(sb->last.data);
		sb->last = (struct sandbox_console){.whole = true};
	}
	link_free(sb->link);
	sb->link = NULL;
	free(sb->exit);
	free(sb->fail);
	sb->exit = NULL;
	sb->fail = NULL;
	sb->vmm_pid = 0;
	sb->vmm_version[0] = '\0';
	sb->acked = false;
	sb->collected = false;
	sb->recording = false;
	sb->set_safe = false;
}

/* The start cannot succeed any more: have the shim go, then teardown.c answers. */
static void fail_create(struct sandbox *sb, const struct err *why)
{
	sandbox_set_fail(sb, why);
	if (sandbox_is_starting(sb))
		teardown_await(sb, daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY));
}

/* ------------------------------------------------------------------ its record */

static void nobody(void *arg, const struct sandbox *sb, const struct err *why)
{
	(void)arg;
	(void)sb;
	(void)why;
}

/* What is not recorded was not created: it goes, and the create answers why. */
static void fail_unrecorded(struct sandbox *sb, const struct err *why)
{
	struct err e;
	struct state_step step;
	if (sb->state == STATE_CREATING) {
		sandbox_set_fail(sb, why);
		/* STARTING: the answer to START goes on. */
		if (sb->shim == SANDBOX_SHIM_UP)
			teardown_await(sb, 0);
	} else if (sb->op == SANDBOX_OP_CREATE && state_step(sb->state, STATE_ASK_DESTROY, &step)) {
		sandbox_set_fail(sb, why);
		if (teardown_destroy(sb, 0, nobody, NULL, &e) < 0)
			log_error("%s: %s", sb->key, e.text);
	}
}

/* Written while the shim starts; nothing waits for this alone. */
static void on_recorded(struct sandbox *sb, const struct err *why)
{
	if (why)
		fail_unrecorded(sb, why);
}

static void on_committed(struct sandbox *sb, const struct err *why)
{
	if (why)
		fail_unrecorded(sb, why);
	else if (sb->op == SANDBOX_OP_CREATE && sb->state != STATE_DESTROYING)
		sandbox_op_done(sb, NULL);
}

void sandbox_commit(struct sandbox *sb)
{
	struct err e;
	if (store_commit(sb, on_committed, &e) < 0)
		fail_unrecorded(sb, &e);
	else if (sb->keep_failed)
		sandbox_op_done(sb, NULL); /* wait=none: it was answered before */
}

static void tell_started(struct sandbox *sb)
{
	char address[CIDR_TEXT_MAX];
	cJSON *more = cJSON_CreateObject();
	bool waited = sb->state == STATE_CREATING && sb->spec->wait.kind != MSG_WAIT_NONE;
	if (sb->spec->networked) {
		cidr_format_address(sb->d->config.policy.pool + sb->spec->network.slot, address);
		cJSON_AddStringToObject(more, "address", address);
	}
	if (waited)
		cJSON_AddNumberToObject(more, "ready_us", sb->timings.shim.ready_us);
	/* The shim has taken the memory out of a set that cannot be woken again. */
	if (sb->state == STATE_WAKING && spec_disk_find_writable(sb->spec, false) >= 0)
		sb->set_bytes = 0;
	bool woken = sb->state == STATE_WAKING;
	sandbox_step(sb, woken ? STATE_WOKEN : STATE_CREATED,
		     waited ? "the guest is ready" : "the guest runs", more);
	/* A power failure takes the VMM with it, and the set that it came from is still there. */
	if (woken)
		sandbox_op_done(sb, NULL);
	else
		sandbox_commit(sb);
}

static void on_created(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct msg_created created;
	struct err e;
	sandbox_clear_progress(sb);
	if (!why && (msg_read_created(m, &created, &e) < 0 ||
		     spec_disk_made(sb->spec, created.disks, created.disk_count, &e) < 0)) {
		/* That closes the link, and so fails the create. */
		link_fail(sb->link, &e);
		return;
	}
	if (why && why->kind == ERR_DEADLINE && sb->link && clock_us() >= sb->answer_us) {
		/* A shim that does not even answer ERROR in time does not clear up either. */
		fail_create(sb, why);
		teardown_await(sb, 0);
		return;
	}
	if (why) {
		fail_create(sb, why);
		return;
	}
	sb->vmm_pid = created.vmm_pid;
	str_copy(sb->vmm_version, sizeof(sb->vmm_version), created.vmm_version);
	sb->timings.shim = created.timings;
	sb->timings.total_us = (uint32_t)(clock_us() - sb->asked_us);
	sandbox_release_template(sb);
	/* A destroy that came meanwhile goes its own way, as does one that was not recorded. */
	if (sandbox_is_starting(sb) && !sb->fail)
		tell_started(sb);
}

/*
 * The shim keeps the deadline itself: filling memory may take as long as writing it did, and disks
 * have a time of their own.
 */
static uint32_t start_deadline(const struct sandbox *sb)
{
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_CREATE) + ANSWER_MARGIN_MS;
	if (sb->spec->source != MSG_SOURCE_BOOT)
		ms += daemon_deadline(sb->d, POLICY_DEADLINE_SNAPSHOT);
	if (spec_disk_own_mib(sb->spec))
		ms += daemon_deadline(sb->d, POLICY_DEADLINE_DISKS);
	if (sb->state == STATE_CREATING)
		ms += sb->spec->wait.timeout_ms;
	return ms;
}

/* How long the answer may take; what comes before that is the shim's own word. */
static uint32_t await_start(struct sandbox *sb)
{
	uint32_t ms = start_deadline(sb);
	sb->answer_us = clock_us() + (int64_t)(ms - ANSWER_MARGIN_MS / 2) * 1000;
	return ms;
}

static void use_template(struct sandbox *sb)
{
	char key[NAME_KEY_SIZE];
	if (sb->spec->source != MSG_SOURCE_TEMPLATE)
		return;
	name_key_make(key, sb->tenant, sb->spec->template);
	sb->from = template_find(&sb->d->templates, key);
	if (sb->from)
		sb->from->users++;
}

void sandbox_take(struct sandbox *sb, const struct msg_status *s)
{
	const struct msg_take take = {.op = MSG_CREATE};
	struct err e;
	sb->asked_us = clock_us();
	sb->spec->wait = s->spec.wait;
	sb->keep_failed = sb->keep_failed || !sb->stored.last_hash;
	sb->op = sb->state == STATE_WAKING ? SANDBOX_OP_WAKE : SANDBOX_OP_CREATE;
	if (sb->state == STATE_WAKING) {
		sb->has_dir = true;
		/* Nobody may have told what its set takes. */
		if (!sb->set_bytes)
			sb->set_bytes = quota_set_bound(sb->spec, false);
	} else {
		sb->has_dir = spec_disk_own_mib(sb->spec) > 0;
		use_template(sb);
	}
	/* Destroy is what is left then. */
	if (link_request_take(sb->link, &take, MSG_CREATED, await_start(sb), on_created, sb, &e) <
	    0)
		log_error("%s: %s", sb->key, e.text);
}

static int begin_create(struct sandbox *sb, int *fd, struct err *e)
{
	struct msg_create create;
	sb->link = link_open(sb->d->base, fd_take(fd), sb->key, &watcher_link, sb, e);
	if (!sb->link)
		return -1;
	sb->shim = SANDBOX_SHIM_UP;
	spec_to_msg(sb->spec, sb->tenant, &create);
	return link_request_create(sb->link, &create, MSG_CREATED, await_start(sb), on_created, sb,
				   e);
}

static void on_started(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct msg_started started;
	struct err e;
	if (why) {
		/* A late start would leave a shim behind: END clears up whatever there is. */
		sandbox_set_fail(sb, why);
		sb->shim = SANDBOX_SHIM_LEAVING;
		teardown_await(sb, 0);
		return;
	}
	int fd = fd_take(&m->fds[0]);
	m->fd_count = 0;
	if (msg_read_started(m, &started, &e) < 0) {
		fd_close(&fd);
		spawner_fail(sb->d->spawner, &e);
		return;
	}
	sb->timings.spawn_us = started.took_us;
	if (!sandbox_is_starting(sb) || sb->fail) {
		/* Destroyed before it began, or not recorded. */
		fd_close(&fd);
		sb->shim = SANDBOX_SHIM_LEAVING;
		teardown_await(sb, 0);
		return;
	}
	if (begin_create(sb, &fd, &e) == 0)
		return;
	sandbox_set_fail(sb, &e);
	link_free(sb->link);
	sb->link = NULL;
	sb->shim = SANDBOX_SHIM_LEAVING;
	teardown_await(sb, 0);
}

/* Asks the spawner for a shim; the rest follows from its answer. */
static int start_shim(struct sandbox *sb, struct err *e)
{
	struct msg_start start = {0};
	str_copy(start.key, sizeof(start.key), sb->key);
	if (link_request_start(spawner_link(sb->d->spawner), &start, MSG_STARTED,
			       daemon_deadline(sb->d, POLICY_DEADLINE_CREATE), on_started, sb,
			       e) < 0)
		return -1;
	sb->shim = SANDBOX_SHIM_STARTING;
	sb->asked_us = clock_us();
	sb->timings = (struct sandbox_timings){0};
	return 0;
}

struct sandbox *sandbox_create(struct daemon *d, const char *tenant, struct spec *spec,
			       bool keep_failed, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct sandbox *sb = sandbox_new(d, tenant, spec->id, spec, e);
	if (!sb)
		return NULL;
	sb->created_real_us = clock_real_us();
	sb->keep_failed = keep_failed;
	if (spec->networked && pool_take(&d->pool, &spec->network, e) < 0) {
		sandbox_free(sb);
		return NULL;
	}
	sb->addressed = spec->networked;
	if (start_shim(sb, e) < 0) {
		sandbox_free(sb);
		return NULL;
	}
	use_template(sb);
	/* A shim that fails clears up after itself, but not one that dies. */
	sb->has_dir = spec_disk_own_mib(spec) > 0;
	sb->op = SANDBOX_OP_CREATE;
	sb->op_waiter = (struct sandbox_waiter){.fn = fn, .arg = arg};
	sb->stored.creating = true;
	sandbox_step(sb, STATE_ASK_CREATE, "create was asked for", NULL);
	struct err why;
	if (store_put(sb, on_recorded, &why) < 0)
		fail_unrecorded(sb, &why);
	return sb;
}

/* What it wrote to a disk since its wake is in no set: the one on disk is of no use any more. */
static bool has_used_set(const struct sandbox *sb)
{
	return sb->exit && sb->spec->source == MSG_SOURCE_WAKE &&
	       spec_disk_find_writable(sb->spec, false) >= 0;
}

static int admit_wake(const struct sandbox *sb, enum msg_restore how, struct err *e)
{
	const struct daemon *d = sb->d;
	struct state_step step;
	bool wrong = !state_step(sb->state, STATE_ASK_WAKE, &step);
	if (wrong && has_used_set(sb))
		return err_set(e, ERR_STATE, 0,
			       "wake: it is %s: it was woken before and may have written to its "
			       "disks since, so the memory that was kept no longer fits them; "
			       "destroy it",
			       state_name(sb->state));
	if (wrong)
		return err_set(e, ERR_STATE, 0, "wake: it is %s, must be hibernated",
			       state_name(sb->state));
	if (d->stopping)
		return err_set(e, ERR_UNAVAILABLE, 0, "cloisterd is stopping; try again later");
	if (sb->spec->networked && !sb->addressed)
		return err_set(e, ERR_STATE, 0,
			       "wake: its address, or a port of the host that it had, is not to be "
			       "had any more: another sandbox has it, or [network] of the "
			       "configuration has changed");
	if (spec_check_restore(how, sb->set_content, d->vmm.vmm_major, e) < 0)
		return -1;
	return quota_check_wake(d, tenant_by_name(&d->config, sb->tenant), sb->spec, e);
}

int sandbox_wake(struct sandbox *sb, enum msg_restore how, sandbox_done_fn *fn, void *arg,
		 struct err *e)
{
	if (admit_wake(sb, how, e) < 0)
		return -1;
	sandbox_reset(sb, false);
	if (start_shim(sb, e) < 0)
		return -1;
	sb->last.whole = false;
	sb->spec->source = MSG_SOURCE_WAKE;
	sb->spec->restore = how == MSG_RESTORE_NONE ? MSG_RESTORE_COPY : how;
	sb->op = SANDBOX_OP_WAKE;
	sb->op_waiter = (struct sandbox_waiter){.fn = fn, .arg = arg};
	sandbox_step(sb, STATE_ASK_WAKE, "wake was asked for", NULL);
	return 0;
}
