// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/control_connect and relay: a client's connection that becomes one to the guest. The
 * test is the client, the shim, and the guest's end.
 */
#include "daemonworld.h"

#include "control.h"

#include <errno.h>
#include <signal.h>
#include <sys/un.h>

#define BIG (4u << 20)

static char path[64];
static struct config_ids admins;
static uint32_t admin;
static int clients[80];
static size_t client_count;

static int setup_connect(void **unused)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	(void)unused;
	signal(SIGPIPE, SIG_IGN); /* as cloisterd does */
	setup_daemon();
	event_base_priority_init(d.base, 2);
	admin = geteuid();
	admins = (struct config_ids){.ids = &admin, .count = 1};
	d.config.admin_users = admins;
	close(unit_make_dir(path));
	d.host.control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/control.sock", path);
	assert_int_equal(bind(d.host.control, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(control_open(&d, &e), 0);
	client_count = 0;
	running()->spec->vsock = true;
	return 0;
}

static int teardown_connect(void **unused)
{
	control_close(d.control);
	for (size_t i = 0; i < client_count; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	teardown(unused);
	unit_remove_dir(path);
	return 0;
}

/* ------------------------------------------------------------------ both ends */

static int dial(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/control.sock", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	clients[client_count++] = fd;
	return fd;
}

static void hang_up(int fd)
{
	for (size_t i = 0; i < client_count; i++)
		if (clients[i] == fd)
			clients[i] = -1;
	close(fd);
}

#define UPGRADE "Connection: keep-alive, upgrade\r\nUpgrade: other, Cloister-Stream\r\n"

static int ask(const char *query, const char *headers, const char *more)
{
	char text[512];
	int fd = dial();
	int n = snprintf(
		text, sizeof(text),
		"GET /v1/sandboxes/box/connect?tenant=alice%s HTTP/1.1\r\nHost: x\r\n%s\r\n%s",
		query, headers, more);
	assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
	return fd;
}

/* What comes from fd until it has the word in it, or ends. */
static const char *await(int fd, const char *word)
{
	static char got[8192];
	size_t length = 0;
	got[0] = '\0';
	for (int tries = 0; tries < 4000; tries++) {
		turn();
		ssize_t n = recv(fd, got + length, sizeof(got) - 1 - length, MSG_DONTWAIT);
		if (n > 0)
			length += (size_t)n;
		got[length] = '\0';
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return word ? "it has ended" : got;
		if (word && strstr(got, word))
			return got;
		if (n < 0)
			usleep(1000);
	}
	fail_msg("no \"%s\" in \"%s\"", word ? word : "end", got);
	return NULL;
}

static void await_reset(int fd)
{
	char byte;
	for (int tries = 0; tries < 4000; tries++) {
		turn();
		if (send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			return;
		if (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET)
			return;
		usleep(1000);
	}
	fail_msg("the connection is still there");
}

/* Answers the CONNECT that is under way; gives the guest's end. */
static int let_in(uint32_t port)
{
	struct msg_connect asked;
	const struct msg_connected said = {0};
	int pair[2];
	uint32_t id = expect(&shim, MSG_CONNECT);
	assert_int_equal(msg_read_connect(&m, &asked, &e), 0);
	assert_int_equal(asked.port, port);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	assert_int_equal(chan_send(&shim, MSG_CONNECTED, id, &said, sizeof(said), pair[0], &e), 0);
	close(pair[0]);
	return pair[1];
}

static void join(int *client, int *guest)
{
	*client = ask("&port=1024", UPGRADE, "");
	*guest = let_in(1024);
	const char *head = await(*client, "\r\n\r\n");
	assert_string_equal(head, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
				  "Upgrade: cloister-stream\r\n\r\n");
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static unsigned count_connects(void)
{
	unsigned count = 0;
	struct control_connect *const first = LIST_FIRST(&d.connects);
	/* Its shape is its own file's; whether there is any is all that is asked here. */
	count += first != NULL;
	return count;
}

static void await_none(void)
{
	for (int tries = 0; tries < 4000 && count_connects(); tries++) {
		turn();
		usleep(1000);
	}
	assert_int_equal(count_connects(), 0);
}

/* ------------------------------------------------------------------ bytes and ends */

static void test_both_ways(void **unused)
{
	int client, guest;
	unsigned before;
	(void)unused;
	turn();
	before = unit_open_fds();
	join(&client, &guest);
	say(client, "hello guest");
	assert_string_equal(await(guest, "guest"), "hello guest");
	say(guest, "hello client");
	assert_string_equal(await(client, "client"), "hello client");
	/* The guest ends: what it said is delivered, then the connection goes. */
	say(guest, "bye");
	close(guest);
	assert_string_equal(await(client, NULL), "bye");
	await_none();
	hang_up(client);
	assert_int_equal(unit_open_fds(), before);
}

/* What follows the request at once is the guest's, whatever it looks like. */
static void test_early_bytes(void **unused)
{
	(void)unused;
	int client = ask("&port=5", UPGRADE, "GET / HTTP/1.0\r\n\r\n");
	int guest = let_in(5);
	assert_string_equal(await(guest, "\r\n\r\n"), "GET / HTTP/1.0\r\n\r\n");
	say(guest, "HTTP/1.0 200 OK\r\n\r\n");
	assert_says(await(client, "200 OK"), "HTTP/1.1 101");
	close(guest);
	await_none();
}

static void test_half_close_of_client(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	say(client, "all that I have to say");
	shutdown(client, SHUT_WR);
	assert_string_equal(await(guest, NULL), "all that I have to say");
	assert_int_equal(count_connects(), 1);
	say(guest, "the answer");
	assert_string_equal(await(client, "answer"), "the answer");
	close(guest);
	assert_string_equal(await(client, NULL), "");
	await_none();
}

static void test_half_close_of_guest(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	say(guest, "banner");
	shutdown(guest, SHUT_WR);
	assert_string_equal(await(client, NULL), "banner");
	say(client, "still here");
	assert_string_equal(await(guest, "here"), "still here");
	shutdown(client, SHUT_WR);
	assert_string_equal(await(guest, NULL), "");
	await_none();
	close(guest);
}

/* The end that no event tells of: found by looking. */
static void test_close_after_half_close(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	shutdown(client, SHUT_WR);
	assert_string_equal(await(guest, NULL), "");
	hang_up(client);
	await_none();
	await_reset(guest);
	close(guest);
}

static void test_client_goes(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	say(client, "last words");
	hang_up(client);
	assert_string_equal(await(guest, NULL), "last words");
	await_none();
	close(guest);
}

/* With bytes unread the kernel resets the other end. */
static void test_guest_resets(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	say(guest, "before");
	say(client, "never read");
	for (int i = 0; i < 20; i++)
		turn();
	close(guest);
	assert_string_equal(await(client, NULL), "before");
	await_none();
}

static void fill(char *buf, size_t size, size_t at)
{
	for (size_t i = 0; i < size; i++)
		buf[i] = (char)((at + i) * 2654435761u >> 24);
}

/* Sends all it can to one who does not read; gives how much that was. */
static size_t stuff(int fd, size_t at, size_t most)
{
	static char buf[65536];
	size_t sent = 0;
	for (int idle = 0; idle < 20 && sent < most;) {
		size_t want = most - sent < sizeof(buf) ? most - sent : sizeof(buf);
		fill(buf, want, at + sent);
		ssize_t n = send(fd, buf, want, MSG_DONTWAIT | MSG_NOSIGNAL);
		turn();
		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? (size_t)n : 0;
	}
	return sent;
}

static void transfer(int from, int to)
{
	static char buf[65536], want[65536];
	size_t sent = stuff(from, 0, BIG), got = 0;
	/* Two socket buffers, the relay's own, and evhttp's of before. */
	assert_true(sent < 3 * 256 * 1024);
	while (got < BIG) {
		turn();
		if (sent < BIG)
			sent += stuff(from, sent, BIG - sent);
		ssize_t n = recv(to, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			continue;
		}
		assert_true(n > 0);
		fill(want, (size_t)n, got);
		assert_memory_equal(buf, want, (size_t)n);
		got += (size_t)n;
	}
}

static void test_back_pressure(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	transfer(client, guest);
	transfer(guest, client);
	/* Both at once, and the end comes behind it all. */
	size_t up = stuff(client, 0, BIG), down = stuff(guest, 0, BIG);
	close(guest);
	static char buf[65536];
	size_t got = 0;
	for (ssize_t n; (n = recv(client, buf, sizeof(buf), MSG_DONTWAIT)) != 0;) {
		turn();
		got += n > 0 ? (size_t)n : 0;
		if (n < 0 && errno == ECONNRESET)
			break;
	}
	assert_true(up > 0);
	assert_int_equal(got, down);
	await_none();
}

/* ------------------------------------------------------------------ refusals */

static void expect_refusal(int client, const char *status, const char *detail)
{
	const char *answer = await(client, "\"sandbox\":\"box\"}");
	assert_says(answer, status);
	assert_says(answer, detail);
	hang_up(client);
}

static void test_refused_here(void **unused)
{
	(void)unused;
	expect_refusal(ask("&port=5", "", ""), "HTTP/1.1 426 ", "Upgrade: cloister-stream");
	expect_refusal(ask("&port=5", "Connection: upgrade\r\nUpgrade: websocket\r\n", ""),
		       "HTTP/1.1 426 ", "\"Connection: Upgrade\\\"");
	expect_refusal(ask("&port=5", "Upgrade: cloister-stream\r\n", ""), " 426 ", "HTTP/1.1");
	expect_refusal(ask("", UPGRADE, ""), " 422 ", "port: missing");
	expect_refusal(ask("&port=0", UPGRADE, ""), " 422 ", "port: \\\"0\\\" is not allowed");
	expect_refusal(ask("&port=4294967295", UPGRADE, ""), " 422 ", "1 to 4294967294");
	expect_refusal(ask("&port=5&timeout_ms=60001", UPGRADE, ""), " 422 ", "timeout_ms: ");
	box()->spec->vsock = false;
	expect_refusal(ask("&port=5", UPGRADE, ""), " 409 ", "connect: it has no vsock device");
	box()->state = STATE_PAUSED;
	expect_refusal(ask("&port=5", UPGRADE, ""), " 409 ",
		       "connect: it is paused, must be running");
	box()->state = STATE_RUNNING;
	assert_int_equal(count_connects(), 0);
	expect_nothing(&shim);
}

static void answer_err(enum err_kind kind, const char *text)
{
	struct err why;
	uint32_t id = expect(&shim, MSG_CONNECT);
	err_set(&why, kind, 0, "%s", text);
	assert_int_equal(chan_send_err(&shim, id, &why, &e), 0);
}

static void test_refused_by_guest(void **unused)
{
	(void)unused;
	int client = ask("&port=77", UPGRADE, "");
	answer_err(ERR_UNAVAILABLE, "vsock port 77: the guest takes no connection there");
	expect_refusal(client, " 502 ", "vsock port 77: the guest takes no connection there");
	client = ask("&port=77", UPGRADE, "");
	answer_err(ERR_DEADLINE, "vsock port 77: the guest did not answer in time");
	expect_refusal(client, " 504 ", "in time");
	client = ask("&port=77", UPGRADE, "");
	answer_err(ERR_QUOTA, "8 connections to the guest are being made already");
	expect_refusal(client, " 429 ", "8 connections");
	client = ask("&port=77", UPGRADE, "");
	answer_err(ERR_STATE, "not in phase pausing");
	expect_refusal(client, " 409 ", "pausing");
	assert_int_equal(count_connects(), 0);
}

static void test_shim_is_lost(void **unused)
{
	(void)unused;
	int client = ask("&port=77", UPGRADE, "");
	expect(&shim, MSG_CONNECT);
	chan_close(&shim);
	expect_refusal(client, " 503 ", "closed its link");
	assert_int_equal(count_connects(), 0);
}

/* A client that does not wait for the answer; what the shim gives is closed again. */
static void test_client_leaves_early(void **unused)
{
	(void)unused;
	int client = ask("&port=1024", UPGRADE, "");
	for (int i = 0; i < 20; i++)
		turn();
	hang_up(client);
	int guest = let_in(1024);
	assert_string_equal(await(guest, NULL), "");
	await_none();
	close(guest);
}

static void test_too_many(void **unused)
{
	int guests[64], client;
	(void)unused;
	for (int i = 0; i < 64; i++)
		join(&client, &guests[i]);
	expect_refusal(ask("&port=5", UPGRADE, ""), " 429 ",
		       "64 connections to guests of tenant alice are open, at most 64 may be");
	/* One that ends makes room. */
	close(guests[10]);
	assert_string_equal(await(clients[10], NULL), "");
	join(&client, &guests[10]);
	for (int i = 0; i < 64; i++)
		close(guests[i]);
	await_none();
}

/* The daemon ends with one that is joined, one that is asked for, and bytes on their way. */
static void test_daemon_ends(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	stuff(client, 0, BIG);
	ask("&port=6", UPGRADE, "");
	expect(&shim, MSG_CONNECT);
	control_close(d.control);
	d.control = NULL;
	assert_int_equal(count_connects(), 0);
	close(guest);
}

/* The record may go while its connections still have bytes to deliver. */
static void test_sandbox_goes(void **unused)
{
	int client, guest;
	(void)unused;
	join(&client, &guest);
	size_t sent = stuff(guest, 0, BIG), got = 0;
	static char buf[65536];
	sandbox_free(box());
	chan_close(&shim);
	close(guest);
	for (ssize_t n; (n = recv(client, buf, sizeof(buf), MSG_DONTWAIT)) != 0; turn())
		got += n > 0 ? (size_t)n : 0;
	assert_int_equal(got, sent);
	await_none();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_connect, teardown_connect)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),
		TEST(test_early_bytes),
		TEST(test_half_close_of_client),
		TEST(test_half_close_of_guest),
		TEST(test_close_after_half_close),
		TEST(test_client_goes),
		TEST(test_guest_resets),
		TEST(test_back_pressure),
		TEST(test_refused_here),
		TEST(test_refused_by_guest),
		TEST(test_shim_is_lost),
		TEST(test_client_leaves_early),
		TEST(test_too_many),
		TEST(test_daemon_ends),
		TEST(test_sandbox_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
