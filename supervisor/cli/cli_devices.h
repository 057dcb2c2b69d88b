// SPDX-License-Identifier: Apache-2.0
/* cloister balloon and resize: each gives an enum cli_exit. */
#ifndef CLI_DEVICES_H
#define CLI_DEVICES_H

#include "cli_options.h"

int cli_devices_balloon(const struct cli_options *o);
int cli_devices_resize(const struct cli_options *o);

#endif
