// SPDX-License-Identifier: Apache-2.0
/*
 * `cloister-shim spawn`: starts shims, ends them, clears up after them; nothing else. Its requests
 * carry a key or a kind and a key, no path, no argv, no uid.
 */
#ifndef SHIM_SPAWNER_H
#define SHIM_SPAWNER_H

/* What cloisterd hands over. Its lock descriptors, above these, stay open until the end. */
#define SPAWNER_LINK_FD	  3
#define SPAWNER_POLICY_FD 4

/* Runs until the supervisor's end of the link closes; returns the process's exit status. */
int spawner_run(void);

#endif
