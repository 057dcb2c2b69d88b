// SPDX-License-Identifier: Apache-2.0
/* The network of a sandbox or a template, as the API shows it. */
#include "view.h"

#include "cidr.h"
#include "slot.h"
#include "spec_network.h"

#include <stdio.h>

static void add_address(cJSON *o, const char *name, uint32_t address)
{
	char text[CIDR_TEXT_MAX];
	cidr_format_address(address, text);
	cJSON_AddStringToObject(o, name, text);
}

static void add_allow(cJSON *o, const struct msg_network *n)
{
	char text[CIDR_TEXT_MAX];
	if (n->egress != MSG_EGRESS_LIST)
		return;
	cJSON *allow = cJSON_AddArrayToObject(o, "allow");
	for (uint32_t i = 0; allow && i < n->allow_count; i++) {
		cidr_format(&n->allow[i], text);
		cJSON_AddItemToArray(allow, cJSON_CreateString(text));
	}
}

static void add_ports(cJSON *o, const struct msg_network *n)
{
	cJSON *ports = n->port_count ? cJSON_AddArrayToObject(o, "ports") : NULL;
	for (uint32_t i = 0; ports && i < n->port_count; i++) {
		cJSON *port = cJSON_CreateObject();
		cJSON_AddNumberToObject(port, "guest", n->ports[i].guest);
		cJSON_AddStringToObject(port, "proto", spec_network_proto_name(n->ports[i].proto));
		if (n->ports[i].host)
			cJSON_AddNumberToObject(port, "host", n->ports[i].host);
		cJSON_AddItemToArray(ports, port);
	}
}

static void add_rate(cJSON *o, const struct msg_network *n)
{
	if (!n->rx_mbps && !n->tx_mbps)
		return;
	cJSON *rate = cJSON_AddObjectToObject(o, "rate");
	if (n->rx_mbps)
		cJSON_AddNumberToObject(rate, "rx_mbps", n->rx_mbps);
	if (n->tx_mbps)
		cJSON_AddNumberToObject(rate, "tx_mbps", n->tx_mbps);
}

/* The same for every guest: what it has to be configured with, if it does not know already. */
static void add_inside(cJSON *o)
{
	static const unsigned char mac[6] = SLOT_GUEST_MAC;
	char text[18];
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	add_address(o, "guest_address", SLOT_GUEST);
	cJSON_AddNumberToObject(o, "guest_prefix", HOSTNET_INSIDE_BITS);
	add_address(o, "guest_gateway", SLOT_GATEWAY);
	cJSON_AddStringToObject(o, "guest_mac", text);
}

cJSON *view_network(const struct spec *s, const struct policy *policy)
{
	const struct msg_network *n = &s->network;
	if (!s->networked)
		return cJSON_CreateNull();
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	if (policy)
		add_address(o, "address", policy->pool + n->slot);
	cJSON_AddStringToObject(o, "egress", spec_network_egress_name(n->egress));
	add_allow(o, n);
	add_ports(o, n);
	add_rate(o, n);
	add_inside(o);
	return o;
}
