// SPDX-License-Identifier: Apache-2.0
#include "spec_disk.h"

#include "json.h"
#include "util.h"

#include <stdio.h>
#include <string.h>

#define AT_SIZE 24 /* "disks[7]" */

static int refuse(const char *at, const cJSON *v, const char *rule, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s%s%s: %s is not allowed; must be %s", at,
		       v->string ? "." : "", v->string ? v->string : "", shown, rule);
}

static int unknown(const char *at, const cJSON *v, struct err *e)
{
	err_set(e, ERR_INVALID, 0, "%s: unknown field \"%.80s\"", at, v->string);
	str_clean(e->text);
	return -1;
}

static int take_name(struct msg_disk *disk, const char *at, const cJSON *v, struct err *e)
{
	if (!cJSON_IsString(v) || !name_is_valid(v->valuestring))
		return refuse(at, v, "a string of " NAME_RULE, e);
	if (disk->image[0])
		return err_set(e, ERR_INVALID, 0,
			       "%s: has both image and device; must have one of them", at);
	str_copy(disk->image, sizeof(disk->image), v->valuestring);
	if (strcmp(v->string, "device") == 0)
		disk->flags |= MSG_DISK_DEVICE;
	return 0;
}

static int take_readonly(struct msg_disk *disk, const char *at, const cJSON *v, struct err *e)
{
	if (!cJSON_IsBool(v))
		return refuse(at, v, "true or false", e);
	if (cJSON_IsTrue(v))
		disk->flags |= MSG_DISK_READONLY;
	return 0;
}

static int take_rate(struct msg_disk *disk, const char *above, const cJSON *v, struct err *e)
{
	char at[AT_SIZE + 8];
	if (!cJSON_IsObject(v))
		return refuse(above, v, "an object with mib_s, iops or both", e);
	snprintf(at, sizeof(at), "%s.rate", above);
	for (const cJSON *r = v->child; r; r = r->next) {
		if (strcmp(r->string, "mib_s") == 0) {
			if (!cJSON_IsNull(r) &&
			    !json_u32(r, 1, MSG_DISK_RATE_MIB_MAX, &disk->rate_mib_s))
				return refuse(at, r, "a whole number of 1 to 1000000", e);
		} else if (strcmp(r->string, "iops") == 0) {
			if (!cJSON_IsNull(r) &&
			    !json_u32(r, MSG_DISK_IOPS_MIN, MSG_DISK_IOPS_MAX, &disk->rate_iops))
				return refuse(at, r, "a whole number of 10 to 10000000", e);
		} else {
			return unknown(at, r, e);
		}
	}
	return 0;
}

static int take_member(struct msg_disk *disk, const char *at, const cJSON *v, struct err *e)
{
	if (strcmp(v->string, "readonly") == 0)
		return take_readonly(disk, at, v, e);
	bool name = strcmp(v->string, "image") == 0 || strcmp(v->string, "device") == 0;
	bool size = strcmp(v->string, "size_mib") == 0;
	if (!name && !size && strcmp(v->string, "rate") != 0)
		return unknown(at, v, e);
	if (cJSON_IsNull(v))
		return 0;
	if (name)
		return take_name(disk, at, v, e);
	if (!size)
		return take_rate(disk, at, v, e);
	if (!json_u32(v, 1, MSG_DISK_MIB_MAX, &disk->size_mib))
		return refuse(at, v, "a whole number of 1 to 67108864", e);
	return 0;
}

static int read_disk(struct msg_disk *disk, const char *at, const cJSON *v, struct err *e)
{
	if (!cJSON_IsObject(v))
		return refuse(at, v, "an object with image or device", e);
	for (const cJSON *m = v->child; m; m = m->next)
		if (take_member(disk, at, m, e) < 0)
			return -1;
	if (!disk->image[0])
		return err_set(e, ERR_INVALID, 0,
			       "%s: has neither image nor device; must have one of them", at);
	if ((disk->flags & MSG_DISK_DEVICE) && disk->size_mib)
		return err_set(e, ERR_INVALID, 0,
			       "%s.size_mib: %u is not allowed with device, which has a size of "
			       "its own; leave it out",
			       at, disk->size_mib);
	return 0;
}

/* The VMM locks what it opens: a device that is there twice would only fail later. */
static int check_devices(const struct spec *s, struct err *e)
{
	for (uint32_t i = 0; i < s->disk_count; i++)
		for (uint32_t j = 0; j < i; j++)
			if ((s->disks[i].flags & s->disks[j].flags & MSG_DISK_DEVICE) &&
			    strcmp(s->disks[i].image, s->disks[j].image) == 0)
				return err_set(e, ERR_INVALID, 0,
					       "disks[%u].device: \"%s\" is disks[%u] already; a "
					       "sandbox can have a device once",
					       i, s->disks[i].image, j);
	return 0;
}

int spec_disk_read(struct spec *s, const cJSON *v, struct err *e)
{
	char at[AT_SIZE];
	if (cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > MSG_DISKS_MAX) {
		char shown[96];
		json_show(v, shown, sizeof(shown));
		return err_set(e, ERR_INVALID, 0,
			       "disks: %s is not allowed; must be an array of at most %d objects",
			       shown, MSG_DISKS_MAX);
	}
	for (const cJSON *d = v->child; d; d = d->next) {
		snprintf(at, sizeof(at), "disks[%u]", s->disk_count);
		if (read_disk(&s->disks[s->disk_count], at, d, e) < 0)
			return -1;
		s->disk_count++;
	}
	return check_devices(s, e);
}

void spec_disk_copy(struct spec *s, const struct msg_disk *disks, uint32_t count)
{
	s->disk_count = count;
	memcpy(s->disks, disks, sizeof(s->disks));
}

void spec_disk_unmake(struct spec *s)
{
	for (uint32_t i = 0; i < s->disk_count; i++)
		s->disks[i].made = MSG_DISK_ASKED;
}

int spec_disk_made(struct spec *s, const struct msg_disk *disks, uint32_t count, struct err *e)
{
	if (count != s->disk_count)
		return err_set(e, ERR_PROTOCOL, 0, "it has %u disks, not the %u that it must have",
			       count, s->disk_count);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(disks[i].image, s->disks[i].image) != 0 ||
		    disks[i].flags != s->disks[i].flags)
			return err_set(e, ERR_PROTOCOL, 0, "disk %u is not the one asked for", i);
	for (uint32_t i = 0; i < count; i++) {
		s->disks[i].made = disks[i].made;
		s->disks[i].size_mib = disks[i].size_mib;
	}
	return 0;
}

bool spec_disk_is_own(const struct msg_disk *disk)
{
	return (disk->flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE)) == 0;
}

uint64_t spec_disk_own_mib(const struct spec *s)
{
	uint64_t mib = 0;
	for (uint32_t i = 0; i < s->disk_count; i++)
		if (spec_disk_is_own(&s->disks[i]))
			mib += s->disks[i].size_mib;
	return mib;
}

int spec_disk_find_writable(const struct spec *s, bool device)
{
	for (uint32_t i = 0; i < s->disk_count; i++)
		if (!(s->disks[i].flags & MSG_DISK_READONLY) &&
		    (!device || (s->disks[i].flags & MSG_DISK_DEVICE)))
			return (int)i;
	return -1;
}
