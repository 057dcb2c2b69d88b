// SPDX-License-Identifier: Apache-2.0
/*
 * Who names an image: the sandboxes and templates that a running cloisterd knows of, and the sets
 * on disk, which are there without one too. What cannot be found out is an error, never "nobody".
 */
#ifndef CLI_IMAGE_USES_H
#define CLI_IMAGE_USES_H

#include "cli_image_check.h"
#include "cli_options.h"
#include "config.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

struct cli_image_uses {
	cJSON *sandboxes, *templates; /* objects as the control API gives them */
	int state_lock; /* where no cloisterd runs: keeps one from starting; a start waits 5 s */
};

#define CLI_IMAGE_USES_INIT                                                                        \
	{                                                                                          \
		.state_lock = -1                                                                   \
	}

/*
 * Finds everybody who could name an image; state_fd is STATE_DIR. CLI_EXIT_OK, or the exit code
 * after a complaint on standard error. cli_image_uses_clear() in either case.
 */
int cli_image_uses_read(struct cli_image_uses *u, const struct cli_options *o,
			const struct config *config, int state_fd);

void cli_image_uses_clear(struct cli_image_uses *u);

/*
 * {"sandboxes":["TENANT:ID"...],"templates":["TENANT:NAME"...]} of those who name that image; with
 * only_shared those who have it as a read-only disk, and so need it as it is. NULL: no memory.
 * cJSON_Delete() it.
 */
cJSON *cli_image_uses_find(const struct cli_image_uses *u, enum cli_image_kind kind,
			   const char *name, bool only_shared);

#endif
