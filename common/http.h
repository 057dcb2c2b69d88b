// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1.1 responses read as pure functions over bytes (RFC 9112). No descriptor, no allocation.
 *
 * The shim reads Cloud Hypervisor with it, whose bytes a guest may have forged; the client reads
 * cloisterd. So it is strict about everything that decides where a message ends, and lenient only
 * where Cloud Hypervisor's server departs from the RFC: no reason phrase, with or without the blank
 * after the status, and no Content-Length on an answer that has no body.
 */
#ifndef COMMON_HTTP_H
#define COMMON_HTTP_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 8192 /* bytes of a head with the empty line that ends it */

enum http_result {
	HTTP_MORE,  /* well-formed so far: call again with more bytes (never given at_eof) */
	HTTP_DONE,  /* *out is filled */
	HTTP_ERROR, /* *e says why; the connection cannot be used any more */
};

struct http_response {
	int status;	    /* 100..599 */
	size_t head_length; /* bytes up to and with the empty line */
	const char *body;   /* into buf; not ended by NUL */
	size_t body_length;
	size_t consumed; /* bytes of buf that were this response */
	bool close;	 /* the peer will close: take a new connection for the next request */
	bool chunked;	 /* only the head is consumed: the body is for http_chunked_feed() */
	bool has_length; /* a Content-Length was there */
	bool interim;	 /* 1xx: the answer proper is still to come, call again behind it */
};

/*
 * Reads one response at the start of buf[len]. at_eof: the peer has closed, no byte will follow.
 * A body of more than body_max bytes is an error, told as soon as its length is known.
 *
 * Bodies: none for 1xx, 204 and 304, whatever the head says. Without a length and not chunked:
 * until the end of the connection where the peer says that it closes (or speaks HTTP/1.0), none
 * for any other 2xx, an error otherwise. 101 is an error: nobody here asks for it.
 *
 * Errors are of kind ERR_VMM. *out is undefined but after HTTP_DONE.
 */
enum http_result http_parse_response(const char *buf, size_t len, bool at_eof, size_t body_max,
				     struct http_response *out, struct err *e);

/*
 * The same for whom the head is enough: HTTP_DONE as soon as it is whole, consumed is its length,
 * and nothing is known of a body but where it begins.
 */
enum http_result http_parse_head(const char *buf, size_t len, bool at_eof,
				 struct http_response *out, struct err *e);

/*
 * Finds the header name (any case) in a head that http_parse_response() took: *value points into
 * buf, without the blanks around it. False when it is not there. The first of several counts.
 */
bool http_header(const char *buf, size_t head_length, const char *name, const char **value,
		 size_t *length);

/*
 * Makes one line of printable ASCII from the body of an error answer, whatever it is: an array of
 * strings (joined by ": "), an object with "error" in it, even one that is not valid JSON, plain
 * text, or nothing (then out is empty). out[size] is always ended; what does not fit is cut and
 * ends in "...". Never fails.
 */
void http_error_text(const char *body, size_t len, char *out, size_t size);

/* The largest single chunk that is taken. */
#define HTTP_CHUNK_MAX (UINT64_C(1) << 30)

/* State of one chunked body (RFC 9112 section 7.1). All zero is the start. */
struct http_chunked {
	int state;     /* private */
	uint64_t left; /* of the present chunk */
	size_t line;   /* bytes of the size line or the trailers so far, bounded */
};

/*
 * Takes bytes from in[len]: *used says how many. *out and *out_len give the piece of body found,
 * inside in (length 0: none). HTTP_MORE: feed the rest, or more; HTTP_DONE: the body is complete
 * and *used ends behind it; HTTP_ERROR: malformed. An end of connection before HTTP_DONE is a cut
 * body: that is for the caller to notice.
 */
enum http_result http_chunked_feed(struct http_chunked *c, const char *in, size_t len, size_t *used,
				   const char **out, size_t *out_len, struct err *e);

#endif
