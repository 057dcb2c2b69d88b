// SPDX-License-Identifier: Apache-2.0
/* Shims that an earlier spawner started and that live on. */
#ifndef SHIM_SPAWNER_FIND_H
#define SHIM_SPAWNER_FIND_H

#include "leash.h"

/*
 * Looks through RUN_DIR/shims: a socket on which a process of root listens is a shim, known from
 * then on by its pidfd. Others are left to the supervisor. Gives the number found.
 */
int spawner_find_shims(struct leash_table *t, uint32_t *found, struct err *e);

/*
 * Sends a TEMPLATE record for each template and each hibernated sandbox's set on disk, and removes
 * what snapshots that never ended have left. A set that cannot be read is told in the log and left.
 */
int spawner_find_sets(struct leash_table *t, struct err *e);

/*
 * Clears up after shims that ended while there was no spawner: their cgroup, if nobody is in it,
 * and sockets that were never moved into place. After spawner_find_shims(); what fails is logged.
 */
void spawner_find_leftovers(struct leash_table *t);

#endif
