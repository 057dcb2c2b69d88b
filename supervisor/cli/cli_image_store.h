// SPDX-License-Identifier: Apache-2.0
/*
 * Images on disk: STATE_DIR/images/FOLDER/NAME, root's, 0444, and beside one that was imported
 * ".NAME.json": {"sha256","bytes","imported_at","source"}. An image's time of modification is its
 * imported_at, by which it shows that the two belong together and nobody changed the image since.
 *
 * A colon is in no name, so none of the passing files below can be another image's lasting one:
 * ".new:NAME" is an import that is under way while somebody holds its lock (flock(2)), and left
 * over otherwise; ".json:NAME" lives only while the folder is locked.
 */
#ifndef CLI_IMAGE_STORE_H
#define CLI_IMAGE_STORE_H

#include "cli_image_check.h"
#include "cli_image_copy.h"
#include "err.h"
#include "name.h"
#include "util.h"

#include <stdbool.h>
#include <stdint.h>

/* "kernel" and "kernels"; never NULL. */
const char *cli_image_store_kind(enum cli_image_kind kind);
const char *cli_image_store_folder(enum cli_image_kind kind);

/*
 * Opens a kind's folder below STATE_DIR; every directory from state_fd on must be root's and
 * writable by nobody else. make: what is missing below STATE_DIR is made; else it is ERR_NOT_FOUND.
 * Returns a descriptor that the caller closes, or -1.
 */
int cli_image_store_open(int state_fd, enum cli_image_kind kind, bool make, struct err *e);

/*
 * Locks the folder against other beginnings, commits and removals until dir is closed or
 * cli_image_store_unlock(). ERR_DEADLINE when others hold it for 10 seconds.
 */
int cli_image_store_lock(int dir, struct err *e);
void cli_image_store_unlock(int dir);

struct cli_image_info {
	char name[NAME_SIZE];
	uint64_t bytes, allocated_bytes;
	/* Of the sidecar; empty where the image was put there or changed by hand. */
	char sha256[CLI_IMAGE_HEX_SIZE];
	char imported_at[CLOCK_TEXT_MAX];
	char source[NAME_SIZE * 4];
	char fault[ERR_TEXT_MAX]; /* why no sandbox can use it; empty: one can */
};

/* What is known of one image; ERR_NOT_FOUND when there is none of that name. */
int cli_image_store_read(int dir, enum cli_image_kind kind, const char *name,
			 struct cli_image_info *info, struct err *e);

/* Where an image is being made. */
struct cli_image_staging {
	int dir; /* the folder; the caller's */
	int fd;	 /* the new file, empty and 0600 at first; -1: none */
	bool replace;
	char name[NAME_SIZE];
	char temporary[NAME_SIZE + 8], sidecar[NAME_SIZE + 8], sidecar_temporary[NAME_SIZE + 8];
};

/*
 * Removes what an import that was killed has left, and makes the new file. ERR_STATE when there is
 * an image of that name and replace is false, or another import of that name is under way. The
 * folder must be locked.
 */
int cli_image_store_begin(struct cli_image_staging *s, int dir, const char *name, bool replace,
			  struct err *e);

/* Gives the new file, when it is complete, its owner, mode and time, and syncs it. */
int cli_image_store_settle(const struct cli_image_staging *s, int64_t imported_real_us,
			   struct err *e);

/*
 * Puts the new file and a sidecar of info's fields in their place, the sidecar first, each synced.
 * The folder must be locked. After a failure all is as it was, but for the new file:
 * cli_image_store_abandon() is due.
 */
int cli_image_store_commit(struct cli_image_staging *s, const struct cli_image_info *info,
			   struct err *e);

/* Removes what is staged, if anything. */
void cli_image_store_abandon(struct cli_image_staging *s);

/* Removes an image with its sidecar and syncs the folder, which must be locked. */
int cli_image_store_remove(int dir, const char *name, struct err *e);

#endif
