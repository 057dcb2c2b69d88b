// SPDX-License-Identifier: Apache-2.0
/*
 * A shim's account of itself and its VMM (DEBUG): asked for whoever wants it, whatever else is
 * under way, and of a VMM that has ended kept with the record.
 */
#ifndef SUPERVISOR_ACCOUNT_H
#define SUPERVISOR_ACCOUNT_H

#include "sandbox.h"

/* One account, its counted parts apart. Valid during the call that it is given to. */
struct account_view {
	const struct msg_debug_head *head;
	const struct msg_exchange *exchanges; /* head->exchange_count */
	const struct msg_thread *threads;     /* head->confine.thread_count */
	bool kept; /* of a VMM that has ended, told by its shim's last word */
};

/* Called once. view and why are both NULL where there is no shim and nothing was kept. */
typedef void account_fn(void *arg, const struct sandbox *sb, const struct account_view *view,
			const struct err *why);

/*
 * Gives fn the account, perhaps before it returns. Many may wait at once: the shim is asked once
 * for all of them, and not again before it has answered, so that a tenant who keeps asking while it
 * is stopped does not fill its queue. A shim that does not answer within ms is ERR_DEADLINE.
 */
void account_ask(struct sandbox *sb, uint32_t ms, account_fn *fn, void *arg);

/*
 * The VMM has ended and the shim is about to be let go: asks it a last time, keeps the answer, and
 * calls then(sb), at the latest after ms.
 */
void account_keep(struct sandbox *sb, uint32_t ms, void (*then)(struct sandbox *sb));

/* The VMM that it is about is forgotten, its link is gone already. Who still waits is told so. */
void account_free(struct sandbox *sb);

#endif
