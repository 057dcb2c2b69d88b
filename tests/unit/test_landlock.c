// SPDX-License-Identifier: Apache-2.0
/* common/landlock: what rules leave a child, with the rights that the running kernel knows. */
#include "unit.h"

#include "landlock.h"
#include "util.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char path[64];
static int dir;
static unsigned abi;
static struct err e;

static int setup(void **unused)
{
	(void)unused;
	e = (struct err){0};
	abi = landlock_abi();
	dir = unit_make_dir(path);
	chmod(path, 0777);
	assert_int_equal(mkdirat(dir, "open", 0777), 0);
	assert_int_equal(mkdirat(dir, "closed", 0777), 0);
	unit_write(dir, "open/file", "text");
	unit_write(dir, "closed/file", "text");
	unit_write(dir, "single", "text");
	assert_int_equal(symlinkat("open", dir, "link"), 0);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	fd_close(&dir);
	unit_remove_dir(path);
	return 0;
}

#define NEED_LANDLOCK()                                                                            \
	do {                                                                                       \
		if (!abi) {                                                                        \
			print_message("not run: the kernel has no Landlock\n");                    \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

/* In a child under `rules`: 0, or the line of what did not hold. */
static void run(int rules, int (*check)(void))
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || landlock_enforce(rules) < 0
			      ? 255
			      : check());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("line %d (status %x)", WEXITSTATUS(status), status);
}

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static bool can_open(const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, 0600);
	bool can = fd >= 0;
	if (!can && errno != EACCES)
		return true; /* another reason is not the one that is asked for */
	fd_close(&fd);
	return can;
}

static int check_nothing(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	CHECK(!can_open("open/file", O_RDONLY) && !can_open("single", O_WRONLY));
	CHECK(!can_open("open", O_RDONLY | O_DIRECTORY));
	CHECK(!can_open("open/new", O_WRONLY | O_CREAT));
	CHECK(mkdirat(dir, "open/new", 0700) < 0 && errno == EACCES);
	CHECK(unlinkat(dir, "single", 0) < 0 && errno == EACCES);
	/* To look names up is no right. */
	CHECK(can_open("open/file", O_PATH));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int bound = bind(fd, (struct sockaddr *)&any, sizeof(any));
	CHECK(abi < 4 ? bound == 0 : bound < 0 && errno == EACCES);
	fd_close(&fd);
	CHECK(abi < 6 ? kill(getppid(), 0) == 0 : kill(getppid(), 0) < 0 && errno == EPERM);
	return 0;
}

static void test_a_ruleset_without_rules(void **unused)
{
	(void)unused;
	NEED_LANDLOCK();
	CLEANUP_FD int rules = -1;
	assert_int_equal(landlock_open(LANDLOCK_SCOPE_ABSTRACT | LANDLOCK_SCOPE_SIGNAL, &rules, &e),
			 0);
	assert_true(fcntl(rules, F_GETFD) & FD_CLOEXEC);
	run(rules, check_nothing);
}

static int check_rules(void)
{
	CHECK(can_open("open/file", O_RDONLY) && !can_open("open/file", O_WRONLY));
	CHECK(can_open("open", O_RDONLY | O_DIRECTORY));
	CHECK(!can_open("open/new", O_WRONLY | O_CREAT));
	CHECK(!can_open("closed/file", O_RDONLY));
	/* Write, but not shorten. */
	CHECK(can_open("single", O_WRONLY) && !can_open("single", O_RDONLY));
	int fd = openat(dir, "single", O_WRONLY | O_CLOEXEC);
	CHECK(pwrite(fd, "more and more", 13, 0) == 13);
	int cut = ftruncate(fd, 0);
	CHECK(abi < 3 ? cut == 0 : cut < 0 && errno == EACCES);
	fd_close(&fd);
	CHECK(kill(getppid(), 0) == 0);
	return 0;
}

static void test_rules(void **unused)
{
	(void)unused;
	NEED_LANDLOCK();
	CLEANUP_FD int rules = -1;
	CLEANUP_FD int open_dir = openat(dir, "open", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(landlock_open(0, &rules, &e), 0);
	assert_int_equal(landlock_allow(rules, open_dir, "", LANDLOCK_READ | LANDLOCK_READ_DIR, &e),
			 0);
	/* Of a file: what only directories have is passed over. */
	assert_int_equal(landlock_allow(rules, dir, "single",
					LANDLOCK_WRITE | LANDLOCK_READ_DIR | LANDLOCK_MAKE_FILE,
					&e),
			 0);
	assert_int_equal(landlock_allow(rules, dir, "closed/file", LANDLOCK_READ_DIR, &e), 0);
	/* What this kernel does not know, too. */
	assert_int_equal(landlock_allow(rules, dir, "closed", 1ull << 40, &e), 0);
	run(rules, check_rules);
}

static void test_faults(void **unused)
{
	(void)unused;
	NEED_LANDLOCK();
	CLEANUP_FD int rules = -1;
	assert_int_equal(landlock_open(0, &rules, &e), 0);
	assert_int_equal(landlock_allow(rules, dir, "missing", LANDLOCK_READ, &e), -1);
	assert_int_equal(e.errnum, ENOENT);
	assert_int_equal(landlock_allow(rules, dir, "link", LANDLOCK_READ, &e), -1);
	assert_says(e.text, "symbolic link");
	assert_int_equal(landlock_allow(dir, dir, "open", LANDLOCK_READ, &e), -1);
}

static int check_all(void)
{
	CHECK(can_open("closed/file", O_RDWR) && can_open("/", O_RDONLY | O_DIRECTORY));
	return 0;
}

static void test_a_kernel_without(void **unused)
{
	(void)unused;
	assert_int_equal(landlock_allow(-1, dir, "missing", LANDLOCK_READ, &e), 0);
	assert_int_equal(landlock_enforce(-1), 0);
	run(-1, check_all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_ruleset_without_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_kernel_without, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
