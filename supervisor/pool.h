// SPDX-License-Identifier: Apache-2.0
/*
 * The outside addresses of [network] pool and the ports of the host, as sandboxes have them. Slot
 * i, from 1 on, has the pool's address + i (common/policy.h). A slot is one sandbox's from its
 * create until its record is gone, which is not before its shim is: so also while it is hibernated.
 */
#ifndef SUPERVISOR_POOL_H
#define SUPERVISOR_POOL_H

#include "msg.h"
#include "policy.h"

struct pool {
	uint32_t usable; /* slots 1 to usable can be given out; 0: there is no pool */
	uint32_t used;
	uint32_t last;	      /* given out last: the search goes on behind it, so that one that was
				 given back rests */
	unsigned char *slots; /* a bit for each */
	unsigned char *ports; /* a bit for each port of the host */
};

/* Slots that a policy's pool has. */
uint32_t pool_usable(const struct policy *p);

int pool_open(struct pool *pool, const struct policy *p, struct err *e);
void pool_close(struct pool *pool);

/*
 * Gives n a slot, and takes its ports of the host. Such a port is one sandbox's for tcp and udp
 * alike (shim/hostnet.h). ERR_QUOTA: no slot is left; ERR_STATE: a port is taken, the message names
 * it; ERR_INVALID: there is no pool.
 */
int pool_take(struct pool *pool, struct msg_network *n, struct err *e);

/* Whether all its ports of the host could be taken now; ERR_STATE otherwise. */
int pool_check_ports(const struct pool *pool, const struct msg_network *n, struct err *e);

/*
 * Takes what n has already, of a sandbox that an earlier supervisor left. False: it is another's,
 * or not the pool's any more; then nothing was taken.
 */
bool pool_adopt(struct pool *pool, const struct msg_network *n);

/* Gives back what pool_take() or pool_adopt() took. */
void pool_release(struct pool *pool, const struct msg_network *n);

#endif
