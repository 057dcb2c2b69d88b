// SPDX-License-Identifier: Apache-2.0
/*
 * shim/ready against real sockets in a net namespace of the test's own: peers that refuse, are
 * silent, dribble, lie, send too much. The time is the test's: nothing here waits for a timer.
 */
#include "unit.h"

#include "ready.h"
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MS	1000
#define TIMEOUT 60000 /* ms */

static struct ready r = READY_INIT;
static struct console console;
static struct ready_where where;
static struct msg_wait wait_for;
static struct err e;
static char path[64];
static int dir = -1, listener = -1, peer = -1;
static uint16_t port;
static int64_t now;
static unsigned open_before;
static bool have_net;

/* Its own namespace has a loopback that nobody else uses, and no route to anywhere. */
static int group_setup(void **unused)
{
	struct ifreq lo = {.ifr_name = "lo"};
	(void)unused;
	have_net = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	lo.ifr_flags = IFF_UP | IFF_RUNNING;
	have_net = have_net && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
	if (!have_net)
		print_message("no net namespace of its own (%s): tcp and http are skipped\n",
			      strerrorname_np(errno));
	return 0;
}

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	dir = unit_make_dir(path);
	where = (struct ready_where){
		.address = INADDR_LOOPBACK,
		.vsock_fd = dir,
		.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.console = &console,
	};
	now = 77 * MS;
	e = (struct err){0};
	return console_open(&console, 4096, &e);
}

static int teardown(void **unused)
{
	(void)unused;
	ready_close(&r);
	console_close(&console);
	fd_close(&peer);
	fd_close(&listener);
	fd_close(&where.proc_fd);
	fd_close(&dir);
	unit_remove_dir(path);
	return unit_open_fds() == open_before ? 0 : -1;
}

#define NEEDS_NET()                                                                                \
	do {                                                                                       \
		(void)unused;                                                                      \
		if (!have_net)                                                                     \
			skip();                                                                    \
	} while (0)

/* A port of the loopback; backlog -1: nobody listens there. */
static void take_port(int backlog)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	fd_close(&listener);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	port = ntohs(in.sin_port);
	if (backlog >= 0)
		assert_int_equal(listen(listener, backlog), 0);
}

static void start(enum msg_wait_kind kind, const char *text, uint32_t status)
{
	wait_for = (struct msg_wait){
		.kind = kind, .port = port, .status = status, .timeout_ms = TIMEOUT};
	str_copy(wait_for.text, sizeof(wait_for.text), text);
	ready_close(&r);
	ready_start(&r, &wait_for, &where, now);
	assert_true(ready_is_on(&r));
	assert_true(ready_next(&r) <= now || kind == MSG_WAIT_CONSOLE);
}

static enum ready_result step(void)
{
	return ready_step(&r, now, &e);
}

/* Steps whenever its descriptor has something, until it has nothing for a while. */
static enum ready_result settle(void)
{
	enum ready_result result;
	for (;;) {
		bool write = false;
		result = step();
		struct pollfd p = {.fd = ready_fd(&r, &write)};
		p.events = (short)(POLLIN | (write ? POLLOUT : 0));
		if (result != READY_MORE || p.fd < 0 || poll(&p, 1, 50) != 1)
			return result;
	}
}

/* The time moves to when something is due. */
static void pass_to_next(void)
{
	int64_t next = ready_next(&r);
	assert_true(next >= now && next < INT64_MAX);
	now = next;
}

static void expect_deadline(const char *what, const char *last)
{
	while (now < r.deadline_us) {
		assert_int_equal(settle(), READY_MORE);
		pass_to_next();
	}
	assert_int_equal(step(), READY_FAILED);
	assert_int_equal(e.kind, ERR_DEADLINE);
	assert_says(e.text, "not ready within 60000 ms");
	assert_says(e.text, what);
	assert_says(e.text, last);
	assert_false(ready_is_on(&r));
	assert_int_equal(step(), READY_MORE);
	assert_true(ready_next(&r) == INT64_MAX);
}

/* ------------------------------------------------------------------ tcp */

static void test_tcp(void **unused)
{
	bool write = false;
	NEEDS_NET();
	take_port(4);
	start(MSG_WAIT_TCP, "", 0);
	assert_int_equal(settle(), READY_DONE);
	assert_false(ready_is_on(&r));
	assert_int_equal(ready_fd(&r, &write), -1);
}

static void test_tcp_refused(void **unused)
{
	static const int64_t delays[] = {20000,	 30000,	 45000,	 67500, 101250,
					 151875, 227812, 250000, 250000};
	NEEDS_NET();
	take_port(-1);
	start(MSG_WAIT_TCP, "", 0);
	for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
		int64_t begun = now;
		assert_int_equal(settle(), READY_MORE);
		assert_int_equal(r.fd, -1);
		pass_to_next();
		assert_int_equal(now - begun, delays[i]);
		/* Not before its time. */
		now--;
		assert_int_equal(step(), READY_MORE);
		assert_int_equal(r.fd, -1);
		now++;
	}
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(settle(), READY_DONE);
	take_port(-1);
	start(MSG_WAIT_TCP, "", 0);
	expect_deadline("tcp port", "Connection refused");
}

/* A SYN that nobody answers: a new one, from another port, long before the kernel's own. */
static void test_tcp_silent(void **unused)
{
	static const int64_t tries[] = {100, 200, 400, 500, 500};
	struct sockaddr_in in = {0};
	int full[4];
	uint16_t last_port = 0;
	NEEDS_NET();
	take_port(0);
	/* A full queue lets SYNs fall. */
	in = (struct sockaddr_in){.sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (size_t i = 0; i < ARRAY_SIZE(full); i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(full[i], (struct sockaddr *)&in, sizeof(in));
	}
	start(MSG_WAIT_TCP, "", 0);
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		socklen_t len = sizeof(in);
		int64_t begun = now;
		assert_int_equal(settle(), READY_MORE);
		assert_true(r.fd >= 0);
		assert_int_equal(getsockname(r.fd, (struct sockaddr *)&in, &len), 0);
		assert_int_not_equal(in.sin_port, last_port);
		last_port = in.sin_port;
		pass_to_next();
		assert_int_equal(now - begun, tries[i] * MS);
		assert_int_equal(step(), READY_MORE); /* ends the old one; the new one is due */
		assert_int_equal(r.fd, -1);
		assert_true(ready_next(&r) == now);
	}
	assert_string_equal(r.last, "no answer");
	for (size_t i = 0; i < ARRAY_SIZE(full); i++)
		close(full[i]);
}

static void test_tcp_unreachable(void **unused)
{
	NEEDS_NET();
	port = 80;
	where.address = 0x0a090909;
	start(MSG_WAIT_TCP, "", 0);
	expect_deadline("tcp port 80", "Network is unreachable");
}

/* ------------------------------------------------------------------ http */

/* Up to the whole request at the peer. */
static void begin_http(uint32_t status)
{
	char got[1024] = "", want[256];
	fd_close(&peer);
	if (listener < 0)
		take_port(4);
	start(MSG_WAIT_HTTP, "/health?x=1", status);
	assert_int_equal(settle(), READY_MORE);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
	assert_true(recv(peer, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	snprintf(want, sizeof(want),
		 "GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n\r\n",
		 port);
	assert_string_equal(got, want);
}

static void say(const char *bytes, size_t n)
{
	assert_int_equal(send(peer, bytes, n, MSG_NOSIGNAL), n);
}

static void answer(const char *text)
{
	say(text, strlen(text));
}

static void expect_not_yet(const char *last)
{
	assert_int_equal(settle(), READY_MORE);
	assert_int_equal(r.fd, -1);
	assert_says(r.last, last);
}

static void test_http_status(void **unused)
{
	static const struct {
		const char *text;
		uint32_t status;
		bool ready;
		const char *last;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, true, ""},
		{"HTTP/1.0 200 x\r\nContent-Length: 999999999\r\n\r\nhello", 0, true, ""},
		{"HTTP/1.1 204 \r\n\r\n", 0, true, ""},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", 0, true, ""},
		{"HTTP/1.1 399 x\r\n\r\n", 0, true, ""},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, true, ""},
		{"HTTP/1.1 503 no\r\n\r\n", 503, true, ""},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 0, true, ""},
		{"HTTP/1.1 200 OK\r\n\r\n", 201, false, "HTTP status 200"},
		{"HTTP/1.1 404 no\r\n\r\n", 0, false, "HTTP status 404"},
		{"HTTP/1.1 500 no\r\nContent-Length: 9\r\n\r\n", 0, false, "HTTP status 500"},
		{"HTTP/1.1 101 switch\r\n\r\n", 0, false, "switches protocols"},
		{"SSH-2.0-OpenSSH\r\n", 0, false, "does not start with HTTP"},
		{"HTTP/1.1 200 OK\n\n", 0, false, "line feed without"},
		{"HTTP/1.1 200 OK\r\nA\x01: b\r\n\r\n", 0, false, "control byte"},
		{"HTTP/1.1 999 OK\r\n\r\n", 0, false, "status line"},
		{"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0, false, "Content-Length"},
	};
	NEEDS_NET();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		begin_http(cases[i].status);
		answer(cases[i].text);
		if (!cases[i].ready)
			expect_not_yet(cases[i].last);
		else if (settle() != READY_DONE)
			fail_msg("%s", cases[i].text);
	}
}

static void test_http_dribbles(void **unused)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n";
	NEEDS_NET();
	begin_http(0);
	for (size_t i = 0; i + 2 < sizeof(text); i++) {
		say(&text[i], 1);
		assert_int_equal(step(), READY_MORE);
	}
	say(&text[sizeof(text) - 2], 1);
	assert_int_equal(settle(), READY_DONE);
}

static void test_http_ends(void **unused)
{
	struct linger reset = {.l_onoff = 1};
	NEEDS_NET();
	begin_http(0);
	fd_close(&peer);
	expect_not_yet("ended without an answer");
	begin_http(0);
	answer("HTTP/1.1 200 OK\r\nA");
	fd_close(&peer);
	expect_not_yet("ended in the middle of a head");
	begin_http(0);
	assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	fd_close(&peer);
	expect_not_yet("Connection reset");
	/* The next try is a new connection, and can be the good one. */
	pass_to_next();
	assert_int_equal(settle(), READY_MORE);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	answer("HTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(settle(), READY_DONE);
}

static void test_http_silent(void **unused)
{
	NEEDS_NET();
	begin_http(0);
	int64_t begun = now;
	pass_to_next();
	assert_int_equal(now - begun, READY_HTTP_US);
	assert_int_equal(step(), READY_MORE);
	assert_int_equal(r.fd, -1);
	assert_string_equal(r.last, "a connection, but no answer");
	/* Sent slowly for ever is silence too. */
	begin_http(0);
	begun = now;
	for (const char *c = "HTTP/1.1 200 O"; *c; c++) {
		say(c, 1);
		assert_int_equal(settle(), READY_MORE);
		now += READY_HTTP_US / 16;
	}
	now = begun + READY_HTTP_US;
	assert_int_equal(step(), READY_MORE);
	assert_int_equal(r.fd, -1);
}

static void test_http_too_much(void **unused)
{
	static char much[3 * HTTP_HEAD_MAX];
	NEEDS_NET();
	begin_http(0);
	memset(much, 'a', sizeof(much));
	memcpy(much, "HTTP/1.1 200 OK\r\nA: ", 20);
	say(much, sizeof(much));
	expect_not_yet("longer than 8192 bytes");
	begin_http(0);
	for (int i = 0; i < 200; i++)
		answer("HTTP/1.1 102 Processing\r\n\r\n");
	expect_not_yet("without end");
	/* A body beside a good head is not waited for. */
	begin_http(0);
	memcpy(much, "HTTP/1.1 200 OK\r\n\r\n", 19);
	say(much, sizeof(much));
	assert_int_equal(settle(), READY_DONE);
}

/* ------------------------------------------------------------------ vsock */

static void make_vsock(int backlog)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/sock", path);
	unlink(un.sun_path);
	fd_close(&listener);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, backlog), 0);
}

static void accept_vsock(void)
{
	char got[64] = "";
	fd_close(&peer);
	assert_int_equal(settle(), READY_MORE);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(recv(peer, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(got, "CONNECT 1024\n");
}

static void test_vsock(void **unused)
{
	(void)unused;
	port = 1024;
	start(MSG_WAIT_VSOCK, "", 0);
	/* CH has not made it yet: tried again. */
	assert_int_equal(settle(), READY_MORE);
	assert_says(r.last, "ENOENT");
	make_vsock(4);
	pass_to_next();
	/* Refused, as long as nothing in the guest listens. */
	accept_vsock();
	fd_close(&peer);
	assert_int_equal(settle(), READY_MORE);
	assert_int_equal(r.vsock.fd, -1);
	assert_says(r.last, "nothing in the guest takes a connection");
	pass_to_next();
	accept_vsock();
	answer("OK 1073741824\n");
	assert_int_equal(settle(), READY_DONE);
}

static void test_vsock_silent(void **unused)
{
	(void)unused;
	port = 1024;
	make_vsock(64);
	start(MSG_WAIT_VSOCK, "", 0);
	accept_vsock();
	int64_t begun = now;
	pass_to_next();
	assert_int_equal(now - begun, READY_VSOCK_US);
	assert_int_equal(step(), READY_MORE);
	assert_int_equal(r.vsock.fd, -1);
	expect_deadline("vsock port 1024", "no answer");
	start(MSG_WAIT_VSOCK, "", 0);
	fd_close(&listener);
	expect_deadline("vsock port 1024", "ECONNREFUSED");
}

/* ------------------------------------------------------------------ console */

static void print(const char *text)
{
	console_append(&console, text, strlen(text));
}

static void test_console(void **unused)
{
	bool write = false;
	(void)unused;
	port = 0;
	console_look_for(&console, "SERVING 2");
	/* What was printed before the wait began counts. */
	print("GUEST UP\r\nSERVING 2 7.3\r\n");
	start(MSG_WAIT_CONSOLE, "SERVING 2", 0);
	assert_int_equal(ready_fd(&r, &write), -1);
	assert_int_equal(step(), READY_DONE);
	console_look_for(&console, "SERVING 2");
	start(MSG_WAIT_CONSOLE, "SERVING 2", 0);
	print("SERVING");
	assert_int_equal(step(), READY_MORE);
	assert_true(ready_next(&r) == now + TIMEOUT * 1000ll);
	print(" ");
	print("2");
	assert_int_equal(step(), READY_DONE);
	console_look_for(&console, "\"x\"");
	start(MSG_WAIT_CONSOLE, "\"x\"", 0);
	print("x");
	expect_deadline("\"\"x\"\" on the console", "console)");
}

static void test_describe(void **unused)
{
	char text[64];
	(void)unused;
	struct msg_wait w = {.kind = MSG_WAIT_HTTP, .port = 80, .text = "/health"};
	ready_describe(&w, text, sizeof(text));
	assert_string_equal(text, "http port 80 path /health");
	w = (struct msg_wait){.kind = MSG_WAIT_VSOCK, .port = 5};
	ready_describe(&w, text, sizeof(text));
	assert_string_equal(text, "vsock port 5");
	w = (struct msg_wait){.kind = MSG_WAIT_NONE};
	ready_describe(&w, text, sizeof(text));
	assert_string_equal(text, "nothing");
	/* The longest of all is told whole. */
	memset(w.text, 'x', sizeof(w.text) - 1);
	w.kind = MSG_WAIT_CONSOLE;
	w.timeout_ms = 1;
	ready_start(&r, &w, &where, now);
	now += 1000;
	assert_int_equal(step(), READY_FAILED);
	assert_says(e.text, "xxx\" on the console");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_tcp),	       T(test_tcp_refused),
		T(test_tcp_silent),    T(test_tcp_unreachable),
		T(test_http_status),   T(test_http_dribbles),
		T(test_http_ends),     T(test_http_silent),
		T(test_http_too_much), T(test_vsock),
		T(test_vsock_silent),  T(test_console),
		T(test_describe),
	};
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
