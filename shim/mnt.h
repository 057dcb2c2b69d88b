// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's file-descriptor mount calls (fsopen(2), fsmount(2), open_tree(2), move_mount(2),
 * mount_setattr(2)) in the few shapes that the jail needs. No mount is ever made by a path that
 * somebody else could have changed.
 */
#ifndef SHIM_MNT_H
#define SHIM_MNT_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mount.h>

/* Attribute sets: MOUNT_ATTR_* of mount_setattr(2). */
#define MNT_DATA_RO (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define MNT_CODE_RO (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define MNT_DATA_RW (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define MNT_DEV_RO  (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)

/*
 * A new, detached tmpfs of at most bytes and inodes, its root owned by root with that mode.
 * Returns a descriptor that works as dirfd for its root.
 */
int mnt_tmpfs(uint64_t bytes, unsigned inodes, unsigned mode, uint64_t attrs, struct err *e);

/* A new, detached instance of another file system ("proc", "devpts") with "key=value" options. */
int mnt_new(const char *type, const char *const options[][2], uint64_t attrs, struct err *e);

/* A detached clone of what fd names (with what is mounted below it, if recursive), with attrs. */
int mnt_clone(int fd, bool recursive, uint64_t attrs, const char *what, struct err *e);

/* Attaches a detached mount on path below dirfd; path "" means dirfd itself. */
int mnt_attach(int mount_fd, int dirfd, const char *path, struct err *e);

/* Sets attributes on the mount whose root fd is. */
int mnt_set(int fd, bool recursive, uint64_t attrs, const char *what, struct err *e);

/* Makes every mount of this namespace private: nothing comes in from, or goes out to, the host. */
int mnt_make_private(struct err *e);

/* Makes new_root_fd's mount the root of this mount namespace and lets go of the old one. */
int mnt_pivot(int new_root_fd, struct err *e);

#endif
