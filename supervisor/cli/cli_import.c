// SPDX-License-Identifier: Apache-2.0
#include "cli_import.h"

#include "caps.h"
#include "cli_request.h"
#include "cli_source.h"
#include "config.h"
#include "file.h"
#include "filter.h"
#include "ramcopy.h"
#include "sets.h"
#include "util.h"
#include "vmm_version.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/cloister/cloisterd.conf"
#define COPY_US	       (3600ll * 1000000) /* a person waits, and can interrupt */

/* ------------------------------------------------------------------ config.json */

static const cJSON *member(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* Devices whose other end would be missing in a jail. */
static const char *foreign_device(const cJSON *config)
{
	static const char *const keys[] = {"disks",   "net",	      "fs",   "generic-vhost-user",
					   "pmem",    "vsock",	      "vdpa", "devices",
					   "tpm",     "user_devices", "numa", "ivshmem",
					   "sgx_epc", "platform"};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const cJSON *item = member(config, keys[i]);
		if (item && !cJSON_IsNull(item) && !(cJSON_IsArray(item) && !item->child))
			return keys[i];
	}
	return NULL;
}

static bool read_number(const cJSON *object, const char *key, double min, double max, double *out)
{
	const cJSON *item = member(object, key);
	if (!cJSON_IsNumber(item) || item->valuedouble < min || item->valuedouble > max)
		return false;
	*out = item->valuedouble;
	return true;
}

static int read_spec(const cJSON *config, struct msg_create *spec, struct err *e)
{
	const cJSON *cpus = member(config, "cpus"), *memory = member(config, "memory");
	const cJSON *zones = member(memory, "zones"), *plugged = member(memory, "hotplugged_size");
	const double mib = 1 << 20;
	double vcpus, bytes;
	*spec = (struct msg_create){.source = MSG_SOURCE_BOOT};
	str_copy(spec->kernel, sizeof(spec->kernel), "imported");
	if (!read_number(cpus, "boot_vcpus", 1, MSG_VCPUS_MAX, &vcpus))
		return err_set(e, ERR_INVALID, 0, "cpus.boot_vcpus must be 1 to %d", MSG_VCPUS_MAX);
	if (cJSON_IsArray(zones) && zones->child)
		return err_set(e, ERR_INVALID, 0,
			       "memory.zones: only a guest with memory.size alone can be imported");
	if (cJSON_IsNumber(plugged) && plugged->valuedouble > 0)
		return err_set(e, ERR_INVALID, 0, "memory.hotplugged_size: memory was plugged in");
	if (!read_number(memory, "size", MSG_MEMORY_MIB_MIN * mib, MSG_MEMORY_MIB_MAX * mib,
			 &bytes) ||
	    (uint64_t)bytes % (1 << 20))
		return err_set(e, ERR_INVALID, 0, "memory.size must be whole MiB, at least %d",
			       MSG_MEMORY_MIB_MIN);
	spec->vcpus = spec->max_vcpus = (uint32_t)vcpus;
	spec->memory_mib = spec->max_memory_mib = (uint32_t)((uint64_t)bytes >> 20);
	if (cJSON_IsObject(member(config, "balloon")))
		spec->flags |= MSG_CREATE_BALLOON;
	return 0;
}

static bool put_string(cJSON *object, const char *key, const char *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(object, key);
	return cJSON_AddStringToObject(object, key, value) != NULL;
}

/* A device that was there stays there; only where its bytes go is ours to say. */
static bool put_mode(cJSON *config, const char *device, const char *mode)
{
	cJSON *item = cJSON_GetObjectItemCaseSensitive(config, device);
	const char *is = cJSON_GetStringValue(member(item, "mode"));
	if (!is || strcmp(is, "Off") == 0)
		return true;
	cJSON_DeleteItemFromObjectCaseSensitive(item, "file");
	cJSON_DeleteItemFromObjectCaseSensitive(item, "socket");
	return put_string(item, "mode", mode);
}

static bool put_ours(cJSON *config)
{
	cJSON *payload = cJSON_GetObjectItemCaseSensitive(config, "payload");
	cJSON *rng = cJSON_GetObjectItemCaseSensitive(config, "rng");
	cJSON_DeleteItemFromObjectCaseSensitive(config, "landlock_enable");
	cJSON_DeleteItemFromObjectCaseSensitive(config, "landlock_rules");
	cJSON_DeleteItemFromObjectCaseSensitive(payload, "initramfs");
	cJSON_DeleteItemFromObjectCaseSensitive(payload, "firmware");
	return put_mode(config, "serial", "Tty") && put_mode(config, "console", "Null") &&
	       (!payload || put_string(payload, "kernel", "/kernel")) &&
	       (!rng || put_string(rng, "src", "/dev/urandom"));
}

char *cli_import_config(const char *text, struct msg_create *spec, struct err *e)
{
	cJSON *config = cJSON_Parse(text);
	const char *device = foreign_device(config);
	char *out = NULL;
	if (!cJSON_IsObject(config))
		err_set(e, ERR_INVALID, 0, "it is no JSON object");
	else if (device)
		err_set(e, ERR_INVALID, 0, "%s: a guest with such a device cannot be imported",
			device);
	else if (read_spec(config, spec, e) == 0 &&
		 (!put_ours(config) || !(out = cJSON_PrintUnformatted(config))))
		err_errno(e, ENOMEM, "change its paths");
	cJSON_Delete(config);
	return out;
}

/* ------------------------------------------------------------------ the set */

struct source {
	int dir;
	char *config, *state;
	size_t state_length;
	int memory;
};

static void source_close(struct source *s)
{
	fd_close(&s->dir);
	fd_close(&s->memory);
	free(s->config);
	free(s->state);
}

/* One of the files: regular, and of nobody but who may write there. */
static int open_file(int dir, const char *name, struct stat *st, struct err *e)
{
	/* O_NONBLOCK: a FIFO in its place must not hold us up. */
	CLEANUP_FD int fd =
		file_open_beneath(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, "file", e);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) < 0)
		return err_errno(e, errno, "stat %s", name);
	if (!S_ISREG(st->st_mode))
		return err_set(e, ERR_INVALID, 0, "%s is no regular file", name);
	if (cli_source_check(dir, fd, name, e) < 0)
		return -1;
	return fd_take(&fd);
}

/* At most max bytes, ended by NUL; the caller frees it. */
static char *read_file(int dir, const char *name, size_t max, size_t *length, struct err *e)
{
	struct stat st;
	size_t used = 0;
	CLEANUP_FD int fd = open_file(dir, name, &st, e);
	if (fd < 0)
		return NULL;
	char *text = malloc(max + 1);
	if (!text) {
		err_errno(e, ENOMEM, "read %s", name);
		return NULL;
	}
	for (ssize_t n = 1; n > 0 && used<max; used += n> 0 ? (size_t)n : 0) {
		n = read(fd, text + used, max - used);
		if (n < 0) {
			err_errno(e, errno, "read %s", name);
			free(text);
			return NULL;
		}
	}
	if (used == max) {
		err_set(e, ERR_INVALID, 0, "%s has more than %zu bytes", name, max - 1);
		free(text);
		return NULL;
	}
	text[used] = '\0';
	*length = used;
	return text;
}

static int open_source(const char *path, struct source *s, struct msg_create *spec, struct err *e)
{
	size_t length;
	struct stat st;
	s->dir = cli_source_open(path, O_DIRECTORY, e);
	if (s->dir < 0)
		return -1;
	char *text CLEANUP_FREE = read_file(s->dir, SETS_CONFIG, SETS_CONFIG_MAX, &length, e);
	s->config = text ? cli_import_config(text, spec, e) : NULL;
	if (!s->config)
		return err_prefix(e, "%s/%s", path, SETS_CONFIG);
	s->state = read_file(s->dir, SETS_STATE, SETS_STATE_MAX, &s->state_length, e);
	if (!s->state)
		return err_prefix(e, "%s", path);
	cJSON *state = cJSON_Parse(s->state);
	bool whole = cJSON_IsObject(state);
	cJSON_Delete(state);
	if (!whole)
		return err_set(e, ERR_INVALID, 0, "%s/%s is no whole JSON", path, SETS_STATE);
	s->memory = open_file(s->dir, SETS_RANGES, &st, e);
	if (s->memory < 0)
		return err_prefix(e, "%s", path);
	if ((uint64_t)st.st_size != (uint64_t)spec->memory_mib << 20)
		return err_set(e, ERR_INVALID, 0, "%s/%s has %lld bytes, the guest has %u MiB",
			       path, SETS_RANGES, (long long)st.st_size, spec->memory_mib);
	return 0;
}

static int write_set(int templates, const struct source *s, struct msg_set *set, struct err *e)
{
	struct sets_staging staging = SETS_STAGING_INIT;
	static const int no_disks[MSG_DISKS_MAX];
	struct ramcopy copy;
	int result = sets_begin_template(&staging, templates, set->key, e);
	if (result < 0)
		return -1;
	CLEANUP_FD int to = sets_new_file(&staging, SETS_RANGES, e);
	if (to < 0 ||
	    sets_write(&staging, SETS_CONFIG, s->config, strlen(s->config), set->config_digest, e) <
		    0 ||
	    sets_write(&staging, SETS_STATE, s->state, s->state_length, set->state_digest, e) < 0 ||
	    ramcopy_start(&copy, s->memory, to, (uint64_t)set->spec.memory_mib << 20, e) < 0 ||
	    ramcopy_run(&copy, clock_us() + COPY_US, e) < 0 ||
	    sets_commit(&staging, set, no_disks, e) < 0)
		result = -1;
	sets_abandon(&staging);
	return result;
}

/* ------------------------------------------------------------------ the command */

/* A set does not say which CH made it. */
static int find_version(const struct cli_options *o, const struct policy *p, struct msg_set *set,
			struct err *e)
{
	uint32_t major, minor;
	if (!o->vmm_version) {
		if (vmm_version_probe(p, set->vmm_version, sizeof(set->vmm_version), &major, &minor,
				      e) < 0)
			return err_prefix(e, "--vmm-version was not given");
		return 0;
	}
	if (!str_copy(set->vmm_version, sizeof(set->vmm_version), o->vmm_version))
		return err_set(e, ERR_INVALID, 0, "--vmm-version: too long");
	return 0;
}

static int import(const struct cli_options *o, const struct policy *p, struct msg_set *set,
		  struct err *e)
{
	struct source source __attribute__((cleanup(source_close))) = {.dir = -1, .memory = -1};
	if (!name_key_make(set->key, o->tenant ? o->tenant : "admin", o->args[1]))
		return err_set(e, ERR_INVALID, 0, "tenant and name must be %s", NAME_RULE);
	str_copy(set->parent, sizeof(set->parent), set->key);
	set->created_real_us = clock_real_us();
	set->content = MSG_SET_RANGES | MSG_SET_CONFIG;
	/*
	 * The last program that this one starts, and the last that takes root's rights; then the
	 * drop and the filter, and then what others wrote.
	 */
	if (find_version(o, p, set, e) < 0 || caps_drop_to_import(e) < 0 ||
	    filter_load(FILTER_IMPORT, e) < 0 ||
	    open_source(o->args[2], &source, &set->spec, e) < 0)
		return -1;
	CLEANUP_FD int state = file_open_dir(p->state_dir, e);
	CLEANUP_FD int templates =
		state < 0
			? -1
			: file_open_beneath(state, "templates", O_RDONLY | O_DIRECTORY, 0,
					    "directory (cloisterd makes it at its first start)", e);
	return templates < 0 ? -1 : write_set(templates, &source, set, e);
}

/* A running daemon is told; one that does not run finds the template at its start. */
static void tell_daemon(const struct cli_options *o)
{
	struct cli_target t;
	struct cli_answer a;
	struct cli_options admin = *o;
	admin.tenant = NULL;
	if (access(o->socket, F_OK) < 0)
		return;
	cli_target_make(&t, &admin, "/v1/templates/rescan", NULL, NULL);
	if (cli_request_call(&admin, "POST", &t, NULL, 0, &a) == CLI_EXIT_OK)
		cli_answer_clear(&a);
}

int cli_import(const struct cli_options *o)
{
	const char *path = o->config ? o->config : DEFAULT_CONFIG;
	struct config config = {0};
	struct msg_set set = {0};
	struct err e;
	char *report = NULL;
	if (o->arg_count != 3)
		return cli_usage_error("usage: cloister templates import NAME DIR");
	if (geteuid() != 0) {
		fputs("cloister: templates import works on STATE_DIR itself: run it as root\n",
		      stderr);
		return CLI_EXIT_FAILED;
	}
	umask(022);
	int code = CLI_EXIT_FAILED;
	if (config_load(&config, path, &report) < 0)
		fprintf(stderr, "cloister: %s\n", report ? report : path);
	else if (import(o, &config.policy, &set, &e) < 0)
		fprintf(stderr, "cloister: import %s: %s\n", o->args[1], e.text);
	else
		code = CLI_EXIT_OK;
	free(report);
	config_free(&config);
	if (code == CLI_EXIT_OK) {
		printf("%s imported: %u vCPUs, %u MiB, %llu MiB on disk\n", set.key, set.spec.vcpus,
		       set.spec.memory_mib, (unsigned long long)set.allocated_bytes >> 20);
		tell_daemon(o);
	}
	return code;
}
