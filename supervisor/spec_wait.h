// SPDX-License-Identifier: Apache-2.0
/* What a create waits for beyond the guest's running: the field "wait_for". */
#ifndef SUPERVISOR_SPEC_WAIT_H
#define SUPERVISOR_SPEC_WAIT_H

#include "spec.h"

/*
 * Reads it: null, or an object with one of tcp, http, vsock and console, and timeout_s. ERR_INVALID
 * names the member, like "wait_for.http.port", its value, and what is allowed.
 */
int spec_wait_read(struct spec *s, const cJSON *v, struct err *e);

/* Whether the guest has what it takes; when all fields and the template have been read. */
int spec_wait_check(const struct spec *s, struct err *e);

#endif
