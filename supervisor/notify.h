// SPDX-License-Identifier: Apache-2.0
/* Tells the service manager how the start goes (the protocol of sd_notify(3)). */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

/* Sends state ("READY=1") to NOTIFY_SOCKET; without one, or when it fails, nothing happens. */
void notify_send(const char *state);

#endif
