// SPDX-License-Identifier: Apache-2.0
/*
 * Tells a restored guest that it is one: who it is now, what time it is, and bytes to stir into its
 * random pool, so that the clones of a template do not go on as each other's twins. One line of
 * JSON to a vsock port on which an agent in the guest may listen; cloister-guest(7) has the format.
 * Nobody waits for it, and without an agent nothing comes of it.
 */
#ifndef SHIM_ANNOUNCE_H
#define SHIM_ANNOUNCE_H

#include "shim.h"

#define ANNOUNCE_PORT 10991
#define ANNOUNCE_US   2000000 /* how long it is tried */

/* After the resume of a guest that has vsock. */
void announce_start(struct shim *s);

/* Goes on with it; gives when to come again at the latest, or INT64_MAX. */
int64_t announce_step(struct shim *s, int64_t now_us);

void announce_close(struct shim *s);

/* The line, with its end; its length. id: the sandbox's, without its tenant. */
size_t announce_text(char out[SHIM_ANNOUNCE_MAX], const char *id, int64_t real_us,
		     const uint8_t generation[16], const uint8_t entropy[64]);

#endif
