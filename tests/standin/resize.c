// SPDX-License-Identifier: Apache-2.0
/* vm.resize and vm.resize-zone. The pretend guest has no driver for any of it, as the one of
 * tests/guest has none: a removed vCPU stays pending, memory that is plugged stays with the host.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#define WHAT	   "The VM could not be resized"
#define WHAT_ZONE  "The memory zone could not be resized"
#define BLOCK_SIZE (2ULL << 20)	  /* of virtio-mem */
#define DIMM_SIZE  (128ULL << 20) /* ACPI hotplug comes in multiples */

static uint32_t present_vcpus;
static bool removal_pending;
static uint64_t boot_ram, current_ram;

static double resize_number(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void resize_set(cJSON *json, const char *key, double value)
{
	if (cJSON_GetObjectItemCaseSensitive(json, key))
		cJSON_ReplaceItemInObjectCaseSensitive(json, key, cJSON_CreateNumber(value));
	else
		cJSON_AddNumberToObject(json, key, value);
}

void resize_start(const cJSON *config)
{
	present_vcpus = (uint32_t)resize_number(cJSON_GetObjectItem(config, "cpus"), "boot_vcpus");
	removal_pending = false;
	boot_ram = (uint64_t)resize_number(cJSON_GetObjectItem(config, "memory"), "size");
	current_ram = boot_ram;
}

static struct answer resize_fail(const char *part, const char *why, const char *debug)
{
	report_log("vmm", "ERROR", "vmm/src/lib.rs:2590", "Error when resizing VM: %s", debug);
	return answer_chain(500, "Error from API", WHAT, part, why, NULL);
}

static struct answer resize_vcpus(cJSON *config, bool exists, double wish)
{
	static const char part[] = "Error from CPU manager";
	cJSON *cpus = cJSON_GetObjectItem(config, "cpus");
	uint32_t vcpus = (uint32_t)wish;
	if (exists && vcpus != present_vcpus) {
		if (!vcpus)
			return resize_fail(part, "Requested zero vCPUs",
					   "CpuManager(DesiredVCpuCountIsZero)");
		if (removal_pending) {
			report_log("vmm", "ERROR", "vmm/src/lib.rs:2590",
				   "Error when resizing VM: CpuManager(VcpuPendingRemovedVcpu)");
			return answer_chain(429, "Too Many Requests", NULL);
		}
		if (vcpus > resize_number(cpus, "max_vcpus"))
			return resize_fail(part, "Requested vCPUs exceed maximum",
					   "CpuManager(DesiredVCpuCountExceedsMax)");
		removal_pending = vcpus < present_vcpus;
		if (!removal_pending)
			present_vcpus = vcpus;
	}
	resize_set(cpus, "boot_vcpus", wish);
	return answer_none();
}

/* virtio-mem's own refusals; more is what goes beyond the size at boot. */
static struct answer resize_virtio_mem(const char *what, const cJSON *zone, uint64_t more)
{
	static const char part[] = "Memory manager error";
	uint64_t most = (uint64_t)resize_number(zone, "hotplug_size");
	char *why = NULL;
	if (!most)
		return answer_chain(500, "Error from API", what, part,
				    "No virtio-mem resizing handler found", NULL);
	if (more > most)
		why = bytes_text("new size 0x%llx is bigger than region_size 0x%llx",
				 (unsigned long long)more, (unsigned long long)most);
	else if (more % BLOCK_SIZE)
		why = bytes_text("new size 0x%llx is not aligned on block_size 0x%llx",
				 (unsigned long long)more, BLOCK_SIZE);
	if (!why)
		return answer_none();
	char *text = bytes_text("Failed to update virtio configuration: ResizeError(%s)", why);
	struct answer answer =
		answer_chain(500, "Error from API", what, part, "Failed to virtio-mem resize",
			     "Resize invalid argument", text, NULL);
	free(text);
	free(why);
	return answer;
}

static struct answer resize_below(const char *what, uint64_t wish, uint64_t least)
{
	char *why = bytes_text("Invalid resize request: desired_size = %llu below boot size = %llu",
			       (unsigned long long)wish, (unsigned long long)least);
	struct answer answer =
		answer_chain(500, "Error from API", what, "Memory manager error", why, NULL);
	free(why);
	return answer;
}

static struct answer resize_ram(cJSON *config, bool exists, double wish)
{
	static const char part[] = "Memory manager error";
	cJSON *memory = cJSON_GetObjectItem(config, "memory");
	const char *method = cJSON_GetStringValue(cJSON_GetObjectItem(memory, "hotplug_method"));
	uint64_t ram = (uint64_t)wish;
	struct answer answer = answer_none();
	if (exists && !boot_ram)
		return resize_fail(part,
				   "Impossible to resize guest memory if it is backed by user "
				   "defined memory regions",
				   "MemoryManager(InvalidResizeWithMemoryZones)");
	if (exists && !strcmp(method, "VirtioMem")) {
		if (ram < boot_ram)
			return resize_below(WHAT, ram, boot_ram);
		answer = resize_virtio_mem(WHAT, memory, ram - boot_ram);
		if (answer.status != 204)
			return answer;
		cJSON_DeleteItemFromObject(memory, "hotplugged_size");
		if (ram > boot_ram)
			cJSON_AddNumberToObject(memory, "hotplugged_size", wish - (double)boot_ram);
		return answer;
	}
	if (exists && ram > current_ram) {
		if ((ram - current_ram) % DIMM_SIZE ||
		    ram - boot_ram > (uint64_t)resize_number(memory, "hotplug_size"))
			return resize_fail(part,
					   "The requested hotplug memory addition is not a valid "
					   "size",
					   "MemoryManager(InvalidSize)");
		current_ram = ram;
	}
	resize_set(memory, "size", wish);
	return answer;
}

static struct answer resize_balloon(cJSON *config, bool exists, const cJSON *wish)
{
	cJSON *balloon = cJSON_GetObjectItem(config, "balloon");
	if (!balloon && exists)
		return answer_chain(500, "Error from API", WHAT, "Error from device manager",
				    "Missing virtio-balloon", NULL);
	if (balloon)
		resize_set(balloon, "size", wish->valuedouble);
	return answer_none();
}

struct answer resize_vm(cJSON *config, bool exists, const cJSON *json)
{
	const cJSON *vcpus = cJSON_GetObjectItemCaseSensitive(json, "desired_vcpus");
	const cJSON *ram = cJSON_GetObjectItemCaseSensitive(json, "desired_ram");
	const cJSON *balloon = cJSON_GetObjectItemCaseSensitive(json, "desired_balloon");
	struct answer answer = answer_none();
	if (exists)
		report_event("vm", "resizing", NULL, NULL);
	if (cJSON_IsNumber(vcpus))
		answer = resize_vcpus(config, exists, vcpus->valuedouble);
	if (answer.status == 204 && cJSON_IsNumber(ram))
		answer = resize_ram(config, exists, ram->valuedouble);
	if (answer.status == 204 && cJSON_IsNumber(balloon))
		answer = resize_balloon(config, exists, balloon);
	if (answer.status == 204 && exists)
		report_event("vm", "resized", NULL, NULL);
	return answer;
}

static struct answer resize_one_zone(cJSON *zone, bool exists, double wish)
{
	double size = resize_number(zone, "size");
	if (!exists) {
		resize_set(zone, "size", wish);
		return answer_none();
	}
	if (wish < size)
		return resize_below(WHAT_ZONE, (uint64_t)wish, (uint64_t)size);
	struct answer answer = resize_virtio_mem(WHAT_ZONE, zone, (uint64_t)(wish - size));
	if (answer.status == 204)
		resize_set(zone, "hotplugged_size", wish - size);
	return answer;
}

struct answer resize_zone(cJSON *config, bool exists, const cJSON *json)
{
	const char *wanted = cJSON_GetStringValue(cJSON_GetObjectItem(json, "id"));
	cJSON *zone, *memory = cJSON_GetObjectItem(config, "memory");
	cJSON_ArrayForEach(zone, cJSON_GetObjectItem(memory, "zones"))
	{
		if (!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(zone, "id")), wanted))
			return resize_one_zone(zone, exists, resize_number(json, "desired_ram"));
	}
	report_log("vmm", "ERROR", "vmm/src/vm.rs:2180",
		   "Could not find the memory zone %s for the resize", wanted);
	return answer_chain(500, "Error from API", WHAT_ZONE, "Failed resizing a memory zone",
			    NULL);
}
