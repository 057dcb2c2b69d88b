// SPDX-License-Identifier: Apache-2.0
#include "operate.h"

#include "daemon.h"
#include "log.h"
#include "teardown.h"

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
