// SPDX-License-Identifier: Apache-2.0
/*
 * Which system calls are steps: those that change something outside of the process that makes them.
 * A process that is killed between two of them leaves the same world behind wherever it is killed.
 */
#ifndef FAULTS_CALLS_H
#define FAULTS_CALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct call {
	const char *name;
	uint64_t args[6];
	int error; /* what it is made to fail with where it does: a likely one */
};

/* What counts: steps only; or also what takes a resource that may be used up (for failures). */
enum calls_class { CALLS_STEPS, CALLS_FALLIBLE };

/*
 * Whether the call with this number and these arguments of the stopped task tid counts; c->name and
 * c->error are filled in if so. Never counted: what only reads, what changes the process itself,
 * and lines of log (write to descriptor 2).
 */
bool calls_count(enum calls_class class, pid_t tid, uint64_t number, const uint64_t args[6],
		 struct call *c);

/* A path or the like that the call names, for people; "" if there is none. buf gets size bytes. */
void calls_describe(pid_t tid, const struct call *c, char *buf, size_t size);

#endif
