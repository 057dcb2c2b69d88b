// SPDX-License-Identifier: Apache-2.0
/* common/msg: every body's fields, seen by its reader and its writer; its size; its tail. */
#include "bodies.h"

/* accept_X: reader and writer take it, and nothing changes; refuse_X: both name what is bad. */
#define X(upper, lower, fds, tail)                                                                 \
	static void accept_##lower(const struct msg_##lower *b, int line)                          \
	{                                                                                          \
		static struct msg_##lower out;                                                     \
		struct err e = {0};                                                                \
		size_t length = WIRE_##tail(b);                                                    \
		if (msg_write_##lower(b, &e) != (ssize_t)length)                                   \
			fail_msg("line %d: %s", line, e.text);                                     \
		fill_record(MSG_##upper, b, length);                                               \
		memset(&out, 0xaa, sizeof(out));                                                   \
		if (msg_read_##lower(&record, &out, &e) != 0)                                      \
			fail_msg("line %d: %s", line, e.text);                                     \
		assert_memory_equal(&out, b, length);                                              \
		for (size_t i = length; i < sizeof(out); i++)                                      \
			assert_int_equal(((const unsigned char *)&out)[i], 0);                     \
	}                                                                                          \
	static void refuse_##lower(const struct msg_##lower *b, const char *says, int line)        \
	{                                                                                          \
		static struct msg_##lower out;                                                     \
		struct err e = {0};                                                                \
		size_t length = WIRE_##tail(b) <= sizeof(*b) ? WIRE_##tail(b) : sizeof(*b);        \
		if (msg_write_##lower(b, &e) != -1 || e.kind != ERR_INTERNAL)                      \
			fail_msg("line %d: written", line);                                        \
		assert_says(e.text, says);                                                         \
		fill_record(MSG_##upper, b, length);                                               \
		if (msg_read_##lower(&record, &out, &e) != -1 || e.kind != ERR_PROTOCOL)           \
			fail_msg("line %d: read", line);                                           \
		assert_says(e.text, says);                                                         \
		assert_says(e.text, #upper);                                                       \
	}
MSG_TABLE(X)
#undef X

#define GOOD(lower, ...)      CHANGED(lower, accept_##lower(b, __LINE__), __VA_ARGS__)
#define BAD(lower, says, ...) CHANGED(lower, refuse_##lower(b, says, __LINE__), __VA_ARGS__)

/* A text field: full is fine; no end, bytes after the end and what is not printable are not. */
#define TEXT(lower, field)                                                                         \
	do {                                                                                       \
		GOOD(lower, memset(b->field, 0, sizeof(b->field)));                                \
		GOOD(lower, memset(b->field, '~', sizeof(b->field) - 1));                          \
		BAD(lower, #field, memset(b->field, 'x', sizeof(b->field)));                       \
		BAD(lower, #field, b->field[sizeof(b->field) - 1] = 'x');                          \
		BAD(lower, #field, b->field[0] = '\0', b->field[1] = 'x');                         \
		BAD(lower, #field, b->field[0] = '\n');                                            \
		BAD(lower, #field, b->field[0] = '\x1f');                                          \
		BAD(lower, #field, b->field[0] = '\x7f');                                          \
		BAD(lower, #field, b->field[0] = '\xc3');                                          \
	} while (0)

#define KEY(lower)                                                                                 \
	do {                                                                                       \
		GOOD(lower, memset(b->key, 'a', NAME_KEY_SIZE - 1), b->key[NAME_MAX_LEN] = ':');   \
		BAD(lower, "key", memset(b->key, 0, sizeof(b->key)));                              \
		BAD(lower, "key", memset(b->key, 'a', NAME_KEY_SIZE), b->key[NAME_MAX_LEN] = ':'); \
		BAD(lower, "key", b->key[sizeof(b->key) - 1] = 'x');                               \
		BAD(lower, "key", b->key[0] = '.');                                                \
		BAD(lower, "key", b->key[1] = '/');                                                \
		BAD(lower, "key", b->key[4] = '-');                                                \
		BAD(lower, "key", b->key[6] = ':');                                                \
		BAD(lower, "key", b->key[5] = '\0', b->key[6] = '\0', b->key[7] = '\0');           \
	} while (0)

/* code and signal, as wait(2) can give them. */
#define ENDED(lower)                                                                               \
	do {                                                                                       \
		GOOD(lower, b->code = 255, b->signal = 0);                                         \
		GOOD(lower, b->signal = 64);                                                       \
		BAD(lower, "code", b->code = -2);                                                  \
		BAD(lower, "code", b->code = 256);                                                 \
		BAD(lower, "code", b->code = INT32_MIN);                                           \
		BAD(lower, "signal", b->signal = -1);                                              \
		BAD(lower, "signal", b->signal = 65);                                              \
	} while (0)

static void test_answers(void **unused)
{
	(void)unused;
	TEXT(hello, build);
	GOOD(error, b->kind = ERR_INVALID, b->errnum = 0);
	GOOD(error, b->kind = ERR_VERSION, b->errnum = 4095);
	BAD(error, "kind", b->kind = ERR_NONE);
	BAD(error, "kind", b->kind = ERR_KIND_COUNT);
	BAD(error, "kind", b->kind = UINT32_MAX);
	BAD(error, "errnum", b->errnum = -1);
	BAD(error, "errnum", b->errnum = 4096);
	TEXT(error, text);
	GOOD(done, b->value = MSG_DATA_MAX);
	BAD(done, "value", b->value = MSG_DATA_MAX + 1);
	TEXT(host, build);
	TEXT(host, vmm_version);
	GOOD(host, b->features = 0);
	BAD(host, "features", b->features = MSG_HOST_FEATURES + 1);
	BAD(host, "features", b->features = 1u << 31);
	BAD(host, "reserved", b->zero = 1);
	GOOD(started, b->pid = 1);
	BAD(started, "pid", b->pid = 0);
}

static void test_spawner_requests(void **unused)
{
	(void)unused;
	KEY(start);
	KEY(end);
	KEY(remove);
	GOOD(remove, b->kind = MSG_REMOVE_SOCKET);
	BAD(remove, "kind", b->kind = 0);
	BAD(remove, "kind", b->kind = MSG_REMOVE_KIND_COUNT);
	KEY(gone);
	ENDED(gone);
	TEXT(gone, detail);
	GOOD(gone, b->clear = 1);
	BAD(gone, "clear", b->clear = 2);
	GOOD(gone, b->spent = 1);
	BAD(gone, "spent", b->spent = 2);
}

static void test_create(void **unused)
{
	(void)unused;
	TEXT(create, cmdline);
	GOOD(create, memset(b->kernel, 'k', NAME_MAX_LEN));
	BAD(create, "kernel", memset(b->kernel, 'k', NAME_SIZE));
	BAD(create, "kernel", memset(b->kernel, 0, NAME_SIZE));
	BAD(create, "kernel", b->kernel[NAME_SIZE - 1] = 'k');
	BAD(create, "kernel", b->kernel[3] = '/');
	BAD(create, "kernel", b->kernel[0] = '.');
	BAD(create, "kernel", b->kernel[3] = '.', b->kernel[4] = '.');
	BAD(create, "initramfs", memset(b->initramfs, 0, NAME_SIZE));
	BAD(create, "initramfs", b->flags = MSG_CREATE_BALLOON);
	BAD(create, "initramfs", b->initramfs[1] = '/');
	BAD(create, "initramfs", b->flags = 0, b->initramfs[0] = '\0');
	GOOD(create, b->flags = 0, b->balloon_mib = 0, memset(b->initramfs, 0, NAME_SIZE));
	GOOD(create, b->vcpus = 1, b->memory_mib = MSG_MEMORY_MIB_MIN, b->balloon_mib = 0,
	     b->max_memory_mib = MSG_MEMORY_MIB_MIN);
	GOOD(create, b->vcpus = b->max_vcpus = MSG_VCPUS_MAX,
	     b->memory_mib = b->max_memory_mib = MSG_MEMORY_MIB_MAX);
	BAD(create, "vcpus", b->vcpus = 0);
	BAD(create, "vcpus", b->vcpus = MSG_VCPUS_MAX + 1);
	BAD(create, "memory_mib", b->memory_mib = MSG_MEMORY_MIB_MIN - 1);
	BAD(create, "memory_mib", b->memory_mib = MSG_MEMORY_MIB_MAX + 1);
	GOOD(create, b->max_vcpus = b->vcpus);
	BAD(create, "max_vcpus", b->max_vcpus = b->vcpus - 1);
	BAD(create, "max_vcpus", b->max_vcpus = MSG_VCPUS_MAX + 1);
	GOOD(create, b->max_memory_mib = b->memory_mib + MSG_HOTPLUG_MIB);
	BAD(create, "max_memory_mib", b->max_memory_mib = b->memory_mib + MSG_HOTPLUG_MIB / 2);
	BAD(create, "max_memory_mib", b->max_memory_mib = b->memory_mib - MSG_HOTPLUG_MIB);
	BAD(create, "max_memory_mib", b->max_memory_mib = MSG_MEMORY_MIB_MAX + MSG_HOTPLUG_MIB);
	GOOD(create, b->balloon_mib = b->memory_mib - MSG_BALLOON_LEAVES_MIB);
	BAD(create, "balloon_mib", b->balloon_mib = b->memory_mib - MSG_BALLOON_LEAVES_MIB + 1);
	BAD(create, "balloon_mib", b->flags = MSG_CREATE_INITRAMFS);
	/* What a guest may only become later. */
	BAD(create, "plugged_mib", b->plugged_mib = MSG_PLUG_MIB);
	BAD(create, "flags", b->flags |= MSG_CREATE_HOTPLUG);
	GOOD(status, b->spec.plugged_mib = 256, b->spec.flags |= MSG_CREATE_HOTPLUG);
	BAD(status, "plugged_mib", b->spec.plugged_mib = 258);
	BAD(status, "plugged_mib", b->spec.plugged_mib = 1);
	BAD(create, "flags", b->flags |= MSG_CREATE_FLAGS + 1);
	GOOD(create, b->flags |= MSG_CREATE_KEEP_DISKS);
	BAD(create, "flags", b->flags |= MSG_CREATE_KEEP_DISKS, b->source = MSG_SOURCE_WAKE,
	    b->restore = MSG_RESTORE_COPY);
	GOOD(status, b->spec.flags |= MSG_CREATE_KEEP_DISKS);
	BAD(create, "disk_count", b->disk_count = MSG_DISKS_MAX + 1);
	BAD(create, "unused disk", b->disk_count = 1);
	BAD(create, "disk's image", b->disk_count = 3);
	BAD(create, "disk's image", b->disks[0].image[0] = '.');
	BAD(create, "disk's image", memset(b->disks[1].image, 'a', NAME_SIZE));
	BAD(create, "disk's flags", b->disks[0].flags = MSG_DISK_FLAGS + 1);
	BAD(create, "disk's size_mib", b->disks[0].size_mib = MSG_DISK_MIB_MAX + 1);
	BAD(create, "disk's made", b->disks[0].made = MSG_DISK_REFLINK);
	BAD(create, "disk's rate_mib_s", b->disks[0].rate_mib_s = MSG_DISK_RATE_MIB_MAX + 1);
	BAD(create, "disk's rate_iops", b->disks[0].rate_iops = MSG_DISK_IOPS_MAX + 1);
	BAD(create, "reserved", b->disks[0].zero = 1);
	TEXT(created, vmm_version);
	BAD(created, "vmm_pid", b->vmm_pid = 0);
	BAD(created, "disk's made", b->disks[0].made = MSG_DISK_ASKED);
	BAD(created, "disk's size_mib", b->disks[0].size_mib = 0);
	BAD(created, "disk's made", b->disks[0].made = MSG_DISK_MADE_COUNT);
	BAD(created, "disk's made", b->disks[0].made = MSG_DISK_SHARED);
	BAD(created, "disk's made", b->disks[0].made = MSG_DISK_OPENED);
	BAD(created, "disk's made", b->disks[0].flags = MSG_DISK_DEVICE);
	BAD(created, "disk's made", b->disks[0].flags = MSG_DISK_READONLY);
}

static void test_network(void **unused)
{
	(void)unused;
	GOOD(create, good_network(b));
	GOOD(create, good_network(b), b->network.slot = MSG_SLOT_MAX);
	BAD(create, "without a slot", good_network(b), b->network.slot = 0);
	BAD(create, "without a slot", b->network.egress = MSG_EGRESS_INTERNET);
	BAD(create, "network's slot", b->network.slot = MSG_SLOT_MAX + 1);
	GOOD(create, b->network.slot = 1, b->network.egress = MSG_EGRESS_INTERNET);
	BAD(create, "egress", b->network.slot = 1, b->network.egress = MSG_EGRESS_COUNT);
	BAD(create, "allow_count", b->network.slot = 1, b->network.egress = MSG_EGRESS_LIST);
	BAD(create, "allow_count", good_network(b), b->network.egress = MSG_EGRESS_INTERNET);
	BAD(create, "allow_count", good_network(b), b->network.allow_count = MSG_ALLOW_MAX + 1);
	BAD(create, "network's allow", good_network(b), b->network.allow_count = 1);
	GOOD(create, good_network(b), b->network.allow[0] = (struct msg_cidr){0});
	BAD(create, "network's allow", good_network(b), b->network.allow[0].prefix = 33);
	BAD(create, "network's allow", good_network(b), b->network.allow[0].prefix = 15);
	BAD(create, "network's allow", good_network(b), b->network.allow[0].prefix = 0);
	BAD(create, "network's allow", good_network(b), b->network.allow[2].prefix = 8);
	BAD(create, "port_count", good_network(b), b->network.port_count = MSG_PORTS_MAX + 1);
	BAD(create, "network's ports", good_network(b), b->network.port_count = 3);
	BAD(create, "network's ports", good_network(b), b->network.port_count = 1);
	BAD(create, "network's ports", good_network(b), b->network.ports[0].guest = 0);
	BAD(create, "network's ports", good_network(b), b->network.ports[0].proto = 1);
	BAD(create, "network's ports", good_network(b), b->network.ports[15].host = 1);
	BAD(create, "network's rate", good_network(b), b->network.rx_mbps = MSG_NET_RATE_MAX + 1);
	BAD(create, "network's rate", good_network(b), b->network.tx_mbps = UINT32_MAX);
	/* A set and a status tell what was asked for. */
	GOOD(status, good_network(&b->spec));
	BAD(status, "network's slot", b->spec.network.slot = MSG_SLOT_MAX + 1);
	BAD(template, "egress", b->set.spec.network.slot = 1, b->set.spec.network.egress = 9);
}

#define WAIT(k, p, s, ms, t)                                                                       \
	b->wait = (struct msg_wait)                                                                \
	{                                                                                          \
		.kind = (k), .port = (p), .status = (s), .timeout_ms = (ms), .text = t             \
	}

static void test_wait(void **unused)
{
	(void)unused;
	GOOD(create, good_wait(b));
	GOOD(create, WAIT(MSG_WAIT_TCP, 1, 0, 1, ""));
	GOOD(create, WAIT(MSG_WAIT_TCP, UINT16_MAX, 0, MSG_WAIT_MS_MAX, ""));
	GOOD(create, WAIT(MSG_WAIT_VSOCK, UINT32_MAX - 1, 0, 1, ""));
	GOOD(create, WAIT(MSG_WAIT_CONSOLE, 0, 0, 1, "login: "));
	GOOD(create, good_wait(b), b->wait.status = 100);
	GOOD(create, good_wait(b), b->wait.status = 599);
	BAD(create, "wait's kind", WAIT(MSG_WAIT_COUNT, 0, 0, 1, ""));
	BAD(create, "wait's kind", WAIT(UINT32_MAX, 0, 0, 1, ""));
	BAD(create, "wait's port", WAIT(MSG_WAIT_TCP, 0, 0, 1, ""));
	BAD(create, "wait's port", WAIT(MSG_WAIT_TCP, UINT16_MAX + 1, 0, 1, ""));
	BAD(create, "wait's port", WAIT(MSG_WAIT_VSOCK, 0, 0, 1, ""));
	BAD(create, "wait's port", WAIT(MSG_WAIT_VSOCK, UINT32_MAX, 0, 1, ""));
	BAD(create, "wait's port", WAIT(MSG_WAIT_CONSOLE, 1, 0, 1, "x"));
	BAD(create, "wait's port", WAIT(MSG_WAIT_NONE, 1, 0, 0, ""));
	BAD(create, "wait's port", good_wait(b), b->wait.port = 65536);
	BAD(create, "wait's status", WAIT(MSG_WAIT_TCP, 1, 200, 1, ""));
	BAD(create, "wait's status", good_wait(b), b->wait.status = 99);
	BAD(create, "wait's status", good_wait(b), b->wait.status = 600);
	BAD(create, "wait's timeout_ms", WAIT(MSG_WAIT_NONE, 0, 0, 1, ""));
	BAD(create, "wait's timeout_ms", good_wait(b), b->wait.timeout_ms = 0);
	BAD(create, "wait's timeout_ms", good_wait(b), b->wait.timeout_ms = MSG_WAIT_MS_MAX + 1);
	BAD(create, "wait's text", WAIT(MSG_WAIT_NONE, 0, 0, 0, "x"));
	BAD(create, "wait's text", WAIT(MSG_WAIT_TCP, 1, 0, 1, "/"));
	BAD(create, "wait's text", WAIT(MSG_WAIT_CONSOLE, 0, 0, 1, ""));
	BAD(create, "wait's text", WAIT(MSG_WAIT_CONSOLE, 0, 0, 1, "a\nb"));
	BAD(create, "wait's text", good_wait(b), b->wait.text[0] = 'x');
	BAD(create, "wait's text", good_wait(b), b->wait.text[3] = ' ');
	BAD(create, "wait's text", good_wait(b), b->wait.text[3] = '\r');
	BAD(create, "wait's text", good_wait(b), b->wait.text[MSG_WAIT_TEXT_MAX - 1] = 'x');
	BAD(create, "wait's text", good_wait(b), memset(b->wait.text, 0, MSG_WAIT_TEXT_MAX));
	/* It is of one start: nothing that is kept has one, nor what is told once that is over. */
	BAD(status, "wait", good_wait(&b->spec));
	GOOD(status, b->op = MSG_CREATE, good_wait(&b->spec));
	BAD(status, "wait", b->op = MSG_CREATE, good_wait(&b->spec), b->spec.wait.timeout_ms = 0);
	BAD(template, "wait", good_wait(&b->set.spec));
	BAD(snapshotted, "wait", b->set.spec.wait.timeout_ms = 1);
}

static void test_connect(void **unused)
{
	(void)unused;
	GOOD(connect, b->port = UINT32_MAX - 1);
	GOOD(connect, b->timeout_ms = MSG_WAIT_MS_MAX);
	BAD(connect, "port", b->port = 0);
	BAD(connect, "port", b->port = UINT32_MAX);
	BAD(connect, "timeout_ms", b->timeout_ms = 0);
	BAD(connect, "timeout_ms", b->timeout_ms = MSG_WAIT_MS_MAX + 1);
	GOOD(connected, );
	BAD(connected, "reserved", b->zero = 1);
	GOOD(create, b->flags |= MSG_CREATE_VSOCK);
}

static void test_status(void **unused)
{
	(void)unused;
	TEXT(status, build);
	GOOD(status, b->phase = MSG_PHASE_ENDED);
	BAD(status, "phase", b->phase = MSG_PHASE_COUNT);
	/* Before the CREATE there is nothing to tell, while it is at work no VMM. */
	GOOD(status, b->phase = MSG_PHASE_NEW, memset(&b->spec, 0, sizeof(b->spec)),
	     memset(&b->created, 0, sizeof(b->created)));
	GOOD(status, b->phase = MSG_PHASE_SETUP, memset(&b->created, 0, sizeof(b->created)));
	BAD(status, "kernel", b->spec.kernel[0] = '/');
	BAD(status, "vcpus", b->spec.vcpus = 0);
	BAD(status, "vmm_version", b->created.vmm_version[0] = '\x1b');
	BAD(status, "disk's made", b->created.disks[0].made = MSG_DISK_ASKED);
	BAD(status, "disk's made", b->spec.disks[0].made = MSG_DISK_COPIED);
	/* What is in hand, and of what asks for nothing else nothing else. */
	GOOD(status, b->op = MSG_CREATE);
	GOOD(status, b->op = MSG_PAUSE);
	GOOD(status, b->op = MSG_COUNTERS);
	GOOD(status, b->op = MSG_BALLOON, b->asked_balloon_mib = 7);
	GOOD(status, b->op = MSG_RESIZE, b->asked_vcpus = 2);
	GOOD(status, b->op = MSG_SNAPSHOT, b->paused = 1,
	     b->snapshot.kind = MSG_SNAPSHOT_HIBERNATE);
	BAD(status, "op", b->op = MSG_KILL);
	BAD(status, "op", b->op = MSG_TYPE_COUNT);
	BAD(status, "asked_balloon_mib", b->asked_balloon_mib = 7);
	BAD(status, "asked_vcpus", b->asked_vcpus = 2);
	BAD(status, "asked_vcpus", b->op = MSG_RESIZE);
	BAD(status, "what is asked for", b->op = MSG_RESIZE, b->asked_vcpus = MSG_VCPUS_MAX + 1);
	BAD(status, "paused", b->paused = 1);
	BAD(status, "paused", b->op = MSG_SNAPSHOT, b->paused = 2,
	    b->snapshot.kind = MSG_SNAPSHOT_HIBERNATE);
	BAD(status, "snapshot", b->op = MSG_SNAPSHOT);
	BAD(status, "snapshot", b->snapshot.kind = MSG_SNAPSHOT_HIBERNATE);
	BAD(status, "reserved", b->zero = 1);
	GOOD(status, b->ending = MSG_ENDING_OTHER, b->ending_ms = 2 * MSG_GRACE_MS_MAX);
	BAD(status, "ending", b->ending = MSG_ENDING_COUNT);
	BAD(status, "ending_ms", b->ending_ms = 2 * MSG_GRACE_MS_MAX + 1);
	GOOD(check, );
	GOOD(check, b->repair = 0);
	BAD(check, "repair", b->repair = 2);
	GOOD(finding, );
	TEXT(finding, name);
	TEXT(finding, detail);
	BAD(finding, "kind", b->kind = 0);
	BAD(finding, "kind", b->kind = MSG_FINDING_KIND_COUNT);
	BAD(finding, "mended", b->mended = MSG_MENDED_COUNT);
	GOOD(take, );
	GOOD(take, b->op = MSG_SNAPSHOT);
	BAD(take, "op", b->op = MSG_NONE);
	BAD(take, "op", b->op = MSG_KILL);
}

static void test_requests(void **unused)
{
	(void)unused;
	GOOD(pause, );
	GOOD(resume, );
	GOOD(power_button, );
	GOOD(exit_ack, );
	BAD(pause, "reserved", b->zero = 1);
	BAD(resume, "reserved", b->zero = 1);
	BAD(power_button, "reserved", b->zero = 1);
	BAD(exit_ack, "reserved", b->zero = 1);
	GOOD(balloon, b->target_mib = 0);
	GOOD(balloon, b->target_mib = MSG_MEMORY_MIB_MAX - MSG_BALLOON_LEAVES_MIB);
	BAD(balloon, "target_mib", b->target_mib = MSG_MEMORY_MIB_MAX);
	BAD(balloon, "reserved", b->zero = 1);
	GOOD(resize, b->vcpus = 0, b->memory_mib = MSG_MEMORY_MIB_MAX);
	BAD(resize, "one of both", b->vcpus = 0);
	BAD(resize, "one of both", b->memory_mib = 32);
	BAD(resize, "vcpus", b->vcpus = MSG_VCPUS_MAX + 1);
	BAD(resize, "memory_mib", b->vcpus = 0, b->memory_mib = MSG_MEMORY_MIB_MAX + 1);
	BAD(counters, "reserved", b->zero = 1);
	GOOD(debug, );
	BAD(debug, "reserved", b->zero = 1);
	/* More of it in test_msg_debug. */
	GOOD(debug_data, );
	BAD(debug_data, "reserved", b->head.zero = 1);
	GOOD(kill, b->grace_ms = 0);
	GOOD(kill, b->grace_ms = MSG_GRACE_MS_MAX);
	BAD(kill, "grace_ms", b->grace_ms = MSG_GRACE_MS_MAX + 1);
	GOOD(console_read, b->tail = 1, b->wait = 0);
	BAD(console_read, "tail", b->tail = 2);
	BAD(console_read, "wait", b->wait = 2);
}

static void test_console_tails(void **unused)
{
	(void)unused;
	GOOD(console_data, b->length = 0);
	GOOD(console_data, b->length = 10, b->eof = 1);
	GOOD(console_data, b->length = MSG_DATA_MAX, b->end = 1u << 31,
	     memset(b->data, 'x', MSG_DATA_MAX));
	BAD(console_data, "length", b->length = MSG_DATA_MAX + 1, b->end = 1u << 31);
	BAD(console_data, "length", b->length = UINT32_MAX, b->end = UINT64_MAX);
	BAD(console_data, "eof", b->eof = 2);
	BAD(console_data, "offset", b->length = 11);
	BAD(console_data, "offset", b->offset = 1011);
	BAD(console_data, "offset", b->offset = UINT64_MAX - 2);
	GOOD(console_write, b->length = 1);
	GOOD(console_write, b->length = MSG_DATA_MAX, memset(b->data, 'x', MSG_DATA_MAX));
	BAD(console_write, "length", b->length = 0);
	BAD(console_write, "length", b->length = MSG_DATA_MAX + 1);
	BAD(console_write, "reserved", b->zero = 1);
}

static void test_told(void **unused)
{
	(void)unused;
	GOOD(event, b->what = MSG_EVENT_DROPPED, b->count = UINT32_MAX);
	BAD(event, "what", b->what = 0);
	BAD(event, "what", b->what = MSG_EVENT_WHAT_COUNT);
	ENDED(exit);
	TEXT(exit, detail);
	GOOD(exit, b->cause = MSG_CAUSE_START_FAILED, b->phase = MSG_PHASE_ENDED);
	BAD(exit, "cause", b->cause = MSG_CAUSE_NONE);
	BAD(exit, "cause", b->cause = MSG_CAUSE_COUNT);
	BAD(exit, "phase", b->phase = MSG_PHASE_COUNT);
	TEXT(log, text);
	GOOD(log, b->level = LOG_LEVEL_ERROR);
	GOOD(log, b->level = LOG_LEVEL_DEBUG);
	BAD(log, "level", b->level = LOG_LEVEL_ERROR - 1);
	BAD(log, "level", b->level = LOG_LEVEL_DEBUG + 1);
}

static void fill_counters(struct msg_counters_data *b)
{
	memset(b->counters, 0, sizeof(b->counters));
	b->count = MSG_COUNTERS_MAX;
	for (int i = 0; i < MSG_COUNTERS_MAX; i++)
		b->counters[i] = (struct msg_counter){.device = "d", .counter = "c"};
}

static void test_counters(void **unused)
{
	(void)unused;
	GOOD(counters, );
	GOOD(counters_data, );
	GOOD(counters_data, b->count = 0, memset(b->counters, 0, sizeof(b->counters)));
	GOOD(counters_data, fill_counters(b));
	BAD(counters_data, "count", b->count = MSG_COUNTERS_MAX + 1);
	BAD(counters_data, "device", b->count = 3);
	BAD(counters_data, "device", b->count = 1);
	BAD(counters_data, "value", b->counters[2].value = 1);
	BAD(counters_data, "device", memset(b->counters[0].device, 'x', MSG_COUNTER_NAME_MAX));
	BAD(counters_data, "counter", b->counters[0].counter[0] = '\n');
	BAD(counters_data, "reserved", b->zero = 1);
}

static void test_sets(void **unused)
{
	(void)unused;
	GOOD(snapshot, b->kind = MSG_SNAPSHOT_HIBERNATE, memset(b->template, 0, NAME_SIZE));
	BAD(snapshot, "kind", b->kind = 0);
	BAD(snapshot, "kind", b->kind = MSG_SNAPSHOT_KIND_COUNT);
	BAD(snapshot, "template", b->kind = MSG_SNAPSHOT_HIBERNATE);
	BAD(snapshot, "template", b->template[0] = '/');
	BAD(snapshot, "reserved", b->zero = 1);
	GOOD(progress, b->done_bytes = UINT64_MAX);
	BAD(progress, "done_bytes", b->total_bytes = 0);
	GOOD(template, b->set.content = MSG_SET_RAM | MSG_SET_RANGES);
	GOOD(template, b->set.content = MSG_SET_RANGES | MSG_SET_CONFIG);
	BAD(template, "content", b->set.content = MSG_SET_CONFIG);
	BAD(template, "content", b->set.content = MSG_SET_CONTENTS);
	BAD(template, "kind", b->kind = MSG_TEMPLATE_KIND_COUNT);
	BAD(template, "content", b->set.content = 0);
	BAD(template, "content", b->set.content = MSG_SET_CONTENTS + 1);
	BAD(template, "format", b->set.format = MSG_SET_FORMAT + 1);
	BAD(template, "parent", b->set.parent[0] = '/');
	BAD(template, "vcpus", b->set.spec.vcpus = 0);
	BAD(template, "plugged_mib", b->set.spec.plugged_mib = 2);
	GOOD(snapshotted, );
	BAD(snapshotted, "flags", b->set.spec.flags |= MSG_CREATE_HOTPLUG);
	BAD(template, "flags", b->set.spec.flags |= MSG_CREATE_KEEP_DISKS);
}

/* Each reader by itself refuses another type, and any other size than its own. */
static void test_type_and_size(void **unused)
{
	(void)unused;
#define X(upper, lower, fds, tail)                                                                 \
	CHANGED(                                                                                   \
		lower, do {                                                                        \
			static struct msg_##lower out;                                             \
			struct err e;                                                              \
			size_t length = WIRE_##tail(b);                                            \
			const unsigned other = MSG_##upper == MSG_LOG ? MSG_HELLO : MSG_LOG;       \
			fill_record(other, b, length);                                             \
			assert_int_equal(msg_read_##lower(&record, &out, &e), -1);                 \
			assert_int_equal(e.kind, ERR_PROTOCOL);                                    \
			assert_says(e.text, msg_type_name(other));                                 \
			fill_record(MSG_##upper, b, length);                                       \
			record.body_length = length - 1;                                           \
			assert_int_equal(msg_read_##lower(&record, &out, &e), -1);                 \
			record.body_length = length + 1;                                           \
			assert_int_equal(msg_read_##lower(&record, &out, &e), -1);                 \
			record.body_length = sizeof(record.body);                                  \
			assert_int_equal(msg_read_##lower(&record, &out, &e), -1);                 \
			assert_int_equal(e.kind, ERR_PROTOCOL);                                    \
			record.body_length = 0;                                                    \
			assert_int_equal(msg_read_##lower(&record, &out, &e), -1);                 \
		} while (0), );
	MSG_TABLE(X)
#undef X
}

/* What a release of the same MSG_VERSION relies on: numbers and sizes may not drift. */
static void test_wire_is_as_it_was(void **unused)
{
	static const struct {
		unsigned type, number;
		const char *name;
		size_t size;
	} wire[] = {
#define SIZE(upper, lower, n) {MSG_##upper, n, #upper, sizeof(struct msg_##lower)}
		SIZE(HELLO, hello, 1),
		SIZE(ERROR, error, 2),
		SIZE(DONE, done, 3),
		SIZE(HOST, host, 4),
		SIZE(START, start, 5),
		SIZE(STARTED, started, 6),
		SIZE(END, end, 7),
		SIZE(REMOVE, remove, 8),
		SIZE(GONE, gone, 9),
		SIZE(STATUS, status, 10),
		SIZE(CREATE, create, 11),
		SIZE(CREATED, created, 12),
		SIZE(PAUSE, pause, 13),
		SIZE(RESUME, resume, 14),
		SIZE(POWER_BUTTON, power_button, 15),
		SIZE(SNAPSHOT, snapshot, 16),
		SIZE(SNAPSHOTTED, snapshotted, 17),
		SIZE(PROGRESS, progress, 18),
		SIZE(TEMPLATE, template, 19),
		SIZE(BALLOON, balloon, 20),
		SIZE(RESIZE, resize, 21),
		SIZE(COUNTERS, counters, 22),
		SIZE(COUNTERS_DATA, counters_data, 23),
		SIZE(KILL, kill, 24),
		SIZE(CONSOLE_READ, console_read, 25),
		SIZE(CONSOLE_DATA, console_data, 26),
		SIZE(CONSOLE_WRITE, console_write, 27),
		SIZE(CONNECT, connect, 28),
		SIZE(CONNECTED, connected, 29),
		SIZE(EVENT, event, 30),
		SIZE(EXIT, exit, 31),
		SIZE(EXIT_ACK, exit_ack, 32),
		SIZE(LOG, log, 33),
		SIZE(DEBUG, debug, 34),
		SIZE(DEBUG_DATA, debug_data, 35),
		SIZE(TAKE, take, 36),
		SIZE(CHECK, check, 37),
		SIZE(FINDING, finding, 38),
	};
	static const size_t sizes[] = {
		32,	   392, 8,  88,	  128, 8,    128, 132, 528,   4408,  3472, 768, 4,
		4,	   4,	80, 3880, 16,  3864, 8,	  8,   4,     11536, 4,	   16,	24 + 32768,
		8 + 32768, 8,	4,  8,	  416, 4,    520, 4,   57136, 4,     4,	   648};
	(void)unused;
	assert_int_equal(MSG_VERSION, 1);
	assert_int_equal(sizeof(struct msg_header), 16);
	assert_int_equal(MSG_TYPE_COUNT, ARRAY_SIZE(wire) + 1);
	for (size_t i = 0; i < ARRAY_SIZE(wire); i++) {
		assert_int_equal(wire[i].type, wire[i].number);
		assert_string_equal(msg_type_name(wire[i].number), wire[i].name);
		if (wire[i].size != sizes[i])
			fail_msg("%s has %zu bytes, not %zu", wire[i].name, wire[i].size, sizes[i]);
		assert_true(wire[i].size + sizeof(struct msg_header) <= MSG_RECORD_MAX);
	}
}

static void test_words(void **unused)
{
	(void)unused;
	assert_string_equal(msg_type_name(0), "unknown");
	assert_string_equal(msg_type_name(MSG_TYPE_COUNT), "unknown");
	assert_string_equal(msg_phase_name(MSG_PHASE_NEW), "new");
	assert_string_equal(msg_phase_name(MSG_PHASE_PAUSED), "paused");
	assert_string_equal(msg_phase_name(MSG_PHASE_ENDED), "ended");
	assert_string_equal(msg_phase_name(MSG_PHASE_COUNT), "unknown");
	assert_string_equal(msg_cause_name(MSG_CAUSE_GUEST_SHUTDOWN), "guest-shutdown");
	assert_string_equal(msg_cause_name(MSG_CAUSE_VMM_KILLED), "vmm-killed");
	assert_string_equal(msg_cause_name(MSG_CAUSE_START_FAILED), "start-failed");
	assert_string_equal(msg_cause_name(MSG_CAUSE_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),	      cmocka_unit_test(test_spawner_requests),
		cmocka_unit_test(test_create),	      cmocka_unit_test(test_network),
		cmocka_unit_test(test_wait),	      cmocka_unit_test(test_connect),
		cmocka_unit_test(test_status),	      cmocka_unit_test(test_requests),
		cmocka_unit_test(test_console_tails), cmocka_unit_test(test_told),
		cmocka_unit_test(test_counters),      cmocka_unit_test(test_sets),
		cmocka_unit_test(test_type_and_size), cmocka_unit_test(test_wire_is_as_it_was),
		cmocka_unit_test(test_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
