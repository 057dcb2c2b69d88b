// SPDX-License-Identifier: Apache-2.0
#include "hostns.h"

#include "elfdeps.h"
#include "file.h"
#include "mnt.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Mount points are made here before the namespace is entered; it lies on a tmpfs of our own. */
#define STAGE_BYTES  (1u << 20)
#define STAGE_INODES 1024

/* Where the new root is assembled: any directory that exists on every host will do. */
#define STAGE_AT "/mnt"

/* Makes the directories that lead to path below root_fd, and path itself as a file or directory. */
static int make_point(int root_fd, const char *path, bool directory, struct err *e)
{
	char part[ELFDEPS_PATH_MAX];
	while (*path == '/')
		path++;
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdirat(root_fd, part, 0755) < 0 && errno != EEXIST)
			return err_errno(e, errno, "make mount point /%s", part);
	}
	int made = directory ? mkdirat(root_fd, path, 0755)
			     : mknodat(root_fd, path, S_IFREG | 0444, 0);
	if (made < 0 && errno != EEXIST)
		return err_errno(e, errno, "make mount point /%s", path);
	return 0;
}

/* Binds what is at the host's path to `to` below root_fd. */
static int bind_path(int root_fd, const char *path, const char *to, bool recursive, uint64_t attrs,
		     struct err *e)
{
	CLEANUP_FD int from = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	if (from < 0 || fstat(from, &st) < 0)
		return err_errno(e, errno, "open %s", path);
	if (make_point(root_fd, to, S_ISDIR(st.st_mode), e) < 0)
		return -1;
	CLEANUP_FD int tree = mnt_clone(from, recursive, attrs, path, e);
	if (tree < 0)
		return -1;
	while (*to == '/')
		to++;
	return mnt_attach(tree, root_fd, to, e);
}

static int bind_same(int root_fd, const char *path, bool recursive, uint64_t attrs, struct err *e)
{
	return bind_path(root_fd, path, path, recursive, attrs, e);
}

/* Where the host has merged /usr, /lib and /lib64 are symbolic links: made again as such. */
static int bind_system_dir(int root_fd, const char *path, struct err *e)
{
	char target[ELFDEPS_PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n > 0) {
		target[n] = '\0';
		if (symlinkat(target, root_fd, path + 1) < 0 && errno != EEXIST)
			return err_errno(e, errno, "link %s", path);
		return 0;
	}
	if (access(path, F_OK) < 0)
		return 0;
	return bind_same(root_fd, path, false, MNT_CODE_RO, e);
}

static int bind_devices(int root_fd, struct err *e)
{
	static const char *const devices[] = {"/dev/null", "/dev/urandom", "/dev/kvm",
					      "/dev/userfaultfd", "/dev/net/tun"};
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		/* What is missing is said when a jail needs it, in words that fit. */
		if (access(devices[i], F_OK) == 0 &&
		    bind_same(root_fd, devices[i], false, 0, e) < 0)
			return -1;
	}
	/* Each mount of devpts is an instance of its own since Linux 4.7. */
	static const char *const pts_options[][2] = {
		{"ptmxmode", "600"}, {"mode", "600"}, {NULL, NULL}};
	CLEANUP_FD int pts =
		mnt_new("devpts", pts_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e);
	if (pts < 0 || make_point(root_fd, "/dev/pts", true, e) < 0)
		return -1;
	return mnt_attach(pts, root_fd, "dev/pts", e);
}

/* Not by their host names: those may lie in a directory that others can change. */
static int bind_disks(int root_fd, const struct policy *policy, struct err *e)
{
	char to[32];
	if (make_point(root_fd, HOSTNS_DEVICES, true, e) < 0)
		return -1;
	for (uint32_t i = 0; i < policy->device_count; i++) {
		snprintf(to, sizeof(to), HOSTNS_DEVICES "/%u", i);
		if (access(policy->devices[i].path, F_OK) == 0 &&
		    bind_path(root_fd, policy->devices[i].path, to, false, 0, e) < 0)
			return -1;
	}
	return 0;
}

static int bind_proc(int root_fd, struct err *e)
{
	static const char *const none[][2] = {{NULL, NULL}};
	/* A fresh instance: the host's may hide processes (hidepid) that we must read back. */
	CLEANUP_FD int proc = mnt_new("proc", none, MNT_DATA_RW, e);
	if (proc < 0 || make_point(root_fd, "/proc", true, e) < 0)
		return -1;
	return mnt_attach(proc, root_fd, "proc", e);
}

/* What runs in a jail must be root's alone to change: its tenants would change it for others. */
static int check_trusted(const char *path, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 022, .any_links = true};
	uint64_t bytes;
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "open %s", path);
	return file_check_regular(fd, &rule, path, &bytes, e);
}

/* Files that the VMM sees at their host paths: loader, libraries, [vmm] bind_ro. */
static int bind_vmm_files(int base_fd, const struct policy *policy, struct err *e)
{
	struct elfdeps *deps CLEANUP_FREE = calloc(1, sizeof(*deps));
	if (!deps)
		return err_errno(e, ENOMEM, "list the VMM's libraries");
	if (check_trusted(policy->vmm_binary, e) < 0 ||
	    elfdeps_add(deps, policy->vmm_binary, e) < 0)
		return err_prefix(e, "[vmm] binary");
	for (uint32_t i = 0; i < policy->bind_count; i++) {
		if (check_trusted(policy->bind_ro[i], e) < 0 ||
		    bind_same(base_fd, policy->bind_ro[i], false, MNT_CODE_RO, e) < 0 ||
		    elfdeps_add(deps, policy->bind_ro[i], e) < 0)
			return err_prefix(e, "[vmm] bind_ro");
	}
	for (size_t i = 0; i < deps->count; i++) {
		bool bound = false;
		for (uint32_t k = 0; k < policy->bind_count; k++)
			bound |= strcmp(deps->path[i], policy->bind_ro[k]) == 0;
		if (!bound && bind_same(base_fd, deps->path[i], false, MNT_CODE_RO, e) < 0)
			return err_prefix(e, "library of the VMM");
	}
	return bind_path(base_fd, policy->vmm_binary, HOSTNS_VMM, false, MNT_CODE_RO, e);
}

/* The prepared tree; its mount points are all there, so that it can be read-only from here on. */
static int build_base(int root_fd, const struct policy *policy, struct err *e)
{
	static const char *const dirs[] = {"dev", "mem", "snapshot", "vsock", "restore", "disk"};
	static const char *const files[] = {HOSTNS_KERNEL, HOSTNS_INITRAMFS};
	if (make_point(root_fd, HOSTNS_BASE, true, e) < 0 ||
	    make_point(root_fd, HOSTNS_JAIL, true, e) < 0)
		return -1;
	CLEANUP_FD int tmpfs = mnt_tmpfs(1u << 20, 256, 0755, MOUNT_ATTR_NOSUID, e);
	if (tmpfs < 0 || mnt_attach(tmpfs, root_fd, &HOSTNS_BASE[1], e) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (make_point(tmpfs, dirs[i], true, e) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (make_point(tmpfs, files[i], false, e) < 0)
			return -1;
	if (bind_vmm_files(tmpfs, policy, e) < 0)
		return -1;
	return mnt_set(tmpfs, true, MNT_CODE_RO, "the prepared root", e);
}

static int bind_host(int root_fd, const struct policy *policy, struct err *e)
{
	static const char *const system[] = {"/lib", "/lib32", "/lib64"};
	if (bind_same(root_fd, "/usr", false, MNT_CODE_RO, e) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(system); i++)
		if (bind_system_dir(root_fd, system[i], e) < 0)
			return -1;
	if (access("/etc/ld.so.cache", F_OK) == 0 &&
	    bind_same(root_fd, "/etc/ld.so.cache", false, MNT_DATA_RO, e) < 0)
		return -1;
	if (bind_devices(root_fd, e) < 0 || bind_disks(root_fd, policy, e) < 0 ||
	    bind_proc(root_fd, e) < 0)
		return -1;
	/*
	 * The administrator may have mounted something below them (images, templates). Missing ones
	 * are for who opens them to say; `check` runs before they are made.
	 */
	const char *const own[] = {policy->state_dir, policy->run_dir};
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (access(own[i], F_OK) == 0 && bind_same(root_fd, own[i], true, 0, e) < 0)
			return -1;
	if (policy->cgroup_mount[0] == '\0')
		return 0;
	return bind_same(root_fd, policy->cgroup_mount, false, MNT_DATA_RW, e);
}

int hostns_enter(const struct policy *policy, struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, errno, "make a mount namespace");
	if (mnt_make_private(e) < 0)
		return -1;
	CLEANUP_FD int root = mnt_tmpfs(STAGE_BYTES, STAGE_INODES, 0755, MOUNT_ATTR_NOSUID, e);
	if (root < 0)
		return -1;
	CLEANUP_FD int stage = open(STAGE_AT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (stage < 0)
		return err_errno(e, errno, "open %s", STAGE_AT);
	if (mnt_attach(root, stage, "", e) < 0 || bind_host(root, policy, e) < 0 ||
	    build_base(root, policy, e) < 0)
		return -1;
	return mnt_pivot(root, e);
}
