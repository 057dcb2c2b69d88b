// SPDX-License-Identifier: Apache-2.0
#include "transcript.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_MS 5000

/* One wait at the shim serves all followers that have read everything. */
struct transcript {
	struct transcript_follower *followers;
	unsigned count;
	bool waiting; /* a CONSOLE_READ that waits is under way */
	bool eof;     /* the VMM is gone, the rest comes with the record */
};

/* One record's body at a time, on the one thread of the loop. */
static struct msg_console_data piece;

/* ------------------------------------------------------------------ tail */

struct tail {
	struct sandbox *sb;
	transcript_tail_fn *fn;
	void *arg;
	char *data;
	size_t length, room;
	uint32_t asked; /* bytes, by the client */
	uint64_t end;
	bool begun;
};

static void tail_done(struct tail *t, const struct err *why)
{
	t->fn(t->arg, t->data, t->length, t->end, why);
	free(t->data);
	free(t);
}

static void tail_from_record(struct sandbox *sb, uint32_t bytes, transcript_tail_fn *fn, void *arg)
{
	const struct sandbox_console *last = &sb->last;
	size_t n = last->length < bytes ? last->length : bytes;
	fn(arg, n ? last->data + last->length - n : "", n, last->end, NULL);
}

/*
 * The shim answers no more. When the VMM ended meanwhile its console has been read out whole, and
 * the record has what was asked for; half of it would be worse than an error.
 */
static void tail_failed(struct tail *t, const struct err *why)
{
	if (!t->sb->last.whole) {
		tail_done(t, why);
		return;
	}
	tail_from_record(t->sb, t->asked, t->fn, t->arg);
	free(t->data);
	free(t);
}

static void on_tail(void *arg, struct msg *m, const struct err *why);

static int tail_ask(struct tail *t, uint64_t offset, bool from_end, struct err *e)
{
	struct msg_console_read ask = {.offset = offset, .tail = from_end};
	return link_request_console_read(t->sb->link, &ask, MSG_CONSOLE_DATA, READ_MS, on_tail, t,
					 e);
}

static void on_tail(void *arg, struct msg *m, const struct err *why)
{
	struct tail *t = arg;
	struct err e;
	if (!why && msg_read_console_data(m, &piece, &e) < 0) {
		struct link *l = t->sb->link;
		tail_done(t, &e);
		link_fail(l, &e);
		return;
	}
	if (why) {
		tail_failed(t, why);
		return;
	}
	if (!t->begun) {
		/* What is printed from here on is not waited for. */
		t->begun = true;
		uint64_t there = piece.end - piece.offset;
		t->room = there < t->room ? (size_t)there : t->room;
		t->end = piece.offset;
		t->data = malloc(t->room ? t->room : 1);
		if (!t->data) {
			err_errno(&e, ENOMEM, "no memory for the console");
			tail_done(t, &e);
			return;
		}
	}
	/* A gap: the console ran past us. What was read so far is no longer connected. */
	if (piece.offset != t->end)
		t->length = 0;
	size_t n = piece.length < t->room - t->length ? piece.length : t->room - t->length;
	memcpy(t->data + t->length, piece.data, n);
	t->length += n;
	t->end = piece.offset + n;
	if (!n || t->length == t->room || piece.eof)
		tail_done(t, NULL);
	else if (tail_ask(t, t->end, false, &e) < 0)
		tail_failed(t, &e);
}

void transcript_tail(struct sandbox *sb, uint32_t bytes, transcript_tail_fn *fn, void *arg)
{
	struct err e;
	if (!sb->link || sb->last.whole) {
		tail_from_record(sb, bytes, fn, arg);
		return;
	}
	struct tail *t = calloc(1, sizeof(*t));
	if (!t) {
		err_errno(&e, ENOMEM, "no memory for the console");
		fn(arg, NULL, 0, 0, &e);
		return;
	}
	*t = (struct tail){.sb = sb, .fn = fn, .arg = arg, .room = bytes, .asked = bytes};
	if (tail_ask(t, bytes, true, &e) < 0)
		tail_failed(t, &e);
}

/* ------------------------------------------------------------------ follow */

static void forget(struct transcript_follower *f)
{
	struct transcript *c = f->sb->transcript;
	for (struct transcript_follower **at = &c->followers; *at; at = &(*at)->next) {
		if (*at == f) {
			*at = f->next;
			c->count--;
			break;
		}
	}
	if (f->sb->link)
		link_forget(f->sb->link, f);
}

static void end_follower(struct transcript_follower *f)
{
	forget(f);
	f->end(f->arg);
}

/* From the record: the piece at f->offset, or the end. */
static void serve_record(struct transcript_follower *f)
{
	const struct sandbox_console *last = &f->sb->last;
	uint64_t first = last->end - last->length;
	uint64_t from = f->offset > first ? f->offset : first;
	f->idle = false;
	if (from >= last->end) {
		end_follower(f);
		return;
	}
	size_t n = (size_t)(last->end - from);
	if (n > MSG_DATA_MAX)
		n = MSG_DATA_MAX;
	f->offset = from + n;
	f->data(f->arg, last->data + (from - first), n);
}

static void on_wait(void *arg, struct msg *m, const struct err *why);
static void on_read(void *arg, struct msg *m, const struct err *why);

/* Has the shim tell when there is more, if somebody wants to know. */
static void wait_for_more(struct sandbox *sb)
{
	struct transcript *c = sb->transcript;
	struct msg_console_read ask = {.wait = 1};
	struct err e;
	bool any = false;
	if (c->waiting || c->eof || !sb->link)
		return;
	for (const struct transcript_follower *f = c->followers; f; f = f->next) {
		if (f->idle && (!any || f->offset < ask.offset))
			ask.offset = f->offset;
		any |= f->idle;
	}
	/* No deadline: a guest may be silent for ever; the link's end ends it. */
	if (any &&
	    link_request_console_read(sb->link, &ask, MSG_CONSOLE_DATA, 0, on_wait, sb, &e) == 0)
		c->waiting = true;
	else if (any)
		log_warning("%s: console cannot be followed: %s", sb->key, e.text);
}

static void on_wait(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct transcript *c = sb->transcript;
	struct err e;
	c->waiting = false;
	if (why)
		return; /* the link is gone: transcript_over() follows */
	if (msg_read_console_data(m, &piece, &e) < 0) {
		link_fail(sb->link, &e);
		return;
	}
	if (piece.eof && !piece.length) {
		c->eof = true;
		return;
	}
	uint64_t first = piece.offset, last = piece.offset + piece.length;
	struct transcript_follower *next;
	for (struct transcript_follower *f = c->followers; f; f = next) {
		next = f->next;
		if (!f->idle)
			continue;
		f->idle = false;
		if (f->offset >= first && f->offset < last) {
			uint64_t from = f->offset;
			f->offset = last;
			f->data(f->arg, piece.data + (from - first), (size_t)(last - from));
		} else {
			transcript_next(f);
		}
	}
}

static void on_read(void *arg, struct msg *m, const struct err *why)
{
	struct transcript_follower *f = arg;
	struct err e;
	if (why && why->kind == ERR_UNAVAILABLE) {
		f->idle = true; /* transcript_over() follows */
		return;
	}
	if (why) {
		end_follower(f);
		return;
	}
	if (msg_read_console_data(m, &piece, &e) < 0) {
		struct sandbox *sb = f->sb;
		f->idle = true;
		link_fail(sb->link, &e);
		return;
	}
	if (piece.length) {
		f->offset = piece.offset + piece.length;
		f->data(f->arg, piece.data, piece.length);
		return;
	}
	f->idle = true;
	if (f->offset > piece.end)
		f->offset = piece.end;
	wait_for_more(f->sb);
}

void transcript_next(struct transcript_follower *f)
{
	struct sandbox *sb = f->sb;
	struct msg_console_read ask = {.offset = f->offset};
	struct err e;
	if (sb->last.whole || !sb->link) {
		serve_record(f);
		return;
	}
	if (link_request_console_read(sb->link, &ask, MSG_CONSOLE_DATA, READ_MS, on_read, f, &e) <
	    0) {
		log_warning("%s: console cannot be followed: %s", sb->key, e.text);
		end_follower(f);
	}
}

int transcript_follow(struct sandbox *sb, struct transcript_follower *f, struct err *e)
{
	if (!sb->transcript)
		sb->transcript = calloc(1, sizeof(*sb->transcript));
	if (!sb->transcript)
		return err_errno(e, ENOMEM, "no memory to follow the console");
	struct transcript *c = sb->transcript;
	if (c->count >= TRANSCRIPT_FOLLOWERS_MAX)
		return err_set(e, ERR_QUOTA, 0, "%u clients follow this console, at most %u may",
			       c->count, TRANSCRIPT_FOLLOWERS_MAX);
	f->sb = sb;
	f->idle = false;
	f->next = c->followers;
	c->followers = f;
	c->count++;
	return 0;
}

void transcript_unfollow(struct transcript_follower *f)
{
	forget(f);
}

void transcript_over(struct sandbox *sb)
{
	struct transcript_follower *next;
	if (!sb->transcript)
		return;
	for (struct transcript_follower *f = sb->transcript->followers; f; f = next) {
		next = f->next;
		if (f->idle)
			serve_record(f);
	}
}

bool transcript_is_followed(const struct sandbox *sb)
{
	return sb->transcript && sb->transcript->followers;
}

void transcript_end(struct sandbox *sb)
{
	if (!sb->transcript)
		return;
	while (sb->transcript->followers)
		end_follower(sb->transcript->followers);
	if (sb->link)
		link_forget(sb->link, sb);
	free(sb->transcript);
	sb->transcript = NULL;
}
