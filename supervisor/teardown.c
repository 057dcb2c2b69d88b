// SPDX-License-Identifier: Apache-2.0
#include "teardown.h"

#include "daemon.h"
#include "log.h"
#include "restart.h"
#include "snapshot.h"
#include "spawner.h"
#include "util.h"
#include "view.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer_end_waiters(struct sandbox *sb, const struct err *why)
{
	while (sb->end_waiters) {
		struct sandbox_waiter *w = sb->end_waiters;
		sb->end_waiters = w->next;
		w->fn(w->arg, sb, why);
		free(w);
	}
}

/* A record of an end that no VMM reported: it was destroyed before it ran. */
static void note_destroyed(struct sandbox *sb)
{
	/* An end in hibernation was none; the destroy is. */
	if (sb->exit && sb->exit->cause != MSG_CAUSE_HIBERNATED)
		return;
	if (!sb->exit)
		sb->exit = calloc(1, sizeof(*sb->exit));
	if (!sb->exit)
		return;
	*sb->exit = (struct msg_exit){
		.cause = MSG_CAUSE_DESTROYED,
		.code = -1,
		.phase = sb->vmm_pid ? MSG_PHASE_ENDING : MSG_PHASE_STARTING,
		.at_real_us = clock_real_us(),
	};
	str_copy(sb->exit->detail, sizeof(sb->exit->detail),
		 sb->vmm_pid ? "ended as asked" : "destroyed before the guest ran");
}

static void set_leftover(struct sandbox *sb, const char *text)
{
	free(sb->leftover);
	sb->leftover = text ? strdup(text[0] ? text : "the spawner does not say what") : NULL;
	sb->dir_left = false;
}

static void conclude(struct sandbox *sb);

void teardown_dir_removed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	sb->removing = false;
	if (!why || why->kind == ERR_NOT_FOUND) {
		sb->has_dir = false;
	} else {
		set_leftover(sb, why->text);
		sb->dir_left = true;
	}
	/* Of a create that failed it may have become a destroy meanwhile. */
	conclude(sb);
}

/* True: the spawner is asked to remove its disks and its set, and its answer goes on. */
static bool remove_dir(struct sandbox *sb)
{
	struct err e;
	if (sb->removing)
		return true;
	if (!sb->has_dir || sb->leftover)
		return false;
	if (spawner_remove_set(sb->d->spawner, MSG_REMOVE_SANDBOX, sb->key, teardown_dir_removed,
			       sb, &e) == 0) {
		sb->removing = true;
		return true;
	}
	set_leftover(sb, e.text);
	sb->dir_left = true;
	return false;
}

static void on_unrecorded(struct sandbox *sb, const struct err *why)
{
	sb->unrecording = false;
	if (why) {
		set_leftover(sb, why->text);
		sb->dir_left = true;
	} else {
		sb->unrecorded = true;
	}
	conclude(sb);
}

/* True: its record is being removed, the last thing that is left of it, and that goes on. */
static bool remove_record(struct sandbox *sb)
{
	struct err e;
	if (sb->unrecording)
		return true;
	if (sb->unrecorded || sb->leftover)
		return false;
	if (store_remove(sb, on_unrecorded, &e) == 0) {
		sb->unrecording = true;
		return true;
	}
	set_leftover(sb, e.text);
	sb->dir_left = true;
	return false;
}

static void finish_destroy(struct sandbox *sb)
{
	struct err e;
	/* A create that was not recorded is destroyed for that, and says so. */
	if (sb->op == SANDBOX_OP_CREATE && sb->fail)
		e = *sb->fail;
	else
		err_set(&e, ERR_STATE, 0, "it was destroyed meanwhile");
	/* It would look as if it had been lost, if this process ended now. */
	if (sb->intending)
		return;
	if (remove_dir(sb) || remove_record(sb))
		return;
	sandbox_op_done(sb, &e);
	if (sb->leftover) {
		err_set(&e, ERR_INTERNAL, 0,
			"not all of it could be cleared up: %s; the record stays, try destroy "
			"again when that is mended",
			sb->leftover);
		log_error("%s: %s", sb->key, e.text);
		sandbox_step(sb, STATE_DESTROY_FAILED, sb->leftover, NULL);
		answer_end_waiters(sb, &e);
		return;
	}
	note_destroyed(sb);
	answer_end_waiters(sb, NULL);
	cJSON *more = cJSON_CreateObject();
	if (more && sb->exit)
		cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
	sandbox_step(sb, STATE_DESTROYED, "destroyed", more);
	sandbox_free(sb);
}

static void finish_failed_create(struct sandbox *sb)
{
	struct err e = {.kind = ERR_INTERNAL, .text = "the create failed"};
	sandbox_release_template(sb);
	if (sb->restart.starting) {
		/* What it has on disk is of the guest that ran before. */
		restart_start_failed(sb);
		return;
	}
	/* Its shim did that, unless it died. */
	if (remove_dir(sb))
		return;
	if (sb->fail)
		e = *sb->fail;
	if (!sb->keep_failed && remove_record(sb))
		return;
	if (sb->leftover) {
		log_error("%s: left behind: %s", sb->key, sb->leftover);
		sb->keep_failed = true;
	}
	sb->exit = calloc(1, sizeof(*sb->exit));
	if (sb->exit) {
		*sb->exit = (struct msg_exit){.cause = MSG_CAUSE_START_FAILED,
					      .code = -1,
					      .phase = MSG_PHASE_STARTING,
					      .at_real_us = clock_real_us()};
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), e.text);
	}
	sandbox_step(sb, STATE_CREATE_FAILED, e.text, NULL);
	sandbox_op_done(sb, &e);
	/* The answer may already have asked for more with it: only an idle one is dropped. */
	if (!sb->keep_failed && sb->state == STATE_FAILED)
		sandbox_free(sb);
}

/* Its guest may have run, and written to its disk: the memory in its set is of no use any more. */
static void finish_spent_wake(struct sandbox *sb, struct err *e)
{
	cJSON *more = cJSON_CreateObject();
	enum msg_cause cause = sb->shim_lost ? MSG_CAUSE_SHIM_LOST : MSG_CAUSE_START_FAILED;
	err_prefix(e, "the guest's memory was taken up and cannot be woken again");
	sandbox_reset(sb, false);
	sb->spent = false;
	sb->set_bytes = 0;
	sb->exit = calloc(1, sizeof(*sb->exit));
	if (sb->exit) {
		*sb->exit = (struct msg_exit){.cause = cause,
					      .code = -1,
					      .phase = MSG_PHASE_STARTING,
					      .at_real_us = clock_real_us()};
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), e->text);
		if (more)
			cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
	}
	sandbox_step(sb, STATE_WAKE_LOST, msg_cause_name(cause), more);
	sandbox_op_done(sb, e);
}

/* Back to sleep: its set is as it was. */
static void finish_failed_wake(struct sandbox *sb)
{
	struct err e = {.kind = ERR_INTERNAL, .text = "the wake failed"};
	if (sb->fail)
		e = *sb->fail;
	/* What is missing is a part of its set, not of the request. */
	if (e.kind == ERR_NOT_FOUND)
		e.kind = ERR_INTERNAL;
	if (sb->leftover)
		log_error("%s: left behind: %s", sb->key, sb->leftover);
	if (sb->spent) {
		finish_spent_wake(sb, &e);
		return;
	}
	sandbox_reset(sb, false);
	sandbox_step(sb, STATE_WAKE_FAILED, e.text, NULL);
	sandbox_op_done(sb, &e);
}

static void finish_ended(struct sandbox *sb)
{
	if (sb->leftover)
		log_error("%s: left behind: %s; destroy tries again", sb->key, sb->leftover);
	restart_shim_gone(sb);
}

/*
 * Nothing of shim and VMM runs any more: what the state makes of that. Without a spawner nothing is
 * known of what is left, and cloisterd is about to end: its record stays as it is, and the next one
 * settles it.
 */
static void conclude(struct sandbox *sb)
{
	if (!spawner_is_up(sb->d->spawner))
		log_notice("%s: the next cloisterd clears it up", sb->key);
	else if (sb->state == STATE_DESTROYING)
		finish_destroy(sb);
	else if (sb->state == STATE_CREATING)
		finish_failed_create(sb);
	else if (sb->state == STATE_WAKING)
		finish_failed_wake(sb);
	else if (sb->state == STATE_HIBERNATING)
		snapshot_hibernated(sb);
	else
		finish_ended(sb);
}

static void finish(struct sandbox *sb)
{
	if (sb->timer)
		event_del(sb->timer);
	sb->shim = SANDBOX_SHIM_GONE;
	if (sb->link) {
		/* Whoever still waits for an answer of the shim gets one. */
		struct err e;
		err_set(&e, ERR_UNAVAILABLE, 0, "the shim has ended");
		link_fail(sb->link, &e);
	}
	snapshot_shim_gone(sb);
	conclude(sb);
}

static void on_ended(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	sb->ending = false;
	/* GONE came before (shim == GONE) with its own account; else this answer is the account. */
	if (why)
		set_leftover(sb, why->text);
	else if (sb->shim != SANDBOX_SHIM_GONE)
		set_leftover(sb, NULL);
	finish(sb);
}

static void ask_end(struct sandbox *sb)
{
	struct msg_end end = {0};
	struct err e;
	if (sb->ending)
		return;
	str_copy(end.key, sizeof(end.key), sb->key);
	/* Its answer comes within the destroy deadline; the margin is for the way. */
	if (link_request_end(spawner_link(sb->d->spawner), &end, MSG_DONE,
			     daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY) + 1000, on_ended, sb,
			     &e) < 0) {
		set_leftover(sb, e.text);
		finish(sb);
		return;
	}
	sb->ending = true;
	if (sb->shim != SANDBOX_SHIM_GONE)
		sb->shim = SANDBOX_SHIM_LEAVING;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	(void)fd;
	(void)what;
	log_warning("%s: its shim does not end by itself, the spawner is asked to end it", sb->key);
	ask_end(sb);
}

void teardown_go_on(struct sandbox *sb)
{
	finish(sb);
}

void teardown_await(struct sandbox *sb, uint32_t ms)
{
	if (sb->ending || sb->shim == SANDBOX_SHIM_GONE)
		return;
	if (ms && !sb->timer)
		sb->timer = evtimer_new(sb->d->base, on_timer, sb);
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
	if (!ms || !sb->timer || evtimer_add(sb->timer, &tv) < 0)
		ask_end(sb);
}

void teardown_clear_up(struct sandbox *sb)
{
	ask_end(sb);
}

void teardown_ack(struct sandbox *sb)
{
	struct msg_exit_ack ack = {0};
	struct err e;
	sb->ack_due = sb->intending;
	if (sb->ack_due)
		return;
	if (sb->link && !sb->acked) {
		if (chan_send_exit_ack(link_chan(sb->link), 0, &ack, &e) < 0)
			log_warning("%s: EXIT_ACK not sent: %s", sb->key, e.text);
		link_kick(sb->link);
		sb->acked = true;
	}
	if (sb->shim == SANDBOX_SHIM_UP)
		sb->shim = SANDBOX_SHIM_LEAVING;
	teardown_await(sb, daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY));
}

/* Why a shim was lost: with its link closed, nobody could say yet. */
static void tell_signal(struct sandbox *sb, int signal)
{
	char text[MSG_DETAIL_MAX];
	if (signal == SIGSYS)
		str_copy(text, sizeof(text),
			 "its shim made a system call that its seccomp filter does not allow: a "
			 "build by `make trap` names it");
	else
		snprintf(text, sizeof(text), "its shim ended by signal %d", signal);
	log_warning("%s: %s", sb->key, text);
	if (sb->exit && sb->exit->cause == MSG_CAUSE_SHIM_LOST)
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), text);
}

void teardown_gone(struct sandbox *sb, const struct msg_gone *gone)
{
	/* What the shim said before it went stands first. */
	if (sb->link)
		link_drain(sb->link);
	if (gone->signal)
		tell_signal(sb, gone->signal);
	else if (gone->code > 0)
		log_debug("%s: its shim ended with status %d", sb->key, gone->code);
	if (sandbox_is_starting(sb) && sb->fail && sb->fail->kind == ERR_UNAVAILABLE)
		err_set(sb->fail, ERR_INTERNAL, 0,
			"its shim ended before the guest ran (status %d, signal %d); the log says "
			"more",
			gone->code, gone->signal);
	set_leftover(sb, gone->clear ? NULL : gone->detail);
	sb->spent = gone->spent && sb->state == STATE_WAKING;
	sb->shim_lost = gone->signal != 0;
	sb->shim = SANDBOX_SHIM_GONE;
	if (!sb->ending)
		finish(sb);
}

static void on_killed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	/* DONE: EXIT follows or came. A shim that has just gone answers nothing: GONE follows. */
	if (why && sb->link && why->kind != ERR_UNAVAILABLE && why->kind != ERR_STATE) {
		log_warning("%s: %s", sb->key, why->text);
		teardown_await(sb, 0);
	}
}

/* Asks the shim to end its VMM; the timer stands behind it. */
static void ask_kill(struct sandbox *sb, uint32_t grace_ms)
{
	struct msg_kill kill = {.grace_ms = grace_ms};
	struct err e;
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY);
	if (grace_ms)
		ms += grace_ms + daemon_deadline(sb->d, POLICY_DEADLINE_POWER_BUTTON) +
		      daemon_deadline(sb->d, POLICY_DEADLINE_SHUTDOWN);
	if (link_request_kill(sb->link, &kill, MSG_DONE, ms, on_killed, sb, &e) < 0) {
		log_warning("%s: %s", sb->key, e.text);
		ms = 0;
	}
	teardown_await(sb, ms);
}

static void on_intended(struct sandbox *sb, const struct err *why)
{
	sb->intending = false;
	if (why)
		log_warning("%s: %s", sb->key, why->text);
	if (sb->shim == SANDBOX_SHIM_GONE && !sb->ending)
		conclude(sb);
	else if (sb->ack_due)
		teardown_ack(sb);
}

/*
 * Whoever comes after this process goes on with it: so nothing of the sandbox goes before that is
 * recorded. Its VMM is ended meanwhile.
 */
static void record_intent(struct sandbox *sb)
{
	struct err e;
	if (store_put(sb, on_intended, &e) < 0)
		log_warning("%s: %s", sb->key, e.text);
	else
		sb->intending = true;
}

int teardown_destroy(struct sandbox *sb, uint32_t grace_ms, sandbox_done_fn *fn, void *arg,
		     struct err *e)
{
	struct sandbox_waiter *w = calloc(1, sizeof(*w));
	if (!w)
		return err_errno(e, ENOMEM, "no memory to destroy %s", sb->id);
	*w = (struct sandbox_waiter){.next = sb->end_waiters, .fn = fn, .arg = arg};
	sb->end_waiters = w;
	if (sb->state == STATE_DESTROYING) {
		/* A second one cannot be slower than the first, but it may be faster. */
		if (!grace_ms)
			sb->destroy_by_real_us = clock_real_us();
		if (!grace_ms && sb->shim == SANDBOX_SHIM_UP && sb->link && !sb->exit)
			ask_kill(sb, 0);
		return 0;
	}
	restart_cancel(sb);
	sb->destroy_by_real_us = clock_real_us() + (int64_t)grace_ms * 1000;
	bool unwanted = sb->op == SANDBOX_OP_CREATE && sb->fail;
	sandbox_step(sb, STATE_ASK_DESTROY, unwanted ? sb->fail->text : "destroy was asked for",
		     NULL);
	record_intent(sb);
	if (sb->shim == SANDBOX_SHIM_GONE) {
		if (sb->dir_left)
			set_leftover(sb, NULL);
		if (sb->leftover)
			ask_end(sb);
		else
			finish(sb);
	} else if (sb->shim == SANDBOX_SHIM_UP && sb->exit) {
		teardown_ack(sb);
	} else if (sb->shim == SANDBOX_SHIM_UP) {
		ask_kill(sb, grace_ms);
	}
	/* STARTING: the answer to START goes on. LEAVING: the timer runs already. */
	return 0;
}

void teardown_part(struct sandbox *sb)
{
	struct err e;
	err_set(&e, ERR_UNAVAILABLE, 0,
		"cloisterd stops, and this goes on without it: look at the sandbox once cloisterd "
		"has been started again");
	sandbox_op_done(sb, &e);
	answer_end_waiters(sb, &e);
}

void teardown_forget(struct sandbox *sb)
{
	teardown_part(sb);
	sandbox_free(sb);
}
