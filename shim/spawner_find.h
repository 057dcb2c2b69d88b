// SPDX-License-Identifier: Apache-2.0
/* Shims that an earlier spawner started and that live on. */
#ifndef SHIM_SPAWNER_FIND_H
#define SHIM_SPAWNER_FIND_H

#include "leash.h"

#include <dirent.h>

/* The key that a file in RUN_DIR/shims is called after; false where it is no shim's. */
bool spawner_find_key(const char *file, char key[NAME_KEY_SIZE]);

/* Whether it is a socket on which nobody listens any more. */
bool spawner_find_is_stale(const struct leash_table *t, const char *file);

/* Opens a directory of ours for reading through it; the caller closes it with closedir(3). */
DIR *spawner_find_list(int dir_fd, const char *what, struct err *e);

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
