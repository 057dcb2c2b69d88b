// SPDX-License-Identifier: Apache-2.0
/*
 * shim/cgroup on plain files, and on the real cgroup v2 where there is one. A kernel fills a new
 * leaf with its attributes, plain files cannot: so the static functions are tested by themselves.
 */
#include "unit.h"

#include "../../shim/cgroup.c"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#define CGROUP2_MAGIC 0x63677270

static char path[64];
static int parent, leaf;
static unsigned open_before;
static const struct cgroup_limits limits = {
	.memory_bytes = 5368709120, .cpu_percent = 250, .pids = 66};

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	parent = unit_make_dir(path);
	if (mkdirat(parent, "leaf", 0755) < 0)
		return -1;
	leaf = openat(parent, "leaf", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const char *const files[] = {"memory.max", "memory.swap.max", "cpu.max", "pids.max",
					    "cgroup.kill"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unit_write(leaf, files[i], "");
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	fd_close(&leaf);
	fd_close(&parent);
	unit_remove_dir(path);
	return unit_open_fds() == open_before ? 0 : -1;
}

static void holds(const char *name, const char *want)
{
	char *text CLEANUP_FREE = unit_read(leaf, name);
	if (!text)
		fail_msg("%s is not there", name);
	assert_string_equal(text, want);
}

static void test_limits_for(void **unused)
{
	(void)unused;
	struct cgroup_limits l = cgroup_limits_for(2, 1024);
	assert_true(l.memory_bytes > (1024ull << 20) && l.memory_bytes < (1536ull << 20));
	assert_int_equal(l.cpu_percent, 250);
	assert_int_equal(l.pids, 66);
	/* The largest guest of the protocol does not wrap. */
	l = cgroup_limits_for(254, 1u << 22);
	assert_true(l.memory_bytes > 1ull << 42);
	assert_int_equal(l.cpu_percent, 25450);
}

static void test_limits_written(void **unused)
{
	struct err e;
	(void)unused;
	assert_int_equal(set_limits(leaf, &limits, true, &e), 0);
	holds("memory.max", "5368709120");
	holds("memory.swap.max", "0");
	holds("cpu.max", "250000 100000");
	holds("pids.max", "66");
}

static void test_missing_controller(void **unused)
{
	static const char *const needed[] = {"memory.max", "cpu.max", "pids.max"};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		assert_int_equal(unlinkat(leaf, needed[i], 0), 0);
		assert_int_equal(set_limits(leaf, &limits, true, &e), -1);
		assert_int_equal(e.kind, ERR_UNAVAILABLE);
		assert_says(e.text, needed[i]);
		assert_says(e.text, "require_limits");
		assert_int_equal(set_limits(leaf, &limits, false, &e), 0);
		unit_write(leaf, needed[i], "");
	}
	/* A kernel without swap accounting is no reason to refuse. */
	assert_int_equal(unlinkat(leaf, "memory.swap.max", 0), 0);
	assert_int_equal(set_limits(leaf, &limits, true, &e), 0);
	holds("pids.max", "66");
	/* One that is there and cannot be written is an error in any case. */
	assert_int_equal(unlinkat(leaf, "cpu.max", 0), 0);
	assert_int_equal(symlinkat("pids.max", leaf, "cpu.max"), 0);
	assert_int_equal(set_limits(leaf, &limits, false, &e), -1);
	assert_says(e.text, "cpu.max");
}

static void test_create(void **unused)
{
	struct err e;
	struct stat st;
	(void)unused;
	int fd = cgroup_create(parent, "a:b", &limits, false, &e);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_PATH);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(cgroup_create(parent, "a:b", &limits, false, &e), -1);
	assert_int_equal(e.errnum, EEXIST);
	assert_int_equal(fstatat(parent, "a:b", &st, 0), 0);
	/* A leaf without the limits it must have is not left behind. */
	assert_int_equal(cgroup_create(parent, "c:d", &limits, true, &e), -1);
	assert_says(e.text, "cgroup c:d: ");
	assert_says(e.text, "memory.max");
	assert_int_equal(fstatat(parent, "c:d", &st, 0), -1);
}

static void test_kill_and_remove(void **unused)
{
	struct err e;
	(void)unused;
	assert_int_equal(cgroup_kill(parent, "leaf", &e), 0);
	holds("cgroup.kill", "1");
	assert_int_equal(cgroup_kill(parent, "absent", &e), 0);
	assert_int_equal(symlinkat("leaf", parent, "link"), 0);
	assert_int_equal(cgroup_kill(parent, "link", &e), -1);
	assert_int_equal(cgroup_remove(parent, "leaf", &e), 0);
	assert_int_equal(mkdirat(parent, "empty", 0755), 0);
	assert_int_equal(cgroup_remove(parent, "empty", &e), 1);
	assert_int_equal(cgroup_remove(parent, "empty", &e), 1);
	assert_int_equal(cgroup_remove(parent, "link", &e), -1);
	assert_int_equal(e.errnum, ENOTDIR);
	assert_int_equal(cgroup_watch(parent, "absent", &e), -1);
	char longest[300];
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(cgroup_kill(parent, longest, &e), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
	assert_int_equal(cgroup_watch(parent, longest, &e), -1);
}

static void test_oom_kills(void **unused)
{
	(void)unused;
	assert_int_equal(cgroup_oom_kills(-1), 0);
	assert_int_equal(cgroup_oom_kills(leaf), 0);
	unit_write(leaf, "memory.events",
		   "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n");
	assert_int_equal(cgroup_oom_kills(leaf), 4);
	unit_write(leaf, "memory.events", "oom_kill 7\n");
	assert_int_equal(cgroup_oom_kills(leaf), 7);
	unit_write(leaf, "memory.events", "oom 3\noom_group_kill 5\n\n");
	assert_int_equal(cgroup_oom_kills(leaf), 0);
	unit_write(leaf, "memory.events", "");
	assert_int_equal(cgroup_oom_kills(leaf), 0);
}

/* ------------------------------------------------------------------ the kernel's own */

/* Where cgroup v2 is mounted and we may make cgroups; -1 (having said why) otherwise. */
static int real_parent(char name[64])
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	snprintf(name, 64, "cloister-unit-%d", (int)getpid());
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		struct statfs fs;
		if (statfs(mounts[i], &fs) < 0 || fs.f_type != CGROUP2_MAGIC)
			continue;
		int fd = open(mounts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && mkdirat(fd, name, 0755) == 0)
			return fd;
		print_message("not run: no cgroup can be made in %s: %s\n", mounts[i],
			      strerror(errno));
		fd_close(&fd);
		return -1;
	}
	print_message("not run: no cgroup v2 is mounted\n");
	return -1;
}

static pid_t child_in(int root, const char *child)
{
	int ends[2];
	char byte;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		close(ends[1]);
		if (read(ends[0], &byte, 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	char procs[128], text[16];
	struct err e;
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", child);
	snprintf(text, sizeof(text), "%d", (int)pid);
	if (file_write_text(root, procs, text, &e) < 0)
		print_message("%s\n", e.text);
	assert_int_equal(write(ends[1], "x", 1), 1);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void use_real(int root)
{
	struct err e;
	struct stat st;
	int status;
	int fd = cgroup_create(root, "t:s", &limits, false, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	bool kill_works = fstatat(fd, "cgroup.kill", &st, 0) == 0;
	pid_t pid = child_in(root, "t:s");
	int watch = cgroup_watch(root, "t:s", &e);
	assert_true(watch >= 0);
	char text[256];
	ssize_t n = read(watch, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_says(text, "populated 1");
	assert_int_equal(cgroup_remove(root, "t:s", &e), 0);
	assert_int_equal(cgroup_kill(root, "t:s", &e), 0);
	if (!kill_works) {
		print_message("this kernel has no cgroup.kill\n");
		kill(pid, SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	struct pollfd p = {.fd = watch, .events = POLLPRI};
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_true(p.revents & POLLPRI);
	n = pread(watch, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	assert_says(text, "populated 0");
	assert_int_equal(cgroup_oom_kills(fd), 0);
	assert_int_equal(cgroup_remove(root, "t:s", &e), 1);
	assert_int_equal(cgroup_remove(root, "t:s", &e), 1);
	assert_int_equal(cgroup_kill(root, "t:s", &e), 0);
	close(watch);
	close(fd);
	/* With limits required: in force as written, or refused by name with nothing left. */
	fd = cgroup_create(root, "t:s", &limits, true, &e);
	if (fd >= 0) {
		assert_true(file_read_text(fd, "memory.max", text, sizeof(text), &e) > 0);
		assert_string_equal(text, "5368709120\n");
		assert_true(file_read_text(fd, "cpu.max", text, sizeof(text), &e) > 0);
		assert_string_equal(text, "250000 100000\n");
		close(fd);
		assert_int_equal(cgroup_remove(root, "t:s", &e), 1);
	} else {
		print_message("limits are not enforced here: %s\n", e.text);
		assert_int_equal(e.kind, ERR_UNAVAILABLE);
		assert_says(e.text, ".max");
	}
	assert_int_equal(fstatat(root, "t:s", &st, 0), -1);
}

static void test_real(void **unused)
{
	char name[64];
	(void)unused;
	int mount = real_parent(name);
	if (mount < 0)
		skip();
	int root = openat(mount, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	struct err e;
	/* Only below our own: what the mount hands down is the host's affair. */
	file_write_text(root, "cgroup.subtree_control", "+memory +cpu +pids", &e);
	use_real(root);
	close(root);
	assert_int_equal(unlinkat(mount, name, AT_REMOVEDIR), 0);
	close(mount);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_for), TEST(test_limits_written),
		TEST(test_missing_controller),	   TEST(test_create),
		TEST(test_kill_and_remove),	   TEST(test_oom_kills),
		cmocka_unit_test(test_real),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
