// SPDX-License-Identifier: Apache-2.0
/* connect: standard input and output joined with a vsock port of a guest. */
#ifndef CLI_CONNECT_H
#define CLI_CONNECT_H

#include "cli_options.h"

/* Gives an exit code. */
int cli_connect_command(const struct cli_options *o);

#endif
