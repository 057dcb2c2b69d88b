// SPDX-License-Identifier: Apache-2.0
/*
 * A network slot: the namespace of one sandbox's network (DESIGN.md section 5). The shim is in it,
 * nothing else is, and no file pins it: with the shim (and the VMM, which holds the tap) go the
 * namespace, the tap, both ends of the veth pair, the rules, and the host's routes through the
 *veth.
 *
 *	guest 10.177.0.2 == tap [ slot: rules, NAT ] uplink ===== cl...@host == the host's uplink
 *	                    10.177.0.1        ADDRESS/32   veth pair
 *
 * Inside, every guest sees the same, so that a template can be restored any number of times at
 * once: the constants below. Outside each has an ADDRESS of its own, which the slot translates to
 * and from. Neighbours on all four ends are permanent entries and the veth does no ARP, so that no
 * packet can change where anything is sent.
 *
 * Names: a guest asks its gateway, 10.177.0.1. The slot sends that on to the configured resolver,
 * and only if the egress policy allows that address; so neither the resolver nor the policy is
 * baked into a template, and "list" and "none" hold for names as for anything else.
 */
#ifndef SHIM_SLOT_H
#define SHIM_SLOT_H

#include "hostnet.h"
#include "netlink.h"

/* Inside; a locally administered MAC address each. */
#define SLOT_GATEWAY (HOSTNET_INSIDE_NET + 1) /* 10.177.0.1, of the tap; also the guest's DNS */
#define SLOT_GUEST   (HOSTNET_INSIDE_NET + 2) /* 10.177.0.2/30 */
#define SLOT_GUEST_MAC                                                                             \
	{                                                                                          \
		0x02, 0xc1, 0x01, 0x57, 0x00, 0x02                                                 \
	}
#define SLOT_TAP_MAC                                                                               \
	{                                                                                          \
		0x02, 0xc1, 0x01, 0x57, 0x00, 0x01                                                 \
	}
#define SLOT_GUEST_MTU 1500 /* or the uplink's, if that is smaller */

#define SLOT_ALLOW_MAX 16
#define SLOT_PORTS_MAX 16
#define SLOT_INDEX_MAX 0xfffff
#define SLOT_NAME_SIZE 16
#define SLOT_MBPS_MAX  25000
/* Connections that a guest may have open; each costs kernel memory here and on the host. */
#define SLOT_CONNECTIONS 4096

enum slot_egress {
	SLOT_EGRESS_NONE,     /* only answers to what came by a forwarded port */
	SLOT_EGRESS_INTERNET, /* all but the host, other sandboxes, private and special ranges */
	SLOT_EGRESS_LIST,     /* only the ranges in allow[] */
};

struct slot_cidr {
	uint32_t net; /* host order, no bits behind the prefix */
	uint8_t bits; /* 0 to 32 */
};

struct slot_port {
	uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	uint16_t guest;	  /* ADDRESS:guest leads to the guest's port of that number */
	uint16_t host;	  /* so does this port of the host, if not 0: one of hostnet_config's */
};

/* Addresses are in host order. */
struct slot_config {
	const struct hostnet_config *host;
	uint32_t address;  /* outside: hostnet_is_sandbox_address() */
	uint32_t index;	   /* at most SLOT_INDEX_MAX; names the veth's end on the host */
	uint32_t mtu;	   /* of the host's uplink, 576 to 65535 */
	uint32_t resolver; /* where DNS goes, or 0: nowhere */
	enum slot_egress egress;
	unsigned allow_count;
	struct slot_cidr allow[SLOT_ALLOW_MAX]; /* a private range may be named; those of
						   hostnet_never and the pool stay shut even so */
	unsigned port_count;
	struct slot_port ports[SLOT_PORTS_MAX];
	uint32_t to_guest_mbps, from_guest_mbps; /* 0: no limit */
	const char *tun_path; /* NULL: /dev/net/tun. It is opened from within the slot. */
};

struct slot {
	struct netlink host; /* speaks to the host's namespace */
	int host_ns;	     /* the host's namespace, while building */
	int tap_fd;	     /* for the VMM: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 12-byte header */
	char veth[SLOT_NAME_SIZE]; /* the name of the veth's end on the host */
};

/*
 * Before unshare(CLONE_NEWNET): takes hold of the host's namespace, which must be the caller's.
 * Call slot_close() whatever comes of it. Needs /proc.
 */
int slot_open_host(struct slot *s, struct err *e);

/* Checks the configuration by itself; ERR_INVALID says what is wrong in it. */
int slot_check(const struct slot_config *c, struct err *e);

/*
 * After it, in the thread that did it: builds the whole slot in the new namespace, rules first, the
 * host's end last, and fills tap_fd (up, close-on-exec). Takes CAP_NET_ADMIN in both. -1: nothing
 * passes, what was made on the host is gone again, and the namespace is of no use any more.
 * ERR_STATE: index, address or a host port is still in use by another slot.
 */
int slot_build(struct slot *s, const struct slot_config *c, struct err *e);

/* Closes what serving does not need (the way to the host's namespace); the tap stays. */
void slot_close_host(struct slot *s);

/* Closes all of it. What is left goes with the namespace. */
void slot_close(struct slot *s);

/* Parts of slot_build() in files of their own; the namespace is the slot's. */

/* Interface numbers in the slot, chosen by us. */
#define SLOT_TAP_INDEX	  2
#define SLOT_UPLINK_INDEX 3
#define SLOT_TAP	  "tap"
#define SLOT_UPLINK	  "uplink"
#define SLOT_LEAVING_MS	  3000	/* for what an earlier slot has not yet given back */
#define SLOT_TIMEOUT_MS	  30000 /* the kernel does one such request at a time, for all slots */

#endif
