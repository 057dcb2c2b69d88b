// SPDX-License-Identifier: Apache-2.0
#include "account.h"

#include "daemon.h"
#include "log.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct waiter {
	struct waiter *next;
	struct account *account;
	account_fn *fn;
	void *arg;
	struct event *timer;
};

/* A packed copy: of 128 exchanges and 320 threads there is room in a record, few are used. */
struct kept {
	struct msg_debug_head head;
	struct msg_exchange *exchanges;
	struct msg_thread *threads;
};

struct account {
	struct sandbox *sb;
	struct waiter *waiters;
	struct kept *kept;
	bool asked; /* an answer is to come; it may be late */
};

static struct account *get(struct sandbox *sb)
{
	if (!sb->account && (sb->account = calloc(1, sizeof(*sb->account))))
		sb->account->sb = sb;
	return sb->account;
}

/* Takes it off the list and ends its wait. */
static void tell(struct waiter *w, const struct account_view *view, const struct err *why)
{
	struct account *a = w->account;
	struct sandbox *sb = a->sb;
	for (struct waiter **at = &a->waiters; *at; at = &(*at)->next) {
		if (*at != w)
			continue;
		*at = w->next;
		break;
	}
	event_free(w->timer);
	w->fn(w->arg, sb, view, why);
	free(w);
}

static account_fn on_last;

/* Who lets the shim go comes last: with that the sandbox itself may go, and the account with it. */
static void tell_all(struct account *a, const struct account_view *view, const struct err *why)
{
	struct waiter *last = NULL;
	for (struct waiter *w = a->waiters, *next; w; w = next) {
		next = w->next;
		if (w->fn == on_last)
			last = w;
		else
			tell(w, view, why);
	}
	if (last)
		tell(last, view, why);
}

/* From what is kept, or that there is nothing. */
static struct account_view *view_kept(const struct account *a, struct account_view *view)
{
	if (!a || !a->kept)
		return NULL;
	*view = (struct account_view){
		.head = &a->kept->head,
		.exchanges = a->kept->exchanges,
		.threads = a->kept->threads,
		.kept = true,
	};
	return view;
}

static void keep(struct account *a, const struct msg_debug_data *said)
{
	size_t exchanges = said->head.exchange_count * sizeof(said->exchanges[0]);
	size_t threads = said->head.confine.thread_count * sizeof(said->threads[0]);
	struct kept *k = malloc(sizeof(*k) + exchanges + threads);
	if (!k)
		return;
	k->head = said->head;
	k->exchanges = (struct msg_exchange *)(void *)(k + 1);
	k->threads = (struct msg_thread *)(void *)((char *)k->exchanges + exchanges);
	memcpy(k->exchanges, said->exchanges, exchanges);
	memcpy(k->threads, said->threads, threads);
	free(a->kept);
	a->kept = k;
}

static void on_answer(void *arg, struct msg *m, const struct err *why)
{
	/* One record's body at a time, on the one thread of the loop. */
	static struct msg_debug_data said;
	struct account *a = arg;
	struct account_view view;
	struct err e;
	a->asked = false;
	if (why) {
		/* The VMM ended meanwhile, and its shim with it. */
		if (view_kept(a, &view))
			tell_all(a, &view, NULL);
		else
			tell_all(a, NULL, why);
		return;
	}
	if (msg_read_debug_data(m, &said, &e) < 0) {
		struct link *l = a->sb->link;
		tell_all(a, NULL, &e);
		link_fail(l, &e);
		return;
	}
	if (said.head.ended)
		keep(a, &said);
	view = (struct account_view){
		.head = &said.head, .exchanges = said.exchanges, .threads = said.threads};
	tell_all(a, &view, NULL);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct waiter *w = arg;
	struct err e;
	(void)fd;
	(void)what;
	err_set(&e, ERR_DEADLINE, 0,
		"its shim does not say in time what it is at: it is stopped or stuck; destroy "
		"works "
		"all the same");
	tell(w, NULL, &e);
}

static int wait_for(struct account *a, account_fn *fn, void *arg, uint32_t ms, struct err *e)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
	struct waiter *w = calloc(1, sizeof(*w));
	if (w)
		*w = (struct waiter){.account = a, .fn = fn, .arg = arg};
	if (w)
		w->timer = evtimer_new(a->sb->d->base, on_late, w);
	if (!w || !w->timer || evtimer_add(w->timer, &tv) < 0) {
		if (w && w->timer)
			event_free(w->timer);
		free(w);
		return err_errno(e, ENOMEM, "no memory to wait");
	}
	/* In order, though hardly anybody will notice. */
	struct waiter **at = &a->waiters;
	while (*at)
		at = &(*at)->next;
	*at = w;
	return 0;
}

static int ask(struct account *a, struct err *e)
{
	struct msg_debug body = {0};
	if (a->asked)
		return 0;
	/* Without a deadline of the link's: an answer that comes late is still to be known as one.
	 */
	if (link_request_debug(a->sb->link, &body, MSG_DEBUG_DATA, 0, on_answer, a, e) < 0)
		return -1;
	a->asked = true;
	return 0;
}

void account_ask(struct sandbox *sb, uint32_t ms, account_fn *fn, void *arg)
{
	struct account_view view;
	struct err e;
	/* Once it is acknowledged it leaves, and answers no more. */
	if (!sb->link || sb->shim != SANDBOX_SHIM_UP) {
		fn(arg, sb, view_kept(sb->account, &view), NULL);
		return;
	}
	struct account *a = get(sb);
	if (!a) {
		err_errno(&e, ENOMEM, "no memory to wait");
		fn(arg, sb, NULL, &e);
	} else if (ask(a, &e) < 0 || wait_for(a, fn, arg, ms, &e) < 0) {
		fn(arg, sb, NULL, &e);
	}
}

/* ------------------------------------------------------------------ the last word */

struct last {
	struct sandbox *sb;
	void (*then)(struct sandbox *sb);
};

static void on_last(void *arg, const struct sandbox *sb, const struct account_view *view,
		    const struct err *why)
{
	struct last *l = arg;
	(void)view;
	if (why)
		log_warning("%s: its shim's last account is lost: %s", sb->key, why->text);
	l->then(l->sb);
	free(l);
}

void account_keep(struct sandbox *sb, uint32_t ms, void (*then)(struct sandbox *sb))
{
	struct last *l = malloc(sizeof(*l));
	if (!l) {
		then(sb);
		return;
	}
	*l = (struct last){.sb = sb, .then = then};
	account_ask(sb, ms, on_last, l);
}

void account_free(struct sandbox *sb)
{
	struct account *a = sb->account;
	struct err e;
	if (!a)
		return;
	err_set(&e, ERR_UNAVAILABLE, 0, "its shim has gone");
	while (a->waiters) {
		struct waiter *w = a->waiters;
		if (w->fn != on_last) {
			tell(w, NULL, &e);
			continue;
		}
		/* There is no shim to let go any more. */
		a->waiters = w->next;
		event_free(w->timer);
		free(w->arg);
		free(w);
	}
	sb->account = NULL;
	free(a->kept);
	free(a);
}
