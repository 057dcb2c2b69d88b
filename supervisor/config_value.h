// SPDX-License-Identifier: Apache-2.0
/* Readers of single configuration values. Pure but for the user and group database. */
#ifndef SUPERVISOR_CONFIG_VALUE_H
#define SUPERVISOR_CONFIG_VALUE_H

#include "config.h"

/* Kinds of value; each says what it takes in config_value_rule(). */
enum config_kind {
	CONFIG_PATH,	/* char[POLICY_PATH_MAX] */
	CONFIG_SUBPATH, /* char[POLICY_PATH_MAX], relative */
	CONFIG_YESNO,	/* uint32_t */
	CONFIG_NUMBER,	/* uint32_t within min..max */
	CONFIG_NAME,	/* char[64], a user or group: name or number */
	CONFIG_USERS,	/* struct config_ids */
	CONFIG_GROUPS,	/* struct config_ids */
	CONFIG_BIND,	/* appended to policy.bind_ro */
	CONFIG_ENV,	/* appended to policy.env */
	CONFIG_POOL,	/* policy.pool and pool_bits */
	CONFIG_ADDRESS, /* uint32_t, IPv4 in host order */
	CONFIG_PORTS,	/* uint32_t[2]: the first, and how many */
	CONFIG_IFNAME,	/* char[16] */
	CONFIG_DEVICE,	/* appended to policy.devices, for the section's tenant */
	CONFIG_EGRESS,	/* struct msg_network: egress and allow of it */
};

struct config_key {
	const char *section; /* "tenant" stands for every [tenant NAME] */
	const char *name;
	enum config_kind kind;
	bool repeatable;
	size_t offset; /* in struct config, or struct config_tenant */
	uint32_t min, max;
};

/*
 * Reads value into its field of base. False: refused; reason (size bytes) may then say more than
 * the rule does, else it is empty.
 */
bool config_value_set(struct config *c, void *base, const struct config_key *key, const char *value,
		      char *reason, size_t size);

/* "a whole number of 1 to 5": what the key takes. */
void config_value_rule(const struct config_key *key, char *buf, size_t size);

/* A user's or group's number from its name or number; false when there is none. */
bool config_value_uid(const char *name, uint32_t *uid, uint32_t *gid);
bool config_value_gid(const char *name, uint32_t *gid);

#endif
