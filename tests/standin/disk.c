// SPDX-License-Identifier: Apache-2.0
/* The disks of a machine: opened, checked and locked as v53's block crate does. diskio.c has what
 * the guest does with them. */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILED(what) "Error from API", what

static struct disk disks[DISK_MAX];
static int disk_count;

struct disk *disk_at(uint32_t number)
{
	return number < (uint32_t)disk_count ? &disks[number] : NULL;
}

static struct disk *disk_by_id(const char *id)
{
	for (int i = 0; i < disk_count; i++) {
		if (!strcmp(disks[i].id, id))
			return &disks[i];
	}
	return NULL;
}

void disk_close(void)
{
	while (disk_count) {
		struct disk *disk = &disks[--disk_count];
		close(disk->fd);
		if (disk->second_fd >= 0)
			close(disk->second_fd);
		free(disk->id);
		free(disk->path);
	}
}

/* ---- what v53 refuses before it opens anything ---- */

static bool disk_has_group(const cJSON *config, const char *name)
{
	const cJSON *group;
	cJSON_ArrayForEach(group, cJSON_GetObjectItem(config, "rate_limit_groups"))
	{
		if (!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(group, "id")), name))
			return true;
	}
	return false;
}

static char *disk_check_one(const cJSON *config, const cJSON *disk)
{
	const cJSON *cpus = cJSON_GetObjectItem(config, "cpus");
	double vcpus = cJSON_GetNumberValue(cJSON_GetObjectItem(cpus, "boot_vcpus"));
	double queues = cJSON_GetNumberValue(cJSON_GetObjectItem(disk, "num_queues"));
	int size = (int)cJSON_GetNumberValue(cJSON_GetObjectItem(disk, "queue_size"));
	const char *group = cJSON_GetStringValue(cJSON_GetObjectItem(disk, "rate_limit_group"));
	if (queues > vcpus)
		return bytes_text("Queue count (%.0f) must not exceed boot vCPUs (%.0f)", queues,
				  vcpus);
	if (size < 1 || size > 32768 || (size & (size - 1)))
		return bytes_text("Queue size must be a power of 2 no greater than 32768: %d",
				  size);
	if (size <= 2)
		return bytes_text("Block queue size must be greater than 2: %d", size);
	if (group &&
	    (cJSON_GetObjectItem(disk, "rate_limiter_config") || !disk_has_group(config, group)))
		return bytes_text("Invalid rate-limiter group");
	return NULL;
}

static const char *disk_id(const cJSON *disk)
{
	return cJSON_GetStringValue(cJSON_GetObjectItem(disk, "id"));
}

char *disk_check(const cJSON *config)
{
	const cJSON *list = cJSON_GetObjectItem(config, "disks"), *disk, *other;
	char *why = NULL;
	cJSON_ArrayForEach(disk, list)
	{
		why = disk_check_one(config, disk);
		if (why)
			return why;
		for (other = list->child; other != disk; other = other->next) {
			if (disk_id(disk) && disk_id(other) &&
			    !strcmp(disk_id(disk), disk_id(other)))
				return bytes_text("Identifier %s is not unique", disk_id(disk));
		}
	}
	return NULL;
}

/* ---- opening ---- */

/* "Cannot open disk path", about a file that is or looks wrong. */
static struct answer disk_refuse(const char *what, const char *context, const char *cause,
				 const char *detail)
{
	return detail ? answer_chain(500, FAILED(what), "Error from device manager",
				     "Cannot open disk path", context, cause, detail, NULL)
		      : answer_chain(500, FAILED(what), "Error from device manager",
				     "Cannot open disk path", context, cause, NULL);
}

/* v53's name of the format that the file seems to have. NULL, with the answer, when it cannot even
 * be looked at: v53 reads a sector of every file and parses what has the magic of a format,
 * whatever type was given, so that a guest can spoil its own next boot with the first bytes of a
 * raw disk. */
static const char *disk_detect(const char *what, int fd, const char *path, struct answer *refusal)
{
	unsigned char head[512] = {0}, tail[512] = {0};
	struct stat st;
	char *context = NULL;
	const char *type = "raw";
	if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || fstat(fd, &st) < 0 ||
	    (st.st_size && pread(fd, tail, sizeof(tail), st.st_size - 512) < 0)) {
		*refusal = disk_refuse(what, "I/O error (op=detect_image_type)",
				       "failed to fill whole buffer", NULL);
		return NULL;
	}
	if (!memcmp(head, "QFI\xfb", 4)) {
		unsigned version = (unsigned)head[6] << 8 | head[7];
		if (version == 2 || version == 3)
			return "qcow2";
		context = bytes_text("Unsupported feature (path=%s op=open)", path);
		char *cause = bytes_text("Unsupported version: %u", version);
		*refusal = disk_refuse(what, context, cause, NULL);
		free(cause);
		type = NULL;
	} else if (!memcmp(tail, "conectix", 8)) {
		type = "vhd";
	} else if (!memcmp(head, "vhdxfile", 8)) {
		context = bytes_text("Invalid format (path=%s op=open)", path);
		*refusal = disk_refuse(what, context, "Failed to parse VHDx header",
				       "Not a valid VHDx header");
		type = NULL;
	}
	free(context);
	return type;
}

/* The type given against the one found. Without one given, v53 notes what it found in the
 * configuration and keeps the guest from sector 0. */
static bool disk_check_type(const char *what, struct disk *disk, cJSON *config, const char *found,
			    struct answer *refusal)
{
	static const char *const names[][2] = {
		{"Raw", "raw"}, {"Qcow2", "qcow2"}, {"FixedVhd", "vhd"}, {"Vhdx", "vhdx"}};
	const char *given = cJSON_GetStringValue(cJSON_GetObjectItem(config, "image_type"));
	const char *said = "unknown", *name = "Raw";
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(names[i][0], given))
			said = names[i][1];
		if (!strcmp(names[i][1], found))
			name = names[i][0];
	}
	if (!strcmp(said, "unknown")) {
		report_log("vmm", "WARN", "vmm/src/device_manager.rs:2756",
			   "DEPRECATION: auto-detection of disk image type is deprecated and will "
			   "be removed in a future release. Please specify image type "
			   "explicitly.");
		cJSON_ReplaceItemInObject(config, "image_type", cJSON_CreateString(name));
		disk->guard_first = !strcmp(found, "raw") || !strcmp(found, "vhd");
		return true;
	}
	if (!strcmp(said, found))
		return true;
	char *text = bytes_text("Disk image type does not match expected type: specified = %s, "
				"detected = %s",
				said, found);
	*refusal = answer_chain(500, FAILED(what), "Error from device manager", text, NULL);
	free(text);
	return false;
}

/* Sectors as at the snapshot, whatever the file has now; else as the file has them. */
static void disk_measure(struct disk *disk, const cJSON *saved)
{
	struct stat st = {0};
	cJSON *state = saved ? restore_part(cJSON_GetObjectItem(saved, disk->id)) : NULL;
	char *transport = bytes_text("_virtio-pci-%s", disk->id);
	cJSON *pci = saved ? restore_part(cJSON_GetObjectItem(saved, transport)) : NULL;
	off_t size = fstat(disk->fd, &st) == 0 ? st.st_size : 0;
	if (S_ISBLK(st.st_mode))
		size = lseek(disk->fd, 0, SEEK_END);
	disk->sectors = (uint64_t)size / 512;
	if (state)
		disk->sectors =
			(uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItem(state, "disk_nsectors"));
	else if (size % 512)
		report_log("vmm", "WARN", "virtio-devices/src/block.rs:831",
			   "Disk size %lld is not a multiple of sector size 512; the remainder "
			   "will not be visible to the guest.",
			   (long long)size);
	if (!state && disk->readonly)
		report_log("vmm", "WARN", "virtio-devices/src/block.rs:859",
			   "sparse=on requested but backend does not support sparse operations");
	if (cJSON_IsTrue(cJSON_GetObjectItem(pci, "device_activated")))
		diskio_activate(disk);
	cJSON_Delete(state);
	cJSON_Delete(pci);
	free(transport);
}

/* On failure nothing of this disk is kept. */
static bool disk_open_one(const char *what, cJSON *config, const cJSON *saved,
			  struct answer *refusal)
{
	const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(config, "path"));
	if (!path) {
		*refusal = answer_chain(500, FAILED(what), "Error from device manager",
					"No disk path was specified when one was expected", NULL);
		return false;
	}
	struct disk disk = {.readonly = cJSON_IsTrue(cJSON_GetObjectItem(config, "readonly")),
			    .second_fd = -1};
	const char *granularity =
		cJSON_GetStringValue(cJSON_GetObjectItem(config, "lock_granularity"));
	disk.whole = !strcmp(granularity, "Full");
	disk.fd = open(path, (disk.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (disk.fd < 0) {
		char *os = boot_os_error();
		char *where = bytes_text("I/O error (path=%s op=open)", path);
		*refusal = disk_refuse(what, where, os, NULL);
		free(where);
		free(os);
		return false;
	}
	const char *found = disk_detect(what, disk.fd, path, refusal);
	if (!found || !disk_check_type(what, &disk, config, found, refusal)) {
		close(disk.fd);
		return false;
	}
	disk.id = bytes_text("%s", disk_id(config));
	disk.path = bytes_text("%s", path);
	diskio_reset(&disk);
	disk_measure(&disk, saved);
	disks[disk_count++] = disk;
	return true;
}

bool disk_open(cJSON *config, const char *what, const cJSON *saved, struct answer *refusal)
{
	cJSON *disk;
	int unnamed = 0;
	cJSON_ArrayForEach(disk, cJSON_GetObjectItem(config, "disks"))
	{
		if (!disk_id(disk)) { /* v53 notes the name that it gives */
			char *id = bytes_text("_disk%d", unnamed++);
			cJSON_AddStringToObject(disk, "id", id);
			free(id);
		}
		if (disk_count == DISK_MAX) {
			*refusal = answer_chain(500, FAILED(what), "Error from device manager",
						"Failed to find an available PCI device ID", NULL);
			return false;
		}
		if (!disk_open_one(what, disk, saved, refusal))
			return false;
	}
	return true;
}

/* ---- locks ---- */

/* Bytes from 0 on that v53 locks: as many as the file has or takes, whichever is more. */
static off_t disk_lock_length(const struct disk *disk)
{
	struct stat st;
	if (disk->whole || fstat(disk->fd, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode))
		return lseek(disk->fd, 0, SEEK_END);
	off_t used = (off_t)st.st_blocks * 512;
	return used > st.st_size ? used : st.st_size;
}

bool disk_lock(const char *what, struct answer *refusal)
{
	for (int i = 0; i < disk_count; i++) {
		const struct disk *disk = &disks[i];
		const char *kind = disk->readonly ? "Read" : "Write";
		struct flock lock = {.l_type = disk->readonly ? F_RDLCK : F_WRLCK,
				     .l_whence = SEEK_SET,
				     .l_len = disk_lock_length(disk)};
		if (fcntl(disk->fd, F_OFD_SETLK, &lock) == 0)
			continue;
		lock.l_type = F_WRLCK;
		bool shared = fcntl(disk->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_RDLCK;
		report_log("vmm", "ERROR", "virtio-devices/src/block.rs:1032",
			   "Can't get %s lock for %s as there is already a %s lock", kind,
			   disk->path, shared ? "SharedRead" : "ExclusiveWrite");
		char *which =
			bytes_text("Failed to get %s lock for disk image: %s", kind, disk->path);
		*refusal = answer_chain(500, FAILED(what),
					"Error locking disk images: Another instance likely holds "
					"a lock",
					"Cannot lock images of all block devices", which,
					"The file is already locked", NULL);
		free(which);
		return false;
	}
	return true;
}

/* ---- snapshots ---- */

cJSON *disk_save(const char *id)
{
	const struct disk *disk = disk_by_id(id);
	cJSON *state = cJSON_CreateObject();
	if (!disk)
		return state;
	cJSON_AddStringToObject(state, "disk_path", disk->path);
	cJSON_AddNumberToObject(state, "disk_nsectors", (double)disk->sectors);
	return state;
}

bool disk_is_active(const char *id)
{
	const struct disk *disk = disk_by_id(id);
	return disk && disk->active;
}

void disk_count_into(cJSON *counters, const char *id)
{
	static const struct disk none = {.read = {.least = UINT64_MAX, .most = UINT64_MAX},
					 .write = {.least = UINT64_MAX, .most = UINT64_MAX}};
	const struct disk *disk = disk_by_id(id);
	diskio_count_into(counters, disk ? disk : &none);
}
