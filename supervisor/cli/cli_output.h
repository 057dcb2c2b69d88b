// SPDX-License-Identifier: Apache-2.0
/*
 * Printing for people and for programs. What a guest or another tenant may have written reaches a
 * terminal only without its control bytes.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Text with everything but printable ASCII replaced by '?'. */
void cli_output_text(FILE *to, const char *text);

/* A JSON document as it came, on lines of its own. */
void cli_output_json(const char *body, size_t length);

/* Parses a body that has to be a JSON object; NULL after a complaint. cJSON_Delete() it. */
cJSON *cli_output_parse(const char *body, size_t length);

/* An object as "key: value" lines, nested ones as "a.b: value", lists on one line. */
void cli_output_flat(const cJSON *object);

/* The table of ls. */
void cli_output_table(const cJSON *sandboxes);

/* The table of templates. */
void cli_output_templates(const cJSON *templates);

/* Says on standard error how a sandbox's guest ended, unless it shut down: then true. */
bool cli_output_end(const char *id, const cJSON *sandbox);

/* A number of bytes as text, "16.1 MiB". */
void cli_output_size(double bytes, char *out, size_t size);

/* One event on one line. */
void cli_output_event(const cJSON *event);

/* A string member, or the fallback. */
const char *cli_output_string(const cJSON *object, const char *key, const char *fallback);

/* A number of microseconds as text, "21.4 ms". */
void cli_output_duration(double us, char *out, size_t size);

#endif
