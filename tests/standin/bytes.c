// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void bytes_grow(struct bytes *b, size_t more)
{
	if (b->room - b->len > more)
		return;
	size_t room = (b->len + more) * 2 + 64;
	char *data = realloc(b->data, room);
	if (!data)
		abort();
	b->data = data;
	b->room = room;
}

void bytes_add(struct bytes *b, const void *data, size_t len)
{
	bytes_grow(b, len + 1);
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

static char *bytes_vtext(const char *format, va_list args)
{
	char *text;
	if (vasprintf(&text, format, args) < 0)
		abort();
	return text;
}

char *bytes_text(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *text = bytes_vtext(format, args);
	va_end(args);
	return text;
}

void bytes_format(struct bytes *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *text = bytes_vtext(format, args);
	va_end(args);
	bytes_add(b, text, strlen(text));
	free(text);
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){0};
}
