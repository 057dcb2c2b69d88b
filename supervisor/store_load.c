// SPDX-License-Identifier: Apache-2.0
#include "store_load.h"

#include "daemon.h"
#include "log.h"
#include "restart.h"
#include "sandbox.h"
#include "spec_disk.h"
#include "store_read.h"
#include "teardown.h"
#include "util.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

struct store_load {
	struct store_found *list; /* by key */
	size_t count;
};

static struct store_found *find(const struct daemon *d, const char *key)
{
	const struct store_load *all = d->recorded;
	size_t low = 0, high = all ? all->count : 0;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key, all->list[middle].key);
		if (order == 0)
			return &all->list[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

int store_load_open(struct daemon *d, int dir, struct err *e)
{
	struct store_load *all = calloc(1, sizeof(*all));
	if (!all)
		return err_errno(e, ENOMEM, "records of the store");
	d->recorded = all;
	return store_read_all(d, dir, &all->list, &all->count, e);
}

void store_load_close(struct daemon *d)
{
	for (size_t i = 0; d->recorded && i < d->recorded->count; i++)
		spec_free(d->recorded->list[i].record.spec);
	if (d->recorded)
		free(d->recorded->list);
	free(d->recorded);
	d->recorded = NULL;
}

/* ------------------------------------------------------------------ what a record adds */

/* What neither a shim nor a set knows of a specification. */
static void inherit(struct spec *s, struct spec *kept)
{
	if (!kept || kept == s)
		return;
	if (!s->labels) {
		s->labels = kept->labels;
		kept->labels = NULL;
	}
	if (!s->template) {
		s->template = kept->template;
		kept->template = NULL;
	}
	s->wait = kept->wait;
	s->restart = kept->restart;
	if (kept->restart.policy != SPEC_RESTART_NEVER)
		s->first = kept->first;
}

static void take_exit(struct sandbox *sb, const struct store_record *r)
{
	if (!r->has_exit || sb->shim != SANDBOX_SHIM_GONE)
		return;
	sb->exit = malloc(sizeof(*sb->exit));
	if (sb->exit)
		*sb->exit = r->exit;
}

/*
 * With a shim it is not due any more, whatever its record says: that was begun just after, unless
 * the shim is the one whose VMM ended, and waits to tell so. guest_us: since when its guest runs.
 */
static void take_restart(struct sandbox *sb, const struct store_record *record, int64_t guest_us)
{
	struct sandbox_restart *t = &sb->restart;
	const struct store_restart *r = &record->restart;
	bool shim = sb->shim != SANDBOX_SHIM_GONE;
	bool old = record->has_exit && guest_us && guest_us <= record->exit.at_real_us;
	bool begun = r->due && shim && !old;
	t->count = r->count + begun;
	t->streak = r->streak + begun;
	t->delay_ms = r->delay_ms;
	t->next_real_us = r->next_real_us;
	t->due = r->due && !shim;
	t->starting = begun || (r->starting && shim);
	t->last = r->has_last ? malloc(sizeof(*t->last)) : NULL;
	if (t->last)
		*t->last = r->last;
}

void store_load_match(struct sandbox *sb)
{
	struct store_found *f = find(sb->d, sb->key);
	if (!f)
		return;
	f->used = true;
	if (!f->readable) {
		sb->stored.untouched = true;
		return;
	}
	const struct store_record *r = &f->record;
	int64_t guest_us = sb->created_real_us;
	sb->created_real_us = r->created_real_us;
	sb->keep_failed = r->keep_failed;
	sb->destroy_by_real_us = r->destroy_by_real_us;
	sb->set_content = r->set_content;
	sb->set_bytes = r->set_bytes;
	sb->set_real_us = r->set_real_us;
	sb->stored.creating = f->creating;
	sb->stored.last_hash = f->hash;
	inherit(sb->spec, r->spec);
	take_exit(sb, r);
	take_restart(sb, r, guest_us);
}

const struct spec *store_load_spec(const struct daemon *d, const char *key)
{
	const struct store_found *f = find(d, key);
	return f && f->readable && !f->used ? f->record.spec : NULL;
}

/* ------------------------------------------------------------------ without a shim */

/* news: it has only now become known how it ended. */
static void step(struct sandbox *sb, enum state_event event, const char *reason, bool news)
{
	cJSON *more = cJSON_CreateObject();
	if (more && sb->exit)
		cJSON_AddItemToObject(more, "exit", view_exit(sb->exit));
	if (news)
		restart_vmm_ended(sb, more);
	sandbox_step(sb, event, reason, more);
}

static void end(struct sandbox *sb, enum msg_cause cause, enum msg_phase phase, const char *detail)
{
	if (!sb->exit)
		sb->exit = calloc(1, sizeof(*sb->exit));
	if (!sb->exit)
		return;
	*sb->exit = (struct msg_exit){
		.cause = cause, .code = -1, .phase = phase, .at_real_us = clock_real_us()};
	str_copy(sb->exit->detail, sizeof(sb->exit->detail), detail);
}

static void lose(struct sandbox *sb, const struct store_record *r)
{
	char detail[MSG_DETAIL_MAX];
	const char *how = "its VMM ended while no supervisor watched it, it is not known how or "
			  "when";
	if (r && strcmp(r->boot, sb->d->host.boot) != 0)
		how = "the host was started anew, and its VMM ended with the host";
	else if (r && r->state == STATE_HIBERNATED)
		how = "the set that it was hibernated into is gone or damaged";
	snprintf(detail, sizeof(detail), "%s%s", how,
		 spec_disk_own_mib(sb->spec) ? "; its disks are kept until it is destroyed" : "");
	end(sb, MSG_CAUSE_SHIM_LOST, MSG_PHASE_ENDED, detail);
	step(sb, STATE_ADOPT_CRASHED, msg_cause_name(MSG_CAUSE_SHIM_LOST), true);
}

/* Nobody wants it any more: what is left of it goes, and then its record. */
static void doom(struct sandbox *sb, const char *reason)
{
	if (!sb->destroy_by_real_us)
		sb->destroy_by_real_us = clock_real_us();
	restart_cancel(sb);
	step(sb, STATE_ADOPT_DESTROYING, reason, false);
	teardown_go_on(sb);
}

/*
 * It never got out of its create. Of a host that went down since, the change of the record's name
 * may be lost, so that its client may have been told that it runs.
 */
static void begin_unmade(struct sandbox *sb, const struct store_record *r)
{
	if (strcmp(r->boot, sb->d->host.boot) != 0) {
		lose(sb, r);
	} else if (r->keep_failed) {
		end(sb, MSG_CAUSE_START_FAILED, MSG_PHASE_STARTING,
		    "cloisterd ended while it was being started, and nothing was left to go on "
		    "with");
		step(sb, STATE_ADOPT_FAILED, "its create never came to an end", false);
	} else {
		doom(sb, "its create never came to an end");
	}
}

static enum state_event as_recorded(enum state s)
{
	return s == STATE_STOPPED  ? STATE_ADOPT_STOPPED
	       : s == STATE_FAILED ? STATE_ADOPT_FAILED
				   : STATE_ADOPT_CRASHED;
}

void store_load_begin(struct sandbox *sb, bool can_wake)
{
	const struct store_found *f = find(sb->d, sb->key);
	const struct store_record *r = f && f->readable ? &f->record : NULL;
	enum state was = r ? r->state : STATE_NONE;
	/* One that a shim finished when nobody was there to be told. */
	bool new_set = can_wake && r && r->set_real_us != sb->set_real_us;
	bool slept = was == STATE_HIBERNATED || was == STATE_HIBERNATING || was == STATE_WAKING;
	bool over = was == STATE_STOPPED || was == STATE_CRASHED || was == STATE_FAILED;
	if (sb->destroy_by_real_us)
		doom(sb, "its destroy was under way when an earlier supervisor ended");
	else if (f && r && f->creating)
		begin_unmade(sb, r);
	else if (can_wake && (!r || new_set || slept))
		step(sb, STATE_ADOPT_HIBERNATED, "hibernated by an earlier supervisor", false);
	else if (over && sb->exit)
		step(sb, as_recorded(was), "recorded by an earlier supervisor", false);
	else if (can_wake && sb->spec->restart.policy == SPEC_RESTART_NEVER)
		step(sb, STATE_ADOPT_HIBERNATED,
		     "its VMM ended while no supervisor watched it; its older set is whole", false);
	else
		lose(sb, r);
}

/* ------------------------------------------------------------------ what is left */

/* A later version's, say, and without a shim: nothing can be done, but nothing is lost. */
static void report(struct daemon *d, const struct store_found *f)
{
	struct err why;
	err_set(&why, ERR_INVALID, 0,
		"its record in STATE_DIR/store cannot be read now, though it may be good (the log "
		"says "
		"why): its name stays taken");
	if (!registry_report(&d->registry, f->key, &why))
		log_error("%s: no memory to note that its name is taken", f->key);
	store_read_report(d, f->key, why.text);
}

/* A sandbox of which nothing is there but its record. */
static void revive(struct daemon *d, struct store_found *f)
{
	char tenant[NAME_SIZE], id[NAME_SIZE];
	struct err e;
	struct spec *spec = f->record.spec;
	f->record.spec = NULL;
	name_key_split(f->key, tenant, id);
	struct sandbox *sb = sandbox_new(d, tenant, id, spec, &e);
	if (!sb) {
		log_error("%s: it is recorded, but cannot be listed: %s", f->key, e.text);
		return;
	}
	sb->adopted = true;
	sb->shim = SANDBOX_SHIM_GONE;
	sb->last.whole = true;
	sb->has_dir = spec->source == MSG_SOURCE_WAKE || spec_disk_own_mib(spec) > 0;
	sandbox_keep_address(sb);
	store_load_match(sb);
	store_load_begin(sb, false);
}

static void destroyed(void *arg, const struct sandbox *sb, const struct err *why)
{
	(void)arg;
	if (why)
		log_error("%s: its destroy, asked of an earlier supervisor: %s", sb->key,
			  why->text);
}

/* Somebody asked for it before the restart; its grace goes on from where it was. */
static void go_on_destroying(struct sandbox *sb)
{
	struct err e;
	int64_t left_us = sb->destroy_by_real_us - clock_real_us();
	uint32_t ms = left_us <= 0				   ? 0
		      : left_us > MSG_GRACE_MS_MAX * INT64_C(1000) ? MSG_GRACE_MS_MAX
								   : (uint32_t)(left_us / 1000);
	if (teardown_destroy(sb, ms, destroyed, NULL, &e) < 0)
		log_error("%s: its destroy, asked of an earlier supervisor: %s", sb->key, e.text);
}

static void settle(struct daemon *d, struct store_found *f)
{
	if (f->used)
		return;
	if (f->readable && registry_is_reported(&d->registry, f->key))
		return; /* its shim lives, but could not be adopted */
	f->used = f->readable;
	if (f->readable)
		revive(d, f);
	else if (!registry_is_reported(&d->registry, f->key))
		report(d, f);
}

void store_load_settle(struct daemon *d)
{
	struct store_load *all = d->recorded;
	struct sandbox *sb;
	if (!all)
		return;
	for (size_t i = 0; i < all->count; i++)
		settle(d, &all->list[i]);
	TAILQ_FOREACH(sb, &d->registry.list, entry)
	if (sb->destroy_by_real_us && sb->state != STATE_DESTROYING)
		go_on_destroying(sb);
	restart_go_on(d);
	/* Those whose shims could not be adopted may be wanted yet. */
	size_t kept = 0;
	for (size_t i = 0; i < all->count; i++) {
		if (all->list[i].used)
			spec_free(all->list[i].record.spec);
		else
			all->list[kept++] = all->list[i];
	}
	all->count = kept;
}

void store_load_settle_key(struct daemon *d, const char *key)
{
	struct store_found *f = find(d, key);
	if (!f)
		return;
	settle(d, f);
	restart_go_on(d);
}
