// SPDX-License-Identifier: Apache-2.0
/*
 * SNAPSHOT: pause, vm.snapshot, our own check of what CH wrote, the copy of the memory, resume,
 * then sync and rename. Any failure before the rename resumes the guest and leaves nothing behind.
 * For hibernation there is no resume: the VMM is ended once the set is safe.
 */
#ifndef SHIM_SNAPSHOT_H
#define SHIM_SNAPSHOT_H

#include "shim.h"

/* Begins; errors are answered, as is the end. The caller has seen to it that no request is in hand.
 */
void snapshot_start(struct shim *s, uint32_t id, const struct msg_snapshot *ask);

/* Carries on with what is not up to CH; gives the time when it is due again, or INT64_MAX. */
int64_t snapshot_step(struct shim *s, int64_t now_us);

/* The VMM is gone: drops what is staged. The request's answer is the caller's. */
void snapshot_abandon(struct shim *s);

/* What of a status a SNAPSHOT in hand, or over and untold, is to say. */
void snapshot_tell(const struct shim *s, struct msg_status *out);

#endif
