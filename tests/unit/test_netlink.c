// SPDX-License-Identifier: Apache-2.0
/*
 * shim/netlink and shim/nft against the real kernel, in a network namespace of the test's own; what
 * shim/hostnet and shim/slot check by themselves needs no kernel.
 */
#include "unit.h"

#include "hostnet.h"
#include "netlink.h"
#include "nft.h"
#include "slot.h"
#include "util.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#define BATCH_BYTES 16384

static struct netlink route, filter;
static const char *missing;

static int setup(void **unused)
{
	struct err e;
	(void)unused;
	if (geteuid() != 0) {
		missing = "not run as root";
		return 0;
	}
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	return netlink_open(&route, NETLINK_ROUTE, &e) < 0 ||
			       netlink_open(&filter, NETLINK_NETFILTER, &e) < 0
		       ? -1
		       : 0;
}

static int teardown(void **unused)
{
	(void)unused;
	netlink_close(&route);
	netlink_close(&filter);
	return 0;
}

#define NEED_ROOT()                                                                                \
	do {                                                                                       \
		(void)unused;                                                                      \
		if (missing) {                                                                     \
			print_message("skipped: %s\n", missing);                                   \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static void add_link(struct netlink_batch *b, int index, const char *what)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, RTM_GETLINK, 0, what);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = index;
}

static void count_answer(const struct nlmsghdr *nlh, void *arg)
{
	*(unsigned *)arg += nlh->nlmsg_type == RTM_NEWLINK;
}

static void test_batch(void **unused)
{
	NEED_ROOT();
	struct err e = {0};
	struct netlink_batch b;
	unsigned answers = 0;
	/* Nothing at all is fine, too. */
	assert_int_equal(netlink_batch_open(&b, &route, BATCH_BYTES, &e), 0);
	assert_int_equal(netlink_batch_send(&b, 1000, NULL, NULL, &e), 0);
	netlink_batch_close(&b);
	assert_int_equal(netlink_batch_open(&b, &route, BATCH_BYTES, &e), 0);
	for (int i = 0; i < 50; i++)
		add_link(&b, 1, "look at lo");
	assert_int_equal(netlink_batch_send(&b, 1000, count_answer, &answers, &e), 0);
	assert_int_equal(answers, 50);
	netlink_batch_close(&b);
}

static void test_error_names_request(void **unused)
{
	NEED_ROOT();
	struct err e = {0};
	struct netlink_batch b;
	assert_int_equal(netlink_batch_open(&b, &route, BATCH_BYTES, &e), 0);
	add_link(&b, 1, "the first");
	add_link(&b, 77, "the second");
	add_link(&b, 78, "the third");
	add_link(&b, 1, "the fourth");
	assert_int_equal(netlink_batch_send(&b, 1000, NULL, NULL, &e), -1);
	assert_says(e.text, "the second");
	assert_int_equal(e.errnum, ENODEV);
	netlink_batch_close(&b);
	/* What is left of that does not disturb the next; and an error may be none. */
	assert_int_equal(netlink_batch_open(&b, &route, BATCH_BYTES, &e), 0);
	add_link(&b, 1, "the first");
	add_link(&b, 77, "the second");
	netlink_batch_tolerate(&b, ENODEV);
	assert_int_equal(netlink_batch_send(&b, 1000, NULL, NULL, &e), 0);
	netlink_batch_close(&b);
}

static void test_too_much(void **unused)
{
	NEED_ROOT();
	struct err e = {0};
	struct netlink_batch b;
	assert_int_equal(netlink_batch_open(&b, &route, 256, &e), 0);
	for (int i = 0; i < 100; i++)
		add_link(&b, 1, "look at lo");
	assert_int_equal(netlink_batch_send(&b, 1000, NULL, NULL, &e), -1);
	netlink_batch_close(&b);
	assert_int_equal(netlink_batch_open(&b, &route, 1 << 20, &e), 0);
	for (int i = 0; i <= NETLINK_BATCH_MAX; i++)
		add_link(&b, 1, "look at lo");
	assert_int_equal(netlink_batch_send(&b, 1000, NULL, NULL, &e), -1);
	netlink_batch_close(&b);
}

/* One table, with a rule that leads to that chain. */
static int make_table(const char *to, struct err *e)
{
	struct netlink_batch b;
	struct nft n;
	assert_int_equal(netlink_batch_open(&b, &filter, BATCH_BYTES, e), 0);
	nft_begin(&n, &b, NFPROTO_INET, "cloister-test");
	nft_table(&n);
	nft_chain(&n, "a", NULL);
	nft_chain(&n, "b", NULL);
	nft_rule(&n, "a", "rule: the one");
	nft_jump(&n, to);
	assert_int_equal(nft_end(&n, e), 0);
	int result = netlink_batch_send(&b, 1000, NULL, NULL, e);
	netlink_batch_close(&b);
	return result;
}

static void test_rules_all_or_none(void **unused)
{
	NEED_ROOT();
	struct err e = {0};
	assert_int_equal(make_table("nowhere", &e), -1);
	assert_says(e.text, "rule: the one");
	assert_int_equal(e.errnum, ENOENT);
	/* The table was not made either: it can be made now, but not twice. */
	assert_int_equal(make_table("b", &e), 0);
	assert_int_equal(make_table("b", &e), -1);
	assert_says(e.text, "make the table");
	assert_int_equal(e.kind, ERR_STATE);
}

static struct hostnet_config host_config(void)
{
	return (struct hostnet_config){.instance = "0123456789abcdef",
				       .uplink = "eth0",
				       .pool = 0x64600000,
				       .pool_bits = 16,
				       .port_first = 20000,
				       .port_count = 1000};
}

static void test_host_config(void **unused)
{
	(void)unused;
	struct err e;
	struct hostnet_config c = host_config();
	assert_int_equal(hostnet_check(&c, &e), 0);
	assert_int_equal(hostnet_port_address(&c, 19999), 0);
	assert_int_equal(hostnet_port_address(&c, 20000), 0x64600000 + 65536 - 1000);
	assert_int_equal(hostnet_port_address(&c, 20999), 0x6460ffff);
	assert_int_equal(hostnet_port_address(&c, 21000), 0);
	assert_false(hostnet_is_sandbox_address(&c, 0x64600000));
	assert_true(hostnet_is_sandbox_address(&c, 0x64600001));
	assert_true(hostnet_is_sandbox_address(&c, 0x64600000 + 65536 - 1001));
	assert_false(hostnet_is_sandbox_address(&c, 0x64600000 + 65536 - 1000));
	assert_false(hostnet_is_sandbox_address(&c, 0x645fffff));
	assert_false(hostnet_is_sandbox_address(&c, 0x64610001));
	c.port_count = 0;
	assert_int_equal(hostnet_port_address(&c, 20000), 0);
	assert_false(hostnet_is_sandbox_address(&c, 0x6460ffff));
	assert_true(hostnet_is_sandbox_address(&c, 0x6460fffe));
}

static void test_host_config_refused(void **unused)
{
	(void)unused;
	struct err e;
	const struct {
		uint32_t pool;
		unsigned bits;
	} bad[] = {{0x64600000, 7},  {0x64600000, 31}, {0x64600001, 16}, {0x7f000000, 16},
		   {0xa9fe0000, 16}, {0xe0000000, 8},  {0x0a000000, 8},	 {0x0ab10000, 24},
		   {0x00000000, 8},  {0xff000000, 8}};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hostnet_config c = host_config();
		c.pool = bad[i].pool;
		c.pool_bits = bad[i].bits;
		assert_int_equal(hostnet_check(&c, &e), -1);
		assert_int_equal(e.kind, ERR_INVALID);
	}
	struct hostnet_config c = host_config();
	c.port_first = 65000;
	assert_int_equal(hostnet_check(&c, &e), -1);
	c = host_config();
	c.pool_bits = 22;
	assert_int_equal(hostnet_check(&c, &e), -1);
	c = host_config();
	c.instance = "x";
	assert_int_equal(hostnet_check(&c, &e), -1);
	c = host_config();
	c.uplink = "a-name-that-is-too-long";
	assert_int_equal(hostnet_check(&c, &e), -1);
	c.uplink = "";
	assert_int_equal(hostnet_check(&c, &e), -1);
	assert_true(hostnet_nets_overlap(0x0a000000, 8, 0x0ab10000, 30));
	assert_false(hostnet_nets_overlap(0x0a000000, 16, 0x0ab10000, 30));
	assert_true(hostnet_nets_overlap(0, 0, 0xffffffff, 32));
}

static void test_slot_config(void **unused)
{
	(void)unused;
	struct err e;
	const struct hostnet_config host = host_config();
	const struct slot_config good = {
		.host = &host,
		.address = 0x64600100,
		.mtu = 1500,
		.allow_count = 1,
		.port_count = 2,
		.ports = {{IPPROTO_TCP, 80, 20000}, {IPPROTO_UDP, 80, 20000}}};
	assert_int_equal(slot_check(&good, &e), 0);
	struct slot_config bad[12];
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].address = 0x64600000 + 65536 - 1;
	bad[1].index = SLOT_INDEX_MAX + 1;
	bad[2].mtu = 500;
	bad[3].egress = (enum slot_egress)3;
	bad[4].allow_count = SLOT_ALLOW_MAX + 1;
	bad[5].allow[0] = (struct slot_cidr){0x0a000001, 8};
	bad[6].allow[0] = (struct slot_cidr){0x0a000001, 33};
	bad[7].ports[1].protocol = IPPROTO_TCP;
	bad[8].ports[0].guest = 0;
	bad[9].ports[0].host = 22;
	bad[10].port_count = SLOT_PORTS_MAX + 1;
	bad[11].to_guest_mbps = SLOT_MBPS_MAX + 1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (slot_check(&bad[i], &e) == 0)
			fail_msg("bad configuration %zu was taken", i);
		assert_int_equal(e.kind, ERR_INVALID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_names_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules_all_or_none, setup, teardown),
		cmocka_unit_test(test_host_config),
		cmocka_unit_test(test_host_config_refused),
		cmocka_unit_test(test_slot_config),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
