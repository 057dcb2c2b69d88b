// SPDX-License-Identifier: Apache-2.0
/*
 * What the store's thread does with a directory: files written aside, synced, and renamed. These
 * functions use nothing but their arguments, log nothing and allocate nothing.
 */
#ifndef SUPERVISOR_STORE_WRITE_H
#define SUPERVISOR_STORE_WRITE_H

#include "err.h"
#include "name.h"
#include "store.h"

#include <sys/queue.h>

#define STORE_NAME_MAX (NAME_KEY_SIZE + 16) /* of a file: KEY.creating and an end */

enum store_work { STORE_WORK_PUT, STORE_WORK_COMMIT, STORE_WORK_REMOVE };

/* How much of a change must be on disk before it counts as done. */
enum store_care {
	STORE_CARE_NONE, /* the kernel knows it */
	/*
	 * The file is, so that a power failure leaves the old one or the new one, and no empty one
	 * in place of a good one; when the name changes is left to the kernel.
	 */
	STORE_CARE_FILE,
	STORE_CARE_ALL, /* file and directory */
};

struct store_job {
	STAILQ_ENTRY(store_job) queue;
	enum store_work work;
	enum store_care care;
	bool creating; /* PUT: under KEY.creating */
	bool first;    /* PUT: KEY.creating may lie there, and goes */
	char key[NAME_KEY_SIZE];
	uint64_t number; /* of its own: the name of what is written aside */
	char *bytes;	 /* PUT */
	int fd;		 /* the writer's, while it writes; otherwise -1 */
	size_t length;

	int rc; /* afterwards: 0, or -1 and why in err */
	struct err err;

	/* The loop's alone: who is told. */
	LIST_ENTRY(store_job) all;
	struct sandbox *sb;
	store_done_fn *fn;
	int64_t late_us; /* when who waits is told that it takes too long */
};

STAILQ_HEAD(store_jobs, store_job);

/* Does them in their order, and syncs the directory once for all that want it. */
void store_write_jobs(int dir, struct store_jobs *jobs);

/* "KEY.json" or "KEY.creating". */
void store_write_name(const char *key, bool creating, char name[STORE_NAME_MAX]);

#endif
