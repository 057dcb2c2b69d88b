// SPDX-License-Identifier: Apache-2.0
#include "slot_nft.h"

#include "util.h"

#include <linux/if_ether.h>
#include <linux/netfilter/nf_conntrack_common.h>

#define TABLE	    "cloister"
#define BATCH_BYTES (96 * 1024)
/* Priorities of linux/netfilter_ipv4.h (nft(8): raw, dstnat, filter, srcnat). */
#define PRIO_RAW    (-300)
#define PRIO_DSTNAT (-100)
#define PRIO_SRCNAT 100
#define DNS_PORT    53

#define TRACKED (NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED))

/* What "internet" leaves out beside hostnet_never: not globally reachable (RFC 6890, 6598). */
static const struct nft_range private_ranges[] = {
	{0x0a000000, 0x0affffff}, /* 10.0.0.0/8 */
	{0x64400000, 0x647fffff}, /* 100.64.0.0/10, carrier-grade NAT */
	{0xac100000, 0xac1fffff}, /* 172.16.0.0/12 */
	{0xc0000000, 0xc00000ff}, /* 192.0.0.0/24 */
	{0xc0000200, 0xc00002ff}, /* 192.0.2.0/24, documentation */
	{0xc0586300, 0xc05863ff}, /* 192.88.99.0/24, 6to4 */
	{0xc0a80000, 0xc0a8ffff}, /* 192.168.0.0/16 */
	{0xc6120000, 0xc613ffff}, /* 198.18.0.0/15, benchmarks */
	{0xc6336400, 0xc63364ff}, /* 198.51.100.0/24, documentation */
	{0xcb007100, 0xcb0071ff}, /* 203.0.113.0/24, documentation */
};

static void from_tap(struct nft *n)
{
	nft_meta_u32(n, NFT_META_IIF, NFT_CMP_EQ, SLOT_TAP_INDEX);
}

static void from_uplink(struct nft *n)
{
	nft_meta_u32(n, NFT_META_IIF, NFT_CMP_EQ, SLOT_UPLINK_INDEX);
}

static void to_uplink(struct nft *n)
{
	nft_meta_u32(n, NFT_META_OIF, NFT_CMP_EQ, SLOT_UPLINK_INDEX);
}

/* One frame of the guest's that may pass: its own IPv4 packets, sent to its gateway's MAC. */
static void write_guest_ipv4(struct nft *n)
{
	static const uint8_t macs[2][ETH_ALEN] = {SLOT_TAP_MAC, SLOT_GUEST_MAC};
	nft_rule(n, "from-guest", "rule: IPv4 of the guest");
	nft_bytes(n, NFT_PAYLOAD_LL_HEADER, 0, macs, sizeof(macs));
	nft_meta_u16be(n, NFT_META_PROTOCOL, NFT_CMP_EQ, ETH_P_IP);
	nft_net(n, NFT_SOURCE, NFT_CMP_EQ, SLOT_GUEST, 32);
	nft_verdict(n, NF_ACCEPT);
}

/* The other: it asks for its gateway, by its own address and MAC (RFC 826). */
static void write_guest_arp(struct nft *n)
{
	static const uint8_t guest_mac[ETH_ALEN] = SLOT_GUEST_MAC;
	static const uint8_t request[] = {0, 1, 8, 0, 6, 4, 0, 1}; /* Ethernet, IPv4, request */
	const uint32_t guest = htonl(SLOT_GUEST), gateway = htonl(SLOT_GATEWAY);
	nft_rule(n, "from-guest", "rule: ARP of the guest");
	nft_bytes(n, NFT_PAYLOAD_LL_HEADER, ETH_ALEN, guest_mac, sizeof(guest_mac));
	nft_meta_u16be(n, NFT_META_PROTOCOL, NFT_CMP_EQ, ETH_P_ARP);
	nft_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, 0, request, sizeof(request));
	nft_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, 8, guest_mac, sizeof(guest_mac));
	nft_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, 14, &guest, sizeof(guest));
	nft_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, 24, &gateway, sizeof(gateway));
	nft_verdict(n, NF_ACCEPT);
}

static void write_from_host(struct nft *n, uint32_t address, const char *what)
{
	nft_rule(n, "from-host", what);
	nft_meta_u16be(n, NFT_META_PROTOCOL, NFT_CMP_EQ, ETH_P_IP);
	nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, address, 32);
	nft_verdict(n, NF_ACCEPT);
}

/* Who may speak at all. What no rule here names is dropped before any of the stack sees it. */
static void write_ingress(struct nft *n, const struct slot_config *c)
{
	const struct nft_hook tap = {"filter", NF_NETDEV_INGRESS, 0, NF_DROP, SLOT_TAP};
	const struct nft_hook uplink = {"filter", NF_NETDEV_INGRESS, 0, NF_DROP, SLOT_UPLINK};
	nft_table(n);
	nft_chain(n, "from-guest", &tap);
	nft_chain(n, "from-host", &uplink);
	write_guest_ipv4(n);
	write_guest_arp(n);
	write_from_host(n, c->address, "rule: packets for the sandbox");
	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].host)
			write_from_host(n, hostnet_port_address(c->host, c->ports[i].host),
					"rule: packets for a host port");
}

/* Sources that nothing outside can have. */
static void write_early(struct nft *n, const struct slot_config *c)
{
	static const struct nft_hook hook = {"filter", NF_INET_PRE_ROUTING, PRIO_RAW, NF_ACCEPT,
					     NULL};
	nft_chain(n, "early", &hook);
	nft_rule(n, "early", "rule: no special source from outside");
	from_uplink(n);
	nft_in_set(n, NFT_SOURCE, "never");
	nft_verdict(n, NF_DROP);
	nft_rule(n, "early", "rule: no source of the pool from outside");
	from_uplink(n);
	nft_net(n, NFT_SOURCE, NFT_CMP_EQ, c->host->pool, c->host->pool_bits);
	nft_verdict(n, NF_DROP);
}

/* The slot itself only hears answers to what the shim asks the guest, and a ping of the gateway. */
static void write_input(struct nft *n)
{
	static const struct nft_hook hook = {"filter", NF_INET_LOCAL_IN, 0, NF_DROP, NULL};
	static const uint8_t echo_request = 8; /* RFC 792 */
	nft_chain(n, "input", &hook);
	nft_rule(n, "input", "rule: answers to the shim");
	nft_ct_any(n, NFT_CT_STATE, TRACKED);
	nft_verdict(n, NF_ACCEPT);
	nft_rule(n, "input", "rule: ping of the gateway");
	from_tap(n);
	nft_protocol(n, IPPROTO_ICMP);
	nft_bytes(n, NFT_PAYLOAD_TRANSPORT_HEADER, 0, &echo_request, sizeof(echo_request));
	nft_verdict(n, NF_ACCEPT);
}

static void drop_to(struct nft *n, const char *set, const char *what)
{
	nft_rule(n, "forward", what);
	from_tap(n);
	nft_in_set(n, NFT_DESTINATION, set);
	nft_verdict(n, NF_DROP);
}

static void write_egress(struct nft *n, const struct slot_config *c)
{
	drop_to(n, "never", "rule: what no policy allows");
	nft_rule(n, "forward", "rule: nothing to the pool");
	from_tap(n);
	nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, c->host->pool, c->host->pool_bits);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "forward", "rule: bound of connections");
	from_tap(n);
	nft_connections_over(n, SLOT_CONNECTIONS);
	nft_verdict(n, NF_DROP);
	if (c->egress == SLOT_EGRESS_INTERNET) {
		drop_to(n, "private", "rule: no private ranges");
		nft_rule(n, "forward", "rule: the internet");
		from_tap(n);
		to_uplink(n);
		nft_verdict(n, NF_ACCEPT);
	}
	for (unsigned i = 0; c->egress == SLOT_EGRESS_LIST && i < c->allow_count; i++) {
		nft_rule(n, "forward", "rule: a range of the list");
		from_tap(n);
		to_uplink(n);
		nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, c->allow[i].net, c->allow[i].bits);
		nft_verdict(n, NF_ACCEPT);
	}
}

static void write_forward(struct nft *n, const struct slot_config *c)
{
	static const struct nft_hook hook = {"filter", NF_INET_FORWARD, 0, NF_DROP, NULL};
	nft_chain(n, "forward", &hook);
	nft_rule(n, "forward", "rule: nothing that belongs to no connection");
	nft_ct_any(n, NFT_CT_STATE, NF_CT_STATE_INVALID_BIT);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "forward", "rule: connections that are there");
	nft_ct_any(n, NFT_CT_STATE, TRACKED);
	nft_verdict(n, NF_ACCEPT);
	if (c->egress != SLOT_EGRESS_NONE)
		write_egress(n, c);
	if (c->port_count == 0)
		return;
	nft_rule(n, "forward", "rule: bound of connections to forwarded ports");
	from_uplink(n);
	nft_connections_over(n, SLOT_CONNECTIONS);
	nft_verdict(n, NF_DROP);
	nft_rule(n, "forward", "rule: forwarded ports");
	from_uplink(n);
	nft_meta_u32(n, NFT_META_OIF, NFT_CMP_EQ, SLOT_TAP_INDEX);
	nft_ct_any(n, NFT_CT_STATUS, IPS_DST_NAT);
	nft_verdict(n, NF_ACCEPT);
}

static void to_port(struct nft *n, uint32_t address, uint8_t protocol)
{
	nft_rule(n, "translate-in", "rule: a forwarded port");
	from_uplink(n);
	nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, address, 32);
	nft_protocol(n, protocol);
}

static void write_nat(struct nft *n, const struct slot_config *c)
{
	static const struct nft_hook in = {"nat", NF_INET_PRE_ROUTING, PRIO_DSTNAT, NF_ACCEPT,
					   NULL};
	static const struct nft_hook out = {"nat", NF_INET_POST_ROUTING, PRIO_SRCNAT, NF_ACCEPT,
					    NULL};
	static const uint8_t dns_protocols[] = {IPPROTO_UDP, IPPROTO_TCP};
	nft_chain(n, "translate-in", &in);
	for (unsigned i = 0; i < c->port_count; i++) {
		const struct slot_port *p = &c->ports[i];
		to_port(n, c->address, p->protocol);
		nft_port(n, p->guest);
		nft_dnat(n, SLOT_GUEST, p->guest);
		if (!p->host)
			continue;
		/* The address stands for the port already: the host has matched that. */
		to_port(n, hostnet_port_address(c->host, p->host), p->protocol);
		nft_dnat(n, SLOT_GUEST, p->guest);
	}
	for (size_t i = 0; c->resolver && i < ARRAY_SIZE(dns_protocols); i++) {
		nft_rule(n, "translate-in", "rule: names");
		from_tap(n);
		nft_net(n, NFT_DESTINATION, NFT_CMP_EQ, SLOT_GATEWAY, 32);
		nft_protocol(n, dns_protocols[i]);
		nft_port(n, DNS_PORT);
		nft_dnat(n, c->resolver, DNS_PORT);
	}
	nft_chain(n, "translate-out", &out);
	nft_rule(n, "translate-out", "rule: the sandbox's address outside");
	to_uplink(n);
	nft_snat(n, c->address);
}

int slot_nft_apply(const struct slot_config *c, struct err *e)
{
	struct netlink socket = {0};
	struct netlink_batch b CLEANUP_BATCH = {0};
	struct nft n;
	if (netlink_open(&socket, NETLINK_NETFILTER, e) < 0)
		return -1;
	int result = netlink_batch_open(&b, &socket, BATCH_BYTES, e);
	if (result == 0) {
		nft_begin(&n, &b, NFPROTO_NETDEV, TABLE);
		write_ingress(&n, c);
		result = nft_end(&n, e);
	}
	if (result == 0) {
		nft_begin(&n, &b, NFPROTO_IPV4, TABLE);
		nft_table(&n);
		nft_set_ranges(&n, "never", hostnet_never, hostnet_never_count);
		if (c->egress == SLOT_EGRESS_INTERNET)
			nft_set_ranges(&n, "private", private_ranges, ARRAY_SIZE(private_ranges));
		write_early(&n, c);
		write_input(&n);
		write_forward(&n, c);
		write_nat(&n, c);
		result = nft_end(&n, e);
	}
	if (result == 0)
		result = netlink_batch_send(&b, SLOT_TIMEOUT_MS, NULL, NULL, e);
	netlink_close(&socket);
	return result < 0 ? err_prefix(e, "the slot's rules") : 0;
}
