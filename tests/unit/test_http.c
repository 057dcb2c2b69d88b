// SPDX-License-Identifier: Apache-2.0
/* common/http: every departure of Cloud Hypervisor's server, every cut, and bytes of hostile
 * origin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http.h"
#include "util.h"

#define BODY_MAX 4096
#define PING_BODY                                                                                  \
	"{\"build_version\":\"v53.0.0\",\"version\":\"53.0.0\",\"pid\":10371,"                     \
	"\"features\":[\"io_uring\",\"kvm\"]}"
#define PING                                                                                       \
	"HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n"              \
	"Content-Type: application/json\r\nContent-Length: 88\r\n\r\n" PING_BODY

struct good {
	const char *name;
	const char *bytes;
	size_t consumed; /* 0: all of bytes */
	int status;
	const char *body;
	bool eof; /* complete only at the end of the connection */
	bool close, chunked, has_length, interim;
};

static const struct good goods[] = {
	{.name = "CH's ping", .bytes = PING, .status = 200, .body = PING_BODY, .has_length = true},
	{.name = "CH's 204",
	 .bytes = "HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n",
	 .status = 204,
	 .body = ""},
	{.name = "CH's 11th connection",
	 .bytes = "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
		  "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }",
	 .status = 503,
	 .body = "{ \"error\": \"Too many open connections\" }",
	 .close = true,
	 .has_length = true},
	{.name = "400 without a body",
	 .bytes = "HTTP/1.1 400 \r\nContent-Length: 0\r\n\r\n",
	 .status = 400,
	 .body = "",
	 .has_length = true},
	{.name = "a reason phrase",
	 .bytes = "HTTP/1.1 404 Not Found at all\r\ncontent-LENGTH:\t 2 \t\r\n\r\nno",
	 .status = 404,
	 .body = "no",
	 .has_length = true},
	{.name = "no headers at all", .bytes = "HTTP/1.1 204\r\n\r\n", .status = 204, .body = ""},
	{.name = "200 without length has no body",
	 .bytes = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 \r\n\r\n",
	 .consumed = 19,
	 .status = 200,
	 .body = ""},
	{.name = "pipelined answers",
	 .bytes = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n",
	 .consumed = 39,
	 .status = 200,
	 .body = "a",
	 .has_length = true},
	{.name = "204 that gives a length",
	 .bytes = "HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nHTTP/",
	 .consumed = 36,
	 .status = 204,
	 .body = "",
	 .has_length = true},
	{.name = "304 that gives a length",
	 .bytes = "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n",
	 .status = 304,
	 .body = "",
	 .has_length = true},
	{.name = "interim 100",
	 .bytes = "HTTP/1.1 100\r\n\r\nHTTP/1.1 204 \r\n\r\n",
	 .consumed = 16,
	 .status = 100,
	 .body = "",
	 .interim = true},
	{.name = "interim that gives a length",
	 .bytes = "HTTP/1.1 103 \r\nContent-Length: 9\r\n\r\n",
	 .status = 103,
	 .body = "",
	 .has_length = true,
	 .interim = true},
	{.name = "HTTP/1.0 until the end",
	 .bytes = "HTTP/1.0 200 OK\r\n\r\nall of it",
	 .status = 200,
	 .body = "all of it",
	 .eof = true,
	 .close = true},
	{.name = "HTTP/1.0 kept open",
	 .bytes = "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
	 .status = 200,
	 .body = "ok",
	 .has_length = true},
	{.name = "error until the end",
	 .bytes = "HTTP/1.1 500 \r\nConnection: foo , CLOSE\r\n\r\nwhy",
	 .status = 500,
	 .body = "why",
	 .eof = true,
	 .close = true},
	{.name = "the same length twice",
	 .bytes = "HTTP/1.1 200 \r\nContent-Length: 2\r\nContent-Length: 02\r\n\r\nok",
	 .status = 200,
	 .body = "ok",
	 .has_length = true},
	{.name = "chunked: head only",
	 .bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	 .consumed = 47,
	 .status = 200,
	 .body = "",
	 .chunked = true},
	{.name = "high bytes in a value",
	 .bytes = "HTTP/1.1 204 \r\nServer: \xc3\xa9\r\n\r\n",
	 .status = 204,
	 .body = ""},
};

static void check_good(const struct good *g, const char *buf, size_t len, bool eof)
{
	struct http_response r;
	struct err e;
	size_t consumed = g->consumed ? g->consumed : strlen(g->bytes);
	if (http_parse_response(buf, len, eof, BODY_MAX, &r, &e) != HTTP_DONE)
		fail_msg("%s: %s", g->name, e.text);
	assert_int_equal(r.status, g->status);
	assert_int_equal(r.consumed, consumed);
	assert_int_equal(r.head_length + r.body_length, consumed);
	assert_int_equal(r.body_length, strlen(g->body));
	assert_ptr_equal(r.body, buf + r.head_length);
	assert_memory_equal(r.body, g->body, r.body_length);
	assert_int_equal(r.close, g->close);
	assert_int_equal(r.chunked, g->chunked);
	assert_int_equal(r.has_length, g->has_length);
	assert_int_equal(r.interim, g->interim);
}

/* Every prefix, in a heap block of just its size, so that a sanitizer sees any byte too far. */
static void test_good_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goods); i++) {
		const struct good *g = &goods[i];
		size_t all = strlen(g->bytes);
		size_t need = g->consumed ? g->consumed : all;
		for (size_t len = 0; len <= all; len++) {
			struct http_response r;
			struct err e;
			char *part = malloc(len ? len : 1);
			assert_non_null(part);
			memcpy(part, g->bytes, len);
			if (len < need || g->eof) {
				assert_int_equal(
					http_parse_response(part, len, false, BODY_MAX, &r, &e),
					HTTP_MORE);
			} else {
				check_good(g, part, len, false);
			}
			if (len == need)
				check_good(g, part, len, true);
			if (len < need && !g->eof) {
				assert_int_equal(
					http_parse_response(part, len, true, BODY_MAX, &r, &e),
					HTTP_ERROR);
				assert_int_equal(e.kind, ERR_VMM);
				assert_non_null(strstr(e.text, "connection ended"));
			}
			free(part);
		}
	}
}

struct wrong {
	const char *bytes;
	const char *says; /* part of the message */
};

static const struct wrong wrongs[] = {
	{"\r\nHTTP/1.1 200 \r\n\r\n", "does not start"},
	{"HTTP/2.0 200 \r\n\r\n", "does not start"},
	{"HTTP/1.2 200 \r\n\r\n", "does not start"},
	{"http/1.1 200 \r\n\r\n", "does not start"},
	{"SSH-2.0-OpenSSH", "does not start"},
	{"HTTP/1.1 20x \r\n\r\n", "does not start"},
	{"HTTP/1.1  200\r\n\r\n", "does not start"},
	{"HTTP/1.1 20\r\n\r\n", "does not start"},
	{"HTTP/1.1 2000\r\n\r\n", "status line"},
	{"HTTP/1.1 200OK\r\n\r\n", "status line"},
	{"HTTP/1.1 099 \r\n\r\n", "status line"},
	{"HTTP/1.1 600 \r\n\r\n", "status line"},
	{"HTTP/1.1 101 \r\n\r\n", "switches protocols"},
	{"HTTP/1.1 200 \n\n", "line feed without"},
	{"HTTP/1.1 200 \r\nA: b\n\r\n", "line feed without"},
	{"HTTP/1.1 200 \rX\r\n\r\n", "carriage return without"},
	{"HTTP/1.1 200 \r\nA: \x01\r\n\r\n", "control byte"},
	{"HTTP/1.1 200 \r\nA: \x7f\r\n\r\n", "control byte"},
	{"HTTP/1.1 200 \r\nA: b\r\n folded\r\n\r\n", "folded"},
	{"HTTP/1.1 200 \r\n\tfolded\r\n\r\n", "folded"},
	{"HTTP/1.1 200 \r\nno colon\r\n\r\n", "malformed header"},
	{"HTTP/1.1 200 \r\n: nameless\r\n\r\n", "malformed header"},
	{"HTTP/1.1 200 \r\nContent-Length : 2\r\n\r\nok", "malformed header"},
	{"HTTP/1.1 200 \r\nContent-Length: +2\r\n\r\nok", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: -2\r\n\r\nok", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: 0x2\r\n\r\nok", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: 2 2\r\n\r\nok", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: 2, 2\r\n\r\nok", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length:\r\n\r\n", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: 18446744073709551616\r\n\r\n", "not a number"},
	{"HTTP/1.1 200 \r\nContent-Length: 18446744073709551615\r\n\r\n", "larger than"},
	{"HTTP/1.1 200 \r\nContent-Length: 4097\r\n\r\n", "larger than"},
	{"HTTP/1.1 200 \r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "two different"},
	{"HTTP/1.1 200 \r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding"},
	{"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	 "Transfer-Encoding"},
	{"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
	 "Transfer-Encoding beside"},
	{"HTTP/1.0 200 \r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding beside"},
	{"HTTP/1.1 500 \r\n\r\nno length", "neither length nor end"},
	{"HTTP/1.1 302 \r\nConnection: keep-alive\r\n\r\n", "neither length nor end"},
};

/* What is wrong is told at the end at the latest, and never taken for whole before. */
static void test_wrong_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		const struct wrong *w = &wrongs[i];
		size_t all = strlen(w->bytes);
		struct http_response r;
		struct err e = {0};
		for (size_t len = 0; len < all; len++)
			if (http_parse_response(w->bytes, len, false, BODY_MAX, &r, &e) ==
			    HTTP_DONE)
				fail_msg("taken after %zu bytes: %s", len, w->bytes);
		assert_int_equal(http_parse_response(w->bytes, all, false, BODY_MAX, &r, &e),
				 HTTP_ERROR);
		assert_int_equal(e.kind, ERR_VMM);
		if (!strstr(e.text, w->says))
			fail_msg("\"%s\" does not say \"%s\"", e.text, w->says);
	}
}

static void test_zero_byte_in_head(void **state)
{
	(void)state;
	static const char bytes[] = "HTTP/1.1 200 \r\nA: \0\r\n\r\n";
	struct http_response r;
	struct err e;
	assert_int_equal(http_parse_response(bytes, sizeof(bytes) - 1, false, BODY_MAX, &r, &e),
			 HTTP_ERROR);
	assert_non_null(strstr(e.text, "zero byte"));
}

/* A head of exactly the limit is taken, one byte more is not, and neither grows a buffer. */
static void test_head_limit(void **state)
{
	(void)state;
	static const char start[] = "HTTP/1.1 204 \r\nX: ";
	struct http_response r;
	struct err e;
	char buf[HTTP_HEAD_MAX + 1];
	for (size_t head = HTTP_HEAD_MAX; head <= HTTP_HEAD_MAX + 1; head++) {
		memset(buf, 'x', sizeof(buf));
		memcpy(buf, start, sizeof(start) - 1);
		memcpy(buf + head - 4, "\r\n\r\n", 4);
		enum http_result want = head == HTTP_HEAD_MAX ? HTTP_DONE : HTTP_ERROR;
		assert_int_equal(http_parse_response(buf, head, false, BODY_MAX, &r, &e), want);
	}
	assert_non_null(strstr(e.text, "longer than 8192"));
	memset(buf + sizeof(start) - 1, 'x', sizeof(buf) - (sizeof(start) - 1));
	assert_int_equal(http_parse_response(buf, HTTP_HEAD_MAX - 1, false, BODY_MAX, &r, &e),
			 HTTP_MORE);
	assert_int_equal(http_parse_response(buf, HTTP_HEAD_MAX, false, BODY_MAX, &r, &e),
			 HTTP_ERROR);
}

static void test_body_limit(void **state)
{
	(void)state;
	static const char close_head[] = "HTTP/1.0 200 OK\r\n\r\n";
	char buf[sizeof(close_head) + 8];
	struct http_response r;
	struct err e;
	memset(buf, 'b', sizeof(buf));
	memcpy(buf, close_head, sizeof(close_head) - 1);
	size_t head = sizeof(close_head) - 1;
	assert_int_equal(http_parse_response(buf, head + 8, true, 8, &r, &e), HTTP_DONE);
	assert_int_equal(r.body_length, 8);
	assert_int_equal(http_parse_response(buf, head + 9, false, 8, &r, &e), HTTP_ERROR);
	assert_non_null(strstr(e.text, "larger than 8 bytes"));
}

static void test_header_lookup(void **state)
{
	(void)state;
	static const char bytes[] = "HTTP/1.1 200 OK\r\nX-Console-End:  77 \r\nEmpty:\r\n"
				    "Content-Length: 0\r\n\r\n";
	size_t head = sizeof(bytes) - 1;
	const char *value;
	size_t length;
	assert_true(http_header(bytes, head, "x-console-end", &value, &length));
	assert_int_equal(length, 2);
	assert_memory_equal(value, "77", 2);
	assert_true(http_header(bytes, head, "empty", &value, &length));
	assert_int_equal(length, 0);
	assert_true(http_header(bytes, head, "CONTENT-LENGTH", &value, &length));
	assert_false(http_header(bytes, head, "X-Console", &value, &length));
	assert_false(http_header(bytes, head, "HTTP/1.1 200 OK", &value, &length));
}

/* ------------------------------------------------------------------ chunks */

/* Feeds bytes in pieces of step; collects the body. */
static enum http_result feed(const char *bytes, size_t len, size_t step, char *body, size_t size,
			     size_t *body_len, size_t *consumed)
{
	struct http_chunked c = {0};
	struct err e;
	*body_len = *consumed = 0;
	while (*consumed < len) {
		size_t n = len - *consumed < step ? len - *consumed : step;
		size_t used, out_len;
		const char *out;
		enum http_result r =
			http_chunked_feed(&c, bytes + *consumed, n, &used, &out, &out_len, &e);
		if (r == HTTP_ERROR)
			return r;
		assert_true(used <= n);
		assert_true(out_len <= used);
		assert_true(*body_len + out_len < size);
		memcpy(body + *body_len, out, out_len);
		*body_len += out_len;
		*consumed += used;
		if (r == HTTP_DONE)
			return r;
		assert_true(used > 0);
	}
	return HTTP_MORE;
}

static void test_chunked(void **state)
{
	(void)state;
	static const char bytes[] = "5\r\nhello\r\n001;name=\"v\"\r\n,\r\nA \r\n0123456789\r\n"
				    "0\r\nTrailer: x\r\nOther: y\r\n\r\nHTTP/1.1";
	size_t all = sizeof(bytes) - 1;
	for (size_t step = 1; step <= all; step++) {
		char body[64];
		size_t len, consumed;
		assert_int_equal(feed(bytes, all, step, body, sizeof(body), &len, &consumed),
				 HTTP_DONE);
		assert_int_equal(consumed, all - strlen("HTTP/1.1"));
		assert_int_equal(len, 16);
		assert_memory_equal(body, "hello,0123456789", 16);
	}
	for (size_t cut = 0; cut < all - strlen("HTTP/1.1"); cut++) {
		char body[64];
		size_t len, consumed;
		assert_int_equal(feed(bytes, cut, 7, body, sizeof(body), &len, &consumed),
				 HTTP_MORE);
	}
}

static void test_chunked_wrong(void **state)
{
	(void)state;
	static const char *const bytes[] = {
		"\r\n",
		"x\r\n",
		"-1\r\n",
		"+1\r\n",
		" 1\r\n",
		"1\nab",
		"1\rx",
		"1\r\nab",
		"1\r\na\n",
		"1\r\na\rx",
		"1g\r\na",
		"40000001\r\n",
		";x\r\n",
		"0\r\n\n",
		"0\r\nA\n",
		"0\r\n\rx",
		"0\r\nA: b\rx",
		"1;a\nb",
		"00000000040000001\r\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
		char body[64];
		size_t len, consumed;
		if (feed(bytes[i], strlen(bytes[i]), 3, body, sizeof(body), &len, &consumed) !=
		    HTTP_ERROR)
			fail_msg("taken: %s", bytes[i]);
	}
}

/* Endless size lines, extensions and trailers end. */
static void test_chunked_bounds(void **state)
{
	(void)state;
	static const char *const starts[] = {"", "1;", "0\r\n"};
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		static char buf[3 * HTTP_HEAD_MAX];
		char body[8];
		size_t len, consumed, n = strlen(starts[i]);
		memset(buf, '0', sizeof(buf));
		memcpy(buf, starts[i], n);
		assert_int_equal(
			feed(buf, sizeof(buf), sizeof(buf), body, sizeof(body), &len, &consumed),
			HTTP_ERROR);
	}
}

/* ------------------------------------------------------------------ error bodies */

static void check_text(const char *body, const char *want)
{
	char out[128];
	http_error_text(body, strlen(body), out, sizeof(out));
	assert_string_equal(out, want);
}

static void test_error_text(void **state)
{
	(void)state;
	check_text("", "");
	check_text(" \r\n\t ", "");
	check_text("[\"The VM could not boot\",\"No such file\\n(os error 2)\"]",
		   "The VM could not boot: No such file (os error 2)");
	check_text("[\"one\"]", "one");
	check_text("[ \"a\\\"b\\\\c\\/\" , \"\\u0041\\u00e9\\u0000\\uZZ\" ]", "a\"b\\c/: A? ?ZZ");
	check_text("{ \"error\": \"Too many open connections\" }", "Too many open connections");
	check_text("{ \"error\": \"Invalid request\nline  two\" }", "Invalid request line two");
	check_text("{\"code\":\"x\",\"error\":\"why\"}", "why");
	check_text("{\"error\" : 7}", "{\"error\" : 7}");
	check_text("{\"x\":\"error\"}", "{\"x\":\"error\"}");
	check_text("{\"error\":\"cut off", "cut off");
	check_text("{\"error", "{\"error");
	check_text("[\"cut \\", "cut \\");
	check_text("[]", "[]");
	check_text("[1,2]", "[1,2]");
	check_text("  plain\x1b[31m text\xc3\xa9\n\n", "plain [31m text??");
	check_text("\x01\x02", "");
}

static void test_error_text_bounds(void **state)
{
	(void)state;
	char out[16];
	http_error_text("[\"0123456789\",\"0123456789\"]", 27, out, sizeof(out));
	assert_string_equal(out, "0123456789: ...");
	http_error_text("0123456789abcdef", 16, out, sizeof(out));
	assert_string_equal(out, "0123456789ab...");
	http_error_text("0123456789abcde", 15, out, sizeof(out));
	assert_string_equal(out, "0123456789abcde");
	for (size_t size = 0; size < 6; size++) {
		memset(out, 'Z', sizeof(out));
		http_error_text("0123456789", 10, out, size);
		assert_int_equal(out[size], 'Z');
		if (size > 0)
			assert_int_equal(strlen(out), size - 1);
	}
}

/* ------------------------------------------------------------------ garbage */

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Changed bytes of good answers and pure noise: any result will do, but within the bytes given. */
static void test_garbage(void **state)
{
	(void)state;
	uint32_t seed = 53;
	for (int round = 0; round < 20000; round++) {
		const struct good *g = &goods[next_random(&seed) % ARRAY_SIZE(goods)];
		size_t len = strlen(g->bytes);
		char *buf = malloc(len);
		assert_non_null(buf);
		memcpy(buf, g->bytes, len);
		uint32_t changes = round % 50 ? 1 + next_random(&seed) % 4 : (uint32_t)len;
		for (uint32_t i = 0; i < changes; i++)
			buf[next_random(&seed) % len] = (char)next_random(&seed);
		struct http_response r;
		struct err e;
		bool eof = next_random(&seed) & 1;
		enum http_result got = http_parse_response(buf, len, eof, BODY_MAX, &r, &e);
		if (got == HTTP_DONE) {
			assert_true(r.consumed <= len);
			assert_true(r.head_length + r.body_length == r.consumed);
		} else if (eof) {
			assert_int_equal(got, HTTP_ERROR);
		}
		char text[64];
		http_error_text(buf, len, text, sizeof(text));
		for (const char *p = text; *p; p++)
			assert_true(*p >= ' ' && *p <= '~');
		char body[512];
		size_t body_len, consumed;
		feed(buf, len, 1 + next_random(&seed) % 9, body, sizeof(body), &body_len,
		     &consumed);
		free(buf);
	}
}

/* For whom the head is enough: the same judgement of it, and no wait for what follows. */
static void test_head_alone(void **unused)
{
	static const char *const bodies[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	};
	struct http_response out;
	struct err e;
	(void)unused;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		size_t head = (size_t)(strstr(bodies[i], "\r\n\r\n") - bodies[i]) + 4;
		for (size_t n = 0; n < head; n++)
			assert_int_equal(http_parse_head(bodies[i], n, false, &out, &e), HTTP_MORE);
		assert_int_equal(http_parse_head(bodies[i], head - 1, true, &out, &e), HTTP_ERROR);
		assert_int_equal(http_parse_head(bodies[i], strlen(bodies[i]), false, &out, &e),
				 HTTP_DONE);
		assert_int_equal(out.status, i == 3 ? 100 : 200);
		assert_int_equal(out.consumed, head);
		assert_int_equal(out.head_length, head);
		assert_int_equal(out.interim, i == 3);
		assert_int_equal(out.chunked, i == 1);
		assert_ptr_equal(out.body, bodies[i] + head);
	}
	assert_int_equal(http_parse_head("HTTP/1.1 200\r\n: x\r\n\r\n", 21, false, &out, &e),
			 HTTP_ERROR);
	assert_int_equal(http_parse_head("SSH", 3, false, &out, &e), HTTP_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_at_every_cut), cmocka_unit_test(test_wrong_at_every_cut),
		cmocka_unit_test(test_zero_byte_in_head), cmocka_unit_test(test_head_limit),
		cmocka_unit_test(test_body_limit),	  cmocka_unit_test(test_header_lookup),
		cmocka_unit_test(test_chunked),		  cmocka_unit_test(test_chunked_wrong),
		cmocka_unit_test(test_chunked_bounds),	  cmocka_unit_test(test_error_text),
		cmocka_unit_test(test_error_text_bounds), cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_head_alone),
	};
	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
