// SPDX-License-Identifier: Apache-2.0
#include "cli_image_uses.h"

#include "cli_output.h"
#include "cli_request.h"
#include "file.h"
#include "name.h"
#include "sets.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ who names what */

static const char *text_of(const cJSON *object, const char *key)
{
	return cli_output_string(object, key, "");
}

static bool names_disk(const cJSON *box, const char *name, bool only_shared)
{
	const cJSON *disk;
	cJSON_ArrayForEach(disk, cJSON_GetObjectItemCaseSensitive(box, "disks"))
	{
		const cJSON *readonly = cJSON_GetObjectItemCaseSensitive(disk, "readonly");
		if (strcmp(text_of(disk, "image"), name) == 0 &&
		    (!only_shared || cJSON_IsTrue(readonly)))
			return true;
	}
	return false;
}

static bool names_image(const cJSON *box, enum cli_image_kind kind, const char *name,
			bool only_shared)
{
	if (kind == CLI_IMAGE_DISK)
		return names_disk(box, name, only_shared);
	const char *key = kind == CLI_IMAGE_KERNEL ? "kernel" : "initramfs";
	return !only_shared && strcmp(text_of(box, key), name) == 0;
}

static bool has_text(const cJSON *list, const char *text)
{
	const cJSON *item;
	cJSON_ArrayForEach(item, list) if (strcmp(item->valuestring, text) == 0) return true;
	return false;
}

cJSON *cli_image_uses_find(const struct cli_image_uses *u, enum cli_image_kind kind,
			   const char *name, bool only_shared)
{
	const struct {
		const cJSON *list;
		const char *key, *id;
	} both[] = {{u->sandboxes, "sandboxes", "id"}, {u->templates, "templates", "name"}};
	cJSON *found = cJSON_CreateObject();
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		char key[NAME_KEY_SIZE];
		const cJSON *box;
		cJSON *list = cJSON_AddArrayToObject(found, both[i].key);
		cJSON_ArrayForEach(box, both[i].list)
		{
			if (!names_image(box, kind, name, only_shared) ||
			    !name_key_make(key, text_of(box, "tenant"), text_of(box, both[i].id)) ||
			    has_text(list, key))
				continue;
			if (!cJSON_AddItemToArray(list, cJSON_CreateString(key))) {
				cJSON_Delete(found);
				return NULL;
			}
		}
	}
	return found;
}

/* ------------------------------------------------------------------ sets on disk */

static bool add_disks(cJSON *box, const struct msg_create *spec)
{
	cJSON *disks = cJSON_AddArrayToObject(box, "disks");
	for (uint32_t i = 0; i < spec->disk_count; i++) {
		const struct msg_disk *d = &spec->disks[i];
		cJSON *disk = cJSON_CreateObject();
		if (!cJSON_AddStringToObject(disk, d->flags & MSG_DISK_DEVICE ? "device" : "image",
					     d->image) ||
		    !cJSON_AddBoolToObject(disk, "readonly", d->flags & MSG_DISK_READONLY) ||
		    !cJSON_AddItemToArray(disks, disk)) {
			cJSON_Delete(disk);
			return false;
		}
	}
	return disks != NULL;
}

static int add_set(cJSON *list, const char *id, const struct msg_set *set, struct err *e)
{
	char tenant[NAME_SIZE], name[NAME_SIZE];
	const struct msg_create *spec = &set->spec;
	cJSON *box = cJSON_CreateObject();
	if (name_key_split(set->key, tenant, name) &&
	    cJSON_AddStringToObject(box, "tenant", tenant) &&
	    cJSON_AddStringToObject(box, id, name) &&
	    cJSON_AddStringToObject(box, "kernel", spec->kernel) &&
	    cJSON_AddStringToObject(box, "initramfs", spec->initramfs) && add_disks(box, spec) &&
	    cJSON_AddItemToArray(list, box))
		return 0;
	cJSON_Delete(box);
	return err_errno(e, ENOMEM, "list the sets on disk");
}

/* The set `name` below dir, if there is one. */
static int read_set(int dir, const char *name, const char *what, cJSON *list, const char *id,
		    struct err *e)
{
	struct msg_set set;
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (sets_read_meta(dir, name, &set, e) == 0)
		return add_set(list, id, &set, e);
	/* A running cloisterd may remove it between two looks. */
	if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return err_prefix(e,
			  "%s cannot be read, so that what it uses is not known; remove that "
			  "directory if nobody wants it any more",
			  what);
}

static int read_sandbox(int sandboxes, const char *key, cJSON *list, struct err *e)
{
	char what[NAME_KEY_SIZE + 32];
	snprintf(what, sizeof(what), "sandboxes/%s/%s", key, SETS_OF_SANDBOX);
	CLEANUP_FD int dir = file_open_beneath(sandboxes, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
					       0, "sandbox", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return read_set(dir, SETS_OF_SANDBOX, what, list, "id", e);
}

/* The disks of one that has neither shim nor set; where one is made just now, it has no meta yet.
 */
static int read_left(int sandboxes, const char *key, cJSON *list, struct err *e)
{
	char what[NAME_KEY_SIZE + 32];
	snprintf(what, sizeof(what), "sandboxes/%s/%s", key, SETS_DISKS);
	CLEANUP_FD int dir = file_open_beneath(sandboxes, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
					       0, "sandbox", e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (faccessat(dir, SETS_DISKS "/" SETS_META, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return read_set(dir, SETS_DISKS, what, list, "id", e);
}

static int read_template(int templates, const char *key, cJSON *list, struct err *e)
{
	char what[NAME_KEY_SIZE + 32];
	snprintf(what, sizeof(what), "templates/%s", key);
	return read_set(templates, key, what, list, "name", e);
}

static int read_sets(int state_fd, const char *folder, cJSON *list,
		     int (*read_one)(int dir, const char *key, cJSON *list, struct err *e),
		     struct err *e)
{
	int fd = file_open_beneath(state_fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
				   "directory", e);
	if (fd < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		err_errno(e, errno, "list %s", folder);
		fd_close(&fd);
		return -1;
	}
	int result = 0;
	struct dirent *d;
	while (errno = 0, result == 0 && (d = readdir(dir)))
		if (name_key_is_valid(d->d_name))
			result = read_one(fd, d->d_name, list, e);
	if (result == 0 && errno)
		result = err_errno(e, errno, "list %s", folder);
	closedir(dir);
	return result;
}

/* ------------------------------------------------------------------ cloisterd */

static bool is_admin(const struct config *c)
{
	return config_ids_have(&c->admin_users, 0) || config_ids_have(&c->admin_groups, 0);
}

/* Adds what GET path lists under key. */
static int ask(const struct cli_options *o, const char *socket, const char *path, const char *key,
	       cJSON *list)
{
	struct cli_options admin = *o;
	struct cli_target t;
	struct cli_answer a;
	admin.socket = socket;
	admin.tenant = NULL;
	cli_target_make(&t, &admin, path, NULL, NULL);
	int code = cli_request_call(&admin, "GET", &t, NULL, 0, &a);
	if (code != CLI_EXIT_OK)
		return code == CLI_EXIT_UNREACHABLE ? code : CLI_EXIT_FAILED;
	cJSON *answer = cli_output_parse(a.body, a.length);
	cJSON *items = cJSON_GetObjectItemCaseSensitive(answer, key), *item;
	code = cJSON_IsArray(items) ? CLI_EXIT_OK : CLI_EXIT_FAILED;
	while (code == CLI_EXIT_OK && (item = cJSON_DetachItemFromArray(items, 0)))
		cJSON_AddItemToArray(list, item);
	cJSON_Delete(answer);
	cli_answer_clear(&a);
	return code;
}

static int ask_daemon(struct cli_image_uses *u, const struct cli_options *o,
		      const struct config *config)
{
	char socket[POLICY_PATH_MAX + 16];
	/* Anybody else is shown a part only. */
	if (!is_admin(config)) {
		fputs("cloister: cloisterd runs, and tells who uses images to its admins only; "
		      "[admin] of its configuration leaves out root\n",
		      stderr);
		return CLI_EXIT_FAILED;
	}
	snprintf(socket, sizeof(socket), "%s/control.sock", config->policy.run_dir);
	int code = ask(o, socket, "/v1/sandboxes", "sandboxes", u->sandboxes);
	return code == CLI_EXIT_OK ? ask(o, socket, "/v1/templates", "templates", u->templates)
				   : code;
}

/* cloisterd holds this lock as long as it lives: 1 it does, 0 it does not, and now cannot start. */
static int daemon_runs(struct cli_image_uses *u, int state_fd, struct err *e)
{
	CLEANUP_FD int fd = file_open_beneath(state_fd, "lock", O_RDONLY, 0, "lock file", e);
	if (fd < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 1 : err_errno(e, errno, "lock %s", "STATE_DIR/lock");
	u->state_lock = fd_take(&fd);
	return 0;
}

/* Sandboxes outlive cloisterd. Shims take a connection of root's for nothing but a look. */
static bool shim_lives(int shims, const char *file)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	CLEANUP_FD int path = openat(shims, file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path < 0)
		return errno != ENOENT;
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The name may be longer than sun_path: through the descriptor it is short. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path);
	return connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0 ||
	       errno != ECONNREFUSED;
}

static int check_shims(const struct config *config, struct err *e)
{
	char path[POLICY_PATH_MAX + 8];
	snprintf(path, sizeof(path), "%s/shims", config->policy.run_dir);
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : err_errno(e, errno, "list %s", path);
	int result = 0;
	for (struct dirent *d; result == 0 && (d = readdir(dir));)
		if (d->d_name[0] != '.' && shim_lives(dirfd(dir), d->d_name))
			result = err_set(e, ERR_STATE, 0,
					 "sandboxes live that only a supervisor can ask what they "
					 "use (%s): start cloisterd first",
					 d->d_name);
	closedir(dir);
	return result;
}

int cli_image_uses_read(struct cli_image_uses *u, const struct cli_options *o,
			const struct config *config, int state_fd)
{
	struct err e;
	*u = (struct cli_image_uses)CLI_IMAGE_USES_INIT;
	u->sandboxes = cJSON_CreateArray();
	u->templates = cJSON_CreateArray();
	int runs = daemon_runs(u, state_fd, &e);
	if (runs == 1) {
		int code = ask_daemon(u, o, config);
		if (code != CLI_EXIT_OK)
			return code;
	}
	/* After the daemon's lists, so that what it makes meanwhile is in one of the two. */
	if (runs < 0 ||
	    (runs == 0 && (check_shims(config, &e) < 0 ||
			   read_sets(state_fd, "sandboxes", u->sandboxes, read_left, &e) < 0)) ||
	    read_sets(state_fd, "templates", u->templates, read_template, &e) < 0 ||
	    read_sets(state_fd, "sandboxes", u->sandboxes, read_sandbox, &e) < 0) {
		fprintf(stderr, "cloister: who uses images: %s\n", e.text);
		return CLI_EXIT_FAILED;
	}
	return CLI_EXIT_OK;
}

void cli_image_uses_clear(struct cli_image_uses *u)
{
	cJSON_Delete(u->sandboxes);
	cJSON_Delete(u->templates);
	fd_close(&u->state_lock);
	*u = (struct cli_image_uses)CLI_IMAGE_USES_INIT;
}
