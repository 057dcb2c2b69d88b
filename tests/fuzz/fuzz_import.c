// SPDX-License-Identifier: Apache-2.0
/* supervisor/cli/cli_import: a plain Cloud Hypervisor's config.json, which may be anybody's. */
#include "fuzz.h"

#include "cli_import.h"

#include <cjson/cJSON.h>

/* No path is left in it but those of the jail. */
static void check_paths(const cJSON *config)
{
	const cJSON *payload = cJSON_GetObjectItemCaseSensitive(config, "payload");
	const char *kernel =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(payload, "kernel"));
	FUZZ_CHECK(!cJSON_IsObject(payload) || (kernel && strcmp(kernel, "/kernel") == 0));
	FUZZ_CHECK(!cJSON_GetObjectItemCaseSensitive(payload, "firmware"));
	FUZZ_CHECK(!cJSON_GetObjectItemCaseSensitive(payload, "initramfs"));
	FUZZ_CHECK(!cJSON_GetObjectItemCaseSensitive(config, "landlock_rules"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct msg_template body;
	struct fuzz_input in = {data, size};
	struct err e = {0};
	char *text = fuzz_text(&in);
	memset(&body, 0, sizeof(body));
	char *out = cli_import_config(text, &body.set.spec, &e);
	free(text);
	if (!out) {
		FUZZ_CHECK(e.kind == ERR_INVALID);
		return 0;
	}
	cJSON *config = cJSON_Parse(out);
	FUZZ_CHECK(cJSON_IsObject(config));
	check_paths(config);
	/* It makes a set that is read again. */
	body.set.format = MSG_SET_FORMAT;
	body.set.content = MSG_SET_RANGES | MSG_SET_CONFIG;
	snprintf(body.set.key, sizeof(body.set.key), "acme:base");
	snprintf(body.set.parent, sizeof(body.set.parent), "acme:base");
	FUZZ_CHECK(msg_write_template(&body, &e) > 0);
	cJSON_Delete(config);
	free(out);
	return 0;
}
