// SPDX-License-Identifier: Apache-2.0
#include "host_lock.h"

#include "file.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_US	  5000000 /* a daemon that ends holds its locks until its spawner has gone */
#define LOCK_DIR  "/run"
#define UIDS_FILE "cloister.uids"
#define CGRP_FILE "cloister.cgroups"

struct range {
	off_t start, length; /* length 0: flock() the whole file */
};

static int try_lock(int fd, const struct range *r)
{
	if (!r->length)
		return flock(fd, LOCK_EX | LOCK_NB);
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = r->start, .l_len = r->length};
	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* what: the thing that is shared, for the message. */
static int take(int dir, const char *name, const struct range *r, const char *what, int *out,
		struct err *e)
{
	const int64_t until = clock_us() + WAIT_US;
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	CLEANUP_FD int fd = file_open_beneath(dir, name, O_RDWR | O_CREAT, 0600, "lock file", e);
	if (fd < 0)
		return -1;
	if (fchmod(fd, 0600) < 0 || fchown(fd, 0, 0) < 0)
		return err_errno(e, errno, "owner and mode of lock file %s", name);
	while (try_lock(fd, r) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return err_errno(e, errno, "lock %s", name);
		if (clock_us() >= until)
			return err_set(e, ERR_STATE, 0,
				       "another cloisterd (or its spawner) uses %s: stop it, or "
				       "give this one its own",
				       what);
		nanosleep(&pause, NULL);
	}
	*out = fd_take(&fd);
	return 0;
}

int host_lock_dirs(struct host *h, const struct policy *p, struct err *e)
{
	char what[POLICY_PATH_MAX + 32];
	const struct range whole = {0};
	snprintf(what, sizeof(what), "state_dir %s", p->state_dir);
	if (take(h->state_dir, "lock", &whole, what, &h->locks[HOST_LOCK_STATE], e) < 0)
		return -1;
	snprintf(what, sizeof(what), "run_dir %s", p->run_dir);
	return take(h->run_dir, "lock", &whole, what, &h->locks[HOST_LOCK_RUN], e);
}

int host_lock_ranges(struct host *h, const struct policy *p, int cgroup, struct err *e)
{
	char what[POLICY_PATH_MAX + 64];
	struct stat st;
	CLEANUP_FD int dir = open(LOCK_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, errno, "open %s", LOCK_DIR);
	struct range uids = {.start = p->uid_base, .length = p->uid_count};
	snprintf(what, sizeof(what), "uids of %u to %u ([vmm] uid_base, uid_count)", p->uid_base,
		 p->uid_base + p->uid_count - 1);
	if (take(dir, UIDS_FILE, &uids, what, &h->locks[HOST_LOCK_UIDS], e) < 0)
		return -1;
	if (cgroup < 0)
		return 0;
	if (fstat(cgroup, &st) < 0)
		return err_errno(e, errno, "stat cgroup %s", p->cgroup);
	/* One byte per cgroup: its inode number, which no other cgroup has. */
	struct range one = {.start = (off_t)st.st_ino, .length = 1};
	snprintf(what, sizeof(what), "cgroup %s", p->cgroup);
	return take(dir, CGRP_FILE, &one, what, &h->locks[HOST_LOCK_CGROUP], e);
}
