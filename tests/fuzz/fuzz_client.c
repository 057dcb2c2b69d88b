// SPDX-License-Identifier: Apache-2.0
/*
 * shim/http_client against a VMM that sends what the input says, cut where the input says, between
 * requests, deadlines and its end. Each byte of order: what happens next; then its bytes.
 */
#include "fuzz.h"

#include "http_client.h"

#include <sys/socket.h>

static struct http_client c;
static unsigned answered, timed_out, asked;
static int null = -1; /* what rides on a request */

static void on_done(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct err ignored;
	FUZZ_CHECK(arg == &c && !answer == !!e);
	if (answer) {
		FUZZ_CHECK(!answer->interim && !answer->chunked);
		FUZZ_CHECK(answer->body_length <= HTTP_CLIENT_BODY_MAX);
		FUZZ_CHECK(answer->consumed <= c.in_used);
		answered++;
	} else {
		FUZZ_CHECK(!late);
		timed_out++;
		/* What handlers do: the next request from within. */
		if (timed_out == 1 && http_client_send(&c, "GET", "/again", NULL, "again",
						       INT64_MAX, on_done, &ignored) == 0)
			asked++;
	}
}

static void ask(uint8_t order)
{
	struct err e;
	int64_t deadline = 1 + (order >> 4);
	int sent;
	if (order & 8)
		sent = http_client_send_fd(&c, "PUT", "/fd", "{}", "fd", null, deadline, on_done,
					   &e);
	else
		sent = http_client_send(&c, "GET", "/a", order & 4 ? "{\"a\":1}" : NULL, "a",
					deadline, on_done, &e);
	if (sent == 0)
		asked++;
	else
		FUZZ_CHECK(e.text[0]);
}

static void step(struct fuzz_input *in, int peer)
{
	char sink[4096];
	uint8_t order = fuzz_byte(in);
	size_t got;
	const uint8_t *bytes;
	switch (order & 3) {
	case 0:
		ask(order);
		break;
	case 1:
		bytes = fuzz_bytes(in, fuzz_byte(in), &got);
		send(peer, bytes, got, MSG_DONTWAIT | MSG_NOSIGNAL);
		http_client_receive(&c);
		break;
	case 2:
		http_client_expire(&c, order >> 2);
		break;
	default:
		if (order == 0xff)
			shutdown(peer, SHUT_WR);
		while (recv(peer, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		http_client_flush(&c);
		http_client_receive(&c);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	struct fuzz_input in = {data, size};
	if (null < 0)
		null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int before = fuzz_free_fd();
	answered = timed_out = asked = 0;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	http_client_open(&c, pair[0], &c);
	while (in.left) {
		step(&in, pair[1]);
		FUZZ_CHECK(c.count <= HTTP_CLIENT_PENDING_MAX && c.in_used <= c.in_size);
		FUZZ_CHECK(!c.broken || c.count == 0);
	}
	close(pair[1]);
	http_client_receive(&c);
	/* Nobody waits for ever: all was answered, or told to have failed. */
	FUZZ_CHECK(c.broken && c.count == 0);
	FUZZ_CHECK(answered + timed_out >= asked && answered <= asked && timed_out <= asked);
	http_client_close(&c);
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
