// SPDX-License-Identifier: Apache-2.0
/* supervisor/template and what supervisor/spec makes of one: names, quotas, restore modes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json.h"
#include "template.h"
#include "util.h"

static struct template_table table;

static int setup(void **unused)
{
	(void)unused;
	template_open(&table);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	template_close(&table);
	return 0;
}

static struct msg_set make_set(const char *key, uint32_t content)
{
	struct msg_set set = {.format = MSG_SET_FORMAT, .content = content, .created_real_us = 7};
	str_copy(set.key, sizeof(set.key), key);
	str_copy(set.parent, sizeof(set.parent), "alice:box");
	str_copy(set.vmm_version, sizeof(set.vmm_version), "53.0");
	str_copy(set.spec.kernel, sizeof(set.spec.kernel), "linux");
	str_copy(set.spec.initramfs, sizeof(set.spec.initramfs), "tools");
	str_copy(set.spec.cmdline, sizeof(set.spec.cmdline), "quiet");
	set.spec.flags = MSG_CREATE_INITRAMFS;
	set.spec.vcpus = 3;
	set.spec.memory_mib = 64;
	set.spec.max_vcpus = 4;
	set.spec.max_memory_mib = 192;
	set.spec.disk_count = 2;
	set.spec.disks[0] = (struct msg_disk){
		.image = "root", .size_mib = 9, .made = MSG_DISK_REFLINK, .rate_iops = 50};
	set.spec.disks[1] = (struct msg_disk){.image = "tools",
					      .size_mib = 1,
					      .flags = MSG_DISK_READONLY,
					      .made = MSG_DISK_SHARED};
	return set;
}

static struct template *add(const char *key, uint32_t content)
{
	const struct msg_set set = make_set(key, content);
	struct err e;
	assert_int_equal(template_add(&table, &set, &e), 0);
	return template_find(&table, key);
}

static struct spec *parse(const char *text, struct err *e)
{
	cJSON *body = json_parse_object(text, strlen(text), e);
	assert_non_null(body);
	struct spec *s = spec_from_json(body, e);
	cJSON_Delete(body);
	return s;
}

static void refuse(const char *text, const char *part)
{
	struct err e;
	assert_null(parse(text, &e));
	assert_int_equal(e.kind, ERR_INVALID);
	if (!strstr(e.text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, e.text);
}

static void test_names(void **unused)
{
	struct err e;
	(void)unused;
	struct template *t = template_reserve(&table, NULL, "alice", "base", &e);
	assert_non_null(t);
	assert_string_equal(t->key, "alice:base");
	assert_string_equal(t->name, "base");
	/* Not to be seen before it is whole, but taken. */
	assert_null(template_find(&table, "alice:base"));
	assert_null(template_reserve(&table, NULL, "alice", "base", &e));
	assert_int_equal(e.kind, ERR_STATE);
	assert_non_null(strstr(e.text, "being written"));
	/* Another tenant's is another one. */
	assert_non_null(template_reserve(&table, NULL, "bob", "base", &e));
	const struct msg_set set = make_set("alice:base", MSG_SET_RAM);
	assert_int_equal(template_fill(t, &set, &e), 0);
	assert_ptr_equal(template_find(&table, "alice:base"), t);
	assert_string_equal(t->parent, "alice:box");
	assert_null(template_reserve(&table, NULL, "alice", "base", &e));
	assert_non_null(strstr(e.text, "exists already"));
	t->removing = true;
	assert_null(template_find(&table, "alice:base"));
	assert_null(template_reserve(&table, NULL, "alice", "base", &e));
	assert_non_null(strstr(e.text, "being removed"));
	template_forget(t);
	assert_non_null(template_reserve(&table, NULL, "alice", "base", &e));
	assert_null(template_reserve(&table, NULL, "alice", "No", &e));
	assert_int_equal(e.kind, ERR_INVALID);
}

static void test_listed_again(void **unused)
{
	(void)unused;
	struct template *t = add("alice:base", MSG_SET_RAM);
	assert_non_null(t);
	assert_ptr_equal(add("alice:base", MSG_SET_RANGES), t);
	assert_int_equal(t->content, MSG_SET_RAM);
}

static void test_quota(void **unused)
{
	struct config_tenant alice = {.name = "alice", .max_templates = 2};
	struct err e;
	(void)unused;
	add("bob:x", MSG_SET_RAM);
	add("alice:x", MSG_SET_RAM);
	struct template *t = template_reserve(&table, &alice, "alice", "y", &e);
	assert_non_null(t);
	/* One that is being written counts. */
	assert_null(template_reserve(&table, &alice, "alice", "z", &e));
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_non_null(strstr(e.text, "max_templates: 2 used"));
	template_forget(t);
	assert_non_null(template_reserve(&table, &alice, "alice", "z", &e));
	alice.max_templates = 0;
	assert_non_null(template_reserve(&table, &alice, "alice", "w", &e));
}

static void test_in_use(void **unused)
{
	struct err e;
	(void)unused;
	struct template *t = add("alice:base", MSG_SET_RAM);
	assert_int_equal(template_check_unused(t, &e), 0);
	t->users = 2;
	assert_int_equal(template_check_unused(t, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_non_null(strstr(e.text, "2 sandboxes are being made"));
	t->users = 0;
}

static void test_fields(void **unused)
{
	struct err e;
	(void)unused;
	refuse("{\"template\":\"base\",\"kernel\":\"linux\"}",
	       "kernel: \"linux\" is not allowed with a");
	/* In whatever order. */
	refuse("{\"initramfs\":\"x\",\"template\":\"base\"}", "initramfs:");
	refuse("{\"cmdline\":\"\",\"template\":\"base\"}", "cmdline:");
	refuse("{\"template\":\"base\",\"vcpus\":1}", "vcpus: 1");
	refuse("{\"template\":\"base\",\"max_vcpus\":1}", "max_vcpus: 1");
	refuse("{\"template\":\"base\",\"max_memory_mib\":16}", "max_memory_mib: 16");
	refuse("{\"template\":\"base\",\"memory_mib\":64}", "memory_mib: 64");
	refuse("{\"template\":\"base\",\"balloon\":false}", "balloon: false");
	refuse("{\"template\":\"base\",\"disks\":[]}", "disks:");
	refuse("{\"template\":\"No\"}", "template: \"No\"");
	refuse("{\"template\":7}", "template: 7");
	refuse("{\"template\":\"base\",\"memory_restore\":\"Map\"}", "auto, map, copy or ondemand");
	refuse("{\"kernel\":\"linux\",\"memory_restore\":\"copy\"}", "without template");
	refuse("{\"template\":null}", "kernel: missing");
	struct spec *s =
		parse("{\"kernel\":\"linux\",\"template\":null,\"memory_restore\":\"auto\"}", &e);
	assert_non_null(s);
	assert_int_equal(s->source, MSG_SOURCE_BOOT);
	spec_free(s);
	s = parse("{\"template\":\"base\",\"id\":\"a\",\"labels\":{\"k\":\"v\"}}", &e);
	assert_non_null(s);
	assert_int_equal(s->source, MSG_SOURCE_TEMPLATE);
	spec_free(s);
}

/* What comes of asking how, of a set of that content, on a VMM of that version. */
static int use(uint32_t content, const char *how, uint32_t major, struct err *e)
{
	char text[96];
	struct template *t = add("alice:base", content);
	snprintf(text, sizeof(text), "{\"template\":\"base\",\"memory_restore\":\"%s\"}", how);
	struct spec *s = parse(text, e);
	assert_non_null(s);
	int result = spec_use_template(s, t, major, e);
	if (result == 0) {
		struct msg_create m;
		result = (int)s->restore;
		spec_to_msg(s, "alice", &m);
		assert_int_equal(msg_write_create(&m, e), sizeof(m));
		assert_string_equal(m.template, "alice:base");
		assert_string_equal(m.kernel, "linux");
		assert_string_equal(m.initramfs, "tools");
		assert_string_equal(m.cmdline, "quiet");
		assert_int_equal(m.vcpus, 3);
		assert_int_equal(m.max_vcpus, 4);
		assert_int_equal(m.max_memory_mib, 192);
		assert_int_equal(m.memory_mib, 64);
		assert_int_equal(m.flags, MSG_CREATE_INITRAMFS);
		/* The template's disks, to be made anew; it still says how its own were. */
		assert_int_equal(m.disk_count, 2);
		assert_string_equal(m.disks[0].image, "root");
		assert_int_equal(m.disks[0].size_mib, 9);
		assert_int_equal(m.disks[0].rate_iops, 50);
		assert_int_equal(m.disks[1].flags, MSG_DISK_READONLY);
		assert_int_equal(s->disks[0].made, MSG_DISK_ASKED);
		assert_int_equal(t->spec->disks[0].made, MSG_DISK_REFLINK);
		/* And back, as an adopted one's. */
		struct spec *again = spec_from_msg(&m, e);
		assert_non_null(again);
		assert_string_equal(again->template, "base");
		assert_int_equal(again->restore, s->restore);
		spec_free(again);
		/* Asleep it wakes from its own set. */
		s->source = MSG_SOURCE_WAKE;
		spec_to_msg(s, "alice", &m);
		assert_int_equal(msg_write_create(&m, e), sizeof(m));
		assert_string_equal(m.template, "");
	}
	spec_free(s);
	template_forget(t);
	return result;
}

static void test_restore_modes(void **unused)
{
	struct err e;
	(void)unused;
	assert_int_equal(use(MSG_SET_RAM, "auto", 53, &e), MSG_RESTORE_MAP);
	assert_int_equal(use(MSG_SET_RAM, "map", 52, &e), MSG_RESTORE_MAP);
	assert_int_equal(use(MSG_SET_RAM, "copy", 53, &e), MSG_RESTORE_COPY);
	assert_int_equal(use(MSG_SET_RANGES, "auto", 53, &e), MSG_RESTORE_ONDEMAND);
	assert_int_equal(use(MSG_SET_RANGES, "auto", 52, &e), MSG_RESTORE_COPY);
	assert_int_equal(use(MSG_SET_RANGES, "copy", 52, &e), MSG_RESTORE_COPY);
	assert_int_equal(use(MSG_SET_RANGES, "map", 53, &e), -1);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_non_null(strstr(e.text, "no ram file"));
	assert_int_equal(use(MSG_SET_RAM, "ondemand", 53, &e), -1);
	assert_non_null(strstr(e.text, "no memory-ranges"));
	assert_int_equal(use(MSG_SET_RANGES, "ondemand", 52, &e), -1);
	assert_non_null(strstr(e.text, "version 53"));
}

static void test_wake_modes(void **unused)
{
	struct err e;
	enum msg_restore how;
	(void)unused;
	cJSON *body = json_parse_object("{\"memory_restore\":\"ondemand\"}", 29, &e);
	assert_non_null(body);
	assert_int_equal(spec_read_restore(body->child, true, &how, &e), 0);
	assert_int_equal(how, MSG_RESTORE_ONDEMAND);
	assert_int_equal(spec_read_restore(body->child, false, &how, &e), -1);
	assert_non_null(strstr(e.text, "must be auto, map or copy"));
	cJSON_Delete(body);
	/* A set of which nothing is known is left to the shim. */
	assert_int_equal(spec_check_restore(MSG_RESTORE_MAP, 0, 53, &e), 0);
	assert_null(spec_restore_name(MSG_RESTORE_NONE));
	assert_string_equal(spec_restore_name(MSG_RESTORE_MAP), "map");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listed_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quota, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restore_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wake_modes, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
