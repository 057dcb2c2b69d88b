// SPDX-License-Identifier: Apache-2.0
#include "cli_http.h"

#include "util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536u /* the first size of the buffer, and all that a stream needs */

static int connect_failed(struct err *e, const char *path, int errnum)
{
	const char *hint = "";
	if (errnum == ENOENT || errnum == ECONNREFUSED)
		hint = " (is cloisterd running? -s or CLOISTER_SOCKET name another socket)";
	else if (errnum == EACCES)
		hint = " (your user must be in cloisterd's control group)";
	return err_set(e, ERR_UNAVAILABLE, errnum, "connect to the supervisor at %s%s", path, hint);
}

/*
 * connect(2) on a non-blocking unix socket never waits: with the listener's queue full it fails
 * with EAGAIN, and only another try will tell when there is room.
 */
static int connect_to(const char *path, int64_t deadline_us, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (!str_copy(addr.sun_path, sizeof(addr.sun_path), path))
		return err_set(e, ERR_INVALID, 0, "the socket's path is longer than %zu bytes: %s",
			       sizeof(addr.sun_path) - 1, path);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "make a unix socket");
	while (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return connect_failed(e, path, errno);
		if (clock_us() >= deadline_us)
			return err_set(e, ERR_DEADLINE, 0,
				       "connect to the supervisor at %s: it takes no more "
				       "connections; try again later",
				       path);
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
	}
	return fd_take(&fd);
}

/* The descriptor and room for the answer. */
static int open_to(struct cli_http *h, const char *path, int64_t deadline_us, struct err *e)
{
	*h = (struct cli_http){.fd = -1};
	h->fd = connect_to(path, deadline_us, e);
	if (h->fd < 0)
		return -1;
	h->in = malloc(READ_SIZE);
	h->in_size = READ_SIZE;
	if (h->in)
		return 0;
	cli_http_close(h);
	return err_set(e, ERR_NO_SPACE, ENOMEM, "make a request");
}

int cli_http_start_upgrade(struct cli_http *h, const char *path, const char *target,
			   const char *protocol, int64_t deadline_us, struct err *e)
{
	char *head = NULL;
	if (open_to(h, path, deadline_us, e) < 0)
		return -1;
	int n = asprintf(&head,
			 "GET %s HTTP/1.1\r\nHost: cloister\r\nConnection: Upgrade\r\n"
			 "Upgrade: %s\r\n\r\n",
			 target, protocol);
	if (n < 0) {
		cli_http_close(h);
		return err_set(e, ERR_NO_SPACE, ENOMEM, "make a request");
	}
	h->out = head;
	h->out_len = (size_t)n;
	h->upgrade = true;
	return 0;
}

static int make_request(struct cli_http *h, const char *method, const char *target,
			const char *type, const char *body, size_t body_len, struct err *e)
{
	char length[128] = "";
	if (type)
		snprintf(length, sizeof(length), "Content-Type: %s\r\nContent-Length: %zu\r\n",
			 type, body_len);
	else if (strcmp(method, "POST") == 0)
		snprintf(length, sizeof(length), "Content-Length: 0\r\n");
	char *head = NULL;
	int n = asprintf(&head, "%s %s HTTP/1.1\r\nHost: cloister\r\nConnection: close\r\n%s\r\n",
			 method, target, length);
	if (n < 0)
		return err_set(e, ERR_NO_SPACE, ENOMEM, "make a request");
	h->out = head;
	h->out_len = (size_t)n;
	if (!type || body_len == 0)
		return 0;
	h->out = realloc(head, h->out_len + body_len);
	if (!h->out) {
		free(head);
		return err_set(e, ERR_NO_SPACE, ENOMEM, "make a request");
	}
	memcpy(h->out + h->out_len, body, body_len);
	h->out_len += body_len;
	return 0;
}

int cli_http_start(struct cli_http *h, const char *path, const char *method, const char *target,
		   const char *type, const char *body, size_t body_len, int64_t deadline_us,
		   struct err *e)
{
	if (open_to(h, path, deadline_us, e) < 0)
		return -1;
	if (make_request(h, method, target, type, body, body_len, e) < 0) {
		cli_http_close(h);
		return -1;
	}
	return 0;
}

void cli_http_close(struct cli_http *h)
{
	fd_close(&h->fd);
	free(h->out);
	free(h->in);
	*h = (struct cli_http){.fd = -1};
}

short cli_http_poll_events(const struct cli_http *h)
{
	return h->out_sent < h->out_len ? POLLOUT | POLLIN : POLLIN;
}

int cli_http_wait(const struct cli_http *h, int64_t timeout_us, struct err *e)
{
	struct pollfd p = {.fd = h->fd, .events = cli_http_poll_events(h)};
	int64_t ms = timeout_us < 0 ? -1 : (timeout_us + 999) / 1000;
	int n = poll(&p, 1, ms > INT32_MAX ? INT32_MAX : (int)ms);
	if (n < 0 && errno != EINTR)
		return err_errno(e, errno, "wait for the supervisor");
	return n != 0;
}

/*
 * Sends what is left. A server that has refused the request stops reading: what it said is still
 * to be read, so a broken pipe only ends the sending.
 */
static int send_some(struct cli_http *h, struct err *e)
{
	while (h->out_sent < h->out_len) {
		ssize_t n =
			send(h->fd, h->out + h->out_sent, h->out_len - h->out_sent, MSG_NOSIGNAL);
		if (n >= 0) {
			h->out_sent += (size_t)n;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			h->out_sent = h->out_len;
		} else if (errno == EAGAIN) {
			return 0;
		} else if (errno != EINTR) {
			return err_errno(e, errno, "send a request to the supervisor");
		}
	}
	return 0;
}

/* Moves what is left to the front; makes room for more, as far as an answer may grow. */
static int make_room(struct cli_http *h, struct err *e)
{
	if (h->in_at > 0) {
		memmove(h->in, h->in + h->in_at, h->in_len - h->in_at);
		h->in_len -= h->in_at;
		h->in_at = 0;
	}
	if (h->in_len < h->in_size)
		return 0;
	size_t size = h->in_size * 2;
	if (size > CLI_HTTP_BODY_MAX + 2 * READ_SIZE)
		size = CLI_HTTP_BODY_MAX + 2 * READ_SIZE;
	char *in = size > h->in_size ? realloc(h->in, size) : NULL;
	if (!in)
		return err_set(e, ERR_NO_SPACE, ENOMEM, "read an answer of the supervisor");
	h->in = in;
	h->in_size = size;
	return 0;
}

/* 1: something new (bytes, or the end), 0: nothing now. */
static int read_some(struct cli_http *h, struct err *e)
{
	if (h->at_eof)
		return 0;
	if (make_room(h, e) < 0)
		return -1;
	ssize_t n = recv(h->fd, h->in + h->in_len, h->in_size - h->in_len, 0);
	if (n > 0) {
		h->in_len += (size_t)n;
		return 1;
	}
	if (n == 0 || errno == ECONNRESET) {
		h->at_eof = true;
		return 1;
	}
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return err_errno(e, errno, "read an answer of the supervisor");
}

/* The parser's words are about bytes; these say whose they were. */
static enum cli_http_step bad_answer(struct err *e)
{
	e->kind = ERR_UNAVAILABLE;
	err_prefix(e, "the supervisor gave no valid answer");
	return CLI_HTTP_FAILED;
}

/* Whether the answer switches protocols; what follows its head is no HTTP then. */
static bool has_switched(struct cli_http *h)
{
	static const char line[] = "HTTP/1.1 101";
	size_t n = h->in_len - h->in_at;
	if (!h->upgrade || n < sizeof(line) ||
	    memcmp(h->in + h->in_at, line, sizeof(line) - 1) != 0)
		return false;
	const char *end = memmem(h->in + h->in_at, n, "\r\n\r\n", 4);
	if (!end)
		return false;
	h->in_at = (size_t)(end - h->in) + 4;
	h->response = (struct http_response){.status = 101};
	h->switched = h->head_done = true;
	return true;
}

/* The head, and with it the whole body of an answer that is not chunked. */
static enum cli_http_step step_head(struct cli_http *h, struct err *e)
{
	for (;;) {
		if (has_switched(h))
			return CLI_HTTP_HEAD;
		switch (http_parse_response(h->in + h->in_at, h->in_len - h->in_at, h->at_eof,
					    CLI_HTTP_BODY_MAX, &h->response, e)) {
		case HTTP_MORE:
			return CLI_HTTP_WAIT;
		case HTTP_ERROR:
			return bad_answer(e);
		case HTTP_DONE:
			break;
		}
		if (!h->response.interim) {
			h->head_done = true;
			return CLI_HTTP_HEAD;
		}
		h->in_at += h->response.consumed;
	}
}

static enum cli_http_step step_body(struct cli_http *h, const char **data, size_t *len,
				    struct err *e)
{
	if (!h->response.chunked) {
		if (h->body_given || h->response.body_length == 0)
			return CLI_HTTP_END;
		h->body_given = true;
		*data = h->response.body;
		*len = h->response.body_length;
		return CLI_HTTP_DATA;
	}
	if (!h->body_given) {
		h->body_given = true;
		h->in_at += h->response.head_length;
	}
	size_t used;
	enum http_result r = http_chunked_feed(&h->chunked, h->in + h->in_at, h->in_len - h->in_at,
					       &used, data, len, e);
	h->in_at += used;
	if (r == HTTP_ERROR)
		return bad_answer(e);
	if (*len > 0)
		return CLI_HTTP_DATA;
	if (r == HTTP_DONE)
		return CLI_HTTP_END;
	if (h->at_eof) {
		err_set(e, ERR_UNAVAILABLE, 0, "the supervisor closed in the middle of an answer");
		return CLI_HTTP_FAILED;
	}
	return CLI_HTTP_WAIT;
}

enum cli_http_step cli_http_step(struct cli_http *h, const char **data, size_t *len, struct err *e)
{
	if (send_some(h, e) < 0)
		return CLI_HTTP_FAILED;
	for (;;) {
		enum cli_http_step step =
			h->head_done ? step_body(h, data, len, e) : step_head(h, e);
		if (step != CLI_HTTP_WAIT)
			return step;
		int n = read_some(h, e);
		if (n <= 0)
			return n < 0 ? CLI_HTTP_FAILED : CLI_HTTP_WAIT;
	}
}

bool cli_http_header_u64(const struct cli_http *h, const char *name, uint64_t *out)
{
	const char *value;
	size_t length;
	char text[24];
	const char *head = h->response.body - h->response.head_length;
	if (!http_header(head, h->response.head_length, name, &value, &length) ||
	    length >= sizeof(text))
		return false;
	memcpy(text, value, length);
	text[length] = '\0';
	return str_to_u64(text, 0, UINT64_MAX, out);
}

/* ------------------------------------------------------------------ whole answers */

void cli_answer_clear(struct cli_answer *a)
{
	free(a->body);
	*a = (struct cli_answer){0};
}

int cli_call_start(struct cli_call *c, const char *path, const char *method, const char *target,
		   const char *type, const char *body, size_t body_len, int64_t timeout_us,
		   struct err *e)
{
	c->answer = (struct cli_answer){0};
	c->deadline_us = clock_us() + timeout_us;
	return cli_http_start(&c->http, path, method, target, type, body, body_len, c->deadline_us,
			      e);
}

bool cli_call_is_open(const struct cli_call *c)
{
	return c->http.fd >= 0;
}

void cli_call_close(struct cli_call *c)
{
	cli_http_close(&c->http);
	cli_answer_clear(&c->answer);
}

static int append(struct cli_answer *a, const char *data, size_t len, struct err *e)
{
	if (len > CLI_HTTP_BODY_MAX - a->length)
		return err_set(e, ERR_UNAVAILABLE, 0, "the supervisor's answer is larger than %u",
			       CLI_HTTP_BODY_MAX);
	char *body = realloc(a->body, a->length + len + 1);
	if (!body)
		return err_set(e, ERR_NO_SPACE, ENOMEM, "read an answer of the supervisor");
	memcpy(body + a->length, data, len);
	a->body = body;
	a->length += len;
	body[a->length] = '\0';
	return 0;
}

enum cli_http_step cli_call_step(struct cli_call *c, struct err *e)
{
	const char *data = "";
	size_t len = 0;
	enum cli_http_step step;
	while ((step = cli_http_step(&c->http, &data, &len, e)) != CLI_HTTP_END) {
		if (step == CLI_HTTP_HEAD) {
			c->answer.status = c->http.response.status;
			cli_http_header_u64(&c->http, "X-Console-End", &c->answer.console_end);
		} else if (step == CLI_HTTP_DATA) {
			if (append(&c->answer, data, len, e) < 0)
				step = CLI_HTTP_FAILED;
		} else if (step == CLI_HTTP_WAIT && clock_us() >= c->deadline_us) {
			err_set(e, ERR_DEADLINE, 0,
				"the supervisor gave no answer in time; what was asked for may "
				"still happen (--timeout waits longer)");
			step = CLI_HTTP_FAILED;
		}
		if (step == CLI_HTTP_WAIT)
			return step;
		if (step == CLI_HTTP_FAILED)
			break;
	}
	/* So that the body can be taken for a string even where there was none. */
	if (step == CLI_HTTP_END && append(&c->answer, "", 0, e) < 0)
		step = CLI_HTTP_FAILED;
	cli_http_close(&c->http);
	if (step == CLI_HTTP_FAILED)
		cli_answer_clear(&c->answer);
	return step;
}

int cli_call_finish(struct cli_call *c, struct err *e)
{
	for (;;) {
		enum cli_http_step step = cli_call_step(c, e);
		if (step == CLI_HTTP_END)
			return 0;
		if (step == CLI_HTTP_FAILED)
			return -1;
		int64_t left = c->deadline_us - clock_us();
		if (cli_http_wait(&c->http, left > 0 ? left : 0, e) < 0) {
			cli_call_close(c);
			return -1;
		}
	}
}
