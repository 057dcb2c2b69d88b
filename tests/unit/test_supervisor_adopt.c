// SPDX-License-Identifier: Apache-2.0
/* supervisor/adopt: shims found in the middle of something, by a supervisor whose loop is stepped.
 */
#include "adopt.h"
#include "daemonworld.h"

#include <sys/un.h>

static unsigned adopted;
static int listener;
static char path[64];
static struct msg_status status;

static void on_adopted(struct daemon *all)
{
	(void)all;
	adopted++;
}

static int enter(void **state)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	setup(state);
	adopted = 0;
	d.host.shims_dir = unit_make_dir(path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/alice:box.sock", path);
	assert_int_equal(bind(listener, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(listener, 1), 0);
	status = (struct msg_status){.build = "x", .phase = MSG_PHASE_RUNNING};
	fill_guest(&status.spec, "root");
	status.spec.disks[0].made = MSG_DISK_COPIED;
	status.created = (struct msg_created){
		.vmm_pid = 7,
		.vmm_version = "53.0",
		.disk_count = 1,
		.disks = {{.image = "root", .size_mib = 40, .made = MSG_DISK_COPIED}},
	};
	return 0;
}

static int leave(void **state)
{
	adopt_close(&d);
	teardown(state);
	close(listener);
	close(d.host.shims_dir);
	unit_remove_dir(path);
	return 0;
}

/* The shim of alice:box is found, up to its STATUS. Gives the HELLO's number. */
static uint32_t find(void)
{
	assert_int_equal(adopt_all(&d, on_adopted, &e), 0);
	chan_open(&shim, accept4(listener, NULL, NULL, SOCK_CLOEXEC), 1 << 20);
	return expect(&shim, MSG_HELLO);
}

static struct sandbox *say(void)
{
	uint32_t id = find();
	assert_int_equal(adopted, 0);
	assert_int_equal(chan_send_status(&shim, id, &status, &e), 0);
	settle();
	assert_int_equal(adopted, 1);
	assert_non_null(box());
	return box();
}

static uint32_t expect_take(enum msg_type op)
{
	struct msg_take take;
	uint32_t id = expect(&shim, MSG_TAKE);
	assert_int_equal(msg_read_take(&m, &take, &e), 0);
	assert_int_equal(take.op, op);
	return id;
}

static void starts(enum msg_source source)
{
	status.phase = MSG_PHASE_STARTING;
	status.op = MSG_CREATE;
	status.spec.source = source;
	if (source != MSG_SOURCE_BOOT)
		status.spec.restore = MSG_RESTORE_COPY;
	status.created = (struct msg_created){0};
}

#define NEEDS_ROOT()                                                                               \
	do {                                                                                       \
		if (geteuid() != 0)                                                                \
			skip();                                                                    \
	} while (0)

static void test_create_goes_on(void **unused)
{
	(void)unused;
	NEEDS_ROOT();
	starts(MSG_SOURCE_BOOT);
	struct sandbox *sb = say();
	assert_int_equal(sb->state, STATE_CREATING);
	assert_int_equal(sb->op, SANDBOX_OP_CREATE);
	tell_created(expect_take(MSG_CREATE), 1);
	assert_int_equal(sb->state, STATE_RUNNING);
	assert_int_equal(sb->op, SANDBOX_OP_NONE);
	assert_int_equal(sb->vmm_pid, 7);
	expect_event("\"from\":\"creating\",\"to\":\"running\"");
}

/* Whoever asked for it has heard nothing: its record tells why. */
static void test_create_fails(void **unused)
{
	struct err why;
	(void)unused;
	NEEDS_ROOT();
	starts(MSG_SOURCE_BOOT);
	struct sandbox *sb = say();
	err_set(&why, ERR_VMM, 0, "no kernel");
	assert_int_equal(chan_send_err(&shim, expect_take(MSG_CREATE), &why, &e), 0);
	settle();
	assert_int_equal(sb->state, STATE_CREATING);
	tell_gone();
	answer_done(&spawner, expect_removal());
	assert_int_equal(sb->state, STATE_FAILED);
	assert_int_equal(sb->exit->cause, MSG_CAUSE_START_FAILED);
	assert_string_equal(sb->exit->detail, "no kernel");
}

static void test_wake_fails(void **unused)
{
	struct err why;
	(void)unused;
	NEEDS_ROOT();
	starts(MSG_SOURCE_WAKE);
	struct sandbox *sb = say();
	assert_int_equal(sb->state, STATE_WAKING);
	err_set(&why, ERR_VMM, 0, "no");
	assert_int_equal(chan_send_err(&shim, expect_take(MSG_CREATE), &why, &e), 0);
	settle();
	tell_gone();
	/* Its set and its disks are those of a hibernated sandbox. */
	expect_nothing(&spawner);
	assert_int_equal(sb->state, STATE_HIBERNATED);
	assert_true(sb->has_dir);
	expect_event("\"from\":\"waking\",\"to\":\"hibernated\"");
}

static void test_operations_go_on(void **unused)
{
	static const struct {
		enum msg_type op;
		enum msg_phase phase;
		enum state now, then;
	} cases[] = {
		{MSG_PAUSE, MSG_PHASE_PAUSING, STATE_RUNNING, STATE_PAUSED},
		/* Over before anybody could hear it. */
		{MSG_PAUSE, MSG_PHASE_PAUSED, STATE_RUNNING, STATE_PAUSED},
		{MSG_RESUME, MSG_PHASE_RESUMING, STATE_PAUSED, STATE_RUNNING},
		{MSG_RESUME, MSG_PHASE_RUNNING, STATE_PAUSED, STATE_RUNNING},
		{MSG_POWER_BUTTON, MSG_PHASE_RUNNING, STATE_RUNNING, STATE_RUNNING},
		{MSG_BALLOON, MSG_PHASE_PAUSED, STATE_PAUSED, STATE_PAUSED},
		{MSG_RESIZE, MSG_PHASE_RUNNING, STATE_RUNNING, STATE_RUNNING},
	};
	NEEDS_ROOT();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		status.op = cases[i].op;
		status.phase = cases[i].phase;
		status.spec.flags = MSG_CREATE_BALLOON;
		status.spec.max_vcpus = 4;
		status.asked_balloon_mib = cases[i].op == MSG_BALLOON ? 5 : 0;
		status.asked_vcpus = cases[i].op == MSG_RESIZE ? 3 : 0;
		struct sandbox *sb = say();
		assert_int_equal(sb->state, cases[i].now);
		uint32_t id = expect_take(cases[i].op);
		assert_int_not_equal(sb->op, SANDBOX_OP_NONE);
		answer_done(&shim, id);
		assert_int_equal(sb->op, SANDBOX_OP_NONE);
		assert_int_equal(sb->state, cases[i].then);
		if (cases[i].op == MSG_BALLOON)
			assert_int_equal(sb->spec->balloon_mib, 5);
		if (cases[i].op == MSG_RESIZE)
			assert_int_equal(sb->spec->vcpus, 3);
		leave(unused);
		enter(unused);
	}
}

static void fill_set(struct msg_snapshotted *said, const char *key)
{
	said->set = (struct msg_set){.format = MSG_SET_FORMAT,
				     .content = MSG_SET_RAM,
				     .vmm_version = "53.0",
				     .allocated_bytes = 4096};
	str_copy(said->set.key, sizeof(said->set.key), key);
	str_copy(said->set.parent, sizeof(said->set.parent), "alice:box");
	said->set.spec = status.spec;
}

static void tell_exit(enum msg_cause cause)
{
	const struct msg_exit left = {
		.cause = (uint32_t)cause, .code = 0, .phase = MSG_PHASE_ENDING};
	assert_int_equal(chan_send_exit(&shim, 0, &left, &e), 0);
	settle();
}

static void test_snapshot_goes_on(void **unused)
{
	static struct msg_snapshotted said;
	(void)unused;
	NEEDS_ROOT();
	status.op = MSG_SNAPSHOT;
	status.phase = MSG_PHASE_SNAPSHOTTING;
	status.paused = 1;
	status.snapshot = (struct msg_snapshot){.kind = MSG_SNAPSHOT_TEMPLATE, .template = "t"};
	struct sandbox *sb = say();
	assert_int_equal(sb->state, STATE_SNAPSHOTTING);
	uint32_t id = expect_take(MSG_SNAPSHOT);
	assert_null(template_find(&d.templates, "alice:t"));
	/* Its name is taken, though. */
	assert_null(template_reserve(&d.templates, &alice, "alice", "t", &e));
	fill_set(&said, "alice:t");
	assert_int_equal(chan_send_snapshotted(&shim, id, &said, &e), 0);
	settle();
	assert_int_equal(sb->state, STATE_PAUSED);
	assert_non_null(template_find(&d.templates, "alice:t"));
	expect_event("\"template\":\"t\",\"action\":\"created\"");
}

static void test_hibernate_goes_on(void **unused)
{
	static struct msg_snapshotted said;
	(void)unused;
	NEEDS_ROOT();
	status.op = MSG_SNAPSHOT;
	status.phase = MSG_PHASE_ENDING;
	status.ending = MSG_ENDING_HIBERNATE;
	status.snapshot = (struct msg_snapshot){.kind = MSG_SNAPSHOT_HIBERNATE};
	struct sandbox *sb = say();
	assert_int_equal(sb->state, STATE_HIBERNATING);
	fill_set(&said, "alice:box");
	assert_int_equal(chan_send_snapshotted(&shim, expect_take(MSG_SNAPSHOT), &said, &e), 0);
	settle();
	assert_true(sb->set_safe);
	tell_exit(MSG_CAUSE_HIBERNATED);
	tell_gone();
	assert_int_equal(sb->state, STATE_HIBERNATED);
	assert_int_equal(sb->set_bytes, 4096);
}

static void test_destroy_goes_on(void **unused)
{
	(void)unused;
	NEEDS_ROOT();
	status.phase = MSG_PHASE_ENDING;
	status.ending = MSG_ENDING_DESTROY;
	status.ending_ms = 5000;
	struct sandbox *sb = say();
	assert_int_equal(sb->state, STATE_DESTROYING);
	assert_true(evtimer_pending(sb->timer, NULL));
	tell_exit(MSG_CAUSE_DESTROYED);
	expect(&shim, MSG_EXIT_ACK);
	tell_gone();
	answer_done(&spawner, expect_removal());
	assert_null(box());
	expect_event("\"from\":\"destroying\",\"to\":null");
}

/* Events of the meantime come behind STATUS, as any others. */
static void test_events_are_replayed(void **unused)
{
	const struct msg_event reboot = {.what = MSG_EVENT_REBOOT, .count = 3};
	(void)unused;
	NEEDS_ROOT();
	uint32_t id = find();
	assert_int_equal(chan_send_status(&shim, id, &status, &e), 0);
	assert_int_equal(chan_send_event(&shim, 0, &reboot, &e), 0);
	settle();
	assert_int_equal(box()->state, STATE_RUNNING);
	expect_event("\"event\":\"reboot\",\"count\":3");
}

/* What does not answer within the start's time is reported, and adopted when it does. */
static void test_late(void **unused)
{
	(void)unused;
	NEEDS_ROOT();
	uint32_t id = find();
	for (int i = 0; i < 4000 && !adopted; i++) {
		turn();
		usleep(1000);
	}
	assert_int_equal(adopted, 1);
	assert_null(box());
	assert_true(registry_is_reported(&d.registry, "alice:box"));
	expect_event("\"event\":\"reported\"");
	assert_int_equal(chan_send_status(&shim, id, &status, &e), 0);
	settle();
	assert_int_equal(box()->state, STATE_RUNNING);
	assert_false(registry_is_reported(&d.registry, "alice:box"));
	assert_int_equal(adopted, 1);
}

static void test_version(void **unused)
{
	(void)unused;
	NEEDS_ROOT();
	find();
	struct msg_header theirs = {.version = MSG_VERSION + 1, .type = MSG_ERROR, .length = 16};
	assert_int_equal(send(shim.fd, &theirs, sizeof(theirs), 0), sizeof(theirs));
	settle();
	assert_int_equal(adopted, 1);
	assert_true(registry_is_reported(&d.registry, "alice:box"));
	assert_true(d.registry.reported->version);
	/* Its end frees its name. */
	tell_gone();
	assert_false(registry_is_reported(&d.registry, "alice:box"));
}

/* One that goes while it is waited for is not there any more. */
static void test_gone(void **unused)
{
	(void)unused;
	NEEDS_ROOT();
	find();
	const struct msg_gone gone = {.key = "alice:box", .clear = 1};
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	settle();
	assert_int_equal(adopted, 1);
	assert_false(registry_is_reported(&d.registry, "alice:box"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create_goes_on, enter, leave),
		cmocka_unit_test_setup_teardown(test_create_fails, enter, leave),
		cmocka_unit_test_setup_teardown(test_wake_fails, enter, leave),
		cmocka_unit_test_setup_teardown(test_operations_go_on, enter, leave),
		cmocka_unit_test_setup_teardown(test_snapshot_goes_on, enter, leave),
		cmocka_unit_test_setup_teardown(test_hibernate_goes_on, enter, leave),
		cmocka_unit_test_setup_teardown(test_destroy_goes_on, enter, leave),
		cmocka_unit_test_setup_teardown(test_events_are_replayed, enter, leave),
		cmocka_unit_test_setup_teardown(test_late, enter, leave),
		cmocka_unit_test_setup_teardown(test_version, enter, leave),
		cmocka_unit_test_setup_teardown(test_gone, enter, leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
