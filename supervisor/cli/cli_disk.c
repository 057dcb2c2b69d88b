// SPDX-License-Identifier: Apache-2.0
#include "cli_disk.h"

#include "cli_options.h"
#include "msg.h"
#include "name.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The members of a disk in the API; rate's two are in an object of their own. */
static const struct part {
	const char *name, *member;
	enum { PART_NAME, PART_FLAG, PART_SIZE, PART_RATE } type;
	uint32_t min, max;
} parts[] = {
	{"image", "image", PART_NAME, 0, 0},
	{"device", "device", PART_NAME, 0, 0},
	{"ro", "readonly", PART_FLAG, 0, 0},
	{"size", "size_mib", PART_SIZE, 1, MSG_DISK_MIB_MAX},
	{"mib_s", "mib_s", PART_RATE, 1, MSG_DISK_RATE_MIB_MAX},
	{"iops", "iops", PART_RATE, MSG_DISK_IOPS_MIN, MSG_DISK_IOPS_MAX},
};

/* In MiB, or with a suffix. */
static bool read_size(char *text, uint32_t max, uint64_t *mib)
{
	static const char units[] = "MGT";
	size_t length = strlen(text);
	char last = length ? text[length - 1] : '\0';
	const char *unit = last ? strchr(units, last) : NULL;
	unsigned shift = unit ? (unsigned)(unit - units) * 10 : 0;
	if (unit)
		text[length - 1] = '\0';
	if (!str_to_u64(text, 1, max >> shift, mib))
		return false;
	*mib <<= shift;
	return true;
}

static int no_memory(void)
{
	fputs("cloister: no memory for the request\n", stderr);
	return CLI_EXIT_FAILED;
}

static int add_rate(cJSON *disk, const struct part *part, uint64_t number)
{
	cJSON *rate = cJSON_GetObjectItemCaseSensitive(disk, "rate");
	if (!rate)
		rate = cJSON_AddObjectToObject(disk, "rate");
	if (cJSON_GetObjectItemCaseSensitive(rate, part->member))
		return cli_usage_error("--disk: \"%s\" is given twice", part->name);
	return cJSON_AddNumberToObject(rate, part->member, (double)number) ? 0 : no_memory();
}

/* value: NULL where there is none; it is changed. */
static int add_part(cJSON *disk, const struct part *part, char *value)
{
	uint64_t number = 0;
	if (part->type == PART_FLAG && value)
		return cli_usage_error("--disk: \"%s\" takes no value", part->name);
	if (part->type != PART_FLAG && (!value || !*value))
		return cli_usage_error("--disk: \"%s\" needs a value", part->name);
	if (cJSON_GetObjectItemCaseSensitive(disk, part->member))
		return cli_usage_error("--disk: \"%s\" is given twice", part->name);
	switch (part->type) {
	case PART_NAME:
		if (!name_is_valid(value))
			return cli_usage_error("--disk: %s: \"%s\" is not a name (%s)", part->name,
					       value, NAME_RULE);
		return cJSON_AddStringToObject(disk, part->member, value) ? 0 : no_memory();
	case PART_FLAG:
		return cJSON_AddTrueToObject(disk, part->member) ? 0 : no_memory();
	case PART_SIZE:
		if (!read_size(value, part->max, &number))
			return cli_usage_error("--disk: size must be from 1M to %uT, like 512, "
					       "512M or 2G",
					       part->max >> 20);
		return cJSON_AddNumberToObject(disk, part->member, (double)number) ? 0
										   : no_memory();
	case PART_RATE:
		if (!str_to_u64(value, part->min, part->max, &number))
			return cli_usage_error(
				"--disk: %s: \"%s\" is not a whole number from %u to "
				"%u",
				part->name, value, part->min, part->max);
		return add_rate(disk, part, number);
	}
	return CLI_EXIT_FAILED;
}

static int add_word(cJSON *disk, char *word)
{
	char *value = strchr(word, '=');
	if (value)
		*value++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strcmp(parts[i].name, word) == 0)
			return add_part(disk, &parts[i], value);
	return cli_usage_error("--disk: unknown \"%s\"; must be image=NAME or device=NAME, and "
			       "after it size=SIZE, ro, mib_s=N or iops=N",
			       word);
}

int cli_disk_add(cJSON *disks, const char *text)
{
	CLEANUP_FREE char *copy = strdup(text);
	cJSON *disk = cJSON_CreateObject();
	if (!copy || !disk || !cJSON_AddItemToArray(disks, disk)) {
		cJSON_Delete(disk);
		return no_memory();
	}
	char *rest = copy, *word;
	while ((word = strsep(&rest, ",")) != NULL) {
		int code = add_word(disk, word);
		if (code)
			return code;
	}
	bool image = cJSON_GetObjectItemCaseSensitive(disk, "image") != NULL;
	bool device = cJSON_GetObjectItemCaseSensitive(disk, "device") != NULL;
	if (image == device)
		return cli_usage_error("--disk: \"%s\" has %s; must have one of image=NAME and "
				       "device=NAME",
				       text, image ? "both" : "neither");
	return 0;
}
