// SPDX-License-Identifier: Apache-2.0
/* common/msg_debug: every field of DEBUG_DATA, seen by its reader and its writer. */
#include "bodies.h"

/* The bodies of all other types: so that the compiler does not miss them. */
static __attribute__((unused)) void others(void)
{
#define X(upper, lower, fds, tail) (void)good_##lower;
	MSG_TABLE(X)
#undef X
}

static void accept(const struct msg_debug_data *b, int line)
{
	static struct msg_debug_data out;
	struct err e = {0};
	if (msg_write_debug_data(b, &e) != (ssize_t)sizeof(*b))
		fail_msg("line %d: %s", line, e.text);
	fill_record(MSG_DEBUG_DATA, b, sizeof(*b));
	if (msg_read_debug_data(&record, &out, &e) != 0)
		fail_msg("line %d: %s", line, e.text);
	assert_memory_equal(&out, b, sizeof(out));
}

static void refuse(const struct msg_debug_data *b, const char *says, int line)
{
	static struct msg_debug_data out;
	struct err e = {0};
	if (msg_write_debug_data(b, &e) != -1 || e.kind != ERR_INTERNAL)
		fail_msg("line %d: written", line);
	assert_says(e.text, says);
	fill_record(MSG_DEBUG_DATA, b, sizeof(*b));
	if (msg_read_debug_data(&record, &out, &e) != -1 || e.kind != ERR_PROTOCOL)
		fail_msg("line %d: read", line);
	assert_says(e.text, says);
	assert_says(e.text, "DEBUG_DATA");
}

#define GOOD(...)      CHANGED(debug_data, accept(b, __LINE__), __VA_ARGS__)
#define BAD(says, ...) CHANGED(debug_data, refuse(b, says, __LINE__), __VA_ARGS__)

#define TEXT(says, field)                                                                          \
	do {                                                                                       \
		GOOD(memset(b->field, 0, sizeof(b->field)), b->field[0] = '~');                    \
		BAD(says, memset(b->field, 'x', sizeof(b->field)));                                \
		BAD(says, b->field[sizeof(b->field) - 1] = 'x');                                   \
		BAD(says, b->field[0] = '\x1b');                                                   \
		BAD(says, b->field[0] = '\xc3');                                                   \
	} while (0)

static void test_head(void **unused)
{
	(void)unused;
	GOOD();
	BAD("shim_pid", b->head.shim_pid = 0);
	GOOD(b->head.vmm_pid = 0);
	BAD("phase", b->head.phase = MSG_PHASE_COUNT);
	GOOD(b->head.op = MSG_NONE);
	BAD("op", b->head.op = MSG_TYPE_COUNT);
	BAD("has_cgroup", b->head.has_cgroup = 2);
	BAD("cgroup", b->head.has_cgroup = 0);
	GOOD(b->head.has_cgroup = 0, memset(&b->head.cgroup, 0, sizeof(b->head.cgroup)));
	BAD("reserved", b->head.zero = 1);
	BAD("ended", b->head.ended = 2);
	BAD("exit", b->head.ended = 0);
	GOOD(b->head.ended = 0, memset(&b->head.exit, 0, sizeof(b->head.exit)));
	BAD("cause", b->head.exit.cause = MSG_CAUSE_COUNT);
	BAD("detail", b->head.exit.detail[0] = '\n');
}

static void test_lists(void **unused)
{
	(void)unused;
	TEXT("lines", head.lines[0]);
	BAD("line_count", b->head.line_count = MSG_DEBUG_LINES_MAX + 1);
	BAD("lines", b->head.line_count = 0);
	GOOD(b->head.line_count = MSG_DEBUG_LINES_MAX);
	TEXT("events", head.events[0].name);
	BAD("event_count", b->head.event_count = MSG_DEBUG_EVENTS_MAX + 1);
	BAD("events", b->head.event_count = 0);
	BAD("events", b->head.events[1].at_real_us = 1);
	TEXT("fds", head.fds[0].what);
	BAD("fd_count", b->head.fd_count = MSG_DEBUG_FDS_MAX + 1);
	BAD("fds", b->head.fd_count = 2);
	BAD("fds", b->head.fd_count = 0);
}

static void fill(struct msg_debug_data *b)
{
	b->head.exchange_count = MSG_EXCHANGES_MAX + MSG_OPEN_MAX;
	b->head.confine.thread_count = MSG_THREADS_MAX;
	for (uint32_t i = 0; i < MSG_EXCHANGES_MAX + MSG_OPEN_MAX; i++)
		b->exchanges[i] = b->exchanges[0];
	for (uint32_t i = 0; i < MSG_THREADS_MAX; i++)
		b->threads[i] = b->threads[0];
}

static void test_exchanges(void **unused)
{
	(void)unused;
	GOOD(fill(b));
	BAD("exchange_count", b->head.exchange_count = MSG_EXCHANGES_MAX + MSG_OPEN_MAX + 1);
	BAD("exchange_count", b->head.exchange_count = UINT32_MAX);
	BAD("unused exchange", b->head.exchange_count = 1);
	BAD("request", b->head.exchange_count = 3);
	BAD("outcome", b->exchanges[0].outcome = MSG_EXCHANGE_OUTCOME_COUNT);
	BAD("status", b->exchanges[0].status = 1000);
	BAD("status", b->exchanges[0].status = 0);
	BAD("status", b->exchanges[1].status = 204);
	GOOD(b->exchanges[0].outcome = MSG_EXCHANGE_LATE);
	GOOD(b->exchanges[1].outcome = MSG_EXCHANGE_LOST);
	TEXT("request", exchanges[0].request);
	TEXT("error", exchanges[0].error);
}

static void test_confinement(void **unused)
{
	(void)unused;
	BAD("after", b->head.confine.after = MSG_CONFINE_AFTER_COUNT);
	BAD("checks", b->head.confine.checks = 0);
	BAD("checks", b->head.confine.after = MSG_CONFINE_NEVER);
	GOOD(b->head.confine.checks = 0, b->head.confine.good = 0,
	     b->head.confine.after = MSG_CONFINE_NEVER);
	GOOD(b->head.confine.good = 2, b->head.confine.detail[0] = 'x');
	BAD("good", b->head.confine.good = 3);
	BAD("cgroup", b->head.confine.cgroup = 2);
	BAD("detail", b->head.confine.detail[0] = 'x');
	GOOD(b->head.confine.detail[0] = 'x', b->head.confine.good = 0);
	BAD("detail", b->head.confine.detail[0] = '\n', b->head.confine.good = 0);
	BAD("thread_count", b->head.confine.thread_count = MSG_THREADS_MAX + 1);
	BAD("unused thread", b->head.confine.thread_count = 1);
	BAD("tid", b->head.confine.thread_count = 3);
	BAD("no_new_privs", b->threads[1].no_new_privs = 2);
	BAD("seccomp", b->threads[1].seccomp = 3);
	BAD("reserved", b->threads[1].zero = 1);
	TEXT("name", threads[0].name);
}

static void test_words(void **unused)
{
	(void)unused;
	assert_string_equal(msg_debug_after_name(MSG_CONFINE_NEVER), "never");
	assert_string_equal(msg_debug_after_name(MSG_CONFINE_DEVICE), "device");
	assert_string_equal(msg_debug_after_name(MSG_CONFINE_AFTER_COUNT), "unknown");
	assert_string_equal(msg_debug_outcome_name(MSG_EXCHANGE_OPEN), "open");
	assert_string_equal(msg_debug_outcome_name(MSG_EXCHANGE_LOST), "lost");
	assert_string_equal(msg_debug_outcome_name(MSG_EXCHANGE_OUTCOME_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),	  cmocka_unit_test(test_lists),
		cmocka_unit_test(test_exchanges), cmocka_unit_test(test_confinement),
		cmocka_unit_test(test_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
