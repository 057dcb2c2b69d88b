// SPDX-License-Identifier: Apache-2.0
/*
 * A supervisor without a process: its records, links and events, and the test is the spawner and
 * the shim at the other ends of the links. For tests of one sandbox, alice:box.
 */
#ifndef TESTS_UNIT_DAEMONWORLD_H
#define TESTS_UNIT_DAEMONWORLD_H

#include "unit.h"

#include "daemon.h"
#include "sandbox.h"
#include "spawner.h"
#include "store.h"
#include "store_load.h"
#include "util.h"

#include <sys/socket.h>

static struct daemon d;
static struct config_tenant alice;
static struct chan spawner, shim;
static struct msg m;
static struct events_reader reader;
static struct err e;
static char store_path[64];

/* What the waiters of one operation were told. */
struct told {
	unsigned count;
	struct err why; /* ERR_NONE: done */
};

static inline void on_done(void *arg, const struct sandbox *sb, const struct err *why)
{
	struct told *told = arg;
	(void)sb;
	told->count++;
	told->why = why ? *why : (struct err){0};
}

static inline void on_ready(struct daemon *ready, const struct err *why)
{
	(void)ready;
	assert_null(why);
}

static inline void turn(void)
{
	event_base_loop(d.base, EVLOOP_NONBLOCK);
}

/* The next record that the supervisor sends there, of that type. Gives its id. */
static inline uint32_t expect(struct chan *c, enum msg_type type)
{
	for (int tries = 0; tries < 1000; tries++) {
		turn();
		enum msg_result got = msg_recv(c->fd, &m, &e);
		if (got == MSG_GOT) {
			assert_string_equal(msg_type_name(m.header.type), msg_type_name(type));
			return m.header.id;
		}
		assert_int_equal(got, MSG_AGAIN);
		usleep(1000);
	}
	fail_msg("no %s record", msg_type_name(type));
	return 0;
}

static inline void expect_nothing(struct chan *c)
{
	turn();
	assert_int_equal(msg_recv(c->fd, &m, &e), MSG_AGAIN);
}

/* Lets the loop handle what was sent, and the store's thread what it was given. */
static inline void settle(void)
{
	for (int i = 0; i < 5; i++)
		turn();
	for (int tries = 0; !store_is_idle(d.store) && tries < 10000; tries++) {
		usleep(100);
		turn();
	}
	assert_true(store_is_idle(d.store));
}

static inline void expect_event(const char *part)
{
	const char *line;
	while ((line = events_read(&d.events, &reader)) != NULL)
		if (strstr(line, part))
			return;
	fail_msg("no event has %s", part);
}

static inline int pair_of(struct chan *theirs)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	chan_open(theirs, pair[1], 1 << 20);
	return pair[0];
}

static inline void setup_daemon(void)
{
	const struct msg_host host = {.build = "x", .vmm_version = "53.0", .vmm_major = 53};
	d = (struct daemon){.base = event_base_new()};
	alice = (struct config_tenant){.name = "alice"};
	d.config.tenants = &alice;
	d.config.tenant_count = 1;
	d.config.policy.max_sandboxes = 10;
	d.config.policy.console_bytes = 4096;
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++)
		d.config.policy.deadline_ms[i] = 30000;
	registry_open(&d.registry);
	template_open(&d.templates);
	template_open(&d.sleeping);
	template_open(&d.left);
	assert_int_equal(events_open(&d.events, 64, &e), 0);
	events_reader_since(&d.events, &reader, NULL, 0);
	str_copy(d.host.boot, sizeof(d.host.boot), "this-boot");
	d.host.store_dir = unit_make_dir(store_path);
	d.store = store_open(&d, d.host.store_dir, &e);
	assert_non_null(d.store);
	shim.fd = -1;
	/* No process, so nobody waits for its end when the link closes. */
	d.spawner = spawner_open(&d, pair_of(&spawner), 0, on_ready, &e);
	assert_non_null(d.spawner);
	uint32_t id = expect(&spawner, MSG_HELLO);
	assert_int_equal(chan_send_host(&spawner, id, &host, &e), 0);
	settle();
}

static inline int setup(void **unused)
{
	(void)unused;
	setup_daemon();
	return 0;
}

static inline int teardown(void **unused)
{
	(void)unused;
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d.registry.list));)
		sandbox_free(sb);
	store_flush(d.store, 10000);
	store_close(d.store);
	store_load_close(&d);
	close(d.host.store_dir);
	unit_remove_dir(store_path);
	spawner_close(d.spawner);
	registry_close(&d.registry);
	template_close(&d.templates);
	template_close(&d.sleeping);
	template_close(&d.left);
	pool_close(&d.pool);
	events_close(&d.events);
	drain_close(&d);
	event_base_free(d.base);
	chan_close(&spawner);
	chan_close(&shim);
	return 0;
}

/* ------------------------------------------------------------------ steps */

static inline void fill_guest(struct msg_create *c, const char *image)
{
	*c = (struct msg_create){.vcpus = 1,
				 .max_vcpus = 1,
				 .memory_mib = 16,
				 .max_memory_mib = 16,
				 .disk_count = 1,
				 .disks = {{.image = "root", .size_mib = 40}}};
	str_copy(c->kernel, sizeof(c->kernel), "k");
	str_copy(c->disks[0].image, sizeof(c->disks[0].image), image);
}

/* Answers the START that is under way with a shim, whose CREATE has the id given back. */
static inline uint32_t start_shim(struct chan *started_shim, struct msg_create *asked)
{
	const struct msg_started started = {.pid = 1};
	uint32_t id = expect(&spawner, MSG_START);
	int fd = pair_of(started_shim);
	assert_true(chan_send(&spawner, MSG_STARTED, id, &started, sizeof(started), fd, &e) == 0);
	close(fd);
	id = expect(started_shim, MSG_CREATE);
	assert_int_equal(msg_read_create(&m, asked, &e), 0);
	return id;
}

/* Asks for alice:box, up to the CREATE that its shim has to answer. Gives that one's id. */
static inline uint32_t begin(bool keep_failed, struct told *told)
{
	struct msg_create guest;
	fill_guest(&guest, "root");
	struct spec *spec = spec_from_msg(&guest, &e);
	assert_non_null(spec);
	spec->id = strdup("box");
	assert_non_null(sandbox_create(&d, "alice", spec, keep_failed, on_done, told, &e));
	uint32_t id = start_shim(&shim, &guest);
	assert_int_equal(guest.disk_count, 1);
	assert_int_equal(guest.disks[0].size_mib, 40);
	return id;
}

static inline struct sandbox *box(void)
{
	return registry_find(&d.registry, "alice:box");
}

static inline void tell_created(uint32_t id, uint32_t disks)
{
	struct msg_created created = {.vmm_pid = 7, .vmm_version = "53.0", .disk_count = disks};
	if (disks)
		created.disks[0] =
			(struct msg_disk){.image = "root", .size_mib = 40, .made = MSG_DISK_COPIED};
	created.timings.disks_us = 5;
	assert_int_equal(chan_send_created(&shim, id, &created, &e), 0);
	settle();
}

static inline struct sandbox *running(void)
{
	struct told told = {0};
	tell_created(begin(false, &told), 1);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_NONE);
	assert_int_equal(box()->state, STATE_RUNNING);
	return box();
}

/* A shim whose VMM has ended is asked for its last account, and has none. */
static inline void give_no_account(void)
{
	struct err why;
	err_set(&why, ERR_INTERNAL, 0, "no account");
	assert_int_equal(chan_send_err(&shim, expect(&shim, MSG_DEBUG), &why, &e), 0);
	/* The store's thread may be held up. */
	for (int i = 0; i < 5; i++)
		turn();
}

static inline void tell_gone(void)
{
	const struct msg_gone gone = {.key = "alice:box", .clear = 1};
	chan_close(&shim);
	settle();
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	settle();
}

static inline void answer_done(struct chan *c, uint32_t id)
{
	const struct msg_done done = {0};
	assert_int_equal(chan_send_done(c, id, &done, &e), 0);
	settle();
}

static inline uint32_t expect_removal(void)
{
	struct msg_remove ask;
	uint32_t id = expect(&spawner, MSG_REMOVE);
	assert_int_equal(msg_read_remove(&m, &ask, &e), 0);
	assert_int_equal(ask.kind, MSG_REMOVE_SANDBOX);
	assert_string_equal(ask.key, "alice:box");
	return id;
}

#endif
