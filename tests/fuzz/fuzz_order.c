// SPDX-License-Identifier: Apache-2.0
/*
 * shim/ops against both sides at once: orders of a supervisor that was taken over, answers of a VMM
 * that was taken over. Each step is who speaks, and what. Nothing is jailed here: the shim is one
 * whose guest runs, with pipes for everything, and what it takes for its VMM cannot be killed.
 */
#include "fuzz.h"

#include "../../shim/snapshot.h"
#include "../unit/bodies.h"
#include "boot.h"
#include "connect.h"
#include "debug.h"
#include "ending.h"
#include "ops.h"
#include "output.h"
#include "readback.h"
#include "uplink.h"

#include <sys/mount.h>
#include <sys/socket.h>

static struct shim s;
static struct policy policy = {.reboots = 3, .reboot_period_s = 60, .console_bytes = 4096};
static int supervisor = -1, vmm = -1, guest = -1;
static int64_t now;

static void drop_line(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FUZZ_CHECK(fuzz_is_printable(line, LOG_LINE_MAX));
}

static int pair_of(int kind, int *theirs)
{
	int pair[2];
	FUZZ_CHECK(!socketpair(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	*theirs = pair[1];
	return pair[0];
}

static void put(int dir, const char *path, const char *text)
{
	CLEANUP_FD int fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	FUZZ_CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* A /proc in which the VMM is process 7, and confined. */
static void fill_proc(int proc)
{
	mkdirat(proc, "7", 0755);
	mkdirat(proc, "7/task", 0755);
	mkdirat(proc, "7/task/7", 0755);
	put(proc, "7/task/7/status",
	    "Name:\tvmm\nState:\tS\nUid:\t5\t5\t5\t5\nGid:\t5\t5\t5\t5\nGroups:\t \n"
	    "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
	    "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	    "Seccomp:\t2\nSeccomp_filters:\t9\n");
	put(proc, "7/limits",
	    "Max file size 1 1\nMax core file size 0 0\nMax processes 1 1\nMax open files 1 1\n"
	    "Max locked memory 0 0\nMax address space 1 1\n");
	s.readback.want = (struct confine_want){.pid = 7, .uid = 5, .gid = 5};
	for (size_t i = 0; i < MSG_LIMIT_COUNT; i++)
		s.readback.want.limits[i] = 1;
}

/* Directories on a tmpfs of their own that is mounted nowhere; without root the shim has none. */
static void open_dirs(void)
{
	int fs = geteuid() == 0 ? fsopen("tmpfs", FSOPEN_CLOEXEC) : -1;
	if (fs < 0)
		return;
	fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	int root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	if (root < 0)
		return;
	mkdirat(root, "templates", 0700);
	mkdirat(root, "sandboxes", 0700);
	mkdirat(root, "snapshot", 0755);
	mkdirat(root, "proc", 0755);
	s.jail.proc_fd = openat(root, "proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fill_proc(s.jail.proc_fd);
	s.jail.templates_fd = openat(root, "templates", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s.jail.sandboxes_fd = openat(root, "sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s.jail.snapshot_fd = openat(root, "snapshot", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(root);
}

static void open_shim(uint8_t bits)
{
	struct err e;
	for (int i = 0; i < POLICY_DEADLINE_COUNT; i++)
		policy.deadline_ms[i] = 1000;
	s = (struct shim){
		.policy = &policy,
		.key = "acme:web",
		.phase = bits & 1 ? MSG_PHASE_PAUSED : MSG_PHASE_RUNNING,
		.greeted = true,
		.listener = -1,
		.jail = JAIL_INIT,
		.vmm = {.pid = -1, .pidfd = -1, .death_pipe = -1},
		.cgroup_fd = -1,
		.sandbox_fd = -1,
		.wake_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.event_fd = -1,
		.epoll_fd = -1,
		.ready = READY_INIT,
		.ending_next_us = INT64_MAX,
		.readback = {.due_us = INT64_MAX},
		.announce = {.conn = VSOCK_CONN_INIT},
		.snapshot = {.staging = SETS_STAGING_INIT, .from_fd = -1, .to_fd = -1},
		.uid = 12345,
	};
	disks_init(&s.disks);
	s.slot.host_ns = s.slot.tap_fd = -1;
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		s.snapshot.disk_fd[i] = -1;
	good_create(&s.spec);
	good_created(&s.created);
	s.spec.disk_count = 0;
	memset(s.spec.disks, 0, sizeof(s.spec.disks));
	memcpy(s.created.disks, s.spec.disks, sizeof(s.spec.disks));
	s.created.disk_count = 0;
	if (bits & 2)
		s.spec.flags |= MSG_CREATE_VSOCK;
	FUZZ_CHECK(console_open(&s.console, policy.console_bytes, &e) == 0);
	s.jail.pty_master = pair_of(SOCK_STREAM, &guest);
	chan_open(&s.link, pair_of(SOCK_SEQPACKET, &supervisor), 512u * 1024);
	http_client_open(&s.api, pair_of(SOCK_STREAM, &vmm), &s);
	s.api.trace = &s.trace;
	open_dirs();
	s.vmm.pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	now = clock_us();
}

static void close_shim(void)
{
	snapshot_abandon(&s);
	fd_close(&s.sandbox_fd);
	fd_close(&s.jail.templates_fd);
	fd_close(&s.jail.sandboxes_fd);
	fd_close(&s.jail.snapshot_fd);
	fd_close(&s.jail.proc_fd);
	confine_report_close(&s.readback.report);
	connect_drop(&s);
	chan_close(&s.link);
	http_client_close(&s.api);
	console_close(&s.console);
	fd_close(&s.jail.pty_master);
	fd_close(&s.vmm.pidfd);
	fd_close(&supervisor);
	fd_close(&vmm);
	fd_close(&guest);
	free(s.input);
}

static void fill_honest(unsigned type)
{
	switch (type) {
#define X(upper, lower, fds, tail)                                                                 \
	case MSG_##upper:                                                                          \
		CHANGED(lower, fill_record(type, b, WIRE_##tail(b)), (void)b);                     \
		break;
		MSG_TABLE(X)
#undef X
	default:
		break;
	}
}

/* An order: its type, its number, patches over an honest body. */
static void order(struct fuzz_input *in)
{
	struct err ignored;
	size_t got;
	fill_honest(1 + fuzz_byte(in) % (MSG_TYPE_COUNT - 1));
	uint8_t id = fuzz_byte(in);
	struct fuzz_input patches;
	patches.at = fuzz_bytes(in, fuzz_byte(in), &got);
	patches.left = got;
	size_t size = record.body_length;
	fuzz_patch(&patches, record.body, size);
	/* The next supervisor comes; it has to say HELLO first. */
	if (s.link.fd < 0) {
		fd_close(&supervisor);
		chan_open(&s.link, pair_of(SOCK_SEQPACKET, &supervisor), 512u * 1024);
	}
	msg_send(supervisor, (enum msg_type)record.header.type, id, record.body, size, -1,
		 &ignored);
	ops_receive(&s);
}

/* A set that the supervisor is told of is there, and whole: none of it is the VMM's to forge. */
static void check_set(const struct msg *m)
{
	static struct msg_snapshotted said;
	static char state[4096];
	struct msg_set set;
	struct sets_disk disks[MSG_DISKS_MAX];
	struct err e;
	FUZZ_CHECK(msg_read_snapshotted(m, &said, &e) == 0);
	bool template =
		strcmp(said.set.key, s.key) != 0 || s.snapshot.kind == MSG_SNAPSHOT_TEMPLATE;
	CLEANUP_FD int set_fd = template ? sets_open(s.jail.templates_fd, said.set.key,
						     said.set.key, "a set", &set, disks, &e)
					 : sets_open(s.sandbox_fd, SETS_OF_SANDBOX, s.key, "a set",
						     &set, disks, &e);
	FUZZ_CHECK(set_fd >= 0 && memcmp(&set, &said.set, sizeof(set)) == 0);
	CLEANUP_FD int fd = openat(set_fd, SETS_STATE, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, state, sizeof(state));
	FUZZ_CHECK(n > 0 && !memchr(state, '\0', (size_t)n));
}

/* Of what the supervisor is told everything has its shape. */
static void hear(void)
{
	static struct msg m;
	static struct msg_debug_data told;
	struct err e;
	char sink[4096];
	for (enum msg_result got; (got = msg_recv(supervisor, &m, &e)) != MSG_AGAIN;) {
		FUZZ_CHECK(got == MSG_GOT || got == MSG_EOF);
		if (got == MSG_GOT && m.header.type == MSG_SNAPSHOTTED)
			check_set(&m);
		if (got == MSG_GOT && m.header.type == MSG_DEBUG_DATA)
			FUZZ_CHECK(msg_read_debug_data(&m, &told, &e) == 0);
		msg_close_fds(&m);
		if (got == MSG_EOF)
			break;
	}
	while (recv(vmm, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
	while (recv(guest, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
}

/* The usual answers, so that a small input gets far. */
static void answer(struct fuzz_input *in)
{
	static const char *const texts[] = {
		"HTTP/1.1 204 \r\n\r\n",
		"HTTP/1.1 500 \r\nContent-Length: 7\r\n\r\n[\"no\"] ",
		"HTTP/1.1 200 \r\nContent-Length: 28\r\n\r\n{\"_disk0\":{\"read_bytes\":17}}",
		"HTTP/1.1 200 \r\nContent-Length: 32\r\n\r\n{\"memory_actual_size\":134217728}",
	};
	uint8_t which = fuzz_byte(in);
	size_t got;
	const void *bytes = texts[which % 4];
	if (which & 0x80)
		bytes = fuzz_bytes(in, which & 0x7f, &got);
	else
		got = strlen(bytes);
	send(vmm, bytes, got, MSG_NOSIGNAL);
	http_client_receive(&s.api);
}

static void pass_time(uint8_t how)
{
	now += (int64_t)how * 10000;
	debug_note_phase(&s, now);
	http_client_expire(&s.api, now);
	readback_step(&s, now);
	ending_step(&s, now);
	connect_step(&s, now);
	snapshot_step(&s, now);
}

static void print(struct fuzz_input *in)
{
	size_t got;
	const uint8_t *bytes = fuzz_bytes(in, fuzz_byte(in), &got);
	console_append(&s.console, (const char *)bytes, got);
	ops_console_grew(&s);
}

/* What a VMM may put into /snapshot, also while it is not lent. */
static void put_file(struct fuzz_input *in)
{
	static const char *const names[] = {SETS_STATE, SETS_RANGES, SETS_CONFIG, "more"};
	uint8_t what = fuzz_byte(in);
	const char *name = names[what % 4];
	int dir = s.jail.snapshot_fd;
	size_t got;
	const uint8_t *bytes = fuzz_bytes(in, fuzz_byte(in), &got);
	if (dir < 0)
		return;
	switch (what >> 2 & 7) {
	case 0:
		(void)!symlinkat("/etc/hostname", dir, name);
		return;
	case 1:
		mkfifoat(dir, name, 0600);
		return;
	case 2:
		mkdirat(dir, name, 0700);
		return;
	case 3:
		(void)!linkat(dir, SETS_STATE, dir, name, 0);
		return;
	default:
		break;
	}
	CLEANUP_FD int fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0 || write(fd, bytes, got) != (ssize_t)got)
		return;
	if (what & 0x20)
		(void)!ftruncate(fd, (off_t)s.spec.memory_mib << 20);
}

static void step(struct fuzz_input *in)
{
	uint8_t what = fuzz_byte(in);
	switch (what & 3) {
	case 0:
		order(in);
		break;
	case 1:
		answer(in);
		break;
	case 2:
		pass_time(what >> 2);
		break;
	default:
		if (what & 4)
			put_file(in);
		else
			print(in);
		break;
	}
	hear();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int before = fuzz_free_fd();
	log_set_sink(drop_line, NULL);
	open_shim(fuzz_byte(&in));
	for (int steps = 0; in.left && steps < 64 && !s.quit; steps++)
		step(&in);
	close_shim();
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
