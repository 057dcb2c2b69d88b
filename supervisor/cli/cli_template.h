// SPDX-License-Identifier: Apache-2.0
/* The commands that write and use snapshot sets, and templates. All give an exit code. */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include "cli_options.h"

int cli_template_snapshot(const struct cli_options *o);
int cli_template_hibernate(const struct cli_options *o);
int cli_template_wake(const struct cli_options *o);

/* templates [ls | inspect NAME... | rm NAME... | import NAME DIR] */
int cli_template_manage(const struct cli_options *o);

#endif
