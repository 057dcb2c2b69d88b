// SPDX-License-Identifier: Apache-2.0
/* The fields of DEBUG_DATA: what no honest shim says does not get in or out. */
#include "msg.h"
#include "util.h"

#include <string.h>

#define REQUIRE(cond, text)                                                                        \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return (text);                                                             \
	} while (0)

#define TEXT(field) msg_check_text(field, sizeof(field))

const char *msg_debug_after_name(unsigned after)
{
	static const char *const names[MSG_CONFINE_AFTER_COUNT] = {"never", "start", "resume",
								   "resize", "device"};
	return after < MSG_CONFINE_AFTER_COUNT ? names[after] : "unknown";
}

const char *msg_debug_outcome_name(unsigned outcome)
{
	static const char *const names[MSG_EXCHANGE_OUTCOME_COUNT] = {"open", "answered", "overdue",
								      "late", "lost"};
	return outcome < MSG_EXCHANGE_OUTCOME_COUNT ? names[outcome] : "unknown";
}

static bool is_zero(const void *bytes, size_t size)
{
	const unsigned char *at = bytes;
	for (size_t i = 0; i < size; i++)
		if (at[i])
			return false;
	return true;
}

static const char *check_confine(const struct msg_confine *b)
{
	REQUIRE(b->after < MSG_CONFINE_AFTER_COUNT, "after");
	REQUIRE((b->checks > 0) == (b->after != MSG_CONFINE_NEVER), "checks");
	REQUIRE(b->good <= 2 && (!b->good || b->checks > 0), "good");
	REQUIRE(b->cgroup <= 1, "confinement's cgroup");
	REQUIRE(b->thread_count <= MSG_THREADS_MAX, "thread_count");
	REQUIRE(TEXT(b->detail), "confinement's detail");
	REQUIRE(b->good != 1 || b->detail[0] == '\0', "confinement's detail");
	return NULL;
}

static const char *check_thread(const struct msg_thread *b)
{
	REQUIRE(b->tid > 0, "tid");
	REQUIRE(b->no_new_privs <= 1, "no_new_privs");
	REQUIRE(b->seccomp <= 2, "seccomp");
	REQUIRE(b->zero == 0, "reserved field");
	REQUIRE(TEXT(b->name), "thread's name");
	return NULL;
}

static const char *check_exchange(const struct msg_exchange *b)
{
	REQUIRE(b->outcome < MSG_EXCHANGE_OUTCOME_COUNT, "outcome");
	REQUIRE(b->status <= 999, "status");
	REQUIRE((b->status != 0) ==
			(b->outcome == MSG_EXCHANGE_ANSWERED || b->outcome == MSG_EXCHANGE_LATE),
		"status");
	REQUIRE(TEXT(b->request) && b->request[0] != '\0', "request");
	REQUIRE(TEXT(b->error), "exchange's error");
	return NULL;
}

static const char *check_lists(const struct msg_debug_head *b)
{
	REQUIRE(b->line_count <= MSG_DEBUG_LINES_MAX, "line_count");
	for (uint32_t i = 0; i < MSG_DEBUG_LINES_MAX; i++)
		REQUIRE(TEXT(b->lines[i]) && (i < b->line_count || !b->lines[i][0]), "lines");
	REQUIRE(b->event_count <= MSG_DEBUG_EVENTS_MAX, "event_count");
	for (uint32_t i = 0; i < MSG_DEBUG_EVENTS_MAX; i++)
		REQUIRE(i < b->event_count ? TEXT(b->events[i].name)
					   : is_zero(&b->events[i], sizeof(b->events[i])),
			"events");
	REQUIRE(b->fd_count <= MSG_DEBUG_FDS_MAX, "fd_count");
	for (uint32_t i = 0; i < MSG_DEBUG_FDS_MAX; i++)
		REQUIRE(i < b->fd_count ? TEXT(b->fds[i].what) && b->fds[i].what[0] != '\0'
					: is_zero(&b->fds[i], sizeof(b->fds[i])),
			"fds");
	return NULL;
}

static const char *check_head(const struct msg_debug_head *b)
{
	REQUIRE(b->shim_pid > 0, "shim_pid");
	REQUIRE(b->phase < MSG_PHASE_COUNT, "phase");
	REQUIRE(b->op < MSG_TYPE_COUNT, "op");
	REQUIRE(b->has_cgroup <= 1, "has_cgroup");
	REQUIRE(b->has_cgroup || is_zero(&b->cgroup, sizeof(b->cgroup)), "cgroup");
	REQUIRE(b->zero == 0, "reserved field");
	REQUIRE(b->ended <= 1, "ended");
	const char *wrong = b->ended				 ? msg_check_exit(&b->exit)
			    : is_zero(&b->exit, sizeof(b->exit)) ? NULL
								 : "exit";
	if (!wrong)
		wrong = check_lists(b);
	return wrong ? wrong : check_confine(&b->confine);
}

_Static_assert(sizeof(struct msg_debug_data) <= sizeof(((struct msg *)0)->body),
	       "one record holds it");

const char *msg_debug_check(const struct msg_debug_data *b)
{
	const char *wrong = check_head(&b->head);
	uint32_t exchanges = b->head.exchange_count, threads = b->head.confine.thread_count;
	REQUIRE(!wrong, wrong);
	REQUIRE(exchanges <= ARRAY_SIZE(b->exchanges), "exchange_count");
	for (uint32_t i = 0; i < exchanges; i++) {
		wrong = check_exchange(&b->exchanges[i]);
		REQUIRE(!wrong, wrong);
	}
	for (uint32_t i = 0; i < threads; i++) {
		wrong = check_thread(&b->threads[i]);
		REQUIRE(!wrong, wrong);
	}
	REQUIRE(is_zero(&b->exchanges[exchanges],
			(ARRAY_SIZE(b->exchanges) - exchanges) * sizeof(b->exchanges[0])),
		"unused exchange");
	REQUIRE(is_zero(&b->threads[threads], (MSG_THREADS_MAX - threads) * sizeof(b->threads[0])),
		"unused thread");
	return NULL;
}
