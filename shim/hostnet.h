// SPDX-License-Identifier: Apache-2.0
/*
 * The host's side of all slots (slot.h): ONE nf_tables table, "cloister-INSTANCE", made anew in one
 * transaction, which nobody else's rules depend on and which touches nobody else's; and one route
 * that makes the pool's unused addresses unreachable. It holds nothing of any single sandbox: what
 * belongs to one is its veth and the routes through it, which the kernel removes with the slot.
 *
 * A port of the host that leads to a sandbox needs no rule of its own either: the last port_count
 * addresses of the pool stand for the ports [port_first, port_first + port_count). A fixed map
 * turns "the host's address, port P" into P's address, and the slot that has P holds the route to
 * that address; without one the pool's route says that it is unreachable. That a port is taken by
 * one sandbox only is the kernel's own rule then: a second route to the same address is refused.
 *
 * What no egress policy may ever allow is dropped here once more, whatever a slot does: the host's
 * own services, other slots, the pool, loopback, link-local (cloud metadata), multicast, reserved,
 * IPv6, sources that are not routed to the very interface that a packet came by. What a policy may
 * allow (private ranges) is for the slot's own rules to decide.
 */
#ifndef SHIM_HOSTNET_H
#define SHIM_HOSTNET_H

#include "err.h"
#include "nft.h"
#include "policy.h"

#include <stdbool.h>
#include <stdint.h>

/* The interface group (ip-link(8)) of the slots' veths at the host's end, of all instances. */
#define HOSTNET_GROUP 25452

#define HOSTNET_TABLE_PREFIX "cloister-" /* and the instance */
#define HOSTNET_INSTANCE_MAX 16		 /* hexadecimal digits */
#define HOSTNET_PORTS_MAX    4096

/*
 * The net that every guest is in (see slot.h). It can be nothing else's: a pool or a list of
 * allowed ranges may cover it, but what is there cannot be reached.
 */
#define HOSTNET_INSIDE_NET  0x0ab10000u /* 10.177.0.0/30 */
#define HOSTNET_INSIDE_BITS 30

/* Addresses are in host order. */
struct hostnet_config {
	const char *instance; /* 8 to HOSTNET_INSTANCE_MAX hexadecimal digits */
	const char *uplink;   /* the interface that sandboxes reach the world through */
	uint32_t pool;	      /* the sandboxes' outside addresses: pool/pool_bits */
	unsigned pool_bits;   /* 8 to 30 */
	uint16_t port_first;  /* host ports that may be given to sandboxes */
	uint32_t port_count;  /* 0: none; at most HOSTNET_PORTS_MAX and half the pool */
};

/* What no policy may allow, as a set for nft_set_ranges(). */
extern const struct nft_range hostnet_never[];
extern const size_t hostnet_never_count;

/* Do the nets have an address in common? */
bool hostnet_nets_overlap(uint32_t a, unsigned a_bits, uint32_t b, unsigned b_bits);

/* What the configuration file says; the strings stay the policy's. */
void hostnet_of_policy(const struct policy *p, struct hostnet_config *c);

/* Checks that the configuration makes sense by itself; ERR_INVALID says what does not. */
int hostnet_check(const struct hostnet_config *c, struct err *e);

/* Is that an address that a sandbox may have: in the pool, and not one that stands for a port? */
bool hostnet_is_sandbox_address(const struct hostnet_config *c, uint32_t address);

/* The address that stands for a port of the host, or 0 where that port is not to be given out. */
uint32_t hostnet_port_address(const struct hostnet_config *c, uint16_t port);

/*
 * Makes table and route what the configuration asks for, in the network namespace of the caller;
 * takes CAP_NET_ADMIN. Safe to repeat while sandboxes run: there is no moment without rules. Checks
 * that the uplink is there and forwards (that is never switched on by us: it is the administrator's
 * to decide); *mtu becomes the uplink's.
 */
int hostnet_ensure(const struct hostnet_config *c, uint32_t *mtu, struct err *e);

/* Removes both again; no error where they are not there. */
int hostnet_remove(const struct hostnet_config *c, struct err *e);

#endif
