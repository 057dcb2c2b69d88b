// SPDX-License-Identifier: Apache-2.0
#include "cli_image_store.h"

#include "file.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_US	      10000000
#define SIDECAR_BYTES 4096 /* ours have some 300 */

const char *cli_image_store_kind(enum cli_image_kind kind)
{
	static const char *const words[] = {"kernel", "initramfs", "disk"};
	return kind < CLI_IMAGE_KINDS ? words[kind] : "?";
}

const char *cli_image_store_folder(enum cli_image_kind kind)
{
	static const char *const folders[] = {"kernels", "initramfs", "disks"};
	return kind < CLI_IMAGE_KINDS ? folders[kind] : "?";
}

/* ------------------------------------------------------------------ folders */

static int check_dir(int fd, const char *what, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s", what);
	if (st.st_uid != 0 || (st.st_mode & 022))
		return err_set(e, ERR_INVALID, 0,
			       "%s is of uid %u, mode %04o; it must be root's and writable by "
			       "nobody else",
			       what, st.st_uid, st.st_mode & 07777);
	return 0;
}

static int open_dir(int parent, const char *name, bool make, struct err *e)
{
	bool made = make && mkdirat(parent, name, 0755) == 0;
	if (make && !made && errno != EEXIST)
		return err_errno(e, errno, "make directory %s", name);
	CLEANUP_FD int fd = file_open_beneath(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
					      "directory", e);
	if (fd < 0)
		return -1;
	/* The umask is not to matter. */
	if (made && (fchown(fd, 0, 0) < 0 || fchmod(fd, 0755) < 0 || fsync(parent) < 0))
		return err_errno(e, errno, "owner, mode and sync of directory %s", name);
	return check_dir(fd, name, e) < 0 ? -1 : fd_take(&fd);
}

int cli_image_store_open(int state_fd, enum cli_image_kind kind, bool make, struct err *e)
{
	/* Not O_PATH, which cannot be synced. */
	CLEANUP_FD int state = openat(state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state < 0)
		return err_errno(e, errno, "open state_dir");
	if (check_dir(state, "state_dir", e) < 0)
		return -1;
	CLEANUP_FD int images = open_dir(state, "images", make, e);
	return images < 0 ? -1 : open_dir(images, cli_image_store_folder(kind), make, e);
}

int cli_image_store_lock(int dir, struct err *e)
{
	const int64_t until = clock_us() + LOCK_US;
	while (flock(dir, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_errno(e, errno, "lock the images' directory");
		if (clock_us() >= until)
			return err_set(e, ERR_DEADLINE, 0,
				       "another command holds the images' directory for %d s; try "
				       "again later",
				       LOCK_US / 1000000);
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
	}
	return 0;
}

void cli_image_store_unlock(int dir)
{
	flock(dir, LOCK_UN);
}

/* ------------------------------------------------------------------ reading */

static void copy_member(const cJSON *object, const char *key, char *out, size_t size)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
	str_copy(out, size, text ? text : "");
	str_clean(out);
}

static int64_t modified_us(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
}

/* One that is not of this very file tells nothing about it. */
static void read_sidecar(int dir, const char *name, const struct stat *st,
			 struct cli_image_info *info)
{
	char path[NAME_SIZE + 8], text[SIDECAR_BYTES], modified[CLOCK_TEXT_MAX];
	struct err ignored;
	snprintf(path, sizeof(path), ".%s.json", name);
	if (file_read_text(dir, path, text, sizeof(text), &ignored) < 0)
		return;
	cJSON *object = cJSON_Parse(text);
	const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(object, "bytes");
	copy_member(object, "imported_at", info->imported_at, sizeof(info->imported_at));
	clock_format(modified_us(st), modified);
	if (strcmp(info->imported_at, modified) != 0 || !cJSON_IsNumber(bytes) ||
	    (uint64_t)bytes->valuedouble != info->bytes) {
		info->imported_at[0] = '\0';
	} else {
		copy_member(object, "sha256", info->sha256, sizeof(info->sha256));
		copy_member(object, "source", info->source, sizeof(info->source));
	}
	cJSON_Delete(object);
}

/* The same as the shim asks for when it binds it into a jail. */
static int check_image(int fd, enum cli_image_kind kind, const struct stat *st, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 022};
	uint64_t bytes;
	if (file_check_regular(fd, &rule, "it", &bytes, e) < 0)
		return -1;
	if ((st->st_mode & 0444) != 0444)
		return err_set(e, ERR_INVALID, 0, "it must be readable for all (mode 0444)");
	if (kind == CLI_IMAGE_DISK && (bytes == 0 || bytes % CLI_IMAGE_SECTOR))
		return err_set(e, ERR_INVALID, 0, "a disk must be whole sectors of %u bytes",
			       CLI_IMAGE_SECTOR);
	return 0;
}

int cli_image_store_read(int dir, enum cli_image_kind kind, const char *name,
			 struct cli_image_info *info, struct err *e)
{
	struct stat st;
	struct err fault;
	*info = (struct cli_image_info){0};
	str_copy(info->name, sizeof(info->name), name);
	CLEANUP_FD int fd = file_open_beneath(dir, name, O_PATH | O_NOFOLLOW, 0,
					      cli_image_store_kind(kind), &fault);
	if (fd < 0 && fault.kind == ERR_NOT_FOUND)
		return err_set(e, ERR_NOT_FOUND, 0, "there is no %s \"%s\"",
			       cli_image_store_kind(kind), name);
	if (fd >= 0 && fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s", name);
	if (fd >= 0 && S_ISREG(st.st_mode)) {
		info->bytes = (uint64_t)st.st_size;
		info->allocated_bytes = (uint64_t)st.st_blocks * 512;
		read_sidecar(dir, name, &st, info);
	}
	if (fd < 0 || check_image(fd, kind, &st, &fault) < 0)
		str_copy(info->fault, sizeof(info->fault), fault.text);
	return 0;
}

/* ------------------------------------------------------------------ the new file */

static int is_busy(const struct cli_image_staging *s, struct err *e)
{
	return err_set(e, ERR_STATE, 0, "another import writes %s just now", s->name);
}

/* The folder is locked, so that nobody makes the file just now and has yet to lock it. */
static int remove_stale(const struct cli_image_staging *s, struct err *e)
{
	CLEANUP_FD int fd =
		openat(s->dir, s->temporary, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(e, errno, "open %s, which an import left", s->temporary);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return is_busy(s, e);
	if (unlinkat(s->dir, s->temporary, 0) < 0)
		return err_errno(e, errno, "remove %s, which an import left", s->temporary);
	return 0;
}

static int check_place(const struct cli_image_staging *s, struct err *e)
{
	struct stat st;
	if (fstatat(s->dir, s->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "stat %s", s->name);
	if (!s->replace)
		return err_set(e, ERR_STATE, 0,
			       "there is an image %s already; --replace puts this one in its place",
			       s->name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_STATE, 0,
			       "what is named %s there is no file: remove it by hand", s->name);
	return 0;
}

int cli_image_store_begin(struct cli_image_staging *s, int dir, const char *name, bool replace,
			  struct err *e)
{
	*s = (struct cli_image_staging){.dir = dir, .fd = -1, .replace = replace};
	str_copy(s->name, sizeof(s->name), name);
	snprintf(s->temporary, sizeof(s->temporary), ".new:%s", name);
	snprintf(s->sidecar, sizeof(s->sidecar), ".%s.json", name);
	snprintf(s->sidecar_temporary, sizeof(s->sidecar_temporary), ".json:%s", name);
	if (check_place(s, e) < 0 || remove_stale(s, e) < 0)
		return -1;
	CLEANUP_FD int fd =
		openat(dir, s->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "make %s", s->temporary);
	/* Held as long as we live and write: see remove_stale(). */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(e, errno, "lock %s", s->temporary);
	s->fd = fd_take(&fd);
	return 0;
}

void cli_image_store_abandon(struct cli_image_staging *s)
{
	if (s->fd < 0)
		return;
	unlinkat(s->dir, s->temporary, 0);
	fd_close(&s->fd);
}

int cli_image_store_settle(const struct cli_image_staging *s, int64_t imported_real_us,
			   struct err *e)
{
	const int64_t ms = imported_real_us / 1000; /* as clock_format() writes it */
	const struct timespec at = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	if (fchown(s->fd, 0, 0) < 0 || fchmod(s->fd, 0444) < 0 ||
	    futimens(s->fd, (const struct timespec[]){at, at}) < 0)
		return err_errno(e, errno, "owner, mode and time of %s", s->temporary);
	if (fsync(s->fd) < 0)
		return err_errno(e, errno, "sync %s", s->temporary);
	return 0;
}

/* ------------------------------------------------------------------ into place */

static int write_text(int fd, const char *text, const char *what, struct err *e)
{
	for (size_t left = strlen(text); left;) {
		ssize_t n = write(fd, text, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, n < 0 ? errno : ENOSPC, "write %s", what);
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

static int write_sidecar(const struct cli_image_staging *s, const struct cli_image_info *info,
			 struct err *e)
{
	cJSON *object = cJSON_CreateObject();
	cJSON_AddStringToObject(object, "sha256", info->sha256);
	cJSON_AddNumberToObject(object, "bytes", (double)info->bytes);
	cJSON_AddStringToObject(object, "imported_at", info->imported_at);
	bool whole = cJSON_AddStringToObject(object, "source", info->source) != NULL;
	char *text CLEANUP_FREE = whole ? cJSON_PrintUnformatted(object) : NULL;
	cJSON_Delete(object);
	if (!text)
		return err_errno(e, ENOMEM, "write %s", s->sidecar);
	/* The folder is locked: what is left of an import that was killed is nobody's. */
	if (unlinkat(s->dir, s->sidecar_temporary, 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove %s", s->sidecar_temporary);
	CLEANUP_FD int fd = openat(s->dir, s->sidecar_temporary,
				   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "make %s", s->sidecar_temporary);
	if (write_text(fd, text, s->sidecar_temporary, e) < 0)
		return -1;
	if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
		return err_errno(e, errno, "owner, mode and sync of %s", s->sidecar_temporary);
	return 0;
}

static int move(int dir, const char *from, const char *to, unsigned how)
{
	return renameat2(dir, from, dir, to, how);
}

/* Where something stands already the two change places, so that it can be undone. */
static int put(int dir, const char *from, const char *to, bool replace, unsigned *how,
	       struct err *e)
{
	*how = RENAME_NOREPLACE;
	int failed = move(dir, from, to, *how);
	if (failed && errno == EEXIST && replace) {
		*how = RENAME_EXCHANGE;
		failed = move(dir, from, to, *how);
	}
	if (failed && errno == EEXIST)
		return err_set(e, ERR_STATE, 0, "there is an image %s already", to);
	if (failed)
		return err_errno(e, errno, "rename %s to %s", from, to);
	if (fsync(dir) == 0)
		return 0;
	err_errno(e, errno, "sync the directory of %s", to);
	if (move(dir, to, from, *how) < 0)
		return err_prefix(e, "%s cannot be undone (%s)", to, strerrordesc_np(errno));
	return -1;
}

int cli_image_store_commit(struct cli_image_staging *s, const struct cli_image_info *info,
			   struct err *e)
{
	unsigned how_sidecar, how_image;
	if (write_sidecar(s, info, e) < 0 ||
	    put(s->dir, s->sidecar_temporary, s->sidecar, true, &how_sidecar, e) < 0) {
		unlinkat(s->dir, s->sidecar_temporary, 0);
		return -1;
	}
	if (put(s->dir, s->temporary, s->name, s->replace, &how_image, e) < 0) {
		if (move(s->dir, s->sidecar, s->sidecar_temporary, how_sidecar) < 0)
			err_prefix(e, "%s cannot be undone (%s)", s->sidecar,
				   strerrordesc_np(errno));
		unlinkat(s->dir, s->sidecar_temporary, 0);
		return -1;
	}
	/* What stood there before. If it stays, the next import finds and removes it. */
	if (how_sidecar == RENAME_EXCHANGE)
		unlinkat(s->dir, s->sidecar_temporary, 0);
	if (how_image == RENAME_EXCHANGE)
		unlinkat(s->dir, s->temporary, 0);
	fd_close(&s->fd);
	return 0;
}

int cli_image_store_remove(int dir, const char *name, struct err *e)
{
	char sidecar[NAME_SIZE + 8];
	snprintf(sidecar, sizeof(sidecar), ".%s.json", name);
	if (unlinkat(dir, name, 0) < 0)
		return errno == ENOENT ? err_set(e, ERR_NOT_FOUND, 0, "there is no \"%s\"", name)
				       : err_errno(e, errno, "remove %s", name);
	if (unlinkat(dir, sidecar, 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove %s", sidecar);
	if (fsync(dir) < 0)
		return err_errno(e, errno, "sync the directory of %s", name);
	return 0;
}
