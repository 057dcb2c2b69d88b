// SPDX-License-Identifier: Apache-2.0
#include "ramcopy.h"

#include "util.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE	   4096u
#define BUFFER	   (256u * 1024)
#define STEP_BYTES (8u << 20)

/* Aligned, so that the search for zeros goes by words. */
static char buffer[BUFFER] __attribute__((aligned(64)));

int ramcopy_start(struct ramcopy *c, int from, int to, uint64_t size, struct err *e)
{
	*c = (struct ramcopy){.from = from, .to = to, .size = size};
	if (ftruncate(to, (off_t)size) < 0)
		return err_errno(e, errno, "size the memory's copy to %llu bytes",
				 (unsigned long long)size);
	return 0;
}

static bool is_zero(const char *page, size_t len)
{
	static const char zeros[PAGE];
	return memcmp(page, zeros, len) == 0;
}

static int write_at(int fd, const char *data, size_t len, uint64_t offset, struct err *e)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, n < 0 ? errno : ENOSPC, "write the memory's copy");
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Stores the runs of pages that hold something. */
static int store(struct ramcopy *c, size_t len, struct err *e)
{
	for (size_t at = 0; at < len;) {
		size_t page = len - at < PAGE ? len - at : PAGE;
		if (is_zero(buffer + at, page)) {
			at += page;
			continue;
		}
		size_t end = at;
		while (end < len) {
			page = len - end < PAGE ? len - end : PAGE;
			if (is_zero(buffer + end, page))
				break;
			end += page;
		}
		if (write_at(c->to, buffer + at, end - at, c->at + at, e) < 0)
			return -1;
		c->stored += end - at;
		at = end;
	}
	return 0;
}

static int too_short(struct ramcopy *c, uint64_t has, struct err *e)
{
	c->too_short = true;
	return err_set(e, ERR_INTERNAL, 0, "the guest's memory ends at %llu of %llu bytes",
		       (unsigned long long)has, (unsigned long long)c->size);
}

/* No more data: a hole up to the end, unless the file is shorter than it should be. */
static int at_last_hole(struct ramcopy *c, struct err *e)
{
	struct stat st;
	if (fstat(c->from, &st) < 0)
		return err_errno(e, errno, "stat the guest's memory");
	if ((uint64_t)st.st_size < c->size)
		return too_short(c, (uint64_t)st.st_size, e);
	c->at = c->size;
	return 0;
}

/* Moves to the next data. 1: there is some, up to data_end; 0: none is left; -1: failed. */
static int skip_hole(struct ramcopy *c, uint64_t *data_end, struct err *e)
{
	off_t data = lseek(c->from, (off_t)c->at, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return at_last_hole(c, e);
	/* A file system that knows no holes: all is data. */
	uint64_t start = data < 0 ? c->at : (uint64_t)data;
	off_t hole = lseek(c->from, (off_t)start, SEEK_HOLE);
	uint64_t page = start / PAGE * PAGE;
	if (page > c->at)
		c->at = page < c->size ? page : c->size;
	*data_end = hole < 0 || (uint64_t)hole > c->size ? c->size : (uint64_t)hole;
	return c->at < c->size;
}

int ramcopy_step(struct ramcopy *c, struct err *e)
{
	size_t done = 0;
	uint64_t end = 0;
	while (done < STEP_BYTES && c->at < c->size) {
		int more = c->at < end ? 1 : skip_hole(c, &end, e);
		if (more <= 0)
			return more;
		size_t want = end - c->at < BUFFER ? (size_t)(end - c->at) : BUFFER;
		ssize_t n = pread(c->from, buffer, want, (off_t)c->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "read the guest's memory");
		if (n == 0)
			return too_short(c, c->at, e);
		if (store(c, (size_t)n, e) < 0)
			return -1;
		c->at += (uint64_t)n;
		done += (size_t)n;
	}
	return c->at < c->size;
}

int ramcopy_run(struct ramcopy *c, int64_t deadline_us, struct err *e)
{
	int more;
	while ((more = ramcopy_step(c, e)) == 1)
		if (clock_us() > deadline_us)
			return err_set(e, ERR_DEADLINE, 0,
				       "the memory could not be copied in time");
	return more;
}
