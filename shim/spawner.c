// SPDX-License-Identifier: Apache-2.0
#include "spawner.h"

#include "caps.h"
#include "file.h"
#include "hostns.h"
#include "leash.h"
#include "log.h"
#include "probe.h"
#include "serve.h"
#include "spawner_check.h"
#include "spawner_find.h"
#include "spawner_net.h"
#include "spawner_start.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINK_QUEUE_MAX (1u << 20)

struct spawner {
	const struct policy *policy;
	struct chan link;
	struct leash_table table;
	struct spawner_start start;
	struct spawner_net net;
	struct probe_report vmm;
	uint32_t found; /* shims alive at start */
	int run_fd;
	int signal_fd;
	bool quit;
	int status;
};

/* epoll's marks for what is not a shim's descriptor. */
static char mark_link, mark_signal, mark_net;

static void send_failed(struct spawner *s, const struct err *e)
{
	log_error("link to the supervisor closed: %s", e->text);
	s->quit = true;
	s->status = 1;
}

static void answer_error(struct spawner *s, uint32_t id, const struct err *why)
{
	struct err e;
	if (chan_send_err(&s->link, id, why, &e) < 0)
		send_failed(s, &e);
}

static void answer_done(struct spawner *s, uint32_t id)
{
	struct err e;
	struct msg_done done = {0};
	if (chan_send_done(&s->link, id, &done, &e) < 0)
		send_failed(s, &e);
}

/* ------------------------------------------------------------------ requests */

static uint32_t host_features(const struct spawner *s)
{
	uint32_t features = 0;
	char controllers[256] = "";
	struct err e;
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		features |= MSG_HOST_KVM;
	if (access("/dev/userfaultfd", R_OK | W_OK) == 0)
		features |= MSG_HOST_USERFAULTFD;
	if (s->table.cgroup_fd < 0)
		return features;
	if (faccessat(s->table.cgroup_fd, "cgroup.kill", W_OK, 0) == 0)
		features |= MSG_HOST_CGROUP_KILL;
	if (file_read_text(s->table.cgroup_fd, "cgroup.subtree_control", controllers,
			   sizeof(controllers), &e) < 0)
		return features;
	static const struct {
		const char *name;
		uint32_t bit;
	} known[] = {{"cpu", MSG_HOST_CPU},
		     {"memory", MSG_HOST_MEMORY},
		     {"pids", MSG_HOST_PIDS},
		     {"io", MSG_HOST_IO}};
	char *rest = controllers;
	for (char *word; (word = strsep(&rest, " \n"));)
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			if (strcmp(word, known[i].name) == 0)
				features |= known[i].bit;
	return features;
}

static int on_hello(struct spawner *s, const struct msg *m, struct err *e)
{
	struct msg_hello hello;
	if (msg_read_hello(m, &hello, e) < 0)
		return -1;
	if (!s->vmm.ok) {
		answer_error(s, m->header.id, &s->vmm.err);
		return 0;
	}
	if (spawner_find_sets(&s->table, e) < 0)
		return -1;
	struct msg_host host = {
		.vmm_major = s->vmm.major,
		.vmm_minor = s->vmm.minor,
		.vmm_patch = s->vmm.patch,
		.features = host_features(s),
		.shims = s->found,
	};
	str_copy(host.build, sizeof(host.build), CLOISTER_VERSION);
	str_copy(host.vmm_version, sizeof(host.vmm_version), s->vmm.version);
	return chan_send_host(&s->link, m->header.id, &host, e);
}

static int on_start(struct spawner *s, const struct msg *m, struct err *e)
{
	struct msg_start start;
	struct msg_started started = {0};
	if (msg_read_start(m, &start, e) < 0)
		return -1;
	/* They could not be made again before: perhaps now. */
	if (s->net.missing)
		spawner_net_read(&s->net);
	CLEANUP_FD int link = spawner_start_shim(&s->start, &s->table, start.key, &started, e);
	if (link < 0) {
		answer_error(s, m->header.id, e);
		return 0;
	}
	ssize_t length = msg_write_started(&started, e);
	if (length < 0)
		return -1;
	return chan_send(&s->link, MSG_STARTED, m->header.id, &started, (size_t)length, link, e);
}

static int on_end(struct spawner *s, const struct msg *m, struct err *e)
{
	struct msg_end end;
	if (msg_read_end(m, &end, e) < 0)
		return -1;
	struct leash *l = leash_find(&s->table, end.key);
	if (l) {
		leash_end(&s->table, l, m->header.id);
		return 0;
	}
	/* No shim: what an earlier one may have left goes the same way. */
	l = leash_add(&s->table, end.key, 0, false, -1, -1, e);
	if (!l) {
		answer_error(s, m->header.id, e);
		return 0;
	}
	l->end_ids[l->end_count++] = m->header.id;
	leash_ended(&s->table, l, -1, 0);
	return 0;
}

static int on_remove(struct spawner *s, const struct msg *m, struct err *e)
{
	struct msg_remove body;
	if (msg_read_remove(m, &body, e) < 0)
		return -1;
	if (leash_remove_stale(&s->table, (enum msg_remove_kind)body.kind, body.key, e) < 0)
		answer_error(s, m->header.id, e);
	else
		answer_done(s, m->header.id);
	return 0;
}

static int on_check(struct spawner *s, const struct msg *m, struct err *e)
{
	struct msg_check body;
	struct err why;
	if (msg_read_check(m, &body, e) < 0)
		return -1;
	if (spawner_check(&s->table, &s->net, body.repair != 0, &why) < 0)
		answer_error(s, m->header.id, &why);
	else
		answer_done(s, m->header.id);
	return 0;
}

static const struct {
	enum msg_type type;
	int (*handler)(struct spawner *s, const struct msg *m, struct err *e); /* -1: close */
} requests[] = {
	{MSG_HELLO, on_hello},	 {MSG_START, on_start}, {MSG_END, on_end},
	{MSG_REMOVE, on_remove}, {MSG_CHECK, on_check},
};

static int dispatch(struct spawner *s, const struct msg *m, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (requests[i].type != (enum msg_type)m->header.type)
			continue;
		if (m->header.id == 0)
			return err_set(e, ERR_PROTOCOL, 0, "%s record without a number",
				       msg_type_name(m->header.type));
		return requests[i].handler(s, m, e);
	}
	return err_set(e, ERR_PROTOCOL, 0, "%s record is out of turn",
		       msg_type_name(m->header.type));
}

static void receive(struct spawner *s)
{
	static struct msg m;
	struct err e = {0};
	switch (msg_recv(s->link.fd, &m, &e)) {
	case MSG_GOT:
		if (dispatch(s, &m, &e) < 0)
			send_failed(s, &e);
		msg_close_fds(&m);
		return;
	case MSG_AGAIN:
		return;
	case MSG_EOF:
		log_notice("the supervisor has gone; %u shims live on", s->table.count);
		s->quit = true;
		return;
	case MSG_OTHER_VERSION:
		msg_send_version_error(s->link.fd, &m.header, &e);
		send_failed(s, &e);
		return;
	case MSG_BAD:
		send_failed(s, &e);
		return;
	}
}

/* ------------------------------------------------------------------ the loop */

/* Shims of ours, and VMMs whose shim died: a subreaper gets those as well. */
static void reap(struct spawner *s)
{
	struct signalfd_siginfo info;
	ssize_t ignored = read(s->signal_fd, &info, sizeof(info));
	(void)ignored;
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		struct leash *l = leash_find_pid(&s->table, pid);
		if (!l)
			continue;
		if (WIFSIGNALED(status))
			leash_ended(&s->table, l, -1, WTERMSIG(status));
		else
			leash_ended(&s->table, l, WEXITSTATUS(status), 0);
	}
}

static void handle(struct spawner *s, const struct epoll_event *ev)
{
	struct err e;
	if (ev->data.ptr == &mark_link) {
		if ((ev->events & EPOLLOUT) && chan_flush(&s->link, &e) < 0)
			send_failed(s, &e);
		else if (ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			receive(s);
		return;
	}
	if (ev->data.ptr == &mark_signal) {
		reap(s);
		return;
	}
	if (ev->data.ptr == &mark_net) {
		spawner_net_read(&s->net);
		return;
	}
	const struct leash_watch *w = ev->data.ptr;
	if (w->kind == LEASH_PIDFD)
		leash_ended(&s->table, w->leash, -1, 0);
	/* LEASH_CGROUP: the retry before each wait does it. */
	else
		lseek(w->leash->events_fd, 0, SEEK_SET);
}

static void loop(struct spawner *s)
{
	bool writing = false;
	while (!s->quit) {
		int timeout = leash_retry(&s->table);
		if (chan_wants_write(&s->link) != writing) {
			writing = !writing;
			struct epoll_event ev = {
				.events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0),
				.data.ptr = &mark_link,
			};
			epoll_ctl(s->table.epoll_fd, EPOLL_CTL_MOD, s->link.fd, &ev);
		}
		/* One at a time: handling one may forget the shim that another points to. */
		struct epoll_event ev;
		int n = epoll_wait(s->table.epoll_fd, &ev, 1, timeout);
		if (n < 0 && errno != EINTR) {
			log_error("epoll_wait: %s", strerrordesc_np(errno));
			s->status = 1;
			return;
		}
		if (n == 1)
			handle(s, &ev);
		if (s->table.unheard && !s->quit) {
			log_error("link to the supervisor closed: it does not read");
			s->quit = true;
			s->status = 1;
		}
	}
}

/* ------------------------------------------------------------------ start */

static int open_dirs(struct spawner *s, struct err *e)
{
	const struct policy *p = s->policy;
	char path[3 * POLICY_PATH_MAX];
	s->run_fd = file_open_dir(p->run_dir, e);
	if (s->run_fd < 0)
		return -1;
	s->table.shims_fd =
		file_open_beneath(s->run_fd, "shims", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	s->table.fresh_fd =
		file_open_beneath(s->run_fd, "new", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	if (s->table.shims_fd < 0 || s->table.fresh_fd < 0)
		return -1;
	CLEANUP_FD int state = file_open_dir(p->state_dir, e);
	if (state < 0)
		return -1;
	s->table.templates_fd =
		file_open_beneath(state, "templates", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	s->table.sandboxes_fd =
		file_open_beneath(state, "sandboxes", O_RDONLY | O_DIRECTORY, 0, "directory", e);
	if (s->table.templates_fd < 0 || s->table.sandboxes_fd < 0)
		return -1;
	if (p->cgroup_mount[0] == '\0')
		return 0;
	snprintf(path, sizeof(path), "%s/%s/%s", p->cgroup_mount, p->cgroup, p->instance);
	s->table.cgroup_fd = file_open_dir(path, e);
	return s->table.cgroup_fd < 0 ? -1 : 0;
}

static int open_loop(struct spawner *s, struct err *e)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	s->table.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->table.epoll_fd < 0 || sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return err_errno(e, errno, "set up the loop");
	s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return err_errno(e, errno, "watch for ended shims");
	struct epoll_event link = {.events = EPOLLIN, .data.ptr = &mark_link};
	struct epoll_event sig = {.events = EPOLLIN, .data.ptr = &mark_signal};
	if (epoll_ctl(s->table.epoll_fd, EPOLL_CTL_ADD, s->link.fd, &link) < 0 ||
	    epoll_ctl(s->table.epoll_fd, EPOLL_CTL_ADD, s->signal_fd, &sig) < 0)
		return err_errno(e, errno, "set up the loop");
	/* A VMM whose shim is killed becomes ours to reap, not init's. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_errno(e, errno, "become a subreaper");
	return 0;
}

/* Two descriptors for each shim: as many as the administrator lets us have. */
static void raise_fd_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("the limit of open files stays low: %s", strerrordesc_np(errno));
}

static int open_network(struct spawner *s, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &mark_net};
	if (spawner_net_open(&s->net, s->policy, e) < 0)
		return -1;
	int fd = spawner_net_fd(&s->net);
	if (fd >= 0 && epoll_ctl(s->table.epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_errno(e, errno, "watch the network's rules");
	return 0;
}

static int prepare(struct spawner *s, struct err *e)
{
	*s = (struct spawner){
		.link = {.fd = -1},
		.table = {.epoll_fd = -1,
			  .shims_fd = -1,
			  .fresh_fd = -1,
			  .cgroup_fd = -1,
			  .templates_fd = -1,
			  .sandboxes_fd = -1},
		.run_fd = -1,
		.signal_fd = -1,
	};
	/* Whatever cloisterd handed over, locks included, goes to no process that we start. */
	if (close_range(SPAWNER_LINK_FD, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_errno(e, errno, "close descriptors on exec");
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	raise_fd_limit();
	s->policy = policy_map(SPAWNER_POLICY_FD, e);
	if (!s->policy || caps_cut_spawner(s->policy, e) < 0)
		return -1;
	chan_open(&s->link, SPAWNER_LINK_FD, LINK_QUEUE_MAX);
	s->table.policy = s->policy;
	s->table.link = &s->link;
	if (spawner_start_open(&s->start, s->policy, SPAWNER_POLICY_FD, e) < 0 ||
	    hostns_enter(s->policy, e) < 0 || open_dirs(s, e) < 0 || open_loop(s, e) < 0 ||
	    open_network(s, e) < 0)
		return -1;
	if (spawner_find_shims(&s->table, &s->found, e) < 0)
		return -1;
	spawner_find_leftovers(&s->table);
	/* Without a version there is no VMM to start; the supervisor is told at its HELLO. */
	spawner_start_probe(&s->start, &s->vmm);
	return caps_settle_spawner(s->policy, e);
}

/* Nobody listens on it any more, or ever has; the next supervisor makes its own. */
static void remove_control_socket(struct spawner *s)
{
	struct err e;
	if (s->run_fd < 0 && s->policy)
		s->run_fd = file_open_dir(s->policy->run_dir, &e);
	if (s->run_fd >= 0)
		unlinkat(s->run_fd, "control.sock", 0);
}

int spawner_run(void)
{
	static struct spawner s;
	struct err e;
	prctl(PR_SET_NAME, "cloister-spawn");
	if (prepare(&s, &e) == 0) {
		loop(&s);
	} else {
		log_error("%s", e.text);
		s.status = 1;
	}
	remove_control_socket(&s);
	spawner_net_close(&s.net, s.table.count > 0);
	return s.status;
}
