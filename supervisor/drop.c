// SPDX-License-Identifier: Apache-2.0
#include "drop.h"

#include "landlock.h"
#include "util.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LOCKED_SECUREBITS                                                                          \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                           \
	 SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |   \
	 SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

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
	if (prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != (int)LOCKED_SECUREBITS ||
	    prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0)
		return err_set(e, ERR_INTERNAL, 0, "the secure bits are not locked");
	snprintf(path, sizeof(path), "%s/instance", p->state_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return err_set(e, ERR_INTERNAL, 0, "root's file %s can still be opened", path);
	return capabilities_are_empty(e);
}

int drop_root(const struct policy *p, struct err *e)
{
	/* 1. Root's id gives no capability from here on, not even by exec, and that stays so; then
	 * the bounding set. Both need CAP_SETPCAP. */
	if (prctl(PR_SET_SECUREBITS, LOCKED_SECUREBITS, 0, 0, 0) < 0)
		return err_errno(e, errno, "lock the secure bits");
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_BOUNDS) != 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_errno(e, errno, "empty the capability bounding set");
	/* 2. Groups and gid before the uid, of all threads (there is one); with these secure bits
	 * it is 3. that takes the right away. */
	if (setgroups(0, NULL) < 0 || setresgid(p->user_gid, p->user_gid, p->user_gid) < 0 ||
	    setresuid(p->user_uid, p->user_uid, p->user_uid) < 0)
		return err_errno(e, errno, "drop to uid %u", p->user_uid);
	/* 3. Every capability, as a change of uid no longer takes any. */
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return err_errno(e, errno, "drop capabilities");
	/* 4. A set-uid program gives nothing; nobody of the same uid may look into this process,
	 * which holds descriptors opened by root. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_errno(e, errno, "set no_new_privs, clear dumpable");
	return prove_no_return(p, e);
}

/* A service manager that listens on an abstract socket must be reached; others need not be. */
static uint64_t scope(void)
{
	const char *notify = getenv("NOTIFY_SOCKET");
	return notify && notify[0] == '@' ? LANDLOCK_SCOPE_SIGNAL
					  : LANDLOCK_SCOPE_SIGNAL | LANDLOCK_SCOPE_ABSTRACT;
}

int drop_access(const struct host *h, struct err *e)
{
	CLEANUP_FD int rules = -1;
	if (landlock_open(scope(), &rules, e) < 0)
		return -1;
	if (rules < 0)
		return 0;
	/*
	 * adopt.c lists the shims' sockets. Images are looked up only, which no right is about. In
	 * the store whatever lies in a record's place is moved aside (store_read.c).
	 */
	const uint64_t store = LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_READ_DIR |
			       LANDLOCK_MAKE_FILE | LANDLOCK_REMOVE_FILE | LANDLOCK_TRUNCATE |
			       LANDLOCK_MAKE_DIR | LANDLOCK_MAKE_LINK | LANDLOCK_MAKE_FIFO |
			       LANDLOCK_MAKE_SOCKET | LANDLOCK_REMOVE_DIR | LANDLOCK_REFER;
	if (landlock_allow(rules, h->shims_dir, "", LANDLOCK_READ_DIR, e) < 0 ||
	    landlock_allow(rules, h->store_dir, "", store, e) < 0)
		return -1;
	if (landlock_enforce(rules) < 0)
		return err_errno(e, errno, "put cloisterd under Landlock");
	/* Anybody may list it, so that it is Landlock that does not let us. */
	CLEANUP_FD int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 || errno != EACCES)
		return err_set(e, ERR_INTERNAL, 0, "Landlock did not take");
	return 0;
}
