// SPDX-License-Identifier: Apache-2.0
/*
 * Orders are blank-separated words of STANDIN_ORDERS and of the VM's command line:
 *
 *   standin:ENDPOINT=ACTION[@N]   ENDPOINT is vm.boot, vmm.ping, ... or *; with @N only its N-th
 * call standin:at=MS:WHAT            once; MS from the start, on a command line from vm.boot
 *
 *   standin:snapshot=TRICK[@N]     what vm.snapshot does to the files it writes; TRICK is one of
 * short-state, short-config (half of it, and a 204 all the same), symlink, fifo, socket (in
 * state.json's place), extra (one file more), huge (state.json is a huge sparse file), noclose
 * (state.json stays open and is written again and again after the 204), die (SIGKILL with half of
 * state.json written)
 *
 *   standin:load=MS                an OnDemand restore takes so long to load memory
 *
 *   standin:resume=ignored         vm.restore does not resume: CH before 52 did not know how to
 *
 *   standin:disk=ERROR[@N]         the guest's writes fail, or only its N-th request; ERROR is eio,
 * enospc or edquot
 *
 * A restored VM has the orders of the command line in its config.json, its clock starts with
 * vm.restore.
 *
 * delay, stderr and badevent happen and the call goes on, so several of them may be given. Of the
 * others the first one counts. hang, status, error, fcerror, exit, signal and abort come instead of
 * doing the call; all others do it and spoil the answer. In error:TEXT a _ stands for a blank.
 */
#include "standin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define ORDERS_MAX 64

struct order {
	char endpoint[40];
	enum order_kind kind;
	long number;
	char text[160];
	int nth; /* only the so-manieth call; 0: each */
	int calls;
	bool from_cmdline;
};

static struct order orders[ORDERS_MAX];
static enum snapshot_trick trick;
static int order_count;

enum argument { ARG_NO, ARG_NUMBER, ARG_TEXT };

static const struct {
	const char *name;
	enum order_kind kind;
	enum argument argument;
} kinds[] = {
	{"delay", ORDER_DELAY, ARG_NUMBER},   {"stderr", ORDER_STDERR, ARG_NUMBER},
	{"badevent", ORDER_BADEVENT, ARG_NO}, {"hang", ORDER_HANG, ARG_NO},
	{"status", ORDER_STATUS, ARG_NUMBER}, {"error", ORDER_ERROR, ARG_TEXT},
	{"fcerror", ORDER_FCERROR, ARG_NO},   {"exit", ORDER_EXIT, ARG_NUMBER},
	{"signal", ORDER_SIGNAL, ARG_NUMBER}, {"abort", ORDER_ABORT, ARG_NO},
	{"drop", ORDER_DROP, ARG_NO},	      {"garbage", ORDER_GARBAGE, ARG_NO},
	{"half", ORDER_HALF, ARG_NO},	      {"halfclose", ORDER_HALFCLOSE, ARG_NO},
	{"length", ORDER_LENGTH, ARG_NUMBER}, {"nolength", ORDER_NOLENGTH, ARG_NO},
	{"huge", ORDER_HUGE, ARG_NO},	      {"dribble", ORDER_DRIBBLE, ARG_NUMBER},
	{"badjson", ORDER_BADJSON, ARG_NO},   {"100", ORDER_INTERIM, ARG_NO},
};

static const char *const tricks[] = {
	[TRICK_SHORT_STATE] = "short-state",
	[TRICK_SHORT_CONFIG] = "short-config",
	[TRICK_SYMLINK] = "symlink",
	[TRICK_FIFO] = "fifo",
	[TRICK_SOCKET] = "socket",
	[TRICK_EXTRA] = "extra",
	[TRICK_HUGE] = "huge",
	[TRICK_NOCLOSE] = "noclose",
	[TRICK_DIE] = "die",
};

static bool orders_number(const char *text, long *number)
{
	char *end;
	errno = 0;
	*number = strtol(text, &end, 10);
	return !errno && end != text && !*end;
}

/* "delay:100" or "hang" */
static bool orders_read_action(struct order *order, char *action)
{
	char *argument = strchr(action, ':');
	if (argument)
		*argument++ = '\0';
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, action) != 0)
			continue;
		order->kind = kinds[i].kind;
		if (!argument || kinds[i].argument == ARG_NO)
			return !argument && kinds[i].argument == ARG_NO;
		if (kinds[i].argument == ARG_NUMBER)
			return orders_number(argument, &order->number);
		snprintf(order->text, sizeof(order->text), "%s", argument);
		for (char *c = order->text; (c = strchr(c, '_'));)
			*c = ' ';
		return true;
	}
	return false;
}

static bool orders_is_other(const char *word)
{
	return !strcmp(word, "snapshot") || !strcmp(word, "load") || !strcmp(word, "resume") ||
	       !strcmp(word, "disk");
}

/* What follows the words that are no endpoints. */
static bool orders_read_other(struct order *order, const char *action)
{
	if (!strcmp(order->endpoint, "load")) {
		order->kind = ORDER_LOAD;
		return orders_number(action, &order->number) && order->number >= 0;
	}
	if (!strcmp(order->endpoint, "resume")) {
		order->kind = ORDER_NORESUME;
		return !strcmp(action, "ignored");
	}
	if (!strcmp(order->endpoint, "disk")) {
		order->kind = ORDER_DISK;
		order->number = !strcmp(action, "eio")	    ? EIO
				: !strcmp(action, "enospc") ? ENOSPC
				: !strcmp(action, "edquot") ? EDQUOT
							    : 0;
		return order->number != 0;
	}
	order->kind = ORDER_TRICK;
	for (size_t i = TRICK_NONE + 1; i < sizeof(tricks) / sizeof(tricks[0]); i++) {
		if (!strcmp(tricks[i], action))
			order->number = (long)i;
	}
	return order->number != TRICK_NONE;
}

/* One word without its "standin:": ENDPOINT=ACTION[@N] or at=MS:WHAT. */
static bool orders_read_word(char *word, bool from_cmdline)
{
	char *action = strchr(word, '=');
	if (!action || order_count == ORDERS_MAX)
		return false;
	*action++ = '\0';
	if (!strcmp(word, "at")) {
		char *end;
		long ms = strtol(action, &end, 10);
		return end != action && *end == ':' && ms >= 0 &&
		       happen_add(ms, end + 1, from_cmdline);
	}
	struct order order = {.from_cmdline = from_cmdline};
	char *nth = strrchr(action, '@');
	if (nth) {
		long number;
		*nth = '\0';
		if (!orders_number(nth + 1, &number) || number < 1 || number > 1000000)
			return false;
		order.nth = (int)number;
	}
	snprintf(order.endpoint, sizeof(order.endpoint), "%s", word);
	if (orders_is_other(word) ? !orders_read_other(&order, action)
				  : !orders_read_action(&order, action))
		return false;
	orders[order_count++] = order;
	return true;
}

static void orders_forget_cmdline(void)
{
	int kept = 0;
	for (int i = 0; i < order_count; i++) {
		if (!orders[i].from_cmdline)
			orders[kept++] = orders[i];
	}
	order_count = kept;
	happen_forget_cmdline();
}

char *orders_read(const char *text, bool from_cmdline)
{
	static const char prefix[] = "standin:";
	if (from_cmdline)
		orders_forget_cmdline();
	char *copy = bytes_text("%s", text), *bad = NULL, *save = NULL;
	for (char *word = strtok_r(copy, " \t\n", &save); word && !bad;
	     word = strtok_r(NULL, " \t\n", &save)) {
		if (strncmp(word, prefix, sizeof(prefix) - 1) != 0)
			continue;
		char *whole = bytes_text("%s", word);
		if (orders_read_word(word + sizeof(prefix) - 1, from_cmdline))
			free(whole);
		else
			bad = whole;
	}
	free(copy);
	return bad;
}

struct verdict orders_judge(const char *endpoint)
{
	struct verdict verdict = {.kind = ORDER_NONE};
	for (int i = 0; i < order_count; i++) {
		struct order *order = &orders[i];
		if (strcmp(order->endpoint, "*") != 0 && strcmp(order->endpoint, endpoint) != 0)
			continue;
		order->calls++;
		if (order->nth && order->nth != order->calls)
			continue;
		if (order->kind == ORDER_DELAY) {
			verdict.delay_ms += order->number;
		} else if (order->kind == ORDER_STDERR) {
			for (long n = 0; n < order->number; n++)
				report_log("vmm", "ERROR", "vmm/src/lib.rs:1",
					   "Ordered by the test, line %ld", n + 1);
		} else if (order->kind == ORDER_BADEVENT) {
			report_bad_event();
		} else if (verdict.kind == ORDER_NONE) {
			verdict.kind = order->kind;
			verdict.number = order->number;
			verdict.text = order->text;
		}
	}
	return verdict;
}

/* Counts the calls of vm.snapshot, for "@N". */
void orders_begin_snapshot(void)
{
	trick = TRICK_NONE;
	for (int i = 0; i < order_count; i++) {
		struct order *order = &orders[i];
		if (order->kind != ORDER_TRICK)
			continue;
		order->calls++;
		if (!order->nth || order->nth == order->calls)
			trick = (enum snapshot_trick)order->number;
	}
}

enum snapshot_trick orders_trick(void)
{
	return trick;
}

static const struct order *orders_find(enum order_kind kind)
{
	for (int i = 0; i < order_count; i++) {
		if (orders[i].kind == kind)
			return &orders[i];
	}
	return NULL;
}

int64_t orders_load_ms(void)
{
	const struct order *order = orders_find(ORDER_LOAD);
	return order ? order->number : 0;
}

bool orders_no_resume(void)
{
	return orders_find(ORDER_NORESUME) != NULL;
}

int orders_disk_error(void)
{
	for (int i = 0; i < order_count; i++) {
		struct order *order = &orders[i];
		if (order->kind != ORDER_DISK)
			continue;
		order->calls++;
		if (!order->nth || order->nth == order->calls)
			return (int)order->number;
	}
	return 0;
}

/* As pid 1 of a pid namespace only what the kernel itself sends kills: SIGKILL for too much CPU
 * time, SIGSEGV and its like for a fault. */
_Noreturn static void orders_die_as_init(int signal_number)
{
	if (signal_number == SIGKILL) {
		struct rlimit none = {.rlim_cur = 1, .rlim_max = 1};
		setrlimit(RLIMIT_CPU, &none);
		for (volatile unsigned long spin = 0;; spin++)
			;
	}
	if (signal_number == SIGILL)
		__builtin_trap();
	abort(); /* raises, and then executes HLT: SIGSEGV */
}

void orders_die(int signal_number)
{
	sigset_t all;
	prctl(PR_SET_DUMPABLE, 0); /* no core */
	signal(signal_number, SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	kill(getpid(), signal_number);
	if (getpid() == 1)
		orders_die_as_init(signal_number);
	/* sent to the process, so perhaps taken by the other thread a moment later */
	sleep(2);
	_exit(4);
}
