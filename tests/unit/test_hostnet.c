// SPDX-License-Identifier: Apache-2.0
/*
 * shim/hostnet: what the host's table holds by itself, were a slot's rules not there or its
 * namespace in the wrong hands; spoofed packets from all sides; and that it can be made anew.
 */
#include "slotworld.h"

static void test_spoofed_from_outside(void **unused)
{
	NEED_WORLD();
	const uint32_t sources[] = {SLOT_GUEST,	    SLOT_GATEWAY,    IP(169, 254, 169, 254),
				    POOL + 300,	    POOL + 257,	     IP(127, 0, 0, 1),
				    IP(0, 0, 0, 9), IP(224, 0, 0, 1)};
	struct frame f;
	struct box b = {.config = box_config(1)};
	b.config.port_count = 1;
	b.config.ports[0] = (struct slot_port){IPPROTO_UDP, 80, 0};
	box_open(&b);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		send_raw(w.host, sources[i], b.config.address, 80, 1);
		send_raw(w.internet, sources[i], b.config.address, 80, 1);
		send_raw(w.internet, sources[i], HOST_ADDRESS, 20000, 1);
	}
	/* The guest's own addresses are no way in either. */
	send_raw(w.host, OUTER_ADDRESS, SLOT_GUEST, 80, 1);
	assert_false(box_hear(&b, &f, 100));
	send_raw(w.internet, IP(9, 9, 9, 9), b.config.address, 80, 1);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_IP + 12, 4), IP(9, 9, 9, 9));
	box_close(&b);
}

/* Takes a slot's own rules away. */
static void strip(struct box *b)
{
	static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_NETDEV};
	struct netlink n;
	struct netlink_batch batch;
	struct nft nft;
	world_enter(b->ns);
	assert_ok(netlink_open(&n, NETLINK_NETFILTER, &world_err));
	assert_ok(netlink_batch_open(&batch, &n, BATCH_BYTES, &world_err));
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		nft_begin(&nft, &batch, families[i], "cloister");
		nft_table_delete(&nft);
		assert_ok(nft_end(&nft, &world_err));
	}
	assert_ok(netlink_batch_send(&batch, 1000, NULL, NULL, &world_err));
	netlink_batch_close(&batch);
	netlink_close(&n);
	world_enter(w.host);
}

/* Outside the pool, but routed to slots a and b: another instance's. */
#define OTHER_A IP(9, 9, 9, 6)
#define OTHER_B IP(9, 9, 9, 7)

/* As if IPv6 had been set up for slot a by somebody. */
static const uint8_t ipv6_host[16] = {0xfd, [15] = 1};
static const uint8_t ipv6_slot[16] = {0xfd, [15] = 2};
static const uint8_t ipv6_beyond[16] = {0xfd, [15] = 3}; /* beyond the host's uplink */

static void add_route6(struct netlink_batch *b, const uint8_t dst[16], uint32_t index)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, RTM_NEWROUTE, NLM_F_CREATE, "an IPv6 route");
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET6;
	rt->rtm_dst_len = 128;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_type = RTN_UNICAST;
	rt->rtm_protocol = RTPROT_STATIC;
	mnl_attr_put(nlh, RTA_DST, 16, dst);
	mnl_attr_put_u32(nlh, RTA_OIF, index);
}

static void fill_host_holes(struct netlink_batch *b, const void *arg)
{
	const uint32_t *index = arg; /* of the veths of both */
	struct nlmsghdr *nlh;
	world_conf(b, index[0], IPV4_DEVCONF_RP_FILTER, 0);
	world_conf(b, index[1], IPV4_DEVCONF_RP_FILTER, 0);
	add_route(b, index[0], OTHER_A, "route");
	add_route(b, index[1], OTHER_B, "route");
	add_neighbour(b, index[1], OTHER_B, uplink_mac, "neighbour");
	nlh = netlink_batch_add(b, RTM_DELROUTE, 0, "the pool's route");
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET;
	rt->rtm_dst_len = 16;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_type = RTN_UNREACHABLE;
	mnl_attr_put_u32(nlh, RTA_DST, htonl(POOL));
	/* IPv6 of the host's, which slots must not reach. */
	nlh = netlink_batch_add(b, RTM_NEWADDR, NLM_F_CREATE, "an IPv6 address");
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET6;
	ifa->ifa_prefixlen = 128;
	ifa->ifa_flags = IFA_F_NODAD;
	ifa->ifa_index = 1;
	mnl_attr_put(nlh, IFA_LOCAL, 16, ipv6_host);
	add_route6(b, ipv6_beyond, 7);
	add_route6(b, ipv6_slot, index[0]);
	nlh = netlink_batch_add(b, RTM_NEWNEIGH, NLM_F_CREATE, "an IPv6 neighbour");
	struct ndmsg *nd = mnl_nlmsg_put_extra_header(nlh, sizeof(*nd));
	nd->ndm_family = AF_INET6;
	nd->ndm_ifindex = 7;
	nd->ndm_state = NUD_PERMANENT;
	mnl_attr_put(nlh, NDA_DST, 16, ipv6_beyond);
	mnl_attr_put(nlh, NDA_LLADDR, ETH_ALEN, uplink_mac);
}

static void fill_other(struct netlink_batch *b, const void *arg)
{
	(void)arg;
	add_address(b, SLOT_UPLINK_INDEX, OTHER_B, 32, "address");
}

static int host_udp6(void)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT)};
	int one = 1;
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	return fd;
}

static void forward_ipv6(void)
{
	CLEANUP_FD int fd = open("/proc/sys/net/ipv6/conf/all/forwarding", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "1", 1), 1);
}

/* How many IPv6 datagrams like those below have gone by there. */
static unsigned ipv6_seen(int wire)
{
	uint8_t buf[FRAME_MAX];
	unsigned count = 0;
	ssize_t n;
	while ((n = recv(wire, buf, sizeof(buf), 0)) > 0)
		count += n >= 62 && buf[20] == IPPROTO_UDP && buf[57] == 0x61;
	return count;
}

/* An IPv6 datagram, put on the wire of the slot as it is. */
static void send_ipv6(struct box *b, const uint8_t dst[16])
{
	uint8_t bytes[14 + 40 + 8] = {0};
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = SLOT_UPLINK_INDEX};
	uint32_t sum = 0xfd00 + 2 + 0xfd00 + (uint32_t)dst[15] + IPPROTO_UDP + 8;
	memcpy(bytes, host_mac, ETH_ALEN);
	memcpy(bytes + 6, uplink_mac, ETH_ALEN);
	memcpy(bytes + 12, (const uint8_t[]){0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, IPPROTO_UDP, 64}, 10);
	memcpy(bytes + 22, ipv6_slot, 16);
	memcpy(bytes + 38, dst, 16);
	memcpy(bytes + 54, (const uint8_t[]){0x13, 0x88, 0x1e, 0x61, 0, 8}, 6);
	uint16_t check = frame_sum(bytes + 54, 8, sum);
	bytes[60] = (uint8_t)(check >> 8);
	bytes[61] = (uint8_t)check;
	world_enter(b->ns);
	CLEANUP_FD int raw = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_int_equal(sendto(raw, bytes, sizeof(bytes), 0, (struct sockaddr *)&at, sizeof(at)),
			 sizeof(bytes));
	world_enter(w.host);
}

static void test_host_table(void **unused)
{
	NEED_WORLD();
	uint32_t got;
	struct box a = {.config = box_config(1)}, b = {.config = box_config(2)};
	box_open(&a);
	box_open(&b);
	strip(&a);
	strip(&b);
	const uint32_t index[] = {if_nametoindex(a.slot.veth), if_nametoindex(b.slot.veth)};
	world_route(fill_host_holes, index);
	world_enter(b.ns);
	world_route(fill_other, NULL);
	CLEANUP_FD int in_b = world_udp(b.ns, UDP_PORT);
	world_enter(w.host);
	CLEANUP_FD int six = host_udp6();
	forward_ipv6();
	struct sockaddr_ll up0 = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = 7};
	CLEANUP_FD int wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(wire, (struct sockaddr *)&up0, sizeof(up0)), 0);
	uint32_t own = a.config.address;
	const uint32_t targets[] = {
		HOST_ADDRESS,	  SIDE_HOST, IP(169, 254, 169, 254), IP(100, 96, 3, 3), SIDE_OUTER,
		b.config.address, OTHER_B};
	const uint32_t sources[] = {b.config.address, OTHER_B,	     IP(9, 9, 9, 8), SLOT_GUEST,
				    HOST_ADDRESS,     OUTER_ADDRESS, POOL + 300};
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		send_raw(a.ns, own, targets[i], UDP_PORT, 500);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		send_raw(a.ns, sources[i], IP(9, 9, 9, 9), UDP_PORT, 500);
	send_raw(a.ns, OTHER_A, OTHER_B, UDP_PORT, 500);
	send_raw(a.ns, OTHER_A, b.config.address, UDP_PORT, 500);
	send_ipv6(&a, ipv6_host);
	send_ipv6(&a, ipv6_beyond);
	send_raw(a.ns, own, IP(9, 9, 9, 9), UDP_PORT, 501);
	assert_true(world_await(501));
	assert_int_equal(w.last_from, HOST_ADDRESS);
	assert_int_equal(w.seen[500], 0);
	assert_true(recv(in_b, &got, sizeof(got), 0) < 0);
	assert_true(recv(six, &got, sizeof(got), 0) < 0);
	assert_int_equal(ipv6_seen(wire), 0);
	/* From outside as if from the pool, to a service of the host's. */
	send_raw(w.internet, POOL + 300, HOST_ADDRESS, UDP_PORT, 502);
	send_raw(w.internet, own, HOST_ADDRESS, UDP_PORT, 502);
	send_raw(w.internet, IP(20, 0, 0, 1), HOST_ADDRESS, UDP_PORT, 503);
	assert_true(world_await(503));
	assert_int_equal(w.seen[502], 0);
	box_close(&a);
	box_close(&b);
}

static void test_table_anew(void **unused)
{
	NEED_WORLD();
	struct err e = {0};
	struct netlink n;
	struct netlink_batch batch;
	struct nft nft;
	uint32_t mtu;
	struct box b = {.config = box_config(1)};
	/* Somebody else's. */
	assert_ok(netlink_open(&n, NETLINK_NETFILTER, &world_err));
	assert_ok(netlink_batch_open(&batch, &n, BATCH_BYTES, &world_err));
	nft_begin(&nft, &batch, NFPROTO_INET, "cloister-other");
	nft_table(&nft);
	assert_ok(nft_end(&nft, &world_err));
	assert_ok(netlink_batch_send(&batch, 1000, NULL, NULL, &world_err));
	netlink_batch_close(&batch);
	box_open(&b);
	for (uint32_t tag = 1; tag < 20; tag++) {
		assert_ok(hostnet_ensure(&world_host, &mtu, &world_err));
		box_say(&b, IP(9, 9, 9, 9), UDP_PORT, tag);
		assert_true(world_await(tag));
		assert_int_equal(w.last_from, HOST_ADDRESS);
	}
	assert_ok(hostnet_remove(&world_host, &world_err));
	assert_ok(hostnet_remove(&world_host, &world_err));
	/* Without it nothing is translated any more. */
	box_say(&b, IP(9, 9, 9, 9), UDP_PORT, 30);
	poll(NULL, 0, 20);
	world_collect();
	assert_true(w.seen[30] == 0 || w.last_from != HOST_ADDRESS);
	assert_ok(netlink_batch_open(&batch, &n, BATCH_BYTES, &world_err));
	nft_begin(&nft, &batch, NFPROTO_INET, "cloister-other");
	nft_table_delete(&nft);
	assert_ok(nft_end(&nft, &world_err));
	assert_int_equal(netlink_batch_send(&batch, 1000, NULL, NULL, &e), 0);
	netlink_batch_close(&batch);
	netlink_close(&n);
	box_close(&b);
}

static void fill_no_forwarding(struct netlink_batch *b, const void *arg)
{
	(void)arg;
	world_conf(b, 7, IPV4_DEVCONF_FORWARDING, 0);
}

static void test_uplink(void **unused)
{
	NEED_WORLD();
	struct err e = {0};
	uint32_t mtu;
	struct hostnet_config c = world_host;
	c.uplink = "nowhere0";
	assert_int_equal(hostnet_ensure(&c, &mtu, &e), -1);
	assert_says(e.text, "nowhere0");
	assert_int_equal(e.errnum, ENODEV);
	world_route(fill_no_forwarding, NULL);
	assert_int_equal(hostnet_ensure(&world_host, &mtu, &e), -1);
	assert_int_equal(e.kind, ERR_UNAVAILABLE);
	assert_says(e.text, "net.ipv4.conf.up0.forwarding=1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_spoofed_from_outside, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_host_table, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_table_anew, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_uplink, world_setup, world_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
