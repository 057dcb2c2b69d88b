// SPDX-License-Identifier: Apache-2.0
#include "spawner_check.h"

#include "cgroup.h"
#include "file.h"
#include "serve.h"
#include "sets.h"
#include "spawner_find.h"
#include "spawner_net.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FINDINGS_MAX 1000 /* the last one says that there are more */

struct check {
	struct leash_table *t;
	bool repair;
	unsigned count;
	struct err *e;
};

/* ------------------------------------------------------------------ telling */

static int give(struct check *c, enum msg_finding_kind kind, const char *name,
		enum msg_mended mended, const char *detail)
{
	struct msg_finding body = {.kind = kind, .mended = mended};
	if (c->count >= FINDINGS_MAX)
		return 0;
	if (++c->count == FINDINGS_MAX) {
		body = (struct msg_finding){.kind = MSG_FINDING_MORE, .mended = MSG_MENDED_LEFT};
		name = "";
		detail = "there is more than is listed here";
	}
	/* Anybody may have made the file that a name is of. */
	snprintf(body.name, sizeof(body.name), "%s", name);
	snprintf(body.detail, sizeof(body.detail), "%s", detail);
	str_clean(body.name);
	str_clean(body.detail);
	return chan_send_finding(c->t->link, 0, &body, c->e);
}

/* What is not to be mended: it is not known whose it is, or what it is worth. */
static int tell_left(struct check *c, enum msg_finding_kind kind, const char *name,
		     const char *detail)
{
	return give(c, kind, name, MSG_MENDED_LEFT, detail);
}

/* What can be; rc is that of the mending, if it was asked for, why what stood in its way. */
static int tell(struct check *c, enum msg_finding_kind kind, const char *name, const char *detail,
		int rc, const struct err *why)
{
	char text[MSG_DETAIL_MAX + ERR_TEXT_MAX];
	if (!c->repair)
		return give(c, kind, name, MSG_MENDED_CAN, detail);
	if (rc == 0)
		return give(c, kind, name, MSG_MENDED_DONE, detail);
	snprintf(text, sizeof(text), "%s; not mended: %s", detail, why->text);
	return give(c, kind, name, MSG_MENDED_LEFT, text);
}

typedef int look_fn(struct check *c, const char *name);

static int each(struct check *c, int dir_fd, const char *what, look_fn *look)
{
	DIR *dir = spawner_find_list(dir_fd, what, c->e);
	int result = dir ? 0 : -1;
	for (const struct dirent *d; result == 0 && (d = readdir(dir));)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			result = look(c, d->d_name);
	if (dir)
		closedir(dir);
	return result;
}

/* ------------------------------------------------------------------ what processes leave */

static int look_at_cgroup(struct check *c, const char *name)
{
	struct stat st;
	struct err why;
	char path[NAME_KEY_SIZE + 32], events[256] = "";
	if (fstatat(c->t->cgroup_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
	    (name_key_is_valid(name) && leash_find(c->t, name)))
		return 0;
	if (!name_key_is_valid(name))
		return tell_left(c, MSG_FINDING_CGROUP, name, "no sandbox is called so");
	snprintf(path, sizeof(path), "%s/cgroup.events", name);
	if (file_read_text(c->t->cgroup_fd, path, events, sizeof(events), &why) < 0 ||
	    strstr(events, "populated 1"))
		return tell_left(c, MSG_FINDING_CGROUP, name,
				 "it is in use, and no shim answers for it: see its cgroup.procs");
	int rc = 0;
	if (c->repair && cgroup_remove(c->t->cgroup_fd, name, &why) != 1)
		rc = err_prefix(&why, "remove it");
	return tell(c, MSG_FINDING_CGROUP, name, "nothing is in it, and it has no shim", rc, &why);
}

static int look_at_socket(struct check *c, const char *name)
{
	struct err why;
	char key[NAME_KEY_SIZE];
	if (!spawner_find_key(name, key))
		return tell_left(c, MSG_FINDING_SOCKET, name, "it is no socket of a shim");
	if (leash_find(c->t, key))
		return 0;
	if (!spawner_find_is_stale(c->t, name))
		return tell_left(c, MSG_FINDING_SOCKET, key,
				 "it is no stale socket, and not one of a shim that was found");
	int rc = c->repair ? leash_remove_stale(c->t, MSG_REMOVE_SOCKET, key, &why) : 0;
	return tell(c, MSG_FINDING_SOCKET, key, "nobody listens on it", rc, &why);
}

/* A shim that is about to move its socket is in the table: it was started by us. */
static int look_at_fresh(struct check *c, const char *name)
{
	struct err why;
	uint64_t pid;
	bool ours = str_to_u64(name, 1, INT32_MAX, &pid);
	for (const struct leash *l = c->t->first; ours && l; l = l->next)
		if (l->pid == (pid_t)pid)
			return 0;
	if (!ours)
		return tell_left(c, MSG_FINDING_FRESH, name, "no shim makes such a file");
	int rc = 0;
	if (c->repair && unlinkat(c->t->fresh_fd, name, 0) < 0)
		rc = err_errno(&why, errno, "remove it");
	return tell(c, MSG_FINDING_FRESH, name, "its shim has gone", rc, &why);
}

/* ------------------------------------------------------------------ sets */

static int check_meta(int parent, const char *dir, const char *key, struct msg_set *set,
		      struct err *e)
{
	if (sets_read_meta(parent, dir, set, e) < 0)
		return -1;
	if (strcmp(set->key, key) == 0)
		return 0;
	return err_set(e, ERR_INTERNAL, 0, "it holds the set of %s", set->key);
}

static int look_at_template(struct check *c, const char *name)
{
	struct msg_set set;
	struct err why;
	if (name_key_is_valid(name))
		return check_meta(c->t->templates_fd, name, name, &set, &why) == 0
			       ? 0
			       : tell_left(c, MSG_FINDING_TEMPLATE, name, why.text);
	if (strncmp(name, SETS_STAGING_PREFIX, sizeof(SETS_STAGING_PREFIX) - 1) != 0)
		return tell_left(c, MSG_FINDING_TEMPLATE, name, "no template is called so");
	if (!sets_is_abandoned(c->t->templates_fd, name))
		return 0;
	int rc = c->repair ? sets_remove(c->t->templates_fd, name, &why) : 0;
	return tell(c, MSG_FINDING_STAGING, name, "its writer lives no more", rc, &why);
}

static bool has(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What a shim clears away at its end, and whether that is all that there is. */
static bool has_rest(int dir)
{
	return has(dir, SETS_SCRATCH) || has(dir, SETS_STAGING_PREFIX SETS_OF_SANDBOX);
}

static int look_at_sandbox(struct check *c, const char *name)
{
	struct msg_set set;
	struct err why;
	if (name_key_is_valid(name) && leash_find(c->t, name))
		return 0;
	CLEANUP_FD int dir =
		openat(c->t->sandboxes_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || !name_key_is_valid(name))
		return tell_left(c, MSG_FINDING_SANDBOX, name,
				 "it is not the directory of a sandbox");
	bool set_there = has(dir, SETS_OF_SANDBOX), disks = has(dir, SETS_DISKS);
	if (has_rest(dir) || (!set_there && !disks)) {
		int rc = c->repair ? sets_clear_sandbox(c->t->sandboxes_fd, name, &why) : 0;
		if (tell(c, MSG_FINDING_STAGING, name,
			 "what its shim wrote last was not finished, or was nothing", rc, &why) < 0)
			return -1;
	}
	if (!set_there && !disks)
		return 0;
	const char *part = set_there ? SETS_OF_SANDBOX : SETS_DISKS;
	if (check_meta(dir, part, name, &set, &why) < 0)
		return tell_left(c, MSG_FINDING_SANDBOX, name, why.text);
	/* Whether there is a record of it the supervisor knows. */
	return give(c, MSG_FINDING_KEPT, name, MSG_MENDED_LEFT, "there is no record of it");
}

/* ------------------------------------------------------------------ uids, rules, directories */

/* The uid that a shim's VMM has; 0: it cannot be told, as there is none, or no cgroup to find it.
 */
static uid_t uid_of(const struct leash_table *t, const struct leash *l)
{
	char path[NAME_KEY_SIZE + 16], pids[4096];
	struct err ignored;
	if (l->uid)
		return l->uid;
	snprintf(path, sizeof(path), "%s/cgroup.procs", l->key);
	if (t->cgroup_fd < 0 ||
	    file_read_text(t->cgroup_fd, path, pids, sizeof(pids), &ignored) < 0)
		return 0;
	pids[strcspn(pids, "\n")] = '\0';
	return pids[0] ? leash_uid_of(pids) : 0;
}

/* Marks uids of known shims in known[]; gives the number of shims whose uid cannot be told. */
static uint32_t know_uids(const struct check *c, bool *known)
{
	const struct policy *p = c->t->policy;
	uint32_t strange = 0;
	for (const struct leash *l = c->t->first; l; l = l->next) {
		uid_t uid = uid_of(c->t, l);
		if (uid >= p->uid_base && uid - p->uid_base < p->uid_count)
			known[uid - p->uid_base] = true;
		else
			strange++;
	}
	return strange;
}

static bool is_locked(int fd, uid_t uid)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)uid, .l_len = 1};
	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int check_uids(struct check *c)
{
	const struct policy *p = c->t->policy;
	char name[16];
	CLEANUP_FD int run = file_open_dir(p->run_dir, c->e);
	CLEANUP_FD int fd = run < 0 ? -1 : openat(run, "uids", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	bool *known CLEANUP_FREE = calloc(p->uid_count, sizeof(*known));
	if (!known)
		return err_errno(c->e, ENOMEM, "list uids in use");
	/* No shim was ever started. */
	if (fd < 0)
		return run < 0 ? -1 : 0;
	uint32_t strange = know_uids(c, known), used = 0;
	for (uint32_t i = 0; i < p->uid_count; i++) {
		/* From here on: in use, and by nobody that is known. */
		known[i] = !known[i] && is_locked(fd, p->uid_base + i);
		used += known[i];
	}
	/* So many may be those of shims that have no VMM to tell by. */
	for (uint32_t i = 0; used > strange && i < p->uid_count; i++) {
		snprintf(name, sizeof(name), "%u", p->uid_base + i);
		if (known[i] && tell_left(c, MSG_FINDING_UID, name,
					  "it is in use, and by no shim that was found") < 0)
			return -1;
	}
	return 0;
}

static int check_directory(struct check *c, int parent, const char *path, uid_t uid, gid_t gid,
			   mode_t mode)
{
	struct stat st;
	struct err why;
	char detail[128];
	CLEANUP_FD int dir = openat(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return tell_left(c, MSG_FINDING_DIRECTORY, path,
				 "it cannot be opened; cloisterd makes it at its start");
	if (st.st_uid == uid && st.st_gid == gid && (st.st_mode & 07777) == mode)
		return 0;
	snprintf(detail, sizeof(detail), "it is %u:%u %04o, and should be %u:%u %04o", st.st_uid,
		 st.st_gid, st.st_mode & 07777, uid, gid, mode);
	int rc = 0;
	/* Ours first: the mode of what is another's would take CAP_FOWNER. */
	if (c->repair &&
	    (fchown(dir, 0, gid) < 0 || fchmod(dir, mode) < 0 || fchown(dir, uid, gid) < 0))
		rc = err_errno(&why, errno, "owner and mode");
	return tell(c, MSG_FINDING_DIRECTORY, path, detail, rc, &why);
}

/* As host.c makes them. */
static int check_directories(struct check *c)
{
	const struct policy *p = c->t->policy;
	CLEANUP_FD int run = file_open_dir(p->run_dir, c->e);
	CLEANUP_FD int state = run < 0 ? -1 : file_open_dir(p->state_dir, c->e);
	if (state < 0)
		return -1;
	if (check_directory(c, run, ".", 0, p->control_gid, 0750) < 0 ||
	    check_directory(c, run, "shims", p->user_uid, p->user_gid, 0700) < 0 ||
	    check_directory(c, run, "new", 0, 0, 0700) < 0 ||
	    check_directory(c, state, "store", p->user_uid, p->user_gid, 0700) < 0 ||
	    check_directory(c, state, "images", 0, 0, 0755) < 0 ||
	    check_directory(c, state, "templates", 0, 0, 0700) < 0)
		return -1;
	return check_directory(c, state, "sandboxes", 0, 0, 0700);
}

static int check_rules(struct check *c, struct spawner_net *net)
{
	struct err why;
	if (!net->missing)
		return 0;
	if (c->repair)
		spawner_net_read(net);
	err_set(&why, ERR_INTERNAL, 0, "it cannot be made; the log says why");
	return tell(c, MSG_FINDING_RULES, "nftables",
		    "the table with the host's rules for sandboxes is not there",
		    net->missing ? -1 : 0, &why);
}

int spawner_check(struct leash_table *t, struct spawner_net *net, bool repair, struct err *e)
{
	struct check c = {.t = t, .repair = repair, .e = e};
	if (check_directories(&c) < 0 || check_rules(&c, net) < 0 || check_uids(&c) < 0 ||
	    each(&c, t->shims_fd, "shims", look_at_socket) < 0 ||
	    each(&c, t->fresh_fd, "new", look_at_fresh) < 0 ||
	    each(&c, t->templates_fd, "templates", look_at_template) < 0)
		return -1;
	if (t->cgroup_fd >= 0 && each(&c, t->cgroup_fd, "the cgroup", look_at_cgroup) < 0)
		return -1;
	return each(&c, t->sandboxes_fd, "sandboxes", look_at_sandbox);
}
