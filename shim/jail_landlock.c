// SPDX-License-Identifier: Apache-2.0
#include "jail_landlock.h"

#include "landlock.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/*
 * Beside what mounts, owners and modes say already. So a VMM that was taken over cannot shorten its
 * memory, a disk or what it was lent; make directories, links or FIFOs anywhere; put a file where
 * only a socket is due; use a device that somebody bound where no device belongs.
 */
static const struct {
	const char *name;
	uint64_t rights;
} places[] = {
	{"vmm", LANDLOCK_READ | LANDLOCK_EXECUTE},
	{"kernel", LANDLOCK_READ},
	{"initramfs", LANDLOCK_READ},
	/* KVM's and userfaultfd's first calls are ioctls of the nodes. */
	{"dev", LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_IOCTL},
	/* CH asks a block device for its size and sectors by ioctl. */
	{"disk", LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_IOCTL},
	{"mem", LANDLOCK_READ | LANDLOCK_WRITE},
	{"restore", LANDLOCK_READ},
	/* CH makes each file of a set, and stretches the one for private memory to its size. */
	{"snapshot", LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_MAKE_FILE | LANDLOCK_TRUNCATE},
	/* CH removes its socket when it ends or the device is reset. */
	{"vsock", LANDLOCK_MAKE_SOCKET | LANDLOCK_REMOVE_FILE},
};

static bool is_place(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (strcmp(places[i].name, name) == 0)
			return true;
	return false;
}

/* What else there is: loader, libraries and [vmm] bind_ro, at their host paths. */
static int allow_code(int rules, int root, struct err *e)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		err_errno(e, errno, "list the jail's root");
		fd_close(&fd);
		return -1;
	}
	int result = 0;
	for (const struct dirent *d; result == 0 && (d = readdir(dir));)
		if (d->d_name[0] != '.' && !is_place(d->d_name))
			result = landlock_allow(rules, root, d->d_name,
						LANDLOCK_READ | LANDLOCK_EXECUTE, e);
	closedir(dir);
	return result;
}

int jail_landlock_open(int *fd, struct err *e)
{
	CLEANUP_FD int rules = -1;
	CLEANUP_FD int root = -1;
	*fd = -1;
	/* It has nobody to signal, and no abstract socket to know of but its own. */
	if (landlock_open(LANDLOCK_SCOPE_ABSTRACT | LANDLOCK_SCOPE_SIGNAL, &rules, e) < 0)
		return -1;
	if (rules < 0)
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(e, errno, "open the jail's root");
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (landlock_allow(rules, root, places[i].name, places[i].rights, e) < 0)
			return -1;
	if (allow_code(rules, root, e) < 0)
		return -1;
	*fd = fd_take(&rules);
	return 0;
}
