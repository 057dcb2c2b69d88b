// SPDX-License-Identifier: Apache-2.0
/*
 * The spawner's own small mount namespace. A shim's unshare(CLONE_NEWNS) copies every mount it
 * sees; here it sees about ten, however many the host has or other sandboxes make.
 *
 * It also holds, at HOSTNS_BASE, the part of a jail's root that is the same for every sandbox: the
 * VMM, its loader and libraries, [vmm] bind_ro files and the mount points of the fixed layout. A
 * shim clones that tree with one call.
 */
#ifndef SHIM_HOSTNS_H
#define SHIM_HOSTNS_H

#include "err.h"
#include "policy.h"

/* Mount points inside the spawner's namespace. */
#define HOSTNS_BASE "/base" /* the prepared tree */
#define HOSTNS_JAIL "/jail" /* empty: a shim puts its own root here, in its own namespace */

/* The block devices of the policy's list, by their index there; what is missing has no file. */
#define HOSTNS_DEVICES "/devices"

/* The fixed layout inside a jail, relative to its root. */
#define HOSTNS_VMM	 "vmm"
#define HOSTNS_KERNEL	 "kernel"
#define HOSTNS_INITRAMFS "initramfs"

/* Moves the calling process into the namespace for good. Needs CAP_SYS_ADMIN. */
int hostns_enter(const struct policy *policy, struct err *e);

#endif
