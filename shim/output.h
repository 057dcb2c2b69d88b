// SPDX-License-Identifier: Apache-2.0
/*
 * What the VMM sends unasked: the guest's console on stdout, its log on stderr, event records. All
 * of it hostile: bounded per period, parsed late, cleaned before anybody reads it.
 */
#ifndef SHIM_OUTPUT_H
#define SHIM_OUTPUT_H

#include "shim.h"

/* Reads what is there, as far as the stream's budget for this period goes. */
void output_stdout(struct shim *s);
void output_stderr(struct shim *s);
void output_events(struct shim *s);

/* Watches streams again whose period has ended; gives the time when the next one does. */
int64_t output_renew_budgets(struct shim *s, int64_t now_us);

/* After the VMM's end: everything that is left, bounded by what the kernel buffers. */
void output_drain(struct shim *s);

/* The last ERROR line of the VMM's log, or NULL. */
const char *output_last_error(const struct shim *s);

/* Tells the supervisor, or when one comes: count is how often that was so far. */
void output_tell(struct shim *s, enum msg_event_what what, uint32_t count);

#endif
