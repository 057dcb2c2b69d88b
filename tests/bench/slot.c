// SPDX-License-Identifier: Apache-2.0
/*
 * What a network slot costs: the first, the one that comes when COUNT - 1 are there, and the same
 * set-up by running ip and nft (one process for each line of ip, and with all lines in one
 * `ip -batch` for each namespace). As root; in network namespaces of its own.
 *
 *	slot [COUNT [SAMPLES]]	prints rows: name, median, minimum, maximum in microseconds
 */
#include "slot.h"
#include "hostnet.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLES_MAX 1000
#define POOL	    0x64600000u /* 100.96.0.0 */

static const struct hostnet_config host_config = {
	.instance = "0123456789abcdef", .uplink = "up0", .pool = POOL, .pool_bits = 16};
static int host_ns;
static pid_t holder; /* a process in the host's namespace, for `ip ... netns PID` */
static int rules_fd; /* the text of a slot's rules */

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	if (holder > 0)
		kill(holder, SIGKILL);
	exit(1);
}

static void must(int result, const char *what)
{
	if (result < 0)
		die(what, strerror(errno));
}

/* Runs a program with its standard input and output on those descriptors (-1: ours). */
static void run(int in, int out, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status = 0;
	posix_spawn_file_actions_init(&actions);
	if (in >= 0)
		posix_spawn_file_actions_adddup2(&actions, in, 0);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&actions, out, 1);
	int rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		die(argv[0], strerror(rc));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		die(argv[0], "failed");
}

/* One line of words, split at blanks. */
static void run_line(const char *line)
{
	char copy[256];
	char *argv[40], *at = NULL;
	unsigned n = 0;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " ", &at); word && n < 39; word = strtok_r(NULL, " ", &at))
		argv[n++] = word;
	argv[n] = NULL;
	run(-1, -1, argv);
}

static int memory_file(const char *text)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);
	must(fd, "memfd_create");
	must((int)write(fd, text, strlen(text)), "write");
	must((int)lseek(fd, 0, SEEK_SET), "lseek");
	return fd;
}

static void enter_host(void)
{
	must(setns(host_ns, CLONE_NEWNET), "setns");
}

static struct slot_config config_of(uint32_t index)
{
	return (struct slot_config){.host = &host_config,
				    .address = POOL + 256 + index,
				    .index = index,
				    .mtu = 1500,
				    .resolver = 0x01010101,
				    .egress = SLOT_EGRESS_INTERNET};
}

/* Builds one from the host's namespace and stays in it. Gives the time of each of the two steps. */
static void build(struct slot *s, uint32_t index, int64_t *unshare_us, int64_t *build_us)
{
	struct err e;
	struct slot_config c = config_of(index);
	if (slot_open_host(s, &e) < 0)
		die("slot", e.text);
	int64_t start = clock_us();
	must(unshare(CLONE_NEWNET), "unshare");
	int64_t between = clock_us();
	if (slot_build(s, &c, &e) < 0)
		die("slot", e.text);
	*build_us = clock_us() - between;
	*unshare_us = between - start;
}

/* Namespaces go in the background; what is measured next must not wait for them. */
static void await_gone(const char *name)
{
	for (int i = 0; if_nametoindex(name) != 0; i++) {
		if (i == 5000)
			die(name, "does not go");
		poll(NULL, 0, 1);
	}
	poll(NULL, 0, 20);
}

static void tool_name(char out[IFNAMSIZ], uint32_t index)
{
	snprintf(out, IFNAMSIZ, "tool%u", index);
}

/* The lines for the slot's namespace (host false) or for the host's, each ended by a newline. */
static void tool_lines(char *out, size_t size, uint32_t index, bool host)
{
	char name[IFNAMSIZ];
	uint32_t low = 256 + index;
	tool_name(name, index);
	if (host)
		snprintf(
			out, size,
			"link set dev %s group 25452 addrgenmode none up arp off\n"
			"neigh replace 100.96.%u.%u lladdr 02:c1:01:57:00:03 dev %s nud permanent\n"
			"route add 100.96.%u.%u/32 dev %s\n",
			name, low >> 8, low & 255, name, low >> 8, low & 255, name);
	else
		snprintf(out, size,
			 "link set dev tap address 02:c1:01:57:00:01 addrgenmode none\n"
			 "addr add 10.177.0.1/30 dev tap\n"
			 "addr add 100.96.%u.%u/32 dev uplink\n"
			 "neigh replace 10.177.0.2 lladdr 02:c1:01:57:00:02 dev tap nud permanent\n"
			 "link set dev tap up\n"
			 "link set dev uplink addrgenmode none up arp off\n"
			 "neigh replace 169.254.1.1 lladdr 02:c1:01:57:00:04 dev uplink nud "
			 "permanent\n"
			 "route add default via 169.254.1.1 dev uplink onlink\n",
			 low >> 8, low & 255);
}

static void run_lines(char *lines, bool batch)
{
	if (batch) {
		CLEANUP_FD int fd = memory_file(lines);
		run(fd, -1, (char *[]){(char[]){"ip"}, (char[]){"-batch"}, (char[]){"-"}, NULL});
		return;
	}
	char *at = NULL;
	for (char *line = strtok_r(lines, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
		char whole[256];
		snprintf(whole, sizeof(whole), "ip %s", line);
		run_line(whole);
	}
}

static int64_t build_by_tools(uint32_t index, bool batch)
{
	char lines[1024], line[256], name[IFNAMSIZ];
	tool_name(name, index);
	must(unshare(CLONE_NEWNET), "unshare");
	CLEANUP_FD int slot_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	must(slot_ns, "open the namespace");
	must((int)lseek(rules_fd, 0, SEEK_SET), "lseek");
	int64_t start = clock_us();
	run_line("ip tuntap add dev tap mode tap vnet_hdr");
	snprintf(
		line, sizeof(line),
		"ip link add uplink address 02:c1:01:57:00:03 numtxqueues 1 type veth peer name %s "
		"address 02:c1:01:57:00:04 numtxqueues 1 netns %d",
		name, (int)holder);
	run_line(line);
	run(rules_fd, -1, (char *[]){(char[]){"nft"}, (char[]){"-f"}, (char[]){"-"}, NULL});
	tool_lines(lines, sizeof(lines), index, false);
	run_lines(lines, batch);
	enter_host();
	tool_lines(lines, sizeof(lines), index, true);
	run_lines(lines, batch);
	int64_t took = clock_us() - start;
	fd_close(&slot_ns);
	await_gone(name);
	return took;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static int64_t row(const char *name, int64_t *us, unsigned n)
{
	qsort(us, n, sizeof(*us), by_value);
	printf("%-24s %8lld %8lld %8lld\n", name, (long long)us[n / 2], (long long)us[0],
	       (long long)us[n - 1]);
	fflush(stdout);
	return us[n / 2];
}

static int64_t measure(const char *when, uint32_t index, unsigned samples)
{
	static int64_t unshare_us[SAMPLES_MAX], build_us[SAMPLES_MAX];
	char name[64];
	for (unsigned i = 0; i < samples; i++) {
		struct slot s;
		build(&s, index, &unshare_us[i], &build_us[i]);
		enter_host();
		snprintf(name, sizeof(name), "%s", s.veth);
		slot_close(&s);
		await_gone(name);
	}
	snprintf(name, sizeof(name), "unshare-%s", when);
	row(name, unshare_us, samples);
	snprintf(name, sizeof(name), "slot-%s", when);
	return row(name, build_us, samples);
}

static int64_t measure_tools(const char *name, bool batch, unsigned samples)
{
	static int64_t us[SAMPLES_MAX];
	for (unsigned i = 0; i < samples; i++)
		us[i] = build_by_tools(9, batch);
	return row(name, us, samples);
}

static void set_up(void)
{
	struct err e;
	uint32_t mtu;
	int64_t ignored;
	struct slot s;
	must(unshare(CLONE_NEWNET), "unshare (run as root)");
	host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	must(host_ns, "open the namespace");
	holder = fork();
	must(holder, "fork");
	if (holder == 0) {
		alarm(600);
		for (;;)
			pause();
	}
	run_line("ip link add up0 type veth peer name i0");
	run_line("ip link set dev up0 up");
	CLEANUP_FD int sysctl =
		open("/proc/sys/net/ipv4/conf/up0/forwarding", O_WRONLY | O_CLOEXEC);
	must((int)write(sysctl, "1", 1), "let up0 forward");
	if (hostnet_ensure(&host_config, &mtu, &e) < 0)
		die("hostnet", e.text);
	build(&s, 9, &ignored, &ignored);
	rules_fd = memory_file("");
	run(-1, rules_fd, (char *[]){(char[]){"nft"}, (char[]){"list"}, (char[]){"ruleset"}, NULL});
	enter_host();
	slot_close(&s);
	await_gone(s.veth);
}

int main(int argc, char **argv)
{
	uint64_t count = 256, samples = 31;
	if ((argc > 1 && !str_to_u64(argv[1], 2, 4000, &count)) ||
	    (argc > 2 && !str_to_u64(argv[2], 1, SAMPLES_MAX, &samples)) || argc > 3)
		die("usage", "slot [COUNT [SAMPLES]]");
	set_up();
	int64_t first = measure("1", 1, (unsigned)samples);
	int64_t each = measure_tools("ip-nft", false, (unsigned)samples);
	int64_t batch = measure_tools("ip-batch-nft", true, (unsigned)samples);
	struct slot *slots = calloc(count, sizeof(*slots));
	if (!slots)
		die("slots", "no memory");
	for (uint32_t i = 0; i + 1 < count; i++) {
		int64_t ignored;
		build(&slots[i], 100 + i, &ignored, &ignored);
		enter_host();
		slot_close_host(&slots[i]); /* its tap holds the namespace */
	}
	char when[24];
	snprintf(when, sizeof(when), "%u", (unsigned)count);
	int64_t last = measure(when, 1, (unsigned)samples);
	printf("growth %.2f, ip and nft %.1f times, ip -batch and nft %.1f times the first slot\n",
	       (double)last / (double)first, (double)each / (double)first,
	       (double)batch / (double)first);
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	free(slots);
	return 0;
}
