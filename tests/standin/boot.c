// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILED "Error from API", "The VM could not boot"

/* errno in Rust's words; the caller's to free. */
static char *boot_os_error(void)
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

/* Maps the first zone that has a file. Its size has to be the zone's to the byte: the real one is
 * content with less and the guest pays for it later. */
static bool boot_zone(struct boot *boot, const cJSON *zone, struct answer *refusal)
{
	const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(zone, "file"));
	uint64_t size = (uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItem(zone, "size"));
	bool shared = cJSON_IsTrue(cJSON_GetObjectItem(zone, "shared"));
	struct stat st;
	int fd = open(path, (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		*refusal = boot_refuse("Memory manager error", errno == ENOENT
								       ? "Failed to stat filesystem"
								       : "Failed to open memory "
									 "zone backing file");
		return false;
	}
	if ((uint64_t)st.st_size != size) {
		char *text = bytes_text("stand-in: %s has %lld bytes, the zone %llu", path,
					(long long)st.st_size, (unsigned long long)size);
		*refusal = answer_chain(500, FAILED, "Memory manager error", text, NULL);
		free(text);
		close(fd);
		return false;
	}
	boot_keep(boot, fd);
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		*refusal = boot_refuse("Memory manager error", "Failed to map guest memory");
		return false;
	}
	boot->ram = map;
	boot->ram_size = size;
	return true;
}

static bool boot_memory(struct boot *boot, const cJSON *config, struct answer *refusal)
{
	const cJSON *memory = cJSON_GetObjectItem(config, "memory"), *zone;
	cJSON_ArrayForEach(zone, cJSON_GetObjectItem(memory, "zones"))
	{
		if (!boot->ram && cJSON_GetObjectItem(zone, "file") &&
		    !boot_zone(boot, zone, refusal))
			return false;
	}
	size_t size = (size_t)cJSON_GetNumberValue(cJSON_GetObjectItem(memory, "size"));
	if (boot->ram || !size)
		return true;
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		*refusal = boot_refuse("Memory manager error", "Failed to map guest memory");
		return false;
	}
	boot->ram = map;
	boot->ram_size = size;
	return true;
}

/* A byte range from 0 on, as an open-file-description lock (the real one's default). */
static bool boot_lock(int fd, bool readonly)
{
	struct flock lock = {.l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static bool boot_disks(struct boot *boot, const cJSON *config, struct answer *refusal)
{
	const cJSON *disk;
	cJSON_ArrayForEach(disk, cJSON_GetObjectItem(config, "disks"))
	{
		const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(disk, "path"));
		bool readonly = cJSON_IsTrue(cJSON_GetObjectItem(disk, "readonly"));
		int fd = path ? open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC) : -1;
		if (fd >= 0 && boot_keep(boot, fd) && boot_lock(fd, readonly))
			continue;
		char *os = boot_os_error();
		char *where = bytes_text("I/O error (path=%s op=%s)", path ? path : "",
					 fd < 0 ? "open" : "lock");
		*refusal =
			answer_chain(500, FAILED, "Error from device manager",
				     fd < 0 ? "Cannot open disk path" : "Failed to lock disk image",
				     where, os, NULL);
		free(where);
		free(os);
		return false;
	}
	return true;
}

static bool boot_net(const int *fds, int count, struct answer *refusal)
{
	char request[64] = {0};
	for (int i = 0; i < count; i++) {
		if (ioctl(fds[i], TUNGETIFF, request) == 0)
			continue;
		char *os = boot_os_error();
		char *call = bytes_text("Ioctl failed (%u)", (unsigned)TUNGETIFF);
		*refusal = answer_chain(500, FAILED, "Error from device manager",
					"Cannot create virtio-net device", "Using existing tap",
					call, os, NULL);
		free(call);
		free(os);
		return false;
	}
	return true;
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

bool boot_open(struct boot *boot, const cJSON *config, const int *net_fds, int net_fd_count,
	       struct answer *refusal, const char **drop)
{
	const cJSON *payload = cJSON_GetObjectItem(config, "payload");
	*drop = NULL;
	if (!cJSON_GetObjectItem(payload, "kernel") && !cJSON_GetObjectItem(payload, "firmware")) {
		*refusal = answer_chain(500, FAILED, "Failed to validate config",
					"Payload configuration is not bootable",
					"No bootitem provided: neither firmware nor kernel", NULL);
		return false;
	}
	const char *initramfs = cJSON_GetStringValue(cJSON_GetObjectItem(payload, "initramfs"));
	if (!boot_memory(boot, config, refusal) ||
	    (initramfs && !boot_readable(initramfs, "Cannot open initramfs file", refusal)))
		return false;
	if (!boot_disks(boot, config, refusal)) {
		*drop = "disks";
		return false;
	}
	if (!boot_net(net_fds, net_fd_count, refusal)) {
		*drop = "net";
		return false;
	}
	return boot_rng(boot, config, refusal) && boot_urandom(refusal);
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

void boot_close(struct boot *boot)
{
	if (boot->ram)
		munmap(boot->ram, boot->ram_size);
	while (boot->fd_count)
		close(boot->fds[--boot->fd_count]);
	*boot = (struct boot){0};
}
