// SPDX-License-Identifier: Apache-2.0
/* shim/json_whole: what is JSON and what is not, cut anywhere, and nested. */
#include "unit.h"

#include "json_whole.h"
#include "util.h"

/* In a block of its own, so that a read beyond it is seen. */
static bool is_whole(const char *text, size_t length)
{
	char *block = malloc(length ? length : 1);
	assert_non_null(block);
	memcpy(block, text, length);
	bool whole = json_whole(block, length);
	free(block);
	return whole;
}

static void test_good(void **unused)
{
	static const char *const good[] = {
		"{}",
		" \t\r\n{ } \n",
		"{\"a\":1}",
		"{\"a\":[],\"b\":{},\"c\":[{},[],[[]]]}",
		"{\"\":\"\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800\":\"\xc3\xa9\x7f\"}",
		"{ \"a\" : [ 0 , -0 , 10 , 1.5 , -1e9 , 1E+9 , 0.0e-0 ] , \"b\" : null }",
		"{\"t\":true,\"f\":false,\"a\":1,\"a\":2}",
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(is_whole(good[i], strlen(good[i])));
	/* No part of it is whole. */
	const char *last = good[5];
	for (size_t n = 0; n < strlen(last); n++)
		assert_false(is_whole(last, n));
}

static void test_bad(void **unused)
{
	static const char *const bad[] = {
		"",
		" ",
		"[]",
		"1",
		"\"a\"",
		"null",
		"{",
		"}",
		"{}}",
		"{}{}",
		"{},",
		"{,}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{1:1}",
		"{\"a\":[}",
		"{\"a\":[1,]}",
		"{\"a\":[,]}",
		"{\"a\":(1)}",
		"{\"a\":[1}",
		"{\"a\":{]}",
		"{\"a\" 1}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":[1 2]}",
		"{\"a\":01}",
		"{\"a\":1.}",
		"{\"a\":.5}",
		"{\"a\":-}",
		"{\"a\":+1}",
		"{\"a\":1e}",
		"{\"a\":1e+}",
		"{\"a\":0x1}",
		"{\"a\":NaN}",
		"{\"a\":tru}",
		"{\"a\":truee}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"\x1b\"}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12g4\"}",
		"{\"a\":\"\\u12",
		"{\"a\":\"\\",
		"{\"a\":\"",
		"{'a':1}",
		"{\"a\":1}x",
		"\xef\xbb\xbf{}",
		"{/**/}",
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (is_whole(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	}
	/* Zero bytes are no blanks. */
	assert_false(is_whole("{}\0", 3));
	assert_false(is_whole("\0{}", 3));
	assert_false(is_whole("{\0}", 3));
	assert_false(is_whole("{\"a\0\":1}", 8));
}

static void test_depth(void **unused)
{
	char text[4 * JSON_WHOLE_DEPTH_MAX + 16];
	(void)unused;
	for (size_t depth = 1; depth < JSON_WHOLE_DEPTH_MAX + 3; depth++) {
		size_t n = (size_t)snprintf(text, sizeof(text), "{\"a\":");
		memset(text + n, '[', depth);
		text[n + depth] = '1';
		memset(text + n + depth + 1, ']', depth);
		text[n + 2 * depth + 1] = '}';
		assert_int_equal(is_whole(text, n + 2 * depth + 2), depth < JSON_WHOLE_DEPTH_MAX);
		text[n + 2 * depth + 1] = ']';
		assert_false(is_whole(text, n + 2 * depth + 2));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_depth),
	};
	return cmocka_run_group_tests_name("json_whole", tests, NULL, NULL);
}
