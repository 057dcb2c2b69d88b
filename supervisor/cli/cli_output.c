// SPDX-License-Identifier: Apache-2.0
#include "cli_output.h"

#include "util.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define NESTING_MAX 8 /* deeper members are printed as JSON */

void cli_output_text(FILE *to, const char *text)
{
	for (; *text; text++)
		fputc(*text >= ' ' && *text <= '~' ? *text : '?', to);
}

void cli_output_json(const char *body, size_t length)
{
	fwrite(body, 1, length, stdout);
	if (length == 0 || body[length - 1] != '\n')
		putchar('\n');
}

cJSON *cli_output_parse(const char *body, size_t length)
{
	cJSON *json = cJSON_ParseWithLength(body, length);
	if (cJSON_IsObject(json))
		return json;
	cJSON_Delete(json);
	fputs("cloister: the supervisor's answer is no JSON object; are cloister and cloisterd of "
	      "one version?\n",
	      stderr);
	return NULL;
}

const char *cli_output_string(const cJSON *object, const char *key, const char *fallback)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
	return cJSON_IsString(value) ? value->valuestring : fallback;
}

void cli_output_duration(double us, char *out, size_t size)
{
	if (us < 1000)
		snprintf(out, size, "%.0f us", us);
	else if (us < 1000000)
		snprintf(out, size, "%.1f ms", us / 1000);
	else
		snprintf(out, size, "%.2f s", us / 1000000);
}

void cli_output_size(double bytes, char *out, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t u = 0;
	for (; bytes >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		bytes /= 1024;
	snprintf(out, size, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

/* ------------------------------------------------------------------ key: value */

static void print_scalar(const cJSON *value)
{
	if (cJSON_IsString(value)) {
		cli_output_text(stdout, value->valuestring);
	} else if (cJSON_IsNull(value)) {
		putchar('-');
	} else {
		char *text = cJSON_PrintUnformatted(value);
		cli_output_text(stdout, text ? text : "?");
		cJSON_free(text);
	}
}

static void print_value(const cJSON *value)
{
	const cJSON *item;
	if (!cJSON_IsArray(value)) {
		print_scalar(value);
		return;
	}
	cJSON_ArrayForEach(item, value)
	{
		print_scalar(item);
		if (item->next)
			fputs(", ", stdout);
	}
}

/* Members of an array are called by their ids, those without one by their numbers. */
static void print_name(const cJSON *item, const cJSON *above)
{
	int number = 0;
	const char *id = item->string ? item->string : cli_output_string(item, "id", NULL);
	if (id) {
		cli_output_text(stdout, id);
		return;
	}
	for (const cJSON *i = above->child; i && i != item; i = i->next)
		number++;
	printf("%d", number);
}

static bool is_nested(const cJSON *item)
{
	return item->child &&
	       (cJSON_IsObject(item) || (cJSON_IsArray(item) && cJSON_IsObject(item->child)));
}

static void print_flat(const cJSON *object, const cJSON *const *path, unsigned depth)
{
	const cJSON *above[NESTING_MAX];
	const cJSON *item;
	for (unsigned i = 0; i < depth; i++)
		above[i] = path[i];
	cJSON_ArrayForEach(item, object)
	{
		if (is_nested(item) && depth + 1 < NESTING_MAX) {
			above[depth] = item;
			print_flat(item, above, depth + 1);
			continue;
		}
		for (unsigned i = 0; i < depth; i++) {
			print_name(above[i], i > 0 ? above[i - 1] : NULL);
			putchar('.');
		}
		print_name(item, object);
		fputs(": ", stdout);
		if ((cJSON_IsObject(item) || cJSON_IsArray(item)) && !item->child)
			putchar('-');
		else
			print_value(item);
		putchar('\n');
	}
}

void cli_output_flat(const cJSON *object)
{
	print_flat(object, NULL, 0);
}

/* ------------------------------------------------------------------ tables */

#define COLS	  7
#define CELL_SIZE 72

struct table {
	const char *headings[COLS];
	void (*make_row)(const cJSON *item, char row[COLS][CELL_SIZE]);
};

static void number_cell(const cJSON *box, const char *key, const char *unit, char *cell)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(box, key);
	if (cJSON_IsNumber(n))
		snprintf(cell, CELL_SIZE, "%.0f%s", n->valuedouble, unit);
	else
		snprintf(cell, CELL_SIZE, "-");
}

/* The time since an RFC 3339 moment in UTC, in the largest unit that fits. */
static void age_cell(const char *created_at, char *cell)
{
	struct tm tm = {0};
	const char *rest = strptime(created_at, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(cell, CELL_SIZE, "-");
	if (!rest)
		return;
	int64_t s = clock_real_us() / 1000000 - (int64_t)timegm(&tm);
	if (s < 0)
		s = 0;
	if (s < 120)
		snprintf(cell, CELL_SIZE, "%" PRId64 "s", s);
	else if (s < 7200)
		snprintf(cell, CELL_SIZE, "%" PRId64 "m", s / 60);
	else if (s < 172800)
		snprintf(cell, CELL_SIZE, "%" PRId64 "h", s / 3600);
	else
		snprintf(cell, CELL_SIZE, "%" PRId64 "d", s / 86400);
}

static void text_cell(const cJSON *item, const char *key, char *cell)
{
	snprintf(cell, CELL_SIZE, "%s", cli_output_string(item, key, "-"));
}

static void make_sandbox(const cJSON *box, char row[COLS][CELL_SIZE])
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(box, "exit");
	text_cell(box, "id", row[0]);
	text_cell(box, "tenant", row[1]);
	text_cell(box, "state", row[2]);
	number_cell(box, "vcpus", "", row[3]);
	number_cell(box, "memory_mib", "M", row[4]);
	age_cell(cli_output_string(box, "created_at", ""), row[5]);
	text_cell(end, "cause", row[6]);
}

static void make_template(const cJSON *item, char row[COLS][CELL_SIZE])
{
	const cJSON *disk = cJSON_GetObjectItemCaseSensitive(item, "allocated_bytes");
	text_cell(item, "name", row[0]);
	text_cell(item, "tenant", row[1]);
	text_cell(item, "parent", row[2]);
	number_cell(item, "vcpus", "", row[3]);
	number_cell(item, "memory_mib", "M", row[4]);
	age_cell(cli_output_string(item, "created_at", ""), row[5]);
	cli_output_size(cJSON_IsNumber(disk) ? disk->valuedouble : 0, row[6], CELL_SIZE);
}

static void print_row(char row[COLS][CELL_SIZE], const size_t width[COLS])
{
	for (int c = 0; c < COLS; c++) {
		cli_output_text(stdout, row[c]);
		if (c + 1 < COLS)
			printf("%*s", (int)(width[c] - strlen(row[c]) + 2), "");
	}
	putchar('\n');
}

static void print_table(const struct table *t, const cJSON *items)
{
	char row[COLS][CELL_SIZE];
	size_t width[COLS];
	const cJSON *item;
	for (int c = 0; c < COLS; c++)
		width[c] = strlen(t->headings[c]);
	cJSON_ArrayForEach(item, items)
	{
		t->make_row(item, row);
		for (int c = 0; c < COLS; c++)
			if (strlen(row[c]) > width[c])
				width[c] = strlen(row[c]);
	}
	for (int c = 0; c < COLS; c++)
		snprintf(row[c], CELL_SIZE, "%s", t->headings[c]);
	print_row(row, width);
	cJSON_ArrayForEach(item, items)
	{
		t->make_row(item, row);
		print_row(row, width);
	}
}

void cli_output_table(const cJSON *sandboxes)
{
	static const struct table t = {{"ID", "TENANT", "STATE", "VCPUS", "MEMORY", "AGE", "EXIT"},
				       make_sandbox};
	print_table(&t, sandboxes);
}

void cli_output_templates(const cJSON *templates)
{
	static const struct table t = {
		{"NAME", "TENANT", "PARENT", "VCPUS", "MEMORY", "AGE", "DISK"}, make_template};
	print_table(&t, templates);
}

bool cli_output_end(const char *id, const cJSON *sandbox)
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(sandbox, "exit");
	const char *cause = cli_output_string(end, "cause", "unknown");
	const char *detail = cli_output_string(end, "detail", "");
	if (strcmp(cause, "guest-shutdown") == 0)
		return true;
	fprintf(stderr, "cloister: sandbox %s: ", id);
	cli_output_text(stderr, cause);
	fputs(*detail ? ": " : "", stderr);
	cli_output_text(stderr, detail);
	fputc('\n', stderr);
	return false;
}

/* ------------------------------------------------------------------ events */

static void print_member(const cJSON *event, const char *key, const char *before)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(event, key);
	if (!value || (cJSON_IsString(value) && !*value->valuestring))
		return;
	fputs(before, stdout);
	print_value(value);
}

void cli_output_event(const cJSON *event)
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, "exit");
	if (strcmp(cli_output_string(event, "event", ""), "gap") == 0) {
		print_member(event, "from", "-- events ");
		print_member(event, "to", " to ");
		puts(" are no longer kept");
		return;
	}
	print_member(event, "time", "");
	print_member(event, "seq", "  ");
	print_member(event, "tenant", "  ");
	print_member(event, "sandbox", " ");
	print_member(event, "event", "  ");
	print_member(event, "from", " ");
	print_member(event, "to", " -> ");
	print_member(event, "template", " ");
	print_member(event, "action", " ");
	print_member(event, "done_bytes", " ");
	print_member(event, "total_bytes", " of ");
	print_member(event, "count", " ");
	print_member(event, "address", " ");
	print_member(event, "reason", "  ");
	print_member(end, "cause", "  exit: ");
	print_member(end, "detail", ": ");
	putchar('\n');
}
