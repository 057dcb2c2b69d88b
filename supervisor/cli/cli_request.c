// SPDX-License-Identifier: Apache-2.0
#include "cli_request.h"

#include "cli_output.h"
#include "name.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

static void put(struct cli_target *t, const char *text, size_t len)
{
	if (len >= sizeof(t->text) - t->length) {
		t->too_long = true;
		return;
	}
	memcpy(t->text + t->length, text, len);
	t->length += len;
	t->text[t->length] = '\0';
}

void cli_target_make(struct cli_target *t, const struct cli_options *o, const char *path,
		     const char *id, const char *action)
{
	*t = (struct cli_target){0};
	put(t, path, strlen(path));
	if (id) {
		put(t, "/", 1);
		put(t, id, strlen(id));
	}
	if (action) {
		put(t, "/", 1);
		put(t, action, strlen(action));
	}
	if (o->tenant)
		cli_target_add(t, "tenant", o->tenant);
}

static void put_encoded(struct cli_target *t, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";
	for (; *text; text++) {
		char hex[4];
		if (strchr(plain, *text)) {
			put(t, text, 1);
		} else {
			snprintf(hex, sizeof(hex), "%%%02X", (unsigned char)*text);
			put(t, hex, 3);
		}
	}
}

void cli_target_add(struct cli_target *t, const char *key, const char *value)
{
	put(t, t->query ? "&" : "?", 1);
	t->query = true;
	put_encoded(t, key);
	put(t, "=", 1);
	put_encoded(t, value);
}

void cli_target_add_u64(struct cli_target *t, const char *key, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	cli_target_add(t, key, text);
}

int cli_request_broken(const struct err *e)
{
	fprintf(stderr, "cloister: %s\n", e->text);
	switch (e->kind) {
	case ERR_UNAVAILABLE:
	case ERR_DEADLINE:
		return CLI_EXIT_UNREACHABLE;
	case ERR_INVALID:
		return CLI_EXIT_USAGE;
	default:
		return CLI_EXIT_FAILED;
	}
}

static const char *text_of(const cJSON *problem, const char *key)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(problem, key);
	return cJSON_IsString(value) ? value->valuestring : NULL;
}

int cli_request_refused(const struct cli_options *o, int status, const char *body, size_t length)
{
	cJSON *problem = cJSON_ParseWithLength(body ? body : "", length);
	const char *title = text_of(problem, "title");
	const char *detail = text_of(problem, "detail");
	char plain[256] = "";
	if (o->json && title) {
		fprintf(stderr, "%.*s\n", (int)strcspn(body, "\n"), body);
	} else {
		if (!title)
			http_error_text(body ? body : "", length, plain, sizeof(plain));
		fprintf(stderr, "cloister: ");
		if (title || detail) {
			cli_output_text(stderr, title ? title : "refused");
			fputs(detail ? ": " : "", stderr);
			cli_output_text(stderr, detail ? detail : "");
		} else {
			fprintf(stderr, "the supervisor answered %d%s%s", status,
				*plain ? ": " : "", plain);
		}
		fputc('\n', stderr);
	}
	cJSON_Delete(problem);
	return status == 404 ? CLI_EXIT_NOT_FOUND : CLI_EXIT_FAILED;
}

static int check_length(const struct cli_target *t, struct err *e)
{
	if (!t->too_long)
		return 0;
	return err_set(e, ERR_INVALID, 0, "the request is too long: give fewer or shorter labels");
}

int cli_request_start_upgrade(const struct cli_options *o, struct cli_call *c,
			      const struct cli_target *t, const char *protocol, unsigned timeout_s,
			      struct err *e)
{
	*c = (struct cli_call){.http = {.fd = -1},
			       .deadline_us = clock_us() + (int64_t)timeout_s * 1000000};
	if (check_length(t, e) < 0)
		return -1;
	return cli_http_start_upgrade(&c->http, o->socket, t->text, protocol, c->deadline_us, e);
}

int cli_request_start(const struct cli_options *o, struct cli_call *c, const char *method,
		      const struct cli_target *t, const struct cli_body *body, unsigned extra_s,
		      struct err *e)
{
	static const struct cli_body none;
	if (!body)
		body = &none;
	if (check_length(t, e) < 0)
		return -1;
	int64_t timeout_us = ((int64_t)o->timeout_s + extra_s) * 1000000;
	return cli_call_start(c, o->socket, method, t->text, body->type, body->data, body->length,
			      timeout_us, e);
}

int cli_request_call(const struct cli_options *o, const char *method, const struct cli_target *t,
		     const struct cli_body *body, unsigned extra_s, struct cli_answer *a)
{
	struct cli_call c;
	struct err e;
	*a = (struct cli_answer){0};
	if (cli_request_start(o, &c, method, t, body, extra_s, &e) < 0 ||
	    cli_call_finish(&c, &e) < 0)
		return cli_request_broken(&e);
	if (c.answer.status >= 200 && c.answer.status < 300) {
		*a = c.answer;
		return CLI_EXIT_OK;
	}
	int code = cli_request_refused(o, c.answer.status, c.answer.body, c.answer.length);
	cli_answer_clear(&c.answer);
	return code;
}

int cli_request_check_id(const char *id)
{
	if (name_is_valid(id))
		return CLI_EXIT_OK;
	return cli_usage_error("\"%s\" is not a sandbox's id (%s)", id, NAME_RULE);
}

int cli_request_check_name(const char *what, const char *name)
{
	if (name_is_valid(name))
		return CLI_EXIT_OK;
	return cli_usage_error("\"%s\" is not a name of a %s (%s)", name, what, NAME_RULE);
}
