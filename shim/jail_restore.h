// SPDX-License-Identifier: Apache-2.0
/* The part of a jail that depends on where the guest's memory comes from. */
#ifndef SHIM_JAIL_RESTORE_H
#define SHIM_JAIL_RESTORE_H

#include "jail.h"

/*
 * Mounts /mem with the guest's own ram file (not where it is private to CH), filled from the set
 * for MSG_RESTORE_COPY of a set that carries ram, and /restore with what vm.restore reads: our
 * config.json for that mode, and the set's state.json and memory, read-only. Fills jail->ram_fd.
 */
int jail_restore_add(int root_fd, const struct jail_guest *guest, uid_t uid, struct jail *jail,
		     struct err *e);

#endif
