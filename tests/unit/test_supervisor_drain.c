// SPDX-License-Identifier: Apache-2.0
/* supervisor/drain: what it counts when things happen in another order than they should. */
#include "daemonworld.h"

#include "drain.h"
#include "operate.h"
#include "snapshot.h"
#include "teardown.h"

static void refuse_snapshot(uint32_t id)
{
	struct err why;
	err_set(&why, ERR_NO_SPACE, 28, "write the set");
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
}

/* It looks again within a tenth of a second. */
static void await(enum drain_state state)
{
	for (int tries = 0; d.drain.state != state && tries < 2000; tries++) {
		usleep(1000);
		turn();
	}
	assert_int_equal(d.drain.state, state);
}

static void test_refused(void **unused)
{
	struct told told = {0};
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(drain_admit(&d, &e), 0);
	assert_int_equal(drain_start(&d, DRAIN_THEN_NOTHING, 5, 0, &e), 0);
	assert_int_equal(drain_admit(&d, &e), -1);
	assert_int_equal(e.kind, ERR_UNAVAILABLE);
	assert_int_equal(snapshot_template(sb, "t", on_done, &told, &e), -1);
	assert_int_equal(e.kind, ERR_UNAVAILABLE);
	assert_int_equal(told.count, 0);
	drain_undo(&d);
	assert_int_equal(drain_admit(&d, &e), 0);
	d.stopping = true;
	assert_int_equal(drain_admit(&d, &e), -1);
	assert_says(e.text, "stopping");
}

static void test_undone_meanwhile(void **unused)
{
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(drain_start(&d, DRAIN_THEN_HIBERNATE, 5, 0, &e), 0);
	uint32_t id = expect(&shim, MSG_SNAPSHOT);
	assert_int_equal(d.drain.busy, 1);
	assert_int_equal(drain_in_flight(&d), 1);
	drain_undo(&d);
	/* What comes of it is nobody's failure any more, nor that of the next drain. */
	assert_int_equal(drain_start(&d, DRAIN_THEN_NOTHING, 5, 0, &e), 0);
	refuse_snapshot(id);
	assert_int_equal(sb->state, STATE_RUNNING);
	await(DRAIN_DONE);
	assert_int_equal(d.drain.busy, 0);
	assert_null(d.drain.failures);
	expect_nothing(&shim);
}

static void test_failure_is_tried_again(void **unused)
{
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(drain_start(&d, DRAIN_THEN_HIBERNATE, 5, 0, &e), 0);
	refuse_snapshot(expect(&shim, MSG_SNAPSHOT));
	await(DRAIN_FAILED);
	assert_int_equal(sb->state, STATE_RUNNING);
	assert_string_equal(d.drain.failures->key, "alice:box");
	assert_says(d.drain.failures->detail, "write the set");
	assert_int_equal(d.drain.done, 0);
	/* By this drain it is not, by the next one it is. */
	expect_nothing(&shim);
	assert_int_equal(drain_start(&d, DRAIN_THEN_HIBERNATE, 5, 0, &e), 0);
	assert_null(d.drain.failures);
	expect(&shim, MSG_SNAPSHOT);
	/* The supervisor's own end answers it, too. */
	teardown_forget(sb);
	assert_int_equal(d.drain.busy, 0);
}

/* One that an operation of a client's holds is dealt with when that is over. */
static void test_waits_for_its_turn(void **unused)
{
	struct told told = {0};
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(operate_pause(sb, on_done, &told, &e), 0);
	uint32_t id = expect(&shim, MSG_PAUSE);
	assert_int_equal(drain_start(&d, DRAIN_THEN_DESTROY, 5, 0, &e), 0);
	settle();
	expect_nothing(&shim);
	assert_int_equal(d.drain.state, DRAIN_WORKING);
	answer_done(&shim, id);
	assert_int_equal(told.count, 1);
	expect(&shim, MSG_KILL);
	tell_gone();
	answer_done(&spawner, expect_removal());
	await(DRAIN_DONE);
	assert_int_equal(d.drain.done, 1);
	assert_null(box());
}

static void test_late(void **unused)
{
	struct told told = {0};
	(void)unused;
	begin(false, &told);
	assert_int_equal(drain_start(&d, DRAIN_THEN_HIBERNATE, 60, 0, &e), 0);
	settle();
	assert_int_equal(d.drain.state, DRAIN_WORKING);
	d.drain.deadline_us = 0;
	await(DRAIN_LATE);
	assert_says(d.drain.failures->detail, "still creating");
	assert_int_equal(told.count, 0);
	assert_true(drain_is_on(&d));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_refused),
		T(test_undone_meanwhile),
		T(test_failure_is_tried_again),
		T(test_waits_for_its_turn),
		T(test_late),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
