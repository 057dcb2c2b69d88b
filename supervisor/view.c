// SPDX-License-Identifier: Apache-2.0
#include "view.h"

#include "util.h"

static void add_time(cJSON *o, const char *name, int64_t real_us)
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
	add_time(o, "at", x->at_real_us);
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
	/* An adopted one's shim knows its own steps only. */
	if (t->total_us)
		cJSON_AddNumberToObject(times, "spawn_us", t->spawn_us);
	if (sb->vmm_pid) {
		cJSON_AddNumberToObject(times, "setup_us", t->shim.setup_us);
		cJSON_AddNumberToObject(times, "launch_us", t->shim.launch_us);
		cJSON_AddNumberToObject(times, "boot_us", t->shim.boot_us);
	}
	if (t->total_us)
		cJSON_AddNumberToObject(times, "total_us", t->total_us);
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
	if (s->initramfs)
		cJSON_AddStringToObject(o, "initramfs", s->initramfs);
	else
		cJSON_AddNullToObject(o, "initramfs");
	cJSON_AddStringToObject(o, "cmdline", s->cmdline);
	cJSON_AddNumberToObject(o, "vcpus", s->vcpus);
	cJSON_AddNumberToObject(o, "memory_mib", s->memory_mib);
	cJSON_AddBoolToObject(o, "balloon", s->balloon);
	add_time(o, "created_at", sb->created_real_us);
	add_vmm(o, sb);
	if (sb->exit)
		cJSON_AddItemToObject(o, "exit", view_exit(sb->exit));
	else
		cJSON_AddNullToObject(o, "exit");
	add_timings(o, sb);
	if (s->labels)
		cJSON_AddItemToObject(o, "labels", cJSON_Duplicate(s->labels, 1));
	else
		cJSON_AddObjectToObject(o, "labels");
	cJSON_AddBoolToObject(o, "adopted", sb->adopted);
	return o;
}
