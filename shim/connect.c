// SPDX-License-Identifier: Apache-2.0
#include "connect.h"

#include "serve.h"
#include "uplink.h"
#include "util.h"

static int send_connected(struct shim *s, uint32_t id, int fd, struct err *e)
{
	const struct msg_connected body = {0};
	ssize_t length = msg_write_connected(&body, e);
	if (length < 0)
		return -1;
	return chan_send(&s->link, MSG_CONNECTED, id, &body, (size_t)length, fd, e);
}

/* Takes the i-th out and answers it: with its connection, or with why it has none. */
static void answer(struct shim *s, unsigned i, const struct err *why)
{
	struct shim_connect c = s->connects[i];
	struct err e;
	s->connects[i] = s->connects[--s->connect_count];
	CLEANUP_FD int fd = c.conn.fd;
	/* The connection lives on elsewhere, and would wake us for ever if it stayed watched. */
	serve_unwatch(s, fd);
	if (why) {
		e = *why;
		err_prefix(&e, "vsock port %u", c.conn.port);
		uplink_error(s, c.id, &e);
	} else if (send_connected(s, c.id, fd, &e) < 0) {
		uplink_close(s, e.text);
	} else {
		serve_watch_link(s);
	}
}

void connect_start(struct shim *s, uint32_t id, const struct msg_connect *ask)
{
	struct err e;
	if (!(s->spec.flags & MSG_CREATE_VSOCK)) {
		err_set(&e, ERR_STATE, 0,
			"the sandbox has no vsock: create it with \"vsock\": true");
		uplink_error(s, id, &e);
		return;
	}
	if (s->connect_count == SHIM_CONNECTS) {
		err_set(&e, ERR_QUOTA, 0,
			"%u connections to the guest are being made already; try again",
			SHIM_CONNECTS);
		uplink_error(s, id, &e);
		return;
	}
	struct shim_connect *c = &s->connects[s->connect_count];
	c->id = id;
	c->deadline_us = clock_us() + ask->timeout_ms * 1000ll;
	int failed = vsock_start(&c->conn, s->jail.vsock_fd, s->jail.proc_fd, ask->port, &e);
	s->connect_count++;
	if (failed)
		answer(s, s->connect_count - 1, &e);
}

int64_t connect_step(struct shim *s, int64_t now_us)
{
	int64_t next = INT64_MAX;
	struct err e;
	/* The VMM is being ended, and closes them: its exit tells why. */
	if (s->ending != SHIM_ENDING_NONE)
		return INT64_MAX;
	/* Backwards: one that is answered is replaced by the last; and all may go with the link. */
	for (unsigned i = s->connect_count; i-- > 0 && i < s->connect_count;) {
		struct shim_connect *c = &s->connects[i];
		enum vsock_result result = vsock_step(&c->conn, &e);
		if (result == VSOCK_MORE && now_us >= c->deadline_us) {
			err_set(&e, ERR_DEADLINE, 0, "the guest did not answer in time");
			result = VSOCK_FAILED;
		}
		if (result != VSOCK_MORE) {
			answer(s, i, result == VSOCK_OPEN ? NULL : &e);
			continue;
		}
		serve_watch(s, c->conn.fd, SHIM_CONNECT, true, vsock_wants_write(&c->conn));
		if (c->deadline_us < next)
			next = c->deadline_us;
	}
	return next;
}

void connect_fail(struct shim *s, const struct err *why)
{
	while (s->connect_count)
		answer(s, s->connect_count - 1, why);
}

void connect_drop(struct shim *s)
{
	while (s->connect_count)
		vsock_close(&s->connects[--s->connect_count].conn);
}
