// SPDX-License-Identifier: Apache-2.0
/* shim/confine: own process, a child that is confined, and children that lack one thing each. */
#include "unit.h"

#include "caps.h"
#include "confine.h"
#include "filter.h"
#include "util.h"
#include "vmm_filter.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define UID 712345

static int proc;
static struct err e;
/* This process is under the filter, which ends it for some calls. */
static bool filtered;

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

/* A child that does prepare and then waits to be killed; it tells 0 when it is ready. */
static pid_t child(bool (*prepare)(void))
{
	int ends[2];
	char failed = 1;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		failed = !prepare();
		if (!filtered)
			prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ends[1], &failed, 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &failed, 1), 1);
	close(ends[0]);
	if (failed)
		fail_msg("the child could not get ready");
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("not run: needs root\n");
		skip();
	}
}

static bool drop(void)
{
	const char *step;
	struct err why;
	filtered = filter_load(FILTER_SPAWNER, &why) == 0 && filter_load(FILTER_SETUP, &why) == 0 &&
		   caps_drop_to_vmm(UID, UID, &step) == 0 &&
		   prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && vmm_filter_load() == 0;
	return filtered;
}

static void test_confined(void **unused)
{
	(void)unused;
	need_root();
	pid_t pid = child(drop);
	if (confine_check_threads(proc, pid, UID, UID, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(confine_check_threads(proc, pid, UID + 1, UID, &e), -1);
	assert_says(e.text, "Uid is \"712345");
	assert_int_equal(confine_check_threads(proc, pid, UID, UID + 1, &e), -1);
	assert_says(e.text, "Gid is");
	end(pid);
	/* A process that is gone is not a confined one. */
	assert_int_equal(confine_check_threads(proc, pid, UID, UID, &e), -1);
}

static bool drop_late_nnp(void)
{
	return setgroups(0, NULL) == 0 && setresgid(UID, UID, UID) == 0 &&
	       setresuid(UID, UID, UID) == 0;
}
static bool drop_but_saved_uid(void)
{
	return setgroups(0, NULL) == 0 && setresgid(UID, UID, UID) == 0 &&
	       setresuid(UID, UID, 0) == 0;
}
static bool drop_but_saved_gid(void)
{
	return setgroups(0, NULL) == 0 && setresgid(UID, UID, 0) == 0 &&
	       setresuid(UID, UID, UID) == 0;
}
static bool drop_but_group(void)
{
	const gid_t group = 712999;
	return setgroups(1, &group) == 0 && setresgid(UID, UID, UID) == 0 &&
	       setresuid(UID, UID, UID) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}
static bool drop_but_bounding_set(void)
{
	return drop_late_nnp() && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}
static bool drop_but_capability(void)
{
	return prctl(PR_SET_KEEPCAPS, 1) == 0 && drop_late_nnp() &&
	       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static bool drop_but_filter(void)
{
	const char *step;
	return caps_drop_to_vmm(UID, UID, &step) == 0;
}

/* Its own filter, but not those of the spawner and of set-up under it. */
static bool drop_but_filters_below(void)
{
	filtered = drop_but_filter() && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
		   vmm_filter_load() == 0;
	return filtered;
}

static void *stay(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}
static void *drop_this_thread(void *ready)
{
	*(int *)ready = drop() ? 1 : -1;
	return stay(NULL);
}
/* The main thread drops by system calls, which change it alone: another one stays root. */
static bool drop_all_but_a_thread(void)
{
	pthread_t thread;
	return pthread_create(&thread, NULL, stay, NULL) == 0 && drop();
}
/* And the other way round. */
static bool drop_all_but_main(void)
{
	static volatile int ready;
	pthread_t thread;
	if (pthread_create(&thread, NULL, drop_this_thread, (void *)(uintptr_t)&ready) != 0)
		return false;
	for (int i = 0; i < 10000 && ready == 0; i++)
		usleep(1000);
	return ready == 1;
}

static void test_one_thing_short(void **unused)
{
	static const struct {
		bool (*prepare)(void);
		const char *says;
	} cases[] = {
		{drop_but_saved_uid, "Uid is"},
		{drop_but_saved_gid, "Gid is"},
		{drop_but_group, "Groups is \"712999\", not \"\""},
		{drop_late_nnp, "NoNewPrivs is \"0\", not \"1\""},
		{drop_but_bounding_set, "CapBnd is"},
		{drop_but_capability, "CapPrm is"},
		{drop_but_filter, "Seccomp is \"0\", not \"2\""},
		{drop_but_filters_below, "Seccomp_filters is \"1\""},
		{drop_all_but_a_thread, "Uid is \"0"},
		{drop_all_but_main, "Uid is \"0"},
	};
	(void)unused;
	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = child(cases[i].prepare);
		e = (struct err){0};
		if (confine_check_threads(proc, pid, UID, UID, &e) != -1)
			fail_msg("case %zu passed", i);
		assert_int_equal(e.kind, ERR_INTERNAL);
		assert_says(e.text, "is not confined");
		assert_says(e.text, cases[i].says);
		end(pid);
	}
}

static void test_own_process(void **unused)
{
	(void)unused;
	assert_int_equal(confine_check_threads(proc, getpid(), geteuid() + 1, getegid(), &e), -1);
	assert_says(e.text, "Uid");
	/* This process has a bounding set or groups, or new privileges: it is not confined. */
	assert_int_equal(confine_check_threads(proc, getpid(), geteuid(), getegid(), &e), -1);
	assert_says(e.text, "is not confined");
}

/* A thread list as a VMM might wish it: a folder of plain files stands in for /proc. */
static void test_strange_status(void **unused)
{
	static const char text[] = "Name:\tx\nUmask:\t0022\nUid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6\n"
				   "Groups:\t \nCapInh:\t0000000000000000\nCapPrm:\t"
				   "0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t"
				   "0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
				   "Seccomp:\t2\nSeccomp_filters:\t3\n";
	static const struct {
		const char *old, *new, *says;
	} cases[] = {
		{"CapInh:\t0", "CapInh:\t1", "CapInh is"},
		{"CapPrm:\t0", "CapPrm:\t8", "CapPrm is"},
		{"CapEff:\t0", "CapEff:\t2", "CapEff is"},
		{"CapBnd:\t0", "CapBnd:\tf", "CapBnd is"},
		{"CapAmb:\t0", "CapAmb:\t1", "CapAmb is"},
		{"Uid:\t5\t5\t5\t5", "Uid:\t0\t5\t5\t5", "Uid is"},
		{"Uid:\t5\t5\t5\t5", "Uid:\t5\t5\t5\t0", "Uid is"},
		{"Gid:\t6\t6\t6\t6", "Gid:\t6\t6\t0\t6", "Gid is"},
		{"NoNewPrivs:\t1", "NoNewPrivz:\t1", "no NoNewPrivs"},
		{"Groups:\t ", "Groups:\t0 ", "Groups is \"0\""},
		{"CapAmb", "CapXmb", "no CapAmb"},
		{"Uid:", "Xid:", "no Uid"},
		{"Seccomp:\t2", "Seccomp:\t0", "Seccomp is"},
		{"Seccomp:\t2", "Seccomp:\t1", "Seccomp is"},
		{"Seccomp:\t2", "Seccamp:\t2", "no Seccomp"},
		{"filters:\t3", "filters:\t2", "Seccomp_filters is"},
		{"filters:\t3", "filters:\tx", "Seccomp_filters is"},
		{"_filters", "_filterz", "no Seccomp_filters"},
	};
	char path[64];
	(void)unused;
	int fake = unit_make_dir(path);
	assert_int_equal(mkdirat(fake, "7", 0755), 0);
	assert_int_equal(mkdirat(fake, "7/task", 0755), 0);
	assert_int_equal(confine_check_threads(fake, 7, 5, 6, &e), -1);
	assert_says(e.text, "no thread left");
	assert_int_equal(mkdirat(fake, "7/task/7", 0755), 0);
	unit_write(fake, "7/task/7/status", text);
	if (confine_check_threads(fake, 7, 5, 6, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(mkdirat(fake, "7/task/8", 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char changed[1024];
		const char *at = strstr(text, cases[i].old);
		assert_non_null(at);
		snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, cases[i].new,
			 at + strlen(cases[i].old));
		unit_write(fake, "7/task/8/status", changed);
		if (confine_check_threads(fake, 7, 5, 6, &e) != -1)
			fail_msg("%s passed", cases[i].new);
		assert_says(e.text, cases[i].says);
		assert_says(e.text, "thread 8");
	}
	close(fake);
	unit_remove_dir(path);
}

static void test_read_namespaces(void **unused)
{
	struct confine_ns own, again;
	char number[16];
	(void)unused;
	assert_int_equal(confine_read_ns(proc, "self", &own, &e), 0);
	assert_memory_equal(own.id[0], "pid:[", 5);
	assert_memory_equal(own.id[1], "mnt:[", 5);
	assert_memory_equal(own.id[2], "net:[", 5);
	assert_memory_equal(own.id[3], "ipc:[", 5);
	assert_memory_equal(own.id[4], "uts:[", 5);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	assert_int_equal(confine_read_ns(proc, number, &again, &e), 0);
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++)
		assert_string_equal(own.id[i], again.id[i]);
	assert_int_equal(confine_read_ns(proc, "none", &again, &e), -1);
	assert_says(e.text, "/proc/none/ns/pid");
}

static bool nothing(void)
{
	return true;
}
static bool unshare_net(void)
{
	return unshare(CLONE_NEWNET) == 0;
}
static bool unshare_net_and_mount(void)
{
	return unshare(CLONE_NEWNET | CLONE_NEWNS) == 0;
}
static bool unshare_mount(void)
{
	return unshare(CLONE_NEWNS) == 0;
}
static bool change_root(void)
{
	return chroot("/tmp") == 0;
}

static void test_check_namespaces(void **unused)
{
	static const char *const names[] = {"pid", "mnt", "net", "ipc", "uts"};
	struct confine_ns own, host;
	char says[64];
	(void)unused;
	assert_int_equal(confine_read_ns(proc, "self", &own, &e), 0);
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++)
		snprintf(host.id[i], sizeof(host.id[i]), "%s:[1]", names[i]);
	/* A host that is elsewhere in all five: only what is the shim's own counts. */
	assert_int_equal(confine_check_namespaces(proc, getpid(), &host, false, &e), 0);
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++) {
		struct confine_ns same = host;
		memcpy(same.id[i], own.id[i], sizeof(own.id[i]));
		assert_int_equal(confine_check_namespaces(proc, getpid(), &same, false, &e), -1);
		snprintf(says, sizeof(says), "in the host's %s namespace", names[i]);
		assert_says(e.text, says);
	}
	need_root();
	static const struct {
		bool (*prepare)(void);
		const char *says;
	} cases[] = {
		{nothing, NULL},
		{unshare_net, "not in its sandbox's net"},
		{unshare_mount, "not in its sandbox's mnt"},
		{change_root, "another root directory"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = child(cases[i].prepare);
		int rc = confine_check_namespaces(proc, pid, &host, false, &e);
		assert_int_equal(rc, cases[i].says ? -1 : 0);
		if (cases[i].says)
			assert_says(e.text, cases[i].says);
		end(pid);
	}
}

/* A sandbox with a network: the shim's net namespace is the slot, the VMM's is another. */
static void test_check_own_net(void **unused)
{
	static const struct {
		bool (*prepare)(void);
		const char *says;
	} cases[] = {
		{unshare_net, NULL},
		{nothing, "in its sandbox's network slot"},
		{unshare_mount, "not in its sandbox's mnt"},
		{unshare_net_and_mount, "not in its sandbox's mnt"},
		{change_root, "in its sandbox's network slot"},
	};
	struct confine_ns host;
	(void)unused;
	need_root();
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++)
		snprintf(host.id[i], sizeof(host.id[i]), "x:[1]");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = child(cases[i].prepare);
		e = (struct err){0};
		int rc = confine_check_namespaces(proc, pid, &host, true, &e);
		if (rc != (cases[i].says ? -1 : 0))
			fail_msg("case %zu: %d %s", i, rc, e.text);
		if (cases[i].says) {
			assert_int_equal(e.kind, ERR_INTERNAL);
			assert_says(e.text, cases[i].says);
		}
		end(pid);
	}
	/* One of its own will not do if that is the host's. */
	pid_t pid = child(unshare_net);
	char number[16];
	struct confine_ns vmm;
	snprintf(number, sizeof(number), "%d", (int)pid);
	assert_int_equal(confine_read_ns(proc, number, &vmm, &e), 0);
	memcpy(host.id[2], vmm.id[2], sizeof(host.id[2]));
	assert_int_equal(confine_check_namespaces(proc, pid, &host, true, &e), -1);
	assert_says(e.text, "in the host's net namespace");
	end(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_confined),	   TEST(test_one_thing_short), TEST(test_own_process),
		TEST(test_strange_status), TEST(test_read_namespaces), TEST(test_check_namespaces),
		TEST(test_check_own_net),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
