// SPDX-License-Identifier: Apache-2.0
/*
 * The spawner's table of shims: who lives, who is being cleared up, what of them is left. A shim is
 * known by its pidfd; its uid by a lock that it and we hold open.
 */
#ifndef SHIM_LEASH_H
#define SHIM_LEASH_H

#include "chan.h"
#include "policy.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum leash_watch_kind { LEASH_PIDFD, LEASH_CGROUP };

struct leash;

/* What epoll hands back for a shim's descriptors. */
struct leash_watch {
	enum leash_watch_kind kind;
	struct leash *leash;
};

#define LEASH_END_MAX 4

struct leash {
	struct leash *next;
	char key[NAME_KEY_SIZE];
	uid_t uid;	     /* of its VMM; 0 where it is not known (an adopted one) */
	pid_t pid;	     /* 0: nobody, only things to clear up */
	bool child;	     /* ours to reap; an adopted one is not */
	int pidfd;	     /* -1 once it has ended */
	int uid_lock;	     /* -1 for an adopted one, which holds its own */
	int events_fd;	     /* its cgroup.events, while waiting for it to empty */
	int64_t clear_by_us; /* 0: alive */
	int code, signal;
	uint32_t end_ids[LEASH_END_MAX]; /* END requests to answer */
	unsigned end_count;
	struct leash_watch pidfd_watch, cgroup_watch;
};

/* What the table works on; filled by the spawner before its first call. */
struct leash_table {
	const struct policy *policy;
	struct chan *link;
	int epoll_fd;
	int shims_fd;			/* RUN_DIR/shims */
	int fresh_fd;			/* RUN_DIR/new */
	int cgroup_fd;			/* the instance's cgroup, or -1 */
	int templates_fd, sandboxes_fd; /* STATE_DIR's */
	struct leash *first;
	unsigned count;
	bool unheard; /* the supervisor does not take what it must know: its link is no use */
};

struct leash *leash_find(const struct leash_table *t, const char *key);
/* The uid of a process by its number in text, zombies included; 0 when it is gone. */
uid_t leash_uid_of(const char *pid);

struct leash *leash_find_pid(const struct leash_table *t, pid_t pid);

/* Adds a shim and watches it. Takes over pidfd and uid_lock also when it fails. */
struct leash *leash_add(struct leash_table *t, const char *key, pid_t pid, bool child, int pidfd,
			int uid_lock, struct err *e);

/* The shim has ended: clears up after it, in the loop if its cgroup is not empty yet. */
void leash_ended(struct leash_table *t, struct leash *l, int code, int signal);

/* END of a shim that lives or is being cleared up; id is answered when nothing of it is left. */
void leash_end(struct leash_table *t, struct leash *l, uint32_t id);

/* Tries again whatever could not be cleared up; gives the milliseconds until the next try, or -1.
 */
int leash_retry(struct leash_table *t);

/* Removes a socket or cgroup that no shim of ours has. -1: it is in use, or an error. */
int leash_remove_stale(struct leash_table *t, enum msg_remove_kind kind, const char *key,
		       struct err *e);

#endif
