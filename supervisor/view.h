// SPDX-License-Identifier: Apache-2.0
/* Records as the API shows them (API.md section 3). The caller frees what these give; NULL: no
 * memory. */
#ifndef SUPERVISOR_VIEW_H
#define SUPERVISOR_VIEW_H

#include "sandbox.h"
#include "template.h"

#include <cjson/cJSON.h>

cJSON *view_sandbox(const struct sandbox *sb);
cJSON *view_template(const struct template *t);

/* {"devices":{"_disk0":{"read_bytes":0,...}},"memory_actual_mib":...} */
cJSON *view_counters(const struct msg_counters_data *data);

/*
 * What GET .../debug answers. all: for an admin; a tenant gets neither the numbers of processes,
 * users and namespaces of the host nor the shim's descriptors. view: NULL where there is none.
 */
struct account_view;
cJSON *view_debug(const struct sandbox *sb, const struct account_view *view, bool all);

/* A member with that time. */
void view_add_time(cJSON *o, const char *name, int64_t real_us);

/* The "network" object: of a guest that has none, null. policy: NULL for a template's. */
cJSON *view_network(const struct spec *s, const struct policy *policy);

/* The "exit" object. */
cJSON *view_exit(const struct msg_exit *x);

#endif
