// SPDX-License-Identifier: Apache-2.0
#include "readback.h"

#include "boot.h"
#include "ending.h"
#include "log.h"
#include "util.h"

#include <stdio.h>
#include <string.h>

#define DELAY_US 20000	 /* from the guest's taking a device to the read-back */
#define GAP_US	 1000000 /* the VMM can claim devices as often as it likes */

void readback_begin(struct shim *s, const struct launch *launch)
{
	struct confine_want *w = &s->readback.want;
	*w = (struct confine_want){.pid = s->vmm.pid, .uid = s->uid, .gid = (gid_t)s->uid};
	launch_limits(launch, w->limits);
	if (s->cgroup_fd >= 0)
		snprintf(w->cgroup, sizeof(w->cgroup), "/%s/%s/%s", s->policy->cgroup,
			 s->policy->instance, s->key);
	confine_note_namespaces(s->jail.proc_fd, s->vmm.pid, launch->host, &s->readback.report.sum);
}

static void end_it(struct shim *s, const struct err *why)
{
	log_error("the VMM is ended: %s", why->text);
	if (s->op == MSG_CREATE)
		boot_fail(s, why);
	else
		ending_start(s, SHIM_ENDING_UNCONFINED, 0);
}

int readback_check(struct shim *s, enum msg_confine_after after, struct err *e)
{
	struct shim_readback *r = &s->readback;
	struct msg_confine *sum = &r->report.sum;
	int64_t start = clock_us();
	int result = confine_read_back(s->jail.proc_fd, &r->want, &r->report, e);
	r->last_us = clock_us();
	r->due_us = INT64_MAX;
	sum->checks++;
	sum->after = (uint32_t)after;
	sum->at_real_us = clock_real_us();
	sum->took_us = (uint32_t)(r->last_us - start);
	sum->good = result == 0 ? 1 : e->kind == ERR_VMM ? 2 : 0;
	memset(sum->detail, 0, sizeof(sum->detail));
	snprintf(sum->detail, sizeof(sum->detail), "%s", result < 0 ? e->text : "");
	str_clean(sum->detail);
	if (sum->good)
		return 0;
	end_it(s, e);
	return -1;
}

void readback_soon(struct shim *s, enum msg_confine_after after)
{
	struct shim_readback *r = &s->readback;
	int64_t now = clock_us();
	/* Before the guest runs the one after its start is still to come. */
	if (r->due_us != INT64_MAX || r->report.sum.checks == 0)
		return;
	r->due_us = now + DELAY_US > r->last_us + GAP_US ? now + DELAY_US : r->last_us + GAP_US;
	r->due_after = after;
}

int64_t readback_step(struct shim *s, int64_t now_us)
{
	struct shim_readback *r = &s->readback;
	struct err e;
	if (s->ended || s->phase == MSG_PHASE_ENDING || s->phase == MSG_PHASE_ENDED)
		r->due_us = INT64_MAX;
	if (now_us >= r->due_us)
		readback_check(s, r->due_after, &e);
	return r->due_us;
}
