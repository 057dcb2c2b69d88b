// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of shim/diskmake share: a source and a disk, and our own ioctl(2) and so on, with
 * which file systems fail or fall short in ways that none here does.
 */
#ifndef TESTS_UNIT_DISKFILES_H
#define TESTS_UNIT_DISKFILES_H

#include "unit.h"

#include "diskmake.h"
#include "util.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define PAGE ((size_t)4096)
#define MIB  ((size_t)1 << 20)

/* ------------------------------------------------------------------ ours instead of libc's */

/* fails: the errno that calls give, `times` of them; most: bytes that one call moves; 0: as is. */
struct fault {
	int fails, times, calls;
	size_t most;
	bool nothing; /* gives 0 */
};
static struct fault clone_fault, range_fault, write_fault, seek_fault;

static bool fault_hits(struct fault *f)
{
	f->calls++;
	if (!(f->fails || f->nothing) || f->times == 0)
		return false;
	f->times--;
	errno = f->fails;
	return true;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	unsigned long argument = va_arg(ap, unsigned long);
	va_end(ap);
	if (request == FICLONE && fault_hits(&clone_fault))
		return -1;
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len,
			unsigned flags)
{
	if (fault_hits(&range_fault))
		return range_fault.nothing ? 0 : -1;
	if (range_fault.most && len > range_fault.most)
		len = range_fault.most;
	return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	if (fault_hits(&write_fault))
		return write_fault.nothing ? 0 : -1;
	if (write_fault.most && len > write_fault.most)
		len = write_fault.most;
	return syscall(SYS_pwrite64, fd, data, len, at);
}

off_t lseek(int fd, off_t at, int whence)
{
	if (fault_hits(&seek_fault))
		return -1;
	return syscall(SYS_lseek, fd, at, whence);
}

/* ------------------------------------------------------------------ files */

struct files {
	char path[64];
	int dir, from, to;
};

static int setup(void **state)
{
	struct files *f = calloc(1, sizeof(*f));
	clone_fault = range_fault = write_fault = seek_fault = (struct fault){0};
	f->dir = unit_make_dir(f->path);
	f->from = openat(f->dir, "from", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	f->to = openat(f->dir, "to", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	*state = f;
	return f->from >= 0 && f->to >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct files *f = *state;
	clone_fault = range_fault = write_fault = seek_fault = (struct fault){0};
	close(f->from);
	close(f->to);
	close(f->dir);
	unit_remove_dir(f->path);
	free(f);
	return 0;
}

static void put(int fd, size_t at, size_t len, int seed)
{
	unsigned char *data = malloc(len);
	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (unsigned char)((at + i) * 131 + (at + i) / 4096 + (size_t)seed);
	for (size_t done = 0; done < len;) {
		long n = syscall(SYS_pwrite64, fd, data + done, len - done, at + done);
		assert_true(n > 0);
		done += (size_t)n;
	}
	free(data);
}

static void resize(int fd, size_t size)
{
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
}

static size_t allocated(int fd)
{
	struct stat st;
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void assert_bytes(int fd, const char *want, size_t size)
{
	char *have = malloc(size + 1);
	assert_non_null(have);
	assert_int_equal(pread(fd, have, size, 0), size);
	assert_memory_equal(have, want, size);
	free(have);
}

/* The disk is its source's first bytes, then zeros up to size. */
static void assert_disk(const struct files *f, size_t bytes, size_t size)
{
	char *want = calloc(1, size + 1);
	struct stat st;
	assert_non_null(want);
	assert_int_equal(fstat(f->to, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(pread(f->from, want, bytes, 0), bytes);
	assert_bytes(f->to, want, size);
	free(want);
}

static int make(struct diskmake *m, const struct files *f, size_t bytes, size_t size, struct err *e)
{
	int more = diskmake_start(m, f->from, f->to, bytes, size, e);
	while (more == 1)
		more = diskmake_step(m, e);
	return more;
}

/* By copying, whatever the file system could do. Gives the bytes of data. */
static uint64_t copy(const struct files *f, size_t bytes, size_t size)
{
	struct diskmake m;
	struct err e;
	clone_fault = (struct fault){.fails = EOPNOTSUPP, .times = 1};
	if (make(&m, f, bytes, size, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(m.made, MSG_DISK_COPIED);
	assert_int_equal(m.at, bytes);
	assert_disk(f, bytes, size);
	return m.copied;
}

static void refused(const struct files *f, size_t bytes, size_t size, enum err_kind kind,
		    int errnum)
{
	struct diskmake m;
	struct err e;
	assert_int_equal(make(&m, f, bytes, size, &e), -1);
	if (e.kind != kind || e.errnum != errnum)
		fail_msg("kind %d, errno %d: %s", (int)e.kind, e.errnum, e.text);
	/* What is wrong must be said to be about the disk. */
	assert_says(e.text, "disk");
}

/* Runs of data and of nothing, with edges anywhere; blocks that are allocated but not written. */
static void random_layouts(struct files *f, unsigned seed, int rounds)
{
	srandom(seed);
	for (int round = 0; round < rounds; round++) {
		size_t size = ((size_t)random() % (6 * MIB) / 512 + 1) * 512;
		size_t grown = (size + MIB - 1) / MIB * MIB;
		resize(f->from, 0);
		resize(f->to, 0);
		resize(f->from, size);
		for (int run = 0; run < 10; run++) {
			size_t at = (size_t)random() % size;
			size_t len = (size_t)random() % (size - at) / 5 + 1;
			if (random() % 4 == 0)
				fallocate(f->from, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len);
			else
				put(f->from, at, len, round);
		}
		assert_true(copy(f, size, grown) <= size);
		assert_true(allocated(f->to) <= allocated(f->from));
	}
}

#endif
