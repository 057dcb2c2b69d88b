// SPDX-License-Identifier: Apache-2.0
/*
 * vm.counters' answer: {"DEVICE":{"COUNTER":NUMBER,...},...}, with whole numbers of up to 64 bits,
 * which a parser that keeps numbers as doubles would round.
 */
#ifndef SHIM_COUNTERS_H
#define SHIM_COUNTERS_H

#include "err.h"
#include "msg.h"

/*
 * Reads text[length] (no end needed) into out->count and out->counters; the rest of *out is left
 * as it is. ERR_VMM for anything else than such an object: other values, names that are empty, too
 * long or not plain printable ASCII, numbers beyond 64 bits, more than MSG_COUNTERS_MAX counters.
 */
int counters_parse(const char *text, size_t length, struct msg_counters_data *out, struct err *e);

#endif
