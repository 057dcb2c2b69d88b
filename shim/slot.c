// SPDX-License-Identifier: Apache-2.0
#include "slot.h"

#include "slot_link.h"
#include "slot_nft.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int slot_open_host(struct slot *s, struct err *e)
{
	*s = (struct slot){.host_ns = -1, .tap_fd = -1};
	s->host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (s->host_ns < 0)
		return err_errno(e, errno, "open the host's network namespace");
	return netlink_open(&s->host, NETLINK_ROUTE, e);
}

void slot_close_host(struct slot *s)
{
	netlink_close(&s->host);
	fd_close(&s->host_ns);
}

void slot_close(struct slot *s)
{
	slot_close_host(s);
	fd_close(&s->tap_fd);
}

static int check_ports(const struct slot_config *c, struct err *e)
{
	if (c->port_count > SLOT_PORTS_MAX)
		return err_set(e, ERR_INVALID, 0, "%u ports: at most %d", c->port_count,
			       SLOT_PORTS_MAX);
	for (unsigned i = 0; i < c->port_count; i++) {
		const struct slot_port *p = &c->ports[i];
		if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
			return err_set(e, ERR_INVALID, 0, "port %u: protocol %u is not tcp or udp",
				       i, p->protocol);
		if (p->guest == 0)
			return err_set(e, ERR_INVALID, 0, "port %u: the guest has no port 0", i);
		if (p->host && hostnet_port_address(c->host, p->host) == 0)
			return err_set(e, ERR_INVALID, 0,
				       "port %u: host port %u is not one of the %u from %u on that "
				       "may be given to sandboxes",
				       i, p->host, c->host->port_count, c->host->port_first);
		for (unsigned k = 0; k < i; k++)
			if (c->ports[k].protocol == p->protocol &&
			    (c->ports[k].guest == p->guest ||
			     (p->host && c->ports[k].host == p->host)))
				return err_set(e, ERR_INVALID, 0,
					       "ports %u and %u are the same on one side", k, i);
	}
	return 0;
}

static int check_allow(const struct slot_config *c, struct err *e)
{
	if (c->egress > SLOT_EGRESS_LIST)
		return err_set(e, ERR_INVALID, 0, "egress policy %d", (int)c->egress);
	if (c->allow_count > SLOT_ALLOW_MAX)
		return err_set(e, ERR_INVALID, 0, "%u allowed ranges: at most %d", c->allow_count,
			       SLOT_ALLOW_MAX);
	for (unsigned i = 0; i < c->allow_count; i++) {
		const struct slot_cidr *a = &c->allow[i];
		if (a->bits > 32 || (a->bits < 32 && (a->net & UINT32_MAX >> a->bits)))
			return err_set(e, ERR_INVALID, 0,
				       "allowed range %u has bits behind its /%u", i, a->bits);
	}
	return 0;
}

int slot_check(const struct slot_config *c, struct err *e)
{
	if (hostnet_check(c->host, e) < 0)
		return -1;
	if (!hostnet_is_sandbox_address(c->host, c->address))
		return err_set(e, ERR_INVALID, 0, "address %08x is not the pool's to give",
			       c->address);
	if (c->index > SLOT_INDEX_MAX)
		return err_set(e, ERR_INVALID, 0, "slot %u: at most %u", c->index, SLOT_INDEX_MAX);
	if (c->mtu < 576 || c->mtu > 65535)
		return err_set(e, ERR_INVALID, 0, "an MTU of %u: 576 to 65535 will do", c->mtu);
	if (c->to_guest_mbps > SLOT_MBPS_MAX || c->from_guest_mbps > SLOT_MBPS_MAX)
		return err_set(e, ERR_INVALID, 0, "a rate above %d Mbit/s", SLOT_MBPS_MAX);
	return check_allow(c, e) < 0 ? -1 : check_ports(c, e);
}

/* In this order, so that whatever fails, nothing has passed: the host's end comes up last. */
static int build(struct slot *s, struct netlink *route, const struct slot_config *c, struct err *e)
{
	uint32_t host_index;
	s->tap_fd = slot_link_make_tap(c->tun_path, e);
	if (s->tap_fd < 0)
		return -1;
	if (slot_link_make_veth(s, route, c, &host_index, e) < 0 || slot_nft_apply(c, e) < 0 ||
	    slot_link_set_up(route, c, e) < 0 ||
	    slot_link_set_up_host(&s->host, c, host_index, e) < 0 ||
	    slot_link_await(route, e) < 0) {
		/* The namespace would take it along, but a little later. */
		slot_link_remove_veth(route);
		return -1;
	}
	return 0;
}

int slot_build(struct slot *s, const struct slot_config *c, struct err *e)
{
	struct netlink route;
	if (slot_check(c, e) < 0)
		return err_prefix(e, "network");
	/* Eight digits of the instance and five of the slot fill a name (IFNAMSIZ) just so. */
	snprintf(s->veth, sizeof(s->veth), "cl%.8s%05x", c->host->instance, c->index);
	if (netlink_open(&route, NETLINK_ROUTE, e) < 0)
		return -1;
	int result = build(s, &route, c, e);
	netlink_close(&route);
	if (result == 0)
		return 0;
	fd_close(&s->tap_fd);
	return err_prefix(e, "network slot %u", c->index);
}
