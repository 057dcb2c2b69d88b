// SPDX-License-Identifier: Apache-2.0
/* shim/debug and readback: what a shim tells of itself, from its first moment to full rings. */
#include "unit.h"

#include "debug.h"
#include "ops.h"
#include "output.h"
#include "readback.h"
#include "util.h"

#include <sys/socket.h>
#include <sys/stat.h>

static struct shim s;
static struct policy policy;
static struct msg_debug_data *data;
static struct err e;
static int supervisor;

static int setup(void **unused)
{
	int link[2], events[2];
	(void)unused;
	e = (struct err){0};
	data = malloc(sizeof(*data));
	s = (struct shim){
		.policy = &policy,
		.key = "acme:web",
		.started_us = clock_us(),
		.listener = -1,
		.jail = JAIL_INIT,
		.vmm = {.pid = -1, .pidfd = -1, .death_pipe = -1},
		.api = {.fd = -1, .broken = true},
		.cgroup_fd = -1,
		.sandbox_fd = -1,
		.wake_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.event_fd = -1,
		.epoll_fd = -1,
		.greeted = true,
		.ending_next_us = INT64_MAX,
		.readback = {.due_us = INT64_MAX},
		.snapshot = {.staging = SETS_STAGING_INIT, .from_fd = -1, .to_fd = -1},
	};
	disks_init(&s.disks);
	s.slot.host_ns = s.slot.tap_fd = -1;
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		s.snapshot.disk_fd[i] = -1;
	if (!data ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, link) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, events) < 0)
		return -1;
	supervisor = link[1];
	chan_open(&s.link, link[0], 512u * 1024);
	s.event_fd = events[0];
	s.out_fd = events[1]; /* what the VMM writes its events to */
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	confine_report_close(&s.readback.report);
	chan_close(&s.link);
	fd_close(&supervisor);
	fd_close(&s.event_fd);
	fd_close(&s.out_fd);
	fd_close(&s.cgroup_fd);
	fd_close(&s.jail.proc_fd);
	free(data);
	return 0;
}

static const struct msg_debug_head *fill(void)
{
	debug_fill(&s, data);
	if (msg_write_debug_data(data, &e) < 0)
		fail_msg("%s", e.text);
	return &data->head;
}

static void test_first_moment(void **unused)
{
	(void)unused;
	const struct msg_debug_head *h = fill();
	assert_int_equal(h->shim_pid, getpid());
	assert_int_equal(h->vmm_pid, 0);
	assert_int_equal(h->phase, MSG_PHASE_NEW);
	assert_int_equal(h->op, MSG_NONE);
	assert_int_equal(h->confine.checks, 0);
	assert_int_equal(h->has_cgroup, 0);
	assert_int_equal(h->ended, 0);
	/* Without /proc it tells what it knows itself. */
	bool found = false;
	for (uint32_t i = 0; i < h->fd_count; i++)
		found = found || strcmp(h->fds[i].what, "supervisor") == 0;
	assert_true(found);
}

static void test_ages(void **unused)
{
	(void)unused;
	s.phase = MSG_PHASE_STARTING;
	debug_note_phase(&s, clock_us() - 3000000);
	s.op = MSG_CREATE;
	s.started_us = clock_us() - 4000000;
	const struct msg_debug_head *h = fill();
	assert_true(h->phase_us >= 3000000 && h->phase_us < 60000000);
	assert_true(h->op_us >= 4000000 && h->age_us >= 4000000);
	s.phase = MSG_PHASE_PAUSING;
	s.op = MSG_PAUSE;
	s.op_started_us = clock_us();
	h = fill();
	assert_true(h->phase_us < 3000000);
	assert_true(h->op_us < 3000000);
	assert_int_equal(h->op, MSG_PAUSE);
}

/* What is open and of no name is shown as such. */
static void test_descriptors(void **unused)
{
	(void)unused;
	s.jail.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int leaked = dup(supervisor);
	const struct msg_debug_head *h = fill();
	unsigned seen = 0;
	for (uint32_t i = 0; i < h->fd_count; i++) {
		int fd = (int)h->fds[i].fd;
		assert_true(fcntl(fd, F_GETFD) >= 0);
		if (fd == leaked)
			assert_string_equal(h->fds[i].what, "?");
		else if (fd == s.link.fd)
			assert_string_equal(h->fds[i].what, "supervisor");
		else if (fd == s.event_fd)
			assert_string_equal(h->fds[i].what, "vmm-events");
		else
			continue;
		seen++;
	}
	assert_int_equal(seen, 3);
	close(leaked);
}

static void say_event(const char *text)
{
	assert_int_equal(send(s.out_fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	output_events(&s);
}

static void test_events(void **unused)
{
	char text[256];
	(void)unused;
	for (int i = 0; i < MSG_DEBUG_EVENTS_MAX + 2; i++) {
		snprintf(text, sizeof(text),
			 "{\"timestamp\":{},\"source\":\"vm\",\"event\":\"n%d\\u001b[2Ja long "
			 "name\",\"properties\":null}",
			 i);
		say_event(text);
	}
	say_event("no JSON");
	const struct msg_debug_head *h = fill();
	assert_int_equal(h->event_records, MSG_DEBUG_EVENTS_MAX + 2);
	assert_int_equal(h->event_dropped, 1);
	assert_int_equal(h->event_count, MSG_DEBUG_EVENTS_MAX);
	assert_memory_equal(h->events[0].name, "vm/n2", 5);
	assert_memory_equal(h->events[MSG_DEBUG_EVENTS_MAX - 1].name, "vm/n17", 6);
}

static void test_cgroup(void **unused)
{
	char path[64];
	(void)unused;
	s.cgroup_fd = unit_make_dir(path);
	unit_write(s.cgroup_fd, "memory.current", "4096\n");
	unit_write(s.cgroup_fd, "memory.max", "max\n");
	unit_write(s.cgroup_fd, "memory.events", "low 9\noom 2\noom_kill 1\noom_group_kill 0\n");
	unit_write(s.cgroup_fd, "cpu.stat", "usage_usec 77\nuser_usec 5\nthrottled_usec 6\n");
	const struct msg_cgroup *c = &fill()->cgroup;
	assert_int_equal(c->memory_current, 4096);
	assert_true(c->memory_max == UINT64_MAX);
	assert_int_equal(c->memory_oom, 2);
	assert_int_equal(c->memory_oom_kill, 1);
	assert_int_equal(c->cpu_us, 77);
	assert_int_equal(c->cpu_throttled_us, 6);
	assert_true(c->pids_current == UINT64_MAX && c->pids_max == UINT64_MAX);
	unit_remove_dir(path);
}

/* With everything full it is still one record, and it arrives. */
static void test_full(void **unused)
{
	static struct msg m;
	(void)unused;
	for (int i = 0; i < 200; i++) {
		struct msg_exchange x;
		http_trace_begin(&x, "PUT", "/api/v1/vm.power-button");
		http_trace_end(&s.trace, &x, INT64_MAX, NULL, false, NULL);
	}
	struct confine_report *r = &s.readback.report;
	r->threads = calloc(MSG_THREADS_MAX, sizeof(*r->threads));
	assert_non_null(r->threads);
	r->room = r->sum.thread_count = MSG_THREADS_MAX;
	for (uint32_t i = 0; i < MSG_THREADS_MAX; i++)
		r->threads[i].tid = i + 1;
	r->sum.checks = 1;
	r->sum.after = MSG_CONFINE_START;
	for (unsigned i = 0; i < SHIM_ERROR_LINES + 2u; i++) {
		memset(s.errors.errors[i % SHIM_ERROR_LINES], 'a' + (int)i, SHIM_ERROR_MAX - 1);
		s.errors.error_count++;
	}
	debug_answer(&s, 9);
	assert_int_equal(msg_recv(supervisor, &m, &e), MSG_GOT);
	assert_int_equal(m.header.id, 9);
	if (msg_read_debug_data(&m, data, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(data->head.exchange_count, MSG_EXCHANGES_MAX);
	assert_int_equal(data->head.exchange_total, 200);
	assert_int_equal(data->exchanges[0].took_us, UINT32_MAX);
	assert_int_equal(data->head.line_count, SHIM_ERROR_LINES);
	assert_int_equal(data->head.lines[0][0], 'c');
	assert_int_equal(data->threads[MSG_THREADS_MAX - 1].tid, MSG_THREADS_MAX);
}

/*
 * Many large answers at once, of which the supervisor reads none before it has asked for all: they
 * wait, the link stays.
 */
static void test_back_pressure(void **unused)
{
	static struct msg m;
	const struct msg_debug ask = {0};
	unsigned asked = 0, answers = 0;
	(void)unused;
	while (asked < 60 &&
	       msg_send(supervisor, MSG_DEBUG, asked + 1, &ask, sizeof(ask), -1, &e) == 0) {
		asked++;
		ops_receive(&s);
	}
	assert_int_equal(asked, 60);
	for (int i = 0; i < 1000 && answers < asked; i++) {
		ops_receive(&s);
		assert_true(s.link.fd >= 0);
		assert_true(s.link.queued_bytes <= s.link.max_bytes);
		if (msg_recv(supervisor, &m, &e) == MSG_GOT) {
			assert_int_equal(m.header.type, MSG_DEBUG_DATA);
			assert_int_equal(m.header.id, ++answers);
		}
		assert_int_equal(chan_flush(&s.link, &e), 0);
	}
	assert_int_equal(answers, asked);
}

/* ------------------------------------------------------------------ when it is read back */

static int fake_proc(char path[64])
{
	int fake = unit_make_dir(path);
	mkdirat(fake, "7", 0755);
	mkdirat(fake, "7/task", 0755);
	mkdirat(fake, "7/task/7", 0755);
	unit_write(fake, "7/task/7/status",
		   "Name:\tvmm\nState:\tS\nUid:\t5\t5\t5\t5\nGid:\t5\t5\t5\t5\nGroups:\t \n"
		   "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
		   "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"
		   "CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t9\n");
	unit_write(fake, "7/limits",
		   "Max file size 1 1 bytes\nMax core file size 0 0 bytes\nMax processes 1 1\n"
		   "Max open files 1 1\nMax locked memory 0 0\nMax address space 1 1\n");
	return fake;
}

static void start_vmm(char path[64])
{
	s.jail.proc_fd = fake_proc(path);
	s.phase = MSG_PHASE_RUNNING;
	s.readback.want = (struct confine_want){.pid = 7, .uid = 5, .gid = 5};
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++)
		s.readback.want.limits[i] = 1;
}

static void test_readback(void **unused)
{
	char path[64];
	(void)unused;
	start_vmm(path);
	/* Nothing is due before the guest runs. */
	readback_soon(&s, MSG_CONFINE_DEVICE);
	assert_true(readback_step(&s, clock_us()) == INT64_MAX);
	if (readback_check(&s, MSG_CONFINE_START, &e) != 0)
		fail_msg("%s", e.text);
	const struct msg_confine *c = &fill()->confine;
	assert_int_equal(c->checks, 1);
	assert_int_equal(c->good, 1);
	assert_int_equal(c->after, MSG_CONFINE_START);
	assert_string_equal(data->threads[0].name, "vmm");
	/* However often a VMM says so: once, and not at once. */
	for (int i = 0; i < 100; i++)
		readback_soon(&s, MSG_CONFINE_DEVICE);
	int64_t due = readback_step(&s, clock_us());
	assert_true(due >= s.readback.last_us + 1000000 && due != INT64_MAX);
	assert_int_equal(s.readback.report.sum.checks, 1);
	assert_true(readback_step(&s, due) == INT64_MAX);
	assert_int_equal(fill()->confine.checks, 2);
	assert_int_equal(data->head.confine.after, MSG_CONFINE_DEVICE);
	/* Not confined any more: it is ended, and says why. */
	unit_write(s.jail.proc_fd, "7/limits",
		   "Max file size 1 2 bytes\nMax core file size 0 0 bytes\nMax processes 1 1\n"
		   "Max open files 1 1\nMax locked memory 0 0\nMax address space 1 1\n");
	assert_int_equal(readback_check(&s, MSG_CONFINE_RESUME, &e), -1);
	assert_says(e.text, "RLIMIT_FSIZE is 2");
	assert_int_equal(s.ending, SHIM_ENDING_UNCONFINED);
	assert_int_equal(s.phase, MSG_PHASE_ENDING);
	c = &fill()->confine;
	assert_int_equal(c->good, 0);
	assert_string_equal(c->detail, e.text);
	unit_remove_dir(path);
}

/* A create that waits for its guest fails by it; a VMM that has ended is left to its exit. */
static void test_readback_in_create(void **unused)
{
	char path[64];
	(void)unused;
	start_vmm(path);
	s.op = MSG_CREATE;
	s.op_id = 1;
	s.readback.want.uid = 6;
	assert_int_equal(readback_check(&s, MSG_CONFINE_START, &e), -1);
	assert_true(s.quit && s.start_failed);
	assert_int_equal(s.ending, SHIM_ENDING_FAILED);
	s.quit = false;
	s.ending = SHIM_ENDING_NONE;
	s.readback.want.pid = 8;
	assert_int_equal(readback_check(&s, MSG_CONFINE_RESUME, &e), 0);
	assert_int_equal(fill()->confine.good, 2);
	assert_int_equal(s.ending, SHIM_ENDING_NONE);
	assert_false(s.quit);
	unit_remove_dir(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_moment),  TEST(test_ages),     TEST(test_descriptors),
		TEST(test_events),	  TEST(test_cgroup),   TEST(test_full),
		TEST(test_back_pressure), TEST(test_readback), TEST(test_readback_in_create),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
