// SPDX-License-Identifier: Apache-2.0
#include "landlock.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h of Debian 12 ends before ABI 4, so the layout is written down here. */
struct ruleset {
	uint64_t fs, net, scope;
};

struct path_beneath {
	uint64_t rights;
	int32_t parent_fd;
} __attribute__((packed));

#define CREATE_VERSION	  1u /* LANDLOCK_CREATE_RULESET_VERSION */
#define RULE_PATH_BENEATH 1  /* LANDLOCK_RULE_PATH_BENEATH */
#define NET_ALL		  3u /* bind and connect of TCP */

/* What a rule for a file may hold. */
#define OF_FILES                                                                                   \
	(LANDLOCK_EXECUTE | LANDLOCK_WRITE | LANDLOCK_READ | LANDLOCK_TRUNCATE | LANDLOCK_IOCTL)

unsigned landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
	return abi > 0 ? (unsigned)abi : 0;
}

/* The rights that an ABI knows, each the lowest so many bits; newer ABIs add none that we name. */
static uint64_t handled_fs(unsigned abi)
{
	unsigned bits = abi == 0 ? 0 : abi == 1 ? 13 : abi == 2 ? 14 : abi < 5 ? 15 : 16;
	return (1ull << bits) - 1;
}

int landlock_open(uint64_t scope, int *fd, struct err *e)
{
	unsigned abi = landlock_abi();
	const struct ruleset ruleset = {
		.fs = handled_fs(abi),
		.net = abi >= 4 ? NET_ALL : 0,
		.scope = abi >= 6 ? scope : 0,
	};
	*fd = -1;
	if (abi == 0)
		return 0;
	/* An older kernel takes a longer structure as long as what it does not know is zero. The
	 * descriptor is close-on-exec by itself. */
	*fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	return *fd < 0 ? err_errno(e, errno, "make a Landlock ruleset") : 0;
}

int landlock_allow(int fd, int dirfd, const char *path, uint64_t rights, struct err *e)
{
	struct stat st;
	if (fd < 0)
		return 0;
	CLEANUP_FD int at = *path ? openat(dirfd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	if ((*path && at < 0) || fstat(*path ? at : dirfd, &st) < 0)
		return err_errno(e, errno, "allow %s by Landlock", path);
	if (S_ISLNK(st.st_mode))
		return err_set(e, ERR_INVALID, 0, "allow %s by Landlock: it is a symbolic link",
			       path);
	rights &= handled_fs(landlock_abi());
	if (!S_ISDIR(st.st_mode))
		rights &= OF_FILES;
	/* A rule without rights is refused, and none is needed. */
	if (!rights)
		return 0;
	const struct path_beneath rule = {.rights = rights, .parent_fd = *path ? at : dirfd};
	if (syscall(SYS_landlock_add_rule, fd, RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(e, errno, "allow %s by Landlock", path);
	return 0;
}

int landlock_enforce(int fd)
{
	return fd < 0 ? 0 : (int)syscall(SYS_landlock_restrict_self, fd, 0);
}
