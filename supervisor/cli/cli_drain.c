// SPDX-License-Identifier: Apache-2.0
#include "cli_drain.h"

#include "cli_output.h"
#include "cli_request.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 200

static double number_of(const cJSON *o, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* One call; the state as the supervisor tells it, or NULL with *code set. */
static cJSON *call(const struct cli_options *o, const char *method, const char *text, int *code,
		   struct cli_answer *a)
{
	struct cli_options host = *o;
	struct cli_target t;
	const struct cli_body body = {"application/json", text, text ? strlen(text) : 0};
	host.tenant = NULL; /* it is about the host */
	cli_target_make(&t, &host, "/v1/drain", NULL, NULL);
	*code = cli_request_call(o, method, &t, text ? &body : NULL, 0, a);
	if (*code == CLI_EXIT_NOT_FOUND)
		*code = CLI_EXIT_FAILED;
	if (*code != CLI_EXIT_OK)
		return NULL;
	cJSON *state = cli_output_parse(a->body, a->length);
	if (!state) {
		*code = CLI_EXIT_FAILED;
		cli_answer_clear(a);
	}
	return state;
}

static void print_failures(const cJSON *state)
{
	const cJSON *f;
	cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(state, "failed"))
	{
		fputs("cloister: ", stderr);
		cli_output_text(stderr, cli_output_string(f, "tenant", "?"));
		fputc(':', stderr);
		cli_output_text(stderr, cli_output_string(f, "sandbox", "?"));
		fputs(": ", stderr);
		cli_output_text(stderr, cli_output_string(f, "detail", ""));
		fputc('\n', stderr);
	}
}

/* One line, when it differs from the last one. */
static void print_progress(const cJSON *state, char last[128])
{
	char line[128];
	snprintf(line, sizeof(line), "%.20s: %.0f in flight, %.0f left, %.0f done",
		 cli_output_string(state, "state", "?"), number_of(state, "in_flight"),
		 number_of(state, "left"), number_of(state, "done"));
	if (strcmp(line, last) == 0)
		return;
	str_copy(last, 128, line);
	cli_output_text(stdout, line);
	putchar('\n');
	fflush(stdout);
}

static void show(const struct cli_options *o, const cJSON *state, const struct cli_answer *a)
{
	if (o->json)
		cli_output_json(a->body, a->length);
	else
		cli_output_flat(state);
}

/* Shown once; of a drain that is under way nothing more is known yet. */
static int show_once(const struct cli_options *o, const char *method, const char *text)
{
	struct cli_answer a;
	int code;
	cJSON *state = call(o, method, text, &code, &a);
	if (!state)
		return code;
	show(o, state, &a);
	cJSON_Delete(state);
	cli_answer_clear(&a);
	return CLI_EXIT_OK;
}

static int follow(const struct cli_options *o, const char *text)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	struct cli_answer a;
	char last[128] = "";
	int code;
	/* The supervisor has a deadline of its own, so this comes to an end. */
	for (cJSON *state = call(o, "POST", text, &code, &a); state;
	     state = call(o, "GET", NULL, &code, &a)) {
		const char *word = cli_output_string(state, "state", "off");
		bool working = strcmp(word, "working") == 0;
		bool done = strcmp(word, "done") == 0;
		if (!o->json)
			print_progress(state, last);
		else if (!working)
			cli_output_json(a.body, a.length);
		if (!working && !done)
			print_failures(state);
		if (strcmp(word, "off") == 0)
			fputs("cloister: somebody has undone the drain\n", stderr);
		cJSON_Delete(state);
		cli_answer_clear(&a);
		if (!working)
			return done ? CLI_EXIT_OK : CLI_EXIT_FAILED;
		nanosleep(&pause, NULL);
	}
	return code;
}

int cli_drain_command(const struct cli_options *o)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "{\"then\":\"%s\"",
			 o->drain_hibernate ? "hibernate"
			 : o->drain_destroy ? "destroy"
					    : "nothing");
	bool wishes = o->drain_hibernate || o->drain_destroy || o->drain_wait_s || o->grace_s ||
		      o->no_wait;
	if (o->drain_hibernate && o->drain_destroy)
		return cli_usage_error("drain: --hibernate or --destroy, not both");
	if (o->grace_s && !o->drain_destroy)
		return cli_usage_error("drain: --grace goes with --destroy");
	if ((o->drain_undo || o->drain_status) && (wishes || (o->drain_undo && o->drain_status)))
		return cli_usage_error("drain: --undo and --status go without other options");
	if (o->drain_undo)
		return show_once(o, "DELETE", NULL);
	if (o->drain_status)
		return show_once(o, "GET", NULL);
	if (o->drain_wait_s)
		n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"wait_s\":%u",
			      o->drain_wait_s);
	if (o->grace_s)
		n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"grace_s\":%u", o->grace_s);
	snprintf(text + n, sizeof(text) - (size_t)n, "}");
	return o->no_wait ? show_once(o, "POST", text) : follow(o, text);
}
