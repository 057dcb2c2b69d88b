// SPDX-License-Identifier: Apache-2.0
#include "sets.h"

#include "file.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* No name or key begins with a dot, so a staging directory is nobody's set. */
#define STAGING_PREFIX ".new-"

static void digest_of(const void *data, size_t size, uint8_t out[MSG_DIGEST_SIZE])
{
	SHA256_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, data, size);
	SHA256Final(out, &context);
}

/* ------------------------------------------------------------------ writing */

static int begin(struct sets_staging *s, struct err *e)
{
	snprintf(s->temporary, sizeof(s->temporary), STAGING_PREFIX "%s", s->final);
	/* One that is left over is of a shim that died. */
	if (sets_is_abandoned(s->parent_fd, s->temporary) &&
	    sets_remove(s->parent_fd, s->temporary, e) < 0)
		return -1;
	if (mkdirat(s->parent_fd, s->temporary, 0700) < 0 && errno == EEXIST)
		return err_set(e, ERR_STATE, 0, "another snapshot writes %s just now", s->final);
	s->fd = file_make_dir(s->parent_fd, s->temporary, 0, 0, 0755, e);
	if (s->fd < 0)
		return -1;
	/* Held as long as we live and write: see sets_is_abandoned(). */
	if (flock(s->fd, LOCK_EX | LOCK_NB) < 0) {
		fd_close(&s->fd);
		return err_set(e, ERR_STATE, 0, "another snapshot writes %s just now", s->final);
	}
	return 0;
}

bool sets_is_abandoned(int parent_fd, const char *name)
{
	if (strncmp(name, STAGING_PREFIX, sizeof(STAGING_PREFIX) - 1) != 0)
		return false;
	CLEANUP_FD int fd =
		openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

int sets_begin_template(struct sets_staging *s, int templates_fd, const char *key, struct err *e)
{
	*s = (struct sets_staging){.parent_fd = templates_fd, .fd = -1};
	str_copy(s->final, sizeof(s->final), key);
	if (faccessat(templates_fd, key, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, ERR_STATE, 0, "there is a template %s already", key);
	return begin(s, e);
}

int sets_begin_sandbox(struct sets_staging *s, int sandbox_fd, struct err *e)
{
	*s = (struct sets_staging){.parent_fd = sandbox_fd, .fd = -1, .replace = true};
	str_copy(s->final, sizeof(s->final), SETS_OF_SANDBOX);
	return begin(s, e);
}

int sets_new_file(const struct sets_staging *s, const char *name, struct err *e)
{
	int fd = openat(s->fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0)
		return err_errno(e, errno, "make %s of the set", name);
	return fd;
}

int sets_write(const struct sets_staging *s, const char *name, const void *data, size_t size,
	       uint8_t digest[MSG_DIGEST_SIZE], struct err *e)
{
	CLEANUP_FD int fd = sets_new_file(s, name, e);
	if (fd < 0)
		return -1;
	const char *at = data;
	for (size_t left = size; left;) {
		ssize_t n = write(fd, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, n < 0 ? errno : ENOSPC, "write %s of the set", name);
		at += n;
		left -= (size_t)n;
	}
	if (digest)
		digest_of(data, size, digest);
	return 0;
}

/* Calls fn for each file of the set that is there. */
static int each_file(int dir_fd, int (*fn)(int fd, const char *name, void *arg, struct err *e),
		     void *arg, struct err *e)
{
	static const char *const names[] = {SETS_CONFIG, SETS_STATE, SETS_RAM, SETS_RANGES,
					    SETS_META};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP_FD int fd = openat(dir_fd, names[i], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return err_errno(e, errno, "open %s of the set", names[i]);
		if (fn(fd, names[i], arg, e) < 0)
			return -1;
	}
	return 0;
}

static int add_size(int fd, const char *name, void *arg, struct err *e)
{
	struct msg_set *set = arg;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s of the set", name);
	set->apparent_bytes += (uint64_t)st.st_size;
	set->allocated_bytes += (uint64_t)st.st_blocks * 512;
	return 0;
}

static int sync_file(int fd, const char *name, void *arg, struct err *e)
{
	(void)arg;
	if (fsync(fd) < 0)
		return err_errno(e, errno, "sync %s of the set", name);
	return 0;
}

/* Both at once where there is an older set: it is whole until the new one stands in its place. */
static int rename_staged(struct sets_staging *s, struct err *e)
{
	if (renameat2(s->parent_fd, s->temporary, s->parent_fd, s->final, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST)
		return err_errno(e, errno, "rename the set to %s", s->final);
	if (!s->replace)
		return err_set(e, ERR_STATE, 0, "there is a template %s already", s->final);
	if (renameat2(s->parent_fd, s->temporary, s->parent_fd, s->final, RENAME_EXCHANGE) < 0)
		return err_errno(e, errno, "put the set in the place of the older one");
	if (fsync(s->parent_fd) < 0)
		return err_errno(e, errno, "sync the set's directory");
	/* The older one stands under the staging name now. */
	struct err ignored;
	sets_remove(s->parent_fd, s->temporary, &ignored);
	return 0;
}

int sets_commit(struct sets_staging *s, struct msg_set *set, struct err *e)
{
	set->format = MSG_SET_FORMAT;
	set->apparent_bytes = set->allocated_bytes = 0;
	if (each_file(s->fd, sync_file, NULL, e) < 0 || each_file(s->fd, add_size, set, e) < 0 ||
	    sets_write(s, SETS_META, set, sizeof(*set), NULL, e) < 0 ||
	    each_file(s->fd, sync_file, NULL, e) < 0)
		return -1;
	if (fsync(s->fd) < 0)
		return err_errno(e, errno, "sync the set");
	if (rename_staged(s, e) < 0)
		return -1;
	if (fsync(s->parent_fd) < 0)
		return err_errno(e, errno, "sync the set's directory");
	fd_close(&s->fd);
	return 0;
}

void sets_abandon(struct sets_staging *s)
{
	struct err ignored;
	if (s->fd < 0)
		return;
	fd_close(&s->fd);
	sets_remove(s->parent_fd, s->temporary, &ignored);
}

/* ------------------------------------------------------------------ reading */

/* A file of a set, checked on its descriptor. */
static int open_file(int dir_fd, const char *name, const char *what, uint64_t *bytes, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 0222};
	char full[2 * NAME_KEY_SIZE];
	snprintf(full, sizeof(full), "%s of %s", name, what);
	/* O_NONBLOCK: a FIFO in its place must not hold us up. */
	CLEANUP_FD int fd =
		file_open_beneath(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, full, e);
	if (fd < 0) {
		if (e->kind == ERR_NOT_FOUND)
			return err_set(e, ERR_INTERNAL, 0, "%s is missing: the set is damaged",
				       full);
		return -1;
	}
	if (file_check_regular(fd, &rule, full, bytes, e) < 0) {
		e->kind = ERR_INTERNAL;
		return -1;
	}
	return fd_take(&fd);
}

static int check_digest(int dir_fd, const char *name, const char *what,
			const uint8_t want[MSG_DIGEST_SIZE], struct err *e)
{
	uint64_t bytes;
	uint8_t digest[MSG_DIGEST_SIZE];
	CLEANUP_FD int fd = open_file(dir_fd, name, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes == 0 || bytes > SETS_STATE_MAX)
		return err_set(e, ERR_INTERNAL, 0, "%s of %s has %llu bytes: the set is damaged",
			       name, what, (unsigned long long)bytes);
	char *data CLEANUP_FREE = malloc(bytes);
	if (!data)
		return err_errno(e, ENOMEM, "read %s of %s", name, what);
	if (read(fd, data, bytes) != (ssize_t)bytes)
		return err_errno(e, errno ? errno : EIO, "read %s of %s", name, what);
	digest_of(data, bytes, digest);
	if (memcmp(digest, want, sizeof(digest)) != 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s of %s is not as it was written: the set is damaged", name, what);
	return 0;
}

static int check_memory(int dir_fd, const char *name, const char *what, uint64_t want,
			struct err *e)
{
	uint64_t bytes;
	CLEANUP_FD int fd = open_file(dir_fd, name, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes != want)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s of %s has %llu bytes, the guest %llu: the set is damaged", name,
			       what, (unsigned long long)bytes, (unsigned long long)want);
	return 0;
}

static int read_meta(int dir_fd, const char *what, struct msg_set *set, struct err *e)
{
	uint64_t bytes;
	struct msg_template body = {0};
	CLEANUP_FD int fd = open_file(dir_fd, SETS_META, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes != sizeof(*set) || read(fd, set, sizeof(*set)) != (ssize_t)sizeof(*set))
		return err_set(e, ERR_VERSION, 0,
			       "meta of %s has %llu bytes: not of this version of Cloister", what,
			       (unsigned long long)bytes);
	/* The same checks as for the record that carries it. */
	body.set = *set;
	if (msg_write_template(&body, e) < 0)
		return err_prefix(e, "meta of %s", what);
	return 0;
}

int sets_read_meta(int parent_fd, const char *name, struct msg_set *set, struct err *e)
{
	CLEANUP_FD int dir = file_open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
					       0, "set", e);
	return dir < 0 ? -1 : read_meta(dir, name, set, e);
}

int sets_open(int parent_fd, const char *name, const char *key, const char *what,
	      struct msg_set *set, struct err *e)
{
	CLEANUP_FD int dir =
		file_open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, what, e);
	if (dir < 0 || read_meta(dir, what, set, e) < 0)
		return -1;
	if (strcmp(set->key, key) != 0)
		return err_set(e, ERR_INTERNAL, 0, "%s holds the set of %s", what, set->key);
	uint64_t memory = (uint64_t)set->spec.memory_mib << 20;
	if (check_digest(dir, SETS_CONFIG, what, set->config_digest, e) < 0 ||
	    check_digest(dir, SETS_STATE, what, set->state_digest, e) < 0)
		return -1;
	if ((set->content & MSG_SET_RAM) && check_memory(dir, SETS_RAM, what, memory, e) < 0)
		return -1;
	if ((set->content & MSG_SET_RANGES) && check_memory(dir, SETS_RANGES, what, memory, e) < 0)
		return -1;
	return fd_take(&dir);
}

/* ------------------------------------------------------------------ removing */

/* A VMM may have made directories in its scratch one; no honest one goes deep. */
#define REMOVE_DEPTH 8

static int remove_tree(int parent_fd, const char *name, int depth, struct err *e);

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
			result = remove_tree(fd, d->d_name, depth + 1, e);
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

int sets_empty(int dir_fd, struct err *e)
{
	return empty_tree(dir_fd, 0, e);
}

int sets_clear_sandbox(int sandboxes_fd, const char *key, struct err *e)
{
	CLEANUP_FD int dir = file_open_beneath(
		sandboxes_fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "sandbox", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (sets_remove(dir, SETS_SCRATCH, e) < 0 ||
	    sets_remove(dir, STAGING_PREFIX SETS_OF_SANDBOX, e) < 0)
		return -1;
	if (unlinkat(sandboxes_fd, key, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY &&
	    errno != EEXIST && errno != ENOENT)
		return err_errno(e, errno, "remove directory sandboxes/%s", key);
	return 0;
}
