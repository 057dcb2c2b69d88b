// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/sandbox, teardown, adopt: whose address is whose, from create to destroy, and what a
 * create waits for. The test is the spawner and the shims at the other ends of the links.
 */
#include "daemonworld.h"

#include "adopt.h"
#include "snapshot.h"
#include "spec_network.h"
#include "teardown.h"

#include <sys/un.h>

#define PORTS 3

static int setup_network(void **unused)
{
	(void)unused;
	setup_daemon();
	d.config.policy.pool = 0x0a400000;
	d.config.policy.pool_bits = 29;
	d.config.policy.port_first = 8000;
	d.config.policy.port_count = PORTS; /* so 4 slots are left */
	assert_int_equal(pool_open(&d.pool, &d.config.policy, &e), 0);
	return 0;
}

/* A guest that has a network, and port of the host if that is not 0. */
static struct spec *make_spec(const char *id, uint16_t port)
{
	struct msg_create guest;
	fill_guest(&guest, "root");
	guest.disk_count = 0;
	guest.disks[0] = (struct msg_disk){0};
	guest.network = (struct msg_network){.slot = 1, .egress = MSG_EGRESS_INTERNET};
	if (port) {
		guest.network.port_count = 1;
		guest.network.ports[0] = (struct msg_port){MSG_PROTO_TCP, 80, port};
	}
	struct spec *spec = spec_from_msg(&guest, &e);
	assert_non_null(spec);
	spec->network.slot = 0;
	spec->id = strdup(id);
	return spec;
}

static struct sandbox *find(const char *id)
{
	char key[NAME_KEY_SIZE];
	name_key_make(key, "alice", id);
	return registry_find(&d.registry, key);
}

static void send_gone(const char *id, struct chan *c)
{
	struct msg_gone gone = {.clear = 1};
	name_key_make(gone.key, "alice", id);
	chan_close(c);
	settle();
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	settle();
}

static void send_created(struct chan *c, uint32_t id)
{
	const struct msg_created created = {
		.vmm_pid = 7, .vmm_version = "53.0", .timings.ready_us = 4321};
	assert_int_equal(chan_send_created(c, id, &created, &e), 0);
	settle();
}

/* ------------------------------------------------------------------ one at a time */

static void test_create_tells_address(void **unused)
{
	struct told told = {0};
	struct msg_create asked;
	(void)unused;
	struct spec *spec = make_spec("box", 8001);
	spec->wait = (struct msg_wait){.kind = MSG_WAIT_TCP, .port = 80, .timeout_ms = 5000};
	assert_non_null(sandbox_create(&d, "alice", spec, false, on_done, &told, &e));
	assert_int_equal(d.pool.used, 1);
	uint32_t id = start_shim(&shim, &asked);
	assert_int_equal(asked.network.slot, 1);
	assert_int_equal(asked.network.ports[0].host, 8001);
	assert_int_equal(asked.wait.kind, MSG_WAIT_TCP);
	assert_int_equal(asked.wait.timeout_ms, 5000);
	send_created(&shim, id);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_NONE);
	expect_event("\"to\":\"running\",\"reason\":\"the guest is ready\",\"address\":"
		     "\"10.64.0.1\",\"ready_us\":4321");
}

/* Not ready in time: the shim's word is the answer, and the shim ends by itself. */
static void test_not_ready(void **unused)
{
	struct told told = {0};
	struct msg_create asked;
	struct err why;
	(void)unused;
	struct spec *spec = make_spec("box", 0);
	spec->wait = (struct msg_wait){.kind = MSG_WAIT_TCP, .port = 80, .timeout_ms = 5000};
	assert_non_null(sandbox_create(&d, "alice", spec, false, on_done, &told, &e));
	uint32_t id = start_shim(&shim, &asked);
	err_set(&why, ERR_DEADLINE, 0, "tcp port 80: connection refused");
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
	expect_nothing(&spawner);
	assert_int_equal(d.pool.used, 1);
	send_gone("box", &shim);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_DEADLINE);
	assert_string_equal(told.why.text, "tcp port 80: connection refused");
	assert_null(box());
	assert_int_equal(d.pool.used, 0);
}

static void test_pool_is_used_up(void **unused)
{
	struct told told[5] = {0};
	struct msg_create asked;
	struct chan shims[4];
	char id[16];
	(void)unused;
	for (int i = 0; i < 4; i++) {
		snprintf(id, sizeof(id), "b%d", i);
		assert_non_null(sandbox_create(&d, "alice", make_spec(id, i ? 0 : 8000), true,
					       on_done, &told[i], &e));
		start_shim(&shims[i], &asked);
		assert_int_equal(asked.network.slot, i + 1);
	}
	assert_null(sandbox_create(&d, "alice", make_spec("b4", 0), true, on_done, &told[4], &e));
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_null(find("b4"));
	/* One that failed and stays as a record keeps its address; a destroy gives it back. */
	send_gone("b0", &shims[0]);
	assert_int_equal(find("b0")->state, STATE_FAILED);
	assert_null(sandbox_create(&d, "alice", make_spec("b4", 0), true, on_done, &told[4], &e));
	assert_int_equal(teardown_destroy(find("b0"), 0, on_done, &told[4], &e), 0);
	settle();
	assert_null(find("b0"));
	assert_int_equal(d.pool.used, 3);
	for (int i = 1; i < 4; i++)
		chan_close(&shims[i]);
	settle();
}

static void test_port_is_taken(void **unused)
{
	struct told told[2] = {0};
	(void)unused;
	assert_non_null(
		sandbox_create(&d, "alice", make_spec("box", 8001), true, on_done, told, &e));
	assert_null(
		sandbox_create(&d, "alice", make_spec("b2", 8001), true, on_done, &told[1], &e));
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "port 8001/tcp of the host is taken");
	assert_int_equal(d.pool.used, 1);
}

/* ------------------------------------------------------------------ after a restart */

static void add_sleeping(const char *id, uint32_t slot, uint16_t port)
{
	struct msg_set set = {.format = MSG_SET_FORMAT,
			      .content = MSG_SET_RAM,
			      .parent = "alice:box",
			      .created_real_us = 7};
	name_key_make(set.key, "alice", id);
	struct spec *spec = make_spec(id, port);
	spec->network.slot = slot;
	spec_to_msg(spec, "alice", &set.spec);
	spec_free(spec);
	assert_int_equal(template_add(&d.sleeping, &set, &e), 0);
}

static void test_conflict(void **unused)
{
	struct told told = {0};
	struct msg_create asked;
	(void)unused;
	/* What no honest history leaves: the same slot twice, and one that there is not. */
	add_sleeping("b1", 3, 0);
	add_sleeping("b2", 3, 0);
	add_sleeping("b3", 5, 0);
	add_sleeping("b4", 2, 8002);
	adopt_sleeping(&d);
	assert_int_equal(d.pool.used, 2);
	for (int i = 2; i < 4; i++) {
		char id[16];
		snprintf(id, sizeof(id), "b%d", i);
		assert_int_equal(find(id)->state, STATE_HIBERNATED);
		assert_int_equal(sandbox_wake(find(id), MSG_RESTORE_NONE, on_done, &told, &e), -1);
		assert_int_equal(e.kind, ERR_STATE);
		assert_says(e.text, "wake: its address, or a port of the host that it had");
	}
	assert_int_equal(sandbox_wake(find("b4"), MSG_RESTORE_NONE, on_done, &told, &e), 0);
	start_shim(&shim, &asked);
	assert_int_equal(asked.network.slot, 2);
	assert_int_equal(asked.network.ports[0].host, 8002);
	sandbox_free(find("b2"));
	assert_int_equal(d.pool.used, 2);
	sandbox_free(find("b1"));
	assert_int_equal(d.pool.used, 1);
}

/* ------------------------------------------------------------------ histories */

#define BOXES 6 /* more than there are slots */

static struct guest {
	enum { NONE, RUNNING, ENDING, HIBERNATED } is;
	char id[16];
	struct chan shim;
	struct msg_network network; /* as its shim was told */
} guests[BOXES];

static unsigned done[6];
static struct told ignored;

/* What a shim was told is nobody else's, whose slot may be alive. */
static void check(const struct guest *g)
{
	assert_true(g->network.slot >= 1 && g->network.slot <= d.pool.usable);
	for (int i = 0; i < BOXES; i++) {
		const struct guest *o = &guests[i];
		if (o == g || o->is == NONE)
			continue;
		assert_int_not_equal(o->network.slot, g->network.slot);
		assert_true(!g->network.port_count || !o->network.port_count ||
			    g->network.ports[0].host != o->network.ports[0].host);
	}
}

static void create(struct guest *g)
{
	struct msg_create asked;
	uint16_t port = (uint16_t)(rand() % 2 ? 8000 + rand() % PORTS : 0);
	if (!sandbox_create(&d, "alice", make_spec(g->id, port), false, on_done, &ignored, &e)) {
		assert_true(e.kind == ERR_QUOTA || (port && e.kind == ERR_STATE));
		return;
	}
	uint32_t id = start_shim(&g->shim, &asked);
	g->network = asked.network;
	check(g);
	if (rand() % 4 == 0) {
		/* Its shim dies on the way; until that is told it counts. */
		g->is = ENDING;
		chan_close(&g->shim);
		settle();
	} else {
		send_created(&g->shim, id);
		assert_int_equal(find(g->id)->state, STATE_RUNNING);
		g->is = RUNNING;
	}
	done[0]++;
}

static void hibernate(struct guest *g)
{
	struct msg_snapshotted said = {0};
	const struct msg_exit ended = {.cause = MSG_CAUSE_HIBERNATED, .at_real_us = 1};
	struct sandbox *sb = find(g->id);
	assert_int_equal(snapshot_hibernate(sb, on_done, &ignored, &e), 0);
	uint32_t id = expect(&g->shim, MSG_SNAPSHOT);
	said.set = (struct msg_set){.format = MSG_SET_FORMAT, .content = MSG_SET_RAM};
	name_key_make(said.set.key, "alice", g->id);
	name_key_make(said.set.parent, "alice", g->id);
	spec_to_msg(sb->spec, "alice", &said.set.spec);
	said.set.spec.wait = (struct msg_wait){0};
	assert_int_equal(chan_send_snapshotted(&g->shim, id, &said, &e), 0);
	assert_int_equal(chan_send_exit(&g->shim, 0, &ended, &e), 0);
	settle();
	send_gone(g->id, &g->shim);
	assert_int_equal(sb->state, STATE_HIBERNATED);
	g->is = HIBERNATED;
	done[1]++;
}

static void wake(struct guest *g)
{
	struct msg_create asked;
	assert_int_equal(sandbox_wake(find(g->id), MSG_RESTORE_NONE, on_done, &ignored, &e), 0);
	uint32_t id = start_shim(&g->shim, &asked);
	assert_memory_equal(&asked.network, &g->network, sizeof(asked.network));
	assert_int_equal(asked.wait.kind, MSG_WAIT_NONE);
	check(g);
	if (rand() % 4 == 0) {
		send_gone(g->id, &g->shim);
		assert_int_equal(find(g->id)->state, STATE_HIBERNATED);
	} else {
		send_created(&g->shim, id);
		g->is = RUNNING;
	}
	done[2]++;
}

/* A running one's shim is still there when this returns. */
static void destroy(struct guest *g)
{
	struct msg_remove ask;
	bool hibernated = g->is == HIBERNATED, has_dir = find(g->id)->has_dir;
	assert_int_equal(teardown_destroy(find(g->id), 0, on_done, &ignored, &e), 0);
	if (!hibernated) {
		expect(&g->shim, MSG_KILL);
		g->is = ENDING;
	} else {
		assert_true(has_dir);
		uint32_t id = expect(&spawner, MSG_REMOVE);
		assert_int_equal(msg_read_remove(&m, &ask, &e), 0);
		answer_done(&spawner, id);
		g->is = NONE;
	}
	done[3]++;
}

static void end(struct guest *g)
{
	struct msg_remove ask;
	bool has_dir = find(g->id)->has_dir;
	send_gone(g->id, &g->shim);
	if (has_dir) {
		uint32_t id = expect(&spawner, MSG_REMOVE);
		assert_int_equal(msg_read_remove(&m, &ask, &e), 0);
		answer_done(&spawner, id);
	}
	assert_null(find(g->id));
	g->is = NONE;
	done[4]++;
}

static void on_adopted(struct daemon *all)
{
	(void)all;
}

/* The supervisor ends, and the next one finds the shims by their sockets. */
static void restart(void)
{
	char path[64];
	int fds[BOXES];
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	for (int i = 0; i < BOXES; i++) {
		/* One in mid-end would only be ended anew. */
		if (guests[i].is == ENDING)
			end(&guests[i]);
		if (guests[i].is == RUNNING)
			chan_close(&guests[i].shim);
	}
	/* Its network, as the shim knows it and as the set on disk has it. */
	teardown(NULL);
	setup_network(NULL);
	/* Of who listens there only root is taken for a shim. */
	if (geteuid() != 0)
		return;
	d.host.shims_dir = unit_make_dir(path);
	for (int i = 0; i < BOXES; i++) {
		fds[i] = -1;
		if (guests[i].is != RUNNING)
			continue;
		fds[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/alice:%s.sock", path,
			 guests[i].id);
		assert_int_equal(bind(fds[i], (struct sockaddr *)&sun, sizeof(sun)), 0);
		assert_int_equal(listen(fds[i], 1), 0);
	}
	assert_int_equal(adopt_all(&d, on_adopted, &e), 0);
	for (int i = 0; i < BOXES; i++) {
		struct guest *g = &guests[i];
		struct msg_status status = {.build = "x", .phase = MSG_PHASE_RUNNING};
		if (g->is == HIBERNATED)
			add_sleeping(g->id, g->network.slot,
				     g->network.port_count ? g->network.ports[0].host : 0);
		if (g->is != RUNNING)
			continue;
		chan_open(&g->shim, accept4(fds[i], NULL, NULL, SOCK_CLOEXEC), 1 << 20);
		close(fds[i]);
		uint32_t id = expect(&g->shim, MSG_HELLO);
		fill_guest(&status.spec, "root");
		status.spec.disk_count = 0;
		status.spec.disks[0] = (struct msg_disk){0};
		status.spec.network = g->network;
		status.created = (struct msg_created){.vmm_pid = 7};
		assert_int_equal(chan_send_status(&g->shim, id, &status, &e), 0);
		settle();
		assert_int_equal(find(g->id)->state, STATE_RUNNING);
		assert_true(find(g->id)->addressed);
	}
	adopt_sleeping(&d);
	close(d.host.shims_dir);
	unit_remove_dir(path);
	done[5]++;
}

static void test_histories(void **unused)
{
	unsigned there = 0;
	(void)unused;
	srand(66);
	for (int i = 0; i < BOXES; i++) {
		guests[i] = (struct guest){.shim.fd = -1};
		snprintf(guests[i].id, sizeof(guests[i].id), "g%d", i);
	}
	for (int i = 0; i < 1500; i++) {
		struct guest *g = &guests[rand() % BOXES];
		int what = rand() % 16;
		if (what == 0)
			restart();
		else if (g->is == NONE)
			create(g);
		else if (g->is == ENDING)
			end(g);
		else if (what < 4)
			destroy(g);
		else if (g->is == HIBERNATED)
			wake(g);
		else
			hibernate(g);
	}
	for (size_t i = 0; i < sizeof(done) / sizeof(done[0]); i++)
		assert_true(done[i] > 20);
	for (int i = 0; i < BOXES; i++)
		there += guests[i].is != NONE;
	assert_int_equal(d.pool.used, there);
	for (int i = 0; i < BOXES; i++)
		if (guests[i].is == RUNNING || guests[i].is == ENDING)
			chan_close(&guests[i].shim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create_tells_address, setup_network, teardown),
		cmocka_unit_test_setup_teardown(test_not_ready, setup_network, teardown),
		cmocka_unit_test_setup_teardown(test_pool_is_used_up, setup_network, teardown),
		cmocka_unit_test_setup_teardown(test_port_is_taken, setup_network, teardown),
		cmocka_unit_test_setup_teardown(test_conflict, setup_network, teardown),
		cmocka_unit_test_setup_teardown(test_histories, setup_network, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
