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

/* Handlers of control_sandbox.c and control_stream.c. */
control_fn control_sandbox_info, control_sandbox_create, control_sandbox_list, control_sandbox_get,
	control_sandbox_pause, control_sandbox_resume, control_sandbox_power_button,
	control_sandbox_destroy, control_sandbox_console, control_sandbox_input,
	control_stream_events;

/* Follows a console from byte since on; answers the request. */
void control_stream_console(struct control_request *r, struct sandbox *sb, uint64_t since);

/* A query parameter as a whole number: false after answering 400. *out keeps its value if absent.
 */
bool control_query_u64(struct control_request *r, const char *name, uint64_t min, uint64_t max,
		       uint64_t *out);

#endif
