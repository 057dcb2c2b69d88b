// SPDX-License-Identifier: Apache-2.0
/* What the shim knows of itself and its VMM, told without asking the VMM and without stopping. */
#ifndef SHIM_DEBUG_H
#define SHIM_DEBUG_H

#include "shim.h"

/* Called once in each turn of the loop: notes since when the present phase lasts. */
void debug_note_phase(struct shim *s, int64_t now_us);

/* Answers DEBUG number id with DEBUG_DATA. Closes the link where that cannot be sent. */
void debug_answer(struct shim *s, uint32_t id);

/* Fills *out, all of it. Reads /proc/self, /proc/PID and the cgroup's files, nothing of the VMM. */
void debug_fill(struct shim *s, struct msg_debug_data *out);

#endif
