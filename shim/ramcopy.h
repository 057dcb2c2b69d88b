// SPDX-License-Identifier: Apache-2.0
/*
 * Copies a guest's memory from file to file, a piece at a time: holes are passed over (SEEK_DATA,
 * lseek(2)) and pages that hold only zeros are not stored, so the copy takes what the guest's data
 * takes. The source may be written by nobody meanwhile (the guest is paused, or it is a set's).
 */
#ifndef SHIM_RAMCOPY_H
#define SHIM_RAMCOPY_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

struct ramcopy {
	int from, to; /* the caller's; to is empty */
	uint64_t size, at;
	uint64_t stored; /* bytes written */
	bool too_short;	 /* why it failed: the source ends before size */
};

/* Starts a copy of size bytes; makes `to` that long. */
int ramcopy_start(struct ramcopy *c, int from, int to, uint64_t size, struct err *e);

/* Copies at most about 8 MiB. 1: more to do; 0: done; -1: failed. */
int ramcopy_step(struct ramcopy *c, struct err *e);

/* The whole of it, or -1 with ERR_DEADLINE at deadline_us (clock_us()). */
int ramcopy_run(struct ramcopy *c, int64_t deadline_us, struct err *e);

#endif
