// SPDX-License-Identifier: Apache-2.0
/*
 * common/msg: what comes over a socketpair, read as every type. An input below 0x80 names a type
 * whose honest record is patched; any other is the record itself.
 */
#include "fuzz.h"

#include "../unit/bodies.h"

#include <sys/socket.h>

/* What was read is what was sent, and what would be sent again. */
#define X(upper, lower, fds, tail)                                                                 \
	static bool read_##lower(const struct msg *m)                                              \
	{                                                                                          \
		static struct msg_##lower body;                                                    \
		struct err e;                                                                      \
		if (msg_read_##lower(m, &body, &e) < 0) {                                          \
			FUZZ_CHECK(e.kind == ERR_PROTOCOL);                                        \
			return false;                                                              \
		}                                                                                  \
		FUZZ_CHECK(msg_write_##lower(&body, &e) == (ssize_t)m->body_length);               \
		FUZZ_CHECK(memcmp(&body, m->body, m->body_length) == 0);                           \
		return true;                                                                       \
	}
MSG_TABLE(X)
#undef X

static void read_as_all(const struct msg *m)
{
	unsigned good = 0;
#define X(upper, lower, fds, tail)                                                                 \
	if (read_##lower(m)) {                                                                     \
		FUZZ_CHECK(m->header.type == MSG_##upper);                                         \
		good++;                                                                            \
	}
	MSG_TABLE(X)
#undef X
	FUZZ_CHECK(good <= 1);
}

static void fill_honest(unsigned type)
{
	switch (type) {
#define X(upper, lower, fds, tail)                                                                 \
	case MSG_##upper:                                                                          \
		CHANGED(lower, fill_record(type, b, WIRE_##tail(b)), (void)b);                     \
		break;
		MSG_TABLE(X)
#undef X
	default:
		break;
	}
}

static int null = -1; /* what rides along */

static void send_raw(int fd, const void *bytes, size_t length, unsigned fds)
{

	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
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
		for (unsigned i = 0; i < fds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &null, sizeof(null));
	}
	sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void receive(int fd)
{
	static struct msg m;
	struct err e;
	enum msg_result got = msg_recv(fd, &m, &e);
	FUZZ_CHECK(got != MSG_AGAIN || m.fd_count == 0);
	if (got == MSG_GOT) {
		FUZZ_CHECK(m.header.length == m.body_length + sizeof(m.header));
		FUZZ_CHECK(m.header.type > MSG_NONE && m.header.type < MSG_TYPE_COUNT);
		read_as_all(&m);
	} else {
		FUZZ_CHECK(m.fd_count == 0);
	}
	msg_close_fds(&m);
	if (got == MSG_OTHER_VERSION)
		msg_send_version_error(fd, &m.header, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int pair[2] = {-1, -1};
	struct fuzz_input in = {data, size};
	if (null < 0) {
		null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				       pair));
	}
	int before = fuzz_free_fd();
	unsigned mode = fuzz_byte(&in), fds = fuzz_byte(&in) & 7;
	if (mode < 0x80) {
		fill_honest(1 + mode % (MSG_TYPE_COUNT - 1));
		int cut = (int8_t)fuzz_byte(&in);
		fuzz_patch(&in, &record, sizeof(record.header) + sizeof(record.body));
		size_t length = sizeof(record.header) + record.body_length;
		send_raw(pair[1], &record, cut < 0 ? length : length - (size_t)cut % length, fds);
	} else {
		send_raw(pair[1], in.at, in.left, fds);
	}
	receive(pair[0]);
	receive(pair[1]);
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
