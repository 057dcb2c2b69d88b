// SPDX-License-Identifier: Apache-2.0
/* The commands that print as it comes: console (logs) and events. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "cli_options.h"

/* Both give an exit code. */
int cli_stream_console(const struct cli_options *o);
int cli_stream_events(const struct cli_options *o);

#endif
