// SPDX-License-Identifier: Apache-2.0
/* shim/vsock: the line with which a VMM answers CONNECT, in pieces; what follows is the guest's. */
#include "fuzz.h"

#include "util.h"
#include "vsock.h"

#include <sys/socket.h>

/* After an answer, exactly what came behind its line is left in the socket. */
static void check_rest(int fd, const uint8_t *all, size_t sent, const struct vsock_conn *c)
{
	static char rest[65536];
	FUZZ_CHECK(c->got <= sent && all[c->got - 1] == '\n' && memcmp(all, "OK ", 3) == 0);
	ssize_t n = recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
	FUZZ_CHECK((n < 0 ? 0 : (size_t)n) == sent - c->got);
	FUZZ_CHECK(n <= 0 || memcmp(rest, all + c->got, (size_t)n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	struct err e;
	struct fuzz_input in = {data, size};
	size_t piece = fuzz_byte(&in);
	bool hang_up = piece & 0x80;
	size_t sent = 0, length = in.left < 4096 ? in.left : 4096;
	enum vsock_result result = VSOCK_MORE;
	int before = fuzz_free_fd();
	piece = piece & 0x1f ? piece & 0x1f : 4096;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	struct vsock_conn c = {.fd = pair[0], .port = UINT32_MAX - 1};
	while (result == VSOCK_MORE && sent < length) {
		size_t n = length - sent < piece ? length - sent : piece;
		FUZZ_CHECK(send(pair[1], in.at + sent, n, MSG_NOSIGNAL) == (ssize_t)n);
		sent += n;
		if (hang_up && sent == length)
			shutdown(pair[1], SHUT_WR);
		result = vsock_step(&c, &e);
		FUZZ_CHECK(c.got <= sizeof(c.answer));
	}
	if (result == VSOCK_MORE)
		result = vsock_step(&c, &e);
	FUZZ_CHECK((result == VSOCK_FAILED) == (c.fd < 0));
	FUZZ_CHECK(result != VSOCK_FAILED || e.kind == ERR_VMM || e.kind == ERR_UNAVAILABLE);
	if (result == VSOCK_OPEN)
		check_rest(c.fd, in.at, sent, &c);
	vsock_close(&c);
	close(pair[1]);
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
