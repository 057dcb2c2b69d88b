// SPDX-License-Identifier: Apache-2.0
#include "cli_connect.h"

#include "cli_request.h"
#include "msg.h"
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROTOCOL	"cloister-stream"
#define CONNECT_MAX_S	60 /* the supervisor's limit of timeout_ms */
#define ANSWER_MARGIN_S 5

/*
 * Standard output is not ours alone, so it cannot be made non-blocking. A pipe that poll(2) calls
 * writable takes this much without blocking (pipe(7): PIPE_BUF).
 */
#define PIECE 4096

/* One direction: bytes that were read and have not been written yet. */
struct flow {
	char data[16 * PIECE];
	size_t at, length; /* of what is left */
	bool eof;	   /* nothing more will be read */
};

struct join {
	int fd;
	struct flow up, down; /* standard input to the guest, and back */
	bool told_eof;	      /* the guest's end knows that standard input has ended */
};

static int fail(const char *what)
{
	fprintf(stderr, "cloister: %s: %s\n", what, strerror(errno));
	return CLI_EXIT_FAILED;
}

/* ------------------------------------------------------------------ the request */

static int refused(const struct cli_options *o, struct cli_call *c, struct err *e)
{
	c->answer.status = c->http.response.status;
	if (cli_call_finish(c, e) < 0)
		return cli_request_broken(e);
	int code = cli_request_refused(o, c->answer.status, c->answer.body, c->answer.length);
	cli_answer_clear(&c->answer);
	return code;
}

/* 0 when the connection is one to the guest, else an exit code after a complaint. */
static int ask(const struct cli_options *o, struct cli_call *c)
{
	struct cli_target t;
	struct err e;
	const char *data;
	size_t length;
	unsigned wait_s = o->timeout_s < CONNECT_MAX_S ? o->timeout_s : CONNECT_MAX_S;
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "connect");
	cli_target_add(&t, "port", o->args[1]);
	cli_target_add_u64(&t, "timeout_ms", (uint64_t)wait_s * 1000);
	if (cli_request_start_upgrade(o, c, &t, PROTOCOL, wait_s + ANSWER_MARGIN_S, &e) < 0)
		return cli_request_broken(&e);
	for (;;) {
		switch (cli_http_step(&c->http, &data, &length, &e)) {
		case CLI_HTTP_HEAD:
			return c->http.switched ? 0 : refused(o, c, &e);
		case CLI_HTTP_WAIT:
			if (cli_http_wait(&c->http, c->deadline_us - clock_us(), &e) > 0)
				continue;
			if (clock_us() < c->deadline_us)
				continue;
			err_set(&e, ERR_DEADLINE, 0, "the supervisor gave no answer in time");
			return cli_request_broken(&e);
		default:
			return cli_request_broken(&e);
		}
	}
}

/* ------------------------------------------------------------------ the bytes */

/* False at an error that ends all. */
static bool fill(struct flow *f, int fd)
{
	if (f->length == 0)
		f->at = 0;
	size_t room = sizeof(f->data) - f->at - f->length;
	ssize_t n = read(fd, f->data + f->at + f->length, room);
	if (n > 0)
		f->length += (size_t)n;
	else if (n == 0 || errno == ECONNRESET || errno == EIO)
		f->eof = true;
	else if (errno != EINTR && errno != EAGAIN)
		return false;
	return true;
}

static bool empty(struct flow *f, int fd)
{
	size_t most = f->length < PIECE ? f->length : PIECE;
	ssize_t n = write(fd, f->data + f->at, most);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	f->at += (size_t)n;
	f->length -= (size_t)n;
	/* All of the room is there again: without that a buffer that was full once stays it. */
	if (f->length == 0)
		f->at = 0;
	return true;
}

static bool has_room(const struct flow *f)
{
	return !f->eof && f->at + f->length < sizeof(f->data);
}

/* What to wait for: standard input, standard output, the guest. */
static void prepare(struct join *j, struct pollfd p[3])
{
	/* With an end of input that must still be told there is nothing more to read there. */
	p[0] = (struct pollfd){.fd = has_room(&j->up) ? STDIN_FILENO : -1, .events = POLLIN};
	/* Without events it still tells when nobody reads any more. */
	p[1] = (struct pollfd){.fd = STDOUT_FILENO, .events = j->down.length ? POLLOUT : 0};
	p[2] = (struct pollfd){.fd = j->fd};
	if (has_room(&j->down))
		p[2].events |= POLLIN;
	if (j->up.length)
		p[2].events |= POLLOUT;
	/* It is over, but for what standard output has not taken. */
	if (!p[2].events)
		p[2].fd = -1;
}

static int step(struct join *j, const struct pollfd p[3])
{
	if (p[0].revents && !fill(&j->up, STDIN_FILENO))
		return fail("read standard input");
	if ((p[2].revents & (POLLIN | POLLHUP | POLLERR)) && has_room(&j->down) &&
	    !fill(&j->down, j->fd))
		return fail("read from the guest");
	if (j->up.length && (p[2].revents & POLLOUT) && !empty(&j->up, j->fd)) {
		/* It takes no more; what it has said is still to be read. */
		if (errno != EPIPE && errno != ECONNRESET)
			return fail("write to the guest");
		j->up = (struct flow){.eof = true};
	}
	if (p[1].revents & (POLLERR | POLLHUP | POLLNVAL)) {
		fputs("cloister: nobody reads standard output any more\n", stderr);
		return CLI_EXIT_FAILED;
	}
	if (j->down.length && (p[1].revents & POLLOUT) && !empty(&j->down, STDOUT_FILENO))
		return fail("write standard output");
	if (j->up.eof && !j->up.length && !j->told_eof) {
		shutdown(j->fd, SHUT_WR);
		j->told_eof = true;
	}
	return -1;
}

static int pass_on(struct join *j)
{
	struct pollfd p[3];
	while (!j->down.eof || j->down.length) {
		prepare(j, p);
		if (poll(p, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			return fail("wait for input");
		}
		int code = step(j, p);
		if (code >= 0)
			return code;
	}
	return CLI_EXIT_OK;
}

int cli_connect_command(const struct cli_options *o)
{
	static struct join j;
	struct cli_call c = {.http = {.fd = -1}};
	uint64_t port;
	if (cli_request_check_id(o->args[0]) != CLI_EXIT_OK)
		return CLI_EXIT_USAGE;
	if (!str_to_u64(o->args[1], 1, UINT32_MAX - 1, &port))
		return cli_usage_error("\"%s\" is not a vsock port, 1 to 4294967294", o->args[1]);
	signal(SIGPIPE, SIG_IGN);
	int code = ask(o, &c);
	if (code == CLI_EXIT_OK) {
		/* What came with the answer is the guest's already. */
		j.fd = c.http.fd;
		j.down.length = c.http.in_len - c.http.in_at;
		if (j.down.length <= sizeof(j.down.data)) {
			memcpy(j.down.data, c.http.in + c.http.in_at, j.down.length);
			code = pass_on(&j);
		} else {
			code = CLI_EXIT_UNREACHABLE;
		}
	}
	cli_call_close(&c);
	return code;
}
