// SPDX-License-Identifier: Apache-2.0
/* The cgroup v2 directories that sandboxes' cgroups are made in (kernel: cgroup-v2). */
#ifndef SUPERVISOR_HOST_CGROUP_H
#define SUPERVISOR_HOST_CGROUP_H

#include "config.h"

#define HOST_CGROUP_CPU	   1u
#define HOST_CGROUP_MEMORY 2u
#define HOST_CGROUP_PIDS   4u
#define HOST_CGROUP_IO	   8u

/*
 * Makes MOUNT/cgroup/INSTANCE and passes the controllers down to it. *cgroup: descriptor of
 * MOUNT/cgroup for the lock (the caller closes it), or -1 without a mount. With
 * p->require_limits a host that lacks cpu, memory or pids is refused.
 */
int host_cgroup_make(const struct policy *p, int *cgroup, struct err *e);

/* The controllers in the file name (cgroup.controllers) below dir, as bits from above. */
unsigned host_cgroup_controllers(int dir, const char *name);

/* "cpu, memory": the names of the bits. */
void host_cgroup_names(unsigned bits, char *buf, size_t size);

#endif
