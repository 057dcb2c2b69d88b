// SPDX-License-Identifier: Apache-2.0
/*
 * The store at start: every record is read once, and goes to the sandbox that it is of, whether
 * that is found by its shim, by its set or its disks, or by nothing but its record.
 *
 * What cannot be read is put aside in STATE_DIR/store/bad, never deleted, and reported. What a
 * later version wrote is left where it is, with its name taken, until that version is back.
 */
#ifndef SUPERVISOR_STORE_LOAD_H
#define SUPERVISOR_STORE_LOAD_H

#include "err.h"

#include <stdbool.h>

struct daemon;
struct sandbox;
struct spec;

/* Reads all of dir, into d->recorded. -1: it cannot even be listed. */
int store_load_open(struct daemon *d, int dir, struct err *e);
void store_load_close(struct daemon *d);

/*
 * Gives a sandbox that was just found what its record alone knows: labels, times, its exit if it
 * has no shim, and so on. Where shim or set know better, they stay.
 */
void store_load_match(struct sandbox *sb);

/* What is recorded of one that has not been found yet, or NULL. Valid until it is. */
const struct spec *store_load_spec(const struct daemon *d, const char *key);

/*
 * The first state of one that has no shim, with its event: as it was recorded, or what became of
 * it. can_wake: it has a set, noted in sb, that memory can be restored from.
 */
void store_load_begin(struct sandbox *sb, bool can_wake);

/*
 * When shims, sets and disks have been found: makes sandboxes of the records that are left, and
 * goes on with the destroys that were under way.
 */
void store_load_settle(struct daemon *d);

/* A shim that could not be adopted has gone: now its record counts. */
void store_load_settle_key(struct daemon *d, const char *key);

#endif
