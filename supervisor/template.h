// SPDX-License-Identifier: Apache-2.0
/*
 * The table of snapshot sets that lie on disk as templates, found by key (TENANT:NAME). It holds
 * what the spawner listed at start and what shims have written since; the sets themselves are
 * root's. A name that is being written or removed is in it too, so that nobody else can take it.
 */
#ifndef SUPERVISOR_TEMPLATE_H
#define SUPERVISOR_TEMPLATE_H

#include "config.h"
#include "spec.h"

#include <sys/queue.h>

struct template
{
	TAILQ_ENTRY(template) entry;
	struct template_table *table;
	char key[NAME_KEY_SIZE];
	char tenant[NAME_SIZE];
	const char *name;	    /* within key */
	char parent[NAME_KEY_SIZE]; /* the sandbox that it was taken of */
	char vmm_version[MSG_BUILD_MAX];
	int64_t created_real_us;
	uint64_t apparent_bytes;
	uint64_t allocated_bytes; /* while it is being written: what it was granted */
	uint32_t content;	  /* enum msg_set_content */
	struct spec *spec;	  /* of the guest in it; NULL while it is being written */
	unsigned users;		  /* creates in flight that read it */
	bool removing;		  /* the spawner has been asked */
};

TAILQ_HEAD(template_list, template);

struct template_table {
	struct template_list list; /* in the order of their making */
};

void template_open(struct template_table *table);
void template_close(struct template_table *table);

/* A set that can be used now: whole, and not being removed. Otherwise NULL. */
struct template *template_find(const struct template_table *table, const char *key);

/*
 * Takes a name for a set that is about to be written. ERR_STATE: it is taken (also by one that is
 * being written or removed). ERR_QUOTA: t (NULL: no quotas) has max_templates already.
 */
struct template *template_reserve(struct template_table *table, const struct config_tenant *t,
				  const char *tenant, const char *name, struct err *e);

/* The set of a reserved name is on disk. */
int template_fill(struct template *t, const struct msg_set *set, struct err *e);

/* One that lies on disk already, as the spawner says; known ones are left as they are. */
int template_add(struct template_table *table, const struct msg_set *set, struct err *e);

/* Drops it from its table and frees it. */
void template_forget(struct template *t);

/*
 * Whether it may be removed now: ERR_STATE while creates read it. What has been mapped or opened
 * already stays readable without a name.
 */
int template_check_unused(const struct template *t, struct err *e);

#endif
