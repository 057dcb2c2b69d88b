// SPDX-License-Identifier: Apache-2.0
/* Answers of the control API: JSON, or problem details (RFC 9457) for errors. */
#ifndef SUPERVISOR_REPLY_H
#define SUPERVISOR_REPLY_H

#include "err.h"

#include <cjson/cJSON.h>
#include <event2/http.h>

/* Sends a JSON answer; body is taken over. NULL becomes a 500: there was no memory for it. */
void reply_json(struct evhttp_request *req, int status, cJSON *body);

/* Sends bytes as text/plain. */
void reply_bytes(struct evhttp_request *req, const char *data, size_t length);

/* Sends a problem; status 0: the one of e->kind. sandbox: its id, or NULL. */
void reply_error(struct evhttp_request *req, int status, const struct err *e, const char *sandbox);

/* The body of a problem; the caller frees it. NULL: no memory. */
cJSON *reply_problem(int status, const struct err *e, const char *sandbox);

/* The HTTP status that a kind of error stands for. */
int reply_status(enum err_kind kind);

/* A request that is answered later, though its client may go away before. */
struct reply;
struct reply *reply_hold(struct evhttp_request *req);

/* Gives the request back to be answered now, or NULL: the client is gone. Frees r. */
struct evhttp_request *reply_take(struct reply *r);

#endif
