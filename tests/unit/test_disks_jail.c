// SPDX-License-Identifier: Apache-2.0
/* shim/disks: block devices of the administrator's list, and what of all disks is in the jail. */
#include "diskhost.h"

#include "mnt.h"

#include <sys/statvfs.h>
#include <sys/syscall.h>

#define BASE "debian"

static void need_loop(void)
{
	if (loop >= 0)
		return;
	print_message("not run: no loop device\n");
	skip();
}

/* ------------------------------------------------------------------ block devices */

static void test_device(void **unused)
{
	(void)unused;
	need_loop();
	for (uint32_t readonly = 0; readonly <= MSG_DISK_READONLY; readonly++) {
		struct stat is, want;
		spec.disk_count = 0;
		host_disk("data", MSG_DISK_DEVICE | readonly, 77);
		if (host_open() < 0)
			fail_msg("%s", e.text);
		assert_int_equal(fstat(disks.fd[0], &is), 0);
		assert_int_equal(fstat(loop, &want), 0);
		assert_true(S_ISBLK(is.st_mode));
		assert_int_equal(is.st_rdev, want.st_rdev);
		assert_int_equal(disks.device[0], want.st_rdev);
		assert_int_equal(fcntl(disks.fd[0], F_GETFL) & O_ACCMODE,
				 readonly ? O_RDONLY : O_RDWR);
		assert_true(fcntl(disks.fd[0], F_GETFD) & FD_CLOEXEC);
		assert_int_equal(spec.disks[0].made, MSG_DISK_OPENED);
		/* What it has, rounded up; not what was asked for. */
		assert_int_equal(spec.disks[0].size_mib, 4);
		assert_int_equal(faccessat(sandboxes, KEY, F_OK, 0), -1);
		assert_int_equal(disks_largest(&spec), 0);
		disks_close(&disks);
	}
}

/* One sandbox at a time, and none while the host uses it. */
static void test_device_in_use(void **unused)
{
	struct disks other;
	(void)unused;
	need_loop();
	host_disk("data", MSG_DISK_DEVICE, 0);
	assert_int_equal(host_open(), 0);
	other = disks;
	host_refused(ERR_STATE, "disks[0]: device: data is in use");
	/* The host's paths are no tenant's business. */
	assert_null(strstr(e.text, "/dev"));
	assert_says(e.text, "in use");
	/* Nor two readers: there is no telling what the first one is. */
	spec.disks[0].flags |= MSG_DISK_READONLY;
	host_refused(ERR_STATE, "in use");
	/* Another tenant's that is the same. */
	order.key = "bob:web";
	host_refused(ERR_STATE, "in use");
	disks_close(&other);
	assert_int_equal(host_open(), 0);
	disks_close(&disks);
	/* Twice in one sandbox. */
	host_disk("data", MSG_DISK_DEVICE, 0);
	host_refused(ERR_STATE, "disks[1]: device: data");
}

static void test_device_of_another(void **unused)
{
	static const char *const names[] = {"other", "dat", "data2", "0"};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		spec.disk_count = 0;
		host_disk(names[i], MSG_DISK_DEVICE, 0);
		host_refused(ERR_INVALID, names[i]);
		assert_says(e.text, "[tenant alice] block_device");
	}
	/* The list is the tenant's, not everybody's. */
	order.key = "carol:web";
	spec.disk_count = 0;
	host_disk("data", MSG_DISK_DEVICE, 0);
	host_refused(ERR_INVALID, "[tenant carol] block_device");
	/* An image is no device, and no device an image. */
	order.key = KEY;
	host_fill(images, BASE, 512, 1, 0444);
	spec.disk_count = 0;
	host_disk(BASE, MSG_DISK_DEVICE, 0);
	host_refused(ERR_INVALID, "block_device");
	spec.disk_count = 0;
	host_disk("data", 0, 0);
	host_refused(ERR_INVALID, "does not exist");
}

static void test_not_a_device(void **unused)
{
	(void)unused;
	host_disk("gone", MSG_DISK_DEVICE, 0);
	host_refused(ERR_INTERNAL, "open block device gone");
	assert_null(strstr(e.text, "/dev"));
	assert_int_equal(e.errnum, ENOENT);
	assert_says(e.text, "must be there when cloisterd starts");
	spec.disk_count = 0;
	host_disk("plain", MSG_DISK_DEVICE, 0);
	host_refused(ERR_INTERNAL, "device plain is no block device");
	spec.disk_count = 0;
	host_disk("null", MSG_DISK_DEVICE, 0);
	host_refused(ERR_INTERNAL, "device null is no block device");
}

/* ------------------------------------------------------------------ the jail */

static const char *disk_path(unsigned i)
{
	static char path[32];
	snprintf(path, sizeof(path), HOSTNS_JAIL "/disk/%u", i);
	return path;
}

/* A root like a jail's, with its mount point, where a shim puts it. */
static void mount_disks(void)
{
	int root = mnt_tmpfs(1 << 20, 16, 0755, 0, &e);
	assert_true(root >= 0);
	assert_int_equal(mkdirat(root, "disk", 0755), 0);
	int at = open(HOSTNS_JAIL, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mnt_attach(root, at, "", &e), 0);
	close(at);
	if (disks_mount(root, &disks, &spec, UID, &e) < 0)
		fail_msg("%s", e.text);
	close(root);
}

static int unmount(void **unused)
{
	while (umount2(HOSTNS_JAIL, MNT_DETACH) == 0)
		;
	return host_teardown(unused);
}

/* What a process of that uid without any capability gets: an errno, or 0. */
static int open_as(uid_t uid, const char *path, int flags)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (syscall(SYS_setresgid, uid, uid, uid) < 0 ||
		    syscall(SYS_setresuid, uid, uid, uid) < 0)
			_exit(255);
		_exit(open(path, flags | O_CLOEXEC) < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void assert_mount_flags(const char *path, unsigned long has, unsigned long not )
{
	struct statvfs fs;
	assert_int_equal(statvfs(path, &fs), 0);
	assert_int_equal(fs.f_flag & (has | not ), has);
}

static void assert_only_these(unsigned count)
{
	DIR *dir = opendir(HOSTNS_JAIL "/disk");
	unsigned found = 0;
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		found += d->d_name[0] != '.';
	closedir(dir);
	assert_int_equal(found, count);
	/* Nothing can be added. */
	assert_mount_flags(HOSTNS_JAIL "/disk", ST_RDONLY | ST_NOSUID | ST_NOEXEC, 0);
	assert_int_equal(open(HOSTNS_JAIL "/disk/new", O_CREAT | O_WRONLY, 0600), -1);
	assert_int_equal(errno, EROFS);
}

static void test_jail_files(void **unused)
{
	(void)unused;
	host_fill(images, BASE, MIB, 1, 0444);
	host_disk(BASE, 0, 2);
	host_disk(BASE, MSG_DISK_READONLY, 0);
	assert_int_equal(host_open(), 0);
	mount_disks();
	assert_only_these(2);
	/* Its own is the file below sandboxes/, and only its own uid gets at it. */
	struct stat st;
	assert_int_equal(stat(disk_path(0), &st), 0);
	assert_int_equal(st.st_ino, host_stat(sandboxes, KEY "/disks/0").st_ino);
	assert_int_equal(st.st_uid, UID);
	assert_mount_flags(disk_path(0), ST_NOSUID | ST_NODEV | ST_NOEXEC, ST_RDONLY);
	assert_int_equal(open_as(UID, disk_path(0), O_RDWR), 0);
	assert_int_equal(open_as(UID + 1, disk_path(0), O_RDONLY), EACCES);
	/* The image cannot be written, not even by root. */
	assert_int_equal(stat(disk_path(1), &st), 0);
	assert_int_equal(st.st_ino, host_stat(images, BASE).st_ino);
	assert_mount_flags(disk_path(1), ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC, 0);
	assert_int_equal(open_as(UID, disk_path(1), O_RDONLY), 0);
	assert_int_not_equal(open_as(UID, disk_path(1), O_RDWR), 0);
	assert_int_equal(open_as(0, disk_path(1), O_RDWR), EROFS);
	/* What is written there is there. */
	int fd = open(disk_path(0), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "guest", 5, MIB), 5);
	close(fd);
	char word[5];
	assert_int_equal(pread(disks.fd[0], word, 5, MIB), 5);
	assert_memory_equal(word, "guest", 5);
}

static void assert_node(unsigned i, bool readonly)
{
	struct stat st;
	assert_int_equal(stat(disk_path(i), &st), 0);
	assert_int_equal(st.st_rdev, disks.device[i]);
	assert_int_equal(st.st_uid, UID);
	assert_int_equal(st.st_gid, UID);
	assert_int_equal(st.st_mode, S_IFBLK | (readonly ? 0400 : 0600));
	assert_int_equal(open_as(UID, disk_path(i), O_RDONLY), 0);
	/* A device can be written on a read-only mount: only its mode keeps the VMM from it. */
	assert_int_equal(open_as(UID, disk_path(i), O_RDWR), readonly ? EACCES : 0);
	assert_int_equal(open_as(UID + 1, disk_path(i), O_RDONLY), EACCES);
	/* And that stays. */
	assert_int_equal(chmod(disk_path(i), 0666), -1);
	assert_int_equal(errno, EROFS);
}

static void try_node(uint32_t readonly)
{
	need_loop();
	host_fill(images, BASE, MIB, 1, 0444);
	host_disk(BASE, MSG_DISK_READONLY, 0);
	host_disk("data", MSG_DISK_DEVICE | readonly, 0);
	host_disk(BASE, 0, 2);
	assert_int_equal(host_open(), 0);
	mount_disks();
	assert_only_these(3);
	assert_node(1, readonly);
}

static void test_jail_device(void **unused)
{
	(void)unused;
	try_node(0);
}

static void test_jail_device_for_reading(void **unused)
{
	(void)unused;
	try_node(MSG_DISK_READONLY);
}

static void test_jail_all_eight(void **unused)
{
	(void)unused;
	host_fill(images, BASE, MIB, 1, 0444);
	for (uint32_t i = 0; i < MSG_DISKS_MAX; i++)
		host_disk(BASE, i % 2 ? MSG_DISK_READONLY : 0, 1);
	assert_int_equal(host_open(), 0);
	mount_disks();
	assert_only_these(MSG_DISKS_MAX);
}

static void test_jail_without_disks(void **unused)
{
	(void)unused;
	assert_int_equal(host_open(), 0);
	/* Not even the mount point is needed. */
	assert_int_equal(disks_mount(-1, &disks, &spec, UID, &e), 0);
}

static void test_jail_without_a_place(void **unused)
{
	(void)unused;
	host_fill(images, BASE, MIB, 1, 0444);
	host_disk(BASE, 0, 2);
	assert_int_equal(host_open(), 0);
	unsigned before = unit_open_fds();
	int root = mnt_tmpfs(1 << 20, 16, 0755, 0, &e);
	assert_int_equal(disks_mount(root, &disks, &spec, UID, &e), -1);
	assert_says(e.text, "disk");
	close(root);
	assert_int_equal(unit_open_fds(), before);
}

static int all_tests(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, host_setup, unmount)
		T(test_device),
		T(test_device_in_use),
		T(test_device_of_another),
		T(test_not_a_device),
		T(test_jail_files),
		T(test_jail_device),
		T(test_jail_device_for_reading),
		T(test_jail_all_eight),
		T(test_jail_without_disks),
		T(test_jail_without_a_place),
#undef T
	};
	return cmocka_run_group_tests_name("disks_jail", tests, NULL, NULL);
}

int main(void)
{
	return host_run(all_tests);
}
