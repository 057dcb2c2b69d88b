// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API	"Error from API"
#define NET_FDS 64

/* VM_NONE: no configuration. VM_CREATED: never booted, or shut down. */
static enum { VM_NONE, VM_CREATED, VM_RUNNING, VM_PAUSED } state;
static bool exists; /* a machine is there, running or not: a failed kernel leaves one */
static cJSON *config;
static char *unknown_key;
static struct boot boot;
static int net_fds[NET_FDS];
static int net_fd_count;

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
	while (net_fd_count)
		close(net_fds[--net_fd_count]);
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

static void vm_start_guest(void)
{
	const char *cmdline = vm_string("payload", "cmdline");
	const char *mode = vm_string("serial", "mode");
	state = VM_RUNNING;
	guest_start(cmdline ? cmdline : "", boot.ram, boot.ram_size, !strcmp(mode, "Tty"),
		    cJSON_IsTrue(cJSON_GetObjectItem(config, "pvpanic")));
}

static struct answer vm_start(void)
{
	struct answer refusal;
	const char *drop;
	if (!boot_open(&boot, config, net_fds, net_fd_count, &refusal, &drop)) {
		boot_close(&boot);
		if (drop)
			cJSON_DeleteItemFromObject(config, drop);
		return refusal;
	}
	exists = true;
	if (!boot_payload(config, &refusal))
		return refusal;
	vm_start_guest();
	return answer_none();
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
	struct answer answer = vm_start();
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

/* Calls add for the id of every disk and network device. */
static void vm_each_device(cJSON *to, void (*add)(cJSON *to, const char *id))
{
	static const char *const lists[] = {"disks", "net"};
	static const char *const names[] = {"_disk", "_net"};
	int number = 0;
	for (int i = 0; i < 2; i++) {
		const cJSON *device;
		cJSON_ArrayForEach(device, cJSON_GetObjectItem(config, lists[i]))
		{
			const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(device, "id"));
			char *own = bytes_text("%s%d", names[i], number++);
			add(to, id ? id : own);
			free(own);
		}
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
		vm_each_device(tree, vm_add_node);
	}
	return answer_json(200, info);
}

static void vm_add_counters(cJSON *to, const char *id)
{
	static const char *const disk[] = {"read_bytes", "read_ops", "write_bytes", "write_ops",
					   NULL};
	static const char *const latency[] = {"read_latency_min", "read_latency_max",
					      "write_latency_min", "write_latency_max", NULL};
	cJSON *counters = cJSON_AddObjectToObject(to, id);
	for (int i = 0; disk[i]; i++)
		cJSON_AddNumberToObject(counters, disk[i], 0);
	/* nothing measured yet is 2^64-1, which no double holds */
	for (int i = 0; latency[i]; i++)
		cJSON_AddRawToObject(counters, latency[i], "18446744073709551615");
	cJSON_AddRawToObject(counters, "read_latency_avg", "1844674407370955");
	cJSON_AddRawToObject(counters, "write_latency_avg", "1844674407370955");
}

struct answer vm_counters(void)
{
	if (!exists)
		return answer_chain(500, API, "The VM info is not available", "VM is not running",
				    NULL);
	cJSON *all = cJSON_CreateObject();
	vm_each_device(all, vm_add_counters);
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
	guest_stop();
	boot_close(&boot);
	exists = false;
	state = VM_CREATED;
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
	guest_stop();
	boot_close(&boot);
	exists = false;
	state = VM_CREATED;
	struct answer answer = vm_start();
	if (answer.status == 204)
		report_event("vm", "rebooted", NULL, NULL);
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

static bool vm_wish(const cJSON *json, const char *key, double *number)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
	*number = cJSON_GetNumberValue(item);
	return cJSON_IsNumber(item);
}

static struct answer vm_resize_balloon(double size)
{
	cJSON *balloon = cJSON_GetObjectItem(config, "balloon");
	if (!balloon && exists)
		return answer_chain(500, API, "The VM could not be resized",
				    "Error from device manager", "Missing virtio-balloon", NULL);
	if (balloon)
		cJSON_ReplaceItemInObject(balloon, "size", cJSON_CreateNumber(size));
	return answer_none();
}

struct answer vm_resize(const cJSON *json)
{
	const char *what = "The VM could not be resized";
	double vcpus, ram, balloon;
	if (state == VM_NONE)
		return answer_chain(404, API, what, "VM is not created", NULL);
	cJSON *cpus = cJSON_GetObjectItem(config, "cpus");
	if (exists)
		report_event("vm", "resizing", NULL, NULL);
	if (vm_wish(json, "desired_vcpus", &vcpus)) {
		if (vcpus > cJSON_GetNumberValue(cJSON_GetObjectItem(cpus, "max_vcpus"))) {
			report_log("vmm", "ERROR", "vmm/src/lib.rs:2590",
				   "Error when resizing VM: "
				   "CpuManager(DesiredVCpuCountExceedsMax)");
			return answer_chain(500, API, what, "Error from CPU manager",
					    "Requested vCPUs exceed maximum", NULL);
		}
		cJSON_ReplaceItemInObject(cpus, "boot_vcpus", cJSON_CreateNumber(vcpus));
	}
	if (vm_wish(json, "desired_ram", &ram))
		return answer_chain(500, API, what, "Memory manager error",
				    "Impossible to resize guest memory if it is backed by user "
				    "defined memory regions",
				    NULL);
	if (vm_wish(json, "desired_balloon", &balloon)) {
		struct answer answer = vm_resize_balloon(balloon);
		if (answer.status != 204)
			return answer;
	}
	if (exists)
		report_event("vm", "resized", NULL, NULL);
	return answer_none();
}

/* Descriptors and queues have to agree: one descriptor is a pair of queues. */
static struct answer vm_check_net(const cJSON *net, int fd_count)
{
	int queues = (int)cJSON_GetNumberValue(cJSON_GetObjectItem(net, "num_queues"));
	if (!fd_count || queues == fd_count * 2)
		return answer_none();
	char *text = bytes_text("Number of queues (%d) to virtio_net does not match the number of "
				"FDs (%d)",
				queues, fd_count * 2);
	struct answer answer =
		answer_chain(500, API, "The network device could not be added to the VM",
			     "Failed to validate config", text, NULL);
	free(text);
	return answer;
}

struct answer vm_add_net(cJSON *net, char *unknown, const int *fds, int fd_count)
{
	struct answer answer = vm_check_net(net, fd_count);
	if (net_fd_count + fd_count > NET_FDS)
		answer = answer_chain(500, API, "stand-in: too many descriptors", NULL);
	if (state == VM_NONE)
		answer = answer_chain(404, API, "The network device could not be added to the VM",
				      "VM is not created", NULL);
	if (answer.status != 204) {
		cJSON_Delete(net);
		free(unknown);
		return answer;
	}
	cJSON_DeleteItemFromObject(net, "fds"); /* those of the body count for nothing */
	for (int i = 0; i < fd_count; i++)
		net_fds[net_fd_count++] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
	if (!cJSON_GetObjectItem(config, "net"))
		cJSON_AddArrayToObject(config, "net");
	cJSON *list = cJSON_GetObjectItem(config, "net");
	cJSON_AddItemToArray(list, net);
	if (unknown_key)
		free(unknown);
	else
		unknown_key = unknown;
	if (!exists)
		return answer_none();
	cJSON *info = cJSON_CreateObject();
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(net, "id"));
	char *bdf = bytes_text("0000:00:%02x.0", 4 + cJSON_GetArraySize(list));
	cJSON_AddStringToObject(info, "id", id ? id : "_net1");
	cJSON_AddStringToObject(info, "bdf", bdf);
	free(bdf);
	return answer_json(200, info);
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

struct answer vm_snapshot(void)
{
	const char *what = "The VM could not be snapshotted";
	if (!exists)
		return vm_refuse(what, false);
	report_event("vm", "snapshotting", NULL, NULL);
	return answer_chain(500, API, what, "Cannot snapshot VM",
			    "Failed to snapshot migratable component",
			    state == VM_PAUSED ? "The stand-in takes no snapshots"
					       : "Trying to snapshot while VM is running",
			    NULL);
}

struct answer vm_restore(const char *url)
{
	const char *what = "The VM could not be restored";
	if (state != VM_NONE)
		return answer_chain(500, API, what, "VM is already created", NULL);
	const char *path = strncmp(url, "file://", 7) ? url : url + 7;
	char *text = bytes_text("Destination is not a directory: \"%s\"", path);
	struct answer answer =
		answer_chain(500, API, what, "Cannot restore VM",
			     "Failed to send migratable component snapshot", text, NULL);
	free(text);
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
