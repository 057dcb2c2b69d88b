// SPDX-License-Identifier: Apache-2.0
#include "store_write.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void store_write_name(const char *key, bool creating, char name[STORE_NAME_MAX])
{
	snprintf(name, STORE_NAME_MAX, "%s.%s", key, creating ? "creating" : "json");
}

/* A name that no record has; what an earlier process left under one is removed at start. */
static void temporary_name(const struct store_job *job, char name[STORE_NAME_MAX])
{
	snprintf(name, STORE_NAME_MAX, ".%" PRIu64, job->number);
}

static int fail(struct store_job *job, int errnum, const char *what)
{
	job->rc = err_errno(&job->err, errnum,
			    "STATE_DIR/store (free or mend its file system): %s the record of %s",
			    what, job->key);
	return -1;
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t n = write(fd, bytes, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : EIO;
			return -1;
		}
		bytes += n;
		length -= (size_t)n;
	}
	return 0;
}

/* A file of its own with the bytes, under a name that nobody reads. */
static int write_aside(int dir, struct store_job *job)
{
	char name[STORE_NAME_MAX];
	temporary_name(job, name);
	job->fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (job->fd < 0)
		return fail(job, errno, "make a file for");
	if (write_all(job->fd, job->bytes, job->length) == 0)
		return 0;
	fail(job, errno, "write");
	unlinkat(dir, name, 0);
	return -1;
}

/* Its name becomes the record's. */
static int put_in_place(int dir, struct store_job *job)
{
	char from[STORE_NAME_MAX], to[STORE_NAME_MAX];
	temporary_name(job, from);
	store_write_name(job->key, job->creating, to);
	if (renameat(dir, from, dir, to) == 0)
		return 0;
	fail(job, errno, "rename");
	unlinkat(dir, from, 0);
	return -1;
}

/*
 * A first record harms no older one, so it is put in place before it is synced, which the caller
 * does: whoever comes after this process finds it however long a disk takes.
 */
static void put_first(int dir, struct store_job *job)
{
	if (write_aside(dir, job) == 0)
		put_in_place(dir, job);
}

static void put(int dir, struct store_job *job)
{
	char name[STORE_NAME_MAX];
	if (write_aside(dir, job) < 0)
		return;
	if (job->care != STORE_CARE_NONE && fsync(job->fd) < 0) {
		fail(job, errno, "sync");
		temporary_name(job, name);
		unlinkat(dir, name, 0);
		return;
	}
	fd_close(&job->fd);
	if (put_in_place(dir, job) < 0)
		return;
	store_write_name(job->key, true, name);
	if (job->first && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		fail(job, errno, "remove the first of");
}

static void commit(int dir, struct store_job *job)
{
	char from[STORE_NAME_MAX], to[STORE_NAME_MAX];
	store_write_name(job->key, true, from);
	store_write_name(job->key, false, to);
	if (renameat(dir, from, dir, to) < 0)
		fail(job, errno, "rename");
}

static void remove_record(int dir, struct store_job *job)
{
	char name[STORE_NAME_MAX];
	for (int i = 0; i < 2; i++) {
		store_write_name(job->key, i, name);
		if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
			fail(job, errno, "remove");
	}
}

static void do_job(int dir, struct store_job *job)
{
	if (job->work == STORE_WORK_COMMIT)
		commit(dir, job);
	else if (job->work == STORE_WORK_REMOVE)
		remove_record(dir, job);
	else if (job->creating)
		put_first(dir, job);
	else
		put(dir, job);
}

void store_write_jobs(int dir, struct store_jobs *jobs)
{
	struct store_job *job;
	bool sync = false;
	STAILQ_FOREACH(job, jobs, queue)
	{
		do_job(dir, job);
		sync = sync || (job->care == STORE_CARE_ALL && job->rc == 0);
	}
	/* Those that are still open are the first ones. */
	STAILQ_FOREACH(job, jobs, queue)
	{
		if (job->fd >= 0 && job->rc == 0 && job->care != STORE_CARE_NONE &&
		    fsync(job->fd) < 0)
			fail(job, errno, "sync");
		fd_close(&job->fd);
	}
	if (!sync || fsync(dir) == 0)
		return;
	int errnum = errno;
	STAILQ_FOREACH(job, jobs, queue)
	if (job->care == STORE_CARE_ALL && job->rc == 0)
		fail(job, errnum, "sync the directory for");
}
