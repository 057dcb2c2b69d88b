// SPDX-License-Identifier: Apache-2.0
#include "leash.h"

#include "cgroup.h"
#include "file.h"
#include "log.h"
#include "sets.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A cgroup that is empty tells so by an event; the retry is for what has no event. */
#define RETRY_MS 20

struct leash *leash_find(const struct leash_table *t, const char *key)
{
	for (struct leash *l = t->first; l; l = l->next)
		if (strcmp(l->key, key) == 0)
			return l;
	return NULL;
}

struct leash *leash_find_pid(const struct leash_table *t, pid_t pid)
{
	for (struct leash *l = t->first; l; l = l->next)
		if (l->child && l->pid == pid && l->pidfd >= 0)
			return l;
	return NULL;
}

static int watch(struct leash_table *t, int fd, uint32_t events, struct leash_watch *w)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};
	return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

struct leash *leash_add(struct leash_table *t, const char *key, pid_t pid, bool child, int pidfd,
			int uid_lock, struct err *e)
{
	struct leash *l = calloc(1, sizeof(*l));
	if (!l) {
		err_errno(e, ENOMEM, "remember shim %s", key);
		goto fail;
	}
	*l = (struct leash){
		.pid = pid,
		.child = child,
		.pidfd = pidfd,
		.uid_lock = uid_lock,
		.events_fd = -1,
		.code = -1,
	};
	str_copy(l->key, sizeof(l->key), key);
	l->pidfd_watch = (struct leash_watch){LEASH_PIDFD, l};
	l->cgroup_watch = (struct leash_watch){LEASH_CGROUP, l};
	/* A child is reaped at SIGCHLD, which also brings its status. */
	if (!child && pidfd >= 0 && watch(t, pidfd, EPOLLIN, &l->pidfd_watch) < 0) {
		err_errno(e, errno, "watch shim %s", key);
		goto fail;
	}
	l->next = t->first;
	t->first = l;
	t->count++;
	return l;
fail:
	free(l);
	fd_close(&pidfd);
	fd_close(&uid_lock);
	return NULL;
}

/*
 * Closes a watched descriptor. Not by the close alone: a process that we have just started holds a
 * copy until its execve closes it (vfork(2) lets us go on a little earlier), and while it does
 * epoll would go on to report, with a pointer to what is freed by then.
 */
static void close_watched(const struct leash_table *t, int *fd)
{
	if (*fd >= 0)
		epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
	fd_close(fd);
}

static void forget(struct leash_table *t, struct leash *l)
{
	struct leash **at = &t->first;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	t->count--;
	free(l);
}

/* Said once: what follows would fail likewise, as often as the supervisor cares to ask. */
static void unheard(struct leash_table *t, const char *what, const char *key, const struct err *why)
{
	if (!t->unheard)
		log_error("%s of shim %s: %s", what, key, why->text);
	t->unheard = true;
}

/* Whether it was woken from the set that it has, so that its disk is newer than that. */
static bool is_spent(const struct leash_table *t, const char *key)
{
	struct err e;
	CLEANUP_FD int sandbox = file_open_beneath(
		t->sandboxes_fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "sandbox", &e);
	CLEANUP_FD int set =
		sandbox < 0 ? -1
			    : file_open_beneath(sandbox, SETS_OF_SANDBOX,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "set", &e);
	return set >= 0 && sets_is_used(set);
}

/*
 * Lets go of what we hold for it, its uid's lock too; then tells the supervisor that the shim is
 * gone and answers who asked for it. In this order, so that who was told finds nothing of it here.
 */
static void report(struct leash_table *t, struct leash *l, const struct err *left)
{
	struct err e;
	close_watched(t, &l->pidfd);
	fd_close(&l->uid_lock);
	close_watched(t, &l->events_fd);
	struct msg_gone gone = {
		.code = l->code, .signal = l->signal, .clear = !left, .spent = is_spent(t, l->key)};
	str_copy(gone.key, sizeof(gone.key), l->key);
	if (left)
		snprintf(gone.detail, sizeof(gone.detail), "%s", left->text);
	str_clean(gone.detail);
	if (chan_send_gone(t->link, 0, &gone, &e) < 0)
		unheard(t, "GONE", l->key, &e);
	for (unsigned i = 0; i < l->end_count; i++) {
		struct msg_done done = {0};
		int sent = left ? chan_send_err(t->link, l->end_ids[i], left, &e)
				: chan_send_done(t->link, l->end_ids[i], &done, &e);
		if (sent < 0)
			unheard(t, "end", l->key, &e);
	}
}

/* pid: whose shim it was, for a socket that it had no time to move into place; 0: nobody's. */
static int remove_socket(struct leash_table *t, const char *key, pid_t pid, struct err *e)
{
	char name[NAME_KEY_SIZE + 8];
	snprintf(name, sizeof(name), "%d", (int)pid);
	if (pid && unlinkat(t->fresh_fd, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove socket new/%s", name);
	snprintf(name, sizeof(name), "%s.sock", key);
	if (unlinkat(t->shims_fd, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove socket shims/%s", name);
	return 0;
}

/* A sandbox's directory with its set and disks; sets_clear_sandbox() takes what else there is. */
static int remove_sandbox(struct leash_table *t, const char *key, struct err *e)
{
	CLEANUP_FD int dir = file_open_beneath(
		t->sandboxes_fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "sandbox", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (sets_remove(dir, SETS_OF_SANDBOX, e) < 0 || sets_remove(dir, SETS_DISKS, e) < 0)
		return -1;
	return sets_clear_sandbox(t->sandboxes_fd, key, e);
}

uid_t leash_uid_of(const char *pid)
{
	char path[64], text[1024];
	struct err e;
	unsigned uid = 0;
	CLEANUP_FD int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/status", pid);
	if (proc < 0 || file_read_text(proc, path, text, sizeof(text), &e) < 0)
		return 0;
	const char *line = strstr(text, "\nUid:");
	return line && sscanf(line, "\nUid: %u", &uid) == 1 ? uid : 0;
}

/*
 * Whether the VMM of a shim that died is still to be reaped. It became our child then (we are a
 * subreaper), and its cgroup counts as empty a little before it can be reaped.
 */
static bool has_orphan(const struct leash *l)
{
	char path[64], text[16384];
	struct err e;
	if (!l->uid || (l->code == 0 && !l->signal))
		return false;
	CLEANUP_FD int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%d/task/%d/children", (int)getpid(), (int)getpid());
	if (proc < 0 || file_read_text(proc, path, text, sizeof(text), &e) < 0)
		return false;
	char *rest = text;
	for (char *word; (word = strsep(&rest, " \n"));)
		if (*word && leash_uid_of(word) == l->uid)
			return true;
	return false;
}

/* Waits in the loop for the cgroup to become empty. */
static void watch_cgroup(struct leash_table *t, struct leash *l)
{
	struct err e;
	if (l->events_fd >= 0)
		return;
	l->events_fd = cgroup_watch(t->cgroup_fd, l->key, &e);
	if (l->events_fd >= 0 && watch(t, l->events_fd, EPOLLPRI, &l->cgroup_watch) < 0)
		fd_close(&l->events_fd);
}

/* True when the leash was forgotten: all clear, or given up. */
static bool clear_up(struct leash_table *t, struct leash *l)
{
	struct err e = {0};
	bool given_up = clock_us() >= l->clear_by_us;
	int removed = 1;
	if (t->cgroup_fd >= 0) {
		if (cgroup_kill(t->cgroup_fd, l->key, &e) < 0)
			removed = -1;
		else
			removed = cgroup_remove(t->cgroup_fd, l->key, &e);
	}
	if (removed == 1 && has_orphan(l))
		removed = 0;
	/* Nothing of the VMM runs any more: what it wrote cannot change under us. */
	if (removed == 1 && (remove_socket(t, l->key, l->pid, &e) < 0 ||
			     sets_clear_sandbox(t->sandboxes_fd, l->key, &e) < 0))
		removed = -1;
	if (removed == 1) {
		report(t, l, NULL);
		forget(t, l);
		return true;
	}
	if (!given_up) {
		if (removed == 0)
			watch_cgroup(t, l);
		return false;
	}
	if (removed == 0)
		err_set(&e, ERR_DEADLINE, 0,
			"a process in cgroup %s cannot be killed (in uninterruptible sleep?); "
			"see cgroup.procs there",
			l->key);
	report(t, l, &e);
	forget(t, l);
	return true;
}

void leash_ended(struct leash_table *t, struct leash *l, int code, int signal)
{
	if (l->clear_by_us)
		return;
	l->code = code;
	l->signal = signal;
	close_watched(t, &l->pidfd);
	l->clear_by_us = clock_us() + t->policy->deadline_ms[POLICY_DEADLINE_DESTROY] * 1000ll;
	clear_up(t, l);
}

void leash_end(struct leash_table *t, struct leash *l, uint32_t id)
{
	struct err e;
	if (l->end_count == LEASH_END_MAX) {
		err_set(&e, ERR_STATE, 0, "%s is being ended already", l->key);
		if (chan_send_err(t->link, id, &e, &e) < 0)
			unheard(t, "end", l->key, &e);
		return;
	}
	l->end_ids[l->end_count++] = id;
	/* Its VMM dies with it (parent death signal), and by cgroup.kill when it is cleared up. */
	if (l->pidfd >= 0 && syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0) < 0 &&
	    errno != ESRCH)
		log_error("shim %s could not be killed: %s", l->key, strerrordesc_np(errno));
	if (l->clear_by_us)
		clear_up(t, l);
}

int leash_retry(struct leash_table *t)
{
	bool waiting = false;
	for (struct leash *l = t->first, *next; l; l = next) {
		next = l->next;
		if (l->clear_by_us && !clear_up(t, l))
			waiting = true;
	}
	return waiting ? RETRY_MS : -1;
}

int leash_remove_stale(struct leash_table *t, enum msg_remove_kind kind, const char *key,
		       struct err *e)
{
	if (kind == MSG_REMOVE_TEMPLATE)
		return sets_remove_template(t->templates_fd, key, e);
	if (leash_find(t, key))
		return err_set(e, ERR_STATE, 0, "shim %s is alive: END is the way", key);
	if (kind == MSG_REMOVE_SOCKET)
		return remove_socket(t, key, 0, e);
	if (kind == MSG_REMOVE_SANDBOX)
		return remove_sandbox(t, key, e);
	if (t->cgroup_fd < 0)
		return 0;
	if (cgroup_kill(t->cgroup_fd, key, e) < 0)
		return -1;
	int removed = cgroup_remove(t->cgroup_fd, key, e);
	if (removed == 0)
		return err_set(e, ERR_STATE, EBUSY, "cgroup %s is not empty yet; try again", key);
	return removed < 0 ? -1 : 0;
}
