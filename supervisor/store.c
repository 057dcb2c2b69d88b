// SPDX-License-Identifier: Apache-2.0
#include "store.h"

#include "daemon.h"
#include "log.h"
#include "sandbox.h"
#include "store_record.h"
#include "store_write.h"
#include "util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define GATHER_MS     100  /* changes until then are written as one */
#define LATE_AGAIN_MS 200  /* how exact the time is after which who waits is told */
#define AGAIN_MS      1000 /* what failed is tried again after this */
#define AT_ONCE	      64   /* records that one turn of the loop makes */

struct store {
	struct daemon *d;
	int dir;
	int wake_fd; /* eventfd(2): jobs are done */
	struct event *wake, *timer;
	struct event *late; /* pending while somebody waits */
	uint64_t jobs_made;
	LIST_HEAD(, store_job) all; /* whose function has not been called */
	bool failing;		    /* the last one failed, and that was logged */

	pthread_t thread;
	pthread_mutex_t lock;	  /* over what follows */
	pthread_cond_t work;	  /* for the thread: something is queued, or the end */
	pthread_cond_t idle;	  /* for store_flush(): nothing is */
	struct store_jobs queued; /* in their order */
	struct store_jobs done;
	bool busy, ending;
};

/* ------------------------------------------------------------------ the thread */

static void *write_records(void *arg)
{
	struct store *s = arg;
	const uint64_t one = 1;
	pthread_mutex_lock(&s->lock);
	s->busy = false;
	pthread_cond_broadcast(&s->idle);
	for (;;) {
		while (STAILQ_EMPTY(&s->queued) && !s->ending)
			pthread_cond_wait(&s->work, &s->lock);
		if (STAILQ_EMPTY(&s->queued))
			break;
		struct store_jobs batch = STAILQ_HEAD_INITIALIZER(batch);
		STAILQ_CONCAT(&batch, &s->queued);
		s->busy = true;
		pthread_mutex_unlock(&s->lock);
		store_write_jobs(s->dir, &batch);
		pthread_mutex_lock(&s->lock);
		STAILQ_CONCAT(&s->done, &batch);
		s->busy = false;
		pthread_cond_broadcast(&s->idle);
		/* It can only fail when it is as full as 2^64: then there is a wake-up already. */
		ssize_t ignored = write(s->wake_fd, &one, sizeof(one));
		(void)ignored;
	}
	s->busy = false;
	pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Signals are the loop's; the thread gets none. */
static int start_thread(struct store *s, struct err *e)
{
	sigset_t every, before;
	sigfillset(&every);
	s->busy = true;
	pthread_sigmask(SIG_BLOCK, &every, &before);
	int rc = pthread_create(&s->thread, NULL, write_records, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return err_errno(e, rc, "start the thread that writes STATE_DIR/store");
	pthread_setname_np(s->thread, "store");
	/* What libc does for its first steps is in no seccomp filter: the caller loads one next. */
	pthread_mutex_lock(&s->lock);
	while (s->busy)
		pthread_cond_wait(&s->idle, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* ------------------------------------------------------------------ jobs */

static void job_free(struct store_job *job)
{
	free(job->bytes);
	free(job);
}

static void set_timer(struct store *s)
{
	uint32_t ms = s->failing ? AGAIN_MS : GATHER_MS;
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
	if (!evtimer_pending(s->timer, NULL))
		evtimer_add(s->timer, &tv);
}

static void note_result(struct store *s, const struct store_job *job)
{
	if (job->rc < 0 && !s->failing)
		log_error("%s; what is not written is tried again every second, the sandboxes run "
			  "on",
			  job->err.text);
	else if (job->rc == 0 && s->failing && job->work != STORE_WORK_REMOVE)
		log_notice("records of sandboxes can be written again");
	/* Where nothing can be written, something may still be removed. */
	if (job->rc < 0 || job->work != STORE_WORK_REMOVE)
		s->failing = job->rc < 0;
}

static void finish(struct store *s, struct store_job *job)
{
	struct sandbox *sb = job->sb;
	LIST_REMOVE(job, all);
	note_result(s, job);
	if (sb) {
		struct store_mark *mark = &sb->stored;
		mark->jobs--;
		if (job->rc < 0 && job->work == STORE_WORK_REMOVE)
			mark->removed = false;
		if (job->rc < 0 && job->work != STORE_WORK_REMOVE) {
			mark->last_hash = 0;
			mark->dirty = true;
		}
		if (job->rc == 0 && !job->creating && job->work != STORE_WORK_REMOVE)
			mark->creating = false;
		if (mark->dirty)
			set_timer(s);
		if (job->fn)
			job->fn(sb, job->rc < 0 ? &job->err : NULL);
	}
	job_free(job);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
	struct store *s = arg;
	uint64_t count;
	struct store_jobs done = STAILQ_HEAD_INITIALIZER(done);
	(void)what;
	ssize_t ignored = read(fd, &count, sizeof(count));
	(void)ignored;
	pthread_mutex_lock(&s->lock);
	STAILQ_CONCAT(&done, &s->done);
	pthread_mutex_unlock(&s->lock);
	for (struct store_job *job; (job = STAILQ_FIRST(&done));) {
		STAILQ_REMOVE_HEAD(&done, queue);
		finish(s, job);
	}
}

/* No answer is to take longer for a disk that hangs than for a VMM that does. */
static uint32_t wait_ms(const struct store *s)
{
	return daemon_deadline(s->d, POLICY_DEADLINE_DESTROY);
}

static void set_late(struct store *s, uint32_t ms)
{
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
	evtimer_add(s->late, &tv);
}

static struct store_job *find_late(const struct store *s, int64_t now_us, bool *waiting)
{
	struct store_job *job;
	LIST_FOREACH(job, &s->all, all)
	{
		if (!job->fn || !job->sb)
			continue;
		*waiting = true;
		if (job->late_us <= now_us)
			return job;
	}
	return NULL;
}

/* Who waits is told; what becomes of the record is its own affair, and is noted when it is known.
 */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct store *s = arg;
	bool waiting = false;
	struct err e;
	(void)fd;
	(void)what;
	/* One at a time: who is told may take others from the list. */
	for (struct store_job *job; (job = find_late(s, clock_us(), &waiting));) {
		store_done_fn *fn = job->fn;
		job->fn = NULL;
		err_set(&e, ERR_DEADLINE, 0,
			"the record of %s is not on disk after %u ms: the file system of "
			"STATE_DIR/store does not answer",
			job->key, wait_ms(s));
		log_error("%s", e.text);
		fn(job->sb, &e);
		waiting = false;
	}
	if (waiting)
		set_late(s, LATE_AGAIN_MS);
}

static void queue(struct store *s, struct store_job *job, struct sandbox *sb, store_done_fn *fn)
{
	str_copy(job->key, sizeof(job->key), sb->key);
	job->number = ++s->jobs_made;
	job->fd = -1;
	job->sb = sb;
	job->fn = fn;
	job->late_us = clock_us() + wait_ms(s) * INT64_C(1000);
	if (fn && !evtimer_pending(s->late, NULL))
		set_late(s, wait_ms(s));
	sb->stored.jobs++;
	LIST_INSERT_HEAD(&s->all, job, all);
	pthread_mutex_lock(&s->lock);
	STAILQ_INSERT_TAIL(&s->queued, job, queue);
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

/* ------------------------------------------------------------------ records */

/* Of one whose new set is safe nothing is left to be lost: it will be hibernated. */
static enum state lasting_state(const struct sandbox *sb)
{
	return sb->state == STATE_HIBERNATING && sb->set_safe ? STATE_HIBERNATED : sb->state;
}

static char *encode(const struct sandbox *sb, size_t *length, struct err *e)
{
	struct store_record r = {
		.state = lasting_state(sb),
		.created_real_us = sb->created_real_us,
		.keep_failed = sb->keep_failed,
		.destroy_by_real_us = sb->destroy_by_real_us,
		.set_content = sb->set_content,
		.set_bytes = sb->set_bytes,
		.set_real_us = sb->set_real_us,
		.has_exit = sb->exit && sb->exit->cause != MSG_CAUSE_HIBERNATED,
		.spec = sb->spec,
	};
	str_copy(r.key, sizeof(r.key), sb->key);
	str_copy(r.boot, sizeof(r.boot), sb->d->host.boot);
	if (r.has_exit)
		r.exit = *sb->exit;
	r.restart = (struct store_restart){
		.count = sb->restart.count,
		.streak = sb->restart.streak,
		.delay_ms = sb->restart.delay_ms,
		.due = sb->restart.due,
		.starting = sb->restart.starting,
		.next_real_us = sb->restart.next_real_us,
		.has_last = sb->restart.last != NULL,
	};
	if (r.restart.has_last)
		r.restart.last = *sb->restart.last;
	return store_record_encode(&r, length, e);
}

/* NULL: no memory, or (with *same) it is on disk already. */
static struct store_job *make_put(struct sandbox *sb, enum store_care care, bool *same,
				  struct err *e)
{
	struct store_mark *mark = &sb->stored;
	struct store_job *job = calloc(1, sizeof(*job));
	*same = false;
	if (job)
		job->bytes = encode(sb, &job->length, e);
	else
		err_errno(e, ENOMEM, "no memory for the record of %s", sb->key);
	if (!job || !job->bytes) {
		free(job);
		return NULL;
	}
	uint64_t now = store_record_hash(job->bytes, job->length);
	job->work = STORE_WORK_PUT;
	job->care = care;
	job->creating = mark->creating && sb->state == STATE_CREATING;
	job->first = mark->creating;
	*same = now == mark->last_hash && care == STORE_CARE_FILE && job->creating == job->first;
	mark->dirty = false;
	if (*same) {
		job_free(job);
		return NULL;
	}
	mark->last_hash = now;
	return job;
}

static bool is_written(const struct sandbox *sb)
{
	return sb->d->store && !sb->stored.removed && !sb->stored.untouched;
}

/* At most AT_ONCE at a time, so that many do not hold up the loop; the rest follows. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct store *s = arg;
	struct sandbox *sb;
	struct err e;
	unsigned made = 0;
	bool left = false, same;
	(void)fd;
	(void)what;
	TAILQ_FOREACH(sb, &s->d->registry.list, entry)
	{
		if (!sb->stored.dirty || !is_written(sb))
			continue;
		/* One at a time: a disk that is slow gets no more than it can take. */
		if (sb->stored.jobs || made == AT_ONCE) {
			left = true;
			continue;
		}
		struct store_job *job = make_put(sb, STORE_CARE_FILE, &same, &e);
		if (job) {
			queue(s, job, sb, NULL);
			made++;
		} else if (!same) {
			log_warning("%s", e.text);
			left = true;
		}
	}
	if (left)
		set_timer(s);
}

void store_note(struct sandbox *sb)
{
	if (!is_written(sb))
		return;
	sb->stored.dirty = true;
	set_timer(sb->d->store);
}

void store_note_now(struct sandbox *sb)
{
	struct err e;
	bool same;
	if (!is_written(sb))
		return;
	struct store_job *job = make_put(sb, STORE_CARE_NONE, &same, &e);
	if (job)
		queue(sb->d->store, job, sb, NULL);
	else
		store_note(sb);
}

int store_put(struct sandbox *sb, store_done_fn *fn, struct err *e)
{
	bool same;
	struct store_job *job = make_put(sb, STORE_CARE_ALL, &same, e);
	if (!job)
		return -1;
	queue(sb->d->store, job, sb, fn);
	return 0;
}

/* One that has no bytes. */
static int ask(struct sandbox *sb, enum store_work work, enum store_care care, store_done_fn *fn,
	       struct err *e)
{
	struct store_job *job = calloc(1, sizeof(*job));
	if (!job)
		return err_errno(e, ENOMEM, "no memory for the record of %s", sb->key);
	job->work = work;
	job->care = care;
	queue(sb->d->store, job, sb, fn);
	return 0;
}

int store_commit(struct sandbox *sb, store_done_fn *fn, struct err *e)
{
	return ask(sb, STORE_WORK_COMMIT, STORE_CARE_NONE, fn, e);
}

int store_remove(struct sandbox *sb, store_done_fn *fn, struct err *e)
{
	if (ask(sb, STORE_WORK_REMOVE, STORE_CARE_ALL, fn, e) < 0)
		return -1;
	sb->stored.removed = true;
	sb->stored.dirty = false;
	return 0;
}

void store_forget(struct sandbox *sb)
{
	struct store_job *job;
	if (!sb->stored.jobs)
		return;
	LIST_FOREACH(job, &sb->d->store->all, all)
	if (job->sb == sb)
		job->sb = NULL;
	sb->stored.jobs = 0;
}

/* ------------------------------------------------------------------ beginning and end */

bool store_is_idle(const struct store *s)
{
	return LIST_EMPTY(&s->all);
}

static void free_all(struct store *s)
{
	struct store_job *job;
	while ((job = LIST_FIRST(&s->all))) {
		LIST_REMOVE(job, all);
		job_free(job);
	}
	if (s->wake)
		event_free(s->wake);
	if (s->timer)
		event_free(s->timer);
	if (s->late)
		event_free(s->late);
	fd_close(&s->wake_fd);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Its waits are for times of CLOCK_MONOTONIC. */
static void init_sync(struct store *s)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, &attributes);
	pthread_cond_init(&s->idle, &attributes);
	pthread_condattr_destroy(&attributes);
}

struct store *store_open(struct daemon *d, int dir, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));
	if (!s) {
		err_errno(e, ENOMEM, "store");
		return NULL;
	}
	*s = (struct store){.d = d, .dir = dir};
	STAILQ_INIT(&s->queued);
	STAILQ_INIT(&s->done);
	init_sync(s);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0) {
		err_errno(e, errno, "make an eventfd for the store");
		free_all(s);
		return NULL;
	}
	s->wake = event_new(d->base, s->wake_fd, EV_READ | EV_PERSIST, on_done, s);
	s->timer = evtimer_new(d->base, on_timer, s);
	s->late = evtimer_new(d->base, on_late, s);
	if (!s->wake || !s->timer || !s->late || event_add(s->wake, NULL) < 0) {
		err_errno(e, ENOMEM, "events of the store");
		free_all(s);
		return NULL;
	}
	if (start_thread(s, e) == 0)
		return s;
	free_all(s);
	return NULL;
}

/* Waits until the thread has nothing to do. */
static bool await_idle(struct store *s, int64_t until_us)
{
	const struct timespec until = {.tv_sec = until_us / 1000000,
				       .tv_nsec = until_us % 1000000 * 1000};
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while ((s->busy || !STAILQ_EMPTY(&s->queued)) && rc == 0)
		rc = pthread_cond_timedwait(&s->idle, &s->lock, &until);
	bool idle = !s->busy && STAILQ_EMPTY(&s->queued);
	pthread_mutex_unlock(&s->lock);
	return idle;
}

bool store_flush(struct store *s, uint32_t ms)
{
	int64_t until_us = clock_us() + (int64_t)ms * 1000;
	struct sandbox *sb;
	struct err e;
	bool same, whole = true;
	TAILQ_FOREACH(sb, &s->d->registry.list, entry)
	{
		if (!sb->stored.dirty || !is_written(sb))
			continue;
		struct store_job *job = make_put(sb, STORE_CARE_FILE, &same, &e);
		if (job)
			queue(s, job, sb, NULL);
		else if (!same)
			whole = false;
	}
	if (!await_idle(s, until_us)) {
		log_error("STATE_DIR/store: records of sandboxes could not be written within %u "
			  "ms; what they say last may be lost",
			  ms);
		return false;
	}
	const struct store_job *job;
	STAILQ_FOREACH(job, &s->done, queue)
	if (job->rc < 0) {
		log_error("%s", job->err.text);
		whole = false;
	}
	return whole;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	bool hangs = s->busy;
	s->ending = true;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
	/* In a disk it may hang for ever; what it works on is its own until then. */
	if (hangs) {
		pthread_detach(s->thread);
		return;
	}
	pthread_join(s->thread, NULL);
	free_all(s);
}
