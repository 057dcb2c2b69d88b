// SPDX-License-Identifier: Apache-2.0
/*
 * What cloisterd needs of the host, made and opened as root before the drop: directories with
 * their owners, the cgroup, the instance id, the locks, the control socket (DESIGN.md section 4).
 */
#ifndef SUPERVISOR_HOST_H
#define SUPERVISOR_HOST_H

#include "config.h"

enum host_lock {
	HOST_LOCK_STATE,
	HOST_LOCK_RUN,
	HOST_LOCK_UIDS,
	HOST_LOCK_CGROUP,
	HOST_LOCK_COUNT
};

struct host {
	int state_dir, run_dir; /* directories; kept over the drop */
	int shims_dir;
	int kernels_dir, initramfs_dir, disks_dir;
	int store_dir;
	char boot[40];		    /* the id of the host's boot: random(4), boot_id */
	int control;		    /* bound, not yet listening */
	int locks[HOST_LOCK_COUNT]; /* -1: no cgroup to lock */
};

void host_init(struct host *h);

/*
 * Makes and opens everything. Fills policy.cgroup_mount and policy.instance. Waits up to 5 s for
 * locks whose holder is about to go; a second daemon is refused, and the message names on what.
 */
int host_prepare(struct host *h, struct config *c, struct err *e);

/* The control socket: a stale one is removed, as the lock is ours. Not listening yet. */
int host_bind_control(struct host *h, const struct policy *p, struct err *e);

void host_close(struct host *h);

/* Where cgroup v2 is mounted, from /proc/self/mountinfo (proc(5)); empty when nowhere. */
int host_find_cgroup(char *mount, size_t size, struct err *e);

/*
 * Opens cloister-shim: in the directory of this executable, else in ../libexec/cloister beside
 * it. It must be a regular file of root's that nobody else may write.
 */
int host_open_shim(struct err *e);

#endif
