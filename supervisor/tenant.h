// SPDX-License-Identifier: Apache-2.0
/*
 * Who a client is: read from its connection (SO_PEERCRED, SO_PEERGROUPS; unix(7)), never from what
 * it says.
 */
#ifndef SUPERVISOR_TENANT_H
#define SUPERVISOR_TENANT_H

#include "config.h"

#include <sys/types.h>

struct tenant_peer {
	uid_t uid;
	bool admin;
	const char *name;		    /* of its tenant; CONFIG_ADMIN_TENANT for an admin */
	const struct config_tenant *tenant; /* its quotas; NULL for an admin */
};

/*
 * Whom uid with these groups stands for: an admin, else the tenant that lists the uid, else the
 * first tenant that lists one of the groups. False: nobody.
 */
bool tenant_find(const struct config *c, uid_t uid, const gid_t *groups, size_t count,
		 struct tenant_peer *out);

/* tenant_find() for the peer of a connected socket. ERR_NOT_FOUND: no tenant. */
int tenant_of_socket(const struct config *c, int fd, struct tenant_peer *out, struct err *e);

/* The tenant with that name, or NULL. */
const struct config_tenant *tenant_by_name(const struct config *c, const char *name);

#endif
