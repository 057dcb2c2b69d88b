// SPDX-License-Identifier: Apache-2.0
/* shim/sets: a set that is damaged, or that somebody has put something into, is not opened. */
#include "setdamage.h"
#include "setsplace.h"

#include <sched.h>
#include <sys/mount.h>

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

static void to_dir(int dir, const char *name)
{
	drop(dir, name);
	assert_int_equal(mkdirat(dir, name, 0555), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(test_damaged_contents),	    T(test_other_things_in_place),
		T(test_ram_of_another_template),    T(test_directory_in_question),
		T(test_a_file_mounted_over_a_part), T(test_memory_ranges_are_checked_likewise),
#undef T
	};
	return cmocka_run_group_tests_name("sets_read", tests, NULL, NULL);
}
