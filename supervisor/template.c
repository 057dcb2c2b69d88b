// SPDX-License-Identifier: Apache-2.0
#include "template.h"

#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void template_open(struct template_table *table)
{
	TAILQ_INIT(&table->list);
}

void template_close(struct template_table *table)
{
	for (struct template *t; (t = TAILQ_FIRST(&table->list));)
		template_forget(t);
}

/* Whoever has the name, in whatever condition. */
static struct template *holder(const struct template_table *table, const char *key)
{
	struct template *t;
	TAILQ_FOREACH(t, &table->list, entry)
	if (strcmp(t->key, key) == 0)
		return t;
	return NULL;
}

struct template *template_find(const struct template_table *table, const char *key)
{
	struct template *t = holder(table, key);
	return t && t->spec && !t->removing ? t : NULL;
}

static int check_quota(const struct template_table *table, const struct config_tenant *t,
		       struct err *e)
{
	uint32_t used = 0;
	const struct template *one;
	if (!t || !t->max_templates)
		return 0;
	TAILQ_FOREACH(one, &table->list, entry)
	used += strcmp(one->tenant, t->name) == 0;
	if (used < t->max_templates)
		return 0;
	return err_set(
		e, ERR_QUOTA, 0,
		"max_templates: %u used, 1 more wanted, the limit is %u; remove templates or "
		"ask the host's administrator for more",
		used, t->max_templates);
}

static struct template *insert(struct template_table *table, const char *tenant, const char *name,
			       struct err *e)
{
	struct template *t = calloc(1, sizeof(*t));
	if (!t) {
		err_errno(e, ENOMEM, "record of a template");
		return NULL;
	}
	t->table = table;
	name_key_make(t->key, tenant, name);
	str_copy(t->tenant, sizeof(t->tenant), tenant);
	t->name = t->key + strlen(tenant) + 1;
	TAILQ_INSERT_TAIL(&table->list, t, entry);
	return t;
}

struct template *template_reserve(struct template_table *table, const struct config_tenant *t,
				  const char *tenant, const char *name, struct err *e)
{
	char key[NAME_KEY_SIZE];
	if (!name_key_make(key, tenant, name)) {
		err_set(e, ERR_INVALID, 0, "template: must be %s", NAME_RULE);
		return NULL;
	}
	const struct template *there = holder(table, key);
	if (there) {
		err_set(e, ERR_STATE, 0, "template: \"%s\" %s; choose another name%s", name,
			there->removing ? "is being removed"
			: there->spec	? "exists already"
					: "is being written already",
			there->spec && !there->removing ? " or remove it first" : "");
		return NULL;
	}
	if (check_quota(table, t, e) < 0)
		return NULL;
	return insert(table, tenant, name, e);
}

int template_fill(struct template *t, const struct msg_set *set, struct err *e)
{
	t->spec = spec_from_msg(&set->spec, e);
	if (!t->spec)
		return -1;
	str_copy(t->parent, sizeof(t->parent), set->parent);
	str_copy(t->vmm_version, sizeof(t->vmm_version), set->vmm_version);
	t->created_real_us = set->created_real_us;
	t->apparent_bytes = set->apparent_bytes;
	t->allocated_bytes = set->allocated_bytes;
	t->content = set->content;
	return 0;
}

int template_add(struct template_table *table, const struct msg_set *set, struct err *e)
{
	char tenant[NAME_SIZE], name[NAME_SIZE];
	if (holder(table, set->key))
		return 0;
	name_key_split(set->key, tenant, name);
	struct template *t = insert(table, tenant, name, e);
	if (!t)
		return -1;
	if (template_fill(t, set, e) == 0)
		return 0;
	template_forget(t);
	return -1;
}

void template_forget(struct template *t)
{
	TAILQ_REMOVE(&t->table->list, t, entry);
	spec_free(t->spec);
	free(t);
}

int template_check_unused(const struct template *t, struct err *e)
{
	if (!t->users)
		return 0;
	return err_set(e, ERR_STATE, 0,
		       "template \"%s\": %u sandbox%s being made from it; try again when that is "
		       "done",
		       t->name, t->users, t->users == 1 ? " is" : "es are");
}
