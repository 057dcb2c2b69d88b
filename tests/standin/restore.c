// SPDX-License-Identifier: Apache-2.0
/* vm.restore: what it reads and refuses. Sizes come from the state, paths from the configuration,
 * as on the real one; keys that v53 does not know are refused, as at vm.boot. */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHAT	"The VM could not be restored"
#define RECEIVE "Cannot restore VM", "Failed to receive migratable component snapshot"

void restore_free(struct restore *r)
{
	free(r->dir);
	cJSON_Delete(r->config);
	cJSON_Delete(r->state);
	cJSON_Delete(r->memory);
	cJSON_Delete(r->guest);
	*r = (struct restore){0};
}

/* The whole file, NUL-ended, or NULL with errno; *opened says how far it came. */
static char *restore_read(const char *path, bool *opened)
{
	struct bytes all = {0};
	char piece[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	*opened = fd >= 0;
	if (fd < 0)
		return NULL;
	ssize_t n;
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		bytes_add(&all, piece, (size_t)n);
	int error = errno;
	close(fd);
	if (n == 0) {
		bytes_add(&all, "", 0);
		return all.data;
	}
	bytes_free(&all);
	errno = error;
	return NULL;
}

/* One of the two JSON files, or NULL with the answer. name: "config" or "state". */
static cJSON *restore_json(const char *dir, const char *name, struct answer *refusal)
{
	const char *word = strcmp(name, "config") ? "state" : "config";
	char *path = bytes_text("%s/%s.json", dir, name);
	bool opened;
	char *text = restore_read(path, &opened);
	if (!text) {
		char *os = boot_os_error();
		char *what = bytes_text("Error %s VM %s snapshot file \"%s\"",
					opened ? "reading" : "opening", word, path);
		*refusal = answer_chain(500, "Error from API", WHAT, RECEIVE, what, os, NULL);
		free(what);
		free(os);
		free(path);
		return NULL;
	}
	const char *end = NULL;
	cJSON *json = cJSON_ParseWithOpts(text, &end, true);
	if (!json) {
		char *what = bytes_text("Error deserialising VM %s snapshot", word);
		char *why = bytes_text("EOF while parsing a value at line 1 column %ld",
				       end ? (long)(end - text) : 0);
		*refusal = answer_chain(500, "Error from API", WHAT, RECEIVE, what, why, NULL);
		free(what);
		free(why);
	}
	free(text);
	free(path);
	return json;
}

cJSON *restore_peek(const char *url)
{
	struct answer refusal = {0};
	char *why = NULL;
	char *dir = snapshot_directory(url, &why);
	cJSON *json = dir ? restore_json(dir, "config", &refusal) : NULL;
	answer_free(&refusal);
	free(why);
	free(dir);
	return json;
}

static bool restore_config(struct restore *r, struct answer *refusal)
{
	char *why = NULL, *unknown = NULL;
	cJSON *json = restore_json(r->dir, "config", refusal);
	if (!json)
		return false;
	r->config = schema_config(json, &why, &unknown);
	cJSON_Delete(json);
	if (!r->config)
		*refusal = answer_chain(500, "Error from API", WHAT, RECEIVE,
					"Error deserialising VM config snapshot", why, NULL);
	if (unknown) {
		char *text = bytes_text("stand-in: v53 does not know the key `%s`", unknown);
		*refusal = answer_chain(500, "Error from API", WHAT, "Failed to validate config",
					text, NULL);
		free(text);
	}
	bool good = r->config && !unknown;
	free(why);
	free(unknown);
	return good;
}

static const cJSON *restore_find(const cJSON *list, const char *id)
{
	const cJSON *item;
	cJSON_ArrayForEach(item, list)
	{
		const char *own = cJSON_GetStringValue(cJSON_GetObjectItem(item, "id"));
		if (own && !strcmp(own, id))
			return item;
	}
	return NULL;
}

static int restore_fd_count(const cJSON *entry)
{
	return (int)cJSON_GetNumberValue(cJSON_GetObjectItem(entry, "num_fds"));
}

/* Why net_fds do not go with the configuration (heap), or NULL. */
static char *restore_check_net(const cJSON *given, const cJSON *nets)
{
	const cJSON *item, *net;
	cJSON_ArrayForEach(item, given)
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(item, "id"));
		if (restore_find(given, id) != item)
			return bytes_text("Identifier %s is not unique", id);
	}
	cJSON_ArrayForEach(net, nets)
	{
		const cJSON *fds = cJSON_GetObjectItem(net, "fds");
		if (!fds)
			continue;
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(net, "id"));
		item = restore_find(given, id ? id : "");
		if (!item)
			return bytes_text("Net id %s is associated with FDs and is required", id);
		if (restore_fd_count(item) != cJSON_GetArraySize(fds))
			return bytes_text("Number of Net FDs passed for '%s' during Restore: %d. "
					  "Expected: %d",
					  id, restore_fd_count(item), cJSON_GetArraySize(fds));
	}
	cJSON_ArrayForEach(item, given)
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(item, "id"));
		net = restore_find(nets, id);
		if (net && cJSON_GetObjectItem(net, "fds"))
			continue;
		report_log("vmm", "WARN", "vmm/src/config.rs:2923",
			   "Ignoring unused 'net_fds' for VM restore.");
		break;
	}
	return NULL;
}

static bool restore_validate(const struct restore *r, const cJSON *order, struct answer *refusal)
{
	char *why = NULL;
	if (r->ondemand && r->prefault)
		why = bytes_text("'prefault' cannot be combined with "
				 "'memory_restore_mode=ondemand'");
	else
		why = restore_check_net(cJSON_GetObjectItem(order, "net_fds"),
					cJSON_GetObjectItem(r->config, "net"));
	if (why)
		*refusal = answer_chain(500, "Error from API", WHAT, "Failed to validate config",
					why, NULL);
	bool good = !why;
	free(why);
	return good;
}

/* The state that part of the file holds as text, or NULL. */
cJSON *restore_part(const cJSON *part)
{
	const cJSON *data = cJSON_GetObjectItem(part, "snapshot_data");
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(data, "state"));
	return text ? cJSON_Parse(text) : NULL;
}

static bool restore_state(struct restore *r, struct answer *refusal)
{
	r->state = restore_json(r->dir, "state", refusal);
	if (!r->state)
		return false;
	const cJSON *parts = cJSON_GetObjectItem(r->state, "snapshots");
	const cJSON *cpus = cJSON_GetObjectItem(parts, "cpu-manager");
	r->memory = restore_part(cJSON_GetObjectItem(parts, "memory-manager"));
	r->guest = restore_part(cJSON_GetObjectItem(cJSON_GetObjectItem(cpus, "snapshots"), "0"));
	if (r->memory && r->guest)
		return true;
	*refusal = answer_chain(500, "Error from API", WHAT, RECEIVE,
				"Error deserialising VM state snapshot",
				"missing field `snapshots` at line 1 column 2", NULL);
	return false;
}

bool restore_open(struct restore *r, const cJSON *order, struct answer *refusal)
{
	char *why = NULL;
	const char *url = cJSON_GetStringValue(cJSON_GetObjectItem(order, "source_url"));
	const char *mode = cJSON_GetStringValue(cJSON_GetObjectItem(order, "memory_restore_mode"));
	r->ondemand = !strcmp(mode, "OnDemand");
	r->prefault = cJSON_IsTrue(cJSON_GetObjectItem(order, "prefault"));
	r->dir = snapshot_directory(url, &why);
	if (!r->dir) {
		*refusal = answer_chain(500, "Error from API", WHAT, "Cannot restore VM",
					"Failed to send migratable component snapshot", why, NULL);
		free(why);
		return false;
	}
	return restore_config(r, refusal) && restore_validate(r, order, refusal) &&
	       restore_state(r, refusal);
}

const cJSON *restore_mappings(const struct restore *r)
{
	return cJSON_GetObjectItem(r->memory, "guest_ram_mappings");
}

const cJSON *restore_saved_devices(const struct restore *r)
{
	const cJSON *parts = cJSON_GetObjectItem(r->state, "snapshots");
	return cJSON_GetObjectItem(cJSON_GetObjectItem(parts, "device-manager"), "snapshots");
}

bool restore_devices(const struct restore *r, const cJSON *devices, struct answer *refusal)
{
	const cJSON *device;
	int slot = 0;
	cJSON_ArrayForEach(device, devices)
	{
		slot++;
		if (cJSON_HasObjectItem(restore_saved_devices(r), device->string))
			continue;
		/* it takes the slot that a device of the snapshot wants to have back */
		char *why = bytes_text("Valid PCI device identifier but already used: %d", slot);
		*refusal = answer_chain(500, "Error from API", WHAT, "Error from device manager",
					"Failed to find an available PCI device ID", why, NULL);
		free(why);
		return false;
	}
	return true;
}

static struct answer restore_memory_error(const char *what, const char *prefix)
{
	char *os = boot_os_error();
	char *text = bytes_text("%s%s", prefix, os);
	struct answer answer =
		answer_chain(500, "Error from API", WHAT, "Memory manager error", what, text, NULL);
	free(text);
	free(os);
	return answer;
}

/* From at to end, or to the end of the file: what it does not have stays zero. */
static bool restore_extent(int fd, const struct region *region, off_t from, off_t at, off_t end)
{
	ssize_t n = 1;
	while (at < end && (n = pread(fd, region->map + (at - from), (size_t)(end - at), at)) > 0)
		at += n;
	return n >= 0;
}

/* Data extents only, where the file system can tell. */
static bool restore_copy(int fd, const struct region *region, off_t from)
{
	off_t end = from + (off_t)region->size, at = lseek(fd, from, SEEK_DATA);
	if (at < 0 && errno != ENXIO)
		return restore_extent(fd, region, from, from, end);
	while (at >= 0 && at < end) {
		off_t hole = lseek(fd, at, SEEK_HOLE);
		if (hole < 0 || hole > end)
			hole = end;
		if (!restore_extent(fd, region, from, at, hole))
			return false;
		at = lseek(fd, hole, SEEK_DATA);
	}
	return true;
}

bool restore_fill(const struct restore *r, const struct boot *boot, struct answer *refusal)
{
	const cJSON *ranges = cJSON_GetObjectItem(r->memory, "memory_ranges"), *range;
	ranges = cJSON_GetObjectItem(ranges, "data");
	if (!cJSON_GetArraySize(ranges))
		return true;
	if (r->ondemand && !load_allowed()) {
		char *os = boot_os_error();
		*refusal = answer_chain(500, "Error from API", WHAT, "Memory manager error",
					"Cannot restore VM", "On-demand restore failed",
					"Failed to create userfaultfd", os, NULL);
		free(os);
		return false;
	}
	char *path = bytes_text("%s/memory-ranges", r->dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	if (fd < 0) {
		*refusal = restore_memory_error("Error opening snapshot file", "");
		return false;
	}
	off_t from = 0;
	bool done = true;
	cJSON_ArrayForEach(range, ranges)
	{
		const struct region *region = boot_region_at(
			boot, cJSON_GetNumberValue(cJSON_GetObjectItem(range, "gpa")));
		if (!region || !done)
			continue;
		if (r->ondemand)
			load_add(region, from);
		else
			done = restore_copy(fd, region, from);
		from += (off_t)region->size;
	}
	if (!done)
		*refusal = restore_memory_error("Error copying snapshot into region",
						"Guest memory error: ");
	if (r->ondemand)
		load_start(fd); /* keeps it */
	else
		close(fd);
	return done;
}
