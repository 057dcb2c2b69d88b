// SPDX-License-Identifier: Apache-2.0
/* cloister debug: a sandbox's own account of itself, laid out for a person on a bad day. */
#ifndef CLI_DEBUG_H
#define CLI_DEBUG_H

#include "cli_options.h"

int cli_debug_command(const struct cli_options *o);

#endif
