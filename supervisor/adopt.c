// SPDX-License-Identifier: Apache-2.0
#include "adopt.h"

#include "daemon.h"
#include "file.h"
#include "log.h"
#include "sandbox.h"
#include "snapshot.h"
#include "spawner.h"
#include "spec_disk.h"
#include "store_load.h"
#include "teardown.h"
#include "util.h"
#include "watcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEADLINE_MS 2000
#define AGAIN_MS    100 /* a shim in the middle of a pause or resume is asked again after this */

struct adoption {
	struct daemon *d;
	void (*done)(struct daemon *d);
	unsigned open; /* candidates that have not been settled */
};

struct candidate {
	struct adoption *all;
	struct link *link;
	struct event *again;
	int64_t until_us;
	char key[NAME_KEY_SIZE];
	bool has_dir;		    /* of one that is ended: disks of its own may lie there */
	struct msg_network network; /* as its STATUS said */
};

static void ask(struct candidate *c);

static void settled(struct candidate *c)
{
	struct adoption *all = c->all;
	if (c->again)
		event_free(c->again);
	link_free(c->link);
	free(c);
	if (--all->open == 0) {
		all->done(all->d);
		free(all);
	}
}

/* The VM is left alone and its name is taken; an administrator has to look at it. */
static void report(struct candidate *c, const char *why)
{
	struct daemon *d = c->all->d;
	char tenant[NAME_SIZE], id[NAME_SIZE];
	log_error("%s: its shim cannot be adopted (%s); its VM is left alone", c->key, why);
	/* As long as it lives nobody else can have them. */
	pool_adopt(&d->pool, &c->network);
	if (!registry_report(&d->registry, c->key))
		log_error("%s: no memory to note that its name is taken", c->key);
	name_key_split(c->key, tenant, id);
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "reason", why);
	events_emit(&d->events, id, tenant, "reported", more);
	settled(c);
}

static void half_removed(void *arg, struct msg *m, const struct err *why)
{
	struct candidate *c = arg;
	(void)m;
	if (why && why->kind != ERR_NOT_FOUND)
		log_error("%s: what it had made of its disks was not removed: %s", c->key,
			  why->text);
	settled(c);
}

static void half_ended(void *arg, struct msg *m, const struct err *why)
{
	struct candidate *c = arg;
	struct err e;
	(void)m;
	if (why) {
		log_error("%s: in mid-create, and was not ended: %s", c->key, why->text);
		registry_report(&c->all->d->registry, c->key);
		pool_adopt(&c->all->d->pool, &c->network);
		settled(c);
	} else if (!c->has_dir) {
		settled(c);
	} else if (spawner_remove_set(c->all->d->spawner, MSG_REMOVE_SANDBOX, c->key, half_removed,
				      c, &e) < 0) {
		half_removed(c, NULL, &e);
	}
}

/*
 * Nobody waits for a create whose supervisor is gone: what there is of it is cleared away, and only
 * then is its name free. A wake's set stays, and with it the sandbox, hibernated.
 */
static void end_half_made(struct candidate *c, const struct msg_status *s)
{
	struct daemon *d = c->all->d;
	struct msg_end end = {0};
	struct err e;
	str_copy(end.key, sizeof(end.key), c->key);
	log_notice("%s: its create never finished; it is ended", c->key);
	c->has_dir = s->phase != MSG_PHASE_NEW && s->spec.source != MSG_SOURCE_WAKE &&
		     s->spec.disk_count > 0;
	/* Its end is expected now. */
	link_free(c->link);
	c->link = NULL;
	if (link_request_end(spawner_link(d->spawner), &end, MSG_DONE,
			     daemon_deadline(d, POLICY_DEADLINE_DESTROY), half_ended, c, &e) < 0)
		half_ended(c, NULL, &e);
}

static const struct link_user candidate_user;

static enum state_event meaning(const struct msg_status *s)
{
	switch (s->phase) {
	case MSG_PHASE_PAUSED:
		return STATE_ADOPT_PAUSED;
	case MSG_PHASE_SNAPSHOTTING:
		return STATE_ADOPT_SNAPSHOTTING;
	default:
		return STATE_ADOPT_RUNNING;
	}
}

static void adopt(struct candidate *c, const struct msg_status *s)
{
	struct daemon *d = c->all->d;
	char tenant[NAME_SIZE], id[NAME_SIZE];
	struct err e;
	name_key_split(c->key, tenant, id);
	struct spec *spec = spec_from_msg(&s->spec, &e);
	struct sandbox *sb = spec ? sandbox_new(d, tenant, id, spec, &e) : NULL;
	if (!sb) {
		report(c, e.text);
		return;
	}
	sb->adopted = true;
	sandbox_keep_address(sb);
	sb->shim = SANDBOX_SHIM_UP;
	sb->created_real_us = s->created_real_us;
	store_load_match(sb);
	sb->vmm_pid = s->created.vmm_pid;
	str_copy(sb->vmm_version, sizeof(sb->vmm_version), s->created.vmm_version);
	sb->timings.shim = s->created.timings;
	/* From here on the link's records are the sandbox's. */
	sb->link = c->link;
	link_hand_over(c->link, sb->key, &watcher_link, sb);
	c->link = NULL;
	/* A woken one's old set stays until a newer one is whole, which may be under way. */
	sb->has_dir = sb->spec->source == MSG_SOURCE_WAKE || s->phase == MSG_PHASE_SNAPSHOTTING ||
		      spec_disk_own_mib(sb->spec) > 0;
	if (s->created.vmm_pid &&
	    spec_disk_made(sb->spec, s->created.disks, s->created.disk_count, &e) < 0)
		log_warning("%s: %s", sb->key, e.text);
	sandbox_step(sb, meaning(s), "adopted from an earlier supervisor", NULL);
	events_emit(&d->events, sb->id, sb->tenant, "adopted", NULL);
	if (sb->state == STATE_SNAPSHOTTING)
		snapshot_watch(sb);
	settled(c);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	ask(arg);
}

static void ask_again(struct candidate *c)
{
	const struct timeval tv = {.tv_usec = AGAIN_MS * 1000};
	if (!c->again)
		c->again = evtimer_new(c->all->d->base, on_again, c);
	if (!c->again || evtimer_add(c->again, &tv) < 0)
		report(c, "no memory for a timer");
}

static void on_status(void *arg, struct msg *m, const struct err *why)
{
	struct candidate *c = arg;
	struct msg_status s;
	struct err e;
	if (why) {
		report(c, why->text);
		return;
	}
	if (msg_read_status(m, &s, &e) < 0) {
		report(c, e.text);
		return;
	}
	c->network = s.spec.network;
	switch (s.phase) {
	case MSG_PHASE_NEW:
	case MSG_PHASE_SETUP:
	case MSG_PHASE_STARTING:
		end_half_made(c, &s);
		break;
	case MSG_PHASE_PAUSING:
	case MSG_PHASE_RESUMING:
		ask_again(c);
		break;
	default:
		adopt(c, &s);
	}
}

static void ask(struct candidate *c)
{
	struct msg_hello hello = {.build = CLOISTER_VERSION};
	struct err e;
	int64_t left_us = c->until_us - clock_us();
	if (left_us < 1000) {
		report(c, "it did not settle in time");
		return;
	}
	if (link_request_hello(c->link, &hello, MSG_STATUS, (uint32_t)(left_us / 1000), on_status,
			       c, &e) < 0)
		report(c, e.text);
}

/* A shim may log, and repeats its EXIT only after STATUS: what comes before is of no use. */
static void on_early_record(void *arg, struct msg *m)
{
	struct candidate *c = arg;
	log_debug("%s: %s record before its STATUS", c->key, msg_type_name(m->header.type));
}

static void on_candidate_closed(void *arg, const struct err *why)
{
	/* The pending STATUS request was answered with this already, and that settled it; this
	 * one was between two questions. */
	report(arg, why->text);
}

static const struct link_user candidate_user = {.record = on_early_record,
						.closed = on_candidate_closed};

/* connect(2) to shims/KEY.sock; the path through /proc fits where the name does not. */
static int connect_shim(int dir, const char *name, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	CLEANUP_FD int at = file_open_beneath(dir, name, O_PATH | O_NOFOLLOW, 0, "socket", e);
	if (at < 0)
		return -1;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "make a socket");
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d", at);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_errno(e, errno, "connect to %s", name);
	return fd_take(&fd);
}

/* NULL: settled already (stale), or no memory. */
static struct candidate *begin(struct adoption *all, const char *name, const char *key)
{
	struct daemon *d = all->d;
	struct err e;
	struct candidate *c = calloc(1, sizeof(*c));
	if (!c) {
		log_error("%s: no memory to adopt it", key);
		return NULL;
	}
	*c = (struct candidate){.all = all, .until_us = clock_us() + DEADLINE_MS * 1000};
	str_copy(c->key, sizeof(c->key), key);
	all->open++;
	int fd = connect_shim(d->host.shims_dir, name, &e);
	if (fd < 0 && e.errnum == ECONNREFUSED) {
		log_info("%s: its socket is stale and will be removed", key);
		spawner_remove_socket(d->spawner, key);
		settled(c);
		return NULL;
	}
	if (fd < 0 || !(c->link = link_open(d->base, fd, c->key, &candidate_user, c, &e))) {
		report(c, e.text);
		return NULL;
	}
	return c;
}

int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *e)
{
	struct adoption *all = calloc(1, sizeof(*all));
	int fd = openat(d->host.shims_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!all || !dir) {
		err_errno(e, all ? errno : ENOMEM, "list the shims left by an earlier cloisterd");
		fd_close(&fd);
		free(all);
		return -1;
	}
	/* One of its own, so that done() is not called before the list has been read. */
	*all = (struct adoption){.d = d, .done = done, .open = 1};
	for (const struct dirent *entry; (entry = readdir(dir));) {
		char key[NAME_KEY_SIZE + 8];
		size_t n = strlen(entry->d_name);
		if (entry->d_name[0] == '.')
			continue;
		if (n < 6 || strcmp(entry->d_name + n - 5, ".sock") != 0 || n - 5 >= sizeof(key)) {
			log_warning("%s in the shims' directory is no socket of a shim",
				    entry->d_name);
			continue;
		}
		memcpy(key, entry->d_name, n - 5);
		key[n - 5] = '\0';
		struct candidate *c =
			name_key_is_valid(key) ? begin(all, entry->d_name, key) : NULL;
		if (c)
			ask(c);
	}
	closedir(dir);
	if (--all->open == 0) {
		done(d);
		free(all);
	}
	return 0;
}

/* ------------------------------------------------------------------ without a shim */

/* One that somebody left without a shim. t's spec goes over to it. */
static struct sandbox *new_record(struct daemon *d, struct template *t)
{
	struct err e;
	struct spec *spec = t->spec;
	t->spec = NULL;
	struct sandbox *sb = sandbox_new(d, t->tenant, t->name, spec, &e);
	if (!sb) {
		log_error("%s: it is on disk, but cannot be listed: %s", t->key, e.text);
		return NULL;
	}
	sb->adopted = true;
	sandbox_keep_address(sb);
	sb->shim = SANDBOX_SHIM_GONE;
	sb->created_real_us = t->created_real_us;
	sb->last.whole = true;
	store_load_match(sb);
	return sb;
}

static bool has_memory(const struct template *t)
{
	return t->content & (MSG_SET_RAM | MSG_SET_RANGES);
}

static void note_dir(struct sandbox *sb, const struct template *t)
{
	sb->has_dir = true;
	sb->set_content = t->content;
	sb->set_bytes = t->allocated_bytes;
	sb->set_real_us = t->created_real_us;
}

static void adopt_hibernated(struct daemon *d, struct template *t)
{
	struct sandbox *sb = registry_find(&d->registry, t->key), *fresh = NULL;
	if (!sb)
		fresh = sb = new_record(d, t);
	if (!sb)
		return;
	note_dir(sb, t);
	if (fresh)
		store_load_begin(sb, true);
}

/* The disks of one whose VMM and shim are gone: they are its tenant's until it destroys them. */
static void adopt_left(struct daemon *d, struct template *t)
{
	struct sandbox *sb = registry_find(&d->registry, t->key), *fresh = NULL;
	if (!sb)
		fresh = sb = new_record(d, t);
	if (!sb)
		return;
	note_dir(sb, t);
	/* Disks count as they were promised, and memory that cannot be woken is dropped. */
	sb->set_bytes = 0;
	if (!fresh)
		return;
	/* A set that cannot be woken is one that was. */
	if (has_memory(t))
		sb->spec->source = MSG_SOURCE_WAKE;
	store_load_begin(sb, false);
}

void adopt_sleeping(struct daemon *d)
{
	for (struct template *t; (t = TAILQ_FIRST(&d->sleeping.list));) {
		adopt_hibernated(d, t);
		template_forget(t);
	}
	for (struct template *t; (t = TAILQ_FIRST(&d->left.list));) {
		adopt_left(d, t);
		template_forget(t);
	}
}
