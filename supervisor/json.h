// SPDX-License-Identifier: Apache-2.0
/*
 * Strict JSON (RFC 8259) for what clients send: cJSON parses, and what cJSON lets pass is refused
 * here first. Numbers are whole in this API.
 */
#ifndef SUPERVISOR_JSON_H
#define SUPERVISOR_JSON_H

#include "err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define JSON_MEMBERS_MAX 64 /* of one object */

/*
 * Parses text[length] (no end needed) as one object. Refused: anything after it, invalid UTF-8,
 * control bytes, \u0000, numbers that are not whole, a key that is there twice, objects of more
 * than JSON_MEMBERS_MAX members, deep nesting. The caller frees it with cJSON_Delete().
 */
cJSON *json_parse_object(const char *text, size_t length, struct err *e);

/* A short picture of a value for messages: "abc…" or 12 or {...}; printable ASCII. */
void json_show(const cJSON *value, char *buf, size_t size);

/* Whole number within min..max. */
bool json_u32(const cJSON *value, uint32_t min, uint32_t max, uint32_t *out);

#endif
