// SPDX-License-Identifier: Apache-2.0
/* common/policy: only a whole, sealed block of this build is believed. */
#include "unit.h"

#include "policy.h"
#include "util.h"

#include <errno.h>
#include <sys/mman.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static struct policy p;

static int setup(void **unused)
{
	(void)unused;
	p = (struct policy){.magic = POLICY_MAGIC, .size = sizeof(p), .uid_base = 700000};
	str_copy(p.vmm_binary, sizeof(p.vmm_binary), "/usr/bin/vmm");
	return 0;
}

static int memfd(size_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &p, sizeof(p)), sizeof(p));
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void refused(int fd, enum err_kind kind, const char *says)
{
	struct err e = {0};
	assert_null(policy_map(fd, &e));
	assert_int_equal(e.kind, kind);
	assert_says(e.text, says);
	close(fd);
}

static void test_round_trip(void **unused)
{
	struct err e;
	(void)unused;
	int fd = policy_seal(&p, &e);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	const struct policy *map = policy_map(fd, &e);
	assert_non_null(map);
	assert_memory_equal(map, &p, sizeof(p));
	/* Nobody can change it any more, by whatever way. */
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, sizeof(p) + 1), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_ptr_equal(mmap(NULL, sizeof(p), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
			 MAP_FAILED);
	assert_int_equal(mprotect((void *)(uintptr_t)map, sizeof(p), PROT_READ | PROT_WRITE), -1);
	close(fd);
	assert_memory_equal(map, &p, sizeof(p));
	munmap((void *)(uintptr_t)map, sizeof(p));
}

static void test_seals(void **unused)
{
	(void)unused;
	refused(memfd(sizeof(p), 0), ERR_INTERNAL, "not a sealed policy");
	refused(memfd(sizeof(p), SEALS & ~F_SEAL_WRITE), ERR_INTERNAL, "not a sealed policy");
	refused(memfd(sizeof(p), SEALS & ~F_SEAL_SHRINK), ERR_INTERNAL, "not a sealed policy");
	refused(memfd(sizeof(p), SEALS & ~F_SEAL_GROW), ERR_INTERNAL, "not a sealed policy");
	refused(memfd(sizeof(p), SEALS & ~F_SEAL_SEAL), ERR_INTERNAL, "not a sealed policy");
	/* A mapping made before this seal stays writable: it is not enough. */
	refused(memfd(sizeof(p), (SEALS & ~F_SEAL_WRITE) | F_SEAL_FUTURE_WRITE), ERR_INTERNAL,
		"not a sealed policy");
}

static void test_shape(void **unused)
{
	(void)unused;
	refused(memfd(sizeof(p) - 1, SEALS), ERR_VERSION, "another size");
	refused(memfd(sizeof(p) + 1, SEALS), ERR_VERSION, "another size");
	refused(memfd(0, SEALS), ERR_VERSION, "another size");
	p.magic ^= 1;
	refused(memfd(sizeof(p), SEALS), ERR_VERSION, "not of this build");
	p.magic ^= 1;
	p.size++;
	refused(memfd(sizeof(p), SEALS), ERR_VERSION, "not of this build");
}

static void test_other_descriptors(void **unused)
{
	int ends[2];
	(void)unused;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	refused(ends[0], ERR_INTERNAL, "started by cloisterd");
	refused(ends[1], ERR_INTERNAL, "started by cloisterd");
	refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), ERR_INTERNAL, "started by");
	struct err e;
	assert_null(policy_map(-1, &e));
	assert_int_equal(e.errnum, EBADF);
}

static void test_deadline_keys(void **unused)
{
	(void)unused;
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++) {
		const char *key = policy_deadline_key((enum policy_deadline)i);
		assert_non_null(key);
		assert_string_equal(key + strlen(key) - 3, "_ms");
		for (int j = 0; j < i; j++)
			assert_string_not_equal(key, policy_deadline_key((enum policy_deadline)j));
	}
	assert_string_equal(policy_deadline_key(POLICY_DEADLINE_POWER_BUTTON), "power_button_ms");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_round_trip, setup),
		cmocka_unit_test_setup(test_seals, setup),
		cmocka_unit_test_setup(test_shape, setup),
		cmocka_unit_test_setup(test_other_descriptors, setup),
		cmocka_unit_test(test_deadline_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
