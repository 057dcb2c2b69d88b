// SPDX-License-Identifier: Apache-2.0
#include "announce.h"

#include "log.h"
#include "serve.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

static void hex(char *out, const uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < count; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

size_t announce_text(char out[SHIM_ANNOUNCE_MAX], const char *id, int64_t real_us,
		     const uint8_t generation[16], const uint8_t entropy[64])
{
	char time[CLOCK_TEXT_MAX], generation_hex[33], entropy_hex[129];
	clock_format(real_us, time);
	hex(generation_hex, generation, 16);
	hex(entropy_hex, entropy, 64);
	/* Names and times have nothing in them that JSON would want escaped. */
	int n = snprintf(out, SHIM_ANNOUNCE_MAX,
			 "{\"cloister\":1,\"event\":\"restored\",\"id\":\"%s\","
			 "\"generation\":\"%s\",\"time\":\"%s\",\"entropy\":\"%s\"}\n",
			 id, generation_hex, time, entropy_hex);
	explicit_bzero(entropy_hex, sizeof(entropy_hex));
	return (size_t)n;
}

void announce_close(struct shim *s)
{
	vsock_close(&s->announce.conn);
	explicit_bzero(s->announce.text, sizeof(s->announce.text));
	s->announce.length = 0;
}

static void give_up(struct shim *s, const char *why)
{
	log_debug("the guest was not told that it was restored: %s", why);
	announce_close(s);
}

void announce_start(struct shim *s)
{
	struct shim_announce *a = &s->announce;
	uint8_t bytes[16 + 64];
	char tenant[NAME_SIZE], id[NAME_SIZE];
	struct err e;
	if (!(s->spec.flags & MSG_CREATE_VSOCK))
		return;
	/* Never blocks: the host's pool was ready before any sandbox was. */
	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes)) {
		give_up(s, "no random bytes");
		return;
	}
	name_key_split(s->key, tenant, id);
	a->length = announce_text(a->text, id, clock_real_us(), bytes, bytes + 16);
	explicit_bzero(bytes, sizeof(bytes));
	a->sent = 0;
	a->open = false;
	a->deadline_us = clock_us() + ANNOUNCE_US;
	if (vsock_start(&a->conn, s->jail.vsock_fd, s->jail.proc_fd, ANNOUNCE_PORT, &e) < 0)
		give_up(s, e.text);
}

/* True when there is no more to do. */
static bool send_text(struct shim *s)
{
	struct shim_announce *a = &s->announce;
	while (a->sent < a->length) {
		ssize_t n = send(a->conn.fd, a->text + a->sent, a->length - a->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) {
			give_up(s, strerrordesc_np(errno));
			return true;
		}
		a->sent += (size_t)n;
	}
	log_debug("the guest was told that it was restored");
	announce_close(s);
	return true;
}

int64_t announce_step(struct shim *s, int64_t now_us)
{
	struct shim_announce *a = &s->announce;
	struct err e;
	if (a->length == 0)
		return INT64_MAX;
	if (!a->open) {
		enum vsock_result result = vsock_step(&a->conn, &e);
		if (result == VSOCK_FAILED) {
			give_up(s, e.text);
			return INT64_MAX;
		}
		a->open = result == VSOCK_OPEN;
	}
	if (a->open && send_text(s))
		return INT64_MAX;
	if (now_us >= a->deadline_us) {
		give_up(s, "no answer in time");
		return INT64_MAX;
	}
	/* Once open, nothing that it sends is read: watched for room only, or it could wake us. */
	serve_watch(s, a->conn.fd, SHIM_ANNOUNCE, !a->open, a->open || vsock_wants_write(&a->conn));
	return a->deadline_us;
}
