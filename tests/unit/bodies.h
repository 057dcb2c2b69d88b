// SPDX-License-Identifier: Apache-2.0
/* One honest body for each type of record, for the tests of common/msg. */
#ifndef TESTS_UNIT_BODIES_H
#define TESTS_UNIT_BODIES_H

#include "unit.h"

#include "log.h"
#include "msg.h"
#include "util.h"

static struct msg record; /* 64 KiB: too much for a stack under a sanitizer */

/* ------------------------------------------------------------------ one honest body per type */

static void good_hello(struct msg_hello *b)
{
	str_copy(b->build, sizeof(b->build), "0.1.0");
}
static void good_error(struct msg_error *b)
{
	b->kind = ERR_VMM;
	b->errnum = 2;
	str_copy(b->text, sizeof(b->text), "vm.boot: no");
}
static void good_done(struct msg_done *b)
{
	b->took_us = UINT32_MAX;
	b->value = 7;
}
static void good_host(struct msg_host *b)
{
	str_copy(b->build, sizeof(b->build), "0.1.0");
	str_copy(b->vmm_version, sizeof(b->vmm_version), "53.0.0");
	b->vmm_major = 53;
	b->features = MSG_HOST_FEATURES;
	b->shims = 3;
}
static void good_start(struct msg_start *b)
{
	str_copy(b->key, sizeof(b->key), "acme:web");
}
static void good_started(struct msg_started *b)
{
	b->pid = 42;
	b->took_us = 900;
}
static void good_end(struct msg_end *b)
{
	str_copy(b->key, sizeof(b->key), "acme:web");
}
static void good_remove(struct msg_remove *b)
{
	b->kind = MSG_REMOVE_CGROUP;
	str_copy(b->key, sizeof(b->key), "acme:web");
}
static void good_gone(struct msg_gone *b)
{
	str_copy(b->key, sizeof(b->key), "acme:web");
	b->code = -1;
	b->signal = 9;
	str_copy(b->detail, sizeof(b->detail), "cgroup is left");
}
static void good_disk(struct msg_disk *b, enum msg_disk_made made)
{
	str_copy(b->image, sizeof(b->image), "debian-12");
	b->size_mib = 2048;
	b->made = made;
	b->rate_mib_s = 100;
	b->rate_iops = 1000;
}
static void good_create(struct msg_create *b)
{
	str_copy(b->kernel, sizeof(b->kernel), "vmlinux-6.1");
	str_copy(b->initramfs, sizeof(b->initramfs), "rootfs");
	str_copy(b->cmdline, sizeof(b->cmdline), "console=ttyS0 quiet");
	b->vcpus = 2;
	b->memory_mib = 256;
	b->max_vcpus = 4;
	b->max_memory_mib = 512;
	b->balloon_mib = 64;
	b->flags = MSG_CREATE_INITRAMFS | MSG_CREATE_BALLOON;
	b->disk_count = 2;
	good_disk(&b->disks[0], MSG_DISK_ASKED);
	good_disk(&b->disks[1], MSG_DISK_ASKED);
	b->disks[1].flags = MSG_DISK_READONLY;
	b->disks[1].size_mib = 0;
}
/* All that a wait or a network can have; which the plain body has not. */
static __attribute__((unused)) void good_wait(struct msg_create *b)
{
	b->wait = (struct msg_wait){.kind = MSG_WAIT_HTTP, .port = 80, .timeout_ms = 30000};
	str_copy(b->wait.text, sizeof(b->wait.text), "/health?full=1");
}
static __attribute__((unused)) void good_network(struct msg_create *b)
{
	b->network = (struct msg_network){
		.slot = 7,
		.egress = MSG_EGRESS_LIST,
		.allow_count = 2,
		.allow = {{0x0a010000, 16}, {0x08080808, 32}},
		.port_count = 2,
		.ports = {{MSG_PROTO_TCP, 80, 8080}, {MSG_PROTO_UDP, 53, 0}},
		.rx_mbps = 100,
		.tx_mbps = MSG_NET_RATE_MAX,
	};
}
static void good_created(struct msg_created *b)
{
	b->vmm_pid = 43;
	str_copy(b->vmm_version, sizeof(b->vmm_version), "53.0.0");
	b->timings = (struct msg_timings){.setup_us = 1, .launch_us = 2, .boot_us = 3};
	b->disk_count = 1;
	good_disk(&b->disks[0], MSG_DISK_REFLINK);
}
static void good_status(struct msg_status *b)
{
	str_copy(b->build, sizeof(b->build), "0.1.0");
	b->phase = MSG_PHASE_RUNNING;
	b->uid = 700001;
	b->created_real_us = 1700000000000000;
	b->console_end = UINT64_MAX;
	good_create(&b->spec);
	good_created(&b->created);
}
static void good_take(struct msg_take *b)
{
	b->op = MSG_PAUSE;
}
static void good_pause(struct msg_pause *b)
{
	b->zero = 0;
}
static void good_resume(struct msg_resume *b)
{
	b->zero = 0;
}
static void good_power_button(struct msg_power_button *b)
{
	b->zero = 0;
}
static void good_exit_ack(struct msg_exit_ack *b)
{
	b->zero = 0;
}
static void good_set(struct msg_set *b)
{
	b->format = MSG_SET_FORMAT;
	b->content = MSG_SET_RAM;
	str_copy(b->key, sizeof(b->key), "acme:base");
	str_copy(b->parent, sizeof(b->parent), "acme:web");
	str_copy(b->vmm_version, sizeof(b->vmm_version), "53.0.0");
	b->created_real_us = 1700000000000000;
	good_create(&b->spec);
	b->spec.disks[0].made = MSG_DISK_COPIED;
	b->spec.disks[1].made = MSG_DISK_SHARED;
	b->spec.disks[1].size_mib = 3;
}
static void good_snapshot(struct msg_snapshot *b)
{
	b->kind = MSG_SNAPSHOT_TEMPLATE;
	str_copy(b->template, sizeof(b->template), "base");
}
static void good_snapshotted(struct msg_snapshotted *b)
{
	b->pause_us = 5;
	good_set(&b->set);
}
static void good_progress(struct msg_progress *b)
{
	b->done_bytes = 1;
	b->total_bytes = UINT64_MAX;
}
static void good_template(struct msg_template *b)
{
	b->kind = MSG_TEMPLATE_HIBERNATED;
	good_set(&b->set);
}
static void good_balloon(struct msg_balloon *b)
{
	b->target_mib = 64;
}
static void good_resize(struct msg_resize *b)
{
	b->vcpus = 2;
}
static void good_counters(struct msg_counters *b)
{
	b->zero = 0;
}
static void good_counters_data(struct msg_counters_data *b)
{
	b->memory_actual_bytes = 1u << 28;
	b->count = 2;
	str_copy(b->counters[0].device, MSG_COUNTER_NAME_MAX, "_disk0");
	str_copy(b->counters[0].counter, MSG_COUNTER_NAME_MAX, "read_bytes");
	b->counters[0].value = 7;
	str_copy(b->counters[1].device, MSG_COUNTER_NAME_MAX, "_disk0");
	str_copy(b->counters[1].counter, MSG_COUNTER_NAME_MAX, "read_latency_min");
	b->counters[1].value = UINT64_MAX;
}
static void good_kill(struct msg_kill *b)
{
	b->grace_ms = 5000;
}
static void good_console_read(struct msg_console_read *b)
{
	b->offset = UINT64_MAX;
	b->wait = 1;
}
static void good_console_data(struct msg_console_data *b)
{
	b->offset = 1000;
	b->end = 1010;
	b->length = 5;
	memcpy(b->data, "a\0b\xff\n", 5);
}
static void good_console_write(struct msg_console_write *b)
{
	b->length = 5;
	memcpy(b->data, "a\0b\xff\n", 5);
}
static void good_connect(struct msg_connect *b)
{
	b->port = 1024;
	b->timeout_ms = 5000;
}
static void good_connected(struct msg_connected *b)
{
	b->zero = 0;
}
static void good_event(struct msg_event *b)
{
	b->what = MSG_EVENT_REBOOT;
	b->count = 1;
}
static void good_exit(struct msg_exit *b)
{
	b->cause = MSG_CAUSE_VMM_KILLED;
	b->code = -1;
	b->signal = 9;
	b->phase = MSG_PHASE_RUNNING;
	b->at_real_us = 1700000000000000;
	b->console_end = 10;
	str_copy(b->detail, sizeof(b->detail), "signal 9");
}
static void good_log(struct msg_log *b)
{
	b->level = LOG_LEVEL_WARNING;
	b->dropped = 2;
	str_copy(b->text, sizeof(b->text), "a line");
}

/* The bytes of a body on the wire, counted here and not by the code under test. */
#define WIRE_true(b)  (offsetof(__typeof__(*(b)), data) + (b)->length)
#define WIRE_false(b) sizeof(*(b))

static void fill_record(unsigned type, const void *body, size_t length)
{
	memset(&record, 0, sizeof(record));
	record.header.version = MSG_VERSION;
	record.header.type = (uint16_t)type;
	record.header.length = (uint32_t)(sizeof(record.header) + length);
	memcpy(record.body, body, length);
	record.body_length = length;
}

/* An honest body with one thing changed. */
#define CHANGED(lower, then, ...)                                                                  \
	do {                                                                                       \
		static struct msg_##lower body;                                                    \
		struct msg_##lower *b = &body;                                                     \
		memset(b, 0, sizeof(*b));                                                          \
		good_##lower(b);                                                                   \
		__VA_ARGS__;                                                                       \
		then;                                                                              \
	} while (0)

#endif
