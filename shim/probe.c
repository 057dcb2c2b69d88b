// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include "caps.h"
#include "confine.h"
#include "file.h"
#include "filter.h"
#include "hostns.h"
#include "jail.h"
#include "launch.h"
#include "log.h"
#include "policy.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX   512
#define PROBE_MEMORY (64ull << 20)

static bool read_number(const char **at, uint32_t *out)
{
	char *end;
	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	unsigned long value = strtoul(*at, &end, 10);
	if (errno || value > 100000)
		return false;
	*out = (uint32_t)value;
	*at = end;
	return true;
}

int probe_parse(const char *text, struct probe_report *out, struct err *e)
{
	static const char start[] = "cloud-hypervisor v";
	*out = (struct probe_report){0};
	if (strncmp(text, start, sizeof(start) - 1) != 0)
		return err_set(e, ERR_VMM, 0,
			       "--version printed \"%.60s\", which is not a Cloud Hypervisor's",
			       text);
	const char *at = text + sizeof(start) - 1;
	size_t len = strcspn(at, " \t\r\n");
	if (len == 0 || len >= sizeof(out->version))
		return err_set(e, ERR_VMM, 0, "--version printed no usable version");
	memcpy(out->version, at, len);
	str_clean(out->version);
	if (!read_number(&at, &out->major) || *at++ != '.' || !read_number(&at, &out->minor))
		return err_set(e, ERR_VMM, 0, "--version printed \"%s\": no version number",
			       out->version);
	if (*at == '.') {
		at++;
		if (!read_number(&at, &out->patch))
			out->patch = 0;
	}
	out->ok = 1;
	return 0;
}

/* Everything until the end of the stream, bounded in bytes and time. */
static int read_output(int fd, int64_t deadline_us, char out[OUTPUT_MAX], struct err *e)
{
	size_t used = 0;
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_us - clock_us();
		if (left <= 0)
			return err_set(e, ERR_DEADLINE, 0, "--version did not end in time");
		if (poll(&p, 1, (int)(left / 1000) + 1) < 0 && errno != EINTR)
			return err_errno(e, errno, "wait for --version");
		ssize_t n = read(fd, out + used, OUTPUT_MAX - 1 - used);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return err_errno(e, errno, "read what --version printed");
		used += (size_t)n;
		if (n == 0 || used == OUTPUT_MAX - 1)
			break;
	}
	out[used] = '\0';
	out[strcspn(out, "\n")] = '\0';
	str_clean(out);
	return 0;
}

static int start(const struct policy *policy, uid_t uid, int64_t deadline_us,
		 struct launch_vmm *vmm, int *out_fd, struct err *e)
{
	static const char *const argv[] = {"cloud-hypervisor", "--version", NULL};
	char *env[POLICY_ENV_MAX + 1] = {NULL};
	struct confine_ns host;
	struct jail jail __attribute__((cleanup(jail_close))) = JAIL_INIT;
	CLEANUP_FD int proc = file_open_dir("/proc", e);
	if (proc < 0 || confine_read_ns(proc, "self", &host, e) < 0 || jail_unshare(e) < 0 ||
	    jail_enter(policy, NULL, uid, &jail, e) < 0)
		return -1;
	int out[2];
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, errno, "make a pipe");
	*out_fd = out[0];
	CLEANUP_FD int out_w = out[1];
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_errno(e, errno, "open /dev/null");
	for (uint32_t i = 0; i < policy->env_count; i++)
		env[i] = (char *)(uintptr_t)policy->env[i];
	struct launch launch = {
		.argv = argv,
		.env = env,
		.fds = {null, out_w, null, -1, -1},
		.uid = uid,
		.cgroup_fd = -1,
		.proc_fd = jail.proc_fd,
		.host = &host,
		.file_bytes = PROBE_MEMORY,
		.memory_bytes = PROBE_MEMORY,
		.vcpus = 1,
		.deadline_us = deadline_us,
	};
	return launch_vmm(&launch, vmm, e);
}

static int probe(const struct policy *policy, struct probe_report *report, struct err *e)
{
	int64_t deadline = clock_us() + policy->deadline_ms[POLICY_DEADLINE_VERSION] * 1000ll;
	struct launch_vmm vmm = {.pid = -1, .pidfd = -1, .death_pipe = -1};
	CLEANUP_FD int out_fd = -1;
	char text[OUTPUT_MAX];
	uid_t uid = policy->uid_base + policy->uid_count - 1;
	int result = start(policy, uid, deadline, &vmm, &out_fd, e);
	if (result == 0)
		result = caps_drop_to_serving(e);
	if (result == 0)
		result = filter_load(FILTER_SERVING, e);
	if (result == 0)
		result = read_output(out_fd, deadline, text, e);
	if (result == 0)
		result = probe_parse(text, report, e);
	launch_kill(&vmm, 1000);
	return result < 0 ? err_prefix(e, "ask %s for its version", policy->vmm_binary) : 0;
}

static int run(bool alone)
{
	struct probe_report report = {0};
	struct err e = {0};
	signal(SIGPIPE, SIG_IGN);
	const struct policy *policy = policy_map(PROBE_POLICY_FD, &e);
	if (!policy) {
		log_error("%s", e.text);
		return 1;
	}
	if (caps_drop_to_setup(policy, &e) < 0 ||
	    (alone && (hostns_enter(policy, &e) < 0 || filter_load(FILTER_SETUP, &e) < 0)) ||
	    probe(policy, &report, &e) < 0) {
		report = (struct probe_report){.err = e};
		str_clean(report.err.text);
	}
	return write(PROBE_REPORT_FD, &report, sizeof(report)) == (ssize_t)sizeof(report) ? 0 : 1;
}

int probe_run(void)
{
	return run(false);
}

int probe_check(void)
{
	umask(022);
	return run(true);
}
