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
 * Begins; done() is called when every shim found is adopted, reported or ended, after 2 s at the
 * latest but for those that are ended (perhaps before this returns).
 */
int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *e);

/*
 * Afterwards: makes records for what the spawner listed of sandboxes (and empties those lists): the
 * hibernated ones, and as crashed those of which only disks are left. Where there is a shim of the
 * same key, the shim wins.
 */
void adopt_sleeping(struct daemon *d);

#endif
