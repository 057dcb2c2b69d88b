// SPDX-License-Identifier: Apache-2.0
#include "cli_options.h"

#include "name.h"
#include "util.h"

#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET	"/run/cloister/control.sock"
#define DEFAULT_TIMEOUT 60

enum option_type {
	TYPE_FLAG,
	TYPE_TEXT,
	TYPE_NAME,     /* an id, image or tenant name */
	TYPE_NUMBER,   /* uint32_t, min..max */
	TYPE_NUMBER64, /* uint64_t, with a has_ flag at extra */
	TYPE_MEMORY,   /* MiB */
	TYPE_LABEL,
	TYPE_LIST, /* of at most max, repeatable; their number is at extra */
};

struct option_spec {
	const char *name;
	char letter; /* 0: long only */
	enum option_type type;
	size_t offset, extra; /* in struct cli_options */
	uint32_t min, max;
	const char *commands; /* " a b "; NULL: every one */
	const char *metavar, *help;
};

#define AT(field) offsetof(struct cli_options, field)
#define MAKERS	  " create run "

static const struct option_spec specs[] = {
	{"socket", 's', TYPE_TEXT, AT(socket), 0, 0, 0, NULL, "PATH",
	 "the control socket (default: $CLOISTER_SOCKET, or " DEFAULT_SOCKET ")"},
	{"tenant", 't', TYPE_NAME, AT(tenant), 0, 0, 0, NULL, "NAME",
	 "whose sandboxes are meant (admins only)"},
	{"json", 'j', TYPE_FLAG, AT(json), 0, 0, 0, NULL, NULL,
	 "print the supervisor's JSON as it is"},
	{"timeout", 0, TYPE_NUMBER, AT(timeout_s), 0, 1, 86400, NULL, "SECONDS",
	 "how long to wait for an answer (default 60)"},
	{"help", 'h', TYPE_FLAG, AT(help), 0, 0, 0, NULL, NULL, "print help and exit"},
	{"file", 0, TYPE_TEXT, AT(file), 0, 0, 0, MAKERS, "FILE",
	 "send this JSON specification as it is (-: standard input)"},
	{"id", 0, TYPE_NAME, AT(id), 0, 0, 0, MAKERS, "ID",
	 "the sandbox's name (default: made up)"},
	{"kernel", 0, TYPE_NAME, AT(kernel), 0, 0, 0, MAKERS, "NAME", "the kernel image"},
	{"initramfs", 0, TYPE_NAME, AT(initramfs), 0, 0, 0, MAKERS, "NAME", "the initramfs image"},
	{"cmdline", 0, TYPE_TEXT, AT(cmdline), 0, 0, 0, MAKERS, "TEXT",
	 "the guest kernel's command line"},
	{"template", 0, TYPE_NAME, AT(template), 0, 0, 0, MAKERS, "NAME",
	 "start from this template instead of a kernel"},
	{"memory-restore", 0, TYPE_TEXT, AT(memory_restore), 0, 0, 0, " create run wake ", "HOW",
	 "auto (default), map, copy; from a template also ondemand"},
	{"vcpus", 0, TYPE_NUMBER, AT(vcpus), 0, 1, 254, " create run resize ", "N",
	 "virtual CPUs (default 1)"},
	{"memory", 0, TYPE_MEMORY, AT(memory_mib), 0, 16, 1u << 22, " create run resize ", "SIZE",
	 "in MiB, or with suffix M or G (default 256)"},
	{"max-vcpus", 0, TYPE_NUMBER, AT(max_vcpus), 0, 1, 254, MAKERS, "N",
	 "up to how many resize may go (default: --vcpus)"},
	{"max-memory", 0, TYPE_MEMORY, AT(max_memory_mib), 0, 16, 1u << 22, MAKERS, "SIZE",
	 "up to how much resize may go (default: --memory)"},
	{"label", 0, TYPE_LABEL, AT(labels), 0, 0, 0, " create run ls ", "KEY=VALUE",
	 "a label to set, or for ls to match (repeatable)"},
	{"disk", 0, TYPE_LIST, AT(disks), AT(disk_count), 0, CLI_DISKS_MAX, MAKERS, "DISK",
	 "image=NAME[,size=SIZE][,ro][,mib_s=N][,iops=N], or device=NAME (repeatable)"},
	{"network", 0, TYPE_TEXT, AT(network), 0, 0, 0, MAKERS, "EGRESS",
	 "give the guest a network, and let it reach: none, internet, or the list of --allow"},
	{"allow", 0, TYPE_LIST, AT(allow), AT(allow_count), 0, CLI_ALLOW_MAX, MAKERS, "CIDR",
	 "an IPv4 network that --network list lets through (repeatable)"},
	{"port", 0, TYPE_LIST, AT(ports), AT(port_count), 0, CLI_PORTS_MAX, MAKERS, "PORT",
	 "[HOST:]GUEST[/udp]: forward this port to the guest (repeatable)"},
	{"rate", 0, TYPE_TEXT, AT(rate), 0, 0, 0, MAKERS, "RATE",
	 "rx=MBPS,tx=MBPS: what its network lets through"},
	{"vsock", 0, TYPE_FLAG, AT(vsock), 0, 0, 0, MAKERS, NULL,
	 "give the guest a vsock device, for connect"},
	{"wait", 0, TYPE_TEXT, AT(wait), 0, 0, 0, MAKERS, "FOR",
	 "tcp=PORT, http=PORT[/PATH], vsock=PORT or console=TEXT, [,timeout=SECONDS]"},
	{"no-balloon", 0, TYPE_FLAG, AT(no_balloon), 0, 0, 0, MAKERS, NULL,
	 "give the guest no balloon device"},
	{"restart", 0, TYPE_TEXT, AT(restart), 0, 0, 0, " create ", "POLICY",
	 "start it again when it ends by itself: never, on-failure, always [:ATTEMPTS]"},
	{"no-wait", 0, TYPE_FLAG, AT(no_wait), 0, 0, 0, " create drain ", NULL,
	 "return before it is done"},
	{"hibernate", 0, TYPE_FLAG, AT(drain_hibernate), 0, 0, 0, " drain ", NULL,
	 "then hibernate what runs; what cannot be is left running, and told"},
	{"destroy", 0, TYPE_FLAG, AT(drain_destroy), 0, 0, 0, " drain ", NULL,
	 "then destroy what runs"},
	{"wait", 0, TYPE_NUMBER, AT(drain_wait_s), 0, 1, 86400, " drain ", "SECONDS",
	 "how long that may take (default 300)"},
	{"undo", 0, TYPE_FLAG, AT(drain_undo), 0, 0, 0, " drain ", NULL, "take new work again"},
	{"status", 0, TYPE_FLAG, AT(drain_status), 0, 0, 0, " drain ", NULL,
	 "only show how far it is"},
	{"interactive", 'i', TYPE_FLAG, AT(interactive), 0, 0, 0, " run ", NULL,
	 "send standard input to the guest's console"},
	{"keep", 0, TYPE_FLAG, AT(keep), 0, 0, 0, " run ", NULL,
	 "leave the record of a guest that ended by itself"},
	{"repair", 0, TYPE_FLAG, AT(repair), 0, 0, 0, " check ", NULL,
	 "mend what is provably nobody's; what is not is left"},
	{"grace", 0, TYPE_NUMBER, AT(grace_s), 0, 0, 3600, " run destroy drain ", "SECONDS",
	 "press the power button and wait, before the kill (default 0)"},
	{"state", 0, TYPE_TEXT, AT(state), 0, 0, 0, " ls ", "STATE",
	 "only sandboxes in this state"},
	{"follow", 'f', TYPE_FLAG, AT(follow), 0, 0, 0, " console logs ", NULL,
	 "go on until the guest ends"},
	{"tail", 0, TYPE_NUMBER64, AT(tail), AT(has_tail), 0, 0, " console logs ", "BYTES",
	 "only the last so many bytes"},
	{"send", 0, TYPE_TEXT, AT(send), 0, 0, 0, " console logs ", "TEXT",
	 "send this to the guest, byte for byte (-: standard input)"},
	{"raw", 0, TYPE_FLAG, AT(raw), 0, 0, 0, " console logs run ", NULL,
	 "let control bytes through to a terminal"},
	{"config", 0, TYPE_TEXT, AT(config), 0, 0, 0, " templates image ", "FILE",
	 "cloisterd's configuration (default /etc/cloister/cloisterd.conf)"},
	{"vmm-version", 0, TYPE_TEXT, AT(vmm_version), 0, 0, 0, " templates ", "VERSION",
	 "import: the Cloud Hypervisor that made the set (default: the configured one)"},
	{"replace", 0, TYPE_FLAG, AT(replace), 0, 0, 0, " image ", NULL,
	 "import: put it in the place of an image of that name"},
	{"verify", 0, TYPE_FLAG, AT(verify), 0, 0, 0, " image ", NULL,
	 "inspect: digest the image, and exit with 1 unless it is what was imported"},
	{"since", 0, TYPE_NUMBER64, AT(since), AT(has_since), 0, 0, " events ", "SEQ",
	 "replay what is still kept after this number"},
};

#define SPECS	 ARRAY_SIZE(specs)
#define FIRST_ID 256 /* of getopt's values, above every letter */

int cli_usage_error(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("cloister: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return CLI_EXIT_USAGE;
}

void cli_options_init(struct cli_options *o)
{
	const char *socket = getenv("CLOISTER_SOCKET");
	*o = (struct cli_options){
		.socket = socket && *socket ? socket : DEFAULT_SOCKET,
		.timeout_s = DEFAULT_TIMEOUT,
	};
}

const struct cli_command *cli_command_find(const char *name)
{
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static bool applies(const struct option_spec *spec, const struct cli_command *command)
{
	char word[32];
	if (!spec->commands)
		return true;
	if (!command)
		return false;
	snprintf(word, sizeof(word), " %s ", command->name);
	return strstr(spec->commands, word) != NULL;
}

/* ------------------------------------------------------------------ values */

static int set_memory(uint32_t *out, const struct option_spec *spec, const char *text)
{
	char number[16];
	size_t len = strlen(text);
	unsigned shift = 0;
	uint64_t n;
	if (len > 0 && strchr("Gg", text[len - 1]))
		shift = 10;
	if (len > 0 && strchr("GgMm", text[len - 1]))
		len--;
	if (len < sizeof(number)) {
		memcpy(number, text, len);
		number[len] = '\0';
		if (str_to_u64(number, 1, spec->max, &n) && n << shift >= spec->min &&
		    n << shift <= spec->max) {
			*out = (uint32_t)(n << shift);
			return 0;
		}
	}
	cli_usage_error("--%s: \"%s\" is not a size from %uM to %uG, like 512, 512M or 2G",
			spec->name, text, spec->min, spec->max >> 10);
	return -1;
}

static int add_label(struct cli_options *o, const char *text)
{
	const char *eq = strchr(text, '=');
	if (!eq || eq == text) {
		cli_usage_error("--label: \"%s\" is not KEY=VALUE", text);
		return -1;
	}
	if (o->label_count == CLI_LABELS_MAX) {
		cli_usage_error("--label: more than %d labels", CLI_LABELS_MAX);
		return -1;
	}
	size_t key = (size_t)(eq - text) + 1;
	for (unsigned i = 0; i < o->label_count; i++) {
		if (strncmp(o->labels[i], text, key) == 0) {
			cli_usage_error("--label: the key of \"%s\" is given twice", text);
			return -1;
		}
	}
	o->labels[o->label_count++] = text;
	return 0;
}

static int add_item(struct cli_options *o, const struct option_spec *spec, const char *text)
{
	const char **list = (const char **)((char *)o + spec->offset);
	unsigned *count = (unsigned *)((char *)o + spec->extra);
	if (*count == spec->max) {
		cli_usage_error("--%s: more than %u of them", spec->name, spec->max);
		return -1;
	}
	list[(*count)++] = text;
	return 0;
}

static int set_number64(struct cli_options *o, const struct option_spec *spec, const char *text)
{
	if (!str_to_u64(text, 0, UINT64_MAX, (uint64_t *)((char *)o + spec->offset))) {
		cli_usage_error("--%s: \"%s\" is not a whole number", spec->name, text);
		return -1;
	}
	*(bool *)((char *)o + spec->extra) = true;
	return 0;
}

static int set_option(struct cli_options *o, const struct option_spec *spec, const char *text)
{
	void *at = (char *)o + spec->offset;
	uint64_t n;
	switch (spec->type) {
	case TYPE_FLAG:
		*(bool *)at = true;
		return 0;
	case TYPE_NAME:
		if (!name_is_valid(text)) {
			cli_usage_error("--%s: \"%s\" is not a name (%s)", spec->name, text,
					NAME_RULE);
			return -1;
		}
		*(const char **)at = text;
		return 0;
	case TYPE_TEXT:
		*(const char **)at = text;
		return 0;
	case TYPE_NUMBER:
		if (!str_to_u64(text, spec->min, spec->max, &n)) {
			cli_usage_error("--%s: \"%s\" is not a whole number from %u to %u",
					spec->name, text, spec->min, spec->max);
			return -1;
		}
		*(uint32_t *)at = (uint32_t)n;
		return 0;
	case TYPE_NUMBER64:
		return set_number64(o, spec, text);
	case TYPE_MEMORY:
		return set_memory(at, spec, text);
	case TYPE_LABEL:
		return add_label(o, text);
	case TYPE_LIST:
		return add_item(o, spec, text);
	}
	return -1;
}

/* ------------------------------------------------------------------ getopt */

struct tables {
	char letters[2 * SPECS + 3];
	struct option longs[SPECS + 1];
};

static void make_tables(struct tables *t, const struct cli_command *command)
{
	size_t n = 0, l = 0;
	/* '+': stop at the command's name. ':': tell a missing value from an unknown option. */
	if (!command)
		t->letters[l++] = '+';
	t->letters[l++] = ':';
	for (size_t i = 0; i < SPECS; i++) {
		if (!applies(&specs[i], command))
			continue;
		bool value = specs[i].type != TYPE_FLAG;
		t->longs[n++] = (struct option){
			.name = specs[i].name,
			.has_arg = value ? required_argument : no_argument,
			.val = FIRST_ID + (int)i,
		};
		if (specs[i].letter) {
			t->letters[l++] = specs[i].letter;
			if (value)
				t->letters[l++] = ':';
		}
	}
	t->letters[l] = '\0';
	t->longs[n] = (struct option){0};
}

/* What getopt_long() did not take: which way it was wrong, and where to read on. */
static int complain(int result, const struct tables *t, const struct cli_command *command,
		    const char *text)
{
	char where[48] = "cloister help";
	if (command)
		snprintf(where, sizeof(where), "cloister help %s", command->name);
	size_t len = strcspn(text, "=");
	unsigned matches = 0;
	for (const struct option *l = t->longs; len > 2 && l->name; l++)
		matches += strncmp(l->name, text + 2, len - 2) == 0;
	if (optopt > 0 && optopt < FIRST_ID)
		cli_usage_error(result == ':' ? "option -%c needs a value (see: %s)"
					      : "unknown option -%c (see: %s)",
				optopt, where);
	else if (result == ':')
		cli_usage_error("option %s needs a value (see: %s)", text, where);
	else if (optopt != 0)
		cli_usage_error("option %.*s takes no value (see: %s)", (int)len, text, where);
	else if (matches > 1)
		cli_usage_error("option %.*s may stand for several (see: %s)", (int)len, text,
				where);
	else
		cli_usage_error("unknown option %.*s%s%s (see: %s)", (int)len, text,
				command ? " for " : " before the command",
				command ? command->name : "", where);
	return -1;
}

static const struct option_spec *spec_of(int value)
{
	if (value >= FIRST_ID)
		return &specs[value - FIRST_ID];
	for (size_t i = 0; i < SPECS; i++)
		if (specs[i].letter == value)
			return &specs[i];
	return NULL;
}

int cli_options_parse(struct cli_options *o, const struct cli_command *command, int argc,
		      char **argv)
{
	struct tables t;
	bool seen[SPECS] = {0};
	int value;
	make_tables(&t, command);
	opterr = 0;
	optind = 0; /* glibc: start anew, with the order that the letters ask for */
	while ((value = getopt_long(argc, argv, t.letters, t.longs, NULL)) != -1) {
		if (value == '?' || value == ':')
			return complain(value, &t, command, argv[optind - 1]);
		const struct option_spec *spec = spec_of(value);
		if (!spec)
			return -1;
		bool repeatable = spec->type == TYPE_FLAG || spec->type == TYPE_LABEL ||
				  spec->type == TYPE_LIST;
		if (seen[spec - specs] && !repeatable) {
			cli_usage_error("option --%s is given twice", spec->name);
			return -1;
		}
		seen[spec - specs] = true;
		if (set_option(o, spec, optarg) < 0)
			return -1;
	}
	if (!command || o->help)
		return optind;
	o->args = argv + optind;
	o->arg_count = argc - optind;
	if (o->arg_count < command->min_args || o->arg_count > command->max_args) {
		cli_usage_error("usage: cloister %s [OPTION...]%s%s", command->name,
				*command->args ? " " : "", command->args);
		return -1;
	}
	return optind;
}

/* ------------------------------------------------------------------ help */

static void print_options(const struct cli_command *command, bool common)
{
	for (size_t i = 0; i < SPECS; i++) {
		const struct option_spec *s = &specs[i];
		if (!applies(s, command) || (s->commands == NULL) != common)
			continue;
		char left[40], letter[8] = "    ";
		if (s->letter)
			snprintf(letter, sizeof(letter), "-%c, ", s->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, s->name, s->metavar ? " " : "",
			 s->metavar ? s->metavar : "");
		printf("  %-24s  %s\n", left, s->help);
	}
}

void cli_options_help(const struct cli_command *command)
{
	if (command) {
		printf("usage: cloister %s [OPTION...]%s%s\n\n%s\n\n", command->name,
		       *command->args ? " " : "", command->args, command->summary);
		print_options(command, false);
		puts("");
	} else {
		puts("usage: cloister [OPTION...] COMMAND [OPTION...] [ARGUMENT...]\n");
		for (const struct cli_command *c = cli_commands; c->name; c++)
			printf("  %-14s%s\n", c->name, c->summary);
		puts("\n`cloister help COMMAND` tells more. Options of every command:\n");
	}
	print_options(command, true);
	puts("\nExit status: 0 ok, 1 refused or failed, 2 usage, 3 the supervisor cannot be\n"
	     "reached, 4 no such sandbox, template or image.");
}
