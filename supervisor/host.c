// SPDX-License-Identifier: Apache-2.0
#include "host.h"

#include "file.h"
#include "host_cgroup.h"
#include "host_lock.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void host_init(struct host *h)
{
	*h = (struct host){.state_dir = -1,
			   .run_dir = -1,
			   .shims_dir = -1,
			   .kernels_dir = -1,
			   .initramfs_dir = -1,
			   .disks_dir = -1,
			   .store_dir = -1,
			   .control = -1};
	for (int i = 0; i < HOST_LOCK_COUNT; i++)
		h->locks[i] = -1;
}

void host_close(struct host *h)
{
	fd_close(&h->state_dir);
	fd_close(&h->run_dir);
	fd_close(&h->shims_dir);
	fd_close(&h->kernels_dir);
	fd_close(&h->initramfs_dir);
	fd_close(&h->disks_dir);
	fd_close(&h->store_dir);
	fd_close(&h->control);
	for (int i = 0; i < HOST_LOCK_COUNT; i++)
		fd_close(&h->locks[i]);
}

/*
 * Opens directory path; what is missing of it is made: parents root 0755, the last root 0700. What
 * is there keeps owner and mode, since it may be another daemon's: settle() is for after the lock.
 */
static int open_path(const char *path, struct err *e)
{
	char name[POLICY_PATH_MAX];
	CLEANUP_FD int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, errno, "open /");
	for (const char *p = path + 1;;) {
		size_t n = strcspn(p, "/");
		memcpy(name, p, n);
		name[n] = '\0';
		p += n;
		int next;
		if (!*p) {
			if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
				return err_errno(e, errno, "make directory %s", path);
			next = file_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
						 "directory", e);
			return next < 0 ? err_prefix(e, "%s", path) : next;
		}
		p++;
		bool made = mkdirat(dir, name, 0755) == 0;
		if (!made && errno != EEXIST)
			return err_errno(e, errno, "%s: make directory %s", path, name);
		/* Parents may be links: they are root's business. The umask is not to matter. */
		next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (next < 0 || (made && fchmod(next, 0755) < 0)) {
			err_errno(e, errno, "%s: open directory %s", path, name);
			fd_close(&next);
			return -1;
		}
		fd_close(&dir);
		dir = next;
	}
}

static int settle(int dir, const char *path, gid_t gid, mode_t mode, struct err *e)
{
	if (fchown(dir, 0, gid) < 0 || fchmod(dir, mode) < 0)
		return err_errno(e, errno, "owner and mode of %s", path);
	return 0;
}

static int make_state(struct host *h, const struct policy *p, struct err *e)
{
	/* 0700: what lies below is reached by descriptors that were opened before the drop. */
	if (settle(h->state_dir, p->state_dir, 0, 0700, e) < 0)
		return -1;
	CLEANUP_FD int images = file_make_dir(h->state_dir, "images", 0, 0, 0755, e);
	CLEANUP_FD int templates = file_make_dir(h->state_dir, "templates", 0, 0, 0700, e);
	CLEANUP_FD int sandboxes = file_make_dir(h->state_dir, "sandboxes", 0, 0, 0700, e);
	h->store_dir = file_make_dir(h->state_dir, "store", p->user_uid, p->user_gid, 0700, e);
	if (images < 0 || templates < 0 || sandboxes < 0 || h->store_dir < 0)
		return err_prefix(e, "%s", p->state_dir);
	h->disks_dir = file_make_dir(images, "disks", 0, 0, 0755, e);
	h->kernels_dir = file_make_dir(images, "kernels", 0, 0, 0755, e);
	h->initramfs_dir = file_make_dir(images, "initramfs", 0, 0, 0755, e);
	if (h->disks_dir < 0 || h->kernels_dir < 0 || h->initramfs_dir < 0)
		return err_prefix(e, "%s/images", p->state_dir);
	return 0;
}

static int make_run(struct host *h, const struct policy *p, struct err *e)
{
	if (settle(h->run_dir, p->run_dir, p->control_gid, 0750, e) < 0)
		return -1;
	h->shims_dir = file_make_dir(h->run_dir, "shims", p->user_uid, p->user_gid, 0700, e);
	CLEANUP_FD int fresh = file_make_dir(h->run_dir, "new", 0, 0, 0700, e);
	if (h->shims_dir < 0 || fresh < 0)
		return err_prefix(e, "%s", p->run_dir);
	return 0;
}

static int read_boot(struct host *h, struct err *e)
{
	CLEANUP_FD int dir = open("/proc/sys/kernel/random", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, errno, "open /proc/sys/kernel/random");
	if (file_read_text(dir, "boot_id", h->boot, sizeof(h->boot), e) < 0)
		return -1;
	h->boot[strcspn(h->boot, "\n")] = '\0';
	return 0;
}

/* The id that cgroups and other host-wide things of this state directory carry. */
static int read_instance(struct host *h, struct policy *p, struct err *e)
{
	char text[POLICY_INSTANCE_SIZE + 8];
	uint64_t random;
	CLEANUP_FD int fd =
		file_open_beneath(h->state_dir, "instance", O_RDWR | O_CREAT, 0600, "file", e);
	if (fd < 0)
		return -1;
	ssize_t n = pread(fd, text, sizeof(text), 0);
	if (n == 0) {
		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return err_errno(e, errno, "random bytes for the instance id");
		n = snprintf(text, sizeof(text), "%016llx\n", (unsigned long long)random);
		if (fchmod(fd, 0600) < 0 || pwrite(fd, text, (size_t)n, 0) != n || fsync(fd) < 0)
			return err_errno(e, errno, "write %s/instance", p->state_dir);
	}
	if (n != POLICY_INSTANCE_SIZE || text[n - 1] != '\n' ||
	    strspn(text, "0123456789abcdef") != POLICY_INSTANCE_SIZE - 1)
		return err_set(e, ERR_INTERNAL, 0,
			       "%s/instance does not hold 16 hexadecimal digits and a newline; "
			       "remove it when no sandbox of this host runs",
			       p->state_dir);
	text[n - 1] = '\0';
	str_copy(p->instance, sizeof(p->instance), text);
	return 0;
}

int host_prepare(struct host *h, struct config *c, struct err *e)
{
	struct policy *p = &c->policy;
	h->state_dir = open_path(p->state_dir, e);
	if (h->state_dir < 0)
		return -1;
	h->run_dir = open_path(p->run_dir, e);
	/* Nothing of another daemon's is touched before the locks say that there is none. */
	if (h->run_dir < 0 || host_lock_dirs(h, p, e) < 0 || make_state(h, p, e) < 0 ||
	    make_run(h, p, e) < 0 || read_instance(h, p, e) < 0 || read_boot(h, e) < 0 ||
	    host_find_cgroup(p->cgroup_mount, sizeof(p->cgroup_mount), e) < 0)
		return -1;
	CLEANUP_FD int cgroup = -1;
	if (host_cgroup_make(p, &cgroup, e) < 0)
		return -1;
	return host_lock_ranges(h, p, cgroup, e);
}

int host_bind_control(struct host *h, const struct policy *p, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	if (unlinkat(h->run_dir, "control.sock", 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove the old %s/control.sock", p->run_dir);
	h->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (h->control < 0)
		return err_errno(e, errno, "make the control socket");
	/* sun_path is short and run_dir may be long: the way through the descriptor always fits. */
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/control.sock", h->run_dir);
	mode_t mask = umask(0177);
	int rc = bind(h->control, (struct sockaddr *)&sun, sizeof(sun));
	umask(mask);
	if (rc < 0)
		return err_errno(e, errno, "bind %s/control.sock", p->run_dir);
	if (fchownat(h->run_dir, "control.sock", 0, p->control_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(h->run_dir, "control.sock", 0660, 0) < 0)
		return err_errno(e, errno, "owner and mode of %s/control.sock", p->run_dir);
	return 0;
}

static int open_checked_shim(int dir, const char *path, struct err *e)
{
	uint64_t bytes;
	const struct file_rule rule = {.owner = 0, .forbidden = 022};
	CLEANUP_FD int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(e, errno, "open %s beside cloisterd", path);
	if (file_check_regular(fd, &rule, path, &bytes, e) < 0)
		return -1;
	return fd_take(&fd);
}

int host_open_shim(struct err *e)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return err_errno(e, errno, "read /proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	CLEANUP_FD int dir = open(self[0] ? self : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, errno, "open directory %s", self);
	static const char *const places[] = {"cloister-shim", "../libexec/cloister/cloister-shim"};
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int fd = open_checked_shim(dir, places[i], e);
		if (fd >= 0 || e->errnum != ENOENT)
			return fd;
	}
	return err_set(e, ERR_NOT_FOUND, 0,
		       "no cloister-shim in the directory of cloisterd, nor in "
		       "../libexec/cloister beside it");
}
