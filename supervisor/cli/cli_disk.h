// SPDX-License-Identifier: Apache-2.0
/* The option --disk of create and run. */
#ifndef CLI_DISK_H
#define CLI_DISK_H

#include <cjson/cJSON.h>

/*
 * Adds what image=NAME[,size=SIZE][,ro][,mib_s=N][,iops=N] (or device=NAME) says to an array of
 * disks, as the API takes them. 0, or CLI_EXIT_USAGE or CLI_EXIT_FAILED after a complaint.
 */
int cli_disk_add(cJSON *disks, const char *text);

#endif
