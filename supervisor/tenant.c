// SPDX-License-Identifier: Apache-2.0
#include "tenant.h"

#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static bool any_group(const struct config_ids *ids, const gid_t *groups, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (config_ids_have(ids, groups[i]))
			return true;
	return false;
}

bool tenant_find(const struct config *c, uid_t uid, const gid_t *groups, size_t count,
		 struct tenant_peer *out)
{
	*out = (struct tenant_peer){.uid = uid};
	if (config_ids_have(&c->admin_users, uid) || any_group(&c->admin_groups, groups, count)) {
		out->admin = true;
		out->name = CONFIG_ADMIN_TENANT;
		return true;
	}
	for (size_t i = 0; i < c->tenant_count && !out->tenant; i++)
		if (config_ids_have(&c->tenants[i].users, uid))
			out->tenant = &c->tenants[i];
	for (size_t i = 0; i < c->tenant_count && !out->tenant; i++)
		if (any_group(&c->tenants[i].groups, groups, count))
			out->tenant = &c->tenants[i];
	if (out->tenant)
		out->name = out->tenant->name;
	return out->tenant != NULL;
}

int tenant_of_socket(const struct config *c, int fd, struct tenant_peer *out, struct err *e)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return err_errno(e, errno, "who the client is (SO_PEERCRED)");
	/* A call with no room tells how much is needed. */
	socklen_t bytes = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) < 0 && errno != ERANGE)
		return err_errno(e, errno, "groups of the client (SO_PEERGROUPS)");
	/* The primary group first, then the others. */
	CLEANUP_FREE gid_t *groups = malloc(bytes + sizeof(gid_t));
	if (!groups)
		return err_errno(e, ENOMEM, "groups of the client");
	groups[0] = cred.gid;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &bytes) < 0)
		return err_errno(e, errno, "groups of the client (SO_PEERGROUPS)");
	if (tenant_find(c, cred.uid, groups, 1 + bytes / sizeof(gid_t), out))
		return 0;
	return err_set(e, ERR_NOT_FOUND, 0,
		       "uid %u belongs to no tenant of this host: its administrator can list the "
		       "user or one of its groups in a [tenant] section",
		       cred.uid);
}

const struct config_tenant *tenant_by_name(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->tenant_count; i++)
		if (strcmp(c->tenants[i].name, name) == 0)
			return &c->tenants[i];
	return NULL;
}
