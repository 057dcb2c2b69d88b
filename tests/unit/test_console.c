// SPDX-License-Identifier: Apache-2.0
/* shim/console: the ring beside a plain array that keeps everything. */
#include "unit.h"

#include "console.h"

static struct console c;
static struct msg_console_data out;
static char all[1 << 19]; /* everything ever printed */
static size_t printed;
static unsigned random_state = 1;

static unsigned random_below(unsigned n)
{
	random_state = random_state * 1103515245u + 12345u;
	return (random_state >> 8) % n;
}

static void print(size_t n)
{
	char *data = malloc(n ? n : 1);
	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = (char)random_below(256);
	memcpy(all + printed, data, n);
	printed += n;
	console_append(&c, data, n);
	free(data);
}

/* What a read must give, from the array. */
static void check(uint64_t offset, bool tail)
{
	uint64_t oldest = printed > c.size ? printed - c.size : 0;
	uint64_t from = tail ? (offset > printed ? 0 : printed - offset) : offset;
	if (from < oldest)
		from = oldest;
	if (from > printed)
		from = printed;
	uint64_t want = printed - from;
	if (want > MSG_DATA_MAX)
		want = MSG_DATA_MAX;
	struct err e;
	memset(&out, 0xaa, sizeof(out));
	console_read(&c, offset, tail, &out);
	assert_int_equal(out.offset, from);
	assert_int_equal(out.end, printed);
	assert_int_equal(out.length, want);
	assert_int_equal(out.eof, 0);
	assert_memory_equal(out.data, all + from, want);
	assert_true(msg_write_console_data(&out, &e) >= 0);
}

static void open_ring(size_t size)
{
	struct err e;
	printed = 0;
	assert_int_equal(console_open(&c, size, &e), 0);
	assert_int_equal(c.end, 0);
}

static void test_empty(void **unused)
{
	(void)unused;
	open_ring(4096);
	check(0, false);
	check(0, true);
	check(100, true);
	check(UINT64_MAX, false);
	check(UINT64_MAX, true);
	print(0);
	check(0, false);
	console_close(&c);
	assert_null(c.ring);
	console_close(&c);
}

static void test_against_an_array(void **unused)
{
	static const size_t sizes[] = {1, 7, 4096, 5000, 65536};
	(void)unused;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		size_t size = sizes[s];
		open_ring(size);
		for (int i = 0; i < 300 && printed + 3 * size < sizeof(all); i++) {
			print(random_below((unsigned)size / 3 + 2));
			/* Exactly full, and more than there is room for at once. */
			if (i % 50 == 20)
				print(size);
			if (i % 50 == 40)
				print(size * 2 + random_below(9));
			check(0, false);
			check(printed, false);
			check(printed - 1, false);
			check(printed + 1, false);
			check(printed > size ? printed - size : 0, false);
			check(printed > size ? printed - size - 1 : 0, false);
			check(random_below((unsigned)printed + 1), false);
			check(0, true);
			check(1, true);
			check(size, true);
			check(size + 1, true);
			check(random_below((unsigned)size), true);
			check(UINT64_MAX, true);
		}
		assert_true(printed > size);
		console_close(&c);
	}
}

/* Reading on from where the last answer ended gives every byte once. */
static void test_read_on(void **unused)
{
	uint64_t at = 0;
	(void)unused;
	open_ring(200000);
	print(150000);
	while (at < printed) {
		console_read(&c, at, false, &out);
		assert_int_equal(out.offset, at);
		assert_true(out.length > 0);
		assert_memory_equal(out.data, all + at, out.length);
		at += out.length;
	}
	assert_int_equal(at, printed);
	console_close(&c);
}

static void test_no_room(void **unused)
{
	struct err e;
	(void)unused;
	assert_int_equal(console_open(&c, SIZE_MAX / 2, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
}

/* Beside memmem(3) over all of it, with texts that overlap themselves, in pieces of any size. */
static void test_search(void **unused)
{
	static const char *const texts[] = {"a",	  "aa",	       "ab",	  "aab",
					    "abab",	  "ababb",     "aabaaab", "abbaba",
					    "aaaaaaaaab", "bababbabab"};
	static char data[4000];
	struct err e;
	(void)unused;
	for (unsigned round = 0; round < 400; round++) {
		const char *text = texts[round % (sizeof(texts) / sizeof(texts[0]))];
		size_t at = 0;
		/* Smaller than what is appended: nothing of it need be kept. */
		assert_int_equal(console_open(&c, 64, &e), 0);
		assert_false(console_has_seen(&c));
		console_look_for(&c, text);
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = random_below(round % 7 + 2) ? 'a' : 'b';
		while (at < sizeof(data)) {
			size_t n = 1 + random_below(round % 2 ? 3 : 200);
			n = n < sizeof(data) - at ? n : sizeof(data) - at;
			console_append(&c, data + at, n);
			at += n;
			bool want = memmem(data, at, text, strlen(text)) != NULL;
			assert_int_equal(console_has_seen(&c), want);
		}
		/* The next search starts anew. */
		console_look_for(&c, "no such text");
		assert_false(console_has_seen(&c));
		console_close(&c);
	}
}

static void test_search_edges(void **unused)
{
	static char longest[MSG_WAIT_TEXT_MAX + 1];
	struct err e;
	(void)unused;
	assert_int_equal(console_open(&c, 4096, &e), 0);
	memset(longest, 'x', MSG_WAIT_TEXT_MAX - 1);
	longest[MSG_WAIT_TEXT_MAX - 2] = 'y';
	console_look_for(&c, longest);
	for (int i = 0; i < 1000; i++)
		console_append(&c, "x", 1);
	console_append(&c, "\0y", 2);
	assert_false(console_has_seen(&c));
	console_append(&c, longest, MSG_WAIT_TEXT_MAX - 2);
	assert_false(console_has_seen(&c));
	console_append(&c, "", 0);
	console_append(&c, "y", 1);
	assert_true(console_has_seen(&c));
	console_append(&c, "more", 4);
	assert_true(console_has_seen(&c));
	console_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),	cmocka_unit_test(test_against_an_array),
		cmocka_unit_test(test_read_on), cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_search),	cmocka_unit_test(test_search_edges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
