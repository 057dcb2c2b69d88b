// SPDX-License-Identifier: Apache-2.0
/*
 * Names of sandboxes, tenants, images and templates, and the TENANT:NAME keys that root code uses.
 * A valid name or key is safe as one component of a path: no '/', no "..", no leading dot.
 */
#ifndef COMMON_NAME_H
#define COMMON_NAME_H

#include <stdbool.h>

#define NAME_MAX_LEN  63		     /* bytes, without the end */
#define NAME_SIZE     (NAME_MAX_LEN + 1)     /* a buffer for one */
#define NAME_KEY_SIZE (2 * NAME_MAX_LEN + 2) /* TENANT:NAME and its end */

/* What a name must be, for error messages. */
#define NAME_RULE "1 to 63 of a-z 0-9 . _ -, first a letter or digit, no \"..\""

/* ^[a-z0-9][a-z0-9._-]{0,62}$ without "..". */
bool name_is_valid(const char *name);

/* Two valid names with one colon between. */
bool name_key_is_valid(const char *key);

/* Writes TENANT:NAME; both must be valid (false otherwise, key empty). */
bool name_key_make(char key[NAME_KEY_SIZE], const char *tenant, const char *name);

/* Splits a valid key; false (outputs empty) when it is not one. */
bool name_key_split(const char *key, char tenant[NAME_SIZE], char name[NAME_SIZE]);

#endif
