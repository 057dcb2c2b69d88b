// SPDX-License-Identifier: Apache-2.0
/* Whether a new sandbox may be made: its images, its disks, its template, the quotas. */
#ifndef SUPERVISOR_ADMIT_H
#define SUPERVISOR_ADMIT_H

#include "daemon.h"
#include "spec.h"

/*
 * Admits what a client asks for that tenant, and completes it: from the template that it names, and
 * with the sizes of its images. ERR_INVALID names the field; ERR_QUOTA the quota.
 */
int admit_create(const struct daemon *d, const char *tenant, struct spec *spec, struct err *e);

/*
 * The part of it that is about disks: images are in disks_dir (images/disks), devices in the
 * policy's list for that tenant. Without sizes the disks of a template are only looked for.
 */
int admit_disks(int disks_dir, const struct policy *p, const char *tenant, struct spec *spec,
		struct err *e);

#endif
