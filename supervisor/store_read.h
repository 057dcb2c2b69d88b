// SPDX-License-Identifier: Apache-2.0
/* The files of STATE_DIR/store: found, read, checked, and put aside where they are no records. */
#ifndef SUPERVISOR_STORE_READ_H
#define SUPERVISOR_STORE_READ_H

#include "store_record.h"

struct daemon;

struct store_found {
	char key[NAME_KEY_SIZE];
	bool creating; /* it lies under KEY.creating */
	bool readable; /* else it is a later version's, or was out of reach, and is left there */
	bool used;     /* a sandbox has it */
	uint64_t hash; /* of its bytes */
	struct store_record record;
};

/*
 * Gives all records, in the order of their keys, to be freed with their specs. Removes what an
 * earlier process had not finished writing. -1: the directory cannot be listed, or no memory.
 */
int store_read_all(struct daemon *d, int dir, struct store_found **list, size_t *count,
		   struct err *e);

/* The event "reported" of a key, and a line in the log. */
void store_read_report(struct daemon *d, const char *key, const char *why);

#endif
