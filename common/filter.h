/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seccomp filters of our own processes (seccomp(2)): what a process is not to call in its role
 * ends it. What each may call stands in common/filters/ROLE.def; the programs are made while
 * building, so nothing here needs libseccomp.
 */
#ifndef COMMON_FILTER_H
#define COMMON_FILTER_H

#include "err.h"

#include <stddef.h>

enum filter_role {
	FILTER_SPAWNER,	   /* from its first line on; inherited by all that it starts */
	FILTER_SETUP,	   /* a shim until its drop; inherited by the VMM */
	FILTER_SERVING,	   /* a shim from its drop on: it reads what the VMM wrote */
	FILTER_SUPERVISOR, /* cloisterd from its drop on */
	FILTER_CLIENT,	   /* the cloister command, which reads what server and guest wrote */
	FILTER_IMPORT,	   /* its commands for root: they write below root's directories */
	FILTER_ROLE_COUNT
};

/*
 * Puts the calling process (it has one thread yet) under the filter for good, with no_new_privs,
 * and proves that it is on by a call that only this filter answers. -1: the caller must end.
 */
int filter_load(enum filter_role role, struct err *e);

/* The role's name for messages. */
const char *filter_name(enum filter_role role);

/* The program: instructions (struct sock_filter) and their number, for the tests. */
struct sock_filter;
const struct sock_filter *filter_program(enum filter_role role, size_t *length);

/* seccomp(2)'s operation FILTER_PROOF + role does not exist; the role's filter answers it so. */
#define FILTER_PROOF	   0x436c6f00u
#define FILTER_PROOF_ERRNO EUCLEAN

#endif
