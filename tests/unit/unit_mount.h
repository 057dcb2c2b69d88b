// SPDX-License-Identifier: Apache-2.0
/* For tests that mount: a mount namespace of their own, loop devices, file systems in images. */
#ifndef TESTS_UNIT_UNIT_MOUNT_H
#define TESTS_UNIT_UNIT_MOUNT_H

#include "unit.h"

#include <errno.h>
#include <linux/loop.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define UNIT_LOOP_TRIES 32

/* What is mounted from now on nobody else sees, and it goes with the process. */
static inline bool unit_own_mounts(void)
{
	return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/*
 * A loop device on the file backing_fd; path gets its name. It is there as long as somebody has it
 * open or mounted. Gives a descriptor, or -1 with errno where the host has none to give.
 */
static inline int unit_loop(int backing_fd, char path[32])
{
	struct loop_config config = {.fd = (uint32_t)backing_fd};
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	for (int i = 0; i < UNIT_LOOP_TRIES; i++) {
		int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
		int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
		if (control >= 0)
			close(control);
		if (number < 0)
			return -1;
		snprintf(path, 32, "/dev/loop%d", number);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -1;
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return fd;
		close(fd);
		/* Another process has taken that one meanwhile. */
		if (errno != EBUSY)
			return -1;
	}
	return -1;
}

/* Runs a program with its output thrown away; whether it ended with 0. */
static inline bool unit_run(char *const argv[])
{
	char search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *const environment[] = {search, NULL};
	posix_spawn_file_actions_t actions;
	int status = -1;
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	bool started = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environment) == 0;
	posix_spawn_file_actions_destroy(&actions);
	return started && waitpid(pid, &status, 0) == pid && status == 0;
}

/*
 * Mounts a new file system of that type ("xfs") and size, made in the file image, at the directory
 * path. NULL, or why not. The mount needs no name of the file: it may be removed at once.
 */
static inline const char *unit_mount_new(const char *image, const char *type, off_t bytes,
					 const char *path)
{
	char program[32], name[32], file[160], force[] = "-f";
	char *const argv[] = {program, force, file, NULL};
	snprintf(program, sizeof(program), "mkfs.%s", type);
	snprintf(file, sizeof(file), "%s", image);
	int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	const char *why = NULL;
	int loop = -1;
	if (!unit_run(argv))
		why = "mkfs failed, or is not there";
	else if ((loop = unit_loop(fd, name)) < 0)
		why = "no loop device";
	else if (mount(name, path, type, 0, NULL) < 0)
		why = "the kernel does not mount it";
	close(fd);
	if (loop >= 0)
		close(loop);
	return why;
}

#endif
