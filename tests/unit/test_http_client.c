// SPDX-License-Identifier: Apache-2.0
/* shim/http_client against a peer that answers in every shape that a taken-over VMM could. */
#include "unit.h"

#include "http_client.h"
#include "util.h"

#include <sys/socket.h>

#define OK_1  "HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\none"
#define OK_2  "HTTP/1.1 204 \r\n\r\n"
#define LATER INT64_MAX

/* What one request came to. */
struct outcome {
	unsigned calls, failures;
	int status;
	bool late;
	size_t length;
	char body[64];
	struct err e;
};

static struct http_client c;
static struct outcome first, second, other;
static struct outcome *order[16];
static unsigned order_count, open_before;
static int peer;

static void note(struct outcome *o, void *arg, const struct http_response *answer, bool late,
		 const struct err *e)
{
	assert_ptr_equal(arg, &c);
	assert_true((answer == NULL) == (e != NULL));
	assert_true(order_count < ARRAY_SIZE(order));
	order[order_count++] = o;
	o->calls++;
	o->late = late;
	if (!answer) {
		o->failures++;
		o->e = *e;
		return;
	}
	o->status = answer->status;
	o->length = answer->body_length;
	snprintf(o->body, sizeof(o->body), "%.*s", (int)answer->body_length, answer->body);
}

static void on_first(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	note(&first, arg, answer, late, e);
}
static void on_second(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	note(&second, arg, answer, late, e);
}
static void on_other(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	note(&other, arg, answer, late, e);
}

static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	open_before = unit_open_fds();
	first = second = other = (struct outcome){0};
	order_count = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	http_client_open(&c, pair[0], &c);
	peer = pair[1];
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	http_client_close(&c);
	http_client_close(&c);
	fd_close(&peer);
	return unit_open_fds() == open_before ? 0 : -1;
}

static void ask(const char *what, http_client_done_fn *done)
{
	struct err e;
	assert_int_equal(http_client_send(&c, "GET", "/x", NULL, what, LATER, done, &e), 0);
}

static void ask_two(void)
{
	ask("vm.one", on_first);
	ask("vm.two", on_second);
}

static void say(const char *bytes, size_t n)
{
	assert_int_equal(send(peer, bytes, n, MSG_NOSIGNAL), n);
}

static void answer(const char *text)
{
	say(text, strlen(text));
	http_client_receive(&c);
}

static void expect_broken(struct outcome *o, const char *what, const char *says)
{
	assert_true(c.broken);
	assert_int_equal(c.fd, -1);
	assert_int_equal(c.count, 0);
	assert_int_equal(o->calls, 1);
	assert_int_equal(o->failures, 1);
	assert_int_equal(o->e.kind, ERR_VMM);
	assert_says(o->e.text, what);
	assert_says(o->e.text, says);
	/* It stays broken: nothing is sent, nothing waits. */
	struct err e;
	assert_int_equal(http_client_send(&c, "GET", "/x", NULL, "vm.z", LATER, on_other, &e), -1);
	assert_says(e.text, "vm.z");
	assert_false(http_client_wants_write(&c));
	http_client_receive(&c);
	http_client_flush(&c);
	http_client_expire(&c, INT64_MAX);
	assert_int_equal(other.calls, 0);
	assert_int_equal(o->calls, 1);
	assert_true(http_client_next_deadline(&c) == INT64_MAX);
}

static void test_request_bytes(void **unused)
{
	char got[512];
	struct err e;
	(void)unused;
	assert_int_equal(http_client_send(&c, "PUT", "/api/v1/vm.create", "{\"a\":1}", "vm.create",
					  LATER, on_first, &e),
			 0);
	ask("vm.ping", on_second);
	ssize_t n = recv(peer, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\n"
				 "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
				 "{\"a\":1}"
				 "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
	assert_false(http_client_wants_write(&c));
	http_client_flush(&c);
	http_client_flush(&c);
	assert_false(c.broken);
}

static void test_pipelined(void **unused)
{
	(void)unused;
	ask_two();
	http_client_receive(&c);
	assert_int_equal(order_count, 0);
	answer(OK_1 OK_2);
	assert_int_equal(order_count, 2);
	assert_ptr_equal(order[0], &first);
	assert_int_equal(first.status, 200);
	assert_string_equal(first.body, "one");
	assert_int_equal(second.status, 204);
	assert_int_equal(second.length, 0);
	assert_false(first.late || c.broken);
	ask("vm.three", on_other);
	answer(OK_1);
	assert_int_equal(other.status, 200);
	assert_int_equal(c.count, 0);
}

/* The same two answers, cut in two at every byte, and byte by byte. */
static void test_cut_at_every_byte(void **unused)
{
	static const char both[] = OK_1 OK_2;
	(void)unused;
	for (size_t cut = 0; cut <= sizeof(both); cut++) {
		teardown(NULL);
		setup(NULL);
		ask_two();
		for (size_t at = 0; at < sizeof(both) - 1;) {
			size_t n = cut == sizeof(both) ? 1 : at < cut ? cut : sizeof(both) - 1 - at;
			if (at + n > sizeof(both) - 1)
				n = sizeof(both) - 1 - at;
			say(both + at, n);
			at += n;
			http_client_receive(&c);
			assert_int_equal(first.calls, at >= strlen(OK_1));
			assert_int_equal(second.calls, at == sizeof(both) - 1);
		}
		assert_string_equal(first.body, "one");
		assert_int_equal(second.status, 204);
		assert_false(c.broken);
	}
}

static void test_interim(void **unused)
{
	(void)unused;
	ask_two();
	answer("HTTP/1.1 100 \r\n\r\n");
	assert_int_equal(order_count, 0);
	answer("HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\n\r\n" OK_1 "HTTP/1.1 100 \r\n\r\n" OK_2);
	assert_int_equal(order_count, 2);
	assert_int_equal(first.status, 200);
	assert_int_equal(second.status, 204);
	/* Nobody asked for this one. */
	answer("HTTP/1.1 100 \r\n\r\n");
	assert_true(c.broken);
}

/* However many come: reading them would take all of the shim's time. */
static void test_interims_are_bounded(void **unused)
{
	(void)unused;
	ask_two();
	for (int i = 0; i < HTTP_CLIENT_INTERIM_MAX; i++)
		answer("HTTP/1.1 100 \r\n\r\n");
	answer(OK_1);
	assert_int_equal(first.status, 200);
	for (int i = 0; i < HTTP_CLIENT_INTERIM_MAX; i++)
		answer("HTTP/1.1 102 \r\n\r\n");
	assert_false(c.broken);
	answer("HTTP/1.1 100 \r\n\r\n" OK_2);
	assert_true(c.broken);
	assert_int_equal(second.failures, 1);
	assert_says(second.e.text, "without end");
}

static void test_an_error_status_is_an_answer(void **unused)
{
	(void)unused;
	ask_two();
	answer("HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\nno" OK_2);
	assert_int_equal(first.status, 500);
	assert_int_equal(first.failures, 0);
	assert_int_equal(second.status, 204);
	assert_false(c.broken);
}

/* A 400 is answered to its request, and poisons all that follows. */
static void test_400_poisons(void **unused)
{
	(void)unused;
	ask_two();
	answer("HTTP/1.1 400 \r\nContent-Length: 2\r\n\r\nno" OK_2);
	assert_int_equal(first.status, 400);
	assert_string_equal(first.body, "no");
	expect_broken(&second, "vm.two", "status 400");
}

static void test_close_poisons(void **unused)
{
	(void)unused;
	ask_two();
	answer("HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n" OK_2);
	assert_int_equal(first.status, 200);
	expect_broken(&second, "vm.two", "ended the connection");
}

static void test_end_of_file(void **unused)
{
	(void)unused;
	ask_two();
	say(OK_1, strlen(OK_1));
	fd_close(&peer);
	http_client_receive(&c);
	assert_int_equal(first.status, 200);
	expect_broken(&second, "vm.two", "closed its API connection");
}

static void test_end_in_a_body(void **unused)
{
	(void)unused;
	ask_two();
	answer("HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nhalf");
	assert_int_equal(order_count, 0);
	fd_close(&peer);
	http_client_receive(&c);
	expect_broken(&first, "vm.one", "connection ended");
	expect_broken(&second, "vm.two", "connection ended");
	assert_ptr_equal(order[0], &first);
}

/* A peer that is gone already: its last answers still count though sending fails. */
static void test_answers_before_the_end(void **unused)
{
	struct err e;
	(void)unused;
	ask("vm.one", on_first);
	say(OK_1, strlen(OK_1));
	fd_close(&peer);
	assert_int_equal(http_client_send(&c, "GET", "/x", NULL, "vm.two", LATER, on_second, &e),
			 0);
	assert_false(http_client_wants_write(&c));
	assert_int_equal(order_count, 0);
	http_client_receive(&c);
	assert_true(c.broken);
	assert_int_equal(second.failures, 1);
}

static void test_unasked(void **unused)
{
	(void)unused;
	ask("vm.one", on_first);
	answer(OK_1 OK_2);
	assert_int_equal(first.status, 200);
	assert_int_equal(order_count, 1);
	assert_true(c.broken);
}

static void breaks(const char *text, const char *says)
{
	teardown(NULL);
	setup(NULL);
	ask_two();
	answer(text);
	expect_broken(&first, "vm.one", says);
	expect_broken(&second, "vm.two", says);
}

static void test_refused_answers(void **unused)
{
	(void)unused;
	breaks("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunks");
	breaks("HTTP/1.1 200 \r\nContent-Length: 262145\r\n\r\n", "");
	breaks("HTTP/1.1 200 \r\nContent-Length: 99999999999999999999\r\n\r\n", "");
	breaks("HTTP/1.1 200 \r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "");
	breaks("HTTP/1.1 101 \r\n\r\n", "");
	breaks("garbage", "");
	breaks("\r\n", "");
}

/* The largest answer that is allowed, and one that never ends. */
static void feed(const char *bytes, size_t n)
{
	while (n && !c.broken) {
		ssize_t sent = send(peer, bytes, n, MSG_NOSIGNAL);
		assert_true(sent > 0 || !c.broken);
		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
		}
		http_client_receive(&c);
	}
}

static void test_large(void **unused)
{
	static char body[HTTP_CLIENT_BODY_MAX];
	char head[128];
	(void)unused;
	memset(body, 'b', sizeof(body));
	ask_two();
	snprintf(head, sizeof(head), "HTTP/1.1 200 \r\nContent-Length: %zu\r\n\r\n", sizeof(body));
	feed(head, strlen(head));
	feed(body, sizeof(body));
	assert_int_equal(first.calls, 1);
	assert_int_equal(first.length, sizeof(body));
	assert_null(c.in); /* the buffer is not kept */
	feed(OK_2, strlen(OK_2));
	assert_int_equal(second.status, 204);
	/* An endless head, then an endless body that is told by its end only. */
	ask("vm.head", on_other);
	feed("HTTP/1.1 200 \r\nX: ", 18);
	feed(body, sizeof(body));
	assert_int_equal(other.failures, 1);
	assert_true(c.broken);
	teardown(NULL);
	setup(NULL);
	ask_two();
	feed("HTTP/1.1 500 \r\nConnection: close\r\n\r\n", 36);
	feed(body, sizeof(body));
	feed("x", 1);
	feed(body, 16384);
	expect_broken(&first, "vm.one", "");
}

static void test_deadline_and_late_answer(void **unused)
{
	struct err e;
	(void)unused;
	assert_true(http_client_next_deadline(&c) == INT64_MAX);
	http_client_send(&c, "GET", "/x", NULL, "vm.one", 2000, on_first, &e);
	http_client_send(&c, "GET", "/x", NULL, "vm.two", 1000, on_second, &e);
	assert_int_equal(http_client_next_deadline(&c), 1000);
	http_client_expire(&c, 999);
	assert_int_equal(order_count, 0);
	http_client_expire(&c, 1000);
	assert_int_equal(second.failures, 1);
	assert_int_equal(second.e.kind, ERR_DEADLINE);
	assert_says(second.e.text, "vm.two");
	assert_int_equal(http_client_next_deadline(&c), 2000);
	http_client_expire(&c, 5000);
	http_client_expire(&c, 6000);
	assert_int_equal(first.failures, 1);
	assert_int_equal(second.calls, 1);
	assert_true(http_client_next_deadline(&c) == INT64_MAX);
	/* Slots stay taken; a third request still finds its own answer. */
	assert_int_equal(c.count, 2);
	assert_false(c.broken);
	ask("vm.three", on_other);
	answer(OK_1 OK_2 "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nthird");
	assert_true(first.late && second.late);
	assert_int_equal(first.calls, 2);
	assert_string_equal(first.body, "one");
	assert_false(other.late);
	assert_string_equal(other.body, "third");
}

/* One that was reported as late is not reported again when the connection breaks. */
static void test_expired_then_broken(void **unused)
{
	struct err e;
	(void)unused;
	http_client_send(&c, "GET", "/x", NULL, "vm.one", 1000, on_first, &e);
	ask("vm.two", on_second);
	http_client_expire(&c, 1000);
	fd_close(&peer);
	http_client_receive(&c);
	assert_int_equal(first.calls, 1);
	expect_broken(&second, "vm.two", "closed");
}

static void test_pending_limit(void **unused)
{
	struct err e;
	(void)unused;
	for (int i = 0; i < HTTP_CLIENT_PENDING_MAX; i++)
		ask("vm.x", on_first);
	assert_int_equal(http_client_send(&c, "GET", "/x", NULL, "vm.y", LATER, on_other, &e), -1);
	assert_says(e.text, "8 earlier");
	answer(OK_2);
	ask("vm.y", on_other);
	for (int i = 1; i < HTTP_CLIENT_PENDING_MAX; i++)
		answer(OK_2);
	assert_int_equal(first.calls, HTTP_CLIENT_PENDING_MAX);
	answer(OK_1);
	assert_int_equal(other.status, 200);
}

/* A VMM that does not read: bounded, and all of it arrives in order once it does. */
static void test_send_limit(void **unused)
{
	static char body[50001], got[65536];
	struct err e;
	unsigned sent = 0;
	(void)unused;
	int small = 4096;
	setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	memset(body, 'b', sizeof(body) - 1);
	while (http_client_send(&c, "PUT", "/x", body, "vm.one", LATER, NULL, &e) == 0)
		sent++;
	assert_says(e.text, "does not read");
	assert_true(sent >= 2 && sent < HTTP_CLIENT_PENDING_MAX);
	assert_int_equal(c.count, sent);
	assert_true(http_client_wants_write(&c));
	assert_true(c.out_used <= HTTP_CLIENT_SEND_MAX);
	size_t bodies = 0, heads = 0;
	for (;;) {
		ssize_t n = recv(peer, got, sizeof(got), 0);
		if (n <= 0) {
			if (!http_client_wants_write(&c))
				break;
			http_client_flush(&c);
			continue;
		}
		for (ssize_t i = 0; i < n; i++) {
			bodies += got[i] == 'b';
			heads += got[i] == 'U';
		}
	}
	assert_int_equal(bodies, sent * (sizeof(body) - 1));
	assert_int_equal(heads, sent);
	for (unsigned i = 0; i < sent; i++)
		answer(OK_2); /* done is NULL: nobody to tell */
	assert_int_equal(c.count, 0);
	assert_false(c.broken);
}

/* ------------------------------------------------------------------ callbacks that act */

static void on_close(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	on_first(arg, answer, late, e);
	http_client_close(&c);
}

static void on_ask(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct err mine;
	on_first(arg, answer, late, e);
	int rc = http_client_send(&c, "GET", "/x", NULL, "vm.again", LATER, on_other, &mine);
	assert_int_equal(rc, answer || e->kind == ERR_DEADLINE ? 0 : -1);
}

static void test_closed_by_a_callback(void **unused)
{
	struct err e;
	(void)unused;
	ask("vm.one", on_close);
	ask("vm.two", on_second);
	answer(OK_1 OK_2);
	assert_int_equal(first.status, 200);
	assert_int_equal(second.calls, 0);
	assert_int_equal(c.fd, -1);
	/* The same at a deadline, and while the connection breaks. */
	teardown(NULL);
	setup(NULL);
	http_client_send(&c, "GET", "/x", NULL, "vm.one", 1, on_close, &e);
	http_client_send(&c, "GET", "/x", NULL, "vm.two", 1, on_second, &e);
	http_client_expire(&c, 5);
	assert_int_equal(second.calls, 0);
	teardown(NULL);
	setup(NULL);
	ask("vm.one", on_close);
	ask("vm.two", on_second);
	answer("garbage");
	assert_int_equal(first.failures, 1);
	assert_int_equal(second.calls, 0);
}

static void test_asked_by_a_callback(void **unused)
{
	struct err e;
	(void)unused;
	ask("vm.one", on_ask);
	answer(OK_1);
	assert_int_equal(c.count, 1);
	answer(OK_1);
	assert_int_equal(other.status, 200);
	http_client_send(&c, "GET", "/x", NULL, "vm.one", 1, on_ask, &e);
	http_client_expire(&c, 5);
	assert_int_equal(c.count, 2);
	answer("garbage");
	assert_int_equal(c.count, 0);
	assert_int_equal(http_client_send(&c, "GET", "/x", NULL, "vm.z", LATER, NULL, &e), -1);
	assert_true(c.broken);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_bytes),
		TEST(test_pipelined),
		TEST(test_cut_at_every_byte),
		TEST(test_interim),
		TEST(test_interims_are_bounded),
		TEST(test_an_error_status_is_an_answer),
		TEST(test_400_poisons),
		TEST(test_close_poisons),
		TEST(test_end_of_file),
		TEST(test_end_in_a_body),
		TEST(test_answers_before_the_end),
		TEST(test_unasked),
		TEST(test_refused_answers),
		TEST(test_large),
		TEST(test_deadline_and_late_answer),
		TEST(test_expired_then_broken),
		TEST(test_pending_limit),
		TEST(test_send_limit),
		TEST(test_closed_by_a_callback),
		TEST(test_asked_by_a_callback),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
