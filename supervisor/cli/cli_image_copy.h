// SPDX-License-Identifier: Apache-2.0
/* Copies and digests image files, telling how far it is and stopping where it is asked to. */
#ifndef CLI_IMAGE_COPY_H
#define CLI_IMAGE_COPY_H

#include "err.h"
#include "msg.h"

#include <stdint.h>

#define CLI_IMAGE_HEX_SIZE (2 * MSG_DIGEST_SIZE + 1)

/* Asked after every piece of work; -1 (with *e) ends it. */
struct cli_image_watch {
	int (*step)(void *arg, uint64_t done, struct err *e);
	void *arg;
};

/*
 * Makes `to`, which is empty, hold the first bytes of `from`, as disks are made (diskmake.h): a
 * clone that shares its blocks where the file system can, else a copy of the data that keeps the
 * holes. *made says which it was.
 */
int cli_image_copy(int from, int to, uint64_t bytes, enum msg_disk_made *made,
		   const struct cli_image_watch *watch, struct err *e);

/* The SHA-256 of the first bytes of fd, in hexadecimal. */
int cli_image_digest(int fd, uint64_t bytes, char hex[CLI_IMAGE_HEX_SIZE],
		     const struct cli_image_watch *watch, struct err *e);

#endif
