// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *ident;
	enum log_level max_level;
	bool journal;
	log_sink_fn *sink;
	void *sink_arg;
} state = {.ident = "cloister", .max_level = LOG_LEVEL_INFO};

static const struct {
	enum log_level level;
	const char *name;
} names[] = {
	{LOG_LEVEL_ERROR, "error"}, {LOG_LEVEL_WARNING, "warning"}, {LOG_LEVEL_NOTICE, "notice"},
	{LOG_LEVEL_INFO, "info"},   {LOG_LEVEL_DEBUG, "debug"},
};

/* JOURNAL_STREAM holds "device:inode" of the stream that the journal gave us (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;
	unsigned long long dev, ino;
	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *ident, enum log_level max_level)
{
	state.ident = ident;
	state.max_level = max_level;
	state.journal = stderr_is_journal();
}

void log_set_sink(log_sink_fn *sink, void *arg)
{
	state.sink = sink;
	state.sink_arg = arg;
}

/* One write(2) per line, so that lines of several processes on one stream do not mix. */
static void write_stderr(enum log_level level, const char *line)
{
	char out[LOG_LINE_MAX + 96];
	int n;
	if (state.journal) {
		n = snprintf(out, sizeof(out), "<%d>%s: %s\n", (int)level, state.ident, line);
	} else {
		struct timespec now;
		struct tm tm;
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		char when[32];
		strftime(when, sizeof(when), "%H:%M:%S", &tm);
		n = snprintf(out, sizeof(out), "%s.%03ld %s[%d] %s: %s\n", when,
			     now.tv_nsec / 1000000, state.ident, (int)getpid(),
			     log_level_name(level), line);
	}
	if (n > 0) {
		size_t len = (size_t)n < sizeof(out) ? (size_t)n : sizeof(out) - 1;
		/* A log line that cannot be written has no other place to go. */
		ssize_t ignored = write(STDERR_FILENO, out, len);
		(void)ignored;
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level > state.max_level)
		return;
	char line[LOG_LINE_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* What comes from a guest or a client may hold control bytes: they never reach a terminal.
	 */
	str_clean(line);
	if (state.sink)
		state.sink(state.sink_arg, level, line);
	else
		write_stderr(level, line);
}

const char *log_level_name(enum log_level level)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].level == level)
			return names[i].name;
	return "unknown";
}

int log_level_from_name(const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].name, name) == 0)
			return (int)names[i].level;
	return -1;
}
