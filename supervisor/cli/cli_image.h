// SPDX-License-Identifier: Apache-2.0
/*
 * cloister image: the files from which guests are made. It works on STATE_DIR itself, as root, with
 * or without a cloisterd that runs.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli_image_store.h"
#include "cli_image_uses.h"
#include "cli_options.h"
#include "config.h"

#include <cjson/cJSON.h>

/* image ls [KIND] | inspect KIND NAME | import KIND NAME FILE | rm KIND NAME. Gives an exit code.
 */
int cli_image_manage(const struct cli_options *o);

/* What the commands work on. */
struct cli_image_place {
	const struct cli_options *o;
	const struct config *config;
	int state_fd;
	enum cli_image_kind kind; /* not of ls */
	const char *name;
};

/* image import (cli_image_import.c): o->args[3] becomes the image; an exit code. */
int cli_image_import(const struct cli_image_place *p);

/* "cloister: WHAT KIND NAME: " and the error on standard error; CLI_EXIT_FAILED or _NOT_FOUND. */
int cli_image_failed(const struct cli_image_place *p, const char *what, const struct err *e);

/*
 * Complains and gives CLI_EXIT_FAILED when somebody names the image (only_shared: needs it as it
 * is); CLI_EXIT_OK when nobody does, or the exit code when that cannot be found out. *u must live
 * as long as the answer is to hold.
 */
int cli_image_is_free(const struct cli_image_place *p, bool only_shared, struct cli_image_uses *u);

/* An image as JSON; uses NULL: not known. NULL without memory. cJSON_Delete() it. */
cJSON *cli_image_view(enum cli_image_kind kind, const struct cli_image_info *info,
		      const struct cli_image_uses *uses);

#endif
