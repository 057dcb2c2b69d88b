// SPDX-License-Identifier: Apache-2.0
/* What a supervisor may ask of a serving shim: one table {type, phases it is allowed in, handler}.
 */
#ifndef SHIM_OPS_H
#define SHIM_OPS_H

#include "shim.h"

/* Carries out, or refuses, every record that waits on the link. */
void ops_receive(struct shim *s);

/* Answers the readers that wait for console output that is there now, or for the end. */
void ops_console_grew(struct shim *s);

/* Writes queued console input to the guest's terminal as far as it takes it. */
void ops_flush_input(struct shim *s);

/* Forgets what is queued: the VMM has closed its end of the terminal. */
void ops_drop_input(struct shim *s);

#endif
