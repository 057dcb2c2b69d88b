// SPDX-License-Identifier: Apache-2.0
/* Templates, and what makes sets and starts from them: snapshot, hibernate, wake. */
#include "control.h"

#include "log.h"
#include "snapshot.h"
#include "spawner.h"
#include "util.h"
#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ operations of a sandbox */

static void done_snapshot(void *arg, const struct sandbox *sb, const struct err *why)
{
	struct evhttp_request *req = reply_take(arg);
	if (!req)
		return;
	if (why)
		reply_error(req, 0, why, sb->id);
	else
		reply_json(req, 201, view_template(sb->making));
}

void control_template_snapshot(struct control_request *r)
{
	struct err e;
	cJSON *body;
	const cJSON *name;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_request_one_field(r, "template", &body, &name))
		return;
	if (!cJSON_IsString(name) || !name_is_valid(name->valuestring)) {
		err_set(&e, ERR_INVALID, 0, "template: %s; must be a string of " NAME_RULE,
			name ? "not allowed" : "missing");
		reply_error(r->req, 422, &e, r->id);
	} else {
		struct reply *reply = control_request_hold(r);
		if (reply && snapshot_template(sb, name->valuestring, done_snapshot, reply, &e) < 0)
			control_request_refuse(reply, &e, r->id);
	}
	cJSON_Delete(body);
}

void control_template_hibernate(struct control_request *r)
{
	struct err e;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_request_is_empty(r))
		return;
	struct reply *reply = control_request_hold(r);
	if (reply && snapshot_hibernate(sb, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

void control_template_wake(struct control_request *r)
{
	struct err e;
	cJSON *body;
	const cJSON *value;
	enum msg_restore how = MSG_RESTORE_NONE;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb || !control_request_one_field(r, "memory_restore", &body, &value))
		return;
	int rc = value ? spec_read_restore(value, false, &how, &e) : 0;
	cJSON_Delete(body);
	if (rc < 0) {
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	struct reply *reply = control_request_hold(r);
	if (reply && sandbox_wake(sb, how, control_request_done, reply, &e) < 0)
		control_request_refuse(reply, &e, r->id);
}

/* ------------------------------------------------------------------ templates */

/* One that does not exist and one of somebody else get the same answer, byte for byte. */
static struct template *find(struct control_request *r)
{
	char key[NAME_KEY_SIZE];
	struct err e;
	struct template *t = NULL;
	if (name_key_make(key, r->tenant, r->id))
		t = template_find(&r->d->templates, key);
	if (t)
		return t;
	err_set(&e, ERR_NOT_FOUND, 0, "there is no such template%s",
		r->all_tenants ? "; name another tenant's with ?tenant=" : "");
	reply_error(r->req, 404, &e, NULL);
	return NULL;
}

void control_template_list(struct control_request *r)
{
	cJSON *o = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(o, "templates");
	const struct template *t;
	TAILQ_FOREACH(t, &r->d->templates.list, entry)
	if (t->spec && !t->removing && (r->all_tenants || strcmp(t->tenant, r->tenant) == 0))
		cJSON_AddItemToArray(list, view_template(t));
	reply_json(r->req, 200, list ? o : NULL);
}

void control_template_get(struct control_request *r)
{
	const struct template *t = find(r);
	if (t)
		reply_json(r->req, 200, view_template(t));
}

/* After an import: the spawner lists what lies on disk again; what is known stays as it is. */
void control_template_rescan(struct control_request *r)
{
	struct err e;
	if (!r->peer.admin) {
		err_set(&e, ERR_INVALID, 0, "only an admin may ask for this");
		reply_error(r->req, 403, &e, NULL);
		return;
	}
	spawner_list_templates(r->d->spawner);
	reply_json(r->req, 202, cJSON_CreateObject());
}

struct removal {
	struct daemon *d;
	struct template *t;
	struct reply *reply;
};

static void tell_removed(struct daemon *d, const struct template *t)
{
	char tenant[NAME_SIZE], parent[NAME_SIZE];
	name_key_split(t->parent, tenant, parent);
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "template", t->name);
	cJSON_AddStringToObject(more, "action", "deleted");
	log_info("%s: template removed", t->key);
	events_emit(&d->events, parent, t->tenant, "template", more);
}

static void on_removed(void *arg, struct msg *m, const struct err *why)
{
	struct removal *job = arg;
	struct template *t = job->t;
	struct evhttp_request *req = reply_take(job->reply);
	(void)m;
	t->removing = false;
	/* Somebody else removed it: it is gone, as was asked. */
	if (why && why->kind == ERR_NOT_FOUND)
		why = NULL;
	if (req && why)
		reply_error(req, 0, why, NULL);
	else if (req)
		reply_json(req, 200, view_template(t));
	if (!why) {
		tell_removed(job->d, t);
		template_forget(t);
	}
	free(job);
}

void control_template_remove(struct control_request *r)
{
	struct err e;
	struct template *t = find(r);
	if (!t || !control_request_is_empty(r))
		return;
	if (template_check_unused(t, &e) < 0) {
		reply_error(r->req, 0, &e, NULL);
		return;
	}
	struct removal *job = calloc(1, sizeof(*job));
	if (!job) {
		err_errno(&e, ENOMEM, "no memory to remove a template");
		reply_error(r->req, 0, &e, NULL);
		return;
	}
	*job = (struct removal){.d = r->d, .t = t, .reply = control_request_hold(r)};
	if (!job->reply) {
		free(job);
		return;
	}
	if (spawner_remove_set(r->d->spawner, MSG_REMOVE_TEMPLATE, t->key, on_removed, job, &e) <
	    0) {
		control_request_refuse(job->reply, &e, NULL);
		free(job);
		return;
	}
	t->removing = true;
}
