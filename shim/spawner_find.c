// SPDX-License-Identifier: Apache-2.0
#include "spawner_find.h"

#include "cgroup.h"
#include "file.h"
#include "log.h"
#include "sets.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* not in the headers of older systems */
#endif

/* A key and ".sock"; false for anything else that the supervisor may have put there. */
static bool key_of(const char *file, char key[NAME_KEY_SIZE])
{
	size_t len = strlen(file);
	if (len < 6 || strcmp(file + len - 5, ".sock") != 0 || len - 5 >= NAME_KEY_SIZE)
		return false;
	memcpy(key, file, len - 5);
	key[len - 5] = '\0';
	return name_key_is_valid(key);
}

/*
 * A connection to whoever listens on the socket, and the peer; -1 when there is none. The directory
 * is the supervisor's, who may have moved any socket there; but only a shim has bound one as root
 * and then given it to the supervisor's user.
 */
static int connect_to(const struct leash_table *t, const char *file, struct ucred *peer)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(*peer);
	struct stat st;
	CLEANUP_FD int path = openat(t->shims_fd, file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path < 0 || fstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) ||
	    st.st_uid != t->policy->user_uid)
		return -1;
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -1;
	/* The name may be longer than sun_path: through the descriptor it is short. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path);
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != ECONNREFUSED)
			log_warning("shims/%s is left alone, nobody takes connections there: %s",
				    file, strerrordesc_np(errno));
		return -1;
	}
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, peer, &len) < 0 || peer->uid != 0 ||
	    peer->pid <= 0)
		return -1;
	return fd_take(&sock);
}

/*
 * The process that began to listen there: the kernel keeps hold of it, so that no other one that
 * has got its pid since can be meant (SO_PEERPIDFD, Linux 6.5). Elsewhere by the pid; and as a shim
 * that is gone has closed its listening socket, being able to connect again proves that it is still
 * that one.
 */
static int open_peer(const struct leash_table *t, const char *file, int sock, pid_t pid)
{
	int pidfd;
	socklen_t len = sizeof(pidfd);
	struct ucred again;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0)
		return pidfd;
	if (errno != ENOPROTOOPT)
		return -1;
	CLEANUP_FD int by_pid = (int)syscall(SYS_pidfd_open, pid, 0);
	CLEANUP_FD int proof = by_pid < 0 ? -1 : connect_to(t, file, &again);
	return proof < 0 || again.pid != pid ? -1 : fd_take(&by_pid);
}

static bool adopt(struct leash_table *t, const char *file)
{
	struct ucred peer;
	struct err e;
	char key[NAME_KEY_SIZE];
	if (!key_of(file, key))
		return false;
	CLEANUP_FD int sock = connect_to(t, file, &peer);
	CLEANUP_FD int pidfd = sock < 0 ? -1 : open_peer(t, file, sock, peer.pid);
	if (pidfd < 0)
		return false;
	if (!leash_add(t, key, peer.pid, false, fd_take(&pidfd), -1, &e)) {
		log_error("%s", e.text);
		return false;
	}
	return true;
}

/* Opens a directory of ours for reading through it; the caller closes it with closedir(3). */
static DIR *list(int dir_fd, const char *what, struct err *e)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		err_errno(e, errno, "list %s", what);
		fd_close(&fd);
	}
	return dir;
}

static int send_set(struct leash_table *t, const char *key, const struct msg_set *set,
		    enum msg_template_kind kind, struct err *e)
{
	struct msg_template body = {.kind = kind, .set = *set};
	if (strcmp(set->key, key) != 0) {
		log_error("%s holds the set of %s: left alone", key, set->key);
		return 0;
	}
	return chan_send_template(t->link, 0, &body, e);
}

static int find_template(struct leash_table *t, const char *name, struct err *e)
{
	struct msg_set set;
	struct err why;
	if (name_key_is_valid(name)) {
		if (sets_read_meta(t->templates_fd, name, &set, &why) == 0)
			return send_set(t, name, &set, MSG_TEMPLATE_SET, e);
		log_error("template %s is left alone: %s", name, why.text);
	} else if (sets_is_abandoned(t->templates_fd, name) &&
		   sets_remove(t->templates_fd, name, &why) < 0) {
		log_error("%s", why.text);
	}
	return 0;
}

/*
 * Whether memory and disks of a hibernated sandbox still go together. Memory that does not is of
 * no use: a shim that ended early may have left it there.
 */
static bool can_wake(int sandbox_fd, const struct msg_set *set)
{
	struct err e;
	CLEANUP_FD int dir = openat(sandbox_fd, SETS_OF_SANDBOX,
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return false;
	if (!sets_is_used(dir) || !sets_has_writable_disk(&set->spec))
		return true;
	if (sets_drop_memory(dir, &e) < 0)
		log_warning("%s", e.text);
	return false;
}

/* What of a sandbox without a shim lies there: a set that can be woken, or only its disks. */
static int find_sandbox(struct leash_table *t, const char *name, struct err *e)
{
	struct msg_set set;
	struct err why;
	if (!name_key_is_valid(name) || leash_find(t, name))
		return 0;
	if (sets_clear_sandbox(t->sandboxes_fd, name, &why) < 0)
		log_error("%s", why.text);
	CLEANUP_FD int dir = file_open_beneath(
		t->sandboxes_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, "sandbox", &why);
	if (dir < 0)
		return 0;
	bool has_set = faccessat(dir, SETS_OF_SANDBOX, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	bool has_disks = faccessat(dir, SETS_DISKS, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (has_set && sets_read_meta(dir, SETS_OF_SANDBOX, &set, &why) == 0) {
		if (can_wake(dir, &set))
			return send_set(t, name, &set, MSG_TEMPLATE_HIBERNATED, e);
		return send_set(t, name, &set, MSG_TEMPLATE_LEFT, e);
	}
	if (has_set)
		log_error("the set of sandbox %s is left alone: %s", name, why.text);
	if (!has_disks)
		return 0;
	if (sets_read_meta(dir, SETS_DISKS, &set, &why) == 0)
		return send_set(t, name, &set, MSG_TEMPLATE_LEFT, e);
	log_error("the disks of sandbox %s are left alone: %s", name, why.text);
	return 0;
}

int spawner_find_sets(struct leash_table *t, struct err *e)
{
	DIR *templates = list(t->templates_fd, "templates", e);
	DIR *sandboxes = templates ? list(t->sandboxes_fd, "sandboxes", e) : NULL;
	int result = sandboxes ? 0 : -1;
	for (struct dirent *d; result == 0 && (d = readdir(templates));)
		result = find_template(t, d->d_name, e);
	for (struct dirent *d; result == 0 && (d = readdir(sandboxes));)
		result = find_sandbox(t, d->d_name, e);
	if (templates)
		closedir(templates);
	if (sandboxes)
		closedir(sandboxes);
	return result;
}

int spawner_find_shims(struct leash_table *t, uint32_t *found, struct err *e)
{
	DIR *dir = list(t->shims_fd, "shims", e);
	if (!dir)
		return -1;
	*found = 0;
	for (struct dirent *d; (d = readdir(dir));)
		if (adopt(t, d->d_name))
			(*found)++;
	closedir(dir);
	return 0;
}

/* A VMM dies with its shim, so the cgroup of one that is gone is empty; any other is left alone. */
static void remove_cgroup(struct leash_table *t, const char *key)
{
	struct err e;
	int removed = cgroup_remove(t->cgroup_fd, key, &e);
	if (removed < 0)
		log_warning("%s", e.text);
	else if (removed == 0)
		log_warning("cgroup %s is in use and no shim answers for it: see its cgroup.procs",
			    key);
	else
		log_info("%s: its shim ended unseen; its cgroup is removed", key);
}

void spawner_find_leftovers(struct leash_table *t)
{
	struct err e;
	DIR *fresh = list(t->fresh_fd, "RUN_DIR/new", &e);
	if (!fresh)
		log_warning("%s", e.text);
	for (struct dirent *d; fresh && (d = readdir(fresh));)
		if (d->d_name[0] != '.' && unlinkat(t->fresh_fd, d->d_name, 0) < 0)
			log_warning("new/%s cannot be removed: %s", d->d_name,
				    strerrordesc_np(errno));
	if (fresh)
		closedir(fresh);
	DIR *leaves = t->cgroup_fd >= 0 ? list(t->cgroup_fd, "the cgroup", &e) : NULL;
	if (t->cgroup_fd >= 0 && !leaves)
		log_warning("%s", e.text);
	for (struct dirent *d; leaves && (d = readdir(leaves));)
		if (name_key_is_valid(d->d_name) && !leash_find(t, d->d_name))
			remove_cgroup(t, d->d_name);
	if (leaves)
		closedir(leaves);
}
