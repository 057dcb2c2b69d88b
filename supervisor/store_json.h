// SPDX-License-Identifier: Apache-2.0
/*
 * Members of the store's records, written and read one by one. Writing remembers whether memory ran
 * out; reading remembers the first member that is wrong, and whether one is left that nobody took.
 */
#ifndef SUPERVISOR_STORE_JSON_H
#define SUPERVISOR_STORE_JSON_H

#include "err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers are doubles once cJSON has read them: above this not each is one. */
#define STORE_JSON_MAX (1ll << 53)

/* What is written: o stays the caller's. */
struct store_json_out {
	cJSON *o;
	bool ok; /* false: no memory, the object is of no use */
};

void store_json_put_text(struct store_json_out *out, const char *name, const char *text);
void store_json_put_bool(struct store_json_out *out, const char *name, bool value);
/* 0 to STORE_JSON_MAX, in digits: cJSON would write large ones with an exponent. */
void store_json_put_number(struct store_json_out *out, const char *name, int64_t value);
/* An object or array of its own below name (NULL: in an array). */
struct store_json_out store_json_put_object(struct store_json_out *out, const char *name);
struct store_json_out store_json_put_array(struct store_json_out *out, const char *name);
/* What was put below is part of the whole: with it, its failure. */
void store_json_close(struct store_json_out *out, const struct store_json_out *below);

/* What is read. Every take gives "nothing" (0, false, empty) after the first failure. */
struct store_json_in {
	const cJSON *o;
	const char *at; /* for messages: "spec" */
	int taken;
	bool failed;
	struct err *e; /* filled with the first failure */
};

struct store_json_in store_json_open(const cJSON *o, const char *at, struct err *e);
/* The member, or NULL where there is none. */
const cJSON *store_json_take(struct store_json_in *in, const char *name);
int64_t store_json_number(struct store_json_in *in, const char *name, int64_t min, int64_t max);
uint32_t store_json_u32(struct store_json_in *in, const char *name, uint32_t max);
bool store_json_bool(struct store_json_in *in, const char *name);
/* A string that fits; optional: an absent one is empty. */
void store_json_text(struct store_json_in *in, const char *name, char *buf, size_t size,
		     bool optional);
/* The place of a word in word(0), word(1), ... word(count - 1), of which some may be NULL. */
uint32_t store_json_word(struct store_json_in *in, const char *name, const char *(*word)(unsigned),
			 unsigned count);
/* The member is wrong. Always returns -1. */
int store_json_fail(struct store_json_in *in, const char *name);
/*
 * Everything that there is was taken, and nothing was wrong; else -1: ERR_INVALID, or ERR_VERSION
 * for a member that is not known here, which a later version must have put there.
 */
int store_json_end(struct store_json_in *in);

#endif
