// SPDX-License-Identifier: Apache-2.0
/*
 * The disks of a sandbox. A writable one is a file of its own, STATE_DIR/sandboxes/KEY/disks/N,
 * made from an image or from a template's file and given to the sandbox's uid; a read-only one is
 * the image itself; a block device of the administrator's list is opened as it is. In the jail they
 * are /disk/N. All are raw, and Cloud Hypervisor is told so: it never looks for a format in what a
 * guest wrote (GHSA-jmr4-g2hv-mjj6).
 */
#ifndef SHIM_DISKS_H
#define SHIM_DISKS_H

#include "policy.h"
#include "sets.h"

#include <sys/types.h>

struct disks {
	uint32_t count;
	int fd[MSG_DISKS_MAX];	     /* own file (writable), image (read-only), block device */
	dev_t device[MSG_DISKS_MAX]; /* of a block device, else 0 */
};

void disks_init(struct disks *d);
void disks_close(struct disks *d);

/* Told now and then while disks are being made; -1 with *e stops that. */
typedef int disks_tell_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes, struct err *e);

/* What the disks are opened or made for. */
struct disks_order {
	const struct policy *policy;
	const char *key;
	uid_t uid;
	int sandboxes_fd;
	int set_fd; /* of the template or of the sandbox itself; -1: it boots */
	const struct sets_disk *set_disks; /* as they were in that set */
	int64_t deadline_us;
	disks_tell_fn *tell;
	void *arg;
};

/*
 * Opens the disks of spec, and makes those that are the sandbox's own (for a wake it has them
 * already, and they must be as they were). Fills in size_mib and made. Before the jail is entered,
 * in the shim's own mount namespace, as root. What the request got wrong is ERR_INVALID and names
 * disks[N]; an image that is another than the template's is ERR_STATE. What is half made stays for
 * sets_remove().
 */
int disks_open(const struct disks_order *order, struct msg_create *spec, struct disks *d,
	       struct err *e);

/* Mounts them in the jail that is being built, as /disk/N. */
int disks_mount(int root_fd, const struct disks *d, const struct msg_create *spec, uid_t uid,
		struct err *e);

/* The largest of the sandbox's own disks in bytes, or 0: what its VMM may write to a file. */
uint64_t disks_largest(const struct msg_create *spec);

#endif
