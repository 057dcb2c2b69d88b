// SPDX-License-Identifier: Apache-2.0
/* Which capability each role of ours needs, and which code of it: one table, nothing else. */
#ifndef SHIM_CAPS_SETS_H
#define SHIM_CAPS_SETS_H

#include "policy.h"

#include <stdint.h>

enum caps_role {
	CAPS_SPAWNER, /* the spawner itself, once it serves */
	CAPS_SETUP,   /* what a shim, or a probe, has beyond CAPS_SERVING until it serves */
	CAPS_SERVING, /* a shim afterwards */
	CAPS_IMPORT,  /* the client's imports, which work on STATE_DIR as root */
	CAPS_ROLE_COUNT
};

/* The set as a mask of 1 << CAP_...; policy: what is not configured needs no capability. */
uint64_t caps_sets_of(enum caps_role role, const struct policy *policy);

#endif
