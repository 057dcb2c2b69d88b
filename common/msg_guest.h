// SPDX-License-Identifier: Apache-2.0
/*
 * What a guest is made of, as CREATE asks for it, STATUS tells it and a set keeps it. Part of
 * msg.h, whose rules hold here too; msg_check.c checks every field.
 */
#ifndef COMMON_MSG_GUEST_H
#define COMMON_MSG_GUEST_H

#include "name.h"

#include <stdint.h>

#define MSG_CMDLINE_MAX 2048 /* with its end */

enum msg_create_flag {
	MSG_CREATE_BALLOON = 1 << 0,
	MSG_CREATE_INITRAMFS = 1 << 1, /* initramfs names an image */
	/*
	 * Told, never asked for: since its VMM started, memory was plugged or vCPUs were taken
	 * away. What the guest gave up of it is not known, so that no set can be made of it.
	 */
	MSG_CREATE_HOTPLUG = 1 << 2,
	MSG_CREATE_VSOCK = 1 << 3, /* a vsock device, CID MSG_VSOCK_CID */
	/*
	 * It boots anew on the disks that it has already, as a restart policy wants it: they are
	 * opened, never made, and stay when the start fails.
	 */
	MSG_CREATE_KEEP_DISKS = 1 << 4,
	MSG_CREATE_FLAGS = (1 << 5) - 1
};

#define MSG_VSOCK_CID 3

#define MSG_VCPUS_MAX	   254 /* CH's own limit with KVM on x86-64 */
#define MSG_MEMORY_MIB_MIN 16
#define MSG_MEMORY_MIB_MAX (1u << 22) /* 4 TiB */

/* Found with CH v53: VirtioMem's region comes in multiples of the one, blocks are of the other. */
#define MSG_HOTPLUG_MIB 128
#define MSG_PLUG_MIB	2

/* What a balloon must leave to its guest. */
#define MSG_BALLOON_LEAVES_MIB 16

/* Where a guest comes from. */
enum msg_source {
	MSG_SOURCE_BOOT = 0,	 /* a kernel */
	MSG_SOURCE_TEMPLATE = 1, /* a template's set */
	MSG_SOURCE_WAKE = 2,	 /* the sandbox's own set, written when it was hibernated */
	MSG_SOURCE_COUNT
};

/* How the memory of a set gets into the new guest. */
enum msg_restore {
	MSG_RESTORE_NONE = 0,	  /* it boots */
	MSG_RESTORE_MAP = 1,	  /* MAP_PRIVATE on the set's ram */
	MSG_RESTORE_COPY = 2,	  /* a ram file of its own, filled before it starts */
	MSG_RESTORE_ONDEMAND = 3, /* CH's userfaultfd, from CH's own memory-ranges */
	MSG_RESTORE_COUNT
};

#define MSG_DISKS_MAX	      8
#define MSG_DISK_MIB_MAX      (1u << 26) /* 64 TiB */
#define MSG_DISK_IOPS_MIN     10	 /* CH v53 counts in tenths of a second */
#define MSG_DISK_IOPS_MAX     10000000u
#define MSG_DISK_RATE_MIB_MAX 1000000u

enum msg_disk_flag {
	MSG_DISK_READONLY = 1 << 0,
	MSG_DISK_DEVICE = 1 << 1, /* image names a block device of the configuration's list */
	MSG_DISK_FLAGS = (1 << 2) - 1
};

/* How a sandbox or a set came by a disk: told, never asked for. */
enum msg_disk_made {
	MSG_DISK_ASKED = 0,   /* not yet */
	MSG_DISK_SHARED = 1,  /* the read-only image itself */
	MSG_DISK_REFLINK = 2, /* an own file that shares its blocks with its source: FICLONE */
	MSG_DISK_COPIED = 3,  /* an own file, its data copied and its holes kept */
	MSG_DISK_OPENED = 4,  /* the block device itself */
	MSG_DISK_MADE_COUNT
};

struct msg_disk {
	char image[NAME_SIZE]; /* in images/disks, or of a block device */
	uint32_t flags;	       /* enum msg_disk_flag */
	uint32_t size_mib;     /* 0 when asked for: as large as the image; rounded up */
	uint32_t made;	       /* enum msg_disk_made */
	uint32_t rate_mib_s;   /* what the VMM lets through, both ways together; 0: any */
	uint32_t rate_iops;
	uint32_t zero;
};

/* What a guest may reach beyond its own sandbox. */
enum msg_egress {
	MSG_EGRESS_NONE = 0,	 /* only answers to who came by a forwarded port */
	MSG_EGRESS_INTERNET = 1, /* all but host, other sandboxes, private and link-local ranges */
	MSG_EGRESS_LIST = 2,	 /* only what allow[] names */
	MSG_EGRESS_COUNT
};

#define MSG_ALLOW_MAX	 16
#define MSG_PORTS_MAX	 16
#define MSG_SLOT_MAX	 65534u /* of the pool's addresses */
#define MSG_NET_RATE_MAX 1000000u

struct msg_cidr {
	uint32_t address; /* IPv4, host order, no bit set beyond the prefix */
	uint32_t prefix;  /* 0 to 32 */
};

enum msg_proto { MSG_PROTO_TCP = 6, MSG_PROTO_UDP = 17 };

struct msg_port {
	uint32_t proto; /* enum msg_proto */
	uint16_t guest; /* the guest's port */
	uint16_t host;	/* on the host too; 0: only on the sandbox's outside address */
};

/* The slot that connects the guest; unused fields are zero. */
struct msg_network {
	uint32_t slot;	 /* index of its outside address in [network] pool, from 1; 0: no network */
	uint32_t egress; /* enum msg_egress */
	uint32_t allow_count;
	struct msg_cidr allow[MSG_ALLOW_MAX]; /* with MSG_EGRESS_LIST */
	uint32_t port_count;
	struct msg_port ports[MSG_PORTS_MAX];
	uint32_t rx_mbps, tx_mbps; /* to and from the guest; 0: any */
};

/* When a start counts as done, beyond the guest's running. */
enum msg_wait_kind {
	MSG_WAIT_NONE = 0,
	MSG_WAIT_TCP = 1,     /* port takes a connection */
	MSG_WAIT_HTTP = 2,    /* GET text of port answers with status */
	MSG_WAIT_VSOCK = 3,   /* vsock port takes a connection */
	MSG_WAIT_CONSOLE = 4, /* the console prints text */
	MSG_WAIT_COUNT
};

#define MSG_WAIT_TEXT_MAX 128
#define MSG_WAIT_MS_MAX	  3600000u

struct msg_wait {
	uint32_t kind; /* enum msg_wait_kind */
	uint32_t port;
	uint32_t status;	      /* with MSG_WAIT_HTTP; 0: any of 200 to 399 */
	uint32_t timeout_ms;	      /* from the guest's running on */
	char text[MSG_WAIT_TEXT_MAX]; /* path or text: printable */
};

struct msg_create {
	char kernel[NAME_SIZE];
	char initramfs[NAME_SIZE];
	char cmdline[MSG_CMDLINE_MAX]; /* printable ASCII and blanks */
	uint32_t vcpus;
	uint32_t memory_mib;
	uint32_t flags;	  /* enum msg_create_flag */
	uint32_t source;  /* enum msg_source */
	uint32_t restore; /* enum msg_restore */
	uint32_t max_vcpus;
	uint32_t max_memory_mib;
	uint32_t balloon_mib; /* the balloon's target */
	uint32_t plugged_mib; /* asked for beyond memory_mib, by RESIZE; 0 when it is created */
	uint32_t disk_count;
	struct msg_disk disks[MSG_DISKS_MAX]; /* "disk0" and so on; the rest is zero */
	struct msg_network network;
	struct msg_wait wait;	      /* of this start only */
	char template[NAME_KEY_SIZE]; /* TENANT:NAME with MSG_SOURCE_TEMPLATE, else empty */
};

#endif
