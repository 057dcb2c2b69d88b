// SPDX-License-Identifier: Apache-2.0
#include "spawner_start.h"

#include "cgroup.h"
#include "file.h"
#include "log.h"
#include "serve.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIGH_FD	       16 /* ours stay clear of the descriptors that a started process gets */
#define PROBE_GRACE_MS 2000
#define CHILD_FDS      3

static int move_high(int *fd, struct err *e)
{
	int high = fcntl(*fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high < 0)
		return err_errno(e, errno, "move a descriptor");
	fd_close(fd);
	*fd = high;
	return 0;
}

int spawner_start_open(struct spawner_start *s, const struct policy *policy, int policy_fd,
		       struct err *e)
{
	*s = (struct spawner_start){.policy = policy, .policy_fd = policy_fd, .exe_fd = -1};
	s->exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (s->exe_fd < 0)
		return err_errno(e, errno, "open this program");
	return move_high(&s->exe_fd, e);
}

/* Sanitized builds take their options from the environment; nothing else is passed on. */
static void pick_env(char *env[4])
{
	static const char *const names[] = {"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
	unsigned n = 0;
	for (char **at = environ; *at; at++)
		for (size_t i = 0; i < ARRAY_SIZE(names) && n < 3; i++)
			if (strncmp(*at, names[i], strlen(names[i])) == 0)
				env[n++] = *at;
	env[n] = NULL;
}

/*
 * Executes this program with fds[] as 3, 4, ... and nothing else open but the standard three: all
 * of ours are closed by the exec, and the exec itself goes through one of them. A shim outlives us,
 * so it gets no terminal or journal of ours, but for a sanitizer's reports.
 */
static pid_t run(const struct spawner_start *s, char *const argv[], const int fds[CHILD_FDS],
		 struct err *e)
{
	char path[32];
	char *env[4];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid = -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->exe_fd);
	pick_env(env);
	sigemptyset(&none);
	int rc = posix_spawn_file_actions_init(&actions);
	if (rc != 0)
		return err_errno(e, rc, "prepare a start");
	rc = posix_spawnattr_init(&attr);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(&attr, &none);
	if (rc == 0)
		rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	for (int fd = 0; rc == 0 && fd < (env[0] ? 2 : 3); fd++)
		rc = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	for (int i = 0; rc == 0 && i < CHILD_FDS; i++)
		if (fds[i] >= 0)
			rc = posix_spawn_file_actions_adddup2(&actions, fds[i], 3 + i);
	if (rc == 0)
		rc = posix_spawn(&pid, path, &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (rc != 0)
		return err_errno(e, rc, "start %s", argv[0]);
	return pid;
}

/*
 * A uid is in use while a byte of RUN_DIR/uids is locked: by a lock of an open file description
 * that the shim holds and we hold until it is cleared up. No list can go stale (fcntl(2), OFD).
 */
static int lock_free_uid(struct spawner_start *s, uid_t *uid, struct err *e)
{
	const struct policy *p = s->policy;
	CLEANUP_FD int run = file_open_dir(p->run_dir, e);
	if (run < 0)
		return -1;
	CLEANUP_FD int fd =
		file_open_beneath(run, "uids", O_RDWR | O_CREAT | O_NOFOLLOW, 0600, "file", e);
	if (fd < 0)
		return -1;
	uint32_t usable = p->uid_count - 1;
	for (uint32_t i = 0; i < usable; i++) {
		uint32_t at = (s->next_uid + i) % usable;
		struct flock lock = {
			.l_type = F_WRLCK,
			.l_whence = SEEK_SET,
			.l_start = (off_t)p->uid_base + at,
			.l_len = 1,
		};
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
			*uid = p->uid_base + at;
			s->next_uid = (at + 1) % usable;
			return move_high(&fd, e) < 0 ? -1 : fd_take(&fd);
		}
		if (errno != EAGAIN && errno != EACCES)
			return err_errno(e, errno, "lock a uid");
	}
	return err_set(e, ERR_QUOTA, 0, "all %u uids of [vmm] uid_base, uid_count are in use",
		       usable);
}

static int start(struct spawner_start *s, struct leash_table *t, const char *key, int link,
		 pid_t *pid, struct err *e)
{
	uid_t uid = 0;
	char uid_text[16];
	CLEANUP_FD int uid_lock = lock_free_uid(s, &uid, e);
	if (uid_lock < 0)
		return -1;
	snprintf(uid_text, sizeof(uid_text), "%u", uid);
	char *argv[] = {(char *)(uintptr_t) "cloister-shim", (char *)(uintptr_t)key, uid_text,
			NULL};
	const int fds[CHILD_FDS] = {link, s->policy_fd, uid_lock};
	*pid = run(s, argv, fds, e);
	if (*pid < 0)
		return -1;
	/* A child that is not reaped keeps its pid, so this is that process. */
	CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	if (pidfd < 0) {
		err_errno(e, errno, "open a pidfd");
		kill(*pid, SIGKILL);
		return -1;
	}
	struct leash *l = leash_add(t, key, *pid, true, fd_take(&pidfd), fd_take(&uid_lock), e);
	if (!l) {
		kill(*pid, SIGKILL);
		return -1;
	}
	l->uid = uid;
	return 0;
}

int spawner_start_shim(struct spawner_start *s, struct leash_table *t, const char *key,
		       struct msg_started *started, struct err *e)
{
	int64_t begin = clock_us();
	int pair[2];
	pid_t pid;
	if (leash_find(t, key))
		return err_set(e, ERR_STATE, 0, "shim %s is still there", key);
	if (t->count >= s->policy->max_sandboxes)
		return err_set(e, ERR_QUOTA, 0, "%u shims of [limits] max_sandboxes = %u", t->count,
			       s->policy->max_sandboxes);
	/*
	 * That of a shim that ended unseen, whose VMM was not quite gone yet when we cleared up at
	 * our start. One in use is another sandbox's, whose socket the supervisor has put away: a
	 * shim would fail, and clearing up after it would end that one.
	 */
	int removed = t->cgroup_fd >= 0 ? cgroup_remove(t->cgroup_fd, key, e) : 1;
	if (removed < 0)
		return -1;
	if (removed == 0)
		return err_set(e, ERR_STATE, 0,
			       "cgroup %s is in use and no shim answers for it: see its "
			       "cgroup.procs",
			       key);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(e, errno, "make a link for shim %s", key);
	CLEANUP_FD int ours = pair[0];
	CLEANUP_FD int theirs = pair[1];
	if (move_high(&theirs, e) < 0 || start(s, t, key, theirs, &pid, e) < 0)
		return -1;
	started->pid = (uint32_t)pid;
	started->took_us = (uint32_t)(clock_us() - begin);
	return fd_take(&ours);
}

static int run_probe(struct spawner_start *s, struct probe_report *report, struct err *e)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, errno, "make a link for the version probe");
	CLEANUP_FD int ours = pair[0];
	CLEANUP_FD int theirs = pair[1];
	if (move_high(&theirs, e) < 0)
		return -1;
	char *argv[] = {(char *)(uintptr_t) "cloister-shim", (char *)(uintptr_t) "probe", NULL};
	const int fds[CHILD_FDS] = {theirs, s->policy_fd, -1};
	pid_t pid = run(s, argv, fds, e);
	if (pid < 0)
		return -1;
	fd_close(&theirs);
	struct pollfd p = {.fd = ours, .events = POLLIN};
	int wait_ms = (int)s->policy->deadline_ms[POLICY_DEADLINE_VERSION] + PROBE_GRACE_MS;
	int ready = poll(&p, 1, wait_ms);
	ssize_t n = ready == 1 ? recv(ours, report, sizeof(*report), MSG_DONTWAIT) : -1;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof(*report))
		return err_set(e, ready == 1 ? ERR_INTERNAL : ERR_DEADLINE, 0,
			       "the version probe of %s gave no report", s->policy->vmm_binary);
	report->version[sizeof(report->version) - 1] = '\0';
	report->err.text[sizeof(report->err.text) - 1] = '\0';
	str_clean(report->version);
	str_clean(report->err.text);
	return 0;
}

void spawner_start_probe(struct spawner_start *s, struct probe_report *report)
{
	struct err e;
	*report = (struct probe_report){0};
	if (run_probe(s, report, &e) < 0)
		*report = (struct probe_report){.err = e};
}
