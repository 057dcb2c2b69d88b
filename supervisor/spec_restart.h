// SPDX-License-Identifier: Apache-2.0
/* What is to happen when a sandbox's VMM ends by itself: the field "restart". */
#ifndef SUPERVISOR_SPEC_RESTART_H
#define SUPERVISOR_SPEC_RESTART_H

#include "spec.h"

#define SPEC_RESTART_ATTEMPTS_MAX 1000000
#define SPEC_RESTART_MS_MIN	  100	   /* so that a guest that never starts costs little */
#define SPEC_RESTART_MS_MAX	  86400000 /* a day */

/*
 * Reads it: null, a policy as a string, or an object with policy, attempts, backoff_ms and
 * backoff_max_ms. ERR_INVALID names the member, like "restart.attempts", its value, and what is
 * allowed.
 */
int spec_restart_read(struct spec *s, const cJSON *v, struct err *e);

/* "never", "on-failure", "always". */
const char *spec_restart_name(enum spec_restart policy);

/* How it is to be started: keeps what the create settled, so that a restart begins with it. */
void spec_restart_remember(struct spec *s);

/* Back to that: what a resize, a balloon or a wake made of it meanwhile is no more. */
void spec_restart_prepare(struct spec *s);

#endif
