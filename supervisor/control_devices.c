// SPDX-License-Identifier: Apache-2.0
/* What can be changed and read of a running guest's devices: balloon, resize, counters. */
#include "control.h"

#include "json.h"
#include "operate.h"
#include "util.h"
#include "view.h"

#include <string.h>

/* A whole number of min..max, in steps from min on; ERR_INVALID otherwise. */
static int read_number(const cJSON *v, uint32_t min, uint32_t max, uint32_t step, uint32_t *out,
		       struct err *e)
{
	char shown[96], steps[32] = "";
	if (json_u32(v, min, max, out) && (*out - min) % step == 0)
		return 0;
	json_show(v, shown, sizeof(shown));
	if (step > 1)
		snprintf(steps, sizeof(steps), ", in steps of %u", step);
	return err_set(e, ERR_INVALID, 0,
		       "%s: %s is not allowed; must be a whole number of %u to %u%s", v->string,
		       shown, min, max, steps);
}

void control_devices_balloon(struct control_request *r)
{
	struct err e;
	cJSON *body;
	const cJSON *value;
	uint32_t target = 0;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_request_one_field(r, "target_mib", &body, &value))
		return;
	int rc =
		value ? read_number(value, 0, sb->spec->memory_mib - MSG_BALLOON_LEAVES_MIB, 1,
				    &target, &e)
		      : err_set(&e, ERR_INVALID, 0,
				"target_mib: missing; must be how many MiB the balloon is to hold");
	cJSON_Delete(body);
	if (rc < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (reply && operate_balloon(sb, target, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

static int read_resize(const struct spec *s, const cJSON *body, uint32_t *vcpus,
		       uint32_t *memory_mib, struct err *e)
{
	int rc = 0;
	for (const cJSON *v = body->child; v && rc == 0; v = v->next) {
		if (strcmp(v->string, "vcpus") == 0) {
			rc = read_number(v, 1, s->max_vcpus, 1, vcpus, e);
		} else if (strcmp(v->string, "memory_mib") == 0) {
			rc = read_number(v, s->memory_mib, s->max_memory_mib, MSG_PLUG_MIB,
					 memory_mib, e);
		} else {
			rc = err_set(e, ERR_INVALID, 0,
				     "unknown field \"%.80s\": this takes vcpus and memory_mib "
				     "only",
				     v->string);
			str_clean(e->text);
		}
	}
	if (rc == 0 && !body->child)
		return err_set(e, ERR_INVALID, 0,
			       "vcpus, memory_mib: both are missing; at least one must be there");
	return rc;
}

void control_devices_resize(struct control_request *r)
{
	struct err e;
	size_t length;
	uint32_t vcpus = 0, memory_mib = 0;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb)
		return;
	const char *text = control_request_body(r, &length);
	cJSON *body = json_parse_object(text, length, &e);
	if (!body) {
		reply_error(r->req, 400, &e, r->id);
		return;
	}
	int rc = read_resize(sb->spec, body, &vcpus, &memory_mib, &e);
	cJSON_Delete(body);
	if (rc < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (reply && operate_resize(sb, vcpus, memory_mib, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

static void done_counters(void *arg, const struct sandbox *sb, const struct err *why)
{
	struct evhttp_request *req = reply_take(arg);
	if (!req)
		return;
	if (why)
		reply_error(req, 0, why, sb->id);
	else
		reply_json(req, 200, view_counters(sb->counters));
}

void control_devices_counters(struct control_request *r)
{
	struct err e;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb)
		return;
	struct reply *reply = control_request_hold(r);
	if (reply && operate_counters(sb, done_counters, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}
