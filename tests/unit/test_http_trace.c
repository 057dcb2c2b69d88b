// SPDX-License-Identifier: Apache-2.0
/* shim/http_trace: what is kept of exchanges, as the client makes them. */
#include "unit.h"

#include "http_client.h"
#include "util.h"

#include <sys/socket.h>

static struct http_client c;
static struct http_trace trace;
static struct msg_exchange got[MSG_EXCHANGES_MAX];
static int peer;

static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	trace = (struct http_trace){0};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	http_client_open(&c, pair[0], NULL);
	c.trace = &trace;
	peer = pair[1];
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	http_client_close(&c);
	fd_close(&peer);
	return 0;
}

static void ask(const char *path, int64_t deadline_us)
{
	struct err e;
	assert_int_equal(http_client_send(&c, "PUT", path, NULL, "it", deadline_us, NULL, &e), 0);
}

static void answer(const char *text)
{
	assert_int_equal(send(peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	http_client_receive(&c);
}

static void is(const struct msg_exchange *x, const char *request, unsigned outcome, unsigned status,
	       const char *error)
{
	assert_string_equal(x->request, request);
	assert_int_equal(x->outcome, outcome);
	assert_int_equal(x->status, status);
	assert_string_equal(x->error, error);
	/* As a field of a record has to be. */
	assert_true(str_is_padded(x->request, sizeof(x->request)));
	assert_true(str_is_padded(x->error, sizeof(x->error)));
}

static void test_outcomes(void **unused)
{
	int64_t now = clock_us();
	(void)unused;
	ask("/api/v1/vm.one", INT64_MAX);
	ask("/api/v1/vm.two", now - 1);
	ask("/api/v1/vm.three", INT64_MAX);
	http_client_expire(&c, now);
	assert_int_equal(http_client_open_requests(&c, now + 2000000, got), 3);
	is(&got[0], "PUT /api/v1/vm.one", MSG_EXCHANGE_OPEN, 0, "");
	is(&got[1], "PUT /api/v1/vm.two", MSG_EXCHANGE_OVERDUE, 0, "");
	assert_true(got[0].took_us >= 1000000 && got[0].took_us < 4000000);
	answer("HTTP/1.1 204 \r\n\r\n");
	answer("HTTP/1.1 500 \r\nContent-Length: 14\r\n\r\n[\"a\",\"\\u001b\"]");
	assert_int_equal(http_client_open_requests(&c, now, got), 1);
	fd_close(&peer);
	http_client_receive(&c);
	assert_int_equal(http_client_open_requests(&c, now, got), 0);
	assert_int_equal(http_trace_read(&trace, got), 3);
	is(&got[0], "PUT /api/v1/vm.one", MSG_EXCHANGE_ANSWERED, 204, "");
	assert_int_equal(got[1].outcome, MSG_EXCHANGE_LATE);
	assert_int_equal(got[1].status, 500);
	assert_int_equal(got[1].error[0], 'a');
	assert_int_equal(got[2].outcome, MSG_EXCHANGE_LOST);
	assert_says(got[2].error, "it: the VMM closed its API connection");
}

/* Closed by us, with requests under way. */
static void test_close(void **unused)
{
	(void)unused;
	ask("/api/v1/vm.one", INT64_MAX);
	http_client_close(&c);
	assert_int_equal(http_trace_read(&trace, got), 1);
	is(&got[0], "PUT /api/v1/vm.one", MSG_EXCHANGE_LOST, 0, "");
}

/* Words without end, and more exchanges than are kept. */
static void test_bounds(void **unused)
{
	char text[2048], body[1024];
	(void)unused;
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	snprintf(text, sizeof(text), "HTTP/1.1 404 \r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
		 body);
	for (int i = 0; i < MSG_EXCHANGES_MAX + 3; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/api/v1/a-call-of-many-letters-%d", i);
		ask(i % 2 ? path : "/n", INT64_MAX);
		answer(i % 2 ? text : "HTTP/1.1 204 \r\n\r\n");
	}
	assert_int_equal(trace.count, MSG_EXCHANGES_MAX + 3);
	assert_int_equal(http_trace_read(&trace, got), MSG_EXCHANGES_MAX);
	is(&got[1], "PUT /n", MSG_EXCHANGE_ANSWERED, 204, "");
	is(&got[MSG_EXCHANGES_MAX - 1], "PUT /n", MSG_EXCHANGE_ANSWERED, 204, "");
	assert_int_equal(strlen(got[0].request), MSG_EXCHANGE_REQUEST_MAX - 1);
	assert_int_equal(strlen(got[0].error), MSG_EXCHANGE_ERROR_MAX - 1);
	assert_true(str_is_padded(got[0].error, sizeof(got[0].error)));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_outcomes), TEST(test_close),
					   TEST(test_bounds)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
