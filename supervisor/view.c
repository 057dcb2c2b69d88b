// SPDX-License-Identifier: Apache-2.0
#include "view.h"

#include "daemon.h"
#include "restart.h"
#include "util.h"

#include <inttypes.h>
#include <stdio.h>

void view_add_time(cJSON *o, const char *name, int64_t real_us)
{
	char text[CLOCK_TEXT_MAX];
	clock_format(real_us, text);
	cJSON_AddStringToObject(o, name, text);
}

cJSON *view_exit(const struct msg_exit *x)
{
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	cJSON_AddStringToObject(o, "cause", msg_cause_name(x->cause));
	if (x->code >= 0)
		cJSON_AddNumberToObject(o, "code", x->code);
	else
		cJSON_AddNullToObject(o, "code");
	if (x->signal > 0)
		cJSON_AddNumberToObject(o, "signal", x->signal);
	else
		cJSON_AddNullToObject(o, "signal");
	cJSON_AddStringToObject(o, "phase", msg_phase_name(x->phase));
	view_add_time(o, "at", x->at_real_us);
	cJSON_AddStringToObject(o, "detail", x->detail);
	return o;
}

static void add_vmm(cJSON *o, const struct sandbox *sb)
{
	/* Gone with its exit: a pid that may belong to somebody else by now is not shown. */
	if (!sb->vmm_pid || sb->exit) {
		cJSON_AddNullToObject(o, "vmm");
		return;
	}
	cJSON *vmm = cJSON_AddObjectToObject(o, "vmm");
	if (!vmm)
		return;
	cJSON_AddNumberToObject(vmm, "pid", sb->vmm_pid);
	cJSON_AddStringToObject(vmm, "version", sb->vmm_version);
}

static void add_timings(cJSON *o, const struct sandbox *sb)
{
	const struct sandbox_timings *t = &sb->timings;
	cJSON *times = cJSON_AddObjectToObject(o, "timings_us");
	if (t->of_set) {
		cJSON_AddNumberToObject(times, "pause_us", t->pause_us);
		cJSON_AddNumberToObject(times, "vmm_us", t->vmm_us);
		cJSON_AddNumberToObject(times, "disks_us", t->disks_us);
		cJSON_AddNumberToObject(times, "copy_us", t->copy_us);
		cJSON_AddNumberToObject(times, "sync_us", t->sync_us);
		cJSON_AddNumberToObject(times, "total_us", t->total_us);
		return;
	}
	/* An adopted one's shim knows its own steps only. */
	if (t->total_us)
		cJSON_AddNumberToObject(times, "spawn_us", t->spawn_us);
	if (sb->vmm_pid) {
		cJSON_AddNumberToObject(times, "setup_us", t->shim.setup_us);
		cJSON_AddNumberToObject(times, "disks_us", t->shim.disks_us);
		cJSON_AddNumberToObject(times, "slot_us", t->shim.slot_us);
		cJSON_AddNumberToObject(times, "launch_us", t->shim.launch_us);
		cJSON_AddNumberToObject(times, "boot_us", t->shim.boot_us);
		cJSON_AddNumberToObject(times, "ready_us", t->shim.ready_us);
	}
	if (t->total_us)
		cJSON_AddNumberToObject(times, "total_us", t->total_us);
}

/* A string, or null where there is none. */
static void add_text(cJSON *o, const char *name, const char *text)
{
	if (text)
		cJSON_AddStringToObject(o, name, text);
	else
		cJSON_AddNullToObject(o, name);
}

static void add_progress(cJSON *o, const struct msg_progress *p)
{
	if (!p->total_bytes)
		return;
	cJSON *progress = cJSON_AddObjectToObject(o, "progress");
	cJSON_AddNumberToObject(progress, "done_bytes", (double)p->done_bytes);
	cJSON_AddNumberToObject(progress, "total_bytes", (double)p->total_bytes);
}

static void add_maxima(cJSON *o, const struct spec *s)
{
	cJSON_AddNumberToObject(o, "max_vcpus", s->max_vcpus);
	cJSON_AddNumberToObject(o, "max_memory_mib", s->max_memory_mib);
}

static void add_balloon(cJSON *o, const struct spec *s)
{
	cJSON_AddBoolToObject(o, "balloon", s->balloon);
	if (s->balloon)
		cJSON_AddNumberToObject(o, "balloon_target_mib", s->balloon_mib);
	else
		cJSON_AddNullToObject(o, "balloon_target_mib");
}

static void add_rate(cJSON *o, const struct msg_disk *disk)
{
	if (!disk->rate_mib_s && !disk->rate_iops)
		return;
	cJSON *rate = cJSON_AddObjectToObject(o, "rate");
	if (disk->rate_mib_s)
		cJSON_AddNumberToObject(rate, "mib_s", disk->rate_mib_s);
	if (disk->rate_iops)
		cJSON_AddNumberToObject(rate, "iops", disk->rate_iops);
}

static cJSON *view_disk(const struct msg_disk *disk, uint32_t number)
{
	static const char *const made[MSG_DISK_MADE_COUNT] = {
		[MSG_DISK_SHARED] = "shared",
		[MSG_DISK_REFLINK] = "reflink",
		[MSG_DISK_COPIED] = "copy",
		[MSG_DISK_OPENED] = "device",
	};
	char id[16];
	cJSON *o = cJSON_CreateObject();
	snprintf(id, sizeof(id), "disk%u", number);
	cJSON_AddStringToObject(o, "id", id);
	cJSON_AddStringToObject(o, disk->flags & MSG_DISK_DEVICE ? "device" : "image", disk->image);
	/* Of a device only root code knows it. */
	if (disk->size_mib)
		cJSON_AddNumberToObject(o, "size_mib", disk->size_mib);
	else
		cJSON_AddNullToObject(o, "size_mib");
	cJSON_AddBoolToObject(o, "readonly", (disk->flags & MSG_DISK_READONLY) != 0);
	add_text(o, "made", made[disk->made]);
	add_rate(o, disk);
	return o;
}

static void add_disks(cJSON *o, const struct spec *s)
{
	cJSON *disks = cJSON_AddArrayToObject(o, "disks");
	for (uint32_t i = 0; disks && i < s->disk_count; i++)
		cJSON_AddItemToArray(disks, view_disk(&s->disks[i], i));
}

/* Whole numbers of 64 bits, which a JSON library's double would round. 2^64-1 says "none yet". */
static void add_counter(cJSON *o, const struct msg_counter *c)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, c->value);
	cJSON_AddRawToObject(o, c->counter, c->value == UINT64_MAX ? "null" : text);
}

cJSON *view_counters(const struct msg_counters_data *data)
{
	cJSON *o = cJSON_CreateObject();
	cJSON *devices = cJSON_AddObjectToObject(o, "devices");
	if (!devices) {
		cJSON_Delete(o);
		return NULL;
	}
	for (uint32_t i = 0; i < data->count; i++) {
		const struct msg_counter *c = &data->counters[i];
		cJSON *device = cJSON_GetObjectItemCaseSensitive(devices, c->device);
		if (!device)
			device = cJSON_AddObjectToObject(devices, c->device);
		add_counter(device, c);
	}
	cJSON_AddNumberToObject(o, "memory_actual_mib", (double)(data->memory_actual_bytes >> 20));
	return o;
}

cJSON *view_template(const struct template *t)
{
	char tenant[NAME_SIZE], parent[NAME_SIZE];
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	name_key_split(t->parent, tenant, parent);
	cJSON_AddStringToObject(o, "name", t->name);
	cJSON_AddStringToObject(o, "tenant", t->tenant);
	cJSON_AddStringToObject(o, "parent", parent);
	view_add_time(o, "created_at", t->created_real_us);
	cJSON_AddStringToObject(o, "vmm_version", t->vmm_version);
	cJSON_AddNumberToObject(o, "vcpus", t->spec->vcpus);
	cJSON_AddNumberToObject(o, "memory_mib", t->spec->memory_mib);
	add_maxima(o, t->spec);
	add_balloon(o, t->spec);
	cJSON_AddStringToObject(o, "kernel", t->spec->kernel);
	add_text(o, "initramfs", t->spec->initramfs);
	cJSON_AddStringToObject(o, "cmdline", t->spec->cmdline);
	add_disks(o, t->spec);
	cJSON_AddItemToObject(o, "network", view_network(t->spec, NULL));
	cJSON_AddBoolToObject(o, "vsock", t->spec->vsock);
	cJSON *content = cJSON_AddArrayToObject(o, "content");
	if (t->content & MSG_SET_RAM)
		cJSON_AddItemToArray(content, cJSON_CreateString("ram"));
	if (t->content & MSG_SET_RANGES)
		cJSON_AddItemToArray(content, cJSON_CreateString("memory-ranges"));
	cJSON_AddNumberToObject(o, "apparent_bytes", (double)t->apparent_bytes);
	cJSON_AddNumberToObject(o, "allocated_bytes", (double)t->allocated_bytes);
	return o;
}

cJSON *view_sandbox(const struct sandbox *sb)
{
	const struct spec *s = sb->spec;
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	cJSON_AddStringToObject(o, "id", sb->id);
	cJSON_AddStringToObject(o, "tenant", sb->tenant);
	cJSON_AddStringToObject(o, "state", state_name(sb->state));
	cJSON_AddStringToObject(o, "kernel", s->kernel);
	add_text(o, "initramfs", s->initramfs);
	cJSON_AddStringToObject(o, "cmdline", s->cmdline);
	cJSON_AddNumberToObject(o, "vcpus", s->vcpus);
	cJSON_AddNumberToObject(o, "memory_mib", s->memory_mib + s->plugged_mib);
	add_maxima(o, s);
	add_balloon(o, s);
	add_disks(o, s);
	cJSON_AddItemToObject(o, "network", view_network(s, &sb->d->config.policy));
	cJSON_AddBoolToObject(o, "vsock", s->vsock);
	add_text(o, "template", s->template);
	add_text(o, "memory_restore", spec_restore_name(s->restore));
	view_add_time(o, "created_at", sb->created_real_us);
	add_vmm(o, sb);
	/* Hibernation is no end. */
	if (sb->exit && sb->exit->cause != MSG_CAUSE_HIBERNATED)
		cJSON_AddItemToObject(o, "exit", view_exit(sb->exit));
	else
		cJSON_AddNullToObject(o, "exit");
	cJSON_AddItemToObject(o, "restart", restart_view(sb));
	add_progress(o, &sb->progress);
	add_timings(o, sb);
	if (s->labels)
		cJSON_AddItemToObject(o, "labels", cJSON_Duplicate(s->labels, 1));
	else
		cJSON_AddObjectToObject(o, "labels");
	cJSON_AddBoolToObject(o, "adopted", sb->adopted);
	return o;
}
