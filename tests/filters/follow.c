// SPDX-License-Identifier: Apache-2.0
/*
 * follow record ROWS OUT PROGRAM...   runs PROGRAM, and all that it starts, of a TRACE=1 build, and
 *     appends to OUT one line for each row of a filter that let a call pass ("used EVENT") and for
 *     each call that no row names ("unlisted EVENT NR ARG0 ARG1 ARG2 ARG3 PROGRAM"). ROWS is what
 *     `filter_gen rows` printed. PROGRAM keeps the caller's pid: the tracer is a grandchild.
 * follow inject PID NR                makes process PID call NR at its next system call, and prints
 *     how it ended: "signal N" or "status N".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS	(1u << 16)
#define NO_ROW	0x1fffu
#define UNNAMED 4096 /* different calls without a row that are told */

static bool seen[EVENTS];
static int answers[EVENTS];
static FILE *out;

struct unnamed {
	unsigned event;
	unsigned long long nr, args[4];
};
static struct unnamed told[UNNAMED];
static size_t told_count;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "follow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void read_rows(const char *path)
{
	char line[512];
	unsigned event;
	int answer;
	FILE *f = fopen(path, "re");
	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%u %*s %*s %d", &event, &answer) == 2 && event < EVENTS)
			answers[event] = answer;
	fclose(f);
}

static bool get_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec v = {.iov_base = regs, .iov_len = sizeof(*regs)};
	return ptrace(PTRACE_GETREGSET, tid, (void *)1 /* NT_PRSTATUS */, &v) == 0;
}

/* The name of the file that it executes: a VMM's calls are not ours. */
static bool is_ours(pid_t tid, const char **name)
{
	static char target[4096];
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)tid);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	*name = strrchr(target, '/') ? strrchr(target, '/') + 1 : "?";
	return strncmp(*name, "cloister", 8) == 0;
}

/* The arguments that filters look at; the others would make the list long. */
static unsigned args_of(unsigned long long nr)
{
	switch (nr) {
	case SYS_mmap:
	case SYS_mprotect:
	case SYS_madvise:
	case SYS_close_range:
		return 4;
	case SYS_ioctl:
	case SYS_fcntl:
	case SYS_futex:
	case SYS_kill:
		return 2;
	case SYS_socket:
	case SYS_socketpair:
		return 7;
	case SYS_setsockopt:
	case SYS_getsockopt:
		return 6;
	case SYS_prctl:
	case SYS_clone:
	case SYS_unshare:
	case SYS_seccomp:
	case SYS_clock_gettime:
	case SYS_rt_sigaction:
		return 1;
	case SYS_tgkill:
		return 4;
	default:
		return 0;
	}
}

static void tell_unnamed(pid_t tid, unsigned event)
{
	struct user_regs_struct r;
	const char *name;
	if (!get_regs(tid, &r))
		return;
	/* Of a VMM's calls the numbers will do. */
	bool ours = is_ours(tid, &name);
	unsigned which = ours ? args_of(r.orig_rax) : 0;
	struct unnamed u = {event,
			    r.orig_rax,
			    {which & 1 ? r.rdi : 0, which & 2 ? r.rsi : 0, which & 4 ? r.rdx : 0,
			     which & 8 ? r.r10 : 0}};
	for (size_t i = 0; i < told_count; i++)
		if (!memcmp(&told[i], &u, sizeof(u)))
			return;
	if (told_count < UNNAMED)
		told[told_count++] = u;
	fprintf(out, "%s %u %llu 0x%llx 0x%llx 0x%llx 0x%llx %s\n", ours ? "unlisted" : "vmm",
		event, u.nr, u.args[0], u.args[1], u.args[2], u.args[3], name);
	fflush(out);
}

/* A row that answers an errno: the call is not made. */
static void answer(pid_t tid, int error)
{
	struct user_regs_struct r;
	struct iovec v = {.iov_base = &r, .iov_len = sizeof(r)};
	if (!get_regs(tid, &r))
		return;
	r.orig_rax = (unsigned long long)-1;
	r.rax = (unsigned long long)-(long long)error;
	ptrace(PTRACE_SETREGSET, tid, (void *)1, &v);
}

static void on_call(pid_t tid)
{
	unsigned long event = 0;
	const char *name;
	if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &event) < 0 || event >= EVENTS)
		return;
	if ((event & NO_ROW) == NO_ROW) {
		tell_unnamed(tid, (unsigned)event);
		return;
	}
	if (!seen[event] && is_ours(tid, &name)) {
		seen[event] = true;
		fprintf(out, "used %lu\n", event);
		fflush(out);
	}
	if (answers[event])
		answer(tid, answers[event]);
}

/* One stop of one thread; what it is, ptrace(2) says. */
static void on_stop(pid_t tid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;
	long request = PTRACE_CONT;
	long deliver = 0;
	if (event == PTRACE_EVENT_SECCOMP)
		on_call(tid);
	else if (event == PTRACE_EVENT_STOP)
		request = sig == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN;
	else if (event == 0)
		deliver = sig;
	ptrace((enum __ptrace_request)request, tid, NULL, (void *)deliver);
}

static void follow(void)
{
	int status;
	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0)
			exit(0); /* nobody is left */
		if (WIFSTOPPED(status))
			on_stop(tid, status);
	}
}

static _Noreturn void trace(pid_t pid, int ready, const char *out_path)
{
	const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			     PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL;
	setsid();
	out = fopen(out_path, "ae");
	if (!out)
		die(out_path);
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0)
		die("seize");
	if (write(ready, "", 1) != 1)
		die("tell");
	/* A test that waits for the end of a pipe does not wait for this process. */
	if (close_range(0, ~0u, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) < 0)
		die("close");
	for (int fd = 0; fd < 1024; fd++)
		if (fd != fileno(out))
			close(fd);
	follow();
	exit(0);
}

static int record(char **argv)
{
	int ends[2];
	char byte;
	pid_t self = getpid();
	read_rows(argv[0]);
	if (pipe2(ends, O_CLOEXEC) < 0)
		die("pipe");
	pid_t child = fork();
	if (child == 0) {
		/* The grandchild: PROGRAM is not to have a child that it does not know. */
		if (fork() == 0)
			trace(self, ends[1], argv[1]);
		_exit(0);
	}
	close(ends[1]);
	if (child < 0 || waitpid(child, NULL, 0) != child || read(ends[0], &byte, 1) != 1)
		die("start the tracer");
	execv(argv[2], argv + 2);
	die(argv[2]);
}

static int inject(pid_t pid, unsigned long long nr)
{
	struct user_regs_struct r;
	struct iovec v = {.iov_base = &r, .iov_len = sizeof(r)};
	int status;
	bool done = false;
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
		die("seize");
	while (waitpid(pid, &status, __WALL) == pid) {
		if (WIFSIGNALED(status))
			return printf("signal %d\n", WTERMSIG(status)) < 0;
		if (WIFEXITED(status))
			return printf("status %d\n", WEXITSTATUS(status)) < 0;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) && !done) {
			if (!get_regs(pid, &r))
				die("read registers");
			r.orig_rax = nr;
			if (ptrace(PTRACE_SETREGSET, pid, (void *)1, &v) < 0)
				die("write registers");
			done = true;
		}
		bool signal = status >> 16 == 0 && !(WSTOPSIG(status) & 0x80);
		ptrace(done ? PTRACE_CONT : PTRACE_SYSCALL, pid, NULL,
		       (void *)(long)(signal ? WSTOPSIG(status) : 0));
	}
	die("wait");
}

int main(int argc, char **argv)
{
	if (argc >= 5 && strcmp(argv[1], "record") == 0)
		return record(argv + 2);
	if (argc == 4 && strcmp(argv[1], "inject") == 0)
		return inject(atoi(argv[2]), strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: follow record ROWS OUT PROGRAM... | follow inject PID NR\n");
	return 2;
}
