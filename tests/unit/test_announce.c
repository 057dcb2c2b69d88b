// SPDX-License-Identifier: Apache-2.0
/* shim/announce: the line that a restored guest gets; cloister-guest(7) promises it. */
#include "unit.h"

#include "announce.h"
#include "util.h"

#include <cjson/cJSON.h>

static void test_text(void **unused)
{
	char text[SHIM_ANNOUNCE_MAX], longest[NAME_SIZE] = "";
	uint8_t generation[16], entropy[64];
	(void)unused;
	for (unsigned i = 0; i < sizeof(entropy); i++)
		entropy[i] = (uint8_t)(255 - i);
	for (unsigned i = 0; i < sizeof(generation); i++)
		generation[i] = (uint8_t)(i * 17);
	size_t n = announce_text(text, "web-1", 1700000000123000, generation, entropy);
	assert_int_equal(n, strlen(text));
	assert_says(text, "{\"cloister\":1,\"event\":\"restored\",\"id\":\"web-1\","
			  "\"generation\":\"00112233445566778899aabbccddeeff\","
			  "\"time\":\"2023-11-14T22:13:20.123Z\",\"entropy\":\"fffefdfcfb");
	assert_string_equal(text + n - 5, "c0\"}\n");
	cJSON *json = cJSON_Parse(text);
	assert_non_null(json);
	assert_int_equal(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(json, "entropy"))), 128);
	cJSON_Delete(json);
	/* The longest id fits. */
	memset(longest, 'a', NAME_MAX_LEN);
	n = announce_text(text, longest, 1700000000123000, generation, entropy);
	assert_true(n < sizeof(text));
	assert_string_equal(text + n - 5, "c0\"}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
