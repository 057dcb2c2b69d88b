// SPDX-License-Identifier: Apache-2.0
/*
 * The network device in Cloud Hypervisor's configuration: struct NetConfig of its
 * vmm/src/vm_config.rs. The tap comes as a descriptor: with vm.add-net before the boot, with
 * vm.restore otherwise (ch-facts, section 4).
 */
#ifndef SHIM_CH_NET_H
#define SHIM_CH_NET_H

#include "msg.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

#define CH_NET_ID "net0"

/* The body of vm.add-net. */
#define CH_NET_BODY                                                                                \
	"{\"id\":\"" CH_NET_ID "\",\"mac\":\"" CH_NET_MAC "\",\"num_queues\":2,\"queue_size\":"    \
	"256}"
#define CH_NET_MAC "02:c1:01:57:00:02" /* SLOT_GUEST_MAC */

/* In vm.restore's body: one descriptor rides on it. */
#define CH_NET_FDS "\"net_fds\":[{\"id\":\"" CH_NET_ID "\",\"num_fds\":1}]"

/* Adds "net" to the configuration of a set, if the guest has a network; false: no memory. */
bool ch_net_add(cJSON *config, const struct msg_create *spec);

/* Whether the VMM's own account of it says what was asked for. */
bool ch_net_is(const cJSON *config, const struct msg_create *spec);

#endif
