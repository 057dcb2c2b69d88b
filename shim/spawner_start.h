// SPDX-License-Identifier: Apache-2.0
/* How the spawner starts a process of its own program: shims, and the version probe. */
#ifndef SHIM_SPAWNER_START_H
#define SHIM_SPAWNER_START_H

#include "leash.h"
#include "probe.h"

struct spawner_start {
	const struct policy *policy;
	int policy_fd;
	int exe_fd;	   /* this program */
	uint32_t next_uid; /* where to look for a free uid first, counted from uid_base */
};

/* Opens what later starts need; before hostns_enter(), while the host's paths are there. */
int spawner_start_open(struct spawner_start *s, const struct policy *policy, int policy_fd,
		       struct err *e);

/*
 * Starts the shim of key with a free uid and adds it to the table. Returns the supervisor's end of
 * its link, which the caller closes; fills *started.
 */
int spawner_start_shim(struct spawner_start *s, struct leash_table *t, const char *key,
		       struct msg_started *started, struct err *e);

/* Runs the version probe to its end; what went wrong is in the report. */
void spawner_start_probe(struct spawner_start *s, struct probe_report *report);

#endif
