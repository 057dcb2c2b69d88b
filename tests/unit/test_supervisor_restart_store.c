// SPDX-License-Identifier: Apache-2.0
/* supervisor/restart and store_load: what the next supervisor makes of a restart policy. */
#include "restartworld.h"

#include "adopt.h"
#include "teardown.h"
#include "watcher.h"

/* The supervisor ends as by SIGKILL, once its records are written. The next one reads them. */
static void next_supervisor(const char *boot)
{
	const struct msg_host host = {.build = "x", .vmm_version = "53.0", .vmm_major = 53};
	assert_true(store_flush(d.store, 10000));
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d.registry.list));)
		teardown_forget(sb);
	chan_close(&shim);
	chan_close(&spawner);
	spawner_close(d.spawner);
	settle();
	str_copy(d.host.boot, sizeof(d.host.boot), boot);
	d.spawner = spawner_open(&d, pair_of(&spawner), 0, on_ready, &e);
	uint32_t id = expect(&spawner, MSG_HELLO);
	assert_int_equal(chan_send_host(&spawner, id, &host, &e), 0);
	settle();
	store_load_close(&d);
	assert_int_equal(store_load_open(&d, d.host.store_dir, &e), 0);
}

static void find_all(void)
{
	adopt_sleeping(&d);
	store_load_settle(&d);
	settle();
}

static void test_due_is_recorded(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 5);
	end_with(MSG_CAUSE_VMM_KILLED);
	come(sb);
	tell_created(start_shim(&shim, &asked), 1);
	end_with(MSG_CAUSE_GUEST_PANIC);
	struct sandbox_restart was = sb->restart;
	next_supervisor("this-boot");
	find_all();
	sb = box();
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_int_equal(sb->exit->cause, MSG_CAUSE_GUEST_PANIC);
	assert_int_equal(sb->spec->restart.policy, SPEC_RESTART_ON_FAILURE);
	assert_int_equal(sb->spec->restart.attempts, 5);
	assert_true(sb->restart.due);
	assert_false(sb->restart.starting);
	assert_int_equal(sb->restart.count, was.count);
	assert_int_equal(sb->restart.streak, 1);
	assert_int_equal(sb->restart.delay_ms, was.delay_ms);
	assert_int_equal(sb->restart.next_real_us, was.next_real_us);
	assert_int_equal(sb->restart.last->cause, MSG_CAUSE_VMM_KILLED);
	assert_true(evtimer_pending(sb->restart.timer, NULL));
	come(sb);
	start_shim(&shim, &asked);
	assert_int_equal(asked.flags & MSG_CREATE_KEEP_DISKS, MSG_CREATE_KEEP_DISKS);
	assert_int_equal(sb->restart.count, 2);
}

/* All that ran with a policy comes back when the host does; what had none, or was off, does not. */
static void test_host_went_down(void **unused)
{
	(void)unused;
	running_with(SPEC_RESTART_ON_FAILURE, 0);
	store_note(box());
	next_supervisor("next-boot");
	find_all();
	assert_int_equal(box()->state, STATE_CRASHED);
	assert_int_equal(box()->exit->cause, MSG_CAUSE_SHIM_LOST);
	assert_true(box()->restart.due);
	expect_event("\"restart\":{\"count\":0,\"attempts_left\":null,\"next_at\":\"");
	come(box());
	expect(&spawner, MSG_START);
}

/* The supervisor and the shim that it had started again are gone: no create that failed. */
static void test_gone_in_the_start(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 2);
	end_with(MSG_CAUSE_VMM_KILLED);
	come(sb);
	start_shim(&shim, &asked);
	assert_int_equal(sb->state, STATE_CREATING);
	next_supervisor("this-boot");
	find_all();
	expect_nothing(&spawner);
	sb = box();
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_true(sb->restart.due);
	assert_false(sb->restart.starting);
	assert_int_equal(sb->restart.count, 1);
	assert_int_equal(sb->restart.streak, 1);
	assert_int_equal(sb->restart.last->cause, MSG_CAUSE_VMM_KILLED);
	assert_true(sb->has_dir);
}

/* Begun just after its record was written: its shim is what it is. */
static void test_shim_of_one_that_is_due(void **unused)
{
	struct msg_create guest;
	(void)unused;
	running_with(SPEC_RESTART_ON_FAILURE, 3);
	end_with(MSG_CAUSE_VMM_KILLED);
	next_supervisor("this-boot");
	fill_guest(&guest, "root");
	struct sandbox *sb = sandbox_new(&d, "alice", "box", spec_from_msg(&guest, &e), &e);
	assert_non_null(sb);
	sb->shim = SANDBOX_SHIM_UP;
	store_load_match(sb);
	assert_int_equal(sb->spec->restart.attempts, 3);
	assert_false(sb->restart.due);
	assert_true(sb->restart.starting);
	assert_int_equal(sb->restart.count, 1);
	assert_int_equal(sb->restart.streak, 1);
	restart_guest_runs(sb);
	assert_false(sb->restart.starting);
}

/* Its VMM has ended, and it waits to tell so: nothing was begun, and it is due when that is told.
 */
static void test_shim_that_waits_to_tell(void **unused)
{
	struct msg_create guest;
	(void)unused;
	running_with(SPEC_RESTART_ON_FAILURE, 3);
	end_with(MSG_CAUSE_VMM_KILLED);
	next_supervisor("this-boot");
	fill_guest(&guest, "root");
	struct sandbox *sb = sandbox_new(&d, "alice", "box", spec_from_msg(&guest, &e), &e);
	assert_non_null(sb);
	sb->adopted = true;
	sb->shim = SANDBOX_SHIM_UP;
	sb->created_real_us = 1;
	store_load_match(sb);
	assert_false(sb->restart.due || sb->restart.starting);
	assert_int_equal(sb->restart.count, 0);
	sb->link = link_open(d.base, pair_of(&shim), sb->key, &watcher_link, sb, &e);
	sandbox_step(sb, STATE_ADOPT_RUNNING, "adopted", NULL);
	end_with(MSG_CAUSE_VMM_KILLED);
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_int_equal(sb->restart.count, 0);
	assert_true(evtimer_pending(sb->restart.timer, NULL));
	come(sb);
	start_shim(&shim, &guest);
	assert_int_equal(sb->restart.count, 1);
}

static void test_destroy_is_recorded(void **unused)
{
	struct told end = {0};
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_VMM_KILLED);
	assert_true(sb->restart.due);
	assert_int_equal(teardown_destroy(sb, 0, on_done, &end, &e), 0);
	next_supervisor("this-boot");
	find_all();
	assert_int_equal(box()->state, STATE_DESTROYING);
	assert_false(box()->restart.due);
	answer_done(&spawner, expect_removal());
	assert_null(box());
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_due_is_recorded),	 T(test_host_went_down),
		T(test_gone_in_the_start),	 T(test_shim_of_one_that_is_due),
		T(test_shim_that_waits_to_tell), T(test_destroy_is_recorded),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
