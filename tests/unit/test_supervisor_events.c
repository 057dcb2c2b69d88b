// SPDX-License-Identifier: Apache-2.0
/* supervisor/events: numbering, replay, gaps, tenants, and what listeners hear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "events.h"

static struct events ev;

static int setup(void **unused)
{
	struct err e;
	(void)unused;
	return events_open(&ev, 16, &e);
}

static int teardown(void **unused)
{
	(void)unused;
	events_close(&ev);
	return 0;
}

static void emit(unsigned count, const char *tenant)
{
	for (unsigned i = 0; i < count; i++)
		events_emit(&ev, "sb", tenant, "state", NULL);
}

static uint64_t seq_of(const char *line)
{
	unsigned long long seq;
	assert_non_null(line);
	assert_int_equal(sscanf(line, "{\"seq\":%llu,", &seq), 1);
	assert_int_equal(line[strlen(line) - 1], '\n');
	return seq;
}

static void test_new_only(void **unused)
{
	struct events_reader r;
	(void)unused;
	emit(3, "acme");
	events_reader_new(&ev, &r, NULL);
	assert_null(events_read(&ev, &r));
	emit(1, "acme");
	assert_int_equal(seq_of(events_read(&ev, &r)), 4);
	assert_null(events_read(&ev, &r));
}

static void test_replay(void **unused)
{
	struct events_reader r;
	(void)unused;
	emit(5, "acme");
	events_reader_since(&ev, &r, NULL, 2);
	for (uint64_t seq = 3; seq <= 5; seq++)
		assert_int_equal(seq_of(events_read(&ev, &r)), seq);
	assert_null(events_read(&ev, &r));
	events_reader_since(&ev, &r, NULL, 5);
	assert_null(events_read(&ev, &r));
}

static void test_gap(void **unused)
{
	struct events_reader r;
	(void)unused;
	emit(40, "acme");
	events_reader_since(&ev, &r, NULL, 3);
	assert_string_equal(events_read(&ev, &r), "{\"event\":\"gap\",\"from\":4,\"to\":24}\n");
	for (uint64_t seq = 25; seq <= 40; seq++)
		assert_int_equal(seq_of(events_read(&ev, &r)), seq);
	/* Falling behind while reading. */
	emit(20, "acme");
	assert_string_equal(events_read(&ev, &r), "{\"event\":\"gap\",\"from\":41,\"to\":44}\n");
	assert_int_equal(seq_of(events_read(&ev, &r)), 45);
}

static void test_numbers_began_anew(void **unused)
{
	struct events_reader r;
	(void)unused;
	emit(2, "acme");
	events_reader_since(&ev, &r, NULL, 900);
	assert_string_equal(events_read(&ev, &r), "{\"event\":\"gap\",\"from\":901,\"to\":0}\n");
	assert_int_equal(seq_of(events_read(&ev, &r)), 1);
	assert_int_equal(seq_of(events_read(&ev, &r)), 2);
	assert_null(events_read(&ev, &r));
}

static void test_tenants(void **unused)
{
	struct events_reader r;
	(void)unused;
	emit(2, "acme");
	emit(1, "beta");
	emit(1, "acme");
	events_reader_since(&ev, &r, "beta", 0);
	const char *line = events_read(&ev, &r);
	assert_int_equal(seq_of(line), 3);
	assert_non_null(strstr(line, "\"tenant\":\"beta\""));
	assert_null(events_read(&ev, &r));
}

static void test_members(void **unused)
{
	struct events_reader r;
	(void)unused;
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "to", "running");
	events_reader_new(&ev, &r, NULL);
	events_emit(&ev, "a", "acme", "state", more);
	const char *line = events_read(&ev, &r);
	assert_non_null(strstr(line, "\"sandbox\":\"a\",\"tenant\":\"acme\",\"event\":\"state\","
				     "\"to\":\"running\"}\n"));
}

static void count(void *arg)
{
	++*(int *)arg;
}

static void test_listeners(void **unused)
{
	int heard[2] = {0};
	struct events_listener a = {.fn = count, .arg = &heard[0]};
	struct events_listener b = {.fn = count, .arg = &heard[1]};
	(void)unused;
	events_listen(&ev, &a);
	events_listen(&ev, &b);
	emit(1, "acme");
	events_unlisten(&ev, &a);
	events_unlisten(&ev, &a);
	emit(1, "acme");
	assert_int_equal(heard[0], 1);
	assert_int_equal(heard[1], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_numbers_began_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tenants, setup, teardown),
		cmocka_unit_test_setup_teardown(test_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listeners, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
