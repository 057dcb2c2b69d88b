// SPDX-License-Identifier: Apache-2.0
/* Disks in Cloud Hypervisor's configuration: struct DiskConfig of its vmm/src/vm_config.rs. */
#ifndef SHIM_CH_DISKS_H
#define SHIM_CH_DISKS_H

#include "msg.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Adds "disks" to a configuration, if there are any; false: no memory. */
bool ch_disks_add(cJSON *config, const struct msg_create *spec);

/* Whether the VMM's own account of them says what was asked for. */
bool ch_disks_are(const cJSON *config, const struct msg_create *spec);

#endif
