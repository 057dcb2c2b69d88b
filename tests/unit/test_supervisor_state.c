// SPDX-License-Identifier: Apache-2.0
/* supervisor/state: the table as a whole, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "state.h"

static void expect(enum state now, enum state_event event, enum state next)
{
	struct state_step step;
	assert_true(state_step(now, event, &step));
	assert_int_equal(step.next, next);
}

static void test_life(void **unused)
{
	(void)unused;
	expect(STATE_NONE, STATE_ASK_CREATE, STATE_CREATING);
	expect(STATE_CREATING, STATE_CREATED, STATE_RUNNING);
	expect(STATE_RUNNING, STATE_ASK_PAUSE, STATE_RUNNING);
	expect(STATE_RUNNING, STATE_PAUSED_NOW, STATE_PAUSED);
	expect(STATE_PAUSED, STATE_RESUMED, STATE_RUNNING);
	expect(STATE_RUNNING, STATE_ASK_BALLOON, STATE_RUNNING);
	expect(STATE_PAUSED, STATE_ASK_BALLOON, STATE_PAUSED);
	expect(STATE_RUNNING, STATE_ASK_RESIZE, STATE_RUNNING);
	expect(STATE_PAUSED, STATE_ASK_RESIZE, STATE_PAUSED);
	expect(STATE_RUNNING, STATE_ASK_COUNTERS, STATE_RUNNING);
	expect(STATE_PAUSED, STATE_ASK_COUNTERS, STATE_PAUSED);
	expect(STATE_RUNNING, STATE_ASK_CONNECT, STATE_RUNNING);
	expect(STATE_RUNNING, STATE_GUEST_OFF, STATE_STOPPED);
	expect(STATE_RUNNING, STATE_VMM_LOST, STATE_CRASHED);
	expect(STATE_PAUSED, STATE_RESUME_LOST, STATE_FAILED);
	expect(STATE_STOPPED, STATE_ASK_RESTART, STATE_CREATING);
	expect(STATE_CRASHED, STATE_ASK_RESTART, STATE_CREATING);
	expect(STATE_FAILED, STATE_ASK_RESTART, STATE_CREATING);
	expect(STATE_CREATING, STATE_RESTART_FAILED, STATE_CRASHED);
	expect(STATE_DESTROYING, STATE_DESTROYED, STATE_NONE);
	expect(STATE_DESTROYING, STATE_DESTROY_FAILED, STATE_FAILED);
}

static void test_sets(void **unused)
{
	static const enum state writing[] = {STATE_SNAPSHOTTING, STATE_HIBERNATING};
	(void)unused;
	expect(STATE_RUNNING, STATE_ASK_SNAPSHOT, STATE_SNAPSHOTTING);
	expect(STATE_PAUSED, STATE_ASK_SNAPSHOT, STATE_SNAPSHOTTING);
	expect(STATE_RUNNING, STATE_ASK_HIBERNATE, STATE_HIBERNATING);
	expect(STATE_PAUSED, STATE_ASK_HIBERNATE, STATE_HIBERNATING);
	for (size_t i = 0; i < sizeof(writing) / sizeof(writing[0]); i++) {
		expect(writing[i], STATE_BACK_RUNNING, STATE_RUNNING);
		expect(writing[i], STATE_BACK_PAUSED, STATE_PAUSED);
		expect(writing[i], STATE_SET_SAFE, STATE_HIBERNATING);
		expect(writing[i], STATE_GUEST_OFF, STATE_STOPPED);
		expect(writing[i], STATE_VMM_LOST, STATE_CRASHED);
		expect(writing[i], STATE_RESUME_LOST, STATE_FAILED);
	}
	expect(STATE_HIBERNATING, STATE_HIBERNATED_NOW, STATE_HIBERNATED);
	expect(STATE_HIBERNATED, STATE_ASK_WAKE, STATE_WAKING);
	expect(STATE_WAKING, STATE_WOKEN, STATE_RUNNING);
	expect(STATE_WAKING, STATE_WAKE_FAILED, STATE_HIBERNATED);
	expect(STATE_WAKING, STATE_WAKE_LOST, STATE_CRASHED);
	/* What an earlier supervisor left. */
	expect(STATE_NONE, STATE_ADOPT_HIBERNATED, STATE_HIBERNATED);
	expect(STATE_NONE, STATE_ADOPT_CRASHED, STATE_CRASHED);
	expect(STATE_NONE, STATE_ADOPT_SNAPSHOTTING, STATE_SNAPSHOTTING);
	expect(STATE_NONE, STATE_ADOPT_CREATING, STATE_CREATING);
	expect(STATE_NONE, STATE_ADOPT_WAKING, STATE_WAKING);
	expect(STATE_NONE, STATE_ADOPT_HIBERNATING, STATE_HIBERNATING);
	expect(STATE_NONE, STATE_ADOPT_DESTROYING, STATE_DESTROYING);
	expect(STATE_RUNNING, STATE_SET_SAFE, STATE_HIBERNATING);
	/* A sleeping one takes neither memory nor processors. */
	assert_false(state_has_vmm(STATE_HIBERNATED));
	assert_true(state_has_vmm(STATE_HIBERNATING));
	assert_true(state_has_vmm(STATE_WAKING));
}

static void test_sets_refused(void **unused)
{
	static const enum state_event asked[] = {
		STATE_ASK_PAUSE,	 STATE_ASK_RESUME,   STATE_ASK_POWER_BUTTON,
		STATE_ASK_CONSOLE_INPUT, STATE_ASK_SNAPSHOT, STATE_ASK_HIBERNATE,
		STATE_ASK_BALLOON,	 STATE_ASK_RESIZE,   STATE_ASK_COUNTERS,
		STATE_ASK_WAKE,		 STATE_ASK_CONNECT};
	static const enum state busy[] = {STATE_SNAPSHOTTING, STATE_HIBERNATING, STATE_WAKING,
					  STATE_CREATING,     STATE_DESTROYING,	 STATE_CRASHED};
	struct state_step step;
	(void)unused;
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		for (size_t k = 0; k < sizeof(busy) / sizeof(busy[0]); k++)
			assert_false(state_step(busy[k], asked[i], &step));
	assert_false(state_step(STATE_RUNNING, STATE_ASK_WAKE, &step));
	assert_false(state_step(STATE_RUNNING, STATE_ASK_RESTART, &step));
	assert_false(state_step(STATE_HIBERNATED, STATE_ASK_RESTART, &step));
	assert_false(state_step(STATE_DESTROYING, STATE_ASK_RESTART, &step));
	assert_false(state_step(STATE_HIBERNATED, STATE_ASK_RESUME, &step));
	assert_false(state_step(STATE_HIBERNATED, STATE_ASK_SNAPSHOT, &step));
	assert_false(state_step(STATE_SNAPSHOTTING, STATE_HIBERNATED_NOW, &step));
}

static void test_destroy_works_everywhere(void **unused)
{
	(void)unused;
	static const enum state all[] = {STATE_CREATING,     STATE_RUNNING,	STATE_PAUSED,
					 STATE_SNAPSHOTTING, STATE_HIBERNATING, STATE_HIBERNATED,
					 STATE_WAKING,	     STATE_STOPPED,	STATE_CRASHED,
					 STATE_FAILED};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		expect(all[i], STATE_ASK_DESTROY, STATE_DESTROYING);
}

static void test_refused(void **unused)
{
	(void)unused;
	struct state_step step = {.next = STATE_COUNT};
	assert_false(state_step(STATE_PAUSED, STATE_ASK_PAUSE, &step));
	assert_false(state_step(STATE_PAUSED, STATE_ASK_CONNECT, &step));
	assert_false(state_step(STATE_CRASHED, STATE_ASK_RESUME, &step));
	assert_false(state_step(STATE_DESTROYING, STATE_CREATED, &step));
	assert_false(state_step(STATE_STOPPED, STATE_VMM_LOST, &step));
	assert_int_equal(step.next, STATE_COUNT);
}

static void test_names(void **unused)
{
	(void)unused;
	char text[160];
	for (int i = 0; i < STATE_NONE; i++)
		assert_int_equal(state_from_name(state_name((enum state)i)), i);
	assert_int_equal(state_from_name("none"), -1);
	assert_int_equal(state_from_name(""), -1);
	assert_string_equal(state_name((enum state)99), "unknown");
	state_allowed_text(STATE_ASK_PAUSE, text, sizeof(text));
	assert_string_equal(text, "running");
	state_allowed_text(STATE_ASK_CONSOLE_INPUT, text, sizeof(text));
	assert_string_equal(text, "running or paused");
	state_allowed_text(STATE_ASK_DESTROY, text, sizeof(text));
	assert_string_equal(text, "creating, running, paused, snapshotting, hibernating, "
				  "hibernated, waking, stopped, crashed or failed");
	state_allowed_text(STATE_ASK_DESTROY, text, 12);
	assert_string_equal(text, "creating, r");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_sets_refused),
		cmocka_unit_test(test_destroy_works_everywhere),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
