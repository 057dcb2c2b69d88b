// SPDX-License-Identifier: Apache-2.0
/*
 * What the pretend guest does with its disks: the d-commands of tests/guest/disk.S, answer by
 * answer and request by request alike, since v53's counters and log lines are per request.
 *
 * Two commands more than that guest has, for what only a VMM that was taken over can do:
 *   dopen D             opens the disk's path for writing once more; DOPEN D OK | ERR errno
 *   dtrunc D SECTORS    makes the file that long; DTRUNC D SECTORS OK | ERR errno
 */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE	    128	 /* sectors of one request */
#define COMMAND_MAX 2048 /* sectors of one command */
#define SECTOR	    512
#define WORDS	    128 /* of a sector */
#define MIX_SEED    0x9e3779b1U
#define MIX_WORD    0x85ebca6bU
#define IOERR	    1 /* VIRTIO_BLK_S_IOERR */
#define NO_DISK	    255
#define AVG_SCALE   10000 /* v53's LATENCY_SCALE */

/* Where tests/guest has its buffer and its status word, as v53's log lines show them. */
#define GUEST_DATA   0x104000
#define GUEST_STATUS 0x101410

static uint32_t piece_words[PIECE * WORDS];

/* ---- counters ---- */

void diskio_reset(struct disk *disk)
{
	disk->read = disk->write = (struct disk_counter){.least = UINT64_MAX, .most = UINT64_MAX};
}

static uint64_t diskio_now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void diskio_count(struct disk_counter *c, uint64_t bytes, uint64_t us)
{
	c->bytes += bytes;
	c->ops++;
	if (us < c->least)
		c->least = us;
	if (c->most == UINT64_MAX || us > c->most)
		c->most = us;
	int64_t step = (int64_t)(us * AVG_SCALE) - (int64_t)c->average;
	c->average = (uint64_t)((int64_t)c->average + step / (int64_t)c->ops);
}

static void diskio_put(cJSON *counters, const char *side, const char *name, uint64_t value)
{
	/* as text: 2^64-1 is what no double holds */
	char *key = bytes_text("%s_%s", side, name), *text = bytes_text("%" PRIu64, value);
	cJSON_AddRawToObject(counters, key, text);
	free(key);
	free(text);
}

static void diskio_put_side(cJSON *counters, const char *side, const struct disk_counter *c)
{
	diskio_put(counters, side, "bytes", c->bytes);
	diskio_put(counters, side, "ops", c->ops);
	diskio_put(counters, side, "latency_min", c->least);
	diskio_put(counters, side, "latency_max", c->most);
	diskio_put(counters, side, "latency_avg", (c->ops ? c->average : UINT64_MAX) / AVG_SCALE);
}

void diskio_count_into(cJSON *counters, const struct disk *disk)
{
	diskio_put_side(counters, "read", &disk->read);
	diskio_put_side(counters, "write", &disk->write);
}

/* ---- requests ---- */

void diskio_activate(struct disk *disk)
{
	if (!disk->active)
		report_event("virtio-device", "activated", "id", disk->id);
	disk->active = true;
}

/* The guest's driver sets up all disks when it needs the first. */
static struct disk *diskio_pick(uint32_t number)
{
	struct disk *disk;
	for (uint32_t i = 0; i < 8 && (disk = disk_at(i)); i++)
		diskio_activate(disk);
	return number < 8 ? disk_at(number) : NULL;
}

/* A request in the words of Rust's Debug, as v53 logs it. kind: "In", "Out" or "Flush". */
static char *diskio_describe(const char *kind, uint64_t sector, size_t bytes)
{
	uint64_t now = diskio_now_us();
	char *data = bytes ? bytes_text("(GuestAddress(%x), %zx)", GUEST_DATA, bytes)
			   : bytes_text("%s", "");
	char *text = bytes_text(
		"Request { request_type: %s, sector: %" PRIx64
		", data_descriptors: [%s], status_addr: GuestAddress(%x), "
		"writeback: true, start: Instant { tv_sec: %" PRIx64 ", tv_nsec: %" PRIx64 " } }",
		kind, sector, data, GUEST_STATUS, now / 1000000, now % 1000000 * 1000);
	free(data);
	return text;
}

static void diskio_log_failure(const struct disk *disk, const char *kind, uint64_t sector,
			       size_t bytes, int error)
{
	const char *name = error == ENOSPC   ? "StorageFull"
			   : error == EDQUOT ? "QuotaExceeded"
			   : error == EFBIG  ? "FileTooLarge"
			   : error == EROFS  ? "ReadOnlyFilesystem"
					     : "Uncategorized";
	char *request = diskio_describe(kind, sector, bytes);
	char *thread = bytes_text("%s_q0", disk->id);
	report_log(thread, "WARN", "virtio-devices/src/block.rs:604",
		   "Request failed: %s Os { code: %d, kind: %s, message: \"%s\" }", request, error,
		   name, strerror(error));
	free(thread);
	free(request);
}

/* Whether v53 refuses the write without trying it. */
static bool diskio_refused(const struct disk *disk, uint64_t sector, size_t bytes)
{
	char *thread = bytes_text("%s_q0", disk->id);
	bool refused = disk->readonly || (disk->guard_first && !sector);
	if (disk->readonly)
		report_log(thread, "WARN", "virtio-devices/src/block.rs:219",
			   "Rejecting block request Out: device is read-only (VIRTIO_BLK_F_RO "
			   "negotiated)");
	else if (refused)
		report_log(thread, "WARN", "virtio-devices/src/block.rs:226",
			   "Attempting to write to sector 0 on a disk without specifying "
			   "image_type");
	if (refused) {
		char *request = diskio_describe("Out", sector, bytes);
		report_log(thread, "WARN", "virtio-devices/src/block.rs:308",
			   "Request check failed: %s ReadOnly", request);
		free(request);
	}
	free(thread);
	return refused;
}

/* One request over piece_words; the device's status. A short write is a success: v53 looks at the
 * sign of the result only, and what a full file system did not take is lost without a word. */
static uint32_t diskio_request(struct disk *disk, bool out, uint64_t sector, size_t bytes)
{
	uint64_t started = diskio_now_us();
	off_t at = (off_t)(sector * SECTOR);
	if (out && diskio_refused(disk, sector, bytes))
		return IOERR;
	int error = out ? orders_disk_error() : 0;
	if (!error) {
		ssize_t n = out ? pwrite(disk->fd, piece_words, bytes, at)
				: pread(disk->fd, piece_words, bytes, at);
		error = n < 0 ? errno : 0;
		if (!out && n >= 0) /* the file may be too short: zeros, as the guest has them */
			memset((char *)piece_words + n, 0, bytes - (size_t)n);
	}
	if (error) {
		diskio_log_failure(disk, out ? "Out" : "In", sector, bytes, error);
		return IOERR;
	}
	diskio_count(out ? &disk->write : &disk->read, bytes, diskio_now_us() - started);
	return 0;
}

static void diskio_fill(uint32_t seed, uint64_t sector, size_t sectors)
{
	uint32_t word = seed * MIX_SEED + (uint32_t)sector * WORDS * MIX_WORD;
	for (size_t i = 0; i < sectors * WORDS; i++) {
		piece_words[i] = word;
		word += MIX_WORD;
	}
}

static void diskio_sum(uint32_t *sum, size_t sectors)
{
	for (size_t i = 0; i < sectors * WORDS; i++)
		*sum = *sum * 33 + piece_words[i];
}

/* The guest counts in 32 bits. */
static uint32_t diskio_sectors(const struct disk *disk)
{
	return disk->sectors > UINT32_MAX ? UINT32_MAX : (uint32_t)disk->sectors;
}

/* Moves n sectors from s on; the first status that is not 0. */
static uint32_t diskio_transfer(struct disk *disk, bool out, const uint32_t *numbers, uint32_t *sum)
{
	uint64_t sector = numbers[1];
	uint32_t left = numbers[2];
	if (!disk || left > COMMAND_MAX || sector + left > diskio_sectors(disk))
		return NO_DISK;
	while (left) {
		uint32_t sectors = left < PIECE ? left : PIECE;
		if (out)
			diskio_fill(numbers[3], sector, sectors);
		uint32_t status = diskio_request(disk, out, sector, (size_t)sectors * SECTOR);
		if (status)
			return status;
		if (!out)
			diskio_sum(sum, sectors);
		sector += sectors;
		left -= sectors;
	}
	return 0;
}

static uint32_t diskio_flush(const struct disk *disk)
{
	if (!disk)
		return NO_DISK;
	if (fsync(disk->fd) == 0)
		return 0;
	diskio_log_failure(disk, "Flush", 0, 0, errno);
	return IOERR;
}

/* ---- commands ---- */

/* "WORD a b OK" or "WORD a b ERR e" */
static void diskio_answer(const char *word, const uint32_t *numbers, int shown, uint32_t status)
{
	struct bytes text = {0};
	bytes_format(&text, "%s", word);
	for (int i = 0; i < shown; i++)
		bytes_format(&text, " %u", numbers[i]);
	if (status)
		bytes_format(&text, " ERR %u\n", status);
	else
		bytes_format(&text, " OK\n");
	guest_print("%s", text.data);
	bytes_free(&text);
}

static void diskio_size(const uint32_t *numbers)
{
	const struct disk *disk = diskio_pick(numbers[0]);
	if (!disk)
		diskio_answer("DSIZE", numbers, 1, NO_DISK);
	else
		guest_print("DSIZE %u %u\n", numbers[0], diskio_sectors(disk));
}

static void diskio_read(const uint32_t *numbers)
{
	uint32_t sum = 0;
	uint32_t status = diskio_transfer(diskio_pick(numbers[0]), false, numbers, &sum);
	if (status)
		diskio_answer("DREAD", numbers, 3, status);
	else
		guest_print("DREAD %u %u %u %08x\n", numbers[0], numbers[1], numbers[2], sum);
}

static void diskio_open_again(const uint32_t *numbers)
{
	struct disk *disk = disk_at(numbers[0]);
	uint32_t status = NO_DISK;
	if (disk) {
		int fd = open(disk->path, O_RDWR | O_CLOEXEC);
		status = fd < 0 ? (uint32_t)errno : 0;
		if (fd >= 0 && disk->second_fd >= 0)
			close(disk->second_fd);
		if (fd >= 0)
			disk->second_fd = fd;
	}
	diskio_answer("DOPEN", numbers, 1, status);
}

static void diskio_truncate(const uint32_t *numbers)
{
	const struct disk *disk = disk_at(numbers[0]);
	uint32_t status = NO_DISK;
	if (disk)
		status = ftruncate(disk->fd, (off_t)numbers[1] * SECTOR) < 0 ? (uint32_t)errno : 0;
	diskio_answer("DTRUNC", numbers, 2, status);
}

bool diskio_command(const char *line)
{
	uint32_t n[4], sum;
	if (guest_numbers(line, "dsize ", n, 1))
		diskio_size(n);
	else if (guest_numbers(line, "dwrite ", n, 4))
		diskio_answer("DWRITE", n, 3, diskio_transfer(diskio_pick(n[0]), true, n, &sum));
	else if (guest_numbers(line, "dread ", n, 3))
		diskio_read(n);
	else if (guest_numbers(line, "dflush ", n, 1))
		diskio_answer("DFLUSH", n, 1, diskio_flush(diskio_pick(n[0])));
	else if (guest_numbers(line, "dopen ", n, 1))
		diskio_open_again(n);
	else if (guest_numbers(line, "dtrunc ", n, 2))
		diskio_truncate(n);
	else
		return false;
	return true;
}
