// SPDX-License-Identifier: Apache-2.0
#include "snapshot.h"

#include "ending.h"
#include "file.h"
#include "log.h"
#include "serve.h"
#include "snapshot_disks.h"
#include "uplink.h"
#include "util.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_US    200000
#define PROGRESS_US 250000
#define API_LOST_US 500000 /* how long a VMM that closed its API may take to exit */

static void ask_pause(struct shim *s);
static int start_copy(struct shim *s, struct err *e);

/* A guest that may be running or not is no use to anybody. */
static void lose(struct shim *s)
{
	s->phase = MSG_PHASE_RESUMING;
	ending_start(s, SHIM_ENDING_FAILED, 0);
}

static uint32_t between(int64_t from, int64_t to)
{
	int64_t us = to - from;
	return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* Being ended meanwhile: the exit's way of answering is the only one then. */
static bool overtaken(const struct shim *s)
{
	return s->op != MSG_SNAPSHOT || s->ending != SHIM_ENDING_NONE;
}

/* ------------------------------------------------------------------ the end */

static void take_directory_back(struct shim *s)
{
	if (fchown(s->jail.snapshot_fd, 0, 0) < 0)
		log_error("/snapshot could not be taken back: %s", strerrordesc_np(errno));
}

static void clean(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	fd_close(&n->from_fd);
	fd_close(&n->to_fd);
	snapshot_disks_close(s);
	sets_abandon(&n->staging);
	if (s->jail.snapshot_fd >= 0 && sets_empty(s->jail.snapshot_fd, &e) < 0)
		log_warning("%s", e.text);
	n->step = SHIM_SNAPSHOT_IDLE;
}

void snapshot_abandon(struct shim *s)
{
	if (s->snapshot.step == SHIM_SNAPSHOT_IDLE)
		return;
	take_directory_back(s);
	clean(s);
}

static void answer_failed(struct shim *s)
{
	s->op = MSG_NONE;
	s->phase = s->snapshot.before;
	uplink_end_op(s, MSG_SNAPSHOT, &s->snapshot.fail, 0);
}

/*
 * The request failed, and the VMM is of no use any more. When its connection broke it is probably
 * dead: then its exit is what there is to tell, and follows at once.
 */
static void fail_and_lose(struct shim *s, const struct err *why)
{
	struct shim_snapshot *n = &s->snapshot;
	n->fail = *why;
	clean(s);
	if (s->api.broken) {
		n->step = SHIM_SNAPSHOT_LOST;
		n->retry_us = clock_us() + API_LOST_US;
		return;
	}
	answer_failed(s);
	lose(s);
}

static void on_resumed_after_failure(void *arg, const struct http_response *answer, bool late,
				     const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	(void)e;
	if (overtaken(s))
		return;
	if (answer && ch_api_check(CH_API_RESUME, answer, &err) == 0) {
		answer_failed(s);
		return;
	}
	/* Why the snapshot failed is still the answer. */
	err = s->snapshot.fail;
	fail_and_lose(s, &err);
}

static int64_t resume_deadline(const struct shim *s)
{
	return clock_us() + s->policy->deadline_ms[POLICY_DEADLINE_RESUME] * 1000ll;
}

/* The guest goes on as if nobody had asked. */
static void fail(struct shim *s, const struct err *why)
{
	struct err e;
	s->snapshot.fail = *why;
	clean(s);
	if (!s->snapshot.paused) {
		answer_failed(s);
		return;
	}
	s->snapshot.paused = false;
	if (ch_api_send(&s->api, CH_API_RESUME, NULL, resume_deadline(s), on_resumed_after_failure,
			&e) < 0)
		fail_and_lose(s, why);
}

static void commit(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	int64_t start = clock_us();
	fd_close(&n->to_fd);
	if (snapshot_disks_commit(s, &e) < 0) {
		fail(s, &e);
		return;
	}
	n->result.sync_us = between(start, clock_us());
	clean(s);
	s->op = MSG_NONE;
	s->phase = n->before;
	uplink_end_op(s, MSG_SNAPSHOT, NULL, 0);
	if (n->kind == MSG_SNAPSHOT_HIBERNATE)
		ending_start(s, SHIM_ENDING_HIBERNATE, 0);
}

static void on_resumed(void *arg, const struct http_response *answer, bool late,
		       const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	(void)late;
	if (overtaken(s))
		return;
	s->snapshot.paused = false;
	if (answer && ch_api_check(CH_API_RESUME, answer, &err) == 0) {
		s->snapshot.result.pause_us = between(s->snapshot.paused_us, clock_us());
		commit(s);
		return;
	}
	if (!answer)
		err = *e;
	fail_and_lose(s, &err);
}

/* ------------------------------------------------------------------ memory */

static void copied(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	n->result.copy_us = between(n->copy_us, clock_us());
	n->step = SHIM_SNAPSHOT_VMM;
	if (n->kind == MSG_SNAPSHOT_HIBERNATE || !n->paused) {
		commit(s);
		return;
	}
	if (ch_api_send(&s->api, CH_API_RESUME, NULL, resume_deadline(s), on_resumed, &e) < 0) {
		n->paused = false;
		fail_and_lose(s, &e);
	}
}

static void tell_progress(struct shim *s, uint64_t done, int64_t now_us)
{
	struct shim_snapshot *n = &s->snapshot;
	const struct msg_progress body = {
		.done_bytes = done,
		.total_bytes = snapshot_disks_total(s) + ((uint64_t)s->spec.memory_mib << 20),
	};
	struct err e;
	if (now_us - n->told_us < PROGRESS_US || s->link.fd < 0)
		return;
	n->told_us = now_us;
	if (chan_send_progress(&s->link, 0, &body, &e) < 0)
		uplink_close(s, e.text);
}

/* CH loads memory on demand into our ram file: what that has allocated is how far it is. */
static void tell_loading(struct shim *s, int64_t now_us)
{
	struct stat st;
	uint64_t total = (uint64_t)s->spec.memory_mib << 20;
	if (s->jail.ram_fd < 0 || fstat(s->jail.ram_fd, &st) < 0)
		return;
	uint64_t done = (uint64_t)st.st_blocks * 512;
	tell_progress(s, done < total ? done : total, now_us);
}

static void copy_piece(struct shim *s, int64_t now_us)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	int more = n->copying_ram ? ramcopy_step(&n->copy, &e) : snapshot_disks_step(s, &e);
	if (more == 0 && !n->copying_ram)
		more = start_copy(s, &e) < 0 ? -1 : 1;
	if (more >= 0 && n->copying_ram)
		more = snapshot_disks_check_room(s, n->copy.stored, &e) < 0 ? -1 : more;
	if (more == 1 && now_us > n->deadline_us)
		more = err_set(&e, ERR_DEADLINE, 0, "disks and memory could not be copied in time");
	if (more < 0)
		fail(s, &e);
	else if (more == 0)
		copied(s);
	else
		tell_progress(s, snapshot_disks_done(s) + n->copy.at, now_us);
}

/* ------------------------------------------------------------------ what CH wrote */

/*
 * A file that the VMM wrote, ours from now on: it may still hold a descriptor to it, so what counts
 * is the copy that we make.
 */
static int take_file(struct shim *s, const char *name, uint64_t max, uint64_t *bytes, struct err *e)
{
	char what[64];
	const struct file_rule rule = {.owner = 0, .max_bytes = max};
	snprintf(what, sizeof(what), "the VMM's %s", name);
	if (fchownat(s->jail.snapshot_fd, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_VMM, errno, "take %s", what);
	CLEANUP_FD int fd = file_open_beneath(s->jail.snapshot_fd, name,
					      O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, what, e);
	if (fd < 0 || file_check_regular(fd, &rule, what, bytes, e) < 0) {
		e->kind = ERR_VMM;
		return -1;
	}
	return fd_take(&fd);
}

/* CH writes it with one unchecked write(2): only a whole JSON text counts. */
static int take_state(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	uint64_t bytes;
	CLEANUP_FD int fd = take_file(s, SETS_STATE, SETS_STATE_MAX, &bytes, e);
	if (fd < 0)
		return -1;
	char *text CLEANUP_FREE = malloc(bytes + 1);
	if (!text)
		return err_errno(e, ENOMEM, "read the VMM's state.json");
	ssize_t got = read(fd, text, bytes);
	if (got != (ssize_t)bytes)
		return err_set(e, ERR_VMM, got < 0 ? errno : 0, "read the VMM's state.json");
	text[bytes] = '\0';
	cJSON *json = cJSON_ParseWithLengthOpts(text, bytes + 1, NULL, 1);
	/* cJSON takes zero bytes for blanks; a file with a hole at its end is not whole. */
	bool whole = cJSON_IsObject(json) && !memchr(text, '\0', bytes);
	cJSON_Delete(json);
	if (!whole)
		return err_set(
			e, ERR_VMM, 0,
			"the VMM's state.json (%llu bytes) is not whole; is there room in its "
			"/snapshot?",
			(unsigned long long)bytes);
	return sets_write(&n->staging, SETS_STATE, text, bytes, n->result.set.state_digest, e);
}

/* A plain CH's, as it was imported: root's, on a mount that the VMM could never write. */
static int pass_config_on(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	char text[SETS_CONFIG_MAX];
	CLEANUP_FD int restore = file_open_dir(JAIL_RESTORE_PATH, e);
	ssize_t len =
		restore < 0 ? -1 : file_read_text(restore, SETS_CONFIG, text, sizeof(text), e);
	if (len < 0)
		return -1;
	return sets_write(&n->staging, SETS_CONFIG, text, (size_t)len, n->result.set.config_digest,
			  e);
}

/* Not CH's: the guest ran, and what it made of CH could be in there. */
static int write_config(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	if (s->set_content & MSG_SET_CONFIG)
		return pass_config_on(s, e);
	char *config CLEANUP_FREE = ch_api_config(&n->result.set.spec, MSG_RESTORE_NONE, e);
	if (!config)
		return -1;
	return sets_write(&n->staging, SETS_CONFIG, config, strlen(config),
			  n->result.set.config_digest, e);
}

/* The guest's own ram file, or what CH wrote where its memory is private to it. */
static int start_copy(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	bool own = s->jail.ram_fd >= 0;
	uint64_t want = (uint64_t)s->spec.memory_mib << 20, bytes = want;
	if (!own) {
		n->from_fd = take_file(s, SETS_RANGES, 0, &bytes, e);
		if (n->from_fd < 0)
			return -1;
	}
	if (bytes != want)
		return err_set(e, ERR_VMM, 0,
			       "the VMM wrote %llu bytes of memory, the guest has %llu",
			       (unsigned long long)bytes, (unsigned long long)want);
	n->result.set.content |=
		(own ? MSG_SET_RAM : MSG_SET_RANGES) | (s->set_content & MSG_SET_CONFIG);
	n->to_fd = sets_new_file(&n->staging, own ? SETS_RAM : SETS_RANGES, e);
	if (n->to_fd < 0)
		return -1;
	n->copying_ram = true;
	n->result.disks_us = between(n->copy_us, clock_us());
	n->copy_us = clock_us();
	return ramcopy_start(&n->copy, own ? s->jail.ram_fd : n->from_fd, n->to_fd, want, e);
}

static int begin_staging(struct shim *s, struct err *e)
{
	struct shim_snapshot *n = &s->snapshot;
	if (n->kind == MSG_SNAPSHOT_TEMPLATE)
		return sets_begin_template(&n->staging, s->jail.templates_fd, n->result.set.key, e);
	CLEANUP_FD int own = file_make_dir(s->jail.sandboxes_fd, s->key, 0, 0, 0755, e);
	if (own < 0)
		return -1;
	/* Held as long as the sandbox lives: the staging refers to it. */
	if (s->sandbox_fd < 0)
		s->sandbox_fd = fd_take(&own);
	return sets_begin_sandbox(&n->staging, s->sandbox_fd, e);
}

static void take(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	n->copy_us = clock_us();
	if (begin_staging(s, &e) < 0 || take_state(s, &e) < 0 || write_config(s, &e) < 0) {
		fail(s, &e);
		return;
	}
	n->step = SHIM_SNAPSHOT_COPY;
}

/* ------------------------------------------------------------------ CH's part */

static void on_resumed_to_wait(void *arg, const struct http_response *answer, bool late,
			       const struct err *e)
{
	struct shim *s = arg;
	struct shim_snapshot *n = &s->snapshot;
	struct err err;
	(void)late;
	if (overtaken(s))
		return;
	n->paused = false;
	if (answer && ch_api_check(CH_API_RESUME, answer, &err) == 0) {
		n->step = SHIM_SNAPSHOT_WAIT;
		n->retry_us = clock_us() + RETRY_US;
		return;
	}
	fail_and_lose(s, answer ? &err : e);
}

/* CH refuses while it still loads memory on demand. The guest does not stand still for that. */
static void wait_for_loading(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	if (clock_us() + RETRY_US > n->deadline_us) {
		err_set(&e, ERR_DEADLINE, 0,
			"the VMM has not loaded all memory in time; try later");
		fail(s, &e);
	} else if (!n->paused) {
		n->step = SHIM_SNAPSHOT_WAIT;
		n->retry_us = clock_us() + RETRY_US;
	} else if (ch_api_send(&s->api, CH_API_RESUME, NULL, resume_deadline(s), on_resumed_to_wait,
			       &e) < 0) {
		fail(s, &e);
	}
}

static void on_snapshot(void *arg, const struct http_response *answer, bool late,
			const struct err *e)
{
	struct shim *s = arg;
	struct shim_snapshot *n = &s->snapshot;
	struct err err;
	take_directory_back(s);
	if (overtaken(s) || late)
		return;
	n->result.vmm_us = between(n->asked_us, clock_us());
	if (answer && ch_api_is_still_loading(answer)) {
		if (sets_empty(s->jail.snapshot_fd, &err) < 0)
			log_warning("%s", err.text);
		wait_for_loading(s);
		return;
	}
	if (!answer)
		fail(s, e);
	else if (ch_api_check(CH_API_SNAPSHOT, answer, &err) < 0)
		fail(s, &err);
	else
		take(s);
}

static void ask_snapshot(struct shim *s)
{
	struct shim_snapshot *n = &s->snapshot;
	struct err e;
	n->asked_us = clock_us();
	/* What an answer that came too late has left there: CH does not write over it. */
	if (sets_empty(s->jail.snapshot_fd, &e) < 0) {
		fail(s, &e);
	} else if (fchown(s->jail.snapshot_fd, s->uid, (gid_t)s->uid) < 0) {
		err_errno(&e, errno, "lend /snapshot to the VMM");
		fail(s, &e);
	} else if (ch_api_send(&s->api, CH_API_SNAPSHOT, ch_api_snapshot_body(), n->deadline_us,
			       on_snapshot, &e) < 0) {
		take_directory_back(s);
		fail(s, &e);
	}
}

static void on_paused(void *arg, const struct http_response *answer, bool late, const struct err *e)
{
	struct shim *s = arg;
	struct err err;
	if (overtaken(s) || late)
		return;
	if (answer && ch_api_check(CH_API_PAUSE, answer, &err) == 0) {
		s->snapshot.paused = true;
		s->snapshot.paused_us = clock_us();
		ask_snapshot(s);
		return;
	}
	/* Without an answer it may be paused or not: nobody could tell the client which. */
	if (answer)
		fail(s, &err);
	else
		fail_and_lose(s, e);
}

static void ask_pause(struct shim *s)
{
	struct err e;
	int64_t deadline = clock_us() + s->policy->deadline_ms[POLICY_DEADLINE_PAUSE] * 1000ll;
	s->snapshot.step = SHIM_SNAPSHOT_VMM;
	if (s->snapshot.before == MSG_PHASE_PAUSED)
		ask_snapshot(s);
	else if (ch_api_send(&s->api, CH_API_PAUSE, NULL, deadline, on_paused, &e) < 0)
		fail(s, &e);
}

/* A template's disks may have to be copied. */
static int64_t deadline_ms(const struct shim *s, const struct msg_snapshot *ask)
{
	const uint32_t *ms = s->policy->deadline_ms;
	bool disks = ask->kind == MSG_SNAPSHOT_TEMPLATE && sets_has_own_disk(&s->spec);
	return (int64_t)ms[POLICY_DEADLINE_SNAPSHOT] + (disks ? ms[POLICY_DEADLINE_DISKS] : 0);
}

void snapshot_start(struct shim *s, uint32_t id, const struct msg_snapshot *ask)
{
	struct shim_snapshot *n = &s->snapshot;
	struct msg_set *set = &n->result.set;
	char tenant[NAME_SIZE], name[NAME_SIZE];
	int64_t now = clock_us();
	*n = (struct shim_snapshot){
		.kind = (enum msg_snapshot_kind)ask->kind,
		.before = s->phase,
		.started_us = now,
		.told_us = now,
		.deadline_us = now + deadline_ms(s, ask) * 1000ll,
		.staging = SETS_STAGING_INIT,
		.from_fd = -1,
		.to_fd = -1,
		.max_bytes = ask->max_bytes,
	};
	for (unsigned i = 0; i < MSG_DISKS_MAX; i++)
		n->disk_fd[i] = -1;
	s->op = MSG_SNAPSHOT;
	s->op_id = id;
	s->untold.op = MSG_NONE;
	s->phase = MSG_PHASE_SNAPSHOTTING;
	name_key_split(s->key, tenant, name);
	if (ask->kind == MSG_SNAPSHOT_TEMPLATE)
		name_key_make(set->key, tenant, ask->template);
	else
		str_copy(set->key, sizeof(set->key), s->key);
	str_copy(set->parent, sizeof(set->parent), s->key);
	str_copy(set->vmm_version, sizeof(set->vmm_version), s->created.vmm_version);
	set->created_real_us = clock_real_us();
	set->spec = s->spec;
	set->spec.source = MSG_SOURCE_BOOT;
	set->spec.restore = MSG_RESTORE_NONE;
	memset(set->spec.template, 0, sizeof(set->spec.template));
	if (snapshot_disks_check(s, &n->fail) < 0)
		answer_failed(s);
	else
		ask_pause(s);
}

void snapshot_tell(const struct shim *s, struct msg_status *out)
{
	const struct shim_snapshot *n = &s->snapshot;
	char tenant[NAME_SIZE];
	out->paused = n->before == MSG_PHASE_PAUSED;
	out->snapshot = (struct msg_snapshot){
		.kind = (uint32_t)n->kind,
		.max_bytes = n->max_bytes,
	};
	if (n->kind == MSG_SNAPSHOT_TEMPLATE)
		name_key_split(n->result.set.key, tenant, out->snapshot.template);
}

int64_t snapshot_step(struct shim *s, int64_t now_us)
{
	struct shim_snapshot *n = &s->snapshot;
	if (overtaken(s) || n->step == SHIM_SNAPSHOT_IDLE || n->step == SHIM_SNAPSHOT_VMM)
		return INT64_MAX;
	if ((n->step == SHIM_SNAPSHOT_WAIT || n->step == SHIM_SNAPSHOT_LOST) &&
	    now_us < n->retry_us)
		return n->retry_us;
	if (n->step == SHIM_SNAPSHOT_LOST) {
		n->step = SHIM_SNAPSHOT_IDLE;
		answer_failed(s);
		lose(s);
		return INT64_MAX;
	}
	if (n->step == SHIM_SNAPSHOT_WAIT) {
		tell_loading(s, now_us);
		ask_pause(s);
		return INT64_MAX;
	}
	copy_piece(s, now_us);
	return n->step == SHIM_SNAPSHOT_COPY ? now_us : INT64_MAX;
}
