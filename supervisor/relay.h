// SPDX-License-Identifier: Apache-2.0
/*
 * Two stream sockets joined: what one sends goes to the other, both ways, with bounded buffers. A
 * reader that takes nothing has the sender wait. The end of one direction (shutdown(2)) is passed
 * on, after all that came before it, and the other direction goes on; when one peer has closed,
 * what it sent is still delivered.
 */
#ifndef SUPERVISOR_RELAY_H
#define SUPERVISOR_RELAY_H

#include "err.h"

#include <event2/bufferevent.h>

/* What waits for a peer that does not read: this and one read more, on each side. */
#define RELAY_BUFFER (64 * 1024)

struct relay;

/* Both directions have ended. Frees the relay. */
typedef void relay_done_fn(void *arg);

/*
 * Joins near, which stays the caller's but belongs to the relay as long as that lives (callbacks,
 * timeouts and watermarks of before are forgotten; its input counts as come), and the socket far,
 * which is taken over, also on failure. first is sent to near before all else.
 */
struct relay *relay_start(struct bufferevent *near, int far, const char *first, relay_done_fn *done,
			  void *arg, struct err *e);

/* Ends it at once: far is closed, near calls nobody any more. */
void relay_free(struct relay *r);

#endif
