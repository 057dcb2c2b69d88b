// SPDX-License-Identifier: Apache-2.0
/* shim/confine: what is read back of a VMM and kept, of plain files in /proc's place and of a
 * child. */
#include "unit.h"

#include "caps.h"
#include "confine.h"
#include "util.h"
#include "vmm_filter.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define UID 712345

static int proc;
static struct err e;

static int setup(void **unused)
{
	(void)unused;
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	e = (struct err){0};
	return proc < 0 ? -1 : 0;
}

static int teardown(void **unused)
{
	(void)unused;
	fd_close(&proc);
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("not run: needs root\n");
		skip();
	}
}

/* A child that is confined like a VMM and waits to be killed. */
/* As many as a VMM has: here all of them are the outer one. */
static int load_filters(void)
{
	for (int i = 0; i < 3; i++)
		if (vmm_filter_load() < 0)
			return -1;
	return 0;
}

static pid_t confined_child(void)
{
	int ends[2];
	char byte;
	const char *step;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		if (caps_drop_to_vmm(UID, UID, &step) == 0 &&
		    prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && load_filters() == 0 &&
		    write(ends[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return pid;
}

static const char fake_status[] =
	"Name:\tvcpu\0330\nUid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6\nGroups:\t \n"
	"CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
	"CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	"Seccomp:\t2\nSeccomp_filters:\t3\n";

/* One that has ended and is not yet reaped is no confined VMM, and none that escaped. */
static void test_ended(void **unused)
{
	siginfo_t info;
	(void)unused;
	need_root();
	pid_t pid = confined_child();
	kill(pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(confine_check_threads(proc, pid, UID, UID, &e), -1);
	assert_int_equal(e.kind, ERR_VMM);
	assert_says(e.text, "no thread left");
	waitpid(pid, NULL, 0);
	assert_int_equal(confine_check_threads(proc, pid, UID, UID, &e), -1);
	assert_int_equal(e.kind, ERR_VMM);
}

/* A thread that has ended is left out, whatever else it reads as; the others still count. */
static void test_ended_thread(void **unused)
{
	static const char bad[] = "Uid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6\nGroups:\t \nSeccomp:\t0\n";
	static const struct {
		const char *state;
		int result;
	} cases[] = {
		{"State:\tZ (zombie)\n", 0},
		{"State:\tX (dead)\n", 0},
		{"State:\tS (sleeping)\n", -1},
		{"State:\tT (Z)\n", -1},
		{"", -1},
	};
	struct confine_report r = {0};
	struct confine_want want = {.pid = 7, .uid = 5, .gid = 6};
	char path[64], text[256];
	(void)unused;
	int fake = unit_make_dir(path);
	mkdirat(fake, "7", 0755);
	mkdirat(fake, "7/task", 0755);
	mkdirat(fake, "7/task/7", 0755);
	mkdirat(fake, "7/task/8", 0755);
	unit_write(fake, "7/task/7/status", fake_status);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "Name:\tx\n%s%s", cases[i].state, bad);
		unit_write(fake, "7/task/8/status", text);
		if (confine_check_threads(fake, 7, 5, 6, &e) != cases[i].result)
			fail_msg("case %zu: %s", i, e.text);
		assert_int_equal(confine_read_back(fake, &want, &r, &e), -1);
		assert_true(r.sum.thread_count == 1 ||
			    (r.sum.thread_count == 2 && cases[i].result < 0));
		assert_int_equal(r.sum.ended_threads, cases[i].result == 0);
	}
	confine_report_close(&r);
	close(fake);
	unit_remove_dir(path);
}

#define LIMITS                                                                                     \
	"Limit                     Soft Limit           Hard Limit           Units     \n"         \
	"Max file size             10                   20                   bytes     \n"         \
	"Max core file size        0                    0                    bytes     \n"         \
	"Max processes             66                   66                   processes \n"         \
	"Max open files            512                  512                  files     \n"         \
	"Max locked memory         0                    0                    bytes     \n"         \
	"Max address space         4096                 unlimited            bytes     \n"

static void good_want(struct confine_want *w)
{
	*w = (struct confine_want){.pid = 7, .uid = 5, .gid = 6, .cgroup = "/c/i/acme:web"};
	w->limits[MSG_LIMIT_AS] = UINT64_MAX;
	w->limits[MSG_LIMIT_NPROC] = 66;
	w->limits[MSG_LIMIT_FSIZE] = 21;
	w->limits[MSG_LIMIT_NOFILE] = 512;
}

/* What is read is kept, field by field; what is wrong is named, and what was read is kept too. */
static void test_read_back(void **unused)
{
	static const struct {
		const char *file, *text, *says;
	} cases[] = {
		{"7/cgroup", "9:pids:/\n0::/c/i/acme:webb\n", "cgroup is \"/c/i/acme:webb\""},
		{"7/cgroup", "0::/\n", "cgroup is \"/\", not .../c/i/acme:web"},
		{"7/cgroup", "1:name=0::/c/i/acme:web\n", "cgroup is \"\""},
		{"7/limits", "Max processes 1 1\n", "no Max address space"},
		{"7/limits", "", "ended while"},
	};
	struct confine_report r = {0};
	struct confine_want want;
	char path[64];
	(void)unused;
	int fake = unit_make_dir(path);
	mkdirat(fake, "7", 0755);
	mkdirat(fake, "7/task", 0755);
	mkdirat(fake, "7/task/7", 0755);
	unit_write(fake, "7/task/7/status", fake_status);
	unit_write(fake, "7/limits", LIMITS);
	unit_write(fake, "7/cgroup", "9:pids:/\n0::/../c/i/acme:web\n");
	good_want(&want);
	for (int again = 0; again < 2; again++) {
		if (confine_read_back(fake, &want, &r, &e) != 0)
			fail_msg("%s", e.text);
		assert_int_equal(r.sum.thread_count, 1);
		const struct msg_thread *t = &r.threads[0];
		assert_string_equal(t->name, "vcpu?0");
		assert_int_equal(t->tid, 7);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(t->uid[i], 5);
			assert_int_equal(t->gid[i], 6);
		}
		assert_int_equal(t->groups, 0);
		assert_int_equal(t->no_new_privs, 1);
		assert_int_equal(t->seccomp, 2);
		assert_int_equal(t->filters, 3);
		assert_int_equal(r.sum.cgroup, 1);
		assert_int_equal(r.sum.limits[MSG_LIMIT_FSIZE].asked, 21);
		assert_int_equal(r.sum.limits[MSG_LIMIT_FSIZE].soft, 10);
		assert_int_equal(r.sum.limits[MSG_LIMIT_FSIZE].hard, 20);
		assert_true(r.sum.limits[MSG_LIMIT_AS].hard == UINT64_MAX);
	}
	/* Each limit, one too high for what was asked. */
	static const uint64_t hard[MSG_LIMIT_COUNT] = {UINT64_MAX, 66, 20, 512, 0, 0};
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++) {
		good_want(&want);
		if (hard[i] == 0)
			continue;
		want.limits[i] = hard[i] - 1;
		assert_int_equal(confine_read_back(fake, &want, &r, &e), -1);
		assert_int_equal(e.kind, ERR_INTERNAL);
		assert_says(e.text, "is not confined: its hard RLIMIT_");
		assert_int_equal(r.sum.thread_count, 1);
	}
	good_want(&want);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unit_write(fake, "7/limits", LIMITS);
		unit_write(fake, cases[i].file, cases[i].text);
		assert_int_equal(confine_read_back(fake, &want, &r, &e), -1);
		assert_says(e.text, cases[i].says);
		assert_int_equal(r.sum.cgroup, 0);
	}
	/* One without a leaf of its own may be anywhere. */
	unit_write(fake, "7/limits", LIMITS);
	want.cgroup[0] = '\0';
	assert_int_equal(confine_read_back(fake, &want, &r, &e), 0);
	confine_report_close(&r);
	close(fake);
	unit_remove_dir(path);
}

/* All that a VMM can have, and one more. */
static void test_many_threads(void **unused)
{
	struct confine_report r = {0};
	struct confine_want want;
	char path[64], name[64];
	(void)unused;
	int fake = unit_make_dir(path);
	mkdirat(fake, "7", 0755);
	mkdirat(fake, "7/task", 0755);
	unit_write(fake, "7/limits", LIMITS);
	good_want(&want);
	want.cgroup[0] = '\0';
	for (int i = 1; i <= MSG_THREADS_MAX + 1; i++) {
		snprintf(name, sizeof(name), "7/task/%d", i);
		mkdirat(fake, name, 0755);
		snprintf(name, sizeof(name), "7/task/%d/status", i);
		unit_write(fake, name, fake_status);
		if (i < MSG_THREADS_MAX)
			continue;
		int rc = confine_read_back(fake, &want, &r, &e);
		assert_int_equal(rc, i == MSG_THREADS_MAX ? 0 : -1);
		assert_int_equal(r.sum.thread_count, MSG_THREADS_MAX);
	}
	assert_says(e.text, "more than 320 threads");
	confine_report_close(&r);
	close(fake);
	unit_remove_dir(path);
}

/* And of a real one, with the limits of this very process. */
static void test_read_back_real(void **unused)
{
	struct confine_report r = {0};
	struct confine_want want = {.uid = UID, .gid = UID};
	(void)unused;
	need_root();
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++)
		want.limits[i] = UINT64_MAX;
	want.pid = confined_child();
	if (confine_read_back(proc, &want, &r, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(r.sum.thread_count, 1);
	assert_int_equal(r.threads[0].tid, want.pid);
	assert_int_equal(r.threads[0].uid[3], UID);
	assert_int_equal(r.threads[0].seccomp, 2);
	assert_true(r.threads[0].filters >= 3);
	want.limits[MSG_LIMIT_NOFILE] = 1;
	assert_int_equal(confine_read_back(proc, &want, &r, &e), -1);
	assert_says(e.text, "hard RLIMIT_NOFILE is");
	kill(want.pid, SIGKILL);
	waitpid(want.pid, NULL, 0);
	assert_int_equal(confine_read_back(proc, &want, &r, &e), -1);
	assert_int_equal(e.kind, ERR_VMM);
	confine_report_close(&r);
}

static void test_note_namespaces(void **unused)
{
	struct msg_confine noted = {0};
	struct confine_ns own;
	char text[64];
	(void)unused;
	assert_int_equal(confine_read_ns(proc, "self", &own, &e), 0);
	confine_note_namespaces(proc, getpid(), &own, &noted);
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++) {
		snprintf(text, sizeof(text), "%.3s:[%llu]", own.id[i],
			 (unsigned long long)noted.ns_vmm[i]);
		assert_string_equal(text, own.id[i]);
		assert_int_equal(noted.ns_host[i], noted.ns_vmm[i]);
		assert_int_equal(noted.ns_shim[i], noted.ns_vmm[i]);
	}
	assert_true(noted.root_ino > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ended),	 TEST(test_ended_thread),   TEST(test_read_back),
		TEST(test_many_threads), TEST(test_read_back_real), TEST(test_note_namespaces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
