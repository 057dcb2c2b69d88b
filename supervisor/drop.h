// SPDX-License-Identifier: Apache-2.0
/* The drop from root to the configured user, for good, and its proof. */
#ifndef SUPERVISOR_DROP_H
#define SUPERVISOR_DROP_H

#include "policy.h"

/*
 * Gives up root and every capability, then proves that there is no way back; the process must end
 * when this fails, as it may be half way.
 */
int drop_root(const struct policy *p, struct err *e);

#endif
