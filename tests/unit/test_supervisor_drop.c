// SPDX-License-Identifier: Apache-2.0
/* supervisor/drop: what is left to cloisterd after its drop, tried out in a child. */
#include "unit.h"

#include "drop.h"
#include "landlock.h"
#include "util.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define UID 712345

static char path[64];
static int dir;
static struct host host;
static struct policy policy;
static struct err e;
static const char *abstract_name;

static int setup(void **unused)
{
	(void)unused;
	host_init(&host);
	dir = unit_make_dir(path);
	str_copy(policy.state_dir, sizeof(policy.state_dir), path);
	policy.user_uid = policy.user_gid = UID;
	unit_write(dir, "instance", "0123456789abcdef\n");
	assert_int_equal(fchmodat(dir, "instance", 0600, 0), 0);
	assert_int_equal(mkdirat(dir, "store", 0700) | mkdirat(dir, "shims", 0700) |
				 mkdirat(dir, "other", 0777),
			 0);
	assert_int_equal(chmod(path, 0755) | fchmodat(dir, "other", 0777, 0), 0);
	unit_write(dir, "other/file", "x");
	if (geteuid() == 0)
		assert_int_equal(fchownat(dir, "store", UID, UID, 0) |
					 fchownat(dir, "shims", UID, UID, 0),
				 0);
	host.store_dir = openat(dir, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host.shims_dir = openat(dir, "shims", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	host_close(&host);
	fd_close(&dir);
	unit_remove_dir(path);
	return 0;
}

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static int connect_abstract(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t length = strlen(abstract_name);
	memcpy(to.sun_path + 1, abstract_name, length);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
	int result = connect(fd, (struct sockaddr *)&to, size);
	close(fd);
	return result;
}

static int drop_both(void)
{
	if (drop_root(&policy, &e) < 0 || drop_access(&host, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	return 0;
}

static int check_root_is_gone(void)
{
	CHECK(drop_root(&policy, &e) == 0);
	CHECK(setresuid(0, 0, 0) < 0 && setgroups(0, NULL) < 0);
	CHECK(prctl(PR_SET_KEEPCAPS, 1) < 0 && prctl(PR_SET_SECUREBITS, 0) < 0);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0) < 0);
	CHECK(openat(dir, "instance", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	/* Not by Landlock yet. */
	int fd = openat(dir, "other/file", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	return 0;
}

static int check_access(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	unsigned abi = landlock_abi();
	CHECK(drop_both() == 0);
	/* Its own. */
	int fd = openat(host.store_dir, "new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0);
	CHECK(renameat(host.store_dir, "new", host.store_dir, "final") == 0);
	CHECK(unlinkat(host.store_dir, "final", 0) == 0);
	fd_close(&fd);
	fd = openat(host.shims_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	fd_close(&fd);
	CHECK(openat(host.shims_dir, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
	/* Everybody's: names only. */
	CHECK(openat(dir, "other/file", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(openat(dir, "other/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
	CHECK(open("/", O_RDONLY | O_CLOEXEC) < 0 && open("/dev/null", O_RDWR | O_CLOEXEC) < 0);
	fd = openat(dir, "other/file", O_PATH | O_CLOEXEC);
	CHECK(fd >= 0);
	fd_close(&fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(abi < 4 || (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 && errno == EACCES));
	fd_close(&fd);
	return 0;
}

static int check_abstract(void)
{
	CHECK(drop_both() == 0);
	CHECK(connect_abstract() < 0 && errno == EPERM);
	return 0;
}

static int check_service_manager(void)
{
	CHECK(drop_both() == 0);
	CHECK(connect_abstract() == 0);
	return 0;
}

static void run(int (*check)(void))
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(check());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("line %d (status %x)", WEXITSTATUS(status), status);
}

#define NEED(what, why)                                                                            \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			print_message("not run: %s\n", why);                                       \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static void test_root(void **unused)
{
	(void)unused;
	NEED(geteuid() == 0, "needs root");
	run(check_root_is_gone);
}

static void test_access(void **unused)
{
	(void)unused;
	NEED(geteuid() == 0 && landlock_abi() > 0, "needs root and Landlock");
	run(check_access);
}

static void test_abstract_sockets(void **unused)
{
	char name[64], notify[80];
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	(void)unused;
	NEED(geteuid() == 0 && landlock_abi() >= 6, "needs root and Landlock of ABI 6");
	snprintf(name, sizeof(name), "cloister-unit-%d", (int)getpid());
	memcpy(at.sun_path + 1, name, strlen(name));
	abstract_name = name;
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(listener, 4), 0);
	unsetenv("NOTIFY_SOCKET");
	run(check_abstract);
	/* A test may: in a program environ(7) is only read. */
	snprintf(notify, sizeof(notify), "NOTIFY_SOCKET=@%s", name);
	assert_int_equal(putenv(notify), 0);
	run(check_service_manager);
	unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_access, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abstract_sockets, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
