// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* What a step says: go on, wait for more bytes, or give up. */
enum step { STEP_ON, STEP_WAIT, STEP_BAD };

struct feed {
	size_t start, end; /* what of the buffer is still unread */
	char *why;
	size_t why_size;
};

#define BAD(feed, ...) (snprintf((feed)->why, (feed)->why_size, __VA_ARGS__), STEP_BAD)

void parse_free_request(struct request *request)
{
	if (!request)
		return;
	for (int i = 0; i < request->fd_count; i++)
		close(request->fds[i]);
	free(request->fds);
	free(request->path);
	free(request->body);
	free(request);
}

void parse_free(struct parser *p)
{
	for (int i = 0; i < p->fd_count; i++)
		close(p->fds[i]);
	p->fd_count = 0;
	parse_free_request(p->pending);
	p->pending = NULL;
	bytes_free(&p->body);
}

/* The end of the line that starts at feed->start, or -1; the length is without CR LF. */
static ssize_t parse_find_line(const struct parser *p, const struct feed *feed)
{
	const char *at = memmem(p->buffer + feed->start, feed->end - feed->start, "\r\n", 2);
	return at ? at - (p->buffer + feed->start) : -1;
}

/* Half a line moves to the front of the buffer and waits. */
static enum step parse_keep(struct parser *p, const struct feed *feed)
{
	size_t len = feed->end - feed->start;
	memmove(p->buffer, p->buffer + feed->start, len);
	p->cursor = len;
	return STEP_WAIT;
}

static int parse_method(const char *text, size_t len)
{
	if (len == 3 && !memcmp(text, "GET", 3))
		return HTTP_GET;
	if (len == 3 && !memcmp(text, "PUT", 3))
		return HTTP_PUT;
	if (len == 5 && !memcmp(text, "PATCH", 5))
		return HTTP_PATCH;
	return -1;
}

/* Only what follows the host counts of an absolute URI; anything else is no path at all. */
static char *parse_path(const char *uri, size_t len)
{
	if (len > 7 && !memcmp(uri, "http://", 7)) {
		const char *slash = memchr(uri + 7, '/', len - 7);
		return slash ? strndup(slash, len - (size_t)(slash - uri)) : strdup("");
	}
	return uri[0] == '/' ? strndup(uri, len) : strdup("");
}

bool parse_is_utf8(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c;) {
		int more = *c < 0x80 ? 0 : *c < 0xc2 ? -1 : *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : 3;
		if (more < 0 || *c++ > 0xf4)
			return false;
		while (more--) {
			if ((*c++ & 0xc0) != 0x80)
				return false;
		}
	}
	return true;
}

static enum step parse_request_line(struct parser *p, struct feed *feed)
{
	ssize_t found = parse_find_line(p, feed);
	if (found < 0) {
		if (feed->end == STANDIN_BUFFER && feed->start == 0)
			return BAD(feed, "Invalid request.");
		return parse_keep(p, feed);
	}
	const char *line = p->buffer + feed->start;
	size_t len = (size_t)found;
	feed->start += len + 2;
	const char *uri = memchr(line, ' ', len);
	const char *version = uri ? memchr(uri + 1, ' ', len - (size_t)(uri + 1 - line)) : NULL;
	if (!version)
		return BAD(feed, "Invalid request.");
	int method = parse_method(line, (size_t)(uri - line));
	if (method < 0)
		return BAD(feed, "Invalid HTTP Method: Unsupported HTTP method.");
	uri++;
	if (uri == version)
		return BAD(feed, "Invalid URI: Empty URI not allowed.");
	char copy[STANDIN_BUFFER];
	snprintf(copy, sizeof(copy), "%.*s", (int)(version - uri), uri);
	if (!parse_is_utf8(copy))
		return BAD(feed, "Invalid URI: Cannot parse URI as UTF-8.");
	size_t version_len = len - (size_t)(version + 1 - line);
	if (version_len != 8 ||
	    (memcmp(version + 1, "HTTP/1.0", 8) && memcmp(version + 1, "HTTP/1.1", 8)))
		return BAD(feed, "Invalid HTTP Version: Unsupported HTTP version.");
	parse_free_request(p->pending);
	p->pending = calloc(1, sizeof(*p->pending));
	if (!p->pending)
		abort();
	p->pending->method = (enum http_method)method;
	p->pending->path = parse_path(uri, (size_t)(version - uri));
	p->length = 0;
	p->expect = false;
	p->state = PARSE_HEADERS;
	return STEP_ON;
}

static char *parse_trim(char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	for (char *end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);)
		*--end = '\0';
	return text;
}

static bool parse_u32(const char *text, uint32_t *number)
{
	if (*text == '+')
		text++;
	if (!*text || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	unsigned long value = strtoul(text, NULL, 10);
	if (errno || value > UINT32_MAX)
		return false;
	*number = (uint32_t)value;
	return true;
}

/* Only an encoding that rules out a plain answer is an error. value is the function's to change. */
static enum step parse_encoding(struct feed *feed, char *value)
{
	if (!*value)
		return BAD(feed, "Invalid request.");
	bool named = strstr(value, "identity") != NULL;
	char *save = NULL;
	for (char *item = strtok_r(value, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		const char *entry = parse_trim(item);
		if (!strcmp(entry, "identity;q=0") || (!strcmp(entry, "*;q=0") && !named))
			return BAD(feed,
				   "Invalid header. Reason: Invalid value. "
				   "Key:Accept-Encoding; Value:%s",
				   entry);
	}
	return STEP_ON;
}

/* One header line, NUL-ended and the function's to change. */
static enum step parse_header(struct parser *p, struct feed *feed, char *line)
{
	if (!parse_is_utf8(line))
		return BAD(feed, "Invalid header. Reason: Header contains invalid characters. Key: "
				 "invalid utf-8 sequence");
	char *value = strchr(line, ':');
	if (!value)
		return BAD(feed, "Invalid header. Reason: Header is incorrectly formatted. Key: %s",
			   line);
	*value++ = '\0';
	char *raw = value, *name = parse_trim(line);
	char copy[STANDIN_BUFFER];
	snprintf(copy, sizeof(copy), "%s", value);
	char *trimmed = parse_trim(copy);
	if (!strcasecmp(name, "content-length")) {
		if (!parse_u32(trimmed, &p->length))
			return BAD(feed, "Invalid header. Reason: Invalid value. Key:%s; Value:%s",
				   name, raw);
	} else if (!strcasecmp(name, "expect")) {
		p->expect |= !strcmp(trimmed, "100-continue");
	} else if (!strcasecmp(name, "accept-encoding")) {
		return parse_encoding(feed, trimmed);
	}
	return STEP_ON;
}

static enum step parse_end_of_headers(struct parser *p, struct feed *feed, int *interim)
{
	if (p->length > STANDIN_BODY_MAX)
		return BAD(feed,
			   "Request payload with size %u is larger than the limit of %d allowed by "
			   "server.",
			   p->length, STANDIN_BODY_MAX);
	if (p->length && p->expect)
		++*interim;
	p->left = p->length;
	p->state = PARSE_BODY;
	feed->start += 2;
	return STEP_ON;
}

static enum step parse_headers(struct parser *p, struct feed *feed, int *interim)
{
	ssize_t found = parse_find_line(p, feed);
	if (found == 0)
		return parse_end_of_headers(p, feed, interim);
	if (found < 0) {
		if (feed->end == STANDIN_BUFFER && feed->start == 0)
			return BAD(feed,
				   "Invalid header. Reason: Invalid content length. Header: %.*s",
				   STANDIN_BUFFER, p->buffer);
		return parse_keep(p, feed);
	}
	if (!p->pending)
		return BAD(feed, "No request was pending while the request headers were being "
				 "parsed.");
	char line[STANDIN_BUFFER];
	memcpy(line, p->buffer + feed->start, (size_t)found);
	line[found] = '\0';
	enum step step = parse_header(p, feed, line);
	if (step == STEP_ON)
		feed->start += (size_t)found + 2;
	return step;
}

static enum step parse_body(struct parser *p, struct feed *feed, struct request **done)
{
	size_t there = feed->end - feed->start;
	if (p->left > there) {
		bytes_add(&p->body, p->buffer + feed->start, there);
		p->left -= (uint32_t)there;
		p->cursor = 0;
		return STEP_WAIT;
	}
	if (!p->pending)
		return BAD(feed, "No request was pending while the request body was being parsed.");
	bytes_add(&p->body, p->buffer + feed->start, p->left);
	feed->start += p->left;
	struct request *request = p->pending;
	p->pending = NULL;
	if (p->length) {
		request->body_len = p->body.len;
		request->body = p->body.data;
		p->body = (struct bytes){0};
	} else {
		p->body.len = 0;
	}
	/* every descriptor that has come by now goes with the first request that is whole */
	if (p->fd_count) {
		size_t size = sizeof(int) * (size_t)p->fd_count;
		request->fds = malloc(size);
		if (!request->fds)
			abort();
		memcpy(request->fds, p->fds, size);
		request->fd_count = p->fd_count;
		p->fd_count = 0;
	}
	p->state = PARSE_LINE;
	while (*done)
		done = &(*done)->next;
	*done = request;
	return STEP_ON;
}

int parse_bytes(struct parser *p, size_t end, struct request **done, int *interim, char *why,
		size_t why_size)
{
	struct feed feed = {.end = end, .why = why, .why_size = why_size};
	for (;;) {
		enum step step;
		if (p->state == PARSE_LINE)
			step = parse_request_line(p, &feed);
		else if (p->state == PARSE_HEADERS)
			step = parse_headers(p, &feed, interim);
		else
			step = parse_body(p, &feed, done);
		if (step == STEP_WAIT)
			return 0;
		if (step == STEP_BAD)
			return -1; /* cursor and state stay: that is what poisons a connection */
	}
}
