// SPDX-License-Identifier: Apache-2.0
/* shim/diskmake on file systems of the test's own: xfs and btrfs share blocks, tmpfs is small. */
#include "diskfiles.h"
#include "unit_mount.h"

#include <sys/statvfs.h>

/* One of both in another directory, so on another file system. */
static int replace(int *fd, const char *dir, const char *name)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	close(*fd);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(*fd >= 0);
	return *fd;
}

static char *mount_at(struct files *f, const char *name, char path[128])
{
	snprintf(path, 128, "%s/%s", f->path, name);
	assert_int_equal(mkdir(path, 0755), 0);
	return path;
}

static bool own_mounts;

static void need_mounts(void)
{
	if (own_mounts)
		return;
	print_message("not run: needs root and a mount namespace\n");
	skip();
}

static void test_block_device(void **state)
{
	struct files *f = *state;
	char name[32];
	need_mounts();
	resize(f->from, 4 * MIB);
	put(f->from, MIB, MIB, 1);
	assert_int_equal(fsync(f->from), 0);
	int loop = unit_loop(f->from, name), file = f->from;
	if (loop < 0) {
		print_message("not run: no loop device (%s)\n", strerrordesc_np(errno));
		skip();
	}
	f->from = loop;
	/* It has no holes to show, but what holds nothing is not written. */
	assert_int_equal(copy(f, 4 * MIB, 5 * MIB), MIB);
	/* And to its end, no further. */
	resize(f->to, 0);
	struct diskmake m;
	struct err e;
	assert_int_equal(make(&m, f, 5 * MIB, 5 * MIB, &e), -1);
	close(file);
}

static void test_two_file_systems(void **state)
{
	struct files *f = *state;
	char path[128];
	need_mounts();
	assert_int_equal(mount("t", mount_at(f, "tmpfs", path), "tmpfs", 0, "size=64m"), 0);
	for (int turn = 0; turn < 2; turn++) {
		/* From the one to the other, and back. */
		replace(turn ? &f->to : &f->from, path, "there");
		replace(turn ? &f->from : &f->to, f->path, "here");
		resize(f->from, 20 * MIB);
		resize(f->to, 0);
		put(f->from, 5 * MIB + 1, 3 * MIB, turn);
		clone_fault = range_fault = write_fault = (struct fault){0};
		struct diskmake m;
		struct err e;
		assert_int_equal(make(&m, f, 20 * MIB, 21 * MIB, &e), 0);
		assert_int_equal(m.made, MSG_DISK_COPIED);
		assert_disk(f, 20 * MIB, 21 * MIB);
		/* The tmpfs has pages of up to 2 MiB. */
		assert_true(m.copied >= 3 * MIB && m.copied <= 7 * MIB);
		/* Asked for once, and then no more. */
		assert_int_equal(range_fault.calls, 1);
		assert_true(write_fault.calls > 0);
		random_layouts(f, 7, 4);
	}
	replace(&f->to, f->path, "here");
	replace(&f->from, f->path, "here");
	assert_int_equal(umount(path), 0);
}

static void test_no_space(void **state)
{
	struct files *f = *state;
	char path[128];
	need_mounts();
	assert_int_equal(mount("t", mount_at(f, "small", path), "tmpfs", 0, "size=4m"), 0);
	put(f->from, 0, 8 * MIB, 1);
	/* From elsewhere by reading and writing. */
	replace(&f->to, path, "to");
	refused(f, 8 * MIB, 8 * MIB, ERR_NO_SPACE, ENOSPC);
	resize(f->to, 0);
	/* Within it, by the call. */
	replace(&f->from, path, "from");
	put(f->from, 0, 3 * MIB, 1);
	range_fault.calls = write_fault.calls = 0;
	refused(f, 3 * MIB, 3 * MIB, ERR_NO_SPACE, ENOSPC);
	assert_true(range_fault.calls > 0);
	assert_int_equal(write_fault.calls, 0);
	/* A disk larger than what is left is no error: it is sparse. */
	resize(f->from, PAGE);
	resize(f->to, 0);
	copy(f, PAGE, 64 * MIB);
	replace(&f->to, f->path, "to");
	replace(&f->from, f->path, "from");
	assert_int_equal(umount(path), 0);
}

/* ------------------------------------------------------------------ sharing blocks */

static uint64_t free_bytes(const char *path)
{
	struct statvfs fs;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(syncfs(fd), 0);
	close(fd);
	assert_int_equal(statvfs(path, &fs), 0);
	return (uint64_t)fs.f_bfree * fs.f_frsize;
}

/* The clone takes no room and no time; a write to either does not show in the other. */
static void clone_once(struct files *f, const char *path, const char *name)
{
	struct diskmake m;
	struct err e;
	replace(&f->to, path, name);
	uint64_t before = free_bytes(path);
	range_fault.calls = write_fault.calls = 0;
	if (diskmake_start(&m, f->from, f->to, 40 * MIB + 512, 50 * MIB, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(m.made, MSG_DISK_REFLINK);
	assert_int_equal(m.copied, 0);
	assert_int_equal(m.at, 40 * MIB + 512);
	assert_int_equal(range_fault.calls + write_fault.calls, 0);
	assert_disk(f, 40 * MIB + 512, 50 * MIB);
	uint64_t after = free_bytes(path);
	if (before > after + 4 * MIB)
		fail_msg("%s takes %zu bytes", name, (size_t)(before - after));
}

static void assert_apart(struct files *f)
{
	size_t size = 40 * MIB;
	char *as_it_was = malloc(size);
	assert_non_null(as_it_was);
	assert_int_equal(pread(f->from, as_it_was, size, 0), size);
	put(f->to, MIB + 100, 2 * MIB, 77);
	assert_bytes(f->from, as_it_was, size);
	assert_int_equal(pread(f->to, as_it_was, size, 0), size);
	put(f->from, 3 * MIB, MIB, 78);
	assert_bytes(f->to, as_it_was, size);
	free(as_it_was);
}

static void try_reflink(struct files *f, const char *type)
{
	char path[128], image[160];
	need_mounts();
	mount_at(f, "fs", path);
	snprintf(image, sizeof(image), "%s/image", f->path);
	const char *why = unit_mount_new(image, type, (off_t)(400 * MIB), path);
	if (why) {
		print_message("not run: %s: %s\n", type, why);
		skip();
	}
	replace(&f->from, path, "from");
	put(f->from, MIB, 30 * MIB, 1);
	resize(f->from, 40 * MIB + 512);
	clone_once(f, path, "one");
	assert_apart(f);
	/* A clone of the clone, and its source gone. */
	int parent = f->from;
	f->from = dup(f->to);
	close(parent);
	snprintf(image, sizeof(image), "%s/from", path);
	assert_int_equal(unlink(image), 0);
	clone_once(f, path, "two");
	assert_apart(f);
	/* Where it must not be done, the copy is one. */
	replace(&f->to, path, "three");
	copy(f, 40 * MIB, 41 * MIB);
	assert_apart(f);
	random_layouts(f, 9, 4);
	/* A source that is shorter than was said. */
	struct diskmake m;
	struct err e;
	clone_fault = (struct fault){0};
	resize(f->from, MIB);
	resize(f->to, 0);
	assert_int_equal(make(&m, f, 2 * MIB, 2 * MIB, &e), -1);
	assert_says(e.text, "ends at 1048576 of 2097152 bytes");
	/* From another file system it is a copy by itself. */
	replace(&f->from, f->path, "elsewhere");
	put(f->from, 0, MIB, 5);
	resize(f->to, 0);
	assert_int_equal(make(&m, f, MIB, MIB, &e), 0);
	assert_int_equal(m.made, MSG_DISK_COPIED);
	replace(&f->to, f->path, "to");
	assert_int_equal(umount(path), 0);
}

static void test_reflink_xfs(void **state)
{
	try_reflink(*state, "xfs");
}

static void test_reflink_btrfs(void **state)
{
	try_reflink(*state, "btrfs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(test_block_device), T(test_two_file_systems), T(test_no_space),
		T(test_reflink_xfs),  T(test_reflink_btrfs),
#undef T
	};
	own_mounts = unit_own_mounts();
	return cmocka_run_group_tests_name("diskmake_fs", tests, NULL, NULL);
}
