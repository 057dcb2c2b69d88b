// SPDX-License-Identifier: Apache-2.0
#include "serve.h"

#include "announce.h"
#include "boot.h"
#include "connect.h"
#include "ending.h"
#include "log.h"
#include "ops.h"
#include "output.h"
#include "snapshot.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LINK_QUEUE_MAX (512u * 1024)
#define DRAIN_MS       2000
#define MAX_EVENTS     8

/* ------------------------------------------------------------------ watching */

void serve_watch(struct shim *s, int fd, enum shim_source source, bool read, bool write)
{
	struct epoll_event ev = {
		.events = (read ? (uint32_t)EPOLLIN : 0) | (write ? (uint32_t)EPOLLOUT : 0),
		.data.u32 = (uint32_t)source,
	};
	if (fd < 0 || s->epoll_fd < 0)
		return;
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT &&
	    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		log_error("descriptor %d cannot be watched: %s", fd, strerrordesc_np(errno));
}

void serve_unwatch(struct shim *s, int fd)
{
	/* ENOENT: it was not watched, which is what is wanted. */
	if (fd >= 0 && s->epoll_fd >= 0)
		epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void serve_watch_link(struct shim *s)
{
	if (s->link.fd >= 0)
		serve_watch(s, s->link.fd, SHIM_LINK, true, chan_wants_write(&s->link));
}

static void watch_all(struct shim *s)
{
	serve_watch_link(s);
	serve_watch(s, s->listener, SHIM_LISTENER, true, false);
	serve_watch(s, s->vmm.pidfd, SHIM_PIDFD, true, false);
	serve_watch(s, s->out_fd, SHIM_STDOUT, true, false);
	serve_watch(s, s->err_fd, SHIM_STDERR, true, false);
	serve_watch(s, s->event_fd, SHIM_EVENTS, true, false);
	serve_watch(s, s->api.fd, SHIM_API, true, http_client_wants_write(&s->api));
}

/* ------------------------------------------------------------------ the loop */

static void link_ready(struct shim *s, uint32_t events)
{
	struct err e;
	if ((events & EPOLLOUT) && chan_flush(&s->link, &e) < 0) {
		uplink_close(s, e.text);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		ops_receive(s);
	serve_watch_link(s);
}

static void handle(struct shim *s, enum shim_source source, uint32_t events)
{
	switch (source) {
	case SHIM_LINK:
		link_ready(s, events);
		break;
	case SHIM_LISTENER:
		uplink_accept(s);
		break;
	case SHIM_API:
		if (events & EPOLLOUT)
			http_client_flush(&s->api);
		http_client_receive(&s->api);
		break;
	case SHIM_PIDFD:
		ending_reap(s);
		break;
	case SHIM_STDOUT:
		output_stdout(s);
		break;
	case SHIM_STDERR:
		output_stderr(s);
		break;
	case SHIM_EVENTS:
		output_events(s);
		break;
	case SHIM_PTY:
		ops_flush_input(s);
		break;
	case SHIM_READY:
	case SHIM_CONNECT:
	case SHIM_ANNOUNCE:
		/* Their steps are taken in run_timers(), after every wake-up. */
		break;
	case SHIM_SOURCE_COUNT:
		break;
	}
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Does what is due, and gives the milliseconds until something will be; -1: nothing. */
static int run_timers(struct shim *s)
{
	int64_t now = clock_us();
	http_client_expire(&s->api, now);
	ending_step(s, now);
	int64_t next = boot_check(s, now);
	next = earlier(next, boot_await(s, now));
	next = earlier(next, connect_step(s, now));
	next = earlier(next, announce_step(s, now));
	next = earlier(next, snapshot_step(s, now));
	next = earlier(next, output_renew_budgets(s, now));
	next = earlier(next, http_client_next_deadline(&s->api));
	next = earlier(next, s->ending_next_us);
	if (next == INT64_MAX)
		return -1;
	int64_t ms = (next - now + 999) / 1000;
	return ms < 0 ? 0 : ms > 1000000 ? 1000000 : (int)ms;
}

static void loop(struct shim *s)
{
	struct epoll_event events[MAX_EVENTS];
	while (!s->quit) {
		int timeout = run_timers(s);
		if (s->quit)
			break;
		serve_watch_link(s);
		if (s->api.fd >= 0)
			serve_watch(s, s->api.fd, SHIM_API, true, http_client_wants_write(&s->api));
		int n = epoll_wait(s->epoll_fd, events, MAX_EVENTS, timeout);
		if (n < 0 && errno != EINTR) {
			log_error("epoll_wait: %s", strerrordesc_np(errno));
			break;
		}
		/* The VMM's end is looked at last, so that what it said before is read first. */
		for (int pass = 0; pass < 2; pass++)
			for (int i = 0; i < n && !s->quit; i++)
				if ((events[i].data.u32 == SHIM_PIDFD) == (pass == 1))
					handle(s, events[i].data.u32, events[i].events);
	}
}

/* ------------------------------------------------------------------ start */

/* The first record: CREATE. Nothing else is due, and it must come before the create's deadline. */
static int await_create(struct shim *s, struct err *e)
{
	static struct msg m;
	int64_t end = s->started_us + s->policy->deadline_ms[POLICY_DEADLINE_CREATE] * 1000ll;
	for (;;) {
		struct pollfd p = {.fd = s->link.fd, .events = POLLIN};
		int64_t left = end - clock_us();
		if (left <= 0)
			return err_set(e, ERR_DEADLINE, 0, "no CREATE came from the supervisor");
		if (poll(&p, 1, (int)(left / 1000) + 1) < 0 && errno != EINTR)
			return err_errno(e, errno, "wait for CREATE");
		enum msg_result got = msg_recv(s->link.fd, &m, e);
		if (got == MSG_AGAIN)
			continue;
		if (got == MSG_EOF)
			return err_set(e, ERR_UNAVAILABLE, 0, "the supervisor has gone");
		if (got == MSG_OTHER_VERSION)
			msg_send_version_error(s->link.fd, &m.header, e);
		if (got != MSG_GOT)
			return -1;
		break;
	}
	msg_close_fds(&m);
	if (m.header.id == 0)
		return err_set(e, ERR_PROTOCOL, 0, "CREATE record without a number");
	if (msg_read_create(&m, &s->spec, e) < 0)
		return -1;
	s->op = MSG_CREATE;
	s->op_id = m.header.id;
	/* It is no part of what the guest is, which sets and STATUS tell. */
	s->wait = s->spec.wait;
	memset(&s->spec.wait, 0, sizeof(s->spec.wait));
	if (s->wait.kind == MSG_WAIT_CONSOLE)
		console_look_for(&s->console, s->wait.text);
	return 0;
}

static int prepare(struct shim *s, const char *key, uid_t uid, struct err *e)
{
	*s = (struct shim){
		.uid = uid,
		.started_us = clock_us(),
		.created_real_us = clock_real_us(),
		.link = {.fd = -1},
		.listener = -1,
		.jail = JAIL_INIT,
		.vmm = {.pid = -1, .pidfd = -1, .death_pipe = -1},
		.api = {.fd = -1, .broken = true},
		.cgroup_fd = -1,
		.sandbox_fd = -1,
		.snapshot = {.staging = SETS_STAGING_INIT, .from_fd = -1, .to_fd = -1},
		.wake_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.event_fd = -1,
		.ending_next_us = INT64_MAX,
		.ready = READY_INIT,
		.announce = {.conn = VSOCK_CONN_INIT},
		.epoll_fd = -1,
		.greeted = true, /* the spawner made this link: no HELLO is needed */
	};
	disks_init(&s->disks);
	s->slot.host_ns = s->slot.tap_fd = -1;
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		s->snapshot.disk_fd[i] = -1;
	if (!name_key_is_valid(key) || !str_copy(s->key, sizeof(s->key), key))
		return err_set(e, ERR_INVALID, 0, "\"%s\" is not a TENANT:ID key", key);
	/* Nothing else was handed over; if it was, it goes before anything is built. */
	if (close_range(SERVE_UID_FD + 1, ~0u, 0) < 0)
		return err_errno(e, errno, "close descriptors");
	s->policy = policy_map(SERVE_POLICY_FD, e);
	if (!s->policy)
		return -1;
	chan_open(&s->link, SERVE_LINK_FD, LINK_QUEUE_MAX);
	signal(SIGPIPE, SIG_IGN);
	s->reboot_times = calloc(s->policy->reboots + 1ul, sizeof(*s->reboot_times));
	if (!s->reboot_times)
		return err_errno(e, ENOMEM, "remember reboots");
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return err_errno(e, errno, "make an epoll instance");
	return console_open(&s->console, s->policy->console_bytes, e);
}

static int finish(struct shim *s, int status)
{
	launch_kill(&s->vmm, DRAIN_MS);
	boot_clear(s);
	uplink_drain(s, DRAIN_MS);
	connect_drop(s);
	chan_close(&s->link);
	log_set_sink(NULL, NULL);
	ready_close(&s->ready);
	announce_close(s);
	http_client_close(&s->api);
	console_close(&s->console);
	fd_close(&s->listener);
	fd_close(&s->cgroup_fd);
	snapshot_abandon(s);
	fd_close(&s->sandbox_fd);
	fd_close(&s->wake_fd);
	disks_close(&s->disks);
	slot_close(&s->slot);
	jail_close(&s->jail);
	fd_close(&s->out_fd);
	fd_close(&s->err_fd);
	fd_close(&s->event_fd);
	fd_close(&s->epoll_fd);
	free(s->reboot_times);
	free(s->input);
	return status;
}

int serve_run(const char *key, uid_t uid)
{
	static struct shim s;
	struct err e;
	if (prepare(&s, key, uid, &e) < 0) {
		log_error("%s", e.text);
		return 1;
	}
	uplink_take_logs(&s);
	if (await_create(&s, &e) < 0) {
		log_error("%s", e.text);
		return finish(&s, 1);
	}
	if (uplink_listen(s.policy, s.key, &s.listener, &e) < 0 || boot_start(&s, &e) < 0) {
		boot_fail(&s, &e);
		return finish(&s, 1);
	}
	s.serving = true;
	watch_all(&s);
	loop(&s);
	return finish(&s, s.ending == SHIM_ENDING_FAILED);
}
