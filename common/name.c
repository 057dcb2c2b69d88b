// SPDX-License-Identifier: Apache-2.0
#include "name.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool valid_span(const char *s, size_t len)
{
	if (len == 0 || len > NAME_MAX_LEN || !is_alnum(s[0]))
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!is_alnum(s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-')
			return false;
		if (s[i] == '.' && s[i - 1] == '.')
			return false;
	}
	return true;
}

bool name_is_valid(const char *name)
{
	return valid_span(name, strnlen(name, NAME_SIZE));
}

bool name_key_is_valid(const char *key)
{
	size_t len = strnlen(key, NAME_KEY_SIZE);
	const char *colon = memchr(key, ':', len);
	if (!colon || len == NAME_KEY_SIZE)
		return false;
	size_t first = (size_t)(colon - key);
	return valid_span(key, first) && valid_span(colon + 1, len - first - 1);
}

bool name_key_make(char key[NAME_KEY_SIZE], const char *tenant, const char *name)
{
	key[0] = '\0';
	if (!name_is_valid(tenant) || !name_is_valid(name))
		return false;
	snprintf(key, NAME_KEY_SIZE, "%s:%s", tenant, name);
	return true;
}

bool name_key_split(const char *key, char tenant[NAME_SIZE], char name[NAME_SIZE])
{
	tenant[0] = name[0] = '\0';
	if (!name_key_is_valid(key))
		return false;
	size_t first = (size_t)(strchr(key, ':') - key);
	memcpy(tenant, key, first);
	tenant[first] = '\0';
	snprintf(name, NAME_SIZE, "%s", key + first + 1);
	return true;
}
