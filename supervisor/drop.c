// SPDX-License-Identifier: Apache-2.0
#include "drop.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static int capabilities_are_empty(struct err *e)
{
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_get_caps_process() != 0)
		return err_set(e, ERR_INTERNAL, 0, "capabilities cannot be read back");
	if (capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE)
		return err_set(e, ERR_INTERNAL, 0, "capabilities are left after the drop");
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 0)
			return err_set(e, ERR_INTERNAL, 0,
				       "capability %d is still in the bounding "
				       "set",
				       cap);
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) > 0)
			return err_set(e, ERR_INTERNAL, 0, "capability %d is still ambient", cap);
	}
	return 0;
}

/* Each of these must fail now. One that works means that the drop did not. */
static int prove_no_return(const struct policy *p, struct err *e)
{
	char path[POLICY_PATH_MAX + 16];
	gid_t none;
	uid_t ids[3];
	gid_t gids[3];
	if (getresuid(&ids[0], &ids[1], &ids[2]) < 0 || getresgid(&gids[0], &gids[1], &gids[2]) < 0)
		return err_errno(e, errno, "read the ids back");
	for (int i = 0; i < 3; i++)
		if (ids[i] != p->user_uid || gids[i] != p->user_gid)
			return err_set(e, ERR_INTERNAL, 0, "ids are not those of the user");
	if (getgroups(1, &none) != 0)
		return err_set(e, ERR_INTERNAL, 0, "supplementary groups are left");
	if (setresuid(0, 0, 0) == 0 || setuid(0) == 0 || setresgid(0, 0, 0) == 0 ||
	    setgroups(0, NULL) == 0)
		return err_set(e, ERR_INTERNAL, 0, "root's ids could be taken again");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE) != 0)
		return err_set(e, ERR_INTERNAL, 0, "no_new_privs or dumpable did not take");
	snprintf(path, sizeof(path), "%s/instance", p->state_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return err_set(e, ERR_INTERNAL, 0, "root's file %s can still be opened", path);
	return capabilities_are_empty(e);
}

int drop_root(const struct policy *p, struct err *e)
{
	/* Root's id gives no capability from here on, not even by exec, and that stays so. This
	 * needs CAP_SETPCAP, so it comes first. */
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
				   SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return err_errno(e, errno, "lock the secure bits");
	/* Sets uid, gid and no other group, with every capability set empty (cap-ng(3)). */
	capng_clear(CAPNG_SELECT_ALL);
	int rc = capng_change_id((int)p->user_uid, (int)p->user_gid,
				 CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	if (rc != 0)
		return err_errno(e, errno, "drop to uid %u (step %d)", p->user_uid, rc);
	/* A set-uid program gives nothing; nobody of the same uid may look into this process,
	 * which holds descriptors opened by root. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(e, errno, "set no_new_privs, clear dumpable");
	return prove_no_return(p, e);
}
