// SPDX-License-Identifier: Apache-2.0
/* Console bytes: of a guest, so hostile to a terminal (escape sequences can do much there). */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include "cli_options.h"

#include <stddef.h>

/* How console bytes are to be written. */
enum cli_console_mode {
	CLI_CONSOLE_RAW,   /* as they are */
	CLI_CONSOLE_CLEAN, /* control characters other than \n \r \t become '?' */
	CLI_CONSOLE_JSON,  /* lines of {"data":"..."}, each byte one character U+0000..U+00FF */
};

struct cli_console {
	enum cli_console_mode mode;
	bool utf8;		/* the terminal takes UTF-8 */
	unsigned char part[4];	/* a character that is not yet complete */
	unsigned have, missing; /* bytes of it */
};

/* Chooses the mode from --json, --raw and what standard output is. */
void cli_console_init(struct cli_console *c, const struct cli_options *o);

#define CLI_CONSOLE_PIECE    2048			  /* bytes to give at once */
#define CLI_CONSOLE_OUT_SIZE (CLI_CONSOLE_PIECE * 6 + 32) /* what they may become */

/* Turns at most CLI_CONSOLE_PIECE bytes into what is to be written; returns its length. */
size_t cli_console_convert(struct cli_console *c, const char *in, size_t len,
			   char out[CLI_CONSOLE_OUT_SIZE]);

/* Converts and writes to standard output; false when that failed. */
bool cli_console_write(struct cli_console *c, const char *in, size_t len);

#endif
