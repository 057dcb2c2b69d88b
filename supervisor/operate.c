// SPDX-License-Identifier: Apache-2.0
#include "operate.h"

#include "daemon.h"
#include "log.h"
#include "teardown.h"
#include "util.h"

#define ANSWER_MARGIN_MS 2000 /* the shim keeps the deadline itself; this is for its answer */

static const char *const op_names[] = {
	[SANDBOX_OP_NONE] = "nothing",
	[SANDBOX_OP_CREATE] = "create",
	[SANDBOX_OP_PAUSE] = "pause",
	[SANDBOX_OP_RESUME] = "resume",
	[SANDBOX_OP_POWER_BUTTON] = "power-button",
	[SANDBOX_OP_SNAPSHOT] = "snapshot",
	[SANDBOX_OP_HIBERNATE] = "hibernate",
	[SANDBOX_OP_WAKE] = "wake",
	[SANDBOX_OP_BALLOON] = "balloon",
	[SANDBOX_OP_RESIZE] = "resize",
	[SANDBOX_OP_COUNTERS] = "counters",
};

int operate_check(const struct sandbox *sb, enum state_event event, const char *what, struct err *e)
{
	struct state_step step;
	char allowed[160];
	if (!state_step(sb->state, event, &step)) {
		state_allowed_text(event, allowed, sizeof(allowed));
		return err_set(e, ERR_STATE, 0, "%s: it is %s, must be %s", what,
			       state_name(sb->state), allowed);
	}
	if (!sb->link || sb->exit)
		return err_set(e, ERR_STATE, 0, "%s: its VMM has just ended", what);
	return 0;
}

int operate_may_begin(struct sandbox *sb, enum state_event event, enum sandbox_op op, struct err *e)
{
	if (operate_check(sb, event, op_names[op], e) < 0)
		return -1;
	if (sb->op != SANDBOX_OP_NONE)
		return err_set(e, ERR_STATE, 0, "%s: a %s is under way; try again when it is done",
			       op_names[op], op_names[sb->op]);
	if (sb->spec->hotplug && (op == SANDBOX_OP_SNAPSHOT || op == SANDBOX_OP_HIBERNATE))
		return err_set(e, ERR_STATE, 0,
			       "%s: its memory was grown, or vCPUs were taken away, since it was "
			       "started: what its guest made of that cannot be kept",
			       op_names[op]);
	return 0;
}

void operate_begun(struct sandbox *sb, enum sandbox_op op, sandbox_done_fn *fn, void *arg)
{
	sb->op = op;
	sb->op_waiter = (struct sandbox_waiter){.fn = fn, .arg = arg};
}

/* The answer of the shim; done is the state event that a success stands for. */
static void finish(struct sandbox *sb, const struct err *why, enum state_event done,
		   const char *reason)
{
	struct err e;
	struct state_step step;
	/* An exit or a destroy overtook it. */
	if (!why && !state_step(sb->state, done, &step)) {
		err_set(&e, ERR_STATE, 0, "it is %s meanwhile", state_name(sb->state));
		why = &e;
	}
	if (!why)
		sandbox_step(sb, done, reason, NULL);
	sandbox_op_done(sb, why);
}

static void on_paused(void *arg, struct msg *m, const struct err *why)
{
	(void)m;
	finish(arg, why, STATE_PAUSED_NOW, "pause was asked for");
}

static void on_resume_killed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	/* EXIT follows a DONE; nothing is known of a VMM whose shim does not even kill it. */
	if (why && sb->link && why->kind != ERR_UNAVAILABLE)
		link_fail(sb->link, why);
}

/* A VMM that cannot go on is of no use, and a guest in an unknown state is worse than none. */
static void end_after_resume(struct sandbox *sb, const struct err *why)
{
	struct msg_kill kill = {0};
	struct err e;
	sandbox_set_fail(sb, why);
	if (link_request_kill(sb->link, &kill, MSG_DONE,
			      daemon_deadline(sb->d, POLICY_DEADLINE_DESTROY), on_resume_killed, sb,
			      &e) < 0)
		log_warning("%s: %s", sb->key, e.text);
}

static void on_resumed(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	bool hopeless = why && (why->kind == ERR_VMM || why->kind == ERR_DEADLINE);
	if (hopeless && sb->state == STATE_PAUSED && sb->link && !sb->exit)
		end_after_resume(sb, why);
	finish(sb, why, STATE_RESUMED, "resume was asked for");
}

static void on_button(void *arg, struct msg *m, const struct err *why)
{
	(void)m;
	sandbox_op_done(arg, why);
}

int operate_pause(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct msg_pause pause = {0};
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_PAUSE) + ANSWER_MARGIN_MS;
	if (operate_may_begin(sb, STATE_ASK_PAUSE, SANDBOX_OP_PAUSE, e) < 0 ||
	    link_request_pause(sb->link, &pause, MSG_DONE, ms, on_paused, sb, e) < 0)
		return -1;
	operate_begun(sb, SANDBOX_OP_PAUSE, fn, arg);
	return 0;
}

int operate_resume(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct msg_resume resume = {0};
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_RESUME) + ANSWER_MARGIN_MS;
	if (operate_may_begin(sb, STATE_ASK_RESUME, SANDBOX_OP_RESUME, e) < 0 ||
	    link_request_resume(sb->link, &resume, MSG_DONE, ms, on_resumed, sb, e) < 0)
		return -1;
	operate_begun(sb, SANDBOX_OP_RESUME, fn, arg);
	return 0;
}

int operate_power_button(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct msg_power_button button = {0};
	uint32_t ms = daemon_deadline(sb->d, POLICY_DEADLINE_POWER_BUTTON) + ANSWER_MARGIN_MS;
	if (operate_may_begin(sb, STATE_ASK_POWER_BUTTON, SANDBOX_OP_POWER_BUTTON, e) < 0 ||
	    link_request_power_button(sb->link, &button, MSG_DONE, ms, on_button, sb, e) < 0)
		return -1;
	operate_begun(sb, SANDBOX_OP_POWER_BUTTON, fn, arg);
	return 0;
}

/* ------------------------------------------------------------------ balloon, resize, counters */

/* The shim keeps the deadline of resume for these too. */
static uint32_t devices_deadline(const struct sandbox *sb)
{
	return daemon_deadline(sb->d, POLICY_DEADLINE_RESUME) + ANSWER_MARGIN_MS;
}

static void on_balloon(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	(void)m;
	if (!why) {
		sb->spec->balloon_mib = sb->asked.balloon_mib;
		store_note(sb);
		cJSON *more = cJSON_CreateObject();
		cJSON_AddNumberToObject(more, "target_mib", sb->spec->balloon_mib);
		events_emit(&sb->d->events, sb->id, sb->tenant, "balloon", more);
	}
	sandbox_op_done(sb, why);
}

int operate_balloon(struct sandbox *sb, uint32_t target_mib, sandbox_done_fn *fn, void *arg,
		    struct err *e)
{
	struct msg_balloon balloon = {.target_mib = target_mib};
	if (operate_may_begin(sb, STATE_ASK_BALLOON, SANDBOX_OP_BALLOON, e) < 0)
		return -1;
	if (!sb->spec->balloon)
		return err_set(e, ERR_STATE, 0, "balloon: it was created without one");
	if (sb->spec->restore == MSG_RESTORE_MAP)
		return err_set(e, ERR_STATE, 0,
			       "balloon: its memory is mapped from its template, a balloon would "
			       "give nothing back; create it with memory_restore copy");
	if (link_request_balloon(sb->link, &balloon, MSG_DONE, devices_deadline(sb), on_balloon, sb,
				 e) < 0)
		return -1;
	sb->asked.balloon_mib = target_mib;
	operate_begun(sb, SANDBOX_OP_BALLOON, fn, arg);
	return 0;
}

static void tell_resized(struct sandbox *sb)
{
	store_note(sb);
	cJSON *more = cJSON_CreateObject();
	cJSON_AddNumberToObject(more, "vcpus", sb->spec->vcpus);
	cJSON_AddNumberToObject(more, "memory_mib", sb->spec->memory_mib + sb->spec->plugged_mib);
	events_emit(&sb->d->events, sb->id, sb->tenant, "resize", more);
}

static void on_memory(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct spec *spec = sb->spec;
	uint32_t plugged = sb->asked.memory_mib - spec->memory_mib;
	(void)m;
	/* As the shim sees it: without an answer of CH's nothing is known of what is plugged. */
	if (plugged && (!why || why->kind == ERR_DEADLINE))
		spec->hotplug = true;
	if (!why) {
		spec->plugged_mib = plugged;
		tell_resized(sb);
	}
	sandbox_op_done(sb, why);
}

static int ask_memory(struct sandbox *sb, struct err *e)
{
	struct msg_resize resize = {.memory_mib = sb->asked.memory_mib};
	return link_request_resize(sb->link, &resize, MSG_DONE, devices_deadline(sb), on_memory, sb,
				   e);
}

static void on_vcpus(void *arg, struct msg *m, const struct err *why)
{
	struct sandbox *sb = arg;
	struct spec *spec = sb->spec;
	struct err e;
	(void)m;
	if (!why) {
		spec->hotplug = spec->hotplug || sb->asked.vcpus < spec->vcpus;
		spec->vcpus = sb->asked.vcpus;
		tell_resized(sb);
	}
	if (!why && sb->asked.memory_mib) {
		if (operate_check(sb, STATE_ASK_RESIZE, "memory_mib", &e) == 0 &&
		    ask_memory(sb, &e) == 0)
			return;
		why = &e;
	}
	sandbox_op_done(sb, why);
}

static int ask_vcpus(struct sandbox *sb, struct err *e)
{
	struct msg_resize resize = {.vcpus = sb->asked.vcpus};
	return link_request_resize(sb->link, &resize, MSG_DONE, devices_deadline(sb), on_vcpus, sb,
				   e);
}

int operate_resize(struct sandbox *sb, uint32_t vcpus, uint32_t memory_mib, sandbox_done_fn *fn,
		   void *arg, struct err *e)
{
	if (operate_may_begin(sb, STATE_ASK_RESIZE, SANDBOX_OP_RESIZE, e) < 0)
		return -1;
	/* CH answers 500 to a zone that has no room to grow, also for the size that it has. */
	if (memory_mib && sb->spec->max_memory_mib == sb->spec->memory_mib)
		return err_set(e, ERR_STATE, 0,
			       "memory_mib: it was created without a max_memory_mib above its "
			       "memory_mib");
	sb->asked.vcpus = vcpus;
	sb->asked.memory_mib = memory_mib;
	if ((vcpus ? ask_vcpus(sb, e) : ask_memory(sb, e)) < 0)
		return -1;
	operate_begun(sb, SANDBOX_OP_RESIZE, fn, arg);
	return 0;
}

static void on_counters(void *arg, struct msg *m, const struct err *why)
{
	/* 5 KiB, on the one thread of the loop. */
	static struct msg_counters_data said;
	struct sandbox *sb = arg;
	struct err e;
	if (!why && msg_read_counters_data(m, &said, &e) < 0) {
		/* It says what no honest shim says: that ends the link, and with it the request. */
		sandbox_op_done(sb, &e);
		link_fail(sb->link, &e);
		return;
	}
	sb->counters = why ? NULL : &said;
	sandbox_op_done(sb, why);
	if (!why)
		sb->counters = NULL;
}

int operate_counters(struct sandbox *sb, sandbox_done_fn *fn, void *arg, struct err *e)
{
	struct msg_counters ask = {0};
	if (operate_may_begin(sb, STATE_ASK_COUNTERS, SANDBOX_OP_COUNTERS, e) < 0 ||
	    link_request_counters(sb->link, &ask, MSG_COUNTERS_DATA, 2 * devices_deadline(sb),
				  on_counters, sb, e) < 0)
		return -1;
	operate_begun(sb, SANDBOX_OP_COUNTERS, fn, arg);
	return 0;
}

/* ------------------------------------------------------------------ adopted in the middle */

void operate_take(struct sandbox *sb, const struct msg_status *s)
{
	static const struct {
		enum msg_type type;
		enum sandbox_op op;
		enum msg_type answer;
		enum policy_deadline deadline;
		link_answer_fn *cb;
	} ops[] = {
		{MSG_PAUSE, SANDBOX_OP_PAUSE, MSG_DONE, POLICY_DEADLINE_PAUSE, on_paused},
		{MSG_RESUME, SANDBOX_OP_RESUME, MSG_DONE, POLICY_DEADLINE_RESUME, on_resumed},
		{MSG_POWER_BUTTON, SANDBOX_OP_POWER_BUTTON, MSG_DONE, POLICY_DEADLINE_POWER_BUTTON,
		 on_button},
		{MSG_BALLOON, SANDBOX_OP_BALLOON, MSG_DONE, POLICY_DEADLINE_RESUME, on_balloon},
		{MSG_RESIZE, SANDBOX_OP_RESIZE, MSG_DONE, POLICY_DEADLINE_RESUME, on_vcpus},
		{MSG_COUNTERS, SANDBOX_OP_COUNTERS, MSG_COUNTERS_DATA, POLICY_DEADLINE_RESUME,
		 on_counters},
	};
	const struct msg_take take = {.op = s->op};
	struct err e;
	sb->asked.balloon_mib = s->asked_balloon_mib;
	sb->asked.vcpus = s->asked_vcpus;
	/* With both, the rest of the request went with who asked for it. */
	sb->asked.memory_mib = s->asked_vcpus ? 0 : s->asked_memory_mib;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (ops[i].type != (enum msg_type)s->op)
			continue;
		uint32_t ms = 2 * (daemon_deadline(sb->d, ops[i].deadline) + ANSWER_MARGIN_MS);
		bool memory = s->op == MSG_RESIZE && !s->asked_vcpus;
		if (link_request_take(sb->link, &take, ops[i].answer, ms,
				      memory ? on_memory : ops[i].cb, sb, &e) < 0)
			log_error("%s: %s", sb->key, e.text);
		else
			sb->op = ops[i].op;
	}
}
