// SPDX-License-Identifier: Apache-2.0
#include "state.h"

#include "util.h"

#include <stdio.h>
#include <string.h>

static const char *const names[STATE_COUNT] = {
	[STATE_CREATING] = "creating",	     [STATE_RUNNING] = "running",
	[STATE_PAUSED] = "paused",	     [STATE_SNAPSHOTTING] = "snapshotting",
	[STATE_HIBERNATING] = "hibernating", [STATE_HIBERNATED] = "hibernated",
	[STATE_WAKING] = "waking",	     [STATE_DESTROYING] = "destroying",
	[STATE_STOPPED] = "stopped",	     [STATE_CRASHED] = "crashed",
	[STATE_FAILED] = "failed",	     [STATE_NONE] = "none",
};

static const struct row {
	enum state now;
	enum state_event event;
	struct state_step step;
} table[] = {
	{STATE_NONE, STATE_ASK_CREATE, {STATE_DO_START, STATE_CREATING}},
	{STATE_NONE, STATE_ADOPT_RUNNING, {STATE_DO_NOTHING, STATE_RUNNING}},
	{STATE_NONE, STATE_ADOPT_PAUSED, {STATE_DO_NOTHING, STATE_PAUSED}},

	{STATE_CREATING, STATE_CREATED, {STATE_DO_NOTHING, STATE_RUNNING}},
	{STATE_CREATING, STATE_CREATE_FAILED, {STATE_DO_NOTHING, STATE_FAILED}},
	{STATE_CREATING, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},

	{STATE_RUNNING, STATE_ASK_PAUSE, {STATE_DO_PAUSE, STATE_RUNNING}},
	{STATE_RUNNING, STATE_PAUSED_NOW, {STATE_DO_NOTHING, STATE_PAUSED}},
	{STATE_RUNNING, STATE_ASK_POWER_BUTTON, {STATE_DO_POWER_BUTTON, STATE_RUNNING}},
	{STATE_RUNNING, STATE_ASK_CONSOLE_INPUT, {STATE_DO_INPUT, STATE_RUNNING}},
	{STATE_RUNNING, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},
	{STATE_RUNNING, STATE_GUEST_OFF, {STATE_DO_COLLECT, STATE_STOPPED}},
	{STATE_RUNNING, STATE_VMM_LOST, {STATE_DO_COLLECT, STATE_CRASHED}},

	{STATE_PAUSED, STATE_ASK_RESUME, {STATE_DO_RESUME, STATE_PAUSED}},
	{STATE_PAUSED, STATE_RESUMED, {STATE_DO_NOTHING, STATE_RUNNING}},
	{STATE_PAUSED, STATE_ASK_CONSOLE_INPUT, {STATE_DO_INPUT, STATE_PAUSED}},
	{STATE_PAUSED, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},
	{STATE_PAUSED, STATE_GUEST_OFF, {STATE_DO_COLLECT, STATE_STOPPED}},
	{STATE_PAUSED, STATE_VMM_LOST, {STATE_DO_COLLECT, STATE_CRASHED}},
	{STATE_PAUSED, STATE_RESUME_LOST, {STATE_DO_COLLECT, STATE_FAILED}},

	{STATE_DESTROYING, STATE_DESTROYED, {STATE_DO_FORGET, STATE_NONE}},
	{STATE_DESTROYING, STATE_DESTROY_FAILED, {STATE_DO_NOTHING, STATE_FAILED}},

	{STATE_STOPPED, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},
	{STATE_CRASHED, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},
	{STATE_FAILED, STATE_ASK_DESTROY, {STATE_DO_END, STATE_DESTROYING}},
};

bool state_step(enum state now, enum state_event event, struct state_step *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].now == now && table[i].event == event) {
			*out = table[i].step;
			return true;
		}
	}
	return false;
}

const char *state_name(enum state s)
{
	return (unsigned)s < STATE_COUNT ? names[s] : "unknown";
}

int state_from_name(const char *name)
{
	for (int i = 0; i < STATE_NONE; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

void state_allowed_text(enum state_event event, char *buf, size_t size)
{
	size_t total = 0, seen = 0, used = 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		total += table[i].event == event;
	snprintf(buf, size, "no state");
	for (size_t i = 0; i < ARRAY_SIZE(table) && used < size; i++) {
		if (table[i].event != event)
			continue;
		const char *between = seen == 0 ? "" : seen + 1 == total ? " or " : ", ";
		int n = snprintf(buf + used, size - used, "%s%s", between, names[table[i].now]);
		used += n > 0 ? (size_t)n : 0;
		seen++;
	}
}

bool state_has_vmm(enum state s)
{
	return s == STATE_CREATING || s == STATE_RUNNING || s == STATE_PAUSED ||
	       s == STATE_SNAPSHOTTING || s == STATE_HIBERNATING || s == STATE_WAKING ||
	       s == STATE_DESTROYING;
}
