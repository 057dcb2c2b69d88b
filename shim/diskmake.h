// SPDX-License-Identifier: Apache-2.0
/*
 * Makes a disk file out of another file, in one of the ways of the table in diskmake.c: the first
 * that can. A way that cannot (another file system, no such feature) gives room to the next; a
 * failing disk is an error.
 */
#ifndef SHIM_DISKMAKE_H
#define SHIM_DISKMAKE_H

#include "err.h"
#include "msg.h"

#include <stdint.h>

struct diskmake {
	int from, to;		 /* the caller's; to is empty */
	uint64_t bytes;		 /* of from: all of them are taken */
	uint64_t at;		 /* how far it is */
	uint64_t copied;	 /* bytes of data that were written; 0 where blocks are shared */
	uint64_t size;		 /* of the finished disk, at least bytes: the rest is a hole */
	unsigned way;		 /* index in the table */
	bool plain;		 /* copy_file_range(2) is not possible between the two */
	enum msg_disk_made made; /* what was used, once diskmake_start() is through */
};

/*
 * Starts; from is readable and at least bytes long, size is what the disk is to have. 1: more to
 * do by diskmake_step(); 0: done already; -1: failed, ERR_NO_SPACE where there is no room.
 */
int diskmake_start(struct diskmake *m, int from, int to, uint64_t bytes, uint64_t size,
		   struct err *e);

/* Goes on by at most about 8 MiB of data. 1: more to do; 0: done; -1: failed. */
int diskmake_step(struct diskmake *m, struct err *e);

/* "reflink", "copy" and so on: the words of the API; NULL for MSG_DISK_ASKED. */
const char *diskmake_name(enum msg_disk_made made);

#endif
