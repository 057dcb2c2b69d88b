// SPDX-License-Identifier: Apache-2.0
/* The interfaces, addresses, neighbours and routes of a slot (slot.h). */
#ifndef SHIM_SLOT_LINK_H
#define SHIM_SLOT_LINK_H

#include "slot.h"

/* Makes the tap in the namespace of the caller, down. Returns its descriptor, or -1. */
int slot_link_make_tap(const char *tun_path, struct err *e);

/*
 * Makes the veth pair, down: SLOT_UPLINK in the namespace of route, s->veth in the host's.
 * *host_index is the number of the latter.
 */
int slot_link_make_veth(struct slot *s, struct netlink *route, const struct slot_config *c,
			uint32_t *host_index, struct err *e);

/* Everything within the slot, both interfaces up in the end. */
int slot_link_set_up(struct netlink *route, const struct slot_config *c, struct err *e);

/* The host's end: settings, neighbours, up, routes. From here on packets pass. */
int slot_link_set_up_host(struct netlink *host, const struct slot_config *c, uint32_t host_index,
			  struct err *e);

/*
 * Waits until the slot's end may send: it came up before its other end did, and the kernel takes
 * note of a carrier a little later, dropping until then all that is sent.
 */
int slot_link_await(struct netlink *route, struct err *e);

/* Takes the veth pair away, if it is there, and with it the host's routes through it. */
void slot_link_remove_veth(struct netlink *route);

#endif
