// SPDX-License-Identifier: Apache-2.0
/* common/util: strings, numbers, descriptors, clocks. */
#include "unit.h"

#include "util.h"

#include <errno.h>
#include <time.h>

static void test_fds(void **unused)
{
	(void)unused;
	unsigned before = unit_open_fds();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int number = fd;
	assert_int_equal(fd_take(&fd), number);
	assert_int_equal(fd, -1);
	errno = EDOM;
	fd_close(&number);
	assert_int_equal(number, -1);
	assert_int_equal(errno, EDOM);
	fd_close(&number);
	assert_int_equal(errno, EDOM);
	{
		CLEANUP_FD int scoped = open("/dev/null", O_RDONLY | O_CLOEXEC);
		char *text CLEANUP_FREE = strdup("x");
		assert_true(scoped >= 0 && text);
	}
	assert_int_equal(unit_open_fds(), before);
	int stale = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int copy = stale;
	close(stale);
	errno = EDOM;
	fd_close(&copy); /* EBADF inside is not passed on */
	assert_int_equal(errno, EDOM);
}

static void test_str_copy(void **unused)
{
	char buf[6];
	(void)unused;
	memset(buf, 'z', sizeof(buf));
	assert_true(str_copy(buf, 4, "abc"));
	assert_string_equal(buf, "abc");
	assert_int_equal(buf[4], 'z');
	assert_false(str_copy(buf, 4, "abcd"));
	assert_string_equal(buf, "");
	assert_int_equal(buf[4], 'z');
	assert_true(str_copy(buf, 1, ""));
	assert_false(str_copy(buf, 1, "a"));
}

static void test_str_is_padded(void **unused)
{
	(void)unused;
	assert_true(str_is_padded("ab\0\0\0", 5));
	assert_true(str_is_padded("\0\0\0", 3));
	assert_true(str_is_padded("abcd", 5));
	assert_false(str_is_padded("abcd", 4));
	assert_false(str_is_padded("ab\0\0x", 5));
	assert_false(str_is_padded("\0x\0", 3));
	assert_false(str_is_padded("a\0x", 3));
}

static void test_str_clean(void **unused)
{
	char text[] = " ~\x1f\x7f\n\t\x80\xff\x1b[0m";
	(void)unused;
	str_clean(text);
	assert_string_equal(text, " ~???\?\?\?\?[0m");
	char empty[] = "";
	str_clean(empty);
	assert_string_equal(empty, "");
}

static void test_str_to_u64(void **unused)
{
	static const struct {
		const char *text;
		uint64_t min, max, want;
	} good[] = {
		{"0", 0, 0, 0},
		{"007", 1, 9, 7},
		{"18446744073709551615", 0, UINT64_MAX, UINT64_MAX},
		{"10", 10, 10, 10},
	};
	static const struct {
		const char *text;
		uint64_t min, max;
	} bad[] = {
		{"", 0, 9},
		{"-1", 0, UINT64_MAX},
		{"+1", 0, 9},
		{" 1", 0, 9},
		{"1 ", 0, 9},
		{"1k", 0, 9},
		{"0x1", 0, 9},
		{"1.0", 0, 9},
		{"9", 10, 99},
		{"100", 10, 99},
		{"18446744073709551616", 0, UINT64_MAX},
		{"18446744073709551620", 0, UINT64_MAX},
		{"99999999999999999999", 0, UINT64_MAX},
		{"\xb2", 0, 9},
	};
	uint64_t out = 55;
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (str_to_u64(bad[i].text, bad[i].min, bad[i].max, &out) || out != 55)
			fail_msg("\"%s\" was taken", bad[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(str_to_u64(good[i].text, good[i].min, good[i].max, &out));
		assert_true(out == good[i].want);
	}
}

static void test_clock_format(void **unused)
{
	static const struct {
		int64_t us;
		const char *want;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{1700000000123456, "2023-11-14T22:13:20.123Z"},
		{1709164800999999, "2024-02-29T00:00:00.999Z"},
		{1009000, "1970-01-01T00:00:01.009Z"},
		{-1, "1969-12-31T23:59:59.999Z"},
		{-1500000, "1969-12-31T23:59:58.500Z"},
	};
	char out[CLOCK_TEXT_MAX];
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		clock_format(cases[i].us, out);
		assert_string_equal(out, cases[i].want);
	}
	/* As far away as the type goes, it stays inside its buffer. */
	clock_format(INT64_MAX, out);
	assert_int_equal(out[strlen(out) - 1], 'Z');
	clock_format(INT64_MIN, out);
	assert_int_equal(out[strlen(out) - 1], 'Z');
}

static void test_clocks(void **unused)
{
	(void)unused;
	int64_t then = clock_us();
	const struct timespec pause = {.tv_nsec = 2000000};
	nanosleep(&pause, NULL);
	int64_t took = clock_us() - then;
	assert_true(took >= 2000 && took < 60000000);
	int64_t apart = clock_real_us() - (int64_t)time(NULL) * 1000000;
	assert_true(apart > -2000000 && apart < 2000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fds),	      cmocka_unit_test(test_str_copy),
		cmocka_unit_test(test_str_is_padded), cmocka_unit_test(test_str_clean),
		cmocka_unit_test(test_str_to_u64),    cmocka_unit_test(test_clock_format),
		cmocka_unit_test(test_clocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
