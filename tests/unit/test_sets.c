// SPDX-License-Identifier: Apache-2.0
#include "unit.h"

#include "file.h"
#include "sets.h"
#include "util.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#define KEY   "alice:t1"
#define WHAT  "template alice:t1"
#define BYTES ((off_t)16 << 20)

/* Ours instead of libc's: the n-th call from now on fails; 0: none. */
static int fsync_fails_at, fsync_calls;
static struct sets_disk disks[MSG_DISKS_MAX];

int fsync(int fd)
{
	fsync_calls++;
	if (fsync_fails_at && fsync_calls == fsync_fails_at) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

struct place {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	p->fd = unit_make_dir(p->path);
	*state = p;
	fsync_fails_at = fsync_calls = 0;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	close(p->fd);
	unit_remove_dir(p->path);
	free(p);
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static unsigned entries(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(copy);
	unsigned count = 0;
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		count += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	closedir(dir);
	return count;
}

static bool there(int fd, const char *name)
{
	return faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static ino_t inode(int fd, const char *name)
{
	struct stat st;
	assert_int_equal(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

static struct msg_set new_set(const char *key)
{
	struct msg_set set;
	memset(&set, 0, sizeof(set));
	set.content = MSG_SET_RAM;
	str_copy(set.key, sizeof(set.key), key);
	str_copy(set.parent, sizeof(set.parent), "alice:src");
	str_copy(set.vmm_version, sizeof(set.vmm_version), "53.0.0");
	str_copy(set.spec.kernel, sizeof(set.spec.kernel), "tiny");
	set.spec.vcpus = set.spec.max_vcpus = 1;
	set.spec.memory_mib = set.spec.max_memory_mib = (uint32_t)(BYTES >> 20);
	return set;
}

/* All of a set but its meta; `text` makes one differ from another. */
static void stage(struct sets_staging *s, struct msg_set *set, const char *text)
{
	struct err e;
	assert_int_equal(sets_write(s, SETS_CONFIG, text, strlen(text), set->config_digest, &e), 0);
	assert_int_equal(sets_write(s, SETS_STATE, text, strlen(text), set->state_digest, &e), 0);
	int fd = sets_new_file(s, set->content & MSG_SET_RAM ? SETS_RAM : SETS_RANGES, &e);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 4096), strlen(text));
	close(fd);
}

static void make_template(struct place *p, const char *key, const char *text)
{
	struct sets_staging s;
	struct msg_set set = new_set(key);
	struct err e;
	assert_int_equal(sets_begin_template(&s, p->fd, key, &e), 0);
	stage(&s, &set, text);
	assert_int_equal(sets_commit(&s, &set, NULL, &e), 0);
	assert_true(set.apparent_bytes > (uint64_t)BYTES);
	assert_true(set.allocated_bytes > 0 && set.allocated_bytes < (uint64_t)BYTES / 4);
}

/* ------------------------------------------------------------------ writing */

static void test_whole_or_not_there(void **state)
{
	struct place *p = *state;
	struct sets_staging s;
	struct msg_set set = new_set(KEY), read;
	struct err e;
	need_root();
	unsigned before = unit_open_fds();
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), 0);
	assert_false(there(p->fd, KEY));
	stage(&s, &set, "{}");
	assert_false(there(p->fd, KEY));
	assert_int_equal(sets_read_meta(p->fd, KEY, &read, &e), -1);
	assert_int_equal(sets_commit(&s, &set, NULL, &e), 0);
	assert_int_equal(entries(p->fd), 1);
	assert_int_equal(sets_read_meta(p->fd, KEY, &read, &e), 0);
	assert_memory_equal(&read, &set, sizeof(set));
	int fd = sets_open(p->fd, KEY, KEY, WHAT, &read, disks, &e);
	assert_true(fd >= 0);
	assert_memory_equal(&read, &set, sizeof(set));
	close(fd);
	sets_abandon(&s); /* nothing is staged: nothing happens */
	assert_true(there(p->fd, KEY));
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_int_equal(sets_remove_template(p->fd, KEY, &e), 0);
	assert_int_equal(sets_remove_template(p->fd, KEY, &e), 0);
	assert_int_equal(entries(p->fd), 0);
	assert_int_equal(unit_open_fds(), before);
}

/* A removal that does not get to its end leaves nothing that looks like a template. */
/* A removal that was cut short leaves no half of a template, and does not stand in the way. */
static void test_half_removed(void **state)
{
	struct place *p = *state;
	struct err e;
	need_root();
	assert_int_equal(mkdirat(p->fd, SETS_REMOVED_PREFIX KEY, 0755), 0);
	assert_int_equal(mkdirat(p->fd, SETS_REMOVED_PREFIX KEY "/x", 0755), 0);
	assert_true(sets_is_abandoned(p->fd, SETS_REMOVED_PREFIX KEY));
	assert_int_equal(mkdirat(p->fd, KEY, 0755), 0);
	assert_int_equal(sets_remove_template(p->fd, KEY, &e), 0);
	assert_int_equal(entries(p->fd), 0);
}

static void test_abandon(void **state)
{
	struct place *p = *state;
	struct sets_staging s = SETS_STAGING_INIT;
	struct msg_set set = new_set(KEY);
	struct err e;
	sets_abandon(&s);
	need_root();
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), 0);
	stage(&s, &set, "{}");
	sets_abandon(&s);
	assert_int_equal(entries(p->fd), 0);
}

static void test_two_writers(void **state)
{
	struct place *p = *state;
	struct sets_staging one, two;
	struct msg_set set = new_set(KEY);
	struct err e;
	need_root();
	assert_int_equal(sets_begin_template(&one, p->fd, KEY, &e), 0);
	assert_false(sets_is_abandoned(p->fd, one.temporary));
	assert_int_equal(sets_begin_template(&two, p->fd, KEY, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	sets_abandon(&two);
	stage(&one, &set, "{}");
	/* Not even who removes templates takes it away. */
	assert_int_equal(sets_remove_template(p->fd, KEY, &e), 0);
	/* A set that came to stand there meanwhile is not replaced. */
	assert_int_equal(mkdirat(p->fd, KEY, 0755), 0);
	assert_int_equal(sets_commit(&one, &set, NULL, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	sets_abandon(&one);
	assert_int_equal(entries(p->fd), 1);
}

static void test_what_a_dead_writer_left(void **state)
{
	struct place *p = *state;
	struct sets_staging s;
	struct msg_set set = new_set(KEY);
	struct err e;
	need_root();
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), 0);
	stage(&s, &set, "{}");
	fd_close(&s.fd); /* as its death would */
	assert_true(sets_is_abandoned(p->fd, s.temporary));
	assert_false(sets_is_abandoned(p->fd, "alice:t9"));
	assert_false(sets_is_abandoned(p->fd, ".new-alice:t9"));
	/* Of one that was half removed. */
	assert_int_equal(mkdirat(p->fd, ".old-" KEY, 0755), 0);
	assert_true(sets_is_abandoned(p->fd, ".old-" KEY));
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), 0);
	stage(&s, &set, "{}");
	fd_close(&s.fd);
	assert_int_equal(sets_remove_template(p->fd, KEY, &e), 0);
	assert_int_equal(entries(p->fd), 0);
}

static void hibernate(struct place *p, const char *text)
{
	struct sets_staging s;
	struct msg_set set = new_set(KEY);
	struct err e;
	ino_t old = there(p->fd, SETS_OF_SANDBOX) ? inode(p->fd, SETS_OF_SANDBOX) : 0;
	assert_int_equal(sets_begin_sandbox(&s, p->fd, &e), 0);
	stage(&s, &set, text);
	if (old)
		assert_int_equal(inode(p->fd, SETS_OF_SANDBOX), old);
	assert_int_equal(sets_commit(&s, &set, NULL, &e), 0);
	assert_true(inode(p->fd, SETS_OF_SANDBOX) != old);
	assert_int_equal(entries(p->fd), 1);
}

static void assert_config(int parent, const char *name, const char *want)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/" SETS_CONFIG, name);
	char *text = unit_read(parent, path);
	assert_string_equal(text, want);
	free(text);
}

static void test_an_older_set_gives_way(void **state)
{
	struct place *p = *state;
	need_root();
	hibernate(p, "{\"n\":1}");
	hibernate(p, "{\"n\":2}");
	hibernate(p, "{\"n\":3}");
	assert_config(p->fd, SETS_OF_SANDBOX, "{\"n\":3}");
}

/* The disk fails at each fsync in turn: the older set, or none, is there; the new one never. */
static void try_with_failing_disk(struct place *p, bool replace)
{
	for (int n = 1;; n++) {
		struct sets_staging s;
		struct msg_set set = new_set(KEY), read;
		struct err e, e2;
		int begun = replace ? sets_begin_sandbox(&s, p->fd, &e)
				    : sets_begin_template(&s, p->fd, KEY, &e);
		assert_int_equal(begun, 0);
		stage(&s, &set, "{\"n\":2}");
		fsync_calls = 0;
		fsync_fails_at = n;
		int result = sets_commit(&s, &set, NULL, &e);
		fsync_fails_at = 0;
		sets_abandon(&s);
		if (result == 0) {
			/* As many as there are: three files twice, meta, directory, parent. */
			assert_int_equal(n, 10);
			break;
		}
		assert_int_equal(e.errnum, EIO);
		assert_int_equal(entries(p->fd), replace);
		if (replace) {
			assert_config(p->fd, SETS_OF_SANDBOX, "{\"n\":1}");
			int fd = sets_open(p->fd, SETS_OF_SANDBOX, KEY, WHAT, &read, disks, &e2);
			assert_true(fd >= 0);
			close(fd);
		}
	}
}

static void test_failing_disk_for_a_template(void **state)
{
	need_root();
	try_with_failing_disk(*state, false);
}

static void test_failing_disk_for_a_hibernate(void **state)
{
	need_root();
	hibernate(*state, "{\"n\":1}");
	try_with_failing_disk(*state, true);
}

static void test_no_space(void **state)
{
	struct place *p = *state;
	struct sets_staging s;
	struct msg_set set = new_set(KEY);
	struct err e;
	char big[8192];
	memset(big, 'x', sizeof(big));
	need_root();
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("small", p->path, "tmpfs", 0, "size=16k"), 0);
	int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(sets_begin_template(&s, fd, KEY, &e), 0);
	int written = 0, last = 0;
	for (; written < 8 && last == 0; written++) {
		char name[16];
		snprintf(name, sizeof(name), "f%d", written);
		last = sets_write(&s, name, big, sizeof(big), NULL, &e);
	}
	assert_int_equal(last, -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	/* No room for meta. */
	assert_int_equal(sets_commit(&s, &set, NULL, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	sets_abandon(&s);
	assert_int_equal(entries(fd), 0);
	close(fd);
	assert_int_equal(umount(p->path), 0);
}

/* ------------------------------------------------------------------ reading */

static int set_fd(struct place *p)
{
	int fd = openat(p->fd, KEY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void assert_refused(struct place *p, const char *part, const char *word)
{
	struct msg_set set;
	struct err e;
	unsigned before = unit_open_fds();
	assert_int_equal(sets_open(p->fd, KEY, KEY, WHAT, &set, disks, &e), -1);
	if (e.kind != ERR_INTERNAL && e.kind != ERR_VERSION)
		fail_msg("kind %d: %s", (int)e.kind, e.text);
	assert_says(e.text, part);
	assert_says(e.text, WHAT);
	assert_says(e.text, word);
	assert_int_equal(unit_open_fds(), before);
}

static void put_byte(int dir, const char *name, off_t at)
{
	char byte;
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void resize(int dir, const char *name, off_t by)
{
	struct stat st;
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size + by), 0);
	close(fd);
}

static const char *const parts[] = {SETS_CONFIG, SETS_STATE, SETS_RAM, SETS_META};

/* Each in its turn is done to a fresh template. */
static void for_each_part(struct place *p, void (*damage)(int dir, const char *name),
			  const char *word)
{
	struct err e;
	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		make_template(p, KEY, "{\"n\":1}");
		int dir = set_fd(p);
		damage(dir, parts[i]);
		assert_refused(p, parts[i], word);
		close(dir);
		assert_int_equal(sets_remove(p->fd, KEY, &e), 0);
	}
}

static void cut(int dir, const char *name)
{
	resize(dir, name, -1);
}
static void grow(int dir, const char *name)
{
	resize(dir, name, 1);
}
static void edit(int dir, const char *name)
{
	put_byte(dir, name, 2);
}
static void drop(int dir, const char *name)
{
	assert_int_equal(unlinkat(dir, name, 0), 0);
}
static void to_symlink(int dir, const char *name)
{
	assert_int_equal(renameat(dir, name, dir, "away"), 0);
	assert_int_equal(symlinkat("away", dir, name), 0);
}
static void to_fifo(int dir, const char *name)
{
	drop(dir, name);
	assert_int_equal(mknodat(dir, name, S_IFIFO | 0444, 0), 0);
}
static void to_dir(int dir, const char *name)
{
	drop(dir, name);
	assert_int_equal(mkdirat(dir, name, 0555), 0);
}
static void to_link(int dir, const char *name)
{
	assert_int_equal(linkat(dir, name, dir, "too", 0), 0);
}
static void to_stranger(int dir, const char *name)
{
	assert_int_equal(fchownat(dir, name, 12345, 0, 0), 0);
}
static void to_writable(int dir, const char *name)
{
	assert_int_equal(fchmodat(dir, name, 0644, 0), 0);
}

static void test_damaged_contents(void **state)
{
	for_each_part(*state, cut, "");
	for_each_part(*state, grow, "");
	for_each_part(*state, edit, "");
	for_each_part(*state, drop, "is missing");
}

static void test_other_things_in_place(void **state)
{
	for_each_part(*state, to_symlink, "symbolic link");
	for_each_part(*state, to_fifo, "not a regular file");
	for_each_part(*state, to_dir, "not a regular file");
	for_each_part(*state, to_link, "links");
	for_each_part(*state, to_stranger, "owned by uid 12345");
	for_each_part(*state, to_writable, "mode");
}

static void test_ram_of_another_template(void **state)
{
	struct place *p = *state;
	need_root();
	make_template(p, KEY, "{\"n\":1}");
	make_template(p, "alice:t2", "{\"n\":2}");
	assert_int_equal(
		renameat2(p->fd, KEY "/" SETS_RAM, p->fd, "alice:t2/" SETS_RAM, RENAME_EXCHANGE),
		0);
	assert_refused(p, SETS_RAM, "modified");
	assert_int_equal(
		renameat2(p->fd, KEY "/" SETS_META, p->fd, "alice:t2/" SETS_META, RENAME_EXCHANGE),
		0);
	assert_refused(p, SETS_META, "alice:t2");
}

static void test_directory_in_question(void **state)
{
	struct place *p = *state;
	struct msg_set set;
	struct err e;
	need_root();
	assert_refused(p, "", "missing");
	unit_write(p->fd, KEY, "a file");
	assert_refused(p, "", "not a directory");
	assert_int_equal(unlinkat(p->fd, KEY, 0), 0);
	make_template(p, "alice:t2", "{}");
	assert_int_equal(symlinkat("alice:t2", p->fd, KEY), 0);
	assert_refused(p, "", "not a directory");
	assert_int_equal(sets_open(p->fd, "alice:t2", KEY, WHAT, &set, disks, &e), -1);
	assert_says(e.text, "alice:t2");
}

static void test_a_file_mounted_over_a_part(void **state)
{
	struct place *p = *state;
	char path[160];
	need_root();
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	/* The old descriptor shows the old namespace's mounts. */
	close(p->fd);
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_template(p, KEY, "{}");
	snprintf(path, sizeof(path), "%s/" KEY "/" SETS_RAM, p->path);
	assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
	assert_refused(p, SETS_RAM, "another mount");
	assert_int_equal(umount(path), 0);
}

static void test_memory_ranges_are_checked_likewise(void **state)
{
	struct place *p = *state;
	struct sets_staging s;
	struct msg_set set = new_set(KEY), read;
	struct err e;
	need_root();
	set.content = MSG_SET_RANGES;
	assert_int_equal(sets_begin_template(&s, p->fd, KEY, &e), 0);
	stage(&s, &set, "{}");
	assert_int_equal(sets_commit(&s, &set, NULL, &e), 0);
	int fd = sets_open(p->fd, KEY, KEY, WHAT, &read, disks, &e);
	assert_true(fd >= 0);
	close(fd);
	int dir = set_fd(p);
	put_byte(dir, SETS_RANGES, 9);
	assert_refused(p, SETS_RANGES, "modified");
	resize(dir, SETS_RANGES, -4096);
	assert_refused(p, SETS_RANGES, "bytes");
	close(dir);
}

/* ------------------------------------------------------------------ removing */

static void test_clearing_a_sandbox(void **state)
{
	struct place *p = *state;
	struct place sandbox;
	struct sets_staging s;
	struct msg_set set = new_set(KEY);
	struct err e;
	need_root();
	assert_int_equal(sets_clear_sandbox(p->fd, KEY, &e), 0);
	sandbox.fd = file_make_dir(p->fd, KEY, 0, 0, 0755, &e);
	assert_true(sandbox.fd >= 0);
	hibernate(&sandbox, "{}");
	assert_int_equal(mkdirat(sandbox.fd, SETS_SCRATCH, 0700), 0);
	assert_int_equal(mkdirat(sandbox.fd, SETS_SCRATCH "/deep", 0700), 0);
	unit_write(sandbox.fd, SETS_SCRATCH "/deep/er", "x");
	assert_int_equal(sets_begin_sandbox(&s, sandbox.fd, &e), 0);
	stage(&s, &set, "{}");
	fd_close(&s.fd);
	assert_int_equal(sets_clear_sandbox(p->fd, KEY, &e), 0);
	assert_int_equal(entries(sandbox.fd), 1);
	assert_true(there(sandbox.fd, SETS_OF_SANDBOX));
	assert_int_equal(sets_remove(sandbox.fd, SETS_OF_SANDBOX, &e), 0);
	assert_int_equal(sets_clear_sandbox(p->fd, KEY, &e), 0);
	assert_int_equal(entries(p->fd), 0);
	close(sandbox.fd);
}

/* Deeper than any path could name, closed to all but root with every right, names taken. */
static void test_emptying_what_a_vmm_nested(void **state)
{
	const struct place *p = *state;
	struct err e;
	need_root();
	assert_int_equal(mkdirat(p->fd, ".lifted-0", 0), 0);
	assert_int_equal(mkdirat(p->fd, ".lifted-2", 0), 0);
	int at = dup(p->fd);
	for (int depth = 0; depth < 3000; depth++) {
		assert_int_equal(mkdirat(at, "nested", 0700), 0);
		int next = openat(at, "nested", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		unit_write(next, "file", "x");
		close(at);
		at = next;
	}
	fchmod(at, 0);
	close(at);
	assert_int_equal(sets_empty(p->fd, &e), 0);
	assert_int_equal(entries(p->fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(test_whole_or_not_there),
		T(test_half_removed),
		T(test_abandon),
		T(test_two_writers),
		T(test_what_a_dead_writer_left),
		T(test_an_older_set_gives_way),
		T(test_failing_disk_for_a_template),
		T(test_failing_disk_for_a_hibernate),
		T(test_no_space),
		T(test_damaged_contents),
		T(test_other_things_in_place),
		T(test_ram_of_another_template),
		T(test_directory_in_question),
		T(test_a_file_mounted_over_a_part),
		T(test_memory_ranges_are_checked_likewise),
		T(test_clearing_a_sandbox),
		T(test_emptying_what_a_vmm_nested),
#undef T
	};
	return cmocka_run_group_tests_name("sets", tests, NULL, NULL);
}
