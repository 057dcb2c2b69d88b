// SPDX-License-Identifier: Apache-2.0
#include "http_client.h"

#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_STEP 4096
#define IN_MAX	(HTTP_HEAD_MAX + HTTP_CLIENT_BODY_MAX)

void http_client_open(struct http_client *c, int fd, void *arg)
{
	*c = (struct http_client){.fd = fd, .ride_fd = -1, .arg = arg};
}

void http_client_close(struct http_client *c)
{
	int64_t now = clock_us();
	for (unsigned i = 0; i < c->count; i++)
		http_trace_end(c->trace, &c->pending[i].note, now - c->pending[i].sent_us, NULL,
			       false, NULL);
	fd_close(&c->fd);
	free(c->in);
	free(c->out);
	*c = (struct http_client){.fd = -1, .ride_fd = -1, .broken = true};
}

/* Takes the first pending request out and reports how it ended. */
static void finish_first(struct http_client *c, const struct http_response *answer,
			 const struct err *e)
{
	struct http_client_pending p = c->pending[0];
	c->interims = 0;
	c->count--;
	memmove(&c->pending[0], &c->pending[1], c->count * sizeof(c->pending[0]));
	http_trace_end(c->trace, &p.note, clock_us() - p.sent_us, answer, p.expired, e);
	/* An expired one was reported already: only a real answer is news. */
	if (p.done && (answer || !p.expired))
		p.done(c->arg, answer, p.expired, e);
}

static void break_connection(struct http_client *c, const struct err *why)
{
	if (c->broken)
		return;
	c->broken = true;
	c->out_used = 0;
	c->ride_fd = -1;
	fd_close(&c->fd);
	while (c->count) {
		struct err e = *why;
		err_prefix(&e, "%s", c->pending[0].what);
		finish_first(c, NULL, &e);
	}
}

int http_client_send(struct http_client *c, const char *method, const char *path, const char *body,
		     const char *what, int64_t deadline_us, http_client_done_fn *done,
		     struct err *e)
{
	if (c->broken || c->fd < 0)
		return err_set(e, ERR_VMM, 0, "%s: the connection to the VMM's API is broken",
			       what);
	if (c->count == HTTP_CLIENT_PENDING_MAX)
		return err_set(e, ERR_VMM, 0, "%s: the VMM has not answered %u earlier requests",
			       what, c->count);
	char *text CLEANUP_FREE = NULL;
	int n = body ? asprintf(&text,
				"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
				"application/json\r\nContent-Length: %zu\r\n\r\n%s",
				method, path, strlen(body), body)
		     : asprintf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, path);
	if (n < 0) {
		text = NULL;
		return err_errno(e, ENOMEM, "%s: build the request", what);
	}
	if (c->out_used + (size_t)n > HTTP_CLIENT_SEND_MAX)
		return err_set(e, ERR_VMM, 0, "%s: the VMM does not read its API", what);
	char *grown = realloc(c->out, c->out_used + (size_t)n);
	if (!grown)
		return err_errno(e, ENOMEM, "%s: queue the request", what);
	c->out = grown;
	memcpy(c->out + c->out_used, text, (size_t)n);
	c->out_used += (size_t)n;
	struct http_client_pending *p = &c->pending[c->count++];
	*p = (struct http_client_pending){
		.done = done, .what = what, .deadline_us = deadline_us, .sent_us = clock_us()};
	http_trace_begin(&p->note, method, path);
	http_client_flush(c);
	return 0;
}

int http_client_send_fd(struct http_client *c, const char *method, const char *path,
			const char *body, const char *what, int fd, int64_t deadline_us,
			http_client_done_fn *done, struct err *e)
{
	if (fd < 0)
		return err_set(e, ERR_INTERNAL, 0, "%s: there is no descriptor to send", what);
	if (c->count || c->out_used)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s: its descriptor would go to an earlier request", what);
	c->ride_fd = fd;
	int result = http_client_send(c, method, path, body, what, deadline_us, done, e);
	if (result < 0)
		c->ride_fd = -1;
	return result;
}

bool http_client_wants_write(const struct http_client *c)
{
	return c->out_used > 0;
}

/* send(2), with the descriptor that is to ride on it. */
static ssize_t send_some(struct http_client *c, const char *data, size_t length)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	if (c->ride_fd >= 0) {
		h.msg_control = control.space;
		h.msg_controllen = sizeof(control.space);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &c->ride_fd, sizeof(int));
	}
	ssize_t n = sendmsg(c->fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		c->ride_fd = -1;
	return n;
}

void http_client_flush(struct http_client *c)
{
	size_t sent = 0;
	if (c->out_used == 0)
		return;
	while (sent < c->out_used) {
		ssize_t n = send_some(c, c->out + sent, c->out_used - sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/*
			 * Answers to earlier requests may still lie in the socket: reading them,
			 * and then the end of file that follows, is what breaks the connection. A
			 * peer that is there (there was no memory to send, say) gives none: ours
			 * comes after what is there to be read (unix(7) sockets keep that).
			 */
			shutdown(c->fd, SHUT_RDWR);
			sent = c->out_used;
			c->ride_fd = -1;
			break;
		}
		sent += (size_t)n;
	}
	memmove(c->out, c->out + sent, c->out_used - sent);
	c->out_used -= sent;
	if (c->out_used == 0) {
		free(c->out);
		c->out = NULL;
	}
}

/* One answer from the front of the buffer; false when there is none to take. */
static bool take_answer(struct http_client *c, bool at_eof)
{
	struct http_response answer;
	struct err e;
	if (c->in_used == 0)
		return false;
	enum http_result result =
		http_parse_response(c->in, c->in_used, at_eof, HTTP_CLIENT_BODY_MAX, &answer, &e);
	if (result == HTTP_MORE)
		return false;
	if (result == HTTP_DONE && answer.chunked) {
		result = HTTP_ERROR;
		err_set(&e, ERR_VMM, 0, "the VMM's API answered in chunks, which CH never does");
	}
	if (result == HTTP_DONE && c->count == 0) {
		result = HTTP_ERROR;
		err_set(&e, ERR_VMM, 0, "the VMM's API sent an answer that nobody asked for");
	}
	/* Without a bound a VMM that sends nothing else would keep us here for ever. */
	if (result == HTTP_DONE && answer.interim && ++c->interims > HTTP_CLIENT_INTERIM_MAX) {
		result = HTTP_ERROR;
		err_set(&e, ERR_VMM, 0, "the VMM's API sends answers of status 1xx without end");
	}
	if (result == HTTP_ERROR) {
		break_connection(c, &e);
		return false;
	}
	if (!answer.interim)
		finish_first(c, &answer, NULL);
	if (c->broken)
		return false;
	/* A 400 is micro-http's word for bytes it could not read; what follows is not to be
	 * trusted. */
	bool poisoned = answer.close || answer.status == 400;
	c->in_used -= answer.consumed;
	memmove(c->in, c->in + answer.consumed, c->in_used);
	if (poisoned) {
		err_set(&e, ERR_VMM, 0, "the VMM's API ended the connection with status %d",
			answer.status);
		break_connection(c, &e);
		return false;
	}
	return true;
}

static bool make_room(struct http_client *c)
{
	if (c->in_size - c->in_used >= IN_STEP / 2)
		return true;
	size_t size = c->in_size ? c->in_size * 2 : IN_STEP;
	if (size > IN_MAX)
		size = IN_MAX;
	char *grown = size > c->in_used ? realloc(c->in, size) : NULL;
	if (!grown)
		return false;
	c->in = grown;
	c->in_size = size;
	return true;
}

void http_client_receive(struct http_client *c)
{
	struct err e;
	while (!c->broken) {
		if (!make_room(c)) {
			err_set(&e, ERR_VMM, 0, "the VMM's API sends an answer without end");
			break_connection(c, &e);
			return;
		}
		ssize_t n = recv(c->fd, c->in + c->in_used, c->in_size - c->in_used, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		int failed = n < 0 ? errno : 0;
		if (n > 0)
			c->in_used += (size_t)n;
		while (take_answer(c, n <= 0))
			;
		if (n <= 0 && !c->broken) {
			err_set(&e, ERR_VMM, failed, "the VMM closed its API connection");
			break_connection(c, &e);
		}
	}
	if (c->in_used == 0) {
		free(c->in);
		c->in = NULL;
		c->in_size = 0;
	}
}

void http_client_expire(struct http_client *c, int64_t now_us)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct http_client_pending *p = &c->pending[i];
		if (p->expired || p->deadline_us > now_us)
			continue;
		struct err e;
		p->expired = true;
		err_set(&e, ERR_DEADLINE, 0, "%s: the VMM did not answer in time", p->what);
		if (p->done)
			p->done(c->arg, NULL, false, &e);
		if (c->broken)
			return;
	}
}

unsigned http_client_open_requests(const struct http_client *c, int64_t now_us,
				   struct msg_exchange out[HTTP_CLIENT_PENDING_MAX])
{
	for (unsigned i = 0; i < c->count; i++) {
		int64_t age = now_us - c->pending[i].sent_us;
		out[i] = c->pending[i].note;
		out[i].took_us = age < 0 ? 0 : age > UINT32_MAX ? UINT32_MAX : (uint32_t)age;
		out[i].outcome = c->pending[i].expired ? MSG_EXCHANGE_OVERDUE : MSG_EXCHANGE_OPEN;
	}
	return c->count;
}

int64_t http_client_next_deadline(const struct http_client *c)
{
	int64_t next = INT64_MAX;
	for (unsigned i = 0; i < c->count; i++)
		if (!c->pending[i].expired && c->pending[i].deadline_us < next)
			next = c->pending[i].deadline_us;
	return next;
}
