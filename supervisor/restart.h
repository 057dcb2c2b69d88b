// SPDX-License-Identifier: Apache-2.0
/*
 * The restart policy of a sandbox: whether its VMM is started again after it ended by itself, when,
 * and how often. It starts from what it was created from: a template's memory and disks anew, or a
 * boot on the disks that it has.
 */
#ifndef SUPERVISOR_RESTART_H
#define SUPERVISOR_RESTART_H

#include "sandbox.h"

/* Whether a policy starts it again after an end of that cause (enum msg_cause). Pure. */
bool restart_is_wanted(enum spec_restart policy, uint32_t cause);

/* What is waited after so many restarts in a row, in ms: doubles from backoff_ms on. Pure. */
uint32_t restart_delay_ms(const struct spec_restart_rule *rule, uint32_t streak);

/*
 * Whether a guest that ran so long after a delay ran well, so that attempts and delays begin anew:
 * for ten times that delay, and a minute at least. Pure.
 */
bool restart_ran_well(int64_t ran_us, uint32_t delay_ms);

/*
 * Its VMM has ended and sb->exit says how: decides, and adds what that came to as "restart" to the
 * event's members (may be NULL).
 */
void restart_vmm_ended(struct sandbox *sb, cJSON *more);

/*
 * Nothing of VMM and shim is left: if it is to be started again its timer runs from here on. Four
 * are started at once; the others wait for their end, in the order in which they were due.
 */
void restart_shim_gone(struct sandbox *sb);

/* Its guest runs, by a create, a wake or a restart, or was found running. */
void restart_guest_runs(struct sandbox *sb);

/* The start that a restart tried has failed, nothing is left of it: perhaps it tries again. */
void restart_start_failed(struct sandbox *sb);

/* It is not started again: a destroy was asked for, or its record goes. */
void restart_cancel(struct sandbox *sb);
void restart_free(struct sandbox *sb);

/* Those that were held back while the host was being drained go on. */
void restart_go_on(struct daemon *d);

/* The member "restart" of a sandbox: null without a policy. NULL: no memory. */
cJSON *restart_view(const struct sandbox *sb);

#endif
