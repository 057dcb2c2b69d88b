// SPDX-License-Identifier: Apache-2.0
/* CHECK: what lies on the host that should not be there, or not be so. */
#ifndef SHIM_SPAWNER_CHECK_H
#define SHIM_SPAWNER_CHECK_H

#include "leash.h"

struct spawner_net;

/*
 * Sends a FINDING for each thing that differs. With repair it mends what is provably this
 * instance's and nobody's any more; what could be somebody's is told and left. -1: the list could
 * not be sent, or not be made.
 */
int spawner_check(struct leash_table *t, struct spawner_net *net, bool repair, struct err *e);

#endif
