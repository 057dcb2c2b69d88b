// SPDX-License-Identifier: Apache-2.0
/* IPv4 addresses and networks as text: "10.64.0.0/16" (RFC 4632). Numbers are in host order. */
#ifndef SUPERVISOR_CIDR_H
#define SUPERVISOR_CIDR_H

#include "msg.h"

#define CIDR_TEXT_MAX 20 /* "255.255.255.255/32" and the end */

enum cidr_result {
	CIDR_GOOD,
	CIDR_BAD,	/* no such network */
	CIDR_HOST_BITS, /* bits beyond the prefix are set, or the prefix is missing: *out is the
			   network that was meant */
};

/* Reads "ADDRESS/PREFIX" with a prefix of min to max. Nothing but that: no blanks, no zeros in
 * front. */
enum cidr_result cidr_read(const char *text, unsigned min, unsigned max, struct msg_cidr *out);

bool cidr_read_address(const char *text, uint32_t *out);

void cidr_format(const struct msg_cidr *c, char out[CIDR_TEXT_MAX]);
void cidr_format_address(uint32_t address, char out[CIDR_TEXT_MAX]);

#endif
