// SPDX-License-Identifier: Apache-2.0
#include "boot_net.h"

#include "ch_net.h"
#include "util.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* The guest's packets must fit the way out: path MTU discovery works too, but not for everybody. */
static int read_mtu(const char *interface, uint32_t *mtu, struct err *e)
{
	struct ifreq request = {0};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	str_copy(request.ifr_name, sizeof(request.ifr_name), interface);
	if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0)
		return err_errno(e, errno, "ask for the MTU of [network] uplink %s", interface);
	*mtu = (uint32_t)request.ifr_mtu;
	return 0;
}

int boot_net_prepare(struct shim *s, struct err *e)
{
	if (!s->spec.network.slot)
		return 0;
	if (!s->policy->pool_bits)
		return err_set(e, ERR_INVALID, 0,
			       "network: this host has no [network] pool to give addresses from");
	if (read_mtu(s->policy->uplink, &s->slot_mtu, e) < 0)
		return -1;
	return slot_open_host(&s->slot, e);
}

static void fill(const struct shim *s, const struct hostnet_config *host, struct slot_config *c)
{
	const struct msg_network *n = &s->spec.network;
	static const enum slot_egress egress[MSG_EGRESS_COUNT] = {
		[MSG_EGRESS_NONE] = SLOT_EGRESS_NONE,
		[MSG_EGRESS_INTERNET] = SLOT_EGRESS_INTERNET,
		[MSG_EGRESS_LIST] = SLOT_EGRESS_LIST,
	};
	*c = (struct slot_config){
		.host = host,
		.address = s->policy->pool + n->slot,
		.index = n->slot,
		.mtu = s->slot_mtu,
		.resolver = s->policy->resolver,
		.egress = egress[n->egress],
		.allow_count = n->allow_count,
		.port_count = n->port_count,
		.to_guest_mbps = n->rx_mbps,
		.from_guest_mbps = n->tx_mbps,
	};
	for (uint32_t i = 0; i < n->allow_count; i++)
		c->allow[i] = (struct slot_cidr){.net = n->allow[i].address,
						 .bits = (uint8_t)n->allow[i].prefix};
	for (uint32_t i = 0; i < n->port_count; i++)
		c->ports[i] = (struct slot_port){.protocol = (uint8_t)n->ports[i].proto,
						 .guest = n->ports[i].guest,
						 .host = n->ports[i].host};
}

int boot_net_build(struct shim *s, struct err *e)
{
	struct hostnet_config host;
	struct slot_config config;
	int64_t start = clock_us();
	if (!s->spec.network.slot)
		return 0;
	hostnet_of_policy(s->policy, &host);
	fill(s, &host, &config);
	if (slot_build(&s->slot, &config, e) < 0)
		return err_prefix(e, "network");
	slot_close_host(&s->slot);
	s->created.timings.slot_us = (uint32_t)(clock_us() - start);
	return 0;
}
