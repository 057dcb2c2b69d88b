// SPDX-License-Identifier: Apache-2.0
/* common/err: what an error says, and that it always ends inside its buffer. */
#include "unit.h"

#include "err.h"

#include <errno.h>

static struct err e;

static void test_set(void **unused)
{
	(void)unused;
	assert_int_equal(err_set(&e, ERR_QUOTA, 0, "%d of %s", 3, "x"), -1);
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_int_equal(e.errnum, 0);
	assert_string_equal(e.text, "3 of x");
	assert_int_equal(err_set(&e, ERR_VMM, ENOENT, "open %s", "x"), -1);
	assert_int_equal(e.errnum, ENOENT);
	assert_string_equal(e.text, "open x: ENOENT (No such file or directory)");
	err_set(&e, ERR_VMM, 4000, "x");
	assert_string_equal(e.text, "x: errno (unknown)");
}

static void test_kind_of_errno(void **unused)
{
	static const int none_left[] = {ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EAGAIN};
	(void)unused;
	for (size_t i = 0; i < sizeof(none_left) / sizeof(none_left[0]); i++) {
		assert_int_equal(err_errno(&e, none_left[i], "x"), -1);
		assert_int_equal(e.kind, ERR_NO_SPACE);
		assert_int_equal(e.errnum, none_left[i]);
	}
	err_errno(&e, ETIMEDOUT, "x");
	assert_int_equal(e.kind, ERR_DEADLINE);
	err_errno(&e, EACCES, "write \"%s\"", "y");
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_string_equal(e.text, "write \"y\": EACCES (Permission denied)");
}

static void test_prefix(void **unused)
{
	(void)unused;
	err_set(&e, ERR_VMM, EIO, "boot");
	assert_int_equal(err_prefix(&e, "sandbox %d", 7), -1);
	assert_string_equal(e.text, "sandbox 7: boot: EIO (Input/output error)");
	assert_int_equal(e.kind, ERR_VMM);
	assert_int_equal(e.errnum, EIO);
}

/* Every length around the buffer's end: cut, ended, and what is there is the start. */
static void test_long(void **unused)
{
	static char text[2 * ERR_TEXT_MAX];
	(void)unused;
	for (size_t n = ERR_TEXT_MAX - 60; n < ERR_TEXT_MAX + 60; n++) {
		memset(text, 'a', n);
		text[n] = '\0';
		memset(&e, 'z', sizeof(e));
		err_set(&e, ERR_VMM, EIO, "%s", text);
		assert_true(strnlen(e.text, sizeof(e.text)) < sizeof(e.text));
		assert_int_equal(strspn(e.text, "a"), n < ERR_TEXT_MAX ? n : ERR_TEXT_MAX - 1);
		memset(&e, 'z', sizeof(e));
		err_set(&e, ERR_VMM, 0, "old");
		err_prefix(&e, "%s", text);
		assert_true(strnlen(e.text, sizeof(e.text)) < sizeof(e.text));
		assert_int_equal(strspn(e.text, "a"), n < ERR_TEXT_MAX ? n : ERR_TEXT_MAX - 1);
		if (n + 5 < ERR_TEXT_MAX)
			assert_string_equal(e.text + n, ": old");
		memset(&e, 'z', sizeof(e));
		err_set(&e, ERR_VMM, 0, "%s", text);
		err_prefix(&e, "p");
		assert_memory_equal(e.text, "p: aaa", 6);
		assert_int_equal(strlen(e.text), n + 3 < ERR_TEXT_MAX ? n + 3 : ERR_TEXT_MAX - 1);
	}
}

static void test_names(void **unused)
{
	(void)unused;
	assert_string_equal(err_kind_name(ERR_NONE), "none");
	assert_string_equal(err_kind_name(ERR_NO_SPACE), "no-space");
	assert_string_equal(err_kind_name(ERR_VERSION), "version");
	assert_string_equal(err_kind_name(ERR_KIND_COUNT), "unknown");
	assert_string_equal(err_kind_name((enum err_kind) - 1), "unknown");
	for (int i = 0; i < ERR_KIND_COUNT; i++)
		assert_non_null(err_kind_name((enum err_kind)i));
	/* They cross the socketpair: never renumbered. */
	assert_int_equal(ERR_INVALID, 1);
	assert_int_equal(ERR_DEADLINE, 8);
	assert_int_equal(ERR_VERSION, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),    cmocka_unit_test(test_kind_of_errno),
		cmocka_unit_test(test_prefix), cmocka_unit_test(test_long),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
