// SPDX-License-Identifier: Apache-2.0
#include "cli_options.h"

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

int main(int argc, char **argv)
{
	struct cli_options o;
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
	return finish(command->run(&o));
}
