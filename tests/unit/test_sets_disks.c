// SPDX-License-Identifier: Apache-2.0
/* shim/sets: the disks of a set, of a sandbox that sleeps, and of one that is gone. */
#include "setdamage.h"

#include "file.h"
#include "sets.h"
#include "util.h"

#include <errno.h>
#include <sys/syscall.h>

#define KEY   "alice:t1"
#define WHAT  "template alice:t1"
#define MIB   ((off_t)1 << 20)
#define OTHER 12345u

static char path[64];
static int place = -1; /* templates/ or sandboxes/ */
static int image = -1;
static struct msg_set set;
static struct sets_disk disks[MSG_DISKS_MAX];
static struct err e;
static unsigned open_before;

/* Ours instead of libc's: the n-th call from now on fails; 0: none. */
static int fsync_fails_at, fsync_calls, access_fails;

int fsync(int fd)
{
	if (++fsync_calls == fsync_fails_at) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int faccessat(int dir, const char *name, int mode, int flags)
{
	if (access_fails) {
		errno = access_fails;
		return -1;
	}
	return (int)syscall(SYS_faccessat2, dir, name, mode, flags);
}

static void put(int dir, const char *name, off_t bytes, const char *text, mode_t mode)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int setup(void **unused)
{
	(void)unused;
	open_before = unit_open_fds();
	fsync_fails_at = fsync_calls = access_fails = 0;
	place = unit_make_dir(path);
	put(place, "image", MIB + 512, "image", 0444);
	image = openat(place, "image", O_RDONLY | O_CLOEXEC);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	fd_close(&image);
	fd_close(&place);
	unit_remove_dir(path);
	return unit_open_fds() == open_before ? 0 : -1;
}

static void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("not run: needs root\n");
	skip();
}

static bool there(const char *name)
{
	return syscall(SYS_faccessat2, place, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static struct stat look(const char *name)
{
	struct stat st;
	assert_int_equal(fstatat(place, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

/* ------------------------------------------------------------------ a set with disks */

static void add_disk(uint32_t flags, uint32_t mib, enum msg_disk_made made)
{
	struct msg_disk *disk = &set.spec.disks[set.spec.disk_count++];
	*disk = (struct msg_disk){.flags = flags, .size_mib = mib, .made = made};
	str_copy(disk->image, sizeof(disk->image), "debian");
}

/* Disk 0 is its own, 1 the image, 2 a block device, 3 its own. */
static void new_set(const char *key)
{
	memset(&set, 0, sizeof(set));
	set.content = MSG_SET_RAM | MSG_SET_DISKS;
	str_copy(set.key, sizeof(set.key), key);
	str_copy(set.parent, sizeof(set.parent), "alice:src");
	str_copy(set.vmm_version, sizeof(set.vmm_version), "53.0.0");
	str_copy(set.spec.kernel, sizeof(set.spec.kernel), "tiny");
	set.spec.vcpus = set.spec.max_vcpus = 1;
	set.spec.memory_mib = set.spec.max_memory_mib = 16;
	add_disk(0, 2, MSG_DISK_REFLINK);
	add_disk(MSG_DISK_READONLY, 2, MSG_DISK_SHARED);
	add_disk(MSG_DISK_DEVICE | MSG_DISK_READONLY, 64, MSG_DISK_OPENED);
	add_disk(0, 3, MSG_DISK_COPIED);
}

static void stage_memory(struct sets_staging *s)
{
	assert_int_equal(sets_write(s, SETS_CONFIG, "{}", 2, set.config_digest, &e), 0);
	assert_int_equal(sets_write(s, SETS_STATE, "{}", 2, set.state_digest, &e), 0);
	int fd = sets_new_file(s, SETS_RAM, &e);
	assert_int_equal(ftruncate(fd, 16 * MIB), 0);
	close(fd);
}

/* Everything up to the commit; text makes one set differ from another. */
static void stage(struct sets_staging *s, const char *key, const char *text, int fds[MSG_DISKS_MAX])
{
	new_set(key);
	for (int i = 0; i < MSG_DISKS_MAX; i++)
		fds[i] = -1;
	if (sets_begin_template(s, place, key, &e) < 0)
		fail_msg("%s", e.text);
	stage_memory(s);
	for (unsigned i = 0; i < 4; i += 3) {
		char name[SETS_DISK_NAME_SIZE];
		sets_disk_name(i, name);
		fds[i] = sets_new_file(s, name, &e);
		assert_true(fds[i] >= 0);
		assert_int_equal(ftruncate(fds[i], (off_t)set.spec.disks[i].size_mib * MIB), 0);
		assert_int_equal(pwrite(fds[i], text, strlen(text), 4096), strlen(text));
	}
	fds[1] = image;
}

static void close_disks(int fds[MSG_DISKS_MAX])
{
	fd_close(&fds[0]);
	fd_close(&fds[3]);
}

static void make_template(const char *key, const char *text)
{
	struct sets_staging s;
	int fds[MSG_DISKS_MAX];
	stage(&s, key, text, fds);
	if (sets_commit(&s, &set, fds, &e) < 0)
		fail_msg("%s", e.text);
	/* They are the caller's still. */
	assert_true(fcntl(fds[0], F_GETFD) >= 0 && fcntl(image, F_GETFD) >= 0);
	close_disks(fds);
}

static int open_set(struct msg_set *read)
{
	return sets_open(place, KEY, KEY, WHAT, read, disks, &e);
}

static void test_written_and_found_again(void **unused)
{
	struct msg_set read;
	struct sets_disk is;
	uint64_t bytes;
	(void)unused;
	need_root();
	make_template(KEY, "one");
	assert_int_equal(look(KEY "/disk0").st_mode, S_IFREG | 0444);
	/* All files, with their holes and without. */
	assert_true(set.apparent_bytes > (uint64_t)(21 * MIB) &&
		    set.apparent_bytes < 22 * 1048576u);
	assert_true(set.allocated_bytes >= 2 * 4096 && set.allocated_bytes < (uint64_t)MIB);
	int dir = open_set(&read);
	if (dir < 0)
		fail_msg("%s", e.text);
	assert_memory_equal(&read, &set, sizeof(set));
	static const uint64_t sizes[] = {2 << 20, (1 << 20) + 512, 0, 3 << 20};
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(disks[i].bytes, sizes[i]);
		assert_true((disks[i].time_ns == 0) == (i == 2));
	}
	assert_int_equal(disks[4].bytes, 0);
	assert_int_equal(sets_disk_of(image, &is, &e), 0);
	assert_int_equal(is.time_ns, disks[1].time_ns);
	int fd = sets_open_file(dir, "disk3", WHAT, &bytes, &e);
	assert_true(fd >= 0);
	assert_int_equal(bytes, 3 << 20);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(sets_disk_of(fd, &is, &e), 0);
	assert_int_equal(is.time_ns, disks[3].time_ns);
	close(fd);
	close(dir);
	assert_int_equal(sets_disk_of(-1, &is, &e), -1);
	assert_int_equal(sets_remove_template(place, KEY, &e), 0);
	assert_false(there(KEY));
}

/* The disk fails at each fsync in turn: the new set is not there, and nothing of it is left. */
static void test_failing_disk(void **unused)
{
	(void)unused;
	need_root();
	for (int n = 1;; n++) {
		struct sets_staging s;
		int fds[MSG_DISKS_MAX];
		stage(&s, KEY, "one", fds);
		fsync_calls = 0;
		fsync_fails_at = n;
		int result = sets_commit(&s, &set, fds, &e);
		fsync_fails_at = 0;
		sets_abandon(&s);
		close_disks(fds);
		if (result == 0) {
			/* Five files twice, three disks (a device has no file), meta, two
			 * directories. */
			assert_int_equal(n, 10 + 3 + 1 + 2 + 1);
			break;
		}
		assert_int_equal(e.errnum, EIO);
		assert_says(e.text, "sync");
		assert_false(there(KEY));
		assert_false(there(".new-" KEY));
	}
}

/* ------------------------------------------------------------------ damage */

static void cut(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, MIB), 0);
	close(fd);
}
static void touch(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 100), 1);
	close(fd);
}
static void replace(int dir, const char *name)
{
	/* The same disk of another template: of the right size, and nobody wrote to it. */
	char other[64];
	make_template("alice:t2", "two");
	snprintf(other, sizeof(other), "alice:t2/%s", name);
	assert_int_equal(renameat2(place, other, dir, name, RENAME_EXCHANGE), 0);
	assert_int_equal(sets_remove_template(place, "alice:t2", &e), 0);
}

static void test_damaged_disks(void **unused)
{
	static const struct {
		void (*damage)(int dir, const char *name);
		const char *word;
	} cases[] = {{cut, "bytes"},
		     {touch, "modified"},
		     {replace, "modified"},
		     {drop, "is missing"},
		     {to_link, "2 links"},
		     {to_symlink, "symbolic link"},
		     {to_fifo, "not a regular file"},
		     {to_stranger, "owned by uid 12345"},
		     {to_writable, "mode 0644"}};
	static const char *const names[] = {"disk0", "disk3"};
	(void)unused;
	need_root();
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		struct msg_set read;
		const char *name = names[i % 2];
		make_template(KEY, "one");
		int dir = openat(place, KEY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		cases[i / 2].damage(dir, name);
		close(dir);
		unsigned before = unit_open_fds();
		assert_int_equal(open_set(&read), -1);
		if (e.kind != ERR_INTERNAL)
			fail_msg("kind %s: %s", err_kind_name(e.kind), e.text);
		assert_says(e.text, name);
		assert_says(e.text, WHAT);
		assert_says(e.text, cases[i / 2].word);
		assert_int_equal(unit_open_fds(), before);
		assert_int_equal(sets_remove_template(place, KEY, &e), 0);
	}
}

/* ------------------------------------------------------------------ a sandbox's directory */

static const char *in_sandbox(const char *name)
{
	static char buffer[64];
	snprintf(buffer, sizeof(buffer), "%s%s%s", KEY, *name ? "/" : "", name);
	return buffer;
}

static int sandbox(void)
{
	int fd = file_make_dir(place, KEY, 0, 0, 0755, &e);
	assert_true(fd >= 0);
	return fd;
}

/* Its own disk stays in place: the set has no file of it, but knows it. */
static void hibernate(void)
{
	struct sets_staging s;
	int own = sandbox(), fds[MSG_DISKS_MAX] = {-1, image, -1, -1, -1, -1, -1, -1};
	new_set(KEY);
	set.content = MSG_SET_RAM;
	mkdirat(own, SETS_DISKS, 0755);
	put(own, "disks/0", 2 * MIB, "own", 0600);
	put(own, "disks/3", 3 * MIB, "own", 0600);
	fds[0] = openat(own, "disks/0", O_RDWR | O_CLOEXEC);
	fds[3] = openat(own, "disks/3", O_RDWR | O_CLOEXEC);
	assert_int_equal(sets_begin_sandbox(&s, own, &e), 0);
	stage_memory(&s);
	fsync_calls = 0;
	if (sets_commit(&s, &set, fds, &e) < 0)
		fail_msg("%s", e.text);
	/* Its disks among them: what the guest wrote must outlive the host. */
	assert_int_equal(fsync_calls, 6 + 3 + 1 + 2);
	close_disks(fds);
	close(own);
}

static void test_disks_that_stay(void **unused)
{
	struct msg_set read;
	(void)unused;
	need_root();
	hibernate();
	int own = sandbox();
	int dir = sets_open(own, SETS_OF_SANDBOX, KEY, WHAT, &read, disks, &e);
	if (dir < 0)
		fail_msg("%s", e.text);
	assert_int_equal(disks[0].bytes, 2 << 20);
	assert_int_equal(disks[3].bytes, 3 << 20);
	struct stat st = look(in_sandbox("disks/3"));
	assert_int_equal(disks[3].time_ns,
			 (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	close(dir);
	close(own);
}

static void test_used(void **unused)
{
	(void)unused;
	need_root();
	hibernate();
	int dir = openat(place, in_sandbox(SETS_OF_SANDBOX), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_false(sets_is_used(dir));
	/* In doubt it was. */
	access_fails = EIO;
	assert_true(sets_is_used(dir));
	access_fails = 0;
	fsync_calls = 0;
	assert_int_equal(sets_mark_used(dir, &e), 0);
	assert_int_equal(fsync_calls, 2);
	assert_true(sets_is_used(dir));
	assert_int_equal(sets_mark_used(dir, &e), 0);
	close(dir);
	struct msg_set read;
	int own = sandbox();
	dir = sets_open(own, SETS_OF_SANDBOX, KEY, WHAT, &read, disks, &e);
	assert_true(dir >= 0);
	/* Without its memory it is still known for what it was. */
	assert_int_equal(sets_drop_memory(dir, &e), 0);
	assert_int_equal(faccessat(dir, SETS_RAM, F_OK, 0), -1);
	assert_int_equal(sets_drop_memory(dir, &e), 0);
	close(dir);
	assert_int_equal(sets_read_meta(own, SETS_OF_SANDBOX, &read, &e), 0);
	assert_int_equal(sets_open(own, SETS_OF_SANDBOX, KEY, WHAT, &read, disks, &e), -1);
	/* The next set is new. */
	hibernate();
	dir = openat(own, SETS_OF_SANDBOX, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_false(sets_is_used(dir));
	for (int n = 1; n <= 2; n++) {
		fsync_calls = 0;
		fsync_fails_at = n;
		assert_int_equal(sets_mark_used(dir, &e), -1);
		assert_int_equal(e.errnum, EIO);
		fsync_fails_at = 0;
	}
	close(dir);
	close(own);
}

/* ------------------------------------------------------------------ disks without a set */

/* As they are while a VMM lives: the uid's, with a meta if all of them are made. */
static void make_disks(bool described)
{
	static const char *const names[] = {"disks/0", "disks/3", "disks/7"};
	int own = sandbox();
	new_set(KEY);
	set.content = 0;
	memset(set.vmm_version, 0, sizeof(set.vmm_version));
	mkdirat(own, SETS_DISKS, 0755);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		put(own, names[i], MIB, names[i], 0600);
		assert_int_equal(fchownat(own, names[i], OTHER, OTHER, 0), 0);
	}
	int dir = openat(own, SETS_DISKS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (described && sets_describe(dir, &set, &e) < 0)
		fail_msg("%s", e.text);
	close(dir);
	close(own);
}

static void test_described(void **unused)
{
	struct msg_set read;
	(void)unused;
	need_root();
	make_disks(true);
	int own = sandbox();
	if (sets_read_meta(own, SETS_DISKS, &read, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(read.format, MSG_SET_FORMAT);
	assert_int_equal(read.content, 0);
	assert_memory_equal(&read, &set, sizeof(set));
	/* It is no set, though. */
	assert_int_equal(sets_open(own, SETS_DISKS, KEY, WHAT, &read, disks, &e), -1);
	/* There is one of them only. */
	int dir = openat(own, SETS_DISKS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(sets_describe(dir, &set, &e), -1);
	assert_int_equal(e.errnum, EEXIST);
	/* Disks that are not made are no disks. */
	assert_int_equal(unlinkat(dir, SETS_META, 0), 0);
	set.spec.disks[0].made = MSG_DISK_ASKED;
	assert_int_equal(sets_describe(dir, &set, &e), 0);
	assert_int_equal(sets_read_meta(own, SETS_DISKS, &read, &e), -1);
	assert_says(e.text, "made");
	close(dir);
	close(own);
}

static void assert_owned(const char *name, uid_t uid)
{
	struct stat st = look(in_sandbox(name));
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_gid, uid);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void test_clearing_keeps_disks(void **unused)
{
	(void)unused;
	need_root();
	make_disks(true);
	assert_owned("disks/3", OTHER);
	assert_int_equal(mkdirat(place, in_sandbox(SETS_SCRATCH), 0700), 0);
	/* Its owner may have let others in, or made it what runs as its owner. */
	assert_int_equal(fchmodat(place, in_sandbox("disks/7"), 06777, 0), 0);
	struct stat before = look(in_sandbox("disks/0"));
	assert_int_equal(sets_clear_sandbox(place, KEY, &e), 0);
	assert_false(there(in_sandbox(SETS_SCRATCH)));
	assert_owned("disks/0", 0);
	assert_owned("disks/3", 0);
	assert_owned("disks/7", 0);
	/* Else a wake would take it for modified. */
	struct stat after = look(in_sandbox("disks/0"));
	assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	/* Again, with the set of a hibernated one beside it. */
	hibernate();
	assert_int_equal(sets_clear_sandbox(place, KEY, &e), 0);
	assert_true(there(in_sandbox("set/ram")));
	assert_true(there(in_sandbox("disks/7")));
	assert_int_equal(sets_remove(place, KEY, &e), 0);
	assert_false(there(KEY));
}

/* Half made, by a shim that died over it. */
static void test_clearing_drops_half_made_disks(void **unused)
{
	(void)unused;
	need_root();
	make_disks(false);
	assert_int_equal(sets_clear_sandbox(place, KEY, &e), 0);
	assert_false(there(KEY));
	assert_int_equal(sets_clear_sandbox(place, KEY, &e), 0);
	/* In doubt they are kept. */
	make_disks(true);
	access_fails = EIO;
	sets_clear_sandbox(place, KEY, &e);
	access_fails = 0;
	assert_true(there(in_sandbox("disks/0")));
}

/* What stands in the directory's place is not followed. */
static void test_clearing_foreign_things(void **unused)
{
	(void)unused;
	need_root();
	int own = sandbox();
	assert_int_equal(mkdirat(place, "other", 0755), 0);
	put(place, "other/0", 512, "x", 0640);
	put(place, "other/meta", 512, "x", 0444);
	assert_int_equal(fchownat(place, "other/0", OTHER, OTHER, 0), 0);
	assert_int_equal(symlinkat("../other", own, SETS_DISKS), 0);
	assert_int_equal(sets_clear_sandbox(place, KEY, &e), -1);
	assert_int_equal(look("other/0").st_uid, OTHER);
	assert_int_equal(unlinkat(own, SETS_DISKS, 0), 0);
	assert_int_equal(mkdirat(own, SETS_DISKS, 0755), 0);
	put(own, "disks/meta", 512, "x", 0444);
	assert_int_equal(symlinkat("../../other/0", own, "disks/0"), 0);
	sets_clear_sandbox(place, KEY, &e);
	assert_int_equal(look("other/0").st_uid, OTHER);
	assert_int_equal(look("other/0").st_mode, S_IFREG | 0640);
	close(own);
}

/* ------------------------------------------------------------------ words for it */

static void test_kinds_of_disks(void **unused)
{
	static const struct {
		uint32_t flags;
		bool own, writable;
	} cases[] = {{0, true, true},
		     {MSG_DISK_READONLY, false, false},
		     {MSG_DISK_DEVICE, false, true},
		     {MSG_DISK_DEVICE | MSG_DISK_READONLY, false, false}};
	(void)unused;
	memset(&set, 0, sizeof(set));
	assert_false(sets_has_own_disk(&set.spec));
	assert_false(sets_has_writable_disk(&set.spec));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		set.spec.disk_count = 0;
		for (int k = 0; k < MSG_DISKS_MAX - 1; k++)
			add_disk(MSG_DISK_READONLY, 1, MSG_DISK_SHARED);
		add_disk(cases[i].flags, 1, MSG_DISK_ASKED);
		assert_int_equal(sets_has_own_disk(&set.spec), cases[i].own);
		assert_int_equal(sets_has_writable_disk(&set.spec), cases[i].writable);
		/* Beyond the count there is none. */
		set.spec.disk_count--;
		assert_false(sets_has_writable_disk(&set.spec));
	}
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++) {
		char name[SETS_DISK_NAME_SIZE], want[8];
		sets_disk_name(i, name);
		snprintf(want, sizeof(want), "disk%u", i);
		assert_string_equal(name, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(test_written_and_found_again),
		T(test_failing_disk),
		T(test_damaged_disks),
		T(test_disks_that_stay),
		T(test_used),
		T(test_described),
		T(test_clearing_keeps_disks),
		T(test_clearing_drops_half_made_disks),
		T(test_clearing_foreign_things),
		T(test_kinds_of_disks),
#undef T
	};
	return cmocka_run_group_tests_name("sets_disks", tests, NULL, NULL);
}
