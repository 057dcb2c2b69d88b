// SPDX-License-Identifier: Apache-2.0
/* The last bytes that the guest's serial console printed, with their place since its first byte. */
#ifndef SHIM_CONSOLE_H
#define SHIM_CONSOLE_H

#include "msg.h"

#include <stddef.h>
#include <stdint.h>

/* A text that is looked for in all that is printed: Knuth, Morris and Pratt's automaton. */
struct console_search {
	char text[MSG_WAIT_TEXT_MAX];
	uint8_t back[MSG_WAIT_TEXT_MAX]; /* where to go on after a byte that does not fit */
	size_t len, matched;
	bool found;
};

struct console {
	char *ring;
	size_t size;
	uint64_t end; /* bytes ever printed */
	struct console_search search;
};

/* Takes size bytes of address space; memory is used only as the guest prints. -1: none left. */
int console_open(struct console *c, size_t size, struct err *e);
void console_close(struct console *c);

void console_append(struct console *c, const char *data, size_t len);

/*
 * Looks for text (not empty, at most MSG_WAIT_TEXT_MAX - 1 bytes of it) in what is appended from
 * now on, whatever pieces it comes in and whether it is kept or not. Costs at most two steps a
 * byte.
 */
void console_look_for(struct console *c, const char *text);
bool console_has_seen(const struct console *c);

/*
 * Fills out with what is kept from offset on (or, with tail set, the last offset bytes), at most
 * MSG_DATA_MAX of it. What is kept no longer is passed over. eof is left 0.
 */
void console_read(const struct console *c, uint64_t offset, bool tail,
		  struct msg_console_data *out);

#endif
