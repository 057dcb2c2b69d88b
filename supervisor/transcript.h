// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's console as clients read it: its last bytes at once, or followed as it grows. Live
 * ones are read from the shim piece by piece, ended ones from the record.
 */
#ifndef SUPERVISOR_TRANSCRIPT_H
#define SUPERVISOR_TRANSCRIPT_H

#include "sandbox.h"

/* data[length] ends at byte number end of all that the console ever printed; why NULL: good. */
typedef void transcript_tail_fn(void *arg, const char *data, size_t length, uint64_t end,
				const struct err *why);

/* Reads at most the last bytes of it. fn is called once, perhaps before this returns. */
void transcript_tail(struct sandbox *sb, uint32_t bytes, transcript_tail_fn *fn, void *arg);

struct transcript_follower {
	struct transcript_follower *next;
	struct sandbox *sb;
	uint64_t offset; /* of the first byte that it has not had */
	bool idle;	 /* has all there is, waits for more */
	/* A piece; then nothing comes before transcript_next(). */
	void (*data)(void *arg, const char *data, size_t length);
	/* Nothing will come any more, it is no longer known here. Frees it, perhaps. */
	void (*end)(void *arg);
	void *arg;
};

#define TRANSCRIPT_FOLLOWERS_MAX 16 /* of one sandbox */

/* Begins to follow from f->offset; ERR_QUOTA when too many do. transcript_next() asks for data. */
int transcript_follow(struct sandbox *sb, struct transcript_follower *f, struct err *e);
void transcript_next(struct transcript_follower *f);
void transcript_unfollow(struct transcript_follower *f);

/* The record's console is whole: followers get the rest of it from there. */
void transcript_over(struct sandbox *sb);

/* Whether anybody follows it. */
bool transcript_is_followed(const struct sandbox *sb);

/* The record goes: ends all followers. */
void transcript_end(struct sandbox *sb);

#endif
