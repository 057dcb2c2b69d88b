// SPDX-License-Identifier: Apache-2.0
/* shim/disks for a guest that is restored: from a template, or from its own set. */
#include "diskhost.h"

#define BASE	 "debian"
#define TEMPLATE "alice:golden"

static struct sets_disk set_disks[MSG_DISKS_MAX];

/* ------------------------------------------------------------------ templates */

/* Disk 0 is the template's own file (seed 3), disk 1 the image (seed 1), disk 2 own (seed 4). */
static void make_template(void)
{
	struct sets_staging s;
	struct msg_set set;
	int fds[MSG_DISKS_MAX] = {-1, -1, -1, -1, -1, -1, -1, -1};
	host_fill(images, BASE, 2 * MIB, 1, 0444);
	memset(&set, 0, sizeof(set));
	set.content = MSG_SET_RANGES | MSG_SET_DISKS;
	str_copy(set.key, sizeof(set.key), TEMPLATE);
	str_copy(set.parent, sizeof(set.parent), "alice:source");
	str_copy(set.vmm_version, sizeof(set.vmm_version), "53.0.0");
	spec.disk_count = 0;
	host_disk(BASE, 0, 4)->made = MSG_DISK_COPIED;
	host_disk(BASE, MSG_DISK_READONLY, 2)->made = MSG_DISK_SHARED;
	host_disk(BASE, 0, 5)->made = MSG_DISK_REFLINK;
	set.spec = spec;
	assert_int_equal(sets_begin_template(&s, templates, TEMPLATE, &e), 0);
	assert_int_equal(sets_write(&s, SETS_CONFIG, "{}", 2, set.config_digest, &e), 0);
	assert_int_equal(sets_write(&s, SETS_STATE, "{}", 2, set.state_digest, &e), 0);
	int memory = sets_new_file(&s, SETS_RANGES, &e);
	assert_int_equal(ftruncate(memory, 16 * (off_t)MIB), 0);
	close(memory);
	for (unsigned i = 0; i < 3; i += 2) {
		char name[SETS_DISK_NAME_SIZE];
		sets_disk_name(i, name);
		close(sets_new_file(&s, name, &e));
		host_fill(s.fd, name, (4 + i / 2) * MIB, (int)(3 + i / 2), 0444);
		fds[i] = openat(s.fd, name, O_RDONLY | O_CLOEXEC);
	}
	fds[1] = openat(images, BASE, O_RDONLY | O_CLOEXEC);
	if (sets_commit(&s, &set, fds, &e) < 0)
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
}

/* As boot_source.c does it: what was baked in, and what was asked for. */
static void use_template(void)
{
	struct msg_set set;
	int fd =
		sets_open(templates, TEMPLATE, TEMPLATE, "template " TEMPLATE, &set, set_disks, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	spec = set.spec;
	spec.source = MSG_SOURCE_TEMPLATE;
	spec.restore = MSG_RESTORE_COPY;
	str_copy(spec.template, sizeof(spec.template), TEMPLATE);
	order.set_fd = fd;
	order.set_disks = set_disks;
}

static void test_template(void **unused)
{
	struct msg_set set;
	(void)unused;
	make_template();
	use_template();
	if (host_open() < 0)
		fail_msg("%s", e.text);
	/* From the template's files, not from the image; the sandbox's own and nobody else's. */
	assert_true(host_holds(disks.fd[0], 4 * MIB, 3, 4 * MIB));
	assert_true(host_holds(disks.fd[2], 5 * MIB, 4, 5 * MIB));
	assert_true(host_holds(disks.fd[1], 2 * MIB, 1, 2 * MIB));
	assert_int_equal(host_stat(sandboxes, KEY "/disks/0").st_uid, UID);
	assert_true(spec.disks[0].made == MSG_DISK_REFLINK ||
		    spec.disks[0].made == MSG_DISK_COPIED);
	assert_int_equal(spec.disks[1].made, MSG_DISK_SHARED);
	int own = openat(sandboxes, KEY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(sets_read_meta(own, SETS_DISKS, &set, &e), 0);
	close(own);
	assert_int_equal(set.content, 0);
	assert_string_equal(set.spec.template, TEMPLATE);
	/* Written to, the template stays as it is: it serves the next one. */
	assert_int_equal(pwrite(disks.fd[0], "x", 1, 0), 1);
	disks_close(&disks);
	fd_close(&order.set_fd);
	use_template();
	order.key = "alice:other";
	assert_int_equal(host_open(), 0);
	assert_true(host_holds(disks.fd[0], 4 * MIB, 3, 4 * MIB));
	fd_close(&order.set_fd);
}

/* Its parent's disks, the image of its own, can go: nothing of them is used. */
static void test_template_outlives_the_image_of_its_own_disks(void **unused)
{
	(void)unused;
	make_template();
	use_template();
	spec.disk_count = 1;
	memset(&spec.disks[1], 0, 2 * sizeof(spec.disks[1]));
	assert_int_equal(unlinkat(images, BASE, 0), 0);
	assert_int_equal(host_open(), 0);
	assert_true(host_holds(disks.fd[0], 4 * MIB, 3, 4 * MIB));
	fd_close(&order.set_fd);
}

/* The guest has blocks of it in its memory: another image would not fit them. */
static void test_replaced_image(void **unused)
{
	static const struct timespec early[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	(void)unused;
	for (int how = 0; how < 3; how++) {
		make_template();
		use_template();
		if (how == 0) {
			/* The same bytes, but not the same file. */
			assert_int_equal(unlinkat(images, BASE, 0), 0);
			host_fill(images, BASE, 2 * MIB, 1, 0444);
		} else if (how == 1) {
			assert_int_equal(utimensat(images, BASE, early, 0), 0);
		} else {
			host_fill(images, BASE, 3 * MIB, 1, 0444);
		}
		host_refused(ERR_STATE, "disks[1]: disk image \"" BASE "\" is not the one");
		assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
		fd_close(&order.set_fd);
		assert_int_equal(sets_remove_template(templates, TEMPLATE, &e), 0);
	}
}

/* Checked as files of a set are, once more: it may have been damaged after sets_open(). */
static void test_damaged_template(void **unused)
{
	(void)unused;
	make_template();
	use_template();
	assert_int_equal(fchmodat(order.set_fd, "disk2", 0666, 0), 0);
	host_refused(ERR_INTERNAL, "disks[2]: disk2 of " TEMPLATE);
	assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
	assert_int_equal(unlinkat(order.set_fd, "disk2", 0), 0);
	host_refused(ERR_INTERNAL, "is missing");
	fd_close(&order.set_fd);
}

/* ------------------------------------------------------------------ wake */

#define OWN KEY "/disks/0"

/* A sandbox that has hibernated: its disk 0 is its own, disk 1 the image; it sleeps. */
static void hibernate(void)
{
	spec.disk_count = 0;
	spec.source = MSG_SOURCE_BOOT;
	spec.restore = MSG_RESTORE_NONE;
	order.set_fd = -1;
	host_fill(images, BASE, 2 * MIB, 1, 0444);
	host_disk(BASE, 0, 4);
	host_disk(BASE, MSG_DISK_READONLY, 0);
	if (host_open() < 0)
		fail_msg("%s", e.text);
	assert_int_equal(pwrite(disks.fd[0], "guest", 5, MIB), 5);
	for (int i = 0; i < 2; i++)
		assert_int_equal(sets_disk_of(disks.fd[i], &set_disks[i], &e), 0);
	disks_close(&disks);
	assert_int_equal(sets_clear_sandbox(sandboxes, KEY, &e), 0);
	assert_int_equal(host_stat(sandboxes, OWN).st_uid, 0);
	spec.source = MSG_SOURCE_WAKE;
	spec.restore = MSG_RESTORE_MAP;
	/* Whatever set that is: only its account of the disks is looked at. */
	order.set_fd = templates;
	order.set_disks = set_disks;
}

static void test_wake(void **unused)
{
	struct stat st;
	char word[5];
	(void)unused;
	hibernate();
	ino_t inode = host_stat(sandboxes, OWN).st_ino;
	ino_t meta = host_stat(sandboxes, KEY "/disks/meta").st_ino;
	if (host_open() < 0)
		fail_msg("%s", e.text);
	/* The very file, with what the guest wrote. */
	assert_int_equal(fstat(disks.fd[0], &st), 0);
	assert_int_equal(st.st_ino, inode);
	assert_int_equal(st.st_uid, UID);
	assert_int_equal(st.st_gid, UID);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(fcntl(disks.fd[0], F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(pread(disks.fd[0], word, 5, MIB), 5);
	assert_memory_equal(word, "guest", 5);
	/* How it once came by it is still true, and so is what is written down. */
	assert_true(spec.disks[0].made == MSG_DISK_REFLINK ||
		    spec.disks[0].made == MSG_DISK_COPIED);
	assert_int_equal(host_stat(sandboxes, KEY "/disks/meta").st_ino, meta);
	assert_int_equal(spec.disks[1].made, MSG_DISK_SHARED);
}

static void touch(void)
{
	int fd = openat(sandboxes, OWN, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	close(fd);
}
static void resize(void)
{
	/* With the time as it was: the size alone must tell. */
	struct stat st = host_stat(sandboxes, OWN);
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	int fd = openat(sandboxes, OWN, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 3 * (off_t)MIB), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}
static void chown_it(void)
{
	assert_int_equal(fchownat(sandboxes, OWN, UID, UID, 0), 0);
}
static void chmod_it(void)
{
	assert_int_equal(fchmodat(sandboxes, OWN, 0640, 0), 0);
}
static void remove_it(void)
{
	assert_int_equal(unlinkat(sandboxes, OWN, 0), 0);
}
static void link_it(void)
{
	assert_int_equal(linkat(sandboxes, OWN, sandboxes, KEY "/disks/7", 0), 0);
}
static void symlink_it(void)
{
	assert_int_equal(renameat(sandboxes, OWN, sandboxes, KEY "/disks/7"), 0);
	assert_int_equal(symlinkat("7", sandboxes, OWN), 0);
}
static void fifo_it(void)
{
	remove_it();
	assert_int_equal(mknodat(sandboxes, OWN, S_IFIFO | 0600, 0), 0);
}
static void mount_over(const char *below)
{
	char path[POLICY_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/sandboxes/%s", policy.state_dir, below);
	assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
}
static void mount_over_it(void)
{
	mount_over(OWN);
}
static void mount_over_all(void)
{
	mount_over(KEY "/disks");
}
static void unmount(const char *below)
{
	char path[POLICY_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/sandboxes/%s", policy.state_dir, below);
	umount2(path, MNT_DETACH);
}

/* None of it is the request's fault, and none may be woken on. */
static void test_disk_that_is_another(void **unused)
{
	static const struct {
		void (*spoil)(void);
		const char *word;
	} cases[] = {
		{touch, "modified"},	       {resize, "modified"},
		{chown_it, "uid 700123"},      {chmod_it, "mode 0640"},
		{remove_it, "disk 0 of " KEY}, {link_it, "2 links"},
		{symlink_it, "symbolic"},      {fifo_it, ""},
		{mount_over_it, "mount"},      {mount_over_all, "mount"},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		hibernate();
		cases[i].spoil();
		unsigned before = unit_open_fds();
		int result = host_open();
		disks_close(&disks);
		if (result == 0 || e.kind != ERR_INTERNAL)
			fail_msg("case %zu: %d, kind %d: %s", i, result, (int)e.kind, e.text);
		assert_says(e.text, cases[i].word);
		assert_int_equal(unit_open_fds(), before);
		unmount(OWN);
		unmount(KEY "/disks");
		assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
	}
}

static void test_wake_on_another_image(void **unused)
{
	(void)unused;
	hibernate();
	assert_int_equal(unlinkat(images, BASE, 0), 0);
	host_fill(images, BASE, 2 * MIB, 1, 0444);
	host_refused(ERR_STATE, "disks[1]: disk image \"" BASE "\" is not the one");
	/* What was opened before goes back to root with the rest. */
	assert_int_equal(sets_clear_sandbox(sandboxes, KEY, &e), 0);
	assert_int_equal(host_stat(sandboxes, OWN).st_uid, 0);
}

/* ------------------------------------------------------------------ a boot on kept disks */

/* As hibernate() leaves it: its disk has "guest" in it, the shim and its VMM are gone. */
static void keep(void)
{
	hibernate();
	spec.source = MSG_SOURCE_BOOT;
	spec.restore = MSG_RESTORE_NONE;
	spec.flags = MSG_CREATE_KEEP_DISKS;
	spec.disks[0].made = spec.disks[1].made = MSG_DISK_ASKED;
	order.set_fd = -1;
}

static void test_keep(void **unused)
{
	char word[5];
	(void)unused;
	keep();
	ino_t inode = host_stat(sandboxes, OWN).st_ino;
	/* What is in it, and when it was written, is its guest's affair; so is the image, by now.
	 */
	touch();
	host_fill(images, BASE, 3 * MIB, 2, 0444);
	if (host_open() < 0)
		fail_msg("%s", e.text);
	assert_int_equal(host_stat(sandboxes, OWN).st_ino, inode);
	assert_int_equal(host_stat(sandboxes, OWN).st_uid, UID);
	assert_int_equal(pread(disks.fd[0], word, 5, MIB), 5);
	assert_memory_equal(word, "guest", 5);
	assert_true(spec.disks[0].made == MSG_DISK_REFLINK ||
		    spec.disks[0].made == MSG_DISK_COPIED);
	assert_int_equal(spec.disks[0].size_mib, 4);
	assert_int_equal(spec.disks[1].made, MSG_DISK_SHARED);
	/* The second time is like the first. */
	disks_close(&disks);
	assert_int_equal(sets_clear_sandbox(sandboxes, KEY, &e), 0);
	spec.disks[0].made = spec.disks[1].made = MSG_DISK_ASKED;
	assert_int_equal(host_open(), 0);
}

static void other_image(void)
{
	str_copy(spec.disks[0].image, sizeof(spec.disks[0].image), "good");
}
static void no_meta(void)
{
	assert_int_equal(unlinkat(sandboxes, KEY "/disks/meta", 0), 0);
}

/* A disk is never made in the place of one that is not there, or is another. */
static void test_kept_disk_that_is_another(void **unused)
{
	static const struct {
		void (*spoil)(void);
		const char *word;
	} cases[] = {
		{resize, "must have 4194304"},
		{chown_it, "uid 700123"},
		{chmod_it, "mode 0640"},
		{remove_it, "disk 0 of " KEY},
		{link_it, "2 links"},
		{symlink_it, "symbolic"},
		{fifo_it, ""},
		{mount_over_it, "mount"},
		{mount_over_all, "mount"},
		{other_image, "not the one"},
		{no_meta, "meta"},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		keep();
		cases[i].spoil();
		unsigned before = unit_open_fds();
		int result = host_open();
		disks_close(&disks);
		if (result == 0 || e.kind != ERR_INTERNAL)
			fail_msg("case %zu: %d, kind %d: %s", i, result, (int)e.kind, e.text);
		assert_says(e.text, cases[i].word);
		assert_int_equal(unit_open_fds(), before);
		unmount(OWN);
		unmount(KEY "/disks");
		assert_int_equal(sets_remove(sandboxes, KEY, &e), 0);
		spec.flags = 0;
	}
}

static int all_tests(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, host_setup, host_teardown)
		T(test_template),
		T(test_template_outlives_the_image_of_its_own_disks),
		T(test_replaced_image),
		T(test_damaged_template),
		T(test_wake),
		T(test_disk_that_is_another),
		T(test_wake_on_another_image),
		T(test_keep),
		T(test_kept_disk_that_is_another),
#undef T
	};
	return cmocka_run_group_tests_name("disks_restore", tests, NULL, NULL);
}

int main(void)
{
	return host_run(all_tests);
}
