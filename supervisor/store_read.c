// SPDX-License-Identifier: Apache-2.0
#include "store_read.h"

#include "daemon.h"
#include "log.h"
#include "store_write.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BAD	  "bad"
#define BAD_TRIES 100000 /* numbers that a name may have there */

struct reading {
	struct daemon *d;
	int dir;
	struct store_found *list;
	size_t count, size;
	char *bytes; /* STORE_RECORD_MAX + 1: room for one file, and to see that it has more */
};

void store_read_report(struct daemon *d, const char *key, const char *why)
{
	char tenant[NAME_SIZE], id[NAME_SIZE];
	log_error("%s: %s", key, why);
	name_key_split(key, tenant, id);
	cJSON *more = cJSON_CreateObject();
	cJSON_AddStringToObject(more, "reason", why);
	events_emit(&d->events, id, tenant, "reported", more);
}

/* ------------------------------------------------------------------ what is no record */

/* Moves it to bad/NAME.N, the first N that is free. */
static int move_aside(int dir, const char *name, char to[NAME_MAX + 1], struct err *e)
{
	if (mkdirat(dir, BAD, 0700) < 0 && errno != EEXIST)
		return err_errno(e, errno, "make STATE_DIR/store/" BAD);
	for (unsigned n = 1; n <= BAD_TRIES; n++) {
		if (snprintf(to, NAME_MAX + 1, BAD "/%s.%u", name, n) > NAME_MAX)
			break;
		if (renameat2(dir, name, dir, to, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return err_errno(e, errno, "move it to STATE_DIR/store/%s", to);
	}
	return err_set(e, ERR_INTERNAL, 0,
		       "move it to STATE_DIR/store/" BAD ": there are too many of its name");
}

/* False: it could not be moved, so its name stays taken. */
static bool put_aside(const struct reading *r, const char *name, const char *key,
		      const struct err *why)
{
	char to[NAME_MAX + 1], text[3 * ERR_TEXT_MAX];
	struct err e;
	bool moved = move_aside(r->dir, name, to, &e) == 0;
	snprintf(text, sizeof(text),
		 "its record STATE_DIR/store/%s cannot be read: %s; %s%s, what shim, set or disks "
		 "know of it is all that is known",
		 name, why->text,
		 moved ? "kept as STATE_DIR/store/" : "left there, as it cannot be: ",
		 moved ? to : e.text);
	store_read_report(r->d, key, text);
	return moved;
}

/* ------------------------------------------------------------------ one file */

/* Its bytes; -1: why not. */
static ssize_t read_bytes(const struct reading *r, const char *name, struct err *e)
{
	struct stat st;
	size_t used = 0;
	CLEANUP_FD int fd = openat(r->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "open it");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, 0, "it is no regular file");
	while (used <= STORE_RECORD_MAX) {
		ssize_t n = read(fd, r->bytes + used, STORE_RECORD_MAX + 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "read it");
		if (n == 0)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

static struct store_found *add(struct reading *r)
{
	if (r->count == r->size) {
		size_t size = r->size ? 2 * r->size : 64;
		struct store_found *list = reallocarray(r->list, size, sizeof(*list));
		if (!list)
			return NULL;
		r->list = list;
		r->size = size;
	}
	struct store_found *f = &r->list[r->count++];
	*f = (struct store_found){0};
	return f;
}

static int read_record(struct reading *r, const char *name, const char *key, bool creating,
		       struct err *e)
{
	struct err why;
	struct store_record record = {0};
	ssize_t n = read_bytes(r, name, &why);
	int rc = n < 0 ? -1 : store_record_decode(r->bytes, (size_t)n, key, &record, &why);
	bool stays = rc < 0 && (why.kind == ERR_VERSION || why.kind == ERR_NO_SPACE);
	if (rc < 0 && stays)
		log_warning("%s: its record STATE_DIR/store/%s is left as it is: %s", key, name,
			    why.text);
	if (rc < 0 && !stays && put_aside(r, name, key, &why))
		return 0;
	struct store_found *f = add(r);
	if (!f) {
		spec_free(record.spec);
		return err_errno(e, ENOMEM, "records of the store");
	}
	str_copy(f->key, sizeof(f->key), key);
	f->creating = creating;
	f->readable = rc == 0;
	f->record = record;
	if (f->readable)
		f->hash = store_record_hash(r->bytes, (size_t)n);
	return 0;
}

/* "KEY.json" or "KEY.creating"; false for what else there is. */
static bool split(const char *name, char key[NAME_KEY_SIZE], bool *creating)
{
	const char *dot = strrchr(name, '.');
	if (!dot || (size_t)(dot - name) >= NAME_KEY_SIZE)
		return false;
	*creating = strcmp(dot, ".creating") == 0;
	if (!*creating && strcmp(dot, ".json") != 0)
		return false;
	memcpy(key, name, (size_t)(dot - name));
	key[dot - name] = '\0';
	return name_key_is_valid(key);
}

static int look_at(struct reading *r, const char *name, struct err *e)
{
	char key[NAME_KEY_SIZE];
	bool creating;
	if (name[0] == '.') {
		bool ours = name[1] && strspn(name + 1, "0123456789") == strlen(name + 1);
		if (ours && unlinkat(r->dir, name, 0) < 0)
			log_warning("STATE_DIR/store/%s, half written, cannot be removed: %s", name,
				    strerrordesc_np(errno));
		return 0;
	}
	if (split(name, key, &creating))
		return read_record(r, name, key, creating, e);
	if (strcmp(name, BAD) != 0)
		log_warning("STATE_DIR/store/%s is no record: left alone", name);
	return 0;
}

/* ------------------------------------------------------------------ all of them */

static int compare(const void *a, const void *b)
{
	const struct store_found *one = a, *other = b;
	int order = strcmp(one->key, other->key);
	/* The one that counts comes first. */
	return order ? order : (int)one->creating - (int)other->creating;
}

/* A process that ended between the two steps of a change left both names. */
static void drop_doubles(struct reading *r)
{
	size_t kept = 0;
	for (size_t i = 0; i < r->count; i++) {
		char name[STORE_NAME_MAX];
		if (!kept || strcmp(r->list[kept - 1].key, r->list[i].key) != 0) {
			r->list[kept++] = r->list[i];
			continue;
		}
		spec_free(r->list[i].record.spec);
		store_write_name(r->list[i].key, true, name);
		if (r->list[i].readable && unlinkat(r->dir, name, 0) < 0)
			log_warning("STATE_DIR/store/%s cannot be removed: %s", name,
				    strerrordesc_np(errno));
	}
	r->count = kept;
}

int store_read_all(struct daemon *d, int dir, struct store_found **list, size_t *count,
		   struct err *e)
{
	struct reading r = {.d = d, .dir = dir};
	int rc = 0, fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *names = fd >= 0 ? fdopendir(fd) : NULL;
	if (!names) {
		err_errno(e, errno, "list STATE_DIR/store");
		fd_close(&fd);
		return -1;
	}
	r.bytes = malloc(STORE_RECORD_MAX + 1);
	if (!r.bytes)
		rc = err_errno(e, ENOMEM, "records of the store");
	for (const struct dirent *entry; rc == 0 && (entry = readdir(names));)
		rc = look_at(&r, entry->d_name, e);
	closedir(names);
	free(r.bytes);
	if (r.count)
		qsort(r.list, r.count, sizeof(*r.list), compare);
	drop_doubles(&r);
	*list = r.list;
	*count = r.count;
	return rc;
}
