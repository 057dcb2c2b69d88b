// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int console_open(struct console *c, size_t size, struct err *e)
{
	void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return err_errno(e, errno, "keep %zu bytes of console", size);
	*c = (struct console){.ring = ring, .size = size};
	return 0;
}

void console_close(struct console *c)
{
	if (c->ring)
		munmap(c->ring, c->size);
	*c = (struct console){0};
}

void console_look_for(struct console *c, const char *text)
{
	struct console_search *s = &c->search;
	*s = (struct console_search){0};
	s->len = strnlen(text, MSG_WAIT_TEXT_MAX - 1);
	memcpy(s->text, text, s->len);
	for (size_t i = 1, at = 0; i < s->len; i++) {
		while (at > 0 && text[i] != text[at])
			at = s->back[at - 1];
		if (text[i] == text[at])
			at++;
		s->back[i] = (uint8_t)at;
	}
}

bool console_has_seen(const struct console *c)
{
	return c->search.found;
}

static void search(struct console_search *s, const char *data, size_t len)
{
	for (size_t i = 0; i < len && !s->found; i++) {
		while (s->matched > 0 && data[i] != s->text[s->matched])
			s->matched = s->back[s->matched - 1];
		if (data[i] == s->text[s->matched])
			s->matched++;
		s->found = s->matched == s->len;
	}
}

void console_append(struct console *c, const char *data, size_t len)
{
	if (c->search.len)
		search(&c->search, data, len);
	if (len > c->size) {
		c->end += len - c->size;
		data += len - c->size;
		len = c->size;
	}
	size_t at = (size_t)(c->end % c->size);
	size_t first = len < c->size - at ? len : c->size - at;
	memcpy(c->ring + at, data, first);
	memcpy(c->ring, data + first, len - first);
	c->end += len;
}

void console_read(const struct console *c, uint64_t offset, bool tail, struct msg_console_data *out)
{
	uint64_t oldest = c->end > c->size ? c->end - c->size : 0;
	if (tail)
		offset = offset < c->end ? c->end - offset : 0;
	if (offset < oldest)
		offset = oldest;
	if (offset > c->end)
		offset = c->end;
	uint64_t left = c->end - offset;
	size_t len = left < MSG_DATA_MAX ? (size_t)left : MSG_DATA_MAX;
	size_t at = (size_t)(offset % c->size);
	size_t first = len < c->size - at ? len : c->size - at;
	out->offset = offset;
	out->end = c->end;
	out->eof = 0;
	out->length = (uint32_t)len;
	memcpy(out->data, c->ring + at, first);
	memcpy(out->data + first, c->ring, len - first);
}
