// SPDX-License-Identifier: Apache-2.0
#include "caps.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* No capability by a change of uid, by keeping it over one, or by the ambient set, for good. */
#define SPAWNER_SECUREBITS                                                                         \
	(SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |        \
	 SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

/* Nor by an exec as uid 0, which means nothing more. */
#define LOCKED_SECUREBITS (SPAWNER_SECUREBITS | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED)

/* ------------------------------------------------------------------ one step each */

/* All that the kernel knows but those in keep; what is gone already takes no right to drop. */
static int cut_bounding(uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		int is_set = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (is_set < 0)
			return 0; /* the kernel's list ends here */
		if (is_set && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -1;
	}
	return 0;
}

static int lock_securebits(unsigned long bits)
{
	int now = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (now < 0)
		return -1;
	return (unsigned long)now == bits ? 0 : prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
}

/* Nothing inheritable, and so nothing ambient. */
static int set_capabilities(uint64_t effective, uint64_t permitted)
{
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned cap = 0; cap < 64; cap++) {
		if (effective >> cap & 1)
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, cap);
		if (permitted >> cap & 1)
			capng_update(CAPNG_ADD, CAPNG_PERMITTED, cap);
	}
	return capng_apply(CAPNG_SELECT_CAPS);
}

static uint64_t wide(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

static int get_capabilities(struct __user_cap_data_struct sets[2])
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	return (int)syscall(SYS_capget, &header, sets);
}

/* A container, or a unit's CapabilityBoundingSet=, may have taken some away. */
static int check_there(uint64_t needed, struct err *e)
{
	struct __user_cap_data_struct sets[2];
	if (get_capabilities(sets) < 0)
		return err_errno(e, errno, "read own capabilities");
	uint64_t missing = needed & ~wide(sets[0].permitted, sets[1].permitted);
	for (unsigned cap = 0; cap < 64; cap++)
		if (missing >> cap & 1)
			return err_set(e, ERR_UNAVAILABLE, 0,
				       "capability %s is missing: start cloisterd with it (see "
				       "CapabilityBoundingSet= of its unit, or the container's "
				       "settings)",
				       capng_capability_to_name(cap));
	return 0;
}

/* ------------------------------------------------------------------ proof */

struct proof {
	uint64_t effective, permitted, bounding;
	unsigned long securebits;
};

static int prove_sets(const struct proof *p, struct err *e)
{
	struct __user_cap_data_struct sets[2];
	if (get_capabilities(sets) < 0)
		return err_errno(e, errno, "read own capabilities back");
	if (wide(sets[0].effective, sets[1].effective) != p->effective ||
	    wide(sets[0].permitted, sets[1].permitted) != p->permitted || sets[0].inheritable ||
	    sets[1].inheritable)
		return err_set(e, ERR_INTERNAL, 0, "capabilities are not as asked after the drop");
	for (unsigned long cap = 0; cap < 64; cap++) {
		int is_set = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (is_set < 0)
			break;
		if ((unsigned)is_set != (p->bounding >> cap & 1))
			return err_set(e, ERR_INTERNAL, 0,
				       "the bounding set is not as asked after the drop");
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) > 0)
			return err_set(e, ERR_INTERNAL, 0, "capability %lu is still ambient", cap);
	}
	if (prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != (int)p->securebits)
		return err_set(e, ERR_INTERNAL, 0, "securebits are not as asked after the drop");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return err_set(e, ERR_INTERNAL, 0, "no_new_privs did not take");
	return 0;
}

/* Each of these must fail now. Nobody of ours ever holds CAP_SYS_MODULE. */
static int prove_no_return(const struct proof *p, struct err *e)
{
	if (prove_sets(p, e) < 0)
		return -1;
	const uint64_t module = 1ull << CAP_SYS_MODULE;
	if (set_capabilities(p->effective | module, p->permitted | module) == 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "CAP_SYS_MODULE could be regained after the drop");
	if (prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0)
		return err_set(e, ERR_INTERNAL, 0, "securebits could be taken back");
	for (unsigned long cap = 0; cap < 64; cap++)
		if ((p->permitted >> cap & 1) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) == 0)
			return err_set(e, ERR_INTERNAL, 0, "capability %lu could be made ambient",
				       cap);
	if (prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
		return err_set(e, ERR_INTERNAL, 0, "no_new_privs could be taken back");
	if (!(p->permitted >> CAP_SETUID & 1) && setresuid(1, 1, 1) == 0)
		return err_set(e, ERR_INTERNAL, 0, "the uid could be changed after the drop");
	/* What the attempts left in the library is of no use to anybody; what we have is. */
	return prove_sets(p, e);
}

/* ------------------------------------------------------------------ the roles */

static uint64_t spawner_permitted(const struct policy *policy)
{
	return caps_sets_of(CAPS_SPAWNER, policy) | caps_sets_of(CAPS_SETUP, policy) |
	       caps_sets_of(CAPS_SERVING, policy);
}

int caps_cut_spawner(const struct policy *policy, struct err *e)
{
	const uint64_t all = spawner_permitted(policy);
	/* For the shims, which empty their bounding sets and lock what is left of securebits. */
	const uint64_t with_setpcap = all | 1ull << CAP_SETPCAP;
	if (check_there(with_setpcap, e) < 0)
		return -1;
	/* 1. What no process below us is ever to have. Takes CAP_SETPCAP, as does 2. */
	if (cut_bounding(with_setpcap) < 0)
		return err_errno(e, errno, "cut the capability bounding set");
	/* 2. All the ways to a capability but an exec as root. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    lock_securebits(SPAWNER_SECUREBITS) < 0)
		return err_errno(e, errno, "lock securebits");
	/* 3. And that one gives no more than we have: not by set-uid, not by a file's own. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, errno, "set no_new_privs");
	/* 4. Last, as it takes nothing: all of it is effective until caps_settle_spawner(). */
	if (set_capabilities(all, with_setpcap) != 0)
		return err_errno(e, errno, "drop capabilities");
	const struct proof proof = {all, with_setpcap, with_setpcap, SPAWNER_SECUREBITS};
	return prove_no_return(&proof, e);
}

int caps_settle_spawner(const struct policy *policy, struct err *e)
{
	const uint64_t own = caps_sets_of(CAPS_SPAWNER, policy);
	const uint64_t with_setpcap = spawner_permitted(policy) | 1ull << CAP_SETPCAP;
	/* Permitted stays: under no_new_privs an exec gives no more than that. */
	if (set_capabilities(own, with_setpcap) != 0)
		return err_errno(e, errno, "drop capabilities");
	const struct proof proof = {own, with_setpcap, with_setpcap, SPAWNER_SECUREBITS};
	return prove_no_return(&proof, e);
}

/* Keeps `keep` of what there is; nothing comes back, by whatever exec. */
static int drop_for_good(uint64_t keep, struct err *e)
{
	if (check_there(keep, e) < 0)
		return -1;
	/* 1. Bounding set and securebits first: changing them takes CAP_SETPCAP. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    lock_securebits(LOCKED_SECUREBITS) < 0)
		return err_errno(e, errno, "lock securebits");
	if (cut_bounding(0) < 0)
		return err_errno(e, errno, "empty the capability bounding set");
	/* 2. No exec gains anything from here on. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, errno, "set no_new_privs");
	/* 3. All but what is kept, CAP_SETPCAP included. */
	if (set_capabilities(keep, keep) != 0)
		return err_errno(e, errno, "drop capabilities");
	const struct proof proof = {keep, keep, 0, LOCKED_SECUREBITS};
	return prove_no_return(&proof, e);
}

int caps_drop_to_setup(const struct policy *policy, struct err *e)
{
	/* What serving needs is part of it, as nothing can come back later. */
	return drop_for_good(caps_sets_of(CAPS_SETUP, policy) | caps_sets_of(CAPS_SERVING, policy),
			     e);
}

int caps_drop_to_serving(struct err *e)
{
	/* 1. Nobody with our uid reads our memory: it holds descriptors of the host. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, errno, "become undumpable");
	/* 2. The rest of the set-up's; bounding set and securebits went before it. */
	return drop_for_good(caps_sets_of(CAPS_SERVING, NULL), e);
}

int caps_drop_to_import(struct err *e)
{
	return drop_for_good(caps_sets_of(CAPS_IMPORT, NULL), e);
}

int caps_drop_to_vmm(uid_t uid, gid_t gid, const char **step)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	/* 1. Bounding set and securebits; in a shim they went before its set-up. */
	*step = "empty the bounding set";
	if (cut_bounding(0) < 0)
		return -1;
	*step = "clear ambient capabilities";
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	*step = "lock securebits";
	if (lock_securebits(LOCKED_SECUREBITS) < 0)
		return -1;
	/* 2. Groups before the uid; with these securebits it is 3. that takes the right away. */
	*step = "drop groups";
	if (syscall(SYS_setgroups, 0, NULL) < 0)
		return -1;
	*step = "change the gid";
	if (syscall(SYS_setresgid, gid, gid, gid) < 0)
		return -1;
	*step = "change the uid";
	if (syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -1;
	/* 3. All that is left, as a change of uid no longer takes any. */
	*step = "drop capabilities";
	if (syscall(SYS_capset, &header, none) < 0)
		return -1;
	*step = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	/* 4. Prove it: from here root must be out of reach. */
	*step = "stay away from uid 0";
	if (syscall(SYS_setresuid, 0, 0, 0) == 0 || prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0) {
		errno = ENOTRECOVERABLE;
		return -1;
	}
	return 0;
}
