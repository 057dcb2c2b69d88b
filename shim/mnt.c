// SPDX-License-Identifier: Apache-2.0
#include "mnt.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int mnt_new(const char *type, const char *const options[][2], uint64_t attrs, struct err *e)
{
	CLEANUP_FD int fs = fsopen(type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_errno(e, errno, "open file system type %s", type);
	for (; (*options)[0]; options++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, (*options)[0], (*options)[1], 0) < 0)
			return err_errno(e, errno, "set %s=%s on a new %s", (*options)[0],
					 (*options)[1], type);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_errno(e, errno, "create a new %s", type);
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
	if (fd < 0)
		return err_errno(e, errno, "mount a new %s", type);
	return fd;
}

int mnt_tmpfs(uint64_t bytes, unsigned inodes, unsigned mode, uint64_t attrs, struct err *e)
{
	char size[32], count[32], bits[16];
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	snprintf(count, sizeof(count), "%u", inodes);
	snprintf(bits, sizeof(bits), "%o", mode);
	const char *const options[][2] = {
		{"size", size}, {"nr_inodes", count}, {"mode", bits}, {NULL, NULL}};
	return mnt_new("tmpfs", options, attrs, e);
}

int mnt_set(int fd, bool recursive, uint64_t attrs, const char *what, struct err *e)
{
	struct mount_attr attr = {.attr_set = attrs};
	unsigned flags = AT_EMPTY_PATH | (recursive ? (unsigned)AT_RECURSIVE : 0);
	if (mount_setattr(fd, "", flags, &attr, sizeof(attr)) < 0)
		return err_errno(e, errno, "set mount attributes of %s", what);
	return 0;
}

int mnt_clone(int fd, bool recursive, uint64_t attrs, const char *what, struct err *e)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
			 (recursive ? (unsigned)AT_RECURSIVE : 0);
	CLEANUP_FD int tree = open_tree(fd, "", flags);
	if (tree < 0)
		return err_errno(e, errno, "clone the mount of %s", what);
	if (attrs && mnt_set(tree, recursive, attrs, what, e) < 0)
		return -1;
	return fd_take(&tree);
}

int mnt_attach(int mount_fd, int dirfd, const char *path, struct err *e)
{
	unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0u : (unsigned)MOVE_MOUNT_T_EMPTY_PATH);
	if (move_mount(mount_fd, "", dirfd, path, flags) < 0)
		return err_errno(e, errno, "attach a mount at \"%s\"", path);
	return 0;
}

int mnt_make_private(struct err *e)
{
	struct mount_attr attr = {.propagation = MS_PRIVATE};
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return err_errno(e, errno, "make all mounts private");
	return 0;
}

int mnt_pivot(int new_root_fd, struct err *e)
{
	if (fchdir(new_root_fd) < 0)
		return err_errno(e, errno, "enter the new root");
	/* pivot_root(2): with both arguments ".", the old root is stacked on the new one. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_errno(e, errno, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0)
		return err_errno(e, errno, "let go of the old root");
	if (chdir("/") < 0)
		return err_errno(e, errno, "enter the root directory");
	return 0;
}
