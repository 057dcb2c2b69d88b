// SPDX-License-Identifier: Apache-2.0
#include "ready.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERIM_MAX    8  /* answers of status 1xx before the one that counts */
#define READS_PER_STEP 16 /* a guest that sends without end does not keep us here */
#define ADDRESS_MAX    INET_ADDRSTRLEN

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void ready_describe(const struct msg_wait *w, char *out, size_t size)
{
	switch ((enum msg_wait_kind)w->kind) {
	case MSG_WAIT_TCP:
		snprintf(out, size, "tcp port %u", w->port);
		break;
	case MSG_WAIT_HTTP:
		snprintf(out, size, "http port %u path %s", w->port, w->text);
		break;
	case MSG_WAIT_VSOCK:
		snprintf(out, size, "vsock port %u", w->port);
		break;
	case MSG_WAIT_CONSOLE:
		snprintf(out, size, "\"%s\" on the console", w->text);
		break;
	case MSG_WAIT_NONE:
	case MSG_WAIT_COUNT:
		snprintf(out, size, "nothing");
		break;
	}
}

/* What a try came to, for whoever reads why it failed in the end. */
static void note(struct ready *r, const char *text)
{
	snprintf(r->last, sizeof(r->last), "%.*s", (int)sizeof(r->last) - 1, text);
	str_clean(r->last);
}

static void note_errno(struct ready *r, int errnum)
{
	const char *text = strerrordesc_np(errnum);
	note(r, text ? text : "unknown error");
}

/* ------------------------------------------------------------------ one try */

static void end_try(struct ready *r, int64_t now_us)
{
	fd_close(&r->fd);
	vsock_close(&r->vsock);
	r->trying = false;
	/* From start to start: after a silence the next one comes at once. */
	r->next_us = r->started_us + r->delay_us > now_us ? r->started_us + r->delay_us : now_us;
	r->delay_us = least(r->delay_us * 3 / 2, READY_DELAY_MAX_US);
}

static void write_request(struct ready *r)
{
	char address[ADDRESS_MAX] = "";
	const struct in_addr in = {htonl(r->where.address)};
	inet_ntop(AF_INET, &in, address, sizeof(address));
	snprintf(r->out, sizeof(r->out),
		 "GET %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n\r\n", r->wait.text,
		 address, r->wait.port);
	r->sent = r->got = 0;
	r->interim = 0;
}

static void begin_tcp(struct ready *r, int64_t now_us)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)r->wait.port),
		.sin_addr.s_addr = htonl(r->where.address),
	};
	r->connected = false;
	r->try_end_us = now_us + r->syn_us;
	/*
	 * No lingering: the kernel would go on telling a guest that is no more of the end of the
	 * connection, and keep the slot's namespace, with its address, for minutes because of that.
	 */
	const struct linger none = {.l_onoff = 1, .l_linger = 0};
	r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd >= 0 && setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0 &&
	    (connect(r->fd, (const struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS))
		return;
	note_errno(r, errno);
	end_try(r, now_us);
}

static void begin_vsock(struct ready *r, int64_t now_us)
{
	struct err e;
	r->try_end_us = now_us + READY_VSOCK_US;
	if (vsock_start(&r->vsock, r->where.vsock_fd, r->where.proc_fd, r->wait.port, &e) == 0)
		return;
	note(r, e.text);
	end_try(r, now_us);
}

static void begin_try(struct ready *r, int64_t now_us)
{
	r->trying = true;
	r->started_us = now_us;
	if (r->wait.kind == MSG_WAIT_VSOCK)
		begin_vsock(r, now_us);
	else
		begin_tcp(r, now_us);
}

/* Whether the status of an answer that is whole is one that is waited for. */
static bool is_wanted(struct ready *r, int status)
{
	char text[32];
	bool wanted = r->wait.status ? (uint32_t)status == r->wait.status
				     : status >= 200 && status <= 399;
	snprintf(text, sizeof(text), "HTTP status %d", status);
	note(r, text);
	return wanted;
}

/* What is in the buffer. Only the head is of interest, the body may be as long as it likes. */
static enum ready_result parse_answer(struct ready *r, bool at_eof)
{
	struct http_response answer;
	struct err e;
	for (;;) {
		switch (http_parse_head(r->in, r->got, at_eof, &answer, &e)) {
		case HTTP_MORE:
			return READY_MORE;
		case HTTP_ERROR:
			note(r, e.text);
			return READY_FAILED;
		case HTTP_DONE:
			break;
		}
		if (!answer.interim)
			return is_wanted(r, answer.status) ? READY_DONE : READY_FAILED;
		if (++r->interim > INTERIM_MAX) {
			note(r, "HTTP answers of status 1xx without end");
			return READY_FAILED;
		}
		r->got -= answer.consumed;
		memmove(r->in, r->in + answer.consumed, r->got);
	}
}

static enum ready_result read_answer(struct ready *r)
{
	for (int i = 0; i < READS_PER_STEP; i++) {
		ssize_t n = recv(r->fd, r->in + r->got, sizeof(r->in) - r->got, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return READY_MORE;
		if (n < 0) {
			note_errno(r, errno);
			return READY_FAILED;
		}
		r->got += (size_t)n;
		enum ready_result result = parse_answer(r, n == 0);
		if (result != READY_MORE)
			return result;
	}
	return READY_MORE;
}

static enum ready_result ask(struct ready *r)
{
	size_t len = strlen(r->out);
	while (r->sent < len) {
		ssize_t n =
			send(r->fd, r->out + r->sent, len - r->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return READY_MORE;
		if (n < 0) {
			note_errno(r, errno);
			return READY_FAILED;
		}
		r->sent += (size_t)n;
	}
	return read_answer(r);
}

static enum ready_result try_tcp(struct ready *r, int64_t now_us)
{
	struct pollfd p = {.fd = r->fd, .events = POLLOUT};
	if (!r->connected) {
		int error = 0;
		socklen_t len = sizeof(error);
		if (poll(&p, 1, 0) != 1)
			return READY_MORE;
		if (getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
			note_errno(r, error ? error : errno);
			return READY_FAILED;
		}
		if (r->wait.kind == MSG_WAIT_TCP)
			return READY_DONE;
		r->connected = true;
		r->try_end_us = now_us + READY_HTTP_US;
		write_request(r);
	}
	return ask(r);
}

static enum ready_result try_vsock(struct ready *r)
{
	struct err e;
	switch (vsock_step(&r->vsock, &e)) {
	case VSOCK_OPEN:
		return READY_DONE;
	case VSOCK_FAILED:
		note(r, e.text);
		return READY_FAILED;
	case VSOCK_MORE:
		break;
	}
	return READY_MORE;
}

/* Nothing came until the try's end. */
static void give_up(struct ready *r, int64_t now_us)
{
	note(r, r->connected ? "a connection, but no answer" : "no answer");
	if (!r->connected)
		r->syn_us = least(r->syn_us * 2, READY_SYN_MAX_US);
	end_try(r, now_us);
}

static enum ready_result step_try(struct ready *r, int64_t now_us)
{
	if (!r->trying && now_us >= r->next_us)
		begin_try(r, now_us);
	if (!r->trying)
		return READY_MORE;
	enum ready_result result =
		r->wait.kind == MSG_WAIT_VSOCK ? try_vsock(r) : try_tcp(r, now_us);
	if (result == READY_FAILED)
		end_try(r, now_us);
	else if (result == READY_MORE && now_us >= r->try_end_us)
		give_up(r, now_us);
	return result == READY_DONE ? READY_DONE : READY_MORE;
}

/* ------------------------------------------------------------------ all of it */

void ready_start(struct ready *r, const struct msg_wait *wait, const struct ready_where *where,
		 int64_t now_us)
{
	*r = (struct ready)READY_INIT;
	r->wait = *wait;
	r->where = *where;
	r->deadline_us = now_us + wait->timeout_ms * 1000ll;
	r->next_us = now_us;
	r->delay_us = READY_DELAY_MIN_US;
	r->syn_us = READY_SYN_MIN_US;
}

void ready_close(struct ready *r)
{
	fd_close(&r->fd);
	vsock_close(&r->vsock);
	r->trying = false;
	r->wait.kind = MSG_WAIT_NONE;
}

enum ready_result ready_step(struct ready *r, int64_t now_us, struct err *e)
{
	char what[MSG_WAIT_TEXT_MAX + 64];
	if (!ready_is_on(r))
		return READY_MORE;
	enum ready_result result = r->wait.kind != MSG_WAIT_CONSOLE	? step_try(r, now_us)
				   : console_has_seen(r->where.console) ? READY_DONE
									: READY_MORE;
	if (result == READY_DONE) {
		ready_close(r);
		return READY_DONE;
	}
	if (now_us < r->deadline_us)
		return READY_MORE;
	ready_describe(&r->wait, what, sizeof(what));
	err_set(e, ERR_DEADLINE, 0, "wait_for: the guest was not ready within %u ms (%s)%s%s",
		r->wait.timeout_ms, what, r->last[0] ? "; seen last: " : "", r->last);
	ready_close(r);
	return READY_FAILED;
}

int64_t ready_next(const struct ready *r)
{
	if (!ready_is_on(r))
		return INT64_MAX;
	if (r->wait.kind == MSG_WAIT_CONSOLE)
		return r->deadline_us;
	return least(r->deadline_us, r->trying ? r->try_end_us : r->next_us);
}

int ready_fd(const struct ready *r, bool *write)
{
	if (!ready_is_on(r) || !r->trying)
		return -1;
	if (r->wait.kind == MSG_WAIT_VSOCK) {
		*write = vsock_wants_write(&r->vsock);
		return r->vsock.fd;
	}
	*write = !r->connected || r->sent < strlen(r->out);
	return r->fd;
}
