// SPDX-License-Identifier: Apache-2.0
#include "nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* nft(8)'s own numbers for types of data, which only make its listings readable. */
#define TYPE_IPADDR	  7
#define TYPE_INET_SERVICE 13

/* An element takes some 40 bytes, and a message NETLINK_REQUEST_MAX at most. */
#define ELEMENTS_PER_MESSAGE 128

void nft_begin(struct nft *n, struct netlink_batch *b, uint8_t family, const char *table)
{
	*n = (struct nft){.batch = b, .family = family, .table = table};
}

static void table_message(struct nft *n, uint16_t type, uint16_t flags, const char *what)
{
	struct nftnl_table *t = nftnl_table_alloc();
	if (!t) {
		n->failed = true;
		return;
	}
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, n->table);
	nftnl_table_nlmsg_build_payload(
		netlink_batch_add_nft(n->batch, type, n->family, flags, what), t);
	nftnl_table_free(t);
}

void nft_table(struct nft *n)
{
	table_message(n, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, "make the table");
}

void nft_table_anew(struct nft *n)
{
	/* Removing one that is not there is an error: so first make sure that it is. */
	table_message(n, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make sure of the table");
	table_message(n, NFT_MSG_DELTABLE, 0, "remove the old table");
	table_message(n, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table");
}

void nft_table_delete(struct nft *n)
{
	table_message(n, NFT_MSG_DELTABLE, 0, "remove the table");
}

void nft_chain(struct nft *n, const char *name, const struct nft_hook *hook)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	if (!c) {
		n->failed = true;
		return;
	}
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, n->table);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	if (hook) {
		nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, hook->type);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook->hook);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, hook->priority);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, hook->policy);
		if (hook->dev)
			nftnl_chain_set_str(c, NFTNL_CHAIN_DEV, hook->dev);
	}
	nftnl_chain_nlmsg_build_payload(netlink_batch_add_nft(n->batch, NFT_MSG_NEWCHAIN, n->family,
							      NLM_F_CREATE, "make a chain"),
					c);
	nftnl_chain_free(c);
}

/* A set of that name and id, as the base for its own message or for one with elements. */
static struct nftnl_set *new_set(struct nft *n, const char *name)
{
	struct nftnl_set *s = nftnl_set_alloc();
	if (!s) {
		n->failed = true;
		return NULL;
	}
	nftnl_set_set_str(s, NFTNL_SET_TABLE, n->table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_ID, n->set_id);
	return s;
}

static void make_set(struct nft *n, const char *name, uint32_t flags, uint32_t type, uint32_t len)
{
	n->set_id++;
	struct nftnl_set *s = new_set(n, name);
	if (!s)
		return;
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, n->family);
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, flags);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, len);
	if (flags & NFT_SET_MAP) {
		nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE, TYPE_IPADDR);
		nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, sizeof(uint32_t));
	}
	nftnl_set_nlmsg_build_payload(netlink_batch_add_nft(n->batch, NFT_MSG_NEWSET, n->family,
							    NLM_F_CREATE, "make a set"),
				      s);
	nftnl_set_free(s);
}

static void send_elements(struct nft *n, struct nftnl_set *s)
{
	nftnl_set_elems_nlmsg_build_payload(netlink_batch_add_nft(n->batch, NFT_MSG_NEWSETELEM,
								  n->family, NLM_F_CREATE,
								  "fill a set"),
					    s);
	nftnl_set_free(s);
}

static struct nftnl_set_elem *add_element(struct nft *n, struct nftnl_set *s, const void *key,
					  uint32_t len)
{
	struct nftnl_set_elem *el = nftnl_set_elem_alloc();
	if (!el) {
		n->failed = true;
		return NULL;
	}
	nftnl_set_elem_set(el, NFTNL_SET_ELEM_KEY, key, len);
	nftnl_set_elem_add(s, el);
	return el;
}

void nft_set_ranges(struct nft *n, const char *name, const struct nft_range *ranges, size_t count)
{
	make_set(n, name, NFT_SET_CONSTANT | NFT_SET_INTERVAL, TYPE_IPADDR, sizeof(uint32_t));
	struct nftnl_set *s = new_set(n, name);
	if (!s)
		return;
	for (size_t i = 0; i < count; i++) {
		/* A range is its first address, and as an end the one behind its last. */
		uint32_t first = htonl(ranges[i].first), end = htonl(ranges[i].last + 1);
		add_element(n, s, &first, sizeof(first));
		if (ranges[i].last == UINT32_MAX)
			break;
		struct nftnl_set_elem *el = add_element(n, s, &end, sizeof(end));
		if (el)
			nftnl_set_elem_set_u32(el, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
	}
	send_elements(n, s);
}

void nft_map_ports(struct nft *n, const char *name, uint16_t first, uint32_t base, uint32_t count)
{
	make_set(n, name, NFT_SET_MAP, TYPE_INET_SERVICE, sizeof(uint16_t));
	for (uint32_t i = 0; i < count; i += ELEMENTS_PER_MESSAGE) {
		struct nftnl_set *s = new_set(n, name);
		if (!s)
			return;
		for (uint32_t k = i; k < count && k < i + ELEMENTS_PER_MESSAGE; k++) {
			uint16_t port = htons((uint16_t)(first + k));
			uint32_t address = htonl(base + k);
			struct nftnl_set_elem *el = add_element(n, s, &port, sizeof(port));
			if (el)
				nftnl_set_elem_set(el, NFTNL_SET_ELEM_DATA, &address,
						   sizeof(address));
		}
		send_elements(n, s);
	}
}

/* Puts the rule that has been growing into the batch. */
static void flush_rule(struct nft *n)
{
	if (!n->rule)
		return;
	nftnl_rule_nlmsg_build_payload(netlink_batch_add_nft(n->batch, NFT_MSG_NEWRULE, n->family,
							     NLM_F_CREATE | NLM_F_APPEND, n->what),
				       n->rule);
	nftnl_rule_free(n->rule);
	n->rule = NULL;
}

void nft_rule(struct nft *n, const char *chain, const char *what)
{
	flush_rule(n);
	n->what = what;
	n->rule = nftnl_rule_alloc();
	if (!n->rule) {
		n->failed = true;
		return;
	}
	nftnl_rule_set_u32(n->rule, NFTNL_RULE_FAMILY, n->family);
	nftnl_rule_set_str(n->rule, NFTNL_RULE_TABLE, n->table);
	nftnl_rule_set_str(n->rule, NFTNL_RULE_CHAIN, chain);
}

int nft_end(struct nft *n, struct err *e)
{
	flush_rule(n);
	return n->failed ? err_errno(e, ENOMEM, "write rules for table %s", n->table) : 0;
}

/* Adds an expression to the growing rule; what is then set on NULL is set on nothing. */
static struct nftnl_expr *add(struct nft *n, const char *name)
{
	struct nftnl_expr *x = n->rule ? nftnl_expr_alloc(name) : NULL;
	if (x)
		nftnl_rule_add_expr(n->rule, x);
	else
		n->failed = true;
	return x;
}

struct setting {
	uint16_t attr;
	uint32_t value;
};

/* Adds an expression with those numbers, up to the first of attribute 0 (its name). */
static struct nftnl_expr *add_with(struct nft *n, const char *name, const struct setting *settings)
{
	struct nftnl_expr *x = add(n, name);
	for (; x && settings->attr; settings++)
		nftnl_expr_set_u32(x, settings->attr, settings->value);
	return x;
}
#define ADD(n, name, ...) add_with(n, name, (const struct setting[]){__VA_ARGS__, {0, 0}})

static void compare(struct nft *n, enum nft_cmp_ops op, const void *data, uint32_t length)
{
	struct nftnl_expr *x =
		ADD(n, "cmp", {NFTNL_EXPR_CMP_SREG, NFT_REG_1}, {NFTNL_EXPR_CMP_OP, (uint32_t)op});
	if (x)
		nftnl_expr_set(x, NFTNL_EXPR_CMP_DATA, data, length);
}

static void load_meta(struct nft *n, uint32_t key)
{
	ADD(n, "meta", {NFTNL_EXPR_META_DREG, NFT_REG_1}, {NFTNL_EXPR_META_KEY, key});
}

void nft_meta_u32(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint32_t value)
{
	load_meta(n, key);
	compare(n, op, &value, sizeof(value));
}

void nft_meta_u8(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint8_t value)
{
	load_meta(n, key);
	compare(n, op, &value, sizeof(value));
}

void nft_meta_u16be(struct nft *n, uint32_t key, enum nft_cmp_ops op, uint16_t value)
{
	uint16_t wire = htons(value);
	load_meta(n, key);
	compare(n, op, &wire, sizeof(wire));
}

void nft_meta_name(struct nft *n, uint32_t key, enum nft_cmp_ops op, const char *name)
{
	char padded[IFNAMSIZ] = {0};
	snprintf(padded, sizeof(padded), "%s", name);
	load_meta(n, key);
	compare(n, op, padded, sizeof(padded));
}

static void load_bytes(struct nft *n, uint32_t base, uint32_t offset, uint32_t length)
{
	ADD(n, "payload", {NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1}, {NFTNL_EXPR_PAYLOAD_BASE, base},
	    {NFTNL_EXPR_PAYLOAD_OFFSET, offset}, {NFTNL_EXPR_PAYLOAD_LEN, length});
}

void nft_bytes(struct nft *n, uint32_t base, uint32_t offset, const void *data, uint32_t length)
{
	load_bytes(n, base, offset, length);
	compare(n, NFT_CMP_EQ, data, length);
}

/* Register 1, of 4 bytes, becomes what the mask leaves of it. */
static void mask(struct nft *n, uint32_t bits)
{
	uint32_t zero = 0;
	struct nftnl_expr *x =
		ADD(n, "bitwise", {NFTNL_EXPR_BITWISE_SREG, NFT_REG_1},
		    {NFTNL_EXPR_BITWISE_DREG, NFT_REG_1}, {NFTNL_EXPR_BITWISE_LEN, sizeof(bits)});
	if (!x)
		return;
	nftnl_expr_set(x, NFTNL_EXPR_BITWISE_MASK, &bits, sizeof(bits));
	nftnl_expr_set(x, NFTNL_EXPR_BITWISE_XOR, &zero, sizeof(zero));
}

void nft_net(struct nft *n, enum nft_side side, enum nft_cmp_ops op, uint32_t net, unsigned bits)
{
	uint32_t netmask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
	uint32_t wire = htonl(net & netmask);
	load_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, (uint32_t)side, sizeof(wire));
	if (bits < 32)
		mask(n, htonl(netmask));
	compare(n, op, &wire, sizeof(wire));
}

void nft_in_set(struct nft *n, enum nft_side side, const char *set)
{
	load_bytes(n, NFT_PAYLOAD_NETWORK_HEADER, (uint32_t)side, sizeof(uint32_t));
	struct nftnl_expr *x = ADD(n, "lookup", {NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1});
	if (x)
		nftnl_expr_set_str(x, NFTNL_EXPR_LOOKUP_SET, set);
}

void nft_protocol(struct nft *n, uint8_t protocol)
{
	nft_meta_u8(n, NFT_META_L4PROTO, NFT_CMP_EQ, protocol);
}

void nft_port(struct nft *n, uint16_t port)
{
	uint16_t wire = htons(port);
	nft_bytes(n, NFT_PAYLOAD_TRANSPORT_HEADER, 2, &wire, sizeof(wire));
}

void nft_ct_any(struct nft *n, uint32_t key, uint32_t bits)
{
	uint32_t zero = 0;
	ADD(n, "ct", {NFTNL_EXPR_CT_DREG, NFT_REG_1}, {NFTNL_EXPR_CT_KEY, key});
	mask(n, bits);
	compare(n, NFT_CMP_NEQ, &zero, sizeof(zero));
}

static void load_fib(struct nft *n, uint32_t result, uint32_t flags)
{
	ADD(n, "fib", {NFTNL_EXPR_FIB_DREG, NFT_REG_1}, {NFTNL_EXPR_FIB_RESULT, result},
	    {NFTNL_EXPR_FIB_FLAGS, flags});
}

void nft_source_not_routed_here(struct nft *n)
{
	uint32_t none = 0;
	load_fib(n, NFT_FIB_RESULT_OIF, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF);
	compare(n, NFT_CMP_EQ, &none, sizeof(none));
}

void nft_destination_is_local(struct nft *n)
{
	uint32_t local = 2; /* RTN_LOCAL of linux/rtnetlink.h */
	load_fib(n, NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR);
	compare(n, NFT_CMP_EQ, &local, sizeof(local));
}

void nft_connections_over(struct nft *n, uint32_t count)
{
	ADD(n, "connlimit", {NFTNL_EXPR_CONNLIMIT_COUNT, count},
	    {NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV});
}

void nft_verdict(struct nft *n, uint32_t verdict)
{
	ADD(n, "immediate", {NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT},
	    {NFTNL_EXPR_IMM_VERDICT, verdict});
}

void nft_jump(struct nft *n, const char *chain)
{
	struct nftnl_expr *x = ADD(n, "immediate", {NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT},
				   {NFTNL_EXPR_IMM_VERDICT, (uint32_t)NFT_JUMP});
	if (x)
		nftnl_expr_set_str(x, NFTNL_EXPR_IMM_CHAIN, chain);
}

static void immediate(struct nft *n, uint32_t reg, const void *data, uint32_t length)
{
	struct nftnl_expr *x = ADD(n, "immediate", {NFTNL_EXPR_IMM_DREG, reg});
	if (x)
		nftnl_expr_set(x, NFTNL_EXPR_IMM_DATA, data, length);
}

void nft_snat(struct nft *n, uint32_t address)
{
	uint32_t wire = htonl(address);
	immediate(n, NFT_REG_1, &wire, sizeof(wire));
	ADD(n, "nat", {NFTNL_EXPR_NAT_TYPE, NFT_NAT_SNAT}, {NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4},
	    {NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1});
}

void nft_dnat(struct nft *n, uint32_t address, uint16_t port)
{
	uint32_t wire = htonl(address);
	uint16_t wire_port = htons(port);
	immediate(n, NFT_REG_1, &wire, sizeof(wire));
	immediate(n, NFT_REG_2, &wire_port, sizeof(wire_port));
	ADD(n, "nat", {NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT}, {NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4},
	    {NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1}, {NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG_2});
}

void nft_dnat_map(struct nft *n, const char *map)
{
	load_bytes(n, NFT_PAYLOAD_TRANSPORT_HEADER, 2, sizeof(uint16_t));
	struct nftnl_expr *x = ADD(n, "lookup", {NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1},
				   {NFTNL_EXPR_LOOKUP_DREG, NFT_REG_1});
	if (x)
		nftnl_expr_set_str(x, NFTNL_EXPR_LOOKUP_SET, map);
	ADD(n, "nat", {NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT}, {NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4},
	    {NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1});
}

void nft_masquerade(struct nft *n)
{
	add(n, "masq");
}
