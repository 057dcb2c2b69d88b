// SPDX-License-Identifier: Apache-2.0
#include "config_value.h"

#include "cidr.h"
#include "util.h"

#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define ID_MAX 4294967294u /* (uid_t)-1 means "no change" to the kernel */

void config_value_rule(const struct config_key *key, char *buf, size_t size)
{
	switch (key->kind) {
	case CONFIG_PATH:
	case CONFIG_BIND:
		snprintf(buf, size, "an absolute path under %d bytes, without \"..\" or \"//\"",
			 POLICY_PATH_MAX);
		break;
	case CONFIG_SUBPATH:
		snprintf(buf, size, "a relative path of names, like \"cloister\" or \"a/b\"");
		break;
	case CONFIG_YESNO:
		snprintf(buf, size, "yes or no");
		break;
	case CONFIG_NUMBER:
		snprintf(buf, size, "a whole number of %u to %u", key->min, key->max);
		break;
	case CONFIG_NAME:
		snprintf(buf, size, "one name or number");
		break;
	case CONFIG_USERS:
		snprintf(buf, size, "existing users, names or numbers, with commas or blanks");
		break;
	case CONFIG_GROUPS:
		snprintf(buf, size, "existing groups, names or numbers, with commas or blanks");
		break;
	case CONFIG_ENV:
		snprintf(buf, size, "NAME=VALUE, printable, under %d bytes, at most %d times",
			 POLICY_ENV_SIZE, POLICY_ENV_MAX);
		break;
	case CONFIG_DEVICE:
		snprintf(buf, size,
			 "NAME PATH: a name and the absolute path of a block device, at most %d "
			 "times",
			 POLICY_DEVICES_MAX);
		break;
	case CONFIG_ADDRESS:
		snprintf(buf, size, "an IPv4 address like 192.0.2.53");
		break;
	case CONFIG_PORTS:
		snprintf(buf, size, "FROM-TO, two ports of 1 to 65535, like 8000-8099");
		break;
	case CONFIG_POOL:
		snprintf(buf, size, "an IPv4 network like 10.64.0.0/16, /8 to /30");
		break;
	case CONFIG_IFNAME:
		snprintf(buf, size, "a network interface's name, 1 to 15 bytes");
		break;
	case CONFIG_EGRESS:
		snprintf(buf, size,
			 "none, internet, or at most %d IPv4 networks with commas or blanks",
			 MSG_ALLOW_MAX);
		break;
	}
}

bool config_value_uid(const char *name, uint32_t *uid, uint32_t *gid)
{
	uint64_t number;
	if (str_to_u64(name, 0, ID_MAX, &number)) {
		const struct passwd *pw = getpwuid((uid_t)number);
		*uid = (uint32_t)number;
		*gid = pw ? pw->pw_gid : (uint32_t)number;
		return true;
	}
	const struct passwd *pw = getpwnam(name);
	if (!pw)
		return false;
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return true;
}

bool config_value_gid(const char *name, uint32_t *gid)
{
	uint64_t number;
	if (str_to_u64(name, 0, ID_MAX, &number)) {
		*gid = (uint32_t)number;
		return true;
	}
	const struct group *gr = getgrnam(name);
	if (!gr)
		return false;
	*gid = gr->gr_gid;
	return true;
}

static bool path_is_plain(const char *path)
{
	size_t length = strlen(path);
	if (length == 0 || strstr(path, "//") || path[length - 1] == '/')
		return false;
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p > 0x7e)
			return false;
	/* No component may be "." or "..". */
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		size_t n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
	}
	return true;
}

/* False with the network that was meant in reason, when there is one. */
static bool read_cidr(const char *text, unsigned min, unsigned max, struct msg_cidr *out,
		      char *reason, size_t size)
{
	char meant[CIDR_TEXT_MAX];
	enum cidr_result result = cidr_read(text, min, max, out);
	if (result == CIDR_HOST_BITS) {
		cidr_format(out, meant);
		snprintf(reason, size, "\"%s\" lies in the network %s", text, meant);
	}
	return result == CIDR_GOOD;
}

static bool set_pool(struct policy *p, const char *value, char *reason, size_t size)
{
	struct msg_cidr pool;
	if (!read_cidr(value, 8, 30, &pool, reason, size))
		return false;
	p->pool = pool.address;
	p->pool_bits = pool.prefix;
	return true;
}

static bool set_ports(uint32_t ports[2], const char *value)
{
	char first[8];
	uint64_t from, to;
	size_t n = strcspn(value, "-");
	if (n >= sizeof(first) || !value[n])
		return false;
	memcpy(first, value, n);
	first[n] = '\0';
	if (!str_to_u64(first, 1, UINT16_MAX, &from) ||
	    !str_to_u64(value + n + 1, from, UINT16_MAX, &to))
		return false;
	ports[0] = (uint32_t)from;
	ports[1] = (uint32_t)(to - from + 1);
	return true;
}

/* Calls one() for each word of a list; false when there is none, or one() refuses one. */
static bool each_word(const char *list, bool (*one)(void *arg, const char *word), void *arg,
		      char *reason, size_t size)
{
	char word[128];
	size_t words = 0;
	for (const char *p = list + strspn(list, ", \t"); *p; p += strspn(p, ", \t"), words++) {
		size_t n = strcspn(p, ", \t");
		if (n >= sizeof(word))
			return false;
		memcpy(word, p, n);
		word[n] = '\0';
		p += n;
		if (!one(arg, word)) {
			if (!reason[0])
				snprintf(reason, size, "\"%s\" is not one", word);
			return false;
		}
	}
	return words > 0;
}

static bool add_id(struct config_ids *ids, uint32_t id)
{
	if (config_ids_have(ids, id))
		return true;
	uint32_t *more = realloc(ids->ids, (ids->count + 1) * sizeof(*more));
	if (!more)
		return false;
	ids->ids = more;
	ids->ids[ids->count++] = id;
	return true;
}

static bool add_user(void *arg, const char *word)
{
	uint32_t uid, gid;
	return config_value_uid(word, &uid, &gid) && add_id(arg, uid);
}

static bool add_group(void *arg, const char *word)
{
	uint32_t gid;
	return config_value_gid(word, &gid) && add_id(arg, gid);
}

struct ranges {
	struct msg_network *to;
	char *reason;
	size_t size;
};

static bool add_range(void *arg, const char *word)
{
	struct ranges *r = arg;
	if (r->to->allow_count == MSG_ALLOW_MAX) {
		snprintf(r->reason, r->size, "\"%s\" is one too many", word);
		return false;
	}
	return read_cidr(word, 0, 32, &r->to->allow[r->to->allow_count++], r->reason, r->size);
}

static bool set_egress(struct msg_network *n, const char *value, char *reason, size_t size)
{
	struct ranges r = {.to = n, .reason = reason, .size = size};
	n->egress = strcmp(value, "internet") == 0 ? MSG_EGRESS_INTERNET : MSG_EGRESS_NONE;
	if (n->egress == MSG_EGRESS_INTERNET || strcmp(value, "none") == 0)
		return true;
	n->egress = MSG_EGRESS_LIST;
	return each_word(value, add_range, &r, reason, size);
}

/* A list given in the file takes the place of the default. */
static void reset_ids(struct config_ids *ids)
{
	free(ids->ids);
	*ids = (struct config_ids){0};
}

static bool set_env(struct policy *p, const char *value)
{
	const char *equal = strchr(value, '=');
	if (!equal || equal == value || isdigit((unsigned char)value[0]))
		return false;
	for (const char *c = value; c < equal; c++)
		if (!isalnum((unsigned char)*c) && *c != '_')
			return false;
	for (const char *c = equal; *c; c++)
		if (!isprint((unsigned char)*c))
			return false;
	if (p->env_count >= POLICY_ENV_MAX ||
	    !str_copy(p->env[p->env_count], POLICY_ENV_SIZE, value))
		return false;
	p->env_count++;
	return true;
}

static bool set_bind(struct policy *p, const char *value, char *reason, size_t size)
{
	if (value[0] != '/' || !path_is_plain(value))
		return false;
	if (p->bind_count >= POLICY_BIND_MAX) {
		snprintf(reason, size, "at most %d are allowed", POLICY_BIND_MAX);
		return false;
	}
	if (!str_copy(p->bind_ro[p->bind_count], POLICY_PATH_MAX, value))
		return false;
	p->bind_count++;
	return true;
}

/* What the path leads to is looked at when it is used: a device may come and go. */
static bool add_device(struct policy *p, const char *tenant, const char *value, char *reason,
		       size_t size)
{
	struct policy_device device = {0};
	char name[NAME_SIZE];
	size_t n = strcspn(value, " \t");
	const char *path = value + n + strspn(value + n, " \t");
	if (n >= sizeof(name))
		return false;
	memcpy(name, value, n);
	name[n] = '\0';
	if (!name_key_make(device.key, tenant, name)) {
		snprintf(reason, size, "a name is " NAME_RULE);
		return false;
	}
	if (path[0] != '/' || !path_is_plain(path) ||
	    !str_copy(device.path, sizeof(device.path), path))
		return false;
	for (uint32_t i = 0; i < p->device_count; i++) {
		const struct policy_device *there = &p->devices[i];
		size_t owner = strlen(tenant) + 1; /* with the colon */
		if (strncmp(there->key, device.key, owner) == 0 &&
		    (strcmp(there->key + owner, name) == 0 || strcmp(there->path, path) == 0)) {
			snprintf(reason, size, "there is \"%s\" for %s already", there->key + owner,
				 there->path);
			return false;
		}
	}
	if (p->device_count >= POLICY_DEVICES_MAX) {
		snprintf(reason, size, "the file has more than that");
		return false;
	}
	p->devices[p->device_count++] = device;
	return true;
}

static bool ifname_is_valid(const char *value)
{
	size_t n = strlen(value);
	return n >= 1 && n <= 15 && !strpbrk(value, "/ \t:") && strcmp(value, ".") != 0 &&
	       strcmp(value, "..") != 0;
}

bool config_value_set(struct config *c, void *base, const struct config_key *key, const char *value,
		      char *reason, size_t size)
{
	void *field = (char *)base + key->offset;
	uint64_t number;
	reason[0] = '\0';
	switch (key->kind) {
	case CONFIG_PATH:
		return value[0] == '/' && path_is_plain(value) &&
		       str_copy(field, POLICY_PATH_MAX, value);
	case CONFIG_SUBPATH:
		return value[0] != '/' && path_is_plain(value) &&
		       str_copy(field, POLICY_PATH_MAX, value);
	case CONFIG_YESNO:
		*(uint32_t *)field = strcmp(value, "yes") == 0;
		return *(uint32_t *)field || strcmp(value, "no") == 0;
	case CONFIG_NUMBER:
		if (!str_to_u64(value, key->min, key->max, &number))
			return false;
		*(uint32_t *)field = (uint32_t)number;
		return true;
	case CONFIG_NAME:
		return value[0] && !strpbrk(value, ", \t:") && str_copy(field, 64, value);
	case CONFIG_USERS:
		reset_ids(field);
		return each_word(value, add_user, field, reason, size);
	case CONFIG_GROUPS:
		reset_ids(field);
		return each_word(value, add_group, field, reason, size);
	case CONFIG_BIND:
		return set_bind(&c->policy, value, reason, size);
	case CONFIG_ENV:
		return set_env(&c->policy, value);
	case CONFIG_DEVICE:
		return add_device(&c->policy, base == c ? CONFIG_ADMIN_TENANT : field, value,
				  reason, size);
	case CONFIG_POOL:
		return set_pool(&c->policy, value, reason, size);
	case CONFIG_ADDRESS:
		return cidr_read_address(value, field);
	case CONFIG_PORTS:
		return set_ports(field, value);
	case CONFIG_IFNAME:
		return ifname_is_valid(value) && str_copy(field, 16, value);
	case CONFIG_EGRESS:
		return set_egress(field, value, reason, size);
	}
	return false;
}
