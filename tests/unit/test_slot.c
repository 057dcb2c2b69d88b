// SPDX-License-Identifier: Apache-2.0
/*
 * shim/slot and shim/hostnet in namespaces of the test's own: each flow that is allowed and each
 * that is not, with frames written to and read from the tap, as a guest would. What must not arrive
 * is sent before something that must, on the same CPU: once that is there, it would have been.
 */
#include "slotworld.h"

#include <linux/if_arp.h>

static uint32_t next_tag = 1000;

/* The guest's datagram comes through, with the host's address on it; and so does the answer. */
static void check_passes(struct box *b, uint32_t dst)
{
	struct frame f;
	uint32_t tag = next_tag++;
	uint32_t answer = 0xabcd;
	box_say(b, dst, UDP_PORT, tag);
	if (!world_await(tag))
		fail_msg("%08x was not reached", dst);
	assert_int_equal(w.last_to, dst);
	assert_int_equal(w.last_from, HOST_ADDRESS);
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(w.last_from_port),
				 .sin_addr.s_addr = htonl(w.last_from)};
	struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(dst)};
	union {
		char bytes[CMSG_SPACE(sizeof(info))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {&answer, sizeof(answer)};
	struct msghdr m = {.msg_name = &to,
			   .msg_namelen = sizeof(to),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	assert_int_equal(sendmsg(w.udp, &m, 0), sizeof(answer));
	assert_true(box_hear(b, &f, 2000));
	assert_memory_equal(f.bytes + VNET + F_DST, guest_mac, ETH_ALEN);
	assert_int_equal(frame_get(&f, F_IP + 12, 4), dst);
	assert_int_equal(frame_get(&f, F_IP + 16, 4), SLOT_GUEST);
	assert_int_equal(frame_get(&f, F_L4 + 2, 2), 5000);
}

/* Something that is always let through in these tests, to wait for. */
static void marker(struct box *b)
{
	check_passes(b, IP(9, 9, 9, 9));
}

/* It does not even leave the slot, or (by_host) the host stops it. */
static void check_stopped(struct box *b, uint32_t dst, uint16_t port, bool by_host)
{
	struct frame f;
	uint32_t tag = next_tag++;
	box_left(b, 0);
	box_say(b, dst, port, tag);
	marker(b);
	if (w.seen[tag])
		fail_msg("%08x was reached", dst);
	if (box_left(b, 0) != 1u + by_host)
		fail_msg("what was sent to %08x did not end where it should", dst);
	assert_false(box_hear(b, &f, 0));
}

static void check_dropped(struct box *b, uint32_t dst, uint16_t port)
{
	check_stopped(b, dst, port, false);
}

static void test_internet(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box b = {.config = box_config(1)};
	box_open(&b);
	/* The slot says nothing on its own: no IPv6, no ARP, no IGMP. */
	assert_false(box_hear(&b, &f, 100));
	check_passes(&b, IP(9, 9, 9, 9));
	check_passes(&b, IP(1, 1, 1, 1));
	check_passes(&b, OUTER_ADDRESS);
	for (size_t i = 2; i < ARRAY_SIZE(internet_addresses); i++)
		check_dropped(&b, internet_addresses[i], UDP_PORT);
	check_stopped(&b, HOST_ADDRESS, UDP_PORT, true);
	check_stopped(&b, SIDE_HOST, UDP_PORT, true);
	check_stopped(&b, SIDE_OUTER, UDP_PORT, true); /* not by the uplink: untranslated */
	check_dropped(&b, SLOT_GATEWAY, UDP_PORT);
	check_dropped(&b, b.config.address, UDP_PORT);
	check_dropped(&b, POOL + 77, UDP_PORT);
	check_dropped(&b, IP(127, 0, 0, 1), UDP_PORT);
	check_dropped(&b, IP(224, 0, 0, 251), UDP_PORT);
	check_dropped(&b, IP(255, 255, 255, 255), UDP_PORT);
	check_dropped(&b, HOSTNET_INSIDE_NET + 3, UDP_PORT);
	check_dropped(&b, IP(0, 0, 0, 0), UDP_PORT);
	check_dropped(&b, IP(240, 0, 0, 1), UDP_PORT);
	box_close(&b);
}

static void test_list(void **unused)
{
	NEED_WORLD();
	struct box b = {.config = box_config(1)};
	const struct slot_cidr allow[] = {
		{IP(9, 9, 9, 0), 24},
		{IP(10, 5, 0, 0), 16},
		{IP(10, 5, 5, 0), 24},
		{IP(169, 254, 0, 0), 16},
		{POOL, 16},
		{HOST_ADDRESS, 32},
		{IP(127, 0, 0, 0), 8},
	};
	b.config.egress = SLOT_EGRESS_LIST;
	b.config.allow_count = ARRAY_SIZE(allow);
	memcpy(b.config.allow, allow, sizeof(allow));
	box_open(&b);
	check_passes(&b, IP(9, 9, 9, 9));
	check_passes(&b, IP(10, 5, 5, 5));
	check_dropped(&b, IP(1, 1, 1, 1), UDP_PORT);
	check_dropped(&b, OUTER_ADDRESS, UDP_PORT);
	for (size_t i = 3; i < ARRAY_SIZE(internet_addresses); i++)
		check_dropped(&b, internet_addresses[i], UDP_PORT);
	check_stopped(&b, HOST_ADDRESS, UDP_PORT, true);
	check_dropped(&b, IP(127, 0, 0, 1), UDP_PORT);
	check_dropped(&b, SLOT_GATEWAY, 53); /* the resolver is not on the list */
	box_close(&b);
}

/* Sent from the internet's socket; true when it comes to the guest, and as what. */
static bool outside_says(struct box *b, uint32_t dst, uint16_t port, struct frame *f)
{
	uint32_t tag = 1;
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(dst)};
	(void)sendto(w.udp, &tag, sizeof(tag), 0, (struct sockaddr *)&to, sizeof(to));
	return box_hear(b, f, 100);
}

/* And answers what came to it in f. */
static void guest_answers(struct box *b, const struct frame *f, uint32_t tag)
{
	struct frame answer;
	frame_udp(&answer, SLOT_GUEST, (uint16_t)frame_get(f, F_L4 + 2, 2),
		  frame_get(f, F_IP + 12, 4), (uint16_t)frame_get(f, F_L4, 2), tag);
	box_send(b, &answer);
}

static void test_none_and_ports(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box b = {.config = box_config(1)};
	b.config.egress = SLOT_EGRESS_NONE;
	b.config.port_count = 2;
	b.config.ports[0] = (struct slot_port){IPPROTO_UDP, 80, 20005};
	b.config.ports[1] = (struct slot_port){IPPROTO_TCP, 80, 20005};
	box_open(&b);
	for (size_t i = 0; i < ARRAY_SIZE(internet_addresses); i++)
		box_say(&b, internet_addresses[i], UDP_PORT, 100);
	box_say(&b, SLOT_GATEWAY, 53, 100);
	box_say(&b, HOST_ADDRESS, UDP_PORT, 100);
	/* Its outside address, the port that is forwarded and others. */
	assert_false(outside_says(&b, b.config.address, 81, &f));
	assert_false(outside_says(&b, b.config.address, UDP_PORT, &f));
	assert_false(outside_says(&b, SLOT_GUEST, 80, &f));
	assert_true(outside_says(&b, b.config.address, 80, &f));
	assert_int_equal(frame_get(&f, F_IP + 12, 4), OUTER_ADDRESS);
	assert_int_equal(frame_get(&f, F_IP + 16, 4), SLOT_GUEST);
	assert_int_equal(frame_get(&f, F_L4 + 2, 2), 80);
	guest_answers(&b, &f, 200);
	assert_true(world_await(200));
	assert_int_equal(w.last_from, b.config.address);
	assert_int_equal(w.last_from_port, 80);
	/* The host's port; from the host itself, too; but not its neighbour. */
	assert_false(outside_says(&b, HOST_ADDRESS, 20006, &f));
	assert_true(outside_says(&b, HOST_ADDRESS, 20005, &f));
	assert_int_equal(frame_get(&f, F_IP + 16, 4), SLOT_GUEST);
	assert_int_equal(frame_get(&f, F_L4 + 2, 2), 80);
	guest_answers(&b, &f, 201);
	assert_true(world_await(201));
	assert_int_equal(w.last_from, HOST_ADDRESS);
	assert_int_equal(w.last_from_port, 20005);
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(20005),
				 .sin_addr.s_addr = htonl(HOST_ADDRESS)};
	assert_int_equal(sendto(w.host_udp, &to, 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
	assert_true(box_hear(&b, &f, 1000));
	guest_answers(&b, &f, 202);
	assert_true(world_await(202));
	assert_int_equal(w.last_socket, w.host_udp);
	assert_int_equal(w.seen[100], 0);
	/* By another of the host's addresses, whose way out is not the uplink. */
	assert_true(outside_says(&b, SIDE_HOST, 20005, &f));
	guest_answers(&b, &f, 203);
	assert_true(world_await(203));
	assert_int_equal(w.last_from, SIDE_HOST);
	/* By loopback, the host's own service of that port is meant. */
	CLEANUP_FD int own = world_udp(w.host, 20005);
	to.sin_addr.s_addr = htonl(IP(127, 0, 0, 1));
	assert_int_equal(sendto(w.host_udp, &to, 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
	struct pollfd p = {own, POLLIN, 0};
	assert_int_equal(poll(&p, 1, 1000), 1);
	box_close(&b);
}

/* A connection each way: the guest's end is made by hand. */
static void test_tcp(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box b = {.config = box_config(1)};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT)};
	b.config.port_count = 1;
	b.config.ports[0] = (struct slot_port){IPPROTO_TCP, 80, 0};
	box_open(&b);
	world_enter(w.internet);
	CLEANUP_FD int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_FD int caller = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	world_enter(w.host);
	assert_int_equal(bind(listener, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(listener, 1), 0);
	frame_tcp(&f, IP(9, 9, 9, 9), 5001, UDP_PORT, 1000, 0, 0x02 /* SYN */);
	box_send(&b, &f);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_L4 + 13, 1), 0x12 /* SYN and ACK */);
	assert_int_equal(frame_get(&f, F_L4 + 8, 4), 1001);
	frame_tcp(&f, IP(9, 9, 9, 9), 5001, UDP_PORT, 1001, frame_get(&f, F_L4 + 4, 4) + 1, 0x10);
	box_send(&b, &f);
	struct pollfd p = {listener, POLLIN, 0};
	assert_int_equal(poll(&p, 1, 1000), 1);

	any.sin_port = htons(80);
	any.sin_addr.s_addr = htonl(b.config.address);
	connect(caller, (struct sockaddr *)&any, sizeof(any));
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_L4 + 13, 1), 0x02);
	frame_tcp(&f, frame_get(&f, F_IP + 12, 4), 80, (uint16_t)frame_get(&f, F_L4, 2), 7,
		  frame_get(&f, F_L4 + 4, 4) + 1, 0x12);
	box_send(&b, &f);
	p = (struct pollfd){caller, POLLOUT, 0};
	assert_int_equal(poll(&p, 1, 1000), 1);
	assert_int_equal(p.revents, POLLOUT);
	box_close(&b);
}

static void fill_no_rp_filter(struct netlink_batch *b, const void *arg)
{
	(void)arg;
	world_conf(b, SLOT_TAP_INDEX, IPV4_DEVCONF_RP_FILTER, 0);
}

/* How many IPv6 packets this namespace's stack has been given. */
static unsigned long ipv6_received(void)
{
	unsigned long count = 0;
	char line[128];
	FILE *f = fopen("/proc/thread-self/net/snmp6", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Ip6InReceives %lu", &count) == 1)
			break;
	if (f)
		fclose(f);
	return count;
}

/* Frames that only differ from an allowed one in what is said here. */
static void test_spoofed_frames(void **unused)
{
	NEED_WORLD();
	static const uint8_t broadcast[ETH_ALEN] = {255, 255, 255, 255, 255, 255};
	const uint32_t sources[] = {
		SLOT_GATEWAY,	  POOL + 257,	  POOL + 300,	 HOST_ADDRESS, 0,
		IP(127, 0, 0, 1), IP(9, 9, 9, 9), SLOT_GUEST + 1};
	struct frame f;
	struct box b = {.config = box_config(1)};
	box_open(&b);
	/* The kernel's own check of sources is off: the rules must do without. */
	world_enter(b.ns);
	world_no_rp_filter();
	world_route(fill_no_rp_filter, NULL);
	unsigned long ipv6_before = ipv6_received();
	world_enter(w.host);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		frame_udp(&f, sources[i], 5000, IP(9, 9, 9, 9), UDP_PORT, 4000);
		box_send(&b, &f);
	}
	const uint16_t types[] = {0x86dd, 0x0806, 0x88cc, 0x8863, 0x8847, 0x8035, 0x0042};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		frame_udp(&f, SLOT_GUEST, 5000, IP(9, 9, 9, 9), UDP_PORT, 4000);
		frame_put16(&f, F_TYPE, types[i]);
		box_send(&b, &f);
	}
	frame_udp(&f, SLOT_GUEST, 5000, IP(9, 9, 9, 9), UDP_PORT, 4000);
	f.bytes[VNET + F_SRC + 5] ^= 1;
	box_send(&b, &f);
	frame_udp(&f, SLOT_GUEST, 5000, IP(9, 9, 9, 9), UDP_PORT, 4000);
	memcpy(f.bytes + VNET + F_DST, broadcast, ETH_ALEN);
	box_send(&b, &f);
	/* A VLAN's frame: the tag goes between. */
	frame_udp(&f, SLOT_GUEST, 5000, IP(9, 9, 9, 9), UDP_PORT, 4000);
	memmove(f.bytes + VNET + F_TYPE + 4, f.bytes + VNET + F_TYPE, f.length - VNET - F_TYPE);
	frame_put16(&f, F_TYPE, 0x8100);
	frame_put16(&f, F_TYPE + 2, 5);
	f.length += 4;
	box_send(&b, &f);
	/* DHCP */
	frame_udp(&f, 0, 68, UINT32_MAX, 67, 4000);
	memcpy(f.bytes + VNET + F_DST, broadcast, ETH_ALEN);
	box_send(&b, &f);
	/* IPv6, whose source is made so that it has the guest's IPv4 address where that would be.
	 */
	frame_ethernet(&f, ETH_P_IPV6);
	frame_put16(&f, F_IP, 0x6000);
	frame_put16(&f, F_IP + 4, 8);
	frame_put16(&f, F_IP + 6, 58 << 8 | 255);
	frame_put32(&f, F_IP + 8, 0xfe800000);
	frame_put32(&f, F_IP + 12, SLOT_GUEST);
	frame_put32(&f, F_IP + 24, 0xff020000);
	frame_put32(&f, F_IP + 36, 1);
	f.length = VNET + F_IP + 40 + 8;
	box_send(&b, &f);
	/* What belongs to no connection would not be translated. */
	frame_tcp(&f, IP(9, 9, 9, 9), 5002, UDP_PORT, 1, 1, 0x04 /* RST */);
	box_send(&b, &f);
	frame_ipv4(&f, IPPROTO_ICMP, SLOT_GUEST, IP(9, 9, 9, 9), 8); /* an echo's answer */
	frame_put16(&f, F_L4 + 2, 0xffff);
	box_send(&b, &f);
	marker(&b);
	assert_int_equal(w.seen[4000], 0);
	assert_int_equal(box_left(&b, 0), 1);
	world_enter(b.ns);
	assert_int_equal(ipv6_received(), ipv6_before);
	world_enter(w.host);
	assert_false(box_hear(&b, &f, 50));
	box_close(&b);
}

static void frame_arp(struct frame *f, uint16_t operation, const uint8_t *mac, uint32_t sender,
		      uint32_t target)
{
	frame_ethernet(f, ETH_P_ARP);
	memset(f->bytes + VNET + F_DST, 0xff, ETH_ALEN);
	frame_put16(f, F_IP, 1);
	frame_put16(f, F_IP + 2, ETH_P_IP);
	frame_put16(f, F_IP + 4, 6 << 8 | 4);
	frame_put16(f, F_IP + 6, operation);
	memcpy(f->bytes + VNET + F_IP + 8, mac, ETH_ALEN);
	frame_put32(f, F_IP + 14, sender);
	frame_put32(f, F_IP + 24, target);
	f->length = VNET + F_IP + 28;
}

static void test_arp(void **unused)
{
	NEED_WORLD();
	static const uint8_t other[ETH_ALEN] = {2, 9, 9, 9, 9, 9};
	struct frame f;
	struct box b = {.config = box_config(1)};
	box_open(&b);
	frame_arp(&f, ARPOP_REQUEST, guest_mac, SLOT_GUEST, SLOT_GATEWAY);
	box_send(&b, &f);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_IP + 6, 2), ARPOP_REPLY);
	assert_memory_equal(f.bytes + VNET + F_IP + 8, tap_mac, ETH_ALEN);
	assert_int_equal(frame_get(&f, F_IP + 14, 4), SLOT_GATEWAY);
	/* Who asks for another, or says that it is another, or has moved: no answer, no effect. */
	const uint32_t targets[] = {b.config.address, HOST_ADDRESS, NEXT_HOP, SLOT_GUEST,
				    IP(9, 9, 9, 9)};
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		frame_arp(&f, ARPOP_REQUEST, guest_mac, SLOT_GUEST, targets[i]);
		box_send(&b, &f);
	}
	frame_arp(&f, ARPOP_REQUEST, guest_mac, SLOT_GATEWAY, SLOT_GATEWAY);
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REQUEST, guest_mac, 0, SLOT_GATEWAY);
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REQUEST, other, SLOT_GUEST, SLOT_GATEWAY);
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REQUEST, guest_mac, SLOT_GUEST, SLOT_GATEWAY);
	f.bytes[VNET + F_SRC + 5] ^= 1;
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REPLY, guest_mac, SLOT_GUEST, SLOT_GATEWAY);
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REPLY, other, SLOT_GUEST, SLOT_GATEWAY);
	box_send(&b, &f);
	frame_arp(&f, ARPOP_REPLY, other, NEXT_HOP, SLOT_GATEWAY);
	box_send(&b, &f);
	marker(&b); /* whose answer comes to the guest's MAC still */
	assert_false(box_hear(&b, &f, 50));
	box_close(&b);
}

static void test_fragments_and_options(void **unused)
{
	NEED_WORLD();
	struct frame f, second;
	struct box b = {.config = box_config(1)};
	box_open(&b);
	const uint32_t targets[] = {IP(10, 5, 5, 5), HOST_ADDRESS, IP(9, 9, 9, 9)};
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		/* 8 bytes, the header of the datagram alone; then its 4 bytes of text. */
		frame_udp(&f, SLOT_GUEST, 5000, targets[i], UDP_PORT, 300 + (uint32_t)i);
		second = f;
		frame_put16(&f, F_IP + 2, 28);
		frame_put16(&f, F_IP + 4, (uint16_t)(50 + i));
		frame_put16(&f, F_IP + 6, 0x2000 /* more fragments */);
		frame_put16(&f, F_IP + 10, 0);
		frame_put16(&f, F_IP + 10, frame_sum(f.bytes + VNET + F_IP, 20, 0));
		f.length -= 4;
		memmove(second.bytes + VNET + F_L4, second.bytes + VNET + F_DATA, 4);
		frame_put16(&second, F_IP + 2, 24);
		frame_put16(&second, F_IP + 4, (uint16_t)(50 + i));
		frame_put16(&second, F_IP + 6, 1);
		frame_put16(&second, F_IP + 10, 0);
		frame_put16(&second, F_IP + 10, frame_sum(second.bytes + VNET + F_IP, 20, 0));
		second.length -= 8;
		box_send(&b, i == 1 ? &second : &f);
		box_send(&b, i == 1 ? &f : &second);
	}
	assert_true(world_await(302));
	assert_int_equal(w.seen[300] + w.seen[301], 0);
	/* A source route (RFC 791) by way of one that is allowed. */
	frame_ipv4(&f, IPPROTO_UDP, SLOT_GUEST, IP(9, 9, 9, 9), 20);
	memmove(f.bytes + VNET + F_L4 + 8, f.bytes + VNET + F_L4, 12);
	f.bytes[VNET + F_IP] = 0x47;
	memcpy(f.bytes + VNET + F_L4, (const uint8_t[]){131, 7, 4, 10, 5, 5, 5, 0}, 8);
	frame_put16(&f, F_L4 + 8, 5000);
	frame_put16(&f, F_L4 + 10, UDP_PORT);
	frame_put16(&f, F_L4 + 12, 12);
	memcpy(f.bytes + VNET + F_DATA + 8, (const uint32_t[]){303}, 4);
	frame_put16(&f, F_IP + 10, 0);
	frame_put16(&f, F_IP + 10, frame_sum(f.bytes + VNET + F_IP, 28, 0));
	box_send(&b, &f);
	marker(&b);
	assert_int_equal(w.seen[303], 0);
	box_close(&b);
}

static void test_two_slots(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box a = {.config = box_config(1)}, b = {.config = box_config(2)};
	b.config.port_count = 1;
	b.config.ports[0] = (struct slot_port){IPPROTO_UDP, UDP_PORT, 20006};
	box_open(&a);
	box_open(&b);
	/* The same inside, at the same time. */
	for (int i = 0; i < 5; i++) {
		check_passes(&a, IP(9, 9, 9, 9));
		check_passes(&b, IP(9, 9, 9, 9));
	}
	/* Though that port is open to all the world but sandboxes. */
	assert_true(outside_says(&b, b.config.address, UDP_PORT, &f));
	assert_true(outside_says(&b, HOST_ADDRESS, 20006, &f));
	box_say(&a, b.config.address, UDP_PORT, 400);
	box_say(&a, HOST_ADDRESS, 20006, 400);
	box_say(&a, hostnet_port_address(&world_host, 20006), UDP_PORT, 400);
	marker(&a);
	assert_false(box_hear(&b, &f, 50));
	box_close(&a);
	marker(&b);
	box_close(&b);
}

/* The shim asks the guest from within the slot; the guest asks for a name and for its gateway. */
static void test_probe_and_names(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box b = {.config = box_config(1)};
	uint32_t got = 0;
	box_open(&b);
	CLEANUP_FD int probe = world_udp(b.ns, UDP_PORT);
	world_enter(w.host);
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(SLOT_GUEST)};
	box_say(&b, SLOT_GATEWAY, UDP_PORT, 600);
	marker(&b);
	assert_true(recv(probe, &got, sizeof(got), 0) < 0);
	assert_int_equal(sendto(probe, &got, 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_IP + 12, 4), SLOT_GATEWAY);
	guest_answers(&b, &f, 601);
	marker(&b);
	assert_int_equal(recv(probe, &got, sizeof(got), 0), sizeof(got));
	assert_int_equal(got, 601);
	box_say(&b, SLOT_GATEWAY, 53, 602);
	assert_true(world_await(602));
	assert_int_equal(w.last_socket, w.dns);
	assert_int_equal(w.last_to, b.config.resolver);
	frame_ipv4(&f, IPPROTO_ICMP, SLOT_GUEST, SLOT_GATEWAY, 8);
	frame_put16(&f, F_L4, 0x0800);
	frame_put16(&f, F_L4 + 2, 0xf7ff);
	box_send(&b, &f);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_L4, 2), 0);
	/* But not its clock (RFC 792, timestamp). */
	frame_ipv4(&f, IPPROTO_ICMP, SLOT_GUEST, SLOT_GATEWAY, 20);
	frame_put16(&f, F_L4, 0x0d00);
	frame_put16(&f, F_L4 + 2, 0xf2ff);
	box_send(&b, &f);
	marker(&b);
	assert_false(box_hear(&b, &f, 0));
	box_close(&b);
}

/* Each costs memory of the host: there is a bound, in each direction, and it is the slot's own. */
static void test_connections_bound(void **unused)
{
	NEED_WORLD();
	struct frame f;
	unsigned heard = 0;
	struct box a = {.config = box_config(1)}, b = {.config = box_config(2)};
	a.config.port_count = 1;
	a.config.ports[0] = (struct slot_port){IPPROTO_UDP, 80, 0};
	box_open(&a);
	box_open(&b);
	for (uint16_t i = 0; i < SLOT_CONNECTIONS + 200; i++) {
		frame_udp(&f, SLOT_GUEST, (uint16_t)(10000 + i), IP(9, 9, 9, 9), UDP_PORT, 700);
		box_send(&a, &f);
		if (i % 64 == 0)
			world_collect();
	}
	marker(&b);
	assert_in_range(w.seen[700], SLOT_CONNECTIONS - 1, SLOT_CONNECTIONS);
	/* From many addresses, one connection each. */
	for (uint32_t i = 0; i < SLOT_CONNECTIONS + 200; i++) {
		send_raw(w.internet, IP(20, 0, 0, 1) + i, a.config.address, 80, 1);
		heard += box_hear(&a, &f, 0);
	}
	while (box_hear(&a, &f, 20))
		heard++;
	assert_in_range(heard, SLOT_CONNECTIONS - 1, SLOT_CONNECTIONS);
	box_close(&a);
	box_close(&b);
}

/* Where the way out takes less than the guest sends, it is told (RFC 1191), and nothing else. */
static void test_path_mtu(void **unused)
{
	NEED_WORLD();
	struct frame f;
	struct box b = {.config = box_config(1)};
	b.config.mtu = 1300;
	box_open(&b);
	frame_ipv4(&f, IPPROTO_UDP, SLOT_GUEST, IP(9, 9, 9, 9), 1400);
	frame_put16(&f, F_IP + 6, 0x4000 /* do not fragment */);
	frame_put16(&f, F_IP + 10, 0);
	frame_put16(&f, F_IP + 10, frame_sum(f.bytes + VNET + F_IP, 20, 0));
	frame_put16(&f, F_L4, 5000);
	frame_put16(&f, F_L4 + 2, UDP_PORT);
	frame_put16(&f, F_L4 + 4, 1400);
	box_send(&b, &f);
	assert_true(box_hear(&b, &f, 1000));
	assert_int_equal(frame_get(&f, F_IP + 12, 4), SLOT_GATEWAY);
	assert_int_equal(frame_get(&f, F_L4, 2), 0x0304);
	assert_int_equal(frame_get(&f, F_L4 + 6, 2), 1300);
	box_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_internet, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_list, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_none_and_ports, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_tcp, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_spoofed_frames, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_arp, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_fragments_and_options, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_two_slots, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_probe_and_names, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_connections_bound, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_path_mtu, world_setup, world_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
