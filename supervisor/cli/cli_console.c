// SPDX-License-Identifier: Apache-2.0
#include "cli_console.h"

#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void cli_console_init(struct cli_console *c, const struct cli_options *o)
{
	*c = (struct cli_console){.mode = CLI_CONSOLE_RAW};
	if (o->json)
		c->mode = CLI_CONSOLE_JSON;
	else if (!o->raw && isatty(STDOUT_FILENO))
		c->mode = CLI_CONSOLE_CLEAN;
	c->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static size_t to_json(const char *in, size_t len, char *out)
{
	static const char hex[] = "0123456789abcdef";
	static const char head[] = "{\"data\":\"", tail[] = "\"}\n";
	size_t n = sizeof(head) - 1;
	memcpy(out, head, n);
	for (size_t i = 0; i < len; i++) {
		unsigned char b = (unsigned char)in[i];
		if (b >= 0x20 && b < 0x7f && b != '"' && b != '\\') {
			out[n++] = in[i];
			continue;
		}
		memcpy(out + n, "\\u00", 4);
		out[n + 4] = hex[b >> 4];
		out[n + 5] = hex[b & 15];
		n += 6;
	}
	memcpy(out + n, tail, sizeof(tail) - 1);
	return n + sizeof(tail) - 1;
}

/* How many bytes follow the first byte of a UTF-8 character; 0: it starts none (RFC 3629). */
static unsigned followers(unsigned char b)
{
	if (b >= 0xc2 && b <= 0xdf)
		return 1;
	if (b >= 0xe0 && b <= 0xef)
		return 2;
	return b >= 0xf0 && b <= 0xf4 ? 3 : 0;
}

/* A complete character: itself, or '?' where it is a C1 control or an overlong form. */
static size_t put_character(const struct cli_console *c, char *out)
{
	const unsigned char *p = c->part;
	bool control = p[0] == 0xc2 && p[1] < 0xa0;
	bool wrong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		     (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
	if (control || wrong) {
		out[0] = '?';
		return 1;
	}
	memcpy(out, p, c->have);
	return c->have;
}

static size_t to_clean(struct cli_console *c, const char *in, size_t len, char *out)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char b = (unsigned char)in[i];
		if (c->missing > 0 && (b & 0xc0) == 0x80) {
			c->part[c->have++] = b;
			if (--c->missing == 0)
				n += put_character(c, out + n);
			continue;
		}
		if (c->missing > 0) {
			c->missing = 0;
			out[n++] = '?';
		}
		if ((b >= 0x20 && b < 0x7f) || b == '\n' || b == '\r' || b == '\t') {
			out[n++] = in[i];
		} else if (c->utf8 && followers(b) > 0) {
			c->part[0] = b;
			c->have = 1;
			c->missing = followers(b);
		} else {
			out[n++] = '?';
		}
	}
	return n;
}

size_t cli_console_convert(struct cli_console *c, const char *in, size_t len,
			   char out[CLI_CONSOLE_OUT_SIZE])
{
	switch (c->mode) {
	case CLI_CONSOLE_JSON:
		return to_json(in, len, out);
	case CLI_CONSOLE_CLEAN:
		return to_clean(c, in, len, out);
	case CLI_CONSOLE_RAW:
		break;
	}
	memcpy(out, in, len);
	return len;
}

bool cli_console_write(struct cli_console *c, const char *in, size_t len)
{
	char out[CLI_CONSOLE_OUT_SIZE];
	while (len > 0) {
		size_t n = len < CLI_CONSOLE_PIECE ? len : CLI_CONSOLE_PIECE;
		size_t size = cli_console_convert(c, in, n, out);
		if (fwrite(out, 1, size, stdout) != size)
			return false;
		in += n;
		len -= n;
	}
	return fflush(stdout) == 0;
}
