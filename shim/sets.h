// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshot sets on disk: a directory with config.json, state.json, ram or memory-ranges, a
 * template's disk0 and so on, and meta (struct msg_set, sizes and times of modification of memory
 * and disks, and a digest of all that).
 * STATE_DIR/templates/TENANT:NAME is one; STATE_DIR/sandboxes/TENANT:ID/set is that of a hibernated
 * sandbox. A set is made in a staging directory beside its place and renamed when all of it is
 * synced, so that a reader finds a whole set or none.
 */
#ifndef SHIM_SETS_H
#define SHIM_SETS_H

#include "err.h"
#include "msg.h"

#include <stdint.h>

#define SETS_CONFIG "config.json"
#define SETS_STATE  "state.json"
#define SETS_RAM    "ram"
#define SETS_RANGES "memory-ranges"
#define SETS_META   "meta"

/* No name or key begins with a dot, so a staging directory is nobody's set. */
#define SETS_STAGING_PREFIX ".new-"
#define SETS_REMOVED_PREFIX ".old-" /* of a template that is being removed */

/* In a set of a hibernated sandbox: it was woken from it. */
#define SETS_USED "used"

/* In a sandbox's directory: its set while it hibernates, where CH writes memory itself, its disks.
 */
#define SETS_OF_SANDBOX "set"
#define SETS_SCRATCH	"scratch"
#define SETS_DISKS	"disks"

/* A disk's file in a template: "disk" and its number. */
#define SETS_DISK_NAME_SIZE 16
void sets_disk_name(unsigned number, char out[SETS_DISK_NAME_SIZE]);

/* A disk as it was when the set was made: the set's own file, the sandbox's, or the image. */
struct sets_disk {
	int64_t time_ns; /* of its last modification; 0: a block device, of which nothing is known
			  */
	uint64_t bytes;
};

/* Fills *out from a descriptor of the disk's file. */
int sets_disk_of(int fd, struct sets_disk *out, struct err *e);

/* CH's state.json is 30 to 60 KB; more than this is no such file. */
#define SETS_STATE_MAX	(4u << 20)
#define SETS_CONFIG_MAX 16384

/* Where a set is being made. */
struct sets_staging {
	int parent_fd; /* the directory that holds staging and final place; the caller's */
	int fd;	       /* the staging directory, or -1 */
	char temporary[NAME_KEY_SIZE + 8];
	char final[NAME_KEY_SIZE];
	bool replace; /* an older set at the final place gives way */
};

#define SETS_STAGING_INIT                                                                          \
	{                                                                                          \
		.parent_fd = -1, .fd = -1                                                          \
	}

/* For a template of that key below templates_fd. ERR_STATE when there is one already. */
int sets_begin_template(struct sets_staging *s, int templates_fd, const char *key, struct err *e);

/* For the set of a hibernating sandbox, in its own directory; an older one is replaced. */
int sets_begin_sandbox(struct sets_staging *s, int sandbox_fd, struct err *e);

/* A new file of the set, 0444, for writing; the caller closes it. */
int sets_new_file(const struct sets_staging *s, const char *name, struct err *e);

/* Writes a whole small file; digest may be NULL. */
int sets_write(const struct sets_staging *s, const char *name, const void *data, size_t size,
	       uint8_t digest[MSG_DIGEST_SIZE], struct err *e);

/*
 * Completes set->apparent_bytes and allocated_bytes, writes meta, syncs every file and the
 * directory, renames, syncs the parent. disk_fds[i] is the file of set->spec.disks[i] as it must be
 * found again, which is synced too: the set's own, the sandbox's or the image (-1: a block device).
 * After a failure sets_abandon() is due.
 */
int sets_commit(struct sets_staging *s, struct msg_set *set, const int disk_fds[MSG_DISKS_MAX],
		struct err *e);

/* Writes only a meta into a directory that is no set: what a sandbox's disks are. Not synced. */
int sets_describe(int dir_fd, struct msg_set *set, struct err *e);

/*
 * Whether name below parent_fd is a staging directory whose writer lives no more, or what is left
 * of a template that was removed.
 */
bool sets_is_abandoned(int parent_fd, const char *name);

/* Removes what is staged, if anything. */
void sets_abandon(struct sets_staging *s);

/*
 * Opens the set in directory name below parent_fd (what names it for messages) and checks it: files
 * regular, root's, one link, not writable, not mounted there; meta as digested, of this format,
 * with that key; both JSON files as digested; memory as large as the guest's and not modified
 * since, disk files of the set likewise. Damage is ERR_INTERNAL and names the file. Returns a
 * descriptor for the directory.
 */
int sets_open(int parent_fd, const char *name, const char *key, const char *what,
	      struct msg_set *set, struct sets_disk disks[MSG_DISKS_MAX], struct err *e);

/* Opens a file of the set: regular, root's, one link, not writable, not mounted there. */
int sets_open_file(int dir_fd, const char *name, const char *what, uint64_t *bytes, struct err *e);

/*
 * Whether the memory in a hibernated sandbox's set no longer fits its writable disk: the guest has
 * run on since. sets_mark_used() says so from now on, synced.
 */
bool sets_is_used(int dir_fd);
int sets_mark_used(int dir_fd, struct err *e);

/* Takes the memory out of a set that was used: its room is needed, its meta stays. */
int sets_drop_memory(int dir_fd, struct err *e);

/* Whether the guest has a writable disk that is a file of ours, or any writable one. */
bool sets_has_own_disk(const struct msg_create *spec);
bool sets_has_writable_disk(const struct msg_create *spec);

/* Only meta, checked in itself: for lists. */
int sets_read_meta(int parent_fd, const char *name, struct msg_set *set, struct err *e);

/* Removes the directory name below parent_fd with the files in it; none there is fine. */
int sets_remove(int parent_fd, const char *name, struct err *e);

/* A template, and what a shim that lives no more has staged of it. */
int sets_remove_template(int templates_fd, const char *key, struct err *e);

/* Removes everything in a directory, whatever a VMM has put there. */
int sets_empty(int dir_fd, struct err *e);

/*
 * Removes what a sandbox that has ended leaves in its directory, and that if it holds no set and no
 * disks. Its disks are root's again.
 */
int sets_clear_sandbox(int sandboxes_fd, const char *key, struct err *e);

#endif
