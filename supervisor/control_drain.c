// SPDX-License-Identifier: Apache-2.0
/* Draining the host: for admins only. */
#include "control.h"

#include "drain.h"
#include "json.h"
#include "util.h"

#include <string.h>

static bool check_admin(struct control_request *r)
{
	struct err e;
	if (r->peer.admin)
		return true;
	err_set(&e, ERR_INVALID, 0, "only an admin may drain the host");
	reply_error(r->req, 403, &e, NULL);
	return false;
}

struct wishes {
	int then;
	uint32_t wait_s, grace_s;
};

static int take_member(struct wishes *w, const cJSON *v, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	if (strcmp(v->string, "then") == 0) {
		w->then = cJSON_IsString(v) ? drain_then_from_name(v->valuestring) : -1;
		if (w->then >= 0)
			return 0;
		return err_set(e, ERR_INVALID, 0,
			       "then: %s is not allowed; must be nothing, hibernate or destroy",
			       shown);
	}
	if (strcmp(v->string, "wait_s") == 0) {
		if (json_u32(v, 1, DRAIN_WAIT_S_MAX, &w->wait_s))
			return 0;
		return err_set(e, ERR_INVALID, 0,
			       "wait_s: %s is not allowed; must be a whole number of 1 to %d",
			       shown, DRAIN_WAIT_S_MAX);
	}
	if (strcmp(v->string, "grace_s") == 0) {
		if (json_u32(v, 0, MSG_GRACE_MS_MAX / 1000, &w->grace_s))
			return 0;
		return err_set(e, ERR_INVALID, 0,
			       "grace_s: %s is not allowed; must be a whole number of 0 to %d",
			       shown, MSG_GRACE_MS_MAX / 1000);
	}
	err_set(e, ERR_INVALID, 0, "unknown field \"%.80s\"", v->string);
	str_clean(e->text);
	return -1;
}

static int read_wishes(const cJSON *body, struct wishes *w, struct err *e)
{
	for (const cJSON *v = body ? body->child : NULL; v; v = v->next)
		if (take_member(w, v, e) < 0)
			return -1;
	if (w->grace_s && w->then != DRAIN_THEN_DESTROY)
		return err_set(e, ERR_INVALID, 0, "grace_s: goes with \"then\": \"destroy\" only");
	return 0;
}

void control_drain_get(struct control_request *r)
{
	if (check_admin(r))
		reply_json(r->req, 200, drain_view(r->d));
}

void control_drain_start(struct control_request *r)
{
	struct wishes w = {.then = DRAIN_THEN_NOTHING, .wait_s = DRAIN_WAIT_S};
	size_t length;
	struct err e;
	if (!check_admin(r))
		return;
	const char *text = control_request_body(r, &length);
	cJSON *body = length ? json_parse_object(text, length, &e) : NULL;
	if (length && !body) {
		reply_error(r->req, 400, &e, NULL);
		return;
	}
	int rc = read_wishes(body, &w, &e);
	cJSON_Delete(body);
	if (rc == 0)
		rc = drain_start(r->d, (enum drain_then)w.then, w.wait_s, w.grace_s * 1000, &e);
	if (rc < 0)
		reply_error(r->req, 0, &e, NULL);
	else
		reply_json(r->req, 202, drain_view(r->d));
}

void control_drain_undo(struct control_request *r)
{
	if (!check_admin(r) || !control_request_is_empty(r))
		return;
	drain_undo(r->d);
	reply_json(r->req, 200, drain_view(r->d));
}
