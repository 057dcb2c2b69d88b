// SPDX-License-Identifier: Apache-2.0
/*
 * One record of the store, as bytes: what is known of one sandbox. A first line
 *
 *	cloister-store 1 SHA256 LENGTH
 *
 * and LENGTH bytes of JSON behind it. The digest and the length are outside the JSON, so that
 * damage is seen before a parser sees anything; the version is, so that it can be told from damage
 * whatever a later version may put behind it. Against a supervisor that was taken over nothing
 * helps here: the store is its own. Root code never reads it.
 */
#ifndef SUPERVISOR_STORE_RECORD_H
#define SUPERVISOR_STORE_RECORD_H

#include "msg.h"
#include "spec.h"
#include "state.h"

#define STORE_RECORD_VERSION 1
#define STORE_RECORD_MAX     (64 * 1024) /* bytes of a whole record */
#define STORE_RECORD_BOOT    40		 /* a boot id and its end: 36 characters, random(4) */

struct store_record {
	char key[NAME_KEY_SIZE];
	enum state state; /* the last that was known */
	int64_t created_real_us;
	char boot[STORE_RECORD_BOOT]; /* the host's boot in which it was written */
	bool keep_failed;	      /* a failed create stays as a record */
	int64_t destroy_by_real_us;   /* a destroy was asked for, its grace ends then; 0: none */
	uint32_t set_content;	      /* of the set that it hibernated into last; 0: none known */
	uint64_t set_bytes;
	int64_t set_real_us; /* when that was made; 0: none known */
	bool has_exit;
	struct msg_exit exit;
	struct spec *spec;
};

/*
 * Gives the bytes, to be freed, and how many; the record stays as it is. NULL: no memory, or (which
 * no spec that was admitted comes to) it is longer than STORE_RECORD_MAX.
 */
char *store_record_encode(const struct store_record *r, size_t *length, struct err *e);

/*
 * Reads them; key is what its file is called after. -1: ERR_VERSION (a later version's: it may be
 * as good as any), ERR_INVALID (damaged), ERR_NO_SPACE. Otherwise spec is the caller's:
 * spec_free().
 */
int store_record_decode(const char *bytes, size_t length, const char *key, struct store_record *out,
			struct err *e);

/* Tells contents apart, no more (FNV-1a); never 0. */
uint64_t store_record_hash(const char *bytes, size_t length);

#endif
