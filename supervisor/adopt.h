// SPDX-License-Identifier: Apache-2.0
/*
 * Shims left by an earlier supervisor: found by their sockets in RUN_DIR/shims, asked who they
 * are, and taken over with their VMs running.
 */
#ifndef SUPERVISOR_ADOPT_H
#define SUPERVISOR_ADOPT_H

#include "err.h"

struct daemon;

/*
 * Begins; done() is called when every shim found is adopted, reported or being ended, at the
 * latest after 2 s (perhaps before this returns).
 */
int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *e);

/*
 * Afterwards: makes records for the hibernated sandboxes whose sets the spawner listed (and empties
 * that list). Where there is a shim of the same key, the shim wins.
 */
void adopt_sleeping(struct daemon *d);

#endif
