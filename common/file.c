// SPDX-License-Identifier: Apache-2.0
#include "file.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_TRIES 64

int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, const char *what,
		      struct err *e)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = (flags & O_CREAT) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;
	unsigned tries = 0;
	/* EAGAIN: a rename raced with the walk; but also a lease on the file, which may stay. */
	do
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < OPEN_TRIES)));
	if (fd >= 0)
		return (int)fd;
	if (errno == ENOENT)
		return err_set(e, ERR_NOT_FOUND, errno, "%s \"%s\"", what, path);
	if (errno == ELOOP)
		return err_set(e, ERR_INVALID, errno,
			       "%s \"%s\" is or leads through a symbolic link", what, path);
	return err_errno(e, errno, "open %s \"%s\"", what, path);
}

int file_open_dir(const char *path, struct err *e)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "open directory %s", path);
	return fd;
}

int file_make_dir(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode, struct err *e)
{
	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "make directory %s", name);
	CLEANUP_FD int fd = file_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
					      "directory", e);
	if (fd < 0)
		return -1;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat directory %s", name);
	if ((st.st_uid != uid || st.st_gid != gid) && fchown(fd, uid, gid) < 0)
		return err_errno(e, errno, "chown directory %s to %u:%u", name, uid, gid);
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return err_errno(e, errno, "chmod directory %s to %o", name, mode);
	return fd_take(&fd);
}

int file_check_regular(int fd, const struct file_rule *rule, const char *what, uint64_t *bytes,
		       struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s", what);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, 0, "%s is not a regular file", what);
	if (st.st_uid != rule->owner)
		return err_set(e, ERR_INVALID, 0, "%s is owned by uid %u, must be uid %u", what,
			       st.st_uid, rule->owner);
	if (st.st_nlink != 1 && !rule->any_links)
		return err_set(e, ERR_INVALID, 0, "%s has %lu links, must have one", what,
			       (unsigned long)st.st_nlink);
	if (st.st_mode & rule->forbidden)
		return err_set(e, ERR_INVALID, 0, "%s has mode %04o, none of %04o may be set", what,
			       st.st_mode & 07777, rule->forbidden);
	if (rule->max_bytes && (uint64_t)st.st_size > rule->max_bytes)
		return err_set(e, ERR_INVALID, 0, "%s has %lld bytes, at most %llu are allowed",
			       what, (long long)st.st_size, (unsigned long long)rule->max_bytes);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

int file_check_mount(int dirfd, int fd, const char *what, struct err *e)
{
	struct statx dir, file;
	if (statx(dirfd, "", AT_EMPTY_PATH, STATX_MNT_ID, &dir) < 0 ||
	    statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &file) < 0)
		return err_errno(e, errno, "stat %s", what);
	if (dir.stx_mnt_id != file.stx_mnt_id)
		return err_set(e, ERR_INVALID, 0, "%s is on another mount than its directory",
			       what);
	return 0;
}

int file_write_text(int dirfd, const char *path, const char *text, struct err *e)
{
	CLEANUP_FD int fd = file_open_beneath(dirfd, path, O_WRONLY, 0, "file", e);
	if (fd < 0)
		return -1;
	size_t len = strlen(text);
	ssize_t n = write(fd, text, len);
	if (n < 0)
		return err_errno(e, errno, "write \"%s\" to %s", text, path);
	if ((size_t)n != len)
		return err_set(e, ERR_INTERNAL, 0, "write \"%s\" to %s: only %zd bytes went in",
			       text, path, n);
	return 0;
}

ssize_t file_read_text(int dirfd, const char *path, char *buf, size_t size, struct err *e)
{
	CLEANUP_FD int fd = file_open_beneath(dirfd, path, O_RDONLY, 0, "file", e);
	if (fd < 0)
		return -1;
	size_t used = 0;
	while (used < size - 1) {
		ssize_t n = read(fd, buf + used, size - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "read %s", path);
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	return (ssize_t)used;
}
