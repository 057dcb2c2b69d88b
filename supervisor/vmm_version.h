// SPDX-License-Identifier: Apache-2.0
/* Which Cloud Hypervisor there is, and whether it may be used. */
#ifndef SUPERVISOR_VMM_VERSION_H
#define SUPERVISOR_VMM_VERSION_H

#include "policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * -1 with the advisory named for a version that lets a guest break out: below 52, but for 51.2,
 * which has the same fix. version is its own text, for the message.
 */
int vmm_version_check(const char *version, uint32_t major, uint32_t minor, struct err *e);

/* Whether it restores memory on demand without losing any: from 53 on. */
bool vmm_version_has_ondemand(uint32_t major);

/*
 * For --check, where no spawner runs: lets `cloister-shim check` ask the VMM in a jail, and waits
 * for it within the policy's deadline. As root. Fills version, a buffer of size bytes.
 */
int vmm_version_probe(const struct policy *p, char *version, size_t size, uint32_t *major,
		      uint32_t *minor, struct err *e);

#endif
