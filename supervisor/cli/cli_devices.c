// SPDX-License-Identifier: Apache-2.0
#include "cli_devices.h"

#include "cli_output.h"
#include "cli_request.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static double number_of(const cJSON *box, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(box, name);
	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Sends text and gives the sandbox, NULL where there is nothing left to show; *code is set. */
static cJSON *change(const struct cli_options *o, const char *action, const char *text, int *code)
{
	struct cli_target t;
	struct cli_answer a;
	cJSON *box = NULL;
	const struct cli_body body = {"application/json", text, strlen(text)};
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], action);
	*code = cli_request_call(o, "POST", &t, &body, 0, &a);
	if (*code != CLI_EXIT_OK)
		return NULL;
	if (o->json)
		cli_output_json(a.body, a.length);
	else if ((box = cli_output_parse(a.body, a.length)) == NULL)
		*code = CLI_EXIT_FAILED;
	cli_answer_clear(&a);
	return box;
}

int cli_devices_balloon(const struct cli_options *o)
{
	char text[64];
	uint64_t mib;
	int code;
	if (cli_request_check_id(o->args[0]) != CLI_EXIT_OK)
		return CLI_EXIT_USAGE;
	if (!str_to_u64(o->args[1], 0, UINT32_MAX, &mib))
		return cli_usage_error("balloon: \"%s\" is not a whole number of MiB", o->args[1]);
	snprintf(text, sizeof(text), "{\"target_mib\":%" PRIu64 "}", mib);
	cJSON *box = change(o, "balloon", text, &code);
	if (box) {
		cli_output_text(stdout, cli_output_string(box, "id", "?"));
		printf(" balloon %.0fM\n", number_of(box, "balloon_target_mib"));
	}
	cJSON_Delete(box);
	return code;
}

int cli_devices_resize(const struct cli_options *o)
{
	char text[96];
	int code;
	if (cli_request_check_id(o->args[0]) != CLI_EXIT_OK)
		return CLI_EXIT_USAGE;
	if (o->vcpus && o->memory_mib)
		snprintf(text, sizeof(text), "{\"vcpus\":%u,\"memory_mib\":%u}", o->vcpus,
			 o->memory_mib);
	else if (o->vcpus)
		snprintf(text, sizeof(text), "{\"vcpus\":%u}", o->vcpus);
	else if (o->memory_mib)
		snprintf(text, sizeof(text), "{\"memory_mib\":%u}", o->memory_mib);
	else
		return cli_usage_error("resize: --vcpus N, --memory SIZE or both are needed");
	cJSON *box = change(o, "resize", text, &code);
	if (box) {
		cli_output_text(stdout, cli_output_string(box, "id", "?"));
		printf(" vcpus %.0f memory %.0fM\n", number_of(box, "vcpus"),
		       number_of(box, "memory_mib"));
	}
	cJSON_Delete(box);
	return code;
}
