// SPDX-License-Identifier: Apache-2.0
#include "debug.h"

#include "file.h"
#include "serve.h"
#include "uplink.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void debug_note_phase(struct shim *s, int64_t now_us)
{
	if (s->phase_since_us && s->phase == s->phase_seen)
		return;
	s->phase_seen = s->phase;
	s->phase_since_us = now_us;
}

static uint64_t age(int64_t now_us, int64_t since_us)
{
	return now_us > since_us ? (uint64_t)(now_us - since_us) : 0;
}

/* ------------------------------------------------------------------ descriptors */

struct fd_name {
	int fd;
	char what[MSG_DEBUG_WORD_MAX];
};

#define FD_NAMES_MAX 64

static void name_fd(struct fd_name *names, unsigned *count, int fd, const char *what, int number)
{
	if (fd < 0 || *count == FD_NAMES_MAX)
		return;
	struct fd_name *n = &names[(*count)++];
	n->fd = fd;
	if (number < 0)
		snprintf(n->what, sizeof(n->what), "%s", what);
	else
		snprintf(n->what, sizeof(n->what), "%s%d", what, number);
}

/* All that the shim holds, by its own account. */
static unsigned name_fds(const struct shim *s, struct fd_name names[FD_NAMES_MAX])
{
	unsigned count = 0;
	const struct fd_name fixed[] = {
		{STDIN_FILENO, "stdin"},
		{STDOUT_FILENO, "stdout"},
		{STDERR_FILENO, "stderr"},
		{s->link.fd, "supervisor"},
		{SERVE_POLICY_FD, "policy"},
		{SERVE_UID_FD, "uid-lock"},
		{s->listener, "listener"},
		{s->epoll_fd, "epoll"},
		{s->api.fd, "vmm-api"},
		{s->vmm.pidfd, "vmm-pidfd"},
		{s->vmm.death_pipe, "vmm-death-pipe"},
		{s->out_fd, "vmm-stdout"},
		{s->err_fd, "vmm-stderr"},
		{s->event_fd, "vmm-events"},
		{s->jail.pty_master, "vmm-pty"},
		{s->jail.pty_slave, "vmm-pty-slave"},
		{s->jail.api_listen, "vmm-api-listen"},
		{s->jail.api_conn, "vmm-api-unused"},
		{s->jail.proc_fd, "proc"},
		{s->jail.ram_fd, "ram"},
		{s->jail.templates_fd, "templates"},
		{s->jail.sandboxes_fd, "sandboxes"},
		{s->jail.snapshot_fd, "snapshot"},
		{s->jail.vsock_fd, "vsock"},
		{s->cgroup_fd, "cgroup"},
		{s->sandbox_fd, "sandbox"},
		{s->wake_fd, "wake-set"},
		{s->slot.tap_fd, "tap"},
		{s->slot.host_ns, "host-netns"},
		{s->snapshot.from_fd, "snapshot-from"},
		{s->snapshot.to_fd, "snapshot-to"},
		{s->announce.open ? s->announce.conn.fd : -1, "announce"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		name_fd(names, &count, fixed[i].fd, fixed[i].what, -1);
	for (uint32_t i = 0; i < s->disks.count; i++)
		name_fd(names, &count, s->disks.fd[i], "disk", (int)i);
	for (int i = 0; i < MSG_DISKS_MAX; i++)
		name_fd(names, &count, s->snapshot.disk_fd[i], "snapshot-disk", i);
	for (unsigned i = 0; i < s->connect_count; i++)
		name_fd(names, &count, s->connects[i].conn.fd, "connect", (int)i);
	return count;
}

static void add_fd(struct msg_debug_head *h, int fd, const struct fd_name *names, unsigned count)
{
	if (h->fd_count == MSG_DEBUG_FDS_MAX)
		return;
	struct msg_debug_fd *out = &h->fds[h->fd_count++];
	out->fd = (uint32_t)fd;
	snprintf(out->what, sizeof(out->what), "?");
	for (unsigned i = 0; i < count; i++)
		if (names[i].fd == fd)
			memcpy(out->what, names[i].what, sizeof(out->what));
}

/* What is really open: one that no name is known for has leaked, or is of a library. */
static void fill_fds(const struct shim *s, struct msg_debug_head *h)
{
	struct fd_name names[FD_NAMES_MAX] = {0};
	unsigned count = name_fds(s, names);
	char path[32];
	struct err ignored;
	snprintf(path, sizeof(path), "%d/fd", (int)getpid());
	int fd = s->jail.proc_fd < 0 ? -1
				     : file_open_beneath(s->jail.proc_fd, path,
							 O_RDONLY | O_DIRECTORY, 0, "fd", &ignored);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		fd_close(&fd);
		for (unsigned i = 0; i < count; i++)
			add_fd(h, names[i].fd, names, count);
		return;
	}
	for (struct dirent *d; (d = readdir(dir)) != NULL;)
		if (d->d_name[0] != '.' && atoi(d->d_name) != dirfd(dir))
			add_fd(h, atoi(d->d_name), names, count);
	closedir(dir);
}

/* ------------------------------------------------------------------ cgroup */

/* The number at the file's start, or behind "key " at a line's start. */
static uint64_t cgroup_number(int leaf, const char *file, const char *key)
{
	char text[1024];
	struct err ignored;
	size_t len = key ? strlen(key) : 0;
	if (file_read_text(leaf, file, text, sizeof(text), &ignored) < 0)
		return UINT64_MAX;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (len && (strncmp(line, key, len) != 0 || line[len] != ' '))
			continue;
		const char *at = line + len + (len > 0);
		return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : UINT64_MAX;
	}
	return UINT64_MAX;
}

static void fill_cgroup(int leaf, struct msg_cgroup *c)
{
	*c = (struct msg_cgroup){
		.memory_current = cgroup_number(leaf, "memory.current", NULL),
		.memory_max = cgroup_number(leaf, "memory.max", NULL),
		.memory_oom = cgroup_number(leaf, "memory.events", "oom"),
		.memory_oom_kill = cgroup_number(leaf, "memory.events", "oom_kill"),
		.pids_current = cgroup_number(leaf, "pids.current", NULL),
		.pids_max = cgroup_number(leaf, "pids.max", NULL),
		.cpu_us = cgroup_number(leaf, "cpu.stat", "usage_usec"),
		.cpu_throttled_us = cgroup_number(leaf, "cpu.stat", "throttled_usec"),
	};
}

/* ------------------------------------------------------------------ what the VMM said */

static void fill_stderr(const struct shim_stderr *from, struct msg_debug_head *h)
{
	h->stderr_bytes = from->bytes;
	h->stderr_lines = from->lines;
	h->stderr_errors = from->error_count;
	_Static_assert(SHIM_ERROR_LINES <= MSG_DEBUG_LINES_MAX, "room for all");
	_Static_assert(SHIM_ERROR_MAX <= MSG_DEBUG_LINE_MAX, "room for each");
	unsigned first =
		from->error_count > SHIM_ERROR_LINES ? from->error_count - SHIM_ERROR_LINES : 0;
	for (unsigned i = first; i != from->error_count; i++)
		snprintf(h->lines[h->line_count++], MSG_DEBUG_LINE_MAX, "%s",
			 from->errors[i % SHIM_ERROR_LINES]);
}

static void fill_events(const struct shim_events *from, struct msg_debug_head *h)
{
	uint64_t first =
		from->count > MSG_DEBUG_EVENTS_MAX ? from->count - MSG_DEBUG_EVENTS_MAX : 0;
	h->event_records = from->count;
	h->event_dropped = from->unread;
	for (uint64_t i = first; i < from->count; i++)
		h->events[h->event_count++] = from->last[i % MSG_DEBUG_EVENTS_MAX];
}

static void fill_threads(const struct shim *s, struct msg_debug_data *out)
{
	const struct confine_report *r = &s->readback.report;
	out->head.confine = r->sum;
	for (uint32_t i = 0; i < r->sum.thread_count; i++)
		out->threads[i] = r->threads[i];
}

static void fill_exchanges(const struct shim *s, int64_t now_us, struct msg_debug_data *out)
{
	_Static_assert(HTTP_CLIENT_PENDING_MAX <= MSG_OPEN_MAX, "room for all");
	uint32_t kept = http_trace_read(&s->trace, out->exchanges);
	unsigned open = http_client_open_requests(&s->api, now_us, &out->exchanges[kept]);
	out->head.exchange_count = kept + open;
	out->head.exchange_total = s->trace.count + open;
}

void debug_fill(struct shim *s, struct msg_debug_data *out)
{
	struct msg_debug_head *h = &out->head;
	int64_t now = clock_us();
	memset(out, 0, sizeof(*out));
	debug_note_phase(s, now);
	h->at_real_us = clock_real_us();
	h->shim_pid = (uint32_t)getpid();
	h->vmm_pid = s->vmm.pid > 0 && !s->ended ? (uint32_t)s->vmm.pid : 0;
	h->uid = s->uid;
	h->phase = (uint32_t)s->phase;
	h->age_us = age(now, s->started_us);
	h->phase_us = age(now, s->phase_since_us);
	h->op = (uint32_t)s->op;
	/* A create begins with the shim. */
	if (s->op != MSG_NONE)
		h->op_us = age(now, s->op == MSG_CREATE ? s->started_us : s->op_started_us);
	h->console_end = s->console.end;
	h->input_waiting = (uint32_t)s->input_used;
	h->console_waiters = s->waiter_count;
	h->reboots = s->reboots;
	h->logs_dropped = s->logs_dropped;
	fill_stderr(&s->errors, h);
	fill_events(&s->events, h);
	fill_fds(s, h);
	fill_exchanges(s, now, out);
	h->has_cgroup = s->cgroup_fd >= 0;
	if (h->has_cgroup)
		fill_cgroup(s->cgroup_fd, &h->cgroup);
	fill_threads(s, out);
	h->ended = s->ended;
	if (s->ended)
		h->exit = s->exit;
}

void debug_answer(struct shim *s, uint32_t id)
{
	struct err e;
	/* What is hardly ever needed does not stay in memory, not even in the allocator's. */
	struct msg_debug_data *data = mmap(NULL, sizeof(*data), PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		err_errno(&e, errno, "no memory to tell what is known");
		uplink_error(s, id, &e);
		return;
	}
	debug_fill(s, data);
	if (chan_send_debug_data(&s->link, id, data, &e) < 0)
		uplink_close(s, e.text);
	else
		serve_watch_link(s);
	munmap(data, sizeof(*data));
}
