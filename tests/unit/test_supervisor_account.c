// SPDX-License-Identifier: Apache-2.0
/* supervisor/account: one question for all who ask, late answers, and what is kept of an ended VMM.
 */
#include "daemonworld.h"

#include "account.h"
#include "teardown.h"

#define LONG_MS 30000

struct heard {
	unsigned count, live, kept, none;
	struct err why;
	uint32_t phase, exchanges, threads;
};

static void on_account(void *arg, const struct sandbox *sb, const struct account_view *view,
		       const struct err *why)
{
	struct heard *h = arg;
	assert_ptr_equal(sb, box());
	h->count++;
	h->why = why ? *why : (struct err){0};
	if (why)
		return;
	if (!view) {
		h->none++;
		return;
	}
	h->live += !view->kept;
	h->kept += view->kept;
	h->phase = view->head->phase;
	h->exchanges = view->head->exchange_count;
	h->threads = view->head->confine.thread_count;
	for (uint32_t i = 0; i < h->exchanges; i++)
		assert_string_equal(view->exchanges[i].request, "GET /x");
	for (uint32_t i = 0; i < h->threads; i++)
		assert_int_equal(view->threads[i].tid, i + 1);
}

static struct msg_debug_data said;

static void answer(uint32_t id, bool ended)
{
	memset(&said, 0, sizeof(said));
	said.head.shim_pid = 1;
	said.head.phase = ended ? MSG_PHASE_ENDED : MSG_PHASE_PAUSING;
	said.head.ended = ended;
	if (ended)
		said.head.exit.cause = MSG_CAUSE_VMM_KILLED;
	said.head.exchange_count = 3;
	for (int i = 0; i < 3; i++)
		str_copy(said.exchanges[i].request, sizeof(said.exchanges[i].request), "GET /x");
	said.head.confine.thread_count = 2;
	said.head.confine.checks = said.head.confine.after = 1;
	for (uint32_t i = 0; i < 2; i++)
		said.threads[i].tid = i + 1;
	assert_int_equal(chan_send_debug_data(&shim, id, &said, &e), 0);
	settle();
}

static void test_one_question(void **unused)
{
	struct heard a = {0}, b = {0};
	(void)unused;
	struct sandbox *sb = running();
	account_ask(sb, LONG_MS, on_account, &a);
	account_ask(sb, LONG_MS, on_account, &b);
	uint32_t id = expect(&shim, MSG_DEBUG);
	expect_nothing(&shim);
	assert_int_equal(a.count, 0);
	answer(id, false);
	assert_int_equal(a.live, 1);
	assert_int_equal(b.live, 1);
	assert_int_equal(a.phase, MSG_PHASE_PAUSING);
	assert_int_equal(a.exchanges, 3);
	assert_int_equal(a.threads, 2);
	/* And the next one is a new one. */
	account_ask(sb, LONG_MS, on_account, &a);
	answer(expect(&shim, MSG_DEBUG), false);
	assert_int_equal(a.live, 2);
}

/* A shim that is stopped: each is told in time, it is asked once, and its late answer is no news.
 */
static void test_stuck(void **unused)
{
	struct heard a = {0}, b = {0};
	(void)unused;
	struct sandbox *sb = running();
	account_ask(sb, 20, on_account, &a);
	uint32_t id = expect(&shim, MSG_DEBUG);
	for (int i = 0; i < 10000 && !a.count; i++) {
		turn();
		usleep(1000);
	}
	assert_int_equal(a.count, 1);
	assert_int_equal(a.why.kind, ERR_DEADLINE);
	assert_says(a.why.text, "does not say");
	account_ask(sb, LONG_MS, on_account, &b);
	expect_nothing(&shim);
	answer(id, false);
	assert_int_equal(b.live, 1);
	assert_int_equal(a.count, 1);
	assert_int_equal(sb->state, STATE_RUNNING);
}

static void test_refused(void **unused)
{
	struct heard a = {0};
	struct err why;
	(void)unused;
	account_ask(running(), LONG_MS, on_account, &a);
	err_set(&why, ERR_UNAVAILABLE, 0, "not now");
	assert_int_equal(chan_send_err(&shim, expect(&shim, MSG_DEBUG), &why, &e), 0);
	settle();
	assert_int_equal(a.why.kind, ERR_UNAVAILABLE);
	assert_says(a.why.text, "not now");
}

/* What no honest shim says ends the link, as with every other record. */
static void test_malformed(void **unused)
{
	struct heard a = {0};
	(void)unused;
	struct sandbox *sb = running();
	account_ask(sb, LONG_MS, on_account, &a);
	uint32_t id = expect(&shim, MSG_DEBUG);
	memset(&said, 0, sizeof(said));
	assert_int_equal(chan_send(&shim, MSG_DEBUG_DATA, id, &said, sizeof(said), -1, &e), 0);
	settle();
	assert_int_equal(a.count, 1);
	assert_int_equal(a.why.kind, ERR_PROTOCOL);
	assert_int_equal(sb->state, STATE_CRASHED);
}

static void test_shim_lost(void **unused)
{
	struct heard a = {0};
	(void)unused;
	struct sandbox *sb = running();
	account_ask(sb, LONG_MS, on_account, &a);
	expect(&shim, MSG_DEBUG);
	chan_close(&shim);
	settle();
	assert_int_equal(a.count, 1);
	assert_int_equal(a.why.kind, ERR_UNAVAILABLE);
	/* Nothing was kept, and that is no error. */
	account_ask(sb, LONG_MS, on_account, &a);
	assert_int_equal(a.none, 1);
}

static void end_vmm(void)
{
	const struct msg_exit said_exit = {
		.cause = MSG_CAUSE_VMM_KILLED, .code = -1, .signal = 9, .detail = "killed"};
	struct msg_console_data text = {.eof = 1};
	assert_int_equal(chan_send_exit(&shim, 0, &said_exit, &e), 0);
	uint32_t id = expect(&shim, MSG_CONSOLE_READ);
	assert_int_equal(chan_send_console_data(&shim, id, &text, &e), 0);
	settle();
}

/* The shim's last word is asked for before it is let go, and kept. */
static void test_kept(void **unused)
{
	struct heard a = {0};
	(void)unused;
	struct sandbox *sb = running();
	end_vmm();
	assert_int_equal(sb->state, STATE_CRASHED);
	uint32_t id = expect(&shim, MSG_DEBUG);
	expect_nothing(&shim);
	/* Meanwhile it can be asked as ever. */
	account_ask(sb, LONG_MS, on_account, &a);
	answer(id, true);
	assert_int_equal(a.live, 1);
	expect(&shim, MSG_EXIT_ACK);
	tell_gone();
	account_ask(sb, LONG_MS, on_account, &a);
	assert_int_equal(a.kept, 1);
	assert_int_equal(a.phase, MSG_PHASE_ENDED);
	assert_int_equal(a.exchanges, 3);
	assert_int_equal(a.threads, 2);
}

/* It says nothing any more: it is let go all the same. */
static void test_last_word_lost(void **unused)
{
	struct heard a = {0};
	struct err why;
	(void)unused;
	struct sandbox *sb = running();
	end_vmm();
	err_set(&why, ERR_INTERNAL, 0, "no memory");
	assert_int_equal(chan_send_err(&shim, expect(&shim, MSG_DEBUG), &why, &e), 0);
	settle();
	expect(&shim, MSG_EXIT_ACK);
	tell_gone();
	account_ask(sb, LONG_MS, on_account, &a);
	assert_int_equal(a.none, 1);
}

/* Destroyed while its last word is awaited, and freed while somebody waits. */
static void test_gone_meanwhile(void **unused)
{
	struct told told = {0};
	struct heard a = {0};
	(void)unused;
	struct sandbox *sb = running();
	end_vmm();
	expect(&shim, MSG_DEBUG);
	account_ask(sb, LONG_MS, on_account, &a);
	assert_int_equal(teardown_destroy(sb, 0, on_done, &told, &e), 0);
	expect(&shim, MSG_EXIT_ACK);
	tell_gone();
	assert_int_equal(a.count, 1);
	assert_int_equal(a.why.kind, ERR_UNAVAILABLE);
	answer_done(&spawner, expect_removal());
	assert_int_equal(told.count, 1);
	assert_null(box());
}

static void on_forgotten(void *arg, const struct sandbox *sb, const struct account_view *view,
			 const struct err *why)
{
	(void)sb;
	(void)view;
	assert_int_equal(why->kind, ERR_UNAVAILABLE);
	(*(unsigned *)arg)++;
}

static void test_forgotten(void **unused)
{
	unsigned count = 0;
	(void)unused;
	struct sandbox *sb = running();
	end_vmm();
	expect(&shim, MSG_DEBUG);
	account_ask(sb, LONG_MS, on_forgotten, &count);
	teardown_forget(sb);
	assert_int_equal(count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_question),   TEST(test_stuck),	 TEST(test_refused),
		TEST(test_malformed),	   TEST(test_shim_lost), TEST(test_kept),
		TEST(test_last_word_lost), TEST(test_forgotten), TEST(test_gone_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
