// SPDX-License-Identifier: Apache-2.0
/* shim/elfdeps: a real program, what the loader itself says of it, and damaged copies. */
#include "unit.h"

#include "elfdeps.h"
#include "util.h"

#include <elf.h>

#define PROGRAM "/bin/ls"

static struct elfdeps deps;
static unsigned char *whole, *copy;
static size_t whole_size;
static char dir_path[64], copy_path[96];
static int dir;

static int setup(void **unused)
{
	struct stat st;
	(void)unused;
	dir = unit_make_dir(dir_path);
	snprintf(copy_path, sizeof(copy_path), "%s/copy", dir_path);
	int fd = open(PROGRAM, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	whole_size = (size_t)st.st_size;
	whole = malloc(whole_size);
	copy = malloc(whole_size);
	ssize_t n = whole ? read(fd, whole, whole_size) : -1;
	close(fd);
	return copy && n == (ssize_t)whole_size ? 0 : -1;
}

static int teardown(void **unused)
{
	(void)unused;
	free(whole);
	free(copy);
	close(dir);
	unit_remove_dir(dir_path);
	return 0;
}

static int add_copy(size_t size, struct err *e)
{
	int fd = openat(dir, "copy", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, copy, size), size);
	close(fd);
	deps.count = 0;
	*e = (struct err){0};
	int rc = elfdeps_add(&deps, copy_path, e);
	assert_true(rc == 0 || (rc == -1 && e->kind != ERR_NONE && e->text[0]));
	assert_true(deps.count <= ELFDEPS_MAX);
	for (size_t i = 0; i < deps.count; i++)
		assert_int_equal(deps.path[i][0], '/');
	return rc;
}

static bool has(const char *part)
{
	for (size_t i = 0; i < deps.count; i++)
		if (strstr(deps.path[i], part))
			return true;
	return false;
}

static void test_program(void **unused)
{
	struct err e;
	(void)unused;
	deps.count = 0;
	if (elfdeps_add(&deps, PROGRAM, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(has("/libc.so.6"));
	assert_true(has("/ld-linux"));
	for (size_t i = 0; i < deps.count; i++) {
		assert_int_equal(access(deps.path[i], R_OK), 0);
		assert_string_not_equal(deps.path[i], PROGRAM);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(deps.path[i], deps.path[j]);
	}
	/* Once more brings nothing new. */
	size_t count = deps.count;
	assert_int_equal(elfdeps_add(&deps, PROGRAM, &e), 0);
	assert_int_equal(deps.count, count);
}

/* All that the loader has mapped into this very process, libraries of libraries too, is found. */
static void test_as_the_loader_does(void **unused)
{
	struct err e;
	char line[512];
	unsigned seen = 0;
	(void)unused;
	deps.count = 0;
	if (elfdeps_add(&deps, "/proc/self/exe", &e) < 0)
		fail_msg("%s", e.text);
	FILE *maps = fopen("/proc/self/maps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		const char *name = strrchr(line, '/');
		if (!name || !strstr(name, ".so"))
			continue;
		char file[256];
		snprintf(file, sizeof(file), "%.*s", (int)strcspn(name + 1, "\n"), name + 1);
		struct stat theirs;
		line[strcspn(line, "\n")] = '\0';
		if (stat(strchr(line, '/'), &theirs) < 0)
			continue;
		bool found = false;
		for (size_t i = 0; i < deps.count; i++) {
			struct stat ours;
			found |= stat(deps.path[i], &ours) == 0 && ours.st_ino == theirs.st_ino &&
				 ours.st_dev == theirs.st_dev;
		}
		if (!found)
			fail_msg("%s is missing", file);
		seen++;
	}
	fclose(maps);
	assert_true(seen > 0);
}

static void test_not_elf(void **unused)
{
	struct err e;
	(void)unused;
	memcpy(copy, "#!/bin/sh\n", 10);
	assert_int_equal(add_copy(10, &e), 0);
	assert_int_equal(deps.count, 0);
	assert_int_equal(add_copy(0, &e), 0);
	assert_int_equal(elfdeps_add(&deps, "/nowhere/x", &e), -1);
	assert_says(e.text, "/nowhere/x");
	assert_int_equal(elfdeps_add(&deps, dir_path, &e), -1);
	assert_says(e.text, "not a regular file");
	/* A FIFO must not make it wait. */
	char fifo[96];
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir_path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(elfdeps_add(&deps, fifo, &e), -1);
	assert_int_equal(deps.count, 0);
}

static void test_truncated(void **unused)
{
	struct err e;
	(void)unused;
	memcpy(copy, whole, whole_size);
	unsigned refused = 0;
	for (size_t size = 0; size < whole_size; size += 64)
		refused += add_copy(size, &e) < 0;
	assert_true(refused > 0);
	assert_int_equal(add_copy(whole_size, &e), 0);
	assert_true(has("/libc.so.6"));
}

/* Every byte of the headers and of the dynamic section, set to what hurts most. */
static void test_damaged(void **unused)
{
	static const unsigned char values[] = {0x00, 0x01, 0x7f, 0xff};
	const Elf64_Ehdr *eh = (const void *)whole;
	struct err e;
	(void)unused;
	memcpy(copy, whole, whole_size);
	size_t headers = eh->e_phoff + (size_t)eh->e_phnum * sizeof(Elf64_Phdr);
	assert_true(headers < whole_size);
	for (size_t at = 0; at < headers; at++) {
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			copy[at] = values[v];
			add_copy(whole_size, &e);
		}
		copy[at] = whole[at];
	}
	const Elf64_Phdr *ph = (const void *)(whole + eh->e_phoff);
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_DYNAMIC)
			continue;
		for (size_t at = ph[i].p_offset; at < ph[i].p_offset + ph[i].p_filesz; at++) {
			copy[at] = (unsigned char)~copy[at];
			add_copy(whole_size, &e);
			copy[at] = whole[at];
		}
	}
}

/* Puts text over the first place where old stands. */
static void replace(const char *old, const char *text)
{
	memcpy(copy, whole, whole_size);
	unsigned char *at = memmem(copy, whole_size, old, strlen(old));
	assert_non_null(at);
	memcpy(at, text, strlen(text));
}

static void test_library_names(void **unused)
{
	struct err e;
	(void)unused;
	replace("libc.so.6", "libZ.so.6");
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_says(e.text, "libZ.so.6");
	assert_says(e.text, copy_path);
	/* A path that is not absolute has no meaning in a jail. */
	replace("libc.so.6", "./c.so.6");
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "not absolute");
	replace("libc.so.6", "/dev/null");
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "/dev/null is not a regular file");
	replace("/lib64/ld-linux", "lib64/ld-linux/");
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "loader path");
	/* 32-bit. */
	memcpy(copy, whole, whole_size);
	copy[EI_CLASS] = ELFCLASS32;
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "64-bit");
}

static Elf64_Phdr *header_of(unsigned type)
{
	const Elf64_Ehdr *eh = (const void *)copy;
	Elf64_Phdr *ph = (void *)(copy + eh->e_phoff);
	for (unsigned i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == type)
			return &ph[i];
	fail_msg("no header of type %u", type);
	return NULL;
}

/* What points behind the end of the file, or to a string without an end, is told as damage. */
static void test_beyond_the_end(void **unused)
{
	struct err e;
	(void)unused;
	memcpy(copy, whole, whole_size);
	header_of(PT_DYNAMIC)->p_filesz = whole_size;
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "damaged dynamic section");
	memcpy(copy, whole, whole_size);
	copy[whole_size - 1] = '/';
	header_of(PT_INTERP)->p_offset = whole_size - 1;
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "damaged loader path");
	memcpy(copy, whole, whole_size);
	Elf64_Dyn *dyn = (void *)(copy + header_of(PT_DYNAMIC)->p_offset);
	while (dyn->d_tag != DT_NEEDED)
		dyn++;
	dyn->d_un.d_val = whole_size;
	assert_int_equal(add_copy(whole_size, &e), -1);
	assert_says(e.text, "damaged library name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_the_loader_does, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_library_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beyond_the_end, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
