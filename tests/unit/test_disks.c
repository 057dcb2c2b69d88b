// SPDX-License-Identifier: Apache-2.0
/* shim/disks: images, a sandbox's own disks, those of a template, and a wake. */
#include "diskhost.h"

#define SECTORS(n) ((size_t)(n)*512)
#define BASE	   "debian"

static void need_image(void)
{
	host_fill(images, BASE, 2 * MIB + 512, 1, 0444);
}

/* On a file system of its own, so that blocks can never be shared and all is copied. */
static void need_copies(void)
{
	char path[POLICY_PATH_MAX + 32];
	snprintf(path, sizeof(path), "%s/images/disks", policy.state_dir);
	assert_int_equal(mount("images", path, "tmpfs", 0, "size=64m,mode=755"), 0);
	close(images);
	images = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void drop_copies(void)
{
	char path[POLICY_PATH_MAX + 32];
	snprintf(path, sizeof(path), "%s/images/disks", policy.state_dir);
	fd_close(&images);
	disks_close(&disks);
	assert_int_equal(umount(path), 0);
	images = openat(state, "images/disks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ------------------------------------------------------------------ images */

static void to_missing(void)
{
	assert_int_equal(unlinkat(images, BASE, 0), 0);
}
static void to_symlink(void)
{
	assert_int_equal(renameat(images, BASE, images, "away"), 0);
	assert_int_equal(symlinkat("away", images, BASE), 0);
}
static void to_fifo(void)
{
	to_missing();
	assert_int_equal(mknodat(images, BASE, S_IFIFO | 0444, 0), 0);
}
static void to_directory(void)
{
	to_missing();
	assert_int_equal(mkdirat(images, BASE, 0755), 0);
}
static void to_stranger(void)
{
	assert_int_equal(fchownat(images, BASE, UID, 0, 0), 0);
}
static void to_group_writable(void)
{
	assert_int_equal(fchmodat(images, BASE, 0464, 0), 0);
}
static void to_hard_link(void)
{
	assert_int_equal(linkat(images, BASE, images, "too", 0), 0);
}
static void to_private(void)
{
	assert_int_equal(fchmodat(images, BASE, 0400, 0), 0);
}
static void to_half_sector(void)
{
	host_fill(images, BASE, 513, 1, 0444);
}
static void to_empty(void)
{
	host_fill(images, BASE, 0, 1, 0444);
}
static void to_mounted_over(void)
{
	char path[POLICY_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/images/disks/" BASE, policy.state_dir);
	assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
}

static const struct {
	void (*spoil)(void);
	const char *word;
} spoiled[] = {
	{to_missing, "does not exist"},
	{to_symlink, "symbolic link"},
	{to_fifo, "not a regular file"},
	{to_directory, "not a regular file"},
	{to_stranger, "owned by uid 700123"},
	{to_group_writable, "mode 0464"},
	{to_hard_link, "2 links"},
	{to_private, "readable for all"},
	{to_half_sector, "has 513 bytes"},
	{to_empty, "has 0 bytes"},
	{to_mounted_over, "another mount"},
};

/* The request names it, and a later one can be right: ERR_INVALID, whatever it is. */
static void try_images(uint32_t flags)
{
	char path[POLICY_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/images/disks/" BASE, policy.state_dir);
	for (size_t i = 0; i < ARRAY_SIZE(spoiled); i++) {
		spec.disk_count = 0;
		need_image();
		host_fill(images, "good", MIB, 2, 0444);
		spoiled[i].spoil();
		host_disk("good", flags, 0);
		host_disk(BASE, flags, 0);
		host_refused(ERR_INVALID, spoiled[i].word);
		assert_says(e.text, "disks[1]");
		assert_says(e.text, BASE);
		if (spoiled[i].spoil == to_mounted_over)
			assert_int_equal(umount(path), 0);
		/* What is half made goes with the sandbox's directory. */
		assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
		unlinkat(images, BASE, 0);
		unlinkat(images, BASE, AT_REMOVEDIR);
		unlinkat(images, "away", 0);
		unlinkat(images, "too", 0);
	}
}

static void test_images_for_writing(void **unused)
{
	(void)unused;
	try_images(0);
}

static void test_images_for_reading(void **unused)
{
	(void)unused;
	try_images(MSG_DISK_READONLY);
}

/* More than the API can say, and where 32 bits of MiB would begin anew. */
static void test_images_that_are_too_large(void **unused)
{
	static const off_t sizes[] = {(1ll << 46) + 512, (1ll << 52) + 512,
				      (1ll << 52) + (3 << 20)};
	(void)unused;
	need_copies();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		host_fill(images, BASE, 512, 1, 0444);
		int fd = openat(images, BASE, O_WRONLY | O_CLOEXEC);
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		close(fd);
		for (uint32_t flags = 0; flags <= MSG_DISK_READONLY; flags++) {
			spec.disk_count = 0;
			host_disk(BASE, flags, 0);
			host_refused(ERR_INVALID, "at most 67108864 MiB");
		}
	}
	drop_copies();
}

static void test_no_directory_of_images(void **unused)
{
	(void)unused;
	host_disk(BASE, MSG_DISK_READONLY, 0);
	assert_int_equal(unlinkat(state, "images/disks", AT_REMOVEDIR), 0);
	host_refused(ERR_NOT_FOUND, "images/disks");
}

/* ------------------------------------------------------------------ read-only */

static void test_shared_image(void **unused)
{
	(void)unused;
	need_image();
	host_disk(BASE, MSG_DISK_READONLY, 0);
	host_disk(BASE, MSG_DISK_READONLY, 99);
	assert_int_equal(host_open(), 0);
	assert_int_equal(disks.count, 2);
	for (int i = 0; i < 2; i++) {
		struct stat st;
		assert_int_equal(fstat(disks.fd[i], &st), 0);
		assert_int_equal(st.st_ino, host_stat(images, BASE).st_ino);
		assert_int_equal(fcntl(disks.fd[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_true(fcntl(disks.fd[i], F_GETFD) & FD_CLOEXEC);
		/* What is, not what was asked for. */
		assert_int_equal(spec.disks[i].size_mib, 3);
		assert_int_equal(spec.disks[i].made, MSG_DISK_SHARED);
		assert_int_equal(disks.device[i], 0);
	}
	/* Nothing is the sandbox's own. */
	assert_int_equal(faccessat(sandboxes, KEY, F_OK, 0), -1);
	assert_int_equal(disks_largest(&spec), 0);
}

/* ------------------------------------------------------------------ own disks */

static void assert_own(uint32_t i, size_t bytes, int seed, size_t size)
{
	char name[64];
	struct stat st;
	snprintf(name, sizeof(name), KEY "/disks/%u", i);
	assert_int_equal(fstat(disks.fd[i], &st), 0);
	assert_int_equal(st.st_ino, host_stat(sandboxes, name).st_ino);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_uid, UID);
	assert_int_equal(st.st_gid, UID);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(fcntl(disks.fd[i], F_GETFL) & O_ACCMODE, O_RDWR);
	assert_true(fcntl(disks.fd[i], F_GETFD) & FD_CLOEXEC);
	assert_true(host_holds(disks.fd[i], bytes, seed, size));
	assert_int_equal(spec.disks[i].size_mib, size / MIB);
	assert_true(spec.disks[i].made == MSG_DISK_REFLINK ||
		    spec.disks[i].made == MSG_DISK_COPIED);
}

static void test_own_disks(void **unused)
{
	struct msg_set set;
	(void)unused;
	need_image();
	host_fill(images, "small", SECTORS(1), 5, 0444);
	host_disk(BASE, 0, 0);
	host_disk("small", MSG_DISK_READONLY, 0);
	host_disk("small", 0, 1);
	host_disk(BASE, 0, 50);
	assert_int_equal(host_open(), 0);
	assert_int_equal(disks.count, 4);
	assert_own(0, 2 * MIB + 512, 1, 3 * MIB);
	assert_own(2, 512, 5, MIB);
	assert_own(3, 2 * MIB + 512, 1, 50 * MIB);
	assert_true(host_stat(sandboxes, KEY "/disks/3").st_blocks * 512 < 4 * (off_t)MIB);
	assert_int_equal(faccessat(sandboxes, KEY "/disks/1", F_OK, 0), -1);
	assert_int_equal(disks_largest(&spec), 50 * MIB);
	/* The directories are root's: the VMM's uid makes nothing in them. */
	assert_int_equal(host_stat(sandboxes, KEY).st_mode, S_IFDIR | 0755);
	assert_int_equal(host_stat(sandboxes, KEY "/disks").st_mode, S_IFDIR | 0755);
	assert_int_equal(host_stat(sandboxes, KEY "/disks").st_uid, 0);
	/* What a supervisor finds that has nobody to ask. */
	int own = openat(sandboxes, KEY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sets_read_meta(own, SETS_DISKS, &set, &e) < 0)
		fail_msg("%s", e.text);
	close(own);
	assert_int_equal(set.content, 0);
	assert_string_equal(set.key, KEY);
	assert_string_equal(set.parent, KEY);
	assert_memory_equal(&set.spec, &spec, sizeof(spec));
	/* Not twice. */
	disks_close(&disks);
	host_refused(ERR_INTERNAL, "make the disk's file");
	assert_int_equal(e.errnum, EEXIST);
}

static void test_all_eight(void **unused)
{
	(void)unused;
	need_image();
	for (uint32_t i = 0; i < MSG_DISKS_MAX; i++)
		host_disk(BASE, 0, 4 + i);
	assert_int_equal(host_open(), 0);
	for (uint32_t i = 0; i < MSG_DISKS_MAX; i++)
		assert_own(i, 2 * MIB + 512, 1, (4 + i) * MIB);
}

static void test_no_disks(void **unused)
{
	(void)unused;
	assert_int_equal(host_open(), 0);
	assert_int_equal(disks.count, 0);
	assert_int_equal(faccessat(sandboxes, KEY, F_OK, 0), -1);
	assert_int_equal(disks_largest(&spec), 0);
}

static void test_size_that_is_too_small(void **unused)
{
	(void)unused;
	need_image();
	host_disk(BASE, 0, 2);
	host_refused(ERR_INVALID, "size_mib");
	assert_says(e.text, "disks[0]");
	assert_says(e.text, "2 is less than the image has (3)");
}

/* A directory in place of the sandbox's, or of its disks, that is none. */
static void test_foreign_directories(void **unused)
{
	(void)unused;
	need_image();
	host_disk(BASE, 0, 0);
	assert_int_equal(mkdirat(sandboxes, "other", 0777), 0);
	assert_int_equal(symlinkat("other", sandboxes, KEY), 0);
	assert_int_equal(host_open(), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_int_equal(faccessat(sandboxes, "other/disks", F_OK, 0), -1);
	assert_int_equal(unlinkat(sandboxes, KEY, 0), 0);
	assert_int_equal(mkdirat(sandboxes, KEY, 0777), 0);
	assert_int_equal(symlinkat("../other", sandboxes, KEY "/disks"), 0);
	assert_int_equal(host_open(), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_int_equal(faccessat(sandboxes, "other/0", F_OK, 0), -1);
	assert_int_equal(unlinkat(sandboxes, KEY "/disks", 0), 0);
	/* One that a stranger could write is taken back. */
	assert_int_equal(fchownat(sandboxes, KEY, UID, UID, 0), 0);
	assert_int_equal(host_open(), 0);
	assert_int_equal(host_stat(sandboxes, KEY).st_uid, 0);
	assert_int_equal(host_stat(sandboxes, KEY).st_mode, S_IFDIR | 0755);
}

static void test_no_space(void **unused)
{
	char path[POLICY_PATH_MAX + 32];
	(void)unused;
	need_image();
	host_disk(BASE, 0, 8);
	snprintf(path, sizeof(path), "%s/sandboxes", policy.state_dir);
	assert_int_equal(mount("small", path, "tmpfs", 0, "size=1m"), 0);
	int outer = sandboxes;
	order.sandboxes_fd = sandboxes = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host_refused(ERR_NO_SPACE, "disks[0]");
	assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
	close(sandboxes);
	sandboxes = outer;
	assert_int_equal(umount(path), 0);
}

/* ------------------------------------------------------------------ while it takes long */

static uint64_t told_done, told_total;
static unsigned told, stop_at;

static int tell(void *arg, uint64_t done, uint64_t total, struct err *why)
{
	assert_ptr_equal(arg, &order);
	assert_true(done >= told_done && done <= total);
	told_done = done;
	told_total = total;
	return ++told == stop_at ? err_set(why, ERR_STATE, 0, "enough of it") : 0;
}

static void ask_for_long(void)
{
	need_copies();
	host_fill(images, BASE, 20 * MIB, 1, 0444);
	host_disk(BASE, 0, 20);
	host_disk(BASE, MSG_DISK_READONLY, 0);
	host_disk(BASE, 0, 21);
	order.tell = tell;
	order.arg = &order;
	told_done = told_total = 0;
	told = stop_at = 0;
}

static void test_progress(void **unused)
{
	(void)unused;
	ask_for_long();
	assert_int_equal(host_open(), 0);
	assert_int_equal(spec.disks[0].made, MSG_DISK_COPIED);
	/* Two copies in steps of 8 MiB or so; what is shared is no work. */
	assert_true(told >= 4 && told < 100);
	assert_true(told_done > 20 * MIB);
	/* Room to grow is nothing to wait for. */
	assert_int_equal(told_total, 40 * MIB);
	assert_own(2, 20 * MIB, 1, 21 * MIB);
	drop_copies();
}

static void test_told_to_stop(void **unused)
{
	(void)unused;
	ask_for_long();
	stop_at = 2;
	host_refused(ERR_STATE, "disks[0]: enough of it");
	assert_int_equal(told, 2);
	assert_int_equal(faccessat(sandboxes, KEY "/disks/meta", F_OK, 0), -1);
	/* Without a meta nobody takes it for a disk. */
	assert_int_equal(sets_clear_sandbox(sandboxes, KEY, &e), 0);
	assert_int_equal(faccessat(sandboxes, KEY, F_OK, 0), -1);
	drop_copies();
}

static void test_deadline(void **unused)
{
	(void)unused;
	ask_for_long();
	order.deadline_us = clock_us() - 1;
	host_refused(ERR_DEADLINE, "disks[0]");
	assert_says(e.text, "disks_ms");
	assert_true(told <= 1);
	drop_copies();
}

static int all_tests(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, host_setup, host_teardown)
		T(test_images_for_writing),
		T(test_images_for_reading),
		T(test_images_that_are_too_large),
		T(test_no_directory_of_images),
		T(test_shared_image),
		T(test_own_disks),
		T(test_all_eight),
		T(test_no_disks),
		T(test_size_that_is_too_small),
		T(test_foreign_directories),
		T(test_no_space),
		T(test_progress),
		T(test_told_to_stop),
		T(test_deadline),
#undef T
	};
	return cmocka_run_group_tests_name("disks", tests, NULL, NULL);
}

int main(void)
{
	return host_run(all_tests);
}
