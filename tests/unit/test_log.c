// SPDX-License-Identifier: Apache-2.0
/* common/log: levels, the sink, what a line on standard error looks like. */
#include "unit.h"

#include "log.h"

#include <regex.h>

static char last[LOG_LINE_MAX + 8];
static enum log_level last_level;
static unsigned lines;
static int sink_arg;

static void sink(void *arg, enum log_level level, const char *line)
{
	assert_ptr_equal(arg, &sink_arg);
	assert_true(strlen(line) < LOG_LINE_MAX);
	snprintf(last, sizeof(last), "%s", line);
	last_level = level;
	lines++;
}

static int setup(void **unused)
{
	(void)unused;
	lines = 0;
	log_open("tester", LOG_LEVEL_INFO);
	log_set_sink(sink, &sink_arg);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	log_set_sink(NULL, NULL);
	return 0;
}

static void test_levels(void **unused)
{
	(void)unused;
	log_info("n %d", 5);
	assert_int_equal(lines, 1);
	assert_string_equal(last, "n 5");
	assert_int_equal(last_level, LOG_LEVEL_INFO);
	log_debug("hidden");
	assert_int_equal(lines, 1);
	log_error("bad");
	assert_int_equal(last_level, LOG_LEVEL_ERROR);
	log_open("tester", LOG_LEVEL_ERROR);
	log_warning("hidden");
	assert_int_equal(lines, 2);
	log_open("tester", LOG_LEVEL_DEBUG);
	log_debug("shown");
	assert_string_equal(last, "shown");
}

static void test_bytes_and_length(void **unused)
{
	(void)unused;
	log_info("%s", "a\nb\x1b[31m\xff\x7f");
	assert_string_equal(last, "a?b?[31m??");
	static char text[2 * LOG_LINE_MAX];
	memset(text, 'x', sizeof(text) - 1);
	log_info("%s", text);
	assert_int_equal(strlen(last), LOG_LINE_MAX - 1);
}

/* What log_write() puts on standard error, as one write. */
static void on_stderr(char *out, size_t size, enum log_level level, const char *text)
{
	int ends[2], saved = dup(STDERR_FILENO);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_DIRECT), 0);
	dup2(ends[1], STDERR_FILENO);
	struct stat st;
	static char stream[96];
	fstat(STDERR_FILENO, &st);
	/* putenv keeps the array: a stream that is another's, then ours. */
	if (size > 1 && out[0] == 'j')
		snprintf(stream, sizeof(stream), "JOURNAL_STREAM=%llu:%llu",
			 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	else
		snprintf(stream, sizeof(stream), "JOURNAL_STREAM=1:2");
	putenv(stream);
	log_open("tester", LOG_LEVEL_INFO);
	log_write(level, "%s", text);
	dup2(saved, STDERR_FILENO);
	ssize_t n = read(ends[0], out, size - 1);
	assert_true(n > 0);
	out[n] = '\0';
	close(saved);
	close(ends[0]);
	close(ends[1]);
}

static void test_stderr(void **unused)
{
	char out[1024] = "-", want[128];
	regex_t shape;
	(void)unused;
	log_set_sink(NULL, NULL);
	on_stderr(out, sizeof(out), LOG_LEVEL_WARNING, "a\nb");
	snprintf(want, sizeof(want),
		 "^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} tester\\[%d\\] warning: a\\?b\n$",
		 (int)getpid());
	assert_int_equal(regcomp(&shape, want, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&shape, out, 0, NULL, 0) != 0)
		fail_msg("%s", out);
	regfree(&shape);
	memcpy(out, "j", 2);
	on_stderr(out, sizeof(out), LOG_LEVEL_ERROR, "a");
	assert_string_equal(out, "<3>tester: a\n");
	static char text[2 * LOG_LINE_MAX];
	memset(text, 'x', sizeof(text) - 1);
	on_stderr(out, sizeof(out), LOG_LEVEL_INFO, text);
	assert_int_equal(out[strlen(out) - 1], '\n');
}

static void test_names(void **unused)
{
	(void)unused;
	assert_string_equal(log_level_name(LOG_LEVEL_NOTICE), "notice");
	assert_string_equal(log_level_name((enum log_level)99), "unknown");
	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
		assert_int_equal(log_level_from_name(log_level_name((enum log_level)i)), i);
	assert_int_equal(log_level_from_name(""), -1);
	assert_int_equal(log_level_from_name("Error"), -1);
	assert_int_equal(log_level_from_name("unknown"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_and_length, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stderr, setup, teardown),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
