// SPDX-License-Identifier: Apache-2.0
/* common/chan: order, bounds, descriptors in the queue, what a full socket does. */
#include "unit.h"

#include "chan.h"
#include "util.h"

#include <errno.h>
#include <sys/socket.h>

static struct chan chan;
static int peer;
static struct msg got;
static unsigned open_before;

static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	open_before = unit_open_fds();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	int small = 16384;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	chan_open(&chan, pair[0], 100000);
	peer = pair[1];
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	chan_close(&chan);
	fd_close(&peer);
	return unit_open_fds() == open_before ? 0 : -1;
}

static int send_done(uint32_t id)
{
	const struct msg_done done = {.took_us = id};
	struct err e;
	int rc = chan_send_done(&chan, id, &done, &e);
	assert_true(rc == 0 || e.kind == ERR_NO_SPACE);
	return rc;
}

/* Sends until n records wait; gives the id of the next one. */
static uint32_t fill(uint32_t id, unsigned n)
{
	while (!chan_wants_write(&chan))
		assert_int_equal(send_done(id++), 0);
	for (unsigned i = 1; i < n; i++)
		assert_int_equal(send_done(id++), 0);
	return id;
}

static void expect_id(uint32_t id)
{
	struct err e;
	assert_int_equal(msg_recv(peer, &got, &e), MSG_GOT);
	assert_int_equal(got.header.id, id);
}

static void test_sent_at_once(void **unused)
{
	(void)unused;
	assert_true(fcntl(chan.fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(send_done(1), 0);
	assert_false(chan_wants_write(&chan));
	expect_id(1);
	struct err e;
	assert_int_equal(msg_recv(peer, &got, &e), MSG_AGAIN);
}

static void test_order_when_full(void **unused)
{
	struct err e;
	uint32_t next = fill(1, 50), want = 1;
	(void)unused;
	/* Room in the socket: a new record may still not overtake those that wait. */
	for (int i = 0; i < 5; i++)
		expect_id(want++);
	assert_int_equal(send_done(next++), 0);
	for (unsigned turns = 0; want < next; turns++) {
		assert_true(turns < 100000);
		enum msg_result result = msg_recv(peer, &got, &e);
		if (result == MSG_AGAIN) {
			assert_true(chan_wants_write(&chan));
			assert_int_equal(chan_flush(&chan, &e), 0);
			continue;
		}
		assert_int_equal(result, MSG_GOT);
		assert_int_equal(got.header.id, want);
		want++;
	}
	assert_false(chan_wants_write(&chan));
	assert_int_equal(chan.queued_bytes, 0);
	/* Emptied, it works as new. */
	assert_int_equal(send_done(next), 0);
	assert_false(chan_wants_write(&chan));
	expect_id(next);
	fill(next + 1, 2);
}

static void test_flush_of_a_full_socket(void **unused)
{
	struct err e;
	(void)unused;
	fill(1, 3);
	size_t queued = chan.queued_bytes;
	assert_int_equal(queued, 3 * sizeof(struct msg_done));
	assert_int_equal(chan_flush(&chan, &e), 0);
	assert_int_equal(chan.queued_bytes, queued);
	assert_true(chan_wants_write(&chan));
}

static void test_bounded(void **unused)
{
	(void)unused;
	uint32_t next = fill(1, 1);
	uint32_t first = next;
	while (send_done(next) == 0)
		next++;
	assert_int_equal(chan.queued_bytes + sizeof(struct msg_done) > 100000, 1);
	assert_true(chan.queued_bytes <= 100000);
	assert_true(next - first >= 100000 / sizeof(struct msg_done) - 1);
	/* What was refused is not half there. */
	struct err e;
	uint32_t want = 1;
	while (want < next) {
		if (msg_recv(peer, &got, &e) == MSG_GOT)
			assert_int_equal(got.header.id, want++);
		else
			assert_int_equal(chan_flush(&chan, &e), 0);
	}
	assert_int_equal(msg_recv(peer, &got, &e), MSG_AGAIN);
}

static void send_started(uint32_t id, int fd)
{
	const struct msg_started started = {.pid = 1};
	struct err e;
	assert_int_equal(chan_send(&chan, MSG_STARTED, id, &started, sizeof(started), fd, &e), 0);
}

static void test_descriptor_in_the_queue(void **unused)
{
	struct err e;
	struct stat ours, theirs;
	int ends[2];
	(void)unused;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	uint32_t next = fill(1, 1);
	send_started(next, ends[0]);
	assert_int_equal(fstat(ends[0], &ours), 0);
	/* The sender's own may be closed while the record waits. */
	close(ends[0]);
	for (uint32_t want = 1; want <= next;) {
		if (msg_recv(peer, &got, &e) != MSG_GOT) {
			assert_int_equal(chan_flush(&chan, &e), 0);
			continue;
		}
		assert_int_equal(got.header.id, want++);
		assert_int_equal(got.fd_count, want > next);
	}
	assert_int_equal(fstat(got.fds[0], &theirs), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	msg_close_fds(&got);
	close(ends[1]);
}

static void test_close_drops_the_queue(void **unused)
{
	(void)unused;
	uint32_t next = fill(1, 1);
	for (int i = 0; i < 3; i++)
		send_started(next++, STDERR_FILENO);
	chan_close(&chan);
	assert_int_equal(chan.fd, -1);
	assert_false(chan_wants_write(&chan));
	assert_int_equal(chan.queued_bytes, 0);
	chan_close(&chan);
	struct chan never = {.fd = -1};
	chan_close(&never);
	const struct msg_done done = {0};
	struct err e;
	assert_int_equal(chan_send_done(&chan, 1, &done, &e), -1);
	assert_int_equal(e.kind, ERR_UNAVAILABLE);
	assert_false(chan_wants_write(&chan));
}

static void test_peer_gone(void **unused)
{
	const struct msg_done done = {0};
	struct err e;
	(void)unused;
	fill(1, 2);
	fd_close(&peer);
	assert_int_equal(chan_flush(&chan, &e), -1);
	chan_close(&chan);
	setup(NULL);
	fd_close(&peer);
	assert_int_equal(chan_send_done(&chan, 1, &done, &e), -1);
	assert_int_equal(e.errnum, EPIPE);
	assert_false(chan_wants_write(&chan));
	open_before = unit_open_fds() - 1;
}

static void test_body_is_checked(void **unused)
{
	const struct msg_done done = {.value = MSG_DATA_MAX + 1};
	struct err e;
	(void)unused;
	assert_int_equal(chan_send_done(&chan, 1, &done, &e), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_int_equal(msg_recv(peer, &got, &e), MSG_AGAIN);
	/* Only as much of a tail as is there. */
	static struct msg_console_data data;
	data = (struct msg_console_data){.end = 3, .length = 3, .data = "abc"};
	assert_int_equal(chan_send_console_data(&chan, 2, &data, &e), 0);
	expect_id(2);
	assert_int_equal(got.body_length, 24 + 3);
}

static void expect_error(const struct err *why, uint32_t kind, int errnum, const char *text)
{
	struct msg_error body;
	struct err e;
	assert_int_equal(chan_send_err(&chan, 5, why, &e), 0);
	expect_id(5);
	assert_int_equal(msg_read_error(&got, &body, &e), 0);
	assert_int_equal(body.kind, kind);
	assert_int_equal(body.errnum, errnum);
	assert_string_equal(body.text, text);
}

/* Whatever an error holds, it arrives as one that a reader takes. */
static void test_err(void **unused)
{
	struct err why;
	(void)unused;

	why = (struct err){.kind = ERR_STATE, .errnum = EBUSY};
	memset(why.text, 'x', sizeof(why.text));
	str_copy(why.text, sizeof(why.text), "a\nb\xff");
	expect_error(&why, ERR_STATE, EBUSY, "a?b?");
	why.kind = ERR_NONE;
	why.errnum = -5;
	expect_error(&why, ERR_INTERNAL, 0, "a?b?");
	why.kind = (enum err_kind)4000;
	why.errnum = 4096;
	expect_error(&why, ERR_INTERNAL, 0, "a?b?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sent_at_once),
		TEST(test_order_when_full),
		TEST(test_flush_of_a_full_socket),
		TEST(test_bounded),
		TEST(test_descriptor_in_the_queue),
		TEST(test_close_drops_the_queue),
		TEST(test_peer_gone),
		TEST(test_body_is_checked),
		TEST(test_err),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
