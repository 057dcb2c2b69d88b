// SPDX-License-Identifier: Apache-2.0
#include "ch_disks.h"

#include "jail.h"

#include <stdio.h>
#include <string.h>

/*
 * Token buckets: size tokens come in each refill time (CH's docs/io_throttling.md). After a pause
 * of 100 ms for an empty bucket CH drops what is not a whole token and counts anew (seen with v53),
 * so that a bucket of one operation and a longer time never fills again: the disk would hang. So
 * operations come in tenths of a second, and fewer than 10 a second are not possible. Bytes come by
 * the second: a request that is larger than its bucket makes CH print an ERROR line.
 */
#define OPS_REFILL_MS	100
#define BYTES_REFILL_MS 1000

static uint64_t bytes_of(const struct msg_disk *d)
{
	return (uint64_t)d->rate_mib_s << 20;
}

static uint64_t ops_of(const struct msg_disk *d)
{
	return d->rate_iops / (1000 / OPS_REFILL_MS);
}

static bool add_bucket(cJSON *limiter, const char *key, uint64_t size, unsigned refill_ms)
{
	if (!size)
		return true;
	cJSON *bucket = cJSON_AddObjectToObject(limiter, key);
	return bucket && cJSON_AddNumberToObject(bucket, "size", (double)size) &&
	       cJSON_AddNumberToObject(bucket, "refill_time", refill_ms);
}

static bool add_rate(cJSON *disk, const struct msg_disk *d)
{
	if (!d->rate_mib_s && !d->rate_iops)
		return true;
	cJSON *limiter = cJSON_AddObjectToObject(disk, "rate_limiter_config");
	return limiter && add_bucket(limiter, "bandwidth", bytes_of(d), BYTES_REFILL_MS) &&
	       add_bucket(limiter, "ops", ops_of(d), OPS_REFILL_MS);
}

static bool add_disk(cJSON *disks, uint32_t i, const struct msg_disk *d)
{
	char id[16], path[sizeof(JAIL_DISK_PATH) + 16];
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

static bool is_number(const cJSON *item, double want)
{
	return cJSON_IsNumber(item) && item->valuedouble == want;
}

static bool is_bucket(const cJSON *bucket, uint64_t size, unsigned refill_ms)
{
	const cJSON *burst = member(bucket, "one_time_burst");
	if (!size)
		return !bucket || cJSON_IsNull(bucket);
	return is_number(member(bucket, "size"), (double)size) &&
	       is_number(member(bucket, "refill_time"), refill_ms) &&
	       (!burst || cJSON_IsNull(burst));
}

static bool is_rate(const cJSON *limiter, const struct msg_disk *d)
{
	if (!d->rate_mib_s && !d->rate_iops)
		return !limiter || cJSON_IsNull(limiter);
	return is_bucket(member(limiter, "bandwidth"), bytes_of(d), BYTES_REFILL_MS) &&
	       is_bucket(member(limiter, "ops"), ops_of(d), OPS_REFILL_MS);
}

static bool is_disk(const cJSON *disk, uint32_t i, const struct msg_disk *d)
{
	char id[16], path[sizeof(JAIL_DISK_PATH) + 16];
	bool readonly = d->flags & MSG_DISK_READONLY;
	snprintf(id, sizeof(id), "disk%u", i);
	snprintf(path, sizeof(path), JAIL_DISK_PATH "%u", i);
	return is_string(member(disk, "id"), id) && is_string(member(disk, "path"), path) &&
	       is_string(member(disk, "image_type"), "Raw") &&
	       cJSON_IsTrue(member(disk, "readonly")) == readonly &&
	       cJSON_IsTrue(member(disk, "disable_io_uring")) &&
	       is_rate(member(disk, "rate_limiter_config"), d) &&
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
