// SPDX-License-Identifier: Apache-2.0
/* All sandboxes, found by key (TENANT:ID) and walked in the order of their making. */
#ifndef SUPERVISOR_REGISTRY_H
#define SUPERVISOR_REGISTRY_H

#include "msg.h"

#include <stddef.h>
#include <sys/queue.h>

struct sandbox;
TAILQ_HEAD(registry_list, sandbox);

/* A shim that could not be adopted: its VM is left alone, its name is taken. */
struct registry_reported {
	struct registry_reported *next;
	char key[NAME_KEY_SIZE];
	bool version;	/* it speaks another protocol version */
	bool addressed; /* what of network it has is held in the pool for it */
	struct msg_network network;
	char why[ERR_TEXT_MAX];
};

struct registry {
	struct sandbox **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	struct registry_list list;
	struct registry_reported *reported;
};

void registry_open(struct registry *r);
void registry_close(struct registry *r);

struct sandbox *registry_find(const struct registry *r, const char *key);

/* False: no memory. The key must not be there yet. */
bool registry_add(struct registry *r, struct sandbox *sb);
void registry_remove(struct registry *r, struct sandbox *sb);

/* Keys of shims that could not be adopted. */
struct registry_reported *registry_report(struct registry *r, const char *key,
					  const struct err *why);
struct registry_reported *registry_reported(const struct registry *r, const char *key);
bool registry_is_reported(const struct registry *r, const char *key);
void registry_unreport(struct registry *r, const char *key);

#endif
