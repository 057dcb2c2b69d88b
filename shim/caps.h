// SPDX-License-Identifier: Apache-2.0
/* Dropping privilege, in one commented order per role, and proof that it cannot come back. */
#ifndef SHIM_CAPS_H
#define SHIM_CAPS_H

#include "err.h"

#include <sys/types.h>

/*
 * The serving shim: stays uid 0, keeps CAP_KILL (the VMM has another uid) and CAP_CHOWN (to
 * take the files that the VMM wrote), with an empty
 * bounding set, locked securebits and no_new_privs. Proven by trying to regain.
 */
int caps_drop_to_serving(struct err *e);

/*
 * The VMM's process, just before its execve(2): uid and gid of its own, no groups, all five
 * capability sets empty, no_new_privs. Only system calls, so it is safe after clone(2). Returns 0,
 * or -1 with errno and *step naming what failed.
 */
int caps_drop_to_vmm(uid_t uid, gid_t gid, const char **step);

#endif
