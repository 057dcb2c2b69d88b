// SPDX-License-Identifier: Apache-2.0
/* A directory of sets, and a small set of two texts and a sparse memory to put there. */
#ifndef TESTS_UNIT_SETSPLACE_H
#define TESTS_UNIT_SETSPLACE_H

#include "unit.h"

#include "sets.h"
#include "util.h"

#define KEY   "alice:t1"
#define WHAT  "template alice:t1"
#define BYTES ((off_t)16 << 20)

static struct sets_disk disks[MSG_DISKS_MAX];

struct place {
	char path[64];
	int fd;
};

static inline int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	p->fd = unit_make_dir(p->path);
	*state = p;
	return 0;
}

static inline int teardown(void **state)
{
	struct place *p = *state;
	close(p->fd);
	unit_remove_dir(p->path);
	free(p);
	return 0;
}

static inline void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static inline unsigned entries(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(copy);
	unsigned count = 0;
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		count += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	closedir(dir);
	return count;
}

static inline struct msg_set new_set(const char *key)
{
	struct msg_set set;
	memset(&set, 0, sizeof(set));
	set.content = MSG_SET_RAM;
	str_copy(set.key, sizeof(set.key), key);
	str_copy(set.parent, sizeof(set.parent), "alice:src");
	str_copy(set.vmm_version, sizeof(set.vmm_version), "53.0.0");
	str_copy(set.spec.kernel, sizeof(set.spec.kernel), "tiny");
	set.spec.vcpus = set.spec.max_vcpus = 1;
	set.spec.memory_mib = set.spec.max_memory_mib = (uint32_t)(BYTES >> 20);
	return set;
}

/* All of a set but its meta; `text` makes one differ from another. */
static inline void stage(struct sets_staging *s, struct msg_set *set, const char *text)
{
	struct err e;
	assert_int_equal(sets_write(s, SETS_CONFIG, text, strlen(text), set->config_digest, &e), 0);
	assert_int_equal(sets_write(s, SETS_STATE, text, strlen(text), set->state_digest, &e), 0);
	int fd = sets_new_file(s, set->content & MSG_SET_RAM ? SETS_RAM : SETS_RANGES, &e);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 4096), strlen(text));
	close(fd);
}

#endif
