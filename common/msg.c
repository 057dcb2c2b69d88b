// SPDX-License-Identifier: Apache-2.0
#include "msg.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct {
	const char *name;
	size_t size; /* of the body; of the largest one where it has a tail */
	size_t head; /* bytes before the tail, or 0 */
	unsigned fds;
} types[MSG_TYPE_COUNT] = {
#define MSG_HEAD_true(lower)  (sizeof(struct msg_##lower) - MSG_DATA_MAX)
#define MSG_HEAD_false(lower) 0
#define X(upper, lower, fd_count, tail)                                                            \
	[MSG_##upper] = {#upper, sizeof(struct msg_##lower), MSG_HEAD_##tail(lower), fd_count},
	MSG_TABLE(X)
#undef X
};

const char *msg_type_name(unsigned type)
{
	return type > MSG_NONE && type < MSG_TYPE_COUNT ? types[type].name : "unknown";
}

const char *msg_phase_name(unsigned phase)
{
	static const char *const names[MSG_PHASE_COUNT] = {
		"new",	  "setup",    "starting", "running", "pausing",
		"paused", "resuming", "ending",	  "ended",   "snapshotting",
	};
	return phase < MSG_PHASE_COUNT ? names[phase] : "unknown";
}

const char *msg_cause_name(unsigned cause)
{
	static const char *const names[MSG_CAUSE_COUNT] = {
		"none",	     "guest-shutdown", "guest-panic",	"guest-reboot-loop",
		"vmm-error", "vmm-killed",     "out-of-memory", "seccomp",
		"destroyed", "shim-lost",      "start-failed",	"hibernated",
	};
	return cause < MSG_CAUSE_COUNT ? names[cause] : "unknown";
}

/* ------------------------------------------------------------------ records */

void msg_close_fds(struct msg *m)
{
	for (unsigned i = 0; i < m->fd_count; i++)
		fd_close(&m->fds[i]);
	m->fd_count = 0;
}

/* Takes every descriptor out of the control data, also those we will refuse. */
static void collect_fds(struct msghdr *h, struct msg *m, unsigned *surplus)
{
	m->fd_count = 0;
	*surplus = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->fd_count < MSG_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				close(fd);
				(*surplus)++;
			}
		}
	}
}

static int check_shape(const struct msg *m, size_t got, unsigned surplus, struct err *e)
{
	const struct msg_header *h = &m->header;
	if (h->length != got)
		return err_set(e, ERR_PROTOCOL, 0, "record says %u bytes, has %zu", h->length, got);
	if (h->type <= MSG_NONE || h->type >= MSG_TYPE_COUNT)
		return err_set(e, ERR_PROTOCOL, 0, "record of unknown type %u", h->type);
	if (h->zero != 0)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with a reserved field set",
			       types[h->type].name);
	size_t size = types[h->type].size, head = types[h->type].head;
	if (head ? m->body_length < head || m->body_length > size : m->body_length != size)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with a body of %zu bytes, not %zu",
			       types[h->type].name, m->body_length, size);
	if (m->fd_count + surplus != types[h->type].fds)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with %u descriptors, not %u",
			       types[h->type].name, m->fd_count + surplus, types[h->type].fds);
	return 0;
}

enum msg_result msg_recv(int sock, struct msg *m, struct err *e)
{
	/* Room for more descriptors than any type has, so that a surplus is seen as such. */
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[2] = {
		{.iov_base = &m->header, .iov_len = sizeof(m->header)},
		{.iov_base = m->body, .iov_len = sizeof(m->body)},
	};
	struct msghdr h = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n;
	bool reset = false;
	/*
	 * A peer that closed with records of ours unread gives ECONNRESET once, ahead of what it
	 * had sent before: that (a last word, say) is still to be taken.
	 */
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
	m->fd_count = 0;
	m->body_length = 0;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return MSG_AGAIN;
	if (n < 0 && errno == ECONNRESET)
		return MSG_EOF;
	if (n < 0) {
		err_errno(e, errno, "receive a record");
		return MSG_BAD;
	}
	unsigned surplus;
	collect_fds(&h, m, &surplus);
	/* A record of no bytes looks like the end, and yet can bring descriptors. */
	if (n == 0) {
		msg_close_fds(m);
		return MSG_EOF;
	}
	enum msg_result result = MSG_BAD;
	if (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		err_set(e, ERR_PROTOCOL, 0, "record too large, or with too many descriptors");
	} else if ((size_t)n < sizeof(m->header)) {
		err_set(e, ERR_PROTOCOL, 0, "record of %zd bytes is shorter than a header", n);
	} else if (m->header.version != MSG_VERSION) {
		err_set(e, ERR_VERSION, 0, "peer speaks protocol version %u, this one is %u",
			m->header.version, MSG_VERSION);
		result = MSG_OTHER_VERSION;
	} else {
		m->body_length = (size_t)n - sizeof(m->header);
		if (check_shape(m, (size_t)n, surplus, e) == 0)
			return MSG_GOT;
	}
	msg_close_fds(m);
	return result;
}

static int send_record(int sock, const struct msg_header *header, const void *body, size_t length,
		       int fd, struct err *e)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msg_header copy = *header;
	struct iovec iov[2] = {
		{.iov_base = &copy, .iov_len = sizeof(copy)},
		{.iov_base = (void *)(uintptr_t)body, .iov_len = length},
	};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		h.msg_control = control.buf;
		h.msg_controllen = sizeof(control.buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	ssize_t n;
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, errno, "send %s record", msg_type_name(header->type));
	return 0;
}

int msg_send(int sock, enum msg_type type, uint32_t id, const void *body, size_t length, int fd,
	     struct err *e)
{
	struct msg_header header = {
		.version = MSG_VERSION,
		.type = (uint16_t)type,
		.length = (uint32_t)(sizeof(header) + length),
		.id = id,
	};
	return send_record(sock, &header, body, length, fd, e);
}

int msg_send_version_error(int sock, const struct msg_header *theirs, struct err *e)
{
	struct msg_error body = {.kind = ERR_VERSION};
	err_set(e, ERR_VERSION, 0,
		"protocol version %u is not spoken here, %u is: use programs of one release",
		theirs->version, MSG_VERSION);
	/* Not all of e->text: behind its end lies whatever the stack held. */
	str_copy(body.text, sizeof(body.text), e->text);
	/* Header and ERROR body keep their shape for ever, so any version can read this. */
	struct msg_header header = {
		.version = MSG_VERSION,
		.type = MSG_ERROR,
		.length = (uint32_t)(sizeof(header) + sizeof(body)),
		.id = theirs->id,
	};
	return send_record(sock, &header, &body, sizeof(body), -1, e);
}

/* ------------------------------------------------------------------ bodies */

#define REQUIRE(cond, text)                                                                        \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return (text);                                                             \
	} while (0)

/* An optional name: valid, or empty; padded either way. */
static bool name_field(const char name[NAME_SIZE], bool present)
{
	if (!str_is_padded(name, NAME_SIZE))
		return false;
	return present ? name_is_valid(name) : name[0] == '\0';
}

static bool key_field(const char key[NAME_KEY_SIZE])
{
	return str_is_padded(key, NAME_KEY_SIZE) && name_key_is_valid(key);
}

/* Ended, padded, and printable: what may go to a terminal or into JSON as it is. */
static bool text_field(const char *text, size_t size)
{
	if (!str_is_padded(text, size))
		return false;
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			return false;
	return true;
}
#define TEXT(field) text_field(field, sizeof(field))

/* Each check gives NULL, or what is wrong. */
static const char *check_hello(const struct msg_hello *b)
{
	REQUIRE(TEXT(b->build), "build");
	return NULL;
}

static const char *check_error(const struct msg_error *b)
{
	REQUIRE(b->kind > ERR_NONE && b->kind < ERR_KIND_COUNT, "kind");
	REQUIRE(b->errnum >= 0 && b->errnum < 4096, "errnum");
	REQUIRE(TEXT(b->text), "text");
	return NULL;
}

static const char *check_done(const struct msg_done *b)
{
	REQUIRE(b->value <= MSG_DATA_MAX, "value");
	return NULL;
}

static const char *check_host(const struct msg_host *b)
{
	REQUIRE(TEXT(b->build), "build");
	REQUIRE(TEXT(b->vmm_version), "vmm_version");
	REQUIRE((b->features & ~(uint32_t)MSG_HOST_FEATURES) == 0, "features");
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_start(const struct msg_start *b)
{
	REQUIRE(key_field(b->key), "key");
	return NULL;
}

static const char *check_started(const struct msg_started *b)
{
	REQUIRE(b->pid > 0, "pid");
	return NULL;
}

static const char *check_end(const struct msg_end *b)
{
	REQUIRE(key_field(b->key), "key");
	return NULL;
}

static const char *check_remove(const struct msg_remove *b)
{
	REQUIRE(b->kind >= MSG_REMOVE_SOCKET && b->kind < MSG_REMOVE_KIND_COUNT, "kind");
	REQUIRE(key_field(b->key), "key");
	return NULL;
}

static const char *check_gone(const struct msg_gone *b)
{
	REQUIRE(key_field(b->key), "key");
	REQUIRE(b->code >= -1 && b->code <= 255, "code");
	REQUIRE(b->signal >= 0 && b->signal <= 64, "signal");
	REQUIRE(b->clear <= 1, "clear");
	REQUIRE(TEXT(b->detail), "detail");
	return NULL;
}

static const char *check_disk(const struct msg_disk *b)
{
	bool readonly = b->flags & MSG_DISK_READONLY, device = b->flags & MSG_DISK_DEVICE;
	REQUIRE(name_field(b->image, true), "disk's image");
	REQUIRE((b->flags & ~(uint32_t)MSG_DISK_FLAGS) == 0, "disk's flags");
	REQUIRE(b->size_mib <= MSG_DISK_MIB_MAX, "disk's size_mib");
	REQUIRE(b->made < MSG_DISK_MADE_COUNT, "disk's made");
	REQUIRE(b->made != MSG_DISK_SHARED || (readonly && !device), "disk's made");
	REQUIRE((b->made != MSG_DISK_REFLINK && b->made != MSG_DISK_COPIED) ||
			(!readonly && !device),
		"disk's made");
	REQUIRE(b->made != MSG_DISK_OPENED || device, "disk's made");
	REQUIRE(b->made == MSG_DISK_ASKED || b->size_mib > 0, "disk's size_mib");
	REQUIRE(b->rate_mib_s <= MSG_DISK_RATE_MIB_MAX, "disk's rate_mib_s");
	REQUIRE(b->rate_iops == 0 ||
			(b->rate_iops >= MSG_DISK_IOPS_MIN && b->rate_iops <= MSG_DISK_IOPS_MAX),
		"disk's rate_iops");
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

/* made: all of them must say how, or none may. */
static const char *check_disks(const struct msg_disk disks[MSG_DISKS_MAX], uint32_t count,
			       bool made)
{
	static const struct msg_disk none;
	REQUIRE(count <= MSG_DISKS_MAX, "disk_count");
	for (uint32_t i = 0; i < count; i++) {
		const char *wrong = check_disk(&disks[i]);
		REQUIRE(!wrong, wrong);
		REQUIRE((disks[i].made != MSG_DISK_ASKED) == made, "disk's made");
	}
	for (uint32_t i = count; i < MSG_DISKS_MAX; i++)
		REQUIRE(memcmp(&disks[i], &none, sizeof(none)) == 0, "unused disk");
	return NULL;
}

/* What a guest is made of, as it may have become since. */
static const char *check_guest(const struct msg_create *b)
{
	REQUIRE((b->flags & ~(uint32_t)MSG_CREATE_FLAGS) == 0, "flags");
	REQUIRE(name_field(b->kernel, true), "kernel");
	REQUIRE(name_field(b->initramfs, b->flags & MSG_CREATE_INITRAMFS), "initramfs");
	REQUIRE(TEXT(b->cmdline), "cmdline");
	REQUIRE(b->vcpus >= 1 && b->vcpus <= MSG_VCPUS_MAX, "vcpus");
	REQUIRE(b->memory_mib >= MSG_MEMORY_MIB_MIN && b->memory_mib <= MSG_MEMORY_MIB_MAX,
		"memory_mib");
	REQUIRE(b->max_vcpus >= b->vcpus && b->max_vcpus <= MSG_VCPUS_MAX, "max_vcpus");
	REQUIRE(b->max_memory_mib >= b->memory_mib && b->max_memory_mib <= MSG_MEMORY_MIB_MAX &&
			(b->max_memory_mib - b->memory_mib) % MSG_HOTPLUG_MIB == 0,
		"max_memory_mib");
	REQUIRE(b->balloon_mib <= b->memory_mib - MSG_BALLOON_LEAVES_MIB &&
			(b->balloon_mib == 0 || (b->flags & MSG_CREATE_BALLOON)),
		"balloon_mib");
	REQUIRE(b->plugged_mib <= b->max_memory_mib - b->memory_mib &&
			b->plugged_mib % MSG_PLUG_MIB == 0,
		"plugged_mib");
	REQUIRE(b->source < MSG_SOURCE_COUNT, "source");
	REQUIRE(b->restore < MSG_RESTORE_COUNT, "restore");
	REQUIRE((b->source == MSG_SOURCE_BOOT) == (b->restore == MSG_RESTORE_NONE), "restore");
	if (b->source == MSG_SOURCE_TEMPLATE)
		REQUIRE(key_field(b->template), "template");
	else
		REQUIRE(b->template[0] == '\0' && str_is_padded(b->template, sizeof(b->template)),
			"template");
	return NULL;
}

static const char *check_unplugged(const struct msg_create *b)
{
	REQUIRE((b->flags & MSG_CREATE_HOTPLUG) == 0, "flags");
	REQUIRE(b->plugged_mib == 0, "plugged_mib");
	return check_guest(b);
}

static const char *check_create(const struct msg_create *b)
{
	const char *wrong = check_disks(b->disks, b->disk_count, false);
	return wrong ? wrong : check_unplugged(b);
}

/* memory: whether it must have one. */
static const char *check_set(const struct msg_set *b, bool memory)
{
	REQUIRE(b->format == MSG_SET_FORMAT, "format");
	REQUIRE((b->content & ~(uint32_t)MSG_SET_CONTENTS) == 0, "content");
	REQUIRE(!memory || (b->content & (MSG_SET_RAM | MSG_SET_RANGES)), "content");
	REQUIRE(!(b->content & MSG_SET_CONFIG) || !(b->content & MSG_SET_RAM), "content");
	REQUIRE(key_field(b->key), "key");
	REQUIRE(key_field(b->parent), "parent");
	REQUIRE(TEXT(b->vmm_version), "vmm_version");
	const char *wrong = check_disks(b->spec.disks, b->spec.disk_count, true);
	return wrong ? wrong : check_unplugged(&b->spec);
}

static const char *check_snapshot(const struct msg_snapshot *b)
{
	REQUIRE(b->kind >= MSG_SNAPSHOT_TEMPLATE && b->kind < MSG_SNAPSHOT_KIND_COUNT, "kind");
	REQUIRE(b->zero == 0, "reserved field");
	REQUIRE(name_field(b->template, b->kind == MSG_SNAPSHOT_TEMPLATE), "template");
	return NULL;
}

static const char *check_snapshotted(const struct msg_snapshotted *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return check_set(&b->set, true);
}

static const char *check_progress(const struct msg_progress *b)
{
	REQUIRE(b->done_bytes <= b->total_bytes, "done_bytes");
	return NULL;
}

static const char *check_template(const struct msg_template *b)
{
	REQUIRE(b->kind < MSG_TEMPLATE_KIND_COUNT, "kind");
	REQUIRE(b->zero == 0, "reserved field");
	return check_set(&b->set, b->kind != MSG_TEMPLATE_LEFT);
}

static const char *check_created(const struct msg_created *b)
{
	REQUIRE(b->vmm_pid > 0, "vmm_pid");
	REQUIRE(TEXT(b->vmm_version), "vmm_version");
	return check_disks(b->disks, b->disk_count, true);
}

static const char *check_status(const struct msg_status *b)
{
	REQUIRE(TEXT(b->build), "build");
	REQUIRE(b->phase < MSG_PHASE_COUNT, "phase");
	if (b->phase == MSG_PHASE_NEW)
		return NULL;
	if (b->created.vmm_pid) {
		const char *wrong = check_created(&b->created);
		REQUIRE(!wrong, wrong);
	}
	bool made = b->spec.disks[0].made != MSG_DISK_ASKED;
	const char *wrong = check_disks(b->spec.disks, b->spec.disk_count, made);
	return wrong ? wrong : check_guest(&b->spec);
}

static const char *check_pause(const struct msg_pause *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_resume(const struct msg_resume *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_power_button(const struct msg_power_button *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_exit_ack(const struct msg_exit_ack *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_balloon(const struct msg_balloon *b)
{
	REQUIRE(b->target_mib <= MSG_MEMORY_MIB_MAX - MSG_BALLOON_LEAVES_MIB, "target_mib");
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_resize(const struct msg_resize *b)
{
	REQUIRE(b->vcpus <= MSG_VCPUS_MAX, "vcpus");
	REQUIRE(b->memory_mib <= MSG_MEMORY_MIB_MAX, "memory_mib");
	REQUIRE((b->vcpus == 0) != (b->memory_mib == 0), "vcpus and memory_mib: one of both");
	return NULL;
}

static const char *check_counters(const struct msg_counters *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_counters_data(const struct msg_counters_data *b)
{
	REQUIRE(b->count <= MSG_COUNTERS_MAX, "count");
	REQUIRE(b->zero == 0, "reserved field");
	for (uint32_t i = 0; i < MSG_COUNTERS_MAX; i++) {
		const struct msg_counter *c = &b->counters[i];
		bool used = i < b->count;
		REQUIRE(TEXT(c->device) && (c->device[0] != '\0') == used, "device");
		REQUIRE(TEXT(c->counter) && (c->counter[0] != '\0') == used, "counter");
		REQUIRE(used || c->value == 0, "value");
	}
	return NULL;
}

static const char *check_kill(const struct msg_kill *b)
{
	REQUIRE(b->grace_ms <= MSG_GRACE_MS_MAX, "grace_ms");
	return NULL;
}

static const char *check_console_read(const struct msg_console_read *b)
{
	REQUIRE(b->tail <= 1, "tail");
	REQUIRE(b->wait <= 1, "wait");
	return NULL;
}

static const char *check_console_data(const struct msg_console_data *b)
{
	REQUIRE(b->length <= MSG_DATA_MAX, "length");
	REQUIRE(b->eof <= 1, "eof");
	REQUIRE(b->offset <= b->end && b->end - b->offset >= b->length, "offset");
	return NULL;
}

static const char *check_console_write(const struct msg_console_write *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	REQUIRE(b->length >= 1 && b->length <= MSG_DATA_MAX, "length");
	return NULL;
}

static const char *check_event(const struct msg_event *b)
{
	REQUIRE(b->what >= MSG_EVENT_REBOOT && b->what < MSG_EVENT_WHAT_COUNT, "what");
	return NULL;
}

static const char *check_exit(const struct msg_exit *b)
{
	REQUIRE(b->cause > MSG_CAUSE_NONE && b->cause < MSG_CAUSE_COUNT, "cause");
	REQUIRE(b->code >= -1 && b->code <= 255, "code");
	REQUIRE(b->signal >= 0 && b->signal <= 64, "signal");
	REQUIRE(b->phase < MSG_PHASE_COUNT, "phase");
	REQUIRE(TEXT(b->detail), "detail");
	return NULL;
}

static const char *check_log(const struct msg_log *b)
{
	REQUIRE(b->level >= LOG_LEVEL_ERROR && b->level <= LOG_LEVEL_DEBUG, "level");
	REQUIRE(TEXT(b->text), "text");
	return NULL;
}

/* The body's length on the wire: where it has a tail, no more than its length field says. */
#define WIRE_true(b)  (sizeof(*(b)) - MSG_DATA_MAX + (b)->length)
#define WIRE_false(b) sizeof(*(b))

/* With a tail the length field lies before it, so it was received: it must fit what came. */
#define X(upper, lower, fd_count, tail)                                                            \
	int msg_read_##lower(const struct msg *m, struct msg_##lower *out, struct err *e)          \
	{                                                                                          \
		memset(out, 0, sizeof(*out));                                                      \
		if (m->header.type != MSG_##upper)                                                 \
			return err_set(e, ERR_PROTOCOL, 0, "%s record where " #upper " is due",    \
				       msg_type_name(m->header.type));                             \
		if (m->body_length > sizeof(*out))                                                 \
			return err_set(e, ERR_PROTOCOL, 0, #upper " record too long");             \
		memcpy(out, m->body, m->body_length);                                              \
		const char *wrong = check_##lower(out);                                            \
		if (!wrong && WIRE_##tail(out) != m->body_length)                                  \
			wrong = "length";                                                          \
		if (wrong)                                                                         \
			return err_set(e, ERR_PROTOCOL, 0, #upper " record with a bad %s", wrong); \
		return 0;                                                                          \
	}                                                                                          \
	ssize_t msg_write_##lower(const struct msg_##lower *body, struct err *e)                   \
	{                                                                                          \
		const char *wrong = check_##lower(body);                                           \
		if (wrong)                                                                         \
			return err_set(e, ERR_INTERNAL, 0, #upper " not sent: bad %s", wrong);     \
		return (ssize_t)WIRE_##tail(body);                                                 \
	}
MSG_TABLE(X)
#undef X
