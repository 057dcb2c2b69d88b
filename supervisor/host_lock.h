// SPDX-License-Identifier: Apache-2.0
/*
 * The locks that refuse a second daemon on the same directories, uids or cgroup: flock(2) on files
 * in the directories, open file description locks (fcntl(2)) on ranges of two host-wide files.
 * They live as long as any copy of the descriptor: the spawner holds copies.
 */
#ifndef SUPERVISOR_HOST_LOCK_H
#define SUPERVISOR_HOST_LOCK_H

#include "host.h"

int host_lock_dirs(struct host *h, const struct policy *p, struct err *e);

/* cgroup: descriptor of the cgroup's directory, or -1 for none. */
int host_lock_ranges(struct host *h, const struct policy *p, int cgroup, struct err *e);

#endif
