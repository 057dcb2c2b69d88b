// SPDX-License-Identifier: Apache-2.0
/*
 * The end of cloisterd by a signal. SIGTERM and SIGINT let what is in flight come to its end, for
 * as long as [limits] stop_ms allows, and leave the VMs running; a second one does not wait.
 * SIGHUP changes nothing, and says so.
 */
#ifndef SUPERVISOR_STOP_H
#define SUPERVISOR_STOP_H

#include "err.h"

struct daemon;
struct stop;

/* Takes the signals over, on the loop of d. NULL: no memory. */
struct stop *stop_open(struct daemon *d, struct err *e);
void stop_close(struct stop *s);

/*
 * The loop has ended: whoever still waits for an answer is told that the operation goes on without
 * cloisterd, as far as its client takes that at once.
 */
void stop_answer(struct daemon *d);

#endif
