// SPDX-License-Identifier: Apache-2.0
/*
 * The records on the SOCK_SEQPACKET pairs between supervisor, spawner and shim.
 *
 * One record is one message: a header, then a body of the one size its type has (or a counted
 * tail). Both ends run on one host, so integers are in host order. There are no paths, no argv and
 * no uids in it: ids, names, bounded numbers and one bounded string (the guest's command line).
 *
 * Requests carry an id of their sender's choice that is not 0; the answer (of the type that the
 * request asks for, or MSG_ERROR) repeats it. What nobody asked for has id 0.
 */
#ifndef COMMON_MSG_H
#define COMMON_MSG_H

#include "err.h"
#include "msg_guest.h"
#include "name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef MSG_VERSION /* tests/version sets another one, for msg.c alone */
#define MSG_VERSION 1
#endif
#define MSG_RECORD_MAX 65536 /* bytes of one record, header included */
#define MSG_FDS_MAX    1
#define MSG_DATA_MAX   32768
#define MSG_BUILD_MAX  32
#define MSG_DETAIL_MAX ERR_TEXT_MAX

struct msg_header {
	uint16_t version;
	uint16_t type;
	uint32_t length; /* of the whole record */
	uint32_t id;
	uint32_t zero;
};

/*
 * The table of types: enum suffix, function suffix, descriptors that ride on it, counted tail?
 * For each there are msg_read_NAME() and msg_write_NAME() below.
 */
#define MSG_TABLE(X)                                                                               \
	X(HELLO, hello, 0, false)     /* supervisor -> spawner, shim: who I am */                  \
	X(ERROR, error, 0, false)     /* answer: what went wrong */                                \
	X(DONE, done, 0, false)	      /* answer: done, and how long it took */                     \
	X(HOST, host, 0, false)	      /* spawner's answer to HELLO */                              \
	X(START, start, 0, false)     /* supervisor -> spawner: start shim KEY */                  \
	X(STARTED, started, 1, false) /* its answer, with the link to the shim */                  \
	X(END, end, 0, false)	      /* supervisor -> spawner: end shim KEY; DONE */              \
	X(REMOVE, remove, 0, false)   /* supervisor -> spawner: remove KIND KEY; DONE */           \
	X(GONE, gone, 0, false)	      /* spawner -> supervisor: a shim ended, all clear */         \
	X(STATUS, status, 0, false)   /* shim's answer to HELLO */                                 \
	X(CREATE, create, 0, false)   /* supervisor -> shim: make and boot the VM */               \
	X(CREATED, created, 0, false) /* its answer: the guest runs */                             \
	X(PAUSE, pause, 0, false)     /* -> DONE */                                                \
	X(RESUME, resume, 0, false)   /* -> DONE */                                                \
	X(POWER_BUTTON, power_button, 0, false) /* -> DONE */                                      \
	X(SNAPSHOT, snapshot, 0, false)		/* write a set -> SNAPSHOTTED */                   \
	X(SNAPSHOTTED, snapshotted, 0, false)                                                      \
	X(PROGRESS, progress, 0, false) /* shim -> supervisor: of a long SNAPSHOT */               \
	X(TEMPLATE, template, 0, false) /* spawner -> supervisor: a set that lies on disk */       \
	X(BALLOON, balloon, 0, false)	/* what the balloon is to hold -> DONE */                  \
	X(RESIZE, resize, 0, false)	/* other vCPUs or memory -> DONE */                        \
	X(COUNTERS, counters, 0, false) /* -> COUNTERS_DATA */                                     \
	X(COUNTERS_DATA, counters_data, 0, false)                                                  \
	X(KILL, kill, 0, false) /* end the VM, gracefully first if asked -> DONE */                \
	X(CONSOLE_READ, console_read, 0, false) /* -> CONSOLE_DATA */                              \
	X(CONSOLE_DATA, console_data, 0, true)                                                     \
	X(CONSOLE_WRITE, console_write, 0, true) /* input for the guest -> DONE */                 \
	X(CONNECT, connect, 0, false)		 /* to a vsock port of the guest -> CONNECTED */   \
	X(CONNECTED, connected, 1, false)	 /* its answer, with the connection */             \
	X(EVENT, event, 0, false)		 /* shim -> supervisor: the VMM says */            \
	X(EXIT, exit, 0, false)			 /* shim -> supervisor: the VMM ended */           \
	X(EXIT_ACK, exit_ack, 0, false)		 /* supervisor -> shim: record kept, you may go */ \
	X(LOG, log, 0, false)			 /* shim -> supervisor */                          \
	X(DEBUG, debug, 0, false)		 /* in any phase -> DEBUG_DATA */                  \
	X(DEBUG_DATA, debug_data, 0, false)                                                        \
	X(TAKE, take, 0, false)	  /* the answer to a request of an earlier link is wanted here */  \
	X(CHECK, check, 0, false) /* supervisor -> spawner: FINDINGs, then DONE */                 \
	X(FINDING, finding, 0, false) /* spawner -> supervisor: something that differs */

enum msg_type {
	MSG_NONE = 0,
#define X(upper, lower, fds, tail) MSG_##upper,
	MSG_TABLE(X)
#undef X
		MSG_TYPE_COUNT
};

/* ------------------------------------------------------------------ bodies */

struct msg_hello {
	char build[MSG_BUILD_MAX];
};

struct msg_error {
	uint32_t kind; /* enum err_kind */
	int32_t errnum;
	char text[MSG_DETAIL_MAX];
};

struct msg_done {
	uint32_t took_us;
	uint32_t value; /* bytes taken, for CONSOLE_WRITE */
};

/* What the host has, bit by bit, for msg_host.features. */
enum msg_host_feature {
	MSG_HOST_KVM = 1 << 0,
	MSG_HOST_USERFAULTFD = 1 << 1,
	MSG_HOST_CGROUP_KILL = 1 << 2,
	MSG_HOST_CPU = 1 << 3,
	MSG_HOST_MEMORY = 1 << 4,
	MSG_HOST_PIDS = 1 << 5,
	MSG_HOST_IO = 1 << 6,
	MSG_HOST_FEATURES = (1 << 7) - 1
};

struct msg_host {
	char build[MSG_BUILD_MAX];
	char vmm_version[MSG_BUILD_MAX];
	uint32_t vmm_major;
	uint32_t vmm_minor;
	uint32_t vmm_patch;
	uint32_t features; /* enum msg_host_feature */
	uint32_t shims;	   /* found alive at start, left by an earlier supervisor */
	uint32_t zero;
};

struct msg_start {
	char key[NAME_KEY_SIZE];
};

struct msg_started {
	uint32_t pid; /* of the shim, as the host sees it */
	uint32_t took_us;
};

struct msg_end {
	char key[NAME_KEY_SIZE];
};

enum msg_remove_kind {
	MSG_REMOVE_SOCKET = 1,
	MSG_REMOVE_CGROUP = 2,
	MSG_REMOVE_TEMPLATE = 3, /* STATE_DIR/templates/KEY */
	MSG_REMOVE_SANDBOX = 4,	 /* STATE_DIR/sandboxes/KEY: its sets */
	MSG_REMOVE_KIND_COUNT
};

struct msg_remove {
	uint32_t kind; /* enum msg_remove_kind */
	char key[NAME_KEY_SIZE];
};

/* See spawner_check.h. */
struct msg_check {
	uint32_t repair; /* 1: mend what can be */
};

enum msg_finding_kind {
	MSG_FINDING_CGROUP = 1,
	MSG_FINDING_SOCKET = 2,	  /* in RUN_DIR/shims */
	MSG_FINDING_FRESH = 3,	  /* in RUN_DIR/new */
	MSG_FINDING_STAGING = 4,  /* of a set that was never finished */
	MSG_FINDING_TEMPLATE = 5, /* damaged, or none */
	MSG_FINDING_SANDBOX = 6,  /* the same of a sandbox's directory */
	MSG_FINDING_KEPT = 7,	  /* a sound one of one without a shim: it needs a record */
	MSG_FINDING_UID = 8,
	MSG_FINDING_RULES = 9,	    /* nftables */
	MSG_FINDING_DIRECTORY = 10, /* owner or mode */
	MSG_FINDING_MORE = 11,
	MSG_FINDING_KIND_COUNT
};

enum msg_mended {
	MSG_MENDED_CAN = 0,  /* repair would */
	MSG_MENDED_LEFT = 1, /* repair does not, or could not */
	MSG_MENDED_DONE = 2,
	MSG_MENDED_COUNT
};

#define MSG_FINDING_NAME_MAX 256

struct msg_finding {
	uint32_t kind;			 /* enum msg_finding_kind */
	uint32_t mended;		 /* enum msg_mended */
	char name[MSG_FINDING_NAME_MAX]; /* printable: a key, a file, a uid */
	char detail[MSG_DETAIL_MAX];
};

struct msg_gone {
	char key[NAME_KEY_SIZE];
	int32_t code;	/* the shim's exit code, or -1 */
	int32_t signal; /* the signal that ended the shim, or 0 */
	uint32_t clear; /* 1: cgroup, socket and uid are cleared up; 0: detail says what is left */
	uint32_t spent; /* 1: the set that it slept in was taken up, and cannot be woken again */
	char detail[MSG_DETAIL_MAX];
};

enum msg_phase {
	MSG_PHASE_NEW = 0,	/* no CREATE yet */
	MSG_PHASE_SETUP = 1,	/* jail under construction, VMM not started */
	MSG_PHASE_STARTING = 2, /* VMM started, guest not yet running */
	MSG_PHASE_RUNNING = 3,
	MSG_PHASE_PAUSING = 4,
	MSG_PHASE_PAUSED = 5,
	MSG_PHASE_RESUMING = 6,
	MSG_PHASE_ENDING = 7, /* asked to end */
	MSG_PHASE_ENDED = 8,  /* the VMM is gone */
	MSG_PHASE_SNAPSHOTTING = 9,
	MSG_PHASE_COUNT
};

/* What memory a set carries, bit by bit. */
enum msg_set_content {
	MSG_SET_RAM = 1 << 0,	 /* ram: our sparse copy of the guest's memory file */
	MSG_SET_RANGES = 1 << 1, /* memory-ranges: written by CH */
	/*
	 * Made by a plain CH: its config.json goes with its state.json, whose zone and device ids
	 * are not ours, and the memory of a guest restored from it is CH's own.
	 */
	MSG_SET_CONFIG = 1 << 2,
	MSG_SET_DISKS =
		1 << 3, /* files of the writable disks; a hibernated sandbox keeps its own */
	MSG_SET_CONTENTS = (1 << 4) - 1
};

#define MSG_DIGEST_SIZE 32 /* SHA-256 */

/*
 * One snapshot set: what was baked in, and what it takes. It is also, byte for byte, the set's file
 * "meta", so its layout goes with MSG_SET_FORMAT.
 */
#define MSG_SET_FORMAT 4
struct msg_set {
	uint32_t format;
	uint32_t content;	    /* enum msg_set_content */
	char key[NAME_KEY_SIZE];    /* the template's, or the hibernated sandbox's */
	char parent[NAME_KEY_SIZE]; /* the sandbox that it was taken of */
	char vmm_version[MSG_BUILD_MAX];
	int64_t created_real_us;
	uint64_t apparent_bytes, allocated_bytes; /* of all files together */
	struct msg_create spec; /* as the guest was made; disks as this set came by them */
	uint8_t config_digest[MSG_DIGEST_SIZE];
	uint8_t state_digest[MSG_DIGEST_SIZE];
};

/* Steps of a create, in microseconds, one after another. */
struct msg_timings {
	uint32_t setup_us;  /* shim started -> jail built */
	uint32_t launch_us; /* clone -> VMM executed and checked */
	uint32_t boot_us;   /* executed -> the guest runs; CH answers its requests all together */
	uint32_t disks_us;  /* of setup_us: making its disks */
	uint32_t slot_us;   /* of setup_us: making its network slot */
	uint32_t ready_us;  /* the guest runs -> it is ready, as msg_wait says */
};

struct msg_created {
	uint32_t vmm_pid; /* as the host sees it */
	uint32_t disk_count;
	struct msg_disk disks[MSG_DISKS_MAX]; /* as they were made */
	char vmm_version[MSG_BUILD_MAX];
	struct msg_timings timings;
};

enum msg_snapshot_kind {
	MSG_SNAPSHOT_TEMPLATE = 1,  /* the guest goes on */
	MSG_SNAPSHOT_HIBERNATE = 2, /* the VMM is ended once the set is safe; EXIT follows */
	MSG_SNAPSHOT_KIND_COUNT
};

struct msg_snapshot {
	uint32_t kind; /* enum msg_snapshot_kind */
	uint32_t zero;
	char template[NAME_SIZE]; /* its name, of the sandbox's tenant; empty when hibernating */
	uint64_t max_bytes;	  /* what the set may allocate on disk; 0: any */
};

/* Why a VMM is being ended, if it is. */
enum msg_ending {
	MSG_ENDING_NONE = 0,
	MSG_ENDING_DESTROY = 1,	  /* KILL asked for it */
	MSG_ENDING_HIBERNATE = 2, /* its set is safe */
	MSG_ENDING_OTHER = 3,	  /* the shim's own finding: EXIT will tell */
	MSG_ENDING_COUNT
};

/*
 * What a shim is at. op is a request of an earlier link whose end nobody has heard: it is in hand,
 * or over (then phase is what came of it), and TAKE brings its end.
 */
struct msg_status {
	char build[MSG_BUILD_MAX];
	uint32_t phase; /* enum msg_phase */
	uint32_t uid;	/* of the VMM; told, never taken */
	int64_t created_real_us;
	uint64_t console_end;	      /* bytes that the console ever printed */
	struct msg_create spec;	      /* its wait only while CREATE is in hand */
	struct msg_created created;   /* zero before the guest runs */
	uint32_t op;		      /* enum msg_type: MSG_NONE, or what TAKE may name */
	uint32_t ending;	      /* enum msg_ending */
	uint32_t ending_ms;	      /* until its next stage, where it has one */
	uint32_t paused;	      /* 1: with SNAPSHOT, the guest was paused before */
	struct msg_snapshot snapshot; /* with SNAPSHOT, else zero */
	uint32_t asked_balloon_mib;   /* with BALLOON, else 0 */
	uint32_t asked_vcpus, asked_memory_mib, zero; /* with RESIZE, else 0 */
};

/*
 * Answered as op is: CREATED, DONE, SNAPSHOTTED or COUNTERS_DATA, or ERROR; ERR_STATE when no such
 * request of an earlier link is there.
 */
struct msg_take {
	uint32_t op; /* enum msg_type */
};

/* PAUSE, RESUME, POWER_BUTTON and EXIT_ACK say all in their type. */
struct msg_pause {
	uint32_t zero;
};
struct msg_resume {
	uint32_t zero;
};
struct msg_power_button {
	uint32_t zero;
};
struct msg_exit_ack {
	uint32_t zero;
};

#define MSG_GRACE_MS_MAX 3600000

struct msg_kill {
	uint32_t grace_ms; /* 0: at once; else power button, then clean shutdown, then SIGKILL */
};

struct msg_console_read {
	uint64_t offset; /* first byte wanted, counted from the console's first ever; what is no
			    longer kept is passed over */
	uint32_t tail;	 /* 1: offset counts back from the end instead */
	uint32_t wait;	 /* 1: no answer before there is something at offset, or the end */
};

struct msg_console_data {
	uint64_t offset; /* of data[0] */
	uint64_t end;	 /* bytes that the console ever printed */
	uint32_t eof;	 /* 1: the VMM is gone and data reaches the end */
	uint32_t length; /* of data */
	char data[MSG_DATA_MAX];
};

struct msg_console_write {
	uint32_t zero;
	uint32_t length;
	char data[MSG_DATA_MAX];
};

struct msg_connect {
	uint32_t port; /* the guest's vsock port, not 0 or 2^32 - 1 */
	uint32_t timeout_ms;
};
struct msg_connected {
	uint32_t zero;
};

struct msg_snapshotted {
	uint32_t pause_us; /* how long the guest stood still; 0 where it was paused before */
	uint32_t vmm_us;   /* CH's own part: vm.snapshot */
	uint32_t disks_us; /* cloning the disks: while the guest stands still */
	uint32_t copy_us;  /* copying the memory and digesting */
	uint32_t sync_us;
	uint32_t zero;
	struct msg_set set;
};

struct msg_progress {
	uint64_t done_bytes, total_bytes;
};

enum msg_template_kind {
	MSG_TEMPLATE_SET = 0,	     /* a template */
	MSG_TEMPLATE_HIBERNATED = 1, /* the set of a hibernated sandbox */
	/*
	 * The disks of a sandbox that has no shim and cannot be woken: content 0, or that of the
	 * set that it was woken from, whose memory no longer fits the disks.
	 */
	MSG_TEMPLATE_LEFT = 2,
	MSG_TEMPLATE_KIND_COUNT
};

struct msg_template {
	uint32_t kind; /* enum msg_template_kind */
	uint32_t zero;
	struct msg_set set;
};

struct msg_balloon {
	uint32_t target_mib; /* at most memory_mib - MSG_BALLOON_LEAVES_MIB */
	uint32_t zero;
};

/* One of both; the other is 0. */
struct msg_resize {
	uint32_t vcpus;	     /* at most max_vcpus */
	uint32_t memory_mib; /* all of it: memory_mib to max_memory_mib, in steps of MSG_PLUG_MIB */
};

struct msg_counters {
	uint32_t zero;
};

#define MSG_COUNTERS_MAX     160
#define MSG_COUNTER_NAME_MAX 32

struct msg_counter {
	char device[MSG_COUNTER_NAME_MAX];
	char counter[MSG_COUNTER_NAME_MAX];
	uint64_t value; /* 2^64 - 1: CH has none yet */
};

struct msg_counters_data {
	uint64_t memory_actual_bytes; /* what the balloon leaves of the memory, by vm.info */
	uint32_t count;
	uint32_t zero;
	struct msg_counter counters[MSG_COUNTERS_MAX]; /* a device's stand together */
};

enum msg_event_what {
	MSG_EVENT_REBOOT = 1,	 /* the guest rebooted inside its VMM */
	MSG_EVENT_PANIC = 2,	 /* the guest's pvpanic device was written */
	MSG_EVENT_DROPPED = 3,	 /* count event records of the VMM were dropped: too many */
	MSG_EVENT_DISK_FULL = 4, /* a write of the guest failed: no room below state_dir */
	MSG_EVENT_WHAT_COUNT
};

struct msg_event {
	uint32_t what;	/* enum msg_event_what */
	uint32_t count; /* reboots so far, records dropped, or times that the disk was full */
};

enum msg_cause {
	MSG_CAUSE_NONE = 0,
	MSG_CAUSE_GUEST_SHUTDOWN = 1,
	MSG_CAUSE_GUEST_PANIC = 2,
	MSG_CAUSE_GUEST_REBOOT_LOOP = 3,
	MSG_CAUSE_VMM_ERROR = 4,
	MSG_CAUSE_VMM_KILLED = 5,
	MSG_CAUSE_OUT_OF_MEMORY = 6,
	MSG_CAUSE_SECCOMP = 7,
	MSG_CAUSE_DESTROYED = 8,
	MSG_CAUSE_SHIM_LOST = 9, /* the supervisor's own finding */
	MSG_CAUSE_START_FAILED = 10,
	MSG_CAUSE_HIBERNATED = 11, /* no end at all: its set is safe */
	MSG_CAUSE_COUNT
};

struct msg_exit {
	uint32_t cause; /* enum msg_cause */
	int32_t code;	/* exit status, or -1 */
	int32_t signal; /* signal that ended the VMM, or 0 */
	uint32_t phase; /* enum msg_phase in which it happened */
	int64_t at_real_us;
	uint64_t console_end;
	char detail[MSG_DETAIL_MAX];
};

struct msg_log {
	uint32_t level;	  /* enum log_level */
	uint32_t dropped; /* lines lost before this one */
	char text[512];
};

/* What DEBUG is answered with; it holds a struct msg_exit. */
#include "msg_debug.h"

/* ------------------------------------------------------------------ records */

struct msg {
	struct msg_header header;
	union {
		unsigned char body[MSG_RECORD_MAX - sizeof(struct msg_header)];
		uint64_t align;
	};
	size_t body_length;
	int fds[MSG_FDS_MAX]; /* owned by whoever holds the record: msg_close_fds() */
	unsigned fd_count;
};

enum msg_result {
	MSG_GOT,
	MSG_AGAIN,	   /* nothing there now */
	MSG_EOF,	   /* the peer is gone */
	MSG_BAD,	   /* malformed: close the channel; err says why */
	MSG_OTHER_VERSION, /* well-formed but of another version: header is filled, no body */
};

/*
 * Takes one record from a non-blocking SEQPACKET socket: recvmsg(2) with MSG_CMSG_CLOEXEC,
 * MSG_CTRUNC and MSG_TRUNC refused, the type known, the size and number of descriptors exactly the
 * type's. On anything but MSG_GOT no descriptor is left open.
 */
enum msg_result msg_recv(int sock, struct msg *m, struct err *e);

/*
 * Sends one record without blocking. fd is -1, or a descriptor that rides on it (it stays the
 * caller's). Returns 0, or -1 with e->errnum (EAGAIN when the socket is full).
 */
int msg_send(int sock, enum msg_type type, uint32_t id, const void *body, size_t length, int fd,
	     struct err *e);

/*
 * Answers a record of another version with an ERROR record of this one: header and ERROR keep their
 * shape in every version, so that the peer can tell what is wrong.
 */
int msg_send_version_error(int sock, const struct msg_header *theirs, struct err *e);

void msg_close_fds(struct msg *m);

/* The type's name for messages, never NULL. */
const char *msg_type_name(unsigned type);
const char *msg_phase_name(unsigned phase);
/* The word of API.md for a cause, e.g. "vmm-killed". */
const char *msg_cause_name(unsigned cause);

/* A text field as it must be: ended, padded with zeros, printable ASCII. */
bool msg_check_text(const char *text, size_t size);
/* NULL, or the name of the first field that is wrong. */
const char *msg_check_exit(const struct msg_exit *b);

/*
 * msg_read_NAME(): copies the body out of a record of that type and checks every field: strings
 * ended and padded with zeros, names valid, numbers in range, unused fields zero. -1 with
 * ERR_PROTOCOL (a shape that no honest peer sends) otherwise.
 *
 * msg_write_NAME(): gives the body's length on the wire, after the same checks; *body is what is
 * sent. -1 with ERR_INTERNAL when the caller filled it wrongly.
 */
#define X(upper, lower, fds, tail)                                                                 \
	int msg_read_##lower(const struct msg *m, struct msg_##lower *out, struct err *e);         \
	ssize_t msg_write_##lower(const struct msg_##lower *body, struct err *e);
#include <sys/types.h>
MSG_TABLE(X)
#undef X

#endif
