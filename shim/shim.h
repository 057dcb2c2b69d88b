// SPDX-License-Identifier: Apache-2.0
/*
 * The one sandbox that a serving shim looks after, shared by the files that make up serving:
 * serve.c (the loop), uplink.c (the supervisor), boot.c (create), ops.c (requests), connect.c and
 * announce.c (vsock), output.c (what the VMM sends), ending.c (how it ends).
 */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

#include "ch_api.h"
#include "chan.h"
#include "confine.h"
#include "console.h"
#include "diskmake.h"
#include "disks.h"
#include "jail.h"
#include "launch.h"
#include "log.h"
#include "policy.h"
#include "ramcopy.h"
#include "ready.h"
#include "sets.h"
#include "slot.h"

/* What the epoll loop can be woken by. */
enum shim_source {
	SHIM_LINK,
	SHIM_LISTENER,
	SHIM_API,
	SHIM_PIDFD,
	SHIM_STDOUT,
	SHIM_STDERR,
	SHIM_EVENTS,
	SHIM_PTY,
	SHIM_READY,
	SHIM_CONNECT,
	SHIM_ANNOUNCE,
	SHIM_SOURCE_COUNT
};

/* How much of one stream is read in a period, so that a flood costs the host little. */
struct shim_budget {
	int64_t window_us; /* start of the present period */
	size_t used;
	bool stopped; /* not watched until the period ends */
};

#define SHIM_ERROR_LINES  4
#define SHIM_LINE_MAX	  1024 /* CH's account of a failed request has about 350 */
#define SHIM_ERROR_MAX	  256
#define SHIM_WAITERS	  8
#define SHIM_CONNECTS	  8
#define SHIM_ANNOUNCE_MAX 512
#define SHIM_LOGS	  16 /* lines kept while no supervisor is there */
#define SHIM_LOG_MAX	  512

/* Lines of the VMM's standard error: the last one as it comes, and the last ERROR ones. */
struct shim_stderr {
	char line[SHIM_LINE_MAX];
	size_t used;
	char errors[SHIM_ERROR_LINES][SHIM_ERROR_MAX];
	unsigned error_count;
	int64_t last_error_us;
	bool seccomp;  /* CH's own word for a seccomp violation was seen */
	bool no_space; /* a write failed for want of room since that was last told */
	uint32_t no_space_count;
	int64_t no_space_told_us;
};

/* Why the VMM is being ended, if we are the ones who do it. */
enum shim_ending {
	SHIM_ENDING_NONE,
	SHIM_ENDING_DESTROY,
	SHIM_ENDING_PANIC,
	SHIM_ENDING_REBOOTS,
	SHIM_ENDING_FAILED,
	SHIM_ENDING_HIBERNATE
};

/* A SNAPSHOT in hand; see snapshot.c for its steps. */
enum shim_snapshot_step {
	SHIM_SNAPSHOT_IDLE,
	SHIM_SNAPSHOT_VMM,  /* CH has a request of ours: pause, snapshot or resume */
	SHIM_SNAPSHOT_WAIT, /* CH still loads memory; again at retry_us */
	SHIM_SNAPSHOT_LOST, /* failed, and the VMM's API is closed: its exit is due by retry_us */
	SHIM_SNAPSHOT_COPY, /* disks and memory are copied, a piece in each turn of the loop */
};

struct shim_snapshot {
	enum shim_snapshot_step step;
	enum msg_snapshot_kind kind;
	enum msg_phase before; /* RUNNING or PAUSED */
	bool paused;	       /* by us: to be resumed */
	int64_t started_us, paused_us, asked_us, copy_us, retry_us, deadline_us, told_us;
	struct sets_staging staging;
	struct ramcopy copy;
	int from_fd, to_fd; /* from_fd -1: the guest's own ram file */
	uint64_t max_bytes; /* what the set may allocate; 0: any */
	uint64_t allocated; /* by its finished files */
	unsigned disk_at;   /* the disk in hand */
	bool disk_busy;	    /* and disk is under way */
	bool copying_ram;   /* disks come first */
	struct diskmake disk;
	int disk_fd[MSG_DISKS_MAX]; /* the set's own files */
	struct msg_snapshotted result;
	struct err fail;
};

/* A CONNECT in hand. */
struct shim_connect {
	uint32_t id;
	int64_t deadline_us;
	struct vsock_conn conn;
};

/* What a restored guest is told; see announce.c. */
struct shim_announce {
	struct vsock_conn conn;
	bool open;
	char text[SHIM_ANNOUNCE_MAX];
	size_t length, sent; /* length 0: nothing is being told */
	int64_t deadline_us;
};

/* A log line that nobody was there to read. */
struct shim_log {
	enum log_level level;
	char text[SHIM_LOG_MAX];
};

/* The end of a request whose supervisor is gone: the next one takes it. */
struct shim_untold {
	enum msg_type op; /* NONE: there is none */
	bool failed;
	struct err why;
	uint32_t took_us;
};

struct shim {
	const struct policy *policy;
	char key[NAME_KEY_SIZE];
	uid_t uid;
	int64_t started_us;
	int64_t created_real_us;
	enum msg_phase phase;
	bool quit; /* leave the loop */

	/* the supervisor */
	struct chan link;
	bool greeted; /* this link may send more than HELLO */
	bool serving; /* the guest is being started, or was: a next supervisor can come */
	int listener;
	struct shim_log logs[SHIM_LOGS]; /* a ring; the next one is written at log_next */
	unsigned log_count, log_next;
	uint32_t logs_dropped;
	uint32_t untold_events[MSG_EVENT_WHAT_COUNT]; /* the last count of each */

	/* the sandbox */
	struct msg_create spec; /* without its wait: that is this start's alone */
	struct msg_wait wait;
	struct msg_created created;
	uint32_t set_content;		 /* of the set that it was restored from */
	char set_version[MSG_BUILD_MAX]; /* of the VMM that wrote the set that is restored */
	struct jail jail;
	struct disks disks;
	struct slot slot; /* its tap_fd is -1 without a network */
	uint32_t slot_mtu;
	struct launch_vmm vmm;
	struct http_client api;
	int cgroup_fd;	/* the leaf */
	int sandbox_fd; /* STATE_DIR/sandboxes/KEY, once it was needed */
	int out_fd, err_fd, event_fd;
	struct console console;
	int64_t executed_us; /* the VMM's execve */
	int64_t api_lost_us; /* when its connection broke during the start, or 0 */
	int64_t running_us;  /* when the guest ran */
	struct ready ready;  /* what the answer to CREATE waits for */
	struct shim_connect connects[SHIM_CONNECTS];
	unsigned connect_count;
	struct shim_announce announce;

	/* the request to CH in hand; one at a time */
	enum msg_type op;
	uint32_t op_id;
	int64_t op_started_us;
	struct shim_untold untold;

	struct shim_snapshot snapshot;

	/* what the BALLOON or RESIZE in hand asks for; see devices.c */
	struct {
		uint32_t balloon_mib, vcpus, plugged_mib;
	} asked;

	/* waiting console readers */
	struct {
		uint32_t id;
		uint64_t offset;
	} waiters[SHIM_WAITERS];
	unsigned waiter_count;

	/* console input on its way to the guest */
	char *input;
	size_t input_used;

	/* what the VMM says */
	struct shim_budget budget[SHIM_SOURCE_COUNT];
	struct shim_stderr errors;
	uint32_t reboots;
	int64_t *reboot_times; /* ring of policy->reboots + 1 */
	uint32_t events_dropped;

	/* the end */
	enum shim_ending ending;
	unsigned ending_stage;
	int64_t ending_next_us; /* when the next stage is due, or INT64_MAX */
	int64_t grace_end_us;
	bool we_killed;
	struct err fail;   /* why the start failed */
	bool start_failed; /* and what it made is to go */
	int wake_fd;	   /* the used set that it is woken from, until the guest runs */
	int64_t told_us;   /* when progress of the start was last told */
	bool ended;
	struct msg_exit exit;

	int epoll_fd;
};

#endif
