// SPDX-License-Identifier: Apache-2.0
/* How cloister-shim is started as the spawner, or to check: apart from the rest, as the client's
 * import needs it, too. */
#include "host.h"
#include "spawner.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_LOCK_FD 5
#define TARGET_COUNT  (FIRST_LOCK_FD + HOST_LOCK_COUNT)

/* The few variables that a child may see: sanitizer options of a test build, and the journal. */
static void make_environment(char *env[], size_t max)
{
	static const char *const passed[] = {
		"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=", "JOURNAL_STREAM="};
	size_t n = 0;
	for (char **v = environ; *v && n < max - 1; v++)
		for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
			if (strncmp(*v, passed[i], strlen(passed[i])) == 0 && n < max - 1)
				env[n++] = *v;
	env[n] = NULL;
}

/* In the child: puts descriptors in their places and becomes the spawner. Never returns. */
static void become_spawner(int source[TARGET_COUNT], int shim_fd, char *role)
{
	char *argv[] = {"cloister-shim", role, NULL};
	char *env[8];
	sigset_t none;
	/* First out of the way of the targets, then into place; dup2(2) clears CLOEXEC. */
	shim_fd = fcntl(shim_fd, F_DUPFD_CLOEXEC, TARGET_COUNT);
	for (int i = 0; i < TARGET_COUNT; i++)
		source[i] = fcntl(source[i], F_DUPFD_CLOEXEC, TARGET_COUNT);
	for (int i = 0; i < TARGET_COUNT; i++)
		if (source[i] < 0 || dup2(source[i], i) < 0)
			_exit(126);
	syscall(SYS_close_range, TARGET_COUNT, ~0u, CLOSE_RANGE_CLOEXEC);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	make_environment(env, ARRAY_SIZE(env));
	fexecve(shim_fd, argv, env);
	_exit(127);
}

int spawner_exec(const struct host *h, const char *role, int shim_fd, int policy_fd, pid_t *pid,
		 int *link_fd, struct err *e)
{
	int pair[2];
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_errno(e, errno, "open /dev/null");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, errno, "make the spawner's socketpair");
	int source[TARGET_COUNT] = {null, STDERR_FILENO, STDERR_FILENO, pair[1], policy_fd};
	for (int i = 0; i < HOST_LOCK_COUNT; i++)
		source[FIRST_LOCK_FD + i] = h->locks[i] >= 0 ? h->locks[i] : null;
	*pid = fork();
	if (*pid == 0)
		become_spawner(source, shim_fd, (char *)(uintptr_t)role);
	fd_close(&pair[1]);
	if (*pid < 0) {
		err_errno(e, errno, "fork the spawner");
		fd_close(&pair[0]);
		return -1;
	}
	*link_fd = pair[0];
	return 0;
}
