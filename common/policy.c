// SPDX-License-Identifier: Apache-2.0
#include "policy.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int policy_seal(const struct policy *p, struct err *e)
{
	CLEANUP_FD int fd = memfd_create("cloister-policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(e, errno, "make a memfd for the policy");
	ssize_t n = write(fd, p, sizeof(*p));
	if (n != (ssize_t)sizeof(*p))
		return err_errno(e, n < 0 ? errno : ENOSPC, "write the policy's memfd");
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_errno(e, errno, "seal the policy's memfd");
	return fd_take(&fd);
}

const struct policy *policy_map(int fd, struct err *e)
{
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS) {
		err_set(e, ERR_INTERNAL, seals < 0 ? errno : 0,
			"descriptor %d is not a sealed policy: this program is started by "
			"cloisterd",
			fd);
		return NULL;
	}
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof(struct policy)) {
		err_set(e, ERR_VERSION, 0,
			"the policy has another size: cloisterd and cloister-shim are of two "
			"builds");
		return NULL;
	}
	const struct policy *p = mmap(NULL, sizeof(*p), PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		err_errno(e, errno, "map the policy");
		return NULL;
	}
	if (p->magic != POLICY_MAGIC || p->size != sizeof(*p)) {
		err_set(e, ERR_VERSION, 0, "the policy is not of this build");
		return NULL;
	}
	return p;
}

const char *policy_deadline_key(enum policy_deadline which)
{
	static const char *const keys[POLICY_DEADLINE_COUNT] = {
		[POLICY_DEADLINE_CREATE] = "create_ms",
		[POLICY_DEADLINE_DISKS] = "disks_ms",
		[POLICY_DEADLINE_PAUSE] = "pause_ms",
		[POLICY_DEADLINE_RESUME] = "resume_ms",
		[POLICY_DEADLINE_SNAPSHOT] = "snapshot_ms",
		[POLICY_DEADLINE_POWER_BUTTON] = "power_button_ms",
		[POLICY_DEADLINE_SHUTDOWN] = "shutdown_ms",
		[POLICY_DEADLINE_DESTROY] = "destroy_ms",
		[POLICY_DEADLINE_VERSION] = "version_ms",
	};
	return keys[which];
}
