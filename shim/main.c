// SPDX-License-Identifier: Apache-2.0
/* cloister-shim: `spawn`, `probe`, `check` and `KEY UID` are cloisterd's and the spawner's to
 * start. */
#include "filter.h"
#include "log.h"
#include "name.h"
#include "probe.h"
#include "serve.h"
#include "spawner.h"
#include "util.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int usage(void)
{
	fputs("cloister-shim is started by cloisterd and has nothing to do on its own.\n"
	      "Usage: cloister-shim --version\n",
	      stderr);
	return 2;
}

/* Nothing is done, and nothing read, before this. */
static bool filtered(enum filter_role role)
{
	struct err e;
	if (filter_load(role, &e) == 0)
		return true;
	log_error("%s", e.text);
	return false;
}

static int run_shim(const char *key, const char *uid_text)
{
	uint64_t uid;
	if (!str_to_u64(uid_text, 1, UINT32_MAX - 1, &uid) || !name_key_is_valid(key))
		return usage();
	prctl(PR_SET_NAME, "cloister-shim");
	return serve_run(key, (uid_t)uid);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("cloister-shim " CLOISTER_VERSION);
		return 0;
	}
	if (geteuid() != 0 || argc < 2)
		return usage();
	if (argc == 2 && strcmp(argv[1], "spawn") == 0) {
		log_open("cloister-spawn", LOG_LEVEL_INFO);
		return filtered(FILTER_SPAWNER) ? spawner_run() : 1;
	}
	log_open("cloister-shim", LOG_LEVEL_INFO);
	if (argc == 2 && strcmp(argv[1], "probe") == 0)
		return filtered(FILTER_SETUP) ? probe_run() : 1;
	if (argc == 2 && strcmp(argv[1], "check") == 0)
		return filtered(FILTER_SPAWNER) ? probe_check() : 1;
	if (argc == 3)
		return filtered(FILTER_SETUP) ? run_shim(argv[1], argv[2]) : 1;
	return usage();
}
