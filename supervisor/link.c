// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>

#define QUEUE_MAX   (256 * 1024)
#define PENDING_MAX 512
#define TURN_MAX    32 /* records handled before others get their turn */

struct pending {
	struct pending *next;
	struct link *link;
	uint32_t id;
	enum msg_type answer;
	link_answer_fn *cb; /* NULL: nobody waits any more, the answer is dropped */
	void *arg;
	struct event *timer;
};

struct link {
	struct event_base *base;
	const char *name;
	const struct link_user *user;
	void *arg;
	struct chan chan;
	struct event *readable, *writable;
	struct pending *pending;
	unsigned pending_count;
	uint32_t last_id;
	unsigned busy; /* callbacks on the stack: do not free */
	bool freed;
};

/* One record is 64 KiB: the loop is one thread and handles one at a time. */
static struct msg incoming;

static void release(struct link *l)
{
	if (l->freed && !l->busy)
		free(l);
}

static void pending_free(struct pending *p)
{
	if (p->timer)
		event_free(p->timer);
	free(p);
}

static void close_channel(struct link *l)
{
	if (l->readable)
		event_free(l->readable);
	if (l->writable)
		event_free(l->writable);
	l->readable = l->writable = NULL;
	chan_close(&l->chan);
}

void link_fail(struct link *l, const struct err *why)
{
	if (l->chan.fd < 0)
		return;
	close_channel(l);
	l->busy++;
	while (l->pending && !l->freed) {
		struct pending *p = l->pending;
		l->pending = p->next;
		l->pending_count--;
		link_answer_fn *cb = p->cb;
		void *arg = p->arg;
		pending_free(p);
		if (cb) {
			struct err e = *why;
			/* What is wrong with the peer itself is worth knowing. */
			if (e.kind != ERR_VERSION)
				e.kind = ERR_UNAVAILABLE;
			cb(arg, NULL, &e);
		}
	}
	if (!l->freed)
		l->user->closed(l->arg, why);
	l->busy--;
	release(l);
}

/* Takes the request with this id out of the list. */
static struct pending *take_pending(struct link *l, uint32_t id)
{
	for (struct pending **at = &l->pending; *at; at = &(*at)->next) {
		if ((*at)->id != id)
			continue;
		struct pending *p = *at;
		*at = p->next;
		l->pending_count--;
		return p;
	}
	return NULL;
}

static void handle_answer(struct link *l, struct msg *m)
{
	struct err e;
	struct pending *p = take_pending(l, m->header.id);
	if (!p) {
		err_set(&e, ERR_PROTOCOL, 0, "%s record with id %u, which nobody asked",
			msg_type_name(m->header.type), m->header.id);
		link_fail(l, &e);
		return;
	}
	link_answer_fn *cb = p->cb;
	void *arg = p->arg;
	enum msg_type answer = p->answer;
	pending_free(p);
	if (m->header.type == (unsigned)answer) {
		if (cb)
			cb(arg, m, NULL);
		return;
	}
	struct msg_error error;
	struct err bad;
	if (msg_read_error(m, &error, &bad) < 0) {
		if (cb) {
			e = bad;
			e.kind = ERR_UNAVAILABLE;
			cb(arg, NULL, &e);
		}
		if (!l->freed)
			link_fail(l, &bad);
		return;
	}
	if (cb) {
		err_set(&e, (enum err_kind)error.kind, 0, "%s", error.text);
		e.errnum = error.errnum;
		cb(arg, NULL, &e);
	}
}

static void handle_record(struct link *l, struct msg *m)
{
	if (m->header.id)
		handle_answer(l, m);
	else
		l->user->record(l->arg, m);
	msg_close_fds(m);
}

/* Reads at most max records (0: all that are there). */
static void read_records(struct link *l, unsigned max)
{
	struct err e;
	l->busy++;
	for (unsigned n = 0; !l->freed && l->chan.fd >= 0 && (!max || n < max); n++) {
		enum msg_result got = msg_recv(l->chan.fd, &incoming, &e);
		if (got == MSG_AGAIN)
			break;
		if (got == MSG_GOT) {
			handle_record(l, &incoming);
			continue;
		}
		if (got == MSG_EOF) {
			err_set(&e, ERR_UNAVAILABLE, 0, "%s closed its link", l->name);
		} else if (got == MSG_OTHER_VERSION) {
			struct err ignored;
			msg_send_version_error(l->chan.fd, &incoming.header, &ignored);
			err_set(&e, ERR_VERSION, 0, "%s speaks protocol version %u, not %u",
				l->name, incoming.header.version, MSG_VERSION);
		} else {
			err_prefix(&e, "%s", l->name);
		}
		if (got != MSG_EOF)
			log_error("link closed: %s", e.text);
		link_fail(l, &e);
	}
	l->busy--;
	release(l);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	read_records(arg, TURN_MAX);
}

void link_drain(struct link *l)
{
	read_records(l, 0);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	struct err e;
	(void)fd;
	(void)what;
	if (chan_flush(&l->chan, &e) < 0) {
		/* What it sent before it went is still to be read; that ends the link too. */
		event_del(l->writable);
		return;
	}
	if (!chan_wants_write(&l->chan))
		event_del(l->writable);
}

void link_kick(struct link *l)
{
	if (l->writable && chan_wants_write(&l->chan))
		event_add(l->writable, NULL);
}

void link_hand_over(struct link *l, const char *name, const struct link_user *user, void *arg)
{
	l->name = name;
	l->user = user;
	l->arg = arg;
}

struct chan *link_chan(struct link *l)
{
	return &l->chan;
}

struct link *link_open(struct event_base *base, int fd, const char *name,
		       const struct link_user *user, void *arg, struct err *e)
{
	struct link *l = calloc(1, sizeof(*l));
	if (!l) {
		fd_close(&fd);
		err_errno(e, ENOMEM, "link to %s", name);
		return NULL;
	}
	*l = (struct link){.base = base, .name = name, .user = user, .arg = arg};
	chan_open(&l->chan, fd, QUEUE_MAX);
	l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
	l->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, l);
	if (!l->readable || !l->writable || event_add(l->readable, NULL) < 0) {
		link_free(l);
		err_errno(e, ENOMEM, "watch the link to %s", name);
		return NULL;
	}
	return l;
}

void link_free(struct link *l)
{
	if (!l || l->freed)
		return;
	l->freed = true;
	close_channel(l);
	while (l->pending) {
		struct pending *p = l->pending;
		l->pending = p->next;
		pending_free(p);
	}
	release(l);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct pending *p = arg;
	struct err e;
	(void)fd;
	(void)what;
	err_set(&e, ERR_DEADLINE, 0, "%s gave no %s in time", p->link->name,
		msg_type_name(p->answer));
	link_answer_fn *cb = p->cb;
	/* It stays in the list, so that a late answer is known as such. */
	p->cb = NULL;
	if (cb)
		cb(p->arg, NULL, &e);
}

/* What must get through even when much else waits. */
static bool is_urgent(enum msg_type type)
{
	return type == MSG_KILL || type == MSG_END;
}

int link_request(struct link *l, enum msg_type type, const void *body, size_t length,
		 enum msg_type answer, uint32_t deadline_ms, link_answer_fn *cb, void *arg,
		 struct err *e)
{
	if (l->pending_count >= PENDING_MAX && !is_urgent(type))
		return err_set(e, ERR_UNAVAILABLE, 0, "%u requests wait for %s already",
			       l->pending_count, l->name);
	struct pending *p = calloc(1, sizeof(*p));
	if (!p)
		return err_errno(e, ENOMEM, "ask %s for %s", l->name, msg_type_name(answer));
	if (++l->last_id == 0)
		l->last_id = 1;
	*p = (struct pending){.link = l, .id = l->last_id, .answer = answer, .cb = cb, .arg = arg};
	if (deadline_ms) {
		struct timeval tv = {.tv_sec = deadline_ms / 1000,
				     .tv_usec = (deadline_ms % 1000) * 1000};
		p->timer = evtimer_new(l->base, on_deadline, p);
		if (!p->timer || evtimer_add(p->timer, &tv) < 0) {
			pending_free(p);
			return err_errno(e, ENOMEM, "set a deadline for %s", l->name);
		}
	}
	if (chan_send(&l->chan, type, p->id, body, length, -1, e) < 0) {
		pending_free(p);
		return err_prefix(e, "%s", l->name);
	}
	p->next = l->pending;
	l->pending = p;
	l->pending_count++;
	link_kick(l);
	return 0;
}

#define X(upper, lower, fds, tail)                                                                 \
	int link_request_##lower(struct link *l, const struct msg_##lower *body,                   \
				 enum msg_type answer, uint32_t deadline_ms, link_answer_fn *cb,   \
				 void *arg, struct err *e)                                         \
	{                                                                                          \
		ssize_t length = msg_write_##lower(body, e);                                       \
		if (length < 0)                                                                    \
			return -1;                                                                 \
		return link_request(l, MSG_##upper, body, (size_t)length, answer, deadline_ms, cb, \
				    arg, e);                                                       \
	}
MSG_TABLE(X)
#undef X

void link_forget(struct link *l, const void *arg)
{
	for (struct pending *p = l->pending; p; p = p->next)
		if (p->arg == arg)
			p->cb = NULL;
}
