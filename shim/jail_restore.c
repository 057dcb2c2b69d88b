// SPDX-License-Identifier: Apache-2.0
#include "jail_restore.h"

#include "ch_api.h"
#include "file.h"
#include "mnt.h"
#include "ramcopy.h"
#include "sets.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTORE_BYTES  (128u << 10)
#define RESTORE_INODES 8

static int fill_ram(const struct jail_guest *guest, int ram_fd, uint64_t bytes, struct err *e)
{
	struct ramcopy copy;
	CLEANUP_FD int from =
		file_open_beneath(guest->set_fd, SETS_RAM, O_RDONLY | O_NOFOLLOW, 0, "file", e);
	if (from < 0 || ramcopy_start(&copy, from, ram_fd, bytes, e) < 0)
		return -1;
	return ramcopy_run(&copy, guest->deadline_us, e);
}

/*
 * The guest's memory: one file of exactly its size on a tmpfs of exactly its size, so that neither
 * guest nor VMM can take more. The file belongs to the sandbox's uid, its directory does not.
 */
static int add_memory(int root_fd, const struct jail_guest *guest, uid_t uid, int *ram_fd,
		      struct err *e)
{
	uint64_t bytes = (uint64_t)guest->spec->memory_mib << 20;
	CLEANUP_FD int dir = mnt_tmpfs(bytes, 4, 0755, MNT_DATA_RW, e);
	if (dir < 0 || mnt_attach(dir, root_fd, "mem", e) < 0)
		return -1;
	CLEANUP_FD int fd =
		openat(dir, "ram", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "make the guest's memory file");
	if (ftruncate(fd, (off_t)bytes) < 0)
		return err_errno(e, errno, "size the guest's memory file to %u MiB",
				 guest->spec->memory_mib);
	if (guest->restore == MSG_RESTORE_COPY && (guest->content & MSG_SET_RAM) &&
	    fill_ram(guest, fd, bytes, e) < 0)
		return -1;
	if (fchown(fd, uid, (gid_t)uid) < 0)
		return err_errno(e, errno, "give the guest's memory file to uid %u", uid);
	*ram_fd = fd_take(&fd);
	return 0;
}

static int write_config(int dir, const struct jail_guest *guest, struct err *e)
{
	char *config CLEANUP_FREE = ch_api_config(guest->spec, guest->restore, e);
	CLEANUP_FD int fd =
		config ? openat(dir, SETS_CONFIG,
				O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444)
		       : -1;
	if (!config)
		return -1;
	size_t len = strlen(config);
	if (fd < 0 || write(fd, config, len) != (ssize_t)len)
		return err_errno(e, errno, "write the restore's config.json");
	return 0;
}

/* A file of the set, read-only, under its own name in /restore. */
static int bind_file(int dir, const struct jail_guest *guest, const char *name, struct err *e)
{
	CLEANUP_FD int from = file_open_beneath(guest->set_fd, name, O_PATH | O_NOFOLLOW, 0,
						"file of the set", e);
	if (from < 0)
		return -1;
	if (mknodat(dir, name, S_IFREG | 0444, 0) < 0)
		return err_errno(e, errno, "make mount point /restore/%s", name);
	CLEANUP_FD int tree = mnt_clone(from, false, MNT_DATA_RO, name, e);
	return tree < 0 ? -1 : mnt_attach(tree, dir, name, e);
}

static int add_set(int root_fd, const struct jail_guest *guest, struct err *e)
{
	CLEANUP_FD int dir = mnt_tmpfs(RESTORE_BYTES, RESTORE_INODES, 0755, MNT_DATA_RW, e);
	if (dir < 0 || mnt_attach(dir, root_fd, "restore", e) < 0)
		return -1;
	int config = guest->content & MSG_SET_CONFIG ? bind_file(dir, guest, SETS_CONFIG, e)
						     : write_config(dir, guest, e);
	if (config < 0 || bind_file(dir, guest, SETS_STATE, e) < 0)
		return -1;
	if (guest->restore == MSG_RESTORE_MAP && bind_file(dir, guest, SETS_RAM, e) < 0)
		return -1;
	bool ranges = guest->restore != MSG_RESTORE_MAP && !(guest->content & MSG_SET_RAM);
	if (ranges && bind_file(dir, guest, SETS_RANGES, e) < 0)
		return -1;
	return mnt_set(dir, false, MNT_DATA_RO, "/restore", e);
}

int jail_restore_add(int root_fd, const struct jail_guest *guest, uid_t uid, struct jail *jail,
		     struct err *e)
{
	if (!jail_memory_is_private(guest) && add_memory(root_fd, guest, uid, &jail->ram_fd, e) < 0)
		return -1;
	return guest->restore == MSG_RESTORE_NONE ? 0 : add_set(root_fd, guest, e);
}
