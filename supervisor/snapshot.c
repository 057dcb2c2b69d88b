// SPDX-License-Identifier: Apache-2.0
#include "snapshot.h"

#include "daemon.h"
#include "log.h"
#include "operate.h"
#include "quota.h"
#include "spawner.h"
#include "spec_disk.h"
#include "teardown.h"
#include "tenant.h"
#include "transcript.h"
#include "util.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_MARGIN_MS 2000	/* for the shim's answer, once its own deadline is over */
#define PROGRESS_GAP_US	 500000 /* between two events about it */

/* ------------------------------------------------------------------ time */

static void set_timer(struct sandbox *sb, event_callback_fn fn, uint32_t ms)
{
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
	if (sb->op_timer)
		event_free(sb->op_timer);
	sb->op_timer = evtimer_new(sb->d->base, fn, sb);
	if (!sb->op_timer || evtimer_add(sb->op_timer, &tv) < 0)
		log_warning("%s: no memory for a timer", sb->key);
}

static void clear_timer(struct sandbox *sb)
{
	if (sb->op_timer)
		event_free(sb->op_timer);
	sb->op_timer = NULL;
}

/*
 * The client waits no longer. The operation stays: what it comes to is for the shim to say, and
 * until it does nothing is known of the set. Destroy works meanwhile.
 */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	struct sandbox_waiter waiter = sb->op_waiter;
	struct err e;
	(void)fd;
	(void)what;
	err_set(&e, ERR_DEADLINE, 0,
		"it is still being written after [limits] snapshot_ms and may come to an end yet; "
		"look at the sandbox's state");
	log_warning("%s: %s", sb->key, e.text);
	sb->op_waiter = (struct sandbox_waiter){0};
	if (waiter.fn)
		waiter.fn(waiter.arg, sb, &e);
}

void snapshot_progress(struct sandbox *sb, const struct msg_progress *said)
{
	int64_t now = clock_us();
	if (sb->state != STATE_SNAPSHOTTING && sb->state != STATE_HIBERNATING &&
	    !sandbox_is_starting(sb))
		return;
	sb->progress = *said;
	if (now - sb->progress_told_us < PROGRESS_GAP_US)
		return;
	sb->progress_told_us = now;
	cJSON *more = cJSON_CreateObject();
	cJSON_AddNumberToObject(more, "done_bytes", (double)said->done_bytes);
	cJSON_AddNumberToObject(more, "total_bytes", (double)said->total_bytes);
	events_emit(&sb->d->events, sb->id, sb->tenant, "progress", more);
}

/* ------------------------------------------------------------------ the end of one */

/* The shim has nothing more to say of it; what a template was granted is with its name. */
static void over(struct sandbox *sb)
{
	sandbox_clear_progress(sb);
	sb->granted_bytes = 0;
	clear_timer(sb);
}

/* The guest goes on as it was, unless something else came of it meanwhile. */
static void go_back(struct sandbox *sb, const char *reason)
{
	over(sb);
	if (sb->state == STATE_SNAPSHOTTING || sb->state == STATE_HIBERNATING)
		sandbox_step(sb, sb->back == STATE_PAUSED ? STATE_BACK_PAUSED : STATE_BACK_RUNNING,
			     reason, NULL);
}

static void note_timings(struct sandbox *sb, const struct msg_snapshotted *said)
{
	sb->timings = (struct sandbox_timings){
		.of_set = true,
		.pause_us = said->pause_us,
		.vmm_us = said->vmm_us,
		.disks_us = said->disks_us,
		.copy_us = said->copy_us,
		.sync_us = said->sync_us,
		.total_us = (uint32_t)(clock_us() - sb->asked_us),
	};
}

static void give_name_back(struct sandbox *sb)
{
	if (sb->making)
		template_forget(sb->making);
	sb->making = NULL;
}

static void failed(struct sandbox *sb, const struct err *why)
{
	struct err e;
	/* Of the end that somebody asked for the shim can only say that it is one. */
	if (sb->state == STATE_DESTROYING) {
		err_set(&e, ERR_STATE, 0, "it was destroyed meanwhile");
		why = &e;
	}
	/* Not an answer: the link ended. What the shim wrote is looked after when it is gone. */
	bool lost = !sb->link || link_chan(sb->link)->fd < 0;
	if (lost && sb->exit && sb->state != STATE_DESTROYING) {
		err_set(&e, ERR_VMM, 0, "its VMM ended (%s) before the set was whole",
			msg_cause_name(sb->exit->cause));
		why = &e;
	}
	if (lost) {
		over(sb);
		/* The end of the shim answers, when its set was safe before. */
		if (!(sb->set_safe && sb->op == SANDBOX_OP_HIBERNATE))
			sandbox_op_done(sb, why);
		return;
	}
	log_warning("%s: %s", sb->key, why->text);
	give_name_back(sb);
	go_back(sb, why->text);
	sandbox_op_done(sb, why);
}

/* -1 after closing the link: the answer is not what was asked for. May end the sandbox. */
static int read_answer(struct sandbox *sb, const struct msg *m, const char *key,
		       struct msg_snapshotted *said)
{
	struct err e;
	if (msg_read_snapshotted(m, said, &e) == 0) {
		if (strcmp(said->set.key, key) == 0)
			return 0;
		err_set(&e, ERR_PROTOCOL, 0, "SNAPSHOTTED record of %s, not of %s", said->set.key,
			key);
	}
	log_error("%s: link closed: %s", sb->key, e.text);
	over(sb);
	sandbox_op_done(sb, &e);
	link_fail(sb->link, &e);
	return -1;
}

/* ------------------------------------------------------------------ template */

static void on_template(void *arg, struct msg *m, const struct err *why)
{
	/* 3 KiB, on the one thread of the loop. */
	static struct msg_snapshotted said;
	struct sandbox *sb = arg;
	struct template *t = sb->making;
	struct err e;
	if (why) {
		failed(sb, why);
		return;
	}
	if (read_answer(sb, m, t->key, &said) < 0)
		return;
	note_timings(sb, &said);
	if (template_fill(t, &said.set, &e) < 0) {
		/* It is there, though it cannot be shown before the next start. */
		give_name_back(sb);
		go_back(sb, e.text);
		sandbox_op_done(sb, &e);
		return;
	}
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "template", t->name);
	cJSON_AddStringToObject(more, "action", "created");
	log_info("%s: template %s is whole", sb->key, t->name);
	events_emit(&sb->d->events, sb->id, sb->tenant, "template", more);
	go_back(sb, "the snapshot is done");
	sandbox_op_done(sb, NULL);
	sb->making = NULL;
}

/* How much the set may take on disk. */
static int grant(const struct sandbox *sb, enum msg_snapshot_kind kind, struct quota_grant *out,
		 struct err *e)
{
	/* A sandbox that hibernates keeps its own disks; a template gets copies of them. */
	uint64_t bound = quota_set_bound(sb->spec, kind == MSG_SNAPSHOT_TEMPLATE);
	return quota_grant(sb->d, tenant_by_name(&sb->d->config, sb->tenant), bound, out, e);
}

static int ask(struct sandbox *sb, enum msg_snapshot_kind kind, const char *template,
	       uint64_t max_bytes, link_answer_fn *cb, struct err *e)
{
	struct msg_snapshot body = {.kind = kind, .max_bytes = max_bytes};
	str_copy(body.template, sizeof(body.template), template);
	/* No deadline at the link: on_late() keeps the client's. */
	return link_request_snapshot(sb->link, &body, MSG_SNAPSHOTTED, 0, cb, sb, e);
}

static void begun(struct sandbox *sb, enum sandbox_op op, enum state_event event,
		  sandbox_done_fn *fn, void *arg)
{
	operate_begun(sb, op, fn, arg);
	sb->asked_us = clock_us();
	sb->back = sb->state;
	sandbox_step(sb, event,
		     op == SANDBOX_OP_SNAPSHOT ? "snapshot was asked for"
					       : "hibernate was asked for",
		     NULL);
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_SNAPSHOT) + ANSWER_MARGIN_MS;
	if (op == SANDBOX_OP_SNAPSHOT && spec_disk_own_mib(sb->spec))
		ms += daemon_deadline(sb->d, POLICY_DEADLINE_DISKS);
	set_timer(sb, on_late, ms);
}

int snapshot_template(struct sandbox *sb, const char *name, sandbox_done_fn *fn, void *arg,
		      struct err *e)
{
	struct daemon *d = sb->d;
	struct quota_grant granted;
	int device = spec_disk_find_writable(sb->spec, true);
	if (operate_may_begin(sb, STATE_ASK_SNAPSHOT, SANDBOX_OP_SNAPSHOT, e) < 0)
		return -1;
	if (device >= 0)
		return err_set(e, ERR_STATE, 0,
			       "snapshot: its disk%d is a block device (\"%s\") that it can write "
			       "to, of which a template can have no copy",
			       device, sb->spec->disks[device].image);
	if (grant(sb, MSG_SNAPSHOT_TEMPLATE, &granted, e) < 0)
		return -1;
	sb->making = template_reserve(&d->templates, tenant_by_name(&d->config, sb->tenant),
				      sb->tenant, name, e);
	if (!sb->making)
		return -1;
	sb->making->allocated_bytes = granted.bytes;
	if (ask(sb, MSG_SNAPSHOT_TEMPLATE, name, granted.max_bytes, on_template, e) < 0) {
		give_name_back(sb);
		return -1;
	}
	begun(sb, SANDBOX_OP_SNAPSHOT, STATE_ASK_SNAPSHOT, fn, arg);
	return 0;
}

/* ------------------------------------------------------------------ hibernate */

/* Its set is safe, and its VMM's end under way: that cannot be taken back any more. */
static void on_recorded(struct sandbox *sb, const struct err *why)
{
	struct err e;
	if (!sb->recording)
		return;
	sb->recording = false;
	if (why) {
		e = *why;
		err_prefix(&e, "it hibernates and its set is safe, but that is not recorded yet");
		sandbox_set_fail(sb, &e);
	}
	if (sb->state == STATE_HIBERNATING && sb->shim == SANDBOX_SHIM_GONE)
		snapshot_hibernated(sb);
}

static void record_set(struct sandbox *sb)
{
	struct err e;
	sb->recording = true;
	if (store_put(sb, on_recorded, &e) < 0)
		on_recorded(sb, &e);
}

static void on_set_written(void *arg, struct msg *m, const struct err *why)
{
	static struct msg_snapshotted said;
	struct sandbox *sb = arg;
	if (why) {
		failed(sb, why);
		return;
	}
	if (read_answer(sb, m, sb->key, &said) < 0)
		return;
	note_timings(sb, &said);
	over(sb);
	sb->set_content = said.set.content;
	sb->set_bytes = said.set.allocated_bytes;
	sb->set_real_us = said.set.created_real_us;
	sb->set_safe = true;
	record_set(sb);
	/* EXIT follows; a shim that cannot end its VMM has the spawner do it. */
	if (sb->state == STATE_HIBERNATING)
		teardown_await(sb, daemon_deadline(sb->d, POLICY_DEADLINE_SHUTDOWN) +
					   daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY));
}

int snapshot_hibernate(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct quota_grant granted;
	if (operate_may_begin(sb, STATE_ASK_HIBERNATE, SANDBOX_OP_HIBERNATE, e) < 0 ||
	    grant(sb, MSG_SNAPSHOT_HIBERNATE, &granted, e) < 0 ||
	    ask(sb, MSG_SNAPSHOT_HIBERNATE, "", granted.max_bytes, on_set_written, e) < 0)
		return -1;
	/* Whatever comes of it, there may be a set from here on. */
	sb->has_dir = true;
	sb->granted_bytes = granted.bytes;
	sb->set_safe = false;
	begun(sb, SANDBOX_OP_HIBERNATE, STATE_ASK_HIBERNATE, fn, arg);
	return 0;
}

void snapshot_vmm_ended(struct sandbox *sb)
{
	sb->exit->cause = MSG_CAUSE_HIBERNATED;
	sb->has_dir = true;
	/* Nobody told an adopter what the new set takes. */
	if (!sb->set_safe)
		sb->set_bytes = quota_set_bound(sb->spec, false);
	sb->set_safe = true;
	sandbox_step(sb, STATE_SET_SAFE, "it hibernates, as an earlier supervisor asked", NULL);
}

void snapshot_hibernated(struct sandbox *sb)
{
	struct err e = {0};
	/* Its record is what says so to the next supervisor. */
	if (sb->recording)
		return;
	if (sb->fail)
		e = *sb->fail;
	if (sb->leftover)
		log_error("%s: left behind: %s; destroy tries again", sb->key, sb->leftover);
	over(sb);
	if (sb->timings.of_set)
		sb->timings.total_us = (uint32_t)(clock_us() - sb->asked_us);
	/* No memory but its record's stays; what followers have not had yet goes at the wake. */
	sandbox_reset(sb, transcript_is_followed(sb));
	sandbox_step(sb, STATE_HIBERNATED_NOW, "its set is safe", NULL);
	sandbox_op_done(sb, e.kind ? &e : NULL);
}

/* ------------------------------------------------------------------ what is left */

static void on_cleared(void *arg, struct msg *m, const struct err *why)
{
	struct template *t = arg;
	(void)m;
	if (why && why->kind != ERR_NOT_FOUND)
		log_error("%s: what its shim left of it was not removed: %s", t->key, why->text);
	template_forget(t);
}

void snapshot_shim_gone(struct sandbox *sb)
{
	struct template *t = sb->making;
	struct err e;
	if (!t)
		return;
	sb->making = NULL;
	t->removing = true;
	if (spawner_remove_set(sb->d->spawner, MSG_REMOVE_TEMPLATE, t->key, on_cleared, t, &e) < 0)
		on_cleared(t, NULL, &e);
}

/* ------------------------------------------------------------------ adopted in the middle */

/* Its template's name could not be reserved here: what there is of it the spawner lists. */
static void on_unnamed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	if (why) {
		failed(sb, why);
		return;
	}
	spawner_list_templates(sb->d->spawner);
	go_back(sb, "an earlier supervisor's snapshot is over");
	sandbox_op_done(sb, NULL);
}

/* The spawner may have listed it already: the shim's word, which comes, is the news. */
static void reserve(struct sandbox *sb, const struct msg_snapshot *asked)
{
	struct daemon *d = sb->d;
	uint64_t bound = quota_set_bound(sb->spec, true);
	char key[NAME_KEY_SIZE];
	struct err e;
	name_key_make(key, sb->tenant, asked->template);
	struct template *listed = template_find(&d->templates, key);
	if (listed && !listed->users)
		template_forget(listed);
	/* No quota stands against what an earlier supervisor has granted. */
	sb->making = template_reserve(&d->templates, NULL, sb->tenant, asked->template, &e);
	if (!sb->making)
		log_warning("%s: %s", sb->key, e.text);
	else
		sb->making->allocated_bytes =
			asked->max_bytes && asked->max_bytes < bound ? asked->max_bytes : bound;
}

void snapshot_take(struct sandbox *sb, const struct msg_status *s)
{
	const struct msg_take take = {.op = MSG_SNAPSHOT};
	bool hibernates = s->snapshot.kind == MSG_SNAPSHOT_HIBERNATE;
	struct err e;
	sb->asked_us = clock_us();
	sb->back = s->paused ? STATE_PAUSED : STATE_RUNNING;
	sb->op = hibernates ? SANDBOX_OP_HIBERNATE : SANDBOX_OP_SNAPSHOT;
	if (hibernates)
		sb->granted_bytes = quota_set_bound(sb->spec, false);
	else
		reserve(sb, &s->snapshot);
	sb->has_dir = sb->has_dir || hibernates;
	if (link_request_take(sb->link, &take, MSG_SNAPSHOTTED, 0,
			      hibernates   ? on_set_written
			      : sb->making ? on_template
					   : on_unnamed,
			      sb, &e) < 0)
		log_error("%s: %s", sb->key, e.text);
}
