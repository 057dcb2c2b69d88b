// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/control: what a client writes to the control socket, all of it: request lines, paths,
 * queries, heads and bodies, several requests on a connection. The world has a running sandbox.
 * Bits of the first byte: whether the client is an admin, and whether the shim does what it is
 * asked for or answers every request with an error.
 */
#include "fuzz.h"

/* Of all these bodies only some are used here. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../unit/bodies.h"
#include "../unit/daemonworld.h"
#include "control.h"
#include "log.h"
#include "teardown.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <sys/un.h>

#define TURNS 64

static uint32_t me;
static struct config_ids mine = {.ids = &me, .count = 1};
static struct sockaddr_un sun;
static socklen_t sun_size;

static void drop_line(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FUZZ_CHECK(fuzz_is_printable(line, LOG_LINE_MAX));
}

static void open_world(bool admin)
{
	log_set_sink(drop_line, NULL);
	signal(SIGPIPE, SIG_IGN);
	setup_daemon();
	event_base_priority_init(d.base, 2);
	me = geteuid();
	if (admin)
		d.config.admin_users = mine;
	else
		alice.users = mine;
	/* An address of the kernel's choice: nothing lies in any directory. */
	d.host.control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	FUZZ_CHECK(!bind(d.host.control, (struct sockaddr *)&sun, sizeof(sun.sun_family)));
	sun_size = sizeof(sun);
	FUZZ_CHECK(!getsockname(d.host.control, (struct sockaddr *)&sun, &sun_size));
	FUZZ_CHECK(!control_open(&d, &e));
	running()->spec->vsock = true;
}

static void close_world(void)
{
	/* As daemon.c does it. */
	control_close(d.control);
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d.registry.list));)
		teardown_forget(sb);
	teardown(NULL);
}

static void refuse(struct chan *c, uint32_t id)
{
	struct err why, ignored;
	err_set(&why, ERR_STATE, 0, "not now");
	chan_send_err(c, id, &why, &ignored);
}

/* The guest's end goes at once: the client gets a stream that has a few bytes, and ends. */
static void connected(struct chan *c, uint32_t id)
{
	const struct msg_connected body = {0};
	struct err ignored;
	int pair[2];
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	send(pair[1], "hello", 5, MSG_NOSIGNAL);
	chan_send(c, MSG_CONNECTED, id, &body, sizeof(body), pair[0], &ignored);
	close(pair[0]);
	close(pair[1]);
}

static void oblige(struct chan *c, uint32_t id)
{
	static struct msg_counters_data counters;
	static struct msg_console_data text;
	static struct msg_debug_data account;
	struct msg_console_read ask;
	const struct msg_done done = {.took_us = 1};
	struct err ignored;
	switch (m.header.type) {
	case MSG_COUNTERS:
		good_counters_data(&counters);
		chan_send_counters_data(c, id, &counters, &ignored);
		break;
	case MSG_DEBUG:
		memset(&account, 0, sizeof(account));
		good_debug_data(&account);
		chan_send_debug_data(c, id, &account, &ignored);
		break;
	case MSG_CONSOLE_READ:
		FUZZ_CHECK(msg_read_console_read(&m, &ask, &ignored) == 0);
		good_console_data(&text);
		text.offset = ask.tail ? 0 : ask.offset;
		text.end = text.offset + text.length;
		chan_send_console_data(c, id, &text, &ignored);
		break;
	case MSG_CONNECT:
		connected(c, id);
		break;
	case MSG_START:
	case MSG_SNAPSHOT:
		refuse(c, id);
		break;
	default:
		chan_send_done(c, id, &done, &ignored);
		break;
	}
}

static void answer_all(struct chan *c, bool obliging)
{
	struct err ignored;
	while (c->fd >= 0 && msg_recv(c->fd, &m, &ignored) == MSG_GOT) {
		msg_close_fds(&m);
		if (!m.header.id)
			continue;
		if (obliging)
			oblige(c, m.header.id);
		else
			refuse(c, m.header.id);
	}
}

/*
 * Several answers may have come; the first must be one, and say in JSON what is wrong. libevent
 * answers in whatever version it was asked in.
 */
static void check_answer(char *text, size_t length)
{
	int status;
	if (!length)
		return;
	text[length] = '\0';
	FUZZ_CHECK(sscanf(text, "HTTP/%*d.%*d %d", &status) == 1 && status >= 100 && status < 600);
	const char *body = strstr(text, "\r\n\r\n");
	FUZZ_CHECK(body || length > 4096);
	const char *type = strstr(text, "application/problem+json");
	/* An answer to HEAD has no body; the next answer may follow. */
	if (!body || !body[4] || strncmp(body + 4, "HTTP/", 5) == 0 || !type || type > body)
		return;
	cJSON *json = cJSON_ParseWithLength(body + 4, length - (size_t)(body + 4 - text));
	FUZZ_CHECK(cJSON_IsObject(json));
	cJSON_Delete(json);
}

static void talk(struct fuzz_input *in, bool obliging)
{
	static char got[1 << 20];
	size_t length = 0, sent = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FUZZ_CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&sun, sun_size));
	int idle = 0;
	for (int i = 0; i < TURNS && idle < 4; i++) {
		ssize_t n = 0;
		if (sent < in->left)
			n = send(fd, in->at + sent, in->left - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		turn();
		answer_all(&shim, obliging);
		answer_all(&spawner, obliging);
		ssize_t r = recv(fd, got + length, sizeof(got) - 1 - length, MSG_DONTWAIT);
		length += r > 0 ? (size_t)r : 0;
		if (r == 0)
			break;
		idle = n > 0 || r > 0 ? 0 : idle + 1;
	}
	close(fd);
	check_answer(got, length);
	settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int before = fuzz_free_fd();
	uint8_t who = fuzz_byte(&in);
	open_world(who & 1);
	talk(&in, who & 2);
	close_world();
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
