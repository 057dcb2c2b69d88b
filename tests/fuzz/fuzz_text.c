// SPDX-License-Identifier: Apache-2.0
/* common/name, util and err: the small functions on which much else relies. */
#include "fuzz.h"

#include "err.h"
#include "name.h"
#include "util.h"

/* Safe as one component of a path, by its own words. */
static void check_component(const char *text)
{
	FUZZ_CHECK(text[0] && text[0] != '.' && !strchr(text, '/') && !strstr(text, ".."));
	FUZZ_CHECK(strlen(text) < NAME_KEY_SIZE && fuzz_is_printable(text, NAME_KEY_SIZE));
}

static void names(const char *text, const char *other)
{
	char key[NAME_KEY_SIZE], tenant[NAME_SIZE], name[NAME_SIZE], again[NAME_KEY_SIZE];
	if (name_is_valid(text))
		check_component(text);
	bool valid = name_key_is_valid(text);
	FUZZ_CHECK(name_key_split(text, tenant, name) == valid);
	if (valid) {
		check_component(text);
		FUZZ_CHECK(name_is_valid(tenant) && name_is_valid(name));
		FUZZ_CHECK(name_key_make(again, tenant, name) && strcmp(again, text) == 0);
	}
	bool made = name_key_make(key, text, other);
	FUZZ_CHECK(made == (name_is_valid(text) && name_is_valid(other)));
	FUZZ_CHECK(made == (key[0] != '\0'));
	if (made) {
		FUZZ_CHECK(name_key_split(key, tenant, name));
		FUZZ_CHECK(strcmp(tenant, text) == 0 && strcmp(name, other) == 0);
	}
}

static void strings(char *text, size_t size)
{
	char small[16], show[24];
	uint64_t number;
	bool fits = str_copy(small, sizeof(small), text);
	FUZZ_CHECK(fits == (strlen(text) < sizeof(small)));
	FUZZ_CHECK(strcmp(small, fits ? text : "") == 0);
	str_is_padded(text, size + 1);
	if (str_to_u64(text, 3, UINT64_MAX - 1, &number)) {
		FUZZ_CHECK(number >= 3 && number < UINT64_MAX);
		snprintf(show, sizeof(show), "%llu", (unsigned long long)number);
		FUZZ_CHECK(strcmp(text + strspn(text, "0"), show) == 0);
	}
	str_clean(text);
	FUZZ_CHECK(fuzz_is_printable(text, size + 1));
}

static void errors(const char *text, uint8_t number)
{
	struct err e = {0};
	err_set(&e, ERR_INVALID, number, "%s", text);
	err_prefix(&e, "%s", text);
	err_prefix(&e, "%.300s", text);
	FUZZ_CHECK(strnlen(e.text, sizeof(e.text)) < sizeof(e.text));
	err_errno(&e, number, "%s", text);
	FUZZ_CHECK(strnlen(e.text, sizeof(e.text)) < sizeof(e.text) && e.errnum == number);
}

static void times(struct fuzz_input in)
{
	char text[CLOCK_TEXT_MAX];
	int64_t us = 0;
	for (int i = 0; i < 8; i++)
		us = (int64_t)((uint64_t)us << 8 | fuzz_byte(&in));
	clock_format(us, text);
	FUZZ_CHECK(strnlen(text, sizeof(text)) < sizeof(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	times(in);
	uint8_t number = fuzz_byte(&in);
	size_t length = in.left;
	char *text = fuzz_text(&in), *split = memchr(text, '|', length);
	if (split)
		*split = '\0';
	names(text, split ? split + 1 : "");
	errors(text, number);
	if (split)
		*split = '|';
	strings(text, length);
	free(text);
	return 0;
}
