// SPDX-License-Identifier: Apache-2.0
/* Small helpers that every program here needs: descriptors, strings, clocks. No policy. */
#ifndef COMMON_UTIL_H
#define COMMON_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Closes *fd if it is open and makes it -1; keeps errno. */
void fd_close(int *fd);

/* Gives the descriptor away: returns *fd and leaves -1 behind, so that no cleanup closes it. */
int fd_take(int *fd);

void util_free(void *p);

/* A local variable with one of these is released when it goes out of scope. */
#define CLEANUP_FD   __attribute__((cleanup(fd_close)))
#define CLEANUP_FREE __attribute__((cleanup(util_free)))

/* Copies src with its end into dst[size]; false (and an empty dst) when it does not fit. */
bool str_copy(char *dst, size_t size, const char *src);

/* True when buf[size] holds a NUL and only zero bytes after it. */
bool str_is_padded(const char *buf, size_t size);

/* Replaces control bytes and non-ASCII by '?', in place: for text of untrusted origin. */
void str_clean(char *s);

/* A whole decimal number of min..max, no sign, no blank, no trailing byte. */
bool str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);

/* Microseconds: CLOCK_MONOTONIC, and CLOCK_REALTIME since the epoch (clock_gettime(2)). */
int64_t clock_us(void);
int64_t clock_real_us(void);

/* RFC 3339 in UTC with milliseconds, of a CLOCK_REALTIME time in microseconds. */
#define CLOCK_TEXT_MAX 32
void clock_format(int64_t real_us, char out[CLOCK_TEXT_MAX]);

#endif
