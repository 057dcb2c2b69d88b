// SPDX-License-Identifier: Apache-2.0
/* supervisor/store_load: what the next supervisor makes of what it finds on disk. */
#include "storeworld.h"

#include "adopt.h"
#include "teardown.h"

#include <sys/stat.h>

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
	d.spawner = spawner_open(&d, pair_of(&spawner), 0, on_ready, &e);
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

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
