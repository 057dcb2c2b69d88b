// SPDX-License-Identifier: Apache-2.0
/*
 * The shim's HTTP client: one keep-alive connection to Cloud Hypervisor, made before it started.
 *
 * Requests are pipelined and answered in order. Nothing blocks, buffers are bounded, each request
 * has a deadline. It never half-closes (CH drops the request) and never sends chunks (CH does not
 * read them). After a 400, or bytes that are no HTTP, the connection counts as broken: CH's server
 * may answer every later request on it wrongly.
 */
#ifndef SHIM_HTTP_CLIENT_H
#define SHIM_HTTP_CLIENT_H

#include "err.h"
#include "http.h"
#include "http_trace.h"

#include <stdint.h>

#define HTTP_CLIENT_PENDING_MAX 8
#define HTTP_CLIENT_BODY_MAX	(256u * 1024) /* of an answer */
#define HTTP_CLIENT_SEND_MAX	(128u * 1024) /* bytes waiting to be sent */
#define HTTP_CLIENT_INTERIM_MAX 8	      /* answers of status 1xx before the one that counts */

/*
 * How a request ended: an answer of any status (e NULL), or none (answer NULL and e says why).
 * late: the deadline had passed and been reported before; this is the answer all the same.
 */
typedef void http_client_done_fn(void *arg, const struct http_response *answer, bool late,
				 const struct err *e);

struct http_client_pending {
	http_client_done_fn *done;
	const char *what;
	int64_t deadline_us;
	bool expired;
	int64_t sent_us;
	struct msg_exchange note;
};

struct http_client {
	int fd;
	int ride_fd; /* goes with the next byte that is sent, or -1 */
	bool broken;
	void *arg;
	struct http_trace *trace; /* where exchanges are kept, NULL: nowhere; the owner sets it */
	char *in, *out;
	size_t in_used, in_size, out_used;
	unsigned count;
	unsigned interims; /* since the last answer proper */
	struct http_client_pending pending[HTTP_CLIENT_PENDING_MAX];
};

/* Takes over a connected, non-blocking socket. arg goes to every done function. */
void http_client_open(struct http_client *c, int fd, void *arg);
void http_client_close(struct http_client *c);

/*
 * Queues a request and sends what the socket takes. path such as "/api/v1/vmm.ping"; body NULL for
 * none (it is copied); what, a string that stays, names it in errors. deadline_us by clock_us().
 */
int http_client_send(struct http_client *c, const char *method, const char *path, const char *body,
		     const char *what, int64_t deadline_us, http_client_done_fn *done,
		     struct err *e);

/*
 * The same, and a descriptor rides on the request (SCM_RIGHTS); it stays the caller's, and open
 * until the answer. CH gives it to the first request that is complete, so none may be under way.
 */
int http_client_send_fd(struct http_client *c, const char *method, const char *path,
			const char *body, const char *what, int fd, int64_t deadline_us,
			http_client_done_fn *done, struct err *e);

/* True while there are bytes to send: watch for writing, then http_client_flush(). */
bool http_client_wants_write(const struct http_client *c);
void http_client_flush(struct http_client *c);

/* Reads what is there and reports the answers that are complete. */
void http_client_receive(struct http_client *c);

/* Reports requests whose deadline has passed; their slots stay taken until CH answers. */
void http_client_expire(struct http_client *c, int64_t now_us);

/* The requests under way, oldest first, with their age; how many. */
unsigned http_client_open_requests(const struct http_client *c, int64_t now_us,
				   struct msg_exchange out[HTTP_CLIENT_PENDING_MAX]);

/* The earliest deadline that is not yet reported, or INT64_MAX. */
int64_t http_client_next_deadline(const struct http_client *c);

#endif
