// SPDX-License-Identifier: Apache-2.0
/* The serving shim: from its first request to its exit. */
#ifndef SHIM_SERVE_H
#define SHIM_SERVE_H

#include "shim.h"

/*
 * Runs the shim of one sandbox on descriptors SERVE_*_FD; returns the process's exit status. key
 * is TENANT:ID, uid the VMM's, both from the spawner.
 */
#define SERVE_LINK_FD	3
#define SERVE_POLICY_FD 4
#define SERVE_UID_FD	5 /* holds the lock on the uid while we live */
int serve_run(const char *key, uid_t uid);

/* Watches fd for reading (and writing) as source; again with other flags: changes them. */
void serve_watch(struct shim *s, int fd, enum shim_source source, bool read, bool write);
void serve_unwatch(struct shim *s, int fd);

/* Watches the link as its queue needs it. */
void serve_watch_link(struct shim *s);

#endif
