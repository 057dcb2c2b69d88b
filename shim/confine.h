// SPDX-License-Identifier: Apache-2.0
/* Reads a VMM's confinement back from /proc (proc(5)) and compares it with what was asked. */
#ifndef SHIM_CONFINE_H
#define SHIM_CONFINE_H

#include "err.h"
#include "msg.h"

#include <stdbool.h>
#include <sys/types.h>

#define CONFINE_NS_COUNT   5
#define CONFINE_CGROUP_MAX 512

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

/* Notes what confine_check_namespaces() compares; as that, before the drop. What is gone is 0. */
void confine_note_namespaces(int proc_fd, pid_t pid, const struct confine_ns *host,
			     struct msg_confine *out);

/* What a VMM was started with. */
struct confine_want {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	char cgroup[CONFINE_CGROUP_MAX];  /* its path ends so; empty: none of its own */
	uint64_t limits[MSG_LIMIT_COUNT]; /* no hard limit may be higher; UINT64_MAX: any */
};

/* What was read last; threads is malloc(3)ed. */
struct confine_report {
	struct msg_confine sum;
	struct msg_thread *threads; /* sum.thread_count */
	uint32_t room;
};

/*
 * confine_check_threads(), the hard limits and the cgroup, with all that was read kept in *r, also
 * when it is not as asked (ERR_INTERNAL). ERR_VMM: the VMM has ended, nothing was found wrong.
 * Needs no privilege. The times and counts of r->sum are the caller's to keep.
 */
int confine_read_back(int proc_fd, const struct confine_want *want, struct confine_report *r,
		      struct err *e);

void confine_report_close(struct confine_report *r);

#endif
