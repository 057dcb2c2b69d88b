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

/* uid 0 means nothing more: no capability comes with an exec or a change of uid, for good. */
#define LOCKED_SECUREBITS                                                                          \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                           \
	 SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |   \
	 SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

static int prove_serving(struct err *e)
{
	if (capng_get_caps_process() != 0)
		return err_errno(e, errno, "read own capabilities back");
	if (capng_have_capabilities(CAPNG_SELECT_BOUNDS) != CAPNG_NONE)
		return err_set(e, ERR_INTERNAL, 0, "the bounding set is not empty after the drop");
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
		bool held = capng_have_capability(CAPNG_EFFECTIVE, cap) ||
			    capng_have_capability(CAPNG_PERMITTED, cap);
		if (held != (cap == CAP_KILL || cap == CAP_CHOWN) ||
		    capng_have_capability(CAPNG_INHERITABLE, cap))
			return err_set(e, ERR_INTERNAL, 0,
				       "capability %u is not as asked after the drop", cap);
	}
	capng_clear(CAPNG_SELECT_CAPS);
	capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_ADMIN);
	if (capng_apply(CAPNG_SELECT_CAPS) == 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "CAP_SYS_ADMIN could be regained after the drop");
	if (setresuid(1, 1, 1) == 0)
		return err_set(e, ERR_INTERNAL, 0, "the uid could be changed after the drop");
	return 0;
}

int caps_drop_to_serving(struct err *e)
{
	/* 1. The bounding set and securebits first: changing them takes CAP_SETPCAP. */
	capng_clear(CAPNG_SELECT_ALL);
	capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_KILL, CAP_CHOWN, -1);
	if (prctl(PR_SET_SECUREBITS, LOCKED_SECUREBITS) < 0)
		return err_errno(e, errno, "lock securebits");
	if (capng_apply(CAPNG_SELECT_BOUNDS) != 0)
		return err_errno(e, errno, "empty the capability bounding set");
	/* 2. No exec gains anything from here on. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, errno, "set no_new_privs");
	/* 3. All capabilities but these two; ambient ones fall with the inheritable. */
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return err_errno(e, errno, "drop capabilities");
	/* 4. Nobody with our uid reads our memory: it holds descriptors of the host. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, errno, "become undumpable");
	return prove_serving(e);
}

int caps_drop_to_vmm(uid_t uid, gid_t gid, const char **step)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	/* 1. The bounding set, while CAP_SETPCAP is there; it ends where the kernel's list does. */
	*step = "empty the bounding set";
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -1;
	*step = "clear ambient capabilities";
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	/* 2. Groups before the uid, which takes the right to change them away. */
	*step = "drop groups";
	if (syscall(SYS_setgroups, 0, NULL) < 0)
		return -1;
	*step = "change the gid";
	if (syscall(SYS_setresgid, gid, gid, gid) < 0)
		return -1;
	*step = "change the uid";
	if (syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -1;
	/* 3. What the change of uid leaves: the inheritable set. */
	*step = "drop capabilities";
	if (syscall(SYS_capset, &header, none) < 0)
		return -1;
	*step = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	/* 4. Prove it: from here root must be out of reach. */
	*step = "stay away from uid 0";
	if (syscall(SYS_setresuid, 0, 0, 0) == 0) {
		errno = ENOTRECOVERABLE;
		return -1;
	}
	return 0;
}
