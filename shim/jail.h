// SPDX-License-Identifier: Apache-2.0
/*
 * A sandbox's private root with its fixed layout, built in a mount and net namespace of the shim's
 * own and entered with pivot_root(2). Everything the VMM will ever see is mounted here; nothing
 * can be added after the shim's drop. DESIGN.md section 5 has the layout.
 */
#ifndef SHIM_JAIL_H
#define SHIM_JAIL_H

#include "err.h"
#include "msg.h"
#include "policy.h"

#include <sys/types.h>

/* How the VMM finds its things, the same in every sandbox. */
#define JAIL_RAM_PATH	    "/mem/ram"
#define JAIL_KERNEL_PATH    "/kernel"
#define JAIL_INITRAMFS_PATH "/initramfs"
#define JAIL_VMM_PATH	    "/vmm"

struct jail {
	int proc_fd;	/* O_PATH of a /proc that shows the host's processes */
	int ram_fd;	/* the guest's memory file */
	int api_listen; /* the API socket, bound, listening and already nameless */
	int api_conn;	/* our connection to it */
	int pty_master; /* raw; the guest's serial input */
	int pty_slave;
};

#define JAIL_INIT                                                                                  \
	{                                                                                          \
		-1, -1, -1, -1, -1, -1                                                             \
	}

/*
 * Builds the jail for spec (NULL: only what running `VMM --version` takes) and enters it: on
 * success the calling process has the jail's root, in new mount and net namespaces. Needs the
 * spawner's namespace (hostns.h) and its capabilities. Errors in what the request names are
 * ERR_INVALID. The descriptors in *jail are the caller's: jail_close().
 */
int jail_enter(const struct policy *policy, const struct msg_create *spec, uid_t uid,
	       struct jail *jail, struct err *e);

void jail_close(struct jail *jail);

#endif
