// SPDX-License-Identifier: Apache-2.0
#include "survey.h"

#include "daemon.h"
#include "spawner.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct survey {
	struct daemon *d;
	cJSON *list;
	survey_done_fn *fn;
	void *arg;
};

static const char *const kinds[MSG_FINDING_KIND_COUNT] = {
	[MSG_FINDING_CGROUP] = "cgroup",     [MSG_FINDING_SOCKET] = "socket",
	[MSG_FINDING_FRESH] = "new-socket",  [MSG_FINDING_STAGING] = "staging",
	[MSG_FINDING_TEMPLATE] = "template", [MSG_FINDING_SANDBOX] = "sandbox",
	[MSG_FINDING_KEPT] = "no-record",    [MSG_FINDING_UID] = "uid",
	[MSG_FINDING_RULES] = "rules",	     [MSG_FINDING_DIRECTORY] = "directory",
	[MSG_FINDING_MORE] = "more",
};

static const char *const mended[MSG_MENDED_COUNT] = {
	[MSG_MENDED_CAN] = "possible",
	[MSG_MENDED_LEFT] = "left",
	[MSG_MENDED_DONE] = "done",
};

static void add(struct survey *s, const char *kind, const char *name, enum msg_mended how,
		const char *detail)
{
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "kind", kind);
	cJSON_AddStringToObject(o, "name", name);
	cJSON_AddStringToObject(o, "repair", mended[how]);
	cJSON_AddStringToObject(o, "detail", detail);
	cJSON_AddItemToArray(s->list, o);
}

bool survey_add(struct daemon *d, const struct msg_finding *said)
{
	if (!d->survey)
		return false;
	/* What is known here of it is told in its own words, or is as it should be. */
	if (said->kind == MSG_FINDING_SOCKET && registry_is_reported(&d->registry, said->name))
		return true;
	if (said->kind == MSG_FINDING_KEPT && registry_find(&d->registry, said->name))
		return true;
	add(d->survey, kinds[said->kind], said->name, (enum msg_mended)said->mended, said->detail);
	return true;
}

/* Names are told; who wants them back, or gone, has to look at them. */
static void add_bad_records(struct survey *s)
{
	int fd = openat(s->d->host.store_dir, "bad", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return;
	}
	for (const struct dirent *f; (f = readdir(dir));) {
		char name[MSG_FINDING_NAME_MAX];
		if (f->d_name[0] == '.')
			continue;
		str_copy(name, sizeof(name), f->d_name);
		str_clean(name);
		add(s, "record", name, MSG_MENDED_LEFT,
		    "a record that could not be read was put aside in STATE_DIR/store/bad");
	}
	closedir(dir);
}

static void finish(struct survey *s, const struct err *why)
{
	struct survey all = *s;
	all.d->survey = NULL;
	free(s);
	if (why) {
		cJSON_Delete(all.list);
		all.list = NULL;
	}
	all.fn(all.arg, all.list, why);
}

static void on_checked(void *arg, struct msg *m, const struct err *why)
{
	struct survey *s = arg;
	const struct registry_reported *one;
	(void)m;
	if (why) {
		finish(s, why);
		return;
	}
	for (one = s->d->registry.reported; one; one = one->next)
		add(s,
		    one->kind == ERR_VERSION   ? "version"
		    : one->kind == ERR_INVALID ? "record"
					       : "shim",
		    one->key, MSG_MENDED_LEFT, one->why);
	add_bad_records(s);
	finish(s, NULL);
}

int survey_begin(struct daemon *d, bool repair, survey_done_fn *fn, void *arg, struct err *e)
{
	const struct msg_check ask = {.repair = repair};
	if (d->survey)
		return err_set(e, ERR_STATE, 0,
			       "another check is under way; try again when it is done");
	struct survey *s = calloc(1, sizeof(*s));
	cJSON *list = cJSON_CreateArray();
	if (!s || !list) {
		free(s);
		cJSON_Delete(list);
		return err_errno(e, ENOMEM, "list what differs");
	}
	*s = (struct survey){.d = d, .list = list, .fn = fn, .arg = arg};
	/* What it removes may be large, as is what it removes of a set. */
	if (link_request_check(spawner_link(d->spawner), &ask, MSG_DONE,
			       daemon_deadline(d, POLICY_DEADLINE_SNAPSHOT), on_checked, s,
			       e) < 0) {
		free(s);
		cJSON_Delete(list);
		return -1;
	}
	d->survey = s;
	return 0;
}

void survey_close(struct daemon *d)
{
	if (!d->survey)
		return;
	cJSON_Delete(d->survey->list);
	free(d->survey);
	d->survey = NULL;
}
