// SPDX-License-Identifier: Apache-2.0
#include "launch.h"

#include "caps.h"
#include "jail.h"
#include "jail_landlock.h"
#include "landlock.h"
#include "util.h"
#include "vmm_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Address space beside the guest's memory: stacks, heaps and KVM's mappings of CH's threads. */
#define AS_EXTRA_BYTES (4ull << 30)
#define AS_PER_VCPU    (64ull << 20)
#define NPROC_EXTRA    64
#define NOFILE_MAX     512

/* Where the child keeps what it needs until execve closes it; above LAUNCH_FDS. */
#define CHILD_REPORT_FD LAUNCH_FDS
#define CHILD_DEATH_FD	(LAUNCH_FDS + 1)
#define CHILD_RULES_FD	(LAUNCH_FDS + 2)

/* What the child says when it cannot get to execve. */
struct report {
	int errnum;
	char step[60];
};

struct child {
	const struct launch *launch;
	int fds[LAUNCH_FDS];
	int report_w;
	int death_r;
	int rules; /* Landlock's, or -1 */
};

static _Noreturn void child_fail(int report_fd, const char *step)
{
	struct report report = {.errnum = errno};
	snprintf(report.step, sizeof(report.step), "%s", step);
	ssize_t ignored = write(report_fd, &report, sizeof(report));
	(void)ignored;
	_exit(127);
}

/* Never above the hard limit: raising one takes CAP_SYS_RESOURCE, which we may not have. */
static int set_rlimit(int resource, uint64_t want)
{
	struct rlimit limit;
	if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
		return -1;
	if (want < limit.rlim_max)
		limit.rlim_max = want;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit((__rlimit_resource_t)resource, &limit);
}

void launch_limits(const struct launch *l, uint64_t out[MSG_LIMIT_COUNT])
{
	out[MSG_LIMIT_AS] = l->memory_bytes + AS_EXTRA_BYTES + l->vcpus * AS_PER_VCPU;
	out[MSG_LIMIT_NPROC] = l->vcpus + NPROC_EXTRA;
	out[MSG_LIMIT_FSIZE] = l->file_bytes;
	out[MSG_LIMIT_NOFILE] = NOFILE_MAX;
	out[MSG_LIMIT_MEMLOCK] = 0;
	out[MSG_LIMIT_CORE] = 0;
}

static int set_rlimits(const struct launch *l)
{
	static const int kinds[MSG_LIMIT_COUNT] = {
		[MSG_LIMIT_AS] = RLIMIT_AS,	      [MSG_LIMIT_NPROC] = RLIMIT_NPROC,
		[MSG_LIMIT_FSIZE] = RLIMIT_FSIZE,     [MSG_LIMIT_NOFILE] = RLIMIT_NOFILE,
		[MSG_LIMIT_MEMLOCK] = RLIMIT_MEMLOCK, [MSG_LIMIT_CORE] = RLIMIT_CORE,
	};
	uint64_t want[MSG_LIMIT_COUNT];
	launch_limits(l, want);
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++)
		if (set_rlimit(kinds[i], want[i]) < 0)
			return -1;
	return 0;
}

static void reset_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL); /* the one that the shim changes */
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void place_fds(const struct child *c)
{
	/* All sources lie above the targets (see high_fd), so nothing is overwritten. */
	for (int i = 0; i < LAUNCH_FDS; i++) {
		if (c->fds[i] < 0)
			close(i);
		else if (dup2(c->fds[i], i) < 0)
			child_fail(c->report_w, "place descriptors");
	}
	if (dup3(c->report_w, CHILD_REPORT_FD, O_CLOEXEC) < 0 ||
	    dup3(c->death_r, CHILD_DEATH_FD, O_CLOEXEC) < 0 ||
	    (c->rules >= 0 && dup3(c->rules, CHILD_RULES_FD, O_CLOEXEC) < 0))
		child_fail(c->report_w, "place descriptors");
	if (close_range(c->rules >= 0 ? CHILD_RULES_FD + 1 : CHILD_RULES_FD, ~0u, 0) < 0)
		child_fail(CHILD_REPORT_FD, "close descriptors");
}

static _Noreturn void run_child(const struct child *c)
{
	const struct launch *l = c->launch;
	const char *step = "";
	reset_signals();
	place_fds(c);
	if (setsid() < 0)
		child_fail(CHILD_REPORT_FD, "start a session");
	/* The host's name is none of the VMM's business. */
	if (sethostname("sandbox", 7) < 0 || setdomainname("", 0) < 0)
		child_fail(CHILD_REPORT_FD, "set the host name");
	umask(077);
	if (set_rlimits(l) < 0)
		child_fail(CHILD_REPORT_FD, "set resource limits");
	if (caps_drop_to_vmm(l->uid, (gid_t)l->uid, &step) < 0)
		child_fail(CHILD_REPORT_FD, step);
	/* After the last change of credentials, which would clear it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		child_fail(CHILD_REPORT_FD, "ask for a parent death signal");
	/* Had the shim died before that, no signal will come: its pipe's end tells. */
	struct pollfd death = {.fd = CHILD_DEATH_FD, .events = POLLIN};
	if (poll(&death, 1, 0) != 0)
		child_fail(CHILD_REPORT_FD, "find the shim alive");
	if (c->rules >= 0 && landlock_enforce(CHILD_RULES_FD) < 0)
		child_fail(CHILD_REPORT_FD, "put itself under Landlock");
	/* Last, as it denies some of what was done above. */
	if (vmm_filter_load() < 0)
		child_fail(CHILD_REPORT_FD, "load the system call filter");
	execve(JAIL_VMM_PATH, (char *const *)(uintptr_t)l->argv, l->env);
	child_fail(CHILD_REPORT_FD, "execute the VMM");
}

/* Moves a descriptor out of the way of the child's 0 to CHILD_DEATH_FD. */
static int high_fd(int fd, struct err *e)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 16);
	if (high < 0)
		return err_errno(e, errno, "move a descriptor");
	return high;
}

static int make_child(const struct child *c, struct launch_vmm *vmm, struct err *e)
{
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&vmm->pidfd,
		.exit_signal = SIGCHLD,
	};
	if (c->launch->own_net)
		args.flags |= CLONE_NEWNET;
	if (c->launch->cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)c->launch->cgroup_fd;
	}
	long pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return err_errno(e, errno, "clone the VMM's process");
	if (pid == 0)
		run_child(c);
	vmm->pid = (pid_t)pid;
	return 0;
}

/* End of file means execve closed the pipe; a report means it did not get there. */
static int await_exec(int report_r, int64_t deadline_us, struct err *e)
{
	struct pollfd p = {.fd = report_r, .events = POLLIN};
	for (;;) {
		int64_t left = deadline_us - clock_us();
		int n = left > 0 ? poll(&p, 1, (int)(left / 1000) + 1) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "wait for the VMM's execve");
		if (n == 0)
			return err_set(e, ERR_DEADLINE, 0, "the VMM was not executed in time");
		break;
	}
	struct report report;
	ssize_t n = read(report_r, &report, sizeof(report));
	if (n == 0)
		return 0;
	if (n != (ssize_t)sizeof(report))
		return err_set(e, ERR_INTERNAL, 0, "the VMM's process ended before execve");
	report.step[sizeof(report.step) - 1] = '\0';
	return err_errno(e, report.errnum, "VMM's process could not %s", report.step);
}

void launch_kill(struct launch_vmm *vmm, int timeout_ms)
{
	if (vmm->pidfd < 0)
		return;
	siginfo_t info;
	struct pollfd p = {.fd = vmm->pidfd, .events = POLLIN};
	syscall(SYS_pidfd_send_signal, vmm->pidfd, SIGKILL, NULL, 0);
	if (poll(&p, 1, timeout_ms) == 1)
		waitid(P_PIDFD, (id_t)vmm->pidfd, &info, WEXITED);
	fd_close(&vmm->pidfd);
	fd_close(&vmm->death_pipe);
}

static int prepare_rules(struct child *c, struct err *e)
{
	CLEANUP_FD int rules = -1;
	if (jail_landlock_open(&rules, e) < 0)
		return -1;
	if (rules >= 0 && (c->rules = high_fd(rules, e)) < 0)
		return -1;
	return 0;
}

static int start(struct child *c, int report_w, int death_r, struct launch_vmm *vmm, struct err *e)
{
	c->report_w = high_fd(report_w, e);
	c->death_r = high_fd(death_r, e);
	int result = c->report_w < 0 || c->death_r < 0 ? -1 : 0;
	if (result == 0)
		result = prepare_rules(c, e);
	for (int i = 0; result == 0 && i < LAUNCH_FDS; i++)
		if (c->launch->fds[i] >= 0 && (c->fds[i] = high_fd(c->launch->fds[i], e)) < 0)
			result = -1;
	if (result == 0)
		result = make_child(c, vmm, e);
	for (int i = 0; i < LAUNCH_FDS; i++)
		fd_close(&c->fds[i]);
	fd_close(&c->report_w);
	fd_close(&c->death_r);
	fd_close(&c->rules);
	return result;
}

/*
 * What has ended already (`--version` is quick) has no namespaces to read, and does no harm. They
 * go a little before the pidfd tells the end, hence the wait.
 */
static bool has_ended(const struct launch_vmm *vmm, const struct err *e)
{
	struct pollfd p = {.fd = vmm->pidfd, .events = POLLIN};
	return (e->errnum == ENOENT || e->errnum == ESRCH) && poll(&p, 1, 1000) == 1;
}

int launch_vmm(const struct launch *launch, struct launch_vmm *vmm, struct err *e)
{
	int report_pipe[2], death_pipe[2];
	struct child c = {.launch = launch,
			  .fds = {-1, -1, -1, -1, -1},
			  .report_w = -1,
			  .death_r = -1,
			  .rules = -1};
	*vmm = (struct launch_vmm){.pid = -1, .pidfd = -1, .death_pipe = -1};
	if (pipe2(report_pipe, O_CLOEXEC) < 0)
		return err_errno(e, errno, "make a pipe");
	CLEANUP_FD int report_r = report_pipe[0];
	CLEANUP_FD int report_w = report_pipe[1];
	if (pipe2(death_pipe, O_CLOEXEC) < 0)
		return err_errno(e, errno, "make a pipe");
	CLEANUP_FD int death_r = death_pipe[0];
	vmm->death_pipe = death_pipe[1];
	if (start(&c, report_w, death_r, vmm, e) < 0) {
		fd_close(&vmm->death_pipe);
		return -1;
	}
	fd_close(&report_w);
	if (await_exec(report_r, launch->deadline_us, e) < 0 ||
	    (confine_check_namespaces(launch->proc_fd, vmm->pid, launch->host, launch->own_net, e) <
		     0 &&
	     !has_ended(vmm, e))) {
		launch_kill(vmm, 1000);
		return -1;
	}
	return 0;
}
