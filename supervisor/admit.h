// SPDX-License-Identifier: Apache-2.0
/* Whether a new sandbox may be made: its images, disks, network, template, and the quotas. */
#ifndef SUPERVISOR_ADMIT_H
#define SUPERVISOR_ADMIT_H

#include "daemon.h"
#include "spec.h"

/*
 * Admits what a client asks for that tenant, and completes it: from the template that it names, and
 * with the sizes of its images. ERR_INVALID names the field; ERR_QUOTA the quota. The address in
 * the pool is given out when the sandbox is made.
 */
int admit_create(const struct daemon *d, const char *tenant, struct spec *spec, struct err *e);

/*
 * The part of it that is about disks: images are in disks_dir (images/disks), devices in the
 * policy's list for that tenant. Without sizes the disks of a template are only looked for.
 */
int admit_disks(int disks_dir, const struct policy *p, const char *tenant, struct spec *spec,
		struct err *e);

/*
 * The part of it that is about the network and what wait_for needs of it: egress gets its default,
 * ports of the host are those that the tenant may have (ERR_INVALID) and free (ERR_STATE).
 */
int admit_network(const struct config *c, const struct pool *pool, const char *tenant,
		  struct spec *spec, struct err *e);

#endif
