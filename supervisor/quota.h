// SPDX-License-Identifier: Apache-2.0
/* Whether one more sandbox fits: counted from the records at admission, so nothing can drift. */
#ifndef SUPERVISOR_QUOTA_H
#define SUPERVISOR_QUOTA_H

#include "config.h"
#include "registry.h"
#include "spec.h"

/*
 * max_sandboxes counts records; vcpus and memory count those that have a VMM. t is NULL for the
 * admin's own, which only the host's limit binds. ERR_QUOTA names the quota, used and limit.
 */
int quota_check(const struct registry *r, const struct config *c, const struct config_tenant *t,
		const struct spec *want, struct err *e);

/* The same for a hibernated sandbox that is to have a VMM again: its record is counted already. */
int quota_check_wake(const struct registry *r, const struct config_tenant *t,
		     const struct spec *want, struct err *e);

#endif
