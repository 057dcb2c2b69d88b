// SPDX-License-Identifier: Apache-2.0
/* The disks of a specification: how a client asks for them, and what they come to. */
#ifndef SUPERVISOR_SPEC_DISK_H
#define SUPERVISOR_SPEC_DISK_H

#include "spec.h"

/*
 * Reads the field "disks": an array of at most MSG_DISKS_MAX objects, each with an image or a
 * device. ERR_INVALID names the member, like "disks[1].size_mib", its value, and what is allowed.
 */
int spec_disk_read(struct spec *s, const cJSON *v, struct err *e);

/* Takes over the disks of a message or of another specification; how they were made, too. */
void spec_disk_copy(struct spec *s, const struct msg_disk *disks, uint32_t count);

/* None of them is made yet. */
void spec_disk_unmake(struct spec *s);

/*
 * Takes over how each was made, and the sizes that only root code knows (devices'). ERR_PROTOCOL:
 * these are not the disks that s asked for.
 */
int spec_disk_made(struct spec *s, const struct msg_disk *disks, uint32_t count, struct err *e);

/* Whether it gets a file of the sandbox's own: neither read-only nor a device. */
bool spec_disk_is_own(const struct msg_disk *disk);

/* MiB of all such files together; 0: there are none. */
uint64_t spec_disk_own_mib(const struct spec *s);

/* The first that the guest can write to, among devices only or among all; -1: none. */
int spec_disk_find_writable(const struct spec *s, bool device);

#endif
