// SPDX-License-Identifier: Apache-2.0
/* shim/counters: numbers of 64 bits to the last digit, and answers that may be anything. */
#include "unit.h"

#include "counters.h"
#include "util.h"

static struct msg_counters_data data;

static int parse(const char *text, struct err *e)
{
	/* A block of just its size: a byte read too far is seen. */
	size_t n = strlen(text);
	char *block CLEANUP_FREE = malloc(n ? n : 1);
	assert_non_null(block);
	memcpy(block, text, n);
	memset(&data, 0xaa, sizeof(data));
	return counters_parse(block, n, &data, e);
}

static void expect(unsigned i, const char *device, const char *counter, uint64_t value)
{
	assert_true(i < data.count);
	assert_string_equal(data.counters[i].device, device);
	assert_string_equal(data.counters[i].counter, counter);
	assert_true(data.counters[i].value == value);
}

static void test_good(void **unused)
{
	struct err e = {0};
	(void)unused;
	assert_int_equal(parse("{}", &e), 0);
	assert_int_equal(data.count, 0);
	assert_int_equal(parse(" {\"d\" : { } }\n", &e), 0);
	assert_int_equal(data.count, 0);
	assert_int_equal(parse("{\"_disk0\":{\"read_bytes\":9007199254740993,"
			       "\"read_latency_min\":18446744073709551615},\n\t\"_net1\": "
			       "{\"rx_bytes\" : 0 , \"tx_bytes\":18446744073709551614}}",
			       &e),
			 0);
	assert_int_equal(data.count, 4);
	expect(0, "_disk0", "read_bytes", 9007199254740993u);
	expect(1, "_disk0", "read_latency_min", UINT64_MAX);
	expect(2, "_net1", "rx_bytes", 0);
	expect(3, "_net1", "tx_bytes", UINT64_MAX - 1);
	/* What it gives may be sent as it is. */
	data.memory_actual_bytes = 1;
	data.zero = 0;
	assert_int_equal(msg_write_counters_data(&data, &e), sizeof(data));
	assert_int_equal(parse("{\"1234567890123456789012345678901\":{\"x\":1}}", &e), 0);
	expect(0, "1234567890123456789012345678901", "x", 1);
}

static void test_bad(void **unused)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"null",
		"{}{}",
		"{}x",
		"{\"d\"}",
		"{\"d\":1}",
		"{\"d\":{\"c\":1}",
		"{\"d\":{\"c\":1,}}",
		"{\"d\":{\"c\":1},}",
		"{\"d\":{\"c\":}}",
		"{\"d\":{\"c\":-1}}",
		"{\"d\":{\"c\":1.5}}",
		"{\"d\":{\"c\":1e3}}",
		"{\"d\":{\"c\":01}}",
		"{\"d\":{\"c\":\"1\"}}",
		"{\"d\":{\"c\":null}}",
		"{\"d\":{\"c\":{}}}",
		"{\"d\":{\"c\":18446744073709551616}}",
		"{\"d\":{\"c\":99999999999999999999}}",
		"{\"d\":{\"c\":184467440737095516150}}",
		"{\"\":{\"c\":1}}",
		"{\"d\":{\"\":1}}",
		"{\"d\\n\":{\"c\":1}}",
		"{\"d e\":{\"c\":1}}",
		"{\"d\x01\":{\"c\":1}}",
		"{\"d\xc3\xa9\":{\"c\":1}}",
		"{\"d",
		"{\"12345678901234567890123456789012\":{\"c\":1}}", /* 32 bytes */
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = {0};
		if (parse(bad[i], &e) != -1)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(e.kind, ERR_VMM);
		assert_says(e.text, "vm.counters");
	}
}

static void test_many(void **unused)
{
	char text[8192] = "{\"d\":{";
	struct err e = {0};
	(void)unused;
	size_t used = strlen(text);
	for (unsigned i = 0; i < MSG_COUNTERS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\"c%u\":%u",
					 i ? "," : "", i, i);
	snprintf(text + used, sizeof(text) - used, "}}");
	assert_int_equal(parse(text, &e), 0);
	assert_int_equal(data.count, MSG_COUNTERS_MAX);
	expect(MSG_COUNTERS_MAX - 1, "d", "c159", 159);
	snprintf(text + used, sizeof(text) - used, "},\"e\":{\"c\":1}}");
	assert_int_equal(parse(text, &e), -1);
	assert_says(e.text, "more than 160");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
