// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a guest is ready, as a create's wait_for asks: it is tried again and again, without
 * blocking, until it is or the time is over. The guest is at the other end: what it sends is
 * bounded, and each try has an end of its own.
 */
#ifndef SHIM_READY_H
#define SHIM_READY_H

#include "console.h"
#include "err.h"
#include "http.h"
#include "msg.h"
#include "vsock.h"

/* Between the starts of two tries, longer each time. */
#define READY_DELAY_MIN_US 20000
#define READY_DELAY_MAX_US 250000

/*
 * How long one try may take. A SYN that was lost before the guest's network was up is sent again by
 * the kernel after a second only: a new connection is sooner. So a guest that takes longer than the
 * most of these to answer one does not count as ready.
 */
#define READY_SYN_MIN_US 100000
#define READY_SYN_MAX_US 500000
#define READY_HTTP_US	 5000000
/* CH itself gives up after 2 s; and one that waits is answered as soon as the guest has a driver.
 */
#define READY_VSOCK_US 5000000

/* Where to look. The descriptors stay the caller's. */
struct ready_where {
	uint32_t address; /* of the guest, IPv4 in host order, with MSG_WAIT_TCP and HTTP */
	int vsock_fd;	  /* the directory of the VMM's vsock socket, */
	int proc_fd;	  /* and /proc, both for vsock_start() */
	const struct console *console;
};

enum ready_result { READY_MORE, READY_DONE, READY_FAILED };

struct ready {
	struct msg_wait wait; /* kind MSG_WAIT_NONE: nothing is waited for */
	struct ready_where where;
	bool trying; /* else: until next_us */
	bool connected;
	int fd; /* with MSG_WAIT_TCP and HTTP */
	struct vsock_conn vsock;
	int64_t deadline_us, next_us, started_us, try_end_us;
	int64_t delay_us, syn_us; /* of the next try */
	char out[MSG_WAIT_TEXT_MAX + 128];
	size_t sent, got;
	unsigned interim;
	char in[HTTP_HEAD_MAX];
	char last[128]; /* what was seen last */
};

#define READY_INIT                                                                                 \
	{                                                                                          \
		.fd = -1, .vsock = VSOCK_CONN_INIT                                                 \
	}

/* wait->timeout_ms is counted from now_us (clock_us()) on. */
void ready_start(struct ready *r, const struct msg_wait *wait, const struct ready_where *where,
		 int64_t now_us);

static inline bool ready_is_on(const struct ready *r)
{
	return r->wait.kind != MSG_WAIT_NONE;
}

/*
 * Goes on as far as it can: when its descriptor is ready, when the console has grown, and at
 * ready_next(). READY_DONE and READY_FAILED end it; the latter fills *e (ERR_DEADLINE) with what
 * was waited for and what was seen last.
 */
enum ready_result ready_step(struct ready *r, int64_t now_us, struct err *e);

/* When to step at the latest; INT64_MAX when nothing is waited for. */
int64_t ready_next(const struct ready *r);

/* The descriptor to watch for reading, and for writing if *write; -1: none now. */
int ready_fd(const struct ready *r, bool *write);

/* "tcp port 80", "http port 80 path /health" and so on. */
void ready_describe(const struct msg_wait *wait, char *out, size_t size);

/* Ends it, whatever its state. */
void ready_close(struct ready *r);

#endif
