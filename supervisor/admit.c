// SPDX-License-Identifier: Apache-2.0
#include "admit.h"

#include "file.h"
#include "quota.h"
#include "spec_disk.h"
#include "spec_network.h"
#include "spec_wait.h"
#include "template.h"
#include "tenant.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define SECTOR 512

/* An O_PATH descriptor: that root code finds in it what it needs, root code sees to. */
static int open_image(int dir, const char *field, const char *folder, const char *name,
		      struct err *e)
{
	int fd = file_open_beneath(dir, name, O_PATH | O_NOFOLLOW, 0, folder, e);
	if (fd >= 0)
		return fd;
	if (e->errnum != ENOENT)
		return err_prefix(e, "%s", field);
	return err_set(e, ERR_INVALID, 0,
		       "%s: there is no image \"%s\" in images/%s; the host's administrator puts "
		       "files there",
		       field, name, folder);
}

static int check_image(int dir, const char *field, const char *folder, const char *name,
		       struct err *e)
{
	CLEANUP_FD int fd = open_image(dir, field, folder, name, e);
	return fd < 0 ? -1 : 0;
}

/* ------------------------------------------------------------------ disks */

static int image_bytes(int dir, const char *field, const char *name, uint64_t *bytes, struct err *e)
{
	struct stat st;
	CLEANUP_FD int fd = open_image(dir, field, "disks", name, e);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "%s: look at image \"%s\"", field, name);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size % SECTOR)
		return err_set(e, ERR_INVALID, 0,
			       "%s: the image \"%s\" is no raw disk: it must be a regular file of "
			       "a whole number of %d-byte sectors; the host's administrator can "
			       "import it anew",
			       field, name, SECTOR);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int set_size(struct msg_disk *disk, uint32_t i, uint64_t bytes, struct err *e)
{
	uint64_t mib = (bytes + (1u << 20) - 1) >> 20;
	bool readonly = disk->flags & MSG_DISK_READONLY;
	if (mib > MSG_DISK_MIB_MAX)
		return err_set(e, ERR_INVALID, 0,
			       "disks[%u].image: \"%s\" has %" PRIu64 " MiB; a disk can have %u", i,
			       disk->image, mib, MSG_DISK_MIB_MAX);
	if (readonly && disk->size_mib && disk->size_mib != mib)
		return err_set(e, ERR_INVALID, 0,
			       "disks[%u].size_mib: %u is not allowed; must be %" PRIu64
			       ", the image's own, as the disk is read-only",
			       i, disk->size_mib, mib);
	if (disk->size_mib && disk->size_mib < mib)
		return err_set(e, ERR_INVALID, 0,
			       "disks[%u].size_mib: %u is not allowed; must be %" PRIu64
			       " (the image's) to %u",
			       i, disk->size_mib, mib, MSG_DISK_MIB_MAX);
	if (!disk->size_mib)
		disk->size_mib = (uint32_t)mib;
	return 0;
}

static int check_device(const struct policy *p, const char *tenant, const char *field,
			const char *name, struct err *e)
{
	char key[NAME_KEY_SIZE];
	name_key_make(key, tenant, name);
	for (uint32_t i = 0; i < p->device_count; i++)
		if (strcmp(p->devices[i].key, key) == 0)
			return 0;
	return err_set(e, ERR_INVALID, 0,
		       "%s: there is no block device \"%s\" for tenant %s; the host's "
		       "administrator lists them in the configuration (block_device)",
		       field, name, tenant);
}

static int check_disk(int disks_dir, const struct policy *p, const char *tenant, struct spec *spec,
		      uint32_t i, struct err *e)
{
	struct msg_disk *disk = &spec->disks[i];
	char field[32];
	uint64_t bytes = 0;
	if (disk->flags & MSG_DISK_DEVICE) {
		snprintf(field, sizeof(field), "disks[%u].device", i);
		return check_device(p, tenant, field, disk->image, e);
	}
	/* What a template has of its own it brings along. */
	if (spec->template && spec_disk_is_own(disk))
		return 0;
	snprintf(field, sizeof(field), "disks[%u].image", i);
	if (image_bytes(disks_dir, field, disk->image, &bytes, e) < 0)
		return -1;
	return spec->template ? 0 : set_size(disk, i, bytes, e);
}

int admit_disks(int disks_dir, const struct policy *p, const char *tenant, struct spec *spec,
		struct err *e)
{
	for (uint32_t i = 0; i < spec->disk_count; i++)
		if (check_disk(disks_dir, p, tenant, spec, i, e) < 0)
			return -1;
	return 0;
}

/* ------------------------------------------------------------------ network */

static int check_host_port(const struct config_ports *may, const char *tenant, uint32_t i,
			   uint16_t port, struct err *e)
{
	if (!may->count)
		return err_set(e, ERR_INVALID, 0,
			       "network.ports[%u].host: %u is not allowed, as %s may have no ports "
			       "of the host; leave it out, or ask the host's administrator for "
			       "host_ports",
			       i, port, tenant);
	/* Unsigned, so one below the first is far above the last. */
	if ((uint32_t)(port - may->first) >= may->count)
		return err_set(e, ERR_INVALID, 0,
			       "network.ports[%u].host: %u is not allowed; must be %u to %u, the "
			       "host_ports of %s",
			       i, port, may->first, may->first + may->count - 1, tenant);
	return 0;
}

int admit_network(const struct config *c, const struct pool *pool, const char *tenant,
		  struct spec *spec, struct err *e)
{
	const struct config_tenant *t = tenant_by_name(c, tenant);
	const struct msg_network *n = &spec->network;
	if (spec_network_settle(spec, &c->egress, e) < 0 || spec_wait_check(spec, e) < 0)
		return -1;
	if (!spec->networked)
		return 0;
	if (!pool->usable)
		return err_set(e, ERR_INVALID, 0,
			       "%s: this host has no [network] pool to give addresses from%s",
			       spec->template ? "template" : "network",
			       spec->template ? ", which this template's guest needs" : "");
	for (uint32_t i = 0; i < n->port_count; i++)
		if (n->ports[i].host && check_host_port(t ? &t->ports : &c->admin_ports, tenant, i,
							n->ports[i].host, e) < 0)
			return -1;
	return pool_check_ports(pool, n, e);
}

/* ------------------------------------------------------------------ the whole */

static int use_template(const struct daemon *d, const char *tenant, struct spec *spec,
			struct err *e)
{
	char key[NAME_KEY_SIZE];
	const struct template *t = NULL;
	if (name_key_make(key, tenant, spec->template))
		t = template_find(&d->templates, key);
	if (!t)
		return err_set(
			e, ERR_INVALID, 0,
			"template: there is no template \"%s\"; make one from a sandbox with "
			"snapshot",
			spec->template);
	return spec_use_template(spec, t, d->vmm.vmm_major, e);
}

static int check_images(const struct host *h, const struct spec *spec, struct err *e)
{
	if (check_image(h->kernels_dir, "kernel", "kernels", spec->kernel, e) < 0)
		return -1;
	if (spec->initramfs &&
	    check_image(h->initramfs_dir, "initramfs", "initramfs", spec->initramfs, e) < 0)
		return -1;
	return 0;
}

int admit_create(const struct daemon *d, const char *tenant, struct spec *spec, struct err *e)
{
	if (drain_admit(d, e) < 0)
		return -1;
	/* What a template has was an image once; it need not be one any more. */
	if ((spec->template ? use_template(d, tenant, spec, e) : check_images(&d->host, spec, e)) <
	    0)
		return -1;
	const struct config_tenant *t = tenant_by_name(&d->config, tenant);
	if (!t && strcmp(tenant, CONFIG_ADMIN_TENANT) != 0)
		return err_set(e, ERR_INVALID, 0, "tenant: there is no [tenant %s] section",
			       tenant);
	if (admit_network(&d->config, &d->pool, tenant, spec, e) < 0 ||
	    admit_disks(d->host.disks_dir, &d->config.policy, tenant, spec, e) < 0)
		return -1;
	return quota_check(d, t, spec, e);
}
