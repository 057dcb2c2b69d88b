// SPDX-License-Identifier: Apache-2.0
/* cloister run: a sandbox as a process in the foreground. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli_options.h"

/*
 * Creates a sandbox, prints its console from the first byte, and ends with the guest: 0 when it
 * shut down, 1 when it crashed, 128 + N when a signal N ended the run; other exit codes as ever.
 */
int cli_run_command(const struct cli_options *o);

#endif
