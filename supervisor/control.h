// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket: HTTP by libevent's evhttp, the routes of API.md section 3. What a client is
 * comes from its connection; what it may see from that.
 */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "daemon.h"
#include "reply.h"
#include "sandbox.h"
#include "tenant.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>

struct control;

/* Begins to listen on the bound socket (taken over from d->host). */
int control_open(struct daemon *d, struct err *e);

/* Stops listening; the connections that there are stay. */
void control_deafen(struct control *c);

/* Stops listening, ends all connections. */
void control_close(struct control *c);

/* What a handler gets. It must answer req, at once or later (reply_hold()). */
struct control_request {
	struct daemon *d;
	struct evhttp_request *req;
	struct tenant_peer peer;
	const char *tenant; /* whose things are meant: ?tenant= of an admin, else the peer's */
	bool all_tenants;   /* an admin that named none */
	char id[NAME_SIZE]; /* where the route has one; "" otherwise */
	struct evkeyvalq query;
};

typedef void control_fn(struct control_request *r);

/* Handlers of control_sandbox.c, control_devices.c, control_template.c, control_stream.c,
 * control_connect.c, control_debug.c, control_check.c and control_drain.c. */
control_fn control_sandbox_info, control_sandbox_create, control_sandbox_list, control_sandbox_get,
	control_sandbox_pause, control_sandbox_resume, control_sandbox_power_button,
	control_sandbox_destroy, control_sandbox_console, control_sandbox_input,
	control_devices_balloon, control_devices_resize, control_devices_counters,
	control_template_snapshot, control_template_hibernate, control_template_wake,
	control_template_list, control_template_get, control_template_remove,
	control_template_rescan, control_stream_events, control_connect, control_debug,
	control_check_look, control_check_repair, control_drain_get, control_drain_start,
	control_drain_undo;

/* The sandbox that the route names, or NULL after answering 404. */
struct sandbox *control_request_sandbox(struct control_request *r);

/* The request's body as one piece; valid as long as the request. */
const char *control_request_body(struct control_request *r, size_t *length);

/* No body, or an empty object; false after answering. */
bool control_request_is_empty(struct control_request *r);

/*
 * An object that has at most the one field, or no body at all: true, with the object in *body (the
 * caller frees it; it may be NULL) and the field's value, or NULL, in *value. False: answered.
 */
bool control_request_one_field(struct control_request *r, const char *field, cJSON **body,
			       const cJSON **value);

/* reply_hold(), or NULL after answering that there is no memory. */
struct reply *control_request_hold(struct control_request *r);

/* What was held could not be begun: the answer comes at once after all. id: NULL or a sandbox's. */
void control_request_refuse(struct reply *reply, const struct err *e, const char *id);

/* Answers what was held with the sandbox, or why not. */
void control_request_answer(struct reply *reply, int status, const struct sandbox *sb,
			    const struct err *why);

/* A sandbox_done_fn for a held 200; its argument is the struct reply. */
sandbox_done_fn control_request_done;

/* Forgets connects whose answer has not come; those that were joined went with evhttp. */
void control_connect_close(struct daemon *d);

/* Follows a console from byte since on; answers the request. */
void control_stream_console(struct control_request *r, struct sandbox *sb, uint64_t since);

/* A query parameter as a whole number: false after answering 400. *out keeps its value if absent.
 */
bool control_query_u64(struct control_request *r, const char *name, uint64_t min, uint64_t max,
		       uint64_t *out);

#endif
