// SPDX-License-Identifier: Apache-2.0
/* shim/leash: the spawner's table with real children, a real epoll, and folders for the rest. */
#include "unit.h"

#include "leash.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KEY "acme:web"

static struct policy policy;
static struct chan link_chan;
static struct leash_table t;
static struct msg got;
static struct err e;
static char path[64];
static int peer, dir;
static unsigned open_before;

static int setup(void **unused)
{
	int pair[2];
	(void)unused;
	open_before = unit_open_fds();
	policy = (struct policy){0};
	policy.deadline_ms[POLICY_DEADLINE_DESTROY] = 60000;
	dir = unit_make_dir(path);
	mkdirat(dir, "shims", 0700);
	mkdirat(dir, "new", 0700);
	mkdirat(dir, "templates", 0700);
	mkdirat(dir, "sandboxes", 0700);
	mkdirat(dir, "cgroup", 0700);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	chan_open(&link_chan, pair[0], 65536);
	peer = pair[1];
	t = (struct leash_table){
		.policy = &policy,
		.link = &link_chan,
		.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
		.shims_fd = openat(dir, "shims", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.fresh_fd = openat(dir, "new", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.templates_fd = openat(dir, "templates", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.sandboxes_fd = openat(dir, "sandboxes", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.cgroup_fd = openat(dir, "cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	chan_close(&link_chan);
	fd_close(&peer);
	fd_close(&t.epoll_fd);
	fd_close(&t.shims_fd);
	fd_close(&t.fresh_fd);
	fd_close(&t.templates_fd);
	fd_close(&t.sandboxes_fd);
	fd_close(&t.cgroup_fd);
	fd_close(&dir);
	unit_remove_dir(path);
	return unit_open_fds() == open_before && t.count == 0 && !t.first ? 0 : -1;
}

static pid_t child(int *pidfd)
{
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		for (;;)
			pause();
	}
	*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(*pidfd >= 0);
	return pid;
}

static int a_lock(void)
{
	return openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* A real child on the leash, with its socket and an empty cgroup. */
static struct leash *add(pid_t *pid)
{
	int pidfd;
	*pid = child(&pidfd);
	unit_write(dir, "shims/" KEY ".sock", "");
	mkdirat(dir, "cgroup/" KEY, 0700);
	struct leash *l = leash_add(&t, KEY, *pid, true, pidfd, a_lock(), &e);
	assert_non_null(l);
	return l;
}

static bool exists(const char *name)
{
	struct stat st;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void expect(unsigned type, uint32_t id)
{
	assert_int_equal(msg_recv(peer, &got, &e), MSG_GOT);
	assert_string_equal(msg_type_name(got.header.type), msg_type_name(type));
	assert_int_equal(got.header.id, id);
}

static void expect_gone(int code, int signal, bool clear, const char *detail)
{
	struct msg_gone gone;
	expect(MSG_GONE, 0);
	assert_int_equal(msg_read_gone(&got, &gone, &e), 0);
	assert_string_equal(gone.key, KEY);
	assert_int_equal(gone.code, code);
	assert_int_equal(gone.signal, signal);
	assert_int_equal(gone.clear, clear);
	assert_says(gone.detail, detail);
}

static void expect_error(uint32_t id, enum err_kind kind, const char *says)
{
	struct msg_error error;
	expect(MSG_ERROR, id);
	assert_int_equal(msg_read_error(&got, &error, &e), 0);
	assert_int_equal(error.kind, kind);
	assert_says(error.text, says);
}

static void nothing_said(void)
{
	assert_int_equal(msg_recv(peer, &got, &e), MSG_AGAIN);
}

static void test_find(void **unused)
{
	pid_t pid, other;
	int pidfd;
	(void)unused;
	assert_null(leash_find(&t, KEY));
	struct leash *l = add(&pid);
	other = child(&pidfd);
	struct leash *adopted = leash_add(&t, "beta:x", other, false, pidfd, -1, &e);
	assert_non_null(adopted);
	assert_int_equal(t.count, 2);
	assert_ptr_equal(leash_find(&t, KEY), l);
	assert_ptr_equal(leash_find(&t, "beta:x"), adopted);
	assert_null(leash_find(&t, "acme:we"));
	assert_null(leash_find(&t, "acme:webs"));
	assert_ptr_equal(leash_find_pid(&t, pid), l);
	/* An adopted one is not ours to reap: its number may be another's child. */
	assert_null(leash_find_pid(&t, other));
	assert_null(leash_find_pid(&t, 0));
	/* Only the adopted one is watched by its pidfd; a child ends with SIGCHLD. */
	struct epoll_event ev;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(epoll_wait(t.epoll_fd, &ev, 1, 0), 0);
	kill(other, SIGKILL);
	assert_int_equal(epoll_wait(t.epoll_fd, &ev, 1, 20000), 1);
	const struct leash_watch *w = ev.data.ptr;
	assert_int_equal(w->kind, LEASH_PIDFD);
	assert_ptr_equal(w->leash, adopted);
	waitpid(other, NULL, 0);
	leash_ended(&t, adopted, -1, 0);
	expect(MSG_GONE, 0);
	leash_ended(&t, l, -1, SIGKILL);
	expect_gone(-1, SIGKILL, true, "");
}

static void test_ended(void **unused)
{
	pid_t pid;
	char fresh[32];
	(void)unused;
	struct leash *l = add(&pid);
	snprintf(fresh, sizeof(fresh), "new/%d", (int)pid);
	unit_write(dir, fresh, "");
	unit_write(dir, "shims/acme:web2.sock", "");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unsigned before = unit_open_fds();
	leash_ended(&t, l, 3, 0);
	expect_gone(3, 0, true, "");
	nothing_said();
	assert_int_equal(t.count, 0);
	assert_null(leash_find(&t, KEY));
	assert_false(exists("shims/" KEY ".sock"));
	assert_false(exists(fresh));
	assert_false(exists("cgroup/" KEY));
	assert_true(exists("shims/acme:web2.sock"));
	/* pidfd and uid lock are free again. */
	assert_int_equal(unit_open_fds(), before - 2);
	assert_int_equal(leash_retry(&t), -1);
}

static uint32_t spent_at_its_end(void)
{
	pid_t pid;
	struct msg_gone gone;
	struct leash *l = add(&pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	expect(MSG_GONE, 0);
	assert_int_equal(msg_read_gone(&got, &gone, &e), 0);
	return gone.spent;
}

/* The supervisor is told whether the set that a wake failed with can be woken again. */
static void test_spent(void **unused)
{
	(void)unused;
	assert_int_equal(spent_at_its_end(), 0);
	mkdirat(dir, "sandboxes/" KEY, 0755);
	mkdirat(dir, "sandboxes/" KEY "/set", 0755);
	assert_int_equal(spent_at_its_end(), 0);
	unit_write(dir, "sandboxes/" KEY "/set/used", "");
	assert_int_equal(spent_at_its_end(), 1);
}

/* END: killed at once, answered only when it is gone and cleared up. */
static void test_end(void **unused)
{
	pid_t pid;
	int status;
	struct msg_done done;
	(void)unused;
	struct leash *l = add(&pid);
	leash_end(&t, l, 11);
	leash_end(&t, l, 12);
	nothing_said();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_ptr_equal(leash_find_pid(&t, pid), l);
	leash_ended(&t, l, -1, SIGKILL);
	expect_gone(-1, SIGKILL, true, "");
	expect(MSG_DONE, 11);
	assert_int_equal(msg_read_done(&got, &done, &e), 0);
	expect(MSG_DONE, 12);
	nothing_said();
}

static void test_end_too_often(void **unused)
{
	pid_t pid;
	(void)unused;
	struct leash *l = add(&pid);
	for (uint32_t i = 1; i <= LEASH_END_MAX; i++)
		leash_end(&t, l, i);
	leash_end(&t, l, 99);
	expect_error(99, ERR_STATE, KEY);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	expect(MSG_GONE, 0);
	for (uint32_t i = 1; i <= LEASH_END_MAX; i++)
		expect(MSG_DONE, i);
	nothing_said();
}

/* A cgroup with something in it (a file stands for it): waited for, then clear. */
static void test_waits_for_the_cgroup(void **unused)
{
	pid_t pid;
	(void)unused;
	struct leash *l = add(&pid);
	unit_write(dir, "cgroup/" KEY "/cgroup.kill", "");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	nothing_said();
	assert_ptr_equal(leash_find(&t, KEY), l);
	assert_null(leash_find_pid(&t, pid));
	char *killed CLEANUP_FREE = unit_read(dir, "cgroup/" KEY "/cgroup.kill");
	assert_string_equal(killed, "1");
	/* The name stays taken, and so does the socket, until all is clear. */
	assert_true(exists("shims/" KEY ".sock"));
	int wait_ms = leash_retry(&t);
	assert_true(wait_ms > 0 && wait_ms <= 1000);
	/* The end is told once, however often it is seen. */
	leash_ended(&t, l, 0, 0);
	leash_end(&t, l, 21);
	nothing_said();
	assert_int_equal(unlinkat(dir, "cgroup/" KEY "/cgroup.kill", 0), 0);
	assert_int_equal(leash_retry(&t), -1);
	expect_gone(-1, SIGKILL, true, "");
	expect(MSG_DONE, 21);
	assert_false(exists("shims/" KEY ".sock"));
	assert_false(exists("cgroup/" KEY));
}

static void test_gives_up(void **unused)
{
	pid_t pid;
	(void)unused;
	policy.deadline_ms[POLICY_DEADLINE_DESTROY] = 50;
	struct leash *l = add(&pid);
	unit_write(dir, "cgroup/" KEY "/cgroup.kill", "");
	leash_end(&t, l, 31);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	nothing_said();
	int64_t limit = clock_us() + 20000000;
	while (leash_retry(&t) >= 0) {
		assert_true(clock_us() < limit);
		usleep(5000);
	}
	expect_gone(-1, SIGKILL, false, "cannot be killed");
	expect_error(31, ERR_DEADLINE, KEY);
	assert_int_equal(t.count, 0);
}

static void test_no_cgroup(void **unused)
{
	pid_t pid;
	(void)unused;
	struct leash *l = add(&pid);
	int saved = t.cgroup_fd;
	t.cgroup_fd = -1;
	leash_end(&t, l, 41);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	expect_gone(-1, SIGKILL, true, "");
	expect(MSG_DONE, 41);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_CGROUP, KEY, &e), 0);
	t.cgroup_fd = saved;
}

/* A failed add keeps nothing of what it was given. */
static void test_add_fails(void **unused)
{
	(void)unused;
	unsigned before = unit_open_fds();
	/* A plain file cannot be watched (EPERM). */
	assert_null(leash_add(&t, KEY, 5, false, a_lock(), a_lock(), &e));
	assert_int_equal(e.errnum, EPERM);
	assert_says(e.text, KEY);
	assert_int_equal(unit_open_fds(), before);
	assert_int_equal(t.count, 0);
	assert_null(leash_find(&t, KEY));
}

static void test_remove_stale(void **unused)
{
	pid_t pid;
	(void)unused;
	struct leash *l = add(&pid);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_SOCKET, KEY, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_CGROUP, KEY, &e), -1);
	assert_true(exists("shims/" KEY ".sock") && exists("cgroup/" KEY));
	leash_end(&t, l, 1);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	unit_write(dir, "shims/beta:x.sock", "");
	mkdirat(dir, "cgroup/beta:x", 0700);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_SOCKET, "beta:x", &e), 0);
	assert_false(exists("shims/beta:x.sock"));
	assert_true(exists("cgroup/beta:x"));
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_SOCKET, "beta:x", &e), 0);
	unit_write(dir, "cgroup/beta:x/procs", "");
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_CGROUP, "beta:x", &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_int_equal(unlinkat(dir, "cgroup/beta:x/procs", 0), 0);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_CGROUP, "beta:x", &e), 0);
	assert_false(exists("cgroup/beta:x"));
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_CGROUP, "beta:x", &e), 0);
}

/* As a sandbox with a disk leaves it: the uid of its VMM owns the disk. */
static void leave_disk(void)
{
	mkdirat(dir, "sandboxes/" KEY, 0755);
	mkdirat(dir, "sandboxes/" KEY "/disks", 0755);
	mkdirat(dir, "sandboxes/" KEY "/scratch", 0700);
	unit_write(dir, "sandboxes/" KEY "/disks/meta", "x");
	unit_write(dir, "sandboxes/" KEY "/disks/0", "data");
	assert_int_equal(fchownat(dir, "sandboxes/" KEY "/disks/0", 700001, 700001, 0), 0);
}

static uid_t disk_owner(void)
{
	struct stat st;
	assert_int_equal(fstatat(dir, "sandboxes/" KEY "/disks/0", &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_uid;
}

/* While anything of the VMM runs they stay with its uid; the next sandbox may get that uid. */
static void test_disks_go_back_to_root(void **unused)
{
	pid_t pid;
	(void)unused;
	if (geteuid() != 0) {
		print_message("not run: needs root\n");
		skip();
	}
	struct leash *l = add(&pid);
	leave_disk();
	unit_write(dir, "cgroup/" KEY "/procs", "");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	assert_int_equal(disk_owner(), 700001);
	assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_SANDBOX, KEY, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_int_equal(unlinkat(dir, "cgroup/" KEY "/procs", 0), 0);
	leash_retry(&t);
	expect_gone(-1, SIGKILL, true, "");
	assert_int_equal(disk_owner(), 0);
	assert_false(exists("sandboxes/" KEY "/scratch"));
	/* The sandbox is destroyed: nothing stays, nor is there an error where nothing was. */
	mkdirat(dir, "sandboxes/" KEY "/set", 0755);
	unit_write(dir, "sandboxes/" KEY "/set/used", "");
	mkdirat(dir, "sandboxes/acme:we", 0755);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(leash_remove_stale(&t, MSG_REMOVE_SANDBOX, KEY, &e), 0);
		assert_false(exists("sandboxes/" KEY));
	}
	assert_true(exists("sandboxes/acme:we"));
}

/* The supervisor is gone: what the shim leaves is cleared up all the same. */
static void test_no_supervisor(void **unused)
{
	pid_t pid;
	(void)unused;
	struct leash *l = add(&pid);
	chan_close(&link_chan);
	leash_end(&t, l, 1);
	waitpid(pid, NULL, 0);
	leash_ended(&t, l, -1, SIGKILL);
	assert_int_equal(t.count, 0);
	assert_false(exists("shims/" KEY ".sock"));
	assert_false(exists("cgroup/" KEY));
}

/* A process that is just being started holds copies of our descriptors until its execve. */
static void test_no_event_once_it_is_forgotten(void **unused)
{
	struct epoll_event ev;
	int pidfd;
	(void)unused;
	pid_t pid = child(&pidfd);
	struct leash *l = leash_add(&t, KEY, pid, false, pidfd, -1, &e);
	assert_non_null(l);
	int copy = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
	leash_ended(&t, l, -1, 0);
	expect_gone(-1, 0, true, "");
	assert_null(t.first);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(epoll_wait(t.epoll_fd, &ev, 1, 100), 0);
	close(copy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_event_once_it_is_forgotten),
		TEST(test_find),
		TEST(test_ended),
		TEST(test_spent),
		TEST(test_end),
		TEST(test_end_too_often),
		TEST(test_waits_for_the_cgroup),
		TEST(test_gives_up),
		TEST(test_no_cgroup),
		TEST(test_add_fails),
		TEST(test_remove_stale),
		TEST(test_disks_go_back_to_root),
		TEST(test_no_supervisor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
