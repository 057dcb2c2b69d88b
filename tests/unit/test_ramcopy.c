// SPDX-License-Identifier: Apache-2.0
#include "unit.h"

#include "ramcopy.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#define PAGE ((size_t)4096)
#define MIB  ((size_t)1 << 20)

struct files {
	char path[64];
	int dir, from, to;
};

static void files_open(struct files *f, size_t size)
{
	f->dir = unit_make_dir(f->path);
	f->from = openat(f->dir, "from", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	f->to = openat(f->dir, "to", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(f->from >= 0 && f->to >= 0);
	assert_int_equal(ftruncate(f->from, (off_t)size), 0);
}

static void files_close(struct files *f)
{
	close(f->from);
	close(f->to);
	close(f->dir);
	unit_remove_dir(f->path);
}

static void put(int fd, size_t at, size_t len, int byte)
{
	char *data = malloc(len);
	assert_non_null(data);
	memset(data, byte, len);
	assert_int_equal(pwrite(fd, data, len, (off_t)at), len);
	free(data);
}

static size_t allocated(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void assert_same(const struct files *f, size_t size)
{
	char *a = malloc(size + 1), *b = malloc(size + 1);
	struct stat st;
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(fstat(f->to, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(pread(f->from, a, size, 0), size);
	assert_int_equal(pread(f->to, b, size, 0), size);
	assert_memory_equal(a, b, size);
	free(a);
	free(b);
}

static uint64_t copy(const struct files *f, size_t size)
{
	struct ramcopy c;
	struct err e;
	assert_int_equal(ramcopy_start(&c, f->from, f->to, size, &e), 0);
	assert_int_equal(ramcopy_run(&c, INT64_MAX, &e), 0);
	assert_int_equal(c.at, size);
	return c.stored;
}

static void test_holes_and_zero_pages_are_not_stored(void **state)
{
	struct files f;
	(void)state;
	files_open(&f, 64 * MIB);
	put(f.from, 0, PAGE, 'a');
	put(f.from, 5 * PAGE, 100 * PAGE, 0);
	put(f.from, 50 * PAGE, PAGE, 'b');
	put(f.from, 40 * MIB, 3 * PAGE, 'c');
	/* One byte keeps its page. */
	put(f.from, 64 * MIB - 1, 1, 'd');
	assert_int_equal(copy(&f, 64 * MIB), 6 * PAGE);
	assert_same(&f, 64 * MIB);
	assert_true(allocated(f.to) <= allocated(f.from));
	files_close(&f);
}

static void test_nothing_but_a_hole(void **state)
{
	struct files f;
	(void)state;
	files_open(&f, 16 * MIB);
	assert_int_equal(copy(&f, 16 * MIB), 0);
	assert_same(&f, 16 * MIB);
	assert_int_equal(allocated(f.to), 0);
	files_close(&f);
}

static void test_odd_sizes(void **state)
{
	static const size_t sizes[] = {
		0, 1, PAGE - 1, PAGE + 1, 3 * PAGE, 256 * 1024 + 7, 2 * MIB + 4095, 9 * MIB + 123};
	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct files f;
		files_open(&f, sizes[i]);
		if (sizes[i])
			put(f.from, 0, sizes[i], 'x');
		assert_int_equal(copy(&f, sizes[i]), sizes[i]);
		assert_same(&f, sizes[i]);
		files_close(&f);
	}
}

static void test_only_the_first_part_of_a_longer_file(void **state)
{
	struct files f;
	struct stat st;
	(void)state;
	files_open(&f, 4 * MIB);
	put(f.from, 0, PAGE, 'x');
	put(f.from, 2 * MIB, MIB, 'y');
	assert_int_equal(copy(&f, MIB), PAGE);
	assert_int_equal(fstat(f.to, &st), 0);
	assert_int_equal(st.st_size, MIB);
	files_close(&f);
}

/* Runs of data, of zeros and of nothing, with edges anywhere. */
static void test_random_layouts(void **state)
{
	(void)state;
	srandom(4);
	for (int round = 0; round < 30; round++) {
		struct files f;
		size_t size = (size_t)random() % (3 * MIB) + 1;
		files_open(&f, size);
		for (int run = 0; run < 12; run++) {
			size_t at = (size_t)random() % size;
			size_t len = (size_t)random() % (size - at) / 4 + 1;
			put(f.from, at, len, random() % 3 ? (int)(random() % 255) + 1 : 0);
		}
		uint64_t stored = copy(&f, size);
		assert_true(stored <= size);
		assert_same(&f, size);
		/* Copied once more it takes no more. */
		int to = f.from;
		f.from = f.to;
		f.to = to;
		assert_int_equal(ftruncate(f.to, 0), 0);
		assert_int_equal(copy(&f, size), stored);
		files_close(&f);
	}
}

static void test_steps_are_bounded(void **state)
{
	struct files f;
	struct ramcopy c;
	struct err e;
	int more, steps = 0;
	uint64_t last = 0;
	(void)state;
	files_open(&f, 20 * MIB);
	put(f.from, 0, 20 * MIB, 'x');
	assert_int_equal(ramcopy_start(&c, f.from, f.to, 20 * MIB, &e), 0);
	while ((more = ramcopy_step(&c, &e)) == 1) {
		assert_true(c.at - last <= 9 * MIB);
		last = c.at;
		steps++;
	}
	assert_int_equal(more, 0);
	assert_int_equal(steps, 2);
	assert_same(&f, 20 * MIB);
	files_close(&f);
}

/* Whether it ends in data or in a hole: what is missing is not taken for zeros. */
static void test_short_source(void **state)
{
	(void)state;
	for (int hole = 0; hole < 2; hole++) {
		struct files f;
		struct ramcopy c;
		struct err e;
		files_open(&f, 2 * MIB);
		put(f.from, 0, PAGE, 'x');
		if (!hole)
			put(f.from, 2 * MIB - PAGE, PAGE, 'x');
		assert_int_equal(ramcopy_start(&c, f.from, f.to, 3 * MIB, &e), 0);
		assert_int_equal(ramcopy_run(&c, INT64_MAX, &e), -1);
		assert_int_equal(e.kind, ERR_INTERNAL);
		assert_says(e.text, "ends at 2097152 of 3145728 bytes");
		files_close(&f);
	}
}

static void test_deadline(void **state)
{
	struct files f;
	struct ramcopy c;
	struct err e;
	(void)state;
	files_open(&f, 20 * MIB);
	put(f.from, 0, 20 * MIB, 'x');
	assert_int_equal(ramcopy_start(&c, f.from, f.to, 20 * MIB, &e), 0);
	assert_int_equal(ramcopy_run(&c, clock_us() - 1, &e), -1);
	assert_int_equal(e.kind, ERR_DEADLINE);
	files_close(&f);
}

static void test_no_space(void **state)
{
	struct files f;
	struct ramcopy c;
	struct err e;
	struct rlimit old, limit;
	(void)state;
	files_open(&f, 2 * MIB);
	put(f.from, MIB, MIB, 'x');
	assert_int_equal(ramcopy_start(&c, f.from, f.to, 2 * MIB, &e), 0);
	c.to = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(c.to >= 0);
	assert_int_equal(ramcopy_run(&c, INT64_MAX, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_int_equal(e.errnum, ENOSPC);
	close(c.to);
	/* Not even the size. */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 1 * MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(ftruncate(f.to, 0), 0);
	assert_int_equal(ramcopy_start(&c, f.from, f.to, 2 * MIB, &e), -1);
	assert_int_equal(e.errnum, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	files_close(&f);
}

static void test_bad_descriptors(void **state)
{
	struct files f;
	struct ramcopy c;
	struct err e;
	(void)state;
	files_open(&f, MIB);
	put(f.from, 0, PAGE, 'x');
	assert_int_equal(ramcopy_start(&c, f.from, f.to, MIB, &e), 0);
	c.from = f.dir;
	assert_int_equal(ramcopy_run(&c, INT64_MAX, &e), -1);
	assert_says(e.text, "the guest's memory");
	c.from = f.from;
	c.to = open("/dev/null", O_RDONLY | O_CLOEXEC);
	c.at = 0;
	assert_int_equal(ramcopy_run(&c, INT64_MAX, &e), -1);
	assert_int_equal(e.errnum, EBADF);
	close(c.to);
	files_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes_and_zero_pages_are_not_stored),
		cmocka_unit_test(test_nothing_but_a_hole),
		cmocka_unit_test(test_odd_sizes),
		cmocka_unit_test(test_only_the_first_part_of_a_longer_file),
		cmocka_unit_test(test_random_layouts),
		cmocka_unit_test(test_steps_are_bounded),
		cmocka_unit_test(test_short_source),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_bad_descriptors),
	};
	return cmocka_run_group_tests_name("ramcopy", tests, NULL, NULL);
}
