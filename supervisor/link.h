// SPDX-License-Identifier: Apache-2.0
/*
 * One SEQPACKET channel (common/chan.h) on the event loop: requests get numbers, answers find
 * their callback, each request has a deadline. Used for the spawner and for every shim.
 */
#ifndef SUPERVISOR_LINK_H
#define SUPERVISOR_LINK_H

#include "chan.h"

#include <event2/event.h>

struct link;

/*
 * Called once per request: with the answer (*m, of the type asked for; its descriptors may be
 * taken with fd_take()), or with why there is none (m NULL): the peer's ERROR, the deadline, or
 * the end of the link. May free the link.
 */
typedef void link_answer_fn(void *arg, struct msg *m, const struct err *why);

struct link_user {
	/* A record with id 0. A malformed body: call link_fail(). May free the link. */
	void (*record)(void *arg, struct msg *m);
	/* The channel is closed (peer gone, or broken); all requests have been answered. The
	 * owner still has to free the link. */
	void (*closed)(void *arg, const struct err *why);
	/* The end of the channel is that of this process: requests are not answered at it, so that
	 * nothing is done, or recorded, that whoever comes after would have to undo. */
	bool last;
};

/* Takes over fd. name (it stays the caller's) stands in messages. NULL: no memory. */
struct link *link_open(struct event_base *base, int fd, const char *name,
		       const struct link_user *user, void *arg, struct err *e);

/* Closes and frees it; no callback is called any more. NULL is allowed. */
void link_free(struct link *l);

/* Closes the channel for a reason of ours, as if the peer had gone. */
void link_fail(struct link *l, const struct err *why);

/* From now on records and the end go to another user (a name and an argument that stay). */
void link_hand_over(struct link *l, const char *name, const struct link_user *user, void *arg);

/* Handles all that has already arrived, up to the end of the channel. May free the link. */
void link_drain(struct link *l);

/* For records that have no answer (chan_send_NAME()), followed by link_kick(). */
struct chan *link_chan(struct link *l);
void link_kick(struct link *l);

/*
 * Sends a request whose answer is of type answer. deadline_ms 0: none (only for reads that wait
 * for the guest, and where the asker keeps time itself). -1 when it could not be sent: then cb is
 * not called.
 */
int link_request(struct link *l, enum msg_type type, const void *body, size_t length,
		 enum msg_type answer, uint32_t deadline_ms, link_answer_fn *cb, void *arg,
		 struct err *e);

/* link_request() for each type: checks the body with msg_write_NAME() first. */
#define X(upper, lower, fds, tail)                                                                 \
	int link_request_##lower(struct link *l, const struct msg_##lower *body,                   \
				 enum msg_type answer, uint32_t deadline_ms, link_answer_fn *cb,   \
				 void *arg, struct err *e);
MSG_TABLE(X)
#undef X

/* The request with this arg gets no answer any more (its asker is gone). */
void link_forget(struct link *l, const void *arg);

#endif
