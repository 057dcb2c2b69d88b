// SPDX-License-Identifier: Apache-2.0
/* shim/caps: each role in a child, what it has then, and what no exec, set-uid or not, gives back.
 */
#include "unit.h"

#include "caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define UID 712345

static struct policy policy;

static int needs_root(void **unused)
{
	(void)unused;
	policy.pool_bits = 16;
	if (geteuid() != 0)
		print_message("not run: needs root\n");
	return 0;
}

#define NEED_ROOT()                                                                                \
	do {                                                                                       \
		if (geteuid() != 0)                                                                \
			skip();                                                                    \
	} while (0)

struct caps {
	uint64_t effective, permitted, inheritable;
};

static struct caps read_caps(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	syscall(SYS_capget, &header, d);
	return (struct caps){(uint64_t)d[1].effective << 32 | d[0].effective,
			     (uint64_t)d[1].permitted << 32 | d[0].permitted,
			     (uint64_t)d[1].inheritable << 32 | d[0].inheritable};
}

static int write_caps(struct caps c)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{(uint32_t)c.effective, (uint32_t)c.permitted, (uint32_t)c.inheritable},
		{(uint32_t)(c.effective >> 32), (uint32_t)(c.permitted >> 32),
		 (uint32_t)(c.inheritable >> 32)}};
	return (int)syscall(SYS_capset, &header, d);
}

/* What a process says of itself when it has done `drop` and executed `program`, a grep. */
static void status_after(int (*drop)(void), const char *program, char out[1024])
{
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char *argv[] = {(char *)(uintptr_t) "grep", (char *)(uintptr_t) "-E",
				(char *)(uintptr_t) "^(Cap|Uid|NoNew)",
				(char *)(uintptr_t) "/proc/self/status", NULL};
		int fd = open(program, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || drop() != 0 || dup2(ends[1], 1) < 0)
			_exit(99);
		fexecve(fd, argv, argv + 4);
		_exit(98);
	}
	close(ends[1]);
	size_t used = 0;
	for (ssize_t n; (n = read(ends[0], out + used, 1023 - used)) > 0;)
		used += (size_t)n;
	out[used] = '\0';
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child ended with %x", status);
}

/* For what is checked in the child itself: 0 or a line number. */
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

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what))                                                                       \
			return __LINE__ & 0xff ? __LINE__ & 0xff : 1;                              \
	} while (0)

static struct err e;

static int to_spawner(void)
{
	return caps_cut_spawner(&policy, &e) < 0 || caps_settle_spawner(&policy, &e) < 0;
}
static int to_setup(void)
{
	return caps_drop_to_setup(&policy, &e);
}
static int to_serving(void)
{
	return caps_drop_to_setup(&policy, &e) < 0 || caps_drop_to_serving(&e) < 0;
}
static int to_import(void)
{
	return caps_drop_to_import(&e);
}
static int to_vmm(void)
{
	const char *step;
	return caps_drop_to_setup(&policy, &e) < 0 || caps_drop_to_vmm(UID, UID, &step) < 0;
}

static uint64_t all_of_ours(void)
{
	return caps_sets_of(CAPS_SPAWNER, &policy) | caps_sets_of(CAPS_SETUP, &policy) |
	       caps_sets_of(CAPS_SERVING, &policy) | 1ull << CAP_SETPCAP;
}

static int check_spawner(void)
{
	CHECK(to_spawner() == 0);
	struct caps c = read_caps();
	CHECK(c.effective == caps_sets_of(CAPS_SPAWNER, &policy) && c.permitted == all_of_ours());
	CHECK(c.inheritable == 0);
	/* The rest is there to be given to shims; what is not permitted does not come back. */
	c.effective = c.permitted;
	CHECK(write_caps(c) == 0);
	c.permitted |= 1ull << CAP_SYS_BOOT;
	CHECK(write_caps(c) < 0 && errno == EPERM);
	/* Not inheritable either, for want of the bounding set. */
	c = read_caps();
	c.inheritable = 1ull << CAP_SYS_BOOT;
	CHECK(write_caps(c) < 0);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) < 0);
	CHECK(prctl(PR_SET_KEEPCAPS, 1) < 0 && prctl(PR_SET_SECUREBITS, 0) < 0);
	/* But this one is left to be locked by each shim. */
	int bits = prctl(PR_GET_SECUREBITS);
	CHECK(!(bits & (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED)));
	CHECK(prctl(PR_SET_SECUREBITS, bits | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) == 0);
	return 0;
}

static int check_for_good(int (*drop)(void), uint64_t keep)
{
	CHECK(drop() == 0);
	struct caps c = read_caps();
	CHECK(c.effective == keep && c.permitted == keep && c.inheritable == 0);
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
		c = (struct caps){keep | 1ull << cap, keep | 1ull << cap, 0};
		CHECK((keep >> cap & 1) || write_caps(c) < 0);
		c = (struct caps){keep, keep, 1ull << cap};
		CHECK((keep >> cap & 1) || write_caps(c) < 0);
		CHECK(prctl(PR_CAPBSET_READ, cap) == 0);
		CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0);
	}
	CHECK(prctl(PR_SET_SECUREBITS, 0) < 0 && prctl(PR_SET_KEEPCAPS, 1) < 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0);
	return 0;
}

static int check_setup(void)
{
	return check_for_good(to_setup, caps_sets_of(CAPS_SETUP, &policy) |
						caps_sets_of(CAPS_SERVING, &policy));
}
static int check_serving(void)
{
	return check_for_good(to_serving, 1ull << CAP_KILL | 1ull << CAP_CHOWN);
}
static int check_import(void)
{
	return check_for_good(to_import, 1ull << CAP_DAC_OVERRIDE);
}
static int check_vmm(void)
{
	CHECK(check_for_good(to_vmm, 0) == 0);
	CHECK(setresuid(0, 0, 0) < 0 && setresgid(0, 0, 0) < 0 && getuid() == UID);
	return 0;
}

static void test_sets(void **unused)
{
	(void)unused;
	NEED_ROOT();
	run(check_spawner);
	run(check_setup);
	run(check_serving);
	run(check_import);
	run(check_vmm);
}

/* A copy of grep with more than it should have. */
static void make_program(char *path, mode_t mode, bool file_capability)
{
	/* vfs_cap_data: revision 2, permitted CAP_SYS_BOOT and CAP_CHOWN. */
	const uint32_t attribute[] = {0x02000000, 1u << CAP_SYS_BOOT | 1u << CAP_CHOWN, 0, 0, 0};
	char buffer[65536];
	int from = open("/bin/grep", O_RDONLY | O_CLOEXEC);
	int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	assert_true(from >= 0 && to >= 0);
	for (ssize_t n; (n = read(from, buffer, sizeof(buffer))) > 0;)
		assert_int_equal(write(to, buffer, (size_t)n), n);
	assert_int_equal(fchmod(to, mode), 0);
	if (file_capability)
		assert_int_equal(fsetxattr(to, "security.capability", attribute, 20, 0), 0);
	close(from);
	close(to);
}

static void expect(const char *text, const char *key, uint64_t value)
{
	char line[64];
	snprintf(line, sizeof(line), "%s:\t%016llx\n", key, (unsigned long long)value);
	assert_says(text, line);
}

static void check_program(const char *program)
{
	char text[1024];
	uint64_t all = all_of_ours();
	/* What the spawner starts as root has what there is to give, and no more. */
	status_after(to_spawner, program, text);
	expect(text, "CapBnd", all);
	expect(text, "CapInh", 0);
	expect(text, "CapAmb", 0);
	assert_false(strstr(text, "000001ffffffffff"));
	int (*const others[])(void) = {to_setup, to_serving, to_import, to_vmm};
	for (size_t i = 0; i < 4; i++) {
		status_after(others[i], program, text);
		expect(text, "CapPrm", 0);
		expect(text, "CapEff", 0);
		expect(text, "CapBnd", 0);
		assert_says(text, "NoNewPrivs:\t1\n");
		assert_says(text, others[i] == to_vmm ? "Uid:\t712345\t712345\t712345\t712345\n"
						      : "Uid:\t0\t0\t0\t0\n");
	}
}

static void test_exec(void **unused)
{
	char dir[64], path[128], text[1024];
	(void)unused;
	NEED_ROOT();
	status_after(to_spawner, "/bin/grep", text);
	expect(text, "CapPrm", all_of_ours());
	expect(text, "CapEff", all_of_ours());
	check_program("/bin/grep");
	close(unit_make_dir(dir));
	chmod(dir, 0755);
	snprintf(path, sizeof(path), "%s/setuid", dir);
	make_program(path, 04755, false);
	check_program(path);
	snprintf(path, sizeof(path), "%s/capable", dir);
	make_program(path, 0755, true);
	check_program(path);
	unit_remove_dir(dir);
}

static int without_one(void)
{
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) == 0);
	struct caps c = read_caps();
	c.effective &= ~(1ull << CAP_SYS_PTRACE);
	c.permitted = c.effective;
	CHECK(write_caps(c) == 0);
	CHECK(caps_cut_spawner(&policy, &e) < 0 && strstr(e.text, "sys_ptrace is missing"));
	CHECK(caps_drop_to_setup(&policy, &e) < 0 && strstr(e.text, "sys_ptrace is missing"));
	return 0;
}

static void test_one_that_is_missing_is_named(void **unused)
{
	(void)unused;
	NEED_ROOT();
	run(without_one);
}

static void test_what_is_not_configured_needs_none(void **unused)
{
	const struct policy without = {0};
	(void)unused;
	for (enum caps_role role = 0; role < CAPS_ROLE_COUNT; role++) {
		uint64_t with_network = caps_sets_of(role, &policy);
		assert_int_equal(caps_sets_of(role, &without),
				 with_network & ~(1ull << CAP_NET_ADMIN));
	}
	assert_true(caps_sets_of(CAPS_SETUP, &policy) >> CAP_NET_ADMIN & 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_one_that_is_missing_is_named),
		cmocka_unit_test(test_what_is_not_configured_needs_none),
	};
	return cmocka_run_group_tests(tests, needs_root, NULL);
}
