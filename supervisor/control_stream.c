// SPDX-License-Identifier: Apache-2.0
/* Answers that stay open: the event stream and a followed console. */
#include "control.h"

#include "log.h"
#include "transcript.h"
#include "util.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MAX   (32 * 1024)
#define HEARTBEAT_S 15
#define STUCK_S	    30 /* a reader that takes nothing for so long is dropped */

struct stream {
	struct daemon *d;
	struct evhttp_request *req;
	bool busy; /* what was sent has not all left yet */
	/* an event stream */
	struct events_listener listener;
	struct events_reader reader;
	struct event *heartbeat;
	/* a followed console; its sb is NULL for an event stream or when it has ended */
	struct transcript_follower follower;
};

static void stream_free(struct stream *s)
{
	events_unlisten(&s->d->events, &s->listener);
	if (s->heartbeat)
		event_free(s->heartbeat);
	if (s->follower.sb)
		transcript_unfollow(&s->follower);
	free(s);
}

static void on_client_gone(struct evhttp_connection *connection, void *arg)
{
	struct stream *s = arg;
	(void)connection;
	/* As in reply.c: a request taken off its connection is ours to free. */
	if (!evhttp_request_get_connection(s->req))
		evhttp_request_free(s->req);
	stream_free(s);
}

/* Sends the headers. NULL: answered with an error. */
static struct stream *stream_open(struct control_request *r, const char *type)
{
	const struct timeval stuck = {.tv_sec = STUCK_S};
	struct err e;
	struct stream *s = calloc(1, sizeof(*s));
	if (!s) {
		err_errno(&e, ENOMEM, "no memory for a stream");
		reply_error(r->req, 0, &e, r->id);
		return NULL;
	}
	s->d = r->d;
	s->req = r->req;
	struct evhttp_connection *connection = evhttp_request_get_connection(r->req);
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r->req);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Connection", "close");
	evhttp_connection_set_closecb(connection, on_client_gone, s);
	evhttp_send_reply_start(r->req, 200, NULL);
	/* The client has nothing more to say: only what it does not take counts as stuck. */
	bufferevent_set_timeouts(evhttp_connection_get_bufferevent(connection), NULL, &stuck);
	return s;
}

/* The last piece has been handed over: the connection ends when it has left. */
static void stream_end(struct stream *s)
{
	evhttp_connection_set_closecb(evhttp_request_get_connection(s->req), NULL, NULL);
	evhttp_send_reply_end(s->req);
	stream_free(s);
}

static void stream_send(struct stream *s, struct evbuffer *chunk,
			void (*sent)(struct evhttp_connection *, void *))
{
	s->busy = true;
	evhttp_send_reply_chunk_with_cb(s->req, chunk, sent, s);
}

/* ------------------------------------------------------------------ events */

static void pump_events(void *arg);

static void on_events_sent(struct evhttp_connection *connection, void *arg)
{
	struct stream *s = arg;
	(void)connection;
	s->busy = false;
	pump_events(s);
}

/*
 * Sends what is there, one bounded chunk at a time; the rest waits in the ring. So a slow reader
 * costs no memory, and one that falls behind the ring reads a gap line.
 */
static void pump_events(void *arg)
{
	struct stream *s = arg;
	const char *line;
	if (s->busy)
		return;
	struct evbuffer *chunk = evbuffer_new();
	if (!chunk)
		return;
	while (evbuffer_get_length(chunk) < CHUNK_MAX &&
	       (line = events_read(&s->d->events, &s->reader)))
		evbuffer_add(chunk, line, strlen(line));
	if (evbuffer_get_length(chunk))
		stream_send(s, chunk, on_events_sent);
	evbuffer_free(chunk);
}

static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	(void)fd;
	(void)what;
	struct evbuffer *chunk = s->busy ? NULL : evbuffer_new();
	if (!chunk)
		return;
	evbuffer_add(chunk, "\n", 1);
	stream_send(s, chunk, on_events_sent);
	evbuffer_free(chunk);
}

void control_stream_events(struct control_request *r)
{
	const struct timeval beat = {.tv_sec = HEARTBEAT_S};
	uint64_t since = 0;
	const char *tenant = r->peer.admin ? NULL : r->peer.name;
	if (!control_query_u64(r, "since", 0, UINT64_MAX - 1, &since))
		return;
	/* An admin's ?tenant= must outlive the request: only configured ones have such a name. */
	if (r->peer.admin && !r->all_tenants) {
		const struct config_tenant *t = tenant_by_name(&r->d->config, r->tenant);
		struct err e;
		tenant = t ? t->name : CONFIG_ADMIN_TENANT;
		if (!t && strcmp(r->tenant, tenant) != 0) {
			err_set(&e, ERR_INVALID, 0, "tenant: there is no [tenant %s] section",
				r->tenant);
			reply_error(r->req, 0, &e, NULL);
			return;
		}
	}
	struct stream *s = stream_open(r, "application/x-ndjson");
	if (!s)
		return;
	if (evhttp_find_header(&r->query, "since"))
		events_reader_since(&r->d->events, &s->reader, tenant, since);
	else
		events_reader_new(&r->d->events, &s->reader, tenant);
	s->listener = (struct events_listener){.fn = pump_events, .arg = s};
	events_listen(&r->d->events, &s->listener);
	s->heartbeat = event_new(r->d->base, -1, EV_PERSIST, on_heartbeat, s);
	if (!s->heartbeat || event_add(s->heartbeat, &beat) < 0) {
		log_error("no memory for a stream's heartbeat");
		stream_end(s);
		return;
	}
	pump_events(s);
}

/* ------------------------------------------------------------------ console */

static void on_console_sent(struct evhttp_connection *connection, void *arg)
{
	struct stream *s = arg;
	(void)connection;
	s->busy = false;
	if (s->follower.sb)
		transcript_next(&s->follower);
	else
		stream_end(s);
}

static void on_console_data(void *arg, const char *data, size_t length)
{
	struct stream *s = arg;
	struct evbuffer *chunk = evbuffer_new();
	if (!chunk || evbuffer_add(chunk, data, length) < 0) {
		/* Better an early end than bytes left out in silence. */
		log_error("no memory for a followed console");
		transcript_unfollow(&s->follower);
		s->follower.sb = NULL;
		stream_end(s);
	} else {
		stream_send(s, chunk, on_console_sent);
	}
	if (chunk)
		evbuffer_free(chunk);
}

static void on_console_end(void *arg)
{
	struct stream *s = arg;
	s->follower.sb = NULL;
	if (!s->busy)
		stream_end(s);
}

void control_stream_console(struct control_request *r, struct sandbox *sb, uint64_t since)
{
	struct err e;
	struct transcript_follower probe = {.offset = since};
	/* Too many followers are told so before the answer has begun. */
	if (transcript_follow(sb, &probe, &e) < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	transcript_unfollow(&probe);
	struct stream *s = stream_open(r, "text/plain");
	if (!s)
		return;
	s->follower = (struct transcript_follower){
		.offset = since, .data = on_console_data, .end = on_console_end, .arg = s};
	if (transcript_follow(sb, &s->follower, &e) < 0) {
		s->follower.sb = NULL;
		stream_end(s);
		return;
	}
	transcript_next(&s->follower);
}
