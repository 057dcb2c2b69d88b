// SPDX-License-Identifier: Apache-2.0
/* `cloisterd --check`: what of the host would keep it from working. Changes nothing. */
#ifndef SUPERVISOR_CHECK_H
#define SUPERVISOR_CHECK_H

#include "config.h"

/* Prints one line per point on standard output; the exit status: 0, or 1 with any error. */
int check_host(struct config *c);

#endif
