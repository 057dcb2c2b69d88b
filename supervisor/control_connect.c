// SPDX-License-Identifier: Apache-2.0
/*
 * GET /v1/sandboxes/ID/connect: the connection becomes one to a vsock port of the guest.
 *
 * evhttp has no way to give a connection away, so it keeps it: it holds the request that was never
 * answered, and the bufferevent calls us instead of it. evhttp_connection_free(), by us at the end
 * or by evhttp_free() before, frees all three.
 */
#include "control.h"

#include "log.h"
#include "operate.h"
#include "relay.h"
#include "util.h"

#include <errno.h>
#include <event2/http_struct.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#define PER_TENANT	 64
#define FD_PART		 8 /* one in so many of our descriptors may be an end at a guest */
#define TIMEOUT_MS	 5000
#define TIMEOUT_MAX_MS	 60000
#define ANSWER_MARGIN_MS 2000 /* for the shim's answer, once its own deadline is over */
#define PROTOCOL	 "cloister-stream"

struct control_connect {
	LIST_ENTRY(control_connect) entry;
	char tenant[NAME_SIZE]; /* the sandbox's */
	char id[NAME_SIZE];
	uint32_t port;
	struct sandbox *sb;  /* until the shim has answered */
	struct reply *reply; /* the same */
	struct evhttp_connection *connection;
	struct relay *relay;
};

/* ------------------------------------------------------------------ the request */

/* Whether the comma-separated list has the word in it, in any case (RFC 9110 section 5.6.1). */
static bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);
	while (list && *list) {
		list += strspn(list, ", \t");
		size_t n = strcspn(list, ", \t");
		if (n == length && strncasecmp(list, word, n) == 0)
			return true;
		list += n;
	}
	return false;
}

static bool wants_upgrade(struct control_request *r)
{
	struct evkeyvalq *in = evhttp_request_get_input_headers(r->req);
	struct evkeyvalq *out = evhttp_request_get_output_headers(r->req);
	struct err e;
	if (r->req->major == 1 && r->req->minor == 1 &&
	    list_has(evhttp_find_header(in, "Connection"), "upgrade") &&
	    list_has(evhttp_find_header(in, "Upgrade"), PROTOCOL))
		return true;
	err_set(&e, ERR_INVALID, 0,
		"this connection would become one to the guest: ask over HTTP/1.1 with the headers "
		"\"Connection: Upgrade\" and \"Upgrade: " PROTOCOL "\"");
	/* RFC 9110 section 15.5.22. */
	evhttp_add_header(out, "Upgrade", PROTOCOL);
	evhttp_add_header(out, "Connection", "Upgrade");
	reply_error(r->req, 426, &e, r->id);
	return false;
}

static bool read_query(struct control_request *r, struct msg_connect *ask)
{
	struct err e;
	uint64_t port = 0, timeout_ms = TIMEOUT_MS;
	if (!evhttp_find_header(&r->query, "port")) {
		err_set(&e, ERR_INVALID, 0,
			"port: missing; must be a vsock port of the guest, 1 to 4294967294");
		reply_error(r->req, 0, &e, r->id);
		return false;
	}
	if (!control_query_u64(r, "port", 1, UINT32_MAX - 1, &port) ||
	    !control_query_u64(r, "timeout_ms", 1, TIMEOUT_MAX_MS, &timeout_ms))
		return false;
	*ask = (struct msg_connect){.port = (uint32_t)port, .timeout_ms = (uint32_t)timeout_ms};
	return true;
}

static int check_room(const struct daemon *d, const char *tenant, struct err *e)
{
	const struct control_connect *c;
	unsigned count = 0, all = 0;
	struct rlimit files;
	LIST_FOREACH(c, &d->connects, entry)
	{
		all++;
		count += strcmp(c->tenant, tenant) == 0;
	}
	/* A shim's record whose descriptor finds no room here costs us that shim. */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || all >= files.rlim_cur / FD_PART)
		return err_set(e, ERR_UNAVAILABLE, 0,
			       "too many connections to guests are open on this host");
	if (count < PER_TENANT)
		return 0;
	return err_set(e, ERR_QUOTA, 0,
		       "%u connections to guests of tenant %s are open, at most %d may be; close "
		       "some",
		       count, tenant, PER_TENANT);
}

static int check_sandbox(struct sandbox *sb, struct err *e)
{
	if (operate_check(sb, STATE_ASK_CONNECT, "connect", e) < 0)
		return -1;
	if (!sb->spec->vsock)
		return err_set(e, ERR_STATE, 0,
			       "connect: it has no vsock device; create it with \"vsock\": true");
	return 0;
}

/* ------------------------------------------------------------------ the connection */

static void forget(struct control_connect *c)
{
	LIST_REMOVE(c, entry);
	free(c);
}

/* evhttp ends: the connection goes without us. */
static void on_connection_gone(struct evhttp_connection *connection, void *arg)
{
	struct control_connect *c = arg;
	(void)connection;
	relay_free(c->relay);
	forget(c);
}

static void on_relay_done(void *arg)
{
	struct control_connect *c = arg;
	log_debug("%s:%s: a connection to vsock port %u has ended", c->tenant, c->id, c->port);
	evhttp_connection_set_closecb(c->connection, NULL, NULL);
	relay_free(c->relay);
	evhttp_connection_free(c->connection);
	forget(c);
}

static void join(struct control_connect *c, struct evhttp_request *req, int fd)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n"
				   "Connection: Upgrade\r\nUpgrade: " PROTOCOL "\r\n\r\n";
	struct err e;
	c->connection = evhttp_request_get_connection(req);
	c->relay = relay_start(evhttp_connection_get_bufferevent(c->connection), fd, head,
			       on_relay_done, c, &e);
	if (!c->relay) {
		reply_error(req, 0, &e, c->id);
		forget(c);
		return;
	}
	evhttp_connection_set_closecb(c->connection, on_connection_gone, c);
	log_debug("%s:%s: connected to vsock port %u", c->tenant, c->id, c->port);
}

static struct evhttp_request *take_reply(struct control_connect *c)
{
	struct evhttp_request *req = reply_take(c->reply);
	c->reply = NULL;
	c->sb = NULL;
	return req;
}

static void refuse(struct control_connect *c, const struct err *why)
{
	struct err e = *why;
	/* The guest's word, unless it is the shim that is not there any more. */
	if (why->kind == ERR_UNAVAILABLE && c->sb->link && link_chan(c->sb->link)->fd >= 0)
		e.kind = ERR_VMM;
	struct evhttp_request *req = take_reply(c);
	if (req)
		reply_error(req, 0, &e, c->id);
	forget(c);
}

static void on_connected(void *arg, struct msg *m, const struct err *why)
{
	struct control_connect *c = arg;
	struct sandbox *sb = c->sb;
	struct msg_connected said;
	struct err e;
	if (why) {
		refuse(c, why);
		return;
	}
	if (msg_read_connected(m, &said, &e) < 0) {
		refuse(c, &e);
		link_fail(sb->link, &e);
		return;
	}
	struct evhttp_request *req = take_reply(c);
	if (!req) {
		forget(c);
		return;
	}
	int fd = fd_take(&m->fds[0]);
	m->fd_count = 0;
	join(c, req, fd);
}

void control_connect(struct control_request *r)
{
	struct err e;
	struct msg_connect ask;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !read_query(r, &ask) || !wants_upgrade(r))
		return;
	if (check_sandbox(sb, &e) < 0 || check_room(r->d, sb->tenant, &e) < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	struct control_connect *c = calloc(1, sizeof(*c));
	if (!c) {
		err_errno(&e, ENOMEM, "no memory for a connection");
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	*c = (struct control_connect){.port = ask.port, .sb = sb};
	str_copy(c->tenant, sizeof(c->tenant), sb->tenant);
	str_copy(c->id, sizeof(c->id), sb->id);
	c->reply = control_request_hold(r);
	if (!c->reply) {
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&r->d->connects, c, entry);
	if (link_request_connect(sb->link, &ask, MSG_CONNECTED, ask.timeout_ms + ANSWER_MARGIN_MS,
				 on_connected, c, &e) < 0) {
		control_request_refuse(c->reply, &e, r->id);
		forget(c);
	}
}

void control_connect_close(struct daemon *d)
{
	for (struct control_connect *c; (c = LIST_FIRST(&d->connects)) != NULL;) {
		if (c->reply)
			take_reply(c);
		forget(c);
	}
}
