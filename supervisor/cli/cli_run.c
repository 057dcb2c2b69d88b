// SPDX-License-Identifier: Apache-2.0
#include "cli_run.h"

#include "cli_console.h"
#include "cli_output.h"
#include "cli_request.h"
#include "cli_spec.h"
#include "name.h"
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define RETRY_US      200000  /* before the next try to reach a supervisor that went away */
#define INPUT_WAIT_US 50000   /* before input that the guest had no room for is sent again */
#define DRAIN_US      2000000 /* for the rest of the console after the sandbox is destroyed */
#define ASK_AGAIN_US  100000  /* while the sandbox is being ended by somebody else */
#define SLEEP_US      500000  /* while it is hibernated */

/*
 * Everything happens in one poll loop: the calls below are open or not, and what is due later has
 * a time. The console is read no faster than standard output takes it.
 */
struct run {
	const struct cli_options *o;
	char id[NAME_SIZE]; /* empty before the create is answered */
	struct cli_call create, console, look, destroy, input;

	int signal_fd;
	int signalled; /* the last signal, 0: none */

	bool console_open; /* its head was a 200 */
	bool console_over; /* no more of it will come */
	uint64_t offset;   /* console bytes received */
	const char *piece; /* received, not yet converted */
	size_t piece_length;
	struct cli_console convert;
	char out[CLI_CONSOLE_OUT_SIZE];
	size_t out_at, out_length;
	bool out_lost; /* standard output is gone */

	bool input_over;
	char in[4096];
	size_t in_length;

	int64_t console_at, look_at, input_at; /* when to start these calls, 0: not due */
	int64_t lost_since;		       /* there is no console, 0: there is */
	bool lost_told;
	int64_t drain_until; /* 0: the console ends by itself */
	char *record;	     /* the last one seen, for --json */

	bool ended; /* the guest is; outcome is its exit code */
	bool destroyed, finished;
	int outcome;
};

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("cloister: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static void finish(struct run *r, int outcome)
{
	if (!r->finished)
		r->outcome = outcome;
	r->finished = true;
}

static int start(struct run *r, struct cli_call *c, const char *method, const char *action,
		 const struct cli_body *body, struct err *e)
{
	struct cli_target t;
	bool end = c == &r->destroy;
	cli_target_make(&t, r->o, "/v1/sandboxes", r->id, action);
	if (end && r->o->grace_s > 0)
		cli_target_add_u64(&t, "grace_s", r->o->grace_s);
	if (c == &r->console) {
		cli_target_add(&t, "follow", "1");
		cli_target_add_u64(&t, "since", r->offset);
	}
	return cli_request_start(r->o, c, method, &t, body, end ? r->o->grace_s : 0, e);
}

/* ------------------------------------------------------------------ the end */

static void start_destroy(struct run *r)
{
	if (r->destroyed || cli_call_is_open(&r->destroy))
		return;
	struct err e;
	if (start(r, &r->destroy, "DELETE", NULL, NULL, &e) < 0) {
		int code = cli_request_broken(&e);
		say("sandbox %s is left as it is; end it with: cloister destroy %s", r->id, r->id);
		finish(r, code);
	}
}

/* Ends the sandbox because of something on our side; the exit code is what it stands for. */
static void give_up(struct run *r, int outcome)
{
	r->ended = true;
	r->outcome = outcome;
	r->input_over = true;
	if (*r->id)
		start_destroy(r);
}

static void on_signal(struct run *r)
{
	struct signalfd_siginfo info;
	if (read(r->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	int first = r->signalled;
	r->signalled = (int)info.ssi_signo;
	if (first) {
		if (*r->id && !r->destroyed)
			say("not waiting for the end of sandbox %s", r->id);
		finish(r, 128 + r->signalled);
		r->outcome = 128 + r->signalled;
		return;
	}
	if (cli_call_is_open(&r->create))
		say("ending the sandbox as soon as it is made; a second signal leaves at once");
	else if (!r->ended)
		give_up(r, 128 + r->signalled);
}

static void destroy_step(struct run *r)
{
	struct err e;
	enum cli_http_step step = cli_call_step(&r->destroy, &e);
	if (step == CLI_HTTP_WAIT)
		return;
	int status = r->destroy.answer.status;
	if (step == CLI_HTTP_FAILED) {
		int code = cli_request_broken(&e);
		say("sandbox %s may be left; end it with: cloister destroy %s", r->id, r->id);
		finish(r, code);
	} else if (status != 404 && (status < 200 || status > 299)) {
		finish(r, cli_request_refused(r->o, status, r->destroy.answer.body,
					      r->destroy.answer.length));
	} else {
		r->destroyed = true;
		r->drain_until = clock_us() + DRAIN_US;
		if (status != 404 && !r->record) {
			r->record = r->destroy.answer.body;
			r->destroy.answer.body = NULL;
		}
	}
	cli_answer_clear(&r->destroy.answer);
}

/* True, and all is over, when the console could not be had for as long as --timeout. */
static bool is_away_too_long(struct run *r)
{
	if (clock_us() - r->lost_since <= (int64_t)r->o->timeout_s * 1000000)
		return false;
	say("the console of sandbox %s is lost; the sandbox may still run", r->id);
	finish(r, CLI_EXIT_UNREACHABLE);
	return true;
}

/* The supervisor does not answer: its VMs live on, so wait for the next one for a while. */
static void lost(struct run *r, const struct err *e)
{
	if (!r->lost_told)
		say("%s; trying again for %u s", e->text, r->o->timeout_s);
	r->lost_told = true;
	if (!is_away_too_long(r))
		r->look_at = clock_us() + RETRY_US;
}

/* The record of the sandbox, asked for when the console ended: is the guest at its end? */
static void read_record(struct run *r)
{
	struct cli_answer *a = &r->look.answer;
	cJSON *box = cli_output_parse(a->body, a->length);
	const char *state = cli_output_string(box, "state", "");
	if (!box) {
		give_up(r, CLI_EXIT_FAILED);
	} else if (!strcmp(state, "stopped") || !strcmp(state, "crashed") ||
		   !strcmp(state, "failed")) {
		r->ended = true;
		r->console_over = true;
		r->outcome = cli_output_end(r->id, box) ? CLI_EXIT_OK : CLI_EXIT_FAILED;
		r->record = a->body;
		a->body = NULL;
		if (r->o->keep)
			r->destroyed = true;
		else
			start_destroy(r);
	} else if (!strcmp(state, "destroying")) {
		r->look_at = clock_us() + ASK_AGAIN_US;
	} else if (!strcmp(state, "hibernating") || !strcmp(state, "hibernated") ||
		   !strcmp(state, "waking")) {
		/* It sleeps, for as long as it may be; its next VMM's console begins anew. */
		r->lost_since = clock_us();
		r->offset = 0;
		r->look_at = r->lost_since + SLEEP_US;
	} else if (!is_away_too_long(r)) {
		/* The guest runs on: the supervisor dropped us, or is a new one. */
		r->console_at = clock_us() + ASK_AGAIN_US;
	}
	cJSON_Delete(box);
}

static void gone(struct run *r)
{
	say("sandbox %s was destroyed by somebody else", r->id);
	r->ended = r->destroyed = r->console_over = true;
	r->outcome = CLI_EXIT_FAILED;
}

static void look_step(struct run *r)
{
	struct err e;
	enum cli_http_step step = cli_call_step(&r->look, &e);
	if (step == CLI_HTTP_WAIT)
		return;
	int status = r->look.answer.status;
	if (step == CLI_HTTP_FAILED) {
		lost(r, &e);
	} else if (status == 503) {
		err_set(&e, ERR_UNAVAILABLE, 0, "the supervisor is not ready");
		lost(r, &e);
	} else if (r->ended) {
		/* A signal came meanwhile: what is left to do is under way. */
	} else if (status == 404) {
		gone(r);
	} else if (status != 200) {
		give_up(r, cli_request_refused(r->o, status, r->look.answer.body,
					       r->look.answer.length));
	} else {
		read_record(r);
	}
	cli_answer_clear(&r->look.answer);
}

/* ------------------------------------------------------------------ the start */

static void create_step(struct run *r)
{
	struct err e;
	enum cli_http_step step = cli_call_step(&r->create, &e);
	if (step == CLI_HTTP_WAIT)
		return;
	struct cli_answer *a = &r->create.answer;
	if (step == CLI_HTTP_FAILED) {
		int code = cli_request_broken(&e);
		say("the sandbox may have been made; see: cloister ls");
		finish(r, code);
	} else if (a->status != 201) {
		int code = cli_request_refused(r->o, a->status, a->body, a->length);
		finish(r, code == CLI_EXIT_NOT_FOUND ? CLI_EXIT_FAILED : code);
	} else {
		cJSON *box = cli_output_parse(a->body, a->length);
		const char *id = cli_output_string(box, "id", "");
		if (!name_is_valid(id) || !str_copy(r->id, sizeof(r->id), id)) {
			say("the supervisor's answer names no sandbox");
			finish(r, CLI_EXIT_FAILED);
		} else if (r->signalled) {
			give_up(r, 128 + r->signalled);
		} else {
			r->console_at = clock_us();
		}
		cJSON_Delete(box);
	}
	cli_answer_clear(a);
}

/* ------------------------------------------------------------------ console */

static void console_ended(struct run *r)
{
	if (r->lost_since == 0)
		r->lost_since = clock_us();
	cli_call_close(&r->console);
	r->console_open = false;
	if (r->ended)
		r->console_over = true;
	else
		r->look_at = clock_us();
}

/* One step; false when there is nothing more to do now. */
static bool console_step(struct run *r)
{
	struct err e;
	const char *data = "";
	size_t length = 0;
	int status;
	switch (cli_http_step(&r->console.http, &data, &length, &e)) {
	case CLI_HTTP_WAIT:
		if (!r->console_open && clock_us() >= r->console.deadline_us)
			console_ended(r);
		return false;
	case CLI_HTTP_HEAD:
		/* What is wrong is told better by the record, which is asked for then. */
		status = r->console.http.response.status;
		r->console_open = status == 200;
		if (!r->console_open) {
			console_ended(r);
			break;
		}
		r->lost_since = 0;
		r->lost_told = false;
		break;
	case CLI_HTTP_DATA:
		r->offset += length;
		if (!r->out_lost) {
			r->piece = data;
			r->piece_length = length;
		}
		break;
	case CLI_HTTP_END:
	case CLI_HTTP_FAILED:
		console_ended(r);
		break;
	}
	return true;
}

static bool has_output(const struct run *r)
{
	return r->piece_length > 0 || r->out_at < r->out_length;
}

/* Writes what poll(2) says there is room for: no more than PIPE_BUF, so that it never blocks. */
static void output_step(struct run *r)
{
	if (r->out_at == r->out_length) {
		size_t n =
			r->piece_length < CLI_CONSOLE_PIECE ? r->piece_length : CLI_CONSOLE_PIECE;
		r->out_length = cli_console_convert(&r->convert, r->piece, n, r->out);
		r->out_at = 0;
		r->piece += n;
		r->piece_length -= n;
	}
	size_t left = r->out_length - r->out_at;
	ssize_t n = write(STDOUT_FILENO, r->out + r->out_at, left < 4096 ? left : 4096);
	if (n >= 0) {
		r->out_at += (size_t)n;
	} else if (errno != EINTR && errno != EAGAIN) {
		say("write to standard output: %s; ending the sandbox", strerror(errno));
		r->out_lost = true;
		r->piece_length = r->out_at = r->out_length = 0;
		if (!r->ended)
			give_up(r, CLI_EXIT_FAILED);
	}
}

/* ------------------------------------------------------------------ input */

static void read_input(struct run *r)
{
	ssize_t n = read(STDIN_FILENO, r->in, sizeof(r->in));
	if (n > 0) {
		r->in_length = (size_t)n;
		r->input_at = clock_us();
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		r->input_over = true;
	}
}

static void input_step(struct run *r)
{
	struct err e;
	enum cli_http_step step = cli_call_step(&r->input, &e);
	if (step == CLI_HTTP_WAIT)
		return;
	struct cli_answer *a = &r->input.answer;
	if (step == CLI_HTTP_FAILED || a->status != 200) {
		if (r->ended)
			; /* of course */
		else if (step == CLI_HTTP_FAILED)
			cli_request_broken(&e);
		else
			cli_request_refused(r->o, a->status, a->body, a->length);
		r->in_length = 0;
	} else {
		cJSON *answer = cli_output_parse(a->body, a->length);
		const cJSON *written = cJSON_GetObjectItemCaseSensitive(answer, "written");
		double n = cJSON_IsNumber(written) ? written->valuedouble : -1;
		if (n < 0 || n > (double)r->in_length)
			n = (double)r->in_length;
		r->in_length -= (size_t)n;
		memmove(r->in, r->in + (size_t)n, r->in_length);
		r->input_at = r->in_length ? clock_us() + (n > 0 ? 0 : INPUT_WAIT_US) : 0;
		cJSON_Delete(answer);
	}
	cli_answer_clear(a);
}

/* ------------------------------------------------------------------ the loop */

/* Starts the calls whose time has come. */
static void start_due(struct run *r)
{
	struct err e;
	int64_t now = clock_us();
	if (r->console_at && now >= r->console_at) {
		r->console_at = 0;
		if (!r->ended && start(r, &r->console, "GET", "console", NULL, &e) < 0) {
			r->lost_since = r->lost_since ? r->lost_since : now;
			lost(r, &e);
		}
	}
	if (r->look_at && now >= r->look_at) {
		r->look_at = 0;
		if (!r->ended && start(r, &r->look, "GET", NULL, NULL, &e) < 0)
			lost(r, &e);
	}
	if (r->input_at && now >= r->input_at) {
		struct cli_body b = {"application/octet-stream", r->in, r->in_length};
		r->input_at = 0;
		if (!r->ended && start(r, &r->input, "POST", "console", &b, &e) < 0)
			r->input_at = now + RETRY_US;
	}
}

static void note_time(int64_t *next, int64_t at)
{
	if (at != 0 && (*next == 0 || at < *next))
		*next = at;
}

/* poll(2)'s timeout until the next thing that is due, -1: nothing is. */
static int timeout_ms(const struct run *r)
{
	const struct cli_call *const calls[] = {&r->create, &r->look, &r->destroy, &r->input};
	int64_t next = 0;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (cli_call_is_open(calls[i]))
			note_time(&next, calls[i]->deadline_us);
	if (cli_call_is_open(&r->console) && !r->console_open)
		note_time(&next, r->console.deadline_us);
	note_time(&next, r->console_at);
	note_time(&next, r->look_at);
	note_time(&next, r->input_at);
	int64_t now = clock_us();
	if (r->drain_until > now)
		note_time(&next, r->drain_until);
	if (next == 0)
		return -1;
	int64_t left = next - now;
	return left <= 0 ? 0 : (int)(left / 1000 + 1 < 60000 ? left / 1000 + 1 : 60000);
}

enum {
	ON_SIGNAL,
	ON_STDOUT,
	ON_STDIN,
	ON_CONSOLE,
	ON_CREATE,
	ON_LOOK,
	ON_DESTROY,
	ON_INPUT,
	ON_COUNT
};

static void watch_call(struct pollfd *p, const struct cli_call *c)
{
	p->fd = c->http.fd;
	p->events = cli_http_poll_events(&c->http);
}

static void wait_for_something(struct run *r, struct pollfd p[ON_COUNT])
{
	for (int i = 0; i < ON_COUNT; i++)
		p[i] = (struct pollfd){.fd = -1};
	p[ON_SIGNAL] = (struct pollfd){.fd = r->signal_fd, .events = POLLIN};
	if (has_output(r))
		p[ON_STDOUT] = (struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT};
	if (r->o->interactive && *r->id && !r->input_over && r->in_length == 0)
		p[ON_STDIN] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	if (r->piece_length == 0)
		watch_call(&p[ON_CONSOLE], &r->console);
	watch_call(&p[ON_CREATE], &r->create);
	watch_call(&p[ON_LOOK], &r->look);
	watch_call(&p[ON_DESTROY], &r->destroy);
	watch_call(&p[ON_INPUT], &r->input);
	if (poll(p, ON_COUNT, timeout_ms(r)) < 0)
		for (int i = 0; i < ON_COUNT; i++)
			p[i].revents = 0;
}

/* Calls are stepped whether poll named them or not: their deadlines are in there too. */
static void step_all(struct run *r, const struct pollfd p[ON_COUNT])
{
	if (p[ON_SIGNAL].revents)
		on_signal(r);
	if (p[ON_STDOUT].revents)
		output_step(r);
	if (p[ON_STDIN].revents && !r->input_over)
		read_input(r);
	while (cli_call_is_open(&r->console) && r->piece_length == 0 && console_step(r))
		;
	if (cli_call_is_open(&r->create))
		create_step(r);
	if (cli_call_is_open(&r->look))
		look_step(r);
	if (cli_call_is_open(&r->destroy))
		destroy_step(r);
	if (cli_call_is_open(&r->input))
		input_step(r);
	start_due(r);
}

/* All is done when the sandbox is gone and its console is out, or has had its time to be. */
static bool is_over(const struct run *r)
{
	if (r->finished)
		return true;
	if (!r->ended || !r->destroyed)
		return false;
	bool late = r->drain_until && clock_us() >= r->drain_until;
	if (has_output(r))
		return late && r->signalled;
	return late || r->console_over || !cli_call_is_open(&r->console);
}

static int start_create(struct run *r)
{
	struct cli_target t;
	CLEANUP_FREE char *body = NULL;
	size_t length;
	int code = cli_spec_make(r->o, &body, &length);
	if (code != CLI_EXIT_OK)
		return code;
	cli_target_make(&t, r->o, "/v1/sandboxes", NULL, NULL);
	struct cli_body b = {.type = "application/json", .data = body, .length = length};
	struct err e;
	if (cli_request_start(r->o, &r->create, "POST", &t, &b, cli_spec_extra_s(r->o), &e) < 0)
		return cli_request_broken(&e);
	return CLI_EXIT_OK;
}

/* From here on signals are read, and a reader of ours that goes away is an error to handle. */
static int take_signals(struct run *r)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	r->signal_fd = -1;
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signal_fd >= 0)
		return 0;
	say("take signals: %s", strerror(errno));
	return CLI_EXIT_FAILED;
}

int cli_run_command(const struct cli_options *o)
{
	CLEANUP_FREE struct run *r = calloc(1, sizeof(*r));
	struct pollfd p[ON_COUNT];
	if (!r)
		return CLI_EXIT_FAILED;
	struct cli_call *const calls[] = {&r->create, &r->console, &r->look, &r->destroy,
					  &r->input};
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		calls[i]->http.fd = -1;
	r->o = o;
	cli_console_init(&r->convert, o);
	int code = take_signals(r);
	if (code == CLI_EXIT_OK)
		code = start_create(r);
	if (code == CLI_EXIT_OK) {
		while (!is_over(r)) {
			wait_for_something(r, p);
			step_all(r, p);
		}
		code = r->outcome;
		if (o->json && r->record && !r->out_lost)
			cli_output_json(r->record, strlen(r->record));
	}
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		cli_call_close(calls[i]);
	free(r->record);
	fd_close(&r->signal_fd);
	return code;
}
