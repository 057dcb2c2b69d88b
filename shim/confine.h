// SPDX-License-Identifier: Apache-2.0
/* Reads a VMM's confinement back from /proc (proc(5)) and compares it with what was asked. */
#ifndef SHIM_CONFINE_H
#define SHIM_CONFINE_H

#include "err.h"

#include <stdbool.h>
#include <sys/types.h>

#define CONFINE_NS_COUNT 5

/* Identities of pid, mnt, net, ipc and uts namespaces, as their /proc links spell them. */
struct confine_ns {
	char id[CONFINE_NS_COUNT][40];
};

/* Those of a process, by its directory below proc_fd ("self", "123"). Needs the right to trace it.
 */
int confine_read_ns(int proc_fd, const char *process, struct confine_ns *ns, struct err *e);

/*
 * Right after the VMM's execve(2), before the shim's drop: all five namespaces differ from the
 * host's, mnt and net are the shim's own, and its root is the shim's root. own_net: its net
 * namespace is not the shim's either (that is the sandbox's slot).
 */
int confine_check_namespaces(int proc_fd, pid_t pid, const struct confine_ns *host, bool own_net,
			     struct err *e);

/*
 * Every thread of the process: uid and gid (all four) as given, no groups, all five capability
 * sets empty, no_new_privs, under a seccomp filter (ours; CH's main thread has none of its own).
 * Needs no privilege.
 */
int confine_check_threads(int proc_fd, pid_t pid, uid_t uid, gid_t gid, struct err *e);

#endif
