// SPDX-License-Identifier: Apache-2.0
/* The command line of cloister: commands, options, help, exit codes. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum cli_exit {
	CLI_EXIT_OK = 0,
	CLI_EXIT_FAILED = 1,	  /* refused or failed */
	CLI_EXIT_USAGE = 2,	  /* the command line is wrong; nothing was asked for */
	CLI_EXIT_UNREACHABLE = 3, /* no supervisor, or no whole answer from it */
	CLI_EXIT_NOT_FOUND = 4,	  /* no such sandbox, template or image */
};

#define CLI_LABELS_MAX 32
#define CLI_DISKS_MAX  8
#define CLI_ALLOW_MAX  16
#define CLI_PORTS_MAX  16

struct cli_options {
	/* every command */
	const char *socket;
	const char *tenant; /* NULL: one's own */
	bool json;
	unsigned timeout_s;
	bool help;

	/* create, run; labels and state also ls */
	const char *file; /* "-": standard input */
	const char *id, *kernel, *initramfs, *cmdline;
	const char *template, *memory_restore; /* the latter also of wake */
	uint32_t vcpus, memory_mib;	       /* 0: not given; also of resize */
	uint32_t max_vcpus, max_memory_mib;    /* 0: not given */
	const char *labels[CLI_LABELS_MAX];
	unsigned label_count;
	const char *disks[CLI_DISKS_MAX]; /* as given: see cli_disk.h */
	unsigned disk_count;
	/* as given: see cli_network.h */
	const char *network, *rate, *wait;
	const char *allow[CLI_ALLOW_MAX], *ports[CLI_PORTS_MAX];
	unsigned allow_count, port_count;
	bool vsock;
	bool no_balloon, no_wait; /* the latter also of drain */
	const char *restart;	  /* as given: POLICY or POLICY:ATTEMPTS; of create */
	const char *state;

	/* run, destroy, console, events */
	bool keep, interactive, raw, follow, repair;
	unsigned grace_s;
	bool has_tail, has_since;
	uint64_t tail, since;
	const char *send;

	/* drain */
	bool drain_hibernate, drain_destroy, drain_undo, drain_status;
	unsigned drain_wait_s; /* 0: not given */

	/* templates import, image */
	const char *config, *vmm_version;
	bool replace, verify;

	/* what is no option */
	char **args;
	int arg_count;
};

struct cli_command {
	const char *name;
	const char *args; /* for the usage line */
	int min_args, max_args;
	int (*run)(const struct cli_options *o); /* gives an enum cli_exit, or 128 + signal */
	const char *summary;
};

/* The commands, ended by one without a name (cli_commands.c). */
extern const struct cli_command cli_commands[];

/* NULL when there is none of that name. */
const struct cli_command *cli_command_find(const char *name);

/*
 * Reads argv[1..] up to the command's name (command NULL), or argv[1..] of a command. Complaints
 * go to standard error. Returns the index of the first argument that is no option, or -1. For a
 * command o->args is filled and counted.
 */
int cli_options_parse(struct cli_options *o, const struct cli_command *command, int argc,
		      char **argv);

/* Defaults, and CLOISTER_SOCKET. */
void cli_options_init(struct cli_options *o);

/* Help on standard output: of one command, or of all (NULL). */
void cli_options_help(const struct cli_command *command);

/* "cloister: " and the text on standard error; returns CLI_EXIT_USAGE. */
int cli_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
