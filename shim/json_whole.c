// SPDX-License-Identifier: Apache-2.0
#include "json_whole.h"

#include <string.h>

struct scan {
	const char *at, *end;
	unsigned depth;
	bool object[JSON_WHOLE_DEPTH_MAX]; /* what each level is: else a list */
};

enum taken { TAKEN_BAD, TAKEN_VALUE, TAKEN_OPENED };

static void skip_blanks(struct scan *s)
{
	while (s->at < s->end &&
	       (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool take(struct scan *s, char c)
{
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static bool is_one_of(const char *set, char c)
{
	return c != '\0' && strchr(set, c) != NULL;
}

static bool take_escape(struct scan *s)
{
	if (s->at == s->end)
		return false;
	char c = *s->at++;
	if (c != 'u')
		return is_one_of("\"\\/bfnrt", c);
	for (int i = 0; i < 4; i++)
		if (s->at == s->end || !is_one_of("0123456789abcdefABCDEF", *s->at++))
			return false;
	return true;
}

static bool take_string(struct scan *s)
{
	if (!take(s, '"'))
		return false;
	while (s->at < s->end) {
		unsigned char c = (unsigned char)*s->at++;
		if (c == '"')
			return true;
		if (c < 0x20 || (c == '\\' && !take_escape(s)))
			return false;
	}
	return false;
}

static bool take_digits(struct scan *s)
{
	const char *first = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return s->at > first;
}

static bool take_number(struct scan *s)
{
	take(s, '-');
	if (!take(s, '0') && !take_digits(s))
		return false;
	if (take(s, '.') && !take_digits(s))
		return false;
	if (!take(s, 'e') && !take(s, 'E'))
		return true;
	if (!take(s, '+'))
		take(s, '-');
	return take_digits(s);
}

static bool take_word(struct scan *s, const char *word)
{
	size_t length = strlen(word);
	if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
		return false;
	s->at += length;
	return true;
}

/* The name of a member and its colon. */
static bool take_name(struct scan *s)
{
	skip_blanks(s);
	if (!take_string(s))
		return false;
	skip_blanks(s);
	return take(s, ':');
}

/* Goes into an object or a list; one that is empty is left at once. */
static enum taken open_level(struct scan *s, bool object)
{
	if (s->depth == JSON_WHOLE_DEPTH_MAX)
		return TAKEN_BAD;
	skip_blanks(s);
	if (take(s, object ? '}' : ']'))
		return TAKEN_VALUE;
	s->object[s->depth++] = object;
	return !object || take_name(s) ? TAKEN_OPENED : TAKEN_BAD;
}

static enum taken take_value(struct scan *s)
{
	skip_blanks(s);
	if (s->at == s->end)
		return TAKEN_BAD;
	if (take(s, '{'))
		return open_level(s, true);
	if (take(s, '['))
		return open_level(s, false);
	bool good = *s->at == '"' ? take_string(s)
				  : take_word(s, "true") || take_word(s, "false") ||
					    take_word(s, "null") || take_number(s);
	return good ? TAKEN_VALUE : TAKEN_BAD;
}

/* Behind a value: TAKEN_OPENED when another is due, TAKEN_VALUE when all levels are closed. */
static enum taken take_rest(struct scan *s)
{
	while (s->depth) {
		bool object = s->object[s->depth - 1];
		skip_blanks(s);
		if (take(s, ','))
			return !object || take_name(s) ? TAKEN_OPENED : TAKEN_BAD;
		if (!take(s, object ? '}' : ']'))
			return TAKEN_BAD;
		s->depth--;
	}
	return TAKEN_VALUE;
}

bool json_whole(const char *text, size_t length)
{
	struct scan s = {.at = text, .end = text + length};
	skip_blanks(&s);
	if (s.at == s.end || *s.at != '{')
		return false;
	enum taken taken;
	do {
		taken = take_value(&s);
		if (taken == TAKEN_VALUE)
			taken = take_rest(&s);
	} while (taken == TAKEN_OPENED);
	skip_blanks(&s);
	return taken == TAKEN_VALUE && s.at == s.end;
}
