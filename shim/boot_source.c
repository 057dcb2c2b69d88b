// SPDX-License-Identifier: Apache-2.0
#include "boot_source.h"

#include "boot_net.h"
#include "file.h"
#include "ops.h"
#include "serve.h"
#include "uplink.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PROGRESS_US 500000 /* between two records about it */

/* What was asked for must be what the set holds: quotas were counted by that. */
static int check_shape(const struct shim *s, const struct msg_set *set, const char *what,
		       struct err *e)
{
	const struct msg_create *asked = &s->spec, *is = &set->spec;
	bool same = is->vcpus == asked->vcpus && is->memory_mib == asked->memory_mib &&
		    is->disk_count == asked->disk_count &&
		    (is->network.slot > 0) == (asked->network.slot > 0);
	for (uint32_t i = 0; same && i < is->disk_count; i++)
		same = is->disks[i].size_mib == asked->disks[i].size_mib &&
		       is->disks[i].flags == asked->disks[i].flags;
	if (!same)
		return err_set(e, ERR_STATE, 0,
			       "%s is of a guest of another size, or with other devices", what);
	return 0;
}

/* What was baked in, and how it is restored this time. */
static void take_spec(struct shim *s, const struct msg_set *set)
{
	struct msg_create asked = s->spec;
	s->spec = set->spec;
	s->spec.source = asked.source;
	s->spec.restore = asked.restore;
	s->spec.network = asked.network; /* where it is now, not where it was taken */
	memcpy(s->spec.template, asked.template, sizeof(s->spec.template));
	s->set_content = set->content;
	str_copy(s->set_version, sizeof(s->set_version), set->vmm_version);
}

static int check_memory(const struct jail_guest *guest, const struct msg_set *set, const char *what,
			struct err *e)
{
	bool has = guest->restore == MSG_RESTORE_MAP	    ? set->content & MSG_SET_RAM
		   : guest->restore == MSG_RESTORE_ONDEMAND ? set->content & MSG_SET_RANGES
							    : true;
	if (!has)
		return err_set(e, ERR_INVALID, 0, "memory_restore: %s has no %s", what,
			       guest->restore == MSG_RESTORE_MAP ? SETS_RAM : SETS_RANGES);
	return 0;
}

/* The memory in it is of the moment when it was written, the disk is not. */
static int check_unused(struct shim *s, int set_fd, const char *what, struct err *e)
{
	if (!sets_has_writable_disk(&s->spec))
		return 0;
	if (sets_is_used(set_fd))
		return err_set(e, ERR_STATE, 0,
			       "%s was woken already, and its disk has been written since: the "
			       "memory no longer fits it; destroy the sandbox",
			       what);
	s->wake_fd = fcntl(set_fd, F_DUPFD_CLOEXEC, 0);
	return s->wake_fd < 0 ? err_errno(e, errno, "keep %s open", what) : 0;
}

/* The set to restore: its meta, not the request, says what the guest is. */
static int open_set(struct shim *s, struct jail_guest *guest, struct sets_disk disks[MSG_DISKS_MAX],
		    struct err *e)
{
	struct msg_set set;
	char what[2 * NAME_KEY_SIZE];
	bool wake = s->spec.source == MSG_SOURCE_WAKE;
	const char *key = wake ? s->key : s->spec.template;
	CLEANUP_FD int own = -1;
	if (s->spec.source == MSG_SOURCE_BOOT)
		return 0;
	/* Clean pages that clones share are a side channel: only within one tenant. */
	if (!wake && strncmp(key, s->key, strcspn(s->key, ":") + 1) != 0)
		return err_set(e, ERR_INVALID, 0, "template %s is not of the sandbox's tenant",
			       key);
	snprintf(what, sizeof(what), "%s %s", wake ? "the set of sandbox" : "template", key);
	if (wake) {
		own = file_open_beneath(s->jail.sandboxes_fd, key, O_RDONLY | O_DIRECTORY, 0, what,
					e);
		if (own < 0)
			return -1;
	}
	guest->set_fd = sets_open(wake ? own : s->jail.templates_fd, wake ? SETS_OF_SANDBOX : key,
				  key, what, &set, disks, e);
	if (guest->set_fd < 0 || check_shape(s, &set, what, e) < 0 ||
	    check_memory(guest, &set, what, e) < 0)
		return -1;
	if (!wake && sets_has_own_disk(&set.spec) && !(set.content & MSG_SET_DISKS))
		return err_set(e, ERR_INTERNAL, 0, "%s has no disks: it is damaged", what);
	take_spec(s, &set);
	guest->content = set.content;
	return wake ? check_unused(s, guest->set_fd, what, e) : 0;
}

/* ------------------------------------------------------------------ disks */

/* A long copy must not keep a supervisor waiting: the new one that says hello, or who asks for an
 * end. */
static void serve_supervisor(struct shim *s)
{
	struct pollfd p[] = {{.fd = s->link.fd, .events = POLLIN},
			     {.fd = s->listener, .events = POLLIN}};
	if (poll(p, 2, 0) <= 0)
		return;
	if (p[0].revents)
		ops_receive(s);
	if (p[1].revents & POLLIN)
		uplink_accept(s);
}

static int tell(void *arg, uint64_t done, uint64_t total, struct err *e)
{
	struct shim *s = arg;
	struct err failed;
	const struct msg_progress body = {
		.done_bytes = done,
		.total_bytes = total < done ? done : total,
	};
	int64_t now = clock_us();
	serve_supervisor(s);
	if (s->ending != SHIM_ENDING_NONE)
		return err_set(e, ERR_STATE, 0, "it was ended while its disks were being made");
	if (now - s->told_us < PROGRESS_US || s->link.fd < 0)
		return 0;
	s->told_us = now;
	if (chan_send_progress(&s->link, 0, &body, &failed) < 0 ||
	    chan_flush(&s->link, &failed) < 0)
		uplink_close(s, failed.text);
	return 0;
}

static int open_disks(struct shim *s, const struct jail_guest *guest,
		      const struct sets_disk set_disks[MSG_DISKS_MAX], struct err *e)
{
	const struct disks_order order = {
		.policy = s->policy,
		.key = s->key,
		.uid = s->uid,
		.sandboxes_fd = s->jail.sandboxes_fd,
		.set_fd = guest->set_fd,
		.set_disks = set_disks,
		.deadline_us = guest->deadline_us,
		.tell = tell,
		.arg = s,
	};
	int64_t start = clock_us();
	s->told_us = start;
	if (s->spec.disk_count == 0)
		return 0;
	if (disks_open(&order, &s->spec, &s->disks, e) < 0)
		return -1;
	s->created.disk_count = s->spec.disk_count;
	memcpy(s->created.disks, s->spec.disks, sizeof(s->created.disks));
	s->created.timings.disks_us = (uint32_t)(clock_us() - start);
	return 0;
}

int boot_source_enter(struct shim *s, int64_t deadline_us, struct err *e)
{
	struct sets_disk set_disks[MSG_DISKS_MAX];
	struct jail_guest guest = {
		.spec = &s->spec,
		.key = s->key,
		.restore = (enum msg_restore)s->spec.restore,
		.set_fd = -1,
		.deadline_us = deadline_us,
		.disks = &s->disks,
	};
	if (boot_net_prepare(s, e) < 0 || jail_unshare(e) < 0 || boot_net_build(s, e) < 0 ||
	    jail_open_sets(s->policy, &s->jail, e) < 0)
		return -1;
	int result = open_set(s, &guest, set_disks, e);
	if (result == 0)
		result = open_disks(s, &guest, set_disks, e);
	if (result == 0)
		result = jail_enter(s->policy, &guest, s->uid, &s->jail, e);
	fd_close(&guest.set_fd);
	return result;
}
