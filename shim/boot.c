// SPDX-License-Identifier: Apache-2.0
#include "boot.h"

#include "announce.h"
#include "boot_source.h"
#include "caps.h"
#include "cgroup.h"
#include "file.h"
#include "log.h"
#include "serve.h"
#include "sets.h"
#include "slot.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for a burst of event records; beyond it CH drops them, which it is made for. */
#define EVENT_BUFFER (64 * 1024)

/* How long a VMM that closed its API during the start may take to exit. */
#define API_LOST_US 500000

#define KILL_MS 2000

static uint32_t elapsed_us(int64_t from, int64_t to)
{
	int64_t us = to - from;
	return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int64_t create_deadline(const struct shim *s)
{
	int64_t ms = s->policy->deadline_ms[POLICY_DEADLINE_CREATE];
	/* Reading a set may take as long as writing it. */
	if (s->spec.restore != MSG_RESTORE_NONE)
		ms += s->policy->deadline_ms[POLICY_DEADLINE_SNAPSHOT];
	if (sets_has_own_disk(&s->spec))
		ms += s->policy->deadline_ms[POLICY_DEADLINE_DISKS];
	return s->started_us + ms * 1000;
}

void boot_fail(struct shim *s, const struct err *why)
{
	if (s->op != MSG_CREATE)
		return;
	s->op = MSG_NONE;
	s->ending = SHIM_ENDING_FAILED;
	s->we_killed = true;
	s->start_failed = true;
	uplink_end_op(s, MSG_CREATE, why, 0);
	/* Whoever has to hear of it may still be on the way: without its VMM the shim waits. */
	s->quit = s->untold.op == MSG_NONE || !s->serving;
	if (!s->quit)
		launch_kill(&s->vmm, KILL_MS);
}

void boot_clear(struct shim *s)
{
	struct err e;
	/* Its disks were made for nothing. One that is woken keeps what it had. */
	if (!s->start_failed || s->spec.source == MSG_SOURCE_WAKE || !sets_has_own_disk(&s->spec) ||
	    s->jail.sandboxes_fd < 0)
		return;
	if (sets_remove(s->jail.sandboxes_fd, s->key, &e) < 0)
		log_warning("%s", e.text);
}

/* ------------------------------------------------------------------ answers of CH, in order */

static int send_restore(struct shim *s, struct err *e);

/* A silence until the deadline: no exit of the VMM is coming that would tell the supervisor. */
static void fail_if_late(struct shim *s, const struct err *e)
{
	struct err err;
	if (e->kind != ERR_DEADLINE)
		return;
	err_set(&err, ERR_DEADLINE, 0,
		"the VMM did not answer in time while the guest was being started");
	boot_fail(s, &err);
}

/* Leading digits; -1 when there are none. */
static long major_of(const char *version)
{
	char *end;
	long major = strtol(version, &end, 10);
	return end == version || *end != '.' || major < 0 ? -1 : major;
}

/* The states of devices are CH's own affair and change with its major versions. */
static int check_version(const struct shim *s, struct err *e)
{
	long have = major_of(s->created.vmm_version), want = major_of(s->set_version);
	if (have >= 0 && have == want)
		return 0;
	return err_set(e, ERR_STATE, 0,
		       "%s %s was written by Cloud Hypervisor %s, [vmm] binary is %s: only one of "
		       "the same major version can restore it",
		       s->spec.source == MSG_SOURCE_WAKE ? "the set of sandbox" : "template",
		       s->spec.source == MSG_SOURCE_WAKE ? s->key : s->spec.template,
		       s->set_version, s->created.vmm_version);
}

static void on_ping(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	if (!answer) {
		/* When the VMM died its exit tells more; the loop is about to see it. */
		s->fail = *e;
		if (s->spec.restore != MSG_RESTORE_NONE)
			fail_if_late(s, e);
		return;
	}
	if (s->op != MSG_CREATE)
		return;
	if (ch_api_read_version(answer, s->created.vmm_version, &err) < 0)
		boot_fail(s, &err);
	else if (s->spec.restore != MSG_RESTORE_NONE &&
		 (check_version(s, &err) < 0 || send_restore(s, &err) < 0))
		boot_fail(s, &err);
}

/* One step of the start: a refusal fails it; no answer means that the VMM's exit tells more. */
static void step_answered(struct shim *s, enum ch_api_call call, const struct http_response *answer,
			  const struct err *e)
{
	struct err err;
	if (!answer)
		s->fail = *e;
	else if (s->op == MSG_CREATE && ch_api_check(call, answer, &err) < 0)
		boot_fail(s, &err);
}

static int send_boot(struct shim *s, struct err *e);

static void on_add_net(void *arg, const struct http_response *answer, bool late,
		       const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	step_answered(s, CH_API_ADD_NET, answer, e);
	if (!answer)
		fail_if_late(s, e);
	else if (s->op == MSG_CREATE && send_boot(s, &err) < 0)
		boot_fail(s, &err);
}

static void on_create(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	step_answered(s, CH_API_CREATE, answer, e);
	if (s->slot.tap_fd < 0)
		return;
	if (!answer)
		fail_if_late(s, e);
	else if (s->op == MSG_CREATE &&
		 ch_api_send_net(&s->api, s->slot.tap_fd, create_deadline(s), on_add_net, &err) < 0)
		boot_fail(s, &err);
}

static void on_info(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	if (!answer)
		s->fail = *e;
	else if (s->op == MSG_CREATE && ch_api_check_config(answer, &s->spec, &err) < 0)
		boot_fail(s, &err);
}

static int send_resume(struct shim *s, struct err *e);

/*
 * vm.restore: what comes after it tells whether the guest runs. A set whose guest writes to a disk
 * is good for one wake: it is marked before the guest can run, and so only when CH has taken it.
 */
static void on_restore(void *arg, const struct http_response *answer, bool late,
		       const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	step_answered(s, CH_API_RESTORE, answer, e);
	if (!answer)
		fail_if_late(s, e);
	if (!answer || s->op != MSG_CREATE || s->wake_fd < 0)
		return;
	if (sets_mark_used(s->wake_fd, &err) < 0 || send_resume(s, &err) < 0)
		boot_fail(s, &err);
}

static void on_restored_resume(void *arg, const struct http_response *answer, bool late,
			       const struct err *e)
{
	(void)late;
	step_answered(arg, CH_API_RESUME, answer, e);
}

static void answer_created(struct shim *s)
{
	s->phase = MSG_PHASE_RUNNING;
	s->op = MSG_NONE;
	uplink_end_op(s, MSG_CREATE, NULL, 0);
}

/* The guest runs: CREATE is answered, or waits for it to be ready. */
static void runs(struct shim *s)
{
	struct err e;
	int64_t now = clock_us();
	const struct ready_where where = {
		.address = SLOT_GUEST,
		.vsock_fd = s->jail.vsock_fd,
		.proc_fd = s->jail.proc_fd,
		.console = &s->console,
	};
	s->created.vmm_pid = (uint32_t)s->vmm.pid;
	s->created.timings.boot_us = elapsed_us(s->executed_us, now);
	s->created_real_us = clock_real_us();
	s->running_us = now;
	/* Good for nothing any more; that it was there is what a later wake is told. */
	if (s->wake_fd >= 0 && sets_drop_memory(s->wake_fd, &e) < 0)
		log_warning("%s", e.text);
	fd_close(&s->wake_fd);
	if (s->spec.restore != MSG_RESTORE_NONE)
		announce_start(s);
	if (s->wait.kind == MSG_WAIT_NONE)
		answer_created(s);
	else
		ready_start(&s->ready, &s->wait, &where, now);
}

int64_t boot_await(struct shim *s, int64_t now_us)
{
	struct err e;
	bool write = false;
	if (!ready_is_on(&s->ready))
		return INT64_MAX;
	/* It is being ended, for a panic say: its exit is the answer. */
	if (s->op != MSG_CREATE || s->ending != SHIM_ENDING_NONE) {
		ready_close(&s->ready);
		return INT64_MAX;
	}
	switch (ready_step(&s->ready, now_us, &e)) {
	case READY_DONE:
		s->created.timings.ready_us = elapsed_us(s->running_us, now_us);
		answer_created(s);
		break;
	case READY_FAILED:
		boot_fail(s, &e);
		break;
	case READY_MORE:
		serve_watch(s, ready_fd(&s->ready, &write), SHIM_READY, true, write);
		break;
	}
	return ready_next(&s->ready);
}

/* The last answer: vm.boot's, or for a restore that of vm.info, which must say Running. */
static void on_boot(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err err = {0};
	(void)late;
	if (!answer) {
		s->fail = *e;
		/* Which of the requests it hangs in cannot be known: they were sent together. */
		fail_if_late(s, e);
		return;
	}
	if (s->op != MSG_CREATE)
		return;
	int wrong = s->spec.restore == MSG_RESTORE_NONE
			    ? ch_api_check(CH_API_BOOT, answer, &err)
			    : ch_api_check_state(answer, "Running", &err);
	if (wrong < 0 ||
	    confine_check_threads(s->jail.proc_fd, s->vmm.pid, s->uid, (gid_t)s->uid, &err) < 0) {
		boot_fail(s, &err);
		return;
	}
	runs(s);
}

int64_t boot_check(struct shim *s, int64_t now_us)
{
	if (s->op != MSG_CREATE || !s->api.broken)
		return INT64_MAX;
	if (s->api_lost_us == 0)
		s->api_lost_us = now_us;
	if (now_us - s->api_lost_us < API_LOST_US)
		return s->api_lost_us + API_LOST_US;
	/* Where no request was under way, nobody has noted anything. */
	if (s->fail.kind == ERR_NONE)
		err_set(&s->fail, ERR_VMM, 0,
			"the VMM closed its API connection before the guest was ready");
	boot_fail(s, &s->fail);
	return INT64_MAX;
}

/* vm.resume of its own: a CH that does not know `resume` in a restore passes it over. */
static int send_restore(struct shim *s, struct err *e)
{
	int64_t deadline = create_deadline(s);
	if (ch_api_send_restore(&s->api, (enum msg_restore)s->spec.restore, s->slot.tap_fd,
				deadline, on_restore, e) < 0)
		return -1;
	return s->wake_fd >= 0 ? 0 : send_resume(s, e);
}

static int send_resume(struct shim *s, struct err *e)
{
	int64_t deadline = create_deadline(s);
	if (ch_api_send(&s->api, CH_API_RESUME, NULL, deadline, on_restored_resume, e) < 0)
		return -1;
	return ch_api_send(&s->api, CH_API_INFO, NULL, deadline, on_boot, e);
}

/*
 * All at once: CH answers them in order, so not one round trip is waited for. But a set is restored
 * only after the answer to vmm.ping: nothing of it may run in a VMM of another major version.
 */
static int send_requests(struct shim *s, struct err *e)
{
	int64_t deadline = create_deadline(s);
	if (ch_api_send(&s->api, CH_API_PING, NULL, deadline, on_ping, e) < 0)
		return -1;
	if (s->spec.restore != MSG_RESTORE_NONE)
		return 0;
	char *body CLEANUP_FREE = ch_api_create_body(&s->spec, e);
	if (!body)
		return -1;
	if (ch_api_send(&s->api, CH_API_CREATE, body, deadline, on_create, e) < 0)
		return -1;
	/* The tap's descriptor would go to whatever request CH reads first: see on_create(). */
	return s->slot.tap_fd >= 0 ? 0 : send_boot(s, e);
}

static int send_boot(struct shim *s, struct err *e)
{
	int64_t deadline = create_deadline(s);
	if (ch_api_send(&s->api, CH_API_INFO, NULL, deadline, on_info, e) < 0)
		return -1;
	return ch_api_send(&s->api, CH_API_BOOT, NULL, deadline, on_boot, e);
}

/* ------------------------------------------------------------------ start */

static int open_cgroup(struct shim *s, struct err *e)
{
	const struct policy *p = s->policy;
	if (p->cgroup_mount[0] == '\0')
		return 0;
	CLEANUP_FD int mount = file_open_dir(p->cgroup_mount, e);
	if (mount < 0)
		return -1;
	char path[POLICY_PATH_MAX + POLICY_INSTANCE_SIZE + 2];
	snprintf(path, sizeof(path), "%s/%s", p->cgroup, p->instance);
	CLEANUP_FD int parent =
		file_open_beneath(mount, path, O_PATH | O_DIRECTORY, 0, "cgroup", e);
	if (parent < 0)
		return -1;
	struct cgroup_limits limits = cgroup_limits_for(s->spec.max_vcpus, s->spec.max_memory_mib);
	s->cgroup_fd = cgroup_create(parent, s->key, &limits, p->require_limits != 0, e);
	return s->cgroup_fd < 0 ? -1 : 0;
}

/* The VMM's ends of its streams, closed here once it has them. */
struct vmm_ends {
	int out, err, event;
};

static void close_ends(struct vmm_ends *ends)
{
	fd_close(&ends->out);
	fd_close(&ends->err);
	fd_close(&ends->event);
}

/*
 * Non-blocking at both ends: a full stderr pipe that blocks would hang every API call of CH, and a
 * full one that does not only loses lines (ch-facts, section 8).
 */
static int open_streams(struct shim *s, struct vmm_ends *ends, struct err *e)
{
	int out[2], err[2], event[2];
	int size = EVENT_BUFFER;
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, errno, "make the VMM's stdout pipe");
	s->out_fd = out[0];
	ends->out = out[1];
	if (pipe2(err, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, errno, "make the VMM's stderr pipe");
	s->err_fd = err[0];
	ends->err = err[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, event) < 0)
		return err_errno(e, errno, "make the VMM's event channel");
	s->event_fd = event[0];
	ends->event = event[1];
	if (setsockopt(ends->event, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
		return err_errno(e, errno, "bound the VMM's event channel");
	return 0;
}

/* Its memory, where CH writes that itself, or a disk: neither grows beyond what it is. */
static uint64_t largest_file(const struct shim *s)
{
	uint64_t memory = (uint64_t)s->spec.max_memory_mib << 20;
	uint64_t disk = disks_largest(&s->spec);
	return disk > memory ? disk : memory;
}

static int start_vmm(struct shim *s, const struct confine_ns *host, struct vmm_ends *ends,
		     struct err *e)
{
	static const char *const argv[] = {
		"cloud-hypervisor", "--api-socket", "fd=3", "--event-monitor", "fd=4",
		"--seccomp",	    "true",	    NULL};
	char *env[POLICY_ENV_MAX + 1] = {NULL};
	for (uint32_t i = 0; i < s->policy->env_count; i++)
		env[i] = (char *)(uintptr_t)s->policy->env[i];
	struct launch launch = {
		.argv = argv,
		.env = env,
		.fds = {s->jail.pty_slave, ends->out, ends->err, s->jail.api_listen, ends->event},
		.uid = s->uid,
		.cgroup_fd = s->cgroup_fd,
		.proc_fd = s->jail.proc_fd,
		.host = host,
		.own_net = s->slot.tap_fd >= 0,
		.file_bytes = largest_file(s),
		.memory_bytes = (uint64_t)s->spec.max_memory_mib << 20,
		.vcpus = s->spec.max_vcpus,
		.deadline_us = create_deadline(s),
	};
	if (launch_vmm(&launch, &s->vmm, e) < 0)
		return -1;
	/* Ours must go, or the end of the VMM would not be the end of its sockets and pipes. */
	fd_close(&s->jail.api_listen);
	fd_close(&s->jail.pty_slave);
	return 0;
}

static int read_host_ns(struct confine_ns *host, struct err *e)
{
	CLEANUP_FD int proc = file_open_dir("/proc", e);
	return proc < 0 ? -1 : confine_read_ns(proc, "self", host, e);
}

/* What CREATE waits for must be there to wait for. */
static int check_wait(const struct shim *s, struct err *e)
{
	enum msg_wait_kind kind = (enum msg_wait_kind)s->wait.kind;
	if (kind == MSG_WAIT_VSOCK && !(s->spec.flags & MSG_CREATE_VSOCK))
		return err_set(e, ERR_INVALID, 0, "wait_for: the guest has no vsock");
	if ((kind == MSG_WAIT_TCP || kind == MSG_WAIT_HTTP) && !s->spec.network.slot)
		return err_set(e, ERR_INVALID, 0, "wait_for: the guest has no network");
	return 0;
}

int boot_start(struct shim *s, struct err *e)
{
	struct vmm_ends ends __attribute__((cleanup(close_ends))) = {-1, -1, -1};
	struct confine_ns host;
	s->phase = MSG_PHASE_SETUP;
	if (read_host_ns(&host, e) < 0 || open_cgroup(s, e) < 0 ||
	    boot_source_enter(s, create_deadline(s), e) < 0 || check_wait(s, e) < 0 ||
	    open_streams(s, &ends, e) < 0)
		return -1;
	http_client_open(&s->api, fd_take(&s->jail.api_conn), s);
	if (send_requests(s, e) < 0)
		return -1;
	int64_t built = clock_us();
	s->created.timings.setup_us = elapsed_us(s->started_us, built);
	s->phase = MSG_PHASE_STARTING;
	if (start_vmm(s, &host, &ends, e) < 0)
		return -1;
	s->executed_us = clock_us();
	s->created.timings.launch_us = elapsed_us(built, s->executed_us);
	/* From here on bytes of the VMM may be read. */
	return caps_drop_to_serving(e);
}
