// SPDX-License-Identifier: Apache-2.0
/* shim/ch_net, and ch_api where a guest has a network: bodies, the tap's descriptor, vm.info. */
#include "unit.h"

#include "ch_api.h"
#include "ch_net.h"
#include "slot.h"
#include "util.h"

#include <sys/socket.h>

#define DEVICE "\"id\":\"net0\",\"mac\":\"02:c1:01:57:00:02\",\"num_queues\":2,\"queue_size\":256"

static struct msg_create spec;
static struct http_client c;
static int peer, tap;
static unsigned open_before;

/* Any file will do for the tap. */
static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	open_before = unit_open_fds();
	spec = (struct msg_create){.kernel = "vmlinux",
				   .vcpus = 2,
				   .memory_mib = 256,
				   .max_vcpus = 2,
				   .max_memory_mib = 256,
				   .network.slot = 7};
	tap = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (tap < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	http_client_open(&c, pair[0], NULL);
	peer = pair[1];
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	http_client_close(&c);
	fd_close(&peer);
	fd_close(&tap);
	return unit_open_fds() == open_before ? 0 : -1;
}

/* What has come as text, and whether the tap came with it. */
static bool take(char *text, size_t size)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * 4)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = text, .iov_len = size - 1};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	struct stat ours, theirs;
	int fd;
	ssize_t n = recvmsg(peer, &h, MSG_CMSG_CLOEXEC);
	assert_true(n > 0);
	text[n] = '\0';
	struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
	if (!cm)
		return false;
	assert_int_equal(cm->cmsg_len, CMSG_LEN(sizeof(int)));
	assert_null(CMSG_NXTHDR(&h, cm));
	memcpy(&fd, CMSG_DATA(cm), sizeof(fd));
	assert_int_equal(fstat(fd, &theirs), 0);
	assert_int_equal(fstat(tap, &ours), 0);
	assert_true(ours.st_rdev == theirs.st_rdev && ours.st_ino == theirs.st_ino);
	close(fd);
	return true;
}

static void expect(const char *line, const char *body, bool with_tap)
{
	char text[1024];
	assert_true(take(text, sizeof(text)) == with_tap);
	assert_memory_equal(text, line, strlen(line));
	assert_string_equal(strstr(text, "\r\n\r\n") + 4, body);
	assert_int_equal(c.ride_fd, -1);
	/* The caller's stays. */
	assert_true(fcntl(tap, F_GETFD) >= 0);
}

/* The device's address in the VMM's configuration is the one that the slot lets through. */
static void test_mac(void **unused)
{
	static const unsigned char mac[] = SLOT_GUEST_MAC;
	char text[18];
	(void)unused;
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	assert_string_equal(text, CH_NET_MAC);
	assert_string_equal(CH_NET_BODY, "{" DEVICE "}");
}

static void expect_config(enum msg_restore restore, bool net)
{
	static const char want[] = ",\"net\":[{" DEVICE ",\"fds\":[-1]}]}";
	struct err e;
	char *text CLEANUP_FREE = ch_api_config(&spec, restore, &e);
	assert_non_null(text);
	const char *at = strstr(text, "\"net\"");
	if (!net)
		assert_null(at);
	else
		assert_string_equal(at - 1, want);
}

static void test_config(void **unused)
{
	struct err e;
	(void)unused;
	expect_config(MSG_RESTORE_NONE, true);
	expect_config(MSG_RESTORE_MAP, true);
	expect_config(MSG_RESTORE_ONDEMAND, true);
	/* vm.create drops descriptors and makes a tap of its own: nothing about nets in there. */
	char *text CLEANUP_FREE = ch_api_create_body(&spec, &e);
	assert_null(strstr(text, "net"));
	spec.network = (struct msg_network){0};
	expect_config(MSG_RESTORE_NONE, false);
}

static void test_send_net(void **unused)
{
	struct err e;
	(void)unused;
	assert_int_equal(ch_api_send_net(&c, tap, 1, NULL, &e), 0);
	expect("PUT /api/v1/vm.add-net ", CH_NET_BODY, true);
	/* CH would give it to the request before. */
	assert_int_equal(ch_api_send_net(&c, tap, 1, NULL, &e), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_says(e.text, "vm.add-net: its descriptor would go to an earlier request");
	char byte;
	assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(c.ride_fd, -1);
}

#define SOURCE "\"source_url\":\"file:///restore\""
#define FDS    ",\"net_fds\":[{\"id\":\"net0\",\"num_fds\":1}]"
#define DEMAND ",\"memory_restore_mode\":\"OnDemand\""

static void test_send_restore(void **unused)
{
	static const struct {
		enum msg_restore mode;
		bool with_tap;
		const char *body;
	} cases[] = {
		{MSG_RESTORE_MAP, false, "{" SOURCE "}"},
		{MSG_RESTORE_MAP, true, "{" SOURCE FDS "}"},
		{MSG_RESTORE_COPY, true, "{" SOURCE FDS "}"},
		{MSG_RESTORE_ONDEMAND, false, "{" SOURCE DEMAND "}"},
		{MSG_RESTORE_ONDEMAND, true, "{" SOURCE DEMAND FDS "}"},
	};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = cases[i].with_tap ? tap : -1;
		teardown(NULL);
		setup(NULL);
		assert_int_equal(ch_api_send_restore(&c, cases[i].mode, fd, 1, NULL, &e), 0);
		expect("PUT /api/v1/vm.restore ", cases[i].body, cases[i].with_tap);
		/* What is sent behind it brings no descriptor. */
		assert_int_equal(ch_api_send(&c, CH_API_RESUME, NULL, 1, NULL, &e), 0);
		expect("PUT /api/v1/vm.resume ", "", false);
		/* And with a tap it has to be alone. */
		assert_int_equal(ch_api_send_restore(&c, cases[i].mode, tap, 1, NULL, &e), -1);
		assert_says(e.text, "vm.restore: its descriptor");
	}
}

/* vm.info as v53 shows it after vm.add-net, with old replaced by new. */
static int check(const char *old, const char *new, struct err *e)
{
	static const char shown[] =
		",\"net\":[{\"id\":\"net0\",\"pci_segment\":0,\"mac\":\"02:c1:01:57:00:02\","
		"\"num_queues\":2,\"queue_size\":256,\"vhost_user\":false,\"vhost_mode\":"
		"\"Client\",\"fds\":[52],\"offload_tso\":true}]}}";
	char *sent CLEANUP_FREE = ch_api_create_body(&spec, e);
	char text[4096], changed[4096];
	assert_non_null(sent);
	snprintf(text, sizeof(text), "{\"config\":%.*s%s", (int)strlen(sent) - 1, sent, shown);
	const char *at = strstr(text, old);
	if (!at)
		fail_msg("no %s in %s", old, text);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, new,
		 at + strlen(old));
	struct http_response r = {.status = 200, .body = changed, .body_length = strlen(changed)};
	*e = (struct err){0};
	return ch_api_check_config(&r, &spec, e);
}

static void test_check_config(void **unused)
{
	static const char *const cases[][2] = {
		/* It would open a tap of its own. */
		{",\"fds\":[52]", ""},
		{"\"fds\":[52]", "\"fds\":null"},
		{"\"fds\":[52]", "\"fds\":[]"},
		{"\"fds\":[52]", "\"fds\":[52,53]"},
		{"\"fds\":[52]", "\"fds\":52"},
		{"\"fds\":[52]", "\"fds\":[52],\"tap\":\"vmtap0\""},
		{"\"vhost_user\":false", "\"vhost_user\":true"},
		{"\"id\":\"net0\"", "\"id\":\"net1\""},
		{"\"id\":\"net0\",", ""},
		{"57:00:02", "57:00:03"},
		{"\"mac\":", "\"mic\":"},
		{"\"num_queues\":2", "\"num_queues\":4"},
		{"\"num_queues\":2", "\"num_queues\":\"2\""},
		{"\"net\":[{", "\"net\":[{},{"},
		{"\"offload_tso\":true}]", "\"offload_tso\":true},{}]"},
		{"\"net\":[", "\"net\":[],\"nets\":["},
		{"\"net\":[", "\"net\":null,\"nets\":["},

		{"\"net\":[", "\"nets\":["},
	};
	struct err e;
	(void)unused;
	if (check("", "", &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(check("\"fds\":[52]", "\"fds\":[52],\"tap\":null", &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (check(cases[i][0], cases[i][1], &e) != -1)
			fail_msg("%s passed", cases[i][1]);
		assert_int_equal(e.kind, ERR_VMM);
		assert_says(e.text, "did not take net as asked");
	}
	/* Nobody asked for one. */
	spec.network = (struct msg_network){0};
	assert_int_equal(check("", "", &e), -1);
	assert_says(e.text, "did not take net as asked");
	assert_int_equal(check("\"net\":[", "\"nets\":[", &e), 0);
	assert_int_equal(check("\"net\":[", "\"net\":[],\"nets\":[", &e), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mac),		 TEST(test_config),	  TEST(test_send_net),
		TEST(test_send_restore), TEST(test_check_config),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
