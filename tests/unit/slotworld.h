// SPDX-License-Identifier: Apache-2.0
/*
 * A small world for the tests of slots, all in namespaces of their own so that the machine's
 *network is never touched: a host, an internet behind its uplink in which every address answers,
 *slots, and the guest's side of a tap: frames written and read by hand.
 *
 *	tap [slot] veth === [ host 8.8.0.1 up0   ] === [ 8.8.0.2 i0, all of internet_addresses ]
 *			    [      8.9.0.1 side0 ] === [ 8.9.0.2 s0                           ]
 *
 * Includes slot_link.c for the requests that it makes.
 */
#ifndef TESTS_UNIT_SLOTWORLD_H
#define TESTS_UNIT_SLOTWORLD_H

#include "unit.h"

#include "../../shim/slot_link.c"

#include "hostnet.h"
#include "slot.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

/* <net/if.h> and <linux/if.h> cannot be had together. */
extern unsigned int if_nametoindex(const char *name);

#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))
#define HOST_ADDRESS   IP(8, 8, 0, 1)
#define OUTER_ADDRESS  IP(8, 8, 0, 2)
#define SIDE_HOST      IP(8, 9, 0, 1) /* not by the uplink */
#define SIDE_OUTER     IP(8, 9, 0, 2)
#define POOL	       IP(100, 96, 0, 0)
#define UDP_PORT       7777
#define VNET	       VNET_HEADER_BYTES
#define FRAME_MAX      2048

/* The internet has them all; UDP_PORT and 53 are heard on each. */
static const uint32_t internet_addresses[] = {
	IP(9, 9, 9, 9),		IP(1, 1, 1, 1),	    IP(10, 5, 5, 5),	IP(172, 16, 3, 3),
	IP(192, 168, 7, 7),	IP(100, 70, 0, 1),  IP(192, 0, 2, 9),	IP(198, 18, 1, 1),
	IP(198, 51, 100, 9),	IP(203, 0, 113, 9), IP(192, 88, 99, 1), IP(192, 0, 0, 9),
	IP(169, 254, 169, 254), IP(100, 96, 3, 3),
};

static const struct hostnet_config world_host = {
	.instance = "0123456789abcdef",
	.uplink = "up0",
	.pool = POOL,
	.pool_bits = 16,
	.port_first = 20000,
	.port_count = 1000,
};

struct world {
	int start, host, internet; /* namespaces */
	int udp, dns;		   /* UDP sockets of the internet */
	int host_udp;
	unsigned seen[4096]; /* how often a datagram with that tag came to one of them */
	uint32_t last_from, last_to;
	uint16_t last_from_port;
	int last_socket;
};

/* That of the test that runs. */
static struct world w;

static inline int world_ns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static inline void world_enter(int ns)
{
	assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

/* For assert_ok() to fill and to tell. */
static struct err world_err;

#define assert_ok(call)                                                                            \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, world_err.text);                                 \
	} while (0)

/* Sends what fill() puts into a batch, in the present namespace. */
static inline void world_route(void (*fill)(struct netlink_batch *, const void *), const void *arg)
{
	struct netlink n;
	struct netlink_batch b;
	assert_ok(netlink_open(&n, NETLINK_ROUTE, &world_err));
	assert_ok(netlink_batch_open(&b, &n, BATCH_BYTES, &world_err));
	fill(&b, arg);
	assert_ok(netlink_batch_send(&b, 5000, NULL, NULL, &world_err));
	netlink_batch_close(&b);
	netlink_close(&n);
}

static inline void world_net_route(struct netlink_batch *b, uint32_t net, unsigned bits,
				   uint32_t via)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, RTM_NEWROUTE, NLM_F_CREATE, "route");
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_type = RTN_UNICAST;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_dst_len = (unsigned char)bits;
	if (bits)
		mnl_attr_put_u32(nlh, RTA_DST, htonl(net));
	mnl_attr_put_u32(nlh, RTA_GATEWAY, htonl(via));
}

/* A veth pair, of that number on both sides. */
static inline void world_pair(struct netlink_batch *b, uint32_t index, const char *name,
			      const char *peer_name, int peer_ns)
{
	struct nlmsghdr *nlh = add_link(b, RTM_NEWLINK, NLM_F_CREATE, index, 0, "veth");
	put_link(nlh, name, 1500, (const uint8_t[]){2, 0, 0, 0, 2, (uint8_t)index});
	struct nlattr *info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	struct nlattr *peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)index;
	put_link(nlh, peer_name, 1500, (const uint8_t[]){2, 0, 0, 0, 1, (uint8_t)index});
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)peer_ns);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	add_link(b, RTM_SETLINK, 0, index, IFF_UP, "up");
}

static inline void world_fill_internet(struct netlink_batch *b, const void *arg)
{
	(void)arg;
	add_link(b, RTM_SETLINK, 0, 1, IFF_UP, "lo up");
	world_pair(b, 7, "i0", "up0", w.host);
	world_pair(b, 8, "s0", "side0", w.host);
	add_address(b, 7, OUTER_ADDRESS, 24, "address");
	add_address(b, 8, SIDE_OUTER, 24, "address");
	for (size_t i = 0; i < ARRAY_SIZE(internet_addresses); i++)
		add_address(b, 1, internet_addresses[i], 32, "address");
	world_net_route(b, POOL, 16, HOST_ADDRESS);
	/* A host that stands next to ours and wants to be heard as if it were a guest. */
	world_net_route(b, HOSTNET_INSIDE_NET, HOSTNET_INSIDE_BITS, HOST_ADDRESS);
}

/* One setting of one interface (IPV4_DEVCONF_*). */
static inline void world_conf(struct netlink_batch *b, uint32_t index, uint16_t key, uint32_t value)
{
	struct nlmsghdr *nlh = add_link(b, RTM_SETLINK, 0, index, 0, "setting");
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *af = mnl_attr_nest_start(nlh, AF_INET);
	struct nlattr *list = mnl_attr_nest_start(nlh, IFLA_INET_CONF);
	mnl_attr_put_u32(nlh, key, value);
	mnl_attr_nest_end(nlh, list);
	mnl_attr_nest_end(nlh, af);
	mnl_attr_nest_end(nlh, spec);
}

/* A host that checks nothing by itself: what is dropped, our rules have dropped. */
static inline void world_fill_host(struct netlink_batch *b, const void *arg)
{
	(void)arg;
	add_link(b, RTM_SETLINK, 0, 1, IFF_UP, "lo up");
	for (uint32_t index = 7; index <= 8; index++) {
		world_conf(b, index, IPV4_DEVCONF_FORWARDING, 1);
		world_conf(b, index, IPV4_DEVCONF_RP_FILTER, 0);
		add_link(b, RTM_SETLINK, 0, index, IFF_UP, "up");
	}
	add_address(b, 7, HOST_ADDRESS, 24, "address");
	add_address(b, 8, SIDE_HOST, 24, "address");
	world_net_route(b, 0, 0, OUTER_ADDRESS);
}

/* Where all interfaces' settings have a part in each one's (ip-sysctl.rst). */
static inline void world_no_rp_filter(void)
{
	CLEANUP_FD int fd = open("/proc/sys/net/ipv4/conf/all/rp_filter", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "0", 1);
}

static inline int world_udp(int ns, uint16_t port)
{
	int one = 1;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	world_enter(ns);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* Why the tests cannot run here, or NULL. */
static inline const char *world_missing(void)
{
	if (geteuid() != 0)
		return "not run as root";
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return "/dev/net/tun is not usable";
	return NULL;
}

/* Ends in the host's namespace. */
static inline void world_open(void)
{
	cpu_set_t one;
	uint32_t mtu = 0;
	/* On one CPU packets do not overtake each other: what came before has been dealt with. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	memset(&w, 0, sizeof(w));
	w.start = world_ns();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	w.host = world_ns();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	w.internet = world_ns();
	world_route(world_fill_internet, NULL);
	w.udp = world_udp(w.internet, UDP_PORT);
	w.dns = world_udp(w.internet, 53);
	w.host_udp = world_udp(w.host, UDP_PORT);
	world_enter(w.host);
	world_no_rp_filter();
	world_route(world_fill_host, NULL);
	assert_ok(hostnet_ensure(&world_host, &mtu, &world_err));
	assert_int_equal(mtu, 1500);
}

static inline void world_close(void)
{
	world_enter(w.start);
	int *fds[] = {&w.start, &w.host, &w.internet, &w.udp, &w.dns, &w.host_udp};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(fds[i]);
}

/* Why the tests cannot run here, or NULL. */
static const char *missing;

static inline int world_setup(void **unused)
{
	(void)unused;
	missing = world_missing();
	if (!missing)
		world_open();
	return 0;
}

static inline int world_teardown(void **unused)
{
	(void)unused;
	if (!missing)
		world_close();
	return 0;
}

#define NEED_WORLD()                                                                               \
	do {                                                                                       \
		(void)unused;                                                                      \
		if (missing) {                                                                     \
			print_message("skipped: %s\n", missing);                                   \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

/* A slot and its namespace. */
struct box {
	struct slot slot;
	struct slot_config config;
	int ns;
	int wire; /* hears on the host's end of the veth what leaves the slot */
};

static inline struct slot_config box_config(uint32_t index)
{
	return (struct slot_config){
		.host = &world_host,
		.address = POOL + 256 + index,
		.index = index,
		.mtu = 1500,
		.resolver = IP(1, 1, 1, 1),
		.egress = SLOT_EGRESS_INTERNET,
	};
}

/* Builds it from the host's namespace, and goes back there. */
static inline int box_try(struct box *b, struct err *e)
{
	world_enter(w.host);
	assert_ok(slot_open_host(&b->slot, &world_err));
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	b->ns = world_ns();
	int result = slot_build(&b->slot, &b->config, e);
	world_enter(w.host);
	slot_close_host(&b->slot);
	return result;
}

static inline void box_open(struct box *b)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	assert_ok(box_try(b, &world_err));
	b->wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	at.sll_ifindex = (int)if_nametoindex(b->slot.veth);
	assert_true(at.sll_ifindex > 0);
	assert_int_equal(bind(b->wire, (struct sockaddr *)&at, sizeof(at)), 0);
}

/* How many frames have left the slot since it was last asked that are of that length, or any (0).
 */
static inline unsigned box_left(struct box *b, size_t length)
{
	char buf[FRAME_MAX];
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	unsigned count = 0;
	ssize_t n;
	while ((n = recvfrom(b->wire, buf, sizeof(buf), MSG_TRUNC, (struct sockaddr *)&from,
			     &from_len)) > 0)
		count +=
			from.sll_pkttype != PACKET_OUTGOING && (length == 0 || (size_t)n == length);
	return count;
}

static inline void box_close(struct box *b)
{
	slot_close(&b->slot);
	fd_close(&b->ns);
	if (b->wire > 0)
		close(b->wire);
	b->wire = 0;
}

/* Reads all that the sockets of world have, and counts it by its tag. */
static inline void world_collect(void)
{
	int sockets[] = {w.udp, w.dns, w.host_udp};
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
		for (;;) {
			uint32_t tag[512];
			union {
				char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
				struct cmsghdr align;
			} control;
			struct sockaddr_in from;
			struct iovec iov = {tag, sizeof(tag)};
			struct msghdr m = {.msg_name = &from,
					   .msg_namelen = sizeof(from),
					   .msg_iov = &iov,
					   .msg_iovlen = 1,
					   .msg_control = &control,
					   .msg_controllen = sizeof(control)};
			if (recvmsg(sockets[i], &m, 0) < (ssize_t)sizeof(tag[0]))
				break;
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(info));
			assert_true(tag[0] < ARRAY_SIZE(w.seen));
			w.seen[tag[0]]++;
			w.last_from = ntohl(from.sin_addr.s_addr);
			w.last_from_port = ntohs(from.sin_port);
			w.last_to = ntohl(info.ipi_addr.s_addr);
			w.last_socket = sockets[i];
		}
	}
}

/* Waits until a datagram with that tag has come to a socket of world; false after 2 s. */
static inline bool world_await(uint32_t tag)
{
	for (int i = 0; i < 200; i++) {
		world_collect();
		if (w.seen[tag])
			return true;
		struct pollfd p[] = {
			{w.udp, POLLIN, 0}, {w.dns, POLLIN, 0}, {w.host_udp, POLLIN, 0}};
		poll(p, 3, 10);
	}
	return false;
}

/* ------------------------------------------------------------------ frames */

struct frame {
	uint8_t bytes[FRAME_MAX]; /* the header that virtio puts before it, then the frame */
	size_t length;
};

static inline uint16_t frame_sum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	if (n & 1)
		sum += (uint32_t)(p[n - 1] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static inline void frame_put16(struct frame *f, size_t at, uint16_t v)
{
	f->bytes[VNET + at] = (uint8_t)(v >> 8);
	f->bytes[VNET + at + 1] = (uint8_t)v;
}

static inline void frame_put32(struct frame *f, size_t at, uint32_t v)
{
	frame_put16(f, at, (uint16_t)(v >> 16));
	frame_put16(f, at + 2, (uint16_t)v);
}

static inline uint32_t frame_get(const struct frame *f, size_t at, unsigned bytes)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | f->bytes[VNET + at + i];
	return v;
}

/* Offsets within a frame. */
enum { F_DST = 0, F_SRC = 6, F_TYPE = 12, F_IP = 14, F_L4 = 34, F_DATA = 42 };

static inline void frame_ethernet(struct frame *f, uint16_t type)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->bytes + VNET + F_DST, tap_mac, ETH_ALEN);
	memcpy(f->bytes + VNET + F_SRC, guest_mac, ETH_ALEN);
	frame_put16(f, F_TYPE, type);
}

/* Makes the IPv4 header, for `payload` bytes behind it, and its checksum. */
static inline void frame_ipv4(struct frame *f, uint8_t protocol, uint32_t src, uint32_t dst,
			      size_t payload)
{
	frame_ethernet(f, ETH_P_IP);
	frame_put16(f, F_IP, 0x4500);
	frame_put16(f, F_IP + 2, (uint16_t)(20 + payload));
	frame_put16(f, F_IP + 8, (uint16_t)(64 << 8 | protocol));
	frame_put32(f, F_IP + 12, src);
	frame_put32(f, F_IP + 16, dst);
	frame_put16(f, F_IP + 10, frame_sum(f->bytes + VNET + F_IP, 20, 0));
	f->length = VNET + F_L4 + payload;
}

/* A UDP datagram of 4 bytes, the tag in the byte order of the machine; no checksum (RFC 768). */
static inline void frame_udp(struct frame *f, uint32_t src, uint16_t sport, uint32_t dst,
			     uint16_t dport, uint32_t tag)
{
	frame_ipv4(f, IPPROTO_UDP, src, dst, 12);
	frame_put16(f, F_L4, sport);
	frame_put16(f, F_L4 + 2, dport);
	frame_put16(f, F_L4 + 4, 12);
	memcpy(f->bytes + VNET + F_DATA, &tag, sizeof(tag));
}

static inline void frame_tcp(struct frame *f, uint32_t dst, uint16_t sport, uint16_t dport,
			     uint32_t seq, uint32_t ack, uint8_t flags)
{
	frame_ipv4(f, IPPROTO_TCP, SLOT_GUEST, dst, 20);
	frame_put16(f, F_L4, sport);
	frame_put16(f, F_L4 + 2, dport);
	frame_put32(f, F_L4 + 4, seq);
	frame_put32(f, F_L4 + 8, ack);
	frame_put16(f, F_L4 + 12, (uint16_t)(5 << 12 | flags));
	frame_put16(f, F_L4 + 14, 64000);
	uint32_t pseudo = (SLOT_GUEST >> 16) + (SLOT_GUEST & 0xffff) + (dst >> 16) +
			  (dst & 0xffff) + IPPROTO_TCP + 20;
	frame_put16(f, F_L4 + 16, frame_sum(f->bytes + VNET + F_L4, 20, pseudo));
}

static inline void box_send(struct box *b, const struct frame *f)
{
	assert_int_equal(write(b->slot.tap_fd, f->bytes, f->length), f->length);
}

/* The guest sends a datagram with that tag. */
static inline void box_say(struct box *b, uint32_t dst, uint16_t dport, uint32_t tag)
{
	struct frame f;
	frame_udp(&f, SLOT_GUEST, 5000, dst, dport, tag);
	box_send(b, &f);
}

/* The next frame for the guest; false when none comes within wait_ms. */
static inline bool box_hear(struct box *b, struct frame *f, int wait_ms)
{
	struct pollfd p = {b->slot.tap_fd, POLLIN, 0};
	if (poll(&p, 1, wait_ms) != 1)
		return false;
	ssize_t n = read(b->slot.tap_fd, f->bytes, sizeof(f->bytes));
	assert_true(n > VNET);
	f->length = (size_t)n;
	return true;
}

/* Sends a datagram with any source at all, from that namespace, past all rules of its own. */
static inline void send_raw(int ns, uint32_t src, uint32_t dst, uint16_t port, uint32_t tag)
{
	struct frame f;
	int back = world_ns();
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(dst)};
	world_enter(ns);
	CLEANUP_FD int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	assert_true(raw >= 0);
	frame_udp(&f, src, 5000, dst, port, tag);
	(void)sendto(raw, f.bytes + VNET + F_IP, f.length - VNET - F_IP, 0, (struct sockaddr *)&to,
		     sizeof(to));
	world_enter(back);
	close(back);
}

#endif
