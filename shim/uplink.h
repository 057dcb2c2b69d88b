// SPDX-License-Identifier: Apache-2.0
/*
 * The shim's link to its supervisor, and the socket on which the next supervisor finds it:
 * RUN_DIR/shims/TENANT:ID.sock, for the configured user alone, one link at a time.
 */
#ifndef SHIM_UPLINK_H
#define SHIM_UPLINK_H

#include "shim.h"

/* Makes the listening socket. Needs the spawner's namespace, so before jail_enter(). */
int uplink_listen(const struct policy *policy, const char *key, int *listener, struct err *e);

/* Sends log lines to the supervisor from here on; those that find no room are counted. */
void uplink_take_logs(struct shim *s);

/* Takes a new supervisor's connection, or turns it away. */
void uplink_accept(struct shim *s);

/* Closes the link; the VM lives on until a supervisor adopts or ends it. */
void uplink_close(struct shim *s, const char *why);

/* Answers a request, or nobody for id 0; a link that cannot take the answer is closed. */
void uplink_done(struct shim *s, uint32_t id, uint32_t took_us, uint32_t value);
void uplink_error(struct shim *s, uint32_t id, const struct err *why);

/*
 * The end of the request in hand, op: why is NULL when it is done. It is the answer to whoever
 * asked; when that supervisor is gone it is kept for the next one (uplink_take()). The caller has
 * set s->op to NONE.
 */
void uplink_end_op(struct shim *s, enum msg_type op, const struct err *why, uint32_t took_us);

/* Answers TAKE: at once when op is over, else at its end. ERR_STATE: there is no such thing. */
void uplink_take(struct shim *s, uint32_t id, enum msg_type op);

/* To a supervisor that has just been told the status: logs and events since the last one went. */
void uplink_replay(struct shim *s);

/* Sends what is queued, waiting at the most so long: for a shim that is about to exit. */
void uplink_drain(struct shim *s, int timeout_ms);

#endif
