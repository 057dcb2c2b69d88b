// SPDX-License-Identifier: Apache-2.0
/*
 * What a VMM sends beside its answers: records of its event monitor, lines of its log, the guest's
 * console, counters. The first byte says which; then pieces with a length before each.
 */
#include "fuzz.h"

#include "ch_api.h"
#include "counters.h"
#include "log.h"
#include "output.h"

#include <sys/socket.h>

#define REBOOTS 3

static struct shim s;
static struct policy policy = {.reboots = REBOOTS, .reboot_period_s = 60};

static void drop_line(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FUZZ_CHECK(fuzz_is_printable(line, LOG_LINE_MAX));
}

/* A serving shim as far as its streams go: nobody is linked, and its VMM is gone. */
static void open_shim(void)
{
	struct err e;
	static int64_t times[REBOOTS + 1];
	s = (struct shim){
		.policy = &policy,
		.phase = MSG_PHASE_RUNNING,
		.link = {.fd = -1},
		.vmm = {.pid = -1, .pidfd = -1},
		.out_fd = -1,
		.err_fd = -1,
		.event_fd = -1,
		.epoll_fd = -1,
		.reboot_times = times,
		.ending_next_us = INT64_MAX,
	};
	FUZZ_CHECK(console_open(&s.console, 256, &e) == 0);
}

static void feed(struct fuzz_input *in, int kind, int *fd, void (*read_it)(struct shim *))
{
	int pair[2];
	FUZZ_CHECK(!socketpair(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	*fd = pair[0];
	while (in->left && *fd >= 0) {
		size_t got;
		const uint8_t *piece = fuzz_bytes(in, (size_t)fuzz_byte(in) * 4, &got);
		if (got)
			send(pair[1], piece, got, MSG_NOSIGNAL);
		/* Each piece in a period of its own: what is read depends on no clock. */
		memset(s.budget, 0, sizeof(s.budget));
		read_it(&s);
	}
	close(pair[1]);
}

static void check_shim(void)
{
	const char *error = output_last_error(&s);
	FUZZ_CHECK(!error || fuzz_is_printable(error, SHIM_ERROR_MAX));
	FUZZ_CHECK(s.errors.used < SHIM_LINE_MAX && s.out_fd < 0 && s.err_fd < 0 && s.event_fd < 0);
	/* A loop of reboots and a panic end it; nothing else does. */
	FUZZ_CHECK(s.ending == SHIM_ENDING_NONE || s.ending == SHIM_ENDING_PANIC ||
		   (s.ending == SHIM_ENDING_REBOOTS && s.reboots > REBOOTS));
}

static void look_for(struct fuzz_input *in)
{
	char text[MSG_WAIT_TEXT_MAX] = "";
	static struct msg_console_data out;
	struct err e;
	size_t got;
	const uint8_t *from = fuzz_bytes(in, fuzz_byte(in) % MSG_WAIT_TEXT_MAX, &got);
	memcpy(text, from, got);
	if (text[0])
		console_look_for(&s.console, text);
	/* Found where memmem(3) finds it, in whatever pieces it comes. */
	const char *all = (const char *)in->at;
	size_t length = in->left;
	bool there = text[0] && memmem(all, length, text, strlen(text));
	while (in->left) {
		from = fuzz_bytes(in, 1 + got % 7, &got);
		console_append(&s.console, (const char *)from, got);
	}
	FUZZ_CHECK(!text[0] || console_has_seen(&s.console) == there);
	console_read(&s.console, length / 2, length & 1, &out);
	FUZZ_CHECK(msg_write_console_data(&out, &e) >= 0);
	FUZZ_CHECK(out.offset + out.length <= length);
	FUZZ_CHECK(memcmp(out.data, all + out.offset, out.length) == 0);
}

static void counters(struct fuzz_input *in)
{
	static struct msg_counters_data data;
	struct err e;
	size_t length;
	char *text = fuzz_block(in, &length);
	if (counters_parse(text, length, &data, &e) == 0)
		FUZZ_CHECK(msg_write_counters_data(&data, &e) >= 0);
	free(text);
}

static void event(struct fuzz_input *in)
{
	struct ch_api_event out;
	size_t length;
	char *text = fuzz_block(in, &length);
	ch_api_read_event(text, length, &out);
	FUZZ_CHECK(fuzz_is_printable(out.source, sizeof(out.source)));
	FUZZ_CHECK(fuzz_is_printable(out.event, sizeof(out.event)));
	FUZZ_CHECK(fuzz_is_printable(out.detail, sizeof(out.detail)));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int before = fuzz_free_fd();
	log_set_sink(drop_line, NULL);
	open_shim();
	switch (fuzz_byte(&in) % 6) {
	case 0:
		event(&in);
		break;
	case 1:
		counters(&in);
		break;
	case 2:
		feed(&in, SOCK_STREAM, &s.err_fd, output_stderr);
		break;
	case 3:
		feed(&in, SOCK_SEQPACKET, &s.event_fd, output_events);
		break;
	case 4:
		feed(&in, SOCK_STREAM, &s.out_fd, output_stdout);
		break;
	default:
		look_for(&in);
		break;
	}
	output_drain(&s);
	check_shim();
	console_close(&s.console);
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
