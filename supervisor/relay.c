// SPDX-License-Identifier: Apache-2.0
#include "relay.h"

#include "util.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/util.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LOW	 (RELAY_BUFFER / 4) /* a sender that had to wait goes on from here */
#define WATCH_S	 2
#define STUCK_US 30000000 /* for the last bytes, when the other peer is gone */

struct side {
	struct relay *relay;
	struct bufferevent *bev;
	bool eof;  /* nothing more comes from it */
	bool shut; /* it was told that nothing more comes */
	bool dead; /* nothing can be delivered to it any more */
};

struct relay {
	struct side sides[2]; /* near, far */
	struct event *watch;
	uint64_t moved;	 /* bytes, ever */
	uint64_t seen;	 /* what on_watch() knows of moved and of what waits */
	int64_t idle_us; /* since when nothing has changed there */
	relay_done_fn *done;
	void *arg;
};

static struct side *other(const struct side *s)
{
	struct relay *r = s->relay;
	return s == &r->sides[0] ? &r->sides[1] : &r->sides[0];
}

static size_t waiting_for(const struct side *s)
{
	return evbuffer_get_length(bufferevent_get_output(s->bev));
}

/* The peer has closed its end, not only shut down one direction. */
static bool is_closed(const struct side *s)
{
	struct pollfd p = {.fd = bufferevent_getfd(s->bev)};
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void note_dead(struct side *s)
{
	s->dead = true;
	/* What it would get is of no use to anybody. */
	bufferevent_disable(other(s)->bev, EV_READ);
}

/* Moves what came from a side on, and has it wait when the other does not keep up. */
static void pump(struct side *from)
{
	struct side *to = other(from);
	struct evbuffer *in = bufferevent_get_input(from->bev);
	if (to->dead) {
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	from->relay->moved += evbuffer_get_length(in);
	evbuffer_add_buffer(bufferevent_get_output(to->bev), in);
	if (waiting_for(to) >= RELAY_BUFFER)
		bufferevent_disable(from->bev, EV_READ);
}

/* A direction is over: its end was passed on, or nobody is there to be told. */
static bool is_over(const struct side *from)
{
	const struct side *to = other(from);
	return to->dead || (from->eof && to->shut);
}

/* Passes ends on. May end the relay: then it must not be touched any more. */
static void settle(struct relay *r)
{
	for (int i = 0; i < 2; i++) {
		struct side *to = &r->sides[i], *from = other(to);
		if (from->eof && !to->shut && !to->dead && !waiting_for(to)) {
			shutdown(bufferevent_getfd(to->bev), SHUT_WR);
			to->shut = true;
		}
	}
	if (is_over(&r->sides[0]) && is_over(&r->sides[1]))
		r->done(r->arg);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct side *s = arg;
	(void)bev;
	pump(s);
	settle(s->relay);
}

/* Little or nothing waits for this side any more. */
static void on_write(struct bufferevent *bev, void *arg)
{
	struct side *s = arg, *from = other(s);
	(void)bev;
	if (!from->eof && !s->dead)
		bufferevent_enable(from->bev, EV_READ);
	settle(s->relay);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct side *s = arg;
	(void)bev;
	if (what & BEV_EVENT_READING) {
		s->eof = true;
		pump(s);
	}
	if ((what & BEV_EVENT_ERROR) || is_closed(s))
		note_dead(s);
	settle(s->relay);
}

/*
 * A peer that had shut down its direction and then closes raises no event that libevent has; and
 * one that is to get the last bytes may never read them.
 */
static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct relay *r = arg;
	(void)fd;
	(void)what;
	for (int i = 0; i < 2; i++)
		if (r->sides[i].eof && !r->sides[i].dead && is_closed(&r->sides[i]))
			note_dead(&r->sides[i]);
	/* What waits only shrinks when nothing is moved, so their difference tells any change. */
	uint64_t now = r->moved - waiting_for(&r->sides[0]) - waiting_for(&r->sides[1]);
	if (now != r->seen || !r->idle_us)
		r->idle_us = clock_us();
	r->seen = now;
	if ((r->sides[0].dead || r->sides[1].dead) && clock_us() - r->idle_us > STUCK_US)
		r->done(r->arg);
	else
		settle(r);
}

static void take_over(struct side *s)
{
	bufferevent_setcb(s->bev, on_read, on_write, on_event, s);
	bufferevent_set_timeouts(s->bev, NULL, NULL);
	bufferevent_setwatermark(s->bev, EV_READ, 0, RELAY_BUFFER);
	bufferevent_setwatermark(s->bev, EV_WRITE, LOW, 0);
}

struct relay *relay_start(struct bufferevent *near, int far, const char *first, relay_done_fn *done,
			  void *arg, struct err *e)
{
	const struct timeval watch = {.tv_sec = WATCH_S};
	struct event_base *base = bufferevent_get_base(near);
	struct relay *r = calloc(1, sizeof(*r));
	struct bufferevent *bev = evutil_make_socket_nonblocking(far) == 0
					  ? bufferevent_socket_new(base, far, BEV_OPT_CLOSE_ON_FREE)
					  : NULL;
	if (bev)
		fd_take(&far);
	fd_close(&far);
	if (r)
		r->watch = event_new(base, -1, EV_PERSIST, on_watch, r);
	if (!bev || !r || !r->watch || event_add(r->watch, &watch) < 0 ||
	    evbuffer_add(bufferevent_get_output(near), first, strlen(first)) < 0) {
		if (r && r->watch)
			event_free(r->watch);
		if (bev)
			bufferevent_free(bev);
		free(r);
		err_errno(e, ENOMEM, "no memory to pass a connection on");
		return NULL;
	}
	r->done = done;
	r->arg = arg;
	r->sides[0] = (struct side){.relay = r, .bev = near};
	r->sides[1] = (struct side){.relay = r, .bev = bev};
	for (int i = 0; i < 2; i++)
		take_over(&r->sides[i]);
	pump(&r->sides[0]);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	bufferevent_enable(near, waiting_for(&r->sides[1]) < RELAY_BUFFER ? EV_READ | EV_WRITE
									  : EV_WRITE);
	return r;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	bufferevent_disable(r->sides[0].bev, EV_READ | EV_WRITE);
	bufferevent_setcb(r->sides[0].bev, NULL, NULL, NULL, NULL);
	bufferevent_free(r->sides[1].bev);
	event_free(r->watch);
	free(r);
}
