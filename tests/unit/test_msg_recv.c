// SPDX-License-Identifier: Apache-2.0
/* common/msg over a real socket: sizes, descriptors, headers, versions, ends. */
#include "bodies.h"

#include <errno.h>
#include <sys/socket.h>

static int sock[2];
static unsigned open_before;

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sock);
}

/* Whatever came over it, no descriptor is left. */
static int teardown(void **unused)
{
	(void)unused;
	fd_close(&sock[0]);
	fd_close(&sock[1]);
	return unit_open_fds() == open_before ? 0 : -1;
}

/* One record of any bytes with that many descriptors. */
static void send_raw(const void *bytes, size_t length, unsigned fds)
{
	union {
		char buf[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fds) {
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds * sizeof(int));
		for (unsigned i = 0; i < fds; i++) {
			int fd = STDERR_FILENO;
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
		}
	}
	assert_int_equal(sendmsg(sock[0], &h, 0), length);
}

static struct err said;

/* Sends the record built by fill_record(), receives it, and checks that nothing stays open. */
static enum msg_result pass(size_t length, unsigned fds)
{
	static struct msg got;
	unsigned before = unit_open_fds();
	memset(&said, 0, sizeof(said));
	send_raw(&record, length, fds);
	memset(&got, 0xaa, sizeof(got));
	enum msg_result result = msg_recv(sock[1], &got, &said);
	assert_int_equal(unit_open_fds(), before + (result == MSG_GOT ? fds : 0));
	if (result != MSG_GOT) {
		assert_int_equal(got.fd_count, 0);
		if (result == MSG_OTHER_VERSION)
			assert_int_equal(got.body_length, 0);
	} else {
		assert_int_equal(got.fd_count, fds);
		assert_int_equal(got.body_length, length - sizeof(got.header));
		assert_memory_equal(&got.header, &record.header, sizeof(got.header));
		assert_memory_equal(got.body, record.body, got.body_length);
		for (unsigned i = 0; i < fds; i++)
			assert_int_equal(fcntl(got.fds[i], F_GETFD), FD_CLOEXEC);
		msg_close_fds(&got);
		assert_int_equal(got.fd_count, 0);
	}
	assert_int_equal(unit_open_fds(), before);
	return result;
}

static void bad(size_t length, unsigned fds, const char *says)
{
	if (pass(length, fds) != MSG_BAD)
		fail_msg("taken where \"%s\" is due", says);
	assert_int_equal(said.kind, ERR_PROTOCOL);
	assert_says(said.text, says);
}

/* Every type: as it should be; a byte short, a byte long; one descriptor less or more. */
static void test_recv_each_type(void **unused)
{
	const size_t head = sizeof(struct msg_header);
	(void)unused;
#define TAIL_true(b)  true
#define TAIL_false(b) false
#define X(upper, lower, fds, tail)                                                                 \
	CHANGED(                                                                                   \
		lower, do {                                                                        \
			size_t length = WIRE_##tail(b);                                            \
			size_t whole = sizeof(*b);                                                 \
			fill_record(MSG_##upper, b, length);                                       \
			record.header.id = 77;                                                     \
			assert_int_equal(pass(head + length, fds), MSG_GOT);                       \
			bad(head + length, fds + 1, "descriptors");                                \
			bad(head + length, fds + 7, "descriptors");                                \
			bad(head + length, fds + 9, "too many descriptors");                       \
			bad(head + length, 60, "too many descriptors");                            \
			if (fds)                                                                   \
				bad(head + length, 0, "with 0 descriptors");                       \
			bad(head + length - 1, fds, "record says");                                \
			bad(head + length + 1, fds, "record says");                                \
			size_t least = TAIL_##tail(b) ? whole - MSG_DATA_MAX : whole;              \
			record.header.length = (uint32_t)(head + least - 1);                       \
			bad(head + least - 1, fds, "with a body of");                              \
			record.header.length = (uint32_t)(head + whole + 1);                       \
			bad(head + whole + 1, fds, "with a body of");                              \
			record.header.length = (uint32_t)head;                                     \
			bad(head, fds, "with a body of 0 bytes");                                  \
		} while (0), );
	MSG_TABLE(X)
#undef X
}

static void test_recv_bad_headers(void **unused)
{
	const struct msg_done done = {0};
	const size_t whole = sizeof(struct msg_header) + sizeof(done);
	(void)unused;
	fill_record(MSG_DONE, &done, sizeof(done));
	for (size_t n = 1; n < sizeof(struct msg_header); n++)
		bad(n, n % 2, "shorter than a header");
	static const unsigned types[] = {0, MSG_TYPE_COUNT, UINT16_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		record.header.type = (uint16_t)types[i];
		bad(whole, 0, "unknown type");
		bad(whole, 1, "unknown type");
	}
	record.header.type = MSG_DONE;
	record.header.zero = 1;
	bad(whole, 0, "reserved");
	record.header.zero = 0;
	record.header.length = UINT32_MAX;
	bad(whole, 0, "record says 4294967295 bytes");
	static unsigned char large[MSG_RECORD_MAX + 1];
	struct msg_header header = record.header;
	header.length = sizeof(large);
	memcpy(large, &header, sizeof(header));
	send_raw(large, sizeof(large), 1);
	struct err e;
	assert_int_equal(msg_recv(sock[1], &record, &e), MSG_BAD);
	assert_says(e.text, "too large");
	assert_int_equal(msg_recv(sock[1], &record, &e), MSG_AGAIN);
}

static void test_recv_other_version(void **unused)
{
	const struct msg_done done = {0};
	static struct msg reply;
	struct msg_error body;
	struct err e;
	(void)unused;
	fill_record(MSG_DONE, &done, sizeof(done));
	record.header.id = 9;
	/* Another version may have any type and shape but the header's. */
	record.header.type = 4000;
	for (unsigned v = 0; v < 4; v++) {
		record.header.version = (uint16_t)(v == MSG_VERSION ? UINT16_MAX : v);
		record.header.length = 1;
		assert_int_equal(pass(sizeof(record.header) + 3, v), MSG_OTHER_VERSION);
		assert_int_equal(said.kind, ERR_VERSION);
	}
	assert_int_equal(msg_send_version_error(sock[1], &record.header, &e), 0);
	assert_int_equal(msg_recv(sock[0], &reply, &e), MSG_GOT);
	assert_int_equal(reply.header.id, 9);
	assert_int_equal(msg_read_error(&reply, &body, &e), 0);
	assert_int_equal(body.kind, ERR_VERSION);
	assert_says(body.text, "version 3 is not spoken here, 1 is");
}

static void test_recv_ends(void **unused)
{
	static struct msg got;
	struct err e;
	int fd;
	(void)unused;
	assert_int_equal(msg_recv(sock[1], &got, &e), MSG_AGAIN);
	/* A record of no bytes is the end for whoever reads it, and may not leave descriptors. */
	for (unsigned fds = 0; fds < 3; fds++)
		assert_int_equal(pass(0, fds), MSG_EOF);
	assert_int_equal(pass(0, 20), MSG_EOF);
	assert_int_equal(msg_recv(sock[1], &got, &e), MSG_AGAIN);
	fd_close(&sock[0]);
	assert_int_equal(msg_recv(sock[1], &got, &e), MSG_EOF);
	const struct msg_done done = {0};
	assert_int_equal(msg_send(sock[1], MSG_DONE, 1, &done, sizeof(done), -1, &e), -1);
	assert_int_equal(e.errnum, EPIPE);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(msg_recv(fd, &got, &e), MSG_BAD);
	assert_int_equal(e.errnum, ENOTSOCK);
	close(fd);
}

/* A peer that died with our bytes unread: what it had sent comes first, then the end. */
static void test_recv_after_reset(void **unused)
{
	const struct msg_done done = {0};
	static struct msg got;
	struct err e;
	(void)unused;
	assert_int_equal(msg_send(sock[1], MSG_DONE, 1, &done, sizeof(done), -1, &e), 0);
	assert_int_equal(msg_send(sock[0], MSG_DONE, 2, &done, sizeof(done), -1, &e), 0);
	fd_close(&sock[0]);
	assert_int_equal(msg_recv(sock[1], &got, &e), MSG_GOT);
	assert_int_equal(got.header.id, 2);
	assert_int_equal(msg_recv(sock[1], &got, &e), MSG_EOF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_recv_each_type, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recv_bad_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recv_other_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recv_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recv_after_reset, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
