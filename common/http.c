// SPDX-License-Identifier: Apache-2.0
#include "http.h"

#include <string.h>
#include <strings.h>

static enum http_result bad(struct err *e, const char *what)
{
	err_set(e, ERR_VMM, 0, "read an HTTP response: %s", what);
	return HTTP_ERROR;
}

/* ------------------------------------------------------------------ head */

/* What the headers say about where the body ends. */
struct framing {
	uint64_t length;
	bool has_length;
	bool chunked;
	bool says_close;
	bool says_keep_alive;
};

/*
 * Looks for the end of the head without trusting a byte of it. Only CR LF ends a line: a bare CR
 * or LF, which two readers may take for different things, is refused at once.
 */
static enum http_result find_head(const char *buf, size_t len, size_t *head_length, struct err *e)
{
	size_t limit = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
	for (size_t i = 0; i < limit; i++) {
		unsigned char c = (unsigned char)buf[i];
		if (c == '\r') {
			if (i + 1 < limit && buf[i + 1] != '\n')
				return bad(e, "a carriage return without line feed in the head");
			continue;
		}
		if (c == '\n') {
			if (i == 0 || buf[i - 1] != '\r')
				return bad(e, "a line feed without carriage return in the head");
			if (i >= 3 && buf[i - 2] == '\n') {
				*head_length = i + 1;
				return HTTP_DONE;
			}
			continue;
		}
		if (c == '\0')
			return bad(e, "a zero byte in the head");
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return bad(e, "a control byte in the head");
	}
	if (len >= HTTP_HEAD_MAX)
		return bad(e, "the head is longer than 8192 bytes");
	return HTTP_MORE;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Checks as much of the status line as is there, so that what is no HTTP is refused early. */
static bool starts_like_http(const char *buf, size_t len)
{
	static const char pattern[] = "HTTP/1.v ddd"; /* v: 0 or 1; d: a digit */
	for (size_t i = 0; i < len && i < sizeof(pattern) - 1; i++) {
		char want = pattern[i];
		if (want == 'v' ? buf[i] != '0' && buf[i] != '1'
				: (want == 'd' ? !is_digit(buf[i]) : buf[i] != want))
			return false;
	}
	return true;
}

/* The length of the line at text, without its CR LF. The caller knows that there is one. */
static size_t line_length(const char *text, size_t len)
{
	const char *cr = memchr(text, '\r', len);
	return cr ? (size_t)(cr - text) : len;
}

#define STATUS_LINE_MIN 12 /* HTTP/1.1 200 */

static bool read_status(const char *line, size_t len, int *status, bool *http_1_0)
{
	if (len < STATUS_LINE_MIN || !starts_like_http(line, len))
		return false;
	if (len > STATUS_LINE_MIN && line[STATUS_LINE_MIN] != ' ')
		return false;
	*http_1_0 = line[7] == '0';
	*status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
	return *status >= 100 && *status <= 599;
}

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A header line in its two parts; false when it is not one (a folded line, no colon, ...). */
static bool split_header(const char *line, size_t len, size_t *name_len, const char **value,
			 size_t *value_len)
{
	size_t n = 0;
	while (n < len && is_token(line[n]))
		n++;
	if (n == 0 || n == len || line[n] != ':')
		return false;
	size_t from = n + 1, to = len;
	while (from < to && is_blank(line[from]))
		from++;
	while (to > from && is_blank(line[to - 1]))
		to--;
	*name_len = n;
	*value = line + from;
	*value_len = to - from;
	return true;
}

static bool equals(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

/* True when the comma-separated list has the word in it (any case). */
static bool list_has(const char *list, size_t len, const char *word)
{
	while (len > 0) {
		const char *comma = memchr(list, ',', len);
		size_t item = comma ? (size_t)(comma - list) : len;
		size_t from = 0, to = item;
		while (from < to && is_blank(list[from]))
			from++;
		while (to > from && is_blank(list[to - 1]))
			to--;
		if (equals(list + from, to - from, word))
			return true;
		if (!comma)
			break;
		list += item + 1;
		len -= item + 1;
	}
	return false;
}

static bool read_length(const char *value, size_t len, uint64_t *out)
{
	uint64_t n = 0;
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(value[i]) || __builtin_mul_overflow(n, UINT64_C(10), &n) ||
		    __builtin_add_overflow(n, (uint64_t)(value[i] - '0'), &n))
			return false;
	}
	*out = n;
	return true;
}

/* Notes one header in *f; the complaint, or NULL. */
static const char *note_header(struct framing *f, const char *line, size_t len)
{
	size_t name_len, value_len;
	const char *value;
	if (is_blank(line[0]))
		return "a folded header line";
	if (!split_header(line, len, &name_len, &value, &value_len))
		return "a malformed header line";
	if (equals(line, name_len, "Content-Length")) {
		uint64_t n;
		if (!read_length(value, value_len, &n))
			return "Content-Length is not a number in range";
		if (f->has_length && f->length != n)
			return "two different Content-Length headers";
		f->has_length = true;
		f->length = n;
	} else if (equals(line, name_len, "Transfer-Encoding")) {
		if (f->chunked || !equals(value, value_len, "chunked"))
			return "a Transfer-Encoding other than one \"chunked\"";
		f->chunked = true;
	} else if (equals(line, name_len, "Connection")) {
		f->says_close |= list_has(value, value_len, "close");
		f->says_keep_alive |= list_has(value, value_len, "keep-alive");
	}
	return NULL;
}

static enum http_result read_head(const char *buf, size_t head, struct http_response *out,
				  struct framing *f, struct err *e)
{
	bool http_1_0 = false;
	size_t n = line_length(buf, head);
	if (!read_status(buf, n, &out->status, &http_1_0))
		return bad(e, "the status line is malformed");
	for (size_t at = n + 2; at + 2 < head; at += n + 2) {
		n = line_length(buf + at, head - at);
		const char *complaint = note_header(f, buf + at, n);
		if (complaint)
			return bad(e, complaint);
	}
	if (f->chunked && (f->has_length || http_1_0))
		return bad(e, "Transfer-Encoding beside Content-Length or in HTTP/1.0");
	out->head_length = head;
	out->close = f->says_close || (http_1_0 && !f->says_keep_alive);
	out->has_length = f->has_length;
	out->interim = out->status < 200;
	if (out->status == 101)
		return bad(e, "it switches protocols, which nobody asked for");
	return HTTP_DONE;
}

/* ------------------------------------------------------------------ body */

static enum http_result too_large(struct err *e, size_t body_max)
{
	err_set(e, ERR_VMM, 0, "read an HTTP response: its body is larger than %zu bytes",
		body_max);
	return HTTP_ERROR;
}

static enum http_result read_body(size_t len, bool at_eof, size_t body_max, const struct framing *f,
				  struct http_response *out, struct err *e)
{
	size_t there = len - out->head_length;
	if (out->interim || out->status == 204 || out->status == 304) {
		out->body_length = 0;
	} else if (f->chunked) {
		out->chunked = true;
	} else if (f->has_length) {
		if (f->length > body_max)
			return too_large(e, body_max);
		if (f->length > there)
			return at_eof ? bad(e, "the connection ended in the middle of a body")
				      : HTTP_MORE;
		out->body_length = (size_t)f->length;
	} else if (out->close) {
		if (there > body_max)
			return too_large(e, body_max);
		if (!at_eof)
			return HTTP_MORE;
		out->body_length = there;
	} else if (out->status >= 300) {
		return bad(e, "an error status with neither length nor end of its body");
	}
	out->consumed = out->head_length + out->body_length;
	return HTTP_DONE;
}

static enum http_result parse_head(const char *buf, size_t len, bool at_eof,
				   struct http_response *out, struct framing *f, struct err *e)
{
	size_t head = 0;
	*out = (struct http_response){0};
	if (!starts_like_http(buf, len))
		return bad(e, "it does not start with HTTP/1.0 or HTTP/1.1 and a status");
	enum http_result r = find_head(buf, len, &head, e);
	if (r == HTTP_MORE && at_eof)
		return bad(e, len == 0 ? "the connection ended without an answer"
				       : "the connection ended in the middle of a head");
	if (r != HTTP_DONE)
		return r;
	r = read_head(buf, head, out, f, e);
	out->body = buf + head;
	out->consumed = head;
	return r;
}

enum http_result http_parse_head(const char *buf, size_t len, bool at_eof,
				 struct http_response *out, struct err *e)
{
	struct framing f = {0};
	enum http_result r = parse_head(buf, len, at_eof, out, &f, e);
	out->chunked = f.chunked;
	return r;
}

enum http_result http_parse_response(const char *buf, size_t len, bool at_eof, size_t body_max,
				     struct http_response *out, struct err *e)
{
	struct framing f = {0};
	enum http_result r = parse_head(buf, len, at_eof, out, &f, e);
	return r == HTTP_DONE ? read_body(len, at_eof, body_max, &f, out, e) : r;
}

bool http_header(const char *buf, size_t head_length, const char *name, const char **value,
		 size_t *length)
{
	size_t n = line_length(buf, head_length);
	for (size_t at = n + 2; at + 2 < head_length; at += n + 2) {
		size_t name_len;
		n = line_length(buf + at, head_length - at);
		if (split_header(buf + at, n, &name_len, value, length) &&
		    equals(buf + at, name_len, name))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ chunks */

enum {
	CHUNK_SIZE_FIRST = 0, /* the first digit of a size */
	CHUNK_SIZE,
	CHUNK_EXTENSION, /* passed over */
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_START, /* at the start of a line behind the last chunk */
	CHUNK_TRAILER,
	CHUNK_TRAILER_LF,
	CHUNK_END_LF,
	CHUNK_DONE,
};

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One byte of a size line up to its CR: the state that follows, or -1. */
static int size_byte(struct http_chunked *c, char in)
{
	int digit = hex_value(in);
	if (c->state != CHUNK_EXTENSION && digit >= 0) {
		c->left = c->left * 16 + (unsigned)digit;
		return c->left <= HTTP_CHUNK_MAX ? CHUNK_SIZE : -1;
	}
	if (c->state == CHUNK_SIZE_FIRST)
		return -1;
	if (in == '\r')
		return CHUNK_SIZE_LF;
	if (c->state == CHUNK_SIZE && in != ';' && !is_blank(in))
		return -1;
	return in == '\n' || in == '\0' ? -1 : CHUNK_EXTENSION;
}

/* One byte that is not data: the state that follows, or -1. */
static int frame_byte(struct http_chunked *c, char in)
{
	switch (c->state) {
	case CHUNK_SIZE_FIRST:
	case CHUNK_SIZE:
	case CHUNK_EXTENSION:
		return size_byte(c, in);
	case CHUNK_SIZE_LF:
		if (in != '\n')
			return -1;
		c->line = 0;
		return c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER_START;
	case CHUNK_DATA_CR:
		return in == '\r' ? CHUNK_DATA_LF : -1;
	case CHUNK_DATA_LF:
		return in == '\n' ? CHUNK_SIZE_FIRST : -1;
	case CHUNK_TRAILER_START:
		if (in == '\r')
			return CHUNK_END_LF;
		return in == '\n' || in == '\0' ? -1 : CHUNK_TRAILER;
	case CHUNK_TRAILER:
		if (in == '\r')
			return CHUNK_TRAILER_LF;
		return in == '\n' || in == '\0' ? -1 : CHUNK_TRAILER;
	case CHUNK_TRAILER_LF:
		return in == '\n' ? CHUNK_TRAILER_START : -1;
	case CHUNK_END_LF:
		return in == '\n' ? CHUNK_DONE : -1;
	default:
		return -1;
	}
}

enum http_result http_chunked_feed(struct http_chunked *c, const char *in, size_t len, size_t *used,
				   const char **out, size_t *out_len, struct err *e)
{
	*out = in;
	*out_len = 0;
	*used = 0;
	while (c->state != CHUNK_DONE && *used < len) {
		if (c->state == CHUNK_DATA) {
			size_t there = len - *used;
			size_t n = there < c->left ? there : (size_t)c->left;
			*out = in + *used;
			*out_len = n;
			*used += n;
			c->left -= n;
			if (c->left == 0)
				c->state = CHUNK_DATA_CR;
			return HTTP_MORE;
		}
		int next = ++c->line > HTTP_HEAD_MAX ? -1 : frame_byte(c, in[*used]);
		if (next < 0)
			return bad(e, "a malformed chunk");
		c->state = next;
		++*used;
	}
	return c->state == CHUNK_DONE ? HTTP_DONE : HTTP_MORE;
}

/* ------------------------------------------------------------------ error bodies */

/* A line under construction: blanks are kept single, and only between words. */
struct line {
	char *out;
	size_t size, used;
	bool blank; /* one is due before the next byte */
	bool cut;
};

static void put_raw(struct line *l, char c)
{
	if (l->used + 1 < l->size)
		l->out[l->used++] = c;
	else
		l->cut = true;
}

static void put(struct line *l, unsigned c)
{
	if (c <= ' ' || c == 0x7f) {
		l->blank = l->used > 0;
		return;
	}
	if (l->blank)
		put_raw(l, ' ');
	l->blank = false;
	put_raw(l, c < 0x7f ? (char)c : '?');
}

/* Puts the character of an escape that starts at s[0] == '\\'; returns the bytes it took. */
static size_t put_escape(struct line *l, const char *s, size_t len)
{
	if (len < 2) {
		put(l, '\\');
		return 1;
	}
	if (s[1] == 'u' && len >= 6) {
		unsigned code = 0;
		for (size_t i = 2; i < 6; i++) {
			int digit = hex_value(s[i]);
			if (digit < 0) {
				put(l, '?');
				return 2;
			}
			code = code * 16 + (unsigned)digit;
		}
		put(l, code);
		return 6;
	}
	put(l, s[1] != '\0' && strchr("bfnrt", s[1]) ? ' ' : (unsigned char)s[1]);
	return 2;
}

/*
 * Puts (or, with l NULL, passes over) a string that starts behind its quote, up to the closing
 * quote or the end of the body. Raw control bytes in it are taken as blanks: Cloud Hypervisor's
 * server sends such. Returns the bytes taken, closing quote included.
 */
static size_t put_string(struct line *l, const char *s, size_t len)
{
	size_t i = 0;
	while (i < len && s[i] != '"') {
		struct line nowhere = {0};
		if (s[i] == '\\') {
			i += put_escape(l ? l : &nowhere, s + i, len - i);
		} else {
			if (l)
				put(l, (unsigned char)s[i]);
			i++;
		}
	}
	return i < len ? i + 1 : len;
}

/* Every string of the array, one after another. */
static void put_array(struct line *l, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '"')
			continue;
		if (l->used > 0) {
			l->blank = false;
			put(l, ':');
			put(l, ' ');
		}
		i += put_string(l, s + i + 1, len - i - 1);
	}
}

/* The value of "error" if it is a string. */
static void put_object(struct line *l, const char *s, size_t len)
{
	static const char key[] = "error\"";
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '"')
			continue;
		const char *name = s + i + 1;
		bool match = len - i - 1 >= sizeof(key) - 1 && !memcmp(name, key, sizeof(key) - 1);
		i += 1 + put_string(NULL, name, len - i - 1);
		if (!match)
			continue;
		while (i < len && (s[i] == ':' || (unsigned char)s[i] <= ' '))
			i++;
		if (i < len && s[i] == '"') {
			put_string(l, s + i + 1, len - i - 1);
			return;
		}
	}
}

void http_error_text(const char *body, size_t len, char *out, size_t size)
{
	if (size == 0)
		return;
	struct line l = {.out = out, .size = size};
	size_t from = 0;
	while (from < len && (unsigned char)body[from] <= ' ')
		from++;
	if (from < len && body[from] == '[')
		put_array(&l, body + from, len - from);
	else if (from < len && body[from] == '{')
		put_object(&l, body + from, len - from);
	if (l.used == 0) {
		l = (struct line){.out = out, .size = size};
		for (size_t i = from; i < len && !l.cut; i++)
			put(&l, (unsigned char)body[i]);
	}
	out[l.used] = '\0';
	if (l.cut && size > 3)
		memcpy(out + l.used - 3, "...", 3);
}
