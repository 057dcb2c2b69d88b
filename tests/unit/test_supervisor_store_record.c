// SPDX-License-Identifier: Apache-2.0
/* supervisor/store_record, store_spec, store_json: records as bytes. */
#include "daemonworld.h"

#include "store_record.h"

#include <sha256.h>

/* ------------------------------------------------------------------ random records */

static uint32_t seed;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * below) >> 24);
}

static void any_text(char *buf, size_t size)
{
	size_t n = any((uint32_t)size);
	memset(buf, 0, size);
	for (size_t i = 0; i < n; i++)
		buf[i] = (char)(0x20 + any(0x5f)); /* quotes and backslashes are among them */
}

static void any_name(char name[NAME_SIZE])
{
	memset(name, 0, NAME_SIZE);
	for (size_t i = 0, n = 1 + any(NAME_MAX_LEN - 1); i < n; i++)
		name[i] = (char)('a' + any(26));
}

static void any_disks(struct msg_create *c)
{
	c->disk_count = any(MSG_DISKS_MAX + 1);
	bool made = any(2);
	for (uint32_t i = 0; i < c->disk_count; i++) {
		struct msg_disk *disk = &c->disks[i];
		any_name(disk->image);
		disk->flags = any(2) ? MSG_DISK_READONLY : 0;
		disk->size_mib = 1 + any(MSG_DISK_MIB_MAX);
		disk->rate_mib_s = any(3) ? 0 : any(MSG_DISK_RATE_MIB_MAX);
		disk->rate_iops = any(3) ? 0 : MSG_DISK_IOPS_MIN + any(1000);
		if (made)
			disk->made = disk->flags ? MSG_DISK_SHARED
				     : any(2)	 ? MSG_DISK_REFLINK
						 : MSG_DISK_COPIED;
	}
}

static void any_network(struct msg_network *n)
{
	n->slot = 1 + any(MSG_SLOT_MAX);
	n->egress = any(MSG_EGRESS_COUNT);
	if (n->egress == MSG_EGRESS_LIST) {
		n->allow_count = 1 + any(MSG_ALLOW_MAX);
		for (uint32_t i = 0; i < n->allow_count; i++)
			n->allow[i] = (struct msg_cidr){.address = any(1 << 24) << 8, .prefix = 24};
	}
	n->port_count = any(MSG_PORTS_MAX + 1);
	for (uint32_t i = 0; i < n->port_count; i++)
		n->ports[i] = (struct msg_port){.proto = any(2) ? MSG_PROTO_TCP : MSG_PROTO_UDP,
						.guest = (uint16_t)(1 + any(UINT16_MAX)),
						.host = (uint16_t)any(UINT16_MAX)};
	n->rx_mbps = any(MSG_NET_RATE_MAX);
}

static struct spec *any_spec(void)
{
	char name[NAME_SIZE], value[SPEC_LABEL_VALUE_MAX];
	struct msg_create c = {.vcpus = 1 + any(4), .max_vcpus = 5, .memory_mib = 64 + any(1000)};
	any_name(c.kernel);
	any_text(c.cmdline, sizeof(c.cmdline));
	if (any(2)) {
		any_name(c.initramfs);
		c.flags |= MSG_CREATE_INITRAMFS;
	}
	c.flags |= (any(2) ? MSG_CREATE_BALLOON : 0u) | (any(2) ? MSG_CREATE_VSOCK : 0u) |
		   (any(2) ? MSG_CREATE_HOTPLUG : 0u);
	c.max_memory_mib = c.memory_mib + MSG_HOTPLUG_MIB * any(5);
	c.plugged_mib = c.max_memory_mib - c.memory_mib;
	c.balloon_mib = c.flags & MSG_CREATE_BALLOON ? any(c.memory_mib - 16) : 0;
	c.source = any(MSG_SOURCE_COUNT);
	c.restore = c.source == MSG_SOURCE_BOOT ? MSG_RESTORE_NONE : 1 + any(3);
	if (c.source == MSG_SOURCE_TEMPLATE)
		str_copy(c.template, sizeof(c.template), "alice:warm");
	any_disks(&c);
	if (any(2))
		any_network(&c.network);
	struct spec *s = spec_from_msg(&c, &e);
	assert_non_null(s);
	if (any(2))
		s->wait = (struct msg_wait){
			.kind = MSG_WAIT_CONSOLE, .timeout_ms = 1 + any(1000), .text = "up \"x\""};
	uint32_t labels = any(3) ? any(4) : SPEC_LABELS_MAX;
	for (uint32_t i = 0; i < labels; i++) {
		if (!s->labels)
			s->labels = cJSON_CreateObject();
		any_name(name);
		any_text(value, sizeof(value));
		if (!cJSON_GetObjectItemCaseSensitive(s->labels, name))
			cJSON_AddStringToObject(s->labels, name, value);
	}
	return s;
}

static struct store_record any_record(void)
{
	struct store_record r = {
		.key = "alice:box",
		.state = (enum state)any(STATE_NONE),
		.created_real_us = (int64_t)any(1 << 24) * (1 << 24) * 10,
		.boot = "01234567-89ab-cdef-0123-456789abcdef",
		.keep_failed = any(2),
		.destroy_by_real_us = any(2) ? 1764033000000000 : 0,
		.set_content = any(MSG_SET_CONTENTS + 1),
		.set_bytes = (uint64_t)any(1 << 24) << 20,
		.set_real_us = any(1000),
		.has_exit = any(2),
		.spec = any_spec(),
	};
	if (r.has_exit) {
		r.exit = (struct msg_exit){.cause = 1 + any(MSG_CAUSE_COUNT - 1),
					   .code = (int32_t)any(257) - 1,
					   .signal = (int32_t)any(65),
					   .phase = any(MSG_PHASE_COUNT),
					   .at_real_us = 1764033000123456,
					   .console_end = any(1000)};
		any_text(r.exit.detail, sizeof(r.exit.detail));
	}
	return r;
}

/* ------------------------------------------------------------------ bytes */

static void assert_same_spec(const struct spec *a, const struct spec *b)
{
	struct msg_create one, other;
	spec_to_msg(a, "alice", &one);
	spec_to_msg(b, "alice", &other);
	assert_memory_equal(&one, &other, sizeof(one));
	assert_memory_equal(a->disks, b->disks, sizeof(a->disks));
	assert_int_equal(a->plugged_mib, b->plugged_mib);
	assert_int_equal(a->hotplug, b->hotplug);
	assert_memory_equal(&a->wait, &b->wait, sizeof(a->wait));
	assert_true(!a->template == !b->template);
	if (a->template)
		assert_string_equal(a->template, b->template);
	assert_true(!a->labels == !b->labels);
	assert_true(!a->labels || cJSON_Compare(a->labels, b->labels, 1));
}

static void test_round_trip(void **unused)
{
	(void)unused;
	for (seed = 1; seed < 300; seed += 2) {
		uint32_t mine = seed;
		struct store_record r = any_record(), back;
		size_t length, again;
		char *bytes = store_record_encode(&r, &length, &e);
		assert_non_null(bytes);
		if (store_record_decode(bytes, length, "alice:box", &back, &e) < 0)
			fail_msg("seed %u: %s", mine, e.text);
		struct spec *spec = back.spec;
		assert_same_spec(r.spec, spec);
		back.spec = r.spec;
		assert_memory_equal(&r.exit, &back.exit, sizeof(r.exit));
		assert_int_equal(r.state, back.state);
		assert_int_equal(r.created_real_us, back.created_real_us);
		assert_int_equal(r.destroy_by_real_us, back.destroy_by_real_us);
		assert_int_equal(r.set_bytes, back.set_bytes);
		back.spec = spec;
		char *same = store_record_encode(&back, &again, &e);
		assert_non_null(same);
		assert_int_equal(length, again);
		assert_memory_equal(bytes, same, length);
		free(same);
		free(bytes);
		spec_free(r.spec);
		spec_free(back.spec);
		seed = mine;
	}
}

static char *small_record(size_t *length)
{
	struct msg_create guest;
	fill_guest(&guest, "root");
	struct store_record r = {.key = "alice:box",
				 .state = STATE_CRASHED,
				 .boot = "b",
				 .spec = spec_from_msg(&guest, &e)};
	char *bytes = store_record_encode(&r, length, &e);
	assert_non_null(bytes);
	spec_free(r.spec);
	return bytes;
}

static void refused(const char *bytes, size_t length, enum err_kind kind)
{
	struct store_record r;
	/* Of exactly that length, so that a sanitizer sees a read beyond it. */
	char *copy = malloc(length ? length : 1);
	memcpy(copy, bytes, length);
	e = (struct err){0};
	assert_int_equal(store_record_decode(copy, length, "alice:box", &r, &e), -1);
	assert_int_equal(e.kind, kind);
	assert_true(e.text[0]);
	free(copy);
}

static void test_damage(void **unused)
{
	size_t length;
	struct store_record r;
	(void)unused;
	char *bytes = small_record(&length);
	for (size_t i = 0; i < length; i++) {
		bytes[i] = (char)(bytes[i] ^ 1);
		e = (struct err){0};
		/* The version is the one thing that may have become another's. */
		assert_int_equal(store_record_decode(bytes, length, "alice:box", &r, &e), -1);
		assert_true(e.kind == ERR_INVALID || e.kind == ERR_VERSION);
		bytes[i] = (char)(bytes[i] ^ 1);
		refused(bytes, i, ERR_INVALID);
	}
	char *longer = calloc(1, STORE_RECORD_MAX + 1);
	memcpy(longer, bytes, length);
	refused(longer, length + 1, ERR_INVALID);
	refused(longer, STORE_RECORD_MAX + 1, ERR_INVALID);
	assert_says(e.text, "larger");
	free(longer);
	assert_int_equal(store_record_decode(bytes, length, "alice:box2", &r, &e), -1);
	assert_says(e.text, "another sandbox's");
	free(bytes);
}

/* A whole record around a body; free(3) it. */
static char *around(const char *body, const char *version, size_t *length)
{
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	uint8_t raw[SHA256_DIGEST_LENGTH];
	SHA256_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)body, strlen(body));
	SHA256Final(raw, &context);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	char *bytes = malloc(strlen(body) + 200);
	assert_non_null(bytes);
	int n = snprintf(bytes, strlen(body) + 200, "cloister-store %s %s %zu\n%s", version, hex,
			 strlen(body), body);
	*length = (size_t)n;
	return bytes;
}

static void body_is(const char *body, enum err_kind kind, const char *part)
{
	struct store_record r;
	size_t length;
	char *bytes = around(body, "1", &length);
	e = (struct err){0};
	int rc = store_record_decode(bytes, length, "alice:box", &r, &e);
	assert_int_equal(rc, kind ? -1 : 0);
	assert_int_equal(e.kind, kind);
	if (kind)
		assert_says(e.text, part);
	else
		spec_free(r.spec);
	free(bytes);
}

/* The body with one piece of text in place of another. */
static void with(const char *old, const char *new, enum err_kind kind, const char *part)
{
	size_t length;
	char *bytes = small_record(&length), body[8192];
	const char *begin = memchr(bytes, '\n', length) + 1;
	size_t n = length - (size_t)(begin - bytes);
	memcpy(body, begin, n);
	body[n] = '\0';
	char *at = strstr(body, old);
	assert_non_null(at);
	char *rest = strdup(at + strlen(old));
	snprintf(at, sizeof(body) - (size_t)(at - body), "%s%s", new, rest);
	body_is(body, kind, part);
	free(rest);
	free(bytes);
}

/* The digest is right, the content is not. */
static void test_content(void **unused)
{
	size_t length;
	struct store_record r;
	(void)unused;
	with("\"state\":\"crashed\"", "\"state\":\"crashed\"", ERR_NONE, "");
	with("\"state\":\"crashed\"", "\"state\":\"none\"", ERR_INVALID, "record.state");
	with("\"state\":\"crashed\"", "\"state\":3", ERR_INVALID, "record.state");
	with("\"keep_failed\":false,", "", ERR_INVALID, "record.keep_failed");
	with("\"set_bytes\":0", "\"set_bytes\":-1", ERR_INVALID, "record.set_bytes");
	with("\"set_bytes\":0", "\"set_bytes\":9007199254740993999", ERR_INVALID,
	     "record.set_bytes");
	with("\"vcpus\":1", "\"vcpus\":0", ERR_INVALID, "bad vcpus");
	with("\"kernel\":\"k\"", "\"kernel\":\"../k\"", ERR_INVALID, "bad kernel");
	with("\"image\":\"root\"", "\"image\":\"a/b\"", ERR_INVALID, "disk's image");
	with("\"image\":\"root\"", "\"image\":[]", ERR_INVALID, "spec.disks[].image");
	with("\"source\":\"boot\"", "\"source\":\"template\"", ERR_INVALID, "spec.template");
	with("\"boot\":\"b\"", "\"boot\":\"0123456789012345678901234567890123456789\"", ERR_INVALID,
	     "record.boot");
	with("\"spec\":{", "\"spec\":{\"labels\":{\"A\":\"b\"},", ERR_INVALID, "labels");
	/* What is not known here a later version has put there. */
	with("\"spec\":{", "\"spec\":{\"later\":1,", ERR_VERSION, "spec has a member");
	with("\"state\"", "\"later\":1,\"state\"", ERR_VERSION, "record has a member");
	body_is("[]", ERR_INVALID, "object");
	body_is("{}", ERR_INVALID, "record.key");
	char *bytes = around("whatever", "2", &length);
	assert_int_equal(store_record_decode(bytes, length, "alice:box", &r, &e), -1);
	assert_int_equal(e.kind, ERR_VERSION);
	assert_says(e.text, "version 2");
	free(bytes);
	bytes = around("whatever", "0", &length);
	refused(bytes, length, ERR_INVALID);
	free(bytes);
}

/* Nothing that a client may ask for is too long to be recorded. */
static void test_longest(void **unused)
{
	struct msg_create c;
	char name[NAME_SIZE], value[SPEC_LABEL_VALUE_MAX + 1];
	size_t length;
	(void)unused;
	fill_guest(&c, "root");
	memset(c.cmdline, '\\', sizeof(c.cmdline) - 1);
	c.disk_count = MSG_DISKS_MAX;
	for (int i = 0; i < MSG_DISKS_MAX; i++)
		c.disks[i] = c.disks[0];
	c.network = (struct msg_network){.slot = 1,
					 .egress = MSG_EGRESS_LIST,
					 .allow_count = MSG_ALLOW_MAX,
					 .port_count = MSG_PORTS_MAX};
	for (int i = 0; i < MSG_ALLOW_MAX; i++)
		c.network.allow[i] = (struct msg_cidr){0xfefefe00, 24};
	for (int i = 0; i < MSG_PORTS_MAX; i++)
		c.network.ports[i] = (struct msg_port){MSG_PROTO_TCP, 60000, 60000};
	struct store_record r = {
		.key = "alice:box", .has_exit = true, .spec = spec_from_msg(&c, &e)};
	r.spec->labels = cJSON_CreateObject();
	memset(value, '"', SPEC_LABEL_VALUE_MAX);
	value[SPEC_LABEL_VALUE_MAX] = '\0';
	for (int i = 0; i < SPEC_LABELS_MAX; i++) {
		snprintf(name, sizeof(name), "%063d", i);
		cJSON_AddStringToObject(r.spec->labels, name, value);
	}
	r.exit.cause = MSG_CAUSE_VMM_ERROR;
	memset(r.exit.detail, '\x01', sizeof(r.exit.detail) - 1);
	char *bytes = store_record_encode(&r, &length, &e);
	assert_non_null(bytes);
	struct store_record back;
	assert_int_equal(store_record_decode(bytes, length, "alice:box", &back, &e), 0);
	spec_free(back.spec);
	spec_free(r.spec);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_content),
		cmocka_unit_test(test_longest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
