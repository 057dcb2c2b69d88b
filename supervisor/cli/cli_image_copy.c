// SPDX-License-Identifier: Apache-2.0
#include "cli_image_copy.h"

#include "diskmake.h"

#include <errno.h>
#include <sha256.h>
#include <stdio.h>
#include <unistd.h>

#define STEP_BYTES (8u << 20) /* between two looks at the watch */
#define PIECE	   (64u * 1024)

int cli_image_copy(int from, int to, uint64_t bytes, enum msg_disk_made *made,
		   const struct cli_image_watch *watch, struct err *e)
{
	struct diskmake m;
	int more = diskmake_start(&m, from, to, bytes, bytes, e);
	*made = m.made;
	while (more == 1) {
		if (watch->step(watch->arg, m.at, e) < 0)
			return -1;
		more = diskmake_step(&m, e);
	}
	return more;
}

int cli_image_digest(int fd, uint64_t bytes, char hex[CLI_IMAGE_HEX_SIZE],
		     const struct cli_image_watch *watch, struct err *e)
{
	static uint8_t piece[PIECE];
	uint8_t digest[MSG_DIGEST_SIZE];
	SHA256_CTX context;
	uint64_t at = 0, told = 0;
	SHA256Init(&context);
	while (at < bytes) {
		size_t want = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
		ssize_t n = pread(fd, piece, want, (off_t)at);
		if (n < 0 && errno != EINTR)
			return err_errno(e, errno, "read it");
		if (n == 0)
			return err_set(e, ERR_INVALID, 0, "it ended at byte %llu of %llu",
				       (unsigned long long)at, (unsigned long long)bytes);
		if (n > 0) {
			SHA256Update(&context, piece, (size_t)n);
			at += (uint64_t)n;
		}
		if (at - told < STEP_BYTES && n > 0)
			continue;
		told = at;
		if (watch->step(watch->arg, at, e) < 0)
			return -1;
	}
	SHA256Final(digest, &context);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}
