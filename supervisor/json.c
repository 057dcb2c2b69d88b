// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scan {
	const unsigned char *at, *end, *start;
	const char *wrong;
};

/* Length of the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates), or 0. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
	size_t left = (size_t)(end - p);
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
	if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
		return 0;
	if ((p[0] & 0xf0) == 0xe0) {
		bool overlong = p[0] == 0xe0 && p[1] < 0xa0;
		bool surrogate = p[0] == 0xed && p[1] > 0x9f;
		return overlong || surrogate ? 0 : 3;
	}
	if (left < 4 || p[0] < 0xf0 || p[0] > 0xf4 || (p[3] & 0xc0) != 0x80)
		return 0;
	if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return 4;
}

static bool scan_string(struct scan *s)
{
	for (s->at++; s->at < s->end && *s->at != '"';) {
		if (*s->at < 0x20) {
			s->wrong = "a control byte within a string";
			return false;
		}
		if (*s->at == '\\') {
			if (s->end - s->at >= 6 && memcmp(s->at, "\\u0000", 6) == 0) {
				s->wrong = "\\u0000 within a string";
				return false;
			}
			s->at++;
			if (s->at == s->end)
				break;
		}
		size_t n = utf8_length(s->at, s->end);
		if (!n) {
			s->wrong = "invalid UTF-8";
			return false;
		}
		s->at += n;
	}
	if (s->at == s->end) {
		s->wrong = "a string without its end";
		return false;
	}
	s->at++;
	return true;
}

static bool is_digit(const struct scan *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static bool scan_number(struct scan *s)
{
	s->at += *s->at == '-';
	bool zero = is_digit(s) && *s->at == '0';
	const unsigned char *first = s->at;
	while (is_digit(s))
		s->at++;
	if (s->at == first || (zero && s->at - first > 1))
		s->wrong = "a malformed number";
	else if (s->at < s->end && strchr(".eE", *s->at) && *s->at)
		s->wrong = "a number that is not whole (no fraction or exponent here)";
	return !s->wrong;
}

/* Refuses what cJSON lets pass. The grammar itself is cJSON's to check. */
static bool scan_text(struct scan *s)
{
	while (s->at < s->end) {
		unsigned char c = *s->at;
		if (c == '"') {
			if (!scan_string(s))
				return false;
		} else if (c == '-' || (c >= '0' && c <= '9')) {
			if (!scan_number(s))
				return false;
		} else if (c && strchr(" \t\r\n{}[]:,abcdefghijklmnopqrstuvwxyz", c)) {
			s->at++;
		} else {
			s->wrong = "a byte that JSON has no place for";
			return false;
		}
	}
	return true;
}

static bool keys_are_single(const cJSON *value, struct err *e)
{
	if (cJSON_IsObject(value) && cJSON_GetArraySize(value) > JSON_MEMBERS_MAX) {
		err_set(e, ERR_INVALID, 0, "an object has more than %d members", JSON_MEMBERS_MAX);
		return false;
	}
	for (const cJSON *a = value->child; a; a = a->next) {
		for (const cJSON *b = a->next; b && cJSON_IsObject(value); b = b->next) {
			if (strcmp(a->string, b->string) == 0) {
				err_set(e, ERR_INVALID, 0, "the key \"%s\" is there twice",
					a->string);
				str_clean(e->text);
				return false;
			}
		}
		if (!keys_are_single(a, e))
			return false;
	}
	return true;
}

cJSON *json_parse_object(const char *text, size_t length, struct err *e)
{
	const unsigned char *start = (const unsigned char *)text;
	struct scan s = {.at = start, .start = start, .end = start + length};
	if (!scan_text(&s)) {
		err_set(e, ERR_INVALID, 0, "the body is not JSON: byte %zu: %s",
			(size_t)(s.at - s.start), s.wrong);
		return NULL;
	}
	/* cJSON wants an end behind the text when it is told to insist on one. */
	CLEANUP_FREE char *copy = malloc(length + 1);
	if (!copy) {
		err_set(e, ERR_NO_SPACE, 0, "no memory for the body");
		return NULL;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	const char *stop = copy;
	cJSON *value = cJSON_ParseWithLengthOpts(copy, length + 1, &stop, 1);
	if (!value) {
		err_set(e, ERR_INVALID, 0, "the body is not JSON: %s byte %zu",
			length ? "it goes wrong at" : "it is empty, wrong at",
			(size_t)(stop - copy));
		return NULL;
	}
	if (!cJSON_IsObject(value)) {
		err_set(e, ERR_INVALID, 0, "the body must be a JSON object");
	} else if (keys_are_single(value, e)) {
		return value;
	}
	cJSON_Delete(value);
	return NULL;
}

void json_show(const cJSON *value, char *buf, size_t size)
{
	if (cJSON_IsString(value)) {
		snprintf(buf, size, "\"%.60s%s\"", value->valuestring,
			 strlen(value->valuestring) > 60 ? "..." : "");
	} else if (cJSON_IsNumber(value)) {
		snprintf(buf, size, "%.0f", value->valuedouble);
	} else if (cJSON_IsBool(value)) {
		snprintf(buf, size, "%s", cJSON_IsTrue(value) ? "true" : "false");
	} else if (cJSON_IsNull(value)) {
		snprintf(buf, size, "null");
	} else {
		snprintf(buf, size, "%s", cJSON_IsArray(value) ? "an array" : "an object");
	}
	str_clean(buf);
}

bool json_u32(const cJSON *value, uint32_t min, uint32_t max, uint32_t *out)
{
	if (!cJSON_IsNumber(value) || value->valuedouble < min || value->valuedouble > max)
		return false;
	*out = (uint32_t)value->valuedouble;
	return true;
}
