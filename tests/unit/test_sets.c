// SPDX-License-Identifier: Apache-2.0
/* shim/sets: how a set is written, replaced and removed, also on a disk that fails. */
#include "setsplace.h"

#include "file.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* Ours instead of libc's: the n-th call from now on fails; 0: none. */
static int fsync_fails_at, fsync_calls;

int fsync(int fd)
{
	fsync_calls++;
	if (fsync_fails_at && fsync_calls == fsync_fails_at) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
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
		T(test_clearing_a_sandbox),
		T(test_emptying_what_a_vmm_nested),
#undef T
	};
	return cmocka_run_group_tests_name("sets", tests, NULL, NULL);
}
