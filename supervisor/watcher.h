// SPDX-License-Identifier: Apache-2.0
/*
 * The crash watcher: what shims say unasked (EXIT, EVENT, LOG), and the end of their links. An
 * EXIT becomes an event at once; then the console's last bytes are read out, and the shim may go.
 */
#ifndef SUPERVISOR_WATCHER_H
#define SUPERVISOR_WATCHER_H

#include "sandbox.h"

/* The handlers of a shim's link; their argument is the struct sandbox. */
extern const struct link_user watcher_link;

#endif
