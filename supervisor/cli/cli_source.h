// SPDX-License-Identifier: Apache-2.0
/*
 * What root imports may lie where others can write: in a tenant's own directory, say, that may be
 * changed while we walk through it. So the way to it counts as much as the file.
 */
#ifndef SUPERVISOR_CLI_SOURCE_H
#define SUPERVISOR_CLI_SOURCE_H

#include "err.h"

/*
 * Opens path for reading, one component after another. Symbolic links of root are followed, those
 * of anybody else are refused with ERR_INVALID: who can put one there would choose what root reads.
 * A file must hold to cli_source_check(). flags: further ones, such as O_DIRECTORY; O_NONBLOCK and
 * O_CLOEXEC are added. Returns a descriptor that the caller closes, or -1.
 */
int cli_source_open(const char *path, int flags, struct err *e);

/*
 * Where others than root may write to the directory, a file in it with more than one link must be
 * of the directory's owner: anybody may have made the link of a file that only we can read
 * (link(2), fs.protected_hardlinks = 0). dir_fd and fd may be O_PATH. what names the file for the
 * message.
 */
int cli_source_check(int dir_fd, int fd, const char *what, struct err *e);

#endif
