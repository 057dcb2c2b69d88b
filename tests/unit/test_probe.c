// SPDX-License-Identifier: Apache-2.0
/* shim/probe: what a VMM may print for --version. */
#include "unit.h"

#include "probe.h"
#include "util.h"

static void test_good(void **unused)
{
	static const struct {
		const char *text, *version;
		uint32_t major, minor, patch;
	} cases[] = {
		{"cloud-hypervisor v53.0.0", "53.0.0", 53, 0, 0},
		{"cloud-hypervisor v53.0", "53.0", 53, 0, 0},
		{"cloud-hypervisor v51.2.7\n", "51.2.7", 51, 2, 7},
		{"cloud-hypervisor v53.0.0 (abc)", "53.0.0", 53, 0, 0},
		{"cloud-hypervisor v53.1.0-12-gabcdef", "53.1.0-12-gabcdef", 53, 1, 0},
		{"cloud-hypervisor v53.1-dirty", "53.1-dirty", 53, 1, 0},
		{"cloud-hypervisor v100000.100000.100000", "100000.100000.100000", 100000, 100000,
		 100000},
		{"cloud-hypervisor v53.0.1\x1b[31m", "53.0.1?[31m", 53, 0, 1},
		{"cloud-hypervisor v1.2.3-5678901234567890123456789", /* 31 bytes */
		 "1.2.3-5678901234567890123456789", 1, 2, 3},
	};
	struct probe_report report;
	struct err e;
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(&report, 0xaa, sizeof(report));
		if (probe_parse(cases[i].text, &report, &e) < 0)
			fail_msg("%s: %s", cases[i].text, e.text);
		assert_int_equal(report.ok, 1);
		assert_string_equal(report.version, cases[i].version);
		assert_true(str_is_padded(report.version, sizeof(report.version)));
		assert_int_equal(report.major, cases[i].major);
		assert_int_equal(report.minor, cases[i].minor);
		assert_int_equal(report.patch, cases[i].patch);
	}
}

static void test_bad(void **unused)
{
	static const char *const cases[] = {
		"",
		"cloud-hypervisor",
		"cloud-hypervisor v",
		"cloud-hypervisor v ",
		"cloud-hypervisor v53",
		"cloud-hypervisor v53.",
		"cloud-hypervisor v53.x",
		"cloud-hypervisor v.53",
		"cloud-hypervisor v-1.0",
		"cloud-hypervisor v+1.0",
		"cloud-hypervisor v 53.0",
		"cloud-hypervisor v53 .0",
		"cloud-hypervisor 53.0.0",
		"cloud-hypervisor v100001.0.0",
		"cloud-hypervisor v53.100001.0",
		"cloud-hypervisor v99999999999999999999999.0",
		"cloud-hypervisor v1.2.3-56789012345678901234567890", /* 32 bytes */
		"Cloud-hypervisor v53.0.0",
		" cloud-hypervisor v53.0.0",
		"firecracker v1.2.3",
		"error: unexpected argument",
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct probe_report report = {.ok = 1};
		struct err e = {0};
		if (probe_parse(cases[i], &report, &e) != -1)
			fail_msg("\"%s\" was taken", cases[i]);
		assert_int_equal(report.ok, 0);
		assert_int_equal(e.kind, ERR_VMM);
		assert_says(e.text, "--version");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
