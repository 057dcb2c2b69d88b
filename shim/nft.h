// SPDX-License-Identifier: Apache-2.0
/*
 * Writes nf_tables rules (nft(8), linux/netfilter/nf_tables.h) into a netlink batch, through
 * libnftnl. A rule is begun with nft_rule(), grows by matches and ends in a verdict; beginning the
 * next one, or nft_end(), puts it into the batch. Nothing here fails on its own: being out of
 * memory is remembered and told by nft_end().
 *
 * All addresses and ports are in host order.
 */
#ifndef SHIM_NFT_H
#define SHIM_NFT_H

#include "netlink.h"

#include <netinet/in.h> /* before the kernel's own, which then leave its names alone */

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

struct nftnl_rule;

/* The table that is being written. */
struct nft {
	struct netlink_batch *batch;
	uint8_t family; /* NFPROTO_IPV4, NFPROTO_INET, NFPROTO_NETDEV */
	const char *table;
	struct nftnl_rule *rule; /* the one that is growing */
	const char *what;
	uint32_t set_id;
	bool failed;
};

/* A range of IPv4 addresses, both ends within it. */
struct nft_range {
	uint32_t first, last;
};

/* Where a base chain hangs; dev only for NFPROTO_NETDEV. */
struct nft_hook {
	const char *type; /* "filter" or "nat" */
	uint32_t hook;	  /* NF_INET_* or NF_NETDEV_INGRESS */
	int32_t priority;
	uint32_t policy; /* NF_ACCEPT or NF_DROP */
	const char *dev;
};

/* Begins to write in that table of that family. The names must stay. */
void nft_begin(struct nft *n, struct netlink_batch *b, uint8_t family, const char *table);

/* Makes the table, where there is none of that name. */
void nft_table(struct nft *n);

/* Makes the table, empty: one of that name goes, with all that is in it, in the same transaction.
 */
void nft_table_anew(struct nft *n);

/* Removes the table; it must be there. */
void nft_table_delete(struct nft *n);

/* A chain; hook NULL: one that only nft_jump() leads to. */
void nft_chain(struct nft *n, const char *name, const struct nft_hook *hook);

/* A constant set of ranges in ascending order that do not touch each other. */
void nft_set_ranges(struct nft *n, const char *name, const struct nft_range *ranges, size_t count);

/* A map from ports first, first + 1, ... to addresses base, base + 1, ... */
void nft_map_ports(struct nft *n, const char *name, uint16_t first, uint32_t base, uint32_t count);

/* Begins a rule at the end of chain; what names it in errors (a string that stays). */
void nft_rule(struct nft *n, const char *chain, const char *what);

/* Matches. meta: NFT_META_*, compared with a number of the kernel's own type (u32, or u8, u16be).
 */
void nft_meta_u32(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint32_t value);
void nft_meta_u8(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint8_t value);
void nft_meta_u16be(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint16_t value);
void nft_meta_name(struct nft *n, uint32_t key, enum nft_cmp_ops op, const char *name);
/* Bytes at an offset of a header (NFT_PAYLOAD_*). */
void nft_bytes(struct nft *n, uint32_t base, uint32_t offset, const void *data, uint32_t length);
/* An IPv4 address of the packet within net/bits, or outside of it. */
enum nft_side { NFT_SOURCE = 12, NFT_DESTINATION = 16 }; /* offsets in an IPv4 header, RFC 791 */
void nft_net(struct nft *n, enum nft_side side, enum nft_cmp_ops op, uint32_t net, unsigned bits);
void nft_in_set(struct nft *n, enum nft_side side, const char *set);
void nft_protocol(struct nft *n, uint8_t protocol);
void nft_port(struct nft *n, uint16_t port); /* destination port; after nft_protocol() */
/* Any of the bits (NF_CT_STATE_BIT(), IPS_*) of NFT_CT_STATE or NFT_CT_STATUS. */
void nft_ct_any(struct nft *n, uint32_t key, uint32_t bits);
/* No route leads to the packet's source through the interface that it came by. */
void nft_source_not_routed_here(struct nft *n);
/* The destination is an address of this namespace. */
void nft_destination_is_local(struct nft *n);
/* More than count connections of those that came to this rule are there. */
void nft_connections_over(struct nft *n, uint32_t count);

/* What is done with it. */
void nft_verdict(struct nft *n, uint32_t verdict); /* NF_ACCEPT or NF_DROP */
void nft_jump(struct nft *n, const char *chain);
void nft_snat(struct nft *n, uint32_t address);
void nft_dnat(struct nft *n, uint32_t address, uint16_t port);
/* To the address that the map has for the destination port; the rule ends where it has none. */
void nft_dnat_map(struct nft *n, const char *map);
void nft_masquerade(struct nft *n);

/* Ends the last rule. -1: memory ran out somewhere above, and the batch must not be sent. */
int nft_end(struct nft *n, struct err *e);

#endif
