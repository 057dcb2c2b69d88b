// SPDX-License-Identifier: Apache-2.0
#include "pool.h"

#include "spec_network.h"

#include <errno.h>
#include <stdlib.h>

#define PORT_BYTES ((UINT16_MAX + 1) / 8)

static bool get(const unsigned char *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static void set(unsigned char *bits, uint32_t i, bool on)
{
	unsigned mask = 1u << i % 8;
	bits[i / 8] = (unsigned char)(on ? bits[i / 8] | mask : bits[i / 8] & ~mask);
}

uint32_t pool_usable(const struct policy *p)
{
	if (!p->pool_bits)
		return 0;
	/* Not the first, and not the last or those that stand for ports. */
	uint32_t behind = p->port_count > 1 ? p->port_count : 1;
	uint32_t usable = (1u << (32 - p->pool_bits)) - 1 - behind;
	return usable < MSG_SLOT_MAX ? usable : MSG_SLOT_MAX;
}

int pool_open(struct pool *pool, const struct policy *p, struct err *e)
{
	*pool = (struct pool){.usable = pool_usable(p)};
	pool->slots = calloc(1, pool->usable / 8 + 1);
	pool->ports = calloc(1, PORT_BYTES);
	if (pool->slots && pool->ports)
		return 0;
	pool_close(pool);
	return err_errno(e, ENOMEM, "no memory for the pool of addresses");
}

void pool_close(struct pool *pool)
{
	free(pool->slots);
	free(pool->ports);
	*pool = (struct pool){0};
}

/* The same port for tcp and udp is there twice; that is no matter here. */
static void set_ports(struct pool *pool, const struct msg_network *n, bool taken)
{
	for (uint32_t i = 0; i < n->port_count; i++)
		if (n->ports[i].host)
			set(pool->ports, n->ports[i].host, taken);
}

int pool_check_ports(const struct pool *pool, const struct msg_network *n, struct err *e)
{
	for (uint32_t i = 0; i < n->port_count; i++)
		if (n->ports[i].host && get(pool->ports, n->ports[i].host))
			return err_set(e, ERR_STATE, 0,
				       "network.ports[%u].host: port %u/%s of the host is taken; "
				       "choose another",
				       i, n->ports[i].host,
				       spec_network_proto_name(n->ports[i].proto));
	return 0;
}

/* The first free slot behind the one that was given out last; 0: there is none. */
static uint32_t find(const struct pool *pool)
{
	for (uint32_t i = 0; i < pool->usable; i++) {
		uint32_t slot = (pool->last + i) % pool->usable + 1;
		if (!get(pool->slots, slot))
			return slot;
	}
	return 0;
}

int pool_take(struct pool *pool, struct msg_network *n, struct err *e)
{
	if (!pool->usable)
		return err_set(e, ERR_INVALID, 0,
			       "network: this host has no [network] pool to give addresses from");
	if (pool_check_ports(pool, n, e) < 0)
		return -1;
	uint32_t slot = find(pool);
	if (!slot)
		return err_set(e, ERR_QUOTA, 0,
			       "the pool of [network] has no address left: %u used; destroy "
			       "sandboxes or ask the host's administrator for a larger one",
			       pool->used);
	set(pool->slots, slot, true);
	set_ports(pool, n, true);
	pool->used++;
	pool->last = slot;
	n->slot = slot;
	return 0;
}

bool pool_adopt(struct pool *pool, const struct msg_network *n)
{
	struct err ignored;
	if (n->slot == 0 || n->slot > pool->usable || get(pool->slots, n->slot) ||
	    pool_check_ports(pool, n, &ignored) < 0)
		return false;
	set(pool->slots, n->slot, true);
	set_ports(pool, n, true);
	pool->used++;
	/* The search goes on behind those of before, so that theirs rest after a restart too. */
	if (n->slot > pool->last)
		pool->last = n->slot;
	return true;
}

void pool_release(struct pool *pool, const struct msg_network *n)
{
	set(pool->slots, n->slot, false);
	set_ports(pool, n, false);
	pool->used--;
}
