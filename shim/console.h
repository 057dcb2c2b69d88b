// SPDX-License-Identifier: Apache-2.0
/* The last bytes that the guest's serial console printed, with their place since its first byte. */
#ifndef SHIM_CONSOLE_H
#define SHIM_CONSOLE_H

#include "msg.h"

#include <stddef.h>
#include <stdint.h>

struct console {
	char *ring;
	size_t size;
	uint64_t end; /* bytes ever printed */
};

/* Takes size bytes of address space; memory is used only as the guest prints. -1: none left. */
int console_open(struct console *c, size_t size, struct err *e);
void console_close(struct console *c);

void console_append(struct console *c, const char *data, size_t len);

/*
 * Fills out with what is kept from offset on (or, with tail set, the last offset bytes), at most
 * MSG_DATA_MAX of it. What is kept no longer is passed over. eof is left 0.
 */
void console_read(const struct console *c, uint64_t offset, bool tail,
		  struct msg_console_data *out);

#endif
