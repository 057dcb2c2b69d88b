// SPDX-License-Identifier: Apache-2.0
/*
 * A host of its own for the tests of shim/disks: a state directory and block devices, seen from
 * the spawner's mount namespace. It is entered for good, so a child does that and runs the tests.
 */
#ifndef TESTS_UNIT_DISKHOST_H
#define TESTS_UNIT_DISKHOST_H

#include "unit_mount.h"

#include "disks.h"
#include "hostns.h"
#include "util.h"

#include <sys/prctl.h>

#define KEY "alice:web"
#define UID 700123u
#define MIB ((size_t)1 << 20)

static struct policy policy;
static struct msg_create spec;
static struct disks disks;
static struct disks_order order;
static struct err e;
static int state, images, sandboxes, templates;
static int loop = -1; /* the block device "data" of alice and of bob, 4 MiB less 512 bytes */
static unsigned open_before;

/* ------------------------------------------------------------------ files */

static inline void host_fill(int dir, const char *name, size_t bytes, int seed, mode_t mode)
{
	unsigned char *data = malloc(bytes + 1);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_non_null(data);
	assert_true(fd >= 0);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 7 + i / 512 + (size_t)seed);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	free(data);
}

/* Whether the file begins with what host_fill() wrote and has zeros after it. */
static inline bool host_holds(int fd, size_t bytes, int seed, size_t size)
{
	struct stat st;
	unsigned char *data = malloc(size);
	assert_non_null(data);
	bool same = fstat(fd, &st) == 0 && st.st_size == (off_t)size &&
		    pread(fd, data, size, 0) == (ssize_t)size;
	for (size_t i = 0; same && i < size; i++)
		same = data[i] == (i < bytes ? (unsigned char)(i * 7 + i / 512 + (size_t)seed) : 0);
	free(data);
	return same;
}

static inline struct stat host_stat(int dir, const char *name)
{
	struct stat st;
	assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

/* ------------------------------------------------------------------ one test */

static inline struct msg_disk *host_disk(const char *image, uint32_t flags, uint32_t size_mib)
{
	struct msg_disk *disk = &spec.disks[spec.disk_count++];
	*disk = (struct msg_disk){.flags = flags, .size_mib = size_mib};
	str_copy(disk->image, sizeof(disk->image), image);
	return disk;
}

static inline int host_open(void)
{
	disks_init(&disks);
	return disks_open(&order, &spec, &disks, &e);
}

/* Refused, in these words; no descriptor stays open but those that disks_close() knows of. */
static inline void host_refused(enum err_kind kind, const char *word)
{
	unsigned before = unit_open_fds();
	assert_int_equal(host_open(), -1);
	disks_close(&disks);
	if (e.kind != kind)
		fail_msg("kind %s: %s", err_kind_name(e.kind), e.text);
	assert_says(e.text, word);
	assert_says(e.text, "disks[");
	assert_int_equal(unit_open_fds(), before);
}

static inline int host_setup(void **unused)
{
	(void)unused;
	mkdirat(state, "images", 0755);
	mkdirat(state, "images/disks", 0755);
	mkdirat(state, "sandboxes", 0755);
	mkdirat(state, "templates", 0755);
	images = openat(state, "images/disks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sandboxes = openat(state, "sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	templates = openat(state, "templates", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(&spec, 0, sizeof(spec));
	str_copy(spec.kernel, sizeof(spec.kernel), "tiny");
	spec.vcpus = spec.max_vcpus = 1;
	spec.memory_mib = spec.max_memory_mib = 16;
	disks_init(&disks);
	order = (struct disks_order){
		.policy = &policy,
		.key = KEY,
		.uid = UID,
		.sandboxes_fd = sandboxes,
		.set_fd = -1,
		.deadline_us = INT64_MAX,
	};
	open_before = unit_open_fds();
	return images >= 0 && sandboxes >= 0 && templates >= 0 ? 0 : -1;
}

static inline int host_teardown(void **unused)
{
	static const char *const names[] = {"images", "sandboxes", "templates"};
	int result;
	(void)unused;
	disks_close(&disks);
	result = unit_open_fds() == open_before ? 0 : -1;
	if (result < 0)
		print_message("descriptors leak\n");
	fd_close(&images);
	fd_close(&sandboxes);
	fd_close(&templates);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (sets_remove(state, names[i], &e) < 0)
			print_message("%s\n", e.text);
	return result;
}

/* ------------------------------------------------------------------ all of them */

static inline void host_add_device(const char *key, const char *path)
{
	struct policy_device *d = &policy.devices[policy.device_count++];
	str_copy(d->key, sizeof(d->key), key);
	str_copy(d->path, sizeof(d->path), path);
}

static inline void host_add_devices(int dir)
{
	char name[32] = "/dev/loop-none", plain[POLICY_PATH_MAX];
	host_fill(dir, "backing", 4 * MIB - 512, 9, 0600);
	int backing = openat(dir, "backing", O_RDWR | O_CLOEXEC);
	loop = unit_loop(backing, name);
	close(backing);
	snprintf(plain, sizeof(plain), "%.200s/plain", policy.state_dir);
	host_fill(state, "plain", 512, 0, 0600);
	host_add_device("bob:data", name);
	host_add_device("alice:gone", "/dev/cloister-no-such-device");
	host_add_device("alice:data", name);
	host_add_device("alice:plain", plain);
	host_add_device("alice:null", "/dev/null");
}

static inline bool host_enter(const char *path, int dir)
{
	snprintf(policy.state_dir, sizeof(policy.state_dir), "%s/state", path);
	str_copy(policy.vmm_binary, sizeof(policy.vmm_binary), "/bin/true");
	mkdirat(dir, "state", 0755);
	state = openat(dir, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host_add_devices(dir);
	close(state);
	if (hostns_enter(&policy, &e) < 0) {
		print_message("%s\n", e.text);
		return false;
	}
	/* Anew: the old descriptors show the mounts of the namespace that was left. */
	state = open(policy.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return state >= 0;
}

/* Runs the tests as said above; gives main()'s result. */
static inline int host_run(int (*tests)(void))
{
	char path[64];
	int status = -1;
	if (geteuid() != 0) {
		print_message("not run: needs root\n");
		return 0;
	}
	int dir = unit_make_dir(path);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(host_enter(path, dir) ? tests() : 1);
	}
	waitpid(pid, &status, 0);
	close(dir);
	unit_remove_dir(path);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

#endif
