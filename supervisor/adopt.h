// SPDX-License-Identifier: Apache-2.0
/*
 * Shims left by an earlier supervisor: found by their sockets in RUN_DIR/shims, asked who they
 * are, and taken over with their VMs running.
 */
#ifndef SUPERVISOR_ADOPT_H
#define SUPERVISOR_ADOPT_H

#include "link.h"

struct daemon;

/*
 * Begins; done() is called when every shim found is adopted or reported, after 2 s at the latest
 * (perhaps before this returns). One that has not answered by then is adopted when it does.
 */
int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *e);

/* The spawner says that this shim is gone: nothing is waited for any more, and its name is free. */
void adopt_gone(struct daemon *d, const char *key);

/* Forgets shims that have not answered. done() is not called any more. */
void adopt_close(struct daemon *d);

/*
 * Makes a record of what a shim says, and goes on with what it is in the middle of. The link
 * becomes the record's; on failure it stays the caller's.
 */
int adopt_shim(struct daemon *d, const char *key, struct link *link, const struct msg_status *s,
	       struct err *e);

/*
 * Afterwards: makes records for what the spawner listed of sandboxes (and empties those lists): the
 * hibernated ones, and as crashed those of which only disks are left. Where there is a shim of the
 * same key, the shim wins.
 */
void adopt_sleeping(struct daemon *d);

#endif
