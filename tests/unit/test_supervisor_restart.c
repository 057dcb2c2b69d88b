// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/restart: the rules of a restart policy, and one sandbox that is started again. The
 * test is the spawner and the shims at the other ends of the links.
 */
#include "restartworld.h"

#include "drain.h"
#include "quota.h"
#include "spec_disk.h"
#include "teardown.h"

/* ------------------------------------------------------------------ rules */

static void test_causes(void **unused)
{
	static const enum msg_cause failures[] = {
		MSG_CAUSE_GUEST_PANIC, MSG_CAUSE_GUEST_REBOOT_LOOP, MSG_CAUSE_VMM_ERROR,
		MSG_CAUSE_VMM_KILLED,  MSG_CAUSE_OUT_OF_MEMORY,	    MSG_CAUSE_SECCOMP,
		MSG_CAUSE_SHIM_LOST,   MSG_CAUSE_START_FAILED};
	static const enum msg_cause wanted[] = {MSG_CAUSE_NONE, MSG_CAUSE_DESTROYED,
						MSG_CAUSE_HIBERNATED, MSG_CAUSE_COUNT};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		assert_false(restart_is_wanted(SPEC_RESTART_NEVER, failures[i]));
		assert_true(restart_is_wanted(SPEC_RESTART_ON_FAILURE, failures[i]));
		assert_true(restart_is_wanted(SPEC_RESTART_ALWAYS, failures[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		for (unsigned p = 0; p < SPEC_RESTART_COUNT; p++)
			assert_false(restart_is_wanted((enum spec_restart)p, wanted[i]));
	assert_false(restart_is_wanted(SPEC_RESTART_NEVER, MSG_CAUSE_GUEST_SHUTDOWN));
	assert_false(restart_is_wanted(SPEC_RESTART_ON_FAILURE, MSG_CAUSE_GUEST_SHUTDOWN));
	assert_true(restart_is_wanted(SPEC_RESTART_ALWAYS, MSG_CAUSE_GUEST_SHUTDOWN));
}

static void test_delays(void **unused)
{
	static const uint32_t want[] = {300, 600, 1200, 2400, 4800, 5000, 5000};
	const struct spec_restart_rule rule = {.backoff_ms = 300, .backoff_max_ms = 5000};
	const struct spec_restart_rule day = {.backoff_ms = 100, .backoff_max_ms = 86400000};
	(void)unused;
	for (uint32_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(restart_delay_ms(&rule, i), want[i]);
	assert_int_equal(restart_delay_ms(&rule, UINT32_MAX), 5000);
	assert_int_equal(restart_delay_ms(&day, UINT32_MAX), 86400000);
	/* A minute at least, and ten times the delay. */
	assert_false(restart_ran_well(59999999, 0));
	assert_true(restart_ran_well(60000000, 0));
	assert_true(restart_ran_well(60000000, 6000));
	assert_false(restart_ran_well(60000000, 6001));
	assert_true(restart_ran_well(864000000000, 86400000));
}

/* ------------------------------------------------------------------ one sandbox */

static void fail_start(uint32_t id)
{
	struct err why;
	err_set(&why, ERR_VMM, 0, "no luck");
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
	tell_gone();
}

static void destroy_it(bool has_disks)
{
	struct told end = {0};
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	if (has_disks)
		answer_done(&spawner, expect_removal());
	assert_int_equal(end.count, 1);
	assert_null(box());
}

static void test_boot_again(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 0);
	int64_t created = sb->created_real_us;
	/* What it was resized to, and what its balloon had, is of that guest. */
	sb->spec->vcpus = 3;
	sb->spec->max_vcpus = 4;
	sb->spec->plugged_mib = 128;
	sb->spec->hotplug = true;
	sb->spec->balloon = true;
	sb->spec->balloon_mib = 1;
	end_with(MSG_CAUSE_GUEST_PANIC);
	assert_int_equal(sb->state, STATE_CRASHED);
	expect_event("\"reason\":\"guest-panic\"");
	come(sb);
	uint32_t id = start_shim(&shim, &asked);
	expect_event("\"from\":\"crashed\",\"to\":\"creating\",\"reason\":\"restart 1\"");
	/* It boots on the disk that it has. */
	assert_int_equal(asked.source, MSG_SOURCE_BOOT);
	assert_int_equal(asked.flags & MSG_CREATE_KEEP_DISKS, MSG_CREATE_KEEP_DISKS);
	assert_int_equal(asked.vcpus, 1);
	assert_int_equal(asked.max_vcpus, 4);
	assert_int_equal(asked.plugged_mib, 0);
	assert_int_equal(asked.balloon_mib, 0);
	assert_null(sb->exit);
	tell_created(id, 1);
	assert_ptr_equal(box(), sb);
	assert_int_equal(sb->state, STATE_RUNNING);
	assert_int_equal(sb->op, SANDBOX_OP_NONE);
	assert_int_equal(sb->restart.count, 1);
	assert_int_equal(sb->restart.last->cause, MSG_CAUSE_GUEST_PANIC);
	assert_int_equal(sb->created_real_us, created);
	/* And the next one waits longer. */
	end_with(MSG_CAUSE_VMM_KILLED);
	assert_int_equal(sb->restart.delay_ms, 2000000);
	come(sb);
	expect(&spawner, MSG_START);
	assert_int_equal(sb->restart.count, 2);
	assert_int_equal(sb->restart.streak, 2);
}

/* It ran for long: what went wrong before does not count. */
static void test_ran_well(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 2);
	for (int i = 0; i < 2; i++) {
		end_with(MSG_CAUSE_GUEST_SHUTDOWN);
		come(sb);
		tell_created(start_shim(&shim, &asked), 1);
	}
	assert_int_equal(sb->restart.streak, 2);
	sb->restart.running_us -= 20000000000; /* ten times the 2000 s that it waited last */
	end_with(MSG_CAUSE_GUEST_SHUTDOWN);
	assert_int_equal(sb->restart.delay_ms, 1000000);
	come(sb);
	tell_created(start_shim(&shim, &asked), 1);
	assert_int_equal(sb->restart.count, 3);
	assert_int_equal(sb->restart.streak, 1);
}

static void test_not_wanted(void **unused)
{
	static const struct {
		enum spec_restart policy;
		enum msg_cause cause;
		enum state state;
	} cases[] = {
		{SPEC_RESTART_NEVER, MSG_CAUSE_GUEST_PANIC, STATE_CRASHED},
		{SPEC_RESTART_ON_FAILURE, MSG_CAUSE_GUEST_SHUTDOWN, STATE_STOPPED},
		{SPEC_RESTART_ALWAYS, MSG_CAUSE_DESTROYED, STATE_STOPPED},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sandbox *sb = running_with(cases[i].policy, 0);
		end_with(cases[i].cause);
		settle();
		expect_nothing(&spawner);
		assert_int_equal(sb->state, cases[i].state);
		assert_false(sb->restart.due);
		destroy_it(true);
	}
}

/* A start that fails is a try like any other; when there are no more it stays as it is. */
static void test_attempts_run_out(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 2);
	end_with(MSG_CAUSE_VMM_ERROR);
	come(sb);
	fail_start(start_shim(&shim, &asked));
	expect_event("\"cause\":\"start-failed\"");
	assert_int_equal(asked.flags & MSG_CREATE_KEEP_DISKS, MSG_CREATE_KEEP_DISKS);
	/* Its disk is not removed: START is the next that the spawner hears. */
	come(sb);
	fail_start(start_shim(&shim, &asked));
	expect_event("\"attempts_left\":0,\"next_at\":null");
	settle();
	expect_nothing(&spawner);
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_int_equal(sb->exit->cause, MSG_CAUSE_START_FAILED);
	assert_int_equal(sb->restart.count, 2);
	assert_int_equal(sb->op, SANDBOX_OP_NONE);
	destroy_it(true);
}

static void test_destroy_cancels(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_SECCOMP);
	assert_true(sb->restart.due);
	destroy_it(true);
	settle();
	expect_nothing(&spawner);
}

static void test_destroy_in_the_start(void **unused)
{
	struct msg_create asked;
	struct told end = {0};
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_SECCOMP);
	come(sb);
	start_shim(&shim, &asked);
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	expect(&shim, MSG_KILL);
	tell_gone();
	answer_done(&spawner, expect_removal());
	assert_int_equal(end.count, 1);
	assert_null(box());
}

/* Its shim goes without a word, and what it left cannot be cleared up at first. */
static void test_leftover(void **unused)
{
	struct msg_gone gone = {.key = "alice:box", .clear = 0, .detail = "a cgroup"};
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 0);
	chan_close(&shim);
	settle();
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	settle();
	assert_int_equal(sb->exit->cause, MSG_CAUSE_SHIM_LOST);
	come(sb);
	/* That is tried first. */
	uint32_t id = expect(&spawner, MSG_END);
	gone.clear = 1;
	memset(gone.detail, 0, sizeof(gone.detail));
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	answer_done(&spawner, id);
	assert_int_equal(sb->restart.streak, 1);
	come(sb);
	tell_created(start_shim(&shim, &asked), 1);
	assert_int_equal(sb->state, STATE_RUNNING);
	assert_int_equal(sb->restart.count, 1);
}

static void test_quota_is_held(void **unused)
{
	struct msg_create guest;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	alice.max_vcpus = 1;
	fill_guest(&guest, "root");
	struct spec *other = spec_from_msg(&guest, &e);
	end_with(MSG_CAUSE_GUEST_PANIC);
	assert_int_equal(quota_check(&d, &alice, other, &e), -1);
	assert_says(e.text, "max_vcpus");
	restart_cancel(sb);
	assert_int_equal(quota_check(&d, &alice, other, &e), 0);
	spec_free(other);
}

/* It had one, but an earlier cloisterd's; the configuration has changed since. */
static void test_address_is_gone(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 1);
	end_with(MSG_CAUSE_GUEST_PANIC);
	sb->spec->networked = true;
	come(sb);
	settle();
	expect_nothing(&spawner);
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_says(sb->exit->detail, "restart: its address");
	destroy_it(true);
}

/* ------------------------------------------------------------------ from a template */

static struct template *have_template(void)
{
	struct template *t = template_reserve(&d.templates, &alice, "alice", "golden", &e);
	assert_non_null(t);
	struct msg_set set = {.format = MSG_SET_FORMAT,
			      .content = MSG_SET_RAM,
			      .key = "alice:golden",
			      .parent = "alice:box"};
	fill_guest(&set.spec, "root");
	set.spec.disks[0].made = MSG_DISK_COPIED;
	assert_int_equal(template_fill(t, &set, &e), 0);
	return t;
}

static struct sandbox *running_from_template(void)
{
	struct sandbox *sb = running_with(SPEC_RESTART_ON_FAILURE, 3);
	sb->spec->template = strdup("golden");
	sb->spec->first.restore = MSG_RESTORE_MAP;
	/* As if it had hibernated since. */
	sb->spec->source = MSG_SOURCE_WAKE;
	sb->spec->restore = MSG_RESTORE_COPY;
	return sb;
}

/* Memory and disks of the template agree: the disks that it has go before the start. */
static void test_template_again(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct template *t = have_template();
	struct sandbox *sb = running_from_template();
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	uint32_t id = expect_removal();
	assert_int_equal(sb->state, STATE_CREATING);
	answer_done(&spawner, id);
	id = start_shim(&shim, &asked);
	assert_int_equal(t->users, 1);
	assert_int_equal(asked.source, MSG_SOURCE_TEMPLATE);
	assert_string_equal(asked.template, "alice:golden");
	assert_int_equal(asked.restore, MSG_RESTORE_MAP);
	assert_int_equal(asked.flags & MSG_CREATE_KEEP_DISKS, 0);
	assert_true(sb->has_dir);
	tell_created(id, 1);
	assert_int_equal(t->users, 0);
	assert_int_equal(sb->state, STATE_RUNNING);
}

static void test_template_is_gone(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_from_template();
	sb->spec->restart.attempts = 1;
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	settle();
	/* Nothing is removed for a start that cannot be. */
	expect_nothing(&spawner);
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_int_equal(sb->exit->cause, MSG_CAUSE_START_FAILED);
	assert_says(sb->exit->detail, "template \"golden\"");
	assert_true(sb->has_dir);
	destroy_it(true);
}

static void test_destroy_meets_the_removal(void **unused)
{
	struct told end = {0};
	(void)unused;
	have_template();
	struct sandbox *sb = running_from_template();
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	uint32_t id = expect_removal();
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	expect_nothing(&spawner);
	answer_done(&spawner, id);
	assert_int_equal(end.count, 1);
	assert_null(box());
	expect_nothing(&spawner);
}

static void test_removal_fails(void **unused)
{
	struct err why;
	(void)unused;
	have_template();
	struct sandbox *sb = running_from_template();
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	err_set(&why, ERR_INTERNAL, 5, "stuck");
	uint32_t id = expect_removal();
	assert_int_equal(chan_send_err(&spawner, id, &why, &e), 0);
	settle();
	expect_event("\"cause\":\"start-failed\"");
	assert_says(sb->restart.due ? sb->exit->detail : "", "remove its old disks");
	/* The next try begins with it. */
	come(sb);
	answer_done(&spawner, expect_removal());
	expect(&spawner, MSG_START);
}

/* ------------------------------------------------------------------ drain */

static void test_drain_holds_it_back(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	assert_int_equal(drain_start(&d, DRAIN_THEN_NOTHING, 5, 0, &e), 0);
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	settle();
	expect_nothing(&spawner);
	assert_true(sb->restart.due);
	assert_int_equal(d.drain.state, DRAIN_DONE);
	drain_undo(&d);
	expect(&spawner, MSG_START);
}

/* Four more, which are being started again. */
static struct sandbox *others[4];

static void start_others(void)
{
	struct msg_create guest;
	struct told told = {0};
	fill_guest(&guest, "root");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		char id[] = "other0";
		id[5] = (char)('0' + i);
		struct spec *spec = spec_from_msg(&guest, &e);
		assert_non_null(spec);
		spec->id = strdup(id);
		others[i] = sandbox_create(&d, "alice", spec, true, NULL, &told, &e);
		assert_non_null(others[i]);
		expect(&spawner, MSG_START);
		others[i]->restart.starting = true;
	}
}

/* Four at once, and the others in turn as these have ended, however they did. */
static void test_not_all_at_once(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_GUEST_PANIC);
	start_others();
	come(sb);
	settle();
	expect_nothing(&spawner);
	assert_true(sb->restart.due && sb->restart.waiting);
	restart_guest_runs(others[2]);
	expect(&spawner, MSG_START);
	assert_false(sb->restart.due || sb->restart.waiting);
	assert_true(sb->restart.starting);
}

static void test_turn_after_one_that_is_freed(void **unused)
{
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_GUEST_PANIC);
	start_others();
	come(sb);
	settle();
	expect_nothing(&spawner);
	sandbox_free(others[0]);
	expect(&spawner, MSG_START);
}

/* A start that is under way when its supervisor ends is of a guest that had disks. */
static void test_supervisor_ends_meanwhile(void **unused)
{
	struct msg_create asked;
	(void)unused;
	struct sandbox *sb = running_with(SPEC_RESTART_ALWAYS, 0);
	end_with(MSG_CAUSE_GUEST_PANIC);
	come(sb);
	start_shim(&shim, &asked);
	/* The end of the supervisor is no end of the start: nothing is removed then. */
	teardown_part(sb);
	assert_int_equal(sb->op, SANDBOX_OP_NONE);
	tell_gone();
	expect_nothing(&spawner);
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_true(sb->has_dir);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_delays),
		T(test_boot_again),
		T(test_ran_well),
		T(test_not_wanted),
		T(test_attempts_run_out),
		T(test_destroy_cancels),
		T(test_destroy_in_the_start),
		T(test_leftover),
		T(test_quota_is_held),
		T(test_address_is_gone),
		T(test_template_again),
		T(test_template_is_gone),
		T(test_destroy_meets_the_removal),
		T(test_removal_fails),
		T(test_drain_holds_it_back),
		T(test_not_all_at_once),
		T(test_turn_after_one_that_is_freed),
		T(test_supervisor_ends_meanwhile),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
