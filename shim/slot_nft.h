// SPDX-License-Identifier: Apache-2.0
/* The rules of a slot (slot.h): what its guest may send, where to, and what may reach it. */
#ifndef SHIM_SLOT_NFT_H
#define SHIM_SLOT_NFT_H

#include "slot.h"

/*
 * Puts all rules in place, in one transaction, in the namespace of the caller, which must have both
 * interfaces (down). They are two tables: "cloister" of family netdev (who may speak at all, before
 * anything of the kernel's looks at the packet) and of family ip (policy and translation).
 */
int slot_nft_apply(const struct slot_config *c, struct err *e);

#endif
