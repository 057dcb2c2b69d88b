// SPDX-License-Identifier: Apache-2.0
#include "counters.h"

#include <string.h>

struct scan {
	const char *at, *end;
};

static void skip_blanks(struct scan *s)
{
	while (s->at < s->end && *s->at && strchr(" \t\r\n", *s->at))
		s->at++;
}

/* Takes c and the blanks around it, if it comes next. */
static bool take(struct scan *s, char c)
{
	skip_blanks(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	skip_blanks(s);
	return true;
}

/* Without escapes: CH's names for devices and counters, and ours, have none. */
static bool take_name(struct scan *s, char out[MSG_COUNTER_NAME_MAX])
{
	size_t n = 0;
	memset(out, 0, MSG_COUNTER_NAME_MAX);
	if (!take(s, '"'))
		return false;
	for (; s->at < s->end && *s->at != '"'; s->at++) {
		unsigned char c = (unsigned char)*s->at;
		if (c < 0x21 || c > 0x7e || c == '\\' || n == MSG_COUNTER_NAME_MAX - 1)
			return false;
		out[n++] = *s->at;
	}
	return n > 0 && take(s, '"');
}

static bool take_number(struct scan *s, uint64_t *out)
{
	const char *first = s->at;
	uint64_t value = 0;
	for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*s->at - '0'), &value))
			return false;
	}
	*out = value;
	return s->at > first && (*first != '0' || s->at == first + 1);
}

static bool take_device(struct scan *s, struct msg_counters_data *out, bool *full)
{
	char device[MSG_COUNTER_NAME_MAX];
	if (!take_name(s, device) || !take(s, ':') || !take(s, '{'))
		return false;
	if (take(s, '}'))
		return true;
	do {
		if (out->count == MSG_COUNTERS_MAX) {
			*full = true;
			return false;
		}
		struct msg_counter *c = &out->counters[out->count];
		memcpy(c->device, device, sizeof(c->device));
		if (!take_name(s, c->counter) || !take(s, ':') || !take_number(s, &c->value))
			return false;
		out->count++;
	} while (take(s, ','));
	return take(s, '}');
}

static bool take_all(struct scan *s, struct msg_counters_data *out, bool *full)
{
	if (!take(s, '{'))
		return false;
	if (!take(s, '}')) {
		do {
			if (!take_device(s, out, full))
				return false;
		} while (take(s, ','));
		if (!take(s, '}'))
			return false;
	}
	return s->at == s->end;
}

int counters_parse(const char *text, size_t length, struct msg_counters_data *out, struct err *e)
{
	struct scan s = {.at = text, .end = text + length};
	bool full = false;
	out->count = 0;
	memset(out->counters, 0, sizeof(out->counters));
	if (take_all(&s, out, &full))
		return 0;
	if (full)
		return err_set(e, ERR_VMM, 0, "vm.counters: more than %d counters",
			       MSG_COUNTERS_MAX);
	return err_set(e, ERR_VMM, 0, "vm.counters: byte %zu is not of a table of counters",
		       (size_t)(s.at - text));
}
