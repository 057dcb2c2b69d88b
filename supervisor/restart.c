// SPDX-License-Identifier: Apache-2.0
#include "restart.h"

#include "daemon.h"
#include "drain.h"
#include "log.h"
#include "spawner.h"
#include "spec_restart.h"
#include "store.h"
#include "teardown.h"
#include "util.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

#define RAN_WELL_MIN_US 60000000
#define RAN_WELL_DELAYS 10
/* After a crash of the host all are due; tenants who create meanwhile have a turn too. */
#define STARTS_AT_ONCE 4

/* ------------------------------------------------------------------ the rules */

bool restart_is_wanted(enum spec_restart policy, uint32_t cause)
{
	switch (cause) {
	case MSG_CAUSE_GUEST_SHUTDOWN:
		return policy == SPEC_RESTART_ALWAYS;
	case MSG_CAUSE_GUEST_PANIC:
	case MSG_CAUSE_GUEST_REBOOT_LOOP:
	case MSG_CAUSE_VMM_ERROR:
	case MSG_CAUSE_VMM_KILLED:
	case MSG_CAUSE_OUT_OF_MEMORY:
	case MSG_CAUSE_SECCOMP:
	case MSG_CAUSE_SHIM_LOST:
	case MSG_CAUSE_START_FAILED:
		return policy != SPEC_RESTART_NEVER;
	default:
		/* Somebody wanted it so, or it was no end. */
		return false;
	}
}

uint32_t restart_delay_ms(const struct spec_restart_rule *rule, uint32_t streak)
{
	uint64_t ms = rule->backoff_ms;
	/* backoff_max_ms has 27 bits, so no more than that many doublings matter. */
	for (uint32_t i = 0; i < streak && ms < rule->backoff_max_ms; i++)
		ms *= 2;
	return ms < rule->backoff_max_ms ? (uint32_t)ms : rule->backoff_max_ms;
}

bool restart_ran_well(int64_t ran_us, uint32_t delay_ms)
{
	return ran_us >= RAN_WELL_MIN_US && ran_us >= RAN_WELL_DELAYS * (int64_t)delay_ms * 1000;
}

/* Restarts in a row, as they count now. */
static uint32_t streak_of(const struct sandbox *sb)
{
	const struct sandbox_restart *r = &sb->restart;
	bool well = r->running_us && restart_ran_well(clock_us() - r->running_us, r->delay_ms);
	return well ? 0 : r->streak;
}

/* ------------------------------------------------------------------ seen from outside */

static void add_attempts_left(cJSON *o, const struct sandbox *sb)
{
	uint32_t attempts = sb->spec->restart.attempts, streak = streak_of(sb);
	if (attempts)
		cJSON_AddNumberToObject(o, "attempts_left",
					attempts > streak ? attempts - streak : 0);
	else
		cJSON_AddNullToObject(o, "attempts_left");
}

static void add_next(cJSON *o, const struct sandbox *sb)
{
	char text[CLOCK_TEXT_MAX];
	if (sb->restart.due) {
		clock_format(sb->restart.next_real_us, text);
		cJSON_AddStringToObject(o, "next_at", text);
	} else {
		cJSON_AddNullToObject(o, "next_at");
	}
}

cJSON *restart_view(const struct sandbox *sb)
{
	const struct spec_restart_rule *rule = &sb->spec->restart;
	if (rule->policy == SPEC_RESTART_NEVER)
		return cJSON_CreateNull();
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "policy", spec_restart_name(rule->policy));
	cJSON_AddNumberToObject(o, "attempts", rule->attempts);
	cJSON_AddNumberToObject(o, "backoff_ms", rule->backoff_ms);
	cJSON_AddNumberToObject(o, "backoff_max_ms", rule->backoff_max_ms);
	cJSON_AddStringToObject(o, "from", sb->spec->template ? "template" : "boot");
	cJSON_AddNumberToObject(o, "count", sb->restart.count);
	add_attempts_left(o, sb);
	add_next(o, sb);
	if (sb->restart.last)
		cJSON_AddItemToObject(o, "last_exit", view_exit(sb->restart.last));
	else
		cJSON_AddNullToObject(o, "last_exit");
	return o;
}

/* ------------------------------------------------------------------ the end of a VMM */

static void tell(const struct sandbox *sb, cJSON *more)
{
	cJSON *o = more ? cJSON_AddObjectToObject(more, "restart") : NULL;
	if (!o)
		return;
	cJSON_AddNumberToObject(o, "count", sb->restart.count);
	add_attempts_left(o, sb);
	add_next(o, sb);
}

static void decide(struct sandbox *sb)
{
	const struct spec_restart_rule *rule = &sb->spec->restart;
	struct sandbox_restart *r = &sb->restart;
	r->streak = streak_of(sb);
	r->running_us = 0;
	r->due = sb->exit && restart_is_wanted(rule->policy, sb->exit->cause);
	if (!r->due)
		return;
	if (rule->attempts && r->streak >= rule->attempts) {
		r->due = false;
		log_warning("%s: restarted %u times in a row, its policy has no more attempts",
			    sb->key, r->streak);
		return;
	}
	r->delay_ms = restart_delay_ms(rule, r->streak);
	r->next_real_us = clock_real_us() + (int64_t)r->delay_ms * 1000;
	log_info("%s: will be started again in %u ms", sb->key, r->delay_ms);
}

void restart_vmm_ended(struct sandbox *sb, cJSON *more)
{
	if (sb->spec->restart.policy == SPEC_RESTART_NEVER)
		return;
	decide(sb);
	tell(sb, more);
}

/* ------------------------------------------------------------------ whose turn it is */

/* Counted each time, so that nothing can drift. */
static unsigned starts_under_way(const struct daemon *d)
{
	const struct sandbox *sb;
	unsigned count = 0;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	count += sb->restart.starting;
	return count;
}

/* A start has ended: of those that wait for that the one that was due first has its turn. */
static void start_ended(struct daemon *d)
{
	const struct timeval now = {0};
	struct sandbox *sb, *first = NULL;
	if (d->stopping)
		return;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	if (sb->restart.waiting &&
	    (!first || sb->restart.next_real_us < first->restart.next_real_us))
		first = sb;
	if (!first)
		return;
	first->restart.waiting = false;
	if (evtimer_add(first->restart.timer, &now) < 0)
		log_error("%s: no memory for a timer, it is not started again", first->key);
}

static void set_started(struct sandbox *sb)
{
	bool started = sb->restart.starting;
	sb->restart.starting = false;
	if (started)
		start_ended(sb->d);
}

void restart_guest_runs(struct sandbox *sb)
{
	set_started(sb);
	sb->restart.running_us = clock_us();
}

void restart_cancel(struct sandbox *sb)
{
	sb->restart.due = false;
	sb->restart.waiting = false;
	if (sb->restart.timer)
		event_del(sb->restart.timer);
}

void restart_free(struct sandbox *sb)
{
	set_started(sb);
	if (sb->restart.timer)
		event_free(sb->restart.timer);
	free(sb->restart.last);
}

/* ------------------------------------------------------------------ the start */

static void fail(struct sandbox *sb, const struct err *why)
{
	sandbox_set_fail(sb, why);
	restart_start_failed(sb);
}

static void start(struct sandbox *sb)
{
	struct err e;
	if (sandbox_start_again(sb, &e) < 0)
		fail(sb, &e);
}

static void on_old_disks_removed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct err e;
	if (sb->state != STATE_CREATING) {
		/* A destroy came meanwhile, which wants them gone as well. */
		teardown_dir_removed(sb, m, why);
		return;
	}
	sb->removing = false;
	if (why && why->kind != ERR_NOT_FOUND) {
		e = *why;
		err_prefix(&e, "remove its old disks");
		fail(sb, &e);
		return;
	}
	sb->has_dir = false;
	start(sb);
}

/* A template's memory goes with a template's disks: what it wrote to its own ones must go. */
static int remove_old_disks(struct sandbox *sb, struct err *e)
{
	char key[NAME_KEY_SIZE];
	/* Not before it is known that there are others. */
	name_key_make(key, sb->tenant, sb->spec->template);
	if (!template_find(&sb->d->templates, key))
		return err_set(e, ERR_STATE, 0,
			       "template \"%s\", which it was made from, is no more",
			       sb->spec->template);
	if (spawner_remove_set(sb->d->spawner, MSG_REMOVE_SANDBOX, sb->key, on_old_disks_removed,
			       sb, e) < 0)
		return -1;
	sb->removing = true;
	return 0;
}

/* What the earlier VMM left could not be cleared up: that is tried again, and counts as a try. */
static void clear_up(struct sandbox *sb)
{
	log_error("%s: not started again yet, this was left: %s", sb->key, sb->leftover);
	sb->restart.streak++;
	decide(sb);
	store_note(sb);
	teardown_clear_up(sb);
}

static void begin(struct sandbox *sb)
{
	struct sandbox_restart *r = &sb->restart;
	char reason[32];
	struct err e;
	if (sb->leftover) {
		clear_up(sb);
		return;
	}
	r->due = false;
	r->starting = true;
	r->count++;
	r->streak++;
	/* The record's own is that of the VMM that is there, and there is none now. */
	free(r->last);
	r->last = sb->exit;
	sb->exit = NULL;
	sandbox_reset(sb, true);
	spec_restart_prepare(sb->spec);
	snprintf(reason, sizeof(reason), "restart %u", r->count);
	sb->op = SANDBOX_OP_RESTART;
	sandbox_step(sb, STATE_ASK_RESTART, reason, NULL);
	/* Should this process end in the middle: what there is then is no create that failed. */
	store_note_now(sb);
	if (sandbox_check_address(sb, "restart", &e) < 0)
		fail(sb, &e);
	else if (!sb->spec->template || !sb->has_dir)
		start(sb);
	else if (remove_old_disks(sb, &e) < 0)
		fail(sb, &e);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	(void)fd;
	(void)what;
	/* It stays due: restart_go_on(). */
	if (!sb->restart.due || drain_is_on(sb->d) || sb->d->stopping)
		return;
	if (starts_under_way(sb->d) >= STARTS_AT_ONCE)
		sb->restart.waiting = true;
	else
		begin(sb);
}

void restart_shim_gone(struct sandbox *sb)
{
	struct sandbox_restart *r = &sb->restart;
	if (!r->due)
		return;
	int64_t us = r->next_real_us - clock_real_us();
	int64_t most = (int64_t)sb->spec->restart.backoff_max_ms * 1000;
	/* The clock may have been set meanwhile. */
	us = us < 0 ? 0 : us > most ? most : us;
	const struct timeval tv = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
	if (!r->timer)
		r->timer = evtimer_new(sb->d->base, on_timer, sb);
	if (r->timer && evtimer_add(r->timer, &tv) == 0)
		return;
	log_error("%s: no memory for a timer, it is not started again", sb->key);
	r->due = false;
}

void restart_start_failed(struct sandbox *sb)
{
	struct err e = {.kind = ERR_INTERNAL, .text = "the start failed"};
	cJSON *more = cJSON_CreateObject();
	if (sb->fail)
		e = *sb->fail;
	sb->exit = calloc(1, sizeof(*sb->exit));
	if (sb->exit) {
		*sb->exit = (struct msg_exit){.cause = MSG_CAUSE_START_FAILED,
					      .code = -1,
					      .phase = MSG_PHASE_STARTING,
					      .at_real_us = clock_real_us()};
		str_copy(sb->exit->detail, sizeof(sb->exit->detail), e.text);
		if (more)
			cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
	}
	set_started(sb);
	decide(sb);
	tell(sb, more);
	sandbox_step(sb, STATE_RESTART_FAILED, e.text, more);
	sandbox_op_done(sb, &e);
	restart_shim_gone(sb);
}

void restart_go_on(struct daemon *d)
{
	struct sandbox *sb;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	if (sb->restart.due && sb->shim == SANDBOX_SHIM_GONE)
		restart_shim_gone(sb);
}
