// SPDX-License-Identifier: Apache-2.0
/* What a guest starts from: its set, its disks, and the jail around them. Part of boot.c's CREATE.
 */
#ifndef SHIM_BOOT_SOURCE_H
#define SHIM_BOOT_SOURCE_H

#include "shim.h"

/*
 * Opens and checks the set to restore, opens or makes the disks, builds the jail and enters it.
 * s->spec is then what the guest really has. deadline_us is for all of it.
 */
int boot_source_enter(struct shim *s, int64_t deadline_us, struct err *e);

#endif
