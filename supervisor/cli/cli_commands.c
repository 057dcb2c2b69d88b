// SPDX-License-Identifier: Apache-2.0
#include "cli_check.h"
#include "cli_connect.h"
#include "cli_debug.h"
#include "cli_devices.h"
#include "cli_drain.h"
#include "cli_image.h"
#include "cli_output.h"
#include "cli_request.h"
#include "cli_run.h"
#include "cli_spec.h"
#include "cli_stream.h"
#include "cli_template.h"
#include "util.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int command_create(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	CLEANUP_FREE char *body = NULL;
	size_t length;
	int code = cli_spec_make(o, &body, &length);
	if (code != CLI_EXIT_OK)
		return code;
	cli_target_make(&t, o, "/v1/sandboxes", NULL, NULL);
	if (o->no_wait)
		cli_target_add(&t, "wait", "none");
	struct cli_body b = {.type = "application/json", .data = body, .length = length};
	int64_t start = clock_us();
	code = cli_request_call(o, "POST", &t, &b, cli_spec_extra_s(o), &a);
	if (code != CLI_EXIT_OK)
		return code == CLI_EXIT_NOT_FOUND ? CLI_EXIT_FAILED : code;
	int64_t took = clock_us() - start;
	cJSON *box = NULL;
	if (o->json) {
		cli_output_json(a.body, a.length);
	} else if ((box = cli_output_parse(a.body, a.length)) == NULL) {
		code = CLI_EXIT_FAILED;
	} else {
		char text[32];
		cli_output_duration((double)took, text, sizeof(text));
		cli_output_text(stdout, cli_output_string(box, "id", "?"));
		putchar('\n');
		fflush(stdout);
		/* On standard error, so that $(cloister create ...) is the id alone. */
		fputs("cloister: ", stderr);
		cli_output_text(stderr, cli_output_string(box, "state", "?"));
		fprintf(stderr, " after %s\n", text);
	}
	cJSON_Delete(box);
	cli_answer_clear(&a);
	return code;
}

static int command_ls(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	cli_target_make(&t, o, "/v1/sandboxes", NULL, NULL);
	if (o->state)
		cli_target_add(&t, "state", o->state);
	for (unsigned i = 0; i < o->label_count; i++)
		cli_target_add(&t, "label", o->labels[i]);
	int code = cli_request_call(o, "GET", &t, NULL, 0, &a);
	if (code != CLI_EXIT_OK)
		return code == CLI_EXIT_NOT_FOUND ? CLI_EXIT_FAILED : code;
	cJSON *list = NULL;
	if (o->json)
		cli_output_json(a.body, a.length);
	else if ((list = cli_output_parse(a.body, a.length)) == NULL)
		code = CLI_EXIT_FAILED;
	else
		cli_output_table(cJSON_GetObjectItemCaseSensitive(list, "sandboxes"));
	cJSON_Delete(list);
	cli_answer_clear(&a);
	return code;
}

/* How the answer to a call for one sandbox is shown. */
enum show { SHOW_ALL, SHOW_STATE, SHOW_DESTROYED };

static int show_one(const struct cli_options *o, enum show show, const struct cli_answer *a)
{
	if (o->json) {
		cli_output_json(a->body, a->length);
		return CLI_EXIT_OK;
	}
	cJSON *box = cli_output_parse(a->body, a->length);
	if (!box)
		return CLI_EXIT_FAILED;
	if (show == SHOW_ALL) {
		cli_output_flat(box);
	} else {
		cli_output_text(stdout, cli_output_string(box, "id", "?"));
		putchar(' ');
		cli_output_text(stdout, show == SHOW_DESTROYED
						? "destroyed"
						: cli_output_string(box, "state", "?"));
		putchar('\n');
	}
	cJSON_Delete(box);
	return CLI_EXIT_OK;
}

/* One call for each id given; the first failure is the exit code, the others are still tried. */
static int each(const struct cli_options *o, const char *method, const char *action, enum show show)
{
	int first = CLI_EXIT_OK;
	for (int i = 0; i < o->arg_count; i++)
		if (cli_request_check_id(o->args[i]) != CLI_EXIT_OK)
			return CLI_EXIT_USAGE;
	for (int i = 0; i < o->arg_count; i++) {
		struct cli_target t;
		struct cli_answer a;
		cli_target_make(&t, o, "/v1/sandboxes", o->args[i], action);
		if (show == SHOW_DESTROYED && o->grace_s > 0)
			cli_target_add_u64(&t, "grace_s", o->grace_s);
		int code = cli_request_call(o, method, &t, NULL, o->grace_s, &a);
		if (code == CLI_EXIT_OK) {
			if (show == SHOW_ALL && i > 0 && !o->json)
				putchar('\n');
			code = show_one(o, show, &a);
			cli_answer_clear(&a);
		}
		if (first == CLI_EXIT_OK)
			first = code;
		if (code == CLI_EXIT_UNREACHABLE)
			break;
	}
	return first;
}

static int command_inspect(const struct cli_options *o)
{
	return each(o, "GET", NULL, SHOW_ALL);
}

static int command_pause(const struct cli_options *o)
{
	return each(o, "POST", "pause", SHOW_STATE);
}

static int command_resume(const struct cli_options *o)
{
	return each(o, "POST", "resume", SHOW_STATE);
}

static int command_power_button(const struct cli_options *o)
{
	return each(o, "POST", "power-button", SHOW_STATE);
}

static int command_counters(const struct cli_options *o)
{
	return each(o, "GET", "counters", SHOW_ALL);
}

static int command_destroy(const struct cli_options *o)
{
	return each(o, "DELETE", NULL, SHOW_DESTROYED);
}

static int get_info(const struct cli_options *o, struct cli_answer *a)
{
	struct cli_options all = *o;
	struct cli_target t;
	all.tenant = NULL; /* it is about the host */
	cli_target_make(&t, &all, "/v1/info", NULL, NULL);
	int code = cli_request_call(o, "GET", &t, NULL, 0, a);
	return code == CLI_EXIT_NOT_FOUND ? CLI_EXIT_FAILED : code;
}

static int command_info(const struct cli_options *o)
{
	struct cli_answer a;
	int code = get_info(o, &a);
	if (code == CLI_EXIT_OK)
		code = show_one(o, SHOW_ALL, &a);
	cli_answer_clear(&a);
	return code;
}

static int command_version(const struct cli_options *o)
{
	printf(o->json ? "{\"version\":\"%s\"}\n" : "cloister %s\n", CLOISTER_VERSION);
	return CLI_EXIT_OK;
}

static int command_help(const struct cli_options *o)
{
	if (o->arg_count == 0) {
		cli_options_help(NULL);
		return CLI_EXIT_OK;
	}
	const struct cli_command *c = cli_command_find(o->args[0]);
	if (!c)
		return cli_usage_error("there is no command \"%s\" (see: cloister help)",
				       o->args[0]);
	cli_options_help(c);
	return CLI_EXIT_OK;
}

const struct cli_command cli_commands[] = {
	{"create", "", 0, 0, command_create, "Make a sandbox and start its guest."},
	{"run", "", 0, 0, cli_run_command,
	 "Run a sandbox in the foreground, from its start to its end."},
	{"ls", "", 0, 0, command_ls, "List sandboxes."},
	{"inspect", "ID...", 1, INT_MAX, command_inspect, "Show all that is known of a sandbox."},
	{"pause", "ID...", 1, INT_MAX, command_pause, "Stop a guest's virtual CPUs."},
	{"resume", "ID...", 1, INT_MAX, command_resume, "Let a paused guest go on."},
	{"power-button", "ID...", 1, INT_MAX, command_power_button,
	 "Press the guest's ACPI power button."},
	{"balloon", "ID MIB", 2, 2, cli_devices_balloon,
	 "Say how much memory a guest's balloon is to hold."},
	{"resize", "ID", 1, 1, cli_devices_resize, "Change a guest's vCPUs or memory."},
	{"counters", "ID...", 1, INT_MAX, command_counters,
	 "Show what a guest's devices have counted."},
	{"debug", "ID", 1, 1, cli_debug_command,
	 "Show what a sandbox's shim knows of itself and its VMM."},
	{"snapshot", "ID NAME", 2, 2, cli_template_snapshot,
	 "Make a template of a sandbox, which goes on."},
	{"hibernate", "ID...", 1, INT_MAX, cli_template_hibernate,
	 "Write a guest to disk and end its VMM."},
	{"wake", "ID...", 1, INT_MAX, cli_template_wake, "Let a hibernated guest go on."},
	{"templates", "[ls | inspect NAME... | rm NAME... | import NAME DIR]", 0, INT_MAX,
	 cli_template_manage, "List, show, remove or import templates."},
	{"image", "[ls [KIND] | inspect KIND NAME | import KIND NAME FILE | rm KIND NAME]", 0, 4,
	 cli_image_manage, "List, show, import or remove images, as root."},
	{"destroy", "ID...", 1, INT_MAX, command_destroy, "End a sandbox and forget it."},
	{"console", "ID", 1, 1, cli_stream_console, "Print what a guest wrote, or send it input."},
	{"logs", "ID", 1, 1, cli_stream_console, "The same as console."},
	{"connect", "ID PORT", 2, 2, cli_connect_command,
	 "Join standard input and output with a vsock port of a guest."},
	{"events", "", 0, 0, cli_stream_events, "Print what happens, as it happens."},
	{"drain", "", 0, 0, cli_drain_command,
	 "Take no new work, wait for what is under way, hibernate or destroy the rest."},
	{"info", "", 0, 0, command_info, "Show versions, capacity and what the host enforces."},
	{"check", "", 0, 0, cli_check, "Show what on the host is not as it should be, for admins."},
	{"help", "[COMMAND]", 0, 1, command_help, "Print help."},
	{"version", "", 0, 0, command_version, "Print the version."},
	{0},
};
