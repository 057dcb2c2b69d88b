// SPDX-License-Identifier: Apache-2.0
/*
 * Whether one more sandbox or set fits: counted from the records at admission, so nothing can
 * drift. t is NULL for the admin's own, which only the host's limits bind. ERR_QUOTA names the
 * quota, used and limit.
 *
 * Disk space counts as promised for sandboxes (the sizes of their own disks, in any state), and as
 * allocated for sets (templates, hibernated sandboxes). A set that is being written counts with
 * what it was granted.
 */
#ifndef SUPERVISOR_QUOTA_H
#define SUPERVISOR_QUOTA_H

#include "config.h"
#include "spec.h"

struct daemon;

/* max_sandboxes counts records; vcpus and memory count those that have a VMM. */
int quota_check(const struct daemon *d, const struct config_tenant *t, const struct spec *want,
		struct err *e);

/* The same for a hibernated sandbox that is to have a VMM again: its record is counted already. */
int quota_check_wake(const struct daemon *d, const struct config_tenant *t, const struct spec *want,
		     struct err *e);

struct quota_grant {
	uint64_t bytes;	    /* to be counted as taken until it is known what the set takes */
	uint64_t max_bytes; /* for msg_snapshot; 0: no limit applies */
};

/* Room for a set that can take up to bound bytes: as much of it as is left. */
int quota_grant(const struct daemon *d, const struct config_tenant *t, uint64_t bound,
		struct quota_grant *out, struct err *e);

/* The most that a set of such a guest can allocate: with its own disks, or without. */
uint64_t quota_set_bound(const struct spec *s, bool with_disks);

#endif
