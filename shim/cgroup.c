// SPDX-License-Identifier: Apache-2.0
#include "cgroup.h"

#include "file.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Measured on CH v53: about 20 MB of its own; the rest is room for page tables and buffers. */
#define OVERHEAD_BYTES	 (192ull << 20)
#define OVERHEAD_PERCENT 50
#define OVERHEAD_PIDS	 64

struct cgroup_limits cgroup_limits_for(uint32_t vcpus, uint32_t memory_mib)
{
	uint64_t guest = (uint64_t)memory_mib << 20;
	return (struct cgroup_limits){
		.memory_bytes = guest + guest / 64 + OVERHEAD_BYTES,
		.cpu_percent = vcpus * 100 + OVERHEAD_PERCENT,
		.pids = vcpus + OVERHEAD_PIDS,
	};
}

/* 1: written; 0: no such attribute and none required. */
static int set_limit(int leaf, const char *attribute, const char *value, bool require,
		     struct err *e)
{
	if (file_write_text(leaf, attribute, value, e) == 0)
		return 1;
	if (e->errnum != ENOENT)
		return -1;
	if (!require)
		return 0;
	return err_set(e, ERR_UNAVAILABLE, 0,
		       "this host cannot enforce %s: its cgroup v2 lacks that controller "
		       "(require_limits = no in [host] would run without)",
		       attribute);
}

static int set_limits(int leaf, const struct cgroup_limits *limits, bool require, struct err *e)
{
	char memory[32], cpu[48], pids[16];
	snprintf(memory, sizeof(memory), "%llu", (unsigned long long)limits->memory_bytes);
	snprintf(cpu, sizeof(cpu), "%llu 100000", limits->cpu_percent * 1000ull);
	snprintf(pids, sizeof(pids), "%u", limits->pids);
	if (set_limit(leaf, "memory.max", memory, require, e) < 0)
		return -1;
	/* Guest memory in swap would outlive the sandbox on disk; not every kernel has swap. */
	if (set_limit(leaf, "memory.swap.max", "0", false, e) < 0)
		return -1;
	if (set_limit(leaf, "cpu.max", cpu, require, e) < 0)
		return -1;
	return set_limit(leaf, "pids.max", pids, require, e) < 0 ? -1 : 0;
}

int cgroup_create(int parent_fd, const char *name, const struct cgroup_limits *limits, bool require,
		  struct err *e)
{
	if (mkdirat(parent_fd, name, 0755) < 0)
		return err_errno(e, errno, "make cgroup %s", name);
	CLEANUP_FD int leaf =
		file_open_beneath(parent_fd, name, O_PATH | O_DIRECTORY, 0, "cgroup", e);
	if (leaf < 0)
		return -1;
	if (set_limits(leaf, limits, require, e) < 0) {
		unlinkat(parent_fd, name, AT_REMOVEDIR);
		return err_prefix(e, "cgroup %s", name);
	}
	return fd_take(&leaf);
}

static int attribute_path(char *out, size_t size, const char *name, const char *attribute,
			  struct err *e)
{
	int n = snprintf(out, size, "%s/%s", name, attribute);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, ERR_INTERNAL, 0, "cgroup name too long: %s", name);
	return 0;
}

int cgroup_kill(int parent_fd, const char *name, struct err *e)
{
	char path[256];
	if (attribute_path(path, sizeof(path), name, "cgroup.kill", e) < 0)
		return -1;
	if (file_write_text(parent_fd, path, "1", e) < 0 && e->errnum != ENOENT)
		return -1;
	return 0;
}

int cgroup_remove(int parent_fd, const char *name, struct err *e)
{
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 1;
	if (errno == EBUSY || errno == ENOTEMPTY)
		return 0;
	return err_errno(e, errno, "remove cgroup %s", name);
}

int cgroup_watch(int parent_fd, const char *name, struct err *e)
{
	char path[256];
	if (attribute_path(path, sizeof(path), name, "cgroup.events", e) < 0)
		return -1;
	return file_open_beneath(parent_fd, path, O_RDONLY, 0, "cgroup events of", e);
}

uint64_t cgroup_oom_kills(int leaf_fd)
{
	char text[512];
	struct err e;
	if (leaf_fd < 0 || file_read_text(leaf_fd, "memory.events", text, sizeof(text), &e) < 0)
		return 0;
	static const char key[] = "oom_kill ";
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, sizeof(key) - 1) == 0)
			return strtoull(line + sizeof(key) - 1, NULL, 10);
	}
	return 0;
}
