// SPDX-License-Identifier: Apache-2.0
/* shim/ch_disks: what Cloud Hypervisor is told about disks, and what it says of them itself. */
#include "unit.h"

#include "ch_disks.h"
#include "util.h"

static struct msg_create spec;

/* Disks 0 to 3: plain, read-only, both limits, one limit: those of the answer below. */
static int setup(void **unused)
{
	(void)unused;
	memset(&spec, 0, sizeof(spec));
	spec.disk_count = 4;
	for (uint32_t i = 0; i < spec.disk_count; i++) {
		str_copy(spec.disks[i].image, NAME_SIZE, "debian");
		spec.disks[i].size_mib = 8;
	}
	spec.disks[1].flags = MSG_DISK_READONLY;
	spec.disks[2].rate_mib_s = 10;
	spec.disks[2].rate_iops = 10;
	spec.disks[3].rate_iops = 100;
	return 0;
}

/* ------------------------------------------------------------------ what it is told */

static void assert_told(const char *want)
{
	cJSON *config = cJSON_CreateObject();
	assert_true(ch_disks_add(config, &spec));
	char *text = cJSON_PrintUnformatted(config);
	assert_string_equal(text, want);
	free(text);
	cJSON_Delete(config);
}

#define DISK(number, readonly, rest)                                                               \
	"{\"id\":\"disk" number "\",\"path\":\"/disk/" number "\",\"readonly\":" readonly          \
	",\"image_type\":\"Raw\",\"disable_io_uring\":true" rest "}"
#define RATE(buckets)	       ",\"rate_limiter_config\":{" buckets "}"
#define BUCKET(name, size, ms) "\"" name "\":{\"size\":" size ",\"refill_time\":" ms "}"

static void test_told(void **unused)
{
	(void)unused;
	assert_told("{\"disks\":[" DISK("0", "false", "") "," DISK("1", "true", "") "," DISK(
		"2", "false",
		RATE(BUCKET("bandwidth", "10485760", "1000") "," BUCKET(
			"ops", "1", "100"))) "," DISK("3", "false",
						      RATE(BUCKET("ops", "10", "100"))) "]}");
	/* A block device is a disk like any other. */
	spec.disk_count = 2;
	spec.disks[0].flags = MSG_DISK_DEVICE;
	spec.disks[1].flags = MSG_DISK_DEVICE | MSG_DISK_READONLY;
	assert_told("{\"disks\":[" DISK("0", "false", "") "," DISK("1", "true", "") "]}");
	/* None: CH's own default. */
	spec.disk_count = 0;
	assert_told("{}");
}

/*
 * A bucket that refills later than after CH's pause of 100 ms, and holds one token only, never
 * fills again: the guest's second request would hang for ever.
 */
static void test_small_rates_do_not_stall(void **unused)
{
	static const struct {
		uint32_t iops;
		const char *size;
	} cases[] = {{10, "1"}, {19, "1"}, {20, "2"}, {999, "99"}};
	(void)unused;
	spec.disk_count = 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char want[256];
		spec.disks[0].rate_iops = cases[i].iops;
		snprintf(want, sizeof(want),
			 "{\"disks\":[" DISK("0", "false", RATE(BUCKET("ops", "%s", "100"))) "]}",
			 cases[i].size);
		assert_told(want);
	}
}

static void test_extreme_rates(void **unused)
{
	(void)unused;
	spec.disk_count = 1;
	spec.disks[0].rate_mib_s = MSG_DISK_RATE_MIB_MAX;
	spec.disks[0].rate_iops = MSG_DISK_IOPS_MAX;
	/* Written out, not as 1.04e+11: CH reads whole numbers only. */
	assert_told(
		"{\"disks\":[" DISK("0", "false",
				    RATE(BUCKET("bandwidth", "1048576000000",
						"1000") "," BUCKET("ops", "1000000", "100"))) "]}");
	spec.disks[0].rate_mib_s = 1;
	spec.disks[0].rate_iops = 0;
	assert_told("{\"disks\":[" DISK("0", "false",
					RATE(BUCKET("bandwidth", "1048576", "1000"))) "]}");
}

static void test_all_eight(void **unused)
{
	(void)unused;
	spec.disk_count = MSG_DISKS_MAX;
	cJSON *config = cJSON_CreateObject();
	assert_true(ch_disks_add(config, &spec));
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(config, "disks")), MSG_DISKS_MAX);
	assert_true(ch_disks_are(config, &spec));
	cJSON_Delete(config);
}

/* cJSON's memory gives out at each allocation in turn. */
static int allocations_left;

static void *scarce(size_t size)
{
	return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void test_no_memory(void **unused)
{
	cJSON_Hooks hooks = {.malloc_fn = scarce, .free_fn = free};
	(void)unused;
	bool added = false;
	int n = 0;
	for (; !added; n++) {
		cJSON_InitHooks(NULL);
		cJSON *config = cJSON_CreateObject();
		allocations_left = n;
		cJSON_InitHooks(&hooks);
		added = ch_disks_add(config, &spec);
		cJSON_InitHooks(NULL);
		assert_true(n < 1000);
		if (added)
			assert_true(ch_disks_are(config, &spec));
		cJSON_Delete(config);
	}
	assert_true(n > 50);
}

/* ------------------------------------------------------------------ what it says */

/* The "disks" of vm.info after a vm.create with the above, of a Cloud Hypervisor 53.0.0. */
#define HEAD(number, readonly)                                                                     \
	"{\"id\":\"disk" number "\",\"pci_segment\":0,\"path\":\"/disk/" number                    \
	"\",\"readonly\":" readonly ",\"direct\":false,\"num_queues\":1,\"queue_size\":128,"       \
	"\"vhost_user\":false,"
#define TAIL                                                                                       \
	"\"disable_io_uring\":true,\"disable_aio\":false,\"backing_files\":false,\"sparse\":true," \
	"\"image_type\":\"Raw\",\"lock_granularity\":\"ByteRange\"}"
static const char answer[] = "{\"disks\":[" HEAD("0", "false") TAIL "," HEAD("1", "true") TAIL
	"," HEAD("2",
		 "false") "\"rate_limiter_config\":{\"bandwidth\":{\"size\":10485760,\"one_time_"
			  "burst\":null,"
			  "\"refill_time\":1000},\"ops\":{\"size\":1,\"one_time_burst\":null,"
			  "\"refill_time\":100}}," TAIL
			  "," HEAD("3",
				   "false") "\"rate_limiter_config\":{\"bandwidth\":null,\"ops\":{"
					    "\"size\":10,"
					    "\"one_time_burst\":null,\"refill_time\":100}}," TAIL
					    "]}";

static bool says(const char *text)
{
	cJSON *config = cJSON_Parse(text);
	assert_non_null(config);
	bool result = ch_disks_are(config, &spec);
	cJSON_Delete(config);
	return result;
}

static void test_own_account_is_taken(void **unused)
{
	(void)unused;
	assert_true(says(answer));
	/* What was sent is an answer too, of a VMM that shows no more than that. */
	cJSON *config = cJSON_CreateObject();
	assert_true(ch_disks_add(config, &spec));
	assert_true(ch_disks_are(config, &spec));
	cJSON_Delete(config);
}

/* A pointer such as "0/path" or "2/rate_limiter_config/ops/size" is set to value, or dropped. */
static bool says_with(const char *where, const char *value)
{
	char part[64];
	cJSON *config = cJSON_Parse(answer);
	assert_non_null(config);
	cJSON *at = cJSON_GetArrayItem(cJSON_GetObjectItem(config, "disks"), where[0] - '0');
	const char *key = where + 2;
	for (const char *slash; (slash = strchr(key, '/')); key = slash + 1) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - key), key);
		at = cJSON_GetObjectItemCaseSensitive(at, part);
		assert_non_null(at);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(at, key);
	if (value) {
		cJSON *item = cJSON_Parse(value);
		assert_non_null(item);
		cJSON_AddItemToObject(at, key, item);
	}
	bool result = ch_disks_are(config, &spec);
	cJSON_Delete(config);
	return result;
}

static void test_each_difference_is_seen(void **unused)
{
	static const char *const cases[][2] = {
		{"0/id", NULL},
		{"0/id", "\"disk1\""},
		{"0/id", "0"},
		{"1/path", NULL},
		{"1/path", "\"/disk/0\""},
		{"1/path", "\"/disk/11\""},
		{"1/path", "\"/etc/passwd\""},
		{"0/readonly", "true"},
		{"1/readonly", "false"},
		{"1/readonly", NULL},
		{"0/image_type", NULL},
		{"0/image_type", "\"Qcow2\""},
		{"0/image_type", "\"Unknown\""},
		{"0/disable_io_uring", NULL},
		{"0/disable_io_uring", "false"},
		{"0/vhost_user", "true"},
		{"0/backing_files", "true"},
		{"0/rate_limiter_config", "{\"ops\":{\"size\":1,\"refill_time\":100}}"},
		{"2/rate_limiter_config", NULL},
		{"2/rate_limiter_config", "null"},
		{"2/rate_limiter_config", "{}"},
		{"2/rate_limiter_config/ops", "null"},
		{"2/rate_limiter_config/bandwidth", NULL},
		{"2/rate_limiter_config/ops/size", "2"},
		{"2/rate_limiter_config/ops/size", "\"1\""},
		{"2/rate_limiter_config/bandwidth/size", "10485761"},
		{"2/rate_limiter_config/bandwidth/refill_time", "1"},
		{"2/rate_limiter_config/bandwidth/one_time_burst", "1000000000"},
		{"3/rate_limiter_config/bandwidth", "{\"size\":1048576,\"refill_time\":1000}"},
		{"3/rate_limiter_config/ops/refill_time", NULL},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (says_with(cases[i][0], cases[i][1]))
			fail_msg("%s = %s is taken", cases[i][0], cases[i][1] ? cases[i][1] : "-");
}

static void test_what_does_not_matter(void **unused)
{
	static const char *const cases[][2] = {
		{"0/serial", "\"x\""},	 {"0/num_queues", "4"},
		{"0/vhost_user", NULL},	 {"0/rate_limiter_config", "null"},
		{"0/readonly", NULL},	 {"2/rate_limiter_config/ops/one_time_burst", NULL},
		{"0/new_key", "[1,{}]"},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (!says_with(cases[i][0], cases[i][1]))
			fail_msg("%s is refused", cases[i][0]);
}

static void test_how_many(void **unused)
{
	static const char *const none[] = {"{}", "{\"disks\":null}", "{\"disks\":[]}"};
	static const char *const wrong[] = {"{\"disks\":{}}", "{\"disks\":\"\"}", "{\"disks\":[1]}",
					    "{\"disks\":[null]}", "{\"disks\":[{}]}"};
	(void)unused;
	/* Never fewer or more than asked for. */
	spec.disk_count = 3;
	assert_false(says(answer));
	spec.disk_count = 5;
	assert_false(says(answer));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		spec.disk_count = 0;
		assert_false(says(wrong[i]));
		spec.disk_count = 1;
		assert_false(says(wrong[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		spec.disk_count = 0;
		assert_true(says(none[i]));
		spec.disk_count = 1;
		assert_false(says(none[i]));
	}
	spec.disk_count = 0;
	assert_false(says(answer));
}

static void test_order(void **unused)
{
	(void)unused;
	cJSON *config = cJSON_Parse(answer), *disks = cJSON_GetObjectItem(config, "disks");
	cJSON_AddItemToArray(disks, cJSON_DetachItemFromArray(disks, 0));
	assert_false(ch_disks_are(config, &spec));
	cJSON_Delete(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup(fn, setup)
		T(test_told),
		T(test_small_rates_do_not_stall),
		T(test_extreme_rates),
		T(test_all_eight),
		T(test_no_memory),
		T(test_own_account_is_taken),
		T(test_each_difference_is_seen),
		T(test_what_does_not_matter),
		T(test_how_many),
		T(test_order),
#undef T
	};
	return cmocka_run_group_tests_name("ch_disks", tests, NULL, NULL);
}
