// SPDX-License-Identifier: Apache-2.0
/* supervisor/spec_disk, the disks of supervisor/admit, and how supervisor/view shows them. */
#include "unit.h"

#include "admit.h"
#include "json.h"
#include "spec_disk.h"
#include "util.h"
#include "view.h"

/* A specification with that value of "disks". */
static struct spec *parse(const char *disks, struct err *e)
{
	char text[2048];
	int n = snprintf(text, sizeof(text), "{\"kernel\":\"k\",\"disks\":%s}", disks);
	cJSON *body = json_parse_object(text, (size_t)n, e);
	assert_non_null(body);
	struct spec *s = spec_from_json(body, e);
	cJSON_Delete(body);
	return s;
}

static struct spec *parse_good(const char *disks)
{
	struct err e = {.text = ""};
	struct spec *s = parse(disks, &e);
	if (!s)
		fail_msg("%s: %s", disks, e.text);
	return s;
}

static void test_accepted(void **unused)
{
	struct err e;
	struct msg_create m;
	(void)unused;
	struct spec *s =
		parse_good("[{\"image\":\"root\"},"
			   "{\"image\":\"tools\",\"readonly\":true,\"size_mib\":null},"
			   "{\"rate\":{\"iops\":500,\"mib_s\":20},\"device\":\"nvme\"},"
			   "{\"image\":\"root\",\"size_mib\":67108864,\"rate\":{\"iops\":10},"
			   "\"device\":null,\"readonly\":false}]");
	assert_int_equal(s->disk_count, 4);
	assert_string_equal(s->disks[0].image, "root");
	assert_int_equal(s->disks[0].flags, 0);
	assert_int_equal(s->disks[0].size_mib, 0);
	assert_int_equal(s->disks[1].flags, MSG_DISK_READONLY);
	assert_int_equal(s->disks[2].flags, MSG_DISK_DEVICE);
	assert_int_equal(s->disks[2].rate_mib_s, 20);
	assert_int_equal(s->disks[2].rate_iops, 500);
	assert_int_equal(s->disks[3].size_mib, 67108864);
	assert_int_equal(s->disks[3].rate_mib_s, 0);
	/* Only files of its own count. */
	assert_int_equal(spec_disk_own_mib(s), 67108864);
	assert_int_equal(spec_disk_find_writable(s, false), 0);
	assert_int_equal(spec_disk_find_writable(s, true), 2);
	/* Asked for anew, however they were made before; and back. */
	s->disks[0].made = MSG_DISK_COPIED;
	spec_to_msg(s, "alice", &m);
	assert_int_equal(msg_write_create(&m, &e), sizeof(m));
	assert_int_equal(m.disk_count, 4);
	assert_int_equal(m.disks[0].made, MSG_DISK_ASKED);
	struct spec *again = spec_from_msg(&m, &e);
	assert_int_equal(again->disk_count, 4);
	assert_int_equal(again->disks[2].rate_iops, 500);
	spec_free(again);
	spec_free(s);
	s = parse_good("null");
	assert_int_equal(s->disk_count, 0);
	assert_int_equal(spec_disk_find_writable(s, false), -1);
	spec_free(s);
	s = parse_good("[{\"device\":\"a\",\"readonly\":true},{\"device\":\"b\",\"rate\":null},"
		       "{\"image\":\"a\",\"rate\":{\"iops\":null}}]");
	assert_int_equal(spec_disk_own_mib(s), 0);
	assert_int_equal(spec_disk_find_writable(s, true), 1);
	spec_free(s);
}

static void test_faults(void **unused)
{
	static const char *const cases[][2] = {
		{"true", "disks: true is not allowed; must be an array of at most 8"},
		{"{}", "disks: an object is not allowed"},
		{"[1,2,3,4,5,6,7,8,9]", "disks: an array is not allowed"},
		{"[{\"image\":\"a\"},7]", "disks[1]: 7 is not allowed; must be an object"},
		{"[{}]", "disks[0]: has neither image nor device"},
		{"[{\"image\":null}]", "disks[0]: has neither"},
		{"[{\"image\":\"a\",\"device\":\"b\"}]", "disks[0]: has both image and device"},
		{"[{\"image\":\"a/b\"}]", "disks[0].image: \"a/b\" is not allowed; must be a "},
		{"[{\"image\":5}]", "disks[0].image: 5"},
		{"[{\"device\":\"/dev/sda\"}]", "disks[0].device: \"/dev/sda\""},
		{"[{\"image\":\"a\"},{\"image\":\"a\",\"size_mib\":0}]",
		 "disks[1].size_mib: 0 is not allowed; must be a whole number of 1 to 67108864"},
		{"[{\"image\":\"a\",\"size_mib\":67108865}]", "disks[0].size_mib: 67108865"},
		{"[{\"image\":\"a\",\"size_mib\":\"1\"}]", "disks[0].size_mib: \"1\""},
		{"[{\"device\":\"a\",\"size_mib\":5}]", "disks[0].size_mib: 5 is not allowed with"},
		{"[{\"image\":\"a\",\"readonly\":1}]", "disks[0].readonly: 1"},
		{"[{\"image\":\"a\",\"readonly\":null}]", "disks[0].readonly: null"},
		{"[{\"image\":\"a\",\"rate\":7}]", "disks[0].rate: 7 is not allowed; must be an"},
		{"[{\"image\":\"a\",\"rate\":{\"mib_s\":0}}]", "disks[0].rate.mib_s: 0"},
		{"[{\"image\":\"a\",\"rate\":{\"iops\":10000001}}]", "rate.iops: 10000001"},
		{"[{\"image\":\"a\",\"rate\":{\"iops\":9}}]", "disks[0].rate.iops: 9 is not"},
		{"[{\"image\":\"a\",\"rate\":{\"x\":1}}]", "disks[0].rate: unknown field \"x\""},
		{"[{\"image\":\"a\",\"path\":\"b\"}]", "disks[0]: unknown field \"path\""},
		{"[{\"device\":\"a\"},{\"image\":\"a\"},{\"device\":\"a\"}]",
		 "disks[2].device: \"a\" is disks[0] already"},
	};
	struct err e;
	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		e = (struct err){0};
		assert_null(parse(cases[i][0], &e));
		assert_int_equal(e.kind, ERR_INVALID);
		assert_says(e.text, cases[i][1]);
	}
}

static void test_made(void **unused)
{
	struct err e;
	struct msg_disk made[MSG_DISKS_MAX];
	(void)unused;
	struct spec *s = parse_good("[{\"image\":\"a\",\"size_mib\":5},{\"device\":\"b\"}]");
	memcpy(made, s->disks, sizeof(made));
	made[0].made = MSG_DISK_REFLINK;
	made[1].made = MSG_DISK_OPENED;
	made[1].size_mib = 99;
	assert_int_equal(spec_disk_made(s, made, 1, &e), -1);
	assert_int_equal(e.kind, ERR_PROTOCOL);
	made[1].flags |= MSG_DISK_READONLY;
	assert_int_equal(spec_disk_made(s, made, 2, &e), -1);
	assert_int_equal(s->disks[0].made, MSG_DISK_ASKED);
	made[1].flags = MSG_DISK_DEVICE;
	assert_int_equal(spec_disk_made(s, made, 2, &e), 0);
	assert_int_equal(s->disks[0].made, MSG_DISK_REFLINK);
	assert_int_equal(s->disks[1].size_mib, 99);
	spec_disk_unmake(s);
	assert_int_equal(s->disks[1].made, MSG_DISK_ASKED);
	spec_free(s);
}

/* ------------------------------------------------------------------ admission */

static char path[64];
static int dir;
static struct policy policy = {
	.device_count = 2,
	.devices = {{"alice:nvme", "/dev/null"}, {"bob:other", "/dev/null"}},
};

static void make_image(const char *name, off_t bytes)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
}

static int setup(void **unused)
{
	(void)unused;
	dir = unit_make_dir(path);
	make_image("small", 512);
	make_image("odd", (5 << 20) + 512);
	make_image("torn", 1000);
	make_image("empty", 0);
	assert_int_equal(mkdirat(dir, "folder", 0755), 0);
	assert_int_equal(symlinkat("small", dir, "link"), 0);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	close(dir);
	unit_remove_dir(path);
	return 0;
}

static void refuse(const char *disks, const char *part)
{
	struct err e = {0};
	struct spec *s = parse_good(disks);
	assert_int_equal(admit_disks(dir, &policy, "alice", s, &e), -1);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_says(e.text, part);
	spec_free(s);
}

static void test_admission(void **unused)
{
	struct err e;
	(void)unused;
	struct spec *s =
		parse_good("[{\"image\":\"small\"},{\"image\":\"odd\"},{\"image\":\"odd\","
			   "\"size_mib\":6,\"readonly\":true},{\"image\":\"odd\",\"size_mib\":70},"
			   "{\"device\":\"nvme\"}]");
	assert_int_equal(admit_disks(dir, &policy, "alice", s, &e), 0);
	assert_int_equal(s->disks[0].size_mib, 1);
	assert_int_equal(s->disks[1].size_mib, 6);
	assert_int_equal(s->disks[2].size_mib, 6);
	assert_int_equal(s->disks[3].size_mib, 70);
	assert_int_equal(s->disks[4].size_mib, 0);
	spec_free(s);
	refuse("[{\"image\":\"small\"},{\"image\":\"none\"}]",
	       "disks[1].image: there is no image \"none\" in images/disks");
	refuse("[{\"image\":\"odd\",\"size_mib\":5}]",
	       "disks[0].size_mib: 5 is not allowed; must be 6 (the image's) to 67108864");
	refuse("[{\"image\":\"odd\",\"size_mib\":7,\"readonly\":true}]",
	       "disks[0].size_mib: 7 is not allowed; must be 6, the image's own");
	refuse("[{\"image\":\"torn\"}]", "\"torn\" is no raw disk");
	refuse("[{\"image\":\"empty\",\"readonly\":true}]", "\"empty\" is no raw disk");
	refuse("[{\"image\":\"folder\"}]", "\"folder\" is no raw disk");
	refuse("[{\"device\":\"other\"}]",
	       "disks[0].device: there is no block device \"other\" for tenant alice");
	/* A link leads nowhere: it is looked at itself. */
	refuse("[{\"image\":\"link\"}]", "disks[0].image");
}

/* Of a template only what it does not bring along is looked for. */
static void test_admission_from_template(void **unused)
{
	struct err e;
	(void)unused;
	struct spec *s = parse_good("[{\"image\":\"gone\",\"size_mib\":4},"
				    "{\"image\":\"small\",\"readonly\":true}]");
	s->template = strdup("base");
	assert_int_equal(admit_disks(dir, &policy, "alice", s, &e), 0);
	assert_int_equal(s->disks[0].size_mib, 4);
	s->disks[0].flags = MSG_DISK_READONLY;
	assert_int_equal(admit_disks(dir, &policy, "alice", s, &e), -1);
	assert_says(e.text, "disks[0].image: there is no image \"gone\"");
	spec_free(s);
}

/* ------------------------------------------------------------------ view */

static void test_view(void **unused)
{
	static struct daemon d;
	static struct sandbox sb = {
		.d = &d, .tenant = "alice", .id = "box", .state = STATE_CREATING};
	(void)unused;
	sb.spec = parse_good("[{\"image\":\"a\",\"size_mib\":5,\"rate\":{\"iops\":70}},"
			     "{\"device\":\"b\",\"readonly\":true}]");
	cJSON *o = view_sandbox(&sb);
	char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(o, "disks"));
	assert_string_equal(text, "[{\"id\":\"disk0\",\"image\":\"a\",\"size_mib\":5,"
				  "\"readonly\":false,\"made\":null,\"rate\":{\"iops\":70}},"
				  "{\"id\":\"disk1\",\"device\":\"b\",\"size_mib\":null,"
				  "\"readonly\":true,\"made\":null}]");
	cJSON_free(text);
	cJSON_Delete(o);
	sb.spec->disks[0].made = MSG_DISK_COPIED;
	sb.spec->disks[1].made = MSG_DISK_OPENED;
	sb.spec->disks[1].size_mib = 8;
	sb.timings = (struct sandbox_timings){.of_set = true, .disks_us = 77};
	o = view_sandbox(&sb);
	text = cJSON_PrintUnformatted(o);
	assert_says(text, "\"readonly\":false,\"made\":\"copy\",\"rate\"");
	assert_says(text, "\"size_mib\":8,\"readonly\":true,\"made\":\"device\"}");
	assert_says(text, "\"disks_us\":77");
	cJSON_free(text);
	cJSON_Delete(o);
	spec_free(sb.spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_made),
		cmocka_unit_test_setup_teardown(test_admission, setup, teardown),
		cmocka_unit_test_setup_teardown(test_admission_from_template, setup, teardown),
		cmocka_unit_test(test_view),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
