// SPDX-License-Identifier: Apache-2.0
/* CREATE: builds the jail, starts the VMM, gives it its guest. */
#ifndef SHIM_BOOT_H
#define SHIM_BOOT_H

#include "shim.h"

/*
 * All that takes root: socket, cgroup, jail, VMM, then the drop. Synchronous; the requests to CH
 * are already on their way when it returns. After a failure what it made is closed by the caller's
 * exit.
 */
int boot_start(struct shim *s, struct err *e);

/* The create failed: tells the supervisor, ends the VMM, leaves the loop. */
void boot_fail(struct shim *s, const struct err *why);

/* Removes what a start that failed has made on disk; the VMM is gone. */
void boot_clear(struct shim *s);

/*
 * Looks whether a guest that runs is ready, where CREATE asks for that, and answers it then. Gives
 * the time to look again, or INT64_MAX.
 */
int64_t boot_await(struct shim *s, int64_t now_us);

/*
 * Looks after a start whose API connection broke: the VMM's exit, if it comes, tells why; after a
 * short while without one the start has failed. Gives the time to look again, or INT64_MAX.
 */
int64_t boot_check(struct shim *s, int64_t now_us);

#endif
