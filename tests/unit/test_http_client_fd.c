// SPDX-License-Identifier: Apache-2.0
/* shim/http_client: a descriptor that rides on a request, once and with its first byte. */
#include "unit.h"

#include "http_client.h"
#include "util.h"

#include <errno.h>
#include <sys/socket.h>

#define OK    "HTTP/1.1 204 \r\n\r\n"
#define LATER INT64_MAX

static struct http_client c;
static struct err e;
static unsigned open_before, answers, failures;
static int peer, rider;

static void on_done(void *arg, const struct http_response *answer, bool late, const struct err *why)
{
	(void)arg;
	(void)late;
	(void)why;
	answers += answer != NULL;
	failures += answer == NULL;
}

static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	open_before = unit_open_fds();
	answers = failures = 0;
	rider = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (rider < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	http_client_open(&c, pair[0], NULL);
	peer = pair[1];
	return 0;
}

/* The rider stays its owner's, whatever becomes of the connection. */
static int teardown(void **unused)
{
	(void)unused;
	http_client_close(&c);
	fd_close(&peer);
	if (fcntl(rider, F_GETFD) < 0)
		return -1;
	fd_close(&rider);
	return unit_open_fds() == open_before ? 0 : -1;
}

static int ride(const char *body)
{
	return http_client_send_fd(&c, "PUT", "/x", body, "vm.ride", rider, LATER, on_done, &e);
}

static int plain(void)
{
	return http_client_send(&c, "GET", "/x", NULL, "vm.plain", LATER, on_done, &e);
}

/* At most size bytes from the other end; *fds is how many descriptors came with them. */
static ssize_t take(char *data, size_t size, unsigned *fds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * 8)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	struct stat ours, theirs;
	*fds = 0;
	ssize_t n = recvmsg(peer, &h, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return n;
	assert_false(h.msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(&h); cm; cm = CMSG_NXTHDR(&h, cm)) {
		size_t count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++, ++*fds) {
			int fd;
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
			assert_int_equal(fstat(fd, &theirs), 0);
			assert_int_equal(fstat(rider, &ours), 0);
			assert_true(ours.st_rdev == theirs.st_rdev);
			close(fd);
		}
	}
	return n;
}

static void answer(void)
{
	assert_int_equal(send(peer, OK, strlen(OK), MSG_NOSIGNAL), strlen(OK));
	http_client_receive(&c);
}

static void test_first_byte(void **unused)
{
	char text[512];
	unsigned fds;
	(void)unused;
	assert_int_equal(ride("{}"), 0);
	assert_int_equal(take(text, 1, &fds), 1);
	assert_int_equal(fds, 1);
	assert_int_equal(*text, 'P');
	ssize_t n = take(text, sizeof(text) - 1, &fds);
	assert_true(n > 0);
	assert_int_equal(fds, 0);
	text[n] = '\0';
	assert_string_equal(text, "UT /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
				  "application/json\r\nContent-Length: 2\r\n\r\n{}");
	/* What comes after it brings none. */
	assert_int_equal(plain(), 0);
	assert_true(take(text, sizeof(text), &fds) > 0);
	assert_int_equal(fds, 0);
	answer();
	answer();
	assert_int_equal(answers, 2);
	assert_int_equal(ride("{}"), 0);
	assert_true(take(text, sizeof(text), &fds) > 0);
	assert_int_equal(fds, 1);
}

/* It would go to whatever request the VMM completes first. */
static void test_only_alone(void **unused)
{
	char text[512];
	unsigned fds;
	(void)unused;
	assert_int_equal(plain(), 0);
	assert_true(take(text, sizeof(text), &fds) > 0);
	for (int i = 0; i < 2; i++) {
		e = (struct err){0};
		assert_int_equal(ride("{}"), -1);
		assert_int_equal(e.kind, ERR_INTERNAL);
		assert_says(e.text, "vm.ride: its descriptor would go to an earlier request");
		assert_int_equal(c.ride_fd, -1);
		/* One that is past its deadline may still be in the VMM's hands. */
		http_client_expire(&c, INT64_MAX);
	}
	assert_int_equal(take(text, sizeof(text), &fds), -1);
	assert_int_equal(errno, EAGAIN);
	answer();
	assert_int_equal(ride("{}"), 0);
	assert_true(take(text, sizeof(text), &fds) > 0);
	assert_int_equal(fds, 1);
	/* Nor two that ride. */
	assert_int_equal(ride("{}"), -1);
}

/* All that is to come, and where the descriptor was in it. */
static void take_all(const char *body, size_t skipped)
{
	static char got[200000];
	size_t used = 0;
	unsigned fds, came = 0;
	for (;;) {
		ssize_t n = take(got + used, sizeof(got) - 1 - used, &fds);
		if (n <= 0 && !http_client_wants_write(&c))
			break;
		if (n <= 0) {
			http_client_flush(&c);
			continue;
		}
		/* recvmsg(2) does not join what comes with a descriptor to what was before it. */
		if (fds)
			assert_int_equal(used, skipped);
		came += fds;
		used += (size_t)n;
	}
	got[used] = '\0';
	assert_int_equal(came, 1);
	assert_memory_equal(got + skipped, "PUT /x ", 7);
	assert_string_equal(strstr(got + skipped, "\r\n\r\n") + 4, body);
}

static void test_in_pieces(void **unused)
{
	static char body[60001];
	int small = 4096;
	(void)unused;
	setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	memset(body, 'b', sizeof(body) - 1);
	assert_int_equal(ride(body), 0);
	assert_true(http_client_wants_write(&c));
	assert_int_equal(c.ride_fd, -1);
	take_all(body, 0);
	answer();
	assert_int_equal(answers, 1);
}

/* The socket takes nothing at first: the descriptor waits with the bytes. */
static void test_full_at_first(void **unused)
{
	char junk[512];
	int small = 4096;
	size_t filled = 0;
	(void)unused;
	setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	memset(junk, 'j', sizeof(junk));
	for (ssize_t n; (n = send(c.fd, junk, sizeof(junk), MSG_DONTWAIT)) > 0;)
		filled += (size_t)n;
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(ride("{\"a\":1}"), 0);
	assert_true(http_client_wants_write(&c));
	assert_int_equal(c.ride_fd, rider);
	http_client_flush(&c);
	assert_int_equal(c.ride_fd, rider);
	/* Nothing gets ahead of it or on top of it. */
	assert_int_equal(ride("{}"), -1);
	assert_int_equal(c.ride_fd, rider);
	take_all("{\"a\":1}", filled);
	assert_int_equal(c.ride_fd, -1);
}

static void test_gone(void **unused)
{
	(void)unused;
	/* The other end is closed: found out by reading. */
	fd_close(&peer);
	assert_int_equal(ride("{}"), 0);
	assert_int_equal(c.ride_fd, -1);
	http_client_receive(&c);
	assert_int_equal(failures, 1);
	assert_true(c.broken);
	assert_int_equal(ride("{}"), -1);
	assert_says(e.text, "vm.ride");
	assert_int_equal(c.ride_fd, -1);
	/* Or while it waits. */
	teardown(NULL);
	setup(NULL);
	char junk[4096] = "";
	while (send(c.fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(ride("{}"), 0);
	assert_int_equal(c.ride_fd, rider);
	fd_close(&peer);
	http_client_receive(&c);
	assert_int_equal(failures, 1);
	assert_int_equal(c.ride_fd, -1);
}

/* A request that is not sent at all takes nothing along later. */
static void test_refused(void **unused)
{
	static char body[HTTP_CLIENT_SEND_MAX + 1];
	char text[512];
	unsigned fds;
	(void)unused;
	memset(body, 'b', sizeof(body) - 1);
	assert_int_equal(ride(body), -1);
	assert_says(e.text, "vm.ride: the VMM does not read its API");
	assert_int_equal(plain(), 0);
	assert_true(take(text, sizeof(text), &fds) > 0);
	assert_int_equal(fds, 0);
}

/* No descriptor at all is no reason to send the request without one. */
static void test_no_descriptor(void **unused)
{
	char byte;
	unsigned fds;
	(void)unused;
	assert_int_equal(
		http_client_send_fd(&c, "PUT", "/x", "{}", "vm.ride", -1, LATER, on_done, &e), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_says(e.text, "vm.ride: there is no descriptor");
	assert_int_equal(take(&byte, 1, &fds), -1);
	assert_int_equal(c.count, 0);
}

static void test_closed_while_it_waits(void **unused)
{
	char junk[4096] = "";
	(void)unused;
	while (send(c.fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(ride("{}"), 0);
	http_client_close(&c);
	assert_int_equal(c.ride_fd, -1);
	assert_int_equal(answers + failures, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_byte),	  TEST(test_only_alone),
		TEST(test_in_pieces),	  TEST(test_full_at_first),
		TEST(test_gone),	  TEST(test_refused),
		TEST(test_no_descriptor), TEST(test_closed_while_it_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
