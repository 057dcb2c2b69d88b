// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/sandbox, teardown, snapshot, adopt: sandboxes with disks of their own, from create to
 * destroy. The test is the spawner and the shim at the other ends of the links.
 */
#include "daemonworld.h"

#include "adopt.h"
#include "operate.h"
#include "snapshot.h"
#include "spec_disk.h"
#include "teardown.h"

#include <sys/un.h>

#define MIB (1ull << 20)

/* ------------------------------------------------------------------ create, destroy */

static void test_life(void **unused)
{
	struct told told = {0}, end = {0};
	const struct msg_progress half = {.done_bytes = 1, .total_bytes = 2};
	const struct msg_event full = {.what = MSG_EVENT_DISK_FULL, .count = 3};
	(void)unused;
	uint32_t id = begin(false, &told);
	assert_int_equal(chan_send_progress(&shim, 0, &half, &e), 0);
	settle();
	assert_int_equal(box()->progress.total_bytes, 2);
	expect_event("\"event\":\"progress\",\"done_bytes\":1,\"total_bytes\":2");
	tell_created(id, 1);
	assert_int_equal(told.count, 1);
	assert_int_equal(box()->progress.total_bytes, 0);
	assert_int_equal(box()->spec->disks[0].made, MSG_DISK_COPIED);
	assert_int_equal(box()->timings.shim.disks_us, 5);
	assert_int_equal(chan_send_event(&shim, 0, &full, &e), 0);
	settle();
	expect_event("\"event\":\"disk-full\",\"count\":3");
	/* Its disks go with its record. */
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	expect(&shim, MSG_KILL);
	tell_gone();
	id = expect_removal();
	assert_int_equal(end.count, 0);
	answer_done(&spawner, id);
	assert_int_equal(end.count, 1);
	assert_int_equal(end.why.kind, ERR_NONE);
	assert_null(box());
}

/* A shim that dies in the middle leaves what it has made so far. */
static void test_failed_create(void **unused)
{
	struct told told = {0};
	(void)unused;
	begin(false, &told);
	tell_gone();
	uint32_t id = expect_removal();
	assert_int_equal(told.count, 0);
	answer_done(&spawner, id);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_INTERNAL);
	assert_null(box());
}

static void test_failed_create_is_kept(void **unused)
{
	struct told told = {0}, end = {0};
	struct err why;
	(void)unused;
	uint32_t id = begin(true, &told);
	err_set(&why, ERR_NO_SPACE, 28, "copy the disk");
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
	tell_gone();
	id = expect_removal();
	/* The spawner cannot: that is told, and destroy tries it again. */
	err_set(&why, ERR_INTERNAL, 5, "remove");
	assert_int_equal(chan_send_err(&spawner, id, &why, &e), 0);
	settle();
	assert_int_equal(told.why.kind, ERR_NO_SPACE);
	assert_int_equal(box()->state, STATE_FAILED);
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	answer_done(&spawner, expect_removal());
	assert_int_equal(end.count, 1);
	assert_null(box());
}

static void test_destroy_meets_failed_create(void **unused)
{
	struct told told = {0}, end = {0};
	(void)unused;
	begin(false, &told);
	tell_gone();
	uint32_t id = expect_removal();
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	/* One removal is enough for both. */
	expect_nothing(&spawner);
	answer_done(&spawner, id);
	assert_int_equal(told.count, 1);
	assert_int_equal(end.count, 1);
	assert_null(box());
}

static void test_other_disks(void **unused)
{
	struct told told = {0};
	(void)unused;
	tell_created(begin(false, &told), 0);
	assert_int_equal(msg_recv(shim.fd, &m, &e), MSG_EOF);
	tell_gone();
	answer_done(&spawner, expect_removal());
	assert_int_equal(told.why.kind, ERR_PROTOCOL);
	assert_null(box());
}

/* ------------------------------------------------------------------ sets */

static uint64_t expect_snapshot(uint32_t *id)
{
	struct msg_snapshot ask;
	*id = expect(&shim, MSG_SNAPSHOT);
	assert_int_equal(msg_read_snapshot(&m, &ask, &e), 0);
	return ask.max_bytes;
}

static void test_room_for_sets(void **unused)
{
	struct told told = {0};
	struct msg_snapshotted said = {0};
	struct err why;
	uint32_t id;
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(snapshot_template(sb, "t", on_done, &told, &e), 0);
	assert_int_equal(expect_snapshot(&id), 0);
	err_set(&why, ERR_NO_SPACE, 0, "too large");
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
	assert_int_equal(told.why.kind, ERR_NO_SPACE);
	assert_int_equal(sb->state, STATE_RUNNING);
	/* 40 MiB are its disk's. */
	alice.max_disk_mib = 50;
	assert_int_equal(snapshot_template(sb, "t", on_done, &told, &e), 0);
	assert_int_equal(expect_snapshot(&id), 10 * MIB);
	assert_int_equal(sb->making->allocated_bytes, 10 * MIB);
	said.set = (struct msg_set){.format = MSG_SET_FORMAT,
				    .content = MSG_SET_RAM,
				    .key = "alice:t",
				    .parent = "alice:box",
				    .allocated_bytes = 3 * MIB};
	fill_guest(&said.set.spec, "root");
	said.set.spec.disks[0].made = MSG_DISK_COPIED;
	said.disks_us = 9;
	assert_int_equal(chan_send_snapshotted(&shim, id, &said, &e), 0);
	settle();
	assert_int_equal(told.count, 2);
	assert_int_equal(told.why.kind, ERR_NONE);
	assert_int_equal(sb->timings.disks_us, 9);
	assert_int_equal(template_find(&d.templates, "alice:t")->allocated_bytes, 3 * MIB);
	/* Hibernation takes memory only, and nothing more than is left. */
	assert_int_equal(snapshot_hibernate(sb, on_done, &told, &e), 0);
	assert_int_equal(expect_snapshot(&id), 7 * MIB);
	assert_int_equal(sb->granted_bytes, 7 * MIB);
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
	settle();
	assert_int_equal(sb->granted_bytes, 0);
	alice.max_disk_mib = 43;
	assert_int_equal(snapshot_hibernate(sb, on_done, &told, &e), -1);
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_int_equal(snapshot_template(sb, "u", on_done, &told, &e), -1);
	assert_says(e.text, "max_disk_mib: 43 used, the limit is 43");
	alice.max_disk_mib = 0;
	sb->spec->disks[0].flags = MSG_DISK_DEVICE;
	assert_int_equal(snapshot_template(sb, "u", on_done, &told, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "disk0 is a block device (\"root\")");
	assert_null(template_find(&d.templates, "alice:u"));
}

static void test_hibernated(void **unused)
{
	struct told told = {0};
	struct msg_snapshotted said = {0};
	const struct msg_exit ended = {.cause = MSG_CAUSE_HIBERNATED, .at_real_us = 1};
	uint32_t id;
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(snapshot_hibernate(sb, on_done, &told, &e), 0);
	expect_snapshot(&id);
	said.set = (struct msg_set){.format = MSG_SET_FORMAT,
				    .content = MSG_SET_RAM,
				    .key = "alice:box",
				    .parent = "alice:box",
				    .allocated_bytes = 3 * MIB};
	fill_guest(&said.set.spec, "root");
	said.set.spec.disks[0].made = MSG_DISK_COPIED;
	assert_int_equal(chan_send_snapshotted(&shim, id, &said, &e), 0);
	assert_int_equal(chan_send_exit(&shim, 0, &ended, &e), 0);
	settle();
	tell_gone();
	assert_int_equal(told.count, 1);
	assert_int_equal(sb->state, STATE_HIBERNATED);
	assert_int_equal(sb->set_bytes, 3 * MIB);
	assert_int_equal(sb->granted_bytes, 0);
	assert_int_equal(sb->spec->disks[0].made, MSG_DISK_COPIED);
}

/* ------------------------------------------------------------------ what is left */

static void add_left(const char *key, uint32_t content)
{
	struct msg_set set = {.format = MSG_SET_FORMAT,
			      .content = content,
			      .parent = "alice:box",
			      .created_real_us = 7,
			      .allocated_bytes = 2 * MIB};
	str_copy(set.key, sizeof(set.key), key);
	fill_guest(&set.spec, "root");
	set.spec.disks[0].made = MSG_DISK_REFLINK;
	assert_int_equal(template_add(&d.left, &set, &e), 0);
}

static void test_left(void **unused)
{
	struct told end = {0};
	(void)unused;
	add_left("alice:box", MSG_SET_RAM);
	add_left("alice:other", 0);
	adopt_sleeping(&d);
	assert_true(TAILQ_EMPTY(&d.left.list));
	struct sandbox *sb = box();
	assert_int_equal(sb->state, STATE_CRASHED);
	assert_int_equal(sb->exit->cause, MSG_CAUSE_SHIM_LOST);
	/* The spawner has dropped the memory that nobody can use. */
	assert_int_equal(sb->set_bytes, 0);
	assert_int_equal(sb->spec->disks[0].made, MSG_DISK_REFLINK);
	expect_event(
		"\"to\":\"crashed\",\"reason\":\"shim-lost\",\"exit\":{\"cause\":\"shim-lost\"");
	assert_int_equal(sandbox_wake(sb, MSG_RESTORE_NONE, on_done, &end, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "no longer fits them; destroy it");
	/* One that never was hibernated is just crashed. */
	struct sandbox *other = registry_find(&d.registry, "alice:other");
	assert_int_equal(other->set_bytes, 0);
	assert_int_equal(sandbox_wake(other, MSG_RESTORE_NONE, on_done, &end, &e), -1);
	assert_says(e.text, "it is crashed, must be hibernated");
	assert_int_equal(teardown_destroy(sb, 0, on_done, &end, &e), 0);
	answer_done(&spawner, expect_removal());
	assert_int_equal(end.count, 1);
	assert_null(box());
}

/* ------------------------------------------------------------------ the supervisor's own end */

static void test_stop_meets_waiters(void **unused)
{
	struct told paused = {0}, first = {0}, second = {0};
	(void)unused;
	struct sandbox *sb = running();
	assert_int_equal(operate_pause(sb, on_done, &paused, &e), 0);
	assert_int_equal(teardown_destroy(sb, 5000, on_done, &first, &e), 0);
	assert_int_equal(teardown_destroy(sb, 5000, on_done, &second, &e), 0);
	teardown_forget(sb);
	assert_null(box());
	assert_int_equal(paused.count, 1);
	assert_int_equal(first.count, 1);
	assert_int_equal(second.count, 1);
	assert_int_equal(second.why.kind, ERR_UNAVAILABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_create_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_meets_failed_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room_for_sets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hibernated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_meets_waiters, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
