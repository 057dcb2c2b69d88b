// SPDX-License-Identifier: Apache-2.0
/*
 * One request on one connection to the control socket, without blocking: the caller polls.
 *
 * Every request has a connection of its own (Connection: close). It costs a local connect(2) and
 * leaves no state to repair when an answer is cut or late.
 */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H

#include "err.h"
#include "http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_HTTP_BODY_MAX (16u << 20) /* of an answer that is no stream */

enum cli_http_step {
	CLI_HTTP_WAIT,	 /* nothing to do before cli_http_poll_events() happen */
	CLI_HTTP_HEAD,	 /* the head is there: h->response; told once */
	CLI_HTTP_DATA,	 /* a piece of the body, valid until the next step */
	CLI_HTTP_END,	 /* the body is complete */
	CLI_HTTP_FAILED, /* *e says why */
};

struct cli_http {
	int fd; /* -1: closed */
	bool at_eof;
	bool head_done, body_given;
	bool upgrade;  /* the connection is to become something else */
	bool switched; /* it has: in[in_at..in_len] and the descriptor are that now */
	char *out;     /* what is to send */
	size_t out_len, out_sent;
	char *in; /* what came: in[in_at..in_len] is not yet consumed */
	size_t in_at, in_len, in_size;
	struct http_response response;
	struct http_chunked chunked;
};

/*
 * Connects to the socket at path and makes the request ready. type is the body's media type, or
 * NULL where there is no body. Waits no longer than deadline_us (CLOCK_MONOTONIC) for room in the
 * listener's queue. -1: nothing is open (ERR_UNAVAILABLE: nobody listens there).
 */
int cli_http_start(struct cli_http *h, const char *path, const char *method, const char *target,
		   const char *type, const char *body, size_t body_len, int64_t deadline_us,
		   struct err *e);

/*
 * The same for a GET that asks for the connection to become one of that protocol (RFC 9110 section
 * 7.8). After CLI_HTTP_HEAD h->switched says whether it has; otherwise a normal answer follows.
 */
int cli_http_start_upgrade(struct cli_http *h, const char *path, const char *target,
			   const char *protocol, int64_t deadline_us, struct err *e);

/* Does what can be done now. After CLI_HTTP_END or CLI_HTTP_FAILED: cli_http_close(). */
enum cli_http_step cli_http_step(struct cli_http *h, const char **data, size_t *len, struct err *e);

/* What to poll(2) h->fd for. */
short cli_http_poll_events(const struct cli_http *h);

/* A number from the answer's header name; false when it is not there or no number. */
bool cli_http_header_u64(const struct cli_http *h, const char *name, uint64_t *out);

/* Safe on one that is closed, or all zero but for fd -1. */
void cli_http_close(struct cli_http *h);

/* An answer that is complete. */
struct cli_answer {
	int status;
	char *body; /* ended by a NUL that is not counted; free with cli_answer_clear() */
	size_t length;
	uint64_t console_end; /* of X-Console-End, 0 without */
};

void cli_answer_clear(struct cli_answer *a);

/* A request whose whole answer is wanted, for a caller's own poll loop. */
struct cli_call {
	struct cli_http http;
	struct cli_answer answer;
	int64_t deadline_us;
};

/* cli_http_start() for a call that has timeout_us. */
int cli_call_start(struct cli_call *c, const char *path, const char *method, const char *target,
		   const char *type, const char *body, size_t body_len, int64_t timeout_us,
		   struct err *e);

/*
 * CLI_HTTP_WAIT, CLI_HTTP_END (c->answer is filled) or CLI_HTTP_FAILED (also ERR_DEADLINE when
 * its time is over). The connection is closed after the last two.
 */
enum cli_http_step cli_call_step(struct cli_call *c, struct err *e);

/* True from cli_call_start() until the end. */
bool cli_call_is_open(const struct cli_call *c);

void cli_call_close(struct cli_call *c);

/* Runs a started call to its end. */
int cli_call_finish(struct cli_call *c, struct err *e);

/*
 * Waits until h->fd is ready, at most timeout_us (negative: for ever). 1 ready, 0 time over, -1
 * on an error.
 */
int cli_http_wait(const struct cli_http *h, int64_t timeout_us, struct err *e);

#endif
