// SPDX-License-Identifier: Apache-2.0
#include "cli_image.h"
#include "cli_options.h"
#include "cli_template.h"
#include "filter.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

/* Output that did not get out is a failure, however well the call went. */
static int finish(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "cloister: write to standard output: %s\n", strerror(errno));
	return code == CLI_EXIT_OK ? CLI_EXIT_FAILED : code;
}

/*
 * Before a byte of server or guest is read. Root's commands that work on files load theirs
 * themselves: when users' names have been looked up, and the VMM has told its version.
 */
static int confine(const struct cli_command *command, const struct cli_options *o, struct err *e)
{
	if (command->run == cli_image_manage)
		return 0;
	if (command->run == cli_template_manage && o->arg_count > 0 &&
	    strcmp(o->args[0], "import") == 0)
		return 0;
	return filter_load(FILTER_CLIENT, e);
}

int main(int argc, char **argv)
{
	struct cli_options o;
	struct err e;
	setlocale(LC_CTYPE, "");
	cli_options_init(&o);
	int at = cli_options_parse(&o, NULL, argc, argv);
	if (at < 0)
		return CLI_EXIT_USAGE;
	if (o.help) {
		cli_options_help(NULL);
		return finish(CLI_EXIT_OK);
	}
	if (at >= argc)
		return cli_usage_error("which command? (see: cloister help)");
	const struct cli_command *command = cli_command_find(argv[at]);
	if (!command)
		return cli_usage_error("there is no command \"%s\" (see: cloister help)", argv[at]);
	if (cli_options_parse(&o, command, argc - at, argv + at) < 0)
		return CLI_EXIT_USAGE;
	if (o.help) {
		cli_options_help(command);
		return finish(CLI_EXIT_OK);
	}
	if (confine(command, &o, &e) < 0) {
		fprintf(stderr, "cloister: %s\n", e.text);
		return CLI_EXIT_FAILED;
	}
	return finish(command->run(&o));
}
