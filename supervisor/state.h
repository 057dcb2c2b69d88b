// SPDX-License-Identifier: Apache-2.0
/*
 * The states of a sandbox and the one table that says which event is allowed in which state, what
 * is to be done then, and which state comes next. Pure: it does nothing itself.
 */
#ifndef SUPERVISOR_STATE_H
#define SUPERVISOR_STATE_H

#include <stdbool.h>
#include <stddef.h>

enum state {
	STATE_CREATING,
	STATE_RUNNING,
	STATE_PAUSED,
	STATE_SNAPSHOTTING,
	STATE_HIBERNATING,
	STATE_HIBERNATED,
	STATE_WAKING,
	STATE_DESTROYING,
	STATE_STOPPED, /* the guest powered off, or somebody else ended the VMM on purpose */
	STATE_CRASHED,
	STATE_FAILED,
	STATE_NONE, /* no record: before the first state, and after the last */
	STATE_COUNT
};

enum state_event {
	/* requests of clients */
	STATE_ASK_CREATE,
	STATE_ASK_PAUSE,
	STATE_ASK_RESUME,
	STATE_ASK_POWER_BUTTON,
	STATE_ASK_CONSOLE_INPUT,
	STATE_ASK_BALLOON,
	STATE_ASK_RESIZE,
	STATE_ASK_COUNTERS,
	STATE_ASK_CONNECT,
	STATE_ASK_SNAPSHOT,
	STATE_ASK_HIBERNATE,
	STATE_ASK_WAKE,
	STATE_ASK_DESTROY,
	STATE_ASK_RESTART, /* its own restart policy does */
	/* what came of them */
	STATE_CREATED,
	STATE_CREATE_FAILED,
	STATE_PAUSED_NOW,
	STATE_RESUMED,
	STATE_BACK_RUNNING, /* a snapshot or hibernate ended with the guest as it was before */
	STATE_BACK_PAUSED,
	STATE_HIBERNATED_NOW, /* its set is safe and nothing of VMM and shim is left */
	STATE_WOKEN,
	STATE_WAKE_FAILED,
	STATE_RESTART_FAILED,
	STATE_WAKE_LOST, /* too late to go back to sleep: its set was taken up */
	STATE_DESTROYED,
	STATE_DESTROY_FAILED,
	/* what nobody asked for */
	STATE_ADOPT_CREATING,
	STATE_ADOPT_RUNNING,
	STATE_ADOPT_PAUSED,
	STATE_ADOPT_SNAPSHOTTING,
	STATE_ADOPT_HIBERNATING,
	STATE_ADOPT_WAKING,
	STATE_ADOPT_HIBERNATED,
	STATE_ADOPT_CRASHED, /* its VMM ended while no supervisor was there */
	STATE_ADOPT_STOPPED, /* as an earlier supervisor recorded it */
	STATE_ADOPT_FAILED,
	STATE_ADOPT_DESTROYING, /* being destroyed, or to be: asked for earlier, or never made */
	STATE_SET_SAFE, /* the VMM was ended on purpose: hibernated, as an earlier supervisor asked
			 */
	STATE_GUEST_OFF,
	STATE_VMM_LOST,	   /* died, or the shim did */
	STATE_RESUME_LOST, /* ended after a failed resume */
	STATE_EVENT_COUNT
};

enum state_action {
	STATE_DO_NOTHING,
	STATE_DO_START,	       /* have the spawner start a shim */
	STATE_DO_PAUSE,	       /* ask the shim */
	STATE_DO_RESUME,       /* ask the shim */
	STATE_DO_POWER_BUTTON, /* ask the shim */
	STATE_DO_INPUT,	       /* ask the shim */
	STATE_DO_DEVICES,      /* ask the shim */
	STATE_DO_CONNECT,      /* ask the shim */
	STATE_DO_SNAPSHOT,     /* ask the shim */
	STATE_DO_END,	       /* end VMM and shim, clear up */
	STATE_DO_FORGET,       /* drop the record */
	STATE_DO_COLLECT,      /* read out the console, let the shim go */
};

struct state_step {
	enum state_action action;
	enum state next;
};

/* False when the event is not allowed in that state; *out is then untouched. */
bool state_step(enum state now, enum state_event event, struct state_step *out);

/* The word of the API ("running"); STATE_NONE is "none". Never NULL. */
const char *state_name(enum state s);

/* The state with that name, or -1 (also for "none"). */
int state_from_name(const char *name);

/* Writes "running or paused": the states that allow the event. buf is never left empty. */
void state_allowed_text(enum state_event event, char *buf, size_t size);

/* True while a VMM exists or is in the making. */
bool state_has_vmm(enum state s);

#endif
