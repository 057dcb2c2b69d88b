// SPDX-License-Identifier: Apache-2.0
#include "hostnet.h"

#include "util.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS  10000
#define BATCH_BYTES (256 * 1024)
/* Priorities of linux/netfilter_ipv4.h (nft(8): raw, dstnat, filter, srcnat). */
#define PRIO_RAW    (-300)
#define PRIO_DSTNAT (-100)
#define PRIO_SRCNAT 100
/* So high that a route of anybody else's to the same net comes first and is never replaced. */
#define ROUTE_METRIC 25452000

#define TRACKED (NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED))

/* RFC 6890; the ends touch nowhere, as nft_set_ranges() asks. */
const struct nft_range hostnet_never[] = {
	{0x00000000, 0x00ffffff}, /* 0.0.0.0/8, this network */
	{HOSTNET_INSIDE_NET, HOSTNET_INSIDE_NET + 3},
	{0x7f000000, 0x7fffffff}, /* 127.0.0.0/8, loopback */
	{0xa9fe0000, 0xa9feffff}, /* 169.254.0.0/16, link-local: cloud metadata */
	{0xe0000000, 0xffffffff}, /* multicast, reserved, broadcast */
};
const size_t hostnet_never_count = ARRAY_SIZE(hostnet_never);

static uint32_t mask_of(unsigned bits)
{
	return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

bool hostnet_nets_overlap(uint32_t a, unsigned a_bits, uint32_t b, unsigned b_bits)
{
	uint32_t mask = mask_of(a_bits < b_bits ? a_bits : b_bits);
	return (a & mask) == (b & mask);
}

static uint32_t pool_size(const struct hostnet_config *c)
{
	return 1u << (32 - c->pool_bits);
}

/* The first of the addresses that stand for ports; the one behind the pool where there are none. */
static uint32_t ports_base(const struct hostnet_config *c)
{
	return c->pool + (pool_size(c) - c->port_count);
}

static int check_pool(const struct hostnet_config *c, struct err *e)
{
	if (c->pool_bits < 8 || c->pool_bits > 30)
		return err_set(e, ERR_INVALID, 0, "the pool's prefix is /%u: /8 to /30 will do",
			       c->pool_bits);
	if (c->pool & ~mask_of(c->pool_bits))
		return err_set(e, ERR_INVALID, 0, "the pool's address has bits behind its /%u",
			       c->pool_bits);
	uint32_t last = c->pool + (pool_size(c) - 1);
	for (size_t i = 0; i < hostnet_never_count; i++)
		if (c->pool <= hostnet_never[i].last && last >= hostnet_never[i].first)
			return err_set(
				e, ERR_INVALID, 0,
				"the pool holds addresses that no sandbox can have (loopback, "
				"link-local, multicast, or 10.177.0.0/30, where guests are)");
	return 0;
}

void hostnet_of_policy(const struct policy *p, struct hostnet_config *c)
{
	*c = (struct hostnet_config){
		.instance = p->instance,
		.uplink = p->uplink,
		.pool = p->pool,
		.pool_bits = p->pool_bits,
		.port_first = (uint16_t)p->port_first,
		.port_count = p->port_count,
	};
}

int hostnet_check(const struct hostnet_config *c, struct err *e)
{
	size_t digits = strspn(c->instance, "0123456789abcdef");
	if (digits < 8 || digits > HOSTNET_INSTANCE_MAX || c->instance[digits] != '\0')
		return err_set(e, ERR_INVALID, 0, "\"%s\" is no instance id", c->instance);
	if (c->uplink[0] == '\0' || strlen(c->uplink) >= IFNAMSIZ || strchr(c->uplink, '/'))
		return err_set(e, ERR_INVALID, 0, "uplink \"%s\" is no name of an interface",
			       c->uplink);
	if (check_pool(c, e) < 0)
		return -1;
	if (c->port_count > HOSTNET_PORTS_MAX || c->port_count > pool_size(c) / 2)
		return err_set(
			e, ERR_INVALID, 0,
			"%u host ports: at most %u, and half as many as the pool's addresses",
			c->port_count, HOSTNET_PORTS_MAX);
	if (c->port_count > 0 &&
	    (c->port_first == 0 || c->port_first + c->port_count - 1 > UINT16_MAX))
		return err_set(e, ERR_INVALID, 0, "%u host ports from %u on are not in 1 to 65535",
			       c->port_count, c->port_first);
	return 0;
}

bool hostnet_is_sandbox_address(const struct hostnet_config *c, uint32_t address)
{
	return address > c->pool && address - c->pool < pool_size(c) - c->port_count &&
	       address - c->pool < pool_size(c) - 1;
}

uint32_t hostnet_port_address(const struct hostnet_config *c, uint16_t port)
{
	if (port < c->port_first || (uint32_t)(port - c->port_first) >= c->port_count)
		return 0;
	return ports_base(c) + (uint32_t)(port - c->port_first);
}

struct uplink {
	bool found;
	uint32_t mtu;
	bool forwards;
};

static int read_inet_conf(const struct nlattr *attr, void *arg)
{
	struct uplink *u = arg;
	const uint32_t *conf = mnl_attr_get_payload(attr);
	if (mnl_attr_get_type(attr) == IFLA_INET_CONF &&
	    mnl_attr_get_payload_len(attr) >= IPV4_DEVCONF_FORWARDING * sizeof(*conf))
		u->forwards = conf[IPV4_DEVCONF_FORWARDING - 1] != 0;
	return MNL_CB_OK;
}

static int read_af(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == AF_INET)
		mnl_attr_parse_nested(attr, read_inet_conf, arg);
	return MNL_CB_OK;
}

static int read_link_attr(const struct nlattr *attr, void *arg)
{
	struct uplink *u = arg;
	if (mnl_attr_get_type(attr) == IFLA_MTU)
		u->mtu = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == IFLA_AF_SPEC)
		mnl_attr_parse_nested(attr, read_af, arg);
	return MNL_CB_OK;
}

static void read_link(const struct nlmsghdr *nlh, void *arg)
{
	struct uplink *u = arg;
	if (nlh->nlmsg_type != RTM_NEWLINK)
		return;
	u->found = true;
	mnl_attr_parse(nlh, sizeof(struct ifinfomsg), read_link_attr, u);
}

static int check_uplink(struct netlink *route, const char *name, uint32_t *mtu, struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	struct uplink u = {0};
	if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
		return -1;
	struct nlmsghdr *nlh = netlink_batch_add(&b, RTM_GETLINK, 0, "look for the uplink");
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (netlink_batch_send(&b, TIMEOUT_MS, read_link, &u, e) < 0)
		return err_prefix(e, "[network] uplink %s", name);
	if (!u.found)
		return err_set(e, ERR_INTERNAL, 0, "the kernel told nothing of uplink %s", name);
	if (!u.forwards)
		return err_set(e, ERR_UNAVAILABLE, 0,
			       "the host does not forward packets that come by %s: set sysctl "
			       "net.ipv4.conf.%s.forwarding=1 (or net.ipv4.ip_forward=1 for all)",
			       name, name);
	*mtu = u.mtu;
	return 0;
}

/* Sandboxes' veths, or everything else. */
static void from_slots(struct nft *n, bool yes)
{
	nft_meta_u32(n, NFT_META_IIFGROUP, yes ? NFT_CMP_EQ : NFT_CMP_NEQ, HOSTNET_GROUP);
}

static void is_ipv4(struct nft *n, bool yes)
{
	nft_meta_u8(n, NFT_META_NFPROTO, yes ? NFT_CMP_EQ : NFT_CMP_NEQ, NFPROTO_IPV4);
}

/* Before connection tracking, so that what is dropped here costs no entry of the host's table. */
static void write_early(struct nft *n, const struct hostnet_config *c)
{
	static const struct nft_hook hook = {"filter", NF_INET_PRE_ROUTING, PRIO_RAW, NF_ACCEPT,
					     NULL};
	nft_chain(n, "early", &hook);
	nft_rule(n, "early", "rule: nothing but IPv4 from slots");
	from_slots(n, true);
	is_ipv4(n, false);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "early", "rule: only a slot's own addresses from it");
	from_slots(n, true);
	nft_source_not_routed_here(n);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "early", "rule: what no slot may reach");
	from_slots(n, true);
	is_ipv4(n, true);
	nft_in_set(n, NFT_DESTINATION, "never");
	nft_verdict(n, NF_DROP);
	nft_rule(n, "early", "rule: nobody else has the pool's addresses");
	from_slots(n, false);
	is_ipv4(n, true);
	nft_net(n, NFT_SOURCE, NFT_CMP_EQ, c->pool, c->pool_bits);
	nft_verdict(n, NF_DROP);
}

/* Answers to what the host itself asked a sandbox are let in, so that it can be a proxy to it. */
static void write_input(struct nft *n)
{
	static const struct nft_hook hook = {"filter", NF_INET_LOCAL_IN, 0, NF_ACCEPT, NULL};
	nft_chain(n, "input", &hook);
	nft_rule(n, "input", "rule: answers from slots to the host");
	from_slots(n, true);
	nft_ct_any(n, NFT_CT_STATE, TRACKED);
	nft_verdict(n, NF_ACCEPT);
	nft_rule(n, "input", "rule: no service of the host for slots");
	from_slots(n, true);
	nft_verdict(n, NF_DROP);
}

static void write_forward(struct nft *n, const struct hostnet_config *c)
{
	static const struct nft_hook hook = {"filter", NF_INET_FORWARD, 0, NF_ACCEPT, NULL};
	nft_chain(n, "from-slots", NULL);
	nft_chain(n, "forward", &hook);
	nft_rule(n, "forward", "rule: what slots send on");
	from_slots(n, true);
	nft_jump(n, "from-slots");
	nft_rule(n, "from-slots", "rule: no slot to another");
	nft_meta_u32(n, NFT_META_OIFGROUP, NFT_CMP_EQ, HOSTNET_GROUP);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "from-slots", "rule: answers of slots");
	nft_ct_any(n, NFT_CT_STATE, TRACKED);
	nft_verdict(n, NF_ACCEPT);
	nft_rule(n, "from-slots", "rule: no slot to the pool");
	is_ipv4(n, true);
	nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, c->pool, c->pool_bits);
	nft_verdict(n, NF_DROP);
	/* Elsewhere its source would not be translated. Another instance's slots are not our
	 * matter. */
	nft_rule(n, "from-slots", "rule: slots by the uplink only");
	is_ipv4(n, true);
	nft_net(n, NFT_SOURCE, NFT_CMP_EQ, c->pool, c->pool_bits);
	nft_meta_name(n, NFT_META_OIFNAME, NFT_CMP_NEQ, c->uplink);
	nft_verdict(n, NF_DROP);
}

static void write_port_map(struct nft *n, const char *chain, uint8_t protocol)
{
	nft_rule(n, chain, "rule: host ports of slots");
	is_ipv4(n, true);
	nft_protocol(n, protocol);
	nft_destination_is_local(n);
	nft_dnat_map(n, "ports");
}

static void write_nat(struct nft *n, const struct hostnet_config *c)
{
	static const struct nft_hook in = {"nat", NF_INET_PRE_ROUTING, PRIO_DSTNAT, NF_ACCEPT,
					   NULL};
	static const struct nft_hook own = {"nat", NF_INET_LOCAL_OUT, PRIO_DSTNAT, NF_ACCEPT, NULL};
	static const struct nft_hook out = {"nat", NF_INET_POST_ROUTING, PRIO_SRCNAT, NF_ACCEPT,
					    NULL};
	if (c->port_count > 0) {
		nft_map_ports(n, "ports", c->port_first, ports_base(c), c->port_count);
		nft_chain(n, "ports-in", &in);
		write_port_map(n, "ports-in", IPPROTO_TCP);
		write_port_map(n, "ports-in", IPPROTO_UDP);
		nft_chain(n, "ports-own", &own);
		nft_rule(n, "ports-own", "rule: no host ports by loopback");
		is_ipv4(n, true);
		nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, INADDR_LOOPBACK, 8);
		nft_verdict(n, NF_ACCEPT);
		write_port_map(n, "ports-own", IPPROTO_TCP);
		write_port_map(n, "ports-own", IPPROTO_UDP);
	}
	nft_chain(n, "pool-out", &out);
	nft_rule(n, "pool-out", "rule: the uplink's address for the pool's");
	is_ipv4(n, true);
	nft_net(n, NFT_SOURCE, NFT_CMP_EQ, c->pool, c->pool_bits);
	nft_meta_name(n, NFT_META_OIFNAME, NFT_CMP_EQ, c->uplink);
	nft_masquerade(n);
}

static void table_name(const struct hostnet_config *c, char out[32])
{
	snprintf(out, 32, HOSTNET_TABLE_PREFIX "%.16s", c->instance);
}

static int write_table(const struct hostnet_config *c, struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH = {0};
	struct netlink socket;
	struct nft n;
	char table[32];
	table_name(c, table);
	if (netlink_open(&socket, NETLINK_NETFILTER, e) < 0)
		return -1;
	int result = netlink_batch_open(&b, &socket, BATCH_BYTES, e);
	if (result == 0) {
		nft_begin(&n, &b, NFPROTO_INET, table);
		nft_table_anew(&n);
		nft_set_ranges(&n, "never", hostnet_never, hostnet_never_count);
		write_early(&n, c);
		write_input(&n);
		write_forward(&n, c);
		write_nat(&n, c);
		result = nft_end(&n, e);
	}
	if (result == 0)
		result = netlink_batch_send(&b, TIMEOUT_MS, NULL, NULL, e);
	netlink_close(&socket);
	return result < 0 ? err_prefix(e, "the host's table %s", table) : 0;
}

static void add_pool_route(struct netlink_batch *b, const struct hostnet_config *c, uint16_t type,
			   uint16_t flags)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, type, flags, "the pool's unreachable route");
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET;
	rt->rtm_dst_len = (unsigned char)c->pool_bits;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_type = RTN_UNREACHABLE;
	mnl_attr_put_u32(nlh, RTA_DST, htonl(c->pool));
	mnl_attr_put_u32(nlh, RTA_PRIORITY, ROUTE_METRIC);
}

static int change_route(struct netlink *route, const struct hostnet_config *c, bool make,
			struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
		return -1;
	if (make) {
		add_pool_route(&b, c, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	} else {
		add_pool_route(&b, c, RTM_DELROUTE, 0);
		netlink_batch_tolerate(&b, ESRCH);
	}
	return netlink_batch_send(&b, TIMEOUT_MS, NULL, NULL, e);
}

int hostnet_ensure(const struct hostnet_config *c, uint32_t *mtu, struct err *e)
{
	struct netlink route;
	if (hostnet_check(c, e) < 0 || netlink_open(&route, NETLINK_ROUTE, e) < 0)
		return -1;
	int result = check_uplink(&route, c->uplink, mtu, e);
	if (result == 0)
		result = write_table(c, e);
	if (result == 0)
		result = change_route(&route, c, true, e);
	netlink_close(&route);
	return result;
}

static int delete_table(const struct hostnet_config *c, struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH = {0};
	struct netlink socket;
	struct nft n;
	char table[32];
	table_name(c, table);
	if (netlink_open(&socket, NETLINK_NETFILTER, e) < 0)
		return -1;
	int result = netlink_batch_open(&b, &socket, BATCH_BYTES, e);
	if (result == 0) {
		nft_begin(&n, &b, NFPROTO_INET, table);
		nft_table_delete(&n);
		result = nft_end(&n, e);
	}
	if (result == 0)
		result = netlink_batch_send(&b, TIMEOUT_MS, NULL, NULL, e);
	netlink_close(&socket);
	if (result < 0 && e->errnum == ENOENT)
		return 0;
	return result < 0 ? err_prefix(e, "the host's table %s", table) : 0;
}

int hostnet_remove(const struct hostnet_config *c, struct err *e)
{
	struct netlink route;
	if (hostnet_check(c, e) < 0 || netlink_open(&route, NETLINK_ROUTE, e) < 0)
		return -1;
	int result = delete_table(c, e);
	if (change_route(&route, c, false, e) < 0)
		result = -1;
	netlink_close(&route);
	return result;
}
