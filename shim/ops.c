// SPDX-License-Identifier: Apache-2.0
#include "ops.h"

#include "boot.h"
#include "connect.h"
#include "devices.h"
#include "ending.h"
#include "log.h"
#include "serve.h"
#include "snapshot.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Input that the guest has not read yet; beyond it a write is refused. */
#define INPUT_MAX (64u * 1024)

/* Records handled in one turn, so that a flood of them does not starve the VMM's streams. */
#define RECORDS_PER_TURN 32

#define PHASE(name) (1u << MSG_PHASE_##name)
#define ANY_PHASE   ((1u << MSG_PHASE_COUNT) - 1)
#define LIVE	    (PHASE(RUNNING) | PHASE(PAUSED))

static uint32_t since(int64_t start_us)
{
	int64_t us = clock_us() - start_us;
	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* A record that no honest supervisor sends: its channel is closed. Never reads s after that. */
static int refuse(struct shim *s, const struct err *e)
{
	uplink_close(s, e->text);
	return -1;
}

/* ------------------------------------------------------------------ hello, status */

static void send_exit(struct shim *s)
{
	struct err e;
	if (chan_send_exit(&s->link, 0, &s->exit, &e) < 0)
		uplink_close(s, e.text);
}

static enum msg_ending ending_of(const struct shim *s)
{
	switch (s->ending) {
	case SHIM_ENDING_NONE:
		return MSG_ENDING_NONE;
	case SHIM_ENDING_DESTROY:
		return MSG_ENDING_DESTROY;
	case SHIM_ENDING_HIBERNATE:
		return MSG_ENDING_HIBERNATE;
	default:
		return MSG_ENDING_OTHER;
	}
}

/* The request whose end is owed to the next supervisor, and what it asks for. */
static void tell_op(const struct shim *s, struct msg_status *out)
{
	enum msg_type op = s->op == MSG_NONE ? s->untold.op : s->op_id ? MSG_NONE : s->op;
	/* Of a VMM that is gone the exit tells. */
	if (s->ended && op != MSG_CREATE)
		return;
	out->op = op;
	if (op == MSG_CREATE)
		out->spec.wait = s->wait;
	if (op == MSG_BALLOON)
		out->asked_balloon_mib = s->asked.balloon_mib;
	if (op == MSG_RESIZE && s->asked.vcpus)
		out->asked_vcpus = s->asked.vcpus;
	else if (op == MSG_RESIZE)
		out->asked_memory_mib = s->spec.memory_mib + s->asked.plugged_mib;
	if (op == MSG_SNAPSHOT)
		snapshot_tell(s, out);
}

static void make_status(const struct shim *s, struct msg_status *out)
{
	*out = (struct msg_status){
		.phase = (uint32_t)s->phase,
		.uid = s->uid,
		.created_real_us = s->created_real_us,
		.console_end = s->console.end,
		.spec = s->spec,
		.created = s->created,
		.ending = (uint32_t)ending_of(s),
		.ending_ms = ending_left_ms(s),
	};
	str_copy(out->build, sizeof(out->build), CLOISTER_VERSION);
	if (s->phase == MSG_PHASE_NEW) {
		memset(&out->spec, 0, sizeof(out->spec));
		return;
	}
	if (!out->created.vmm_pid)
		memset(&out->created, 0, sizeof(out->created));
	tell_op(s, out);
}

static int on_hello(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_hello hello;
	static struct msg_status status;
	if (msg_read_hello(m, &hello, &e) < 0)
		return refuse(s, &e);
	make_status(s, &status);
	s->greeted = true;
	if (chan_send_status(&s->link, m->header.id, &status, &e) < 0)
		return refuse(s, &e);
	uplink_replay(s);
	/* The end of a start is its answer, and no exit of a guest. */
	if (s->ended && !s->start_failed)
		send_exit(s);
	return 0;
}

static int on_take(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_take body;
	if (msg_read_take(m, &body, &e) < 0)
		return refuse(s, &e);
	uplink_take(s, m->header.id, (enum msg_type)body.op);
	/* A start that failed has waited for this alone. */
	s->quit = s->quit || (s->start_failed && s->untold.op == MSG_NONE);
	return s->link.fd >= 0 ? 0 : -1;
}

/* ------------------------------------------------------------------ requests to CH */

/* Undoes a pause whose success came after its deadline: the supervisor was told that it failed. */
static void resume_late_pause(struct shim *s)
{
	struct err e;
	log_warning("vm.pause succeeded after its deadline; the guest is resumed");
	int64_t deadline = clock_us() + s->policy->deadline_ms[POLICY_DEADLINE_RESUME] * 1000ll;
	if (ch_api_send(&s->api, CH_API_RESUME, NULL, deadline, NULL, &e) < 0)
		ending_start(s, SHIM_ENDING_FAILED, 0);
}

/* The end of PAUSE, RESUME or POWER_BUTTON, whichever is in hand. */
static void finish_op(struct shim *s, enum ch_api_call call, const struct http_response *answer,
		      const struct err *why, enum msg_phase good, enum msg_phase bad)
{
	struct err e;
	enum msg_type op = s->op;
	s->op = MSG_NONE;
	int failed = answer ? ch_api_check(call, answer, &e) : -1;
	if (!answer)
		e = *why;
	if (s->phase < MSG_PHASE_ENDING)
		s->phase = failed ? bad : good;
	uplink_end_op(s, op, failed ? &e : NULL, since(s->op_started_us));
	if (!failed)
		return;
	/* A guest that neither runs nor is known to be paused is no use to anybody. */
	if (op == MSG_RESUME)
		ending_start(s, SHIM_ENDING_FAILED, 0);
}

static void on_paused(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err ignored;
	if (!late)
		finish_op(s, CH_API_PAUSE, answer, e, MSG_PHASE_PAUSED, MSG_PHASE_RUNNING);
	else if (s->phase == MSG_PHASE_RUNNING && ch_api_check(CH_API_PAUSE, answer, &ignored) == 0)
		resume_late_pause(s);
}

static void on_resumed(void *arg, const struct http_response *answer, bool late,
		       const struct err *e)
{
	if (!late)
		finish_op(arg, CH_API_RESUME, answer, e, MSG_PHASE_RUNNING, MSG_PHASE_ENDING);
}

static void on_power_button(void *arg, const struct http_response *answer, bool late,
			    const struct err *e)
{
	struct shim *s = arg;
	if (!late)
		finish_op(s, CH_API_POWER_BUTTON, answer, e, s->phase, s->phase);
}

static void busy(struct shim *s, uint32_t id)
{
	struct err e;
	err_set(&e, ERR_STATE, 0, "%s is still in hand; try again when it is done",
		msg_type_name(s->op));
	uplink_error(s, id, &e);
}

static int start_op(struct shim *s, const struct msg *m, enum ch_api_call call,
		    enum policy_deadline which, http_client_done_fn *done, enum msg_phase meanwhile)
{
	struct err e;
	if (s->op != MSG_NONE) {
		busy(s, m->header.id);
		return 0;
	}
	int64_t now = clock_us();
	s->op = (enum msg_type)m->header.type;
	s->op_id = m->header.id;
	s->untold.op = MSG_NONE;
	s->op_started_us = now;
	enum msg_phase before = s->phase;
	s->phase = meanwhile;
	if (ch_api_send(&s->api, call, NULL, now + s->policy->deadline_ms[which] * 1000ll, done,
			&e) < 0) {
		s->op = MSG_NONE;
		s->phase = before;
		uplink_error(s, m->header.id, &e);
	}
	return 0;
}

static int on_pause(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_pause body;
	if (msg_read_pause(m, &body, &e) < 0)
		return refuse(s, &e);
	return start_op(s, m, CH_API_PAUSE, POLICY_DEADLINE_PAUSE, on_paused, MSG_PHASE_PAUSING);
}

static int on_resume(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_resume body;
	if (msg_read_resume(m, &body, &e) < 0)
		return refuse(s, &e);
	return start_op(s, m, CH_API_RESUME, POLICY_DEADLINE_RESUME, on_resumed,
			MSG_PHASE_RESUMING);
}

static int on_power_button_record(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_power_button body;
	if (msg_read_power_button(m, &body, &e) < 0)
		return refuse(s, &e);
	return start_op(s, m, CH_API_POWER_BUTTON, POLICY_DEADLINE_POWER_BUTTON, on_power_button,
			s->phase);
}

static int on_snapshot_record(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_snapshot body;
	if (msg_read_snapshot(m, &body, &e) < 0)
		return refuse(s, &e);
	if (s->op != MSG_NONE)
		busy(s, m->header.id);
	else if (devices_check_set(s, &e) < 0)
		uplink_error(s, m->header.id, &e);
	else
		snapshot_start(s, m->header.id, &body);
	return 0;
}

static int on_balloon(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_balloon body;
	if (msg_read_balloon(m, &body, &e) < 0)
		return refuse(s, &e);
	if (s->op != MSG_NONE)
		busy(s, m->header.id);
	else
		devices_balloon(s, m->header.id, &body);
	return 0;
}

static int on_resize(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_resize body;
	if (msg_read_resize(m, &body, &e) < 0)
		return refuse(s, &e);
	if (s->op != MSG_NONE)
		busy(s, m->header.id);
	else
		devices_resize(s, m->header.id, &body);
	return 0;
}

static int on_counters(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_counters body;
	if (msg_read_counters(m, &body, &e) < 0)
		return refuse(s, &e);
	if (s->op != MSG_NONE)
		busy(s, m->header.id);
	else
		devices_counters(s, m->header.id);
	return 0;
}

static int on_connect(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_connect body;
	if (msg_read_connect(m, &body, &e) < 0)
		return refuse(s, &e);
	connect_start(s, m->header.id, &body);
	return 0;
}

/* ------------------------------------------------------------------ the end */

static int on_kill(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_kill body;
	if (msg_read_kill(m, &body, &e) < 0)
		return refuse(s, &e);
	if (s->phase == MSG_PHASE_NEW || s->start_failed) {
		s->quit = true;
	} else if (s->op == MSG_CREATE) {
		err_set(&e, ERR_STATE, 0, "destroyed while it was being created");
		boot_fail(s, &e);
	} else if (!s->ended) {
		ending_start(s, SHIM_ENDING_DESTROY, body.grace_ms);
	}
	uplink_done(s, m->header.id, 0, 0);
	return 0;
}

static int on_exit_ack(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_exit_ack body;
	if (msg_read_exit_ack(m, &body, &e) < 0)
		return refuse(s, &e);
	s->quit = true;
	return 0;
}

/* ------------------------------------------------------------------ console */

/* One reply at a time is built here; it is too large for a small stack. */
static struct msg_console_data console_reply;

static void send_console(struct shim *s, uint32_t id, uint64_t offset, bool tail)
{
	struct err e;
	console_read(&s->console, offset, tail, &console_reply);
	console_reply.eof =
		s->ended && console_reply.offset + console_reply.length == console_reply.end;
	if (chan_send_console_data(&s->link, id, &console_reply, &e) < 0)
		uplink_close(s, e.text);
	else
		serve_watch_link(s);
}

void ops_console_grew(struct shim *s)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < s->waiter_count; i++) {
		if (s->ended || s->console.end > s->waiters[i].offset)
			send_console(s, s->waiters[i].id, s->waiters[i].offset, false);
		else
			s->waiters[kept++] = s->waiters[i];
	}
	/* A reply that could not be sent has closed the link, and with it all waiting. */
	s->waiter_count = s->link.fd >= 0 ? kept : 0;
}

static int on_console_read(struct shim *s, const struct msg *m)
{
	struct err e;
	struct msg_console_read body;
	if (msg_read_console_read(m, &body, &e) < 0)
		return refuse(s, &e);
	bool nothing_yet = !body.tail && body.offset >= s->console.end && !s->ended;
	if (!body.wait || !nothing_yet) {
		send_console(s, m->header.id, body.offset, body.tail != 0);
		return 0;
	}
	if (s->waiter_count == SHIM_WAITERS) {
		err_set(&e, ERR_QUOTA, 0, "%u readers wait for this console already", SHIM_WAITERS);
		uplink_error(s, m->header.id, &e);
		return 0;
	}
	s->waiters[s->waiter_count].id = m->header.id;
	s->waiters[s->waiter_count++].offset = body.offset;
	return 0;
}

void ops_flush_input(struct shim *s)
{
	size_t done = 0;
	while (done < s->input_used) {
		ssize_t n = write(s->jail.pty_master, s->input + done, s->input_used - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	s->input_used -= done;
	if (s->input_used == 0) {
		free(s->input);
		s->input = NULL;
		/* Unwatched while idle: a VMM that closes its end would wake us for ever. */
		serve_unwatch(s, s->jail.pty_master);
		return;
	}
	memmove(s->input, s->input + done, s->input_used);
	serve_watch(s, s->jail.pty_master, SHIM_PTY, false, true);
}

static int on_console_write(struct shim *s, const struct msg *m)
{
	static struct msg_console_write body;
	struct err e;
	if (msg_read_console_write(m, &body, &e) < 0)
		return refuse(s, &e);
	size_t room = INPUT_MAX - s->input_used;
	size_t take = body.length < room ? body.length : room;
	char *grown = take ? realloc(s->input, s->input_used + take) : NULL;
	if (!grown) {
		err_set(&e, ERR_UNAVAILABLE, 0,
			"the guest has not read %zu bytes of earlier console input; try again "
			"later",
			s->input_used);
		uplink_error(s, m->header.id, &e);
		return 0;
	}
	memcpy(grown + s->input_used, body.data, take);
	s->input = grown;
	s->input_used += take;
	ops_flush_input(s);
	uplink_done(s, m->header.id, 0, (uint32_t)take);
	return 0;
}

/* ------------------------------------------------------------------ the table */

static const struct {
	enum msg_type type;
	unsigned phases;
	int (*handler)(struct shim *s, const struct msg *m); /* -1: the link is closed */
} table[] = {
	{MSG_HELLO, ANY_PHASE, on_hello},
	{MSG_TAKE, ANY_PHASE, on_take},
	{MSG_PAUSE, PHASE(RUNNING), on_pause},
	{MSG_RESUME, PHASE(PAUSED), on_resume},
	{MSG_POWER_BUTTON, LIVE, on_power_button_record},
	{MSG_SNAPSHOT, LIVE, on_snapshot_record},
	{MSG_BALLOON, LIVE, on_balloon},
	{MSG_RESIZE, LIVE, on_resize},
	{MSG_COUNTERS, LIVE, on_counters},
	{MSG_CONNECT, PHASE(RUNNING), on_connect},
	{MSG_KILL, ANY_PHASE, on_kill},
	{MSG_CONSOLE_READ, ANY_PHASE & ~PHASE(NEW), on_console_read},
	{MSG_CONSOLE_WRITE, LIVE, on_console_write},
	{MSG_EXIT_ACK, PHASE(ENDED), on_exit_ack},
};

static void wrong_phase(struct shim *s, const struct msg *m)
{
	struct err e;
	err_set(&e, ERR_STATE, 0, "%s is not possible while the sandbox is %s",
		msg_type_name(m->header.type), msg_phase_name(s->phase));
	uplink_error(s, m->header.id, &e);
}

static int dispatch(struct shim *s, const struct msg *m)
{
	struct err e;
	if (!s->greeted && m->header.type != MSG_HELLO) {
		err_set(&e, ERR_PROTOCOL, 0, "%s record before HELLO",
			msg_type_name(m->header.type));
		return refuse(s, &e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].type != (enum msg_type)m->header.type)
			continue;
		/* What is answered has a number; EXIT_ACK is not answered and has none. */
		if ((m->header.id == 0) != (m->header.type == MSG_EXIT_ACK)) {
			err_set(&e, ERR_PROTOCOL, 0, "%s record numbered %u",
				msg_type_name(m->header.type), m->header.id);
			return refuse(s, &e);
		}
		if (table[i].phases & (1u << s->phase))
			return table[i].handler(s, m);
		wrong_phase(s, m);
		return s->link.fd >= 0 ? 0 : -1;
	}
	err_set(&e, ERR_PROTOCOL, 0, "%s record is out of turn", msg_type_name(m->header.type));
	return refuse(s, &e);
}

void ops_receive(struct shim *s)
{
	static struct msg m;
	struct err e = {0};
	for (int i = 0; i < RECORDS_PER_TURN && s->link.fd >= 0; i++) {
		switch (msg_recv(s->link.fd, &m, &e)) {
		case MSG_GOT:
			dispatch(s, &m);
			/* No request to a shim carries descriptors; if one did, it goes. */
			msg_close_fds(&m);
			break;
		case MSG_AGAIN:
			return;
		case MSG_EOF:
			uplink_close(s, "the supervisor has gone");
			return;
		case MSG_OTHER_VERSION:
			msg_send_version_error(s->link.fd, &m.header, &e);
			uplink_close(s, e.text);
			return;
		case MSG_BAD:
			uplink_close(s, e.text);
			return;
		}
	}
}
