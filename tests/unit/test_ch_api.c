// SPDX-License-Identifier: Apache-2.0
/* shim/ch_api: the bytes that are sent, and answers that may be anything. */
#include "unit.h"

#include "ch_api.h"
#include "util.h"

#include <sys/socket.h>

static struct msg_create spec;

static int setup(void **unused)
{
	(void)unused;
	spec = (struct msg_create){.kernel = "vmlinux",
				   .vcpus = 2,
				   .memory_mib = 256,
				   .max_vcpus = 2,
				   .max_memory_mib = 256};
	str_copy(spec.cmdline, sizeof(spec.cmdline), "console=ttyS0");
	return 0;
}

static void expect_body(const char *want)
{
	struct err e;
	char *body CLEANUP_FREE = ch_api_create_body(&spec, &e);
	assert_non_null(body);
	assert_string_equal(body, want);
}

#define BODY(cpus, memory, payload, more)                                                          \
	"{\"cpus\":{\"boot_vcpus\":" cpus ",\"max_vcpus\":" cpus ",\"nested\":false},"             \
	"\"memory\":{\"size\":0,\"zones\":[{\"id\":\"ram\",\"size\":" memory ","                   \
	"\"file\":\"/mem/ram\",\"shared\":true}]},"                                                \
	"\"payload\":{\"kernel\":\"/kernel\"" payload "},"                                         \
	"\"serial\":{\"mode\":\"Tty\"},\"console\":{\"mode\":\"Off\"},"                            \
	"\"rng\":{\"src\":\"/dev/urandom\"},\"pvpanic\":true" more "}"
#define BALLOON                                                                                    \
	",\"balloon\":{\"id\":\"balloon0\",\"size\":0,\"deflate_on_oom\":true,"                    \
	"\"free_page_reporting\":true}"

#define VSOCK ",\"vsock\":{\"id\":\"vsock0\",\"cid\":3,\"socket\":\"/vsock/sock\"}"

static void test_create_body(void **unused)
{
	(void)unused;
	expect_body(BODY("2", "268435456", ",\"cmdline\":\"console=ttyS0\"", ""));
	spec.flags = MSG_CREATE_INITRAMFS | MSG_CREATE_BALLOON;
	str_copy(spec.initramfs, sizeof(spec.initramfs), "rootfs");
	spec.cmdline[0] = '\0';
	spec.vcpus = spec.max_vcpus = MSG_VCPUS_MAX;
	expect_body(BODY("254", "268435456", ",\"initramfs\":\"/initramfs\"", BALLOON));
	/* Sizes beyond 32 bits are exact, and never in the form 4.39e12. */
	spec.flags = 0;
	spec.memory_mib = spec.max_memory_mib = MSG_MEMORY_MIB_MAX;
	expect_body(BODY("254", "4398046511104", "", ""));
	spec.memory_mib = spec.max_memory_mib = MSG_MEMORY_MIB_MAX - 1;
	expect_body(BODY("254", "4398045462528", "", ""));
	spec.memory_mib = spec.max_memory_mib = 4095;
	expect_body(BODY("254", "4293918720", "", ""));
	spec.flags = MSG_CREATE_VSOCK;
	expect_body(BODY("254", "4293918720", "", VSOCK));
}

/* What it may grow to, and what its balloon holds. */
static void test_create_body_maxima(void **unused)
{
	(void)unused;
	spec.max_vcpus = 4;
	spec.max_memory_mib = 256 + 3 * MSG_HOTPLUG_MIB;
	spec.flags = MSG_CREATE_BALLOON;
	spec.balloon_mib = 17;
	spec.cmdline[0] = '\0';
	expect_body("{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":4,\"nested\":false},"
		    "\"memory\":{\"size\":0,\"hotplug_method\":\"VirtioMem\",\"zones\":[{"
		    "\"id\":\"ram\",\"size\":268435456,\"file\":\"/mem/ram\",\"shared\":true,"
		    "\"hotplug_size\":402653184}]},"
		    "\"payload\":{\"kernel\":\"/kernel\"},"
		    "\"serial\":{\"mode\":\"Tty\"},\"console\":{\"mode\":\"Off\"},"
		    "\"rng\":{\"src\":\"/dev/urandom\"},\"pvpanic\":true,"
		    "\"balloon\":{\"id\":\"balloon0\",\"size\":17825792,\"deflate_on_oom\":true,"
		    "\"free_page_reporting\":true}}");
	/* What is plugged is no part of it: it goes with the VMM. */
	spec.plugged_mib = 64;
	spec.memory_mib = 128;
	spec.max_memory_mib = 256;
	struct err e;
	char *body CLEANUP_FREE = ch_api_config(&spec, MSG_RESTORE_MAP, &e);
	assert_non_null(strstr(body,
			       "\"size\":134217728,\"file\":\"/restore/ram\",\"shared\":false,"
			       "\"hotplug_size\":134217728}"));
}

static void expect_sent(int sent, int peer, const char *line, const char *body)
{
	char got[512] = "";
	assert_int_equal(sent, 0);
	assert_true(recv(peer, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	assert_memory_equal(got, line, strlen(line));
	assert_string_equal(strstr(got, "\r\n\r\n") + 4, body);
}

static void test_changes(void **unused)
{
	struct http_client c;
	struct err e;
	int pair[2];
	(void)unused;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	http_client_open(&c, pair[0], NULL);
	expect_sent(ch_api_send_balloon(&c, 0, 1, NULL, &e), pair[1], "PUT /api/v1/vm.resize ",
		    "{\"desired_balloon\":0}");
	expect_sent(ch_api_send_balloon(&c, MSG_MEMORY_MIB_MAX, 1, NULL, &e), pair[1],
		    "PUT /api/v1/vm.resize ", "{\"desired_balloon\":4398046511104}");
	expect_sent(ch_api_send_vcpus(&c, 254, 1, NULL, &e), pair[1], "PUT /api/v1/vm.resize ",
		    "{\"desired_vcpus\":254}");
	expect_sent(ch_api_send_memory(&c, 4097, 1, NULL, &e), pair[1],
		    "PUT /api/v1/vm.resize-zone ", "{\"id\":\"ram\",\"desired_ram\":4296015872}");
	http_client_close(&c);
	close(pair[1]);
}

/* What a tenant writes cannot leave its string; the longest one fits. */
static void test_create_body_escapes(void **unused)
{
	struct err e;
	(void)unused;
	str_copy(spec.cmdline, sizeof(spec.cmdline), "a=\"b\",\"nested\":true \\ /x");
	expect_body(BODY("2", "268435456",
			 ",\"cmdline\":\"a=\\\"b\\\",\\\"nested\\\":true \\\\ /x\"", ""));
	memset(spec.cmdline, '"', sizeof(spec.cmdline) - 1);
	char *body CLEANUP_FREE = ch_api_create_body(&spec, &e);
	assert_non_null(body);
	assert_true(strlen(body) > 2 * (sizeof(spec.cmdline) - 1) && strlen(body) < 51200);
}

static struct http_response answer_of(int status, const char *body)
{
	return (struct http_response){.status = status, .body = body, .body_length = strlen(body)};
}

static void test_check(void **unused)
{
	struct err e;
	(void)unused;
	struct http_response r = answer_of(200, "");
	assert_int_equal(ch_api_check(CH_API_BOOT, &r, &e), 0);
	r = answer_of(204, "");
	assert_int_equal(ch_api_check(CH_API_BOOT, &r, &e), 0);
	r = answer_of(500, "[\"Cannot boot\",\"no \x1b[31mkernel\"]");
	assert_int_equal(ch_api_check(CH_API_BOOT, &r, &e), -1);
	assert_int_equal(e.kind, ERR_VMM);
	assert_string_equal(e.text, "vm.boot: the VMM refused (status 500): Cannot boot: no [31m"
				    "kernel");
	r = answer_of(404, "");
	assert_int_equal(ch_api_check(CH_API_PAUSE, &r, &e), -1);
	assert_string_equal(e.text, "vm.pause: the VMM refused (status 404): no reason given");
	static const int others[] = {100, 199, 300, 304, 400, 599};
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		r = answer_of(others[i], "");
		assert_int_equal(ch_api_check(CH_API_PAUSE, &r, &e), -1);
	}
	static char endless[20000];
	memset(endless, 'x', sizeof(endless) - 1);
	r = answer_of(500, endless);
	assert_int_equal(ch_api_check(CH_API_PAUSE, &r, &e), -1);
	assert_true(strlen(e.text) < 320);
}

static void test_actual(void **unused)
{
	static const char *const bad[] = {"",
					  "{}",
					  "[]",
					  "{\"memory_actual_size\":-1}",
					  "{\"memory_actual_size\":\"1\"}",
					  "{\"memory_actual_size\":9007199254740992}",
					  "{\"memory_actual_size\":1e300}",
					  "{\"memory_actual_size\":1e999}"};
	uint64_t bytes;
	struct err e;
	(void)unused;
	struct http_response r = answer_of(200, "{\"memory_actual_size\":9007199254740991}");
	assert_int_equal(ch_api_read_actual(&r, &bytes, &e), 0);
	assert_true(bytes == 9007199254740991u);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		r = answer_of(200, bad[i]);
		if (ch_api_read_actual(&r, &bytes, &e) != -1)
			fail_msg("%s was taken", bad[i]);
		assert_says(e.text, "memory_actual_size");
	}
	r = answer_of(500, "{\"memory_actual_size\":1}");
	assert_int_equal(ch_api_read_actual(&r, &bytes, &e), -1);
}

static void test_version(void **unused)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"null",
		"\"53.0.0\"",
		"{\"version\":53}",
		"{\"version\":null}",
		"{\"Version\":\"53.0.0\"}",
		"{\"version\":\"53.0.0\"",
		"{\"version\":\"12345678901234567890123456789012\"}", /* 32 bytes */
		"\xff\xfe",
	};
	char out[MSG_BUILD_MAX];
	struct err e;
	(void)unused;
	struct http_response r =
		answer_of(200, "{\"build_version\":\"v53\",\"version\":\"53.0.0\",\"pid\":1}");
	assert_int_equal(ch_api_read_version(&r, out, &e), 0);
	assert_string_equal(out, "53.0.0");
	r = answer_of(200, "{\"version\":\"5\\n\\u00e9\\u001b\"}");
	assert_int_equal(ch_api_read_version(&r, out, &e), 0);
	assert_string_equal(out, "5????");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		r = answer_of(200, bad[i]);
		if (ch_api_read_version(&r, out, &e) != -1)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(e.kind, ERR_VMM);
		assert_says(e.text, "vmm.ping");
	}
	r = answer_of(500, "{\"version\":\"53.0.0\"}");
	assert_int_equal(ch_api_read_version(&r, out, &e), -1);
	assert_says(e.text, "status 500");
}

/* Body of vm.info around what was sent, with old replaced by new. */
static int check_config(const char *old, const char *new, struct err *e)
{
	char *sent CLEANUP_FREE = ch_api_create_body(&spec, e);
	char text[8192];
	assert_non_null(sent);
	const char *at = strstr(sent, old);
	if (!at)
		fail_msg("no %s in %s", old, sent);
	snprintf(text, sizeof(text), "{\"config\":%.*s%s%s,\"state\":\"Created\"}",
		 (int)(at - sent), sent, new, at + strlen(old));
	/* A block of just its size: a byte read too far is seen. */
	size_t n = strlen(text);
	char *block CLEANUP_FREE = malloc(n);
	assert_non_null(block);
	memcpy(block, text, n);
	struct http_response r = {.status = 200, .body = block, .body_length = n};
	return ch_api_check_config(&r, &spec, e);
}

static void test_config_as_asked(void **unused)
{
	struct err e = {0};
	(void)unused;
	spec.flags = MSG_CREATE_BALLOON | MSG_CREATE_VSOCK;
	if (check_config("{", "{\"more\":[1,{}],", &e) != 0)
		fail_msg("%s", e.text);
	spec.memory_mib = spec.max_memory_mib = MSG_MEMORY_MIB_MAX - 1;
	assert_int_equal(check_config("{", "{", &e), 0);
}

static void test_config_differences(void **unused)
{
	static const struct {
		const char *key, *old, *new;
	} cases[] = {
		{"cpus.boot_vcpus", "\"boot_vcpus\":2", "\"boot_vcpus\":3"},
		{"cpus.boot_vcpus", "\"boot_vcpus\":2", "\"boot_vcpus\":\"2\""},
		{"cpus.boot_vcpus", "\"cpus\"", "\"cpuz\""},
		{"cpus.max_vcpus", "\"max_vcpus\":3", "\"max_vcpus\":2"},
		{"cpus.max_vcpus", ",\"max_vcpus\":3", ""},
		{"memory.zones.hotplug_size", ",\"hotplug_size\":134217728", ""},
		{"memory.zones.hotplug_size", "\"VirtioMem\"", "\"Acpi\""},
		{"cpus.nested", ",\"nested\":false", ""},
		{"cpus.nested", "\"nested\":false", "\"nested\":true"},
		{"cpus.nested", "\"nested\":false", "\"nested\":null"},
		{"memory.zones", "\"id\":\"ram\"", "\"id\":\"rom\""},
		{"memory.zones", "\"shared\":true", "\"shared\":false"},
		{"memory.zones", ",\"shared\":true", ""},
		{"memory.zones", "268435456", "268435457"},
		{"memory.zones", "/mem/ram", "/mem/rom"},
		{"memory.zones", "\"zones\"", "\"zonez\""},
		{"memory.zones", "[{\"id\"", "[{},{\"id\""},
		{"memory.zones", "]}", ",{\"id\":\"more\"}]}"},
		{"console.mode", "\"Off\"", "\"Tty\""},
		{"disks", "\"pvpanic\"", "\"disks\":[{}],\"pvpanic\""},
		{"vsock", "\"vsock0\"", "\"vsock1\""},
		{"vsock", "\"id\":\"vsock0\",", ""},
		{"vsock", "\"cid\":3", "\"cid\":4"},
		{"vsock", "\"cid\":3", "\"cid\":\"3\""},
		{"vsock", "/vsock/sock", "/vsock/other"},
		{"vsock", "\"vsock\":{", "\"socks\":{"},
		{"vsock", "\"vsock\":{", "\"vsock\":[],\"x\":{"},
		{"net", "\"pvpanic\"", "\"net\":[{}],\"pvpanic\""},
		{"payload.kernel", "\"/kernel\"", "\"/other\""},
		{"payload.kernel", "\"payload\"", "\"payloads\""},
		{"serial.mode", "\"Tty\"", "\"Null\""},
		{"pvpanic", "\"pvpanic\":true", "\"pvpanic\":false"},
		{"pvpanic", "\"pvpanic\":true", "\"x\":true"},
		{"balloon", "\"balloon\"", "\"ballon\""},
		{"balloon", "\"balloon\":", "\"balloon\":null,\"x\":"},
	};
	(void)unused;
	spec.flags = MSG_CREATE_BALLOON | MSG_CREATE_VSOCK;
	spec.max_vcpus = 3;
	spec.max_memory_mib = 256 + MSG_HOTPLUG_MIB;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = {0};
		char want[64];
		if (check_config(cases[i].old, cases[i].new, &e) != -1)
			fail_msg("%s passed", cases[i].new);
		assert_int_equal(e.kind, ERR_VMM);
		snprintf(want, sizeof(want), "did not take %s as asked", cases[i].key);
		assert_says(e.text, want);
	}
}

/* All that v53 and others of its kind can have and we never ask for. */
static void test_config_devices_unasked(void **unused)
{
	static const char *const keys[] = {"fs",	   "generic_vhost_user",
					   "pmem",	   "devices",
					   "user_devices", "vdpa",
					   "watchdog",	   "pvmemcontrol",
					   "iommu",	   "rtc",
					   "tpm",	   "ivshmem",
					   "sgx_epc",	   "gdb",
					   "net",	   "disks",
					   "vsock",	   "balloon"};
	static const char *const nothing[] = {"null", "[]"}, *const something[] = {"[{}]", "{}",
										   "true", "1",
										   "\"x\""};
	char text[64];
	struct err e = {0};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(something); j++) {
			snprintf(text, sizeof(text), "\"%s\":%s,\"pvpanic\"", keys[i],
				 something[j]);
			if (check_config("\"pvpanic\"", text, &e) != -1)
				fail_msg("%s passed", text);
			snprintf(text, sizeof(text), "did not take %s as asked", keys[i]);
			assert_says(e.text, text);
		}
		/* Those of ours that are one object or none: an empty list is none of them. */
		for (size_t j = 0; j < (i < ARRAY_SIZE(keys) - 2 ? ARRAY_SIZE(nothing) : 1u); j++) {
			snprintf(text, sizeof(text), "\"%s\":%s,\"pvpanic\"", keys[i], nothing[j]);
			if (check_config("\"pvpanic\"", text, &e) != 0)
				fail_msg("%s: %s", text, e.text);
		}
	}
	assert_int_equal(
		check_config("{\"cpus\"", "{\"iommu\":false,\"watchdog\":false,\"cpus\"", &e), 0);
}

static void test_config_debug_console(void **unused)
{
	static const char *const bad[] = {
		"{}", "null", "[]", "{\"mode\":\"File\"}", "{\"mode\":\"Tty\"}", "{\"mode\":null}"};
	char text[64];
	struct err e = {0};
	(void)unused;
	assert_int_equal(
		check_config("{\"cpus\"",
			     "{\"debug_console\":{\"mode\":\"Off\",\"iobase\":233},\"cpus\"", &e),
		0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "{\"debug_console\":%s,\"cpus\"", bad[i]);
		assert_int_equal(check_config("{\"cpus\"", text, &e), -1);
		assert_says(e.text, "did not take debug_console.mode as asked");
	}
}

/* Nobody asked for one. */
static void test_config_vsock_unasked(void **unused)
{
	struct err e = {0};
	(void)unused;
	assert_int_equal(check_config("\"pvpanic\"", "\"vsock\":{\"cid\":3},\"pvpanic\"", &e), -1);
	assert_says(e.text, "did not take vsock as asked");
	assert_int_equal(check_config("\"pvpanic\"", "\"vsock\":{},\"pvpanic\"", &e), -1);
	assert_int_equal(check_config("\"pvpanic\"", "\"vsock\":null,\"pvpanic\"", &e), 0);
}

static void test_config_no_answer(void **unused)
{
	static const char *const bad[] = {"",
					  "{}",
					  "[]",
					  "{\"config\":[]}",
					  "{\"config\":null}",
					  "{\"config\":",
					  "{\"Config\":{}}"};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct http_response r = answer_of(200, bad[i]);
		assert_int_equal(ch_api_check_config(&r, &spec, &e), -1);
		assert_says(e.text, "without a configuration");
	}
	static char deep[100001];
	memset(deep, '[', sizeof(deep) - 1);
	struct http_response r = answer_of(200, deep);
	assert_int_equal(ch_api_check_config(&r, &spec, &e), -1);
	r = answer_of(500, "{}");
	assert_int_equal(ch_api_check_config(&r, &spec, &e), -1);
	assert_says(e.text, "vm.info: the VMM refused");
}

static bool event(const char *text, struct ch_api_event *out)
{
	size_t n = strlen(text);
	char *block CLEANUP_FREE = malloc(n ? n : 1);
	assert_non_null(block);
	memcpy(block, text, n);
	memset(out, 0xaa, sizeof(*out));
	return ch_api_read_event(block, n, out);
}

static void test_events(void **unused)
{
	struct ch_api_event v;
	(void)unused;
	assert_true(event("{\n  \"timestamp\": {\"secs\":0,\"nanos\":5},\n"
			  "  \"source\": \"vm\",\n  \"event\": \"booted\",\n"
			  "  \"properties\": null\n}\n\n",
			  &v));
	assert_string_equal(v.source, "vm");
	assert_string_equal(v.event, "booted");
	assert_string_equal(v.detail, "");
	assert_true(event("{\"source\":\"guest\",\"event\":\"panic\","
			  "\"properties\":{\"event\":\"panicked\",\"x\":1}}",
			  &v));
	assert_string_equal(v.detail, "panicked");
	assert_true(event(
		"{\"source\":\"a\\nb\",\"event\":\"\\u00e9\",\"properties\":{\"event\":5}}", &v));
	assert_string_equal(v.source, "a?b");
	assert_string_equal(v.event, "??");
	assert_string_equal(v.detail, "");
	/* Too long a detail is left out; 31 bytes fit. */
	assert_true(event("{\"source\":\"s\",\"event\":\"1234567890123456789012345678901\","
			  "\"properties\":{\"event\":\"12345678901234567890123456789012\"}}",
			  &v));
	assert_int_equal(strlen(v.event), 31);
	assert_string_equal(v.detail, "");
	static const char *const bad[] = {
		"",
		"x",
		"{",
		"{}",
		"[]",
		"\"vm\"",
		"{\"source\":\"vm\"}",
		"{\"event\":\"booted\"}",
		"{\"source\":1,\"event\":\"booted\"}",
		"{\"source\":\"vm\",\"event\":null}",
		"{\"source\":\"vm\",\"event\":\"booted\"",
		"{\"source\":\"vm\",\"event\":\"12345678901234567890123456789012\"}",
		"{\"source\":\"12345678901234567890123456789012\",\"event\":\"booted\"}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (event(bad[i], &v))
			fail_msg("%s was taken", bad[i]);
}

static void test_calls(void **unused)
{
	static const struct {
		enum ch_api_call call;
		const char *name, *line;
	} calls[] = {
		{CH_API_PING, "vmm.ping", "GET /api/v1/vmm.ping "},
		{CH_API_CREATE, "vm.create", "PUT /api/v1/vm.create "},
		{CH_API_INFO, "vm.info", "GET /api/v1/vm.info "},
		{CH_API_ADD_NET, "vm.add-net", "PUT /api/v1/vm.add-net "},
		{CH_API_BOOT, "vm.boot", "PUT /api/v1/vm.boot "},
		{CH_API_PAUSE, "vm.pause", "PUT /api/v1/vm.pause "},
		{CH_API_RESUME, "vm.resume", "PUT /api/v1/vm.resume "},
		{CH_API_POWER_BUTTON, "vm.power-button", "PUT /api/v1/vm.power-button "},
		{CH_API_SNAPSHOT, "vm.snapshot", "PUT /api/v1/vm.snapshot "},
		{CH_API_RESTORE, "vm.restore", "PUT /api/v1/vm.restore "},
		{CH_API_RESIZE, "vm.resize", "PUT /api/v1/vm.resize "},
		{CH_API_RESIZE_ZONE, "vm.resize-zone", "PUT /api/v1/vm.resize-zone "},
		{CH_API_COUNTERS, "vm.counters", "GET /api/v1/vm.counters "},
		{CH_API_SHUTDOWN, "vm.shutdown", "PUT /api/v1/vm.shutdown "},
		{CH_API_VMM_SHUTDOWN, "vmm.shutdown", "PUT /api/v1/vmm.shutdown "},
	};
	(void)unused;
	assert_int_equal(ARRAY_SIZE(calls), CH_API_CALL_COUNT);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct http_client c;
		struct err e;
		int pair[2];
		char got[512] = "";
		assert_string_equal(ch_api_name(calls[i].call), calls[i].name);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		http_client_open(&c, pair[0], NULL);
		const char *body = calls[i].call == CH_API_CREATE ? "{}" : NULL;
		assert_int_equal(ch_api_send(&c, calls[i].call, body, 1, NULL, &e), 0);
		assert_true(recv(pair[1], got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
		assert_memory_equal(got, calls[i].line, strlen(calls[i].line));
		assert_true((strstr(got, "Content-Length: 2\r\n\r\n{}") != NULL) == (body != NULL));
		http_client_close(&c);
		close(pair[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_create_body, setup),
		cmocka_unit_test_setup(test_create_body_maxima, setup),
		cmocka_unit_test_setup(test_changes, setup),
		cmocka_unit_test_setup(test_actual, setup),
		cmocka_unit_test_setup(test_create_body_escapes, setup),
		cmocka_unit_test_setup(test_check, setup),
		cmocka_unit_test_setup(test_version, setup),
		cmocka_unit_test_setup(test_config_as_asked, setup),
		cmocka_unit_test_setup(test_config_differences, setup),
		cmocka_unit_test_setup(test_config_devices_unasked, setup),
		cmocka_unit_test_setup(test_config_debug_console, setup),
		cmocka_unit_test_setup(test_config_vsock_unasked, setup),
		cmocka_unit_test_setup(test_config_no_answer, setup),
		cmocka_unit_test_setup(test_events, setup),
		cmocka_unit_test_setup(test_calls, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
