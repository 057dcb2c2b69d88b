// SPDX-License-Identifier: Apache-2.0
/* A shim's word of itself becomes a record, in whatever it is in the middle of. */
#include "adopt.h"
#include "daemon.h"
#include "log.h"
#include "operate.h"
#include "snapshot.h"
#include "spec_disk.h"
#include "store_load.h"
#include "teardown.h"
#include "util.h"
#include "watcher.h"

#include <string.h>

static enum state_event meaning(const struct msg_status *s)
{
	if (s->ending == MSG_ENDING_DESTROY)
		return STATE_ADOPT_DESTROYING;
	if (s->ending == MSG_ENDING_HIBERNATE)
		return STATE_ADOPT_HIBERNATING;
	switch (s->op) {
	case MSG_CREATE:
		return s->spec.source == MSG_SOURCE_WAKE ? STATE_ADOPT_WAKING
							 : STATE_ADOPT_CREATING;
	case MSG_PAUSE:
		return STATE_ADOPT_RUNNING;
	case MSG_RESUME:
		return STATE_ADOPT_PAUSED;
	case MSG_SNAPSHOT:
		return s->snapshot.kind == MSG_SNAPSHOT_HIBERNATE ? STATE_ADOPT_HIBERNATING
								  : STATE_ADOPT_SNAPSHOTTING;
	default:
		return s->phase == MSG_PHASE_PAUSED ? STATE_ADOPT_PAUSED : STATE_ADOPT_RUNNING;
	}
}

/* What is in hand goes on, and its end is heard here. */
static void go_on(struct sandbox *sb, const struct msg_status *s)
{
	const struct daemon *d = sb->d;
	if (sb->state == STATE_DESTROYING) {
		/* The rest of the grace, then what comes after it. */
		teardown_await(sb, s->ending_ms + daemon_deadline(d, POLICY_DEADLINE_POWER_BUTTON) +
					   daemon_deadline(d, POLICY_DEADLINE_SHUTDOWN) +
					   daemon_deadline(d, POLICY_DEADLINE_DESTROY));
	} else if (s->op == MSG_CREATE) {
		sandbox_take(sb, s);
	} else if (s->op == MSG_SNAPSHOT) {
		snapshot_take(sb, s);
	} else if (sb->state == STATE_HIBERNATING) {
		/* Its set is safe; EXIT follows. */
		teardown_await(sb, daemon_deadline(d, POLICY_DEADLINE_SHUTDOWN) +
					   daemon_deadline(d, POLICY_DEADLINE_DESTROY));
	} else if (s->op != MSG_NONE) {
		operate_take(sb, s);
	}
}

/* Told by the shim, and of use to people. */
static void note(struct sandbox *sb, const struct msg_status *s)
{
	struct err e;
	sb->adopted = true;
	sb->shim = SANDBOX_SHIM_UP;
	sb->created_real_us = s->created_real_us;
	if (!s->created.vmm_pid)
		return;
	sb->vmm_pid = s->created.vmm_pid;
	str_copy(sb->vmm_version, sizeof(sb->vmm_version), s->created.vmm_version);
	sb->timings.shim = s->created.timings;
	if (spec_disk_made(sb->spec, s->created.disks, s->created.disk_count, &e) < 0)
		log_warning("%s: %s", sb->key, e.text);
}

int adopt_shim(struct daemon *d, const char *key, struct link *link, const struct msg_status *s,
	       struct err *e)
{
	char tenant[NAME_SIZE], id[NAME_SIZE];
	name_key_split(key, tenant, id);
	if (s->phase == MSG_PHASE_NEW)
		return err_set(e, ERR_PROTOCOL, 0, "it has no guest, and yet a socket");
	struct spec *spec = spec_from_msg(&s->spec, e);
	struct sandbox *sb = spec ? sandbox_new(d, tenant, id, spec, e) : NULL;
	if (!sb)
		return -1;
	sandbox_keep_address(sb);
	note(sb, s);
	store_load_match(sb);
	/* From here on the link's records are the sandbox's. */
	sb->link = link;
	link_hand_over(link, sb->key, &watcher_link, sb);
	/* A woken one's old set stays until a newer one is whole, which may be under way. */
	sb->has_dir = sb->spec->source == MSG_SOURCE_WAKE || s->op == MSG_SNAPSHOT ||
		      s->ending == MSG_ENDING_HIBERNATE || spec_disk_own_mib(sb->spec) > 0;
	sandbox_step(sb, meaning(s), "adopted from an earlier supervisor", NULL);
	events_emit(&d->events, sb->id, sb->tenant, "adopted", NULL);
	go_on(sb, s);
	/* It was made, though who asked for it may not have heard so. */
	if (sb->stored.creating && sb->state != STATE_CREATING && sb->state != STATE_DESTROYING)
		sandbox_commit(sb);
	return 0;
}
