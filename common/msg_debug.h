// SPDX-License-Identifier: Apache-2.0
/*
 * What a shim tells of itself and its VMM when it is asked with DEBUG: kept by the shim, read from
 * its own memory and from /proc and cgroup files, never asked of the VMM. Part of msg.h, whose
 * rules hold here too; msg_debug.c checks every field. Times that are ages are in microseconds.
 */
#ifndef COMMON_MSG_DEBUG_H
#define COMMON_MSG_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

/* ------------------------------------------------------------------ the VMM's confinement */

/* After what it was read back. */
enum msg_confine_after {
	MSG_CONFINE_NEVER = 0,
	MSG_CONFINE_START = 1,	/* the guest runs: created, restored or woken */
	MSG_CONFINE_RESUME = 2, /* also the one of a snapshot */
	MSG_CONFINE_RESIZE = 3,
	MSG_CONFINE_DEVICE = 4, /* the guest took a device, which brings threads of its own */
	MSG_CONFINE_AFTER_COUNT
};

/* Limits of /proc/PID/limits, hard ones; UINT64_MAX: none. Bytes, or processes and files. */
enum msg_limit_kind {
	MSG_LIMIT_AS = 0,
	MSG_LIMIT_NPROC = 1,
	MSG_LIMIT_FSIZE = 2,
	MSG_LIMIT_NOFILE = 3,
	MSG_LIMIT_MEMLOCK = 4,
	MSG_LIMIT_CORE = 5,
	MSG_LIMIT_COUNT
};

struct msg_limit {
	uint64_t asked, soft, hard;
};

/* Identities as the host's /proc/PID/ns links spell them: the number within the brackets. */
enum msg_ns_kind { MSG_NS_PID, MSG_NS_MNT, MSG_NS_NET, MSG_NS_IPC, MSG_NS_UTS, MSG_NS_COUNT };

#define MSG_THREAD_NAME_MAX 16
#define MSG_CAP_SETS	    5 /* inheritable, permitted, effective, bounding, ambient */

/* One thread as its /proc/PID/task/TID/status had it. */
struct msg_thread {
	uint32_t tid;	 /* as the host sees it */
	uint32_t uid[4]; /* real, effective, saved, file system */
	uint32_t gid[4];
	uint32_t groups;       /* supplementary ones, how many */
	uint32_t no_new_privs; /* 0 or 1 */
	uint32_t seccomp;      /* mode: 0 none, 1 strict, 2 filters */
	uint32_t filters;
	uint32_t zero;
	uint64_t caps[MSG_CAP_SETS];
	char name[MSG_THREAD_NAME_MAX]; /* the VMM's own word: cleaned */
};

/*
 * More than this a VMM cannot have: RLIMIT_NPROC of its uid, MSG_VCPUS_MAX and 64. A read-back that
 * finds more fails.
 */
#define MSG_THREADS_MAX	     320
#define MSG_CONFINE_TEXT_MAX 384

struct msg_confine {
	uint32_t checks; /* how often it was read back */
	uint32_t after;	 /* enum msg_confine_after, of the last time */
	int64_t at_real_us;
	uint32_t took_us;
	uint32_t good; /* 1: confined as asked; 0: not; 2: it had ended, nothing wrong was seen */
	uint32_t thread_count;
	uint32_t ended_threads; /* came to their end while they were read, and are left out */
	uint32_t cgroup;	/* 1: in the leaf that it was started in; 0: it has none */
	uint32_t vmm_fds;	/* open descriptors of the VMM; 0: this kernel does not tell */
	struct msg_limit limits[MSG_LIMIT_COUNT];
	/* Read once, right after its execve: later it takes a right that the shim has not. */
	uint64_t ns_host[MSG_NS_COUNT], ns_shim[MSG_NS_COUNT], ns_vmm[MSG_NS_COUNT];
	uint64_t root_dev, root_ino;	   /* of its root directory, which is the jail's */
	char detail[MSG_CONFINE_TEXT_MAX]; /* what is wrong; empty when good */
};

/* ------------------------------------------------------------------ exchanges with the VMM's API
 */

enum msg_exchange_outcome {
	MSG_EXCHANGE_OPEN = 0,	   /* no answer yet; took_us is its age */
	MSG_EXCHANGE_ANSWERED = 1, /* in time */
	MSG_EXCHANGE_OVERDUE = 2,  /* no answer by its deadline, and none yet */
	MSG_EXCHANGE_LATE = 3,	   /* answered after its deadline */
	MSG_EXCHANGE_LOST = 4,	   /* the connection ended first */
	MSG_EXCHANGE_OUTCOME_COUNT
};

#define MSG_EXCHANGE_REQUEST_MAX 32
#define MSG_EXCHANGE_ERROR_MAX	 64

struct msg_exchange {
	int64_t at_real_us; /* sent, or queued behind others: CH answers one after another */
	uint32_t took_us;
	uint16_t status;			/* 0: none */
	uint16_t outcome;			/* enum msg_exchange_outcome */
	char request[MSG_EXCHANGE_REQUEST_MAX]; /* "PUT /api/v1/vm.boot" */
	char error[MSG_EXCHANGE_ERROR_MAX];	/* the beginning of CH's words, cleaned */
};

/* ------------------------------------------------------------------ the rest */

#define MSG_EXCHANGES_MAX    128
#define MSG_OPEN_MAX	     8
#define MSG_DEBUG_FDS_MAX    96
#define MSG_DEBUG_EVENTS_MAX 16
#define MSG_DEBUG_LINES_MAX  4
#define MSG_DEBUG_LINE_MAX   256
#define MSG_DEBUG_WORD_MAX   24
#define MSG_DEBUG_EVENT_MAX  56

struct msg_debug {
	uint32_t zero;
};

/* A descriptor of the shim's, and what the shim has it for; "?" where it knows of none. */
struct msg_debug_fd {
	uint32_t fd;
	char what[MSG_DEBUG_WORD_MAX];
};

struct msg_debug_event {
	int64_t at_real_us;
	char name[MSG_DEBUG_EVENT_MAX]; /* "vm/booted", the VMM's own words: cleaned */
};

/* Of its cgroup's leaf; UINT64_MAX: no such file, or no number. */
struct msg_cgroup {
	uint64_t memory_current, memory_max; /* bytes */
	uint64_t memory_oom, memory_oom_kill;
	uint64_t pids_current, pids_max;
	uint64_t cpu_us, cpu_throttled_us;
};

/* The part that is always whole; the counted ones follow in msg_debug_data. */
struct msg_debug_head {
	int64_t at_real_us;
	uint32_t shim_pid, vmm_pid; /* as the host sees them; vmm_pid 0: not started, or gone */
	uint32_t uid;		    /* the VMM's */
	uint32_t phase;		    /* enum msg_phase */
	uint64_t age_us;	    /* of the shim */
	uint64_t phase_us;	    /* in that phase */
	uint32_t op;		    /* enum msg_type of the request in hand; 0: none */
	uint32_t has_cgroup;
	uint64_t op_us; /* its age */

	uint64_t console_end;
	uint32_t input_waiting; /* bytes of console input that the guest has not read */
	uint32_t console_waiters;

	uint64_t stderr_bytes;
	uint32_t stderr_lines, stderr_errors;
	uint32_t line_count;
	uint32_t event_count;
	uint64_t event_records, event_dropped; /* of the event monitor */
	uint32_t reboots;
	uint32_t logs_dropped;
	char lines[MSG_DEBUG_LINES_MAX]
		  [MSG_DEBUG_LINE_MAX]; /* its last ERROR lines, oldest first */
	struct msg_debug_event events[MSG_DEBUG_EVENTS_MAX]; /* oldest first */

	uint32_t fd_count;
	uint32_t exchange_count; /* in exchanges[], oldest first; those under way come last */
	uint64_t exchange_total; /* that there ever were */
	struct msg_debug_fd fds[MSG_DEBUG_FDS_MAX];

	struct msg_cgroup cgroup;
	struct msg_confine confine;
	uint32_t ended; /* 1: the VMM has ended, and exit says how */
	uint32_t zero;
	struct msg_exit exit;
};

struct msg_debug_data {
	struct msg_debug_head head;
	struct msg_exchange exchanges[MSG_EXCHANGES_MAX + MSG_OPEN_MAX];
	struct msg_thread threads[MSG_THREADS_MAX]; /* head.confine.thread_count */
};

/* The words of the API for enum msg_confine_after and enum msg_exchange_outcome, never NULL. */
const char *msg_debug_after_name(unsigned after);
const char *msg_debug_outcome_name(unsigned outcome);

/* NULL, or the name of the first field that is not as msg.h's rules want it. */
const char *msg_debug_check(const struct msg_debug_data *b);

#endif
