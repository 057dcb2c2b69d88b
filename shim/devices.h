// SPDX-License-Identifier: Apache-2.0
/*
 * What can be changed and read of a running guest's devices: BALLOON, RESIZE, COUNTERS. Changes
 * that CH took go into the shim's spec, from which the configuration of a set is made.
 */
#ifndef SHIM_DEVICES_H
#define SHIM_DEVICES_H

#include "shim.h"

/*
 * Begin; errors are answered, as is the end. The caller has seen to it that no request is in hand.
 * Refused with ERR_STATE: a balloon that is not there, or in a guest whose memory is a private
 * mapping of its template's (nothing would be given back). With ERR_INVALID: beyond the maxima.
 */
void devices_balloon(struct shim *s, uint32_t id, const struct msg_balloon *ask);
void devices_resize(struct shim *s, uint32_t id, const struct msg_resize *ask);
void devices_counters(struct shim *s, uint32_t id);

/* ERR_STATE when no set can be made of what the guest has become: see MSG_CREATE_HOTPLUG. */
int devices_check_set(const struct shim *s, struct err *e);

#endif
