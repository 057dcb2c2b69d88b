// SPDX-License-Identifier: Apache-2.0
/* What Landlock leaves the VMM of the jail: its fixed layout (DESIGN.md, section 5), name by name.
 */
#ifndef SHIM_JAIL_LANDLOCK_H
#define SHIM_JAIL_LANDLOCK_H

#include "err.h"

/*
 * The ruleset for the jail that the calling process is in, after jail_enter(), for
 * landlock_enforce() in the VMM's process. The caller closes *fd, which is -1 without Landlock.
 */
int jail_landlock_open(int *fd, struct err *e);

#endif
