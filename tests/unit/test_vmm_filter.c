// SPDX-License-Identifier: Apache-2.0
/* shim/vmm_filter: every rule, what must not be one, and what a VMM's libc does under it. */
#include "unit.h"

#include "util.h"
#include "vmm_filter.h"
#include "vmm_rules.h"

#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const struct vmm_rule rules[] = {VMM_RULES_TABLE};

static bool load(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && vmm_filter_load() == 0;
}

/* How a child ends that does what under the filter; 200: it could not load that. */
static int under_filter(int (*what)(const void *arg), const void *arg)
{
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(load() ? what(arg) : 200);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int break_rule(const void *arg)
{
	const struct vmm_rule *r = arg;
	unsigned long args[6] = {0};
	if (r->arg >= 0)
		args[r->arg] = r->value;
	return syscall(r->nr, args[0], args[1], args[2], args[3], args[4]) < 0 ? errno : 0;
}

static void test_each_rule(void **unused)
{
	(void)unused;
	assert_in_range(vmm_filter_length(), ARRAY_SIZE(rules), 1000);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		int want = rules[i].how == VMM_RULE_KILL ? 1000 + SIGSYS : rules[i].how;
		int found = under_filter(break_rule, &rules[i]);
		if (found != want)
			fail_msg("%s: %d, not %d", rules[i].name, found, want);
	}
}

/* What Cloud Hypervisor v53 names in any of its own filters, but for what the table explains. */
static void test_nothing_that_the_vmm_needs(void **unused)
{
#define N(call) __NR_##call
	static const long needed[] = {
		N(accept4),
		N(bind),
		N(brk),
		N(clock_gettime),
		N(clock_nanosleep),
		N(close),
		N(close_range),
		N(connect),
		N(dup),
		N(epoll_create1),
		N(epoll_ctl),
		N(epoll_pwait),
		N(eventfd2),
		N(exit),
		N(exit_group),
		N(faccessat),
		N(fallocate),
		N(fcntl),
		N(fdatasync),
		N(fstat),
		N(fsync),
		N(ftruncate),
		N(futex),
		N(getcwd),
		N(getdents64),
		N(getpgid),
		N(getpid),
		N(getrandom),
		N(gettid),
		N(gettimeofday),
		N(getuid),
		N(io_cancel),
		N(io_destroy),
		N(io_getevents),
		N(io_setup),
		N(io_submit),
		N(kill),
		N(listen),
		N(lseek),
		N(madvise),
		N(mbind),
		N(memfd_create),
		N(mmap),
		N(mprotect),
		N(mremap),
		N(munmap),
		N(nanosleep),
		N(openat),
		N(pipe2),
		N(ppoll),
		N(pread64),
		N(preadv),
		N(prlimit64),
		N(pwrite64),
		N(pwritev),
		N(read),
		N(readlinkat),
		N(readv),
		N(recvfrom),
		N(recvmsg),
		N(rt_sigaction),
		N(rt_sigprocmask),
		N(rt_sigreturn),
		N(rseq),
		N(restart_syscall),
		N(sched_getaffinity),
		N(sched_yield),
		N(seccomp),
		N(sched_setaffinity),
		N(sendmsg),
		N(sendto),
		N(set_robust_list),
		N(setsid),
		N(setsockopt),
		N(shutdown),
		N(sigaltstack),
		N(statfs),
		N(statx),
		N(tgkill),
		N(timerfd_create),
		N(timerfd_settime),
		N(tkill),
		N(umask),
		N(unlinkat),
		N(userfaultfd),
		N(wait4),
		N(write),
		N(writev),
		N(execve),
		N(landlock_create_ruleset),
		N(landlock_add_rule),
		N(landlock_restrict_self),
#ifdef __x86_64__
		N(access),
		N(arch_prctl),
		N(epoll_wait),
		N(getpgrp),
		N(newfstatat),
		N(open),
		N(poll),
		N(readlink),
		N(stat),
		N(unlink),
#endif
	};
#undef N
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		for (size_t k = 0; k < ARRAY_SIZE(needed); k++)
			if (rules[i].nr == needed[k])
				fail_msg("%s is denied", rules[i].name);
}

static void *touch(void *done)
{
	*(int *)done = 1;
	return NULL;
}

/* The number of what failed. */
static int live(const void *unused)
{
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
	pthread_t thread;
	int done = 0, pair[2], pty;
	aio_context_t aio = 0;
	(void)unused;
	/* A thread and a child: glibc takes clone(2) where clone3(2) is not there. */
	if (pthread_create(&thread, NULL, touch, &done) != 0 || pthread_join(thread, NULL) != 0 ||
	    done != 1)
		return 1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		return 2;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		int fd = socket(families[i], SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0 && errno != EAFNOSUPPORT)
			return 3;
		if (families[i] == AF_UNIX && fd < 0)
			return 4;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return 5;
	if (syscall(SYS_io_setup, 1, &aio) < 0 && errno != EAGAIN)
		return 6;
	if (prctl(PR_SET_NAME, "vcpu0") < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return 7;
	pty = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (pty >= 0 && (ioctl(pty, TIOCGPTN, &done) < 0 || ioctl(pty, FIONREAD, &done) < 0))
		return 8;
	/* A filter of its own on top, which is more than strict mode would allow. */
	if (!load())
		return 9;
	char *argv[] = {(char *)(uintptr_t) "true", NULL};
	execve("/bin/true", argv, argv + 1);
	return 10;
}

static void test_an_honest_program_lives(void **unused)
{
	(void)unused;
	assert_int_equal(under_filter(live, NULL), 0);
}

/* Without no_new_privs it takes CAP_SYS_ADMIN, which the VMM's process has no more by then. */
static void test_needs_no_new_privs(void **unused)
{
	int status;
	(void)unused;
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		_exit(vmm_filter_load() < 0 ? errno : 0);
	}
	waitpid(pid, &status, 0);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
		assert_int_equal(status, EACCES << 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_rule),
		cmocka_unit_test(test_nothing_that_the_vmm_needs),
		cmocka_unit_test(test_an_honest_program_lives),
		cmocka_unit_test(test_needs_no_new_privs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
