// SPDX-License-Identifier: Apache-2.0
/*
 * Draining the host: no new work is begun, what is under way comes to its end, and if so asked the
 * guests that run are hibernated or destroyed, a few at a time. It is not kept over a restart of
 * cloisterd: the next one serves again.
 */
#ifndef SUPERVISOR_DRAIN_H
#define SUPERVISOR_DRAIN_H

#include "err.h"
#include "name.h"

#include <cjson/cJSON.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct daemon;

enum drain_then { DRAIN_THEN_NOTHING, DRAIN_THEN_HIBERNATE, DRAIN_THEN_DESTROY, DRAIN_THEN_COUNT };

enum drain_state {
	DRAIN_OFF,
	DRAIN_WORKING,
	DRAIN_DONE,
	DRAIN_FAILED, /* done, but for what failed */
	DRAIN_LATE,   /* its time is over with work left */
};

struct drain_failure {
	struct drain_failure *next;
	char key[NAME_KEY_SIZE];
	char detail[ERR_TEXT_MAX];
};

/* The drain of a daemon; all zero: there is none. */
struct drain {
	enum drain_state state;
	enum drain_then then;
	uint32_t grace_ms;
	int64_t since_real_us, deadline_real_us; /* CLOCK_REALTIME, to be shown */
	int64_t deadline_us;			 /* CLOCK_MONOTONIC */
	uint32_t round;				 /* what an earlier one began does not count */
	uint32_t busy;				 /* hibernates and destroys that it has begun */
	uint32_t done;
	struct drain_failure *failures;
	struct event *timer;
};

#define DRAIN_WAIT_S	 300 /* when a client says nothing else */
#define DRAIN_WAIT_S_MAX 86400

/*
 * Begins, or begins anew with other wishes: what failed before is tried again. wait_s: how long it
 * may take until what is left counts as failed. grace_ms: for DRAIN_THEN_DESTROY, as with destroy.
 */
int drain_start(struct daemon *d, enum drain_then then, uint32_t wait_s, uint32_t grace_ms,
		struct err *e);

/* New work is taken again; what was begun goes on to its end. */
void drain_undo(struct daemon *d);

void drain_close(struct daemon *d);

/* Whether new work is refused. */
bool drain_is_on(const struct daemon *d);

/* 0, or -1 with ERR_UNAVAILABLE: the host is being drained, or cloisterd stops. */
int drain_admit(const struct daemon *d, struct err *e);

/* Operations that are under way: what a drain and a stop wait for. */
uint32_t drain_in_flight(const struct daemon *d);

/* "nothing", "hibernate", "destroy"; the number of such a word, or -1. */
const char *drain_then_name(enum drain_then then);
int drain_then_from_name(const char *name);

/* What GET /v1/drain answers. NULL: no memory. */
cJSON *drain_view(const struct daemon *d);

#endif
