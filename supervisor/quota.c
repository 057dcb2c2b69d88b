// SPDX-License-Identifier: Apache-2.0
#include "quota.h"

#include "daemon.h"
#include "sandbox.h"
#include "spec_disk.h"

#include <inttypes.h>
#include <string.h>

#define MIB	      (1u << 20)
#define SET_FILES_MIB 8	  /* config, state and meta of a set; the second is 4 MiB at most */
#define SET_BLOCKS    128 /* one part in so many for what a file system notes of a file's blocks */
#define HOST_DISK     "the host's max_disk_mib"

static int check(const char *quota, uint64_t used, uint64_t wanted, uint32_t limit, struct err *e)
{
	if (!limit || used + wanted <= limit)
		return 0;
	return err_set(e, ERR_QUOTA, 0,
		       "%s: %" PRIu64 " used, %" PRIu64 " more wanted, the limit is %u; destroy "
		       "sandboxes or ask the host's administrator for more",
		       quota, used, wanted, limit);
}

/* ------------------------------------------------------------------ disk space */

static uint64_t to_mib(uint64_t bytes)
{
	return bytes / MIB + (bytes % MIB != 0);
}

/* MiB that count for a tenant, or for all (NULL). */
static uint64_t disk_used(const struct daemon *d, const char *tenant)
{
	uint64_t mib = 0;
	const struct sandbox *sb;
	const struct template *t;
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	if (!tenant || strcmp(sb->tenant, tenant) == 0)
		mib += spec_disk_own_mib(sb->spec) + to_mib(sb->set_bytes) +
		       to_mib(sb->granted_bytes);
	TAILQ_FOREACH(t, &d->templates.list, entry)
	if (!tenant || strcmp(t->tenant, tenant) == 0)
		mib += to_mib(t->allocated_bytes);
	return mib;
}

/* Counting walks all records: only where there is a limit. */
static int check_disk(const struct daemon *d, const struct config_tenant *t, uint64_t wanted,
		      struct err *e)
{
	if (!wanted)
		return 0;
	if (t && t->max_disk_mib &&
	    check("max_disk_mib", disk_used(d, t->name), wanted, t->max_disk_mib, e) < 0)
		return -1;
	if (!d->config.max_disk_mib)
		return 0;
	return check(HOST_DISK, disk_used(d, NULL), wanted, d->config.max_disk_mib, e);
}

/* Narrows *out to what is left below limit. */
static int narrow(const char *quota, uint64_t used, uint32_t limit, struct quota_grant *out,
		  struct err *e)
{
	if (used >= limit)
		return err_set(
			e, ERR_QUOTA, 0,
			"%s: %" PRIu64 " used, the limit is %u: there is no room for a set; "
			"remove templates, destroy sandboxes or ask the host's administrator for "
			"more",
			quota, used, limit);
	uint64_t left = (limit - used) * MIB;
	if (out->bytes > left)
		out->bytes = left;
	out->max_bytes = out->bytes;
	return 0;
}

int quota_grant(const struct daemon *d, const struct config_tenant *t, uint64_t bound,
		struct quota_grant *out, struct err *e)
{
	*out = (struct quota_grant){.bytes = bound};
	if (t && t->max_disk_mib &&
	    narrow("max_disk_mib", disk_used(d, t->name), t->max_disk_mib, out, e) < 0)
		return -1;
	if (!d->config.max_disk_mib)
		return 0;
	return narrow(HOST_DISK, disk_used(d, NULL), d->config.max_disk_mib, out, e);
}

uint64_t quota_set_bound(const struct spec *s, bool with_disks)
{
	uint64_t mib = s->memory_mib;
	if (with_disks)
		mib += spec_disk_own_mib(s);
	return (mib + mib / SET_BLOCKS + SET_FILES_MIB) * MIB;
}

/* ------------------------------------------------------------------ sandboxes */

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
		/* One that is about to be started again gives nothing of it away. */
		if (state_has_vmm(sb->state) || sb->restart.due) {
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

int quota_check(const struct daemon *d, const struct config_tenant *t, const struct spec *want,
		struct err *e)
{
	const struct registry *r = &d->registry;
	if (check("the host's max_sandboxes", r->count, 1, d->config.policy.max_sandboxes, e) < 0 ||
	    (t && check_tenant(r, t, want, true, e) < 0))
		return -1;
	return check_disk(d, t, spec_disk_own_mib(want), e);
}

int quota_check_wake(const struct daemon *d, const struct config_tenant *t, const struct spec *want,
		     struct err *e)
{
	return t ? check_tenant(&d->registry, t, want, false, e) : 0;
}
