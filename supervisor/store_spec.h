// SPDX-License-Identifier: Apache-2.0
/* A sandbox's specification as a record of the store has it. */
#ifndef SUPERVISOR_STORE_SPEC_H
#define SUPERVISOR_STORE_SPEC_H

#include "spec.h"
#include "store_json.h"

/* Puts all that a later supervisor could want to know: also labels, and what a create waits for. */
void store_spec_write(struct store_json_out *out, const struct spec *s);

/*
 * Checked like the message that asks a shim for it, and the labels like a client's. NULL, and in's
 * error filled: ERR_INVALID, ERR_VERSION (see store_json_end()), or no memory. spec_free() it.
 */
struct spec *store_spec_read(const cJSON *o, struct err *e);

#endif
