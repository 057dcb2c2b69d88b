// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a text is JSON, without making anything of it: what a VMM wrote may hold millions of
 * values, and a tree of them would take thirty times the text's memory.
 */
#ifndef SHIM_JSON_WHOLE_H
#define SHIM_JSON_WHOLE_H

#include <stdbool.h>
#include <stddef.h>

/* Cloud Hypervisor's state.json is about ten levels deep. */
#define JSON_WHOLE_DEPTH_MAX 128

/*
 * True when text[length] is one JSON object and nothing but blanks around it (RFC 8259), with no
 * more than JSON_WHOLE_DEPTH_MAX levels. Bytes above 0x7f are taken within strings as they are.
 */
bool json_whole(const char *text, size_t length);

#endif
