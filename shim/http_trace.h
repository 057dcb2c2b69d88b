// SPDX-License-Identifier: Apache-2.0
/* The last requests to the VMM's API and how each ended: what a person on a bad day wants to see.
 */
#ifndef SHIM_HTTP_TRACE_H
#define SHIM_HTTP_TRACE_H

#include "http.h"
#include "msg.h"

/* A ring: entry number n is at n % MSG_EXCHANGES_MAX. All zero: empty. */
struct http_trace {
	uint64_t count; /* that there ever were */
	struct msg_exchange ring[MSG_EXCHANGES_MAX];
};

/* What is known of a request when it is queued; the time is now. */
void http_trace_begin(struct msg_exchange *x, const char *method, const char *path);

/*
 * How it ended after so long: with an answer (late: after its deadline), or without one for why
 * (may be NULL). Its words are untrusted: cleaned and cut. Kept in t, which may be NULL.
 */
void http_trace_end(struct http_trace *t, struct msg_exchange *x, int64_t took_us,
		    const struct http_response *answer, bool late, const struct err *why);

/* Copies what is kept, oldest first; how many. */
uint32_t http_trace_read(const struct http_trace *t, struct msg_exchange out[MSG_EXCHANGES_MAX]);

#endif
