// SPDX-License-Identifier: Apache-2.0
/* Removing sets, and what else lies in a sandbox's directory. */
#include "file.h"
#include "sets.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A VMM may have made directories in its scratch one; no honest one goes deep. */
#define REMOVE_DEPTH 8

static int remove_tree(int parent_fd, const char *name, int depth, struct err *e);

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

static int empty_tree(int fd, int depth, struct err *e)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		err_errno(e, errno, "list a set");
		fd_close(&copy);
		return -1;
	}
	int result = 0;
	for (struct dirent *d; result == 0 && (d = readdir(dir));) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
		    unlinkat(fd, d->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno == EISDIR && depth < REMOVE_DEPTH)
			result = take_directory(fd, d->d_name, e) < 0
					 ? -1
					 : remove_tree(fd, d->d_name, depth + 1, e);
		else
			result = err_errno(e, errno, "remove %s of a set", d->d_name);
	}
	closedir(dir);
	return result;
}

static int remove_tree(int parent_fd, const char *name, int depth, struct err *e)
{
	CLEANUP_FD int fd = file_open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
					      0, "set", e);
	if (fd < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (empty_tree(fd, depth, e) < 0)
		return -1;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove set %s", name);
	return 0;
}

int sets_remove(int parent_fd, const char *name, struct err *e)
{
	return remove_tree(parent_fd, name, 0, e);
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
	return empty_tree(dir_fd, 0, e);
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
