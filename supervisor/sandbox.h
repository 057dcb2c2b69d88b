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
#include "store.h"

#include <sys/queue.h>

struct daemon;
struct transcript;
struct account;
struct sandbox;
struct template;

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
	SANDBOX_OP_SNAPSHOT,
	SANDBOX_OP_HIBERNATE,
	SANDBOX_OP_WAKE,
	SANDBOX_OP_RESTART,
	SANDBOX_OP_BALLOON,
	SANDBOX_OP_RESIZE,
	SANDBOX_OP_COUNTERS,
};

/* The end of what somebody asked for: why is NULL when it is done. sb may be about to go. */
typedef void sandbox_done_fn(void *arg, const struct sandbox *sb, const struct err *why);

struct sandbox_waiter {
	struct sandbox_waiter *next;
	sandbox_done_fn *fn;
	void *arg;
};

/* Of the last operation: a start, or the writing of a set. */
struct sandbox_timings {
	bool of_set;
	uint32_t spawn_us;
	struct msg_timings shim;
	uint32_t pause_us, vmm_us, disks_us, copy_us, sync_us;
	uint32_t total_us;
};

/* The console as it was when the VMM ended: the last bytes it ever printed. */
struct sandbox_console {
	char *data;
	size_t length;
	uint64_t end; /* bytes it ever printed; data ends there */
	bool whole;   /* nothing more will come */
};

/* What its restart policy has come to; see restart.h. */
struct sandbox_restart {
	struct event *timer;
	bool due;	       /* it is to be started again */
	bool waiting;	       /* its time has come, but as many others as may are being started */
	bool starting;	       /* that is under way: what lies on disk is of the guest before it */
	uint32_t count;	       /* restarts begun */
	uint32_t streak;       /* of these, since it last ran well */
	uint32_t delay_ms;     /* what the last one waited, or the next one waits */
	int64_t next_real_us;  /* of the one that is due; CLOCK_REALTIME */
	int64_t running_us;    /* since when its guest runs, CLOCK_MONOTONIC; 0: it does not */
	struct msg_exit *last; /* how the VMM before the present one ended */
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
	int64_t asked_us;  /* monotonic, when the create request came */
	int64_t answer_us; /* monotonic, when the shim is late with its answer */
	uint32_t vmm_pid;
	char vmm_version[MSG_BUILD_MAX];
	struct sandbox_timings timings;
	struct msg_exit *exit; /* NULL: the VMM has not ended */
	struct sandbox_console last;
	struct account *account;       /* who waits for its shim's; what is kept of an ended one */
	struct transcript *transcript; /* followers of a live one; NULL: none */

	/* What it has on disk, and sets: see snapshot.h. */
	bool has_dir;	     /* disks or a set of its own may lie there: they go with the record */
	bool removing;	     /* the spawner has been asked to remove them */
	uint64_t set_bytes;  /* what its own set takes, for the quotas */
	int64_t set_real_us; /* when that was made; 0: not known */
	uint64_t granted_bytes;	 /* what the one in the making may take */
	struct template *from;	 /* read by the create in flight */
	struct template *making; /* its name is reserved for the snapshot in flight */
	enum state back;	 /* what it was before that snapshot or hibernate */
	bool set_safe;		 /* hibernating: the new one is on disk, only the end is left */
	uint32_t set_content;	 /* enum msg_set_content of it; 0: not known */
	struct msg_progress progress; /* total_bytes 0: none */
	int64_t progress_told_us;
	struct event *op_timer;

	/* What a balloon or resize in flight asks for: 0: nothing, but for the balloon. */
	struct {
		uint32_t balloon_mib, vcpus, memory_mib;
	} asked;
	const struct msg_counters_data *counters; /* while who asked for them is told */

	struct sandbox_restart restart;

	enum sandbox_op op; /* in flight, and who waits for it */
	struct sandbox_waiter op_waiter;
	struct sandbox_waiter *end_waiters;

	/* See store.h and store_load.h. */
	struct store_mark stored;
	int64_t destroy_by_real_us; /* a destroy was asked for, its grace ends then; 0: none */
	bool recording;		    /* the record that its end, or its hibernation, waits for */
	bool collected;		    /* its console is read out: only the record is waited for */

	struct err *fail; /* why the create, the wake or the resume failed */
	struct event *timer;
	char *leftover; /* what clear-up left, NULL: nothing */
	bool adopted;
	bool addressed;	  /* its slot and its ports of the host are held in the pool */
	bool keep_failed; /* wait=none: a failed create stays as a record */
	bool acked;	  /* EXIT_ACK is sent */
	bool ending;	  /* an END request is under way */
	bool dir_left;	  /* leftover is about its directory or record: nobody runs any more */
	bool intending;	  /* that it is to be destroyed is being recorded */
	bool ack_due;	  /* and its shim is let go when that is done */
	bool unrecording; /* its record is being removed */
	bool unrecorded;  /* it has none any more */
	bool spent;	  /* its wake failed when its set was taken up already */
	bool shim_lost;	  /* spent: by a shim that was killed */
};

/*
 * Makes a sandbox: takes spec over (also on failure); its id must be set. fn is called when the
 * guest runs or the create failed and nothing of it is left. NULL with ERR_STATE (name taken) or
 * others when it did not even begin: then fn is not called.
 */
struct sandbox *sandbox_create(struct daemon *d, const char *tenant, struct spec *spec,
			       bool keep_failed, sandbox_done_fn *fn, void *arg, struct err *e);

/*
 * Wakes a hibernated one: fn is called when the guest runs, or when the wake failed and it is
 * hibernated again. NONE lets its memory be copied. -1: it did not begin, fn is not called.
 */
int sandbox_wake(struct sandbox *sb, enum msg_restore how, sandbox_done_fn *fn, void *arg,
		 struct err *e);

/* It runs: its record gets its name, and then its create is answered, if one is in flight. */
void sandbox_commit(struct sandbox *sb);

/*
 * Of an adopted one in CREATING or WAKING: its shim's answer to the request of an earlier
 * supervisor is wanted here. A failed create stays as a record where it was to, or where nobody
 * knows.
 */
void sandbox_take(struct sandbox *sb, const struct msg_status *s);

/*
 * Has a shim start the guest of one that a restart policy brought to CREATING; what comes of it
 * goes to restart.h. -1: it did not begin.
 */
int sandbox_start_again(struct sandbox *sb, struct err *e);

/*
 * Holds the slot and the ports of the host of one that an earlier supervisor left; where they are
 * another's or not to be had any more, it is not addressed and cannot be woken.
 */
void sandbox_keep_address(struct sandbox *sb);

/* Whether it has what it is to be started with; ERR_STATE otherwise. what names the request. */
int sandbox_check_address(const struct sandbox *sb, const char *what, struct err *e);

/* True between the request to start a guest and its answer: CREATING and WAKING. */
bool sandbox_is_starting(const struct sandbox *sb);

/* How far it was is of no interest any more. */
void sandbox_clear_progress(struct sandbox *sb);

/* The create does not read its template any more. */
void sandbox_release_template(struct sandbox *sb);

/* Forgets the VMM that it had, and unless told to keep it, what its console printed. */
void sandbox_reset(struct sandbox *sb, bool keep_console);

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
