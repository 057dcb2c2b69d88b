// SPDX-License-Identifier: Apache-2.0
/*
 * shim/sets: the file meta of a set, as it may lie on a damaged disk. Bits of the first byte: whole
 * file or patches over an honest one; with or without a digest that fits. As root: a set's files
 * must be root's.
 */
#include "fuzz.h"

/* Of all these bodies only some are used here. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../unit/bodies.h"
#include "ch_api.h"
#include "sets.h"

#include <sha256.h>
#include <sys/mount.h>

static int root = -1;

/* A tmpfs that is mounted nowhere, so that a crash leaves nothing. */
static bool open_root(void)
{
	if (geteuid() != 0)
		return false;
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return false;
	root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	return root >= 0 && mkdirat(root, "set", 0755) == 0 && mkdirat(root, "disks", 0755) == 0;
}

static int open_dir(const char *name)
{
	int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(dir >= 0);
	unlinkat(dir, SETS_META, 0);
	return dir;
}

/* What sets_describe() writes of an honest set. */
static size_t honest(char *to, size_t size)
{
	static struct msg_set set;
	struct err e;
	memset(&set, 0, sizeof(set));
	good_set(&set);
	good_network(&set.spec);
	int dir = open_dir("set");
	FUZZ_CHECK(sets_describe(dir, &set, &e) == 0);
	int fd = openat(dir, SETS_META, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, to, size);
	FUZZ_CHECK(n > 0 && (size_t)n < size);
	close(fd);
	close(dir);
	return (size_t)n;
}

static void put(const char *name, const char *bytes, size_t size)
{
	int dir = open_dir(name);
	int fd = openat(dir, SETS_META, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	FUZZ_CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
	close(fd);
	close(dir);
}

static void sign(char *bytes, size_t size)
{
	SHA256_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (uint8_t *)bytes, size - MSG_DIGEST_SIZE);
	SHA256Final((uint8_t *)bytes + size - MSG_DIGEST_SIZE, &context);
}

/* What is believed can be told to the supervisor, and given to a VMM. */
static void read_back(const char *name, enum msg_template_kind kind)
{
	static struct msg_template body;
	struct sets_disk disks[MSG_DISKS_MAX];
	struct err e;
	memset(&body, 0, sizeof(body));
	if (sets_read_meta(root, name, &body.set, &e) < 0) {
		FUZZ_CHECK(e.text[0]);
		return;
	}
	body.kind = kind;
	FUZZ_CHECK(msg_write_template(&body, &e) > 0);
	char *config = ch_api_config(&body.set.spec, MSG_RESTORE_MAP, &e);
	FUZZ_CHECK(config);
	free(config);
	int fd = sets_open(root, name, body.set.key, "a set", &body.set, disks, &e);
	FUZZ_CHECK(fd < 0 && e.text[0]); /* its other files are missing */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char bytes[65536];
	struct fuzz_input in = {data, size};
	static bool asked, usable;
	if (!asked)
		usable = open_root();
	asked = true;
	if (!usable)
		return 0;
	uint8_t how = fuzz_byte(&in);
	const char *name = how & 4 ? "disks" : "set";
	size_t length = honest(bytes, sizeof(bytes));
	if (how & 1) {
		fuzz_patch(&in, bytes, length);
	} else {
		size_t got;
		const uint8_t *from = fuzz_bytes(&in, sizeof(bytes), &got);
		memcpy(bytes, from, got);
		length = how & 8 ? length : got;
	}
	if ((how & 2) && length > MSG_DIGEST_SIZE)
		sign(bytes, length);
	put(name, bytes, length);
	read_back(name, how & 4 ? MSG_TEMPLATE_LEFT : MSG_TEMPLATE_SET);
	return 0;
}
