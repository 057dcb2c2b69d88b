// SPDX-License-Identifier: Apache-2.0
#include "devices.h"

#include "counters.h"
#include "log.h"
#include "serve.h"
#include "uplink.h"
#include "util.h"

#include <string.h>

/* The one that is in hand: there is only one request at a time. */
static struct msg_counters_data data;

static uint32_t since(int64_t start_us)
{
	int64_t us = clock_us() - start_us;
	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int64_t deadline(const struct shim *s)
{
	return clock_us() + s->policy->deadline_ms[POLICY_DEADLINE_RESUME] * 1000ll;
}

static void begin(struct shim *s, enum msg_type op, uint32_t id)
{
	s->op = op;
	s->op_id = id;
	s->untold.op = MSG_NONE;
	memset(&s->asked, 0, sizeof(s->asked));
	s->op_started_us = clock_us();
}

static void fail(struct shim *s, const struct err *why)
{
	enum msg_type op = s->op;
	s->op = MSG_NONE;
	/* Of counters nobody wants to hear later. */
	if (op != MSG_COUNTERS)
		uplink_end_op(s, op, why, 0);
	else
		uplink_error(s, s->op_id, why);
}

/* The answer to a request that could not even be sent, and took nothing in hand. */
static void check_sent(struct shim *s, int sent, const struct err *e)
{
	if (sent < 0)
		fail(s, e);
}

/* The end of a change that is in hand: true when CH took it. */
static bool finish(struct shim *s, enum ch_api_call call, const struct http_response *answer,
		   const struct err *why)
{
	struct err e;
	if (!answer) {
		fail(s, why);
		return false;
	}
	if (ch_api_check(call, answer, &e) < 0) {
		fail(s, &e);
		return false;
	}
	s->op = MSG_NONE;
	return true;
}

/*
 * A change that CH made after its deadline, when the supervisor had been told that it failed, is
 * undone; unless one of the same kind is in hand, which comes after it anyway.
 */
static bool is_to_be_undone(const struct shim *s, enum msg_type op, enum ch_api_call call,
			    const struct http_response *answer)
{
	struct err ignored;
	if (!answer || ch_api_check(call, answer, &ignored) < 0 || s->op == op ||
	    s->phase >= MSG_PHASE_ENDING)
		return false;
	log_warning("%s succeeded after its deadline; it is undone", ch_api_name(call));
	return true;
}

static void check_undone(int sent, const struct err *e)
{
	if (sent < 0)
		log_error("%s", e->text);
}

/* ------------------------------------------------------------------ balloon */

static void on_balloon(void *arg, const struct http_response *answer, bool late,
		       const struct err *why)
{
	struct shim *s = arg;
	struct err e;
	if (late) {
		if (is_to_be_undone(s, MSG_BALLOON, CH_API_RESIZE, answer))
			check_undone(ch_api_send_balloon(&s->api, s->spec.balloon_mib, deadline(s),
							 NULL, &e),
				     &e);
	} else if (s->op == MSG_BALLOON && finish(s, CH_API_RESIZE, answer, why)) {
		s->spec.balloon_mib = s->asked.balloon_mib;
		uplink_end_op(s, MSG_BALLOON, NULL, since(s->op_started_us));
	}
}

void devices_balloon(struct shim *s, uint32_t id, const struct msg_balloon *ask)
{
	struct err e;
	uint32_t most = s->spec.memory_mib - MSG_BALLOON_LEAVES_MIB;
	begin(s, MSG_BALLOON, id);
	s->asked.balloon_mib = ask->target_mib;
	if (!(s->spec.flags & MSG_CREATE_BALLOON))
		err_set(&e, ERR_STATE, 0, "balloon: it was created without one");
	else if (s->spec.restore == MSG_RESTORE_MAP)
		err_set(&e, ERR_STATE, 0,
			"balloon: its memory is mapped from its template, a balloon would give "
			"nothing back; create it with memory_restore copy");
	else if (ask->target_mib > most)
		err_set(&e, ERR_INVALID, 0, "target_mib: %u is not allowed; must be 0 to %u",
			ask->target_mib, most);
	else if (ch_api_send_balloon(&s->api, ask->target_mib, deadline(s), on_balloon, &e) == 0)
		return;
	fail(s, &e);
}

/* ------------------------------------------------------------------ resize */

static void on_vcpus(void *arg, const struct http_response *answer, bool late,
		     const struct err *why)
{
	struct shim *s = arg;
	struct err e;
	if (late) {
		if (is_to_be_undone(s, MSG_RESIZE, CH_API_RESIZE, answer))
			check_undone(
				ch_api_send_vcpus(&s->api, s->spec.vcpus, deadline(s), NULL, &e),
				&e);
	} else if (s->op == MSG_RESIZE && finish(s, CH_API_RESIZE, answer, why)) {
		if (s->asked.vcpus < s->spec.vcpus)
			s->spec.flags |= MSG_CREATE_HOTPLUG;
		s->spec.vcpus = s->asked.vcpus;
		uplink_end_op(s, MSG_RESIZE, NULL, since(s->op_started_us));
	}
}

static void on_memory(void *arg, const struct http_response *answer, bool late,
		      const struct err *why)
{
	struct shim *s = arg;
	struct err e;
	if (late) {
		uint32_t mib = s->spec.memory_mib + s->spec.plugged_mib;
		if (is_to_be_undone(s, MSG_RESIZE, CH_API_RESIZE_ZONE, answer))
			check_undone(ch_api_send_memory(&s->api, mib, deadline(s), NULL, &e), &e);
		return;
	}
	if (s->op != MSG_RESIZE)
		return;
	/* Of what is not answered in time nobody knows whether the guest plugs it yet. */
	if (s->asked.plugged_mib && !(answer && answer->status >= 300))
		s->spec.flags |= MSG_CREATE_HOTPLUG;
	if (finish(s, CH_API_RESIZE_ZONE, answer, why)) {
		s->spec.plugged_mib = s->asked.plugged_mib;
		uplink_end_op(s, MSG_RESIZE, NULL, since(s->op_started_us));
	}
}

static int check_resize(const struct msg_create *spec, const struct msg_resize *ask, struct err *e)
{
	if (ask->vcpus > spec->max_vcpus)
		return err_set(e, ERR_INVALID, 0, "vcpus: %u is not allowed; must be 1 to %u",
			       ask->vcpus, spec->max_vcpus);
	if (ask->vcpus)
		return 0;
	if (spec->max_memory_mib == spec->memory_mib)
		return err_set(e, ERR_STATE, 0,
			       "memory_mib: it was created without a max_memory_mib above its "
			       "memory_mib");
	if (ask->memory_mib < spec->memory_mib || ask->memory_mib > spec->max_memory_mib ||
	    (ask->memory_mib - spec->memory_mib) % MSG_PLUG_MIB)
		return err_set(e, ERR_INVALID, 0,
			       "memory_mib: %u is not allowed; must be %u to %u, in steps of %d",
			       ask->memory_mib, spec->memory_mib, spec->max_memory_mib,
			       MSG_PLUG_MIB);
	return 0;
}

void devices_resize(struct shim *s, uint32_t id, const struct msg_resize *ask)
{
	struct err e;
	begin(s, MSG_RESIZE, id);
	if (check_resize(&s->spec, ask, &e) < 0) {
		fail(s, &e);
	} else if (ask->vcpus) {
		s->asked.vcpus = ask->vcpus;
		check_sent(s, ch_api_send_vcpus(&s->api, ask->vcpus, deadline(s), on_vcpus, &e),
			   &e);
	} else {
		s->asked.plugged_mib = ask->memory_mib - s->spec.memory_mib;
		check_sent(s,
			   ch_api_send_memory(&s->api, ask->memory_mib, deadline(s), on_memory, &e),
			   &e);
	}
}

int devices_check_set(const struct shim *s, struct err *e)
{
	if (!(s->spec.flags & MSG_CREATE_HOTPLUG))
		return 0;
	return err_set(e, ERR_STATE, 0,
		       "its memory was grown, or vCPUs were taken away, since it was started: what "
		       "its guest made of that cannot be kept in a set");
}

/* ------------------------------------------------------------------ counters */

static void on_info(void *arg, const struct http_response *answer, bool late, const struct err *why)
{
	struct shim *s = arg;
	struct err e;
	if (late || s->op != MSG_COUNTERS)
		return;
	if (!answer || ch_api_read_actual(answer, &data.memory_actual_bytes, &e) < 0) {
		fail(s, answer ? &e : why);
		return;
	}
	s->op = MSG_NONE;
	if (s->op_id == 0)
		return;
	if (chan_send_counters_data(&s->link, s->op_id, &data, &e) < 0)
		uplink_close(s, e.text);
	else
		serve_watch_link(s);
}

static void on_counters(void *arg, const struct http_response *answer, bool late,
			const struct err *why)
{
	struct shim *s = arg;
	struct err e;
	if (late || s->op != MSG_COUNTERS)
		return;
	if (!answer)
		fail(s, why);
	else if (ch_api_check(CH_API_COUNTERS, answer, &e) < 0 ||
		 counters_parse(answer->body, answer->body_length, &data, &e) < 0)
		fail(s, &e);
	else
		check_sent(s, ch_api_send(&s->api, CH_API_INFO, NULL, deadline(s), on_info, &e),
			   &e);
}

void devices_counters(struct shim *s, uint32_t id)
{
	struct err e;
	begin(s, MSG_COUNTERS, id);
	memset(&data, 0, sizeof(data));
	check_sent(s, ch_api_send(&s->api, CH_API_COUNTERS, NULL, deadline(s), on_counters, &e),
		   &e);
}
