// SPDX-License-Identifier: Apache-2.0
/* supervisor/json and supervisor/spec: what clients send, field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json.h"
#include "spec.h"
#include "view.h"

static void refuse_text(const char *text, size_t length, const char *part)
{
	struct err e = {0};
	cJSON *value = json_parse_object(text, length, &e);
	if (value || !strstr(e.text, part))
		fail_msg("%s: \"%s\" is not in \"%s\"", text, part, e.text);
	assert_int_equal(e.kind, ERR_INVALID);
}

static void test_strict(void **unused)
{
	static const char *const cases[][2] = {
		{"", "empty"},
		{"{", "byte 1"},
		{"[]", "must be a JSON object"},
		{"12", "must be a JSON object"},
		{"{} {}", "byte 3"},
		{"{\"a\":1,\"b\":{\"c\":1,\"c\":2}}", "\"c\" is there twice"},
		{"{\"a\":1.0}", "not whole"},
		{"{\"a\":1e2}", "not whole"},
		{"{\"a\":01}", "malformed number"},
		{"{\"a\":-}", "malformed number"},
		{"{\"a\":\"\\u0000\"}", "u0000"},
		{"{\"a\":\"\x01\"}", "control byte"},
		{"{\"a\":\"\xc0\x80\"}", "UTF-8"},
		{"{\"a\":\"\xed\xa0\x80\"}", "UTF-8"},
		{"{\"a\":\"\xf4\x90\x80\x80\"}", "UTF-8"},
		{"{\"a\":\"\xe2\x82\"}", "UTF-8"},
		{"{\"a\":\"b}", "without its end"},
		{"{\"a\":\"b\\", "without its end"},
		{"\xef\xbb\xbf{}", "no place"},
		{"{'a':1}", "no place"},
		{"{\"a\":NaN}", "no place"},
		{"{\x0c}", "no place"},
	};
	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refuse_text(cases[i][0], strlen(cases[i][0]), cases[i][1]);
	refuse_text("{\"a\":\"\0\"}", 9, "control byte");
	refuse_text("{}\0", 3, "no place");
}

static void test_many_members_and_depth(void **unused)
{
	char text[8192] = "{";
	size_t n = 1;
	(void)unused;
	for (int i = 0; i < JSON_MEMBERS_MAX + 1; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"k%d\":1", i ? "," : "", i);
	snprintf(text + n, sizeof(text) - n, "}");
	refuse_text(text, strlen(text), "more than 64 members");
	n = (size_t)snprintf(text, sizeof(text), "{\"a\":");
	memset(text + n, '[', 4000);
	refuse_text(text, n + 4000, "not JSON");
}

static void test_accepted(void **unused)
{
	static const char *const cases[] = {
		"{}",
		" {\t\"a\" : [ ] }\r\n",
		"{\"a\":\"\\\\u0000 \\\" \xe2\x82\xac \xf0\x9f\x98\x80\"}",
		"{\"a\":-5,\"b\":0,\"c\":null,\"A\":true}",
	};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* No end behind the text: nothing may be read beyond it. */
		size_t length = strlen(cases[i]);
		char *exact = malloc(length);
		memcpy(exact, cases[i], length);
		cJSON *value = json_parse_object(exact, length, &e);
		assert_non_null(value);
		cJSON_Delete(value);
		free(exact);
	}
}

static struct spec *spec_of(const char *text, struct err *e)
{
	cJSON *body = json_parse_object(text, strlen(text), e);
	assert_non_null(body);
	struct spec *s = spec_from_json(body, e);
	cJSON_Delete(body);
	return s;
}

static void test_spec(void **unused)
{
	struct err e;
	struct msg_create m;
	(void)unused;
	struct spec *s = spec_of("{\"kernel\":\"k\"}", &e);
	assert_non_null(s);
	assert_int_equal(s->vcpus, 1);
	assert_int_equal(s->memory_mib, 256);
	assert_true(s->balloon);
	assert_string_equal(s->cmdline, "");
	assert_null(s->labels);
	assert_int_equal(s->max_vcpus, 1);
	assert_int_equal(s->max_memory_mib, 256);
	spec_free(s);
	/* The order of the fields is no matter. */
	s = spec_of("{\"max_memory_mib\":384,\"max_vcpus\":5,\"kernel\":\"k\",\"vcpus\":2}", &e);
	assert_non_null(s);
	s->balloon_mib = 3;
	spec_to_msg(s, "alice", &m);
	spec_free(s);
	assert_true(msg_write_create(&m, &e) > 0);
	m.plugged_mib = 64;
	m.flags |= MSG_CREATE_HOTPLUG;
	s = spec_from_msg(&m, &e);
	assert_int_equal(s->max_vcpus, 5);
	assert_int_equal(s->max_memory_mib, 384);
	assert_int_equal(s->balloon_mib, 3);
	assert_int_equal(s->plugged_mib, 64);
	assert_true(s->hotplug);
	spec_free(s);
	s = spec_of(
		"{\"id\":\"i\",\"kernel\":\"k\",\"initramfs\":\"r\",\"cmdline\":\"a b\","
		"\"vcpus\":254,\"memory_mib\":16,\"balloon\":false,\"disks\":[],\"vsock\":false,"
		"\"network\":null,\"memory_restore\":\"auto\",\"labels\":{\"a\":\"1=2\"}}",
		&e);
	assert_non_null(s);
	assert_true(spec_has_label(s, "a=1=2"));
	assert_false(spec_has_label(s, "a=1"));
	assert_false(spec_has_label(s, "b=1"));
	spec_to_msg(s, "alice", &m);
	assert_true(msg_write_create(&m, &e) > 0);
	struct spec *again = spec_from_msg(&m, &e);
	assert_string_equal(again->kernel, "k");
	assert_string_equal(again->initramfs, "r");
	assert_string_equal(again->cmdline, "a b");
	assert_int_equal(again->vcpus, 254);
	assert_false(again->balloon);
	spec_free(again);
	spec_free(s);
}

/* Counters of 64 bits come out to the last digit, and what CH has not counted yet as null. */
static void test_counters_text(void **unused)
{
	static struct msg_counters_data data = {
		.memory_actual_bytes = (96ull << 20) + 1,
		.count = 4,
		.counters = {{"_disk0", "read_bytes", UINT64_MAX - 1},
			     {"_disk0", "read_latency_min", UINT64_MAX},
			     {"_net1", "rx_bytes", 9007199254740993u},
			     {"_net1", "tx_bytes", 0}},
	};
	(void)unused;
	cJSON *o = view_counters(&data);
	char *text = cJSON_PrintUnformatted(o);
	assert_string_equal(text, "{\"devices\":{\"_disk0\":{\"read_bytes\":18446744073709551614,"
				  "\"read_latency_min\":null},\"_net1\":{\"rx_bytes\":"
				  "9007199254740993,\"tx_bytes\":0}},\"memory_actual_mib\":96}");
	cJSON_free(text);
	cJSON_Delete(o);
	data.count = 0;
	o = view_counters(&data);
	text = cJSON_PrintUnformatted(o);
	assert_string_equal(text, "{\"devices\":{},\"memory_actual_mib\":96}");
	cJSON_free(text);
	cJSON_Delete(o);
}

static void test_spec_faults(void **unused)
{
	static const char *const cases[][2] = {
		{"{}", "kernel: missing"},
		{"{\"kernel\":\"k\",\"max_vcpus\":255}", "max_vcpus: 255"},
		{"{\"kernel\":\"k\",\"vcpus\":2,\"max_vcpus\":1}", "must be vcpus (2) to 254"},
		{"{\"kernel\":\"k\",\"max_memory_mib\":300}", "max_memory_mib: 300"},
		{"{\"kernel\":\"k\",\"max_memory_mib\":128}", "must be memory_mib (256)"},
		{"{\"kernel\":5}", "kernel: 5 is not allowed"},
		{"{\"kernel\":\"a..b\"}", "kernel: \"a..b\""},
		{"{\"kernel\":\"k\",\"id\":\"\"}", "id: \"\" is not allowed"},
		{"{\"kernel\":\"k\",\"id\":\"a/b\"}", "id: "},
		{"{\"kernel\":\"k\",\"initramfs\":true}", "initramfs: true"},
		{"{\"kernel\":\"k\",\"cmdline\":\"a\\nb\"}", "cmdline: \"a?b\""},
		{"{\"kernel\":\"k\",\"vcpus\":255}", "vcpus: 255 is not allowed; must be a whole "
						     "number of 1 to 254"},
		{"{\"kernel\":\"k\",\"vcpus\":-1}", "vcpus: -1"},
		{"{\"kernel\":\"k\",\"memory_mib\":4194305}", "memory_mib: 4194305"},
		{"{\"kernel\":\"k\",\"memory_mib\":99999999999999999999}", "memory_mib: "},
		{"{\"kernel\":\"k\",\"balloon\":1}", "balloon: 1"},
		{"{\"kernel\":\"k\",\"labels\":[]}", "labels: an array"},
		{"{\"kernel\":\"k\",\"labels\":{\"a\":1}}", "labels: a: 1"},
		{"{\"kernel\":\"k\",\"labels\":{\"A\":\"1\"}}", "labels: the key \"A\""},
		{"{\"kernel\":\"k\",\"disks\":[1]}", "disks[0]: 1 is not allowed"},
		{"{\"kernel\":\"k\",\"vsock\":1}", "vsock: 1 is not allowed; must be true or"},
		{"{\"template\":\"t\",\"vsock\":true}", "vsock: true is not allowed with a"},
		{"{\"kernel\":\"k\",\"template\":\"t\"}", "kernel: \"k\" is not allowed"},
		{"{\"kernel\":\"k\",\"ttl_s\":5}", "ttl_s: 5 is not supported"},
		{"{\"kernel\":\"k\",\"memory_restore\":\"map\"}", "memory_restore: \"map\""},
		{"{\"kernel\":\"k\",\"restart\":true}", "restart: true is not allowed"},
		{"{\"kernel\":\"k\",\"restart\":\"no\"}",
		 "restart: \"no\" is not allowed; must be"},
		{"{\"kernel\":\"k\",\"restart\":{}}", "restart.policy: missing"},
		{"{\"kernel\":\"k\",\"restart\":{\"policy\":1}}", "restart.policy: 1"},
		{"{\"kernel\":\"k\",\"restart\":{\"policy\":\"always\",\"attempts\":-1}}",
		 "restart.attempts: -1"},
		{"{\"kernel\":\"k\",\"restart\":{\"policy\":\"always\",\"backoff_ms\":99}}",
		 "restart.backoff_ms: 99 is not allowed; must be a whole number of 100"},
		{"{\"kernel\":\"k\",\"restart\":{\"policy\":\"always\",\"backoff_ms\":200,"
		 "\"backoff_max_ms\":199}}",
		 "restart.backoff_max_ms: 199 is not allowed; must be backoff_ms (200)"},
		{"{\"kernel\":\"k\",\"restart\":{\"policy\":\"always\",\"count\":1}}",
		 "restart: unknown field \"count\""},
		{"{\"kernel\":\"k\",\"Vcpus\":5}", "unknown field \"Vcpus\""},
	};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct spec *s = spec_of(cases[i][0], &e);
		if (s || !strstr(e.text, cases[i][1]))
			fail_msg("%s: \"%s\" is not in \"%s\"", cases[i][0], cases[i][1], e.text);
	}
}

static void test_restart(void **unused)
{
	struct err e;
	(void)unused;
	struct spec *s = spec_of("{\"kernel\":\"k\",\"restart\":null}", &e);
	assert_int_equal(s->restart.policy, SPEC_RESTART_NEVER);
	spec_free(s);
	s = spec_of("{\"kernel\":\"k\",\"restart\":\"on-failure\"}", &e);
	assert_int_equal(s->restart.policy, SPEC_RESTART_ON_FAILURE);
	assert_int_equal(s->restart.attempts, 0);
	assert_int_equal(s->restart.backoff_ms, 1000);
	assert_int_equal(s->restart.backoff_max_ms, 60000);
	spec_free(s);
	s = spec_of("{\"template\":\"t\",\"restart\":{\"backoff_max_ms\":200,\"attempts\":7,"
		    "\"policy\":\"always\"}}",
		    &e);
	assert_int_equal(s->restart.policy, SPEC_RESTART_ALWAYS);
	assert_int_equal(s->restart.attempts, 7);
	assert_int_equal(s->restart.backoff_ms, 200);
	assert_int_equal(s->restart.backoff_max_ms, 200);
	spec_free(s);
	s = spec_of("{\"kernel\":\"k\",\"restart\":{\"backoff_ms\":90000,"
		    "\"policy\":\"always\"}}",
		    &e);
	assert_int_equal(s->restart.backoff_max_ms, 90000);
	spec_free(s);
}

static void test_ids(void **unused)
{
	char a[NAME_SIZE], b[NAME_SIZE];
	(void)unused;
	spec_make_id(a);
	spec_make_id(b);
	assert_true(name_is_valid(a));
	assert_int_equal(strlen(a), 13);
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strict),	      cmocka_unit_test(test_many_members_and_depth),
		cmocka_unit_test(test_accepted),      cmocka_unit_test(test_spec),
		cmocka_unit_test(test_counters_text), cmocka_unit_test(test_spec_faults),
		cmocka_unit_test(test_ids),	      cmocka_unit_test(test_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
