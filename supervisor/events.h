// SPDX-License-Identifier: Apache-2.0
/*
 * The stream of events: numbered from 1, the newest kept in a ring, read by any number of readers
 * at their own pace. A reader that falls behind the ring is told so by a gap line; nothing is
 * ever queued for it beyond what its connection holds.
 */
#ifndef SUPERVISOR_EVENTS_H
#define SUPERVISOR_EVENTS_H

#include "err.h"
#include "name.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct events_listener {
	struct events_listener *next;
	void (*fn)(void *arg); /* something new is there; must not free other listeners */
	void *arg;
};

struct events {
	struct events_item **ring;
	uint32_t size;
	uint64_t last; /* number of the newest, 0 before the first */
	struct events_listener *listeners;
};

struct events_reader {
	uint64_t next;	    /* number of the event to read next */
	const char *tenant; /* only its events; NULL: all */
	uint64_t missed;    /* first one that it could not get, 0: none */
	char gap[160];
};

/* Keeps the newest size events. */
int events_open(struct events *ev, uint32_t size, struct err *e);
void events_close(struct events *ev);

/*
 * Adds one: seq, time, sandbox, tenant, event, then the members of more (taken over; may be NULL).
 * With no memory for it the number is used up and readers see a gap.
 */
void events_emit(struct events *ev, const char *sandbox, const char *tenant, const char *event,
		 cJSON *more);

/* Where a reader starts: after the newest, or after event number since. */
void events_reader_new(const struct events *ev, struct events_reader *r, const char *tenant);
void events_reader_since(const struct events *ev, struct events_reader *r, const char *tenant,
			 uint64_t since);

/* The next line for it (with its newline; valid until the next call), or NULL: nothing now. */
const char *events_read(const struct events *ev, struct events_reader *r);

void events_listen(struct events *ev, struct events_listener *l);
void events_unlisten(struct events *ev, struct events_listener *l);

#endif
