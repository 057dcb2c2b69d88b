// SPDX-License-Identifier: Apache-2.0
#include "ch_api.h"

#include "ch_disks.h"
#include "ch_net.h"
#include "jail.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	const char *method;
	const char *path;
} calls[CH_API_CALL_COUNT] = {
	[CH_API_PING] = {"vmm.ping", "GET", "/api/v1/vmm.ping"},
	[CH_API_CREATE] = {"vm.create", "PUT", "/api/v1/vm.create"},
	[CH_API_INFO] = {"vm.info", "GET", "/api/v1/vm.info"},
	[CH_API_ADD_NET] = {"vm.add-net", "PUT", "/api/v1/vm.add-net"},
	[CH_API_BOOT] = {"vm.boot", "PUT", "/api/v1/vm.boot"},
	[CH_API_PAUSE] = {"vm.pause", "PUT", "/api/v1/vm.pause"},
	[CH_API_RESUME] = {"vm.resume", "PUT", "/api/v1/vm.resume"},
	[CH_API_POWER_BUTTON] = {"vm.power-button", "PUT", "/api/v1/vm.power-button"},
	[CH_API_SNAPSHOT] = {"vm.snapshot", "PUT", "/api/v1/vm.snapshot"},
	[CH_API_RESTORE] = {"vm.restore", "PUT", "/api/v1/vm.restore"},
	[CH_API_RESIZE] = {"vm.resize", "PUT", "/api/v1/vm.resize"},
	[CH_API_RESIZE_ZONE] = {"vm.resize-zone", "PUT", "/api/v1/vm.resize-zone"},
	[CH_API_COUNTERS] = {"vm.counters", "GET", "/api/v1/vm.counters"},
	[CH_API_SHUTDOWN] = {"vm.shutdown", "PUT", "/api/v1/vm.shutdown"},
	[CH_API_VMM_SHUTDOWN] = {"vmm.shutdown", "PUT", "/api/v1/vmm.shutdown"},
};

/* As CH's: a request of its API is at most 51200 bytes. */
#define BODY_MAX 51200

/* The deepest JSON we expect is about 6 levels; cJSON's own bound is 1000. */
static void json_delete(cJSON **json)
{
	cJSON_Delete(*json);
}
#define CLEANUP_JSON __attribute__((cleanup(json_delete)))

const char *ch_api_name(enum ch_api_call call)
{
	return calls[call].name;
}

int ch_api_send(struct http_client *c, enum ch_api_call call, const char *body, int64_t deadline_us,
		http_client_done_fn *done, struct err *e)
{
	return http_client_send(c, calls[call].method, calls[call].path, body, calls[call].name,
				deadline_us, done, e);
}

int ch_api_send_balloon(struct http_client *c, uint32_t mib, int64_t deadline_us,
			http_client_done_fn *done, struct err *e)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"desired_balloon\":%" PRIu64 "}", (uint64_t)mib << 20);
	return ch_api_send(c, CH_API_RESIZE, body, deadline_us, done, e);
}

int ch_api_send_vcpus(struct http_client *c, uint32_t vcpus, int64_t deadline_us,
		      http_client_done_fn *done, struct err *e)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"desired_vcpus\":%u}", vcpus);
	return ch_api_send(c, CH_API_RESIZE, body, deadline_us, done, e);
}

int ch_api_send_memory(struct http_client *c, uint32_t mib, int64_t deadline_us,
		       http_client_done_fn *done, struct err *e)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"id\":\"ram\",\"desired_ram\":%" PRIu64 "}",
		 (uint64_t)mib << 20);
	return ch_api_send(c, CH_API_RESIZE_ZONE, body, deadline_us, done, e);
}

/* Numbers below 2^53 are exact in cJSON's doubles; ours are below 2^42 bytes. */
static bool add_number(cJSON *object, const char *key, uint64_t value)
{
	return cJSON_AddNumberToObject(object, key, (double)value) != NULL;
}

static bool add_cpus(cJSON *config, const struct msg_create *spec)
{
	cJSON *cpus = cJSON_AddObjectToObject(config, "cpus");
	/* nested: CH's default is true; see CVE-2026-53359. */
	return cpus && add_number(cpus, "boot_vcpus", spec->vcpus) &&
	       add_number(cpus, "max_vcpus", spec->max_vcpus) &&
	       cJSON_AddFalseToObject(cpus, "nested");
}

static uint64_t hotplug_bytes(const struct msg_create *spec)
{
	return (uint64_t)(spec->max_memory_mib - spec->memory_mib) << 20;
}

static bool add_memory(cJSON *config, const struct msg_create *spec, bool map)
{
	uint64_t hotplug = hotplug_bytes(spec);
	cJSON *memory = cJSON_AddObjectToObject(config, "memory");
	if (!memory || !add_number(memory, "size", 0))
		return false;
	if (hotplug && !cJSON_AddStringToObject(memory, "hotplug_method", "VirtioMem"))
		return false;
	cJSON *zones = cJSON_AddArrayToObject(memory, "zones");
	cJSON *zone = cJSON_CreateObject();
	if (!zones || !cJSON_AddItemToArray(zones, zone)) {
		cJSON_Delete(zone);
		return false;
	}
	return cJSON_AddStringToObject(zone, "id", "ram") &&
	       add_number(zone, "size", (uint64_t)spec->memory_mib << 20) &&
	       cJSON_AddStringToObject(zone, "file", map ? JAIL_SET_RAM_PATH : JAIL_RAM_PATH) &&
	       cJSON_AddBoolToObject(zone, "shared", !map) &&
	       (!hotplug || add_number(zone, "hotplug_size", hotplug));
}

static bool add_payload(cJSON *config, const struct msg_create *spec)
{
	cJSON *payload = cJSON_AddObjectToObject(config, "payload");
	if (!payload || !cJSON_AddStringToObject(payload, "kernel", JAIL_KERNEL_PATH))
		return false;
	if ((spec->flags & MSG_CREATE_INITRAMFS) &&
	    !cJSON_AddStringToObject(payload, "initramfs", JAIL_INITRAMFS_PATH))
		return false;
	return !spec->cmdline[0] || cJSON_AddStringToObject(payload, "cmdline", spec->cmdline);
}

static bool add_devices(cJSON *config, const struct msg_create *spec)
{
	cJSON *serial = cJSON_AddObjectToObject(config, "serial");
	cJSON *console = cJSON_AddObjectToObject(config, "console");
	cJSON *rng = cJSON_AddObjectToObject(config, "rng");
	if (!serial || !cJSON_AddStringToObject(serial, "mode", "Tty") || !console ||
	    !cJSON_AddStringToObject(console, "mode", "Off") || !rng ||
	    !cJSON_AddStringToObject(rng, "src", "/dev/urandom") ||
	    !cJSON_AddTrueToObject(config, "pvpanic"))
		return false;
	if (!(spec->flags & MSG_CREATE_BALLOON))
		return true;
	cJSON *balloon = cJSON_AddObjectToObject(config, "balloon");
	return balloon && cJSON_AddStringToObject(balloon, "id", "balloon0") &&
	       add_number(balloon, "size", (uint64_t)spec->balloon_mib << 20) &&
	       cJSON_AddTrueToObject(balloon, "deflate_on_oom") &&
	       cJSON_AddTrueToObject(balloon, "free_page_reporting");
}

static bool add_vsock(cJSON *config, const struct msg_create *spec)
{
	if (!(spec->flags & MSG_CREATE_VSOCK))
		return true;
	cJSON *vsock = cJSON_AddObjectToObject(config, "vsock");
	return vsock && cJSON_AddStringToObject(vsock, "id", "vsock0") &&
	       add_number(vsock, "cid", MSG_VSOCK_CID) &&
	       cJSON_AddStringToObject(vsock, "socket", JAIL_VSOCK_PATH);
}

static char *build(const struct msg_create *spec, enum msg_restore restore, bool with_net,
		   struct err *e)
{
	cJSON *config CLEANUP_JSON = cJSON_CreateObject();
	char *body = NULL;
	if (config && add_cpus(config, spec) &&
	    add_memory(config, spec, restore == MSG_RESTORE_MAP) && add_payload(config, spec) &&
	    add_devices(config, spec) && ch_disks_add(config, spec) && add_vsock(config, spec) &&
	    (!with_net || ch_net_add(config, spec)))
		body = cJSON_PrintUnformatted(config);
	if (!body) {
		err_errno(e, ENOMEM, "build the VM's configuration");
	} else if (strlen(body) > BODY_MAX) {
		err_set(e, ERR_INVALID, 0, "the VM's configuration has more than %d bytes",
			BODY_MAX);
		free(body);
		body = NULL;
	}
	return body;
}

char *ch_api_create_body(const struct msg_create *spec, struct err *e)
{
	return build(spec, MSG_RESTORE_NONE, false, e);
}

char *ch_api_config(const struct msg_create *spec, enum msg_restore restore, struct err *e)
{
	return build(spec, restore, true, e);
}

int ch_api_send_net(struct http_client *c, int tap_fd, int64_t deadline_us,
		    http_client_done_fn *done, struct err *e)
{
	return http_client_send_fd(c, calls[CH_API_ADD_NET].method, calls[CH_API_ADD_NET].path,
				   CH_NET_BODY, calls[CH_API_ADD_NET].name, tap_fd, deadline_us,
				   done, e);
}

const char *ch_api_snapshot_body(void)
{
	return "{\"destination_url\":\"file://" JAIL_SNAPSHOT_PATH "\"}";
}

int ch_api_send_restore(struct http_client *c, enum msg_restore restore, int tap_fd,
			int64_t deadline_us, http_client_done_fn *done, struct err *e)
{
	char body[256];
	snprintf(body, sizeof(body), "{\"source_url\":\"file://" JAIL_RESTORE_PATH "\"%s%s}",
		 restore == MSG_RESTORE_ONDEMAND ? ",\"memory_restore_mode\":\"OnDemand\"" : "",
		 tap_fd >= 0 ? "," CH_NET_FDS : "");
	if (tap_fd < 0)
		return ch_api_send(c, CH_API_RESTORE, body, deadline_us, done, e);
	return http_client_send_fd(c, calls[CH_API_RESTORE].method, calls[CH_API_RESTORE].path,
				   body, calls[CH_API_RESTORE].name, tap_fd, deadline_us, done, e);
}

bool ch_api_is_still_loading(const struct http_response *answer)
{
	static const char words[] = "on-demand memory restore is still in progress";
	return answer->status == 500 &&
	       memmem(answer->body, answer->body_length, words, sizeof(words) - 1) != NULL;
}

int ch_api_check(enum ch_api_call call, const struct http_response *answer, struct err *e)
{
	if (answer->status >= 200 && answer->status < 300)
		return 0;
	char text[256];
	http_error_text(answer->body, answer->body_length, text, sizeof(text));
	return err_set(e, ERR_VMM, 0, "%s: the VMM refused (status %d): %s", calls[call].name,
		       answer->status, text[0] ? text : "no reason given");
}

static cJSON *parse(const struct http_response *answer)
{
	return cJSON_ParseWithLength(answer->body, answer->body_length);
}

static const cJSON *member(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

int ch_api_read_version(const struct http_response *answer, char out[MSG_BUILD_MAX], struct err *e)
{
	if (ch_api_check(CH_API_PING, answer, e) < 0)
		return -1;
	cJSON *json CLEANUP_JSON = parse(answer);
	const char *version = cJSON_GetStringValue(member(json, "version"));
	if (!version || !str_copy(out, MSG_BUILD_MAX, version))
		return err_set(e, ERR_VMM, 0, "vmm.ping: an answer without a version");
	str_clean(out);
	return 0;
}

static bool is_number(const cJSON *item, uint64_t want)
{
	return cJSON_IsNumber(item) && item->valuedouble == (double)want;
}

static bool is_string(const cJSON *item, const char *want)
{
	const char *value = cJSON_GetStringValue(item);
	return value && strcmp(value, want) == 0;
}

/*
 * The devices that nobody asked for and a VMM must not have of its own accord: the rest of VmConfig
 * in CH's vmm/src/vm_config.rs, with what some builds and older versions have.
 */
static const char *unasked(const cJSON *config)
{
	static const char *const keys[] = {"fs",	   "generic_vhost_user",
					   "pmem",	   "devices",
					   "user_devices", "vdpa",
					   "watchdog",	   "pvmemcontrol",
					   "iommu",	   "rtc",
					   "tpm",	   "ivshmem",
					   "sgx_epc",	   "gdb"};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const cJSON *item = member(config, keys[i]);
		if (item && !cJSON_IsNull(item) && !cJSON_IsFalse(item) &&
		    !(cJSON_IsArray(item) && !item->child))
			return keys[i];
	}
	const cJSON *debug = member(config, "debug_console");
	return debug && !is_string(member(debug, "mode"), "Off") ? "debug_console.mode" : NULL;
}

static bool is_balloon(const cJSON *balloon, const struct msg_create *spec)
{
	if (!(spec->flags & MSG_CREATE_BALLOON))
		return !balloon || cJSON_IsNull(balloon);
	return cJSON_IsObject(balloon);
}

static bool is_vsock(const cJSON *vsock, const struct msg_create *spec)
{
	if (!(spec->flags & MSG_CREATE_VSOCK))
		return !vsock || cJSON_IsNull(vsock);
	return is_string(member(vsock, "id"), "vsock0") &&
	       is_number(member(vsock, "cid"), MSG_VSOCK_CID) &&
	       is_string(member(vsock, "socket"), JAIL_VSOCK_PATH);
}

/* The key whose value is not as asked, or NULL. */
static const char *config_difference(const cJSON *config, const struct msg_create *spec)
{
	const cJSON *cpus = member(config, "cpus");
	const cJSON *zone = cJSON_GetArrayItem(member(member(config, "memory"), "zones"), 0);
	const cJSON *payload = member(config, "payload");
	if (!is_number(member(cpus, "boot_vcpus"), spec->vcpus))
		return "cpus.boot_vcpus";
	if (!is_number(member(cpus, "max_vcpus"), spec->max_vcpus))
		return "cpus.max_vcpus";
	if (!cJSON_IsFalse(member(cpus, "nested")))
		return "cpus.nested";
	if (!is_string(member(zone, "id"), "ram") || !cJSON_IsTrue(member(zone, "shared")) ||
	    !is_number(member(zone, "size"), (uint64_t)spec->memory_mib << 20) ||
	    !is_string(member(zone, "file"), JAIL_RAM_PATH) || zone->next)
		return "memory.zones";
	if (hotplug_bytes(spec) &&
	    (!is_number(member(zone, "hotplug_size"), hotplug_bytes(spec)) ||
	     !is_string(member(member(config, "memory"), "hotplug_method"), "VirtioMem")))
		return "memory.zones.hotplug_size";
	if (!is_string(member(payload, "kernel"), JAIL_KERNEL_PATH))
		return "payload.kernel";
	if (!is_string(member(member(config, "serial"), "mode"), "Tty"))
		return "serial.mode";
	if (!is_string(member(member(config, "console"), "mode"), "Off"))
		return "console.mode";
	if (!cJSON_IsTrue(member(config, "pvpanic")))
		return "pvpanic";
	if (!is_balloon(member(config, "balloon"), spec))
		return "balloon";
	if (!ch_disks_are(config, spec))
		return "disks";
	if (!ch_net_is(config, spec))
		return "net";
	if (!is_vsock(member(config, "vsock"), spec))
		return "vsock";
	return unasked(config);
}

int ch_api_check_config(const struct http_response *answer, const struct msg_create *spec,
			struct err *e)
{
	if (ch_api_check(CH_API_INFO, answer, e) < 0)
		return -1;
	cJSON *json CLEANUP_JSON = parse(answer);
	const cJSON *config = member(json, "config");
	if (!cJSON_IsObject(config))
		return err_set(e, ERR_VMM, 0, "vm.info: an answer without a configuration");
	const char *key = config_difference(config, spec);
	if (key)
		return err_set(e, ERR_VMM, 0,
			       "vm.info: the VMM did not take %s as asked; this version of it is "
			       "not usable",
			       key);
	return 0;
}

int ch_api_check_state(const struct http_response *answer, const char *state, struct err *e)
{
	if (ch_api_check(CH_API_INFO, answer, e) < 0)
		return -1;
	cJSON *json CLEANUP_JSON = parse(answer);
	const char *is = cJSON_GetStringValue(member(json, "state"));
	if (!is || strcmp(is, state) != 0)
		return err_set(e, ERR_VMM, 0, "vm.info: the VM is \"%.20s\", not %s", is ? is : "",
			       state);
	return 0;
}

int ch_api_read_actual(const struct http_response *answer, uint64_t *out, struct err *e)
{
	if (ch_api_check(CH_API_INFO, answer, e) < 0)
		return -1;
	cJSON *json CLEANUP_JSON = parse(answer);
	const cJSON *size = member(json, "memory_actual_size");
	/* 2^53: a double is exact below that. Written so that NaN fails too. */
	if (!cJSON_IsNumber(size) || !(size->valuedouble >= 0) ||
	    !(size->valuedouble < 9007199254740992.0))
		return err_set(e, ERR_VMM, 0, "vm.info: an answer without memory_actual_size");
	*out = (uint64_t)size->valuedouble;
	return 0;
}

static bool copy_word(char *out, size_t size, const cJSON *item)
{
	const char *value = cJSON_GetStringValue(item);
	if (!value || !str_copy(out, size, value))
		return false;
	str_clean(out);
	return true;
}

bool ch_api_read_event(const char *bytes, size_t len, struct ch_api_event *out)
{
	cJSON *json CLEANUP_JSON = cJSON_ParseWithLength(bytes, len);
	*out = (struct ch_api_event){0};
	if (!copy_word(out->source, sizeof(out->source), member(json, "source")) ||
	    !copy_word(out->event, sizeof(out->event), member(json, "event")))
		return false;
	copy_word(out->detail, sizeof(out->detail), member(member(json, "properties"), "event"));
	return true;
}
