// SPDX-License-Identifier: Apache-2.0
#include "spawner.h"

#include "adopt.h"
#include "daemon.h"
#include "log.h"
#include "store_load.h"
#include "survey.h"
#include "teardown.h"
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REAP_MS		2000 /* from a closed link to a process that can be reaped */
#define REAP_AGAIN_MS	10   /* until then a debugger of its may have to reap it first */
#define HELLO_MARGIN_MS 5000 /* beyond the VMM's --version deadline: the spawner's own set-up */

struct spawner {
	struct daemon *d;
	struct link *link;
	pid_t pid;
	void (*ready)(struct daemon *d, const struct err *why);
};

/* A set on disk: listed before HOST, and again when asked for. */
static void on_template(struct spawner *s, const struct msg *m)
{
	struct daemon *d = s->d;
	struct template_table *const tables[MSG_TEMPLATE_KIND_COUNT] = {
		[MSG_TEMPLATE_SET] = &d->templates,
		[MSG_TEMPLATE_HIBERNATED] = &d->sleeping,
		[MSG_TEMPLATE_LEFT] = &d->left,
	};
	struct msg_template said;
	struct err e;
	if (msg_read_template(m, &said, &e) < 0) {
		spawner_fail(s, &e);
		return;
	}
	/* What sandboxes have is asked for once: since then it is known here. */
	if (said.kind != MSG_TEMPLATE_SET && d->control)
		return;
	if (template_add(tables[said.kind], &said.set, &e) < 0)
		log_error("%s: it is on disk, but not known here: %s", said.set.key, e.text);
}

static void on_finding(struct spawner *s, const struct msg *m)
{
	struct msg_finding said;
	struct err e;
	if (msg_read_finding(m, &said, &e) < 0)
		spawner_fail(s, &e);
	else if (!survey_add(s->d, &said))
		log_debug("a finding that nobody waits for any more: %s", said.name);
}

static void on_record(void *arg, struct msg *m)
{
	struct spawner *s = arg;
	struct msg_gone gone;
	struct err e;
	if (m->header.type == MSG_TEMPLATE) {
		on_template(s, m);
		return;
	}
	if (m->header.type == MSG_FINDING) {
		on_finding(s, m);
		return;
	}
	if (msg_read_gone(m, &gone, &e) < 0) {
		spawner_fail(s, &e);
		return;
	}
	struct sandbox *sb = registry_find(&s->d->registry, gone.key);
	if (sb) {
		teardown_gone(sb, &gone);
		return;
	}
	log_info("%s: its shim, which had no record here, has gone%s%s", gone.key,
		 gone.clear ? "" : " and left ", gone.clear ? "" : gone.detail);
	adopt_gone(s->d, gone.key);
	store_load_settle_key(s->d, gone.key);
}

/* The signal that ended it, 0 for none. Its link closes a little before it can be reaped. */
static int ended_by(pid_t pid)
{
	siginfo_t info = {0};
	int64_t until_us = clock_us() + REAP_MS * INT64_C(1000);
	CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	if (pidfd < 0 || poll(&p, 1, REAP_MS) != 1)
		return 0;
	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) == 0 && !info.si_pid &&
	       clock_us() < until_us)
		poll(NULL, 0, REAP_AGAIN_MS);
	return info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED ? info.si_status : 0;
}

static void on_closed(void *arg, const struct err *why)
{
	struct spawner *s = arg;
	if (s->d->stopping)
		return;
	int signal = ended_by(s->pid);
	log_error("the spawner is gone (%s): cloisterd ends, the VMs run on; start it again",
		  why->text);
	if (signal == SIGSYS)
		log_error("the spawner made a system call that its seccomp filter does not allow: "
			  "a build by `make trap` names it");
	else if (signal)
		log_error("the spawner ended by signal %d", signal);
	daemon_stop(s->d, 1);
}

static const struct link_user spawner_user = {
	.record = on_record, .closed = on_closed, .last = true};

static void on_host(void *arg, struct msg *m, const struct err *why)
{
	struct spawner *s = arg;
	struct err e;
	if (!why && msg_read_host(m, &s->d->vmm, &e) < 0)
		why = &e;
	s->ready(s->d, why);
}

struct spawner *spawner_open(struct daemon *d, int link_fd, pid_t pid,
			     void (*ready)(struct daemon *d, const struct err *why), struct err *e)
{
	struct msg_hello hello = {.build = CLOISTER_VERSION};
	struct spawner *s = calloc(1, sizeof(*s));
	if (!s) {
		fd_close(&link_fd);
		err_errno(e, ENOMEM, "spawner");
		return NULL;
	}
	*s = (struct spawner){.d = d, .pid = pid, .ready = ready};
	s->link = link_open(d->base, link_fd, "spawner", &spawner_user, s, e);
	if (s->link &&
	    link_request_hello(s->link, &hello, MSG_HOST,
			       daemon_deadline(d, POLICY_DEADLINE_VERSION) + HELLO_MARGIN_MS,
			       on_host, s, e) == 0)
		return s;
	spawner_close(s);
	return NULL;
}

void spawner_close(struct spawner *s)
{
	if (!s)
		return;
	link_free(s->link);
	free(s);
}

struct link *spawner_link(struct spawner *s)
{
	return s->link;
}

bool spawner_is_up(struct spawner *s)
{
	return link_chan(s->link)->fd >= 0;
}

void spawner_fail(struct spawner *s, const struct err *why)
{
	log_error("spawner: %s", why->text);
	link_fail(s->link, why);
}

static void on_removed(void *arg, struct msg *m, const struct err *why)
{
	(void)arg;
	(void)m;
	if (why)
		log_warning("a stale socket was not removed: %s", why->text);
}

void spawner_remove_socket(struct spawner *s, const char *key)
{
	struct msg_remove ask = {.kind = MSG_REMOVE_SOCKET};
	struct err e;
	str_copy(ask.key, sizeof(ask.key), key);
	if (link_request_remove(s->link, &ask, MSG_DONE,
				daemon_deadline(s->d, POLICY_DEADLINE_DESTROY), on_removed, NULL,
				&e) < 0)
		log_warning("a stale socket was not removed: %s", e.text);
}

int spawner_remove_set(struct spawner *s, enum msg_remove_kind kind, const char *key,
		       link_answer_fn *cb, void *arg, struct err *e)
{
	struct msg_remove ask = {.kind = kind};
	str_copy(ask.key, sizeof(ask.key), key);
	/* A set may be large, and unlinking large files takes its time. */
	return link_request_remove(s->link, &ask, MSG_DONE,
				   daemon_deadline(s->d, POLICY_DEADLINE_SNAPSHOT), cb, arg, e);
}

static void on_listed(void *arg, struct msg *m, const struct err *why)
{
	(void)arg;
	(void)m;
	if (why)
		log_warning("templates were not listed again: %s", why->text);
}

void spawner_list_templates(struct spawner *s)
{
	struct msg_hello hello = {.build = CLOISTER_VERSION};
	struct err e;
	if (link_request_hello(s->link, &hello, MSG_HOST,
			       daemon_deadline(s->d, POLICY_DEADLINE_VERSION) + HELLO_MARGIN_MS,
			       on_listed, s, &e) < 0)
		log_warning("templates were not listed again: %s", e.text);
}
