// SPDX-License-Identifier: Apache-2.0
/* The network slot of the sandbox that is being started. Part of boot.c's CREATE. */
#ifndef SHIM_BOOT_NET_H
#define SHIM_BOOT_NET_H

#include "shim.h"

/* In the host's network namespace, before jail_unshare(): takes hold of what it will need there. */
int boot_net_prepare(struct shim *s, struct err *e);

/* After it: the namespace becomes the slot. Nothing passes unless all of it is there. */
int boot_net_build(struct shim *s, struct err *e);

#endif
