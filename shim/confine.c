// SPDX-License-Identifier: Apache-2.0
#include "confine.h"

#include "file.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const ns_names[CONFINE_NS_COUNT] = {"pid", "mnt", "net", "ipc", "uts"};

/* The fields of /proc/PID/status that must read exactly so; %u is replaced by the id. */
static const struct {
	const char *key;
	const char *value;
} fixed_fields[] = {
	{"Groups", ""},
	{"NoNewPrivs", "1"},
	{"CapInh", "0000000000000000"},
	{"CapPrm", "0000000000000000"},
	{"CapEff", "0000000000000000"},
	{"CapBnd", "0000000000000000"},
	{"CapAmb", "0000000000000000"},
	/* A filter list, not strict mode; how long it is, is checked apart. */
	{"Seccomp", "2"},
};

int confine_read_ns(int proc_fd, const char *process, struct confine_ns *ns, struct err *e)
{
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++) {
		char path[64];
		snprintf(path, sizeof(path), "%s/ns/%s", process, ns_names[i]);
		ssize_t n = readlinkat(proc_fd, path, ns->id[i], sizeof(ns->id[i]) - 1);
		if (n < 0)
			return err_errno(e, errno, "read namespace /proc/%s", path);
		ns->id[i][n] = '\0';
	}
	return 0;
}

int confine_check_namespaces(int proc_fd, pid_t pid, const struct confine_ns *host, bool own_net,
			     struct err *e)
{
	char process[16], root[32];
	struct confine_ns own, vmm;
	snprintf(process, sizeof(process), "%d", (int)pid);
	snprintf(root, sizeof(root), "%d/root", (int)pid);
	if (confine_read_ns(proc_fd, "self", &own, e) < 0 ||
	    confine_read_ns(proc_fd, process, &vmm, e) < 0)
		return -1;
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++) {
		bool net = strcmp(ns_names[i], "net") == 0;
		bool shared = strcmp(ns_names[i], "mnt") == 0 || (net && !own_net);
		if (strcmp(vmm.id[i], host->id[i]) == 0)
			return err_set(e, ERR_INTERNAL, 0, "the VMM is in the host's %s namespace",
				       ns_names[i]);
		if (net && own_net && strcmp(vmm.id[i], own.id[i]) == 0)
			return err_set(e, ERR_INTERNAL, 0,
				       "the VMM is in its sandbox's network slot, not in an empty "
				       "net namespace");
		if (shared && strcmp(vmm.id[i], own.id[i]) != 0)
			return err_set(e, ERR_INTERNAL, 0,
				       "the VMM is not in its sandbox's %s namespace", ns_names[i]);
	}
	struct stat ours, theirs;
	if (stat("/", &ours) < 0 || fstatat(proc_fd, root, &theirs, 0) < 0)
		return err_errno(e, errno, "compare the VMM's root directory");
	if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)
		return err_set(e, ERR_INTERNAL, 0,
			       "the VMM has another root directory than its jail");
	return 0;
}

/* The value of "Key:\t..." without blanks at its end; false when the key is not there. */
static bool status_field(const char *text, const char *key, char *value, size_t size)
{
	size_t len = strlen(key);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) != 0 || line[len] != ':')
			continue;
		const char *start = line + len + 1;
		start += strspn(start, " \t");
		size_t n = strcspn(start, "\n");
		while (n > 0 && start[n - 1] == ' ')
			n--;
		if (n >= size)
			return false;
		memcpy(value, start, n);
		value[n] = '\0';
		return true;
	}
	return false;
}

static int check_field(const char *text, const char *tid, const char *key, const char *want,
		       struct err *e)
{
	char value[128];
	if (!status_field(text, key, value, sizeof(value)))
		return err_set(e, ERR_INTERNAL, 0, "thread %s of the VMM: no %s in its status", tid,
			       key);
	if (strcmp(value, want) != 0)
		return err_set(e, ERR_INTERNAL, 0,
			       "thread %s of the VMM is not confined: %s is \"%s\", not \"%s\"",
			       tid, key, value, want);
	return 0;
}

/* Those of spawner and set-up, and the one that launch.c loads; CH's own come on top of them. */
#define FILTERS_MIN 3

static int check_filters(const char *text, const char *tid, struct err *e)
{
	char value[16];
	uint64_t count;
	if (!status_field(text, "Seccomp_filters", value, sizeof(value)))
		return err_set(e, ERR_INTERNAL, 0,
			       "thread %s of the VMM: no Seccomp_filters in its status", tid);
	if (!str_to_u64(value, FILTERS_MIN, UINT32_MAX, &count))
		return err_set(e, ERR_INTERNAL, 0,
			       "thread %s of the VMM is not confined: Seccomp_filters is \"%s\"",
			       tid, value);
	return 0;
}

static int check_thread(int task_fd, const char *tid, uid_t uid, gid_t gid, struct err *e)
{
	char path[64], text[8192], ids[64];
	snprintf(path, sizeof(path), "%s/status", tid);
	if (file_read_text(task_fd, path, text, sizeof(text), e) < 0) {
		/* A thread may end while we look. */
		return e->errnum == ENOENT || e->errnum == ESRCH ? 0 : -1;
	}
	snprintf(ids, sizeof(ids), "%u\t%u\t%u\t%u", uid, uid, uid, uid);
	if (check_field(text, tid, "Uid", ids, e) < 0)
		return -1;
	snprintf(ids, sizeof(ids), "%u\t%u\t%u\t%u", gid, gid, gid, gid);
	if (check_field(text, tid, "Gid", ids, e) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(fixed_fields); i++)
		if (check_field(text, tid, fixed_fields[i].key, fixed_fields[i].value, e) < 0)
			return -1;
	return check_filters(text, tid, e);
}

int confine_check_threads(int proc_fd, pid_t pid, uid_t uid, gid_t gid, struct err *e)
{
	char path[32];
	snprintf(path, sizeof(path), "%d/task", (int)pid);
	int task_fd = file_open_beneath(proc_fd, path, O_RDONLY | O_DIRECTORY, 0, "threads", e);
	if (task_fd < 0)
		return -1;
	DIR *dir = fdopendir(task_fd);
	if (!dir) {
		fd_close(&task_fd);
		return err_errno(e, errno, "list threads of the VMM");
	}
	int result = 0;
	unsigned seen = 0;
	for (struct dirent *d; result == 0 && (d = readdir(dir)) != NULL;) {
		if (d->d_name[0] == '.')
			continue;
		result = check_thread(dirfd(dir), d->d_name, uid, gid, e);
		seen++;
	}
	closedir(dir);
	if (result == 0 && seen == 0)
		return err_set(e, ERR_VMM, 0, "the VMM has no thread left");
	return result;
}
