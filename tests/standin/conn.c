// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
	int fd;
	struct parser parser;
	struct bytes out;
	size_t sent;  /* of out */
	long pace_ms; /* one byte each so many milliseconds; 0: at once */
	int64_t next_byte;
	bool mute;	/* nothing more is read or written */
	bool end_after; /* closed for writing when out is empty */
};

static int listener = -1;
static struct conn *conns[STANDIN_CONNECTIONS];
static struct request *queue; /* read and not yet answered, in order */
static bool stuck;	      /* ordered to hang */

void conn_start(int fd)
{
	listener = fd;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

bool conn_busy(void)
{
	return stuck || queue;
}

static void conn_close(size_t slot)
{
	struct conn *conn = conns[slot];
	for (struct request *r = queue; r; r = r->next) {
		if (r->conn == conn)
			r->conn = NULL; /* runs to its end, unseen */
	}
	close(conn->fd);
	parse_free(&conn->parser);
	bytes_free(&conn->out);
	free(conn);
	conns[slot] = NULL;
}

/* The slot of a connection that an order wants closed. */
static void conn_close_this(const struct conn *conn)
{
	for (size_t i = 0; i < STANDIN_CONNECTIONS; i++) {
		if (conns[i] == conn)
			conn_close(i);
	}
}

nfds_t conn_poll(struct pollfd *fds)
{
	nfds_t n = 0;
	if (conn_busy())
		return 0;
	fds[n++] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (size_t i = 0; i < STANDIN_CONNECTIONS; i++) {
		struct conn *conn = conns[i];
		if (!conn)
			continue;
		short events = POLLRDHUP;
		if (conn->out.len && !conn->pace_ms)
			events |= POLLOUT;
		else if (!conn->out.len && !conn->mute)
			events |= POLLIN;
		fds[n++] = (struct pollfd){.fd = conn->fd, .events = events};
	}
	return n;
}

static void conn_accept(void)
{
	static const char full[] =
		"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
		"Content-Length: 40\r\n\r\n"
		"{ \"error\": \"Too many open connections\" }";
	size_t slot = 0;
	while (slot < STANDIN_CONNECTIONS && conns[slot])
		slot++;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (slot == STANDIN_CONNECTIONS) {
		if (write(fd, full, sizeof(full) - 1) < 0)
			errno = 0; /* the client has gone */
		close(fd);
		return;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	conns[slot] = calloc(1, sizeof(*conns[slot]));
	if (!conns[slot])
		abort();
	conns[slot]->fd = fd;
}

/* One recvmsg behind what waits in the parser's buffer. Descriptors are kept for the next whole
 * request. Returns the number of bytes, 0 at the end, -1 with errno. */
static ssize_t conn_recv(struct conn *conn)
{
	struct parser *p = &conn->parser;
	union {
		struct cmsghdr align;
		char data[CMSG_SPACE(sizeof(int) * STANDIN_FDS_MAX)];
	} control;
	struct iovec iov = {.iov_base = p->buffer + p->cursor,
			    .iov_len = STANDIN_BUFFER - p->cursor};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.data,
			     .msg_controllen = sizeof(control.data)};
	ssize_t n = recvmsg(conn->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (p->fd_count < STANDIN_FDS_MAX)
				p->fds[p->fd_count++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

/* Returns false when the connection is over. */
static bool conn_read(struct conn *conn)
{
	char why[STANDIN_BUFFER + 128] = "";
	int interim = 0;
	struct request *done = NULL;
	if (conn->parser.cursor >= STANDIN_BUFFER) {
		answer_parse_error(&conn->out, "Overflow occurred when parsing a request.");
		return true;
	}
	ssize_t n = conn_recv(conn);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	int rc = parse_bytes(&conn->parser, conn->parser.cursor + (size_t)n, &done, &interim, why,
			     sizeof(why));
	while (interim--)
		answer_head(&conn->out, 100, "Firecracker API", -1);
	if (rc < 0) {
		while (done) {
			struct request *next = done->next;
			parse_free_request(done);
			done = next;
		}
		answer_parse_error(&conn->out, why);
		return true;
	}
	struct request **tail = &queue;
	while (*tail)
		tail = &(*tail)->next;
	*tail = done;
	for (struct request *r = done; r; r = r->next)
		r->conn = conn;
	return true;
}

/* Writes what the socket takes, at most limit bytes. Returns false when the client has gone. */
static bool conn_write(struct conn *conn, size_t limit)
{
	if (limit > conn->out.len - conn->sent)
		limit = conn->out.len - conn->sent;
	ssize_t n = write(conn->fd, conn->out.data + conn->sent, limit);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	conn->sent += (size_t)n;
	if (conn->sent == conn->out.len) {
		bytes_free(&conn->out);
		conn->sent = 0;
		conn->pace_ms = 0;
		if (conn->end_after)
			shutdown(conn->fd, SHUT_WR);
	}
	return true;
}

void conn_ready(const struct pollfd *fds, nfds_t count)
{
	for (nfds_t i = 0; i < count; i++) {
		if (!fds[i].revents)
			continue;
		if (fds[i].fd == listener) {
			conn_accept();
			continue;
		}
		for (size_t slot = 0; slot < STANDIN_CONNECTIONS; slot++) {
			struct conn *conn = conns[slot];
			if (!conn || conn->fd != fds[i].fd)
				continue;
			bool alive = !(fds[i].revents & (POLLERR | POLLHUP | POLLRDHUP));
			if (alive && (fds[i].revents & POLLIN))
				alive = conn_read(conn);
			else if (alive && (fds[i].revents & POLLOUT))
				alive = conn_write(conn, SIZE_MAX);
			if (!alive)
				conn_close(slot);
			break;
		}
	}
}

int64_t conn_timeout(void)
{
	int64_t now = report_now(), least = -1;
	if (queue && !stuck)
		least = queue->due > now ? queue->due - now : 0;
	for (size_t i = 0; i < STANDIN_CONNECTIONS; i++) {
		struct conn *conn = conns[i];
		if (!conn || !conn->pace_ms || !conn->out.len)
			continue;
		int64_t left = conn->next_byte > now ? conn->next_byte - now : 0;
		if (least < 0 || left < least)
			least = left;
	}
	return least;
}

/* The answer as bytes, spoilt as the verdict says. */
static void conn_spoil(struct bytes *out, const struct verdict *verdict, struct answer *answer)
{
	if (verdict->kind == ORDER_HUGE) {
		answer_free(answer);
		*answer = (struct answer){.status = 200, .len = 16 << 20};
		answer->body = malloc(answer->len + 1);
		if (!answer->body)
			abort();
		memset(answer->body, 'x', answer->len);
		answer->body[0] = answer->body[answer->len - 1] = '"';
	} else if (verdict->kind == ORDER_BADJSON) {
		answer_free(answer);
		*answer = answer_text(200, "{\"broken\": [1, 2");
	} else if (verdict->kind == ORDER_LENGTH) {
		long length = (long)answer->len + verdict->number;
		answer_head(out, answer->status, "Cloud Hypervisor API", length < 0 ? 0 : length);
		bytes_add(out, answer->body ? answer->body : "", answer->len);
		return;
	} else if (verdict->kind == ORDER_NOLENGTH) {
		answer_head(out, answer->status, "Cloud Hypervisor API", -1);
		bytes_add(out, answer->body ? answer->body : "", answer->len);
		return;
	} else if (verdict->kind == ORDER_GARBAGE) {
		uint32_t x = 2463534242;
		for (int i = 0; i < 256; i++) {
			x = x * 1664525 + 1013904223;
			bytes_add(out, (char[]){(char)(x >> 24)}, 1);
		}
		return;
	} else if (verdict->kind == ORDER_INTERIM) {
		answer_head(out, 100, "Firecracker API", -1);
	}
	answer_write(out, answer);
}

/* Orders that stand in for doing the request. Returns whether there was one. */
static bool conn_instead(struct bytes *out, const struct verdict *verdict)
{
	struct answer answer;
	switch (verdict->kind) {
	case ORDER_STATUS:
		answer = answer_chain((int)verdict->number, "Ordered by the test", NULL);
		if (verdict->number == 204)
			answer_free(&answer), answer.status = 204;
		break;
	case ORDER_ERROR:
		answer = answer_chain(500, "Error from API", verdict->text, NULL);
		break;
	case ORDER_FCERROR:
		answer_parse_error(out, "Ordered by the test.");
		return true;
	case ORDER_EXIT:
		_exit((int)verdict->number);
	case ORDER_SIGNAL:
		orders_die((int)verdict->number);
	case ORDER_ABORT:
		abort();
	default:
		return false;
	}
	answer_write(out, &answer);
	answer_free(&answer);
	return true;
}

/* What the connection itself suffers after the answer has been made. */
static void conn_after(struct conn *conn, struct bytes *out, const struct verdict *verdict)
{
	if (verdict->kind == ORDER_HALF || verdict->kind == ORDER_HALFCLOSE) {
		out->len /= 2;
		conn->mute = true;
		conn->end_after = verdict->kind == ORDER_HALFCLOSE;
	}
	if (verdict->kind == ORDER_DRIBBLE) {
		conn->pace_ms = verdict->number;
		conn->next_byte = report_now();
	}
	if (out->len)
		bytes_add(&conn->out, out->data, out->len);
}

/* A new command line comes with vm.create, or with the configuration that vm.restore will read. */
static void conn_read_orders(const char *endpoint, const char *body)
{
	bool restore = !strcmp(endpoint, "vm.restore");
	if (!restore && strcmp(endpoint, "vm.create") != 0)
		return;
	cJSON *json = cJSON_Parse(body);
	if (restore) {
		const cJSON *url = cJSON_GetObjectItemCaseSensitive(json, "source_url");
		cJSON *read = restore_peek(cJSON_IsString(url) ? url->valuestring : "");
		cJSON_Delete(json);
		json = read;
	}
	const cJSON *payload = cJSON_GetObjectItemCaseSensitive(json, "payload");
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(payload, "cmdline");
	char *bad = orders_read(cJSON_IsString(text) ? text->valuestring : "", true);
	if (bad) {
		report_log("standin", "ERROR", "orders.c", "no such order: %s", bad);
		free(bad);
		_exit(3);
	}
	cJSON_Delete(json);
}

/* Looks at the orders once. Returns whether the request waits. */
static bool conn_begin(struct request *request, struct verdict *verdict)
{
	const char *endpoint = api_endpoint(request->path);
	if (endpoint && request->body && !vm_is_there())
		conn_read_orders(endpoint, request->body);
	*verdict = orders_judge(endpoint ? endpoint : "");
	request->started = true;
	request->due = report_now() + verdict->delay_ms;
	return verdict->delay_ms > 0;
}

void conn_work(void)
{
	static struct verdict verdict;
	while (queue && !stuck) {
		struct request *request = queue;
		if (!request->started && conn_begin(request, &verdict))
			return;
		if (request->due > report_now())
			return;
		if (verdict.kind == ORDER_HANG) {
			stuck = true;
			return;
		}
		struct bytes out = {0};
		if (!conn_instead(&out, &verdict)) {
			struct answer answer = api_call(request);
			conn_spoil(&out, &verdict, &answer);
			answer_free(&answer);
		}
		queue = request->next;
		if (request->conn && verdict.kind == ORDER_DROP)
			conn_close_this(request->conn);
		else if (request->conn && !request->conn->mute)
			conn_after(request->conn, &out, &verdict);
		bytes_free(&out);
		parse_free_request(request);
	}
	for (size_t i = 0; i < STANDIN_CONNECTIONS; i++) {
		struct conn *conn = conns[i];
		if (!conn || !conn->pace_ms || !conn->out.len || conn->next_byte > report_now())
			continue;
		conn->next_byte = report_now() + conn->pace_ms;
		if (!conn_write(conn, 1))
			conn_close(i);
	}
}

void conn_flush(void)
{
	for (size_t i = 0; i < STANDIN_CONNECTIONS; i++) {
		if (conns[i] && conns[i]->out.len && !conns[i]->pace_ms)
			conn_write(conns[i], SIZE_MAX);
	}
}
