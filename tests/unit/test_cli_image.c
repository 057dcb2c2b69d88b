// SPDX-License-Identifier: Apache-2.0
/*
 * cloister's image files: what is refused, and that a name holds a whole image or none. The client
 * is no library, so its files are compiled into this one.
 */
#include "unit.h"

#include "../../supervisor/cli/cli_image_check.c"
#include "../../supervisor/cli/cli_image_copy.c"
#include "../../supervisor/cli/cli_image_store.c"

#include <sys/syscall.h>

#define TIME_US 1764000000123456ll /* 2025-11-24T16:00:00.123456Z */

/* Ours instead of libc's: the n-th call from now on fails; 0: none. */
static int fsync_fails_at, fsync_calls;

int fsync(int fd)
{
	fsync_calls++;
	if (fsync_fails_at && fsync_calls == fsync_fails_at) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

struct place {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	p->fd = unit_make_dir(p->path);
	*state = p;
	fsync_fails_at = fsync_calls = 0;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	close(p->fd);
	unit_remove_dir(p->path);
	free(p);
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* ------------------------------------------------------------------ what is refused */

/* A file of that many bytes with these at that place. */
static int file_with(struct place *p, uint64_t size, uint64_t at, const void *bytes, size_t length)
{
	int fd = openat(p->fd, "file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, bytes, length, (off_t)at), length);
	return fd;
}

static int check(struct place *p, enum cli_image_kind kind, uint64_t size, uint64_t at,
		 const void *bytes, size_t length, struct err *e)
{
	int fd = file_with(p, size, at, bytes, length);
	int result = cli_image_check(kind, fd, size, e);
	close(fd);
	return result;
}

static void test_disks(void **state)
{
	static const struct {
		uint64_t at;
		const char *bytes;
		size_t length;
		const char *says;
	} bad[] = {
		{0, "QFI\xfb", 4, "qcow2"},
		{0, "QED\0", 4, "QED"},
		{0, "conectix", 8, "VHD"},
		{8192 - 512, "conectix", 8, "VHD"},
		{0, "vhdxfile", 8, "VHDX"},
		{0, "KDMV", 4, "VMDK"},
		{0, "COWD", 4, "VMDK"},
		{0, "# Disk DescriptorFile\n", 22, "VMDK"},
		{64, "\x7f\x10\xda\xbe", 4, "VDI"},
		{0, "\x1f\x8b\x08\x00", 4, "zcat"},
		{0, "\xfd\x37zXZ\0", 6, "xzcat"},
		{0, "\x28\xb5\x2f\xfd", 4, "zstdcat"},
	};
	struct place *p = *state;
	struct err e;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(
			check(p, CLI_IMAGE_DISK, 8192, bad[i].at, bad[i].bytes, bad[i].length, &e),
			-1);
		assert_int_equal(e.kind, ERR_INVALID);
		assert_says(e.text, bad[i].says);
		/* Anywhere else it is data. */
		assert_int_equal(
			check(p, CLI_IMAGE_DISK, 8192, 1024, bad[i].bytes, bad[i].length, &e), 0);
	}
	/* A file that is too short to hold the whole header, and one of an odd size. */
	assert_int_equal(check(p, CLI_IMAGE_DISK, 4, 0, "QFI\xfb", 4, &e), -1);
	assert_says(e.text, "qcow2");
	assert_int_equal(check(p, CLI_IMAGE_DISK, 3, 0, "QFI", 3, &e), -1);
	assert_says(e.text, "512");
	assert_int_equal(check(p, CLI_IMAGE_DISK, 513, 0, "x", 1, &e), -1);
	assert_int_equal(check(p, CLI_IMAGE_DISK, 0, 0, "", 0, &e), -1);
	assert_says(e.text, "empty");
	assert_int_equal(check(p, CLI_IMAGE_DISK, 512, 0, "x", 1, &e), 0);
}

struct elf {
	Elf64_Ehdr head;
	Elf64_Phdr segments[2];
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint32_t value;
	} notes[2];
};

static struct elf good_elf(void)
{
	struct elf elf;
	memset(&elf, 0, sizeof(elf));
	memcpy(elf.head.e_ident, ELFMAG, SELFMAG);
	elf.head.e_ident[EI_CLASS] = ELFCLASS64;
	elf.head.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.head.e_phoff = offsetof(struct elf, segments);
	elf.head.e_phentsize = sizeof(Elf64_Phdr);
	elf.head.e_phnum = 2;
	elf.segments[1].p_type = PT_NOTE;
	elf.segments[1].p_offset = offsetof(struct elf, notes);
	elf.segments[1].p_filesz = sizeof(elf.notes);
	for (unsigned i = 0; i < 2; i++) {
		elf.notes[i].head = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = 17 + i};
		memcpy(elf.notes[i].name, i ? "Xen" : "GNU", 4);
	}
	return elf;
}

static int check_kernel_bytes(struct place *p, const void *bytes, size_t length, struct err *e)
{
	return check(p, CLI_IMAGE_KERNEL, length, 0, bytes, length, e);
}

static void test_kernels(void **state)
{
	struct place *p = *state;
	struct err e;
	struct elf elf = good_elf();
	char sector[1024] = {0};
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), 0);
	elf.head.e_ident[EI_CLASS] = ELFCLASS32;
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	assert_says(e.text, "64 bits");
	elf = good_elf();
	memcpy(elf.notes[1].name, "Zen", 4);
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	assert_says(e.text, "CONFIG_PVH");
	/* Lies in the headers lead nowhere. */
	elf = good_elf();
	elf.notes[0].head.n_descsz = elf.notes[0].head.n_namesz = UINT32_MAX;
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	elf = good_elf();
	elf.head.e_phoff = UINT64_MAX;
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	elf = good_elf();
	elf.segments[1].p_offset = UINT64_MAX - 3;
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	elf = good_elf();
	elf.segments[1].p_filesz = 20;
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf), &e), -1);
	assert_int_equal(check_kernel_bytes(p, &elf, sizeof(elf.head) - 1, &e), -1);
	assert_says(e.text, "bzImage");
	memcpy(sector + 0x1fe, "\x55\xaa", 2);
	assert_int_equal(check_kernel_bytes(p, sector, sizeof(sector), &e), -1);
	memcpy(sector + 0x202, "HdrS", 4);
	assert_int_equal(check_kernel_bytes(p, sector, sizeof(sector), &e), 0);
	assert_int_equal(check_kernel_bytes(p, "\x1f\x8b\x08", 3, &e), -1);
	assert_says(e.text, "zcat");
	assert_int_equal(check(p, CLI_IMAGE_INITRAMFS, 1, 0, "x", 1, &e), 0);
	assert_int_equal(check(p, CLI_IMAGE_INITRAMFS, 0, 0, "", 0, &e), -1);
}

/* ------------------------------------------------------------------ the digest */

static int count_steps(void *arg, uint64_t done, struct err *e)
{
	unsigned *left = arg;
	(void)done;
	return --*left ? 0 : err_set(e, ERR_UNAVAILABLE, 0, "called off");
}

static void test_copy_and_digest(void **state)
{
	struct place *p = *state;
	struct err e;
	char hex[CLI_IMAGE_HEX_SIZE];
	enum msg_disk_made made;
	unsigned steps = 100;
	struct cli_image_watch watch = {count_steps, &steps};
	int from = file_with(p, 20 << 20, 0, "abc", 3);
	assert_int_equal(cli_image_digest(from, 3, hex, &watch, &e), 0);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	int to = openat(p->fd, "copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(cli_image_copy(from, to, 20 << 20, &made, &watch, &e), 0);
	assert_true(made == MSG_DISK_REFLINK || made == MSG_DISK_COPIED);
	assert_int_equal(lseek(to, 0, SEEK_END), 20 << 20);
	/* It is asked every 8 MiB, and stops where it is told to. */
	steps = 2;
	assert_int_equal(cli_image_digest(from, 20 << 20, hex, &watch, &e), -1);
	assert_says(e.text, "called off");
	assert_int_equal(cli_image_digest(from, (20 << 20) + 1, hex, &watch, &e), -1);
	close(to);
	close(from);
}

/* ------------------------------------------------------------------ the store */

static bool there(int fd, const char *name)
{
	return faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned entries(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(copy);
	unsigned count = 0;
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		count += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	closedir(dir);
	return count;
}

static void stage(struct place *p, struct cli_image_staging *s, struct cli_image_info *info,
		  const char *name, bool replace, char fill)
{
	struct err e;
	char sector[CLI_IMAGE_SECTOR];
	memset(sector, fill, sizeof(sector));
	*info = (struct cli_image_info){.bytes = sizeof(sector)};
	memset(info->sha256, fill, sizeof(info->sha256) - 1);
	str_copy(info->source, sizeof(info->source), "from.raw");
	clock_format(TIME_US + fill * 1000, info->imported_at);
	assert_int_equal(cli_image_store_begin(s, p->fd, name, replace, &e), 0);
	assert_int_equal(write(s->fd, sector, sizeof(sector)), sizeof(sector));
}

static int import_one(struct place *p, const char *name, bool replace, char fill, struct err *e)
{
	struct cli_image_staging s;
	struct cli_image_info info;
	stage(p, &s, &info, name, replace, fill);
	int result = cli_image_store_settle(&s, TIME_US + fill * 1000, e) < 0
			     ? -1
			     : cli_image_store_commit(&s, &info, e);
	cli_image_store_abandon(&s);
	assert_int_equal(s.fd, -1);
	return result;
}

/* The image holds that, and its sidecar is its own. */
static void assert_image(struct place *p, const char *name, char fill)
{
	struct cli_image_info info;
	struct err e;
	char byte;
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_DISK, name, &info, &e), 0);
	assert_string_equal(info.fault, "");
	assert_string_equal(info.source, "from.raw");
	assert_int_equal(info.sha256[0], fill);
	int fd = openat(p->fd, name, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, &byte, 1), 1);
	assert_int_equal(byte, fill);
	close(fd);
}

static void test_store(void **state)
{
	struct place *p = *state;
	struct err e;
	need_root();
	unsigned open_before = unit_open_fds();
	assert_int_equal(import_one(p, "one", false, 'a', &e), 0);
	assert_image(p, "one", 'a');
	assert_int_equal(entries(p->fd), 2);
	/* The name is taken, unless it is to be replaced. */
	struct cli_image_staging s;
	assert_int_equal(cli_image_store_begin(&s, p->fd, "one", false, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "--replace");
	assert_int_equal(import_one(p, "one", true, 'b', &e), 0);
	assert_image(p, "one", 'b');
	assert_int_equal(entries(p->fd), 2);
	/* Names that look like the files beside images are images like any other. */
	assert_int_equal(import_one(p, "one.json", false, 'c', &e), 0);
	assert_int_equal(import_one(p, "new-one", false, 'd', &e), 0);
	assert_image(p, "one", 'b');
	assert_image(p, "one.json", 'c');
	assert_image(p, "new-one", 'd');
	assert_int_equal(entries(p->fd), 6);
	assert_int_equal(cli_image_store_remove(p->fd, "one", &e), 0);
	assert_int_equal(cli_image_store_remove(p->fd, "one", &e), -1);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	assert_image(p, "one.json", 'c');
	assert_int_equal(entries(p->fd), 4);
	assert_int_equal(unit_open_fds(), open_before);
}

static void test_two_imports(void **state)
{
	struct place *p = *state;
	struct err e;
	struct cli_image_staging s, other;
	struct cli_image_info info;
	need_root();
	stage(p, &s, &info, "one", false, 'a');
	assert_int_equal(cli_image_store_begin(&other, p->fd, "one", false, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "another import");
	cli_image_store_abandon(&other);
	/* Another name is free, and may come first. */
	assert_int_equal(import_one(p, "two", false, 'b', &e), 0);
	assert_int_equal(cli_image_store_settle(&s, TIME_US + 'a' * 1000, &e), 0);
	/* Put there by hand meanwhile: it stays. */
	unit_write(p->fd, "one", "by hand");
	assert_int_equal(cli_image_store_commit(&s, &info, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	cli_image_store_abandon(&s);
	char *text = unit_read(p->fd, "one");
	assert_string_equal(text, "by hand");
	free(text);
	assert_int_equal(entries(p->fd), 3);
	/* What a killed import left: nobody holds its lock. */
	unit_write(p->fd, ".new:three", "half");
	unit_write(p->fd, ".json:three", "{");
	assert_int_equal(import_one(p, "three", false, 'c', &e), 0);
	assert_image(p, "three", 'c');
	assert_false(there(p->fd, ".new:three") || there(p->fd, ".json:three"));
}

/* Every sync fails in its turn: what was there is whole, what is new is there whole or not at all.
 */
static void test_sync_fails(void **state)
{
	struct place *p = *state;
	struct err e;
	unsigned failed = 0;
	need_root();
	for (int replace = 0; replace < 2; replace++) {
		if (replace)
			assert_int_equal(import_one(p, "one", false, 'a', &e), 0);
		unsigned before = entries(p->fd);
		for (int n = 1; n <= 4; n++) {
			fsync_calls = 0;
			fsync_fails_at = n;
			assert_int_equal(import_one(p, "one", replace, 'b', &e), -1);
			failed++;
			fsync_fails_at = 0;
			assert_int_equal(e.errnum, EIO);
			assert_int_equal(entries(p->fd), before);
			if (replace)
				assert_image(p, "one", 'a');
		}
		fsync_calls = 0;
		assert_int_equal(import_one(p, "one", replace, 'b', &e), 0);
		/* File, sidecar, and the folder after each rename: no sync is left untried. */
		assert_int_equal(fsync_calls, 4);
		assert_image(p, "one", 'b');
		assert_int_equal(cli_image_store_remove(p->fd, "one", &e), 0);
	}
	assert_int_equal(failed, 8);
}

static void test_read(void **state)
{
	struct place *p = *state;
	struct err e;
	struct cli_image_info info;
	need_root();
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_DISK, "none", &info, &e), -1);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	/* By hand: no digest, and faults that the shim would find. */
	unit_write(p->fd, "hand", "12345");
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_KERNEL, "hand", &info, &e), 0);
	assert_string_equal(info.fault, "");
	assert_string_equal(info.sha256, "");
	assert_int_equal(info.bytes, 5);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_DISK, "hand", &info, &e), 0);
	assert_says(info.fault, "512");
	assert_int_equal(fchmodat(p->fd, "hand", 0600, 0), 0);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_KERNEL, "hand", &info, &e), 0);
	assert_says(info.fault, "0444");
	assert_int_equal(fchownat(p->fd, "hand", 1234, 0, 0), 0);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_KERNEL, "hand", &info, &e), 0);
	assert_says(info.fault, "uid 1234");
	assert_int_equal(symlinkat("hand", p->fd, "link"), 0);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_KERNEL, "link", &info, &e), 0);
	assert_says(info.fault, "regular");
	assert_int_equal(mkfifoat(p->fd, "fifo", 0444), 0);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_KERNEL, "fifo", &info, &e), 0);
	assert_says(info.fault, "regular");
	/* Changed since its import: the digest is no longer its. */
	assert_int_equal(import_one(p, "one", false, 'a', &e), 0);
	int fd = openat(p->fd, "one", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_DISK, "one", &info, &e), 0);
	assert_string_equal(info.sha256, "");
	assert_string_equal(info.imported_at, "");
	/* A sidecar that is no sidecar. */
	assert_int_equal(unlinkat(p->fd, ".one.json", 0), 0);
	unit_write(p->fd, ".one.json", "[{\"sha256\":");
	assert_int_equal(cli_image_store_read(p->fd, CLI_IMAGE_DISK, "one", &info, &e), 0);
	assert_string_equal(info.sha256, "");
}

static void test_folders(void **state)
{
	struct place *p = *state;
	struct err e;
	need_root();
	assert_int_equal(fchmod(p->fd, 0700), 0);
	assert_int_equal(cli_image_store_open(p->fd, CLI_IMAGE_DISK, false, &e), -1);
	assert_int_equal(e.kind, ERR_NOT_FOUND);
	int dir = cli_image_store_open(p->fd, CLI_IMAGE_DISK, true, &e);
	assert_true(dir >= 0 && there(p->fd, "images/disks"));
	/* Locked by one description, not to be had by another. */
	int again = cli_image_store_open(p->fd, CLI_IMAGE_DISK, false, &e);
	assert_int_equal(cli_image_store_lock(dir, &e), 0);
	assert_int_equal(flock(again, LOCK_EX | LOCK_NB), -1);
	cli_image_store_unlock(dir);
	assert_int_equal(cli_image_store_lock(again, &e), 0);
	close(again);
	close(dir);
	/* Somebody else's, or open to others: refused as it is, and left so. */
	assert_int_equal(fchownat(p->fd, "images/disks", 1234, 0, 0), 0);
	assert_int_equal(cli_image_store_open(p->fd, CLI_IMAGE_DISK, true, &e), -1);
	assert_says(e.text, "uid 1234");
	assert_int_equal(fchmodat(p->fd, "images", 0775, 0), 0);
	assert_int_equal(cli_image_store_open(p->fd, CLI_IMAGE_KERNEL, true, &e), -1);
	assert_says(e.text, "images");
	assert_false(there(p->fd, "images/kernels"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy_and_digest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_imports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folders, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
