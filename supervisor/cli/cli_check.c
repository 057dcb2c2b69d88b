// SPDX-License-Identifier: Apache-2.0
#include "cli_check.h"

#include "cli_output.h"
#include "cli_request.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define REPAIR_S 600 /* sets that were left behind may be large */

static void show(const cJSON *finding)
{
	cli_output_text(stdout, cli_output_string(finding, "kind", "?"));
	putchar(' ');
	cli_output_text(stdout, cli_output_string(finding, "name", "?"));
	fputs(": ", stdout);
	cli_output_text(stdout, cli_output_string(finding, "detail", "?"));
	const char *repair = cli_output_string(finding, "repair", "");
	if (strcmp(repair, "done") == 0)
		fputs(" (mended)", stdout);
	else if (strcmp(repair, "possible") == 0)
		fputs(" (--repair mends it)", stdout);
	putchar('\n');
}

int cli_check(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	const cJSON *one;
	cli_target_make(&t, o, "/v1/check", NULL, NULL);
	int code = cli_request_call(o, o->repair ? "POST" : "GET", &t, NULL,
				    o->repair ? REPAIR_S : 0, &a);
	if (code != CLI_EXIT_OK)
		return code;
	cJSON *answer = cli_output_parse(a.body, a.length);
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "findings");
	if (!cJSON_IsArray(list))
		code = CLI_EXIT_FAILED;
	else if (o->json)
		cli_output_json(a.body, a.length);
	else
		printf("supervisor at %s: it answers\n", o->socket);
	cJSON_ArrayForEach(one, list)
	{
		if (!o->json)
			show(one);
		/* What is mended does not differ any more. */
		if (strcmp(cli_output_string(one, "repair", ""), "done") != 0)
			code = CLI_EXIT_FAILED;
	}
	if (!o->json && code == CLI_EXIT_OK && cJSON_GetArraySize(list) == 0)
		puts("nothing on the host differs");
	cJSON_Delete(answer);
	cli_answer_clear(&a);
	return code;
}
