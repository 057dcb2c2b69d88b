// SPDX-License-Identifier: Apache-2.0
/* Ending a VMM, and finding out why one ended. */
#ifndef SHIM_ENDING_H
#define SHIM_ENDING_H

#include "shim.h"

/*
 * Begins to end the VMM for that reason. With grace_ms the guest is asked first (power button; not
 * if it is paused), then CH is shut down cleanly, then killed; without, it is killed at once. A
 * later call with less grace cuts an earlier one short.
 */
void ending_start(struct shim *s, enum shim_ending why, uint32_t grace_ms);

/* How long the present stage of it may still take; 0: it has no bound of its own. */
uint32_t ending_left_ms(const struct shim *s);

/* Carries on when ending_next_us has come. */
void ending_step(struct shim *s, int64_t now_us);

/* The pidfd says that the VMM is gone: reaps it, drains its streams, makes and sends the record. */
void ending_reap(struct shim *s);

#endif
