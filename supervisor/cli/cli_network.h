// SPDX-License-Identifier: Apache-2.0
/* The options of create and run about network, vsock and readiness, as the API has them. */
#ifndef CLI_NETWORK_H
#define CLI_NETWORK_H

#include "cli_options.h"

#include <cjson/cJSON.h>

/* Whether any of them was given. */
bool cli_network_is_given(const struct cli_options *o);

/* Adds "network", "vsock" and "wait_for" where they were asked for. 0, or an exit code after a
 * complaint. */
int cli_network_add(const struct cli_options *o, cJSON *root);

/* How long --wait may take, in seconds; 0 without it. */
unsigned cli_network_wait_s(const struct cli_options *o);

#endif
