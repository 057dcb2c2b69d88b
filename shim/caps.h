// SPDX-License-Identifier: Apache-2.0
/*
 * Dropping privilege, in one commented order per role, and proof that it cannot come back
 * (capabilities(7), prctl(2)). Who needs what, and why, is in caps_sets.c. Each returns -1 when a
 * step or its proof fails: the process must end then, as it may be half way.
 */
#ifndef SHIM_CAPS_H
#define SHIM_CAPS_H

#include "caps_sets.h"
#include "err.h"

#include <sys/types.h>

/*
 * The spawner, first thing. Its bounding and permitted sets are cut to what itself, its shims and
 * their jails need; nothing is inheritable or ambient, for good; no_new_privs. Only uid 0 goes on
 * to mean something (no SECBIT_NOROOT): shims get their capabilities by being executed as root.
 */
int caps_cut_spawner(const struct policy *policy, struct err *e);

/*
 * The spawner, before it reads the first record: of its permitted set only what it needs itself
 * stays effective. The rest is for those that it starts.
 */
int caps_settle_spawner(const struct policy *policy, struct err *e);

/*
 * A shim or a probe, before it reads the first record: cut to what building the jail takes, with
 * an empty bounding set, locked securebits (uid 0 means nothing more) and no_new_privs, so that
 * CAP_SETPCAP is gone, too.
 */
int caps_drop_to_setup(const struct policy *policy, struct err *e);

/*
 * The serving shim: stays uid 0, keeps CAP_KILL (the VMM has another uid) and CAP_CHOWN (to take
 * the files that the VMM wrote). After caps_drop_to_setup().
 */
int caps_drop_to_serving(struct err *e);

/*
 * The VMM's process, just before its execve(2): uid and gid of its own, no groups, all five
 * capability sets empty, securebits locked, no_new_privs. Only system calls, so it is safe after
 * clone(2). Returns 0, or -1 with errno and *step naming what failed.
 */
int caps_drop_to_vmm(uid_t uid, gid_t gid, const char **step);

/*
 * The client as root, before it opens what somebody else wrote: reads any file, writes root's.
 * Nothing that it executes afterwards has more.
 */
int caps_drop_to_import(struct err *e);

#endif
