// SPDX-License-Identifier: Apache-2.0
#include "vmm_version.h"

#include "host.h"
#include "probe.h"
#include "spawner.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_MARGIN_MS 5000 /* beyond the VMM's own deadline: the jail's set-up */

int vmm_version_check(const char *version, uint32_t major, uint32_t minor, struct err *e)
{
	if (major >= 52 || (major == 51 && minor >= 2))
		return 0;
	return err_set(e, ERR_VERSION, 0,
		       "Cloud Hypervisor %s lets a guest break out of it (CVE-2026-45782, "
		       "GHSA-f47p-p25q-83rh): install 51.2, 52 or later",
		       version);
}

bool vmm_version_has_ondemand(uint32_t major)
{
	return major >= 53;
}

static int read_report(int fd, const struct policy *p, struct probe_report *report, struct err *e)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	int wait_ms = (int)p->deadline_ms[POLICY_DEADLINE_VERSION] + PROBE_MARGIN_MS;
	if (poll(&ready, 1, wait_ms) != 1)
		return err_set(e, ERR_DEADLINE, 0, "%s --version gave no answer in time",
			       p->vmm_binary);
	if (recv(fd, report, sizeof(*report), MSG_DONTWAIT) != (ssize_t)sizeof(*report))
		return err_set(e, ERR_INTERNAL, 0, "cloister-shim check ended without a report");
	if (!report->ok) {
		*e = report->err;
		return -1;
	}
	return 0;
}

int vmm_version_probe(const struct policy *p, char *version, size_t size, uint32_t *major,
		      uint32_t *minor, struct err *e)
{
	static const struct host no_locks = {.locks = {-1, -1, -1, -1}};
	struct probe_report report;
	CLEANUP_FD int link = -1;
	pid_t pid;
	CLEANUP_FD int shim = host_open_shim(e);
	CLEANUP_FD int policy = shim < 0 ? -1 : policy_seal(p, e);
	if (policy < 0 || spawner_exec(&no_locks, "check", shim, policy, &pid, &link, e) < 0)
		return -1;
	/* The report comes in this order on these descriptors: link 3, policy 4 (probe.h). */
	int result = read_report(link, p, &report, e);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (result < 0)
		return -1;
	report.version[sizeof(report.version) - 1] = '\0';
	str_copy(version, size, report.version);
	*major = report.major;
	*minor = report.minor;
	return 0;
}
