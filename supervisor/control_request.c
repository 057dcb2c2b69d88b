// SPDX-License-Identifier: Apache-2.0
/* What the handlers of all routes do with their requests. */
#include "control.h"

#include "json.h"
#include "util.h"
#include "view.h"

#include <errno.h>
#include <event2/buffer.h>
#include <string.h>

/* One that does not exist and one of somebody else get the same answer, byte for byte. */
struct sandbox *control_request_sandbox(struct control_request *r)
{
	char key[NAME_KEY_SIZE];
	struct err e;
	struct sandbox *sb = NULL;
	if (name_key_make(key, r->tenant, r->id))
		sb = registry_find(&r->d->registry, key);
	if (sb)
		return sb;
	err_set(&e, ERR_NOT_FOUND, 0, "there is no such sandbox%s",
		r->all_tenants ? "; name another tenant's with ?tenant=" : "");
	reply_error(r->req, 404, &e, NULL);
	return NULL;
}

const char *control_request_body(struct control_request *r, size_t *length)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(r->req);
	*length = evbuffer_get_length(in);
	const void *data = evbuffer_pullup(in, -1);
	return data ? data : "";
}

bool control_request_one_field(struct control_request *r, const char *field, cJSON **body,
			       const cJSON **value)
{
	size_t length;
	struct err e;
	const char *text = control_request_body(r, &length);
	*body = NULL;
	*value = NULL;
	if (!length)
		return true;
	*body = json_parse_object(text, length, &e);
	if (!*body) {
		reply_error(r->req, 400, &e, r->id);
		return false;
	}
	for (const cJSON *v = (*body)->child; v; v = v->next) {
		if (field && strcmp(v->string, field) == 0) {
			*value = v;
			continue;
		}
		err_set(&e, ERR_INVALID, 0, "unknown field \"%.80s\": this takes %s%s", v->string,
			field ? field : "none", field ? " only" : "");
		str_clean(e.text);
		reply_error(r->req, 422, &e, r->id);
		cJSON_Delete(*body);
		return false;
	}
	return true;
}

bool control_request_is_empty(struct control_request *r)
{
	cJSON *body;
	const cJSON *value;
	if (!control_request_one_field(r, NULL, &body, &value))
		return false;
	cJSON_Delete(body);
	return true;
}

struct reply *control_request_hold(struct control_request *r)
{
	struct err e;
	struct reply *reply = reply_hold(r->req);
	if (!reply) {
		err_errno(&e, ENOMEM, "no memory to wait");
		reply_error(r->req, 0, &e, r->id);
	}
	return reply;
}

void control_request_refuse(struct reply *reply, const struct err *e, const char *id)
{
	struct evhttp_request *req = reply_take(reply);
	if (req)
		reply_error(req, 0, e, id);
}

void control_request_answer(struct reply *reply, int status, const struct sandbox *sb,
			    const struct err *why)
{
	struct evhttp_request *req = reply_take(reply);
	if (!req)
		return;
	if (why)
		reply_error(req, 0, why, sb->id);
	else
		reply_json(req, status, view_sandbox(sb));
}

void control_request_done(void *arg, const struct sandbox *sb, const struct err *why)
{
	control_request_answer(arg, 200, sb, why);
}
