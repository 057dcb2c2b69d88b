// SPDX-License-Identifier: Apache-2.0
#include "sets.h"

#include "file.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The file meta. The digest covers all before it. The memory is too large to be digested at each
 * restore: that it was changed or taken from another set shows in its time of modification.
 */
struct meta {
	struct msg_set set;
	int64_t ram_time_ns, ranges_time_ns; /* 0 where there is no such file */
	struct sets_disk disks[MSG_DISKS_MAX];
	uint8_t digest[MSG_DIGEST_SIZE];
};

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
	snprintf(s->temporary, sizeof(s->temporary), SETS_STAGING_PREFIX "%s", s->final);
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
	if (strncmp(name, SETS_STAGING_PREFIX, sizeof(SETS_STAGING_PREFIX) - 1) != 0 &&
	    strncmp(name, SETS_REMOVED_PREFIX, sizeof(SETS_REMOVED_PREFIX) - 1) != 0)
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

void sets_disk_name(unsigned number, char out[SETS_DISK_NAME_SIZE])
{
	snprintf(out, SETS_DISK_NAME_SIZE, "disk%u", number);
}

/* Calls fn for each file of the set that is there. */
static int each_file(int dir_fd, int (*fn)(int fd, const char *name, void *arg, struct err *e),
		     void *arg, struct err *e)
{
	static const char *const names[] = {
		SETS_CONFIG, SETS_STATE, SETS_RAM, SETS_RANGES, SETS_META, "disk0", "disk1",
		"disk2",     "disk3",	 "disk4",  "disk5",	"disk6",   "disk7"};
	_Static_assert(ARRAY_SIZE(names) == 5 + MSG_DISKS_MAX, "a name for each file");
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

static int move(const struct sets_staging *s, const char *from, const char *to, unsigned how)
{
	return renameat2(s->parent_fd, from, s->parent_fd, to, how);
}

/* Both at once where there is an older set: it is whole until the new one stands in its place. */
static int rename_staged(struct sets_staging *s, struct err *e)
{
	unsigned how = RENAME_NOREPLACE;
	struct err ignored;
	int failed = move(s, s->temporary, s->final, how);
	if (failed && errno == EEXIST && !s->replace)
		return err_set(e, ERR_STATE, 0, "there is a template %s already", s->final);
	if (failed && errno == EEXIST) {
		how = RENAME_EXCHANGE;
		failed = move(s, s->temporary, s->final, how);
	}
	if (failed)
		return err_errno(e, errno, "rename the set to %s", s->final);
	if (fsync(s->parent_fd) < 0) {
		err_errno(e, errno, "sync the set's directory");
		/* What failed must not stand there, nor the older one go with what is staged. */
		if (move(s, s->final, s->temporary, how) < 0)
			return err_prefix(e, "%s cannot be undone (%s)", s->final,
					  strerrordesc_np(errno));
		return -1;
	}
	/* The older one stands under the staging name now. */
	if (how == RENAME_EXCHANGE)
		sets_remove(s->parent_fd, s->temporary, &ignored);
	return 0;
}

static int64_t time_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int note_time(int fd, const char *name, void *arg, struct err *e)
{
	struct meta *meta = arg;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s of the set", name);
	if (strcmp(name, SETS_RAM) == 0)
		meta->ram_time_ns = time_ns(&st);
	else if (strcmp(name, SETS_RANGES) == 0)
		meta->ranges_time_ns = time_ns(&st);
	return 0;
}

int sets_disk_of(int fd, struct sets_disk *out, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat a disk");
	*out = (struct sets_disk){.time_ns = time_ns(&st), .bytes = (uint64_t)st.st_size};
	return 0;
}

static int note_disks(struct meta *meta, const int disk_fds[MSG_DISKS_MAX], struct err *e)
{
	for (uint32_t i = 0; i < meta->set.spec.disk_count; i++) {
		if (disk_fds[i] < 0)
			continue;
		if (fsync(disk_fds[i]) < 0)
			return err_errno(e, errno, "sync disk%u", i);
		if (sets_disk_of(disk_fds[i], &meta->disks[i], e) < 0)
			return -1;
	}
	return 0;
}

static int write_meta(const struct sets_staging *s, const struct msg_set *set,
		      const int disk_fds[MSG_DISKS_MAX], struct err *e)
{
	struct meta meta;
	memset(&meta, 0, sizeof(meta));
	meta.set = *set;
	if (each_file(s->fd, note_time, &meta, e) < 0 ||
	    (disk_fds && note_disks(&meta, disk_fds, e) < 0))
		return -1;
	digest_of(&meta, offsetof(struct meta, digest), meta.digest);
	return sets_write(s, SETS_META, &meta, sizeof(meta), NULL, e);
}

int sets_describe(int dir_fd, struct msg_set *set, struct err *e)
{
	const struct sets_staging s = {.fd = dir_fd};
	set->format = MSG_SET_FORMAT;
	return write_meta(&s, set, NULL, e);
}

int sets_commit(struct sets_staging *s, struct msg_set *set, const int disk_fds[MSG_DISKS_MAX],
		struct err *e)
{
	set->format = MSG_SET_FORMAT;
	set->apparent_bytes = set->allocated_bytes = 0;
	if (each_file(s->fd, sync_file, NULL, e) < 0 || each_file(s->fd, add_size, set, e) < 0 ||
	    write_meta(s, set, disk_fds, e) < 0 || each_file(s->fd, sync_file, NULL, e) < 0)
		return -1;
	if (fsync(s->fd) < 0)
		return err_errno(e, errno, "sync the set");
	if (rename_staged(s, e) < 0)
		return -1;
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

/* Damage is nobody's request: whatever a check calls it, it is ours to answer for. */
static int damaged(struct err *e)
{
	if (e->kind == ERR_INVALID || e->kind == ERR_NOT_FOUND)
		e->kind = ERR_INTERNAL;
	return -1;
}

/* A file of a set, checked on its descriptor; a mount on it would hide what was digested. */
int sets_open_file(int dir_fd, const char *name, const char *what, uint64_t *bytes, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 0222};
	char full[2 * NAME_KEY_SIZE + 64];
	snprintf(full, sizeof(full), "%s of %s", name, what);
	/* O_NONBLOCK: a FIFO in its place must not hold us up. */
	CLEANUP_FD int fd =
		file_open_beneath(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, full, e);
	if (fd < 0 && e->kind == ERR_NOT_FOUND)
		return err_set(e, ERR_INTERNAL, 0, "%s is missing: the set is damaged", full);
	if (fd < 0 || file_check_regular(fd, &rule, full, bytes, e) < 0 ||
	    file_check_mount(dir_fd, fd, full, e) < 0)
		return damaged(e);
	return fd_take(&fd);
}

static ssize_t read_whole(int fd, void *buf, size_t size)
{
	size_t used = 0;
	while (used < size) {
		ssize_t n = read(fd, (char *)buf + used, size - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

/* It has just been seen to be that long, so a short read is an error of the disk's kind. */
static int read_exactly(int fd, void *buf, size_t size, const char *name, const char *what,
			struct err *e)
{
	ssize_t n = read_whole(fd, buf, size);
	if (n == (ssize_t)size)
		return 0;
	return err_errno(e, n < 0 ? errno : EIO, "read %s of %s", name, what);
}

static int check_digest(int dir_fd, const char *name, const char *what,
			const uint8_t want[MSG_DIGEST_SIZE], struct err *e)
{
	uint64_t bytes;
	uint8_t digest[MSG_DIGEST_SIZE];
	CLEANUP_FD int fd = sets_open_file(dir_fd, name, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes == 0 || bytes > SETS_STATE_MAX)
		return err_set(e, ERR_INTERNAL, 0, "%s of %s has %llu bytes: the set is damaged",
			       name, what, (unsigned long long)bytes);
	char *data CLEANUP_FREE = malloc(bytes);
	if (!data)
		return err_errno(e, ENOMEM, "read %s of %s", name, what);
	if (read_exactly(fd, data, bytes, name, what, e) < 0)
		return -1;
	digest_of(data, bytes, digest);
	if (memcmp(digest, want, sizeof(digest)) != 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s of %s is not as it was written: the set is damaged", name, what);
	return 0;
}

/* Memory or a disk: as long as it must be, and as it was written. */
static int check_large(int dir_fd, const char *name, const char *what, uint64_t want,
		       int64_t want_time_ns, struct err *e)
{
	uint64_t bytes;
	struct stat st;
	CLEANUP_FD int fd = sets_open_file(dir_fd, name, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes != want)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s of %s has %llu bytes, must have %llu: the set is damaged", name,
			       what, (unsigned long long)bytes, (unsigned long long)want);
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat %s of %s", name, what);
	if (time_ns(&st) != want_time_ns)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s of %s was modified since it was written: the set is damaged, or "
			       "was copied without its times of modification",
			       name, what);
	return 0;
}

/* kind: MSG_TEMPLATE_LEFT where there need be no memory. */
static int read_meta(int dir_fd, const char *what, enum msg_template_kind kind, struct meta *meta,
		     struct err *e)
{
	uint64_t bytes;
	uint8_t digest[MSG_DIGEST_SIZE];
	struct msg_template body = {0};
	CLEANUP_FD int fd = sets_open_file(dir_fd, SETS_META, what, &bytes, e);
	if (fd < 0)
		return -1;
	if (bytes != sizeof(*meta))
		return err_set(
			e, ERR_VERSION, 0,
			"meta of %s has %llu bytes, must have %zu: the set is damaged, or of "
			"another version of Cloister",
			what, (unsigned long long)bytes, sizeof(*meta));
	if (read_exactly(fd, meta, sizeof(*meta), SETS_META, what, e) < 0)
		return -1;
	digest_of(meta, offsetof(struct meta, digest), digest);
	if (memcmp(digest, meta->digest, sizeof(digest)) != 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "meta of %s is not as it was written: the set is damaged", what);
	if (meta->set.format != MSG_SET_FORMAT)
		return err_set(e, ERR_VERSION, 0,
			       "meta of %s has format %u, must have %u: the set is of another "
			       "version of Cloister",
			       what, meta->set.format, MSG_SET_FORMAT);
	/* The same checks as for the record that carries it. */
	body.set = meta->set;
	body.kind = kind;
	if (msg_write_template(&body, e) < 0)
		return err_prefix(e, "meta of %s", what);
	return 0;
}

static int open_dir(int parent_fd, const char *name, const char *what, struct err *e)
{
	int fd =
		file_open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, what, e);
	if (fd < 0 && e->kind == ERR_NOT_FOUND)
		return err_set(e, ERR_INTERNAL, 0, "%s is missing on disk", what);
	if (fd < 0 && e->errnum == ENOTDIR)
		return err_set(e, ERR_INTERNAL, 0, "%s is not a directory: the set is damaged",
			       what);
	return fd < 0 ? damaged(e) : fd;
}

int sets_read_meta(int parent_fd, const char *name, struct msg_set *set, struct err *e)
{
	struct meta meta;
	bool set_of_disks = strcmp(name, SETS_DISKS) == 0;
	CLEANUP_FD int dir = open_dir(parent_fd, name, name, e);
	if (dir < 0 ||
	    read_meta(dir, name, set_of_disks ? MSG_TEMPLATE_LEFT : MSG_TEMPLATE_SET, &meta, e) < 0)
		return -1;
	*set = meta.set;
	return 0;
}

/* The files of the disks that the set carries. */
static int check_disks(int dir_fd, const char *what, const struct meta *meta, struct err *e)
{
	char name[SETS_DISK_NAME_SIZE];
	for (uint32_t i = 0; i < meta->set.spec.disk_count; i++) {
		const struct msg_disk *disk = &meta->set.spec.disks[i];
		if (disk->flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE))
			continue;
		sets_disk_name(i, name);
		if (check_large(dir_fd, name, what, (uint64_t)disk->size_mib << 20,
				meta->disks[i].time_ns, e) < 0)
			return -1;
	}
	return 0;
}

int sets_open(int parent_fd, const char *name, const char *key, const char *what,
	      struct msg_set *set, struct sets_disk disks[MSG_DISKS_MAX], struct err *e)
{
	struct meta meta;
	CLEANUP_FD int dir = open_dir(parent_fd, name, what, e);
	if (dir < 0 || read_meta(dir, what, MSG_TEMPLATE_SET, &meta, e) < 0)
		return -1;
	*set = meta.set;
	if (strcmp(set->key, key) != 0)
		return err_set(e, ERR_INTERNAL, 0, "meta of %s is that of %s: the set is damaged",
			       what, set->key);
	uint64_t memory = (uint64_t)set->spec.memory_mib << 20;
	if (check_digest(dir, SETS_CONFIG, what, set->config_digest, e) < 0 ||
	    check_digest(dir, SETS_STATE, what, set->state_digest, e) < 0)
		return -1;
	if ((set->content & MSG_SET_RAM) &&
	    check_large(dir, SETS_RAM, what, memory, meta.ram_time_ns, e) < 0)
		return -1;
	if ((set->content & MSG_SET_RANGES) &&
	    check_large(dir, SETS_RANGES, what, memory, meta.ranges_time_ns, e) < 0)
		return -1;
	if ((set->content & MSG_SET_DISKS) && check_disks(dir, what, &meta, e) < 0)
		return -1;
	memcpy(disks, meta.disks, sizeof(meta.disks));
	return fd_take(&dir);
}

bool sets_is_used(int dir_fd)
{
	/* In doubt it was: a wake on a disk that has gone on destroys the file system on it. */
	return faccessat(dir_fd, SETS_USED, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

int sets_mark_used(int dir_fd, struct err *e)
{
	CLEANUP_FD int fd =
		openat(dir_fd, SETS_USED, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0 || fsync(fd) < 0 || fsync(dir_fd) < 0)
		return err_errno(e, errno, "mark the set as used");
	return 0;
}

int sets_drop_memory(int dir_fd, struct err *e)
{
	static const char *const names[] = {SETS_RAM, SETS_RANGES};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (unlinkat(dir_fd, names[i], 0) < 0 && errno != ENOENT)
			return err_errno(e, errno, "remove %s of a used set", names[i]);
	return 0;
}

bool sets_has_writable_disk(const struct msg_create *spec)
{
	for (uint32_t i = 0; i < spec->disk_count; i++)
		if (!(spec->disks[i].flags & MSG_DISK_READONLY))
			return true;
	return false;
}

bool sets_has_own_disk(const struct msg_create *spec)
{
	for (uint32_t i = 0; i < spec->disk_count; i++)
		if (!(spec->disks[i].flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE)))
			return true;
	return false;
}
