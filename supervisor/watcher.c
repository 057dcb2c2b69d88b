// SPDX-License-Identifier: Apache-2.0
#include "watcher.h"

#include "daemon.h"
#include "log.h"
#include "snapshot.h"
#include "teardown.h"
#include "transcript.h"
#include "util.h"
#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MS       2000 /* for one piece of a dead VMM's console */
#define SHIM_REAPED_MS 1000 /* from a closed link to the spawner's word of it */

static void collect_next(struct sandbox *sb, uint64_t offset, bool tail);

/* Console read out (or given up) and its end recorded: the shim is no longer needed. */
static void collected(struct sandbox *sb)
{
	sb->last.whole = true;
	sb->collected = true;
	transcript_over(sb);
	/* Of one that hibernates the set says all. */
	if (!sb->recording || sb->set_safe)
		teardown_ack(sb);
}

/* Where it cannot be recorded the shim is let go all the same: to keep it would mend nothing. */
static void on_end_recorded(struct sandbox *sb, const struct err *why)
{
	if (why)
		log_warning("%s: how it ended is not recorded yet: %s", sb->key, why->text);
	sb->recording = false;
	if (sb->collected)
		teardown_ack(sb);
}

static void record_end(struct sandbox *sb)
{
	struct err e;
	sb->recording = true;
	if (store_put(sb, on_end_recorded, &e) < 0)
		on_end_recorded(sb, &e);
}

/* Room for what is kept, known from the first piece. */
static int make_room(struct sandbox *sb, const struct msg_console_data *data)
{
	uint64_t want = data->end - data->offset;
	if (want > sb->d->config.policy.console_bytes)
		want = sb->d->config.policy.console_bytes;
	sb->last.data = malloc(want ? want : 1);
	return sb->last.data ? 0 : -1;
}

static void on_chunk(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct err e;
	CLEANUP_FREE struct msg_console_data *data = malloc(sizeof(*data));
	if (!why && data && msg_read_console_data(m, data, &e) < 0) {
		link_fail(sb->link, &e);
		return;
	}
	if (why || !data || (!sb->last.data && make_room(sb, data) < 0)) {
		log_warning("%s: the end of its console is lost: %s", sb->key,
			    why ? why->text : "no memory");
		collected(sb);
		return;
	}
	size_t room = sb->d->config.policy.console_bytes - sb->last.length;
	size_t n = data->length < room ? data->length : room;
	/* The first piece says how much there is; a console that still grows is cut there. */
	uint64_t total = data->end - (data->offset - sb->last.length);
	if (sb->last.length + n > total)
		n = 0;
	memcpy(sb->last.data + sb->last.length, data->data, n);
	sb->last.length += n;
	sb->last.end = data->offset + n;
	if (data->eof || n == 0 || sb->last.end >= data->end)
		collected(sb);
	else
		collect_next(sb, sb->last.end, false);
}

static void collect_next(struct sandbox *sb, uint64_t offset, bool tail)
{
	struct msg_console_read ask = {.offset = offset, .tail = tail};
	struct err e;
	if (link_request_console_read(sb->link, &ask, MSG_CONSOLE_DATA, CHUNK_MS, on_chunk, sb,
				      &e) < 0) {
		log_warning("%s: the end of its console is lost: %s", sb->key, e.text);
		collected(sb);
	}
}

/* What a VMM's end means when nobody is destroying it. */
static enum state_event meaning(const struct sandbox *sb)
{
	if (sb->fail && sb->state == STATE_PAUSED)
		return STATE_RESUME_LOST;
	/* The shim's own doing: after a snapshot the guest could not go on. */
	if (sb->exit->cause == MSG_CAUSE_VMM_ERROR && sb->exit->phase == MSG_PHASE_RESUMING)
		return STATE_RESUME_LOST;
	if (sb->exit->cause == MSG_CAUSE_GUEST_SHUTDOWN || sb->exit->cause == MSG_CAUSE_DESTROYED)
		return STATE_GUEST_OFF;
	return STATE_VMM_LOST;
}

static void tell_exit(struct sandbox *sb)
{
	enum state_event event = meaning(sb);
	if (event == STATE_RESUME_LOST && sb->fail) {
		sb->exit->cause = MSG_CAUSE_VMM_ERROR;
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), sb->fail->text);
	}
	cJSON *more = cJSON_CreateObject();
	if (more)
		cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
	sandbox_step(sb, event, msg_cause_name(sb->exit->cause), more);
}

static void on_exit_record(struct sandbox *sb, const struct msg *m)
{
	struct msg_exit said;
	struct err e;
	if (msg_read_exit(m, &said, &e) < 0) {
		link_fail(sb->link, &e);
		return;
	}
	/* An adopted one says it again after each STATUS. */
	if (sb->exit && sb->adopted)
		return;
	if (sb->exit || sandbox_is_starting(sb)) {
		err_set(&e, ERR_PROTOCOL, 0, "%s: EXIT record out of turn", sb->key);
		log_error("link closed: %s", e.text);
		link_fail(sb->link, &e);
		return;
	}
	sb->exit = malloc(sizeof(*sb->exit));
	if (sb->exit)
		*sb->exit = said;
	if (sb->state == STATE_DESTROYING || !sb->exit) {
		teardown_ack(sb);
		return;
	}
	/* The event first: whoever waits for it does not wait for the console. */
	if (sb->set_safe || said.cause == MSG_CAUSE_HIBERNATED)
		snapshot_vmm_ended(sb);
	else
		tell_exit(sb);
	if (sb->exit->cause != MSG_CAUSE_HIBERNATED)
		record_end(sb);
	collect_next(sb, sb->d->config.policy.console_bytes, true);
}

static void on_event_record(struct sandbox *sb, const struct msg *m)
{
	struct msg_event said;
	struct err e;
	if (msg_read_event(m, &said, &e) < 0) {
		link_fail(sb->link, &e);
		return;
	}
	if (said.what == MSG_EVENT_DROPPED) {
		log_warning("%s: %u event records of its VMM were dropped", sb->key, said.count);
		return;
	}
	cJSON *more = cJSON_CreateObject();
	const char *name = said.what == MSG_EVENT_REBOOT  ? "reboot"
			   : said.what == MSG_EVENT_PANIC ? "panic"
							  : "disk-full";
	if (more && said.what != MSG_EVENT_PANIC)
		cJSON_AddNumberToObject(more, "count", said.count);
	if (said.what == MSG_EVENT_DISK_FULL)
		log_warning("%s: a write of the guest failed, the disk that state_dir is on is "
			    "full",
			    sb->key);
	else
		log_info("%s: %s of the guest", sb->key, name);
	events_emit(&sb->d->events, sb->id, sb->tenant, name, more);
}

static void on_progress_record(struct sandbox *sb, const struct msg *m)
{
	struct msg_progress said;
	struct err e;
	if (msg_read_progress(m, &said, &e) < 0)
		link_fail(sb->link, &e);
	else
		snapshot_progress(sb, &said);
}

static void on_log_record(struct sandbox *sb, const struct msg *m)
{
	struct msg_log said;
	struct err e;
	if (msg_read_log(m, &said, &e) < 0) {
		link_fail(sb->link, &e);
		return;
	}
	if (said.dropped)
		log_warning("%s: %u log lines of its shim were dropped here", sb->key,
			    said.dropped);
	log_write((enum log_level)said.level, "%s: %s", sb->key, said.text);
}

static void on_record(void *arg, struct msg *m)
{
	struct sandbox *sb = arg;
	struct err e;
	switch (m->header.type) {
	case MSG_EXIT:
		on_exit_record(sb, m);
		break;
	case MSG_EVENT:
		on_event_record(sb, m);
		break;
	case MSG_PROGRESS:
		on_progress_record(sb, m);
		break;
	case MSG_LOG:
		on_log_record(sb, m);
		break;
	default:
		err_set(&e, ERR_PROTOCOL, 0, "%s: %s record that nobody asked for", sb->key,
			msg_type_name(m->header.type));
		log_error("link closed: %s", e.text);
		link_fail(sb->link, &e);
	}
}

static enum msg_phase phase_of(enum state s)
{
	return s == STATE_PAUSED				   ? MSG_PHASE_PAUSED
	       : s == STATE_SNAPSHOTTING || s == STATE_HIBERNATING ? MSG_PHASE_SNAPSHOTTING
								   : MSG_PHASE_RUNNING;
}

/* The VMM dies with its shim (PDEATHSIG), so its end is known though nobody reported it. */
static void lose_shim(struct sandbox *sb, const struct err *why)
{
	if (!sb->exit)
		sb->exit = calloc(1, sizeof(*sb->exit));
	if (sb->exit) {
		*sb->exit = (struct msg_exit){
			.cause = MSG_CAUSE_SHIM_LOST,
			.code = -1,
			.phase = phase_of(sb->state),
			.at_real_us = clock_real_us(),
		};
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), why->text);
		cJSON *more = cJSON_CreateObject();
		if (more)
			cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
		sandbox_step(sb, STATE_VMM_LOST, "shim-lost", more);
	}
}

static void on_closed(void *arg, const struct err *why)
{
	struct sandbox *sb = arg;
	link_free(sb->link);
	sb->link = NULL;
	if (sb->shim == SANDBOX_SHIM_UP)
		sb->shim = SANDBOX_SHIM_LEAVING;
	if (sb->set_safe && sb->state == STATE_HIBERNATING)
		log_info("%s: its shim has gone, its set is safe", sb->key);
	else if (sb->state == STATE_RUNNING || sb->state == STATE_PAUSED ||
		 sb->state == STATE_SNAPSHOTTING || sb->state == STATE_HIBERNATING)
		lose_shim(sb, why);
	else if (sandbox_is_starting(sb))
		sandbox_set_fail(sb, why);
	sb->last.whole = true;
	transcript_over(sb);
	teardown_await(sb, SHIM_REAPED_MS);
}

const struct link_user watcher_link = {.record = on_record, .closed = on_closed};
