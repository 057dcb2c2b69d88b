// SPDX-License-Identifier: Apache-2.0
/* supervisor/quota: what counts, against a tenant's limits and the host's. */
#include "unit.h"

#include "daemon.h"
#include "quota.h"
#include "sandbox.h"
#include "util.h"

#define MIB (1ull << 20)

static struct daemon d;
static struct config_tenant alice = {.name = "alice"}, bob = {.name = "bob"};
static struct sandbox boxes[8];
static size_t box_count;

static int setup(void **unused)
{
	(void)unused;
	registry_open(&d.registry);
	template_open(&d.templates);
	d.config.policy.max_sandboxes = 100;
	d.config.max_disk_mib = 0;
	alice = (struct config_tenant){.name = "alice"};
	bob = (struct config_tenant){.name = "bob"};
	box_count = 0;
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < box_count; i++) {
		registry_remove(&d.registry, &boxes[i]);
		spec_free(boxes[i].spec);
	}
	registry_close(&d.registry);
	template_close(&d.templates);
	return 0;
}

/* With a disk of its own of that size, a read-only one, and a device. */
static struct spec *make_spec(uint32_t disk_mib)
{
	struct spec *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	*s = (struct spec){.vcpus = 1,
			   .max_vcpus = 2,
			   .memory_mib = 64,
			   .max_memory_mib = 128,
			   .disk_count = 3,
			   .disks = {{.image = "a", .size_mib = disk_mib},
				     {.image = "b", .size_mib = 7000, .flags = MSG_DISK_READONLY},
				     {.image = "c", .size_mib = 7000, .flags = MSG_DISK_DEVICE}}};
	return s;
}

static struct sandbox *add_box(const char *tenant, enum state state, uint32_t disk_mib)
{
	struct sandbox *sb = &boxes[box_count];
	char id[8];
	*sb = (struct sandbox){.d = &d, .state = state, .spec = make_spec(disk_mib)};
	snprintf(id, sizeof(id), "b%zu", box_count++);
	str_copy(sb->tenant, sizeof(sb->tenant), tenant);
	name_key_make(sb->key, tenant, id);
	assert_true(registry_add(&d.registry, sb));
	return sb;
}

static struct template *add_template(const struct config_tenant *t, const char *name,
				     uint64_t bytes)
{
	struct err e;
	struct template *one = template_reserve(&d.templates, t, t->name, name, &e);
	assert_non_null(one);
	one->allocated_bytes = bytes;
	return one;
}

static void expect(const struct config_tenant *t, uint32_t disk_mib, const char *refusal)
{
	struct err e = {.text = ""};
	struct spec *want = make_spec(disk_mib);
	int rc = quota_check(&d, t, want, &e);
	spec_free(want);
	if (!refusal) {
		assert_string_equal(e.text, "");
		assert_int_equal(rc, 0);
		return;
	}
	assert_int_equal(rc, -1);
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_says(e.text, refusal);
}

static void test_sandboxes(void **unused)
{
	struct err e;
	(void)unused;
	add_box("alice", STATE_RUNNING, 0);
	struct sandbox *asleep = add_box("alice", STATE_HIBERNATED, 0);
	add_box("bob", STATE_RUNNING, 0);
	alice.max_sandboxes = 2;
	expect(&alice, 0, "max_sandboxes: 2 used, 1 more wanted, the limit is 2");
	expect(&bob, 0, NULL);
	alice.max_sandboxes = 3;
	/* What it may grow to, of those that have a VMM. */
	alice.max_vcpus = 4;
	expect(&alice, 0, NULL);
	assert_int_equal(quota_check_wake(&d, &alice, asleep->spec, &e), 0);
	alice.max_memory_mib = 255;
	expect(&alice, 0, "max_memory_mib: 128 used, 128 more wanted");
	assert_int_equal(quota_check_wake(&d, &alice, asleep->spec, &e), -1);
	d.config.policy.max_sandboxes = 3;
	expect(NULL, 0, "the host's max_sandboxes: 3 used");
}

static void test_disks(void **unused)
{
	(void)unused;
	alice.max_disk_mib = 100;
	expect(&alice, 100, NULL);
	expect(&alice, 101, "max_disk_mib: 0 used, 101 more wanted, the limit is 100");
	/* Promised whatever becomes of it: each state counts. */
	add_box("alice", STATE_CRASHED, 30);
	struct sandbox *sb = add_box("alice", STATE_HIBERNATED, 20);
	add_box("bob", STATE_RUNNING, 5000);
	expect(&alice, 50, NULL);
	expect(&alice, 51, "50 used");
	/* A set as it is allocated, each rounded up to MiB. */
	sb->set_bytes = 2 * MIB + 1;
	add_template(&alice, "t", 1);
	add_template(&bob, "t", 900 * MIB);
	expect(&alice, 46, NULL);
	expect(&alice, 47, "54 used");
	/* Who asks for none is not in the way of it. */
	alice.max_disk_mib = 1;
	expect(&alice, 0, NULL);
}

static void test_host_disk(void **unused)
{
	(void)unused;
	add_box("alice", STATE_RUNNING, 60);
	add_box("admin", STATE_RUNNING, 30);
	add_template(&bob, "t", 5 * MIB);
	d.config.max_disk_mib = 100;
	expect(NULL, 5, NULL);
	expect(NULL, 6, "the host's max_disk_mib: 95 used, 6 more wanted, the limit is 100");
	expect(&bob, 6, "the host's max_disk_mib");
	bob.max_disk_mib = 8;
	expect(&bob, 4, "max_disk_mib: 5 used");
}

static void test_grant(void **unused)
{
	struct err e;
	struct quota_grant first, second;
	(void)unused;
	struct sandbox *sb = add_box("alice", STATE_RUNNING, 30);
	/* No limit: it counts, but bounds nothing. */
	assert_int_equal(quota_grant(&d, &alice, 10 * MIB, &first, &e), 0);
	assert_int_equal(first.bytes, 10 * MIB);
	assert_int_equal(first.max_bytes, 0);
	alice.max_disk_mib = 50;
	assert_int_equal(quota_grant(&d, &alice, 15 * MIB, &first, &e), 0);
	assert_int_equal(first.bytes, 15 * MIB);
	assert_int_equal(first.max_bytes, 15 * MIB);
	/* What is granted is not granted again: to a hibernation or to a template. */
	sb->granted_bytes = first.bytes;
	assert_int_equal(quota_grant(&d, &alice, 15 * MIB, &second, &e), 0);
	assert_int_equal(second.max_bytes, 5 * MIB);
	struct template *t = add_template(&alice, "t", second.bytes);
	assert_int_equal(quota_grant(&d, &alice, 15 * MIB, &second, &e), -1);
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_says(e.text, "max_disk_mib: 50 used, the limit is 50: there is no room for a set");
	expect(&alice, 1, "50 used");
	/* Over: what it takes counts. */
	sb->granted_bytes = 0;
	sb->set_bytes = 3 * MIB;
	t->allocated_bytes = MIB;
	assert_int_equal(quota_grant(&d, &alice, 99 * MIB, &second, &e), 0);
	assert_int_equal(second.max_bytes, 16 * MIB);
	/* The narrower of two limits. */
	d.config.max_disk_mib = 40;
	assert_int_equal(quota_grant(&d, &alice, 99 * MIB, &second, &e), 0);
	assert_int_equal(second.max_bytes, 6 * MIB);
	assert_int_equal(quota_grant(&d, NULL, 2 * MIB, &second, &e), 0);
	assert_int_equal(second.max_bytes, 2 * MIB);
	d.config.max_disk_mib = 34;
	assert_int_equal(quota_grant(&d, NULL, 2 * MIB, &second, &e), -1);
	assert_says(e.text, "the host's max_disk_mib: 34 used");
}

static void test_bound(void **unused)
{
	(void)unused;
	struct spec *s = make_spec(1000);
	uint64_t without = quota_set_bound(s, false), with = quota_set_bound(s, true);
	/* At least memory (and own disks), and not much more. */
	assert_true(without > 64 * MIB && without < 80 * MIB);
	assert_true(with > 1064 * MIB && with < 1100 * MIB);
	spec_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sandboxes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_grant, setup, teardown),
		cmocka_unit_test(test_bound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
