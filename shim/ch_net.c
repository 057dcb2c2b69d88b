// SPDX-License-Identifier: Apache-2.0
#include "ch_net.h"

#include <string.h>

bool ch_net_add(cJSON *config, const struct msg_create *spec)
{
	/* CH takes no descriptor from there: -1 only says that there is one. */
	static const char fds[] = "[-1]";
	if (!spec->network.slot)
		return true;
	cJSON *net = cJSON_AddArrayToObject(config, "net");
	cJSON *device = cJSON_Parse(CH_NET_BODY);
	if (!net || !device || !cJSON_AddItemToArray(net, device)) {
		cJSON_Delete(device);
		return false;
	}
	return cJSON_AddRawToObject(device, "fds", fds) != NULL;
}

static const cJSON *member(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is_string(const cJSON *item, const char *want)
{
	const char *value = cJSON_GetStringValue(item);
	return value && strcmp(value, want) == 0;
}

bool ch_net_is(const cJSON *config, const struct msg_create *spec)
{
	const cJSON *net = member(config, "net"), *device = cJSON_IsArray(net) ? net->child : NULL;
	const cJSON *tap = member(device, "tap"), *queues = member(device, "num_queues");
	if (!spec->network.slot)
		return !net || cJSON_IsNull(net) || (cJSON_IsArray(net) && !device);
	/* A name would let it open a tap of its own. */
	return device && !device->next && is_string(member(device, "id"), CH_NET_ID) &&
	       is_string(member(device, "mac"), CH_NET_MAC) && (!tap || cJSON_IsNull(tap)) &&
	       cJSON_IsNumber(queues) && queues->valuedouble == 2 &&
	       cJSON_GetArraySize(member(device, "fds")) == 1 &&
	       !cJSON_IsTrue(member(device, "vhost_user"));
}
