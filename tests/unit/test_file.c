// SPDX-License-Identifier: Apache-2.0
/* common/file: never through a link, never out of the folder, and each refusal by its reason. */
#include "unit.h"

#include "file.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>

static char path[64];
static int dir;
static unsigned open_before;

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	umask(022);
	dir = unit_make_dir(path);
	unit_write(dir, "file", "hello");
	mkdirat(dir, "sub", 0755);
	unit_write(dir, "sub/inner", "in");
	return symlinkat("file", dir, "link") || symlinkat("sub", dir, "dirlink") ||
	       symlinkat("nowhere", dir, "dangling") || symlinkat("loop", dir, "loop") ||
	       mkfifoat(dir, "fifo", 0644);
}

static int teardown(void **unused)
{
	(void)unused;
	fd_close(&dir);
	unit_remove_dir(path);
	return unit_open_fds() == open_before ? 0 : -1;
}

static void refused(const char *name, int flags, enum err_kind kind, int errnum, const char *says)
{
	struct err e = {0};
	int fd = file_open_beneath(dir, name, flags, 0, "image", &e);
	if (fd >= 0)
		fail_msg("\"%s\" was opened", name);
	assert_int_equal(e.errnum, errnum);
	assert_int_equal(e.kind, kind);
	assert_says(e.text, says);
	assert_says(e.text, "image");
	assert_says(e.text, name);
}

static void opened(const char *name, int flags)
{
	struct err e = {0};
	int fd = file_open_beneath(dir, name, flags, 0, "image", &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
}

static void test_open_beneath(void **unused)
{
	struct err e;
	struct stat st;
	(void)unused;
	opened("file", O_RDONLY);
	opened("sub/inner", O_RDONLY);
	opened("sub/../file", O_RDONLY);
	opened("sub", O_PATH | O_DIRECTORY);
	refused("missing", O_RDONLY, ERR_NOT_FOUND, ENOENT, "\"missing\"");
	refused("link", O_RDONLY, ERR_INVALID, ELOOP, "symbolic link");
	refused("link", O_PATH, ERR_INVALID, ELOOP, "symbolic link");
	refused("dangling", O_RDONLY, ERR_INVALID, ELOOP, "symbolic link");
	refused("loop", O_RDONLY, ERR_INVALID, ELOOP, "symbolic link");
	refused("dirlink/inner", O_RDONLY, ERR_INVALID, ELOOP, "symbolic link");
	refused("dirlink", O_PATH | O_DIRECTORY, ERR_INVALID, ELOOP, "symbolic link");
	refused("dangling", O_WRONLY | O_CREAT, ERR_INVALID, ELOOP, "symbolic link");
	assert_int_equal(fstatat(dir, "nowhere", &st, 0), -1);
	refused("..", O_PATH, ERR_INTERNAL, EXDEV, "");
	refused("sub/../..", O_PATH, ERR_INTERNAL, EXDEV, "");
	refused("../", O_PATH, ERR_INTERNAL, EXDEV, "");
	refused("/etc/passwd", O_RDONLY, ERR_INTERNAL, EXDEV, "");
	refused("file/", O_RDONLY, ERR_INTERNAL, ENOTDIR, "");
	refused("file/x", O_RDONLY, ERR_INTERNAL, ENOTDIR, "");
	refused("file", O_RDONLY | O_DIRECTORY, ERR_INTERNAL, ENOTDIR, "");
	/* O_PATH | O_NOFOLLOW gives the link itself (openat2(2)): the check on the type refuses. */
	int fd = file_open_beneath(dir, "link", O_PATH | O_NOFOLLOW, 0, "image", &e);
	uint64_t bytes;
	const struct file_rule rule = {.owner = getuid()};
	assert_true(fd >= 0);
	assert_int_equal(file_check_regular(fd, &rule, "image link", &bytes, &e), -1);
	assert_says(e.text, "not a regular file");
	close(fd);
}

static void test_magic_links(void **unused)
{
	struct err e;
	(void)unused;
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(proc >= 0);
	assert_int_equal(file_open_beneath(proc, "root", O_PATH, 0, "x", &e), -1);
	assert_int_equal(file_open_beneath(proc, "cwd/x", O_PATH, 0, "x", &e), -1);
	assert_int_equal(file_open_beneath(proc, "exe", O_RDONLY, 0, "x", &e), -1);
	assert_int_equal(e.errnum, ELOOP);
	int fd = file_open_beneath(proc, "status", O_RDONLY, 0, "x", &e);
	assert_true(fd >= 0);
	close(fd);
	close(proc);
}

static void test_fifos(void **unused)
{
	struct err e;
	uint64_t bytes;
	const struct file_rule rule = {.owner = getuid()};
	(void)unused;
	/* As images are opened: O_PATH waits for no writer. */
	int fd = file_open_beneath(dir, "fifo", O_PATH | O_NOFOLLOW, 0, "image", &e);
	assert_true(fd >= 0);
	assert_int_equal(file_check_regular(fd, &rule, "fifo", &bytes, &e), -1);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_says(e.text, "fifo is not a regular file");
	close(fd);
	refused("fifo", O_WRONLY | O_NONBLOCK, ERR_INTERNAL, ENXIO, "");
}

/* A lease answers EAGAIN for as long as its holder likes: that must not become a loop. */
static void test_lease(void **unused)
{
	(void)unused;
	signal(SIGIO, SIG_IGN);
	int fd = openat(dir, "file", O_RDONLY | O_CLOEXEC);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
		print_message("no leases here: %s\n", strerror(errno));
		close(fd);
		skip();
	}
	alarm(20);
	refused("file", O_WRONLY | O_NONBLOCK, ERR_NO_SPACE, EAGAIN, "EAGAIN");
	alarm(0);
	close(fd);
}

static void test_create_mode(void **unused)
{
	struct err e;
	struct stat st;
	(void)unused;
	int fd = file_open_beneath(dir, "fresh", O_WRONLY | O_CREAT | O_EXCL, 0600, "file", &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(fd);
	refused("fresh", O_WRONLY | O_CREAT | O_EXCL, ERR_INTERNAL, EEXIST, "");
}

static void test_open_dir(void **unused)
{
	struct err e;
	char name[96];
	(void)unused;
	int fd = file_open_dir(path, &e);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	snprintf(name, sizeof(name), "%s/file", path);
	assert_int_equal(file_open_dir(name, &e), -1);
	assert_int_equal(e.errnum, ENOTDIR);
	assert_says(e.text, name);
	assert_int_equal(file_open_dir("/nowhere/at/all", &e), -1);
}

static void check_dir(int fd, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat st;
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_gid, gid);
	assert_int_equal(st.st_mode & 07777, mode);
	close(fd);
}

static void test_make_dir(void **unused)
{
	struct err e;
	uid_t uid = getuid();
	gid_t gid = getgid();
	(void)unused;
	umask(077);
	check_dir(file_make_dir(dir, "d", uid, gid, 0755, &e), uid, gid, 0755);
	check_dir(file_make_dir(dir, "d", uid, gid, 0700, &e), uid, gid, 0700);
	check_dir(file_make_dir(dir, "g", uid, gid, 02750, &e), uid, gid, 02750);
	if (uid == 0) {
		check_dir(file_make_dir(dir, "d", 12345, 54321, 0750, &e), 12345, 54321, 0750);
		check_dir(file_make_dir(dir, "e", 12345, 54321, 0711, &e), 12345, 54321, 0711);
		check_dir(file_make_dir(dir, "e", 0, 0, 0755, &e), 0, 0, 0755);
	} else {
		assert_int_equal(file_make_dir(dir, "d", uid + 1, gid, 0755, &e), -1);
		assert_int_equal(e.errnum, EPERM);
	}
	static const char *const others[] = {"file", "fifo", "link", "dirlink", "dangling"};
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (file_make_dir(dir, others[i], uid, gid, 0755, &e) != -1)
			fail_msg("%s passed for a directory", others[i]);
		assert_says(e.text, others[i]);
	}
	assert_int_equal(file_make_dir(dir, "no/where", uid, gid, 0755, &e), -1);
	/* What a link points to is not touched. */
	struct stat st;
	assert_int_equal(fstatat(dir, "sub", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void irregular(int fd, const struct file_rule *rule, const char *says)
{
	struct err e = {0};
	uint64_t bytes = 77;
	assert_int_equal(file_check_regular(fd, rule, "it", &bytes, &e), -1);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_says(e.text, says);
	assert_int_equal(bytes, 77);
}

static void test_check_regular(void **unused)
{
	struct err e;
	uint64_t bytes;
	uid_t uid = getuid();
	struct file_rule rule = {.owner = uid, .forbidden = 022, .max_bytes = 5};
	(void)unused;
	int fd = openat(dir, "file", O_PATH | O_CLOEXEC);
	assert_int_equal(file_check_regular(fd, &rule, "it", &bytes, &e), 0);
	assert_int_equal(bytes, 5);
	rule.max_bytes = 4;
	irregular(fd, &rule, "has 5 bytes, at most 4");
	rule.max_bytes = 0;
	assert_int_equal(file_check_regular(fd, &rule, "it", &bytes, &e), 0);
	static const mode_t bad[] = {0664, 0646, 0666};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(fchmodat(dir, "file", bad[i], 0), 0);
		irregular(fd, &rule, "none of 0022");
	}
	rule.forbidden = 06022;
	assert_int_equal(fchmodat(dir, "file", 04644, 0), 0);
	irregular(fd, &rule, "mode 4644");
	assert_int_equal(fchmodat(dir, "file", 0755, 0), 0);
	assert_int_equal(file_check_regular(fd, &rule, "it", &bytes, &e), 0);
	rule.owner = uid + 1;
	irregular(fd, &rule, "owned by uid");
	rule.owner = uid;
	assert_int_equal(linkat(dir, "file", dir, "second", 0), 0);
	irregular(fd, &rule, "has 2 links");
	unlinkat(dir, "second", 0);
	assert_int_equal(file_check_regular(fd, &rule, "it", &bytes, &e), 0);
	unlinkat(dir, "file", 0);
	irregular(fd, &rule, "has 0 links");
	close(fd);
	irregular(dir, &rule, "not a regular file");
	int null = open("/dev/null", O_PATH | O_CLOEXEC);
	irregular(null, &rule, "not a regular file");
	close(null);
	assert_int_equal(file_check_regular(null, &rule, "it", &bytes, &e), -1);
	assert_int_equal(e.errnum, EBADF);
}

static void test_texts(void **unused)
{
	struct err e;
	char buf[8];
	(void)unused;
	assert_int_equal(file_write_text(dir, "file", "HE", &e), 0);
	assert_int_equal(file_read_text(dir, "file", buf, sizeof(buf), &e), 5);
	assert_string_equal(buf, "HEllo");
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(file_read_text(dir, "file", buf, 4, &e), 3);
	assert_string_equal(buf, "HEl");
	assert_int_equal(buf[4], 'z');
	assert_int_equal(file_read_text(dir, "file", buf, 6, &e), 5);
	assert_int_equal(file_read_text(dir, "file", buf, 1, &e), 0);
	assert_string_equal(buf, "");
	/* Existing files only, and never by way of a link. */
	assert_int_equal(file_write_text(dir, "absent", "x", &e), -1);
	assert_int_equal(e.errnum, ENOENT);
	assert_int_equal(file_read_text(dir, "absent", buf, sizeof(buf), &e), -1);
	assert_int_equal(file_write_text(dir, "link", "x", &e), -1);
	assert_int_equal(e.errnum, ELOOP);
	assert_int_equal(file_read_text(dir, "link", buf, sizeof(buf), &e), -1);
	assert_int_equal(file_read_text(dir, "sub", buf, sizeof(buf), &e), -1);
	assert_int_equal(e.errnum, EISDIR);
	int full = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(file_write_text(full, "full", "x", &e), -1);
	assert_int_equal(e.errnum, ENOSPC);
	assert_says(e.text, "write \"x\" to full");
	close(full);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open_beneath), TEST(test_magic_links),   TEST(test_fifos),
		TEST(test_lease),	 TEST(test_create_mode),   TEST(test_open_dir),
		TEST(test_make_dir),	 TEST(test_check_regular), TEST(test_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
