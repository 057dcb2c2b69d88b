// SPDX-License-Identifier: Apache-2.0
/* The drop from root to the configured user, for good, and its proof. */
#ifndef SUPERVISOR_DROP_H
#define SUPERVISOR_DROP_H

#include "host.h"
#include "policy.h"

/*
 * Gives up root and every capability, then proves that there is no way back; the process must end
 * when this fails, as it may be half way.
 */
int drop_root(const struct policy *p, struct err *e);

/*
 * After drop_root(): Landlock leaves it the list of the shims' sockets and its own store, and no
 * other file, no TCP, nobody to signal (landlock.h). Connecting to a named socket is none of
 * Landlock's business, and directories opened before stay good to look names up in. Without
 * Landlock nothing changes. The process must end when this fails.
 */
int drop_access(const struct host *h, struct err *e);

#endif
