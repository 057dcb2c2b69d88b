// SPDX-License-Identifier: Apache-2.0
/* CONNECT: connections to the guest's vsock ports for the supervisor, a few at a time. */
#ifndef SHIM_CONNECT_H
#define SHIM_CONNECT_H

#include "shim.h"

/* Starts one; CONNECTED with its descriptor, or ERROR, is the answer to id. */
void connect_start(struct shim *s, uint32_t id, const struct msg_connect *ask);

/* Goes on with all that are under way; gives when to come again at the latest, or INT64_MAX. */
int64_t connect_step(struct shim *s, int64_t now_us);

/* None of them will come about: answers all with why. */
void connect_fail(struct shim *s, const struct err *why);

/* Nobody waits for them any more. */
void connect_drop(struct shim *s);

#endif
