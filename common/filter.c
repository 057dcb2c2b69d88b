// SPDX-License-Identifier: Apache-2.0
#include "filter.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Made by gen/filter_gen.c while building: an array for each role, and filter_programs[]. */
#include "filter_bpf.h"

const char *filter_name(enum filter_role role)
{
	static const char *const names[FILTER_ROLE_COUNT] = {
		"spawner", "setup", "serving", "supervisor", "client", "import",
	};
	return names[role];
}

const struct sock_filter *filter_program(enum filter_role role, size_t *length)
{
	*length = filter_programs[role].length;
	return filter_programs[role].rows;
}

#ifdef FILTER_SANITIZED
/* Looking for leaks at the end clones and traces, which is denied from a filter on. */
static int looks_for_no_leaks;
int __lsan_is_turned_off(void); /* sanitizer/lsan_interface.h: asked before it looks */
int __lsan_is_turned_off(void)
{
	return looks_for_no_leaks;
}
#endif

#ifdef FILTER_TRAP
static enum filter_role trapped_role;

/* Synchronous, so what is called here is as safe as the call that was denied. */
static void on_denied(int number, siginfo_t *info, void *context)
{
	const ucontext_t *at = context;
	const char *name = NULL;
	int nr = info->si_syscall;
	if (nr >= 0 && (size_t)nr < ARRAY_SIZE(filter_calls))
		name = filter_calls[nr];
#ifdef __x86_64__
	const greg_t *r = at->uc_mcontext.gregs;
	const long long args[4] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10]};
#else
	const unsigned long long *r = at->uc_mcontext.regs;
	const long long args[4] = {(long long)r[0], (long long)r[1], (long long)r[2],
				   (long long)r[3]};
#endif
	log_error("seccomp: the %s filter has no %s (%d): arguments 0x%llx 0x%llx 0x%llx 0x%llx",
		  filter_name(trapped_role), name ? name : "such call", nr, args[0], args[1],
		  args[2], args[3]);
	/* The handler is gone by now, so this ends the process, denied or not. */
	raise(number);
}

/* In a build for people who meet a new libc: it says which call is missing. */
static int trap_install(enum filter_role role, struct err *e)
{
	struct sigaction action = {.sa_sigaction = on_denied,
				   .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};
	trapped_role = role;
	return sigaction(SIGSYS, &action, NULL) < 0 ? err_errno(e, errno, "handle SIGSYS") : 0;
}
#else
static int trap_install(enum filter_role role, struct err *e)
{
	(void)role;
	(void)e;
	return 0;
}
#endif

int filter_load(enum filter_role role, struct err *e)
{
	size_t length;
	const struct sock_filter *rows = filter_program(role, &length);
	struct sock_fprog program = {
		.len = (unsigned short)length,
		.filter = (struct sock_filter *)(uintptr_t)rows,
	};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, errno, "set no_new_privs");
#ifdef FILTER_SANITIZED
	looks_for_no_leaks = 1;
#endif
	if (trap_install(role, e) < 0)
		return -1;
	/* On all threads: cloisterd's writer is there already, so that none can be made later. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
		return err_errno(e, errno, "load the %s filter of system calls", filter_name(role));
	/* A kernel that took the program but does not run it would answer EINVAL. */
	if (syscall(SYS_seccomp, FILTER_PROOF + (unsigned)role, 0, NULL) != -1 ||
	    errno != FILTER_PROOF_ERRNO)
		return err_set(e, ERR_INTERNAL, 0,
			       "the %s filter of system calls is loaded, but not in force",
			       filter_name(role));
	return 0;
}
