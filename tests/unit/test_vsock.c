// SPDX-License-Identifier: Apache-2.0
/* shim/vsock against peers that dribble, lie, never answer, or are no socket at all. */
#include "unit.h"

#include "util.h"
#include "vsock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

static char path[64];
static int dir = -1, proc = -1, listener = -1, peer = -1;
static struct vsock_conn c = VSOCK_CONN_INIT;
static unsigned open_before;

static int make_socket(const char *name, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", path, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	dir = unit_make_dir(path);
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return proc < 0 ? -1 : 0;
}

static int teardown(void **unused)
{
	(void)unused;
	vsock_close(&c);
	fd_close(&peer);
	fd_close(&listener);
	fd_close(&proc);
	fd_close(&dir);
	unit_remove_dir(path);
	return unit_open_fds() == open_before ? 0 : -1;
}

/* A connection whose request line the peer has read. */
static void begin(uint32_t port, const char *line)
{
	char got[64] = "";
	struct err e;
	if (listener < 0)
		listener = make_socket("sock", 8);
	vsock_close(&c);
	fd_close(&peer);
	assert_int_equal(vsock_start(&c, dir, proc, port, &e), 0);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(vsock_wants_write(&c));
	assert_int_equal(vsock_step(&c, &e), VSOCK_MORE);
	assert_false(vsock_wants_write(&c));
	assert_true(recv(peer, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(got, line);
}

static void say(const char *text)
{
	assert_int_equal(send(peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void expect_fail(enum err_kind kind, const char *says)
{
	struct err e = {0};
	assert_int_equal(vsock_step(&c, &e), VSOCK_FAILED);
	assert_int_equal(c.fd, -1);
	assert_int_equal(e.kind, kind);
	assert_says(e.text, says);
}

static void expect_rest(const char *want)
{
	char got[256] = "";
	ssize_t n = recv(c.fd, got, sizeof(got) - 1, MSG_DONTWAIT);
	assert_int_equal(n < 0 ? 0 : n, strlen(want));
	assert_string_equal(got, want);
}

static void test_opens(void **unused)
{
	struct err e;
	char cwd[64];
	(void)unused;
	begin(1024, "CONNECT 1024\n");
	assert_string_equal(getcwd(cwd, sizeof(cwd)), "/");
	say("OK 1073741824\n");
	assert_int_equal(vsock_step(&c, &e), VSOCK_OPEN);
	expect_rest("");
	/* What the guest says at once stays in the stream, newlines and all. */
	begin(UINT32_MAX - 1, "CONNECT 4294967294\n");
	say("OK 4294967295\n220 hello\nOK 5\n");
	assert_int_equal(vsock_step(&c, &e), VSOCK_OPEN);
	expect_rest("220 hello\nOK 5\n");
	say("more");
	expect_rest("more");
	begin(1, "CONNECT 1\n");
	say("OK 0\n");
	assert_int_equal(vsock_step(&c, &e), VSOCK_OPEN);
	/* Both ways, and its end comes through. */
	assert_int_equal(send(c.fd, "x", 1, MSG_NOSIGNAL), 1);
	char got;
	assert_int_equal(recv(peer, &got, 1, 0), 1);
	fd_close(&peer);
	assert_int_equal(recv(c.fd, &got, 1, MSG_DONTWAIT), 0);
}

/* Byte by byte; and what was looked at is taken, so that nothing wakes the loop for ever. */
static void test_dribbles(void **unused)
{
	static const char line[] = "OK 4294967295\n";
	struct err e;
	char left;
	(void)unused;
	begin(7, "CONNECT 7\n");
	for (size_t i = 0; i + 2 < sizeof(line); i++) {
		char byte[2] = {line[i], '\0'};
		say(byte);
		assert_int_equal(vsock_step(&c, &e), VSOCK_MORE);
		assert_int_equal(recv(c.fd, &left, 1, MSG_DONTWAIT | MSG_PEEK), -1);
		assert_int_equal(errno, EAGAIN);
	}
	say("\nafter");
	assert_int_equal(vsock_step(&c, &e), VSOCK_OPEN);
	expect_rest("after");
}

static void test_refused(void **unused)
{
	(void)unused;
	begin(1024, "CONNECT 1024\n");
	fd_close(&peer);
	expect_fail(ERR_UNAVAILABLE, "nothing in the guest takes a connection");
	begin(1024, "CONNECT 1024\n");
	say("OK 1");
	fd_close(&peer);
	/* What had come is taken first, then the end. */
	struct err e;
	assert_int_equal(vsock_step(&c, &e), VSOCK_MORE);
	expect_fail(ERR_UNAVAILABLE, "nothing in the guest");
	/* Closed with our line unread: a reset. */
	listener = listener < 0 ? make_socket("sock", 8) : listener;
	assert_int_equal(vsock_start(&c, dir, proc, 9, &e), 0);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(vsock_step(&c, &e), VSOCK_MORE);
	fd_close(&peer);
	expect_fail(ERR_UNAVAILABLE, "nothing in the guest");
	/* Gone before the line was sent. */
	assert_int_equal(vsock_start(&c, dir, proc, 9, &e), 0);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	fd_close(&peer);
	expect_fail(ERR_UNAVAILABLE, "nothing in the guest");
}

static void test_lies(void **unused)
{
	static const char *const lies[] = {
		"\n",
		"OK\n",
		"OK \n",
		"ok 1\n",
		"OK 1 \n",
		"OK 1\r\n",
		"OK -1\n",
		"OK 12345678901\n",
		"OK  1\n",
		"OK 1a\n",
		"OK: 1\n",
		"ERROR\n",
		"KO 1\nOK 1\n",
		"OKOKOKOKOKOKOKOKOKOKOKOK",
		"HTTP/1.1 200 OK\r\n\r\n",
		"OK 1 2\n",
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		begin(1024, "CONNECT 1024\n");
		say(lies[i]);
		expect_fail(ERR_VMM, "something other than OK");
	}
	/* A NUL, and far too much. */
	begin(1024, "CONNECT 1024\n");
	assert_int_equal(send(peer, "OK 1\0\n", 6, 0), 6);
	expect_fail(ERR_VMM, "something other than OK");
	begin(1024, "CONNECT 1024\n");
	char much[65536];
	memset(much, '1', sizeof(much));
	memcpy(much, "OK ", 3);
	assert_true(send(peer, much, sizeof(much), MSG_DONTWAIT) > 1000);
	expect_fail(ERR_VMM, "something other than OK");
}

static void test_silent(void **unused)
{
	struct err e;
	(void)unused;
	begin(1024, "CONNECT 1024\n");
	for (int i = 0; i < 3; i++)
		assert_int_equal(vsock_step(&c, &e), VSOCK_MORE);
}

static void expect_no_start(enum err_kind kind, const char *says)
{
	struct err e = {0};
	unsigned fds = unit_open_fds();
	assert_int_equal(vsock_start(&c, dir, proc, 1024, &e), -1);
	assert_int_equal(c.fd, -1);
	if (e.kind != kind)
		fail_msg("kind %s: %s", err_kind_name(e.kind), e.text);
	assert_says(e.text, says);
	assert_int_equal(unit_open_fds(), fds);
}

/* Whatever a VMM that was taken over may have put there. */
static void test_what_lies_there(void **unused)
{
	struct stat st;
	(void)unused;
	expect_no_start(ERR_UNAVAILABLE, "open the VMM's vsock socket");
	/* A link, though to a socket that would take us. */
	int other = make_socket("other", 8);
	assert_int_equal(symlinkat("other", dir, "sock"), 0);
	expect_no_start(ERR_VMM, "is none");
	close(other);
	assert_int_equal(unlinkat(dir, "sock", 0), 0);
	assert_int_equal(mkfifoat(dir, "sock", 0600), 0);
	expect_no_start(ERR_VMM, "is none");
	assert_int_equal(unlinkat(dir, "sock", 0), 0);
	assert_int_equal(mkdirat(dir, "sock", 0700), 0);
	expect_no_start(ERR_VMM, "is none");
	assert_int_equal(unlinkat(dir, "sock", AT_REMOVEDIR), 0);
	unit_write(dir, "sock", "text");
	assert_int_equal(fchownat(dir, "sock", 12345, 12345, 0), geteuid() == 0 ? 0 : -1);
	expect_no_start(ERR_VMM, "is none");
	/* What is no socket was not taken. */
	assert_int_equal(fstatat(dir, "sock", &st, 0), 0);
	assert_int_equal(st.st_uid, geteuid() == 0 ? 12345 : geteuid());
}

static void test_sockets_of_other_kinds(void **unused)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)unused;
	/* Nobody listens. */
	listener = make_socket("sock", -1);
	expect_no_start(ERR_UNAVAILABLE, "ECONNREFUSED");
	fd_close(&listener);
	expect_no_start(ERR_UNAVAILABLE, "ECONNREFUSED");
	assert_int_equal(unlinkat(dir, "sock", 0), 0);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	expect_no_start(ERR_VMM, "EPROTOTYPE");
}

/* A queue that is full: never a wait. */
static void test_full(void **unused)
{
	struct vsock_conn all[8];
	struct err e = {0};
	int made = 0;
	(void)unused;
	listener = make_socket("sock", 0);
	while (made < 8 && vsock_start(&all[made], dir, proc, 5, &e) == 0)
		made++;
	assert_true(made < 8);
	assert_int_equal(e.kind, ERR_UNAVAILABLE);
	assert_says(e.text, "too many connections");
	while (made > 0)
		vsock_close(&all[--made]);
}

/* The socket is taken from the VMM's uid, which may even give it no right at all. */
static void test_takes_it(void **unused)
{
	struct stat st;
	struct err e;
	(void)unused;
	if (geteuid() != 0) {
		print_message("skipped: to give a socket away takes root\n");
		skip();
	}
	listener = make_socket("sock", 8);
	assert_int_equal(fchownat(dir, "sock", 12345, 12345, 0), 0);
	assert_int_equal(vsock_start(&c, dir, proc, 1, &e), 0);
	assert_int_equal(fstatat(dir, "sock", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_gid, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dribbles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_lies_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sockets_of_other_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_takes_it, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
