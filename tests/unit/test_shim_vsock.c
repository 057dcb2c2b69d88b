// SPDX-License-Identifier: Apache-2.0
/*
 * A real spawner and its shims with the stand-in as VMM, over the wire: what CREATE waits for, what
 * CONNECT gives, and what a restored guest is told. Needs root and /dev/kvm's node.
 */
#include "unit.h"

#include "../../shim/spawner.h"
#include "msg.h"
#include "policy.h"
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define STANDIN "/tests/standin/cloud-hypervisor"
#define WAIT_MS 15000

static char key_now[NAME_KEY_SIZE]; /* of the shim that runs */
static char base[64], shim_path[512], standin_path[512];
static int base_fd = -1, spawner = -1, shim = -1;
static pid_t spawner_pid;
static uint32_t shim_pid;
static uint32_t number;
static struct msg record;
static struct err e;
static bool usable;

/* ------------------------------------------------------------------ the other end of the wire */

static int seal(void)
{
	struct policy p = {
		.magic = POLICY_MAGIC,
		.size = sizeof(p),
		.user_uid = 64101,
		.user_gid = 64101,
		.uid_base = 910000,
		.uid_count = 8,
		.max_sandboxes = 4,
		.console_bytes = 65536,
		.reboots = 3,
		.reboot_period_s = 10,
	};
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++)
		p.deadline_ms[i] = WAIT_MS;
	snprintf(p.state_dir, sizeof(p.state_dir), "%s/state", base);
	snprintf(p.run_dir, sizeof(p.run_dir), "%s/run", base);
	assert_true(str_copy(p.vmm_binary, sizeof(p.vmm_binary), standin_path));
	int fd = policy_seal(&p, &e);
	assert_true(fd >= 0);
	return fd;
}

static enum msg_result await(int link)
{
	struct pollfd p = {.fd = link, .events = POLLIN};
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	return msg_recv(link, &record, &e);
}

/* The next record that answers the request numbered id; what is told beside it is passed over. */
static void await_answer(int link, uint32_t id, enum msg_type type)
{
	for (;;) {
		assert_int_equal(await(link), MSG_GOT);
		if (record.header.id == id)
			break;
		msg_close_fds(&record);
	}
	if (record.header.type == (uint16_t)type)
		return;
	struct msg_error error = {0};
	if (msg_read_error(&record, &error, &e) < 0)
		fail_msg("%s, not %s", msg_type_name(record.header.type), msg_type_name(type));
	else
		fail_msg("not %s but: %s", msg_type_name(type), error.text);
}

static uint32_t send_to(int link, enum msg_type type, const void *body, size_t length)
{
	assert_int_equal(msg_send(link, type, ++number, body, length, -1, &e), 0);
	return number;
}
#define ASK(link, type, body) send_to(link, MSG_##type, body, sizeof(*(body)))

static void expect_error(uint32_t id, enum err_kind kind, const char *says)
{
	struct msg_error error;
	await_answer(shim, id, MSG_ERROR);
	assert_int_equal(msg_read_error(&record, &error, &e), 0);
	if (error.kind != (uint32_t)kind)
		fail_msg("kind %s: %s", err_kind_name(error.kind), error.text);
	assert_says(error.text, says);
}

static void start_shim(const char *key)
{
	struct msg_start start = {0};
	str_copy(key_now, sizeof(key_now), key);
	str_copy(start.key, sizeof(start.key), key);
	await_answer(spawner, ASK(spawner, START, &start), MSG_STARTED);
	assert_int_equal(record.fd_count, 1);
	shim = record.fds[0];
	struct msg_started started;
	assert_int_equal(msg_read_started(&record, &started, &e), 0);
	shim_pid = started.pid;
}

static void end_shim(void)
{
	struct msg_end end = {0};
	str_copy(end.key, sizeof(end.key), key_now);
	fd_close(&shim);
	key_now[0] = '\0';
	await_answer(spawner, ASK(spawner, END, &end), MSG_DONE);
}

static struct msg_create spec_of(const char *cmdline)
{
	struct msg_create spec = {
		.kernel = "tiny",
		.vcpus = 1,
		.memory_mib = 32,
		.max_vcpus = 1,
		.max_memory_mib = 32,
		.flags = MSG_CREATE_VSOCK,
	};
	str_copy(spec.cmdline, sizeof(spec.cmdline), cmdline);
	return spec;
}

static void wait_for(struct msg_create *spec, enum msg_wait_kind kind, uint32_t port,
		     const char *text, uint32_t ms)
{
	spec->wait = (struct msg_wait){.kind = kind, .port = port, .timeout_ms = ms};
	str_copy(spec->wait.text, sizeof(spec->wait.text), text);
}

static void await_created(uint32_t id, struct msg_created *created)
{
	await_answer(shim, id, MSG_CREATED);
	assert_int_equal(msg_read_created(&record, created, &e), 0);
}

static int connected(uint32_t port)
{
	const struct msg_connect ask = {.port = port, .timeout_ms = 3000};
	struct msg_connected body;
	await_answer(shim, ASK(shim, CONNECT, &ask), MSG_CONNECTED);
	assert_int_equal(msg_read_connected(&record, &body, &e), 0);
	assert_int_equal(record.fd_count, 1);
	return record.fds[0];
}

/* ------------------------------------------------------------------ around the tests */

static void make_dirs(void)
{
	static const char *const dirs[] = {
		"state",
		"state/images",
		"state/images/kernels",
		"state/images/initramfs",
		"state/templates",
		"state/sandboxes",
		"run",
		"run/shims",
		"run/new",
	};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		assert_int_equal(mkdirat(base_fd, dirs[i], 0755), 0);
	unit_write(base_fd, "state/images/kernels/tiny", "\177ELF, as far as anybody looks\n");
	assert_int_equal(fchmodat(base_fd, "state/images/kernels/tiny", 0444, 0), 0);
}

static void start_spawner(void)
{
	int pair[2], policy = seal();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	spawner_pid = fork();
	assert_true(spawner_pid >= 0);
	if (spawner_pid == 0) {
		int link = fcntl(pair[1], F_DUPFD_CLOEXEC, 20);
		int sealed = fcntl(policy, F_DUPFD_CLOEXEC, 20);
		dup2(link, SPAWNER_LINK_FD);
		dup2(sealed, SPAWNER_POLICY_FD);
		execl(shim_path, "cloister-shim", "spawn", (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	close(policy);
	spawner = pair[0];
	const struct msg_hello hello = {.build = "test"};
	await_answer(spawner, ASK(spawner, HELLO, &hello), MSG_HOST);
}

static int group_setup(void **unused)
{
	char *end;
	ssize_t n = readlink("/proc/self/exe", shim_path, sizeof(shim_path) - 64);
	(void)unused;
	assert_true(n > 0);
	shim_path[n] = '\0';
	for (int up = 0; up < 3 && (end = strrchr(shim_path, '/')); up++)
		*end = '\0';
	snprintf(standin_path, sizeof(standin_path), "%.400s" STANDIN, shim_path);
	strncat(shim_path, "/cloister-shim", sizeof(shim_path) - strlen(shim_path) - 1);
	usable = geteuid() == 0 && access("/dev/kvm", F_OK) == 0 && !access(standin_path, X_OK);
	if (!usable) {
		print_message("skipped: takes root, /dev/kvm and the stand-in\n");
		return 0;
	}
	base_fd = unit_make_dir(base);
	assert_int_equal(chmod(base, 0755), 0);
	make_dirs();
	start_spawner();
	return 0;
}

/* A test that failed leaves its shim behind. */
static int teardown(void **unused)
{
	(void)unused;
	if (key_now[0])
		end_shim();
	return 0;
}

static int group_teardown(void **unused)
{
	(void)unused;
	if (!usable)
		return 0;
	fd_close(&spawner);
	waitpid(spawner_pid, NULL, 0);
	fd_close(&base_fd);
	unit_remove_dir(base);
	return 0;
}

#define NEEDS_ALL()                                                                                \
	do {                                                                                       \
		(void)unused;                                                                      \
		if (!usable)                                                                       \
			skip();                                                                    \
	} while (0)

/* ------------------------------------------------------------------ readiness */

static void test_answered_when_it_listens(void **unused)
{
	struct msg_create spec = spec_of("tick=0 vsock=400");
	struct msg_created created;
	NEEDS_ALL();
	wait_for(&spec, MSG_WAIT_VSOCK, 1024, "", 10000);
	start_shim("t:ready");
	await_created(ASK(shim, CREATE, &spec), &created);
	assert_true(created.timings.ready_us >= 300000 && created.timings.ready_us < 3000000);
	/* STATUS does not know the wait any more. */
	const struct msg_hello hello = {.build = "test"};
	struct msg_status status;
	await_answer(shim, ASK(shim, HELLO, &hello), MSG_STATUS);
	assert_int_equal(msg_read_status(&record, &status, &e), 0);
	assert_int_equal(status.phase, MSG_PHASE_RUNNING);
	assert_int_equal(status.spec.wait.kind, MSG_WAIT_NONE);
	assert_int_equal(status.created.timings.ready_us, created.timings.ready_us);
	end_shim();
}

static void test_answered_when_it_prints(void **unused)
{
	struct msg_create spec = spec_of("tick=20");
	struct msg_created created;
	NEEDS_ALL();
	wait_for(&spec, MSG_WAIT_CONSOLE, 0, "COUNT 15", 10000);
	start_shim("t:prints");
	await_created(ASK(shim, CREATE, &spec), &created);
	assert_true(created.timings.ready_us >= 200000);
	/* What had come before anybody waited counts too. */
	end_shim();
	wait_for(&spec, MSG_WAIT_CONSOLE, 0, "GUEST UP", 10000);
	start_shim("t:prints");
	await_created(ASK(shim, CREATE, &spec), &created);
	end_shim();
}

static void test_never_ready(void **unused)
{
	struct msg_create spec = spec_of("tick=0 do=vsock_off");
	NEEDS_ALL();
	wait_for(&spec, MSG_WAIT_VSOCK, 1024, "", 500);
	start_shim("t:never");
	int64_t begun = clock_us();
	expect_error(ASK(shim, CREATE, &spec), ERR_DEADLINE,
		     "not ready within 500 ms (vsock port 1024); seen last: nothing in the guest");
	assert_true(clock_us() - begun >= 500000);
	/* The VM has gone, and the shim with it. */
	assert_int_equal(await(shim), MSG_EOF);
	end_shim();
}

static void test_nothing_to_wait_for(void **unused)
{
	struct msg_create spec = spec_of("tick=0");
	NEEDS_ALL();
	spec.flags = 0;
	wait_for(&spec, MSG_WAIT_VSOCK, 1024, "", 500);
	start_shim("t:none");
	expect_error(ASK(shim, CREATE, &spec), ERR_INVALID, "has no vsock");
	end_shim();
	wait_for(&spec, MSG_WAIT_TCP, 80, "", 500);
	start_shim("t:none");
	expect_error(ASK(shim, CREATE, &spec), ERR_INVALID, "has no network");
	end_shim();
}

/* While it waits: its console can be read, other requests are refused, it can be ended. */
static void test_meanwhile(void **unused)
{
	struct msg_create spec = spec_of("tick=20");
	const struct msg_console_read read = {.offset = 0, .wait = 1};
	const struct msg_connect ask = {.port = 1024, .timeout_ms = 1000};
	const struct msg_pause pause = {0};
	const struct msg_kill kill = {0};
	static struct msg_console_data data;
	NEEDS_ALL();
	wait_for(&spec, MSG_WAIT_CONSOLE, 0, "never said", 60000);
	start_shim("t:mean");
	uint32_t create = ASK(shim, CREATE, &spec);
	await_answer(shim, ASK(shim, CONSOLE_READ, &read), MSG_CONSOLE_DATA);
	assert_int_equal(msg_read_console_data(&record, &data, &e), 0);
	assert_memory_equal(data.data, "GUEST UP", 8);
	expect_error(ASK(shim, CONNECT, &ask), ERR_STATE, "while the sandbox is starting");
	expect_error(ASK(shim, PAUSE, &pause), ERR_STATE, "while the sandbox is starting");
	ASK(shim, KILL, &kill);
	expect_error(create, ERR_STATE, "destroyed while it was being created");
	end_shim();
}

static void test_ends_before_it_is_ready(void **unused)
{
	static const struct {
		const char *cmdline, *says;
	} ends[] = {
		{"tick=0 standin:at=150:poweroff", "powered off before the guest was ready"},
		{"tick=0 standin:at=150:signal:9", "signal 9 (Killed) before the guest was ready"},
		{"tick=0 standin:at=150:panic", "panicked (pvpanic)"},
	};
	NEEDS_ALL();
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct msg_create spec = spec_of(ends[i].cmdline);
		wait_for(&spec, MSG_WAIT_CONSOLE, 0, "never said", 60000);
		start_shim("t:ends");
		expect_error(ASK(shim, CREATE, &spec), ERR_VMM, ends[i].says);
		end_shim();
	}
}

/* ------------------------------------------------------------------ connections */

/* Clock ticks of processor time that the shim has used. */
static unsigned long shim_ticks(void)
{
	char path[64], text[1024] = "";
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof(path), "/proc/%u/stat", shim_pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	assert_int_equal(sscanf(strrchr(text, ')'),
				") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
				&system),
			 2);
	return user + system;
}

static void test_connect(void **unused)
{
	static const char get[] = "GET /health HTTP/1.1\r\n\r\n";
	struct msg_create spec = spec_of("tick=0");
	struct msg_connect ask = {.port = 10990, .timeout_ms = 3000};
	const struct msg_pause pause = {0};
	const struct msg_resume resume = {0};
	struct msg_created created;
	char got[256] = "";
	NEEDS_ALL();
	start_shim("t:conn");
	await_created(ASK(shim, CREATE, &spec), &created);
	assert_int_equal(created.timings.ready_us, 0);
	int fd = connected(1024);
	int other = connected(1024); /* at the same time */
	assert_int_equal(send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL), sizeof(get) - 1);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_true(recv(fd, got, sizeof(got) - 1, 0) > 0);
	assert_says(got, "HTTP/1.0 200");
	/* The guest has closed it; nobody but us, who hold it, is to be woken by that. */
	unsigned long ticks = shim_ticks();
	usleep(300000);
	assert_true(shim_ticks() - ticks <= 5);
	close(fd);
	close(other);
	expect_error(ASK(shim, CONNECT, &ask), ERR_UNAVAILABLE,
		     "vsock port 10990: nothing in the guest takes a connection");
	/* Eight at once, all of a guest that stands still; the ninth is one too many. */
	uint32_t ids[8];
	ask = (struct msg_connect){.port = 1024, .timeout_ms = 400};
	uint32_t paused = ASK(shim, PAUSE, &pause);
	await_answer(shim, paused, MSG_DONE);
	expect_error(ASK(shim, CONNECT, &ask), ERR_STATE, "while the sandbox is paused");
	await_answer(shim, ASK(shim, RESUME, &resume), MSG_DONE);
	const struct msg_console_write hang = {.length = 5, .data = "hang\n"};
	await_answer(shim,
		     send_to(shim, MSG_CONSOLE_WRITE, &hang,
			     offsetof(struct msg_console_write, data) + 5),
		     MSG_DONE);
	usleep(100000);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		ids[i] = ASK(shim, CONNECT, &ask);
	expect_error(ASK(shim, CONNECT, &ask), ERR_QUOTA, "8 connections");
	/* All run out in their time, in any order. */
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct msg_error error;
		do
			assert_int_equal(await(shim), MSG_GOT);
		while (record.header.id == 0);
		assert_int_equal(msg_read_error(&record, &error, &e), 0);
		assert_int_equal(error.kind, ERR_DEADLINE);
		assert_in_range(record.header.id, ids[0], ids[7]);
	}
	/* And the VMM's end ends what is under way. */
	ask.timeout_ms = 60000;
	const struct msg_kill kill = {0};
	uint32_t id = ASK(shim, CONNECT, &ask);
	ASK(shim, KILL, &kill);
	expect_error(id, ERR_VMM, "ended as asked");
	end_shim();
	/* None was asked for. */
	spec.flags = 0;
	start_shim("t:conn");
	await_created(ASK(shim, CREATE, &spec), &created);
	expect_error(ASK(shim, CONNECT, &ask), ERR_STATE, "has no vsock");
	end_shim();
}

/* ------------------------------------------------------------------ restored */

static void make_template(void)
{
	struct msg_create spec = spec_of("tick=0");
	const struct msg_snapshot ask = {.kind = MSG_SNAPSHOT_TEMPLATE, .template = "base"};
	struct msg_snapshotted done;
	struct msg_created created;
	wait_for(&spec, MSG_WAIT_VSOCK, 1024, "", 10000);
	start_shim("t:parent");
	await_created(ASK(shim, CREATE, &spec), &created);
	await_answer(shim, ASK(shim, SNAPSHOT, &ask), MSG_SNAPSHOTTED);
	assert_int_equal(msg_read_snapshotted(&record, &done, &e), 0);
	assert_int_equal(done.set.spec.flags, MSG_CREATE_VSOCK);
	assert_int_equal(done.set.spec.wait.kind, MSG_WAIT_NONE);
	end_shim();
}

/* The line that the pretend guest's agent was told. */
static void restore(const char *key, char line[600])
{
	struct msg_create spec = spec_of("tick=0");
	const struct msg_console_read read = {.offset = 4096, .tail = 1};
	static struct msg_console_data data;
	struct msg_created created;
	/* The set says what it has. */
	spec.flags = 0;
	spec.source = MSG_SOURCE_TEMPLATE;
	spec.restore = MSG_RESTORE_MAP;
	str_copy(spec.template, sizeof(spec.template), "t:base");
	wait_for(&spec, MSG_WAIT_CONSOLE, 0, "\"}", 5000);
	start_shim(key);
	await_created(ASK(shim, CREATE, &spec), &created);
	assert_true(created.timings.ready_us > 0);
	await_answer(shim, ASK(shim, CONSOLE_READ, &read), MSG_CONSOLE_DATA);
	assert_int_equal(msg_read_console_data(&record, &data, &e), 0);
	snprintf(line, 600, "%.*s", (int)data.length, data.data);
	close(connected(1024));
	end_shim();
}

static void test_restored_is_told(void **unused)
{
	char one[600], two[600];
	const char *mark = "\"generation\":\"";
	NEEDS_ALL();
	make_template();
	restore("t:one", one);
	restore("t:two", two);
	assert_says(one, "TOLD {\"cloister\":1,\"event\":\"restored\",\"id\":\"one\",");
	assert_says(two, "\"id\":\"two\",");
	assert_says(one, mark);
	assert_says(two, mark);
	/* No two of them are the same. */
	assert_memory_not_equal(strstr(one, mark), strstr(two, mark), strlen(mark) + 32);
	assert_string_not_equal(strstr(one, "\"entropy\""), strstr(two, "\"entropy\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_answered_when_it_listens, teardown),
		cmocka_unit_test_teardown(test_answered_when_it_prints, teardown),
		cmocka_unit_test_teardown(test_never_ready, teardown),
		cmocka_unit_test_teardown(test_nothing_to_wait_for, teardown),
		cmocka_unit_test_teardown(test_meanwhile, teardown),
		cmocka_unit_test_teardown(test_ends_before_it_is_ready, teardown),
		cmocka_unit_test_teardown(test_connect, teardown),
		cmocka_unit_test_teardown(test_restored_is_told, teardown),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
