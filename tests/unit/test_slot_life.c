// SPDX-License-Identifier: Apache-2.0
/*
 * shim/slot from its making to its end: nothing is left of a slot whose process was killed, 64 are
 * made at once, whatever request fails nothing passes, what is taken stays with who has it.
 */
#include "slotworld.h"

#include <signal.h>
#include <sys/prctl.h>

#define MANY 64

int __real_netlink_batch_send(struct netlink_batch *b, int timeout_ms, netlink_answer_fn *answer,
			      void *arg, struct err *e);
int __wrap_netlink_batch_send(struct netlink_batch *b, int timeout_ms, netlink_answer_fn *answer,
			      void *arg, struct err *e);

/* The request that is broken on its way, counted over all that are sent; -1: none. */
static int break_at = -1;
static int sent;

int __wrap_netlink_batch_send(struct netlink_batch *b, int timeout_ms, netlink_answer_fn *answer,
			      void *arg, struct err *e)
{
	char *at = b->buf;
	for (unsigned i = 0; i < b->count; i++, sent++) {
		struct nlmsghdr *nlh = (void *)at;
		if (sent == break_at)
			nlh->nlmsg_type = 0x7ffe;
		at += NLMSG_ALIGN(nlh->nlmsg_len);
	}
	return __real_netlink_batch_send(b, timeout_ms, answer, arg, e);
}

/* ------------------------------------------------------------------ what the host has */

struct count {
	unsigned links, routes, neighbours;
};

static void count_one(const struct nlmsghdr *nlh, void *arg)
{
	struct count *c = arg;
	c->links += nlh->nlmsg_type == RTM_NEWLINK;
	c->routes += nlh->nlmsg_type == RTM_NEWROUTE;
	if (nlh->nlmsg_type == RTM_NEWNEIGH) {
		const struct ndmsg *nd = mnl_nlmsg_get_payload(nlh);
		c->neighbours += (nd->ndm_state & NUD_PERMANENT) != 0;
	}
}

/* A dump ends in NLMSG_DONE, without an ack: so it is read here. */
static void dump(uint16_t type, struct count *c)
{
	static char buf[65536];
	struct mnl_socket *s = mnl_socket_open(NETLINK_ROUTE);
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	bool done = false;
	assert_non_null(s);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	rt->rtm_family = type == RTM_GETLINK ? AF_UNSPEC : AF_INET;
	assert_true(mnl_socket_sendto(s, nlh, nlh->nlmsg_len) > 0);
	while (!done) {
		ssize_t n = mnl_socket_recvfrom(s, buf, sizeof(buf));
		assert_true(n > 0);
		int left = (int)n;
		for (nlh = (void *)buf; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			done |= nlh->nlmsg_type == NLMSG_DONE;
			assert_int_not_equal(nlh->nlmsg_type, NLMSG_ERROR);
			count_one(nlh, c);
		}
	}
	mnl_socket_close(s);
}

static struct count count_host(void)
{
	struct count c = {0};
	world_enter(w.host);
	dump(RTM_GETLINK, &c);
	dump(RTM_GETROUTE, &c);
	dump(RTM_GETNEIGH, &c);
	return c;
}

/* The kernel takes namespaces down in the background. */
static void await_count(struct count want)
{
	struct count c = {0};
	for (int i = 0; i < 1000; i++) {
		c = count_host();
		if (memcmp(&c, &want, sizeof(c)) == 0)
			return;
		poll(NULL, 0, 10);
	}
	fail_msg("%u links, %u routes, %u neighbours: want %u, %u, %u", c.links, c.routes,
		 c.neighbours, want.links, want.routes, want.neighbours);
}

/* ------------------------------------------------------------------ processes with slots */

/* What a shim would do: builds a slot, says whether it could, and stays until it is killed. */
static _Noreturn void shim(uint32_t index, int report)
{
	struct err e = {0};
	struct slot s;
	struct slot_config c = box_config(index);
	char ok = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	c.port_count = 1;
	c.ports[0] = (struct slot_port){IPPROTO_TCP, 80, (uint16_t)(20000 + index)};
	if (slot_open_host(&s, &e) == 0 && unshare(CLONE_NEWNET) == 0 &&
	    slot_build(&s, &c, &e) == 0)
		ok = 1;
	else
		fprintf(stderr, "slot %u: %s\n", index, e.text);
	if (write(report, &ok, 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void many(unsigned count)
{
	struct count before = count_host();
	pid_t pids[MANY];
	int report[2];
	char ok;
	int64_t start = clock_us();
	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	for (unsigned i = 0; i < count; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			shim(i, report[1]);
	}
	for (unsigned i = 0; i < count; i++) {
		struct pollfd p = {report[0], POLLIN, 0};
		assert_int_equal(poll(&p, 1, 20000), 1);
		assert_int_equal(read(report[0], &ok, 1), 1);
		assert_int_equal(ok, 1);
	}
	print_message("%u at once: %lld ms\n", count, (long long)(clock_us() - start) / 1000);
	/* Each has a veth, a route to its address and one to its host port. */
	struct count now = count_host();
	assert_int_equal(now.links, before.links + count);
	assert_true(now.routes >= before.routes + 2 * count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(kill(pids[i], SIGKILL), 0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	await_count(before);
	close(report[0]);
	close(report[1]);
}

static void test_killed(void **unused)
{
	NEED_WORLD();
	many(1);
}

static void test_many_at_once(void **unused)
{
	NEED_WORLD();
	many(MANY);
	many(MANY); /* and their addresses, names and ports can be used again */
}

/* ------------------------------------------------------------------ failures */

static void test_each_failure(void **unused)
{
	NEED_WORLD();
	struct count before = count_host();
	unsigned fds = unit_open_fds();
	struct box b = {.config = box_config(1)};
	b.config.port_count = 1;
	b.config.ports[0] = (struct slot_port){IPPROTO_UDP, 80, 20001};
	b.config.to_guest_mbps = b.config.from_guest_mbps = 100;
	sent = 0;
	box_open(&b);
	int requests = sent;
	box_close(&b);
	await_count(before);
	assert_true(requests > 40);
	for (int i = 0; i < requests; i++) {
		struct err e = {0};
		sent = 0;
		break_at = i;
		int result = box_try(&b, &e);
		break_at = -1;
		if (result == 0)
			fail_msg("request %d of %d failed, and a slot was there", i, requests);
		assert_true(e.text[0] != '\0');
		assert_int_equal(b.slot.tap_fd, -1);
		/* At once, not when the namespace goes. */
		struct count now = count_host();
		assert_memory_equal(&now, &before, sizeof(now));
		box_close(&b);
	}
	assert_int_equal(unit_open_fds(), fds);
}

/* What is taken is told as such, and stays whole. */
static void test_taken(void **unused)
{
	NEED_WORLD();
	struct err e = {0};
	struct box a = {.config = box_config(1)}, b = {.config = box_config(2)};
	a.config.port_count = b.config.port_count = 1;
	a.config.ports[0] = b.config.ports[0] = (struct slot_port){IPPROTO_UDP, 80, 20001};
	box_open(&a);
	struct count with_a = count_host();
	assert_int_equal(box_try(&b, &e), -1); /* the same host port */
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "take a host port");
	box_close(&b);
	b.config = box_config(2);
	b.config.address = a.config.address;
	assert_int_equal(box_try(&b, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "take the sandbox's address");
	box_close(&b);
	b.config = box_config(2);
	b.config.index = 1;
	assert_int_equal(box_try(&b, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "make the veth pair");
	box_close(&b);
	await_count(with_a);
	box_say(&a, IP(9, 9, 9, 9), UDP_PORT, 1);
	assert_true(world_await(1));
	box_close(&a);
}

static void test_no_tun(void **unused)
{
	NEED_WORLD();
	struct err e = {0};
	struct box b = {.config = box_config(1)};
	b.config.tun_path = "/dev/null/tun";
	assert_int_equal(box_try(&b, &e), -1);
	assert_says(e.text, "/dev/null/tun");
	box_close(&b);
}

/* ------------------------------------------------------------------ rates */

/* As fast as it can for a moment, in frames of 1400 bytes; what came through, in Mbit/s. */
static double flood(struct box *b)
{
	struct frame f;
	uint64_t bytes = 0;
	int64_t start = clock_us(), end = start + 300000;
	frame_ipv4(&f, IPPROTO_UDP, SLOT_GUEST, IP(9, 9, 9, 9), 1380);
	frame_put16(&f, F_L4, 5000);
	frame_put16(&f, F_L4 + 2, UDP_PORT);
	frame_put16(&f, F_L4 + 4, 1380);
	while (clock_us() < end) {
		char buf[2048];
		ssize_t n;
		(void)!write(b->slot.tap_fd, f.bytes, f.length);
		while ((n = recv(w.udp, buf, sizeof(buf), 0)) > 0)
			bytes += (uint64_t)n + 28;
	}
	return (double)bytes * 8 / (double)(clock_us() - start);
}

static void test_rate(void **unused)
{
	NEED_WORLD();
	struct box b = {.config = box_config(1)};
	box_open(&b);
	double free_run = flood(&b);
	box_close(&b);
	b.config = box_config(2);
	b.config.from_guest_mbps = 20;
	box_open(&b);
	double limited = flood(&b);
	box_close(&b);
	print_message("from the guest: %.0f Mbit/s, limited to 20: %.1f Mbit/s\n", free_run,
		      limited);
	/* The bucket starts full: 64 KiB more in that time. */
	assert_true(limited > 10 && limited < 26);
	assert_true(free_run > 2 * limited);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_each_failure, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_taken, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_no_tun, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_rate, world_setup, world_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
