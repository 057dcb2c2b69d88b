// SPDX-License-Identifier: Apache-2.0
/*
 * step - counts the steps of one process (calls.h), and kills it, stops it, or lets the call fail,
 * at one of them.
 *
 *   step [--fallible] [--depth N] [--from-exec] [--at K --kill before|after|stop | --fail] PID
 *
 * It is a debugger (ptrace(2)), not a library that wraps calls: it sees each call that is made,
 * raw ones too, in the programs as they are shipped, static ones and Cloud Hypervisor included,
 * and at its moment the process stands still. The process that counts is PID (--depth 0, all its
 * threads), or a child that PID makes from now on (--depth 1), or a child of that (2); it counts
 * from its birth on, before its execve. With --from-exec it counts from its next execve on.
 *
 * Says "ready" when it watches, and goes on until SIGTERM; then it lets go of everybody. In the
 * end it prints each step ("step K NAME WHERE"), which one was hit ("hit K NAME WHERE"), and
 * "count N". Exit status 0, or 1 with a reason.
 */
#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TASKS_MAX 1024

struct task {
	pid_t tid, tgid;
	int depth;
	bool fails; /* the call that it is in was replaced */
	bool dies;  /* when the call that it is in is done */
	int error;
	uint64_t first; /* argument of the call that was replaced */
};

static struct {
	enum calls_class class;
	int depth;
	bool from_exec, counting;
	unsigned long at;
	bool kill_before, kill_after, stop, fail;
	unsigned long count;
	struct task tasks[TASKS_MAX];
	size_t task_count;
	bool hit;
} s;

static long trace(int request, pid_t tid, uintptr_t addr, uintptr_t data)
{
	return ptrace((enum __ptrace_request)request, tid, (void *)addr, (void *)data);
}

static struct task *task_find(pid_t tid)
{
	for (size_t i = 0; i < s.task_count; i++)
		if (s.tasks[i].tid == tid)
			return &s.tasks[i];
	return NULL;
}

static void task_forget(pid_t tid)
{
	struct task *t = task_find(tid);
	if (t)
		*t = s.tasks[--s.task_count];
}

static struct task *task_add(pid_t tid, pid_t tgid, int depth)
{
	if (s.task_count == TASKS_MAX) {
		fprintf(stderr, "step: more than %d tasks\n", TASKS_MAX);
		exit(1);
	}
	struct task *t = &s.tasks[s.task_count++];
	*t = (struct task){.tid = tid, .tgid = tgid, .depth = depth};
	return t;
}

static pid_t status_number(pid_t tid, const char *field)
{
	char path[64], line[128];
	int found = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			found = atoi(line + strlen(field));
	if (f)
		fclose(f);
	return found;
}

/* Its first stop: whose thread, or whose child it is. */
static struct task *task_born(pid_t tid)
{
	pid_t tgid = status_number(tid, "Tgid:");
	struct task *leader = task_find(tgid);
	if (leader)
		return task_add(tid, tgid, leader->depth);
	const struct task *parent = task_find(status_number(tid, "PPid:"));
	return task_add(tid, tgid, parent ? parent->depth + 1 : s.depth + 1);
}

static bool is_watched(const struct task *t)
{
	return t->depth == s.depth;
}

static uintptr_t options_of(int depth)
{
	uintptr_t options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	return depth < s.depth ? options | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK : options;
}

/* ------------------------------------------------------------------ at a call */

#ifndef __x86_64__
#error "step.c replaces system calls on x86-64 only"
#endif

/* close(-1) in its place: it changes nothing, and no filter of system calls refuses it. */
static void replace_call(struct task *t)
{
	struct user_regs_struct regs;
	if (trace(PTRACE_GETREGS, t->tid, 0, (uintptr_t)&regs) < 0)
		return;
	t->first = regs.rdi;
	t->fails = true;
	regs.orig_rax = SYS_close;
	regs.rdi = UINT64_MAX;
	trace(PTRACE_SETREGS, t->tid, 0, (uintptr_t)&regs);
}

static void set_result(struct task *t)
{
	struct user_regs_struct regs;
	t->fails = false;
	if (trace(PTRACE_GETREGS, t->tid, 0, (uintptr_t)&regs) < 0)
		return;
	regs.rax = (unsigned long long)-(long long)t->error;
	regs.rdi = t->first; /* a system call leaves it as it was */
	trace(PTRACE_SETREGS, t->tid, 0, (uintptr_t)&regs);
}

static void at_entry(struct task *t, uint64_t number, const uint64_t args[6])
{
	struct call c;
	char where[256];
	if (!calls_count(s.class, t->tid, number, args, &c))
		return;
	s.count++;
	calls_describe(t->tid, &c, where, sizeof(where));
	bool hit = s.at == s.count;
	printf("%s %lu %s %s\n", hit ? "hit" : "step", s.count, c.name, where);
	if (!hit)
		return;
	s.hit = true;
	t->error = c.error;
	t->dies = s.kill_after;
	if (s.fail)
		replace_call(t);
	if (s.kill_before)
		kill(t->tgid, SIGKILL);
	if (s.stop) /* it does the call, and then stands */
		kill(t->tgid, SIGSTOP);
}

static void at_call(struct task *t)
{
	struct __ptrace_syscall_info info;
	if (trace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), (uintptr_t)&info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		const uint64_t args[6] = {info.entry.args[0], info.entry.args[1],
					  info.entry.args[2], info.entry.args[3],
					  info.entry.args[4], info.entry.args[5]};
		at_entry(t, info.entry.nr, args);
		return;
	}
	if (t->fails)
		set_result(t);
	if (t->dies)
		kill(t->tgid, SIGKILL);
	t->dies = false;
}

/* ------------------------------------------------------------------ stops */

static void go_on(const struct task *t, int signal)
{
	/* After the hit nobody needs to stop any more, but for the result of that call. */
	bool look = is_watched(t) && s.counting && (!s.hit || t->fails || t->dies);
	trace(look ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, 0, (uintptr_t)signal);
}

static bool is_group_stop(int status)
{
	int sig = WSTOPSIG(status);
	return status >> 16 == PTRACE_EVENT_STOP &&
	       (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU);
}

/* An execve in a thread that is not the leader's makes it the leader; none of ours does that. */
static void on_stop(pid_t tid, int status)
{
	struct task *t = task_find(tid);
	int event = status >> 16, sig = WSTOPSIG(status);
	if (!t) {
		t = task_born(tid);
		if (t->depth > s.depth) {
			trace(PTRACE_DETACH, tid, 0, 0);
			task_forget(tid);
			return;
		}
		trace(PTRACE_SETOPTIONS, tid, 0, options_of(t->depth));
	}
	if (event == PTRACE_EVENT_EXEC && t->depth == 0)
		s.counting = true;
	if (is_group_stop(status))
		trace(PTRACE_LISTEN, tid, 0, 0);
	else if (sig == (SIGTRAP | 0x80)) {
		at_call(t);
		go_on(t, 0);
	} else {
		go_on(t, event ? 0 : sig);
	}
}

static void on_end(pid_t tid, int status)
{
	const struct task *t = task_find(tid);
	if (t && t->tid == t->tgid && is_watched(t))
		printf("end %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	task_forget(tid);
}

/* False: there is nobody left. */
static bool take_all(void)
{
	int status;
	pid_t tid;
	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (WIFSTOPPED(status))
			on_stop(tid, status);
		else
			on_end(tid, status);
	}
	return tid == 0;
}

/* Whether the call that was hit is still being made. */
static bool is_pending(void)
{
	for (size_t i = 0; i < s.task_count; i++)
		if (s.tasks[i].dies || s.tasks[i].fails)
			return true;
	return false;
}

/* ------------------------------------------------------------------ start */

/* Gives how many threads it found that it did not have yet. */
static int seize_new(pid_t pid)
{
	char path[64];
	int found = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	for (const struct dirent *entry; dir && (entry = readdir(dir));) {
		pid_t tid = atoi(entry->d_name);
		if (tid <= 0 || task_find(tid))
			continue;
		if (trace(PTRACE_SEIZE, tid, 0, options_of(0)) < 0) {
			fprintf(stderr, "step: watch %d: %s\n", (int)tid, strerror(errno));
			exit(1);
		}
		task_add(tid, pid, 0);
		found++;
		/* It sleeps in a call, and is let go on with its next ones looked at. */
		if (s.depth == 0 && !s.from_exec)
			trace(PTRACE_INTERRUPT, tid, 0, 0);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool all_stopped_once(pid_t pid)
{
	int status;
	size_t n = s.task_count;
	for (size_t i = 0; i < n; i++) {
		pid_t tid = s.tasks[i].tid;
		if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status)) {
			fprintf(stderr, "step: %d of %d has ended\n", (int)tid, (int)pid);
			return false;
		}
		on_stop(tid, status);
	}
	return true;
}

static const char usage[] =
	"usage: step [--fallible] [--depth N] [--from-exec] [--at K --kill before|after|stop | "
	"--fail] "
	"PID\n";

static pid_t read_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{"fallible", no_argument, NULL, 'f'},
		{"depth", required_argument, NULL, 'd'},
		{"from-exec", no_argument, NULL, 'e'},
		{"at", required_argument, NULL, 'a'},
		{"kill", required_argument, NULL, 'k'},
		{"fail", no_argument, NULL, 'x'},
		{0},
	};
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (option) {
		case 'f':
			s.class = CALLS_FALLIBLE;
			break;
		case 'd':
			s.depth = atoi(optarg);
			break;
		case 'e':
			s.from_exec = true;
			break;
		case 'a':
			s.at = strtoul(optarg, NULL, 10);
			break;
		case 'k':
			s.kill_before = strcmp(optarg, "before") == 0;
			s.kill_after = strcmp(optarg, "after") == 0;
			s.stop = !s.kill_before && !s.kill_after;
			break;
		case 'x':
			s.fail = true;
			break;
		default:
			return -1;
		}
	}
	return optind == argc - 1 ? atoi(argv[optind]) : -1;
}

int main(int argc, char **argv)
{
	sigset_t mask;
	pid_t pid = read_arguments(argc, argv);
	if (pid <= 0) {
		fputs(usage, stderr);
		return 1;
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	s.counting = !s.from_exec;
	if (seize_new(pid) == 0) {
		fprintf(stderr, "step: there is no process %d\n", (int)pid);
		return 1;
	}
	while (seize_new(pid) > 0)
		;
	if (s.depth == 0 && !s.from_exec && !all_stopped_once(pid))
		return 1;
	if (s.from_exec)
		kill(pid, SIGCONT);
	puts("ready");
	fflush(stdout);
	for (int sig = SIGCHLD; sig != SIGTERM;) {
		take_all();
		if (sigwait(&mask, &sig) != 0)
			return 1;
	}
	/* Who waits for the call's effect may be faster than the call's own end. */
	const struct timespec patience = {.tv_sec = 2};
	sigdelset(&mask, SIGTERM);
	while (take_all() && is_pending() && sigtimedwait(&mask, NULL, &patience) > 0)
		;
	/* Whoever is traced is let go by our end, whatever it is doing (ptrace(2)). */
	printf("count %lu\n", s.count);
	return 0;
}
