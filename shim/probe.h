// SPDX-License-Identifier: Apache-2.0
/* Asks the VMM for its version, in a jail of its own, as `cloister-shim probe`. */
#ifndef SHIM_PROBE_H
#define SHIM_PROBE_H

#include "err.h"
#include "msg.h"

#include <stdint.h>

/* What the probe writes to PROBE_REPORT_FD: exactly one of these. */
struct probe_report {
	uint32_t ok; /* 1: version and numbers are filled; 0: err is */
	uint32_t major, minor, patch;
	char version[MSG_BUILD_MAX];
	struct err err;
};

#define PROBE_REPORT_FD 3
#define PROBE_POLICY_FD 4

/*
 * `cloister-shim check`, for `cloisterd --check`: the probe where there is no spawner, in a
 * spawner's mount namespace of its own. Returns the process's exit status.
 */
int probe_check(void);

/*
 * Runs the probe: jail, `VMM --version`, drop, and only then reads what the VMM printed. Returns
 * the process's exit status. The uid is the last one of the policy's range, kept for this.
 */
int probe_run(void);

/*
 * Reads "cloud-hypervisor v53.0.0" or the like from what a VMM printed: at most three numbers after
 * the "v"; version is the word they stand in, without the "v". Pure; -1 when it is nothing such.
 */
int probe_parse(const char *text, struct probe_report *out, struct err *e);

#endif
