// SPDX-License-Identifier: Apache-2.0
#include "confine.h"

#include "file.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ------------------------------------------------------------------ threads */

/* A number by strtoul(3) after the key, 0 where there is none. */
static uint64_t status_number(const char *text, const char *key, int base)
{
	char value[128];
	return status_field(text, key, value, sizeof(value)) ? strtoull(value, NULL, base) : 0;
}

static void status_ids(const char *text, const char *key, uint32_t ids[4])
{
	char value[128], *at = value;
	if (!status_field(text, key, value, sizeof(value)))
		return;
	for (int i = 0; i < 4; i++)
		ids[i] = (uint32_t)strtoul(at, &at, 10);
}

static uint32_t count_groups(const char *text)
{
	char value[1024];
	uint32_t count = 0;
	if (!status_field(text, "Groups", value, sizeof(value)))
		return 0;
	for (const char *at = value; *at; at += strspn(at, " ")) {
		count++;
		at += strcspn(at, " ");
	}
	return count;
}

static void note_thread(const char *text, const char *tid, struct msg_thread *t)
{
	static const char *const sets[MSG_CAP_SETS] = {"CapInh", "CapPrm", "CapEff", "CapBnd",
						       "CapAmb"};
	char name[128] = "";
	uint64_t id = 0;
	*t = (struct msg_thread){0};
	str_to_u64(tid, 1, UINT32_MAX, &id);
	t->tid = (uint32_t)id;
	status_ids(text, "Uid", t->uid);
	status_ids(text, "Gid", t->gid);
	t->groups = count_groups(text);
	t->no_new_privs = status_number(text, "NoNewPrivs", 10) == 1;
	t->seccomp = (uint32_t)status_number(text, "Seccomp", 10) % 3;
	t->filters = (uint32_t)status_number(text, "Seccomp_filters", 10);
	for (size_t i = 0; i < MSG_CAP_SETS; i++)
		t->caps[i] = status_number(text, sets[i], 16);
	status_field(text, "Name", name, sizeof(name));
	str_clean(name);
	snprintf(t->name, sizeof(t->name), "%.*s", (int)sizeof(t->name) - 1, name);
}

/* Room for one more; NULL when a VMM has more than it can have. */
static struct msg_thread *next_thread(struct confine_report *r)
{
	if (r->sum.thread_count == MSG_THREADS_MAX)
		return NULL;
	if (r->sum.thread_count == r->room) {
		uint32_t room = r->room ? 2 * r->room : 16;
		room = room < MSG_THREADS_MAX ? room : MSG_THREADS_MAX;
		struct msg_thread *grown = realloc(r->threads, room * sizeof(*grown));
		if (!grown)
			return NULL;
		r->threads = grown;
		r->room = room;
	}
	return &r->threads[r->sum.thread_count++];
}

/* Over, but not yet reaped: it runs nothing any more. */
static bool has_ended(const char *text)
{
	char state[32];
	return status_field(text, "State", state, sizeof(state)) &&
	       (state[0] == 'Z' || state[0] == 'X');
}

static int check_fields(const char *text, const char *tid, uid_t uid, gid_t gid, struct err *e)
{
	char ids[64];
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

/* 1: confined; 0: it has ended; -1: not confined. r may be NULL. */
static int check_thread(int task_fd, const char *tid, const struct confine_want *want,
			struct confine_report *r, struct err *e)
{
	char path[64], text[8192];
	struct msg_thread *note = NULL;
	snprintf(path, sizeof(path), "%s/status", tid);
	if (file_read_text(task_fd, path, text, sizeof(text), e) < 0)
		return e->errnum == ENOENT || e->errnum == ESRCH ? 0 : -1;
	if (has_ended(text))
		return 0;
	if (r && !(note = next_thread(r)))
		return err_set(e, ERR_INTERNAL, 0,
			       "the VMM is not confined: it has more than %d threads, or there is "
			       "no memory to keep them",
			       MSG_THREADS_MAX);
	if (note)
		note_thread(text, tid, note);
	return check_fields(text, tid, want->uid, want->gid, e) < 0 ? -1 : 1;
}

static int check_threads(int proc_fd, const struct confine_want *want, struct confine_report *r,
			 struct err *e)
{
	char path[32];
	snprintf(path, sizeof(path), "%d/task", (int)want->pid);
	int task_fd = file_open_beneath(proc_fd, path, O_RDONLY | O_DIRECTORY, 0, "threads", e);
	if (task_fd < 0) {
		if (e->errnum == ENOENT || e->errnum == ESRCH)
			e->kind = ERR_VMM;
		return -1;
	}
	DIR *dir = fdopendir(task_fd);
	if (!dir) {
		fd_close(&task_fd);
		return err_errno(e, errno, "list threads of the VMM");
	}
	int result = 0;
	unsigned alive = 0;
	for (struct dirent *d; result >= 0 && (d = readdir(dir)) != NULL;) {
		if (d->d_name[0] == '.')
			continue;
		result = check_thread(dirfd(dir), d->d_name, want, r, e);
		alive += result == 1;
		if (r && result == 0)
			r->sum.ended_threads++;
	}
	closedir(dir);
	if (result < 0)
		return -1;
	return alive ? 0 : err_set(e, ERR_VMM, 0, "the VMM has no thread left");
}

int confine_check_threads(int proc_fd, pid_t pid, uid_t uid, gid_t gid, struct err *e)
{
	const struct confine_want want = {.pid = pid, .uid = uid, .gid = gid};
	return check_threads(proc_fd, &want, NULL, e);
}

/* ------------------------------------------------------------------ the whole process */

static uint64_t ns_number(const char *id)
{
	const char *at = strchr(id, '[');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

void confine_note_namespaces(int proc_fd, pid_t pid, const struct confine_ns *host,
			     struct msg_confine *out)
{
	char process[16], root[32];
	struct confine_ns own = {0}, vmm = {0};
	struct err ignored;
	struct stat st;
	snprintf(process, sizeof(process), "%d", (int)pid);
	snprintf(root, sizeof(root), "%d/root", (int)pid);
	if (confine_read_ns(proc_fd, "self", &own, &ignored) < 0 ||
	    confine_read_ns(proc_fd, process, &vmm, &ignored) < 0 ||
	    fstatat(proc_fd, root, &st, 0) < 0)
		return;
	for (size_t i = 0; i < CONFINE_NS_COUNT; i++) {
		out->ns_host[i] = ns_number(host->id[i]);
		out->ns_shim[i] = ns_number(own.id[i]);
		out->ns_vmm[i] = ns_number(vmm.id[i]);
	}
	out->root_dev = st.st_dev;
	out->root_ino = st.st_ino;
}

static const struct {
	const char *name; /* as /proc/PID/limits has it */
	const char *word;
} limit_names[MSG_LIMIT_COUNT] = {
	[MSG_LIMIT_AS] = {"Max address space", "RLIMIT_AS"},
	[MSG_LIMIT_NPROC] = {"Max processes", "RLIMIT_NPROC"},
	[MSG_LIMIT_FSIZE] = {"Max file size", "RLIMIT_FSIZE"},
	[MSG_LIMIT_NOFILE] = {"Max open files", "RLIMIT_NOFILE"},
	[MSG_LIMIT_MEMLOCK] = {"Max locked memory", "RLIMIT_MEMLOCK"},
	[MSG_LIMIT_CORE] = {"Max core file size", "RLIMIT_CORE"},
};

static uint64_t limit_number(const char **at)
{
	char *end;
	*at += strspn(*at, " ");
	if (strncmp(*at, "unlimited", 9) == 0) {
		*at += 9;
		return UINT64_MAX;
	}
	uint64_t value = strtoull(*at, &end, 10);
	*at = end;
	return value;
}

/* The VMM can only lower them: it has no CAP_SYS_RESOURCE. */
static int check_limits(const char *text, const struct confine_want *want, struct confine_report *r,
			struct err *e)
{
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++) {
		struct msg_limit *l = &r->sum.limits[i];
		const char *at = strstr(text, limit_names[i].name);
		l->asked = want->limits[i];
		if (!at)
			return err_set(e, ERR_INTERNAL, 0, "the VMM: no %s in its limits",
				       limit_names[i].name);
		at += strlen(limit_names[i].name);
		l->soft = limit_number(&at);
		l->hard = limit_number(&at);
	}
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++)
		if (r->sum.limits[i].hard > want->limits[i])
			return err_set(e, ERR_INTERNAL, 0,
				       "the VMM is not confined: its hard %s is %llu, not %llu or "
				       "less",
				       limit_names[i].word,
				       (unsigned long long)r->sum.limits[i].hard,
				       (unsigned long long)want->limits[i]);
	return 0;
}

/* The line of cgroup v2; how it begins depends on where the host's tree is mounted from. */
static int check_cgroup(const char *text, const struct confine_want *want, struct confine_report *r,
			struct err *e)
{
	const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	size_t length = 0, tail = strlen(want->cgroup);
	if (line) {
		line = strchr(line, '/');
		length = line ? strcspn(line, "\n") : 0;
	}
	r->sum.cgroup =
		line && length >= tail && strncmp(line + length - tail, want->cgroup, tail) == 0;
	if (!r->sum.cgroup)
		return err_set(e, ERR_INTERNAL, 0,
			       "the VMM is not confined: its cgroup is \"%.*s\", not ...%s",
			       (int)length, line ? line : "", want->cgroup);
	return 0;
}

static int read_process(int proc_fd, pid_t pid, const char *file, char *text, size_t size,
			struct err *e)
{
	char path[32];
	snprintf(path, sizeof(path), "%d/%s", (int)pid, file);
	ssize_t n = file_read_text(proc_fd, path, text, size, e);
	if (n == 0 || (n < 0 && (e->errnum == ENOENT || e->errnum == ESRCH)))
		return err_set(e, ERR_VMM, 0, "the VMM ended while it was looked at");
	return n < 0 ? -1 : 0;
}

/* Linux 6.2 and later tell it as the directory's size, to anybody. */
static uint32_t count_fds(int proc_fd, pid_t pid)
{
	char path[32];
	struct stat st;
	snprintf(path, sizeof(path), "%d/fd", (int)pid);
	return fstatat(proc_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size < UINT32_MAX
		       ? (uint32_t)st.st_size
		       : 0;
}

int confine_read_back(int proc_fd, const struct confine_want *want, struct confine_report *r,
		      struct err *e)
{
	char text[4096];
	r->sum.thread_count = r->sum.ended_threads = r->sum.cgroup = 0;
	memset(r->sum.limits, 0, sizeof(r->sum.limits));
	r->sum.vmm_fds = count_fds(proc_fd, want->pid);
	if (check_threads(proc_fd, want, r, e) < 0 ||
	    read_process(proc_fd, want->pid, "limits", text, sizeof(text), e) < 0 ||
	    check_limits(text, want, r, e) < 0)
		return -1;
	if (want->cgroup[0] == '\0')
		return 0;
	if (read_process(proc_fd, want->pid, "cgroup", text, sizeof(text), e) < 0)
		return -1;
	return check_cgroup(text, want, r, e);
}

void confine_report_close(struct confine_report *r)
{
	free(r->threads);
	*r = (struct confine_report){0};
}
