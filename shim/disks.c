// SPDX-License-Identifier: Apache-2.0
#include "disks.h"

#include "diskmake.h"
#include "file.h"
#include "hostns.h"
#include "mnt.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR	    512
#define MIB	    (1ull << 20)
#define DISK_BYTES  (64u << 10) /* of the tmpfs that holds the mount points */
#define DISK_INODES 16

/* All that is made for one disk, so that half of it is never kept open. */
struct making {
	const struct disks_order *order;
	struct msg_create *spec;
	int from[MSG_DISKS_MAX]; /* what the disks to be made are made from, or -1 */
	struct msg_set kept;	 /* what describe() wrote of those that are kept */
	uint64_t bytes[MSG_DISKS_MAX];
	uint64_t done, total; /* of all of them together */
};

static void close_sources(struct making *m)
{
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		fd_close(&m->from[i]);
}

void disks_init(struct disks *d)
{
	*d = (struct disks){0};
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		d->fd[i] = -1;
}

void disks_close(struct disks *d)
{
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		fd_close(&d->fd[i]);
}

static uint32_t whole_mib(uint64_t bytes)
{
	return (uint32_t)((bytes + MIB - 1) / MIB);
}

static uint64_t bytes_of(const struct msg_disk *disk)
{
	return disk->size_mib * MIB;
}

static bool is_own(const struct msg_disk *disk)
{
	return !(disk->flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE));
}

uint64_t disks_largest(const struct msg_create *spec)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < spec->disk_count; i++)
		if (is_own(&spec->disks[i]) && bytes_of(&spec->disks[i]) > most)
			most = bytes_of(&spec->disks[i]);
	return most;
}

/* ------------------------------------------------------------------ block devices */

static int open_device(const struct disks_order *order, struct msg_disk *disk, dev_t *device,
		       struct err *e)
{
	const struct policy *p = order->policy;
	char tenant[NAME_SIZE], id[NAME_SIZE], key[NAME_KEY_SIZE], path[64];
	uint64_t bytes;
	struct stat st;
	uint32_t n = 0;
	name_key_split(order->key, tenant, id);
	name_key_make(key, tenant, disk->image);
	while (n < p->device_count && strcmp(p->devices[n].key, key) != 0)
		n++;
	if (n == p->device_count)
		return err_set(e, ERR_INVALID, 0,
			       "device: \"%s\" is not in the list of [tenant %s] block_device",
			       disk->image, tenant);
	snprintf(path, sizeof(path), HOSTNS_DEVICES "/%u", n);
	/* O_EXCL: of nobody else's, neither a file system nor another sandbox (open(2)). */
	int mode = disk->flags & MSG_DISK_READONLY ? O_RDONLY : O_RDWR;
	CLEANUP_FD int fd = open(path, mode | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return err_set(e, ERR_STATE, EBUSY, "device: %s is in use", disk->image);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno,
				 "open block device %s (it must be there when cloisterd starts)",
				 disk->image);
	if (!S_ISBLK(st.st_mode))
		return err_set(e, ERR_INTERNAL, 0,
			       "what is configured as device %s is no block device", disk->image);
	if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		return err_errno(e, errno, "ask for the size of device %s", disk->image);
	if (bytes == 0 || bytes > MSG_DISK_MIB_MAX * MIB)
		return err_set(e, ERR_INVALID, 0, "device: %s has %llu bytes", disk->image,
			       (unsigned long long)bytes);
	disk->size_mib = whole_mib(bytes);
	disk->made = MSG_DISK_OPENED;
	*device = st.st_rdev;
	return fd_take(&fd);
}

/* ------------------------------------------------------------------ images */

static int open_image(const struct disks_order *order, const char *name, uint64_t *bytes,
		      struct err *e)
{
	char what[32 + NAME_SIZE];
	struct stat st;
	snprintf(what, sizeof(what), "disk image \"%s\"", name);
	CLEANUP_FD int state = file_open_dir(order->policy->state_dir, e);
	CLEANUP_FD int dir = state < 0 ? -1
				       : file_open_beneath(state, "images/disks",
							   O_PATH | O_DIRECTORY, 0, "directory", e);
	if (dir < 0)
		return -1;
	/* O_NONBLOCK: a FIFO in its place must not hold us up. */
	CLEANUP_FD int fd =
		file_open_beneath(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, what, e);
	if (fd < 0 && e->kind == ERR_NOT_FOUND)
		return err_set(e, ERR_INVALID, 0,
			       "%s does not exist: see `cloister image import disk`", what);
	const struct file_rule rule = {.owner = 0, .forbidden = 022};
	if (fd < 0 || file_check_regular(fd, &rule, what, bytes, e) < 0 ||
	    file_check_mount(dir, fd, what, e) < 0)
		return -1;
	if (fstat(fd, &st) == 0 && (st.st_mode & 0444) != 0444)
		return err_set(e, ERR_INVALID, 0, "%s must be readable for all (mode 0444)", what);
	if (*bytes == 0 || *bytes % SECTOR || *bytes > MSG_DISK_MIB_MAX * MIB)
		return err_set(e, ERR_INVALID, 0,
			       "%s has %llu bytes: must be a whole number of %d-byte sectors, at "
			       "most %u MiB",
			       what, (unsigned long long)*bytes, SECTOR, MSG_DISK_MIB_MAX);
	return fd_take(&fd);
}

/* The image itself; in a guest that is restored it must be the one that the guest knew. */
static int share_image(const struct disks_order *order, uint32_t i, struct msg_disk *disk,
		       struct err *e)
{
	uint64_t bytes;
	struct sets_disk is;
	CLEANUP_FD int fd = open_image(order, disk->image, &bytes, e);
	if (fd < 0 || sets_disk_of(fd, &is, e) < 0)
		return -1;
	if (order->set_fd >= 0 &&
	    (is.bytes != order->set_disks[i].bytes || is.time_ns != order->set_disks[i].time_ns))
		return err_set(e, ERR_STATE, 0,
			       "disk image \"%s\" is not the one that the guest was made with: it "
			       "was replaced since",
			       disk->image);
	disk->size_mib = whole_mib(bytes);
	disk->made = MSG_DISK_SHARED;
	return fd_take(&fd);
}

/* ------------------------------------------------------------------ own disks */

/* What an own disk is made from: the template's file, or the image. */
static int open_source(const struct making *m, uint32_t i, uint64_t *bytes, struct err *e)
{
	const struct disks_order *order = m->order;
	char name[SETS_DISK_NAME_SIZE];
	if (order->set_fd < 0)
		return open_image(order, m->spec->disks[i].image, bytes, e);
	sets_disk_name(i, name);
	return sets_open_file(order->set_fd, name, m->spec->template, bytes, e);
}

static int run(struct making *m, struct diskmake *make, int more, struct err *e)
{
	const struct disks_order *order = m->order;
	while (more == 1) {
		if (clock_us() > order->deadline_us)
			return err_set(e, ERR_DEADLINE, 0,
				       "the disk could not be copied within [limits] disks_ms");
		more = diskmake_step(make, e);
		if (more == 1 && order->tell &&
		    order->tell(order->arg, m->done + make->at, m->total, e) < 0)
			return -1;
	}
	m->done += make->bytes;
	return more;
}

static int make_own(struct making *m, uint32_t i, int dir_fd, struct err *e)
{
	struct msg_disk *disk = &m->spec->disks[i];
	const char name[] = {(char)('0' + i), '\0'};
	struct diskmake make;
	CLEANUP_FD int to =
		openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return err_errno(e, errno, "make the disk's file");
	int more = diskmake_start(&make, m->from[i], to, m->bytes[i], bytes_of(disk), e);
	if (run(m, &make, more, e) < 0)
		return -1;
	if (fchown(to, m->order->uid, (gid_t)m->order->uid) < 0)
		return err_errno(e, errno, "give the disk to uid %u", m->order->uid);
	disk->made = make.made;
	return fd_take(&to);
}

/* What is wrong with the sandbox's own files is nobody's request: it is ours to answer for. */
static int ours(struct err *e)
{
	if (e->kind == ERR_INVALID || e->kind == ERR_NOT_FOUND)
		e->kind = ERR_INTERNAL;
	return -1;
}

/* One that the sandbox has kept while it slept. */
static int wake_own(const struct disks_order *order, uint32_t i, const struct msg_disk *disk,
		    int dir_fd, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 0177};
	const char name[] = {(char)('0' + i), '\0'};
	char what[32 + NAME_KEY_SIZE];
	struct sets_disk is;
	uint64_t bytes;
	snprintf(what, sizeof(what), "disk %u of %s", i, order->key);
	CLEANUP_FD int fd =
		file_open_beneath(dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, what, e);
	if (fd < 0 || file_check_regular(fd, &rule, what, &bytes, e) < 0 ||
	    file_check_mount(dir_fd, fd, what, e) < 0 || sets_disk_of(fd, &is, e) < 0)
		return ours(e);
	if (bytes != bytes_of(disk) || is.time_ns != order->set_disks[i].time_ns)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s was modified since the sandbox was hibernated: its memory no "
			       "longer fits it",
			       what);
	if (fchown(fd, order->uid, (gid_t)order->uid) < 0)
		return err_errno(e, errno, "give %s to uid %u", what, order->uid);
	return fd_take(&fd);
}

/* One that the sandbox had when it ran last. Its guest may have done anything to what is in it. */
static int keep_own(const struct making *m, uint32_t i, int dir_fd, struct err *e)
{
	const struct file_rule rule = {.owner = 0, .forbidden = 0177};
	const struct disks_order *order = m->order;
	struct msg_disk *disk = &m->spec->disks[i];
	const struct msg_disk *is = &m->kept.spec.disks[i];
	const char name[] = {(char)('0' + i), '\0'};
	char what[32 + NAME_KEY_SIZE];
	uint64_t bytes;
	if (i >= m->kept.spec.disk_count || strcmp(is->image, disk->image) != 0 ||
	    is->flags != disk->flags)
		return err_set(e, ERR_INTERNAL, 0, "it is not the one that %s was made with",
			       order->key);
	snprintf(what, sizeof(what), "disk %u of %s", i, order->key);
	CLEANUP_FD int fd =
		file_open_beneath(dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, what, e);
	if (fd < 0 || file_check_regular(fd, &rule, what, &bytes, e) < 0 ||
	    file_check_mount(dir_fd, fd, what, e) < 0)
		return ours(e);
	if (bytes != bytes_of(is))
		return err_set(e, ERR_INTERNAL, 0, "%s has %llu bytes, must have %llu", what,
			       (unsigned long long)bytes, (unsigned long long)bytes_of(is));
	if (fchown(fd, order->uid, (gid_t)order->uid) < 0)
		return err_errno(e, errno, "give %s to uid %u", what, order->uid);
	disk->size_mib = is->size_mib;
	disk->made = is->made;
	return fd_take(&fd);
}

/* For a supervisor that finds them without a shim: what they are. */
static int describe(const struct disks_order *order, const struct msg_create *spec, int dir_fd,
		    struct err *e)
{
	struct msg_set set = {.created_real_us = clock_real_us(), .spec = *spec};
	str_copy(set.key, sizeof(set.key), order->key);
	str_copy(set.parent, sizeof(set.parent), order->key);
	return sets_describe(dir_fd, &set, e);
}

static bool has_own_already(const struct msg_create *spec)
{
	return spec->source == MSG_SOURCE_WAKE || (spec->flags & MSG_CREATE_KEEP_DISKS);
}

/* Before the first byte is copied: a request that is wrong in the end need not be begun. */
static int open_sources(struct making *m, struct err *e)
{
	for (uint32_t i = 0; i < m->spec->disk_count; i++) {
		struct msg_disk *disk = &m->spec->disks[i];
		uint64_t bytes;
		if (!is_own(disk) || has_own_already(m->spec))
			continue;
		m->from[i] = open_source(m, i, &bytes, e);
		if (m->from[i] < 0)
			return err_prefix(e, "disks[%u]", i);
		if (disk->size_mib == 0)
			disk->size_mib = whole_mib(bytes);
		if (bytes_of(disk) < bytes)
			return err_set(e, ERR_INVALID, 0,
				       "disks[%u]: size_mib: %u is less than the image has (%u)", i,
				       disk->size_mib, whole_mib(bytes));
		m->bytes[i] = bytes;
		m->total += bytes;
	}
	return 0;
}

static int open_one(struct making *m, uint32_t i, int dir_fd, struct disks *d, struct err *e)
{
	const struct disks_order *order = m->order;
	struct msg_disk *disk = &m->spec->disks[i];
	if (disk->flags & MSG_DISK_DEVICE)
		d->fd[i] = open_device(order, disk, &d->device[i], e);
	else if (disk->flags & MSG_DISK_READONLY)
		d->fd[i] = share_image(order, i, disk, e);
	else if (m->spec->source == MSG_SOURCE_WAKE)
		d->fd[i] = wake_own(order, i, disk, dir_fd, e);
	else if (m->spec->flags & MSG_CREATE_KEEP_DISKS)
		d->fd[i] = keep_own(m, i, dir_fd, e);
	else
		d->fd[i] = make_own(m, i, dir_fd, e);
	return d->fd[i] < 0 ? err_prefix(e, "disks[%u]", i) : 0;
}

int disks_open(const struct disks_order *order, struct msg_create *spec, struct disks *d,
	       struct err *e)
{
	/* Whoever asks meanwhile sees none of them made, not some. */
	struct msg_create made = *spec;
	struct making m __attribute__((cleanup(close_sources))) = {.order = order, .spec = &made};
	CLEANUP_FD int own = -1;
	CLEANUP_FD int dir = -1;
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		m.from[i] = -1;
	d->count = spec->disk_count;
	if (sets_has_own_disk(spec)) {
		own = file_make_dir(order->sandboxes_fd, order->key, 0, 0, 0755, e);
		dir = own < 0 ? -1 : file_make_dir(own, SETS_DISKS, 0, 0, 0755, e);
		if (dir < 0 || file_check_mount(own, dir, SETS_DISKS, e) < 0)
			return ours(e);
		if ((spec->flags & MSG_CREATE_KEEP_DISKS) &&
		    sets_read_meta(own, SETS_DISKS, &m.kept, e) < 0)
			return ours(e);
	}
	if (open_sources(&m, e) < 0)
		return -1;
	for (uint32_t i = 0; i < spec->disk_count; i++)
		if (open_one(&m, i, dir, d, e) < 0)
			return -1;
	*spec = made;
	if (dir < 0 || has_own_already(spec))
		return 0;
	return describe(order, spec, dir, e);
}

/* ------------------------------------------------------------------ in the jail */

/* A mount that is read-only does not keep anybody from writing to a device: the node's mode does.
 */
static int add_node(int dir_fd, const char *name, dev_t device, bool readonly, uid_t uid,
		    struct err *e)
{
	if (mknodat(dir_fd, name, S_IFBLK | (readonly ? 0400 : 0600), device) < 0)
		return err_errno(e, errno, "make device node /disk/%s", name);
	if (fchownat(dir_fd, name, uid, (gid_t)uid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "give /disk/%s to uid %u", name, uid);
	return 0;
}

static int add_file(int dir_fd, const char *name, int fd, bool readonly, struct err *e)
{
	if (mknodat(dir_fd, name, S_IFREG | 0444, 0) < 0)
		return err_errno(e, errno, "make mount point /disk/%s", name);
	CLEANUP_FD int tree =
		mnt_clone(fd, false, readonly ? MNT_DATA_RO : MNT_DATA_RW, "a disk", e);
	return tree < 0 ? -1 : mnt_attach(tree, dir_fd, name, e);
}

int disks_mount(int root_fd, const struct disks *d, const struct msg_create *spec, uid_t uid,
		struct err *e)
{
	if (!d->count)
		return 0;
	CLEANUP_FD int dir =
		mnt_tmpfs(DISK_BYTES, DISK_INODES, 0755, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e);
	if (dir < 0 || mnt_attach(dir, root_fd, "disk", e) < 0)
		return -1;
	for (uint32_t i = 0; i < d->count; i++) {
		const char name[] = {(char)('0' + i), '\0'};
		bool readonly = spec->disks[i].flags & MSG_DISK_READONLY;
		if (d->device[i] ? add_node(dir, name, d->device[i], readonly, uid, e) < 0
				 : add_file(dir, name, d->fd[i], readonly, e) < 0)
			return -1;
	}
	return mnt_set(dir, false, MNT_DEV_RO, "/disk", e);
}
