// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *version;	  /* "53.0.0" */
static char *version_tag; /* "53.0.0" by default, else as STANDIN_VERSION has it */
static bool shut_down;

void api_start(void)
{
	const char *given = getenv("STANDIN_VERSION");
	version_tag = bytes_text("%s", given ? given : "53.0.0");
	const char *dot = strchr(version_tag, '.');
	bool short_form = dot && !strchr(dot + 1, '.');
	version = bytes_text("%s%s", version_tag, short_form ? ".0" : "");
}

void api_print_version(void)
{
	const char *text = getenv("STANDIN_VERSION_TEXT");
	if (text)
		printf("%s", text);
	else
		printf("cloud-hypervisor v%s\nMigration Protocol Versions: 0\n", version_tag);
	fflush(stdout);
}

bool api_shut_down(void)
{
	return shut_down;
}

const char *api_endpoint(const char *path)
{
	static const char root[] = "/api/v1/";
	return strncmp(path, root, sizeof(root) - 1) == 0 ? path + sizeof(root) - 1 : NULL;
}

static struct answer api_bad(void)
{
	return answer_chain(400, "Bad Request", NULL);
}

static struct answer api_bad_json(const char *why)
{
	return answer_chain(400, "Failed to deserialize JSON", why, NULL);
}

static struct answer api_ping(const struct request *request)
{
	(void)request;
	cJSON *ping = cJSON_CreateObject();
	char *build = bytes_text("v%s", version_tag);
	cJSON_AddStringToObject(ping, "build_version", build);
	cJSON_AddStringToObject(ping, "version", version);
	cJSON_AddNumberToObject(ping, "pid", getpid());
	cJSON *features = cJSON_AddArrayToObject(ping, "features");
	cJSON_AddItemToArray(features, cJSON_CreateString("io_uring"));
	cJSON_AddItemToArray(features, cJSON_CreateString("kvm"));
	free(build);
	return answer_json(200, ping);
}

static struct answer api_vmm_shutdown(const struct request *request)
{
	(void)request;
	shut_down = true;
	return answer_text(200, "");
}

/* The body as JSON, or NULL with the 400 in *refusal. */
static cJSON *api_json(const struct request *request, struct answer *refusal)
{
	const char *end = NULL;
	cJSON *json = NULL;
	if (parse_is_utf8(request->body)) /* cJSON does not care, the real one does */
		json = cJSON_ParseWithLengthOpts(request->body, request->body_len + 1, &end, true);
	if (!json) {
		size_t at = end ? (size_t)(end - request->body) : 0;
		char *why = bytes_text("%s at line 1 column %zu",
				       at >= request->body_len ? "EOF while parsing a value"
							       : "expected value",
				       at);
		*refusal = api_bad_json(why);
		free(why);
	}
	return json;
}

static struct answer api_create(const struct request *request)
{
	struct answer refusal;
	char *why = NULL, *unknown = NULL;
	if (!request->body)
		return answer_text(400, "");
	cJSON *json = api_json(request, &refusal);
	if (!json)
		return refusal;
	cJSON *config = schema_config(json, &why, &unknown), *net;
	cJSON_Delete(json);
	/* descriptors are not taken here, and nobody is told */
	cJSON_ArrayForEach(net, cJSON_GetObjectItem(config, "net"))
	{
		net_ignore_body(net);
		cJSON_DeleteItemFromObject(net, "fds");
	}
	if (config)
		return vm_create(config, unknown);
	refusal = api_bad_json(why);
	free(why);
	return refusal;
}

static struct answer api_add_net(const struct request *request)
{
	struct answer refusal;
	char *why = NULL, *unknown = NULL;
	cJSON *json = api_json(request, &refusal);
	if (!json)
		return refusal;
	cJSON *net = schema_device("net", json, &why, &unknown);
	cJSON_Delete(json);
	if (net)
		net_ignore_body(net);
	if (net)
		return vm_add_net(net, unknown, request->fds, request->fd_count);
	refusal = api_bad_json(why);
	free(why);
	return refusal;
}

/* A number of the body that is negative or broken is no u64. */
static bool api_is_u64(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
	if (!item || cJSON_IsNull(item))
		return true;
	double n = item->valuedouble;
	return cJSON_IsNumber(item) && n >= 0 && n < 18446744073709551616.0 &&
	       (n > 9e15 || n == (double)(uint64_t)n);
}

static struct answer api_resize(const struct request *request)
{
	static const char *const keys[] = {"desired_vcpus", "desired_ram", "desired_balloon"};
	struct answer answer;
	cJSON *json = api_json(request, &answer);
	if (!json)
		return answer;
	for (int i = 0; i < 3; i++) {
		if (api_is_u64(json, keys[i]))
			continue;
		cJSON_Delete(json);
		return api_bad_json("invalid value: integer, expected u64 at line 1 column 0");
	}
	answer = vm_resize(json);
	cJSON_Delete(json);
	return answer;
}

static struct answer api_remove_device(const struct request *request)
{
	struct answer answer;
	cJSON *json = api_json(request, &answer);
	if (!json)
		return answer;
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "id"));
	answer = id ? vm_remove_device(id) : api_bad_json("missing field `id` at line 1 column 0");
	cJSON_Delete(json);
	return answer;
}

static struct answer api_no_body(const struct request *request)
{
	static const struct {
		const char *name;
		struct answer (*call)(void);
	} calls[] = {{"vm.boot", vm_boot},
		     {"vm.pause", vm_pause},
		     {"vm.resume", vm_resume},
		     {"vm.shutdown", vm_shutdown},
		     {"vm.delete", vm_delete},
		     {"vm.reboot", vm_reboot},
		     {"vm.power-button", vm_power_button},
		     {"vm.nmi", vm_nmi}};
	const char *name = api_endpoint(request->path);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (!strcmp(calls[i].name, name))
			return calls[i].call();
	}
	return answer_chain(500, "Internal Server Error", NULL);
}

static struct answer api_info(const struct request *request)
{
	(void)request;
	return vm_info();
}

static struct answer api_counters(const struct request *request)
{
	(void)request;
	return vm_counters();
}

static struct answer api_snapshot(const struct request *request)
{
	struct answer answer;
	cJSON *json = api_json(request, &answer);
	if (!json)
		return answer;
	const char *url =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "destination_url"));
	answer = url ? vm_snapshot(url)
		     : api_bad_json("missing field `destination_url` at line 1 column 0");
	cJSON_Delete(json);
	return answer;
}

/* The body as v53 reads it, or NULL with the answer. A key that v53 does not know is refused too.
 */
static cJSON *api_body(const struct request *request, struct answer *refusal)
{
	char *why = NULL, *unknown = NULL;
	cJSON *json = api_json(request, refusal);
	if (!json)
		return NULL;
	cJSON *body = schema_body(api_endpoint(request->path), json, &why, &unknown);
	cJSON_Delete(json);
	if (!body)
		*refusal = api_bad_json(why);
	if (unknown) {
		char *text = bytes_text("stand-in: v53 does not know the key `%s`", unknown);
		*refusal = answer_chain(500, "Error from API", text, NULL);
		free(text);
		cJSON_Delete(body);
		body = NULL;
	}
	free(why);
	free(unknown);
	return body;
}

static struct answer api_restore(const struct request *request)
{
	struct answer answer;
	double wanted = 0;
	cJSON *order = api_body(request, &answer);
	if (!order)
		return answer;
	const cJSON *list = cJSON_GetObjectItem(order, "net_fds"), *given;
	cJSON_ArrayForEach(given, list) wanted +=
		cJSON_GetNumberValue(cJSON_GetObjectItem(given, "num_fds"));
	if (list && wanted != request->fd_count) {
		report_log("http-server", "ERROR", "vmm/src/api/http/http_endpoint.rs:227",
			   "Number of expected FDs: %.0f, received: %d", wanted, request->fd_count);
		cJSON_Delete(order);
		return api_bad();
	}
	cJSON_ArrayForEach(given, list) net_ignore_body(given);
	/* without net_fds they are dropped */
	answer = vm_restore(order, request->fds, list ? request->fd_count : 0);
	cJSON_Delete(order);
	return answer;
}

static struct answer api_resize_zone(const struct request *request)
{
	struct answer answer;
	cJSON *order = api_body(request, &answer);
	if (!order)
		return answer;
	answer = vm_resize_zone(order);
	cJSON_Delete(order);
	return answer;
}

/* What this stand-in never does: the fields are checked, then it fails as the real one may. */
static struct answer api_never(const struct request *request)
{
	static const struct {
		const char *name, *field, *what;
		bool by_config;
	} never[] = {
		{"vm.add-device", NULL, "The device could not be added to the VM", true},
		{"vm.add-user-device", "socket", "The user device could not be added to the VM",
		 true},
		{"vm.add-disk", NULL, "The disk could not be added to the VM", true},
		{"vm.add-fs", "tag", "The fs could not be added to the VM", true},
		{"vm.add-generic-vhost-user", "socket",
		 "The generic vhost-user device could not be added to the VM", true},
		{"vm.add-pmem", "file", "The pmem device could not be added to the VM", true},
		{"vm.add-vdpa", "path", "The vDPA device could not be added to the VM", true},
		{"vm.add-vsock", "cid", "The vsock device could not be added to the VM", true},
		{"vm.resize-disk", "id", "The disk could not be resized", true},
		{"vm.receive-migration", "receiver_url", "Error starting migration reception",
		 false},
		{"vm.send-migration", "destination_url", "Error starting migration sender", false},
	};
	struct answer answer;
	const char *name = api_endpoint(request->path);
	cJSON *json = api_json(request, &answer);
	if (!json)
		return answer;
	answer = answer_chain(500, "Internal Server Error", NULL);
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (strcmp(never[i].name, name) != 0)
			continue;
		answer_free(&answer);
		if (!never[i].field || cJSON_GetObjectItemCaseSensitive(json, never[i].field)) {
			answer = vm_refuse(never[i].what, never[i].by_config);
			break;
		}
		char *why = bytes_text("missing field `%s` at line 1 column 0", never[i].field);
		answer = api_bad_json(why);
		free(why);
		break;
	}
	cJSON_Delete(json);
	return answer;
}

enum body { BODY_ANY, BODY_NONE, BODY_NEEDED };

/* own: an endpoint with a handler of its own, which answers a PATCH with a body. */
static const struct {
	const char *name;
	enum http_method method;
	enum body body;
	bool own;
	struct answer (*call)(const struct request *request);
} endpoints[] = {
	{"vmm.ping", HTTP_GET, BODY_ANY, true, api_ping},
	{"vmm.shutdown", HTTP_PUT, BODY_ANY, true, api_vmm_shutdown},
	{"vm.info", HTTP_GET, BODY_ANY, true, api_info},
	{"vm.create", HTTP_PUT, BODY_ANY, true, api_create},
	{"vm.counters", HTTP_GET, BODY_ANY, false, api_counters},
	{"vm.boot", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.pause", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.resume", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.shutdown", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.delete", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.reboot", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.power-button", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.nmi", HTTP_PUT, BODY_NONE, false, api_no_body},
	{"vm.resize", HTTP_PUT, BODY_NEEDED, false, api_resize},
	{"vm.add-net", HTTP_PUT, BODY_NEEDED, false, api_add_net},
	{"vm.remove-device", HTTP_PUT, BODY_NEEDED, false, api_remove_device},
	{"vm.add-device", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-user-device", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-disk", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-fs", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-generic-vhost-user", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-pmem", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-vdpa", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.add-vsock", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.resize-disk", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.resize-zone", HTTP_PUT, BODY_NEEDED, false, api_resize_zone},
	{"vm.restore", HTTP_PUT, BODY_NEEDED, false, api_restore},
	{"vm.snapshot", HTTP_PUT, BODY_NEEDED, false, api_snapshot},
	{"vm.receive-migration", HTTP_PUT, BODY_NEEDED, false, api_never},
	{"vm.send-migration", HTTP_PUT, BODY_NEEDED, false, api_never},
};

struct answer api_call(const struct request *request)
{
	const char *name = api_endpoint(request->path);
	for (size_t i = 0; name && i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		if (strcmp(endpoints[i].name, name) != 0)
			continue;
		if (request->method == HTTP_PATCH && !endpoints[i].own)
			return answer_text(400, "");
		if (request->method != endpoints[i].method ||
		    (endpoints[i].body == BODY_NONE && request->body) ||
		    (endpoints[i].body == BODY_NEEDED && !request->body))
			return api_bad();
		return endpoints[i].call(request);
	}
	return answer_chain(404, "Not Found", NULL);
}
