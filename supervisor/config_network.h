// SPDX-License-Identifier: Apache-2.0
/* The network of the configuration as a whole: what single values cannot tell. */
#ifndef SUPERVISOR_CONFIG_NETWORK_H
#define SUPERVISOR_CONFIG_NETWORK_H

#include "config.h"

/*
 * Fills in the uplink where a pool is given without one, and checks [network] and the tenants'
 * host_ports. False: *reason says what is wrong.
 */
bool config_network_finish(struct config *c, char *reason, size_t size);

/*
 * The interface that the IPv4 default route with the lowest metric leads to, by proc(5)'s
 * net/route; empty when there is none.
 */
void config_network_find_uplink(FILE *routes, char uplink[16]);

#endif
