// SPDX-License-Identifier: Apache-2.0
/*
 * The spawner against a supervisor that was taken over: records of any kind, in any order, with
 * shims ending in between. Each step is what happens, and how; a record is an honest one, patched.
 * The spawner's own code, on a host that is a tmpfs mounted nowhere (as root; else on none), and
 * with a start that starts no process.
 */
#include "fuzz.h"

/* The names of what it must not do here are taken before its text is read. */
#define spawner_start_shim fuzz_start_shim
#include "../../shim/spawner.c"
#undef spawner_start_shim

#include <sys/mount.h>
#include <sys/socket.h>

#define STEPS_MAX 48

static const char *const keys[] = {"alice:web", "alice:db", "bob:web", "bob:x"};

static struct spawner spawner;
static struct policy policy = {.max_sandboxes = 3, .user_uid = 64101, .uid_base = 1000000};
static int supervisor = -1;
static unsigned asked, answered;
static pid_t next_pid;

static void drop_line(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FUZZ_CHECK(fuzz_is_printable(line, LOG_LINE_MAX));
}

int fuzz_start_shim(struct spawner_start *s, struct leash_table *t, const char *key,
		    struct msg_started *started, struct err *e);

/* As the real one, but that the process is nobody and its pidfd is none. */
int fuzz_start_shim(struct spawner_start *s, struct leash_table *t, const char *key,
		    struct msg_started *started, struct err *e)
{
	(void)s;
	FUZZ_CHECK(name_key_is_valid(key));
	if (leash_find(t, key))
		return err_set(e, ERR_STATE, 0, "shim %s is still there", key);
	if (t->count >= policy.max_sandboxes)
		return err_set(e, ERR_QUOTA, 0, "%u shims", t->count);
	CLEANUP_FD int link = open("/dev/null", O_RDONLY | O_CLOEXEC);
	/* Their numbers are above any real process's. */
	const pid_t pid = next_pid++;
	if (!leash_add(t, key, pid, true, open("/dev/null", O_RDONLY | O_CLOEXEC),
		       open("/dev/null", O_RDONLY | O_CLOEXEC), e))
		return -1;
	*started = (struct msg_started){.pid = (uint32_t)pid, .took_us = 1};
	return fd_take(&link);
}

static int open_dir(int root, const char *name)
{
	mkdirat(root, name, 0755);
	return openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void touch(int dir, const char *name)
{
	close(openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

/* What may lie about a key: sockets, a cgroup in use or not, sets, disks, what a VMM has put. */
static void make_things(const struct leash_table *t, const char *key)
{
	char path[256];
	snprintf(path, sizeof(path), "%s.sock", key);
	touch(t->shims_fd, path);
	mkdirat(t->cgroup_fd, key, 0755);
	mkdirat(t->templates_fd, key, 0755);
	mkdirat(t->sandboxes_fd, key, 0755);
	static const char *const in[] = {"scratch", "scratch/deep", "scratch/deep/er", "set",
					 "disks"};
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		snprintf(path, sizeof(path), "%s/%s", key, in[i]);
		mkdirat(t->sandboxes_fd, path, i % 2 ? 0 : 0700);
	}
	static const char *const files[] = {"set/meta", "disks/0", "disks/meta",
					    "scratch/state.json"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", key, files[i]);
		touch(t->sandboxes_fd, path);
	}
	snprintf(path, sizeof(path), "%s/meta", key);
	touch(t->templates_fd, path);
}

static void open_host(struct leash_table *t)
{
	int fs = geteuid() == 0 ? fsopen("tmpfs", FSOPEN_CLOEXEC) : -1;
	if (fs < 0)
		return;
	fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	int root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	if (root < 0)
		return;
	t->shims_fd = open_dir(root, "shims");
	t->fresh_fd = open_dir(root, "new");
	t->cgroup_fd = open_dir(root, "cgroup");
	t->templates_fd = open_dir(root, "templates");
	t->sandboxes_fd = open_dir(root, "sandboxes");
	/* What no request may touch. */
	touch(root, "outside");
	close(root);
}

static void open_spawner(uint8_t bits)
{
	int pair[2];
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	supervisor = pair[1];
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++)
		policy.deadline_ms[i] = bits & 2 ? 0 : 1000;
	spawner = (struct spawner){
		.policy = &policy,
		.table = {.policy = &policy,
			  .link = &spawner.link,
			  .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
			  .shims_fd = -1,
			  .fresh_fd = -1,
			  .cgroup_fd = -1,
			  .templates_fd = -1,
			  .sandboxes_fd = -1},
		.vmm = {.ok = !(bits & 1),
			.major = 53,
			.version = "53.0",
			.err = {.kind = ERR_VMM}},
		.run_fd = -1,
		.signal_fd = -1,
	};
	chan_open(&spawner.link, pair[0], LINK_QUEUE_MAX);
	open_host(&spawner.table);
	asked = answered = 0;
	next_pid = 1 << 23;
}

/* Takes all that was said to the supervisor: well-formed, and no more answers than requests. */
static void listen_to_it(void)
{
	static struct msg m;
	struct err e;
	enum msg_result got;
	if (spawner.link.fd >= 0)
		chan_flush(&spawner.link, &e);
	while ((got = msg_recv(supervisor, &m, &e)) == MSG_GOT) {
		if (m.header.id)
			answered++;
		else /* or the end's, of a record of another version and no number */
			FUZZ_CHECK(m.header.type == MSG_GONE || m.header.type == MSG_TEMPLATE ||
				   spawner.quit);
		FUZZ_CHECK((m.header.type == MSG_STARTED) == (m.fd_count == 1));
		msg_close_fds(&m);
	}
	FUZZ_CHECK(got == MSG_AGAIN || got == MSG_EOF);
	FUZZ_CHECK(answered <= asked);
	FUZZ_CHECK(spawner.table.count <= policy.max_sandboxes + ARRAY_SIZE(keys));
}

static size_t honest(unsigned type, const char *key, uint8_t bits, void *body)
{
	switch (type) {
	case MSG_HELLO:
		*(struct msg_hello *)body = (struct msg_hello){.build = "fuzz"};
		return sizeof(struct msg_hello);
	case MSG_START:
	case MSG_END:
		str_copy(((struct msg_start *)body)->key, NAME_KEY_SIZE, key);
		return sizeof(struct msg_start);
	case MSG_REMOVE:
		((struct msg_remove *)body)->kind = 1 + bits % 4;
		str_copy(((struct msg_remove *)body)->key, NAME_KEY_SIZE, key);
		return sizeof(struct msg_remove);
	default:
		return bits * 4u;
	}
}

/* A record: its type, key and number, how long it says it is, patches over it. */
static void say(struct fuzz_input *in)
{
	static const unsigned types[] = {MSG_START, MSG_END, MSG_REMOVE, MSG_HELLO};
	union {
		struct msg_header h;
		unsigned char bytes[2048];
	} record = {0};
	uint8_t how = fuzz_byte(in), bits = fuzz_byte(in);
	size_t got;
	unsigned type = how & 0x40 ? bits % (MSG_TYPE_COUNT + 2) : types[how % 4];
	size_t length = sizeof(record.h) +
			honest(type, keys[bits >> 6], bits & 0x3f, record.bytes + sizeof(record.h));
	record.h = (struct msg_header){.version = MSG_VERSION,
				       .type = (uint16_t)type,
				       .length = (uint32_t)length,
				       .id = asked + 1};
	if (how & 0x80) {
		struct fuzz_input patches = *in;
		size_t want = fuzz_byte(&patches);
		*in = patches;
		patches.at = fuzz_bytes(in, want, &got);
		patches.left = got;
		length = length + (fuzz_byte(&patches) & 7) - 3;
		fuzz_patch(&patches, record.bytes, length);
	}
	asked++;
	if (send(supervisor, record.bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		receive(&spawner);
}

static void happen(struct fuzz_input *in)
{
	uint8_t what = fuzz_byte(in);
	struct leash_table *t = &spawner.table;
	struct leash *l = t->first;
	switch (what % 5) {
	case 0: /* a shim ends, as it likes */
		for (unsigned i = 0; l && i < (what >> 3) % 4u; i++)
			l = l->next;
		if (l && l->child)
			leash_ended(t, l, what & 0x80 ? -1 : 0, what & 0x80 ? SIGKILL : 0);
		break;
	case 1: /* time passes */
		leash_retry(t);
		break;
	case 2: /* things appear */
		if (t->shims_fd >= 0)
			make_things(t, keys[what >> 6]);
		break;
	case 3: /* a cgroup becomes busy, or free */
		if (t->cgroup_fd >= 0) {
			char path[NAME_KEY_SIZE + 8];
			snprintf(path, sizeof(path), "%s/busy", keys[what >> 6]);
			if (what & 0x20)
				mkdirat(t->cgroup_fd, path, 0700);
			else
				unlinkat(t->cgroup_fd, path, AT_REMOVEDIR);
		}
		break;
	default: /* what was left behind is looked for again */
		if (t->shims_fd >= 0)
			spawner_find_leftovers(t);
		break;
	}
}

static void close_spawner(void)
{
	struct leash_table *t = &spawner.table;
	/* Past every deadline, so that what could not be cleared up is given up. */
	for (struct leash *l = t->first; l; l = l->next)
		l->clear_by_us = 1;
	leash_retry(t);
	FUZZ_CHECK(!t->first && t->count == 0);
	chan_close(&spawner.link);
	fd_close(&supervisor);
	fd_close(&t->epoll_fd);
	fd_close(&t->shims_fd);
	fd_close(&t->fresh_fd);
	fd_close(&t->cgroup_fd);
	fd_close(&t->templates_fd);
	fd_close(&t->sandboxes_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int before = fuzz_free_fd();
	log_set_sink(drop_line, NULL);
	open_spawner(fuzz_byte(&in));
	for (int steps = 0; in.left && steps < STEPS_MAX && !spawner.quit; steps++) {
		if (fuzz_byte(&in) & 0x80)
			happen(&in);
		else
			say(&in);
		listen_to_it();
		if (spawner.table.shims_fd >= 0)
			FUZZ_CHECK(faccessat(spawner.table.shims_fd, "../outside", F_OK, 0) == 0);
	}
	/* All is answered, but for those who wait for an end that has not come. */
	unsigned waiting = 0;
	for (const struct leash *l = spawner.table.first; l; l = l->next)
		waiting += l->end_count;
	FUZZ_CHECK(spawner.quit || answered + waiting == asked);
	close_spawner();
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
