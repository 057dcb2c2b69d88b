// SPDX-License-Identifier: Apache-2.0
#include "cli_source.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as many as the kernel follows */

struct walk {
	const char *path;	 /* as it was given, for messages */
	char rest[2 * PATH_MAX]; /* what is still to be walked */
	int at;			 /* where that begins */
	unsigned links;
};

int cli_source_check(int dir_fd, int fd, const char *what, struct err *e)
{
	struct stat dir, st;
	if (fstat(dir_fd, &dir) < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s", what);
	bool roots = dir.st_uid == 0 && !(dir.st_mode & 022);
	if (roots || !S_ISREG(st.st_mode) || st.st_nlink < 2 || st.st_uid == dir.st_uid)
		return 0;
	return err_set(e, ERR_INVALID, 0,
		       "%s is one of %lu links to a file of uid %u, in a directory of uid %u: copy "
		       "it to a directory of root's first",
		       what, (unsigned long)st.st_nlink, st.st_uid, dir.st_uid);
}

static int start_at(struct walk *w, const char *path, struct err *e)
{
	int fd = path[0] == '/' ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)
		 : w->at < 0	? open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)
				: w->at;
	if (fd < 0)
		return err_errno(e, errno, "open %s", w->path);
	if (fd != w->at)
		fd_close(&w->at);
	w->at = fd;
	return 0;
}

/* Puts what a link says in front of the rest. */
static int follow(struct walk *w, int link, const struct stat *st, struct err *e)
{
	char target[PATH_MAX];
	if (st->st_uid != 0 || st->st_nlink != 1)
		return err_set(
			e, ERR_INVALID, 0,
			"%s: a symbolic link of uid %u is on the way to it, who could change "
			"it meanwhile: name the file itself",
			w->path, st->st_uid);
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);
	if (n < 0)
		return err_errno(e, errno, "read a link on the way to %s", w->path);
	target[n] = '\0';
	size_t rest = strlen(w->rest) + 1;
	if (++w->links > LINKS_MAX || (size_t)n + 1 + rest > sizeof(w->rest))
		return err_set(e, ERR_INVALID, ELOOP, "open %s", w->path);
	memmove(w->rest + n + 1, w->rest, rest);
	memcpy(w->rest, target, (size_t)n);
	w->rest[n] = '/';
	return start_at(w, target, e);
}

/* Takes the next component from the rest; false at its end. */
static bool next(struct walk *w, char name[NAME_MAX + 1], bool *too_long)
{
	char *from = w->rest + strspn(w->rest, "/");
	size_t len = strcspn(from, "/");
	*too_long = len > NAME_MAX;
	if (len == 0 || *too_long)
		return false;
	memcpy(name, from, len);
	name[len] = '\0';
	from += len;
	from += strspn(from, "/");
	memmove(w->rest, from, strlen(from) + 1);
	return true;
}

/* 1: the rest is to be walked further; 0: *out is what was asked for. */
static int step(struct walk *w, const char *name, int flags, int *out, struct err *e)
{
	struct stat st;
	CLEANUP_FD int fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_INVALID, errno, "open %s", w->path);
	if (S_ISLNK(st.st_mode))
		return follow(w, fd, &st, e) < 0 ? -1 : 1;
	if (w->rest[0]) {
		fd_close(&w->at);
		w->at = fd_take(&fd);
		return 1;
	}
	/* Not the one just looked at, if somebody is quick; but none that is a link. */
	CLEANUP_FD int opened = openat(
		w->at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
	if (opened < 0)
		return err_set(e, ERR_INVALID, errno, "open %s", w->path);
	if (cli_source_check(w->at, opened, w->path, e) < 0)
		return -1;
	*out = fd_take(&opened);
	return 0;
}

int cli_source_open(const char *path, int flags, struct err *e)
{
	struct walk w = {.path = path, .at = -1};
	char name[NAME_MAX + 1];
	bool too_long;
	int out = -1, more = 1;
	if (strlen(path) >= PATH_MAX)
		return err_set(e, ERR_INVALID, ENAMETOOLONG, "open %.64s...", path);
	snprintf(w.rest, sizeof(w.rest), "%s", path);
	if (start_at(&w, path, e) < 0)
		return -1;
	while (more == 1 && next(&w, name, &too_long))
		more = step(&w, name, flags, &out, e);
	if (more == 1 && (too_long || !(flags & O_DIRECTORY)))
		more = err_set(e, ERR_INVALID, too_long ? ENAMETOOLONG : EISDIR, "open %s", path);
	else if (more == 1 && (out = openat(w.at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		more = err_errno(e, errno, "open %s", path);
	fd_close(&w.at);
	return more < 0 ? -1 : out;
}
