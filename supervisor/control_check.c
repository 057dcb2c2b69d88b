// SPDX-License-Identifier: Apache-2.0
/* What differs on the host, for an admin. */
#include "control.h"
#include "survey.h"

static void done(void *arg, cJSON *list, const struct err *why)
{
	struct evhttp_request *req = reply_take(arg);
	cJSON *o = cJSON_CreateObject();
	if (!o || !cJSON_AddItemToObject(o, "findings", list))
		cJSON_Delete(list);
	if (req && why)
		reply_error(req, 0, why, NULL);
	else if (req)
		reply_json(req, 200, o);
	if (!req || why)
		cJSON_Delete(o);
}

static void begin(struct control_request *r, bool repair)
{
	struct err e;
	if (!r->peer.admin) {
		err_set(&e, ERR_INVALID, 0, "only an admin may ask for this");
		reply_error(r->req, 403, &e, NULL);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (reply && survey_begin(r->d, repair, done, reply, &e) < 0)
		control_request_refuse(reply, &e, NULL);
}

void control_check_look(struct control_request *r)
{
	begin(r, false);
}

void control_check_repair(struct control_request *r)
{
	if (control_request_is_empty(r))
		begin(r, true);
}
