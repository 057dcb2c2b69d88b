// SPDX-License-Identifier: Apache-2.0
/* cloister drain: has the host take no new work, and waits until what is under way is over. */
#ifndef CLI_DRAIN_H
#define CLI_DRAIN_H

#include "cli_options.h"

int cli_drain_command(const struct cli_options *o);

#endif
