// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API "Error from API"

/* VM_NONE: no configuration. VM_CREATED: never booted, or shut down. */
static enum { VM_NONE, VM_CREATED, VM_RUNNING, VM_PAUSED } state;
static bool exists; /* a machine is there, running or not: a failed kernel leaves one */
static cJSON *config;
static char *unknown_key;
static struct boot boot;
static bool announce; /* restored and not resumed yet: the network is told where the guest is now */

static const char *vm_string(const char *part, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(config, part), key));
}

static void vm_forget(void)
{
	cJSON_Delete(config);
	config = NULL;
	free(unknown_key);
	unknown_key = NULL;
	net_forget();
	state = VM_NONE;
}

struct answer vm_refuse(const char *what, bool by_config)
{
	if (by_config && state == VM_NONE)
		return answer_chain(404, API, what, "VM is not created", NULL);
	if (!exists)
		return answer_chain(500, API, what, "VM is not running", NULL);
	return answer_chain(500, API, what, "The stand-in never does this", NULL);
}

bool vm_is_there(void)
{
	return state != VM_NONE;
}

struct answer vm_create(cJSON *json, char *unknown)
{
	if (state != VM_NONE) {
		cJSON_Delete(json);
		free(unknown);
		return answer_chain(500, API, "The VM could not be created",
				    "VM is already created", NULL);
	}
	config = json;
	unknown_key = unknown;
	state = VM_CREATED;
	return answer_none();
}

static bool vm_has_console(void)
{
	return !strcmp(vm_string("serial", "mode"), "Tty");
}

static bool vm_has_pvpanic(void)
{
	return cJSON_IsTrue(cJSON_GetObjectItem(config, "pvpanic"));
}

static struct answer vm_start(const char *what)
{
	struct answer refusal;
	const char *drop = NULL;
	struct boot_order order = {.what = what};
	if (!boot_check(config, what, &refusal) || !boot_memory(&boot, config, &order, &refusal) ||
	    !boot_devices(&boot, config, &order, &refusal, &drop)) {
		boot_close(&boot);
		if (drop)
			cJSON_DeleteItemFromObject(config, drop);
		return refusal;
	}
	exists = true;
	if (!disk_lock(what, &refusal) || !boot_payload(config, &refusal))
		return refusal;
	const char *cmdline = vm_string("payload", "cmdline");
	resize_start(config);
	state = VM_RUNNING;
	guest_start(cmdline ? cmdline : "", &boot.regions[0], vm_has_console(), vm_has_pvpanic());
	return answer_none();
}

/* The machine goes, its configuration stays. */
static void vm_end(void)
{
	guest_stop();
	announce = false;
	load_stop();
	boot_close(&boot);
	exists = false;
	state = VM_CREATED;
}

struct answer vm_boot(void)
{
	const char *what = "The VM could not boot";
	if (exists)
		return answer_chain(500, API, what, "VM is already created", NULL);
	report_event("vm", "booting", NULL, NULL);
	if (state == VM_NONE)
		return answer_chain(404, API, what, "VM config is missing", NULL);
	if (unknown_key) {
		char *text = bytes_text("stand-in: v53 does not know the key `%s`", unknown_key);
		struct answer answer =
			answer_chain(500, API, what, "Failed to validate config", text, NULL);
		free(text);
		return answer;
	}
	struct answer answer = vm_start(what);
	if (answer.status == 204) {
		report_event("vm", "booted", NULL, NULL);
		happen_booted();
	}
	return answer;
}

static double vm_memory_size(void)
{
	const cJSON *memory = cJSON_GetObjectItem(config, "memory"), *zone;
	double size = cJSON_GetNumberValue(cJSON_GetObjectItem(memory, "size"));
	cJSON_ArrayForEach(zone, cJSON_GetObjectItem(memory, "zones")) size +=
		cJSON_GetNumberValue(cJSON_GetObjectItem(zone, "size"));
	return size;
}

static void vm_add_node(cJSON *tree, const char *id)
{
	cJSON *node = cJSON_AddObjectToObject(tree, id);
	cJSON_AddStringToObject(node, "id", id);
	cJSON_AddArrayToObject(node, "resources");
	cJSON_AddArrayToObject(node, "children");
}

/* Calls add for the id of every device of a list of the configuration, "disks" or "net", or of the
 * one "vsock". */
static void vm_each_device(const char *list, cJSON *to, void (*add)(cJSON *to, const char *id))
{
	if (!strcmp(list, "vsock")) {
		const char *id = vm_string("vsock", "id");
		if (cJSON_GetObjectItem(config, "vsock"))
			add(to, id ? id : "_vsock0");
		return;
	}
	const cJSON *device;
	int number = 0;
	cJSON_ArrayForEach(device, cJSON_GetObjectItem(config, list))
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(device, "id"));
		char *own = bytes_text("_%s%d", strcmp(list, "net") ? "disk" : "net", number++);
		add(to, id ? id : own);
		free(own);
	}
}

struct answer vm_info(void)
{
	static const char *const names[] = {"", "Created", "Running", "Paused"};
	if (state == VM_NONE)
		return answer_chain(404, API, "The VM info is not available", "VM is not created",
				    NULL);
	cJSON *info = cJSON_CreateObject();
	cJSON_AddItemToObject(info, "config", cJSON_Duplicate(config, true));
	cJSON_AddStringToObject(info, "state", names[state]);
	cJSON_AddNumberToObject(info, "memory_actual_size", vm_memory_size());
	if (exists) {
		cJSON *tree = cJSON_AddObjectToObject(info, "device_tree");
		vm_add_node(tree, "__serial");
		vm_add_node(tree, "__ioapic");
		vm_add_node(tree, "__rng");
		vm_each_device("disks", tree, vm_add_node);
		vm_each_device("net", tree, vm_add_node);
		vm_each_device("vsock", tree, vm_add_node);
	}
	return answer_json(200, info);
}

static void vm_add_net_counters(cJSON *to, const char *id)
{
	net_count_into(cJSON_AddObjectToObject(to, id), id);
}

static void vm_add_disk_counters(cJSON *to, const char *id)
{
	disk_count_into(cJSON_AddObjectToObject(to, id), id);
}

struct answer vm_counters(void)
{
	if (!exists)
		return answer_chain(500, API, "The VM info is not available", "VM is not running",
				    NULL);
	cJSON *all = cJSON_CreateObject();
	vm_each_device("disks", all, vm_add_disk_counters);
	vm_each_device("net", all, vm_add_net_counters);
	return answer_json(200, all);
}

/* pause and resume differ in words only. */
static struct answer vm_change(bool pause)
{
	const char *what = pause ? "The VM could not be paused" : "The VM could not resume";
	if (!exists)
		return answer_chain(500, API, what, "VM is not running", NULL);
	report_event("vm", pause ? "pausing" : "resuming", NULL, NULL);
	if (state != (pause ? VM_RUNNING : VM_PAUSED)) {
		const char *is = state == VM_PAUSED    ? "Paused"
				 : state == VM_RUNNING ? "Running"
						       : "Created";
		char *text = bytes_text("Invalid transition: InvalidStateTransition(%s, %s)", is,
					pause ? "Paused" : "Running");
		struct answer answer =
			answer_chain(500, API, what, pause ? "Cannot pause VM" : "Cannot resume VM",
				     pause ? "Failed to pause migratable component"
					   : "Failed to resume migratable component",
				     text, NULL);
		free(text);
		return answer;
	}
	state = pause ? VM_PAUSED : VM_RUNNING;
	guest_pause(pause);
	report_event("vm", pause ? "paused" : "resumed", NULL, NULL);
	if (!pause && announce)
		net_announce();
	announce = announce && pause;
	return answer_none();
}

struct answer vm_pause(void)
{
	return vm_change(true);
}

struct answer vm_resume(void)
{
	return vm_change(false);
}

struct answer vm_shutdown(void)
{
	if (!exists)
		return answer_chain(500, API, "The VM could not shutdown", "VM is not running",
				    NULL);
	vm_end();
	report_event("vm", "shutdown", NULL, NULL);
	return answer_none();
}

struct answer vm_delete(void)
{
	if (state == VM_NONE)
		return answer_none();
	if (exists) {
		struct answer answer = vm_shutdown();
		answer_free(&answer);
	}
	vm_forget();
	report_event("vm", "deleted", NULL, NULL);
	return answer_none();
}

struct answer vm_reboot(void)
{
	report_event("vm", "rebooting", NULL, NULL);
	if (!exists)
		return answer_chain(404, API, "The VM could not reboot", "VM is not created", NULL);
	vm_end();
	struct answer answer = vm_start("The VM could not reboot");
	if (answer.status == 204)
		report_event("vm", "rebooted", NULL, NULL);
	else if (exists)
		vm_end();
	return answer;
}

struct answer vm_power_button(void)
{
	if (!exists)
		return vm_refuse("Error triggering power button", false);
	guest_power_button();
	return answer_none();
}

/* The pretend guest has no more of a handler than tests/guest has. */
struct answer vm_nmi(void)
{
	if (!exists)
		return vm_refuse("Error triggering NMI", false);
	guest_ask(GUEST_TRIPLE);
	return answer_none();
}

struct answer vm_resize(const cJSON *json)
{
	if (state == VM_NONE)
		return answer_chain(404, API, "The VM could not be resized", "VM is not created",
				    NULL);
	return resize_vm(config, exists, json);
}

struct answer vm_resize_zone(const cJSON *json)
{
	if (state == VM_NONE)
		return answer_chain(404, API, "The memory zone could not be resized",
				    "VM is not created", NULL);
	return resize_zone(config, exists, json);
}

/* Where a device would be plugged in: behind those that are there from the start. */
static char *vm_next_slot(void)
{
	int slot = 2 + cJSON_GetArraySize(cJSON_GetObjectItem(config, "disks")) +
		   cJSON_GetArraySize(cJSON_GetObjectItem(config, "net"));
	slot += cJSON_HasObjectItem(config, "balloon") + cJSON_HasObjectItem(config, "vsock") +
		vm_has_pvpanic();
	return bytes_text("0000:00:%02x.0", slot);
}

/* net is in the list already. */
static struct answer vm_plug_net(const cJSON *net, const char *what, char *slot)
{
	struct answer refusal;
	if (!net_plug_in(net, what, &refusal)) {
		report_log("vmm", "ERROR", "vmm/src/lib.rs:2874",
			   "Error when adding new network device to the VM: %s", refusal.body);
		return refusal;
	}
	cJSON *info = cJSON_CreateObject();
	cJSON_AddItemToObject(info, "id", cJSON_Duplicate(cJSON_GetObjectItem(net, "id"), false));
	cJSON_AddStringToObject(info, "bdf", slot);
	return answer_json(200, info);
}

struct answer vm_add_net(cJSON *net, char *unknown, const int *fds, int fd_count)
{
	const char *what = "The network device could not be added to the VM";
	if (state == VM_NONE) {
		free(unknown);
		cJSON_Delete(net);
		return answer_chain(404, API, what, "VM is not created", NULL);
	}
	if (unknown_key)
		free(unknown);
	else
		unknown_key = unknown; /* vm.boot says so */
	struct answer answer = answer_none();
	char *slot = vm_next_slot();
	if (!net_keep(net, fds, fd_count))
		answer = answer_chain(500, API, what, "stand-in: too many descriptors", NULL);
	if (!cJSON_GetObjectItem(config, "net"))
		cJSON_AddArrayToObject(config, "net");
	cJSON *list = cJSON_GetObjectItem(config, "net");
	cJSON_AddItemToArray(list, net);
	if (answer.status == 204 && boot_check(config, what, &answer) && exists)
		answer = vm_plug_net(net, what, slot);
	if (answer.status >= 300)
		cJSON_Delete(cJSON_DetachItemViaPointer(list, net));
	if (!cJSON_GetArraySize(list))
		cJSON_DeleteItemFromObject(config, "net");
	free(slot);
	return answer;
}

struct answer vm_remove_device(const char *id)
{
	static const char *const lists[] = {"disks", "net", "devices", "fs", "pmem", "vdpa"};
	const char *what = "The device could not be removed from the VM";
	if (state == VM_NONE)
		return answer_chain(404, API, what, "VM is not created", NULL);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		cJSON *list = cJSON_GetObjectItem(config, lists[i]), *device;
		cJSON_ArrayForEach(device, list)
		{
			const char *own = cJSON_GetStringValue(cJSON_GetObjectItem(device, "id"));
			if (!own || strcmp(own, id) != 0)
				continue;
			cJSON_Delete(cJSON_DetachItemViaPointer(list, device));
			return answer_none();
		}
	}
	char *text = bytes_text(
		exists ? "Failed to find device corresponding to the given identifier: %s"
		       : "No device with id \"%s\" to remove",
		id);
	struct answer answer =
		exists ? answer_chain(500, API, what, "Error from device manager", text, NULL)
		       : answer_chain(500, API, what, text, NULL);
	free(text);
	return answer;
}

struct answer vm_snapshot(const char *url)
{
	const char *what = "The VM could not be snapshotted";
	if (!exists)
		return vm_refuse(what, false);
	if (load_running())
		return answer_chain(500, API, what,
				    "VM on-demand memory restore is still in progress", NULL);
	report_event("vm", "snapshotting", NULL, NULL);
	if (state != VM_PAUSED)
		return answer_chain(500, API, what, "Cannot snapshot VM",
				    "Failed to snapshot migratable component",
				    "Trying to snapshot while VM is running", NULL);
	report_event("vm", "snapshotted", NULL, NULL); /* before anything is written */
	orders_begin_snapshot();
	cJSON *devices = cJSON_CreateObject();
	vm_each_device("disks", devices, vm_add_node);
	vm_each_device("net", devices, vm_add_node);
	vm_each_device("vsock", devices, vm_add_node);
	struct answer answer = snapshot_write(url, config, &boot, devices);
	cJSON_Delete(devices);
	return answer;
}

/* Descriptors go to the networks that had some, in the order of net_fds. False: there are too many.
 */
static bool vm_take_net_fds(const cJSON *order, const int *fds)
{
	const cJSON *given;
	cJSON_ArrayForEach(given, cJSON_GetObjectItem(order, "net_fds"))
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(given, "id"));
		int count = (int)cJSON_GetNumberValue(cJSON_GetObjectItem(given, "num_fds"));
		cJSON *net;
		cJSON_ArrayForEach(net, cJSON_GetObjectItem(config, "net"))
		{
			const char *own = cJSON_GetStringValue(cJSON_GetObjectItem(net, "id"));
			if (own && !strcmp(own, id) && cJSON_GetObjectItem(net, "fds") &&
			    !net_keep(net, fds, count))
				return false;
		}
		fds += count;
	}
	return true;
}

/* From here on a failure deletes the VM, and says so. */
static struct answer vm_restore_machine(const struct restore *restore)
{
	struct answer refusal;
	const char *drop;
	struct boot_order order = {.what = "The VM could not be restored",
				   .saved = restore_mappings(restore),
				   .devices = restore_saved_devices(restore),
				   .prefault = restore->prefault};
	cJSON *devices = cJSON_CreateObject();
	vm_each_device("disks", devices, vm_add_node);
	vm_each_device("net", devices, vm_add_node);
	vm_each_device("vsock", devices, vm_add_node);
	bool good = boot_check(config, order.what, &refusal) &&
		    boot_memory(&boot, config, &order, &refusal) &&
		    restore_fill(restore, &boot, &refusal) &&
		    boot_devices(&boot, config, &order, &refusal, &drop) &&
		    restore_devices(restore, devices, &refusal);
	cJSON_Delete(devices);
	if (!good)
		return refusal;
	report_event("vm", "restoring", NULL, NULL);
	if (!disk_lock(order.what, &refusal))
		return refusal;
	exists = true;
	state = VM_PAUSED;
	resize_start(config);
	guest_load(restore->guest, &boot.regions[0], vm_has_console(), vm_has_pvpanic());
	announce = true;
	report_event("vm", "restored", NULL, NULL);
	return answer_none();
}

struct answer vm_restore(const cJSON *order, const int *fds, int fd_count)
{
	struct restore restore = {0};
	struct answer answer;
	if (state != VM_NONE)
		return answer_chain(500, API, "The VM could not be restored",
				    "VM is already created", NULL);
	if (!restore_open(&restore, order, &answer)) {
		restore_free(&restore);
		return answer;
	}
	config = restore.config;
	restore.config = NULL;
	state = VM_CREATED;
	if (!fd_count || vm_take_net_fds(order, fds))
		answer = vm_restore_machine(&restore);
	else
		answer = answer_chain(500, API, "stand-in: too many descriptors", NULL);
	restore_free(&restore);
	if (answer.status == 204) {
		happen_booted();
		bool resume = cJSON_IsTrue(cJSON_GetObjectItem(order, "resume"));
		return resume && !orders_no_resume() ? vm_resume() : answer;
	}
	report_log("vmm", "ERROR", "vmm/src/lib.rs:2391", "VM Restore failed: %s", answer.body);
	load_stop();
	boot_close(&boot);
	struct answer gone = vm_delete();
	answer_free(&gone);
	return answer;
}

void vm_exit(void)
{
	struct answer answer = vm_delete();
	answer_free(&answer);
	report_event("vmm", "shutdown", NULL, NULL);
	conn_flush();
	_exit(0);
}

void vm_serve_guest(void)
{
	enum guest_wish wish = guest_take_wish();
	if (wish == GUEST_CONTENT)
		return;
	if (wish == GUEST_POWEROFF)
		vm_exit();
	if (wish == GUEST_TRIPLE)
		report_log("vcpu0", "ERROR", "hypervisor/src/kvm/mod.rs:2531",
			   "Guest likely triple-faulted");
	struct answer answer = vm_reboot();
	if (answer.status != 204) {
		/* a device that cannot be opened again ends the real one as well */
		report_log("vmm", "ERROR", "vmm/src/lib.rs:1", "Failed to reboot: %s", answer.body);
		const char *const causes[] = {"Failed to reboot the VM", answer.body, NULL};
		report_fatal(causes);
	}
}
