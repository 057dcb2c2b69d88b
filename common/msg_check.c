// SPDX-License-Identifier: Apache-2.0
/* The bodies of records, field by field: what no honest peer sends does not get in or out. */
#include "log.h"
#include "msg.h"
#include "util.h"

#include <string.h>

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

/* What may go to a terminal or into JSON as it is. */
bool msg_check_text(const char *text, size_t size)
{
	if (!str_is_padded(text, size))
		return false;
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			return false;
	return true;
}
#define TEXT(field) msg_check_text(field, sizeof(field))

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

static const char *check_check(const struct msg_check *b)
{
	REQUIRE(b->repair <= 1, "repair");
	return NULL;
}

static const char *check_finding(const struct msg_finding *b)
{
	REQUIRE(b->kind >= MSG_FINDING_CGROUP && b->kind < MSG_FINDING_KIND_COUNT, "kind");
	REQUIRE(b->mended < MSG_MENDED_COUNT, "mended");
	REQUIRE(TEXT(b->name), "name");
	REQUIRE(TEXT(b->detail), "detail");
	return NULL;
}

static const char *check_gone(const struct msg_gone *b)
{
	REQUIRE(key_field(b->key), "key");
	REQUIRE(b->code >= -1 && b->code <= 255, "code");
	REQUIRE(b->signal >= 0 && b->signal <= 64, "signal");
	REQUIRE(b->clear <= 1, "clear");
	REQUIRE(b->spent <= 1, "spent");
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

static bool is_cidr(const struct msg_cidr *b)
{
	return b->prefix <= 32 &&
	       (b->prefix == 32 || (b->address & (UINT32_MAX >> b->prefix)) == 0);
}

static const char *check_network(const struct msg_network *b)
{
	static const struct msg_network none;
	REQUIRE(b->slot > 0 || memcmp(b, &none, sizeof(none)) == 0, "network without a slot");
	REQUIRE(b->slot <= MSG_SLOT_MAX, "network's slot");
	REQUIRE(b->egress < MSG_EGRESS_COUNT, "network's egress");
	REQUIRE(b->allow_count <= MSG_ALLOW_MAX &&
			(b->allow_count > 0) == (b->egress == MSG_EGRESS_LIST),
		"network's allow_count");
	for (uint32_t i = 0; i < MSG_ALLOW_MAX; i++)
		REQUIRE(i < b->allow_count ? is_cidr(&b->allow[i])
					   : !b->allow[i].address && !b->allow[i].prefix,
			"network's allow");
	REQUIRE(b->port_count <= MSG_PORTS_MAX, "network's port_count");
	for (uint32_t i = 0; i < MSG_PORTS_MAX; i++) {
		const struct msg_port *p = &b->ports[i];
		bool used = (p->proto == MSG_PROTO_TCP || p->proto == MSG_PROTO_UDP) && p->guest;
		REQUIRE(i < b->port_count ? used : !p->proto && !p->guest && !p->host,
			"network's ports");
	}
	REQUIRE(b->rx_mbps <= MSG_NET_RATE_MAX && b->tx_mbps <= MSG_NET_RATE_MAX, "network's rate");
	return NULL;
}

static const char *check_wait(const struct msg_wait *b)
{
	bool none = b->kind == MSG_WAIT_NONE, http = b->kind == MSG_WAIT_HTTP;
	bool tcp = http || b->kind == MSG_WAIT_TCP, vsock = b->kind == MSG_WAIT_VSOCK;
	REQUIRE(b->kind < MSG_WAIT_COUNT, "wait's kind");
	REQUIRE((tcp || vsock) == (b->port > 0) && (vsock || b->port <= UINT16_MAX) &&
			b->port < UINT32_MAX,
		"wait's port");
	REQUIRE(b->status == 0 || (http && b->status >= 100 && b->status <= 599), "wait's status");
	REQUIRE(none ? b->timeout_ms == 0 : b->timeout_ms > 0 && b->timeout_ms <= MSG_WAIT_MS_MAX,
		"wait's timeout_ms");
	REQUIRE(TEXT(b->text) && (http ? b->text[0] == '/' && !strchr(b->text, ' ')
				       : (b->kind == MSG_WAIT_CONSOLE) == (b->text[0] != '\0')),
		"wait's text");
	return NULL;
}

/* Of one start only: it is no part of a guest, nor of a set. */
static bool has_no_wait(const struct msg_create *b)
{
	static const struct msg_wait none;
	return memcmp(&b->wait, &none, sizeof(none)) == 0;
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
	REQUIRE(b->source == MSG_SOURCE_BOOT || !(b->flags & MSG_CREATE_KEEP_DISKS), "flags");
	if (b->source == MSG_SOURCE_TEMPLATE)
		REQUIRE(key_field(b->template), "template");
	else
		REQUIRE(b->template[0] == '\0' && str_is_padded(b->template, sizeof(b->template)),
			"template");
	return check_network(&b->network);
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
	if (!wrong)
		wrong = check_wait(&b->wait);
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
	REQUIRE(has_no_wait(&b->spec), "wait");
	REQUIRE(!(b->spec.flags & MSG_CREATE_KEEP_DISKS), "flags");
	const char *wrong = check_disks(b->spec.disks, b->spec.disk_count, true);
	return wrong ? wrong : check_unplugged(&b->spec);
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

static const char *check_snapshot(const struct msg_snapshot *b)
{
	REQUIRE(b->kind >= MSG_SNAPSHOT_TEMPLATE && b->kind < MSG_SNAPSHOT_KIND_COUNT, "kind");
	REQUIRE(b->zero == 0, "reserved field");
	REQUIRE(name_field(b->template, b->kind == MSG_SNAPSHOT_TEMPLATE), "template");
	return NULL;
}

/* Whether TAKE may name it. */
static bool is_taken(uint32_t op)
{
	return op == MSG_CREATE || op == MSG_PAUSE || op == MSG_RESUME || op == MSG_POWER_BUTTON ||
	       op == MSG_SNAPSHOT || op == MSG_BALLOON || op == MSG_RESIZE || op == MSG_COUNTERS;
}

/* What the request that is in hand asks for; of others nothing may be there. */
static const char *check_asked(const struct msg_status *b)
{
	static const struct msg_snapshot none;
	REQUIRE(b->paused <= (b->op == MSG_SNAPSHOT), "paused");
	REQUIRE(b->op == MSG_SNAPSHOT ? !check_snapshot(&b->snapshot)
				      : memcmp(&b->snapshot, &none, sizeof(none)) == 0,
		"snapshot");
	REQUIRE(b->asked_balloon_mib == 0 || b->op == MSG_BALLOON, "asked_balloon_mib");
	REQUIRE((b->op == MSG_RESIZE) == (b->asked_vcpus || b->asked_memory_mib), "asked_vcpus");
	REQUIRE(b->asked_balloon_mib <= MSG_MEMORY_MIB_MAX && b->asked_vcpus <= MSG_VCPUS_MAX &&
			b->asked_memory_mib <= MSG_MEMORY_MIB_MAX,
		"what is asked for");
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_take(const struct msg_take *b)
{
	REQUIRE(is_taken(b->op), "op");
	return NULL;
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
	REQUIRE(b->op == MSG_NONE || is_taken(b->op), "op");
	REQUIRE(b->ending < MSG_ENDING_COUNT, "ending");
	REQUIRE(b->ending_ms <= MSG_GRACE_MS_MAX * 2, "ending_ms");
	REQUIRE(b->op == MSG_CREATE ? !check_wait(&b->spec.wait) : has_no_wait(&b->spec), "wait");
	const char *asked = check_asked(b);
	REQUIRE(!asked, asked);
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

static const char *check_connect(const struct msg_connect *b)
{
	REQUIRE(b->port > 0 && b->port < UINT32_MAX, "port");
	REQUIRE(b->timeout_ms > 0 && b->timeout_ms <= MSG_WAIT_MS_MAX, "timeout_ms");
	return NULL;
}

static const char *check_connected(const struct msg_connected *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_event(const struct msg_event *b)
{
	REQUIRE(b->what >= MSG_EVENT_REBOOT && b->what < MSG_EVENT_WHAT_COUNT, "what");
	return NULL;
}

const char *msg_check_exit(const struct msg_exit *b)
{
	REQUIRE(b->cause > MSG_CAUSE_NONE && b->cause < MSG_CAUSE_COUNT, "cause");
	REQUIRE(b->code >= -1 && b->code <= 255, "code");
	REQUIRE(b->signal >= 0 && b->signal <= 64, "signal");
	REQUIRE(b->phase < MSG_PHASE_COUNT, "phase");
	REQUIRE(TEXT(b->detail), "detail");
	return NULL;
}

static const char *check_exit(const struct msg_exit *b)
{
	return msg_check_exit(b);
}

static const char *check_debug(const struct msg_debug *b)
{
	REQUIRE(b->zero == 0, "reserved field");
	return NULL;
}

static const char *check_debug_data(const struct msg_debug_data *b)
{
	return msg_debug_check(b);
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
