// SPDX-License-Identifier: Apache-2.0
/* supervisor/config: the file as text. */
#include "fuzz.h"

#include "config.h"

static void check_path(const char *path)
{
	FUZZ_CHECK(fuzz_is_printable(path, POLICY_PATH_MAX));
	FUZZ_CHECK(!strstr(path, "/../") && !strstr(path, "//"));
}

/* What root code relies on, whatever the file said. */
static void check_policy(const struct config *c)
{
	const struct policy *p = &c->policy;
	FUZZ_CHECK(p->user_uid != 0 && p->user_gid != 0);
	FUZZ_CHECK(p->max_sandboxes > 0 && p->max_sandboxes < p->uid_count);
	FUZZ_CHECK(p->uid_base > 0 && p->uid_base + p->uid_count > p->uid_base);
	FUZZ_CHECK(p->env_count <= POLICY_ENV_MAX && p->bind_count <= POLICY_BIND_MAX);
	FUZZ_CHECK(p->device_count <= POLICY_DEVICES_MAX);
	FUZZ_CHECK(p->state_dir[0] == '/' && p->run_dir[0] == '/' && p->vmm_binary[0] == '/');
	FUZZ_CHECK(p->cgroup[0] && p->cgroup[0] != '/');
	check_path(p->state_dir);
	check_path(p->run_dir);
	check_path(p->vmm_binary);
	check_path(p->cgroup);
	for (uint32_t i = 0; i < p->bind_count; i++)
		check_path(p->bind_ro[i]);
	for (uint32_t i = 0; i < p->env_count; i++)
		FUZZ_CHECK(strchr(p->env[i], '='));
	for (uint32_t i = 0; i < p->device_count; i++) {
		check_path(p->devices[i].path);
		FUZZ_CHECK(name_key_is_valid(p->devices[i].key));
	}
	FUZZ_CHECK(p->pool_bits == 0 || (p->pool_bits >= 8 && p->pool_bits <= 30));
	for (size_t i = 0; i < c->tenant_count; i++)
		FUZZ_CHECK(name_is_valid(c->tenants[i].name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c;
	char *report = NULL;
	FILE *file = size ? fmemopen((void *)(uintptr_t)data, size, "re") : NULL;
	if (!file)
		return 0;
	if (config_parse(&c, file, "x.conf", &report) == 0) {
		FUZZ_CHECK(!report);
		check_policy(&c);
	} else {
		FUZZ_CHECK(report && report[0]);
	}
	free(report);
	config_free(&c);
	fclose(file);
	return 0;
}
