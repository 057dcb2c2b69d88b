// SPDX-License-Identifier: Apache-2.0
#include "drain.h"

#include "daemon.h"
#include "log.h"
#include "restart.h"
#include "sandbox.h"
#include "snapshot.h"
#include "teardown.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 4   /* hibernates write to one disk, destroys go through one spawner */
#define LOOK_MS 100 /* how often it looks for what has come to its end meanwhile */

static const char *const then_names[DRAIN_THEN_COUNT] = {
	[DRAIN_THEN_NOTHING] = "nothing",
	[DRAIN_THEN_HIBERNATE] = "hibernate",
	[DRAIN_THEN_DESTROY] = "destroy",
};

const char *drain_then_name(enum drain_then then)
{
	return then_names[then];
}

int drain_then_from_name(const char *name)
{
	for (int i = 0; i < DRAIN_THEN_COUNT; i++)
		if (strcmp(then_names[i], name) == 0)
			return i;
	return -1;
}

bool drain_is_on(const struct daemon *d)
{
	return d->drain.state != DRAIN_OFF;
}

int drain_admit(const struct daemon *d, struct err *e)
{
	if (d->stopping)
		return err_set(e, ERR_UNAVAILABLE, 0, "cloisterd is stopping; try again later");
	if (drain_is_on(d))
		return err_set(e, ERR_UNAVAILABLE, 0,
			       "this host is being drained and takes no new work; use another one, "
			       "or try again when its administrator has undone that");
	return 0;
}

/* ------------------------------------------------------------------ what is left to do */

static bool is_in_flight(const struct sandbox *sb)
{
	return sb->op != SANDBOX_OP_NONE || sb->state == STATE_CREATING ||
	       sb->state == STATE_SNAPSHOTTING || sb->state == STATE_HIBERNATING ||
	       sb->state == STATE_WAKING || sb->state == STATE_DESTROYING;
}

uint32_t drain_in_flight(const struct daemon *d)
{
	uint32_t count = 0;
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	count += is_in_flight(sb);
	return count;
}

static bool has_failed(const struct drain *n, const struct sandbox *sb)
{
	for (const struct drain_failure *f = n->failures; f; f = f->next)
		if (strcmp(f->key, sb->key) == 0)
			return true;
	return false;
}

/* Whether it is one of those that are to be hibernated or destroyed. */
static bool is_wanted(const struct drain *n, const struct sandbox *sb)
{
	bool runs = sb->state == STATE_RUNNING || sb->state == STATE_PAUSED;
	if (n->then == DRAIN_THEN_NOTHING || has_failed(n, sb))
		return false;
	/* One that waits to be started again would run when the host is taken back. */
	return runs || (n->then == DRAIN_THEN_DESTROY && sb->restart.due);
}

static uint32_t count_left(const struct daemon *d)
{
	uint32_t count = 0;
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	count += is_wanted(&d->drain, sb);
	return count;
}

static void note_failure(struct drain *n, const char *key, const char *detail)
{
	struct drain_failure *f = calloc(1, sizeof(*f));
	log_warning("drain: %s: %s", key, detail);
	if (!f)
		return;
	str_copy(f->key, sizeof(f->key), key);
	str_copy(f->detail, sizeof(f->detail), detail);
	f->next = n->failures;
	n->failures = f;
}

static void forget_failures(struct drain *n)
{
	while (n->failures) {
		struct drain_failure *f = n->failures;
		n->failures = f->next;
		free(f);
	}
}

/* ------------------------------------------------------------------ doing it */

struct errand {
	struct daemon *d;
	uint32_t round;
};

static void on_done(void *arg, const struct sandbox *sb, const struct err *why)
{
	struct errand *errand = arg;
	struct drain *n = &errand->d->drain;
	bool counts = errand->round == n->round && n->state != DRAIN_OFF;
	free(errand);
	if (!counts)
		return;
	n->busy--;
	if (!why)
		n->done++;
	else if (!has_failed(n, sb))
		note_failure(n, sb->key, why->text);
	/* Not from in here: the next one may be begun only when this one has come to rest. */
	if (n->timer)
		event_active(n->timer, EV_TIMEOUT, 0);
}

static void begin_one(struct daemon *d, struct sandbox *sb)
{
	struct drain *n = &d->drain;
	struct errand *errand = malloc(sizeof(*errand));
	struct err e;
	if (!errand) {
		note_failure(n, sb->key, "no memory");
		return;
	}
	*errand = (struct errand){.d = d, .round = n->round};
	n->busy++;
	int rc = n->then == DRAIN_THEN_HIBERNATE
			 ? snapshot_hibernate(sb, on_done, errand, &e)
			 : teardown_destroy(sb, n->grace_ms, on_done, errand, &e);
	if (rc == 0)
		return;
	n->busy--;
	free(errand);
	note_failure(n, sb->key, e.text);
}

static void begin_some(struct daemon *d)
{
	struct drain *n = &d->drain;
	struct sandbox *sb, *next;
	for (sb = TAILQ_FIRST(&d->registry.list); sb && n->busy < AT_ONCE; sb = next) {
		/* A destroy may take it away at once. */
		next = TAILQ_NEXT(sb, entry);
		if (is_wanted(n, sb) && sb->op == SANDBOX_OP_NONE)
			begin_one(d, sb);
	}
}

static void end(struct drain *n, enum drain_state state)
{
	n->state = state;
	event_del(n->timer);
	log_notice("drain: %s", state == DRAIN_DONE	? "done"
				: state == DRAIN_FAILED ? "done, but for what failed"
							: "its time is over");
}

static void be_late(struct daemon *d)
{
	struct drain *n = &d->drain;
	char detail[128];
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	{
		if ((!is_in_flight(sb) && !is_wanted(n, sb)) || has_failed(n, sb))
			continue;
		snprintf(detail, sizeof(detail), "it is still %s when the time is over",
			 state_name(sb->state));
		note_failure(n, sb->key, detail);
	}
	end(n, DRAIN_LATE);
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct drain *n = &d->drain;
	const struct timeval tv = {.tv_usec = LOOK_MS * 1000};
	(void)fd;
	(void)what;
	if (n->state != DRAIN_WORKING)
		return;
	if (clock_us() >= n->deadline_us) {
		be_late(d);
		return;
	}
	begin_some(d);
	if (!n->busy && !drain_in_flight(d) && !count_left(d))
		end(n, n->failures ? DRAIN_FAILED : DRAIN_DONE);
	else if (evtimer_add(n->timer, &tv) < 0)
		log_error("drain: no memory for a timer");
}

int drain_start(struct daemon *d, enum drain_then then, uint32_t wait_s, uint32_t grace_ms,
		struct err *e)
{
	struct drain *n = &d->drain;
	int64_t now = clock_real_us();
	if (!n->timer)
		n->timer = evtimer_new(d->base, look, d);
	if (!n->timer)
		return err_errno(e, ENOMEM, "no memory to drain");
	forget_failures(n);
	if (n->state == DRAIN_OFF)
		n->since_real_us = now;
	n->state = DRAIN_WORKING;
	n->then = then;
	n->grace_ms = grace_ms;
	n->deadline_real_us = now + wait_s * 1000000ll;
	n->deadline_us = clock_us() + wait_s * 1000000ll;
	n->round++;
	n->busy = n->done = 0;
	log_notice("drain: no new work is taken, then %s; %u operations are in flight, at most %u "
		   "s are waited",
		   then_names[then], drain_in_flight(d), wait_s);
	event_active(n->timer, EV_TIMEOUT, 0);
	return 0;
}

void drain_undo(struct daemon *d)
{
	struct drain *n = &d->drain;
	if (n->state == DRAIN_OFF)
		return;
	forget_failures(n);
	event_del(n->timer);
	n->state = DRAIN_OFF;
	n->then = DRAIN_THEN_NOTHING;
	log_notice("drain: undone, new work is taken again");
	restart_go_on(d);
}

void drain_close(struct daemon *d)
{
	forget_failures(&d->drain);
	if (d->drain.timer)
		event_free(d->drain.timer);
	d->drain = (struct drain){0};
}

/* ------------------------------------------------------------------ seen from outside */

static void add_time(cJSON *o, const char *name, int64_t real_us)
{
	char text[CLOCK_TEXT_MAX];
	clock_format(real_us, text);
	cJSON_AddStringToObject(o, name, text);
}

static void add_failures(cJSON *o, const struct drain *n)
{
	char tenant[NAME_SIZE], id[NAME_SIZE];
	cJSON *list = cJSON_AddArrayToObject(o, "failed");
	for (const struct drain_failure *f = n->failures; list && f; f = f->next) {
		cJSON *item = cJSON_CreateObject();
		name_key_split(f->key, tenant, id);
		cJSON_AddStringToObject(item, "sandbox", id);
		cJSON_AddStringToObject(item, "tenant", tenant);
		cJSON_AddStringToObject(item, "detail", f->detail);
		cJSON_AddItemToArray(list, item);
	}
}

cJSON *drain_view(const struct daemon *d)
{
	static const char *const states[] = {
		[DRAIN_OFF] = "off",	   [DRAIN_WORKING] = "working", [DRAIN_DONE] = "done",
		[DRAIN_FAILED] = "failed", [DRAIN_LATE] = "late",
	};
	const struct drain *n = &d->drain;
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	cJSON_AddStringToObject(o, "state", states[n->state]);
	cJSON_AddStringToObject(o, "then", then_names[n->then]);
	if (n->state != DRAIN_OFF) {
		add_time(o, "since", n->since_real_us);
		add_time(o, "deadline", n->deadline_real_us);
	} else {
		cJSON_AddNullToObject(o, "since");
		cJSON_AddNullToObject(o, "deadline");
	}
	cJSON_AddNumberToObject(o, "in_flight", drain_in_flight(d));
	cJSON_AddNumberToObject(o, "left", count_left(d));
	cJSON_AddNumberToObject(o, "done", n->state == DRAIN_OFF ? 0 : n->done);
	add_failures(o, n);
	return o;
}
