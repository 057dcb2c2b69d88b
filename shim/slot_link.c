// SPDX-License-Identifier: Apache-2.0
#include "slot_link.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define BATCH_BYTES 16384
/* The header that virtio 1.0 puts before each frame: struct virtio_net_hdr_mrg_rxbuf. */
#define VNET_HEADER_BYTES 12
/* The slot's next hop: no address of anything, only the name of the neighbour's entry. */
#define NEXT_HOP 0xa9fe0101u /* 169.254.1.1 */

static const uint8_t tap_mac[ETH_ALEN] = SLOT_TAP_MAC;
static const uint8_t guest_mac[ETH_ALEN] = SLOT_GUEST_MAC;
static const uint8_t uplink_mac[ETH_ALEN] = {0x02, 0xc1, 0x01, 0x57, 0x00, 0x03};
static const uint8_t host_mac[ETH_ALEN] = {0x02, 0xc1, 0x01, 0x57, 0x00, 0x04};

int slot_link_make_tap(const char *tun_path, struct err *e)
{
	const char *path = tun_path ? tun_path : "/dev/net/tun";
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int index = SLOT_TAP_INDEX, header = VNET_HEADER_BYTES;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", SLOT_TAP);
	CLEANUP_FD int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "open %s (is module tun there?)", path);
	if (ioctl(fd, TUNSETIFINDEX, &index) < 0)
		return err_errno(e, errno, "choose the tap's number");
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_errno(e, errno, "make the tap");
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return err_errno(e, errno, "set the tap's header");
	return fd_take(&fd);
}

/* Begins a request about an interface by number (0: by name, or a new one). */
static struct nlmsghdr *add_link(struct netlink_batch *b, uint16_t type, uint16_t flags,
				 uint32_t index, unsigned up, const char *what)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, type, flags, what);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)index;
	ifi->ifi_flags = up;
	ifi->ifi_change = up;
	return nlh;
}

static void put_link(struct nlmsghdr *nlh, const char *name, uint32_t mtu, const uint8_t *mac)
{
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	mnl_attr_put(nlh, IFLA_ADDRESS, ETH_ALEN, mac);
	/* One queue: a veth would make one for each CPU. */
	mnl_attr_put_u32(nlh, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(nlh, IFLA_NUM_RX_QUEUES, 1);
}

static void read_index(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	if (nlh->nlmsg_type == RTM_NEWLINK && mnl_nlmsg_get_payload_len(nlh) >= sizeof(*ifi))
		*(uint32_t *)arg = (uint32_t)ifi->ifi_index;
}

static int find_host_index(struct slot *s, uint32_t *index, struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, &s->host, BATCH_BYTES, e) < 0)
		return -1;
	struct nlmsghdr *nlh = add_link(&b, RTM_GETLINK, 0, 0, 0, "find the veth on the host");
	mnl_attr_put_strz(nlh, IFLA_IFNAME, s->veth);
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	*index = 0;
	if (netlink_batch_send(&b, SLOT_TIMEOUT_MS, read_index, index, e) < 0)
		return err_prefix(e, "%s", s->veth);
	if (*index == 0)
		return err_set(e, ERR_INTERNAL, 0, "the kernel told nothing of %s", s->veth);
	return 0;
}

/*
 * Whether to ask again for what another slot still has: the kernel takes a namespace apart a little
 * after its last process has gone, so the one before may be on its way out.
 */
static bool try_again(const struct err *e, int64_t deadline_us)
{
	if (e->kind != ERR_STATE || clock_us() > deadline_us)
		return false;
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return true;
}

static int64_t leaving_deadline(void)
{
	return clock_us() + SLOT_LEAVING_MS * INT64_C(1000);
}

static int make_pair(struct slot *s, struct netlink *route, const struct slot_config *c,
		     struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
		return -1;
	/* Asked for from this end, since a number can be chosen for the first of a pair only. */
	struct nlmsghdr *nlh = add_link(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
					SLOT_UPLINK_INDEX, 0, "make the veth pair");
	put_link(nlh, SLOT_UPLINK, c->mtu, uplink_mac);
	struct nlattr *info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	struct nlattr *peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	put_link(nlh, s->veth, c->mtu, host_mac);
	mnl_attr_put_u32(nlh, IFLA_GROUP, HOSTNET_GROUP);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)s->host_ns);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	return netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e);
}

int slot_link_make_veth(struct slot *s, struct netlink *route, const struct slot_config *c,
			uint32_t *host_index, struct err *e)
{
	int64_t deadline_us = leaving_deadline();
	while (make_pair(s, route, c, e) < 0)
		if (!try_again(e, deadline_us))
			return err_prefix(e, "%s", s->veth);
	return find_host_index(s, host_index, e);
}

struct conf {
	uint16_t key;
	uint32_t value;
};

/*
 * The settings that a namespace or host may have changed the defaults of: routers' ones, for a link
 * whose other end is not trusted.
 */
static void add_conf(struct netlink_batch *b, uint32_t index, const char *what)
{
	static const struct conf conf[] = {
		{IPV4_DEVCONF_FORWARDING, 1},	       {IPV4_DEVCONF_RP_FILTER, 1},
		{IPV4_DEVCONF_ACCEPT_REDIRECTS, 0},    {IPV4_DEVCONF_SEND_REDIRECTS, 0},
		{IPV4_DEVCONF_ACCEPT_SOURCE_ROUTE, 0}, {IPV4_DEVCONF_PROXY_ARP, 0},
		{IPV4_DEVCONF_PROXY_ARP_PVLAN, 0},     {IPV4_DEVCONF_ARP_IGNORE, 1},
		{IPV4_DEVCONF_ARP_ACCEPT, 0},	       {IPV4_DEVCONF_ARP_NOTIFY, 0},
		{IPV4_DEVCONF_ROUTE_LOCALNET, 0},      {IPV4_DEVCONF_ACCEPT_LOCAL, 0},
		{IPV4_DEVCONF_BOOTP_RELAY, 0},	       {IPV4_DEVCONF_MC_FORWARDING, 0},
		{IPV4_DEVCONF_BC_FORWARDING, 0},
	};
	struct nlmsghdr *nlh = add_link(b, RTM_SETLINK, 0, index, 0, what);
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *af = mnl_attr_nest_start(nlh, AF_INET);
	struct nlattr *list = mnl_attr_nest_start(nlh, IFLA_INET_CONF);
	for (size_t i = 0; i < ARRAY_SIZE(conf); i++)
		mnl_attr_put_u32(nlh, conf[i].key, conf[i].value);
	mnl_attr_nest_end(nlh, list);
	mnl_attr_nest_end(nlh, af);
	mnl_attr_nest_end(nlh, spec);

	/* A kernel that has no IPv6 needs no telling that it shall make no address. */
	nlh = add_link(b, RTM_SETLINK, 0, index, 0, "leave the interface without IPv6 addresses");
	spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	af = mnl_attr_nest_start(nlh, AF_INET6);
	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, af);
	mnl_attr_nest_end(nlh, spec);
	netlink_batch_tolerate(b, EAFNOSUPPORT);
}

static void add_address(struct netlink_batch *b, uint32_t index, uint32_t address, uint8_t bits,
			const char *what)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, what);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = bits;
	ifa->ifa_scope = RT_SCOPE_UNIVERSE;
	ifa->ifa_index = index;
	mnl_attr_put_u32(nlh, IFA_LOCAL, htonl(address));
	mnl_attr_put_u32(nlh, IFA_ADDRESS, htonl(address));
}

static void add_neighbour(struct netlink_batch *b, uint32_t index, uint32_t address,
			  const uint8_t *mac, const char *what)
{
	struct nlmsghdr *nlh =
		netlink_batch_add(b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, what);
	struct ndmsg *nd = mnl_nlmsg_put_extra_header(nlh, sizeof(*nd));
	nd->ndm_family = AF_INET;
	nd->ndm_ifindex = (int)index;
	nd->ndm_state = NUD_PERMANENT;
	mnl_attr_put_u32(nlh, NDA_DST, htonl(address));
	mnl_attr_put(nlh, NDA_LLADDR, ETH_ALEN, mac);
}

/* To one address, or with 0 the default route by way of NEXT_HOP. */
static void add_route(struct netlink_batch *b, uint32_t index, uint32_t address, const char *what)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, what);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_type = RTN_UNICAST;
	rt->rtm_scope = address ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	if (address) {
		rt->rtm_dst_len = 32;
		mnl_attr_put_u32(nlh, RTA_DST, htonl(address));
	} else {
		rt->rtm_flags = RTNH_F_ONLINK;
		mnl_attr_put_u32(nlh, RTA_GATEWAY, htonl(NEXT_HOP));
	}
	mnl_attr_put_u32(nlh, RTA_OIF, index);
}

/*
 * A token bucket (tc-tbf(8)) for what leaves by that interface; the bucket holds 10 ms, but what a
 * single large segment takes at least, and as much may wait as is sent in 50 ms.
 */
static void add_rate(struct netlink_batch *b, uint32_t index, uint32_t mbps, const char *what)
{
	uint64_t rate = mbps * UINT64_C(125000);
	uint32_t burst = (uint32_t)(rate / 100 > 65536 ? rate / 100 : 65536);
	struct tc_tbf_qopt opt = {
		.rate = {.rate = (uint32_t)rate, .linklayer = 1 /* Ethernet */},
		.limit = burst + (uint32_t)(rate / 20),
	};
	struct nlmsghdr *nlh =
		netlink_batch_add(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, what);
	struct tcmsg *tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
	tc->tcm_ifindex = (int)index;
	tc->tcm_parent = TC_H_ROOT;
	tc->tcm_handle = TC_H_MAKE(1u << 16, 0);
	mnl_attr_put_strz(nlh, TCA_KIND, "tbf");
	struct nlattr *options = mnl_attr_nest_start(nlh, TCA_OPTIONS);
	mnl_attr_put(nlh, TCA_TBF_PARMS, sizeof(opt), &opt);
	mnl_attr_put_u32(nlh, TCA_TBF_BURST, burst);
	mnl_attr_nest_end(nlh, options);
}

int slot_link_set_up(struct netlink *route, const struct slot_config *c, struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
		return -1;
	struct nlmsghdr *nlh = add_link(&b, RTM_SETLINK, 0, SLOT_TAP_INDEX, 0, "set the tap's MAC");
	mnl_attr_put_u32(nlh, IFLA_MTU, c->mtu < SLOT_GUEST_MTU ? c->mtu : SLOT_GUEST_MTU);
	mnl_attr_put(nlh, IFLA_ADDRESS, ETH_ALEN, tap_mac);
	add_conf(&b, SLOT_TAP_INDEX, "set up the tap");
	add_conf(&b, SLOT_UPLINK_INDEX, "set up the slot's uplink");
	if (c->to_guest_mbps)
		add_rate(&b, SLOT_TAP_INDEX, c->to_guest_mbps, "limit the rate to the guest");
	if (c->from_guest_mbps)
		add_rate(&b, SLOT_UPLINK_INDEX, c->from_guest_mbps,
			 "limit the rate from the guest");
	add_address(&b, SLOT_TAP_INDEX, SLOT_GATEWAY, HOSTNET_INSIDE_BITS,
		    "give the tap its address");
	add_address(&b, SLOT_UPLINK_INDEX, c->address, 32, "give the slot its address");
	add_neighbour(&b, SLOT_TAP_INDEX, SLOT_GUEST, guest_mac, "name the guest's MAC");
	if (netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e) < 0)
		return -1;
	netlink_batch_close(&b);
	/* A batch of its own: not even the interfaces are up when something above failed. */
	if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
		return -1;
	add_link(&b, RTM_SETLINK, 0, SLOT_TAP_INDEX, IFF_UP, "set the tap up");
	add_link(&b, RTM_SETLINK, 0, SLOT_UPLINK_INDEX, IFF_UP | IFF_NOARP, "set the uplink up");
	add_neighbour(&b, SLOT_UPLINK_INDEX, NEXT_HOP, host_mac, "name the host's MAC");
	add_route(&b, SLOT_UPLINK_INDEX, 0, "make the slot's default route");
	return netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e);
}

/* The same host port may stand for TCP and for UDP: one route. */
static bool is_repeated(const struct slot_config *c, unsigned at)
{
	for (unsigned i = 0; i < at; i++)
		if (c->ports[i].host == c->ports[at].host)
			return true;
	return false;
}

static int take_once(struct netlink *host, uint32_t host_index, uint32_t address, const char *what,
		     struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, host, BATCH_BYTES, e) < 0)
		return -1;
	add_route(&b, host_index, address, what);
	return netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e);
}

/* One at a time: what was got stays when another is still waited for. */
static int take_address(struct netlink *host, uint32_t host_index, uint32_t address,
			const char *what, struct err *e)
{
	int64_t deadline_us = leaving_deadline();
	while (take_once(host, host_index, address, what, e) < 0)
		if (!try_again(e, deadline_us))
			return -1;
	return 0;
}

static int take_addresses(struct netlink *host, const struct slot_config *c, uint32_t host_index,
			  struct err *e)
{
	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].host && !is_repeated(c, i) &&
		    take_address(host, host_index, hostnet_port_address(c->host, c->ports[i].host),
				 "take a host port", e) < 0)
			return -1;
	return take_address(host, host_index, c->address, "take the sandbox's address on the host",
			    e);
}

int slot_link_set_up_host(struct netlink *host, const struct slot_config *c, uint32_t host_index,
			  struct err *e)
{
	struct netlink_batch b CLEANUP_BATCH;
	if (netlink_batch_open(&b, host, BATCH_BYTES, e) < 0)
		return -1;
	add_conf(&b, host_index, "set up the veth on the host");
	add_link(&b, RTM_SETLINK, 0, host_index, IFF_UP | IFF_NOARP, "set the veth up on the host");
	add_neighbour(&b, host_index, c->address, uplink_mac, "name the slot's MAC on the host");
	for (unsigned i = 0; i < c->port_count; i++) {
		if (!c->ports[i].host || is_repeated(c, i))
			continue;
		uint32_t address = hostnet_port_address(c->host, c->ports[i].host);
		add_neighbour(&b, host_index, address, uplink_mac, "name a host port's MAC");
	}
	if (netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e) < 0)
		return -1;
	return take_addresses(host, c, host_index, e);
}

static int pick_state(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == IFLA_OPERSTATE)
		*(uint8_t *)arg = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static void read_state(const struct nlmsghdr *nlh, void *arg)
{
	if (nlh->nlmsg_type == RTM_NEWLINK)
		mnl_attr_parse(nlh, sizeof(struct ifinfomsg), pick_state, arg);
}

/* Since Linux 6.8 asking makes it take note. */
int slot_link_await(struct netlink *route, struct err *e)
{
	int64_t deadline_us = clock_us() + SLOT_TIMEOUT_MS * INT64_C(1000);
	for (;;) {
		struct netlink_batch b CLEANUP_BATCH;
		uint8_t state = IF_OPER_UNKNOWN;
		if (netlink_batch_open(&b, route, BATCH_BYTES, e) < 0)
			return -1;
		struct nlmsghdr *nlh = add_link(&b, RTM_GETLINK, 0, SLOT_UPLINK_INDEX, 0,
						"look at the slot's uplink");
		mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
		if (netlink_batch_send(&b, SLOT_TIMEOUT_MS, read_state, &state, e) < 0)
			return -1;
		if (state == IF_OPER_UP)
			return 0;
		if (clock_us() > deadline_us)
			return err_set(e, ERR_DEADLINE, 0, "the slot's uplink has no carrier");
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
}

void slot_link_remove_veth(struct netlink *route)
{
	struct netlink_batch b CLEANUP_BATCH;
	struct err ignored;
	if (netlink_batch_open(&b, route, BATCH_BYTES, &ignored) < 0)
		return;
	add_link(&b, RTM_DELLINK, 0, SLOT_UPLINK_INDEX, 0, "remove the veth pair");
	netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, &ignored);
}
