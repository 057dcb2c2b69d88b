// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration file (API.md section 2): INI, read once, as root. What root code needs of it
 * goes into struct policy (common/policy.h), the rest is the supervisor's own.
 */
#ifndef SUPERVISOR_CONFIG_H
#define SUPERVISOR_CONFIG_H

#include "err.h"
#include "msg.h"
#include "name.h"
#include "policy.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Numeric users or groups. */
struct config_ids {
	uint32_t *ids;
	size_t count;
};

/* Ports first to first + count - 1; count 0: none. */
struct config_ports {
	uint32_t first, count;
};

struct config_tenant {
	char name[NAME_SIZE];
	struct config_ids users, groups;
	/* Quotas; 0: none but the host's own. */
	uint32_t max_sandboxes;
	uint32_t max_vcpus;
	uint32_t max_memory_mib;
	uint32_t max_disk_mib;
	uint32_t max_templates;
	uint32_t max_ttl_s;
	struct config_ports ports; /* of the host, that its sandboxes may have */
};

struct config {
	struct policy policy;
	char user[64];
	char control_group[64];
	uint32_t event_backlog;
	uint32_t stop_ms;	   /* how long an end waits for what is in flight */
	uint32_t max_disk_mib;	   /* of the whole host; 0: any */
	struct msg_network egress; /* for a sandbox that names none: egress and allow of it */
	struct config_tenant *tenants;
	size_t tenant_count;
	struct config_ids admin_users, admin_groups;
	struct config_ports admin_ports;
};

#define CONFIG_ADMIN_TENANT "admin" /* what an admin makes for itself belongs to it */

/* Whether an id is among ids. */
bool config_ids_have(const struct config_ids *ids, uint32_t id);

/*
 * Opens path once (no symbolic link; regular, root's, not writable by others), parses it and fills
 * *c. On failure *report (to be freed; never NULL then) has one line per fault: file, line, key,
 * value, and what is allowed. config_free() in either case.
 */
int config_load(struct config *c, const char *path, char **report);

/* The same from an open stream; name stands in messages. */
int config_parse(struct config *c, FILE *file, const char *name, char **report);

void config_free(struct config *c);

#endif
