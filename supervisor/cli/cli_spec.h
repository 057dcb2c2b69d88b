// SPDX-License-Identifier: Apache-2.0
/* The body of POST /v1/sandboxes, from options or from a file. */
#ifndef CLI_SPEC_H
#define CLI_SPEC_H

#include "cli_options.h"

#include <stddef.h>

/* 0 with *body (free(3) it), or CLI_EXIT_USAGE or CLI_EXIT_FAILED after a complaint. */
int cli_spec_make(const struct cli_options *o, char **body, size_t *length);

/* What such a request may take beyond --timeout, in seconds: disks may have to be copied, and the
 * guest be ready. */
unsigned cli_spec_extra_s(const struct cli_options *o);

/* Reads the file at path, or standard input for "-", up to max bytes; as cli_spec_make(). */
int cli_spec_read(const char *path, size_t max, char **body, size_t *length);

#endif
