// SPDX-License-Identifier: Apache-2.0
#include "adopt.h"

#include "daemon.h"
#include "file.h"
#include "log.h"
#include "spawner.h"
#include "spec.h"
#include "store_load.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEADLINE_MS 2000

/* The start of cloisterd, which waits for the shims it finds. */
struct adoption {
	struct daemon *d;
	void (*done)(struct daemon *d);
	unsigned open; /* candidates that have not been settled */
	struct event *timer;
};

struct adopt_candidate {
	LIST_ENTRY(adopt_candidate) entry;
	struct daemon *d;
	struct adoption *all; /* NULL: the start did not wait for it any longer */
	struct link *link;
	char key[NAME_KEY_SIZE];
};

static void one_less(struct adoption *all)
{
	if (--all->open)
		return;
	if (all->timer)
		event_free(all->timer);
	struct daemon *d = all->d;
	void (*done)(struct daemon *) = all->done;
	free(all);
	done(d);
}

static void forget(struct adopt_candidate *c)
{
	struct adoption *all = c->all;
	LIST_REMOVE(c, entry);
	link_free(c->link);
	free(c);
	if (all)
		one_less(all);
}

/* Its name, its address and its ports are free. */
static void unreport(struct daemon *d, const char *key)
{
	const struct registry_reported *one = registry_reported(&d->registry, key);
	if (one && one->addressed)
		pool_release(&d->pool, &one->network);
	registry_unreport(&d->registry, key);
}

/* The VM is left alone and its name is taken; an administrator has to look at it. */
static void report(struct daemon *d, const char *key, const struct err *why)
{
	char tenant[NAME_SIZE], id[NAME_SIZE];
	log_error("%s: its shim cannot be adopted (%s); its VM is left alone", key, why->text);
	const struct spec *spec = store_load_spec(d, key);
	unreport(d, key);
	struct registry_reported *one = registry_report(&d->registry, key, why);
	if (!one)
		log_error("%s: no memory to note that its name is taken", key);
	/* Nor is its address, nor are its ports, anybody else's while it lives. */
	if (one && spec && spec->networked) {
		one->network = spec->network;
		one->addressed = pool_adopt(&d->pool, &spec->network);
	}
	name_key_split(key, tenant, id);
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "reason", why->text);
	events_emit(&d->events, id, tenant, "reported", more);
}

static void give_up(struct adopt_candidate *c, const struct err *why)
{
	report(c->d, c->key, why);
	forget(c);
}

static void on_status(void *arg, struct msg *m, const struct err *why)
{
	struct adopt_candidate *c = arg;
	static struct msg_status s;
	struct err e;
	if (why) {
		give_up(c, why);
		return;
	}
	if (msg_read_status(m, &s, &e) < 0) {
		give_up(c, &e);
		return;
	}
	/* One that was late is as good as any. */
	unreport(c->d, c->key);
	if (adopt_shim(c->d, c->key, c->link, &s, &e) < 0) {
		give_up(c, &e);
		return;
	}
	c->link = NULL;
	forget(c);
}

/* A shim may log, and repeats its EXIT only after STATUS: what comes before is of no use. */
static void on_early_record(void *arg, struct msg *m)
{
	struct adopt_candidate *c = arg;
	log_debug("%s: %s record before its STATUS", c->key, msg_type_name(m->header.type));
}

static void on_closed(void *arg, const struct err *why)
{
	/* The pending STATUS request was answered with this already, and that settled it. */
	give_up(arg, why);
}

static const struct link_user candidate_user = {.record = on_early_record, .closed = on_closed};

/*
 * A shim that is making its disks answers when it has made them, one that is stopped perhaps when
 * it goes on: the start does not wait for either, but both are adopted as soon as they answer.
 */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct adoption *all = arg;
	struct adopt_candidate *c;
	struct err e;
	(void)fd;
	(void)what;
	/* One of its own, so that it stays to the end of this. */
	all->open++;
	LIST_FOREACH(c, &all->d->candidates, entry)
	{
		if (!c->all)
			continue;
		c->all = NULL;
		all->open--;
		err_set(&e, ERR_DEADLINE, 0,
			"it gives no answer, perhaps it is stopped, or makes disks; it is adopted "
			"when it answers");
		report(c->d, c->key, &e);
	}
	one_less(all);
}

/* connect(2) to shims/KEY.sock; the path through /proc fits where the name does not. */
static int connect_shim(int dir, const char *name, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	CLEANUP_FD int at = file_open_beneath(dir, name, O_PATH | O_NOFOLLOW, 0, "socket", e);
	if (at < 0)
		return -1;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "make a socket");
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d", at);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_errno(e, errno, "connect to %s", name);
	/* Who listens was root when it began to (unix(7)): nobody else can say so. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_errno(e, errno, "ask who listens on %s", name);
	if (peer.uid != 0)
		return err_set(e, ERR_STATE, 0, "uid %u listens on %s: that is no shim", peer.uid,
			       name);
	return fd_take(&fd);
}

static void ask(struct adoption *all, const char *name, const char *key)
{
	struct daemon *d = all->d;
	struct msg_hello hello = {.build = CLOISTER_VERSION};
	struct err e;
	CLEANUP_FD int fd = connect_shim(d->host.shims_dir, name, &e);
	if (fd < 0 && e.errnum == ECONNREFUSED) {
		log_info("%s: its socket is stale and will be removed", key);
		spawner_remove_socket(d->spawner, key);
		return;
	}
	struct adopt_candidate *c = fd < 0 ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		if (fd >= 0)
			err_errno(&e, ENOMEM, "no memory to adopt it");
		report(d, key, &e);
		return;
	}
	*c = (struct adopt_candidate){.d = d, .all = all};
	str_copy(c->key, sizeof(c->key), key);
	LIST_INSERT_HEAD(&d->candidates, c, entry);
	all->open++;
	c->link = link_open(d->base, fd_take(&fd), c->key, &candidate_user, c, &e);
	if (!c->link || link_request_hello(c->link, &hello, MSG_STATUS, 0, on_status, c, &e) < 0)
		give_up(c, &e);
}

/* The key of a shim's socket; false, and logged, for what else may lie there. */
static bool key_of(const char *file, char key[NAME_KEY_SIZE])
{
	size_t n = strlen(file);
	bool fits = n > 5 && strcmp(file + n - 5, ".sock") == 0 && n - 5 < NAME_KEY_SIZE;
	if (fits) {
		memcpy(key, file, n - 5);
		key[n - 5] = '\0';
	}
	if (fits && name_key_is_valid(key))
		return true;
	log_warning("%s in the shims' directory is no socket of a shim", file);
	return false;
}

int adopt_all(struct daemon *d, void (*done)(struct daemon *d), struct err *e)
{
	const struct timeval deadline = {.tv_sec = DEADLINE_MS / 1000};
	struct adoption *all = calloc(1, sizeof(*all));
	int fd = openat(d->host.shims_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct event *timer = all ? evtimer_new(d->base, on_late, all) : NULL;
	if (!dir || !timer || evtimer_add(timer, &deadline) < 0) {
		err_errno(e, dir ? ENOMEM : errno, "list the shims left by an earlier cloisterd");
		if (dir)
			closedir(dir);
		else
			fd_close(&fd);
		if (timer)
			event_free(timer);
		free(all);
		return -1;
	}
	/* One of its own, so that done() is not called before the list has been read. */
	*all = (struct adoption){.d = d, .done = done, .open = 1, .timer = timer};
	for (const struct dirent *entry; (entry = readdir(dir));) {
		char key[NAME_KEY_SIZE];
		if (entry->d_name[0] != '.' && key_of(entry->d_name, key))
			ask(all, entry->d_name, key);
	}
	closedir(dir);
	one_less(all);
	return 0;
}

void adopt_gone(struct daemon *d, const char *key)
{
	struct adopt_candidate *c;
	LIST_FOREACH(c, &d->candidates, entry)
	{
		if (strcmp(c->key, key) == 0) {
			forget(c);
			break;
		}
	}
	unreport(d, key);
}

void adopt_close(struct daemon *d)
{
	for (struct adopt_candidate *c; (c = LIST_FIRST(&d->candidates));) {
		/* The start is not to go on with a loop that has ended. */
		struct adoption *all = c->all;
		c->all = NULL;
		forget(c);
		if (all && --all->open == 0) {
			event_free(all->timer);
			free(all);
		}
	}
}
