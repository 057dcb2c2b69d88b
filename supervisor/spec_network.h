// SPDX-License-Identifier: Apache-2.0
/* The network of a specification: how a client asks for it, and what it comes to. */
#ifndef SUPERVISOR_SPEC_NETWORK_H
#define SUPERVISOR_SPEC_NETWORK_H

#include "spec.h"

/*
 * Reads the field "network": null or an object. ERR_INVALID names the member, like
 * "network.allow[1]", its value, and what is allowed.
 */
int spec_network_read(struct spec *s, const cJSON *v, struct err *e);

/*
 * Whether a guest made from a template has a network is the template's to say: what is asked for
 * must fit. Without "network" it gets the template's policy, but not its ports of the host, which
 * are one sandbox's only.
 */
int spec_network_use_template(struct spec *s, const struct spec *baked, struct err *e);

/*
 * When all fields have been read: fills in fallback's egress and list where no egress was asked
 * for, and checks what depends on several fields.
 */
int spec_network_settle(struct spec *s, const struct msg_network *fallback, struct err *e);

/* "none", "internet", "list". */
const char *spec_network_egress_name(uint32_t egress);

/* "tcp", "udp". */
const char *spec_network_proto_name(uint32_t proto);

#endif
