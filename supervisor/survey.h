// SPDX-License-Identifier: Apache-2.0
/*
 * What differs between the host and what is known here: the spawner looks at the host, and this
 * adds what only the supervisor knows. What `cloister check` shows.
 */
#ifndef SUPERVISOR_SURVEY_H
#define SUPERVISOR_SURVEY_H

#include "msg.h"

#include <cjson/cJSON.h>

struct daemon;
struct survey;

/* list: an array of findings, the function's to free; NULL with why when it could not be made. */
typedef void survey_done_fn(void *arg, cJSON *list, const struct err *why);

/*
 * Begins one, and with repair has the spawner mend what it can. -1: it did not begin, ERR_STATE
 * while another is under way; fn is not called then.
 */
int survey_begin(struct daemon *d, bool repair, survey_done_fn *fn, void *arg, struct err *e);

/* A FINDING record of the spawner: false when it is out of turn. */
bool survey_add(struct daemon *d, const struct msg_finding *said);

/* Forgets one that is under way; its function is not called. */
void survey_close(struct daemon *d);

#endif
