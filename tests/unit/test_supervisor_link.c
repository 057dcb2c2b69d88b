// SPDX-License-Identifier: Apache-2.0
/* supervisor/link: answers, deadlines, late answers, records out of turn, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "link.h"
#include "util.h"

#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;
static struct link *l;
static struct chan peer;
static struct msg got;
static unsigned records, closings, answers, failures;
static struct err last;

static void on_record(void *arg, struct msg *m)
{
	(void)arg;
	(void)m;
	records++;
}

static void on_closed(void *arg, const struct err *why)
{
	(void)arg;
	closings++;
	last = *why;
}

static void on_answer(void *arg, struct msg *m, const struct err *why)
{
	(void)arg;
	answers += m != NULL;
	failures += m == NULL;
	if (why)
		last = *why;
}

static void on_answer_free(void *arg, struct msg *m, const struct err *why)
{
	on_answer(arg, m, why);
	link_free(l);
	l = NULL;
}

static const struct link_user user = {.record = on_record, .closed = on_closed};

static int setup(void **unused)
{
	int pair[2];
	struct err e;
	(void)unused;
	records = closings = answers = failures = 0;
	base = event_base_new();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	chan_open(&peer, pair[1], 1 << 20);
	l = link_open(base, pair[0], "peer", &user, NULL, &e);
	return l ? 0 : -1;
}

static int teardown(void **unused)
{
	(void)unused;
	link_free(l);
	chan_close(&peer);
	event_base_free(base);
	return 0;
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static uint32_t ask(uint32_t ms, link_answer_fn *cb)
{
	const struct msg_pause body = {0};
	struct err e;
	assert_int_equal(link_request_pause(l, &body, MSG_DONE, ms, cb, NULL, &e), 0);
	assert_int_equal(msg_recv(peer.fd, &got, &e), MSG_GOT);
	assert_int_equal(got.header.type, MSG_PAUSE);
	return got.header.id;
}

static void answer(uint32_t id)
{
	const struct msg_done done = {.took_us = 1};
	struct err e;
	assert_int_equal(chan_send_done(&peer, id, &done, &e), 0);
}

static void test_answers_in_any_order(void **unused)
{
	(void)unused;
	uint32_t a = ask(1000, on_answer), b = ask(1000, on_answer);
	assert_int_not_equal(a, b);
	answer(b);
	answer(a);
	turn();
	assert_int_equal(answers, 2);
	assert_int_equal(closings, 0);
}

static void test_error_answer(void **unused)
{
	struct err why, e;
	(void)unused;
	uint32_t id = ask(1000, on_answer);
	err_set(&why, ERR_VMM, 0, "no");
	assert_int_equal(chan_send_err(&peer, id, &why, &e), 0);
	turn();
	assert_int_equal(failures, 1);
	assert_int_equal(last.kind, ERR_VMM);
	assert_string_equal(last.text, "no");
	assert_int_equal(closings, 0);
}

static void test_deadline_and_late_answer(void **unused)
{
	(void)unused;
	uint32_t id = ask(20, on_answer);
	event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(failures, 1);
	assert_int_equal(last.kind, ERR_DEADLINE);
	answer(id);
	turn();
	assert_int_equal(answers, 0);
	assert_int_equal(closings, 0); /* late, not out of turn */
	answer(id);
	turn();
	assert_int_equal(closings, 1); /* nobody asked twice */
	assert_int_equal(last.kind, ERR_PROTOCOL);
}

static void test_wrong_type(void **unused)
{
	const struct msg_created created = {.vmm_pid = 1};
	struct err e;
	(void)unused;
	uint32_t id = ask(1000, on_answer);
	assert_int_equal(chan_send_created(&peer, id, &created, &e), 0);
	turn();
	assert_int_equal(failures, 1);
	assert_int_equal(closings, 1);
}

static void test_garbage(void **unused)
{
	(void)unused;
	ask(1000, on_answer);
	assert_int_equal(send(peer.fd, "garbage", 7, 0), 7);
	turn();
	assert_int_equal(failures, 1);
	assert_int_equal(closings, 1);
}

static void test_end(void **unused)
{
	const struct msg_exit_ack ack = {0};
	struct err e;
	(void)unused;
	ask(1000, on_answer);
	assert_int_equal(chan_send_exit_ack(&peer, 0, &ack, &e), 0);
	chan_close(&peer);
	link_drain(l);
	assert_int_equal(records, 1);
	assert_int_equal(failures, 1);
	assert_int_equal(last.kind, ERR_UNAVAILABLE);
	assert_int_equal(closings, 1);
}

static void test_free_within_answer(void **unused)
{
	(void)unused;
	uint32_t a = ask(1000, on_answer_free);
	uint32_t b = ask(1000, on_answer);
	answer(a);
	answer(b);
	turn();
	assert_int_equal(answers, 1);
	assert_null(l);
	assert_int_equal(closings, 0);
}

static void test_forget(void **unused)
{
	(void)unused;
	uint32_t id = ask(1000, on_answer);
	link_forget(l, NULL);
	answer(id);
	turn();
	assert_int_equal(answers, 0);
	assert_int_equal(closings, 0);
}

static void test_other_version(void **unused)
{
	struct msg_header theirs = {.version = MSG_VERSION + 1, .type = MSG_DONE, .id = 7};
	struct err e;
	(void)unused;
	theirs.length = sizeof(theirs);
	assert_int_equal(send(peer.fd, &theirs, sizeof(theirs), 0), sizeof(theirs));
	turn();
	assert_int_equal(closings, 1);
	assert_int_equal(last.kind, ERR_VERSION);
	assert_int_equal(msg_recv(peer.fd, &got, &e), MSG_GOT);
	assert_int_equal(got.header.type, MSG_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline_and_late_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_type, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_within_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_version, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
