// SPDX-License-Identifier: Apache-2.0
#include "quota.h"

#include "sandbox.h"

#include <inttypes.h>
#include <string.h>

static int check(const char *quota, uint64_t used, uint64_t wanted, uint32_t limit, struct err *e)
{
	if (!limit || used + wanted <= limit)
		return 0;
	return err_set(e, ERR_QUOTA, 0,
		       "%s: %" PRIu64 " used, %" PRIu64 " more wanted, the limit is %u; destroy "
		       "sandboxes or ask the host's administrator for more",
		       quota, used, wanted, limit);
}

/*
 * fresh: one more record; else only one more VMM. What counts is what a guest may grow to, so that
 * a resize within its maxima needs no check.
 */
static int check_tenant(const struct registry *r, const struct config_tenant *t,
			const struct spec *want, bool fresh, struct err *e)
{
	uint64_t sandboxes = 0, vcpus = 0, memory = 0;
	const struct sandbox *sb;
	TAILQ_FOREACH(sb, &r->list, entry)
	{
		if (strcmp(sb->tenant, t->name) != 0)
			continue;
		sandboxes++;
		if (state_has_vmm(sb->state)) {
			vcpus += sb->spec->max_vcpus;
			memory += sb->spec->max_memory_mib;
		}
	}
	if ((fresh && check("max_sandboxes", sandboxes, 1, t->max_sandboxes, e) < 0) ||
	    check("max_vcpus", vcpus, want->max_vcpus, t->max_vcpus, e) < 0 ||
	    check("max_memory_mib", memory, want->max_memory_mib, t->max_memory_mib, e) < 0)
		return -1;
	return 0;
}

int quota_check(const struct registry *r, const struct config *c, const struct config_tenant *t,
		const struct spec *want, struct err *e)
{
	if (check("the host's max_sandboxes", r->count, 1, c->policy.max_sandboxes, e) < 0)
		return -1;
	return t ? check_tenant(r, t, want, true, e) : 0;
}

int quota_check_wake(const struct registry *r, const struct config_tenant *t,
		     const struct spec *want, struct err *e)
{
	return t ? check_tenant(r, t, want, false, e) : 0;
}
