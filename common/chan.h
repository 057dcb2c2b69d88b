// SPDX-License-Identifier: Apache-2.0
/*
 * One end of a SEQPACKET pair with a bounded queue of records that could not be sent at once.
 * It never blocks; the owner's event loop watches the descriptor.
 */
#ifndef COMMON_CHAN_H
#define COMMON_CHAN_H

#include "msg.h"

struct chan_item;

struct chan {
	int fd; /* -1: closed */
	struct chan_item *head, **tail;
	size_t queued_bytes;
	size_t max_bytes;
};

/* Takes over fd (made non-blocking); at most max_bytes wait in the queue. */
void chan_open(struct chan *c, int fd, size_t max_bytes);

/* Closes it and drops what is queued. Safe on a closed one, and on one that is all zero with fd -1.
 */
void chan_close(struct chan *c);

/* True while records wait: watch the descriptor for writing, then call chan_flush(). */
bool chan_wants_write(const struct chan *c);

/* Sends what waits, as far as the socket takes it. -1: the peer is gone or broken, close. */
int chan_flush(struct chan *c, struct err *e);

/*
 * Sends or queues one record. fd: -1, or a descriptor that rides along (it stays the caller's; a
 * queued record holds a copy). -1: peer gone, or the queue is full (ERR_NO_SPACE).
 * A closed channel is ERR_UNAVAILABLE.
 */
int chan_send(struct chan *c, enum msg_type type, uint32_t id, const void *body, size_t length,
	      int fd, struct err *e);

/* chan_send() for each type: checks the body with msg_write_NAME() first. */
#define X(upper, lower, fds, tail)                                                                 \
	int chan_send_##lower(struct chan *c, uint32_t id, const struct msg_##lower *body,         \
			      struct err *e);
MSG_TABLE(X)
#undef X

/* The answer ERROR made from why. */
int chan_send_err(struct chan *c, uint32_t id, const struct err *why, struct err *e);

#endif
