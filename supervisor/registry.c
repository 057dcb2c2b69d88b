// SPDX-License-Identifier: Apache-2.0
#include "registry.h"

#include "sandbox.h"
#include "util.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void registry_open(struct registry *r)
{
	*r = (struct registry){0};
	TAILQ_INIT(&r->list);
}

void registry_close(struct registry *r)
{
	while (r->reported)
		registry_unreport(r, r->reported->key);
	free(r->buckets);
	r->buckets = NULL;
	r->bucket_count = 0;
}

/* FNV-1a. A tenant that makes keys collide slows its own look-ups within its quota at most. */
static size_t hash(const char *key)
{
	uint64_t h = 14695981039346656037u;
	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211u;
	return (size_t)(h ^ (h >> 32));
}

static bool grow(struct registry *r)
{
	size_t count = r->bucket_count ? r->bucket_count * 2 : 64;
	struct sandbox **buckets = calloc(count, sizeof(struct sandbox *));
	if (!buckets)
		return false;
	struct sandbox *sb;
	TAILQ_FOREACH(sb, &r->list, entry)
	{
		size_t at = hash(sb->key) & (count - 1);
		sb->chain = buckets[at];
		buckets[at] = sb;
	}
	free(r->buckets);
	r->buckets = buckets;
	r->bucket_count = count;
	return true;
}

struct sandbox *registry_find(const struct registry *r, const char *key)
{
	if (!r->bucket_count)
		return NULL;
	struct sandbox *sb = r->buckets[hash(key) & (r->bucket_count - 1)];
	while (sb && strcmp(sb->key, key) != 0)
		sb = sb->chain;
	return sb;
}

bool registry_add(struct registry *r, struct sandbox *sb)
{
	if (r->count >= r->bucket_count && !grow(r) && !r->bucket_count)
		return false;
	struct sandbox **bucket = &r->buckets[hash(sb->key) & (r->bucket_count - 1)];
	sb->chain = *bucket;
	*bucket = sb;
	TAILQ_INSERT_TAIL(&r->list, sb, entry);
	r->count++;
	return true;
}

void registry_remove(struct registry *r, struct sandbox *sb)
{
	struct sandbox **at = &r->buckets[hash(sb->key) & (r->bucket_count - 1)];
	while (*at != sb)
		at = &(*at)->chain;
	*at = sb->chain;
	TAILQ_REMOVE(&r->list, sb, entry);
	r->count--;
}

struct registry_reported *registry_report(struct registry *r, const char *key,
					  const struct err *why)
{
	struct registry_reported *one = calloc(1, sizeof(*one));
	if (!one)
		return NULL;
	str_copy(one->key, sizeof(one->key), key);
	str_copy(one->why, sizeof(one->why), why->text);
	one->version = why->kind == ERR_VERSION;
	one->next = r->reported;
	r->reported = one;
	return one;
}

struct registry_reported *registry_reported(const struct registry *r, const char *key)
{
	for (struct registry_reported *one = r->reported; one; one = one->next)
		if (strcmp(one->key, key) == 0)
			return one;
	return NULL;
}

bool registry_is_reported(const struct registry *r, const char *key)
{
	return registry_reported(r, key) != NULL;
}

void registry_unreport(struct registry *r, const char *key)
{
	for (struct registry_reported **at = &r->reported; *at; at = &(*at)->next) {
		if (strcmp((*at)->key, key) == 0) {
			struct registry_reported *gone = *at;
			*at = gone->next;
			free(gone);
			return;
		}
	}
}
