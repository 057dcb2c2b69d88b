// SPDX-License-Identifier: Apache-2.0
/*
 * A supervisor that has been taken over, against the real spawner: each record that no honest one
 * sends closes the channel (the spawner ends, saying why), and does nothing else. Needs root.
 */
#include "../../shim/spawner.h"
#include "msg.h"
#include "policy.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];
static char shim_path[512];

struct spawner {
	pid_t pid;
	int link;
};

static void make_dir(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int make_policy(void)
{
	struct policy p = {
		.magic = POLICY_MAGIC,
		.size = sizeof(p),
		.user_uid = 64101,
		.user_gid = 64101,
		.uid_base = 900000,
		.uid_count = 4,
		.max_sandboxes = 2,
		.console_bytes = 4096,
		.reboots = 1,
		.reboot_period_s = 1,
	};
	struct err e;
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++)
		p.deadline_ms[i] = 2000;
	snprintf(p.state_dir, sizeof(p.state_dir), "%s/state", base);
	snprintf(p.run_dir, sizeof(p.run_dir), "%s/run", base);
	snprintf(p.vmm_binary, sizeof(p.vmm_binary), "/bin/true");
	int fd = policy_seal(&p, &e);
	assert_true(fd >= 0);
	return fd;
}

static void start(struct spawner *s)
{
	int pair[2];
	int policy = make_policy();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		int link = fcntl(pair[1], F_DUPFD_CLOEXEC, 20);
		int sealed = fcntl(policy, F_DUPFD_CLOEXEC, 20);
		dup2(link, SPAWNER_LINK_FD);
		dup2(sealed, SPAWNER_POLICY_FD);
		execl(shim_path, "cloister-shim", "spawn", (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	close(policy);
	s->link = pair[0];
}

/* Waits for one record. */
static enum msg_result await(const struct spawner *s, struct msg *m, struct err *e)
{
	struct pollfd p = {.fd = s->link, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 10000), 1);
	return msg_recv(s->link, m, e);
}

/* Waits for the channel's end; records before it are passed over. Gives the exit status. */
static int await_end(struct spawner *s)
{
	static struct msg m;
	struct err e;
	int status;
	while (await(s, &m, &e) == MSG_GOT)
		msg_close_fds(&m);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	close(s->link);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_error(const struct spawner *s, uint32_t id, enum err_kind kind)
{
	static struct msg m;
	struct msg_error body;
	struct err e;
	assert_int_equal(await(s, &m, &e), MSG_GOT);
	assert_int_equal(m.header.id, id);
	assert_int_equal(msg_read_error(&m, &body, &e), 0);
	assert_int_equal(body.kind, kind);
}

static void send_raw(const struct spawner *s, const struct msg_header *h, const void *body,
		     size_t len)
{
	unsigned char record[8192];
	memcpy(record, h, sizeof(*h));
	memcpy(record + sizeof(*h), body, len);
	assert_int_equal(send(s->link, record, sizeof(*h) + len, MSG_NOSIGNAL), sizeof(*h) + len);
}

static struct msg_header header(enum msg_type type, size_t body)
{
	return (struct msg_header){
		.version = MSG_VERSION,
		.type = (uint16_t)type,
		.length = (uint32_t)(sizeof(struct msg_header) + body),
		.id = 7,
	};
}

/* ------------------------------------------------------------------ honest */

static void test_hello_says_why_there_is_no_version(void **state)
{
	struct spawner s;
	struct err e;
	struct msg_hello hello = {.build = "test"};
	(void)state;
	start(&s);
	assert_int_equal(msg_send(s.link, MSG_HELLO, 1, &hello, sizeof(hello), -1, &e), 0);
	expect_error(&s, 1, ERR_VMM); /* /bin/true is no Cloud Hypervisor */
	shutdown(s.link, SHUT_RDWR);
	assert_int_equal(await_end(&s), 0);
}

static void test_start_and_end_of_a_shim(void **state)
{
	static struct msg m;
	struct spawner s;
	struct err e;
	struct msg_start ask = {.key = "t:a"};
	struct msg_end end = {.key = "t:a"};
	struct msg_started started;
	struct msg_gone gone;
	(void)state;
	start(&s);
	assert_int_equal(msg_send(s.link, MSG_START, 2, &ask, sizeof(ask), -1, &e), 0);
	assert_int_equal(await(&s, &m, &e), MSG_GOT);
	assert_int_equal(msg_read_started(&m, &started, &e), 0);
	assert_int_equal(m.fd_count, 1);
	int link = m.fds[0];
	/* The same key again; and what is alive is not to be removed. */
	assert_int_equal(msg_send(s.link, MSG_START, 3, &ask, sizeof(ask), -1, &e), 0);
	expect_error(&s, 3, ERR_STATE);
	struct msg_remove remove = {.kind = MSG_REMOVE_SOCKET, .key = "t:a"};
	assert_int_equal(msg_send(s.link, MSG_REMOVE, 4, &remove, sizeof(remove), -1, &e), 0);
	expect_error(&s, 4, ERR_STATE);
	assert_int_equal(msg_send(s.link, MSG_END, 5, &end, sizeof(end), -1, &e), 0);
	assert_int_equal(await(&s, &m, &e), MSG_GOT);
	assert_int_equal(msg_read_gone(&m, &gone, &e), 0);
	assert_int_equal(gone.clear, 1);
	assert_int_equal(gone.signal, SIGKILL);
	assert_int_equal(await(&s, &m, &e), MSG_GOT);
	assert_int_equal(m.header.type, MSG_DONE);
	assert_int_equal(m.header.id, 5);
	close(link);
	/* What is not there is as good as ended. */
	assert_int_equal(msg_send(s.link, MSG_END, 6, &end, sizeof(end), -1, &e), 0);
	assert_int_equal(await(&s, &m, &e), MSG_GOT);
	assert_int_equal(m.header.type, MSG_GONE);
	assert_int_equal(await(&s, &m, &e), MSG_GOT);
	assert_int_equal(m.header.type, MSG_DONE);
	shutdown(s.link, SHUT_RDWR);
	assert_int_equal(await_end(&s), 0);
}

static void test_flood_of_starts_is_bounded(void **state)
{
	static struct msg m;
	struct spawner s;
	struct err e;
	int links[20];
	unsigned started = 0, refused = 0;
	(void)state;
	start(&s);
	for (uint32_t i = 0; i < ARRAY_SIZE(links); i++) {
		struct msg_start ask = {0};
		snprintf(ask.key, sizeof(ask.key), "t:n%u", i);
		assert_int_equal(msg_send(s.link, MSG_START, i + 1, &ask, sizeof(ask), -1, &e), 0);
		assert_int_equal(await(&s, &m, &e), MSG_GOT);
		if (m.header.type == MSG_STARTED)
			links[started++] = m.fds[0];
		else
			refused++;
	}
	/* max_sandboxes is 2; the links are open, so the shims live. */
	assert_int_equal(started, 2);
	assert_int_equal(refused, 18);
	for (unsigned i = 0; i < started; i++)
		close(links[i]);
	shutdown(s.link, SHUT_RDWR);
	assert_int_equal(await_end(&s), 0);
}

/* ------------------------------------------------------------------ hostile */

static void expect_closed(const struct msg_header *h, const void *body, size_t len)
{
	struct spawner s;
	start(&s);
	send_raw(&s, h, body, len);
	assert_int_equal(await_end(&s), 1);
}

static void test_malformed_records_close_the_channel(void **state)
{
	static const char *const bad_keys[] = {"",	"a",	   "..:x",  "a:..",  "a/b:c",
					       "a:b:c", "A:b",	   "a:b c", "a:-b",  ":b",
					       "a:",	"a:b\xff", "a:.b",  "a:b..c"};
	struct msg_start body = {.key = "t:a"};
	(void)state;
	struct msg_header h = header(MSG_START, sizeof(body));
	h.length++;
	expect_closed(&h, &body, sizeof(body));
	h = header(MSG_START, sizeof(body) - 1);
	expect_closed(&h, &body, sizeof(body) - 1);
	h = header(MSG_START, sizeof(body));
	h.zero = 1;
	expect_closed(&h, &body, sizeof(body));
	h = header(MSG_START, sizeof(body));
	h.id = 0;
	expect_closed(&h, &body, sizeof(body));
	h = header((enum msg_type)999, sizeof(body));
	expect_closed(&h, &body, sizeof(body));
	h = header(MSG_KILL, sizeof(struct msg_kill));
	expect_closed(&h, &(struct msg_kill){0}, sizeof(struct msg_kill));
	h = header(MSG_START, sizeof(body));
	for (size_t i = 0; i < ARRAY_SIZE(bad_keys); i++) {
		struct msg_start bad = {0};
		snprintf(bad.key, sizeof(bad.key), "%s", bad_keys[i]);
		expect_closed(&h, &bad, sizeof(bad));
	}
	memset(body.key, 'a', sizeof(body.key));
	body.key[3] = ':';
	expect_closed(&h, &body, sizeof(body));
	struct msg_remove remove = {.kind = 77, .key = "t:a"};
	h = header(MSG_REMOVE, sizeof(remove));
	expect_closed(&h, &remove, sizeof(remove));
}

static void test_descriptors_are_refused(void **state)
{
	struct spawner s;
	struct err e;
	struct msg_start ask = {.key = "t:a"};
	(void)state;
	start(&s);
	assert_int_equal(msg_send(s.link, MSG_START, 1, &ask, sizeof(ask), STDIN_FILENO, &e), 0);
	assert_int_equal(await_end(&s), 1);
}

static void test_other_version_is_answered_as_such(void **state)
{
	struct spawner s;
	struct msg_hello hello = {.build = "new"};
	struct msg_header h = header(MSG_HELLO, sizeof(hello));
	(void)state;
	h.version = 9;
	start(&s);
	send_raw(&s, &h, &hello, sizeof(hello));
	expect_error(&s, 7, ERR_VERSION);
	assert_int_equal(await_end(&s), 1);
}

/* ------------------------------------------------------------------ frame */

static int set_up(void **state)
{
	ssize_t n = readlink("/proc/self/exe", shim_path, sizeof(shim_path) - 1);
	(void)state;
	if (n <= 0)
		return -1;
	/* This test lies in BUILD/tests/unit. */
	for (int i = 0; i < 3; i++)
		*strrchr(shim_path, '/') = '\0';
	strncat(shim_path, "/cloister-shim", sizeof(shim_path) - strlen(shim_path) - 1);
	snprintf(base, sizeof(base), "/var/tmp/cloister-unit-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	make_dir("state");
	make_dir("state/templates");
	make_dir("state/sandboxes");
	make_dir("run");
	make_dir("run/shims");
	make_dir("run/new");
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = {
		"/run/uids",	    "/run/new",		"/run/shims", "/run",
		"/state/templates", "/state/sandboxes", "/state",     ""};
	char path[128];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s%s", base, names[i]);
		if (remove(path) < 0 && errno != ENOENT)
			fprintf(stderr, "left behind: %s: %s\n", path, strerrordesc_np(errno));
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello_says_why_there_is_no_version),
		cmocka_unit_test(test_start_and_end_of_a_shim),
		cmocka_unit_test(test_flood_of_starts_is_bounded),
		cmocka_unit_test(test_malformed_records_close_the_channel),
		cmocka_unit_test(test_descriptors_are_refused),
		cmocka_unit_test(test_other_version_is_answered_as_such),
	};
	if (geteuid() != 0) {
		const char *must = getenv("CLOISTER_MUST");
		printf("left out: the spawner's wire tests: not run as root\n");
		return must && strstr(must, "root") ? 1 : 0;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
