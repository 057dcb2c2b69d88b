// SPDX-License-Identifier: Apache-2.0
/* vm.snapshot's files, with the real one's order, modes and carelessness (one write() for a JSON
 * file, whose result nobody looks at), and what orders do to them. */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEND                                                                                       \
	"Error from API", "The VM could not be snapshotted", "Cannot send VM snapshot",            \
		"Failed to send migratable component snapshot"
#define CHUNK	   (1UL << 20)
#define CPUID_ROWS 320	       /* makes state.json about as long as the real one */
#define HUGE_SIZE  (1LL << 40) /* of a sparse file, or what RLIMIT_FSIZE allows */
#define REWRITE_MS 5

/* The order "noclose": this file is written again and again. */
static int kept_fd = -1;
static off_t kept_size;
static int64_t kept_due;

char *snapshot_directory(const char *url, char **why)
{
	static const char scheme[] = "file://";
	const char *path = url + sizeof(scheme) - 1;
	struct stat st;
	if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
		*why = bytes_text("Could not extract path from URL: %s", url);
	else if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		*why = bytes_text("Destination is not a directory: \"%s\"", path);
	else
		return bytes_text("%s", path);
	return NULL;
}

static struct answer snapshot_fail(const char *what)
{
	char *os = boot_os_error();
	struct answer answer = answer_chain(500, SEND, what, os, NULL);
	free(os);
	return answer;
}

/* ---- state.json ---- */

/* {"snapshots": {}, "snapshot_data": {"state": state as text}}, as all parts of a state look. */
static cJSON *snapshot_part(cJSON *state)
{
	cJSON *part = cJSON_CreateObject();
	cJSON_AddObjectToObject(part, "snapshots");
	cJSON *data = cJSON_AddObjectToObject(part, "snapshot_data");
	char *text = cJSON_PrintUnformatted(state);
	if (!text)
		abort();
	cJSON_AddStringToObject(data, "state", text);
	free(text);
	cJSON_Delete(state);
	return part;
}

static cJSON *snapshot_inner(cJSON *part)
{
	return cJSON_GetObjectItem(part, "snapshots");
}

/* Filler of the right kind: a real state is mostly CPUID and LAPIC numbers. */
static cJSON *snapshot_cpuid(void)
{
	static const char *const names[] = {"function", "index", "flags", "eax",
					    "ebx",	"ecx",	 "edx"};
	cJSON *rows = cJSON_CreateArray();
	uint32_t x = 53;
	for (int i = 0; i < CPUID_ROWS; i++) {
		cJSON *row = cJSON_CreateObject();
		for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
			x = x * 1664525 + 1013904223;
			cJSON_AddNumberToObject(row, names[k], k < 3 ? (uint32_t)i : x >> 4);
		}
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

/* Whether vm.snapshot writes the region: not when it is a shared file that still has a name. */
static bool snapshot_writes(const struct region *region)
{
	struct stat st;
	return !region->shared || region->fd < 0 || fstat(region->fd, &st) < 0 || !st.st_nlink;
}

static cJSON *snapshot_memory(const struct boot *boot)
{
	cJSON *state = cJSON_CreateObject();
	cJSON *ranges =
		cJSON_AddArrayToObject(cJSON_AddObjectToObject(state, "memory_ranges"), "data");
	cJSON *mappings = cJSON_AddArrayToObject(state, "guest_ram_mappings");
	double gpa = 0;
	for (int i = 0; i < boot->region_count; i++) {
		const struct region *region = &boot->regions[i];
		cJSON *mapping = cJSON_CreateObject();
		cJSON_AddNumberToObject(mapping, "slot", i);
		cJSON_AddNumberToObject(mapping, "gpa", gpa);
		cJSON_AddNumberToObject(mapping, "size", (double)region->size);
		cJSON_AddStringToObject(mapping, "zone_id", region->id);
		cJSON_AddBoolToObject(mapping, "virtio_mem", false);
		cJSON_AddNumberToObject(mapping, "file_offset", 0);
		cJSON_AddItemToArray(mappings, mapping);
		if (snapshot_writes(region)) {
			cJSON *range = cJSON_CreateObject();
			cJSON_AddNumberToObject(range, "gpa", gpa);
			cJSON_AddNumberToObject(range, "length", (double)region->size);
			cJSON_AddItemToArray(ranges, range);
		}
		gpa += (double)region->size;
	}
	return state;
}

static char *snapshot_state(const struct boot *boot, const cJSON *devices)
{
	cJSON *state = cJSON_CreateObject(), *device;
	cJSON_AddNumberToObject(state, "clock", (double)report_now());
	cJSON_AddItemToObject(state, "common_cpuid", snapshot_cpuid());
	cJSON *whole = snapshot_part(state);
	cJSON *cpus = snapshot_part(cJSON_CreateObject());
	cJSON_AddItemToObject(snapshot_inner(cpus), "0", snapshot_part(guest_save()));
	cJSON_AddItemToObject(snapshot_inner(whole), "cpu-manager", cpus);
	cJSON_AddItemToObject(snapshot_inner(whole), "memory-manager",
			      snapshot_part(snapshot_memory(boot)));
	cJSON *manager = snapshot_part(cJSON_CreateObject());
	cJSON_ArrayForEach(device, devices)
	{
		char *transport = bytes_text("_virtio-pci-%s", device->string);
		cJSON *own = net_save(device->string), *pci = cJSON_CreateObject();
		cJSON_AddBoolToObject(pci, "device_activated",
				      disk_is_active(device->string) ||
					      net_is_active(device->string));
		cJSON_AddItemToObject(snapshot_inner(manager), device->string,
				      snapshot_part(own ? own : disk_save(device->string)));
		cJSON_AddItemToObject(snapshot_inner(manager), transport, snapshot_part(pci));
		free(transport);
	}
	cJSON_AddItemToObject(snapshot_inner(whole), "device-manager", manager);
	char *text = cJSON_PrintUnformatted(whole);
	if (!text)
		abort();
	cJSON_Delete(whole);
	return text;
}

/* ---- writing ---- */

/* A file of no ordinary kind that needs no mknod(2). */
static int snapshot_bind(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int result = bind(fd, (struct sockaddr *)&address, sizeof(address));
	close(fd);
	return result;
}

/* What order says may be put in a file's place: then nothing is opened and 0 comes back. */
static int snapshot_create(const char *path, enum snapshot_trick trick)
{
	if (trick == TRICK_SYMLINK)
		return symlink("/etc/passwd", path) == 0 ? 0 : -1;
	if (trick == TRICK_FIFO)
		return mkfifo(path, 0600) == 0 ? 0 : -1;
	if (trick == TRICK_SOCKET)
		return snapshot_bind(path);
	return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static void snapshot_make_huge(int fd)
{
	struct rlimit limit;
	off_t size = HUGE_SIZE;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < (rlim_t)size)
		size = (off_t)limit.rlim_cur;
	if (ftruncate(fd, size) < 0)
		report_log("standin", "ERROR", "snapshot.c", "huge: %s", strerror(errno));
}

static void snapshot_keep(int fd, size_t size)
{
	if (kept_fd >= 0)
		close(kept_fd);
	kept_fd = fd;
	kept_size = (off_t)size;
	kept_due = report_now() + REWRITE_MS;
}

/* One JSON file: one write(), short or not. */
static bool snapshot_json(const char *dir, bool is_state, const char *text, struct answer *refusal)
{
	enum snapshot_trick trick = is_state ? orders_trick() : TRICK_NONE;
	size_t len = strlen(text);
	if (orders_trick() == (is_state ? TRICK_SHORT_STATE : TRICK_SHORT_CONFIG))
		len /= 2;
	char *path = bytes_text("%s/%s.json", dir, is_state ? "state" : "config");
	int fd = snapshot_create(path, trick);
	free(path);
	if (fd < 0) {
		*refusal = snapshot_fail(is_state ? "Error creating VM state snapshot file"
						  : "Error creating VM config snapshot file");
		return false;
	}
	if (fd == 0)
		return true;
	if (trick == TRICK_DIE) {
		if (write(fd, text, len / 2) >= 0)
			orders_die(SIGKILL);
	}
	bool done = write(fd, text, len) >= 0;
	if (!done)
		*refusal = snapshot_fail(is_state ? "Error writing VM state snapshot"
						  : "Error writing VM config snapshot");
	if (trick == TRICK_HUGE)
		snapshot_make_huge(fd);
	if (trick == TRICK_NOCLOSE)
		snapshot_keep(fd, len);
	else
		close(fd);
	return done;
}

static bool snapshot_put(int fd, const unsigned char *data, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len < CHUNK ? len : CHUNK, at);
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
		at += n;
	}
	return true;
}

/* What has never been written stays a hole. */
static bool snapshot_sparse(int fd, const struct region *region, off_t at)
{
	off_t data = 0, hole;
	while ((data = lseek(region->fd, data, SEEK_DATA)) >= 0 && data < (off_t)region->size) {
		hole = lseek(region->fd, data, SEEK_HOLE);
		if (hole < 0 || hole > (off_t)region->size)
			hole = (off_t)region->size;
		if (!snapshot_put(fd, region->map + data, (size_t)(hole - data), at + data))
			return false;
		data = hole;
	}
	return true;
}

static struct answer snapshot_region_failed(bool sparse)
{
	char *os = boot_os_error();
	char *text = bytes_text("Guest memory error: %s", os);
	struct answer answer = answer_chain(500, SEND,
					    sparse ? "Error writing sparse memory snapshot region"
						   : "Error writing dense memory snapshot region",
					    sparse ? os : text, NULL);
	free(text);
	free(os);
	return answer;
}

static struct answer snapshot_ram(const char *dir, const struct boot *boot)
{
	off_t total = 0, at = 0;
	bool failed = false, sparse = false;
	for (int i = 0; i < boot->region_count; i++)
		total += snapshot_writes(&boot->regions[i]) ? (off_t)boot->regions[i].size : 0;
	if (!total)
		return answer_none();
	char *path = bytes_text("%s/memory-ranges", dir);
	int fd = snapshot_create(path, TRICK_NONE);
	if (fd < 0) {
		char *what = bytes_text("Error creating memory snapshot file \"%s\"", path);
		struct answer answer = snapshot_fail(what);
		free(what);
		free(path);
		return answer;
	}
	free(path);
	if (ftruncate(fd, total) < 0)
		errno = 0; /* then it grows as it is written */
	for (int i = 0; i < boot->region_count && !failed; i++) {
		const struct region *region = &boot->regions[i];
		if (!snapshot_writes(region))
			continue;
		sparse = region->shared && region->fd >= 0;
		failed = sparse ? !snapshot_sparse(fd, region, at)
				: !snapshot_put(fd, region->map, region->size, at);
		at += (off_t)region->size;
	}
	struct answer answer = failed ? snapshot_region_failed(sparse) : answer_none();
	close(fd);
	return answer;
}

static void snapshot_extra(const char *dir)
{
	char *path = bytes_text("%s/extra", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0) {
		if (write(fd, "extra\n", 6) < 0)
			errno = 0; /* an empty one is as much too many */
		close(fd);
	}
	free(path);
}

struct answer snapshot_write(const char *url, const cJSON *config, const struct boot *boot,
			     const cJSON *devices)
{
	char *why = NULL;
	char *dir = snapshot_directory(url, &why);
	if (!dir) {
		struct answer answer = answer_chain(500, SEND, why, NULL);
		free(why);
		return answer;
	}
	struct answer answer = answer_none();
	char *config_text = cJSON_PrintUnformatted(config);
	char *state_text = snapshot_state(boot, devices);
	if (snapshot_json(dir, false, config_text, &answer) &&
	    snapshot_json(dir, true, state_text, &answer))
		answer = snapshot_ram(dir, boot);
	if (answer.status == 204 && orders_trick() == TRICK_EXTRA)
		snapshot_extra(dir);
	free(config_text);
	free(state_text);
	free(dir);
	return answer;
}

int64_t snapshot_timeout(void)
{
	int64_t now = report_now();
	if (kept_fd < 0)
		return -1;
	return kept_due > now ? kept_due - now : 0;
}

void snapshot_work(void)
{
	static unsigned turn;
	if (kept_fd < 0 || kept_due > report_now())
		return;
	kept_due = report_now() + REWRITE_MS;
	char *text = bytes_text("{\"rewritten\":%u", turn++);
	if (ftruncate(kept_fd, 0) < 0 || pwrite(kept_fd, text, strlen(text), 0) < 0 ||
	    ftruncate(kept_fd, kept_size) < 0)
		errno = 0; /* somebody took the file system away: fine */
	free(text);
}
