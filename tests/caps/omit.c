// SPDX-License-Identifier: Apache-2.0
/*
 * Stands before caps_sets_of() (ld, --wrap): takes one capability of one role away, as
 * STATE_DIR/omit says ("ROLE NUMBER"). For the test that none of the table is too much.
 */
#include "caps_sets.h"

#include <stdio.h>

uint64_t __real_caps_sets_of(enum caps_role role, const struct policy *policy);
uint64_t __wrap_caps_sets_of(enum caps_role role, const struct policy *policy);

static uint64_t missing[CAPS_ROLE_COUNT];

/* Once, as early as it is asked for: a shim that serves sees its jail only. */
static void read_omit(const struct policy *policy)
{
	char path[POLICY_PATH_MAX + 8];
	unsigned role, capability;
	snprintf(path, sizeof(path), "%s/omit", policy->state_dir);
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%u %u", &role, &capability) == 2 && role < CAPS_ROLE_COUNT)
		missing[role] = 1ull << capability;
	fclose(f);
}

uint64_t __wrap_caps_sets_of(enum caps_role role, const struct policy *policy)
{
	if (policy && !missing[role])
		read_omit(policy);
	return __real_caps_sets_of(role, policy) & ~missing[role];
}
