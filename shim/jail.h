// SPDX-License-Identifier: Apache-2.0
/*
 * A sandbox's private root with its fixed layout, built in a mount and net namespace of the shim's
 * own and entered with pivot_root(2). Everything the VMM will ever see is mounted here; nothing
 * can be added after the shim's drop. DESIGN.md section 5 has the layout.
 */
#ifndef SHIM_JAIL_H
#define SHIM_JAIL_H

#include "disks.h"
#include "err.h"
#include "msg.h"
#include "policy.h"

#include <stdbool.h>
#include <sys/types.h>

/* How the VMM finds its things, the same in every sandbox. */
#define JAIL_RAM_PATH	    "/mem/ram"
#define JAIL_KERNEL_PATH    "/kernel"
#define JAIL_INITRAMFS_PATH "/initramfs"
#define JAIL_DISK_PATH	    "/disk/" /* and its number */
#define JAIL_VMM_PATH	    "/vmm"
#define JAIL_SNAPSHOT_PATH  "/snapshot"
#define JAIL_RESTORE_PATH   "/restore"
#define JAIL_SET_RAM_PATH   "/restore/ram"
#define JAIL_VSOCK_NAME	    "sock"
#define JAIL_VSOCK_PATH	    "/vsock/" JAIL_VSOCK_NAME

struct jail {
	int proc_fd;	/* O_PATH of a /proc that shows the host's processes */
	int ram_fd;	/* the guest's memory file */
	int api_listen; /* the API socket, bound, listening and already nameless */
	int api_conn;	/* our connection to it */
	int pty_master; /* raw; the guest's serial input */
	int pty_slave;
	int templates_fd; /* STATE_DIR/templates and sandboxes, for sets */
	int sandboxes_fd;
	int snapshot_fd; /* /snapshot: root's but while vm.snapshot runs */
	int vsock_fd;	 /* O_PATH of /vsock, which is the VMM's */
};

#define JAIL_INIT                                                                                  \
	{                                                                                          \
		-1, -1, -1, -1, -1, -1, -1, -1, -1, -1                                             \
	}

/* What the jail is built for. */
struct jail_guest {
	const struct msg_create *spec; /* kernel, memory: of the set where it is restored */
	const char *key;	       /* the sandbox's */
	enum msg_restore restore;
	int set_fd;	     /* the checked set to restore, or -1 */
	uint32_t content;    /* of the set: enum msg_set_content */
	int64_t deadline_us; /* for filling the guest's memory */
	const struct disks *disks;
};

/* Whether the guest's memory is CH's own, not a file of the jail: a map clone's, a plain CH's set.
 */
bool jail_memory_is_private(const struct jail_guest *guest);

/* New mount and net namespaces for the calling process: first of all. */
int jail_unshare(struct err *e);

/* Opens jail->templates_fd and sandboxes_fd, in the shim's own mount namespace. */
int jail_open_sets(const struct policy *policy, struct jail *jail, struct err *e);

/*
 * Builds the jail for guest (NULL: only what running `VMM --version` takes) and enters it: on
 * success the calling process has the jail's root. Comes after jail_unshare(). Needs the
 * spawner's namespace (hostns.h) and its capabilities. Errors in what the request names are
 * ERR_INVALID. The descriptors in *jail are the caller's: jail_close().
 */
int jail_enter(const struct policy *policy, const struct jail_guest *guest, uid_t uid,
	       struct jail *jail, struct err *e);

void jail_close(struct jail *jail);

#endif
