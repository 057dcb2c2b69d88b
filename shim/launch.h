// SPDX-License-Identifier: Apache-2.0
/* Starts the VMM in its jail: clone3(2), descriptors, limits, the drop, execve(2). */
#ifndef SHIM_LAUNCH_H
#define SHIM_LAUNCH_H

#include "confine.h"
#include "err.h"

#include <stdint.h>
#include <sys/types.h>

/* The VMM's descriptors 0 to 4: stdin, stdout, stderr, and two that its command line names. */
#define LAUNCH_FDS	5
#define LAUNCH_FD_API	3
#define LAUNCH_FD_EVENT 4

struct launch {
	const char *const *argv; /* argv[0] is a name only: the jail's VMM is what runs */
	char *const *env;	 /* the whole environment */
	int fds[LAUNCH_FDS];	 /* what becomes 0 to 4; -1: closed (3 and 4 only) */
	uid_t uid;
	int cgroup_fd; /* the leaf to start in, or -1 */
	int proc_fd;
	const struct confine_ns *host;
	bool own_net; /* an empty net namespace of its own; else the caller's, which is empty */
	uint64_t file_bytes;   /* the largest file that it may write */
	uint64_t memory_bytes; /* of the guest */
	uint32_t vcpus;
	int64_t deadline_us; /* clock_us() by which it must have executed */
};

struct launch_vmm {
	pid_t pid; /* as the host sees it */
	int pidfd;
	int death_pipe; /* held while we live: its end tells the VMM's starter that we are gone */
};

/*
 * Returns 0 once the VMM has been executed and its namespaces and root are read back as asked.
 * On failure the process, if it was made, has been killed and reaped. Must be called by the
 * shim's main thread: PR_SET_PDEATHSIG follows the thread that cloned (prctl(2)).
 */
int launch_vmm(const struct launch *launch, struct launch_vmm *vmm, struct err *e);

/* The hard limits that such a VMM gets, unless the shim's own are lower. */
void launch_limits(const struct launch *launch, uint64_t out[MSG_LIMIT_COUNT]);

/* SIGKILL and reap, at the most for timeout_ms; closes what vmm holds. */
void launch_kill(struct launch_vmm *vmm, int timeout_ms);

#endif
