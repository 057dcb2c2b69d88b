// SPDX-License-Identifier: Apache-2.0
#include "config_network.h"

#include "hostnet.h"
#include "util.h"

#include <inttypes.h>
#include <net/route.h>
#include <string.h>

/* Root code has the last word on a pool (hostnet.h); this says so before anything has started. */
static bool pool_is_special(const struct policy *p)
{
	static const struct {
		uint32_t net;
		unsigned bits;
	} special[] = {
		{0x00000000, 8},			   /* this network */
		{0x7f000000, 8},			   /* loopback */
		{0xa9fe0000, 16},			   /* link-local */
		{0xe0000000, 3},			   /* multicast and above */
		{HOSTNET_INSIDE_NET, HOSTNET_INSIDE_BITS}, /* where guests are */
	};
	for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
		unsigned bits = p->pool_bits < special[i].bits ? p->pool_bits : special[i].bits;
		if (((p->pool ^ special[i].net) >> (32 - bits)) == 0)
			return true;
	}
	return false;
}

void config_network_find_uplink(FILE *routes, char uplink[16])
{
	char line[256], name[16];
	unsigned long best = 0;
	uplink[0] = '\0';
	while (fgets(line, sizeof(line), routes)) {
		unsigned long destination, flags, metric, mask;
		/* Interface, destination, gateway, flags, two counts, metric, mask. */
		if (sscanf(line, "%15s %lx %*x %lx %*d %*d %lu %lx", name, &destination, &flags,
			   &metric, &mask) != 5 ||
		    destination || mask || !(flags & RTF_UP) || (flags & RTF_REJECT))
			continue;
		if (uplink[0] && metric >= best)
			continue;
		best = metric;
		str_copy(uplink, 16, name);
	}
}

static bool find_uplink(struct policy *p, char *reason, size_t size)
{
	FILE *routes = fopen("/proc/net/route", "re");
	if (routes) {
		config_network_find_uplink(routes, p->uplink);
		fclose(routes);
	}
	if (p->uplink[0])
		return true;
	snprintf(reason, size,
		 "[network] uplink: not given, and there is no default route; name the interface "
		 "that sandboxes reach the world through");
	return false;
}

static bool check_host_ports(const struct policy *p, char *reason, size_t size)
{
	uint32_t most = (1u << (32 - p->pool_bits)) / 2;
	if (most > HOSTNET_PORTS_MAX)
		most = HOSTNET_PORTS_MAX;
	if (p->port_count <= most)
		return true;
	snprintf(reason, size,
		 "[network] host_ports: %" PRIu32 " ports; at most %" PRIu32
		 " are possible with this pool, half of its addresses and %d at the most",
		 p->port_count, most, HOSTNET_PORTS_MAX);
	return false;
}

static bool check_tenant_ports(const struct policy *p, const char *section,
			       const struct config_ports *ports, char *reason, size_t size)
{
	/* port_first + port_count is at most 65536. */
	if (!ports->count || (ports->first >= p->port_first &&
			      ports->first + ports->count <= p->port_first + p->port_count))
		return true;
	if (p->port_count)
		snprintf(reason, size,
			 "[%s] host_ports: must lie within those of [network], %" PRIu32
			 "-%" PRIu32,
			 section, p->port_first, p->port_first + p->port_count - 1);
	else
		snprintf(reason, size, "[%s] host_ports: needs [network] host_ports around it",
			 section);
	return false;
}

bool config_network_finish(struct config *c, char *reason, size_t size)
{
	struct policy *p = &c->policy;
	char section[NAME_SIZE + 8];
	if (!p->pool_bits && p->port_count) {
		snprintf(reason, size,
			 "[network] host_ports: needs a pool, of which the last addresses stand "
			 "for them");
		return false;
	}
	if (p->pool_bits) {
		if (pool_is_special(p)) {
			snprintf(reason, size,
				 "[network] pool: holds addresses that no sandbox can have: "
				 "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 10.177.0.0/30 (where "
				 "guests are), 224.0.0.0 and above");
			return false;
		}
		if (!check_host_ports(p, reason, size) ||
		    (!p->uplink[0] && !find_uplink(p, reason, size)))
			return false;
	}
	if (!check_tenant_ports(p, "admin", &c->admin_ports, reason, size))
		return false;
	for (size_t i = 0; i < c->tenant_count; i++) {
		snprintf(section, sizeof(section), "tenant %s", c->tenants[i].name);
		if (!check_tenant_ports(p, section, &c->tenants[i].ports, reason, size))
			return false;
	}
	return true;
}
