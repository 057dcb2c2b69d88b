// SPDX-License-Identifier: Apache-2.0
/*
 * STATE_DIR/store: one file for each sandbox with what is known of it, so that it outlives this
 * process (store_record.h says how it looks, store_load.h reads it at start).
 *
 * One thread writes them, and does nothing else; the loop never waits for a disk. What must be on
 * disk before an answer is waited for by that answer: each call that takes a function calls it
 * later, on the loop, once, unless the sandbox is freed before.
 *
 * A record lies under KEY.creating until the sandbox was made, and under KEY.json from then on. As
 * that is a change of name alone it cannot harm what is on disk already, and what a client was told
 * and what was not can be told apart whenever this process may end.
 */
#ifndef SUPERVISOR_STORE_H
#define SUPERVISOR_STORE_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct daemon;
struct sandbox;
struct store;

/* What the store notes of a sandbox, in its record: none of anybody else's business. */
struct store_mark {
	bool dirty;	    /* what is on disk is not the latest */
	bool removed;	    /* its record is being removed: nothing is written any more */
	bool untouched;	    /* its record is a later version's: it is left as it is */
	bool creating;	    /* its record lies under KEY.creating, or none does yet */
	unsigned jobs;	    /* with the writer */
	uint64_t last_hash; /* of what the writer was given last; 0: nothing, or it failed */
};

/* Why is NULL when it is done, else what failed: ERR_NO_SPACE, ERR_INTERNAL. */
typedef void store_done_fn(struct sandbox *sb, const struct err *why);

/* Starts the writer on a directory (dir stays the caller's, and open). For d->base's loop. */
struct store *store_open(struct daemon *d, int dir, struct err *e);

/*
 * Has all that is not on disk yet written, for at most ms; false, and logged, when that was not
 * enough. No function is called by it. For the end of the process, when the loop has ended.
 */
bool store_flush(struct store *s, uint32_t ms);

/* Ends the writer; one that hangs in a disk is left to the end of the process. */
void store_close(struct store *s);

/*
 * Something of it changed: its record is written within a tenth of a second, once for all that
 * changed until then, and again every second while that fails. Nobody waits, so this is for what a
 * shim could tell as well.
 */
void store_note(struct sandbox *sb);

/* The same at once, and without having the disk sync: for what must outlive this process only. */
void store_note_now(struct sandbox *sb);

/* Writes its record; done when that is synced. -1: it did not begin, fn is not called. */
int store_put(struct sandbox *sb, store_done_fn *fn, struct err *e);

/* It was made: its record gets its name. Comes after a store_put() that may still be under way. */
int store_commit(struct sandbox *sb, store_done_fn *fn, struct err *e);

/*
 * Removes its record; done when that is synced. fn may free the sandbox. Once it has begun nothing
 * else is written; when it fails, it can be tried again.
 */
int store_remove(struct sandbox *sb, store_done_fn *fn, struct err *e);

/* The sandbox is about to be freed: no function is called for it any more. */
void store_forget(struct sandbox *sb);

/* Whether the writer has nothing to do, and nobody is still to be told. For tests. */
bool store_is_idle(const struct store *s);

#endif
