// SPDX-License-Identifier: Apache-2.0
/*
 * The host's side of networks, as the spawner keeps it: there before the first sandbox is started,
 * made anew when somebody takes it away (a firewall that is reloaded flushes all tables), gone with
 * the last sandbox.
 */
#ifndef SHIM_SPAWNER_NET_H
#define SHIM_SPAWNER_NET_H

#include "err.h"
#include "policy.h"

#include <stdbool.h>

struct mnl_socket;

struct spawner_net {
	const struct policy *policy;
	struct mnl_socket *watch; /* the kernel's news of nf_tables; NULL: no pool */
	bool missing;		  /* the table is not there: no network for anybody new */
};

/* Makes table and route, and watches the table. Nothing where the policy has no pool. */
int spawner_net_open(struct spawner_net *n, const struct policy *policy, struct err *e);

/* The descriptor to watch for reading, or -1. */
int spawner_net_fd(const struct spawner_net *n);

/* Reads the news, and makes the table again if it was removed. */
void spawner_net_read(struct spawner_net *n);

/* keep: sandboxes live on that need it. */
void spawner_net_close(struct spawner_net *n, bool keep);

#endif
