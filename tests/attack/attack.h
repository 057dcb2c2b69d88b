/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMM that is somebody else's: the stand-in, so that it lives a whole life in its jail, with
 * attacks that it makes when its console says so. What became of one is told on the console.
 */
#ifndef TESTS_ATTACK_ATTACK_H
#define TESTS_ATTACK_ATTACK_H

#include <stdbool.h>
#include <stddef.h>

/* One line of an answer: "ATTACK text". Lines of a child are the caller's to pass on. */
void attack_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The symbol of the errno ("EPERM"), or "OK" for 0. */
const char *attack_errno(int errnum);

/* Waits for a child that was forked, 5 s at the most: its status code, or 1000 + its signal. */
int attack_wait(int pid);

/* rules.c: breaks every rule of the outer filter, in a child each, and one in this process. */
void attack_rules(void);
void attack_rule_here(const char *name);
/* "name KILL" or "name EERRNO" for each, on stdout. */
void attack_list_rules(void);

/* landlock.c: what only Landlock denies. */
void attack_landlock(void);
/* answers.c: what is said in place of the next answer; "+KIND": of the one after it. */
void attack_arm_answer(const char *kind);

/* files.c: what is done to the next snapshot once it is written. */
void attack_arm_after(const char *kind);

/* means.c: each says on the console what became of it. */
void attack_terminal(void);
void attack_hang_up(void);
void attack_api(void);
void attack_rights(void);
void attack_speak(void);
void attack_flood(void);
void attack_priority(void);
void attack_descriptors(void);

/* tries.c; false when there is no attack of that name. */
bool attack_try(const char *name, const char *argument);

#endif
