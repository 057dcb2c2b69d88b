// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/store: what lies on disk at each step of a sandbox's life, which answers wait for it,
 * and what a disk that fails comes to. The test's own fsync(2), renameat(2) and unlinkat(2) hold
 * the writer up, or break what it does.
 */
#include "storeworld.h"

#include "teardown.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* ------------------------------------------------------------------ the disk */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int fsync_error, rename_error, unlink_error, fsyncs;

int __real_fsync(int fd);
int __real_renameat(int from, const char *old, int to, const char *new);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_fsync(int fd);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_unlinkat(int dir, const char *name, int flags);

static int broken(int error)
{
	errno = error;
	return -1;
}

int __wrap_fsync(int fd)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	fsyncs++;
	return fsync_error ? broken(fsync_error) : __real_fsync(fd);
}

/* Of a record's own name: what is written aside may be renamed. */
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
	return rename_error && old[0] != '.' ? broken(rename_error)
					     : __real_renameat(from, old, to, new);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
	return unlink_error && name[0] != '.' ? broken(unlink_error)
					      : __real_unlinkat(dir, name, flags);
}

static int open_world(void **unused)
{
	fsync_error = rename_error = unlink_error = 0;
	return setup(unused);
}

/* ------------------------------------------------------------------ a life */

static void test_life(void **unused)
{
	struct told told = {0}, end = {0};
	(void)unused;
	uint32_t id = begin(false, &told);
	settle();
	expect_store("alice:box.creating");
	tell_created(id, 1);
	assert_int_equal(told.count, 1);
	expect_store("alice:box.json");
	/* What changes is written without anybody asking. */
	cJSON *labels = cJSON_CreateObject();
	cJSON_AddStringToObject(labels, "team", "x");
	box()->spec->labels = labels;
	store_note(box());
	assert_true(store_flush(d.store, 10000));
	struct store_record r = record("alice:box.json");
	assert_int_equal(r.state, STATE_RUNNING);
	assert_true(spec_has_label(r.spec, "team=x"));
	assert_int_equal(r.spec->disks[0].made, MSG_DISK_COPIED);
	spec_free(r.spec);
	assert_int_equal(teardown_destroy(box(), 3000, on_done, &end, &e), 0);
	expect(&shim, MSG_KILL);
	settle();
	r = record("alice:box.json");
	assert_int_equal(r.state, STATE_DESTROYING);
	assert_true(r.destroy_by_real_us > clock_real_us() + 1000000);
	spec_free(r.spec);
	tell_gone();
	id = expect_removal();
	/* The record goes last. */
	expect_store("alice:box.json");
	answer_done(&spawner, id);
	assert_int_equal(end.count, 1);
	expect_store("");
}

static void test_many_changes_are_one(void **unused)
{
	(void)unused;
	struct sandbox *sb = running();
	store_flush(d.store, 10000);
	settle();
	int before = fsyncs;
	for (int i = 0; i < 50; i++) {
		sb->spec->balloon_mib = 0;
		store_note(sb);
	}
	store_flush(d.store, 10000);
	settle();
	/* Nothing has changed in the end. */
	assert_int_equal(fsyncs, before);
	for (int i = 0; i < 50; i++) {
		sb->keep_failed = !(i & 1);
		store_note(sb);
	}
	sb->keep_failed = true;
	/* By the timer. */
	for (int tries = 0; fsyncs == before && tries < 5000; tries++) {
		turn();
		usleep(1000);
	}
	settle();
	assert_int_equal(fsyncs, before + 1);
	struct store_record r = record("alice:box.json");
	assert_true(r.keep_failed);
	spec_free(r.spec);
}

/* ------------------------------------------------------------------ answers wait */

static void test_create_waits(void **unused)
{
	struct told told = {0};
	struct msg_created created = {.vmm_pid = 7, .vmm_version = "53.0", .disk_count = 1};
	(void)unused;
	created.disks[0] =
		(struct msg_disk){.image = "root", .size_mib = 40, .made = MSG_DISK_COPIED};
	pthread_mutex_lock(&gate);
	uint32_t id = begin(false, &told);
	assert_int_equal(chan_send_created(&shim, id, &created, &e), 0);
	turns();
	/* The guest runs, and nothing is held up but the answer. */
	assert_int_equal(box()->state, STATE_RUNNING);
	assert_int_equal(told.count, 0);
	/* Though nothing is synced yet, whoever comes after this process knows of it. */
	bool known = false;
	for (int tries = 0; !known && tries < 5000; tries++) {
		usleep(1000);
		known = lies("alice:box.creating") || lies("alice:box.json");
	}
	assert_true(known);
	pthread_mutex_unlock(&gate);
	settle();
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_NONE);
	expect_store("alice:box.json");
}

static void test_destroy_waits(void **unused)
{
	struct told end = {0};
	(void)unused;
	running();
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	expect(&shim, MSG_KILL);
	tell_gone();
	uint32_t id = expect_removal();
	pthread_mutex_lock(&gate);
	const struct msg_done done = {0};
	assert_int_equal(chan_send_done(&spawner, id, &done, &e), 0);
	turns();
	assert_int_equal(end.count, 0);
	pthread_mutex_unlock(&gate);
	settle();
	assert_int_equal(end.count, 1);
	assert_null(box());
}

/* The shim is what knows how it ended, until the record does. */
static void test_shim_waits(void **unused)
{
	(void)unused;
	running();
	pthread_mutex_lock(&gate);
	exits(MSG_CAUSE_VMM_KILLED);
	tell_console();
	assert_int_equal(box()->state, STATE_CRASHED);
	give_no_account();
	expect_nothing(&shim);
	pthread_mutex_unlock(&gate);
	expect(&shim, MSG_EXIT_ACK);
	settle();
	assert_int_equal(recorded(), STATE_CRASHED);
}

static void test_shim_goes_unrecorded(void **unused)
{
	(void)unused;
	running();
	store_flush(d.store, 10000);
	settle();
	fsync_error = EIO;
	exits(MSG_CAUSE_VMM_KILLED);
	tell_console();
	give_no_account();
	expect(&shim, MSG_EXIT_ACK);
	settle();
	assert_int_equal(recorded(), STATE_RUNNING);
	fsync_error = 0;
	assert_true(store_flush(d.store, 10000));
	assert_int_equal(recorded(), STATE_CRASHED);
}

static void test_hibernate_waits(void **unused)
{
	struct told told = {0};
	(void)unused;
	running();
	store_flush(d.store, 10000);
	pthread_mutex_lock(&gate);
	hibernates(&told);
	assert_int_equal(told.count, 0);
	assert_int_equal(box()->state, STATE_HIBERNATING);
	pthread_mutex_unlock(&gate);
	settle();
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_NONE);
	assert_int_equal(box()->state, STATE_HIBERNATED);
	struct store_record r = record("alice:box.json");
	assert_int_equal(r.state, STATE_HIBERNATED);
	assert_int_equal(r.set_real_us, 77);
	assert_int_equal(r.set_bytes, 4096);
	assert_false(r.has_exit);
	spec_free(r.spec);
}

static void test_hibernate_unrecorded(void **unused)
{
	struct told told = {0};
	(void)unused;
	running();
	settle();
	fsync_error = ENOSPC;
	hibernates(&told);
	settle();
	/* It is what it is, and its client knows what it cannot rely on. */
	assert_int_equal(box()->state, STATE_HIBERNATED);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.kind, ERR_NO_SPACE);
	assert_says(told.why.text, "its set is safe, but that is not recorded yet");
	fsync_error = 0;
	assert_true(store_flush(d.store, 10000));
	assert_int_equal(recorded(), STATE_HIBERNATED);
}

/* ------------------------------------------------------------------ a create without a record */

static void expect_all_gone(struct told *told, enum err_kind kind)
{
	answer_done(&spawner, expect_removal());
	assert_int_equal(told->count, 1);
	assert_int_equal(told->why.kind, kind);
	assert_null(box());
	expect_store("");
}

static void test_create_unrecorded(void **unused)
{
	struct told told = {0};
	(void)unused;
	pthread_mutex_lock(&gate);
	fsync_error = ENOSPC;
	begin(false, &told);
	pthread_mutex_unlock(&gate);
	uint32_t id = expect(&spawner, MSG_END);
	fsync_error = 0;
	chan_close(&shim);
	answer_done(&spawner, id);
	expect_all_gone(&told, ERR_NO_SPACE);
	assert_says(told.why.text, "sync the record of alice:box");
}

/* Its guest was running already. */
static void test_create_uncommitted(void **unused)
{
	struct told told = {0};
	(void)unused;
	uint32_t id = begin(false, &told);
	settle();
	rename_error = EROFS;
	tell_created(id, 1);
	assert_int_equal(told.count, 0);
	assert_int_equal(box()->state, STATE_DESTROYING);
	rename_error = 0;
	expect(&shim, MSG_KILL);
	tell_gone();
	expect_all_gone(&told, ERR_INTERNAL);
}

/* START was not even answered. */
static void test_create_unrecorded_early(void **unused)
{
	struct told told = {0};
	struct msg_create guest;
	const struct msg_started started = {.pid = 1};
	(void)unused;
	fsync_error = EIO;
	fill_guest(&guest, "root");
	struct spec *spec = spec_from_msg(&guest, &e);
	spec->id = strdup("box");
	assert_non_null(sandbox_create(&d, "alice", spec, false, on_done, &told, &e));
	uint32_t id = expect(&spawner, MSG_START);
	settle();
	fsync_error = 0;
	int fd = pair_of(&shim);
	assert_true(chan_send(&spawner, MSG_STARTED, id, &started, sizeof(started), fd, &e) == 0);
	close(fd);
	answer_done(&spawner, expect(&spawner, MSG_END));
	expect_all_gone(&told, ERR_INTERNAL);
}

static void test_destroy_leaves_record(void **unused)
{
	struct told end = {0};
	(void)unused;
	running();
	unlink_error = EROFS;
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	expect(&shim, MSG_KILL);
	tell_gone();
	answer_done(&spawner, expect_removal());
	assert_int_equal(end.count, 1);
	assert_int_equal(end.why.kind, ERR_INTERNAL);
	assert_says(end.why.text, "remove the record of alice:box: EROFS");
	assert_int_equal(box()->state, STATE_FAILED);
	unlink_error = 0;
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	settle();
	assert_int_equal(end.count, 2);
	assert_int_equal(end.why.kind, ERR_NONE);
	assert_null(box());
	expect_store("");
}

/* ------------------------------------------------------------------ the end of the process */

static void test_flush_has_a_deadline(void **unused)
{
	(void)unused;
	running();
	settle();
	pthread_mutex_lock(&gate);
	box()->keep_failed = true;
	store_note(box());
	assert_false(store_flush(d.store, 30));
	pthread_mutex_unlock(&gate);
	assert_true(store_flush(d.store, 10000));
	fsync_error = EIO;
	box()->keep_failed = false;
	store_note(box());
	assert_false(store_flush(d.store, 10000));
	settle();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, open_world, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_life),
		CASE(test_many_changes_are_one),
		CASE(test_create_waits),
		CASE(test_destroy_waits),
		CASE(test_shim_waits),
		CASE(test_shim_goes_unrecorded),
		CASE(test_hibernate_waits),
		CASE(test_hibernate_unrecorded),
		CASE(test_create_unrecorded),
		CASE(test_create_uncommitted),
		CASE(test_create_unrecorded_early),
		CASE(test_destroy_leaves_record),
		CASE(test_flush_has_a_deadline),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
