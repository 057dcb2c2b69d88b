// SPDX-License-Identifier: Apache-2.0
#include "cli_stream.h"

#include "cli_console.h"
#include "cli_output.h"
#include "cli_request.h"
#include "cli_spec.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The supervisor sends a heartbeat each 15 s: three missed ones mean that it hangs. */
#define SILENCE_US	45000000
#define EVENT_LINE_MAX	65536u
#define INPUT_PIECE_MAX 32768u

/* Takes a piece of a stream's body; an exit code that ends it, or -1 to go on. */
typedef int piece_fn(void *arg, const char *data, size_t len);

/*
 * Reads a stream to its end. silence_us: how long nothing may come, negative: for ever. The head
 * has to come within --timeout in any case.
 */
static int read_stream(const struct cli_options *o, const struct cli_target *t, int64_t silence_us,
		       piece_fn *piece, void *arg)
{
	struct cli_call c;
	struct err e;
	const char *data = "";
	size_t len = 0;
	if (cli_request_start(o, &c, "GET", t, NULL, 0, &e) < 0)
		return cli_request_broken(&e);
	int64_t wait_us = (int64_t)o->timeout_s * 1000000;
	int code = -1;
	while (code < 0) {
		switch (cli_http_step(&c.http, &data, &len, &e)) {
		case CLI_HTTP_HEAD:
			wait_us = silence_us;
			break;
		case CLI_HTTP_DATA:
			code = c.http.response.status == 200
				       ? piece(arg, data, len)
				       : cli_request_refused(o, c.http.response.status, data, len);
			break;
		case CLI_HTTP_END:
			code = c.http.response.status == 200
				       ? CLI_EXIT_OK
				       : cli_request_refused(o, c.http.response.status, "", 0);
			break;
		case CLI_HTTP_FAILED:
			code = cli_request_broken(&e);
			break;
		case CLI_HTTP_WAIT:
			switch (cli_http_wait(&c.http, wait_us, &e)) {
			case 0:
				err_set(&e, ERR_DEADLINE, 0,
					"the supervisor has sent nothing for %lld s, not even a "
					"heartbeat",
					(long long)(wait_us / 1000000));
				code = cli_request_broken(&e);
				break;
			case -1:
				code = cli_request_broken(&e);
				break;
			}
			break;
		}
	}
	cli_call_close(&c);
	return code;
}

/* ------------------------------------------------------------------ console */

static int console_piece(void *arg, const char *data, size_t len)
{
	return cli_console_write(arg, data, len) ? -1 : CLI_EXIT_FAILED;
}

/* How many bytes the console has printed so far. */
static int console_end(const struct cli_options *o, uint64_t *end)
{
	struct cli_target t;
	struct cli_answer a;
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "console");
	cli_target_add_u64(&t, "tail", 1);
	int code = cli_request_call(o, "GET", &t, NULL, 0, &a);
	*end = a.console_end;
	cli_answer_clear(&a);
	return code;
}

/* Sends one piece; *taken may be less than all when the guest does not read. */
static int send_piece(const struct cli_options *o, const char *data, size_t len, size_t *taken)
{
	struct cli_target t;
	struct cli_answer a;
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "console");
	struct cli_body b = {.type = "application/octet-stream", .data = data, .length = len};
	int code = cli_request_call(o, "POST", &t, &b, 0, &a);
	*taken = 0;
	if (code != CLI_EXIT_OK)
		return code;
	cJSON *answer = cli_output_parse(a.body, a.length);
	const cJSON *written = cJSON_GetObjectItemCaseSensitive(answer, "written");
	if (cJSON_IsNumber(written) && written->valuedouble >= 0 &&
	    written->valuedouble <= (double)len)
		*taken = (size_t)written->valuedouble;
	else
		code = CLI_EXIT_FAILED;
	cJSON_Delete(answer);
	cli_answer_clear(&a);
	return code;
}

/* Sends all; a guest that takes nothing for as long as --timeout is an error. */
static int send_all(const struct cli_options *o, const char *data, size_t len)
{
	int64_t deadline = clock_us() + (int64_t)o->timeout_s * 1000000;
	while (len > 0) {
		size_t taken;
		int code =
			send_piece(o, data, len < INPUT_PIECE_MAX ? len : INPUT_PIECE_MAX, &taken);
		if (code != CLI_EXIT_OK)
			return code;
		data += taken;
		len -= taken;
		if (taken > 0) {
			deadline = clock_us() + (int64_t)o->timeout_s * 1000000;
			continue;
		}
		if (clock_us() >= deadline) {
			fprintf(stderr,
				"cloister: the guest has read no input for %u s; %zu bytes are "
				"left\n",
				o->timeout_s, len);
			return CLI_EXIT_FAILED;
		}
		nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
	}
	return CLI_EXIT_OK;
}

static int send_input(const struct cli_options *o)
{
	if (strcmp(o->send, "-") != 0)
		return send_all(o, o->send, strlen(o->send));
	for (;;) {
		char buf[4096];
		ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fprintf(stderr, "cloister: read standard input: %s\n", strerror(errno));
			return CLI_EXIT_FAILED;
		}
		if (n == 0)
			return CLI_EXIT_OK;
		int code = send_all(o, buf, (size_t)n);
		if (code != CLI_EXIT_OK)
			return code;
	}
}

/* Prints what is kept of the console and ends. */
static int print_kept(const struct cli_options *o)
{
	struct cli_console console;
	struct cli_target t;
	struct cli_answer a;
	cli_console_init(&console, o);
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "console");
	if (o->has_tail)
		cli_target_add_u64(&t, "tail", o->tail);
	int code = cli_request_call(o, "GET", &t, NULL, 0, &a);
	if (code == CLI_EXIT_OK && !cli_console_write(&console, a.body, a.length))
		code = CLI_EXIT_FAILED;
	cli_answer_clear(&a);
	return code;
}

int cli_stream_console(const struct cli_options *o)
{
	struct cli_console console;
	struct cli_target t;
	uint64_t since = 0;
	int code = cli_request_check_id(o->args[0]);
	if (code == CLI_EXIT_OK && o->send && o->has_tail)
		code = cli_usage_error("--tail and --send exclude each other");
	/* Told before the input goes: so no byte of the guest's reply is missed. */
	if (code == CLI_EXIT_OK && o->follow && (o->has_tail || o->send)) {
		code = console_end(o, &since);
		if (o->has_tail)
			since = since > o->tail ? since - o->tail : 0;
	}
	if (code == CLI_EXIT_OK && o->send)
		code = send_input(o);
	if (code != CLI_EXIT_OK || (o->send && !o->follow))
		return code;
	if (!o->follow)
		return print_kept(o);
	cli_console_init(&console, o);
	cli_target_make(&t, o, "/v1/sandboxes", o->args[0], "console");
	cli_target_add(&t, "follow", "1");
	cli_target_add_u64(&t, "since", since);
	return read_stream(o, &t, -1, console_piece, &console);
}

/* ------------------------------------------------------------------ events */

struct lines {
	const struct cli_options *o;
	size_t length;
	uint64_t last; /* number of the newest event seen */
	char text[EVENT_LINE_MAX];
};

static bool print_line(struct lines *l)
{
	if (l->length == 0)
		return true; /* a heartbeat */
	cJSON *event = cJSON_ParseWithLength(l->text, l->length);
	const cJSON *seq = cJSON_GetObjectItemCaseSensitive(event, "seq");
	if (cJSON_IsNumber(seq) && seq->valuedouble >= 0 && seq->valuedouble < 9e15)
		l->last = (uint64_t)seq->valuedouble;
	if (l->o->json)
		cli_output_json(l->text, l->length);
	else if (cJSON_IsObject(event))
		cli_output_event(event);
	bool valid = cJSON_IsObject(event);
	cJSON_Delete(event);
	l->length = 0;
	return fflush(stdout) == 0 && valid;
}

static int event_piece(void *arg, const char *data, size_t len)
{
	struct lines *l = arg;
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n') {
			if (!print_line(l)) {
				fputs("cloister: an event is no JSON object, or cannot be "
				      "written\n",
				      stderr);
				return CLI_EXIT_FAILED;
			}
		} else if (l->length == sizeof(l->text)) {
			fputs("cloister: an event is longer than 64 KiB\n", stderr);
			return CLI_EXIT_FAILED;
		} else {
			l->text[l->length++] = data[i];
		}
	}
	return -1;
}

int cli_stream_events(const struct cli_options *o)
{
	struct cli_target t;
	CLEANUP_FREE struct lines *l = calloc(1, sizeof(*l));
	if (!l) {
		fputs("cloister: no memory\n", stderr);
		return CLI_EXIT_FAILED;
	}
	l->o = o;
	cli_target_make(&t, o, "/v1/events", NULL, NULL);
	if (o->has_since)
		cli_target_add_u64(&t, "since", o->since);
	int code = read_stream(o, &t, SILENCE_US, event_piece, l);
	if (code == CLI_EXIT_NOT_FOUND)
		code = CLI_EXIT_FAILED;
	if (code != CLI_EXIT_OK && code != CLI_EXIT_UNREACHABLE)
		return code;
	/* The stream has no end of its own: the supervisor went away. */
	fputs("cloister: the stream of events ended", stderr);
	if (l->last > 0)
		fprintf(stderr, "; go on later with: cloister events --since %llu",
			(unsigned long long)l->last);
	fputc('\n', stderr);
	return CLI_EXIT_UNREACHABLE;
}
