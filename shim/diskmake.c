// SPDX-License-Identifier: Apache-2.0
#include "diskmake.h"

#include "util.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP_BYTES (8u << 20)
#define BUFFER	   (256u * 1024)

static char buffer[BUFFER];

/* What is missing is not taken for zeros. */
static int check_length(int fd, const struct diskmake *m, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat the disk's source");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size >= m->bytes)
		return 0;
	return err_set(e, ERR_INTERNAL, 0, "the disk's source ends at %lld of %llu bytes",
		       (long long)st.st_size, (unsigned long long)m->bytes);
}

/* ------------------------------------------------------------------ sharing blocks */

/*
 * ioctl_ficlone(2): both files have the same blocks until one is written. It is atomic and takes no
 * time that grows with the data, only with the number of extents.
 */
static int reflink_start(struct diskmake *m, struct err *e)
{
	if (ioctl(m->to, FICLONE, m->from) == 0) {
		m->at = m->bytes;
		return check_length(m->to, m, e) < 0 ? -1 : 1;
	}
	switch (errno) {
	case EOPNOTSUPP: /* the file system cannot */
	case ENOTTY:
	case ENOSYS:
	case EXDEV:  /* two file systems */
	case EINVAL: /* not between these two: block devices, other features of the files */
	case EISDIR:
	case EPERM: /* the source is immutable, or the like */
	case ETXTBSY:
		return 0;
	}
	return err_errno(e, errno, "clone the disk's blocks (FICLONE)");
}

/* ------------------------------------------------------------------ copying data, keeping holes */

static int copy_start(struct diskmake *m, struct err *e)
{
	(void)m;
	(void)e;
	return 1;
}

static int write_all(int fd, const char *data, size_t len, uint64_t at, struct err *e)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, n < 0 ? errno : ENOSPC, "write the disk's copy");
		data += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* One read and its write; what copy_file_range(2) cannot do between two file systems. */
static int copy_plain(struct diskmake *m, uint64_t end, struct err *e)
{
	size_t want = end - m->at < BUFFER ? (size_t)(end - m->at) : BUFFER;
	ssize_t n;
	do
		n = pread(m->from, buffer, want, (off_t)m->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, errno, "read the disk's source");
	if (n == 0)
		return check_length(m->from, m, e) < 0
			       ? -1
			       : err_errno(e, EIO, "read the disk's source");
	/* A block device has no holes to tell us of, but much of it may never have been written. */
	bool zeros = buffer[0] == 0 && memcmp(buffer, buffer + 1, (size_t)n - 1) == 0;
	if (!zeros && write_all(m->to, buffer, (size_t)n, m->at, e) < 0)
		return -1;
	m->at += (uint64_t)n;
	m->copied += zeros ? 0 : (uint64_t)n;
	return 0;
}

static int copy_some(struct diskmake *m, uint64_t end, struct err *e)
{
	off_t in = (off_t)m->at, out = in;
	size_t want = end - m->at < STEP_BYTES ? (size_t)(end - m->at) : STEP_BYTES;
	if (m->plain)
		return copy_plain(m, end, e);
	ssize_t n = copy_file_range(m->from, &in, m->to, &out, want, 0);
	if (n > 0) {
		m->at += (uint64_t)n;
		m->copied += (uint64_t)n;
		return 0;
	}
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS &&
	    errno != EPERM)
		return err_errno(e, errno, "copy the disk's data");
	/* 0: the file's end, or a file system that pretends to be there. A read tells which. */
	m->plain = true;
	return copy_plain(m, end, e);
}

/* Moves to the next data. 1: there is some, up to *end; 0: only a hole is left; -1: failed. */
static int skip_hole(struct diskmake *m, uint64_t *end, struct err *e)
{
	off_t data = lseek(m->from, (off_t)m->at, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		if (check_length(m->from, m, e) < 0)
			return -1;
		m->at = m->bytes;
		return 0;
	}
	/* A source that knows no holes (a block device): all of it is data. */
	off_t hole = data < 0 ? -1 : lseek(m->from, data, SEEK_HOLE);
	if (data > (off_t)m->at)
		m->at = (uint64_t)data < m->bytes ? (uint64_t)data : m->bytes;
	*end = hole < 0 || (uint64_t)hole > m->bytes ? m->bytes : (uint64_t)hole;
	return m->at < m->bytes;
}

static int copy_step(struct diskmake *m, struct err *e)
{
	uint64_t seen = 0, end = 0;
	while (m->at < m->bytes && seen < STEP_BYTES) {
		int more = m->at < end ? 1 : skip_hole(m, &end, e);
		if (more <= 0)
			return more;
		uint64_t before = m->at;
		if (copy_some(m, end, e) < 0)
			return -1;
		seen += m->at - before;
	}
	return m->at < m->bytes;
}

/* ------------------------------------------------------------------ the ways */

/*
 * The one place where a way of making a disk is added. start: 1: it is the one; 0: it cannot, try
 * the next; -1: failed. step: as diskmake_step(); not called when start did all.
 */
static const struct {
	enum msg_disk_made made;
	int (*start)(struct diskmake *m, struct err *e);
	int (*step)(struct diskmake *m, struct err *e);
} ways[] = {
	{MSG_DISK_REFLINK, reflink_start, NULL},
	{MSG_DISK_COPIED, copy_start, copy_step},
};

/* To the full size; what was beyond the source reads as zeros. */
static int finish(const struct diskmake *m, struct err *e)
{
	if (ftruncate(m->to, (off_t)m->size) < 0)
		return err_errno(e, errno, "size the disk to %llu bytes",
				 (unsigned long long)m->size);
	return 0;
}

int diskmake_start(struct diskmake *m, int from, int to, uint64_t bytes, uint64_t size,
		   struct err *e)
{
	*m = (struct diskmake){.from = from, .to = to, .bytes = bytes, .size = size};
	for (; m->way < ARRAY_SIZE(ways); m->way++) {
		int can = ways[m->way].start(m, e);
		if (can < 0)
			return -1;
		if (can == 0)
			continue;
		m->made = ways[m->way].made;
		return m->at < m->bytes ? 1 : finish(m, e);
	}
	return err_set(e, ERR_INTERNAL, 0, "there is no way of making this disk");
}

int diskmake_step(struct diskmake *m, struct err *e)
{
	int more = ways[m->way].step(m, e);
	return more == 0 ? finish(m, e) : more;
}

const char *diskmake_name(enum msg_disk_made made)
{
	static const char *const names[MSG_DISK_MADE_COUNT] = {
		[MSG_DISK_SHARED] = "shared",
		[MSG_DISK_REFLINK] = "reflink",
		[MSG_DISK_COPIED] = "copy",
		[MSG_DISK_OPENED] = "device",
	};
	return made < MSG_DISK_MADE_COUNT ? names[made] : NULL;
}
