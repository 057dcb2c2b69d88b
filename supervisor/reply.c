// SPDX-License-Identifier: Apache-2.0
#include "reply.h"

#include "log.h"
#include "util.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reply {
	struct evhttp_request *req; /* NULL: the client is gone */
};

static const struct {
	int status;
	enum err_kind kind; /* ERR_NONE: no kind stands for it */
	const char *word;
	const char *title;
} statuses[] = {
	{400, ERR_NONE, "bad-request", "Not a valid request"},
	{403, ERR_NONE, "forbidden", "No tenant for this peer"},
	{404, ERR_NOT_FOUND, "not-found", "No such thing"},
	{405, ERR_NONE, "method-not-allowed", "Method not allowed"},
	{409, ERR_STATE, "conflict", "Not possible in the present state"},
	{413, ERR_NONE, "too-large", "Body too large"},
	{422, ERR_INVALID, "invalid", "A field is wrong"},
	{426, ERR_NONE, "upgrade-required", "Upgrade required"},
	{429, ERR_QUOTA, "quota", "A limit is reached"},
	{500, ERR_INTERNAL, "internal", "Internal error"},
	{502, ERR_VMM, "vmm", "The VMM refused"},
	{503, ERR_UNAVAILABLE, "unavailable", "Not possible now"},
	{504, ERR_DEADLINE, "deadline", "It took too long"},
	{507, ERR_NO_SPACE, "no-space", "No space left"},
};

int reply_status(enum err_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (kind != ERR_NONE && statuses[i].kind == kind)
			return statuses[i].status;
	return 500;
}

cJSON *reply_problem(int status, const struct err *e, const char *sandbox)
{
	char type[64];
	const char *word = "internal", *title = "Internal error";
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (statuses[i].status == status) {
			word = statuses[i].word;
			title = statuses[i].title;
		}
	}
	cJSON *o = cJSON_CreateObject();
	if (!o)
		return NULL;
	snprintf(type, sizeof(type), "urn:cloister:error:%s", word);
	cJSON_AddStringToObject(o, "type", type);
	cJSON_AddStringToObject(o, "title", title);
	cJSON_AddNumberToObject(o, "status", status);
	cJSON_AddStringToObject(o, "detail", e->text);
	if (sandbox && sandbox[0])
		cJSON_AddStringToObject(o, "sandbox", sandbox);
	return o;
}

static void add_headers(struct evhttp_request *req, const char *type)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
}

/* text is freed. HEAD gets the headers only. */
static void send_text(struct evhttp_request *req, int status, const char *type, char *text)
{
	struct evbuffer *buffer = evbuffer_new();
	add_headers(req, type);
	if (text && buffer && evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
		evbuffer_add_printf(buffer, "%s\n", text);
	/* An empty reason has evhttp use its own for the status. */
	evhttp_send_reply(req, text ? status : 500, NULL, buffer);
	if (buffer)
		evbuffer_free(buffer);
	cJSON_free(text);
}

static void send_json(struct evhttp_request *req, int status, const char *type, cJSON *body)
{
	char *text = body ? cJSON_PrintUnformatted(body) : NULL;
	cJSON_Delete(body);
	if (!text)
		log_error("no memory for an answer");
	send_text(req, status, type, text);
}

void reply_json(struct evhttp_request *req, int status, cJSON *body)
{
	send_json(req, status, "application/json", body);
}

void reply_bytes(struct evhttp_request *req, const char *data, size_t length)
{
	struct evbuffer *buffer = evbuffer_new();
	add_headers(req, "text/plain");
	if (buffer)
		evbuffer_add(buffer, data, length);
	evhttp_send_reply(req, 200, NULL, buffer);
	if (buffer)
		evbuffer_free(buffer);
}

void reply_error(struct evhttp_request *req, int status, const struct err *e, const char *sandbox)
{
	if (!status)
		status = reply_status(e->kind);
	send_json(req, status, "application/problem+json", reply_problem(status, e, sandbox));
}

static void on_client_gone(struct evhttp_connection *connection, void *arg)
{
	struct reply *r = arg;
	(void)connection;
	/* evhttp takes a request that is still in use off a broken connection and leaves it to
	 * its user; otherwise it frees it with the connection. */
	if (!evhttp_request_get_connection(r->req))
		evhttp_request_free(r->req);
	r->req = NULL;
}

struct reply *reply_hold(struct evhttp_request *req)
{
	struct reply *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->req = req;
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_client_gone, r);
	return r;
}

struct evhttp_request *reply_take(struct reply *r)
{
	struct evhttp_request *req = r->req;
	if (req)
		evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
	free(r);
	return req;
}
