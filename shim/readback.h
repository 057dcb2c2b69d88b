// SPDX-License-Identifier: Apache-2.0
/*
 * When a VMM's confinement is read back, and what comes of it: after every start (created, restored
 * or woken), every resume and resize, and soon after the guest took a device, since all of these
 * bring threads that were not there before. A VMM that is not confined as asked is ended.
 */
#ifndef SHIM_READBACK_H
#define SHIM_READBACK_H

#include "shim.h"

/* Right after the launch, before the drop: notes what it was started with, and where it is. */
void readback_begin(struct shim *s, const struct launch *launch);

/*
 * Reads it back now and keeps what was read. -1 with *e: it is not confined as asked, and is being
 * ended (while a create is in hand, that has failed and is answered). 0 also when the VMM has
 * ended of itself: its exit is about to be told.
 */
int readback_check(struct shim *s, enum msg_confine_after after, struct err *e);

/* The same within moments, and not more than once a second however often it is asked for. */
void readback_soon(struct shim *s, enum msg_confine_after after);

/* Does what is due; when the next is, or INT64_MAX. */
int64_t readback_step(struct shim *s, int64_t now_us);

#endif
