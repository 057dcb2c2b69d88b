// SPDX-License-Identifier: Apache-2.0
/* shim/diskmake: which way is taken, holes that are kept, and all that can go wrong. */
#include "diskfiles.h"

#include <signal.h>
#include <sys/resource.h>

/* ------------------------------------------------------------------ copying keeps holes */

static void test_layouts(void **state)
{
	static const struct {
		size_t size, at[3], len[3], stored;
	} cases[] = {
		{0, {0}, {0}, 0},
		{64 * MIB, {0}, {0}, 0},   /* only a hole */
		{PAGE, {0}, {PAGE}, PAGE}, /* only data */
		{3 * MIB, {0}, {3 * MIB}, 3 * MIB},
		{2 * MIB, {MIB}, {MIB}, MIB}, /* hole at the start */
		{2 * MIB, {0}, {MIB}, MIB},   /* and at the end */
		{8 * MIB, {0, 4 * MIB, 8 * MIB - PAGE}, {PAGE, PAGE, PAGE}, 3 * PAGE},
		{MIB + 512, {MIB}, {512}, 512},	    /* odd end of data */
		{4 * MIB + 512, {0}, {PAGE}, PAGE}, /* and of a hole */
		{MIB, {5000}, {1}, PAGE},	    /* in mid-page */
		{MIB, {PAGE - 1, 3 * PAGE - 1}, {2, 2}, 4 * PAGE},
		{512, {0}, {512}, 512},
	};
	struct files *f = *state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		resize(f->from, 0);
		resize(f->to, 0);
		resize(f->from, cases[i].size);
		for (int k = 0; k < 3; k++)
			if (cases[i].len[k])
				put(f->from, cases[i].at[k], cases[i].len[k], (int)i);
		uint64_t stored = copy(f, cases[i].size, cases[i].size);
		if (stored != cases[i].stored)
			fail_msg("layout %zu: %zu bytes copied, must be %zu", i, (size_t)stored,
				 cases[i].stored);
		assert_true(allocated(f->to) <= allocated(f->from));
	}
}

static void test_random_layouts(void **state)
{
	random_layouts(*state, 5, 30);
}

/* One call at a time moves little, ends in mid-page, is interrupted: nothing is lost or doubled. */
static void test_short_calls(void **state)
{
	struct files *f = *state;
	resize(f->from, 2 * MIB);
	put(f->from, 700, 300000, 1);
	put(f->from, MIB + 123, 5000, 2);
	range_fault.most = 1000;
	copy(f, 2 * MIB, 3 * MIB);
	assert_true(range_fault.calls > 300);
	resize(f->to, 0);
	range_fault = (struct fault){.fails = EXDEV, .times = 1};
	write_fault.most = 777;
	copy(f, 2 * MIB, 3 * MIB);
	assert_int_equal(range_fault.calls, 1);
	assert_true(write_fault.calls > 300);
}

static void test_interrupted_calls(void **state)
{
	struct files *f = *state;
	resize(f->from, 2 * MIB);
	put(f->from, MIB, MIB, 1);
	range_fault = (struct fault){.fails = EINTR, .times = 5};
	copy(f, 2 * MIB, 2 * MIB);
	/* It is no reason to stop using the call. */
	assert_true(range_fault.calls > 5);
	assert_int_equal(write_fault.calls, 0);
	resize(f->to, 0);
	range_fault = (struct fault){.fails = EXDEV, .times = 1};
	write_fault = (struct fault){.fails = EINTR, .times = 5};
	copy(f, 2 * MIB, 2 * MIB);
	assert_true(write_fault.calls > 5);
}

static void test_growing(void **state)
{
	struct files *f = *state;
	struct diskmake m;
	struct err e;
	put(f->from, 0, MIB + 512, 1);
	copy(f, MIB + 512, 64 * MIB);
	assert_true(allocated(f->to) <= MIB + 64 * 1024);
	/* As far as bytes say, not as the file is long. */
	resize(f->to, 0);
	clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 1};
	assert_int_equal(make(&m, f, PAGE, 2 * PAGE, &e), 0);
	assert_int_equal(m.copied, PAGE);
	assert_disk(f, PAGE, 2 * PAGE);
}

/* Whether it ends in data or in a hole, copied or cloned: what is missing is not taken for zeros.
 */
static void test_short_source(void **state)
{
	struct files *f = *state;
	for (int hole = 0; hole < 2; hole++) {
		for (int plain = 0; plain < 2; plain++) {
			struct diskmake m;
			struct err e;
			resize(f->from, 0);
			resize(f->to, 0);
			put(f->from, 0, PAGE, 1);
			resize(f->from, 2 * MIB);
			if (!hole)
				put(f->from, 2 * MIB - PAGE, PAGE, 1);
			range_fault = (struct fault){.fails = EXDEV, .times = plain};
			assert_int_equal(make(&m, f, 3 * MIB, 4 * MIB, &e), -1);
			assert_int_equal(e.kind, ERR_INTERNAL);
			assert_says(e.text, "ends at 2097152 of 3145728 bytes");
		}
	}
}

/* It shrinks while it is being copied, so that its data ends in a call that moves nothing. */
static void test_source_that_is_cut(void **state)
{
	for (int plain = 0; plain < 2; plain++) {
		struct files *f = *state;
		struct diskmake m;
		struct err e;
		resize(f->to, 0);
		put(f->from, 0, 32 * MIB, 1);
		clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 1};
		range_fault = (struct fault){.fails = EXDEV, .times = plain};
		int more = diskmake_start(&m, f->from, f->to, 32 * MIB, 32 * MIB, &e);
		assert_int_equal(more, 1);
		assert_int_equal(diskmake_step(&m, &e), 1);
		resize(f->from, 16 * MIB + 100);
		while ((more = diskmake_step(&m, &e)) == 1)
			;
		assert_int_equal(more, -1);
		assert_says(e.text, "ends at 16777316 of 33554432 bytes");
	}
}

static void test_steps_are_bounded(void **state)
{
	for (int plain = 0; plain < 2; plain++) {
		struct files *f = *state;
		struct diskmake m;
		struct err e;
		uint64_t last = 0;
		int more, steps = 0;
		resize(f->to, 0);
		put(f->from, 0, 30 * MIB, 1);
		resize(f->from, 80 * MIB);
		put(f->from, 70 * MIB, 10 * MIB, 2);
		clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 1};
		range_fault = (struct fault){.fails = EXDEV, .times = plain};
		assert_int_equal(diskmake_start(&m, f->from, f->to, 80 * MIB, 80 * MIB, &e), 1);
		assert_int_equal(m.copied, 0);
		while ((more = diskmake_step(&m, &e)) == 1) {
			assert_true(m.copied > last && m.copied - last <= 16 * MIB);
			assert_true(m.at >= m.copied && m.at < 80 * MIB);
			last = m.copied;
			steps++;
		}
		assert_int_equal(more, 0);
		assert_true(steps >= 2);
		assert_int_equal(m.copied, 40 * MIB);
		assert_disk(f, 80 * MIB, 80 * MIB);
	}
}

/* ------------------------------------------------------------------ which way, and errors */

/* What the file system cannot do is no error: the next way is taken. */
static void test_fallback(void **state)
{
	static const int cannot[] = {EOPNOTSUPP, ENOTTY, ENOSYS, EXDEV,
				     EINVAL,	 EISDIR, EPERM,	 ETXTBSY};
	struct files *f = *state;
	resize(f->from, MIB);
	put(f->from, 0, PAGE, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cannot); i++) {
		struct diskmake m;
		struct err e;
		resize(f->to, 0);
		clone_fault = (struct fault){.fails = cannot[i], .times = 1};
		range_fault.calls = 0;
		assert_int_equal(make(&m, f, MIB, MIB, &e), 0);
		assert_int_equal(m.made, MSG_DISK_COPIED);
		/* Cloning was tried first, and once. */
		assert_int_equal(clone_fault.calls, 1);
		assert_true(range_fault.calls > 0);
		assert_disk(f, MIB, MIB);
	}
}

static void test_failing_clone(void **state)
{
	static const struct {
		int errnum;
		enum err_kind kind;
	} cases[] = {{EIO, ERR_INTERNAL},
		     {ENOSPC, ERR_NO_SPACE},
		     {EDQUOT, ERR_NO_SPACE},
		     {EROFS, ERR_INTERNAL},
		     {EBADF, ERR_INTERNAL}};
	struct files *f = *state;
	resize(f->from, MIB);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		clone_fault = (struct fault){.fails = cases[i].errnum, .times = 1};
		refused(f, MIB, MIB, cases[i].kind, cases[i].errnum);
		/* Never a silent copy instead. */
		assert_int_equal(range_fault.calls + write_fault.calls, 0);
	}
}

static void test_reading_and_writing_instead(void **state)
{
	static const int cannot[] = {EXDEV, EINVAL, EOPNOTSUPP, ENOSYS, EPERM, 0};
	struct files *f = *state;
	resize(f->from, 2 * MIB);
	put(f->from, 100, 600000, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cannot); i++) {
		resize(f->to, 0);
		/* 0: it moves nothing, as some file systems' did at times. */
		range_fault =
			(struct fault){.fails = cannot[i], .nothing = cannot[i] == 0, .times = 1};
		copy(f, 2 * MIB, 2 * MIB);
		assert_int_equal(range_fault.calls, 1);
		assert_true(allocated(f->to) <= allocated(f->from));
	}
}

static void test_failing_copy(void **state)
{
	static const struct {
		int errnum;
		enum err_kind kind;
	} cases[] = {{EIO, ERR_INTERNAL},    {ENOSPC, ERR_NO_SPACE}, {EDQUOT, ERR_NO_SPACE},
		     {ENOMEM, ERR_NO_SPACE}, {EFBIG, ERR_INTERNAL},  {EBADF, ERR_INTERNAL},
		     {EROFS, ERR_INTERNAL}};
	struct files *f = *state;
	put(f->from, 0, MIB, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 2};
		range_fault = (struct fault){.fails = cases[i].errnum, .times = 1};
		write_fault = (struct fault){0};
		refused(f, MIB, MIB, cases[i].kind, cases[i].errnum);
		assert_int_equal(write_fault.calls, 0);
		/* The plain way likewise. */
		range_fault = (struct fault){.fails = EXDEV, .times = 1};
		write_fault = (struct fault){.fails = cases[i].errnum, .times = 1};
		refused(f, MIB, MIB, cases[i].kind, cases[i].errnum);
	}
	/* A write that takes nothing and gives no reason. */
	clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 1};
	range_fault = (struct fault){.fails = EXDEV, .times = 1};
	write_fault = (struct fault){.nothing = true, .times = 1};
	refused(f, MIB, MIB, ERR_NO_SPACE, ENOSPC);
}

static void test_unreadable_source(void **state)
{
	struct files *f = *state;
	struct diskmake m;
	struct err e;
	close(f->from);
	f->from = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(make(&m, f, MIB, MIB, &e), -1);
	assert_int_equal(e.errnum, EISDIR);
	range_fault = (struct fault){.fails = EXDEV, .times = 1};
	assert_int_equal(make(&m, f, MIB, MIB, &e), -1);
	assert_int_equal(e.errnum, EISDIR);
}

static void test_size_that_is_not_allowed(void **state)
{
	struct files *f = *state;
	struct rlimit old, limit;
	put(f->from, 0, PAGE, 1);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	refused(f, PAGE, 2 * MIB, ERR_INTERNAL, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

static void test_names(void **state)
{
	(void)state;
	assert_null(diskmake_name(MSG_DISK_ASKED));
	assert_null(diskmake_name(MSG_DISK_MADE_COUNT));
	assert_string_equal(diskmake_name(MSG_DISK_SHARED), "shared");
	assert_string_equal(diskmake_name(MSG_DISK_REFLINK), "reflink");
	assert_string_equal(diskmake_name(MSG_DISK_COPIED), "copy");
	assert_string_equal(diskmake_name(MSG_DISK_OPENED), "device");
}

/* ------------------------------------------------------------------ sources of other kinds */

/* A file system on which lseek(2) knows no holes. */
static void test_no_seek_data(void **state)
{
	struct files *f = *state;
	resize(f->from, 2 * MIB);
	put(f->from, MIB, PAGE, 1);
	seek_fault = (struct fault){.fails = EINVAL, .times = 1 << 20};
	assert_int_equal(copy(f, 2 * MIB, 3 * MIB), 2 * MIB);
	/* Only SEEK_HOLE is missing: all after the first data is data. */
	resize(f->to, 0);
	seek_fault = (struct fault){0};
	assert_int_equal(copy(f, 2 * MIB, 3 * MIB), PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(test_layouts),
		T(test_random_layouts),
		T(test_short_calls),
		T(test_interrupted_calls),
		T(test_growing),
		T(test_short_source),
		T(test_source_that_is_cut),
		T(test_steps_are_bounded),
		T(test_fallback),
		T(test_failing_clone),
		T(test_reading_and_writing_instead),
		T(test_failing_copy),
		T(test_unreadable_source),
		T(test_size_that_is_not_allowed),
		T(test_names),
		T(test_no_seek_data),
#undef T
	};
	return cmocka_run_group_tests_name("diskmake", tests, NULL, NULL);
}
