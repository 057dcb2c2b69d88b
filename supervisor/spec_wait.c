// SPDX-License-Identifier: Apache-2.0
#include "spec_wait.h"

#include "json.h"
#include "util.h"

#include <string.h>

#define TIMEOUT_S 60

static int refuse(const char *at, const cJSON *v, const char *rule, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s.%s: %s is not allowed; must be %s", at, v->string,
		       shown, rule);
}

static int take_port(uint32_t *port, const char *at, const cJSON *v, uint32_t max, struct err *e)
{
	if (json_u32(v, 1, max, port))
		return 0;
	return refuse(at, v,
		      max > UINT16_MAX ? "a whole number of 1 to 4294967294"
				       : "a whole number of 1 to 65535",
		      e);
}

/* Printable ASCII of 1 to MSG_WAIT_TEXT_MAX - 1 bytes; without blanks where that says so. */
static bool take_text(char text[MSG_WAIT_TEXT_MAX], const cJSON *v, char first)
{
	if (!cJSON_IsString(v) || !v->valuestring[0])
		return false;
	for (const char *c = v->valuestring; *c; c++)
		if (*c < first || *c > '~')
			return false;
	return str_copy(text, MSG_WAIT_TEXT_MAX, v->valuestring);
}

static int take_tcp(struct msg_wait *w, const cJSON *v, struct err *e)
{
	w->kind = MSG_WAIT_TCP;
	return take_port(&w->port, "wait_for", v, UINT16_MAX, e);
}

static int take_vsock(struct msg_wait *w, const cJSON *v, struct err *e)
{
	w->kind = MSG_WAIT_VSOCK;
	return take_port(&w->port, "wait_for", v, UINT32_MAX - 1, e);
}

static int take_console(struct msg_wait *w, const cJSON *v, struct err *e)
{
	w->kind = MSG_WAIT_CONSOLE;
	if (take_text(w->text, v, ' '))
		return 0;
	return refuse("wait_for", v, "a string of 1 to 127 printable ASCII characters", e);
}

static int take_http_member(struct msg_wait *w, const cJSON *v, struct err *e)
{
	const char *at = "wait_for.http";
	if (strcmp(v->string, "port") == 0)
		return take_port(&w->port, at, v, UINT16_MAX, e);
	if (strcmp(v->string, "path") == 0) {
		if (take_text(w->text, v, '!') && w->text[0] == '/')
			return 0;
		return refuse(at, v,
			      "a path from \"/\" on, of at most 127 printable ASCII characters "
			      "without blanks",
			      e);
	}
	if (strcmp(v->string, "status") == 0) {
		if (cJSON_IsNull(v) || json_u32(v, 100, 599, &w->status))
			return 0;
		return refuse(at, v, "a whole number of 100 to 599", e);
	}
	err_set(e, ERR_INVALID, 0, "%s: unknown field \"%.80s\"", at, v->string);
	str_clean(e->text);
	return -1;
}

static int take_http(struct msg_wait *w, const cJSON *v, struct err *e)
{
	w->kind = MSG_WAIT_HTTP;
	str_copy(w->text, sizeof(w->text), "/");
	if (!cJSON_IsObject(v))
		return refuse("wait_for", v, "an object with port, path and status", e);
	for (const cJSON *m = v->child; m; m = m->next)
		if (take_http_member(w, m, e) < 0)
			return -1;
	if (!w->port)
		return err_set(e, ERR_INVALID, 0,
			       "wait_for.http.port: missing; must be the guest's port that is "
			       "asked");
	return 0;
}

static int take_timeout(struct msg_wait *w, const cJSON *v, struct err *e)
{
	uint32_t seconds;
	if (!json_u32(v, 1, MSG_WAIT_MS_MAX / 1000, &seconds))
		return refuse("wait_for", v, "a whole number of 1 to 3600", e);
	w->timeout_ms = seconds * 1000;
	return 0;
}

static const struct {
	const char *name;
	int (*take)(struct msg_wait *w, const cJSON *v, struct err *e);
} members[] = {
	{"tcp", take_tcp},	   {"http", take_http},		{"vsock", take_vsock},
	{"console", take_console}, {"timeout_s", take_timeout},
};

#define ONE_OF "one of tcp, http, vsock and console"

static int take_member(struct msg_wait *w, const cJSON *v, struct err *e)
{
	uint32_t before = w->kind;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		if (strcmp(members[i].name, v->string) != 0)
			continue;
		if (cJSON_IsNull(v))
			return 0;
		if (before != MSG_WAIT_NONE && members[i].take != take_timeout)
			return err_set(e, ERR_INVALID, 0,
				       "wait_for: has several of them; must "
				       "have " ONE_OF);
		return members[i].take(w, v, e);
	}
	err_set(e, ERR_INVALID, 0, "wait_for: unknown field \"%.80s\"", v->string);
	str_clean(e->text);
	return -1;
}

int spec_wait_read(struct spec *s, const cJSON *v, struct err *e)
{
	struct msg_wait *w = &s->wait;
	if (cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsObject(v)) {
		char shown[96];
		json_show(v, shown, sizeof(shown));
		return err_set(
			e, ERR_INVALID, 0,
			"wait_for: %s is not allowed; must be null or an object with " ONE_OF,
			shown);
	}
	w->timeout_ms = TIMEOUT_S * 1000;
	for (const cJSON *m = v->child; m; m = m->next)
		if (take_member(w, m, e) < 0)
			return -1;
	if (w->kind == MSG_WAIT_NONE)
		return err_set(e, ERR_INVALID, 0,
			       "wait_for: does not say for what; must have " ONE_OF);
	return 0;
}

int spec_wait_check(const struct spec *s, struct err *e)
{
	uint32_t kind = s->wait.kind;
	const char *from = s->template ? "; the template's guest has none" : "";
	if ((kind == MSG_WAIT_TCP || kind == MSG_WAIT_HTTP) && !s->networked)
		return err_set(e, ERR_INVALID, 0, "wait_for.%s: is not possible without network%s",
			       kind == MSG_WAIT_TCP ? "tcp" : "http", from);
	if (kind == MSG_WAIT_VSOCK && !s->vsock)
		return err_set(e, ERR_INVALID, 0,
			       "wait_for.vsock: is not possible without a vsock device%s",
			       s->template ? from : "; add \"vsock\": true");
	return 0;
}
