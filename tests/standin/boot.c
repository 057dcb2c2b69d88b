// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What was asked for, in the answers' words: "The VM could not boot" or the like. */
static const char *failed_what;
#define FAILED "Error from API", failed_what

char *boot_os_error(void)
{
	return bytes_text("%s (os error %d)", strerror(errno), errno);
}

static bool boot_keep(struct boot *boot, int fd)
{
	if (boot->fd_count < (int)(sizeof(boot->fds) / sizeof(boot->fds[0])))
		boot->fds[boot->fd_count++] = fd;
	else
		close(fd);
	return true;
}

static struct answer boot_refuse(const char *first, const char *second)
{
	char *os = boot_os_error();
	struct answer answer = second ? answer_chain(500, FAILED, first, second, os, NULL)
				      : answer_chain(500, FAILED, first, os, NULL);
	free(os);
	return answer;
}

/* Opens a zone's file. At boot its size has to be the zone's to the byte: the real one is content
 * with less and the guest pays for it later. */
static int boot_zone_file(const char *path, uint64_t size, bool shared, bool strict,
			  struct answer *refusal)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		*refusal = answer_chain(500, FAILED, "Memory manager error",
					"Using a directory as a backing file for memory is not "
					"supported",
					NULL);
		return -1;
	}
	int fd = open(path, (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		*refusal = boot_refuse("Memory manager error", errno == ENOENT
								       ? "Failed to stat filesystem"
								       : "Failed to create shared "
									 "file");
		return -1;
	}
	if (strict && (uint64_t)st.st_size != size) {
		char *text = bytes_text("stand-in: %s has %lld bytes, the zone %llu", path,
					(long long)st.st_size, (unsigned long long)size);
		*refusal = answer_chain(500, FAILED, "Memory manager error", text, NULL);
		free(text);
		close(fd);
		return -1;
	}
	return fd;
}

/* The descriptor behind a zone: its file, memory that only this process knows for a shared one (so
 * that its holes can be found), -1 for plain memory. */
static bool boot_zone_fd(struct region *region, const char *path, bool strict,
			 struct answer *refusal)
{
	struct stat st;
	if (path) {
		region->fd = boot_zone_file(path, region->size, region->shared, strict, refusal);
		if (region->fd >= 0 && fstat(region->fd, &st) == 0 &&
		    (uint64_t)st.st_size < region->size)
			region->present = (size_t)st.st_size;
		return region->fd >= 0;
	}
	if (!region->shared)
		return true;
	region->fd = memfd_create("ch_ram", MFD_CLOEXEC);
	if (region->fd >= 0 && ftruncate(region->fd, (off_t)region->size) == 0)
		return true;
	*refusal = boot_refuse("Memory manager error", "Failed to set shared file length");
	return false;
}

static bool boot_zone(struct boot *boot, const cJSON *zone, const char *id, uint64_t size,
		      const struct boot_order *order, struct answer *refusal)
{
	const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(zone, "file"));
	bool shared = cJSON_IsTrue(cJSON_GetObjectItem(zone, "shared"));
	bool prefault = order->prefault || cJSON_IsTrue(cJSON_GetObjectItem(zone, "prefault"));
	struct region *region = &boot->regions[boot->region_count];
	*region = (struct region){.size = size, .fd = -1, .shared = shared, .present = size};
	snprintf(region->id, sizeof(region->id), "%s", id);
	if (!boot_zone_fd(region, path, !order->saved, refusal))
		return false;
	int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE;
	flags |= (region->fd < 0 ? MAP_ANONYMOUS : 0) | (prefault ? MAP_POPULATE : 0);
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, region->fd, 0);
	if (map == MAP_FAILED) {
		*refusal = boot_refuse("Memory manager error", "Failed to map guest memory");
		if (region->fd >= 0)
			close(region->fd);
		return false;
	}
	region->map = map;
	boot->region_count++;
	return true;
}

static bool boot_zone_valid(const cJSON *memory, const cJSON *zone, struct answer *refusal)
{
	const char *method = cJSON_GetStringValue(cJSON_GetObjectItem(memory, "hotplug_method"));
	const cJSON *most = cJSON_GetObjectItem(zone, "hotplug_size");
	const cJSON *plugged = cJSON_GetObjectItem(zone, "hotplugged_size");
	bool acpi = !strcmp(method, "Acpi");
	const char *why = NULL;
	if (most && acpi)
		why = "Invalid hotplug method associated with memory zones resizing capability";
	else if (plugged && (!most || plugged->valuedouble > most->valuedouble || acpi))
		why = "Memory configuration is not valid";
	if (why)
		*refusal = answer_chain(500, FAILED, "Memory manager error", why, NULL);
	return !why;
}

/* The size that the snapshot has for a zone, its own when there is no snapshot. 0: the snapshot
 * does not have the zone, and then the real one maps nothing for it. */
static uint64_t boot_zone_size(const cJSON *saved, const char *id, double own)
{
	const cJSON *mapping;
	if (!saved)
		return (uint64_t)own;
	cJSON_ArrayForEach(mapping, saved)
	{
		const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(mapping, "zone_id"));
		if (name && !strcmp(name, id))
			return (uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItem(mapping, "size"));
	}
	return 0;
}

static bool boot_zones(struct boot *boot, const cJSON *memory, const struct boot_order *order,
		       struct answer *refusal)
{
	const cJSON *zone;
	cJSON_ArrayForEach(zone, cJSON_GetObjectItem(memory, "zones"))
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(zone, "id"));
		double own = cJSON_GetNumberValue(cJSON_GetObjectItem(zone, "size"));
		uint64_t size = boot_zone_size(order->saved, id, own);
		if (!boot_zone_valid(memory, zone, refusal))
			return false;
		if (size && boot->region_count < BOOT_REGIONS &&
		    !boot_zone(boot, zone, id, size, order, refusal))
			return false;
	}
	/* the memory as a whole is a zone by this name, with the same fields */
	double whole = cJSON_GetNumberValue(cJSON_GetObjectItem(memory, "size"));
	uint64_t size = boot_zone_size(order->saved, "mem0", whole);
	if (!boot->region_count && size && !boot_zone(boot, memory, "mem0", size, order, refusal))
		return false;
	if (boot->region_count)
		return true;
	*refusal = order->saved ? answer_chain(500, FAILED, "Memory manager error",
					       "Guest region collection error",
					       "No memory region found", NULL)
				: answer_chain(500, FAILED, "Memory manager error",
					       "No memory zones found", NULL);
	return false;
}

bool boot_check(const cJSON *config, const char *what, struct answer *refusal)
{
	const cJSON *payload = cJSON_GetObjectItem(config, "payload");
	failed_what = what;
	if (!cJSON_GetObjectItem(payload, "kernel") && !cJSON_GetObjectItem(payload, "firmware")) {
		*refusal = answer_chain(500, FAILED, "Failed to validate config",
					"Payload configuration is not bootable",
					"No bootitem provided: neither firmware nor kernel", NULL);
		return false;
	}
	char *why = disk_check(config);
	if (!why)
		why = net_check(config);
	if (!why)
		why = vsock_invalid(config);
	if (why)
		*refusal = answer_chain(500, FAILED, "Failed to validate config", why, NULL);
	bool good = !why;
	free(why);
	return good;
}

bool boot_memory(struct boot *boot, const cJSON *config, const struct boot_order *order,
		 struct answer *refusal)
{
	failed_what = order->what;
	return boot_zones(boot, cJSON_GetObjectItem(config, "memory"), order, refusal);
}

static bool boot_rng(struct boot *boot, const cJSON *config, struct answer *refusal)
{
	const cJSON *rng = cJSON_GetObjectItem(config, "rng");
	const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(rng, "src"));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return boot_keep(boot, fd);
	*refusal = boot_refuse("Error from device manager", "Cannot create virtio-rng device");
	return false;
}

/* The real one's hash maps read /dev/urandom whatever the rng's source is. */
static bool boot_urandom(struct answer *refusal)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*refusal =
			boot_refuse("Error from device manager", "Cannot create virtio-rng device");
		return false;
	}
	close(fd);
	return true;
}

static bool boot_readable(const char *path, const char *what, struct answer *refusal)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*refusal = boot_refuse(what, NULL);
		return false;
	}
	close(fd);
	return true;
}

static bool boot_vsock(const cJSON *config, struct answer *refusal)
{
	char *why = vsock_start(config);
	if (why)
		*refusal = answer_chain(500, FAILED, "Error from device manager",
					"Cannot create virtio-vsock backend",
					"Error binding to the host-side Unix socket", why, NULL);
	bool good = !why;
	free(why);
	return good;
}

bool boot_devices(struct boot *boot, cJSON *config, const struct boot_order *order,
		  struct answer *refusal, const char **drop)
{
	const cJSON *payload = cJSON_GetObjectItem(config, "payload");
	const char *initramfs = cJSON_GetStringValue(cJSON_GetObjectItem(payload, "initramfs"));
	*drop = NULL;
	if (!order->saved && initramfs &&
	    !boot_readable(initramfs, "Cannot open initramfs file", refusal))
		return false;
	if (!disk_open(config, order->what, order->devices, refusal)) {
		*drop = "disks";
		return false;
	}
	if (!net_open(config, order->what, order->devices, refusal)) {
		*drop = "net";
		return false;
	}
	return boot_rng(boot, config, refusal) && boot_urandom(refusal) &&
	       boot_vsock(config, refusal);
}

/* An ELF or a bzImage is all that can be told without running it. */
bool boot_payload(const cJSON *config, struct answer *refusal)
{
	const cJSON *payload = cJSON_GetObjectItem(config, "payload");
	const cJSON *kernel = cJSON_GetObjectItem(payload, "kernel");
	const char *path =
		cJSON_GetStringValue(kernel ? kernel : cJSON_GetObjectItem(payload, "firmware"));
	unsigned char head[0x206] = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*refusal = boot_refuse(
			kernel ? "Cannot open kernel file" : "Cannot open firmware file", NULL);
		return false;
	}
	ssize_t n = read(fd, head, sizeof(head));
	close(fd);
	if (n > 4 && (!memcmp(head, "\177ELF", 4) || !memcmp(head + 0x202, "HdrS", 4)))
		return true;
	*refusal = answer_chain(500, FAILED, "Cannot load the kernel into memory",
				"Kernel Loader: failed to load bzImage kernel image: Kernel "
				"Loader: Invalid bzImage",
				"Kernel Loader: Invalid bzImage", NULL);
	return false;
}

const struct region *boot_region_at(const struct boot *boot, double gpa)
{
	double start = 0;
	for (int i = 0; i < boot->region_count; i++) {
		if (start == gpa)
			return &boot->regions[i];
		start += (double)boot->regions[i].size;
	}
	return NULL;
}

void boot_close(struct boot *boot)
{
	vsock_stop();
	for (int i = 0; i < boot->region_count; i++) {
		munmap(boot->regions[i].map, boot->regions[i].size);
		if (boot->regions[i].fd >= 0)
			close(boot->regions[i].fd);
	}
	while (boot->fd_count)
		close(boot->fds[--boot->fd_count]);
	disk_close();
	net_close();
	*boot = (struct boot){0};
}
