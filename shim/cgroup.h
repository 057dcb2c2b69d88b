// SPDX-License-Identifier: Apache-2.0
/*
 * A cgroup v2 leaf for each VMM (cgroups(7), the kernel's admin-guide/cgroup-v2). All below a
 * directory descriptor, so that tests can hand in a tree of plain files.
 */
#ifndef SHIM_CGROUP_H
#define SHIM_CGROUP_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

/* What the VMM of a sandbox may use; the guest's own share and what a VMM needs beside it. */
struct cgroup_limits {
	uint64_t memory_bytes;
	uint32_t cpu_percent; /* 100: one whole processor */
	uint32_t pids;
};

/* The limits for a guest of that shape. */
struct cgroup_limits cgroup_limits_for(uint32_t vcpus, uint32_t memory_mib);

/*
 * Makes the leaf name below parent_fd and sets its limits. A controller that is not there is an
 * error naming it when require is set, else left out. Returns the leaf's descriptor (O_PATH).
 */
int cgroup_create(int parent_fd, const char *name, const struct cgroup_limits *limits, bool require,
		  struct err *e);

/* SIGKILL to everything in the leaf. A leaf that does not exist is fine. */
int cgroup_kill(int parent_fd, const char *name, struct err *e);

/* 1: removed or never there; 0: still populated; -1: error. */
int cgroup_remove(int parent_fd, const char *name, struct err *e);

/* Opens the leaf's cgroup.events for poll(2) with POLLPRI; -1 when there is none. */
int cgroup_watch(int parent_fd, const char *name, struct err *e);

/* memory.events' oom_kill count of the leaf; 0 where there is no memory controller. */
uint64_t cgroup_oom_kills(int leaf_fd);

#endif
