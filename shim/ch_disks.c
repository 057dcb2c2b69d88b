// SPDX-License-Identifier: Apache-2.0
#include "ch_disks.h"

#include "jail.h"

#include <stdio.h>
#include <string.h>

/*
 * A token bucket that refills once in this time: short, so that no long burst gets through, and no
 * shorter than CH's own pause when a bucket is empty (its docs/io_throttling.md).
 */
#define REFILLS_PER_S 10

static bool add_bucket(cJSON *limiter, const char *key, uint64_t per_second)
{
	cJSON *bucket = cJSON_AddObjectToObject(limiter, key);
	uint64_t size = per_second / REFILLS_PER_S;
	uint64_t ms = size ? 1000 / REFILLS_PER_S : 1000 / per_second;
	return bucket && cJSON_AddNumberToObject(bucket, "size", size ? (double)size : 1) &&
	       cJSON_AddNumberToObject(bucket, "refill_time", (double)ms);
}

static bool add_rate(cJSON *disk, const struct msg_disk *d)
{
	if (!d->rate_mib_s && !d->rate_iops)
		return true;
	cJSON *limiter = cJSON_AddObjectToObject(disk, "rate_limiter_config");
	return limiter &&
	       (!d->rate_mib_s ||
		add_bucket(limiter, "bandwidth", (uint64_t)d->rate_mib_s << 20)) &&
	       (!d->rate_iops || add_bucket(limiter, "ops", d->rate_iops));
}

static bool add_disk(cJSON *disks, uint32_t i, const struct msg_disk *d)
{
	char id[16], path[sizeof(JAIL_DISK_PATH) + 8];
	cJSON *disk = cJSON_CreateObject();
	snprintf(id, sizeof(id), "disk%u", i);
	snprintf(path, sizeof(path), JAIL_DISK_PATH "%u", i);
	if (!disk || !cJSON_AddItemToArray(disks, disk)) {
		cJSON_Delete(disk);
		return false;
	}
	/*
	 * image_type: with none CH looks into the disk for a format (ch-facts, section 7).
	 * disable_io_uring: its system calls are a large part of the kernel that a VMM that was
	 * taken over would get to; without it CH uses aio.
	 */
	return cJSON_AddStringToObject(disk, "id", id) &&
	       cJSON_AddStringToObject(disk, "path", path) &&
	       cJSON_AddBoolToObject(disk, "readonly", d->flags & MSG_DISK_READONLY) &&
	       cJSON_AddStringToObject(disk, "image_type", "Raw") &&
	       cJSON_AddTrueToObject(disk, "disable_io_uring") && add_rate(disk, d);
}

bool ch_disks_add(cJSON *config, const struct msg_create *spec)
{
	if (!spec->disk_count)
		return true;
	cJSON *disks = cJSON_AddArrayToObject(config, "disks");
	for (uint32_t i = 0; disks && i < spec->disk_count; i++)
		if (!add_disk(disks, i, &spec->disks[i]))
			return false;
	return disks != NULL;
}

static const cJSON *member(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is_string(const cJSON *item, const char *want)
{
	const char *value = cJSON_GetStringValue(item);
	return value && strcmp(value, want) == 0;
}

static bool is_disk(const cJSON *disk, uint32_t i, const struct msg_disk *d)
{
	char id[16], path[sizeof(JAIL_DISK_PATH) + 8];
	bool readonly = d->flags & MSG_DISK_READONLY, limited = d->rate_mib_s || d->rate_iops;
	snprintf(id, sizeof(id), "disk%u", i);
	snprintf(path, sizeof(path), JAIL_DISK_PATH "%u", i);
	return is_string(member(disk, "id"), id) && is_string(member(disk, "path"), path) &&
	       is_string(member(disk, "image_type"), "Raw") &&
	       cJSON_IsTrue(member(disk, "readonly")) == readonly &&
	       cJSON_IsTrue(member(disk, "disable_io_uring")) &&
	       cJSON_IsObject(member(disk, "rate_limiter_config")) == limited &&
	       !cJSON_IsTrue(member(disk, "vhost_user")) &&
	       !cJSON_IsTrue(member(disk, "backing_files"));
}

bool ch_disks_are(const cJSON *config, const struct msg_create *spec)
{
	const cJSON *disk = member(config, "disks");
	if (disk && !cJSON_IsArray(disk) && !cJSON_IsNull(disk))
		return false;
	disk = cJSON_IsArray(disk) ? disk->child : NULL;
	for (uint32_t i = 0; i < spec->disk_count; i++, disk = disk->next)
		if (!disk || !is_disk(disk, i, &spec->disks[i]))
			return false;
	return disk == NULL;
}
