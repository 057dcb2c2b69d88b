// SPDX-License-Identifier: Apache-2.0
/* The spawner (`cloister-shim spawn`): started as root before the drop, then spoken to. */
#ifndef SUPERVISOR_SPAWNER_H
#define SUPERVISOR_SPAWNER_H

#include "link.h"

#include <sys/types.h>

struct daemon;
struct host;
struct spawner;

/*
 * Starts shim_fd (fexecve(3)) in a role ("spawn", or "check") with the descriptors that it expects:
 * 3 its end of the link, 4 the policy, 5 to 8 the locks. Gives its pid and our end. As root.
 */
int spawner_exec(const struct host *h, const char *role, int shim_fd, int policy_fd, pid_t *pid,
		 int *link_fd, struct err *e);

/* Takes the link over. ready() is called once HOST came, or with why it did not. */
struct spawner *spawner_open(struct daemon *d, int link_fd, pid_t pid,
			     void (*ready)(struct daemon *d, const struct err *why), struct err *e);
void spawner_close(struct spawner *s);

struct link *spawner_link(struct spawner *s);

/* False once its link is closed, and so before cloisterd ends for that. */
bool spawner_is_up(struct spawner *s);

/* It sent nonsense: closes its link, which ends cloisterd. */
void spawner_fail(struct spawner *s, const struct err *why);

/* Asks it to remove the socket that a shim left behind; what comes of it is only logged. */
void spawner_remove_socket(struct spawner *s, const char *key);

/* Asks it to remove a set (MSG_REMOVE_TEMPLATE, MSG_REMOVE_SANDBOX); DONE or why not. */
int spawner_remove_set(struct spawner *s, enum msg_remove_kind kind, const char *key,
		       link_answer_fn *cb, void *arg, struct err *e);

/* Has it list the templates again: a shim may have written one for an earlier supervisor. */
void spawner_list_templates(struct spawner *s);

#endif
