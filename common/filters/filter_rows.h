/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that each of our own processes may make: the rows of ROLE.def, as data. The
 * generator (common/gen/filter_gen.c) makes the filters of them, the tests try each one. Everything
 * that no row names ends the process (seccomp(2), SECCOMP_RET_KILL_PROCESS).
 *
 *   ALLOW(call)                                   whatever its arguments
 *   ALLOW_ARG(call, label, argument, mask, value) when (argument & mask) == value
 *   ANSWER(call, errno)                           not made, answered so
 *   RARE(call, why), RARE_ARG(..., why)           the same as the first two, for a row that no test
 *                                                 can bring about on the machines we test on
 *
 * Each row's comment says which code needs it. Masks have 32 bits, as the kernel looks at no more
 * of these arguments. A filter stays on across fork(2) and execve(2), so those of spawner and
 * set-up hold the rows of all that runs under them: see filter_gen.c.
 */
#ifndef COMMON_FILTER_ROWS_H
#define COMMON_FILTER_ROWS_H

#include <asm/ioctls.h>
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* Newer than the headers of some hosts; the same on all machines. */
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

#define FILTER_TCGETS2 0x802c542au /* its own header and that of libc do not go together */
#define FILTER_ALL     0xffffffffu

/* clone(2)'s flags for namespaces of one's own. */
#define FILTER_NAMESPACES                                                                          \
	((unsigned)(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |     \
		    CLONE_NEWUTS | CLONE_NEWCGROUP))

struct filter_row {
	const char *name; /* of the call, with ":LABEL" for an argument */
	int nr;
	int arg; /* -1: whatever its arguments are */
	uint32_t mask;
	uint32_t value;
	int answer;	  /* an errno in place of the call; 0: it is made */
	const char *rare; /* why no test sees it; NULL for all others */
};

#define ALLOW(call)			    {#call, __NR_##call, -1, 0, 0, 0, NULL},
#define ALLOW_ARG(call, label, n, m, v)	    {#call ":" #label, __NR_##call, n, m, v, 0, NULL},
#define ANSWER(call, error)		    {#call, __NR_##call, -1, 0, 0, error, NULL},
#define RARE(call, why)			    {#call, __NR_##call, -1, 0, 0, 0, why},
#define RARE_ARG(call, label, n, m, v, why) {#call ":" #label, __NR_##call, n, m, v, 0, why},

static const struct filter_row filter_rows_spawner[] = {
#include "spawner.def"
};
static const struct filter_row filter_rows_setup[] = {
#include "setup.def"
};
static const struct filter_row filter_rows_serving[] = {
#include "serving.def"
};
static const struct filter_row filter_rows_supervisor[] = {
#include "supervisor.def"
};
static const struct filter_row filter_rows_client[] = {
#include "client.def"
};
static const struct filter_row filter_rows_import[] = {
#include "import.def"
};
static const struct filter_row filter_rows_vmm[] = {
#include "vmm.def"
};
static const struct filter_row filter_rows_sanitizer[] = {
#include "sanitizer.def"
};

#undef ALLOW
#undef ALLOW_ARG
#undef ANSWER
#undef RARE
#undef RARE_ARG

#endif
