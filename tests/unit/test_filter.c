// SPDX-License-Identifier: Apache-2.0
/*
 * common/filter: every call there is and every row of the tables, tried on each program by an
 * interpreter of what libseccomp writes; and a few for real.
 */
#include "unit.h"

#include "filter.h"
#include "filters/filter_rows.h"
#include "util.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifdef __x86_64__
#define NATIVE AUDIT_ARCH_X86_64
#else
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define CALLS_MAX 1024 /* numbers of calls end far below */

struct table {
	const struct filter_row *rows;
	size_t count;
};

#define TABLE(name)                                                                                \
	{                                                                                          \
		filter_rows_##name, ARRAY_SIZE(filter_rows_##name)                                 \
	}

/* Whose calls a filter has to let pass: its own first. */
static const struct table tables[FILTER_ROLE_COUNT][5] = {
	[FILTER_SPAWNER] = {TABLE(spawner), TABLE(setup), TABLE(serving), TABLE(vmm)},
	[FILTER_SETUP] = {TABLE(setup), TABLE(serving), TABLE(vmm)},
	[FILTER_SERVING] = {TABLE(serving)},
	[FILTER_SUPERVISOR] = {TABLE(supervisor)},
	[FILTER_CLIENT] = {TABLE(client)},
	[FILTER_IMPORT] = {TABLE(import), TABLE(client)},
};

/* ------------------------------------------------------------------ the interpreter */

static uint32_t load(const struct seccomp_data *data, uint32_t offset)
{
	uint32_t value;
	assert_true(offset % 4 == 0 && offset + sizeof(value) <= sizeof(*data));
	memcpy(&value, (const char *)data + offset, sizeof(value));
	return value;
}

static bool jumps(uint16_t code, uint32_t a, uint32_t k)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	case BPF_JSET:
		return (a & k) != 0;
	default:
		fail_msg("jump 0x%x is not known here", code);
		return false;
	}
}

/* What the program answers (bpf(4): the part of it that seccomp takes, and libseccomp writes). */
static uint32_t run(enum filter_role role, const struct seccomp_data *data)
{
	size_t length;
	const struct sock_filter *program = filter_program(role, &length);
	uint32_t a = 0;
	for (size_t at = 0; at < length; at++) {
		const struct sock_filter *in = &program[at];
		switch (BPF_CLASS(in->code)) {
		case BPF_LD:
			assert_int_equal(in->code, BPF_LD | BPF_W | BPF_ABS);
			a = load(data, in->k);
			break;
		case BPF_ALU:
			assert_int_equal(in->code, BPF_ALU | BPF_AND | BPF_K);
			a &= in->k;
			break;
		case BPF_JMP:
			if (BPF_OP(in->code) == BPF_JA)
				at += in->k;
			else
				at += jumps(in->code, a, in->k) ? in->jt : in->jf;
			break;
		case BPF_RET:
			return in->k;
		default:
			fail_msg("instruction 0x%x is not known here", in->code);
		}
	}
	fail_msg("the program of %s has no end", filter_name(role));
	return 0;
}

static uint32_t answer(enum filter_role role, int nr, int arg, uint64_t value)
{
	struct seccomp_data data = {.nr = nr, .arch = NATIVE};
	if (arg >= 0)
		data.args[arg] = value;
	return run(role, &data);
}

/* ------------------------------------------------------------------ the tables */

static bool in_table(const struct table *t, int nr, int arg, uint64_t value, bool any)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct filter_row *row = &t->rows[i];
		if (row->nr != nr)
			continue;
		if (any || row->arg < 0)
			return true;
		/* All other arguments are 0. */
		uint32_t have = row->arg == arg ? (uint32_t)value : 0;
		if ((have & row->mask) == row->value)
			return true;
	}
	return false;
}

static bool in_sanitizer_table(int nr)
{
#ifdef FILTER_SANITIZED
	static const struct table t = TABLE(sanitizer);
	return in_table(&t, nr, -1, 0, true);
#else
	(void)nr;
	return false;
#endif
}

/* Whether some table of the role lets it pass; any: with some arguments. */
static bool is_listed(enum filter_role role, int nr, int arg, uint64_t value, bool any)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables[role]); i++)
		if (in_table(&tables[role][i], nr, arg, value, any))
			return true;
	return in_sanitizer_table(nr);
}

#define KILLED SECCOMP_RET_KILL_PROCESS

static void test_what_no_row_names(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++)
		for (int nr = 0; nr < CALLS_MAX; nr++)
			if (nr != __NR_seccomp && !is_listed(role, nr, -1, 0, true) &&
			    answer(role, nr, -1, 0) != KILLED)
				fail_msg("%s lets call %d pass", filter_name(role), nr);
}

static void check_row(enum filter_role role, const struct filter_row *row)
{
	uint32_t want = row->answer ? SECCOMP_RET_ERRNO | (uint32_t)row->answer : SECCOMP_RET_ALLOW;
	if (in_sanitizer_table(row->nr))
		return;
	/* Bits that the row does not look at change nothing. */
	uint64_t others = row->arg < 0 ? 0 : ~(uint64_t)row->mask;
	if (answer(role, row->nr, row->arg, row->value) != want ||
	    answer(role, row->nr, row->arg, row->value | others) != want)
		fail_msg("%s: %s is not as its row says", filter_name(role), row->name);
	/* One bit that it looks at, the other way round. */
	for (unsigned bit = 0; row->arg >= 0 && bit < 32; bit++) {
		uint32_t value = row->value ^ (1u << bit);
		if (!(row->mask & (1u << bit)))
			continue;
		uint32_t found = answer(role, row->nr, row->arg, value);
		bool listed = is_listed(role, row->nr, row->arg, value, false);
		if ((found == SECCOMP_RET_ALLOW) != listed)
			fail_msg("%s: %s with argument 0x%x: 0x%x", filter_name(role), row->name,
				 value, found);
	}
}

static void test_each_row(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++) {
		size_t length;
		filter_program(role, &length);
		assert_in_range(length, tables[role][0].count, 2000);
		for (size_t i = 0; i < tables[role][0].count; i++)
			check_row(role, &tables[role][0].rows[i]);
	}
}

/* ------------------------------------------------------------------ what must never be there */

struct never {
	int nr;
	int arg;
	uint64_t value;
};

#define NEVER(call)                                                                                \
	{                                                                                          \
		__NR_##call, -1, 0                                                                 \
	}
#define NEVER_ARG(call, n, v)                                                                      \
	{                                                                                          \
		__NR_##call, n, v                                                                  \
	}

/* In no process of ours, root's included. */
static const struct never nowhere[] = {
	NEVER(ptrace),
	NEVER(bpf),
	NEVER(keyctl),
	NEVER(add_key),
	NEVER(request_key),
	NEVER(perf_event_open),
	NEVER(kexec_load),
	NEVER(init_module),
	NEVER(finit_module),
	NEVER(delete_module),
	NEVER(reboot),
	NEVER(swapon),
	NEVER(acct),
	NEVER(syslog),
	NEVER(settimeofday),
	NEVER(clock_settime),
	NEVER(adjtimex),
	NEVER(personality),
	NEVER(process_vm_readv),
	NEVER(process_vm_writev),
	NEVER(kcmp),
	NEVER(pidfd_getfd),
	NEVER(open_by_handle_at),
	NEVER(fanotify_init),
	NEVER(quotactl),
	NEVER(chroot),
	NEVER(vmsplice),
	NEVER(execveat),
	NEVER(move_pages),
	NEVER(migrate_pages),
	NEVER(lookup_dcookie),
	NEVER(vhangup),
	NEVER(msgget),
	NEVER(semget),
	NEVER(shmget),
	NEVER(mq_open),
#ifdef __x86_64__
	NEVER(iopl),
	NEVER(ioperm),
	NEVER(modify_ldt),
	NEVER(uselib),
	NEVER(kexec_file_load),
#endif
};

/* Nor in one that reads what others wrote. */
static const struct never nowhere_serving[] = {
	NEVER(execve),
	NEVER(fork),
	NEVER(vfork),
	NEVER(mount),
	NEVER(umount2),
	NEVER(pivot_root),
	NEVER(move_mount),
	NEVER(open_tree),
	NEVER(fsopen),
	NEVER(fsmount),
	NEVER(fsconfig),
	NEVER(mount_setattr),
	NEVER(unshare),
	NEVER(setns),
	NEVER(mknod),
	NEVER(mknodat),
	NEVER(setuid),
	NEVER(setresuid),
	NEVER(setresgid),
	NEVER(setgroups),
	NEVER(capset),
	NEVER(io_uring_setup),
	NEVER(io_uring_enter),
	NEVER(io_uring_register),
	NEVER(userfaultfd),
	NEVER(memfd_create),
	NEVER(splice),
	NEVER(sethostname),

	NEVER(link),
	NEVER(linkat),
	NEVER_ARG(mmap, 2, PROT_READ | PROT_EXEC),
	NEVER_ARG(mprotect, 2, PROT_READ | PROT_EXEC),
	NEVER_ARG(socket, 0, AF_NETLINK),
	NEVER_ARG(socket, 0, AF_PACKET),
	NEVER_ARG(socket, 0, AF_VSOCK),
	NEVER_ARG(socket, 0, 38 /* AF_ALG */),
	NEVER_ARG(clone, 0, CLONE_NEWUSER),
	NEVER_ARG(clone, 0, CLONE_NEWNS | SIGCHLD),
	NEVER_ARG(ioctl, 1, TIOCSTI),
	NEVER_ARG(ioctl, 1, TIOCLINUX),
	NEVER_ARG(prctl, 0, PR_SET_DUMPABLE),
	NEVER_ARG(prctl, 0, PR_SET_PTRACER),
	NEVER_ARG(prctl, 0, PR_SET_MM),
};

static void check_never(enum filter_role role, const struct never *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t found = answer(role, list[i].nr, list[i].arg, list[i].value);
		if (found == SECCOMP_RET_ALLOW && !in_sanitizer_table(list[i].nr))
			fail_msg("%s lets call %d pass, argument 0x%llx", filter_name(role),
				 list[i].nr, (unsigned long long)list[i].value);
	}
}

static void test_what_is_never_needed(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++) {
		check_never(role, nowhere, ARRAY_SIZE(nowhere));
		if (role != FILTER_SPAWNER && role != FILTER_SETUP)
			check_never(role, nowhere_serving, ARRAY_SIZE(nowhere_serving));
	}
}

/* i386's gate and x32's, where a number means another call. */
static void test_other_gates(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++)
		for (int nr = 0; nr < CALLS_MAX; nr++) {
			struct seccomp_data i386 = {.nr = nr, .arch = AUDIT_ARCH_I386};
			assert_int_equal(run(role, &i386), KILLED);
#ifdef __x86_64__
			assert_int_equal(answer(role, 0x40000000 | nr, -1, 0), KILLED);
#endif
		}
}

static void test_each_filter_answers_for_itself(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++)
		for (unsigned i = 0; i < FILTER_ROLE_COUNT; i++)
			assert_int_equal(answer(role, __NR_seccomp, 0, FILTER_PROOF + i),
					 i == role ? SECCOMP_RET_ERRNO | FILTER_PROOF_ERRNO
						   : SECCOMP_RET_ALLOW);
}

/* ------------------------------------------------------------------ for real */

/* How a child ends that is under the role's filter and makes the call; 200: not loaded. */
static int under(enum filter_role role, long nr, long a, long b, long c)
{
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e;
		if (filter_load(role, &e) < 0)
			syscall(SYS_exit_group, 200);
		syscall(nr, a, b, c, -1L, 0L);
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_the_kernel_agrees(void **unused)
{
	(void)unused;
	for (unsigned role = 0; role < FILTER_ROLE_COUNT; role++) {
		assert_int_equal(under(role, SYS_close, -1, 0, 0), 0);
		assert_int_equal(under(role, SYS_bpf, 0, 0, 0), 1000 + SIGSYS);
		assert_int_equal(under(role, SYS_keyctl, 0, 0, 0), 1000 + SIGSYS);
#ifdef __x86_64__
		assert_int_equal(under(role, 0x40000000 | SYS_close, -1, 0, 0), 1000 + SIGSYS);
#endif
	}
	assert_int_equal(under(FILTER_SERVING, SYS_execve, 0, 0, 0), 1000 + SIGSYS);
	assert_int_equal(under(FILTER_SUPERVISOR, SYS_execve, 0, 0, 0), 1000 + SIGSYS);
	assert_int_equal(under(FILTER_CLIENT, SYS_execve, 0, 0, 0), 1000 + SIGSYS);
	assert_int_equal(under(FILTER_SUPERVISOR, SYS_unshare, CLONE_NEWUSER, 0, 0), 1000 + SIGSYS);
}

/* A filter of the spawner lets those of shims be loaded on top of it, and each proves itself. */
static void test_filters_stack(void **unused)
{
	(void)unused;
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e;
		bool stacked = filter_load(FILTER_SPAWNER, &e) == 0 &&
			       filter_load(FILTER_SETUP, &e) == 0 &&
			       filter_load(FILTER_SERVING, &e) == 0;
		syscall(SYS_exit_group, stacked ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_no_row_names),
		cmocka_unit_test(test_each_row),
		cmocka_unit_test(test_what_is_never_needed),
		cmocka_unit_test(test_other_gates),
		cmocka_unit_test(test_each_filter_answers_for_itself),
		cmocka_unit_test(test_the_kernel_agrees),
		cmocka_unit_test(test_filters_stack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
