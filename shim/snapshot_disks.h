// SPDX-License-Identifier: Apache-2.0
/* The disks' part of a SNAPSHOT: see snapshot.c. */
#ifndef SHIM_SNAPSHOT_DISKS_H
#define SHIM_SNAPSHOT_DISKS_H

#include "shim.h"

/* Whether a set can be made of a guest with these disks; ERR_STATE otherwise. */
int snapshot_disks_check(const struct shim *s, struct err *e);

/*
 * A template's copies of the writable disks, while the guest stands still; a hibernating sandbox
 * keeps its own. 1: more to do; 0: done; -1: failed.
 */
int snapshot_disks_step(struct shim *s, struct err *e);

/* For progress: bytes of disks to be copied, and how many are. */
uint64_t snapshot_disks_total(const struct shim *s);
uint64_t snapshot_disks_done(const struct shim *s);

/* Refuses a set that allocates more than SNAPSHOT allowed. */
int snapshot_disks_check_room(const struct shim *s, uint64_t more_bytes, struct err *e);

/* For sets_commit(): the files that the guest's memory goes with; none is to be closed. */
int snapshot_disks_commit(struct shim *s, struct err *e);

/* Closes what of it is open. */
void snapshot_disks_close(struct shim *s);

#endif
