// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/store and store_load: what lies on disk at each step of a sandbox's life, which
 * answers wait for it, what a disk that fails comes to, and what a start makes of it all. The
 * test's own fsync(2), renameat(2) and unlinkat(2) hold the writer up, or break what it does.
 */
#include "daemonworld.h"

#include "adopt.h"
#include "snapshot.h"
#include "store_record.h"
#include "teardown.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

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

/* Lets the loop run while the writer is held up. */
static void turns(void)
{
	for (int i = 0; i < 20; i++) {
		turn();
		usleep(500);
	}
}

/* ------------------------------------------------------------------ what lies there */

static bool lies(const char *name)
{
	return faccessat(d.host.store_dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "a b": the names of all that is there, in order. */
static void expect_store(const char *want)
{
	char all[1024] = "";
	struct dirent **list;
	int n = scandir(store_path, &list, NULL, alphasort);
	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
			snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
				 all[0] ? " " : "", list[i]->d_name);
		free(list[i]);
	}
	free(list);
	assert_string_equal(all, want);
}

/* The record that lies there; its spec is to be freed. */
static struct store_record record(const char *name)
{
	struct store_record r;
	char bytes[8192];
	int fd = openat(d.host.store_dir, name, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ssize_t n = read(fd, bytes, sizeof(bytes));
	close(fd);
	if (store_record_decode(bytes, (size_t)n, "alice:box", &r, &e) < 0)
		fail_msg("%s: %s", name, e.text);
	return r;
}

static enum state recorded(void)
{
	struct store_record r = record("alice:box.json");
	spec_free(r.spec);
	return r.state;
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

static void exits(enum msg_cause cause)
{
	const struct msg_exit ended = {.cause = cause, .at_real_us = 1, .signal = 9};
	assert_int_equal(chan_send_exit(&shim, 0, &ended, &e), 0);
	turns();
}

static void tell_console(void)
{
	static const struct msg_console_data nothing = {.eof = 1};
	uint32_t id = expect(&shim, MSG_CONSOLE_READ);
	assert_int_equal(chan_send_console_data(&shim, id, &nothing, &e), 0);
	turns();
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

/* Up to the set that is safe and the VMM that has ended; the writer may be held up. */
static void hibernates(struct told *told)
{
	struct msg_snapshotted said = {0};
	assert_int_equal(snapshot_hibernate(box(), on_done, told, &e), 0);
	uint32_t id = expect(&shim, MSG_SNAPSHOT);
	said.set = (struct msg_set){.format = MSG_SET_FORMAT,
				    .content = MSG_SET_RAM,
				    .key = "alice:box",
				    .parent = "alice:box",
				    .created_real_us = 77,
				    .allocated_bytes = 4096};
	fill_guest(&said.set.spec, "root");
	said.set.spec.disks[0].made = MSG_DISK_COPIED;
	assert_int_equal(chan_send_snapshotted(&shim, id, &said, &e), 0);
	exits(MSG_CAUSE_HIBERNATED);
	tell_console();
	expect(&shim, MSG_EXIT_ACK);
	const struct msg_gone gone = {.key = "alice:box", .clear = 1};
	chan_close(&shim);
	turns();
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	turns();
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

/* ------------------------------------------------------------------ the next supervisor */

/* The supervisor ends as by SIGKILL: with what it had not written. The next one reads. */
static void restart(const char *boot)
{
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d.registry.list));)
		teardown_forget(sb);
	chan_close(&shim);
	chan_close(&spawner);
	spawner_close(d.spawner);
	settle();
	store_close(d.store);
	const struct msg_host host = {.build = "x", .vmm_version = "53.0", .vmm_major = 53};
	d.store = store_open(&d, d.host.store_dir, &e);
	assert_non_null(d.store);
	str_copy(d.host.boot, sizeof(d.host.boot), boot);
	d.spawner = spawner_open(&d, pair_of(&spawner), 1, on_ready, &e);
	uint32_t id = expect(&spawner, MSG_HELLO);
	assert_int_equal(chan_send_host(&spawner, id, &host, &e), 0);
	settle();
	store_load_close(&d);
	assert_int_equal(store_load_open(&d, d.host.store_dir, &e), 0);
}

static void found(const char *boot)
{
	restart(boot);
	adopt_sleeping(&d);
	store_load_settle(&d);
	settle();
}

static void lost(const char *part)
{
	assert_int_equal(box()->state, STATE_CRASHED);
	assert_int_equal(box()->exit->cause, MSG_CAUSE_SHIM_LOST);
	assert_says(box()->exit->detail, part);
	expect_event("\"from\":null,\"to\":\"crashed\",\"reason\":\"shim-lost\"");
}

static void test_found_without_shim(void **unused)
{
	(void)unused;
	running()->created_real_us = 1234567;
	store_note(box());
	store_flush(d.store, 10000);
	settle();
	found("this-boot");
	lost("it is not known how");
	assert_int_equal(box()->created_real_us, 1234567);
	/* And once more: now that is what was recorded. */
	int64_t at = box()->exit->at_real_us;
	store_flush(d.store, 10000);
	found("this-boot");
	assert_int_equal(box()->exit->at_real_us, at);
	expect_event("\"to\":\"crashed\",\"reason\":\"recorded by an earlier supervisor\"");
}

static void test_found_after_host_went_down(void **unused)
{
	(void)unused;
	running();
	found("next-boot");
	lost("the host was started anew");
}

static void test_found_as_it_ended(void **unused)
{
	(void)unused;
	running();
	exits(MSG_CAUSE_GUEST_SHUTDOWN);
	settle();
	found("this-boot");
	assert_int_equal(box()->state, STATE_STOPPED);
	assert_int_equal(box()->exit->cause, MSG_CAUSE_GUEST_SHUTDOWN);
	assert_int_equal(box()->exit->signal, 9);
}

static void test_found_in_create(void **unused)
{
	struct told told = {0};
	(void)unused;
	begin(false, &told);
	settle();
	found("this-boot");
	/* Nobody was told of it: nothing of it stays. */
	assert_int_equal(box()->state, STATE_DESTROYING);
	answer_done(&spawner, expect_removal());
	assert_null(box());
	expect_store("");
	expect_event("\"to\":\"destroying\",\"reason\":\"its create never came to an end\"");
}

static void test_found_in_create_that_is_kept(void **unused)
{
	struct told told = {0};
	(void)unused;
	begin(true, &told);
	settle();
	found("this-boot");
	assert_int_equal(box()->state, STATE_FAILED);
	assert_int_equal(box()->exit->cause, MSG_CAUSE_START_FAILED);
	store_flush(d.store, 10000);
	settle();
	expect_store("alice:box.json");
}

/* The new name may not have got to the disk, so it may have run. */
static void test_found_in_create_of_another_boot(void **unused)
{
	struct told told = {0};
	(void)unused;
	begin(false, &told);
	settle();
	found("next-boot");
	lost("the host was started anew");
	store_flush(d.store, 10000);
	settle();
	expect_store("alice:box.json");
}

static void test_found_in_destroy(void **unused)
{
	struct told end = {0};
	(void)unused;
	running();
	assert_int_equal(teardown_destroy(box(), 60000, on_done, &end, &e), 0);
	settle();
	found("this-boot");
	assert_int_equal(box()->state, STATE_DESTROYING);
	answer_done(&spawner, expect_removal());
	assert_null(box());
	expect_store("");
}

static void add_set(struct template_table *table, int64_t made_us)
{
	struct msg_set set = {.format = MSG_SET_FORMAT,
			      .content = MSG_SET_RAM,
			      .key = "alice:box",
			      .parent = "alice:box",
			      .created_real_us = made_us,
			      .allocated_bytes = 4096};
	fill_guest(&set.spec, "root");
	set.spec.disks[0].made = MSG_DISK_COPIED;
	assert_int_equal(template_add(table, &set, &e), 0);
}

static void found_with_set(int64_t made_us)
{
	restart("this-boot");
	add_set(&d.sleeping, made_us);
	adopt_sleeping(&d);
	store_load_settle(&d);
	settle();
}

static void test_found_hibernated(void **unused)
{
	struct told told = {0};
	(void)unused;
	running()->spec->labels = cJSON_CreateObject();
	cJSON_AddStringToObject(box()->spec->labels, "a", "b");
	box()->created_real_us = 5;
	hibernates(&told);
	settle();
	found_with_set(77);
	assert_int_equal(box()->state, STATE_HIBERNATED);
	assert_true(spec_has_label(box()->spec, "a=b"));
	assert_int_equal(box()->created_real_us, 5);
	assert_null(box()->exit);
	/* A set that is gone cannot be woken. */
	found("this-boot");
	lost("is gone or damaged");
}

/* What its shim wrote when nobody was there, and what it was woken from, are two things. */
static void test_found_with_another_set(void **unused)
{
	(void)unused;
	running()->set_real_us = 77;
	store_note(box());
	store_flush(d.store, 10000);
	settle();
	/* Nobody saw its end, and nothing says that its older set is not what is wanted. */
	found_with_set(77);
	assert_int_equal(box()->state, STATE_HIBERNATED);
	expect_event("its older set is whole");
	box()->state = STATE_RUNNING;
	store_note(box());
	store_flush(d.store, 10000);
	settle();
	found_with_set(78);
	assert_int_equal(box()->state, STATE_HIBERNATED);
	expect_event("hibernated by an earlier supervisor");
}

/* ------------------------------------------------------------------ what else lies there */

static void put_file(const char *name, const char *text)
{
	unit_write(d.host.store_dir, name, text);
}

static void test_other_files(void **unused)
{
	(void)unused;
	running();
	settle();
	put_file("alice:bad.json", "nonsense");
	put_file("alice:new.json", "cloister-store 2 what follows is not known here\n");
	put_file(".17", "half");
	put_file(".keep", "");
	put_file("README", "not ours");
	assert_int_equal(symlinkat("alice:box.json", d.host.store_dir, "alice:link.json"), 0);
	assert_int_equal(mkdirat(d.host.store_dir, "alice:dir.json", 0700), 0);
	assert_int_equal(mkfifoat(d.host.store_dir, "alice:fifo.json", 0600), 0);
	/* Both names: the change was under way. */
	int fd = openat(d.host.store_dir, "alice:box.json", O_RDONLY | O_CLOEXEC);
	char bytes[8192] = "";
	assert_true(read(fd, bytes, sizeof(bytes) - 1) > 0);
	close(fd);
	put_file("alice:box.creating", bytes);
	found("this-boot");
	expect_store(".keep README alice:box.json alice:new.json bad");
	lost("it is not known how");
	assert_true(lies("bad/alice:bad.json.1") && lies("bad/alice:link.json.1") &&
		    lies("bad/alice:dir.json.1") && lies("bad/alice:fifo.json.1"));
	assert_int_equal(d.registry.count, 1);
	/* Its name is a later version's to give away. */
	assert_true(registry_is_reported(&d.registry, "alice:new"));
	assert_false(registry_is_reported(&d.registry, "alice:bad"));
	events_reader_since(&d.events, &reader, NULL, 0);
	expect_event("\"sandbox\":\"new\",\"tenant\":\"alice\",\"event\":\"reported\"");
	events_reader_since(&d.events, &reader, NULL, 0);
	expect_event(
		"\"sandbox\":\"bad\",\"tenant\":\"alice\",\"event\":\"reported\",\"reason\":\"its "
		"record STATE_DIR/store/alice:bad.json cannot be read: its first line is none "
		"of a record; kept as STATE_DIR/store/bad/alice:bad.json.1");
	/* The next bad one of that name does not take its place. */
	put_file("alice:bad.json", "other nonsense");
	found("this-boot");
	char *first = unit_read(d.host.store_dir, "bad/alice:bad.json.1");
	char *second = unit_read(d.host.store_dir, "bad/alice:bad.json.2");
	assert_string_equal(first, "nonsense");
	assert_string_equal(second, "other nonsense");
	free(first);
	free(second);
}

/* A shim or a set is found for it: it can be used, and its record is not touched. */
static void test_later_version_with_a_set(void **unused)
{
	struct told end = {0};
	const char *later = "cloister-store 2 what follows is not known here\n";
	(void)unused;
	put_file("alice:box.json", later);
	found_with_set(5);
	assert_int_equal(box()->state, STATE_HIBERNATED);
	store_flush(d.store, 10000);
	settle();
	char *text = unit_read(d.host.store_dir, "alice:box.json");
	assert_string_equal(text, later);
	free(text);
	assert_int_equal(teardown_destroy(box(), 0, on_done, &end, &e), 0);
	answer_done(&spawner, expect_removal());
	assert_int_equal(end.why.kind, ERR_NONE);
	expect_store("");
}

/* A shim that nobody could adopt keeps the name; when it has gone the record counts. */
static void test_reported_shim_goes(void **unused)
{
	const struct msg_gone gone = {.key = "alice:box", .clear = 1};
	(void)unused;
	running();
	restart("this-boot");
	assert_true(registry_report(&d.registry, "alice:box", &e));
	store_load_settle(&d);
	settle();
	assert_null(box());
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	settle();
	lost("it is not known how");
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
		CASE(test_found_without_shim),
		CASE(test_found_after_host_went_down),
		CASE(test_found_as_it_ended),
		CASE(test_found_in_create),
		CASE(test_found_in_create_that_is_kept),
		CASE(test_found_in_create_of_another_boot),
		CASE(test_found_in_destroy),
		CASE(test_found_hibernated),
		CASE(test_found_with_another_set),
		CASE(test_other_files),
		CASE(test_later_version_with_a_set),
		CASE(test_reported_shim_goes),
		CASE(test_flush_has_a_deadline),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
