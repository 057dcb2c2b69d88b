// SPDX-License-Identifier: Apache-2.0
/*
 * Pause, resume, power button, balloon, resize, counters and console input: one operation at a time
 * per sandbox. What writes a set is in snapshot.c.
 */
#ifndef SUPERVISOR_OPERATE_H
#define SUPERVISOR_OPERATE_H

#include "sandbox.h"

/*
 * Begins it; fn is called once, when it is done or failed. -1 with ERR_STATE (the message says
 * which states would do) or others when it did not begin: fn is not called.
 */
int operate_pause(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e);
int operate_resume(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e);
int operate_power_button(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e);

/*
 * How much memory the balloon is to hold. The values of both are checked by the caller: at most
 * what MSG_BALLOON_LEAVES_MIB allows; within the maxima, and 0 for what is not to change (not
 * both). vCPUs come first: when they have changed and the memory then fails, the record says so.
 */
int operate_balloon(struct sandbox *sb, uint32_t target_mib, sandbox_done_fn *fn, void *arg,
		    struct err *e);
int operate_resize(struct sandbox *sb, uint32_t vcpus, uint32_t memory_mib, sandbox_done_fn *fn,
		   void *arg, struct err *e);

/* On success fn finds them in sb->counters. */
int operate_counters(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e);

/* Has an adopted shim answer here to what an earlier supervisor asked it: to all but starts and
 * sets. */
void operate_take(struct sandbox *sb, const struct msg_status *s);

/* Whether op may begin now: the state allows it, and no other one is under way. */
int operate_may_begin(struct sandbox *sb, enum state_event event, enum sandbox_op op,
		      struct err *e);

/* It has begun: fn waits for its end. */
void operate_begun(struct sandbox *sb, enum sandbox_op op, sandbox_done_fn *fn, void *arg);

/* Whether the event is allowed now; -1 with ERR_STATE otherwise. what names the request. */
int operate_check(const struct sandbox *sb, enum state_event event, const char *what,
		  struct err *e);

#endif
