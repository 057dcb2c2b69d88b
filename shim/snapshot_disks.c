// SPDX-License-Identifier: Apache-2.0
#include "snapshot_disks.h"

#include "util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own(const struct msg_disk *disk)
{
	return !(disk->flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE));
}

static uint64_t sum(const struct shim *s, unsigned count)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < count; i++)
		if (is_own(&s->spec.disks[i]))
			bytes += (uint64_t)s->spec.disks[i].size_mib << 20;
	return bytes;
}

uint64_t snapshot_disks_total(const struct shim *s)
{
	return s->snapshot.kind == MSG_SNAPSHOT_TEMPLATE ? sum(s, s->spec.disk_count) : 0;
}

uint64_t snapshot_disks_done(const struct shim *s)
{
	const struct shim_snapshot *n = &s->snapshot;
	if (n->kind != MSG_SNAPSHOT_TEMPLATE)
		return 0;
	return sum(s, n->disk_at) + (n->disk_busy ? n->disk.at : 0);
}

int snapshot_disks_check(const struct shim *s, struct err *e)
{
	if (s->snapshot.kind != MSG_SNAPSHOT_TEMPLATE)
		return 0;
	for (uint32_t i = 0; i < s->spec.disk_count; i++) {
		uint32_t flags = s->spec.disks[i].flags;
		if ((flags & MSG_DISK_DEVICE) && !(flags & MSG_DISK_READONLY))
			return err_set(e, ERR_STATE, 0,
				       "disk%u is the block device %s and writable: a template "
				       "cannot carry a copy of it",
				       i, s->spec.disks[i].image);
	}
	return 0;
}

int snapshot_disks_check_room(const struct shim *s, uint64_t more_bytes, struct err *e)
{
	const struct shim_snapshot *n = &s->snapshot;
	if (!n->max_bytes || n->allocated + more_bytes <= n->max_bytes)
		return 0;
	return err_set(e, ERR_QUOTA, 0,
		       "max_disk_mib: the set takes more than the %llu MiB that are left; remove "
		       "templates or sandboxes, or ask the host's administrator for more",
		       (unsigned long long)n->max_bytes >> 20);
}

/* The VMM may write to its own disks, but has no business to change how long they are. */
static int check_size(const struct shim *s, unsigned i, uint64_t *bytes, struct err *e)
{
	struct stat st;
	*bytes = (uint64_t)s->spec.disks[i].size_mib << 20;
	if (fstat(s->disks.fd[i], &st) < 0)
		return err_errno(e, errno, "stat disk%u", i);
	if ((uint64_t)st.st_size != *bytes)
		return err_set(e, ERR_VMM, 0, "the VMM changed the size of disk%u to %lld bytes", i,
			       (long long)st.st_size);
	return 0;
}

static int start_one(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	unsigned i = n->disk_at;
	char name[SETS_DISK_NAME_SIZE];
	uint64_t bytes;
	sets_disk_name(i, name);
	if (check_size(s, i, &bytes, e) < 0)
		return -1;
	n->disk_fd[i] = sets_new_file(&n->staging, name, e);
	if (n->disk_fd[i] < 0)
		return -1;
	n->disk_busy = true;
	return diskmake_start(&n->disk, s->disks.fd[i], n->disk_fd[i], bytes, bytes, e);
}

static int finish_one(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	struct stat st;
	if (fstat(n->disk_fd[n->disk_at], &st) < 0)
		return err_errno(e, errno, "stat the copy of disk%u", n->disk_at);
	n->allocated += (uint64_t)st.st_blocks * 512;
	n->result.set.spec.disks[n->disk_at].made = n->disk.made;
	n->disk_busy = false;
	n->disk_at++;
	return snapshot_disks_check_room(s, 0, e);
}

int snapshot_disks_step(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	if (n->kind != MSG_SNAPSHOT_TEMPLATE)
		return 0;
	while (!n->disk_busy && n->disk_at < s->spec.disk_count &&
	       !is_own(&s->spec.disks[n->disk_at]))
		n->disk_at++;
	if (n->disk_at == s->spec.disk_count)
		return 0;
	n->result.set.content |= MSG_SET_DISKS;
	int more = n->disk_busy ? diskmake_step(&n->disk, e) : start_one(s, e);
	if (more == 1)
		return snapshot_disks_check_room(s, n->disk.copied, e) < 0 ? -1 : 1;
	return more < 0 || finish_one(s, e) < 0 ? -1 : 1;
}

int snapshot_disks_commit(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	int fds[MSG_DISKS_MAX];
	uint64_t bytes;
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++) {
		bool own = i < s->spec.disk_count && is_own(&s->spec.disks[i]);
		if (own && check_size(s, i, &bytes, e) < 0)
			return -1;
		fds[i] = n->disk_fd[i] >= 0 ? n->disk_fd[i] : s->disks.fd[i];
		if (i < s->spec.disk_count && (s->spec.disks[i].flags & MSG_DISK_DEVICE))
			fds[i] = -1;
	}
	/* The names of what it keeps must outlive the host's crash too. */
	if (n->kind == MSG_SNAPSHOT_HIBERNATE && fsync(s->jail.sandboxes_fd) < 0)
		return err_errno(e, errno, "sync STATE_DIR/sandboxes");
	return sets_commit(&n->staging, &n->result.set, fds, e);
}

void snapshot_disks_close(struct shim *s)
{
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		fd_close(&s->snapshot.disk_fd[i]);
	s->snapshot.disk_busy = false;
}
