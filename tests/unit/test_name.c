// SPDX-License-Identifier: Apache-2.0
/* common/name: what may become a component of a path. */
#include "unit.h"

#include "name.h"
#include "util.h"

/* A string of n times c. */
static const char *times(char c, size_t n)
{
	static char text[300];
	memset(text, c, n);
	text[n] = '\0';
	return text;
}

static void test_names(void **unused)
{
	static const char *const good[] = {"a",	 "0",  "a.b", "a-b_c.9", "9lives",
					   "a.", "a-", "a_",  "a.b.c",	 "a._.b"};
	static const char *const bad[] = {
		"",	    ".",     "..",    "-a",   "_a",  ".a",  "A",   "aB",  "a/b", "/",
		"a..b",	    "a..",   "a b",   " a",   "a\n", "a\t", "a:b", "a\\", "a*",	 "a~",
		"\xc3\xa9", "a\xff", "a\x7f", "a%2f", "a'",  "a\"", "a`",  "a{",  "a@",	 "a[",
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!name_is_valid(good[i]))
			fail_msg("\"%s\" was refused", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (name_is_valid(bad[i]))
			fail_msg("\"%s\" was taken", bad[i]);
	assert_true(name_is_valid(times('a', NAME_MAX_LEN)));
	assert_false(name_is_valid(times('a', NAME_MAX_LEN + 1)));
	assert_false(name_is_valid(times('a', 299)));
	/* Every byte by itself, first and later. */
	for (int c = 1; c < 256; c++) {
		char first[] = {(char)c, '\0'}, later[] = {'a', (char)c, '\0'};
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		assert_int_equal(name_is_valid(first), alnum);
		assert_int_equal(name_is_valid(later), alnum || c == '.' || c == '_' || c == '-');
	}
}

/* A buffer that is full and not ended is no name, and nothing behind it is read. */
static void test_not_ended(void **unused)
{
	(void)unused;
	char *name = malloc(NAME_SIZE), *key = malloc(NAME_KEY_SIZE);
	assert_true(name && key);
	memset(name, 'a', NAME_SIZE);
	memset(key, 'a', NAME_KEY_SIZE);
	key[60] = ':';
	assert_false(name_is_valid(name));
	assert_false(name_key_is_valid(key));
	free(name);
	free(key);
}

static void test_keys(void **unused)
{
	static const char *const bad[] = {"",	    ":",    "a",    "a:",   ":a",
					  "a:b:c",  "a::b", "a:.b", "..:a", "a:b/c",
					  "a:b..c", "A:b",  "a:B",  "a :b", "a/../b:c"};
	char key[NAME_KEY_SIZE], tenant[NAME_SIZE], name[NAME_SIZE], longest[NAME_SIZE];
	(void)unused;
	str_copy(longest, sizeof(longest), times('z', NAME_MAX_LEN));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(tenant, 'x', sizeof(tenant));
		memset(name, 'x', sizeof(name));
		if (name_key_is_valid(bad[i]) || name_key_split(bad[i], tenant, name))
			fail_msg("\"%s\" was taken", bad[i]);
		assert_string_equal(tenant, "");
		assert_string_equal(name, "");
	}
	assert_true(name_key_make(key, "acme", "web-1"));
	assert_string_equal(key, "acme:web-1");
	assert_true(name_key_make(key, longest, longest));
	assert_int_equal(strlen(key), NAME_KEY_SIZE - 1);
	assert_true(name_key_is_valid(key));
	assert_true(name_key_split(key, tenant, name));
	assert_string_equal(tenant, longest);
	assert_string_equal(name, longest);
	assert_false(name_key_make(key, "a:b", "c"));
	assert_string_equal(key, "");
	assert_false(name_key_make(key, "a", ""));
	assert_string_equal(key, "");
	/* Each half has its own bound: 62 + 64 would fit the buffer. */
	char lopsided[NAME_KEY_SIZE];
	snprintf(lopsided, sizeof(lopsided), "%.62s:a%s", longest, longest);
	assert_int_equal(strlen(lopsided), NAME_KEY_SIZE - 1);
	assert_false(name_key_is_valid(lopsided));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_not_ended),
		cmocka_unit_test(test_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
