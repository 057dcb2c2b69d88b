// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "cidr.h"
#include "file.h"
#include "host.h"
#include "host_cgroup.h"
#include "landlock.h"
#include "pool.h"
#include "util.h"
#include "vmm_version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum grade { OK, WARNING, ERROR };

static unsigned errors;

__attribute__((format(printf, 2, 3))) static void say(enum grade grade, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "warning", "error"};
	va_list ap;
	va_start(ap, fmt);
	printf("%-8s ", words[grade]);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	errors += grade == ERROR;
}

static void check_binary(const struct policy *p)
{
	struct err e;
	struct stat st;
	CLEANUP_FD int fd = open(p->vmm_binary, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		err_errno(&e, errno, "open %s", p->vmm_binary);
	else if (fstat(fd, &st) < 0)
		err_errno(&e, errno, "stat %s", p->vmm_binary);
	else if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		err_set(&e, ERR_INVALID, 0,
			"%s must be a regular file of root's that nobody else may write",
			p->vmm_binary);
	else if (!(st.st_mode & 0111))
		err_set(&e, ERR_INVALID, 0, "%s is not executable", p->vmm_binary);
	else {
		say(OK, "VMM binary %s", p->vmm_binary);
		return;
	}
	say(ERROR, "VMM binary: %s", e.text);
}

/* Runs the VMM's --version in a jail, as the spawner will: this tries most of the jail, too. */
static void check_version(const struct policy *p)
{
	char version[64];
	uint32_t major, minor;
	struct err e;
	if (vmm_version_probe(p, version, sizeof(version), &major, &minor, &e) < 0 ||
	    vmm_version_check(version, major, minor, &e) < 0)
		say(ERROR, "%s", e.text);
	else if (!vmm_version_has_ondemand(major))
		say(WARNING, "Cloud Hypervisor %s: memory cannot be restored on demand (needs 53)",
		    version);
	else
		say(OK, "Cloud Hypervisor %s", version);
}

static void check_device(const char *path, const char *use, enum grade grade)
{
	struct stat st;
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode))
		say(OK, "%s", path);
	else
		say(grade, "%s cannot be used (%s): %s", path,
		    fd < 0 ? strerrordesc_np(errno) : "no device", use);
}

static void check_landlock(void)
{
	unsigned abi = landlock_abi();
	if (abi)
		say(OK, "Landlock ABI %u", abi);
	else
		say(WARNING, "no Landlock (Linux 5.13, and in lsm=): VMMs are held by the rest of "
			     "their jails only");
}

/* One that is missing now may be there when a sandbox asks for it. */
static void check_block_devices(const struct policy *p)
{
	struct stat st;
	for (uint32_t i = 0; i < p->device_count; i++) {
		const struct policy_device *device = &p->devices[i];
		if (stat(device->path, &st) < 0)
			say(WARNING, "block_device %s: %s: %s", device->key, device->path,
			    strerrordesc_np(errno));
		else if (!S_ISBLK(st.st_mode))
			say(ERROR, "block_device %s: %s is no block device", device->key,
			    device->path);
		else
			say(OK, "block_device %s: %s", device->key, device->path);
	}
}

static void check_cgroup(struct policy *p)
{
	struct err e;
	char text[64];
	enum grade grade = p->require_limits ? ERROR : WARNING;
	if (host_find_cgroup(p->cgroup_mount, sizeof(p->cgroup_mount), &e) < 0) {
		say(ERROR, "%s", e.text);
		return;
	}
	if (!p->cgroup_mount[0]) {
		say(grade, "cgroup v2 is not mounted: no limit can be enforced");
		return;
	}
	CLEANUP_FD int dir = file_open_dir(p->cgroup_mount, &e);
	unsigned have = dir < 0 ? 0 : host_cgroup_controllers(dir, "cgroup.controllers");
	unsigned need = HOST_CGROUP_CPU | HOST_CGROUP_MEMORY | HOST_CGROUP_PIDS;
	host_cgroup_names(have, text, sizeof(text));
	say(OK, "cgroup v2 at %s, controllers: %s", p->cgroup_mount, text);
	if (need & ~have) {
		host_cgroup_names(need & ~have, text, sizeof(text));
		say(grade, "missing controllers: %s%s", text,
		    p->require_limits ? "; needed as [host] require_limits is yes"
				      : "; these limits will not be enforced");
	}
	if (!(have & HOST_CGROUP_IO))
		say(WARNING, "no io controller: disk bandwidth cannot be limited");
}

static void check_network(const struct policy *p)
{
	const struct msg_cidr pool = {.address = p->pool, .prefix = p->pool_bits};
	char text[CIDR_TEXT_MAX];
	if (!p->pool_bits) {
		say(OK, "no [network] pool: sandboxes have no network");
		return;
	}
	cidr_format(&pool, text);
	say(OK, "network pool %s: %u sandboxes, through %s", text, pool_usable(p), p->uplink);
}

static void check_shim(void)
{
	struct err e;
	CLEANUP_FD int fd = host_open_shim(&e);
	if (fd >= 0)
		say(OK, "cloister-shim");
	else
		say(ERROR, "cloister-shim: %s", e.text);
}

/* Only what is there already; what is missing will be made. */
static void check_directory(const char *name, const char *path)
{
	struct stat st;
	if (lstat(path, &st) < 0 && errno == ENOENT)
		say(OK, "%s %s will be made", name, path);
	else if (lstat(path, &st) < 0)
		say(ERROR, "%s %s: %s", name, path, strerrordesc_np(errno));
	else if (!S_ISDIR(st.st_mode))
		say(ERROR, "%s %s is not a directory", name, path);
	else
		say(OK, "%s %s", name, path);
}

int check_host(struct config *c)
{
	struct policy *p = &c->policy;
	errors = 0;
	say(OK, "user %s is uid %u, control group is gid %u", c->user, p->user_uid, p->control_gid);
	if (c->tenant_count)
		say(OK, "%zu tenants", c->tenant_count);
	else
		say(WARNING, "no [tenant NAME] section: only an admin may use the control socket");
	check_directory("state_dir", p->state_dir);
	check_directory("run_dir", p->run_dir);
	check_binary(p);
	check_device("/dev/kvm", "without it no VM can run", ERROR);
	check_device("/dev/userfaultfd", "memory cannot be restored on demand", WARNING);
	check_block_devices(p);
	check_cgroup(p);
	check_landlock();
	check_network(p);
	check_shim();
	check_version(p);
	return errors ? 1 : 0;
}
