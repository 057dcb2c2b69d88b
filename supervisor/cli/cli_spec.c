// SPDX-License-Identifier: Apache-2.0
#include "cli_spec.h"

#include "cli_disk.h"
#include "cli_network.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Above the supervisor's own limit, so that its answer is the one that people see. */
#define SPEC_MAX (1u << 20)

#define DISKS_EXTRA_S 600 /* as [limits] disks_ms is by default */

unsigned cli_spec_extra_s(const struct cli_options *o)
{
	return (o->disk_count || o->template ? DISKS_EXTRA_S : 0) + cli_network_wait_s(o);
}

static int complain(const char *path, const char *what)
{
	fprintf(stderr, "cloister: read %s: %s\n", strcmp(path, "-") ? path : "standard input",
		what);
	return CLI_EXIT_FAILED;
}

int cli_spec_read(const char *path, size_t max, char **body, size_t *length)
{
	CLEANUP_FD int opened = -1;
	int fd = STDIN_FILENO;
	if (strcmp(path, "-") != 0) {
		fd = opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			return complain(path, strerror(errno));
	}
	CLEANUP_FREE char *buf = malloc(max + 1);
	size_t len = 0;
	if (!buf)
		return complain(path, strerror(ENOMEM));
	while (len <= max) {
		ssize_t n = read(fd, buf + len, max + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return complain(path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > max)
		return complain(path, "it is larger than 1 MiB");
	*body = buf;
	*length = len;
	buf = NULL;
	return 0;
}

/* 0, or an exit code after a complaint. The word itself is for the supervisor to judge. */
static int add_restart(const struct cli_options *o, cJSON *root)
{
	char policy[32];
	uint64_t attempts = 0;
	if (!o->restart)
		return 0;
	size_t length = strcspn(o->restart, ":");
	const char *number = o->restart[length] ? o->restart + length + 1 : NULL;
	if (length == 0 || length >= sizeof(policy) ||
	    (number && !str_to_u64(number, 0, UINT32_MAX, &attempts)))
		return cli_usage_error("--restart: \"%s\" is not POLICY or POLICY:ATTEMPTS, like "
				       "on-failure:3",
				       o->restart);
	memcpy(policy, o->restart, length);
	policy[length] = '\0';
	cJSON *rule = cJSON_AddObjectToObject(root, "restart");
	cJSON_AddStringToObject(rule, "policy", policy);
	if (number)
		cJSON_AddNumberToObject(rule, "attempts", (double)attempts);
	return 0;
}

static int make_json(const struct cli_options *o, cJSON *root)
{
	bool ok = true;
	if (o->kernel)
		ok &= cJSON_AddStringToObject(root, "kernel", o->kernel) != NULL;
	if (o->template)
		ok &= cJSON_AddStringToObject(root, "template", o->template) != NULL;
	if (o->memory_restore)
		ok &= cJSON_AddStringToObject(root, "memory_restore", o->memory_restore) != NULL;
	if (o->id)
		ok &= cJSON_AddStringToObject(root, "id", o->id) != NULL;
	if (o->initramfs)
		ok &= cJSON_AddStringToObject(root, "initramfs", o->initramfs) != NULL;
	if (o->cmdline)
		ok &= cJSON_AddStringToObject(root, "cmdline", o->cmdline) != NULL;
	if (o->vcpus)
		ok &= cJSON_AddNumberToObject(root, "vcpus", o->vcpus) != NULL;
	if (o->memory_mib)
		ok &= cJSON_AddNumberToObject(root, "memory_mib", o->memory_mib) != NULL;
	if (o->max_vcpus)
		ok &= cJSON_AddNumberToObject(root, "max_vcpus", o->max_vcpus) != NULL;
	if (o->max_memory_mib)
		ok &= cJSON_AddNumberToObject(root, "max_memory_mib", o->max_memory_mib) != NULL;
	if (o->no_balloon)
		ok &= cJSON_AddFalseToObject(root, "balloon") != NULL;
	cJSON *labels = o->label_count ? cJSON_AddObjectToObject(root, "labels") : NULL;
	for (unsigned i = 0; i < o->label_count; i++) {
		const char *eq = strchr(o->labels[i], '=');
		CLEANUP_FREE char *key = strndup(o->labels[i], (size_t)(eq - o->labels[i]));
		ok &= key && cJSON_AddStringToObject(labels, key, eq + 1) != NULL;
	}
	return ok ? 0 : -1;
}

/* 0, or an exit code after a complaint. */
static int add_disks(const struct cli_options *o, cJSON *root)
{
	int code = 0;
	cJSON *disks = o->disk_count ? cJSON_AddArrayToObject(root, "disks") : NULL;
	for (unsigned i = 0; i < o->disk_count && !code; i++)
		code = cli_disk_add(disks, o->disks[i]);
	return code;
}

int cli_spec_make(const struct cli_options *o, char **body, size_t *length)
{
	if (o->file) {
		if (o->id || o->kernel || o->initramfs || o->cmdline || o->vcpus || o->memory_mib ||
		    o->label_count || o->no_balloon || o->template || o->memory_restore ||
		    o->max_vcpus || o->max_memory_mib || o->disk_count || o->restart ||
		    cli_network_is_given(o))
			return cli_usage_error("--file is sent as it is: put the other options "
					       "into the file");
		return cli_spec_read(o->file, SPEC_MAX, body, length);
	}
	if (!o->kernel && !o->template)
		return cli_usage_error("--kernel NAME, --template NAME or --file FILE is needed");
	cJSON *root = cJSON_CreateObject();
	int code = root ? add_disks(o, root) : 0;
	if (root && !code)
		code = cli_network_add(o, root);
	if (root && !code)
		code = add_restart(o, root);
	if (code) {
		cJSON_Delete(root);
		return code;
	}
	*body = root && make_json(o, root) == 0 ? cJSON_PrintUnformatted(root) : NULL;
	cJSON_Delete(root);
	if (!*body) {
		fputs("cloister: no memory for the request\n", stderr);
		return CLI_EXIT_FAILED;
	}
	*length = strlen(*body);
	return 0;
}
