// SPDX-License-Identifier: Apache-2.0
#include "cli_template.h"

#include "cli_import.h"
#include "cli_output.h"
#include "cli_request.h"
#include "util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LONG_EXTRA_S   120    /* memory is written or read: so much longer than --timeout */
#define LOOK_US	       500000 /* between two looks at how far it is */
#define LOOK_TIMEOUT_S 2

/* ------------------------------------------------------------------ long work */

/* How far it is, on the terminal's current line; nothing when there is nothing to tell. */
static void show_progress(const struct cli_options *o, const char *id, bool *shown)
{
	struct cli_options quick = *o;
	struct cli_target t;
	struct cli_call c;
	struct err e;
	char done[32], total[32];
	quick.timeout_s = LOOK_TIMEOUT_S;
	cli_target_make(&t, o, "/v1/sandboxes", id, NULL);
	if (cli_request_start(&quick, &c, "GET", &t, NULL, 0, &e) < 0 ||
	    cli_call_finish(&c, &e) < 0)
		return;
	cJSON *box = cJSON_ParseWithLength(c.answer.body, c.answer.length);
	const cJSON *progress = cJSON_GetObjectItemCaseSensitive(box, "progress");
	const cJSON *d = cJSON_GetObjectItemCaseSensitive(progress, "done_bytes");
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(progress, "total_bytes");
	if (cJSON_IsNumber(d) && cJSON_IsNumber(n) && n->valuedouble > 0) {
		cli_output_size(d->valuedouble, done, sizeof(done));
		cli_output_size(n->valuedouble, total, sizeof(total));
		fprintf(stderr, "\r%s: %s, %s of %s (%.0f %%)\033[K", id,
			cli_output_string(box, "state", "?"), done, total,
			100 * d->valuedouble / n->valuedouble);
		*shown = true;
	}
	cJSON_Delete(box);
	cli_answer_clear(&c.answer);
}

/* cli_request_call() that tells a waiting person how far the sandbox is. */
static int long_call(const struct cli_options *o, const char *id, const char *action,
		     const struct cli_body *body, struct cli_answer *a)
{
	struct cli_target t;
	struct cli_call c;
	struct err e;
	enum cli_http_step step;
	bool told = !o->json && isatty(STDERR_FILENO), shown = false;
	*a = (struct cli_answer){0};
	cli_target_make(&t, o, "/v1/sandboxes", id, action);
	if (cli_request_start(o, &c, "POST", &t, body, LONG_EXTRA_S, &e) < 0)
		return cli_request_broken(&e);
	while ((step = cli_call_step(&c, &e)) == CLI_HTTP_WAIT) {
		int64_t left = c.deadline_us - clock_us();
		int ready = cli_http_wait(&c.http,
					  left < 0	   ? 0
					  : left < LOOK_US ? left
							   : LOOK_US,
					  &e);
		if (ready < 0) {
			cli_call_close(&c);
			step = CLI_HTTP_FAILED;
			break;
		}
		if (!ready && told)
			show_progress(o, id, &shown);
	}
	if (shown)
		fputs("\r\033[K", stderr);
	if (step == CLI_HTTP_FAILED)
		return cli_request_broken(&e);
	if (c.answer.status >= 200 && c.answer.status < 300) {
		*a = c.answer;
		return CLI_EXIT_OK;
	}
	int code = cli_request_refused(o, c.answer.status, c.answer.body, c.answer.length);
	cli_answer_clear(&c.answer);
	return code;
}

/* {"key":"value"}, to be freed with cJSON_free(); NULL after a complaint. */
static char *one_field(const char *key, const char *value)
{
	cJSON *root = cJSON_CreateObject();
	char *text =
		cJSON_AddStringToObject(root, key, value) ? cJSON_PrintUnformatted(root) : NULL;
	cJSON_Delete(root);
	if (!text)
		fputs("cloister: no memory for the request\n", stderr);
	return text;
}

/* ------------------------------------------------------------------ snapshot, hibernate, wake */

int cli_template_snapshot(const struct cli_options *o)
{
	struct cli_answer a;
	char size[32], took[32];
	if (cli_request_check_id(o->args[0]) != CLI_EXIT_OK ||
	    cli_request_check_name("template", o->args[1]) != CLI_EXIT_OK)
		return CLI_EXIT_USAGE;
	char *text = one_field("template", o->args[1]);
	if (!text)
		return CLI_EXIT_FAILED;
	const struct cli_body body = {"application/json", text, strlen(text)};
	int64_t start = clock_us();
	int code = long_call(o, o->args[0], "snapshot", &body, &a);
	cJSON_free(text);
	if (code != CLI_EXIT_OK)
		return code;
	cJSON *t = NULL;
	if (o->json) {
		cli_output_json(a.body, a.length);
	} else if ((t = cli_output_parse(a.body, a.length)) == NULL) {
		code = CLI_EXIT_FAILED;
	} else {
		const cJSON *disk = cJSON_GetObjectItemCaseSensitive(t, "allocated_bytes");
		cli_output_size(cJSON_IsNumber(disk) ? disk->valuedouble : 0, size, sizeof(size));
		cli_output_duration((double)(clock_us() - start), took, sizeof(took));
		cli_output_text(stdout, cli_output_string(t, "name", "?"));
		putchar('\n');
		fflush(stdout);
		fprintf(stderr, "cloister: %s on disk after %s\n", size, took);
	}
	cJSON_Delete(t);
	cli_answer_clear(&a);
	return code;
}

static int show_state(const struct cli_options *o, const struct cli_answer *a)
{
	if (o->json) {
		cli_output_json(a->body, a->length);
		return CLI_EXIT_OK;
	}
	cJSON *box = cli_output_parse(a->body, a->length);
	if (!box)
		return CLI_EXIT_FAILED;
	cli_output_text(stdout, cli_output_string(box, "id", "?"));
	putchar(' ');
	cli_output_text(stdout, cli_output_string(box, "state", "?"));
	putchar('\n');
	cJSON_Delete(box);
	return CLI_EXIT_OK;
}

/* All are tried; the first failure is the exit code. */
static int each(const struct cli_options *o, const char *action, const struct cli_body *body)
{
	int first = CLI_EXIT_OK;
	for (int i = 0; i < o->arg_count; i++)
		if (cli_request_check_id(o->args[i]) != CLI_EXIT_OK)
			return CLI_EXIT_USAGE;
	for (int i = 0; i < o->arg_count; i++) {
		struct cli_answer a;
		int code = long_call(o, o->args[i], action, body, &a);
		if (code == CLI_EXIT_OK)
			code = show_state(o, &a);
		cli_answer_clear(&a);
		if (first == CLI_EXIT_OK)
			first = code;
		if (code == CLI_EXIT_UNREACHABLE)
			break;
	}
	return first;
}

int cli_template_hibernate(const struct cli_options *o)
{
	return each(o, "hibernate", NULL);
}

int cli_template_wake(const struct cli_options *o)
{
	if (!o->memory_restore)
		return each(o, "wake", NULL);
	char *text = one_field("memory_restore", o->memory_restore);
	if (!text)
		return CLI_EXIT_FAILED;
	const struct cli_body body = {"application/json", text, strlen(text)};
	int code = each(o, "wake", &body);
	cJSON_free(text);
	return code;
}

/* ------------------------------------------------------------------ templates */

static int list(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	cli_target_make(&t, o, "/v1/templates", NULL, NULL);
	int code = cli_request_call(o, "GET", &t, NULL, 0, &a);
	if (code != CLI_EXIT_OK)
		return code == CLI_EXIT_NOT_FOUND ? CLI_EXIT_FAILED : code;
	cJSON *found = NULL;
	if (o->json)
		cli_output_json(a.body, a.length);
	else if ((found = cli_output_parse(a.body, a.length)) == NULL)
		code = CLI_EXIT_FAILED;
	else
		cli_output_templates(cJSON_GetObjectItemCaseSensitive(found, "templates"));
	cJSON_Delete(found);
	cli_answer_clear(&a);
	return code;
}

static int one(const struct cli_options *o, const char *name, bool removal)
{
	struct cli_target t;
	struct cli_answer a;
	cli_target_make(&t, o, "/v1/templates", name, NULL);
	int code = cli_request_call(o, removal ? "DELETE" : "GET", &t, NULL,
				    removal ? LONG_EXTRA_S : 0, &a);
	if (code != CLI_EXIT_OK)
		return code;
	cJSON *box = NULL;
	if (o->json)
		cli_output_json(a.body, a.length);
	else if (removal)
		printf("%s removed\n", name);
	else if ((box = cli_output_parse(a.body, a.length)) == NULL)
		code = CLI_EXIT_FAILED;
	else
		cli_output_flat(box);
	cJSON_Delete(box);
	cli_answer_clear(&a);
	return code;
}

int cli_template_manage(const struct cli_options *o)
{
	const char *verb = o->arg_count ? o->args[0] : "ls";
	int first = CLI_EXIT_OK;
	if (strcmp(verb, "ls") == 0 && o->arg_count <= 1)
		return list(o);
	if (strcmp(verb, "import") == 0)
		return cli_import(o);
	bool removal = strcmp(verb, "rm") == 0;
	if ((!removal && strcmp(verb, "inspect") != 0) || o->arg_count < 2)
		return cli_usage_error("usage: cloister templates [ls | inspect NAME... | "
				       "rm NAME... | import NAME DIR]");
	for (int i = 1; i < o->arg_count; i++)
		if (cli_request_check_name("template", o->args[i]) != CLI_EXIT_OK)
			return CLI_EXIT_USAGE;
	for (int i = 1; i < o->arg_count; i++) {
		int code = one(o, o->args[i], removal);
		if (i + 1 < o->arg_count && !removal && !o->json)
			putchar('\n');
		if (first == CLI_EXIT_OK)
			first = code;
		if (code == CLI_EXIT_UNREACHABLE)
			break;
	}
	return first;
}
