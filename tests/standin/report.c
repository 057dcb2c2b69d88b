// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct timespec started;
static int event_fd = -1;

static struct timespec report_elapsed(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now.tv_sec -= started.tv_sec;
	now.tv_nsec -= started.tv_nsec;
	if (now.tv_nsec < 0) {
		now.tv_nsec += 1000000000;
		now.tv_sec--;
	}
	return now;
}

void report_start(void)
{
	clock_gettime(CLOCK_MONOTONIC, &started);
}

int64_t report_now(void)
{
	struct timespec now = report_elapsed();
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void report_events_to(int fd)
{
	event_fd = fd;
	/* on the open file description: whoever shares it finds it non-blocking as well */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Lost when the reader is full or gone: the real one does not care either. */
static void report_put(const void *data, size_t len)
{
	if (event_fd >= 0 && write(event_fd, data, len) < 0)
		errno = 0;
}

void report_event(const char *source, const char *event, const char *key, const char *value)
{
	struct timespec at = report_elapsed();
	struct bytes text = {0};
	bytes_format(&text,
		     "{\n  \"timestamp\": {\n    \"secs\": %lld,\n    \"nanos\": %ld\n  },\n"
		     "  \"source\": \"%s\",\n  \"event\": \"%s\",\n  \"properties\": ",
		     (long long)at.tv_sec, at.tv_nsec, source, event);
	if (key)
		bytes_format(&text, "{\n    \"%s\": \"%s\"\n  }\n}", key, value);
	else
		bytes_format(&text, "null\n}");
	report_put(text.data, text.len);
	report_put("\n\n", 2);
	bytes_free(&text);
}

void report_bad_event(void)
{
	static const char garbage[] = "{\"timestamp\": \xff\x01 no record at all {{{";
	report_put(garbage, sizeof(garbage) - 1);
}

/* Blocks when stderr is a full blocking pipe, and everything stops with it: as the real one. */
static bool report_stderr(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

void report_log(const char *thread, const char *level, const char *where, const char *format, ...)
{
	struct timespec at = report_elapsed();
	struct bytes line = {0};
	bytes_format(&line, "cloud-hypervisor: %3lld.%06lds: <%s> %s:%s -- ", (long long)at.tv_sec,
		     at.tv_nsec / 1000, thread, level, where);
	va_list args;
	va_start(args, format);
	char *text;
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	bytes_format(&line, "%s\r\n", text); /* CR too: the console may be a raw terminal */
	free(text);
	report_stderr(line.data, line.len);
	bytes_free(&line);
}

void report_fatal(const char *const causes[])
{
	struct bytes text = {0};
	bytes_format(&text, "Error: Cloud Hypervisor exited with the following chain of errors:\n");
	for (int i = 0; causes[i]; i++)
		bytes_format(&text, "  %d: %s\n", i, causes[i]);
	_exit(report_stderr(text.data, text.len) ? 1 : 101);
}
