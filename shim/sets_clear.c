// SPDX-License-Identifier: Apache-2.0
/* Removing sets, and what else lies in a sandbox's directory. */
#include "file.h"
#include "sets.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Directories that are taken away while a VMM lives, and may go on making new ones. */
#define DIRECTORIES_MAX 4096

/*
 * One that a VMM made may be closed to us, who are root without the right to pass over modes. It is
 * made ours, and its mode after it: what it stands in is ours, so nobody can put a link in its
 * place.
 */
static int take_directory(int parent_fd, const char *name, struct err *e)
{
	struct stat st;
	if (fchownat(parent_fd, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "take directory %s of a set", name);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_VMM, 0, "%s of a set is a directory no more", name);
	if (fchmodat(parent_fd, name, 0700, 0) < 0)
		return err_errno(e, errno, "open directory %s of a set", name);
	return 0;
}

/* Opens a directory of ours for reading through it; the caller closes it with closedir(3). */
static DIR *list(int fd, struct err *e)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		err_errno(e, errno, "list a set");
		fd_close(&copy);
	}
	return dir;
}

/* The next entry that unlinkat(2) does not take away: a directory. NULL: there is none, or an
 * error, told by *failed. */
static const char *next_directory(DIR *dir, bool *failed, struct err *e)
{
	*failed = false;
	for (const struct dirent *d; (d = readdir(dir));) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
		    unlinkat(dirfd(dir), d->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno == EISDIR)
			return d->d_name;
		*failed = true;
		err_errno(e, errno, "remove %s of a set", d->d_name);
		return NULL;
	}
	return NULL;
}

/* Moves a directory into fd under a name that nothing there has. */
static int lift(int from_fd, const char *name, int fd, unsigned *number, struct err *e)
{
	char up[24];
	if (take_directory(from_fd, name, e) < 0)
		return -1;
	for (;;) {
		snprintf(up, sizeof(up), ".lifted-%u", (*number)++);
		if (renameat2(from_fd, name, fd, up, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return err_errno(e, errno, "move directory %s of a set", name);
	}
}

/* Removes a directory. Those in it are not gone into but put beside it. */
static int flatten(int fd, const char *name, unsigned *number, struct err *e)
{
	bool failed;
	if (take_directory(fd, name, e) < 0)
		return -1;
	CLEANUP_FD int own =
		file_open_beneath(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "set", e);
	DIR *dir = own < 0 ? NULL : list(own, e);
	if (!dir)
		return -1;
	int result = 0;
	for (const char *in; result == 0 && (in = next_directory(dir, &failed, e));)
		result = lift(dirfd(dir), in, fd, number, e);
	closedir(dir);
	if (result < 0 || failed)
		return -1;
	if (unlinkat(fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove directory %s of a set", name);
	return 0;
}

/* However deep a VMM has nested directories: neither stack nor descriptors grow with that. */
static int empty_tree(int fd, unsigned max, struct err *e)
{
	unsigned number = 0, removed = 0;
	bool failed = false, found = true;
	while (found && !failed) {
		DIR *dir = list(fd, e);
		if (!dir)
			return -1;
		found = false;
		for (const char *name; !failed && (name = next_directory(dir, &failed, e));) {
			found = true;
			failed = flatten(fd, name, &number, e) < 0;
			if (!failed && ++removed > max)
				failed = err_set(e, ERR_VMM, 0,
						 "more than %u directories lie in a set", max) < 0;
		}
		closedir(dir);
	}
	return failed ? -1 : 0;
}

static int remove_tree(int parent_fd, const char *name, struct err *e)
{
	CLEANUP_FD int fd = file_open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
					      0, "set", e);
	if (fd < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (empty_tree(fd, UINT_MAX, e) < 0)
		return -1;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove set %s", name);
	return 0;
}

int sets_remove(int parent_fd, const char *name, struct err *e)
{
	return remove_tree(parent_fd, name, e);
}

int sets_remove_template(int templates_fd, const char *key, struct err *e)
{
	char staged[NAME_KEY_SIZE + 8], removed[NAME_KEY_SIZE + 8];
	snprintf(staged, sizeof(staged), SETS_STAGING_PREFIX "%s", key);
	snprintf(removed, sizeof(removed), SETS_REMOVED_PREFIX "%s", key);
	/* Out of sight first: one that is half removed would be taken for a damaged one. */
	if (sets_remove(templates_fd, removed, e) < 0)
		return -1;
	if (renameat(templates_fd, key, templates_fd, removed) < 0 && errno != ENOENT)
		return err_errno(e, errno, "take template %s away", key);
	if (sets_remove(templates_fd, removed, e) < 0)
		return -1;
	return sets_is_abandoned(templates_fd, staged) ? sets_remove(templates_fd, staged, e) : 0;
}

int sets_empty(int dir_fd, struct err *e)
{
	return empty_tree(dir_fd, DIRECTORIES_MAX, e);
}

/*
 * No uid that another sandbox may get keeps a way to them. Without a meta they were still being
 * made: they are nothing yet.
 */
static int take_disks(int sandbox_fd, struct err *e)
{
	CLEANUP_FD int dir = file_open_beneath(sandbox_fd, SETS_DISKS,
					       O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "disks", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (faccessat(dir, SETS_META, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return sets_remove(sandbox_fd, SETS_DISKS, e);
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++) {
		const char name[] = {(char)('0' + i), '\0'};
		if (fchownat(dir, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			return err_errno(e, errno, "take disk %u back", i);
		}
		/*
		 * The VMM owned it, so it may have opened it to others. EOPNOTSUPP: a link that was
		 * put there by hand, whose mode says nothing; a wake will refuse it.
		 */
		if (fchmodat(dir, name, 0600, AT_SYMLINK_NOFOLLOW) < 0 && errno != EOPNOTSUPP)
			return err_errno(e, errno, "set the mode of disk %u", i);
	}
	return 0;
}

int sets_clear_sandbox(int sandboxes_fd, const char *key, struct err *e)
{
	CLEANUP_FD int dir = file_open_beneath(
		sandboxes_fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "sandbox", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (sets_remove(dir, SETS_SCRATCH, e) < 0 ||
	    sets_remove(dir, SETS_STAGING_PREFIX SETS_OF_SANDBOX, e) < 0 || take_disks(dir, e) < 0)
		return -1;
	if (unlinkat(sandboxes_fd, key, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY &&
	    errno != EEXIST && errno != ENOENT)
		return err_errno(e, errno, "remove directory sandboxes/%s", key);
	return 0;
}
