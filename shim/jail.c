// SPDX-License-Identifier: Apache-2.0
#include "jail.h"

#include "file.h"
#include "hostns.h"
#include "jail_restore.h"
#include "mnt.h"
#include "sets.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define SNAPSHOT_BYTES	(4u << 20)
#define SNAPSHOT_INODES 16
#define VSOCK_BYTES	(64u << 10)
#define VSOCK_INODES	8
#define DEV_BYTES	(64u << 10)
#define DEV_INODES	16

void jail_close(struct jail *jail)
{
	fd_close(&jail->proc_fd);
	fd_close(&jail->ram_fd);
	fd_close(&jail->api_listen);
	fd_close(&jail->api_conn);
	fd_close(&jail->pty_master);
	fd_close(&jail->pty_slave);
	fd_close(&jail->templates_fd);
	fd_close(&jail->sandboxes_fd);
	fd_close(&jail->snapshot_fd);
	fd_close(&jail->vsock_fd);
}

/* A new tmpfs at path below root_fd; gives its root's descriptor. */
static int add_tmpfs(int root_fd, const char *path, uint64_t bytes, unsigned inodes, uint64_t attrs,
		     struct err *e)
{
	CLEANUP_FD int fd = mnt_tmpfs(bytes, inodes, 0755, attrs, e);
	if (fd < 0 || mnt_attach(fd, root_fd, path, e) < 0)
		return -1;
	return fd_take(&fd);
}

/* A directory of its own that the VMM may write, bounded by its tmpfs. */
static int add_scratch(int root_fd, const char *path, uint64_t bytes, unsigned inodes, uid_t uid,
		       struct err *e)
{
	CLEANUP_FD int fd = add_tmpfs(root_fd, path, bytes, inodes, MNT_DATA_RW, e);
	if (fd < 0)
		return -1;
	if (fchownat(fd, "", uid, (gid_t)uid, AT_EMPTY_PATH) < 0)
		return err_errno(e, errno, "give /%s to uid %u", path, uid);
	return 0;
}

static int add_device(int dev_fd, const char *host_path, uid_t uid, bool optional, struct err *e)
{
	const char *name = strrchr(host_path, '/') + 1;
	struct stat st;
	if (stat(host_path, &st) < 0) {
		if (errno == ENOENT && optional)
			return 0;
		return err_set(e, ERR_UNAVAILABLE, errno,
			       "%s: the VMM cannot run on a host without it", host_path);
	}
	if (!S_ISCHR(st.st_mode))
		return err_set(e, ERR_INTERNAL, 0, "%s is not a character device", host_path);
	if (mknodat(dev_fd, name, S_IFCHR | 0600, st.st_rdev) < 0)
		return err_errno(e, errno, "make device node %s", name);
	if (fchownat(dev_fd, name, uid, (gid_t)uid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "give device node %s to uid %u", name, uid);
	return 0;
}

/* Own nodes: the host's keep their owner, and nobody else's node can be swapped in. */
static int add_devices(int root_fd, uid_t uid, int *dev_fd, struct err *e)
{
	CLEANUP_FD int fd = add_tmpfs(root_fd, "dev", DEV_BYTES, DEV_INODES,
				      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e);
	if (fd < 0 || add_device(fd, "/dev/kvm", uid, false, e) < 0 ||
	    add_device(fd, "/dev/urandom", uid, false, e) < 0 ||
	    add_device(fd, "/dev/null", uid, false, e) < 0 ||
	    add_device(fd, "/dev/userfaultfd", uid, true, e) < 0)
		return -1;
	*dev_fd = fd_take(&fd);
	return 0;
}

/* A new one in every jail: no socket of an earlier VMM can lie in it. */
static int add_vsock(int root_fd, uid_t uid, struct jail *jail, struct err *e)
{
	if (add_scratch(root_fd, "vsock", VSOCK_BYTES, VSOCK_INODES, uid, e) < 0)
		return -1;
	jail->vsock_fd = openat(root_fd, "vsock", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return jail->vsock_fd < 0 ? err_errno(e, errno, "open /vsock") : 0;
}

/* An image of the host's administrator, found by name below STATE_DIR/images, bound read-only. */
static int add_image(int root_fd, int images_fd, const char *kind, const char *name,
		     const char *path, struct err *e)
{
	char what[32 + NAME_SIZE], relative[32 + NAME_SIZE];
	snprintf(what, sizeof(what), "%s image \"%s\"", kind, name);
	snprintf(relative, sizeof(relative), "%s/%s", kind, name);
	CLEANUP_FD int fd = file_open_beneath(images_fd, relative, O_PATH | O_NOFOLLOW, 0, what, e);
	if (fd < 0) {
		if (e->kind == ERR_NOT_FOUND)
			return err_set(e, ERR_INVALID, 0,
				       "%s does not exist: put it in STATE_DIR/images/%s, owned by "
				       "root, mode 0444",
				       what, kind);
		return -1;
	}
	const struct file_rule rule = {.owner = 0, .forbidden = 022};
	uint64_t bytes;
	struct stat st;
	if (file_check_regular(fd, &rule, what, &bytes, e) < 0)
		return -1;
	if (fstat(fd, &st) == 0 && (st.st_mode & 0444) != 0444)
		return err_set(e, ERR_INVALID, 0, "%s must be readable for all (mode 0444)", what);
	CLEANUP_FD int tree = mnt_clone(fd, false, MNT_DATA_RO, what, e);
	if (tree < 0)
		return -1;
	return mnt_attach(tree, root_fd, path, e);
}

static int add_images(int root_fd, const struct policy *policy, const struct msg_create *spec,
		      struct err *e)
{
	CLEANUP_FD int state_fd = file_open_dir(policy->state_dir, e);
	if (state_fd < 0)
		return -1;
	CLEANUP_FD int images_fd =
		file_open_beneath(state_fd, "images", O_PATH | O_DIRECTORY, 0, "directory", e);
	if (images_fd < 0)
		return -1;
	if (add_image(root_fd, images_fd, "kernels", spec->kernel, &JAIL_KERNEL_PATH[1], e) < 0)
		return -1;
	if (!(spec->flags & MSG_CREATE_INITRAMFS))
		return 0;
	return add_image(root_fd, images_fd, "initramfs", spec->initramfs, &JAIL_INITRAMFS_PATH[1],
			 e);
}

bool jail_memory_is_private(const struct jail_guest *guest)
{
	return guest->restore == MSG_RESTORE_MAP || (guest->content & MSG_SET_CONFIG);
}

/*
 * Where CH writes a snapshot: root's until the shim lends it for the time of vm.snapshot. Memory
 * that is private to CH it then writes there itself: that takes a disk.
 */
static int add_snapshot_dir(int root_fd, const struct jail_guest *guest, struct jail *jail,
			    struct err *e)
{
	if (jail_memory_is_private(guest)) {
		CLEANUP_FD int own = file_make_dir(jail->sandboxes_fd, guest->key, 0, 0, 0755, e);
		CLEANUP_FD int scratch =
			own < 0 ? -1 : file_make_dir(own, SETS_SCRATCH, 0, 0, 0700, e);
		CLEANUP_FD int tree =
			scratch < 0 ? -1 : mnt_clone(scratch, false, MNT_DATA_RW, "scratch", e);
		if (tree < 0 || mnt_attach(tree, root_fd, "snapshot", e) < 0)
			return -1;
	} else {
		CLEANUP_FD int fd = add_tmpfs(root_fd, "snapshot", SNAPSHOT_BYTES, SNAPSHOT_INODES,
					      MNT_DATA_RW, e);
		if (fd < 0)
			return -1;
	}
	jail->snapshot_fd = openat(root_fd, "snapshot", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (jail->snapshot_fd < 0 || fchmod(jail->snapshot_fd, 0700) < 0)
		return err_errno(e, errno, "open /snapshot");
	return 0;
}

/*
 * Binds and connects the API socket while its directory is still ours alone, then takes its name
 * away: from here on only the two descriptors lead to it.
 */
static int add_api_socket(int dir_fd, struct jail *jail, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "api"};
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_FD int conn = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || conn < 0)
		return err_errno(e, errno, "make the API socket");
	/* A short relative name: sun_path has no room for more. */
	if (fchdir(dir_fd) < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 ||
	    connect(conn, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    unlinkat(dir_fd, "api", 0) < 0)
		return err_errno(e, errno, "set up the API socket");
	jail->api_listen = fd_take(&listener);
	jail->api_conn = fd_take(&conn);
	return 0;
}

/* CH reads serial input only from a terminal. Raw: bytes go through as they are. */
static int open_pty(struct jail *jail, struct err *e)
{
	CLEANUP_FD int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (master < 0)
		return err_errno(e, errno, "open a pseudo-terminal");
	int unlock = 0;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_errno(e, errno, "unlock a pseudo-terminal");
	CLEANUP_FD int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	if (slave < 0 || tcgetattr(slave, &raw) < 0)
		return err_errno(e, errno, "open a pseudo-terminal's other end");
	cfmakeraw(&raw);
	if (tcsetattr(slave, TCSANOW, &raw) < 0)
		return err_errno(e, errno, "make a pseudo-terminal raw");
	jail->pty_master = fd_take(&master);
	jail->pty_slave = fd_take(&slave);
	return 0;
}

static int clone_base(int *root_fd, struct err *e)
{
	CLEANUP_FD int base = open(HOSTNS_BASE, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int at = open(HOSTNS_JAIL, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (base < 0 || at < 0)
		return err_errno(e, errno, "open the prepared root");
	CLEANUP_FD int tree = mnt_clone(base, true, 0, "the prepared root", e);
	if (tree < 0 || mnt_attach(tree, at, "", e) < 0)
		return -1;
	*root_fd = fd_take(&tree);
	return 0;
}

/* A guest that is restored needs its kernel only to reboot: an image that is gone is no error. */
static int add_guest_images(int root_fd, const struct policy *policy,
			    const struct jail_guest *guest, struct err *e)
{
	if (add_images(root_fd, policy, guest->spec, e) == 0)
		return 0;
	return guest->restore != MSG_RESTORE_NONE && e->kind == ERR_INVALID ? 0 : -1;
}

static int fill_root(int root_fd, const struct policy *policy, const struct jail_guest *guest,
		     uid_t uid, struct jail *jail, struct err *e)
{
	CLEANUP_FD int dev_fd = -1;
	if (add_devices(root_fd, uid, &dev_fd, e) < 0)
		return -1;
	if (!guest)
		return mnt_set(dev_fd, false, MNT_DEV_RO, "/dev", e);
	if (add_guest_images(root_fd, policy, guest, e) < 0 ||
	    jail_restore_add(root_fd, guest, uid, jail, e) < 0 ||
	    disks_mount(root_fd, guest->disks, guest->spec, uid, e) < 0 ||
	    add_snapshot_dir(root_fd, guest, jail, e) < 0 || add_vsock(root_fd, uid, jail, e) < 0 ||
	    open_pty(jail, e) < 0 || add_api_socket(dev_fd, jail, e) < 0)
		return -1;
	return mnt_set(dev_fd, false, MNT_DEV_RO, "/dev", e);
}

int jail_open_sets(const struct policy *policy, struct jail *jail, struct err *e)
{
	CLEANUP_FD int state_fd = file_open_dir(policy->state_dir, e);
	if (state_fd < 0)
		return -1;
	jail->templates_fd =
		file_open_beneath(state_fd, "templates", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	jail->sandboxes_fd =
		file_open_beneath(state_fd, "sandboxes", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	return jail->templates_fd < 0 || jail->sandboxes_fd < 0 ? -1 : 0;
}

int jail_enter(const struct policy *policy, const struct jail_guest *guest, uid_t uid,
	       struct jail *jail, struct err *e)
{
	CLEANUP_FD int root_fd = -1;
	jail->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (jail->proc_fd < 0)
		return err_errno(e, errno, "open /proc");
	if (clone_base(&root_fd, e) < 0 || fill_root(root_fd, policy, guest, uid, jail, e) < 0)
		return -1;
	return mnt_pivot(root_fd, e);
}

int jail_unshare(struct err *e)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
		return err_errno(e, errno, "make mount and net namespaces");
	return 0;
}
