// SPDX-License-Identifier: Apache-2.0
/*
 * One sandbox's record and its making. What its shim says is watcher.c's, operations on a running
 * one are operate.c's, its end is teardown.c's.
 */
#ifndef SUPERVISOR_SANDBOX_H
#define SUPERVISOR_SANDBOX_H

#include "link.h"
#include "spec.h"
#include "state.h"

#include <sys/queue.h>

struct daemon;
struct transcript;
struct sandbox;

/* How its shim fares. */
enum sandbox_shim {
	SANDBOX_SHIM_STARTING, /* the spawner has been asked */
	SANDBOX_SHIM_UP,       /* we hold its link */
	SANDBOX_SHIM_LEAVING,  /* the link is closed, or is about to be; GONE is awaited */
	SANDBOX_SHIM_GONE,     /* the spawner cleared up after it */
};

enum sandbox_op {
	SANDBOX_OP_NONE,
	SANDBOX_OP_CREATE,
	SANDBOX_OP_PAUSE,
	SANDBOX_OP_RESUME,
	SANDBOX_OP_POWER_BUTTON,
};

/* The end of what somebody asked for: why is NULL when it is done. sb may be about to go. */
typedef void sandbox_done_fn(void *arg, const struct sandbox *sb, const struct err *why);

struct sandbox_waiter {
	struct sandbox_waiter *next;
	sandbox_done_fn *fn;
	void *arg;
};

struct sandbox_timings {
	uint32_t spawn_us;
	struct msg_timings shim;
	uint32_t total_us;
};

/* The console as it was when the VMM ended: the last bytes it ever printed. */
struct sandbox_console {
	char *data;
	size_t length;
	uint64_t end; /* bytes it ever printed; data ends there */
	bool whole;   /* nothing more will come */
};

struct sandbox {
	struct sandbox *chain;
	TAILQ_ENTRY(sandbox) entry;
	struct daemon *d;
	char key[NAME_KEY_SIZE];
	char tenant[NAME_SIZE];
	const char *id; /* within key */
	enum state state;
	enum sandbox_shim shim;
	struct spec *spec;
	struct link *link;
	int64_t created_real_us;
	int64_t asked_us; /* monotonic, when the create request came */
	uint32_t vmm_pid;
	char vmm_version[MSG_BUILD_MAX];
	struct sandbox_timings timings;
	struct msg_exit *exit; /* NULL: the VMM has not ended */
	struct sandbox_console last;
	struct transcript *transcript; /* followers of a live one; NULL: none */

	enum sandbox_op op; /* in flight, and who waits for it */
	struct sandbox_waiter op_waiter;
	struct sandbox_waiter *end_waiters;

	struct err *fail; /* why the create or the resume failed */
	struct event *timer;
	char *leftover; /* what clear-up left, NULL: nothing */
	bool adopted;
	bool keep_failed; /* wait=none: a failed create stays as a record */
	bool acked;	  /* EXIT_ACK is sent */
	bool ending;	  /* an END request is under way */
};

/*
 * Makes a sandbox: takes spec over (also on failure); its id must be set. fn is called when the
 * guest runs or the create failed and nothing of it is left. NULL with ERR_STATE (name taken) or
 * others when it did not even begin: then fn is not called.
 */
struct sandbox *sandbox_create(struct daemon *d, const char *tenant, struct spec *spec,
			       bool keep_failed, sandbox_done_fn *fn, void *arg, struct err *e);

/* A record without a shim yet; spec is taken over, also on failure. */
struct sandbox *sandbox_new(struct daemon *d, const char *tenant, const char *id, struct spec *spec,
			    struct err *e);

/* Takes it out of the registry and frees it. */
void sandbox_free(struct sandbox *sb);

/*
 * Applies one row of the state table and emits the event, with reason and the members of more
 * (taken over; may be NULL). False, and logged, when the table has no such row.
 */
bool sandbox_step(struct sandbox *sb, enum state_event event, const char *reason, cJSON *more);

/* Answers whoever waits for the operation in flight; there is none afterwards. */
void sandbox_op_done(struct sandbox *sb, const struct err *why);

/* Keeps why the create or resume failed, the first reason only. */
void sandbox_set_fail(struct sandbox *sb, const struct err *why);

#endif
