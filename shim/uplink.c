// SPDX-License-Identifier: Apache-2.0
#include "uplink.h"

#include "connect.h"
#include "file.h"
#include "log.h"
#include "ops.h"
#include "output.h"
#include "serve.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define QUEUE_MAX  (512u * 1024)
#define DEAD_TURNS 64 /* more than a socket's queue holds */

/* Connections that wait: of supervisors that came and went while the shim was stopped, say. */
#define BACKLOG 128

/*
 * Bound in RUN_DIR/new, where nobody but root can put anything in its way, under a short name
 * (sun_path has 108 bytes), given its owner there, and only then moved to its place.
 */
static int bind_and_move(int listener, const struct policy *policy, const char *key, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char final[NAME_KEY_SIZE + 16];
	CLEANUP_FD int run = file_open_dir(policy->run_dir, e);
	if (run < 0)
		return -1;
	CLEANUP_FD int fresh =
		file_open_beneath(run, "new", O_PATH | O_DIRECTORY, 0, "directory", e);
	CLEANUP_FD int shims =
		file_open_beneath(run, "shims", O_PATH | O_DIRECTORY, 0, "directory", e);
	if (fresh < 0 || shims < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%d", (int)getpid());
	snprintf(final, sizeof(final), "%s.sock", key);
	/* A shim that had our pid and died between bind and move may have left one. */
	if (unlinkat(fresh, address.sun_path, 0) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove a stale socket");
	if (fchdir(fresh) < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(fresh, address.sun_path, 0600, 0) < 0 ||
	    fchownat(fresh, address.sun_path, policy->user_uid, policy->user_gid,
		     AT_SYMLINK_NOFOLLOW) < 0 ||
	    listen(listener, BACKLOG) < 0)
		return err_errno(e, errno, "set up the shim's socket");
	if (renameat(fresh, address.sun_path, shims, final) < 0) {
		err_errno(e, errno, "put the shim's socket at shims/%s", final);
		unlinkat(fresh, address.sun_path, 0);
		return -1;
	}
	return chdir("/") < 0 ? err_errno(e, errno, "enter the root directory") : 0;
}

int uplink_listen(const struct policy *policy, const char *key, int *listener, struct err *e)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "make the shim's socket");
	if (bind_and_move(fd, policy, key, e) < 0)
		return -1;
	*listener = fd_take(&fd);
	return 0;
}

/* Logging leaves half of the queue to answers. */
static bool has_room(const struct shim *s)
{
	return s->link.queued_bytes < QUEUE_MAX / 2;
}

static bool send_log(struct shim *s, enum log_level level, const char *line)
{
	struct err e;
	struct msg_log record = {.level = (uint32_t)level, .dropped = s->logs_dropped};
	snprintf(record.text, sizeof(record.text), "%s", line);
	if (chan_send_log(&s->link, 0, &record, &e) < 0)
		return false;
	s->logs_dropped = 0;
	return true;
}

static void keep_log(struct shim *s, enum log_level level, const char *line)
{
	struct shim_log *one = &s->logs[s->log_next];
	if (s->log_count == SHIM_LOGS)
		s->logs_dropped++;
	else
		s->log_count++;
	one->level = level;
	snprintf(one->text, sizeof(one->text), "%s", line);
	s->log_next = (s->log_next + 1) % SHIM_LOGS;
}

static void log_sink(void *arg, enum log_level level, const char *line)
{
	struct shim *s = arg;
	/* A link that cannot be written to is about to be closed: the next one has it. */
	if (s->link.fd >= 0 && !has_room(s))
		s->logs_dropped++;
	else if (s->link.fd < 0 || !send_log(s, level, line))
		keep_log(s, level, line);
}

void uplink_replay(struct shim *s)
{
	for (unsigned n = s->log_count; n > 0 && s->link.fd >= 0; n--) {
		const struct shim_log *one = &s->logs[(s->log_next + SHIM_LOGS - n) % SHIM_LOGS];
		if (!has_room(s) || !send_log(s, one->level, one->text))
			s->logs_dropped++;
	}
	s->log_count = 0;
	for (unsigned what = 0; what < MSG_EVENT_WHAT_COUNT; what++)
		if (s->untold_events[what])
			output_tell(s, (enum msg_event_what)what, s->untold_events[what]);
}

void uplink_take_logs(struct shim *s)
{
	log_set_sink(log_sink, s);
}

void uplink_close(struct shim *s, const char *why)
{
	struct err ignored;
	if (s->link.fd < 0)
		return;
	/* First, and at once: the link is the only way that a log line has. */
	log_warning("link to the supervisor closed: %s", why);
	chan_flush(&s->link, &ignored);
	serve_unwatch(s, s->link.fd);
	chan_close(&s->link);
	s->greeted = false;
	s->waiter_count = 0;
	connect_drop(s);
	/* The next supervisor did not ask for what is in hand: its answer goes to nobody. */
	s->op_id = 0;
}

static void report(struct shim *s, int sent, const struct err *e)
{
	if (sent < 0)
		uplink_close(s, e->text);
	else
		serve_watch_link(s);
}

void uplink_done(struct shim *s, uint32_t id, uint32_t took_us, uint32_t value)
{
	struct err e = {0};
	struct msg_done body = {.took_us = took_us, .value = value};
	if (id == 0)
		return;
	report(s, chan_send_done(&s->link, id, &body, &e), &e);
}

void uplink_error(struct shim *s, uint32_t id, const struct err *why)
{
	struct err e = {0};
	if (id == 0)
		return;
	report(s, chan_send_err(&s->link, id, why, &e), &e);
}

static int send_end(struct shim *s, uint32_t id, enum msg_type op, const struct err *why,
		    uint32_t took_us, struct err *e)
{
	const struct msg_done done = {.took_us = took_us};
	if (why)
		return chan_send_err(&s->link, id, why, e);
	if (op == MSG_CREATE)
		return chan_send_created(&s->link, id, &s->created, e);
	if (op == MSG_SNAPSHOT)
		return chan_send_snapshotted(&s->link, id, &s->snapshot.result, e);
	return chan_send_done(&s->link, id, &done, e);
}

void uplink_end_op(struct shim *s, enum msg_type op, const struct err *why, uint32_t took_us)
{
	struct err e = {0};
	int sent = s->op_id ? send_end(s, s->op_id, op, why, took_us, &e) : -1;
	if (sent < 0) {
		s->untold = (struct shim_untold){
			.op = op,
			.failed = why != NULL,
			.why = why ? *why : (struct err){0},
			.took_us = took_us,
		};
		log_info("%s is over%s%s; who asked for it is gone", msg_type_name(op),
			 why ? ": " : "", why ? why->text : "");
	}
	if (s->op_id)
		report(s, sent, &e);
}

void uplink_take(struct shim *s, uint32_t id, enum msg_type op)
{
	struct err e = {0};
	struct shim_untold *u = &s->untold;
	if (s->op == op && s->op_id == 0) {
		s->op_id = id;
	} else if (u->op == op) {
		int sent = send_end(s, id, op, u->failed ? &u->why : NULL, u->took_us, &e);
		if (sent == 0)
			u->op = MSG_NONE;
		report(s, sent, &e);
	} else {
		err_set(&e, ERR_STATE, 0, "no %s of an earlier supervisor is in hand",
			msg_type_name(op));
		uplink_error(s, id, &e);
	}
}

/*
 * The supervisor before may be gone without our having read its end yet: what it had still sent is
 * handled first, as if it had come in time.
 */
static void settle_dead(struct shim *s)
{
	struct pollfd p = {.fd = s->link.fd};
	if (s->link.fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & (POLLHUP | POLLERR)))
		return;
	for (int turns = 0; turns < DEAD_TURNS && s->link.fd >= 0; turns++)
		ops_receive(s);
	uplink_close(s, "the supervisor has gone");
}

void uplink_accept(struct shim *s)
{
	CLEANUP_FD int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return;
	/* Root connects only to learn our pid from the socket (the spawner does). */
	if (peer.uid != s->policy->user_uid) {
		if (peer.uid != 0)
			log_warning("connection of uid %u turned away", peer.uid);
		return;
	}
	settle_dead(s);
	if (s->link.fd >= 0) {
		log_warning("a second supervisor was turned away: one link at a time");
		return;
	}
	chan_open(&s->link, fd_take(&fd), QUEUE_MAX);
	s->greeted = false;
	serve_watch_link(s);
}

void uplink_drain(struct shim *s, int timeout_ms)
{
	int64_t end = clock_us() + timeout_ms * 1000ll;
	struct err e;
	while (s->link.fd >= 0 && chan_wants_write(&s->link)) {
		struct pollfd p = {.fd = s->link.fd, .events = POLLOUT};
		int64_t left = end - clock_us();
		if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) <= 0 ||
		    chan_flush(&s->link, &e) < 0)
			return;
	}
}
