// SPDX-License-Identifier: Apache-2.0
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void fd_close(int *fd)
{
	if (*fd < 0)
		return;
	int saved = errno;
	close(*fd);
	*fd = -1;
	errno = saved;
}

int fd_take(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

void util_free(void *p)
{
	free(*(void **)p);
}

bool str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);
	if (len >= size) {
		dst[0] = '\0';
		return false;
	}
	memcpy(dst, src, len + 1);
	return true;
}

bool str_is_padded(const char *buf, size_t size)
{
	size_t len = strnlen(buf, size);
	if (len == size)
		return false;
	for (size_t i = len; i < size; i++)
		if (buf[i] != '\0')
			return false;
	return true;
}

void str_clean(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
			*s = '?';
}

bool str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	if (*s < '0' || *s > '9')
		return false;
	uint64_t value = 0;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
			return false;
	}
	if (value < min || value > max)
		return false;
	*out = value;
	return true;
}

static int64_t clock_read(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_us(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_real_us(void)
{
	return clock_read(CLOCK_REALTIME);
}

void clock_format(int64_t real_us, char out[CLOCK_TEXT_MAX])
{
	int64_t us = real_us % 1000000;
	if (us < 0) /* before 1970: down, not towards it */
		us += 1000000;
	time_t seconds = (time_t)(real_us / 1000000 - (real_us % 1000000 < 0));
	struct tm tm;
	gmtime_r(&seconds, &tm);
	char day[24];
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, CLOCK_TEXT_MAX, "%s.%03dZ", day, (int)(us / 1000));
}
