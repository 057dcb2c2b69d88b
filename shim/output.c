// SPDX-License-Identifier: Apache-2.0
#include "output.h"

#include "ending.h"
#include "log.h"
#include "ops.h"
#include "serve.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PERIOD_US 100000

#define NO_SPACE_US 1000000 /* between two events about a full disk */

/* Per period: 10 MB/s of console, 2.5 MB/s of log, 640 event records/s. */
static const size_t budgets[SHIM_SOURCE_COUNT] = {
	[SHIM_STDOUT] = 1u << 20,
	[SHIM_STDERR] = 256u << 10,
	[SHIM_EVENTS] = 64,
};

/* A record of CH's event monitor is well below this. */
#define EVENT_MAX 4096

/* One read buffer for all streams: used within a call, never across. */
static char buffer[32768];

static int *stream_fd(struct shim *s, enum shim_source source)
{
	switch (source) {
	case SHIM_STDOUT:
		return &s->out_fd;
	case SHIM_STDERR:
		return &s->err_fd;
	default:
		return &s->event_fd;
	}
}

static void close_stream(struct shim *s, enum shim_source source)
{
	int *fd = stream_fd(s, source);
	serve_unwatch(s, *fd);
	fd_close(fd);
}

/* Counts what was read; false, and the stream left unwatched, when the period's share is used up.
 */
static bool spend(struct shim *s, enum shim_source source, size_t amount)
{
	struct shim_budget *b = &s->budget[source];
	int64_t now = clock_us();
	if (now - b->window_us >= PERIOD_US) {
		b->window_us = now;
		b->used = 0;
	}
	b->used += amount;
	if (b->used < budgets[source])
		return true;
	b->stopped = true;
	serve_unwatch(s, *stream_fd(s, source));
	return false;
}

int64_t output_renew_budgets(struct shim *s, int64_t now_us)
{
	static const enum shim_source streams[] = {SHIM_STDOUT, SHIM_STDERR, SHIM_EVENTS};
	int64_t next = INT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		struct shim_budget *b = &s->budget[streams[i]];
		int fd = *stream_fd(s, streams[i]);
		if (!b->stopped || fd < 0)
			continue;
		if (now_us - b->window_us >= PERIOD_US) {
			b->stopped = false;
			b->used = 0;
			b->window_us = now_us;
			serve_watch(s, fd, streams[i], true, false);
		} else if (b->window_us + PERIOD_US < next) {
			next = b->window_us + PERIOD_US;
		}
	}
	return next;
}

/* Bytes read into the buffer; 0 when there is nothing now; -1 when the stream has ended. */
static ssize_t read_stream(int fd)
{
	ssize_t n;
	do
		n = read(fd, buffer, sizeof(buffer));
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

/* ------------------------------------------------------------------ console */

void output_stdout(struct shim *s)
{
	ssize_t n = read_stream(s->out_fd);
	if (n > 0)
		console_append(&s->console, buffer, (size_t)n);
	if (n < 0)
		close_stream(s, SHIM_STDOUT);
	else
		spend(s, SHIM_STDOUT, (size_t)n);
	if (n > 0)
		ops_console_grew(s);
}

void output_tell(struct shim *s, enum msg_event_what what, uint32_t count)
{
	struct err e;
	struct msg_event event = {.what = (uint32_t)what, .count = count};
	/* Counts go up: of several that nobody hears the last one says all. */
	s->untold_events[what] = count;
	if (s->link.fd < 0 || !s->greeted)
		return;
	if (chan_send_event(&s->link, 0, &event, &e) < 0) {
		uplink_close(s, e.text);
		return;
	}
	s->untold_events[what] = 0;
	serve_watch_link(s);
}

/* ------------------------------------------------------------------ log */

static void finish_line(struct shim_stderr *log)
{
	log->line[log->used] = '\0';
	log->used = 0;
	str_clean(log->line);
	if (strstr(log->line, "seccomp violation"))
		log->seccomp = true;
	/* strerror(3) of ENOSPC and EDQUOT, with which CH ends its line about a failed request. */
	if (strstr(log->line, "No space left on device") ||
	    strstr(log->line, "Disk quota exceeded"))
		log->no_space = true;
	/* CH's error lines, a panic of its threads, and what it prints when it ends with status 1.
	 */
	if (strstr(log->line, "rate_limiter/")) /* a large request, no failure */
		return;
	if (!strstr(log->line, " ERROR:") && !strstr(log->line, "panicked at") &&
	    strncmp(log->line, "Error:", 6) != 0)
		return;
	char *kept = log->errors[log->error_count % SHIM_ERROR_LINES];
	size_t length = strnlen(log->line, SHIM_ERROR_MAX - 1);
	memcpy(kept, log->line, length);
	kept[length] = '\0';
	log->error_count++;
	log->last_error_us = clock_us();
}

static void take_log(struct shim *s, const char *data, size_t len)
{
	struct shim_stderr *log = &s->errors;
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			finish_line(log);
		else if (data[i] != '\r' && log->used < SHIM_LINE_MAX - 1)
			log->line[log->used++] = data[i];
	}
}

const char *output_last_error(const struct shim *s)
{
	if (s->errors.error_count == 0)
		return NULL;
	return s->errors.errors[(s->errors.error_count - 1) % SHIM_ERROR_LINES];
}

/*
 * The guest has got its I/O error; somebody should know why. What the VMM says about it is taken
 * for what it is: told once a second at the most, and beside what the file system itself says.
 */
static void check_space(struct shim *s)
{
	struct shim_stderr *log = &s->errors;
	struct statvfs fs;
	int64_t now = clock_us();
	if (!log->no_space || now - log->no_space_told_us < NO_SPACE_US ||
	    !sets_has_own_disk(&s->spec))
		return;
	log->no_space = false;
	log->no_space_told_us = now;
	for (uint32_t i = 0; i < s->disks.count; i++) {
		if (s->disks.fd[i] < 0 ||
		    (s->spec.disks[i].flags & (MSG_DISK_READONLY | MSG_DISK_DEVICE)))
			continue;
		if (fstatvfs(s->disks.fd[i], &fs) == 0)
			log_warning("a write to disk%u found no room: its file system has %llu "
				    "KiB left",
				    i, (unsigned long long)fs.f_bavail * fs.f_frsize / 1024);
	}
	output_tell(s, MSG_EVENT_DISK_FULL, ++log->no_space_count);
}

void output_stderr(struct shim *s)
{
	ssize_t n = read_stream(s->err_fd);
	if (n > 0)
		take_log(s, buffer, (size_t)n);
	check_space(s);
	if (n < 0)
		close_stream(s, SHIM_STDERR);
	else
		spend(s, SHIM_STDERR, (size_t)n);
}

/* ------------------------------------------------------------------ events */

/* More than policy->reboots within the period is a loop: the oldest of that many is remembered. */
static void count_reboot(struct shim *s)
{
	uint32_t keep = s->policy->reboots + 1;
	int64_t now = clock_us();
	s->reboot_times[s->reboots % keep] = now;
	s->reboots++;
	output_tell(s, MSG_EVENT_REBOOT, s->reboots);
	if (s->reboots < keep)
		return;
	/* The ring is full: what the next one will overwrite is the oldest. */
	int64_t oldest = s->reboot_times[s->reboots % keep];
	if (now - oldest <= s->policy->reboot_period_s * 1000000ll)
		ending_start(s, SHIM_ENDING_REBOOTS, 0);
}

static void take_event(struct shim *s, const char *data, size_t len)
{
	struct ch_api_event event;
	/* CH sends each record's closing blank lines as a datagram of their own. */
	if (len <= 2)
		return;
	if (!ch_api_read_event(data, len, &event)) {
		s->events_dropped++;
		return;
	}
	log_debug("VMM event %s/%s %s", event.source, event.event, event.detail);
	if (strcmp(event.source, "guest") == 0 && strcmp(event.event, "panic") == 0) {
		output_tell(s, MSG_EVENT_PANIC, 1);
		ending_start(s, SHIM_ENDING_PANIC, 0);
	} else if (strcmp(event.source, "vm") == 0 && strcmp(event.event, "rebooted") == 0) {
		count_reboot(s);
	}
}

/* One record; false when there is none now or the channel has ended. */
static bool read_event(struct shim *s)
{
	ssize_t n = recv(s->event_fd, buffer, EVENT_MAX, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		close_stream(s, SHIM_EVENTS);
		return false;
	}
	take_event(s, buffer, (size_t)n);
	return true;
}

void output_events(struct shim *s)
{
	while (s->event_fd >= 0 && read_event(s))
		if (!spend(s, SHIM_EVENTS, 1))
			break;
	if (s->events_dropped) {
		output_tell(s, MSG_EVENT_DROPPED, s->events_dropped);
		s->events_dropped = 0;
	}
}

void output_drain(struct shim *s)
{
	/* No more than a pipe or socket can hold: nobody writes any more, or should. */
	for (int i = 0; i < 64 && s->out_fd >= 0; i++) {
		ssize_t n = read_stream(s->out_fd);
		if (n <= 0)
			break;
		console_append(&s->console, buffer, (size_t)n);
	}
	for (int i = 0; i < 64 && s->err_fd >= 0; i++) {
		ssize_t n = read_stream(s->err_fd);
		if (n <= 0)
			break;
		take_log(s, buffer, (size_t)n);
	}
	if (s->errors.used)
		finish_line(&s->errors);
	for (int i = 0; i < 256 && s->event_fd >= 0; i++)
		if (!read_event(s))
			break;
	if (s->out_fd >= 0)
		close_stream(s, SHIM_STDOUT);
	if (s->err_fd >= 0)
		close_stream(s, SHIM_STDERR);
	if (s->event_fd >= 0)
		close_stream(s, SHIM_EVENTS);
}
