// SPDX-License-Identifier: Apache-2.0
/* GET /v1/sandboxes/ID/debug: for a person on a bad day. It changes nothing and waits for nothing.
 */
#include "account.h"
#include "control.h"
#include "view.h"

#include <errno.h>
#include <stdlib.h>

/* The shim answers at once, but for a moment in which it waits for a disk. */
#define ANSWER_MS 3000

struct asking {
	struct reply *reply;
	bool all; /* an admin asks */
};

static void done(void *arg, const struct sandbox *sb, const struct account_view *view,
		 const struct err *why)
{
	struct asking *a = arg;
	struct evhttp_request *req = reply_take(a->reply);
	if (req && why)
		reply_error(req, 0, why, sb->id);
	else if (req)
		reply_json(req, 200, view_debug(sb, view, a->all));
	free(a);
}

void control_debug(struct control_request *r)
{
	struct err e;
	struct sandbox *sb = control_request_sandbox(r);
	if (!sb)
		return;
	struct asking *a = malloc(sizeof(*a));
	if (!a) {
		err_errno(&e, ENOMEM, "no memory to wait");
		reply_error(r->req, 0, &e, r->id);
		return;
	}
	*a = (struct asking){.reply = control_request_hold(r), .all = r->peer.admin};
	if (a->reply)
		account_ask(sb, ANSWER_MS, done, a);
	else
		free(a);
}
