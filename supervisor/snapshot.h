// SPDX-License-Identifier: Apache-2.0
/*
 * What writes a sandbox's set to disk: snapshot into a template, and hibernate. The shim does it;
 * here is who waits, what the records make of it, and how an earlier supervisor's is taken over.
 */
#ifndef SUPERVISOR_SNAPSHOT_H
#define SUPERVISOR_SNAPSHOT_H

#include "sandbox.h"

/*
 * Begins; fn is called once, with a snapshot when the template is whole (then sb->making is it),
 * with a hibernate when nothing of the VMM is left, or with why not: the guest then goes on as
 * before, unless its VMM ended. A shim that takes longer than it may gets the waiter an
 * ERR_DEADLINE, but goes on. -1: it did not begin, fn is not called.
 */
int snapshot_template(struct sandbox *sb, const char *name, sandbox_done_fn *fn, void *arg,
		      struct err *e);
int snapshot_hibernate(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e);

/* Has the shim of an adopted one, SNAPSHOTTING or HIBERNATING, tell here what comes of its set. */
void snapshot_take(struct sandbox *sb, const struct msg_status *s);

/* The shim says how far it is, also with a start: kept in the record, and told as an event twice a
 * second at most. */
void snapshot_progress(struct sandbox *sb, const struct msg_progress *said);

/* The VMM has ended as a part of hibernating: no end at all. sb->exit is set. */
void snapshot_vmm_ended(struct sandbox *sb);

/* Nothing of shim and VMM is left: it is hibernated. */
void snapshot_hibernated(struct sandbox *sb);

/* The shim is gone. A template that it may or may not have finished is cleared away. */
void snapshot_shim_gone(struct sandbox *sb);

#endif
