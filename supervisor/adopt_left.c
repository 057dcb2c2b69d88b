// SPDX-License-Identifier: Apache-2.0
/* What an earlier supervisor left on disk of sandboxes that have no shim. */
#include "adopt.h"
#include "daemon.h"
#include "log.h"
#include "sandbox.h"
#include "store_load.h"

/* One that somebody left without a shim. t's spec goes over to it. */
static struct sandbox *new_record(struct daemon *d, struct template *t)
{
	struct err e;
	struct spec *spec = t->spec;
	t->spec = NULL;
	struct sandbox *sb = sandbox_new(d, t->tenant, t->name, spec, &e);
	if (!sb) {
		log_error("%s: it is on disk, but cannot be listed: %s", t->key, e.text);
		return NULL;
	}
	sb->adopted = true;
	sandbox_keep_address(sb);
	sb->shim = SANDBOX_SHIM_GONE;
	sb->created_real_us = t->created_real_us;
	sb->last.whole = true;
	store_load_match(sb);
	return sb;
}

static bool has_memory(const struct template *t)
{
	return t->content & (MSG_SET_RAM | MSG_SET_RANGES);
}

static void note_dir(struct sandbox *sb, const struct template *t)
{
	sb->has_dir = true;
	sb->set_content = t->content;
	sb->set_bytes = t->allocated_bytes;
	sb->set_real_us = t->created_real_us;
}

static void adopt_hibernated(struct daemon *d, struct template *t)
{
	struct sandbox *sb = registry_find(&d->registry, t->key), *fresh = NULL;
	if (!sb)
		fresh = sb = new_record(d, t);
	if (!sb)
		return;
	note_dir(sb, t);
	if (fresh)
		store_load_begin(sb, true);
}

/* The disks of one whose VMM and shim are gone: they are its tenant's until it destroys them. */
static void adopt_left(struct daemon *d, struct template *t)
{
	struct sandbox *sb = registry_find(&d->registry, t->key), *fresh = NULL;
	if (!sb)
		fresh = sb = new_record(d, t);
	if (!sb)
		return;
	note_dir(sb, t);
	/* Disks count as they were promised, and memory that cannot be woken is dropped. */
	sb->set_bytes = 0;
	if (!fresh)
		return;
	/* A set that cannot be woken is one that was. */
	if (has_memory(t))
		sb->spec->source = MSG_SOURCE_WAKE;
	store_load_begin(sb, false);
}

void adopt_sleeping(struct daemon *d)
{
	for (struct template *t; (t = TAILQ_FIRST(&d->sleeping.list));) {
		adopt_hibernated(d, t);
		template_forget(t);
	}
	for (struct template *t; (t = TAILQ_FIRST(&d->left.list));) {
		adopt_left(d, t);
		template_forget(t);
	}
}
