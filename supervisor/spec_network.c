// SPDX-License-Identifier: Apache-2.0
#include "spec_network.h"

#include "cidr.h"
#include "json.h"
#include "slot.h"
#include "util.h"

#include <stdio.h>
#include <string.h>

#define AT_SIZE 32 /* "network.allow[15]" */

_Static_assert(SLOT_ALLOW_MAX == MSG_ALLOW_MAX && SLOT_PORTS_MAX == MSG_PORTS_MAX,
	       "a slot takes what a record can hold");

static const char *const egress_names[MSG_EGRESS_COUNT] = {
	[MSG_EGRESS_NONE] = "none",
	[MSG_EGRESS_INTERNET] = "internet",
	[MSG_EGRESS_LIST] = "list",
};

const char *spec_network_egress_name(uint32_t egress)
{
	return egress_names[egress];
}

const char *spec_network_proto_name(uint32_t proto)
{
	return proto == MSG_PROTO_UDP ? "udp" : "tcp";
}

static int refuse(const char *at, const cJSON *v, const char *rule, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s%s%s: %s is not allowed; must be %s", at,
		       v->string ? "." : "", v->string ? v->string : "", shown, rule);
}

static int unknown(const char *at, const cJSON *v, struct err *e)
{
	err_set(e, ERR_INVALID, 0, "%s: unknown field \"%.80s\"", at, v->string);
	str_clean(e->text);
	return -1;
}

/* ------------------------------------------------------------------ members */

static int take_egress(struct spec *s, const cJSON *v, struct err *e)
{
	for (uint32_t i = 0; cJSON_IsString(v) && i < MSG_EGRESS_COUNT; i++) {
		if (strcmp(v->valuestring, egress_names[i]) == 0) {
			s->network.egress = i;
			s->egress_asked = true;
			return 0;
		}
	}
	return refuse("network", v, "none, internet or list", e);
}

static int take_range(struct msg_network *n, const char *at, const cJSON *v, struct err *e)
{
	struct msg_cidr range;
	char text[CIDR_TEXT_MAX], rule[64];
	enum cidr_result result =
		cJSON_IsString(v) ? cidr_read(v->valuestring, 0, 32, &range) : CIDR_BAD;
	if (result == CIDR_BAD)
		return refuse(at, v, "an IPv4 network like 192.0.2.0/24", e);
	cidr_format(&range, text);
	if (result == CIDR_HOST_BITS) {
		snprintf(rule, sizeof(rule), "%s, if that is the network that is meant", text);
		return refuse(at, v, rule, e);
	}
	for (uint32_t i = 0; i < n->allow_count; i++)
		if (memcmp(&n->allow[i], &range, sizeof(range)) == 0)
			return err_set(e, ERR_INVALID, 0, "%s: %s is allow[%u] already", at, text,
				       i);
	n->allow[n->allow_count++] = range;
	return 0;
}

static int take_allow(struct spec *s, const cJSON *v, struct err *e)
{
	char at[AT_SIZE];
	struct msg_network *n = &s->network;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > MSG_ALLOW_MAX)
		return refuse("network", v, "an array of at most 16 IPv4 networks", e);
	for (const cJSON *r = v->child; r; r = r->next) {
		snprintf(at, sizeof(at), "network.allow[%u]", n->allow_count);
		if (take_range(n, at, r, e) < 0)
			return -1;
	}
	return 0;
}

static int take_port_member(struct msg_port *port, const char *at, const cJSON *v, struct err *e)
{
	uint32_t number;
	bool guest = strcmp(v->string, "guest") == 0;
	if (guest || strcmp(v->string, "host") == 0) {
		if (!guest && cJSON_IsNull(v))
			return 0;
		if (!json_u32(v, 1, UINT16_MAX, &number))
			return refuse(at, v, "a whole number of 1 to 65535", e);
		*(guest ? &port->guest : &port->host) = (uint16_t)number;
		return 0;
	}
	if (strcmp(v->string, "proto") != 0)
		return unknown(at, v, e);
	if (!cJSON_IsString(v) ||
	    (strcmp(v->valuestring, "tcp") != 0 && strcmp(v->valuestring, "udp") != 0))
		return refuse(at, v, "tcp or udp", e);
	port->proto = v->valuestring[0] == 'u' ? MSG_PROTO_UDP : MSG_PROTO_TCP;
	return 0;
}

static int take_port(struct msg_network *n, const char *at, const cJSON *v, struct err *e)
{
	struct msg_port port = {.proto = MSG_PROTO_TCP};
	if (!cJSON_IsObject(v))
		return refuse(at, v, "an object with guest, proto and host", e);
	for (const cJSON *m = v->child; m; m = m->next)
		if (take_port_member(&port, at, m, e) < 0)
			return -1;
	if (!port.guest)
		return err_set(e, ERR_INVALID, 0,
			       "%s.guest: missing; must be the guest's port that is forwarded", at);
	for (uint32_t i = 0; i < n->port_count; i++) {
		const struct msg_port *there = &n->ports[i];
		if (there->proto != port.proto)
			continue;
		if (there->guest == port.guest || (port.host && there->host == port.host))
			return err_set(e, ERR_INVALID, 0, "%s.%s: %u/%s is ports[%u] already", at,
				       there->guest == port.guest ? "guest" : "host",
				       there->guest == port.guest ? port.guest : port.host,
				       spec_network_proto_name(port.proto), i);
	}
	n->ports[n->port_count++] = port;
	return 0;
}

static int take_ports(struct spec *s, const cJSON *v, struct err *e)
{
	char at[AT_SIZE];
	struct msg_network *n = &s->network;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > MSG_PORTS_MAX)
		return refuse("network", v, "an array of at most 16 objects", e);
	for (const cJSON *p = v->child; p; p = p->next) {
		snprintf(at, sizeof(at), "network.ports[%u]", n->port_count);
		if (take_port(n, at, p, e) < 0)
			return -1;
	}
	return 0;
}

static int take_rate(struct spec *s, const cJSON *v, struct err *e)
{
	char rule[64];
	if (!cJSON_IsObject(v))
		return refuse("network", v, "an object with rx_mbps, tx_mbps or both", e);
	snprintf(rule, sizeof(rule), "a whole number of 1 to %d", SLOT_MBPS_MAX);
	for (const cJSON *r = v->child; r; r = r->next) {
		bool rx = strcmp(r->string, "rx_mbps") == 0;
		if (!rx && strcmp(r->string, "tx_mbps") != 0)
			return unknown("network.rate", r, e);
		if (!cJSON_IsNull(r) &&
		    !json_u32(r, 1, SLOT_MBPS_MAX, rx ? &s->network.rx_mbps : &s->network.tx_mbps))
			return refuse("network.rate", r, rule, e);
	}
	return 0;
}

int spec_network_read(struct spec *s, const cJSON *v, struct err *e)
{
	static const struct {
		const char *name;
		int (*take)(struct spec *s, const cJSON *v, struct err *e);
	} members[] = {
		{"egress", take_egress},
		{"allow", take_allow},
		{"ports", take_ports},
		{"rate", take_rate},
	};
	s->network_asked = cJSON_IsNull(v) ? SPEC_NULL : SPEC_GIVEN;
	if (cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsObject(v)) {
		char shown[96];
		json_show(v, shown, sizeof(shown));
		return err_set(e, ERR_INVALID, 0,
			       "network: %s is not allowed; must be null or an object with egress, "
			       "allow, ports and rate",
			       shown);
	}
	s->networked = true;
	for (const cJSON *m = v->child; m; m = m->next) {
		size_t i = 0;
		while (i < ARRAY_SIZE(members) && strcmp(members[i].name, m->string) != 0)
			i++;
		if (i == ARRAY_SIZE(members))
			return unknown("network", m, e);
		if (!cJSON_IsNull(m) && members[i].take(s, m, e) < 0)
			return -1;
	}
	return 0;
}

/* ------------------------------------------------------------------ the whole */

int spec_network_use_template(struct spec *s, const struct spec *baked, struct err *e)
{
	if (s->network_asked == SPEC_GIVEN && !baked->networked)
		return err_set(e, ERR_INVALID, 0,
			       "network: an object is not allowed with this template, whose guest "
			       "has no network device; leave it out");
	if (s->network_asked == SPEC_NULL && baked->networked)
		return err_set(e, ERR_INVALID, 0,
			       "network: null is not allowed with this template, whose guest has a "
			       "network device; use {\"egress\":\"none\"} to shut it off");
	if (s->network_asked == SPEC_ABSENT && baked->networked) {
		s->network = baked->network;
		s->network.slot = 0;
		for (uint32_t i = 0; i < s->network.port_count; i++)
			s->network.ports[i].host = 0;
		s->egress_asked = true;
	}
	s->networked = baked->networked;
	return 0;
}

static void fall_back(struct msg_network *n, const struct msg_network *fallback)
{
	n->egress = fallback->egress;
	if (n->egress != MSG_EGRESS_LIST || n->allow_count)
		return;
	n->allow_count = fallback->allow_count;
	memcpy(n->allow, fallback->allow, sizeof(n->allow));
}

int spec_network_settle(struct spec *s, const struct msg_network *fallback, struct err *e)
{
	struct msg_network *n = &s->network;
	if (!s->networked)
		return 0;
	if (!s->egress_asked)
		fall_back(n, fallback);
	if (n->egress == MSG_EGRESS_LIST && !n->allow_count)
		return err_set(e, ERR_INVALID, 0,
			       "network.allow: missing; must be the networks that egress list lets "
			       "through");
	if (n->egress != MSG_EGRESS_LIST && n->allow_count)
		return err_set(e, ERR_INVALID, 0,
			       "network.allow: goes with egress list only, not with %s%s",
			       egress_names[n->egress],
			       s->egress_asked ? "" : ", this host's default");
	return 0;
}
