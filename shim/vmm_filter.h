/* SPDX-License-Identifier: Apache-2.0 */
/* The outer seccomp filter, under whatever filter the VMM has of its own: vmm_rules.h. */
#ifndef SHIM_VMM_FILTER_H
#define SHIM_VMM_FILTER_H

#include <stddef.h>

/*
 * Puts the calling thread, and what it executes, under the filter for good (seccomp(2)). Needs
 * no_new_privs. Async-signal-safe: made for the child between clone and execve. -1 with errno.
 */
int vmm_filter_load(void);

/* Its length in instructions. */
size_t vmm_filter_length(void);

#endif
