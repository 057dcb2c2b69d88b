// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock (landlock(7)): what a process, and all that it starts, may still do with files and
 * sockets, on top of what owners, modes and mounts allow. Every right that this kernel can handle
 * is denied but for what a rule allows; what it cannot handle yet stays as it was. Without Landlock
 * nothing is done, and landlock_abi() says so. Descriptors that are open already keep what they
 * can.
 */
#ifndef COMMON_LANDLOCK_H
#define COMMON_LANDLOCK_H

#include "err.h"

#include <stdint.h>

/* Rights to a file, or to files below a directory: the kernel's bits, of ABI 1 unless noted. */
#define LANDLOCK_EXECUTE     (1ull << 0)
#define LANDLOCK_WRITE	     (1ull << 1)
#define LANDLOCK_READ	     (1ull << 2)
#define LANDLOCK_READ_DIR    (1ull << 3) /* list; this and those below only of directories */
#define LANDLOCK_REMOVE_DIR  (1ull << 4)
#define LANDLOCK_REMOVE_FILE (1ull << 5)
#define LANDLOCK_MAKE_DIR    (1ull << 7)
#define LANDLOCK_MAKE_FILE   (1ull << 8)
#define LANDLOCK_MAKE_SOCKET (1ull << 9)
#define LANDLOCK_MAKE_FIFO   (1ull << 10)
#define LANDLOCK_MAKE_LINK   (1ull << 12) /* a symbolic one */
#define LANDLOCK_REFER	     (1ull << 13) /* to another directory; ABI 2, before it nothing may */
#define LANDLOCK_TRUNCATE    (1ull << 14) /* ABI 3 */
#define LANDLOCK_IOCTL	     (1ull << 15) /* of devices; ABI 5 */

/* Who can be reached by what is no file (ABI 6): processes outside of the domain. */
#define LANDLOCK_SCOPE_ABSTRACT (1ull << 0) /* connect to abstract unix sockets */
#define LANDLOCK_SCOPE_SIGNAL	(1ull << 1) /* send signals */

/* What the running kernel can do, 1 and up; 0: no Landlock, built without it or switched off. */
unsigned landlock_abi(void);

/*
 * A ruleset that allows nothing yet: no file, no TCP port to bind or connect to (ABI 4), and what
 * scope says. *fd is for the caller to close, or -1 without Landlock, which all below accept.
 */
int landlock_open(uint64_t scope, int *fd, struct err *e);

/*
 * Allows rights at path below dirfd (O_PATH; a final symbolic link is an error, as is nothing at
 * all, with errnum ENOENT); "" is dirfd itself. Where that is no directory, rights that only
 * directories have are left out, and so are those that the kernel does not know.
 */
int landlock_allow(int fd, int dirfd, const char *path, uint64_t rights, struct err *e);

/*
 * Binds the calling thread for good; needs no_new_privs. Only a system call, so it is safe after
 * clone(2). Returns 0, or -1 with errno.
 */
int landlock_enforce(int fd);

#endif
