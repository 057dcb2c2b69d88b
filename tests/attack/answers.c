// SPDX-License-Identifier: Apache-2.0
/*
 * What a VMM that was taken over may say on its API instead of the answer that is due. "attack
 * answer KIND" arms one for the next request; the tests say what is to come of it.
 */
#include "attack.h"

#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RIGHTS_MAX 253 /* SCM_MAX_FD of the kernel */

/* The linker puts this before the stand-in's own (ld, --wrap). */
void __real_answer_write(struct bytes *out, const struct answer *answer);
void __wrap_answer_write(struct bytes *out, const struct answer *answer);

static char armed[32];

void attack_arm_answer(const char *kind)
{
	snprintf(armed, sizeof(armed), "%s", kind);
}

/* The connection to the shim: the one stream socket with a peer. */
static int api_connection(void)
{
	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer), size = sizeof(int);
		int type = 0;
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
		    getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
			return fd;
	}
	return -1;
}

/* ------------------------------------------------------------------ fixed bytes */

#define OK   "HTTP/1.1 204 \r\n\r\n"
#define HEAD "HTTP/1.1 200 \r\n"
#define TEN  "\r\n0123456789"

static const struct fixed {
	const char *kind;
	const char *bytes;
	size_t len;
} fixed[] = {
#define FIXED(kind, text)                                                                          \
	{                                                                                          \
		kind, text, sizeof(text) - 1                                                       \
	}
	/* Where the message ends. */
	FIXED("length-negative", HEAD "Content-Length: -5\r\n" TEN),
	FIXED("length-overflow", HEAD "Content-Length: 18446744073709551626\r\n" TEN),
	FIXED("length-huge", HEAD "Content-Length: 99999999999\r\n" TEN),
	FIXED("length-text", HEAD "Content-Length: 10x\r\n" TEN),
	FIXED("length-hex", HEAD "Content-Length: 0xa\r\n" TEN),
	FIXED("length-empty", HEAD "Content-Length: \r\n" TEN),
	FIXED("length-list", HEAD "Content-Length: 10, 10\r\n" TEN),
	FIXED("length-twice", HEAD "Content-Length: 10\r\nContent-Length: 4\r\n" TEN),
	FIXED("length-blank", HEAD "Content-Length : 10\r\n" TEN),
	FIXED("both", HEAD "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	FIXED("chunked", HEAD "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"),
	FIXED("chunked-bad", HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n"),
	FIXED("chunked-huge", HEAD "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab"),
	FIXED("encoding", HEAD "Transfer-Encoding: gzip, identity\r\n" TEN),
	/* The head. */
	FIXED("nul", HEAD "X: a\0b\r\nContent-Length: 0\r\n\r\n"),
	FIXED("folded", HEAD "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
	FIXED("no-colon", HEAD "nonsense\r\nContent-Length: 0\r\n\r\n"),
	FIXED("bare-cr", HEAD "X: a\rContent-Length: 4\r\nContent-Length: 0\r\n\r\n"),
	FIXED("no-status", "HTTP/1.1 \r\n\r\n"),
	FIXED("status-short", "HTTP/1.1 20\r\n\r\n"),
	FIXED("status-long", "HTTP/1.1 2040 \r\n\r\n"),
	FIXED("status-zero", "HTTP/1.1 000 \r\n\r\n"),
	FIXED("status-sign", "HTTP/1.1 +20 \r\n\r\n"),
	FIXED("redirect",
	      "HTTP/1.1 302 \r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
	FIXED("switch", "HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n"),
	FIXED("http2", "HTTP/2 204 \r\n\r\n"),
	FIXED("http9", "HTTP/9.9 204 \r\n\r\n"),
	FIXED("other", "SSH-2.0-OpenSSH_9.9\r\n"),
	FIXED("request", "PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
	/* Answers that nobody asked for, behind the right one. */
	FIXED("unasked", OK OK OK OK OK OK OK OK OK OK OK OK),
	FIXED("trailing", OK "x"),
#undef FIXED
};

/* A whole answer around a body. */
static const struct {
	const char *kind;
	int status;
	const char *text;
	size_t len;
} bodies[] = {
#define BODY(kind, status, text)                                                                   \
	{                                                                                          \
		kind, status, text, sizeof(text) - 1                                               \
	}
	/* What people and logs are to read. */
	BODY("escape", 500, "[\"\x1b[2J\x1b]0;owned\x07\\u001b[31m\\n\\u0000x\x9b\x7f\r\ny\"]"),
	BODY("utf8", 500, "[\"\xff\xc0\x80\xed\xa0\x80\xf8\"]"),
	BODY("nul-body", 500, "[\"a\0b\0c\0d\0\"]"),
	BODY("not-json", 500, "<html></html"),
	BODY("no-body", 500, ""),
	/* For vm.info and vm.counters, whose answers are read. */
	BODY("json-utf8", 200, "{\"a\xff\xc0\x80\":{\"\xed\xa0\":1}}"),
	BODY("json-nul", 200, "{\"memory_actual_size\":\0\0\0\0}"),
	BODY("json-number", 200, "{\"memory_actual_size\":1e999,\"a\":{\"b\":-1}}"),
	BODY("json-minus", 200, "{\"memory_actual_size\":-1}"),
	BODY("json-type", 200, "{\"memory_actual_size\":\"1\"}"),
	BODY("json-list", 200, "[[],{},null,1"),
	BODY("json-none", 200, ""),
	BODY("json-escape", 200, "{\"\\u001b[2J\":{\"\x1b[31m\\n\":1,\"b\":\"\x9b\"}}"),
#undef BODY
};

/* ------------------------------------------------------------------ made ones */

static void repeat(struct bytes *out, const char *text, int times)
{
	for (int i = 0; i < times; i++)
		bytes_add(out, text, strlen(text));
}

static void make_head(struct bytes *out, const struct answer *answer)
{
	(void)answer;
	bytes_format(out, HEAD "X: ");
	repeat(out, "0123456789abcdef", 1024);
	bytes_format(out, "\r\nContent-Length: 0\r\n\r\n");
}

static void make_headers(struct bytes *out, const struct answer *answer)
{
	(void)answer;
	bytes_format(out, HEAD);
	repeat(out, "X: y\r\n", 4096);
	bytes_format(out, "Content-Length: 0\r\n\r\n");
}

static void make_interims(struct bytes *out, const struct answer *answer)
{
	repeat(out, "HTTP/1.1 100 \r\n\r\n", 200);
	__real_answer_write(out, answer);
}

static void make_deep(struct bytes *out, const char *open, const char *close)
{
	int depth = 20000;
	bytes_format(out, HEAD "Content-Length: %zu\r\n\r\n",
		     (strlen(open) + strlen(close)) * (size_t)depth);
	repeat(out, open, depth);
	repeat(out, close, depth);
}

static void make_deep_list(struct bytes *out, const struct answer *answer)
{
	(void)answer;
	make_deep(out, "[", "]");
}

static void make_deep_object(struct bytes *out, const struct answer *answer)
{
	(void)answer;
	make_deep(out, "{\"a\":", "}");
}

/* As many counters as go into a body, of long names. */
static void make_many(struct bytes *out, const struct answer *answer)
{
	struct bytes body = {0};
	(void)answer;
	bytes_format(&body, "{");
	for (int i = 0; i < 2000; i++)
		bytes_format(&body, "%s\"dev%d%s\":{\"count\":%d}", i ? "," : "", i,
			     i % 3 ? "" : "0123456789012345678901234567890123456789", i);
	bytes_format(&body, "}");
	bytes_format(out, HEAD "Content-Length: %zu\r\n\r\n", body.len);
	bytes_add(out, body.data, body.len);
	bytes_free(&body);
}

static const struct {
	const char *kind;
	void (*make)(struct bytes *out, const struct answer *answer);
} made[] = {
	{"head", make_head},	     {"headers", make_headers},
	{"interims", make_interims}, {"json-deep-list", make_deep_list},
	{"json-many", make_many},    {"json-deep-object", make_deep_object},
};

/* ------------------------------------------------------------------ beside the bytes */

/* A child that goes on writing text for as long as the shim takes it. */
static void write_for_ever(const char *first, const char *text)
{
	int fd = api_connection();
	if (fork() != 0)
		return;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	char block[4096];
	size_t used = 0, len = strlen(text);
	while (used + len <= sizeof(block)) {
		memcpy(block + used, text, len);
		used += len;
	}
	if (send(fd, first, strlen(first), MSG_NOSIGNAL) < 0)
		_exit(1);
	while (send(fd, block, used, MSG_NOSIGNAL) > 0)
		;
	_exit(0);
}

/* One byte every few milliseconds, and no end. */
static void dribble(const char *text)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	int fd = api_connection();
	if (fork() != 0)
		return;
	for (size_t i = 0;; i = text[i + 1] ? i + 1 : 0) {
		if (send(fd, text + i, 1, MSG_NOSIGNAL) < 0)
			_exit(0);
		nanosleep(&pause, NULL);
	}
}

/* The right answer with descriptors on it. */
static void with_descriptors(struct bytes *answer, int count)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * RIGHTS_MAX)];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = answer->data, .iov_len = answer->len};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
	for (int i = 0; i < count; i++)
		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){0}, sizeof(int));
	attack_say("answer sent %s",
		   attack_errno(sendmsg(api_connection(), &h, MSG_NOSIGNAL) < 0 ? errno : 0));
}

/* True when the kind is of those that do not leave it to the stand-in to write. */
static bool do_aside(const char *kind, struct bytes *out, const struct answer *answer)
{
	struct bytes right = {0};
	__real_answer_write(&right, answer);
	bool known = true;
	if (!strcmp(kind, "endless-headers"))
		write_for_ever(HEAD, "X: y\r\n");
	else if (!strcmp(kind, "endless-body"))
		write_for_ever("HTTP/1.1 200 \r\nConnection: close\r\n\r\n", "xxxxxxxxxxxxxxxx");
	else if (!strcmp(kind, "interim-storm"))
		write_for_ever("", "HTTP/1.1 100 \r\n\r\n");
	else if (!strcmp(kind, "unasked-storm"))
		write_for_ever(OK, OK);
	else if (!strcmp(kind, "dribble"))
		dribble(HEAD "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
	else if (!strcmp(kind, "fds-1"))
		with_descriptors(&right, 1);
	else if (!strcmp(kind, "fds-253"))
		with_descriptors(&right, RIGHTS_MAX);
	else if (!strcmp(kind, "urgent")) {
		/* Out of band where the kernel has that for Unix sockets; else in band, or refused.
		 */
		send(api_connection(), "!", 1, MSG_OOB | MSG_NOSIGNAL);
		bytes_add(out, right.data, right.len);
	} else if (!strcmp(kind, "shut"))
		shutdown(api_connection(), SHUT_RDWR);
	else if (strcmp(kind, "never") != 0)
		known = false;
	bytes_free(&right);
	return known;
}

void __wrap_answer_write(struct bytes *out, const struct answer *answer)
{
	char kind[sizeof(armed)];
	memcpy(kind, armed, sizeof(kind));
	armed[0] = '\0';
	/* "+KIND": the answer after the next one. */
	if (kind[0] == '+')
		memmove(armed, kind + 1, strlen(kind));
	if (!kind[0] || kind[0] == '+') {
		__real_answer_write(out, answer);
		return;
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (!strcmp(fixed[i].kind, kind)) {
			bytes_add(out, fixed[i].bytes, fixed[i].len);
			return;
		}
	}
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		if (!strcmp(bodies[i].kind, kind)) {
			bytes_format(out, "HTTP/1.1 %d \r\nContent-Length: %zu\r\n\r\n",
				     bodies[i].status, bodies[i].len);
			bytes_add(out, bodies[i].text, bodies[i].len);
			return;
		}
	}
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
		if (!strcmp(made[i].kind, kind)) {
			made[i].make(out, answer);
			return;
		}
	}
	if (!do_aside(kind, out, answer))
		attack_say("answer %s unknown", kind);
}
