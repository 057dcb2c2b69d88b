// SPDX-License-Identifier: Apache-2.0
#include "cli_debug.h"

#include "cli_output.h"
#include "cli_request.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const cJSON *get(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key)
{
	const cJSON *item = get(o, key);
	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void text(const cJSON *o, const char *key)
{
	cli_output_text(stdout, cli_output_string(o, key, "-"));
}

static void duration(const cJSON *o, const char *key)
{
	char out[32];
	cli_output_duration(number(o, key), out, sizeof(out));
	fputs(out, stdout);
}

/* A time of day: the date is the same for all but the oldest, and --json has it. */
static void time_of_day(const cJSON *o, const char *key)
{
	const char *at = cli_output_string(o, key, "-");
	const char *day = strchr(at, 'T');
	cli_output_text(stdout, day ? day + 1 : at);
}

/* ------------------------------------------------------------------ at the top */

static void print_top(const cJSON *o)
{
	const cJSON *s = get(o, "supervisor"), *end = get(o, "exit");
	fputs("sandbox      ", stdout);
	text(o, "id");
	fputs(" of tenant ", stdout);
	text(o, "tenant");
	fputs(": ", stdout);
	text(o, "state");
	fputs("\nsupervisor   operation ", stdout);
	text(s, "operation");
	fputs(", shim ", stdout);
	text(s, "shim");
	if (cJSON_IsString(get(s, "leftover"))) {
		fputs(", left behind: ", stdout);
		text(s, "leftover");
	}
	putchar('\n');
	if (!cJSON_IsObject(end))
		return;
	fputs("exit         ", stdout);
	text(end, "cause");
	fputs(" while ", stdout);
	text(end, "phase");
	fputs(", ", stdout);
	time_of_day(end, "at");
	fputs(": ", stdout);
	text(end, "detail");
	putchar('\n');
}

static void print_shim(const cJSON *o)
{
	const cJSON *s = get(o, "shim");
	if (strcmp(cli_output_string(o, "account", ""), "kept") == 0)
		puts("             what follows was told last, when the VMM had ended");
	fputs("shim         ", stdout);
	text(s, "phase");
	fputs(" for ", stdout);
	duration(s, "phase_us");
	fputs(", age ", stdout);
	duration(s, "age_us");
	if (cJSON_IsString(get(s, "operation"))) {
		fputs(", in hand ", stdout);
		text(s, "operation");
		fputs(" since ", stdout);
		duration(s, "operation_us");
	}
	if (get(s, "pid"))
		printf(", pid %.0f, VMM pid %.0f", number(s, "pid"), number(s, "vmm_pid"));
	putchar('\n');
	const cJSON *x;
	cJSON_ArrayForEach(x, get(o, "open_requests"))
	{
		fputs("asks the VMM ", stdout);
		text(x, "method");
		putchar(' ');
		text(x, "path");
		fputs(" for ", stdout);
		duration(x, "took_us");
		puts(strcmp(cli_output_string(x, "outcome", ""), "overdue") == 0
			     ? ", past its deadline"
			     : "");
	}
}

/* ------------------------------------------------------------------ confinement */

/* Text in a column. */
static void cell(const char *value, int width)
{
	cli_output_text(stdout, value);
	printf("%*s", width > (int)strlen(value) ? width - (int)strlen(value) + 1 : 1, "");
}

static bool has_capabilities(const cJSON *thread)
{
	const cJSON *set;
	cJSON_ArrayForEach(set, get(thread, "capabilities"))
	{
		const char *bits = cJSON_GetStringValue(set);
		if (!bits || bits[strspn(bits, "0")])
			return true;
	}
	return false;
}

static void print_threads(const cJSON *threads)
{
	const cJSON *t;
	if (cJSON_GetArraySize(threads) == 0)
		return;
	puts("  THREAD           TID     UID        CAPS  NO_NEW_PRIVS  SECCOMP  FILTERS");
	cJSON_ArrayForEach(t, threads)
	{
		char tid[16] = "-", uid[16] = "-";
		if (get(t, "tid"))
			snprintf(tid, sizeof(tid), "%.0f", number(t, "tid"));
		const cJSON *effective = cJSON_GetArrayItem(get(t, "uid"), 1);
		if (cJSON_IsNumber(effective))
			snprintf(uid, sizeof(uid), "%.0f", effective->valuedouble);
		fputs("  ", stdout);
		cell(cli_output_string(t, "name", "?"), 16);
		cell(tid, 7);
		cell(uid, 10);
		cell(has_capabilities(t) ? "some" : "none", 5);
		cell(cJSON_IsTrue(get(t, "no_new_privs")) ? "yes" : "no", 13);
		printf("%-8.0f %.0f\n", number(t, "seccomp"), number(t, "seccomp_filters"));
	}
}

static void print_limits(const cJSON *limits)
{
	const cJSON *l;
	fputs("  limits         ", stdout);
	cJSON_ArrayForEach(l, limits)
	{
		cli_output_text(stdout, l->string);
		if (cJSON_IsNumber(get(l, "hard")))
			printf(" %.0f", number(l, "hard"));
		else
			fputs(" none", stdout);
		fputs(l->next ? ", " : "\n", stdout);
	}
}

static void print_namespaces(const cJSON *namespaces)
{
	const cJSON *n;
	fputs("  namespaces     ", stdout);
	cJSON_ArrayForEach(n, namespaces)
	{
		cli_output_text(stdout, n->string);
		fputs(cJSON_IsTrue(get(n, "is_hosts"))	 ? " the host's"
		      : cJSON_IsTrue(get(n, "is_shims")) ? " the sandbox's"
							 : " its own",
		      stdout);
		fputs(n->next ? ", " : "\n", stdout);
	}
}

static void print_confinement(const cJSON *o)
{
	const cJSON *c = get(o, "confinement");
	if (!cJSON_IsObject(c)) {
		puts("confinement  not read back yet: the guest does not run yet");
		return;
	}
	if (cJSON_IsTrue(get(c, "as_asked"))) {
		fputs("confinement  as asked", stdout);
	} else {
		fputs(cJSON_IsFalse(get(c, "as_asked")) ? "confinement  NOT as asked: "
							: "confinement  not known: ",
		      stdout);
		text(c, "detail");
	}
	fputs("; read back after ", stdout);
	text(c, "after");
	fputs(", ", stdout);
	time_of_day(c, "at");
	printf(", %.0f times in all\n", number(c, "checks"));
	print_namespaces(get(c, "namespaces"));
	print_limits(get(c, "limits"));
	printf("  cgroup         %s\n",
	       cJSON_IsTrue(get(c, "own_cgroup")) ? "its own" : "none of its own");
	print_threads(get(c, "threads"));
}

/* ------------------------------------------------------------------ the rest */

static void print_figures(const char *label, const cJSON *figures)
{
	const cJSON *f;
	bool first = true;
	printf("%-13s", label);
	cJSON_ArrayForEach(f, figures)
	{
		if (!cJSON_IsNumber(f))
			continue;
		fputs(first ? "" : ", ", stdout);
		cli_output_text(stdout, f->string);
		printf(" %.0f", f->valuedouble);
		first = false;
	}
	puts(first ? "-" : "");
}

static void print_events(const cJSON *events)
{
	const cJSON *e;
	print_figures("events", events);
	cJSON_ArrayForEach(e, get(events, "last"))
	{
		fputs("  ", stdout);
		time_of_day(e, "at");
		fputs("  ", stdout);
		text(e, "event");
		putchar('\n');
	}
}

static void print_stderr(const cJSON *log)
{
	const cJSON *line;
	print_figures("stderr", log);
	cJSON_ArrayForEach(line, get(log, "last_errors"))
	{
		fputs("  ", stdout);
		cli_output_text(stdout, cJSON_IsString(line) ? line->valuestring : "?");
		putchar('\n');
	}
}

static void print_descriptors(const cJSON *fds)
{
	const cJSON *fd;
	if (!fds)
		return;
	fputs("descriptors  ", stdout);
	cJSON_ArrayForEach(fd, fds)
	{
		printf("%.0f ", number(fd, "fd"));
		text(fd, "what");
		fputs(fd->next ? ", " : "", stdout);
	}
	putchar('\n');
}

static void print_exchanges(const cJSON *o)
{
	const cJSON *x, *list = get(o, "exchanges");
	printf("exchanges    the last %d of %.0f\n", cJSON_GetArraySize(list),
	       number(o, "exchanges_total"));
	cJSON_ArrayForEach(x, list)
	{
		char took[32], status[16] = "-";
		cli_output_duration(number(x, "took_us"), took, sizeof(took));
		if (cJSON_IsNumber(get(x, "status")))
			snprintf(status, sizeof(status), "%.0f", number(x, "status"));
		fputs("  ", stdout);
		time_of_day(x, "at");
		fputs("  ", stdout);
		cell(cli_output_string(x, "method", "?"), 4);
		cell(cli_output_string(x, "path", "?"), 26);
		cell(status, 4);
		fputs(took, stdout);
		if (strcmp(cli_output_string(x, "outcome", ""), "answered") != 0) {
			fputs("  ", stdout);
			text(x, "outcome");
		}
		if (cJSON_IsString(get(x, "error"))) {
			fputs("  ", stdout);
			text(x, "error");
		}
		putchar('\n');
	}
}

static void print_account(const cJSON *o)
{
	print_top(o);
	if (strcmp(cli_output_string(o, "account", "none"), "none") == 0) {
		puts("             its shim has told nothing: it does not run, or not yet");
		return;
	}
	print_shim(o);
	print_confinement(o);
	print_figures("cgroup", get(o, "cgroup"));
	print_figures("console", get(o, "console"));
	print_events(get(o, "events"));
	print_stderr(get(o, "stderr"));
	print_descriptors(get(get(o, "shim"), "descriptors"));
	print_exchanges(o);
}

int cli_debug_command(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	if (cli_request_check_id(o->args[0]) != CLI_EXIT_OK)
		return CLI_EXIT_USAGE;
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "debug");
	int code = cli_request_call(o, "GET", &t, NULL, 0, &a);
	if (code != CLI_EXIT_OK)
		return code;
	if (o->json) {
		cli_output_json(a.body, a.length);
	} else {
		cJSON *account = cli_output_parse(a.body, a.length);
		if (account)
			print_account(account);
		else
			code = CLI_EXIT_FAILED;
		cJSON_Delete(account);
	}
	cli_answer_clear(&a);
	return code;
}
