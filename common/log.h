// SPDX-License-Identifier: Apache-2.0
/*
 * Levelled logging to standard error, or to a sink (the shim's goes to its supervisor).
 *
 * The levels are syslog's (syslog(3)). When standard error is a journal stream the lines carry
 * the "<N>" prefix of sd-daemon(3), so that the journal keeps the level.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

#define LOG_LINE_MAX 512

/* Sink for one finished line (no newline, at most LOG_LINE_MAX - 1 bytes). Must not log itself. */
typedef void log_sink_fn(void *arg, enum log_level level, const char *line);

/* ident (a string that stays) stands before each line; lines above max_level are left out. */
void log_open(const char *ident, enum log_level max_level);

/* Sends every later line to sink instead of standard error; NULL goes back. */
void log_set_sink(log_sink_fn *sink, void *arg);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The word that stands for the level, and back (-1 where there is no such word). */
const char *log_level_name(enum log_level level);
int log_level_from_name(const char *name);

#define log_error(...)	 log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
