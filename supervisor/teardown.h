// SPDX-License-Identifier: Apache-2.0
/* The end of a sandbox: destroy in every state, and the wait until nothing of it is left. */
#ifndef SUPERVISOR_TEARDOWN_H
#define SUPERVISOR_TEARDOWN_H

#include "sandbox.h"

/*
 * Destroys it and drops its record; fn is called when nothing is left of it, or with ERR_INTERNAL
 * and what is left. Joins a destroy that is under way. -1: did not begin, fn is not called.
 */
int teardown_destroy(struct sandbox *sb, uint32_t grace_ms, sandbox_done_fn *fn, void *arg,
		     struct err *e);

/* One that was found with nothing of it running, and is to be destroyed: goes on with that. */
void teardown_go_on(struct sandbox *sb);

/* The shim should go by itself within ms; if it does not, the spawner ends it (0: at once). */
void teardown_await(struct sandbox *sb, uint32_t ms);

/* The shim's EXIT has been kept: tells it that it may go, and awaits that. */
void teardown_ack(struct sandbox *sb);

/* The spawner says that the shim ended. May free the sandbox. */
void teardown_gone(struct sandbox *sb, const struct msg_gone *gone);

/* The supervisor stops: whoever waits for the sandbox is told so, and its record is freed. */
void teardown_forget(struct sandbox *sb);

#endif
