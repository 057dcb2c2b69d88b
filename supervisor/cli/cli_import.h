// SPDX-License-Identifier: Apache-2.0
/* `cloister templates import`: a set of a plain Cloud Hypervisor becomes a template. As root. */
#ifndef CLI_IMPORT_H
#define CLI_IMPORT_H

#include "cli_options.h"
#include "err.h"
#include "msg.h"

#include <stddef.h>

/*
 * templates import NAME DIR: works on STATE_DIR itself, with or without a daemon; one that runs is
 * told. Gives an exit code.
 */
int cli_import(const struct cli_options *o);

/*
 * Reads a plain CH's config.json (text, ended by NUL) for a guest that a jail can hold: fills
 * *spec, and gives the configuration to restore it with there (to be freed), which differs only in
 * paths and in where console and serial go. NULL with ERR_INVALID naming what cannot be had.
 */
char *cli_import_config(const char *text, struct msg_create *spec, struct err *e);

#endif
