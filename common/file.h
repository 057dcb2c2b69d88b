// SPDX-License-Identifier: Apache-2.0
/*
 * Files opened below a directory that we hold, never through a symbolic link (openat2(2)), and
 * checked on the descriptor rather than by name.
 */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Opens path (relative, below dirfd) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
 * RESOLVE_NO_MAGICLINKS; O_CLOEXEC is added. what names the thing for the message. Returns a
 * descriptor that the caller closes, or -1.
 */
int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, const char *what,
		      struct err *e);

/* Opens an absolute directory for use as dirfd (O_PATH unless flags say more). */
int file_open_dir(const char *path, struct err *e);

/*
 * Makes the directory name below dirfd if it is missing, opens it, and sets owner, group and mode
 * on the descriptor. A thing of another type in its place is an error. Returns the descriptor.
 */
int file_make_dir(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode, struct err *e);

/* What a file that root code mounts for a VMM must be. */
struct file_rule {
	uid_t owner;	    /* must own it */
	mode_t forbidden;   /* mode bits that must be clear, e.g. 022 */
	uint64_t max_bytes; /* 0: any */
	bool any_links;	    /* packages hard-link programs; images must have one link */
};

/* Regular, one link (unless any_links), owner and mode as the rule says; gives its size. */
int file_check_regular(int fd, const struct file_rule *rule, const char *what, uint64_t *bytes,
		       struct err *e);

/*
 * Whether what fd names lies on the mount of its directory: nothing was mounted over it (statx(2),
 * STATX_MNT_ID). ERR_INVALID otherwise.
 */
int file_check_mount(int dirfd, int fd, const char *what, struct err *e);

/* Writes text to an existing file (a /proc or cgroup attribute) in one write(2). */
int file_write_text(int dirfd, const char *path, const char *text, struct err *e);

/* Reads at most size - 1 bytes and ends them with NUL; returns the length, or -1. */
ssize_t file_read_text(int dirfd, const char *path, char *buf, size_t size, struct err *e);

#endif
