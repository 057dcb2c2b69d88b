// SPDX-License-Identifier: Apache-2.0
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

struct cli_options;

/* Shows what differs on the host; with --repair it is mended where it can be. */
int cli_check(const struct cli_options *o);

#endif
