// SPDX-License-Identifier: Apache-2.0
/* common/http: responses, heads, chunks and error bodies, whole and cut anywhere. */
#include "fuzz.h"

#include "http.h"

#define BODY_MAX 1000

static void check_done(const char *buf, size_t len, const struct http_response *r)
{
	const char *value;
	size_t length;
	FUZZ_CHECK(r->status >= 100 && r->status <= 599 && r->status != 101);
	FUZZ_CHECK(r->head_length <= HTTP_HEAD_MAX && r->head_length <= r->consumed);
	FUZZ_CHECK(r->consumed <= len && r->body == buf + r->head_length);
	FUZZ_CHECK(r->body_length <= BODY_MAX);
	FUZZ_CHECK(r->consumed == r->head_length + r->body_length);
	if (http_header(buf, r->head_length, "content-length", &value, &length))
		FUZZ_CHECK(value >= buf && value + length <= buf + r->head_length);
}

/* However little has come, what is an answer in the end never looks like an error before. */
static void check_prefixes(const char *buf, const struct http_response *whole)
{
	struct http_response r;
	struct err e;
	size_t step = 1 + whole->consumed / 64;
	for (size_t n = 0; n < whole->consumed; n += step)
		FUZZ_CHECK(http_parse_response(buf, n, false, BODY_MAX, &r, &e) == HTTP_MORE);
}

static void parse(const char *buf, size_t len)
{
	struct http_response r, head;
	struct err e;
	enum http_result open = http_parse_response(buf, len, false, BODY_MAX, &r, &e);
	if (open == HTTP_DONE) {
		check_done(buf, len, &r);
		check_prefixes(buf, &r);
	}
	enum http_result ended = http_parse_response(buf, len, true, BODY_MAX, &r, &e);
	FUZZ_CHECK(ended != HTTP_MORE);
	FUZZ_CHECK(open == HTTP_MORE || open == ended);
	if (ended == HTTP_DONE) {
		check_done(buf, len, &r);
		FUZZ_CHECK(http_parse_head(buf, len, false, &head, &e) == HTTP_DONE);
		FUZZ_CHECK(head.status == r.status && head.consumed == r.head_length);
	}
}

/* All of the body that comes out, fed in pieces of that size. */
static enum http_result unchunk(const char *in, size_t len, size_t piece, char *body, size_t *size)
{
	struct http_chunked c = {0};
	struct err e;
	*size = 0;
	for (size_t at = 0; at < len;) {
		const char *out;
		size_t used, length, n = len - at < piece ? len - at : piece;
		enum http_result r = http_chunked_feed(&c, in + at, n, &used, &out, &length, &e);
		if (r == HTTP_ERROR)
			return r;
		FUZZ_CHECK(used <= n &&
			   (length == 0 || (out >= in + at && out + length <= in + at + used)));
		FUZZ_CHECK(used > 0);
		memcpy(body + *size, out, length);
		*size += length;
		at += used;
		if (r == HTTP_DONE)
			return r;
	}
	return HTTP_MORE;
}

static void chunks(const char *in, size_t len, size_t piece)
{
	char *one = malloc(len + 1), *other = malloc(len + 1);
	size_t one_size, other_size;
	FUZZ_CHECK(one && other);
	enum http_result r = unchunk(in, len, len + 1, one, &one_size);
	FUZZ_CHECK(unchunk(in, len, piece, other, &other_size) == r);
	if (r != HTTP_ERROR)
		FUZZ_CHECK(one_size == other_size && memcmp(one, other, one_size) == 0);
	free(one);
	free(other);
}

static void error_text(const char *body, size_t len, size_t size)
{
	char text[256];
	memset(text, 'x', sizeof(text));
	http_error_text(body, len, text, size);
	if (size)
		FUZZ_CHECK(fuzz_is_printable(text, size));
	for (size_t i = size; i < sizeof(text); i++)
		FUZZ_CHECK(text[i] == 'x');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	size_t len, knob = fuzz_byte(&in);
	char *text = fuzz_block(&in, &len);
	parse(text, len);
	chunks(text, len, 1 + knob % 8);
	error_text(text, len, knob);
	free(text);
	return 0;
}
