// SPDX-License-Identifier: Apache-2.0
#include "cidr.h"

#include "util.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool cidr_read_address(const char *text, uint32_t *out)
{
	struct in_addr in;
	/* inet_pton(3) takes four decimal numbers and nothing else. */
	if (inet_pton(AF_INET, text, &in) != 1)
		return false;
	*out = ntohl(in.s_addr);
	return true;
}

static uint32_t host_bits(uint32_t prefix)
{
	return prefix >= 32 ? 0 : UINT32_MAX >> prefix;
}

enum cidr_result cidr_read(const char *text, unsigned min, unsigned max, struct msg_cidr *out)
{
	char address[CIDR_TEXT_MAX];
	uint64_t prefix = 32;
	size_t n = strcspn(text, "/");
	if (n >= sizeof(address))
		return CIDR_BAD;
	memcpy(address, text, n);
	address[n] = '\0';
	if (!cidr_read_address(address, &out->address) ||
	    (text[n] && !str_to_u64(text + n + 1, 0, 32, &prefix)) || prefix < min || prefix > max)
		return CIDR_BAD;
	/* "/08" is a number, but no way to write a prefix. */
	if (text[n] && text[n + 1] == '0' && text[n + 2])
		return CIDR_BAD;
	uint32_t behind = out->address & host_bits((uint32_t)prefix);
	out->prefix = (uint32_t)prefix;
	out->address -= behind;
	return behind || !text[n] ? CIDR_HOST_BITS : CIDR_GOOD;
}

void cidr_format_address(uint32_t address, char out[CIDR_TEXT_MAX])
{
	snprintf(out, CIDR_TEXT_MAX, "%u.%u.%u.%u", address >> 24, address >> 16 & 255,
		 address >> 8 & 255, address & 255);
}

void cidr_format(const struct msg_cidr *c, char out[CIDR_TEXT_MAX])
{
	size_t n;
	cidr_format_address(c->address, out);
	n = strlen(out);
	snprintf(out + n, CIDR_TEXT_MAX - n, "/%u", c->prefix);
}
