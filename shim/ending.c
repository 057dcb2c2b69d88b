// SPDX-License-Identifier: Apache-2.0
#include "ending.h"

#include "announce.h"
#include "boot.h"
#include "cgroup.h"
#include "connect.h"
#include "log.h"
#include "ops.h"
#include "output.h"
#include "serve.h"
#include "snapshot.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* CH tells a failed vCPU and the like only by an ERROR line just before a status of 0. */
#define ERROR_WINDOW_US 1000000

enum stage { STAGE_NONE, STAGE_POWER_BUTTON, STAGE_SHUTDOWN, STAGE_KILL };

static void kill_now(struct shim *s)
{
	s->ending_stage = STAGE_KILL;
	s->ending_next_us = INT64_MAX;
	s->we_killed = true;
	if (syscall(SYS_pidfd_send_signal, s->vmm.pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("the VMM (pid %d) could not be killed: %s", (int)s->vmm.pid,
			  strerrordesc_np(errno));
}

/* Devices are flushed and the process ends by itself; if it does not in time, it is killed. */
static void shut_down(struct shim *s, int64_t now_us)
{
	struct err e;
	int64_t deadline = now_us + s->policy->deadline_ms[POLICY_DEADLINE_SHUTDOWN] * 1000ll;
	s->ending_stage = STAGE_SHUTDOWN;
	s->ending_next_us = deadline;
	if (ch_api_send(&s->api, CH_API_SHUTDOWN, NULL, deadline, NULL, &e) < 0 ||
	    ch_api_send(&s->api, CH_API_VMM_SHUTDOWN, NULL, deadline, NULL, &e) < 0)
		kill_now(s);
}

static void press_power_button(struct shim *s, int64_t now_us, uint32_t grace_ms)
{
	struct err e;
	int64_t deadline = now_us + grace_ms * 1000ll;
	s->ending_stage = STAGE_POWER_BUTTON;
	s->ending_next_us = deadline;
	if (ch_api_send(&s->api, CH_API_POWER_BUTTON, NULL, deadline, NULL, &e) < 0)
		shut_down(s, now_us);
}

void ending_start(struct shim *s, enum shim_ending why, uint32_t grace_ms)
{
	int64_t now = clock_us();
	bool was_paused = s->phase == MSG_PHASE_PAUSED;
	if (s->ended)
		return;
	if (s->ending == SHIM_ENDING_NONE)
		s->exit.phase = (uint32_t)s->phase;
	/* Whoever asks for the end asks for it more than what we found ourselves. */
	if (s->ending == SHIM_ENDING_NONE ||
	    (why == SHIM_ENDING_DESTROY && s->ending != SHIM_ENDING_HIBERNATE))
		s->ending = why;
	s->phase = MSG_PHASE_ENDING;
	/* Being killed, or dead and about to be accounted for: only the reason was news. */
	if (s->ending_stage == STAGE_KILL || s->vmm.pidfd < 0)
		return;
	if (why == SHIM_ENDING_PANIC || why == SHIM_ENDING_REBOOTS)
		shut_down(s, now);
	else if (grace_ms == 0)
		kill_now(s);
	else if (was_paused)
		shut_down(s, now);
	else if (s->ending_stage == STAGE_NONE)
		press_power_button(s, now, grace_ms);
	else if (s->ending_stage == STAGE_POWER_BUTTON &&
		 now + grace_ms * 1000ll < s->ending_next_us)
		s->ending_next_us = now + grace_ms * 1000ll;
}

uint32_t ending_left_ms(const struct shim *s)
{
	int64_t left_us = s->ending_next_us - clock_us();
	if (s->ended || s->ending_next_us == INT64_MAX || left_us < 0)
		return 0;
	int64_t ms = left_us / 1000 + 1;
	return ms < MSG_GRACE_MS_MAX * 2 ? (uint32_t)ms : MSG_GRACE_MS_MAX * 2;
}

void ending_step(struct shim *s, int64_t now_us)
{
	if (s->ended || now_us < s->ending_next_us)
		return;
	if (s->ending_stage == STAGE_POWER_BUTTON)
		shut_down(s, now_us);
	else
		kill_now(s);
}

/* ------------------------------------------------------------------ why */

static enum msg_cause cause_of_signal(const struct shim *s, int signal)
{
	/*
	 * As pid 1 of its namespace CH does not die of SIGSYS itself: it ends by the SIGSEGV that
	 * the kernel forces instead (ch-facts, section 8).
	 */
	if (signal == SIGSYS || s->errors.seccomp)
		return MSG_CAUSE_SECCOMP;
	if (cgroup_oom_kills(s->cgroup_fd) > 0)
		return MSG_CAUSE_OUT_OF_MEMORY;
	return MSG_CAUSE_VMM_KILLED;
}

static enum msg_cause cause_of(const struct shim *s, const siginfo_t *info)
{
	bool signalled = info->si_code != CLD_EXITED;
	switch (s->ending) {
	case SHIM_ENDING_DESTROY:
		return MSG_CAUSE_DESTROYED;
	case SHIM_ENDING_PANIC:
		return MSG_CAUSE_GUEST_PANIC;
	case SHIM_ENDING_REBOOTS:
		return MSG_CAUSE_GUEST_REBOOT_LOOP;
	case SHIM_ENDING_FAILED:
		return MSG_CAUSE_VMM_ERROR;
	case SHIM_ENDING_HIBERNATE:
		return MSG_CAUSE_HIBERNATED;
	case SHIM_ENDING_NONE:
		break;
	}
	if (signalled)
		return cause_of_signal(s, info->si_status);
	if (s->errors.seccomp)
		return MSG_CAUSE_SECCOMP;
	bool error_just_now =
		s->errors.error_count > 0 && clock_us() - s->errors.last_error_us < ERROR_WINDOW_US;
	if (info->si_status != 0 || error_just_now)
		return MSG_CAUSE_VMM_ERROR;
	return MSG_CAUSE_GUEST_SHUTDOWN;
}

/* What a person wants to read first; the VMM's own words are cleaned already. */
static void write_detail(struct shim *s, const siginfo_t *info)
{
	char *out = s->exit.detail;
	size_t size = sizeof(s->exit.detail);
	const char *last = output_last_error(s);
	if (s->exit.cause == MSG_CAUSE_GUEST_SHUTDOWN)
		snprintf(out, size, "the guest powered off");
	else if (s->exit.cause == MSG_CAUSE_GUEST_PANIC)
		snprintf(out, size, "the guest's kernel panicked (pvpanic)");
	else if (s->exit.cause == MSG_CAUSE_GUEST_REBOOT_LOOP)
		snprintf(out, size, "the guest rebooted %u times, more than %u within %u s",
			 s->reboots, s->policy->reboots, s->policy->reboot_period_s);
	else if (s->exit.cause == MSG_CAUSE_OUT_OF_MEMORY)
		snprintf(out, size, "the VMM's cgroup ran out of memory");
	else if (s->exit.cause == MSG_CAUSE_HIBERNATED)
		snprintf(out, size, "its memory is on disk");
	else if (s->exit.cause == MSG_CAUSE_DESTROYED)
		snprintf(out, size, "ended as asked%s",
			 s->we_killed ? "" : ", after a clean shutdown");
	else if (info->si_code != CLD_EXITED)
		snprintf(out, size, "the VMM was ended by signal %d (%s)%s%s", info->si_status,
			 sigdescr_np(info->si_status) ? sigdescr_np(info->si_status) : "unknown",
			 last ? "; its last error: " : "", last ? last : "");
	else
		snprintf(out, size, "the VMM ended with status %d%s%s", info->si_status,
			 last ? "; its last error: " : "", last ? last : "");
	str_clean(out);
}

static void make_record(struct shim *s, const siginfo_t *info)
{
	bool signalled = info->si_code != CLD_EXITED;
	if (s->ending == SHIM_ENDING_NONE)
		s->exit.phase = (uint32_t)s->phase;
	s->exit.cause = (uint32_t)cause_of(s, info);
	s->exit.code = signalled ? -1 : info->si_status & 0xff;
	s->exit.signal = signalled ? info->si_status : 0;
	s->exit.at_real_us = clock_real_us();
	s->exit.console_end = s->console.end;
	write_detail(s, info);
}

/* A VMM that ends while the guest is being started: its own words are the answer to CREATE. */
static void fail_create(struct shim *s)
{
	struct err e;
	if (s->fail.kind == ERR_DEADLINE)
		e = s->fail;
	else if (ready_is_on(&s->ready))
		err_set(&e, ERR_VMM, 0, "%s before the guest was ready, as wait_for asks",
			s->exit.detail);
	else
		err_set(&e, ERR_VMM, 0, "%s while the guest was being started", s->exit.detail);
	boot_fail(s, &e);
}

static void fail_op(struct shim *s)
{
	struct err e;
	if (s->op == MSG_NONE)
		return;
	err_set(&e, ERR_VMM, 0, "%s", s->exit.detail);
	s->op = MSG_NONE;
	/* Without anybody there the exit, which is kept, says it all. */
	uplink_error(s, s->op_id, &e);
}

static void fail_connects(struct shim *s)
{
	struct err e;
	err_set(&e, ERR_VMM, 0, "%s", s->exit.detail);
	connect_fail(s, &e);
}

void ending_reap(struct shim *s)
{
	siginfo_t info = {0};
	struct err e;
	if (waitid(P_PIDFD, (id_t)s->vmm.pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	serve_unwatch(s, s->vmm.pidfd);
	fd_close(&s->vmm.pidfd);
	/* Answers that it gave before it died are still worth having. */
	if (!s->api.broken)
		http_client_receive(&s->api);
	output_drain(s);
	make_record(s, &info);
	s->ended = true;
	s->ending_next_us = INT64_MAX;
	if (s->op == MSG_CREATE) {
		fail_create(s);
		return;
	}
	s->phase = MSG_PHASE_ENDED;
	snapshot_abandon(s);
	http_client_close(&s->api);
	announce_close(s);
	fail_connects(s);
	/*
	 * A request that CH will not answer any more is told so before the record; but the sandbox
	 * is not to go back for a moment to what it was before a snapshot.
	 */
	if (s->op != MSG_SNAPSHOT)
		fail_op(s);
	if (s->link.fd >= 0 && s->greeted && chan_send_exit(&s->link, 0, &s->exit, &e) < 0)
		uplink_close(s, e.text);
	fail_op(s);
	serve_watch_link(s);
	ops_console_grew(s);
}
