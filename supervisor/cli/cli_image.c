// SPDX-License-Identifier: Apache-2.0
#include "cli_image.h"

#include "caps.h"
#include "cli_output.h"
#include "file.h"
#include "filter.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/cloister/cloisterd.conf"
#define USAGE                                                                                      \
	"usage: cloister image ls [KIND] | inspect [--verify] KIND NAME | import [--replace] "     \
	"KIND NAME FILE | rm KIND NAME (KIND: kernel, initramfs or disk)"

int cli_image_failed(const struct cli_image_place *p, const char *what, const struct err *e)
{
	fprintf(stderr, "cloister: %s %s %s: %s\n", what, cli_image_store_kind(p->kind), p->name,
		e->text);
	return e->kind == ERR_NOT_FOUND ? CLI_EXIT_NOT_FOUND : CLI_EXIT_FAILED;
}

/* ------------------------------------------------------------------ pictures */

static bool put_text(cJSON *o, const char *key, const char *text)
{
	return (*text ? cJSON_AddStringToObject(o, key, text) : cJSON_AddNullToObject(o, key)) !=
	       NULL;
}

cJSON *cli_image_view(enum cli_image_kind kind, const struct cli_image_info *info,
		      const struct cli_image_uses *uses)
{
	cJSON *o = cJSON_CreateObject();
	cJSON *users =
		uses ? cli_image_uses_find(uses, kind, info->name, false) : cJSON_CreateNull();
	if (put_text(o, "kind", cli_image_store_kind(kind)) && put_text(o, "name", info->name) &&
	    cJSON_AddNumberToObject(o, "bytes", (double)info->bytes) &&
	    cJSON_AddNumberToObject(o, "allocated_bytes", (double)info->allocated_bytes) &&
	    put_text(o, "sha256", info->sha256) && put_text(o, "imported_at", info->imported_at) &&
	    put_text(o, "source", info->source) && put_text(o, "fault", info->fault) &&
	    cJSON_AddItemToObject(o, "users", users))
		return o;
	cJSON_Delete(users);
	cJSON_Delete(o);
	fputs("cloister: no memory for the answer\n", stderr);
	return NULL;
}

static int print_json(const cJSON *object)
{
	char *text CLEANUP_FREE = cJSON_PrintUnformatted(object);
	if (!text)
		return CLI_EXIT_FAILED;
	cli_output_json(text, strlen(text));
	return CLI_EXIT_OK;
}

static void print_row(const cJSON *image)
{
	char bytes[32], allocated[32], users[16] = "?";
	const cJSON *all = cJSON_GetObjectItemCaseSensitive(image, "users");
	const cJSON *size = cJSON_GetObjectItemCaseSensitive(image, "bytes");
	const cJSON *taken = cJSON_GetObjectItemCaseSensitive(image, "allocated_bytes");
	const char *fault = cli_output_string(image, "fault", "");
	cli_output_size(size->valuedouble, bytes, sizeof(bytes));
	cli_output_size(taken->valuedouble, allocated, sizeof(allocated));
	if (cJSON_IsObject(all))
		snprintf(users, sizeof(users), "%d",
			 cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(all, "sandboxes")) +
				 cJSON_GetArraySize(
					 cJSON_GetObjectItemCaseSensitive(all, "templates")));
	printf("%-24s  %-9s  %10s  %10s  %5s  %-24s  %.12s", cli_output_string(image, "name", "?"),
	       cli_output_string(image, "kind", "?"), bytes, allocated, users,
	       cli_output_string(image, "imported_at", "-"),
	       cli_output_string(image, "sha256", "-"));
	fputs(*fault ? "  unusable: " : "", stdout);
	cli_output_text(stdout, fault);
	putchar('\n');
}

static void print_table(const cJSON *images)
{
	const cJSON *image;
	printf("%-24s  %-9s  %10s  %10s  %5s  %-24s  %s\n", "NAME", "KIND", "SIZE", "ON DISK",
	       "USERS", "IMPORTED", "SHA256");
	cJSON_ArrayForEach(image, images) print_row(image);
}

/* ------------------------------------------------------------------ ls */

static int is_image(const struct dirent *d)
{
	return name_is_valid(d->d_name);
}

static int list_kind(const struct cli_image_place *p, const struct cli_image_uses *uses,
		     cJSON *images, struct err *e)
{
	struct dirent **names = NULL;
	CLEANUP_FD int dir = cli_image_store_open(p->state_fd, p->kind, false, e);
	if (dir < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	/* Until it is closed: so that no image is seen beside another one's sidecar. */
	if (cli_image_store_lock(dir, e) < 0)
		return -1;
	int count = scandirat(dir, ".", &names, is_image, alphasort), result = 0;
	if (count < 0)
		return err_errno(e, errno, "list images/%s", cli_image_store_folder(p->kind));
	for (int i = 0; i < count; i++) {
		struct cli_image_info info;
		int rc = result < 0
				 ? -1
				 : cli_image_store_read(dir, p->kind, names[i]->d_name, &info, e);
		/* One that was removed meanwhile is not there. */
		if (rc < 0 && result == 0 && e->kind != ERR_NOT_FOUND)
			result = -1;
		cJSON *image = rc == 0 ? cli_image_view(p->kind, &info, uses) : NULL;
		if (rc == 0 && !cJSON_AddItemToArray(images, image))
			result = err_errno(e, ENOMEM, "list images");
		free(names[i]);
	}
	free(names);
	return result;
}

static int command_ls(struct cli_image_place *p, int only_kind)
{
	struct cli_image_uses uses;
	struct err e;
	/* Who uses them is one thing to know of images: the rest is told without it. */
	int code = cli_image_uses_read(&uses, p->o, p->config, p->state_fd);
	cJSON *answer = cJSON_CreateObject();
	cJSON *images = cJSON_AddArrayToObject(answer, "images");
	for (int kind = 0; kind < CLI_IMAGE_KINDS; kind++) {
		p->kind = (enum cli_image_kind)kind;
		if ((only_kind >= 0 && kind != only_kind) ||
		    list_kind(p, code == CLI_EXIT_OK ? &uses : NULL, images, &e) == 0)
			continue;
		fprintf(stderr, "cloister: %s\n", e.text);
		code = CLI_EXIT_FAILED;
	}
	if (!p->o->json)
		print_table(images);
	else if (print_json(answer) != CLI_EXIT_OK)
		code = CLI_EXIT_FAILED;
	cJSON_Delete(answer);
	cli_image_uses_clear(&uses);
	return code;
}

/* ------------------------------------------------------------------ inspect */

static int go_on(void *arg, uint64_t done, struct err *e)
{
	(void)arg;
	(void)done;
	(void)e;
	return 0;
}

/* True: the file's digest is that of its import. */
static bool verify(const struct cli_image_place *p, int fd, const struct cli_image_info *info)
{
	static const struct cli_image_watch none = {go_on, NULL};
	char hex[CLI_IMAGE_HEX_SIZE];
	struct err e;
	if (!*info->sha256) {
		err_set(&e, ERR_STATE, 0,
			"it was put there or changed by hand: there is no digest to compare with");
		cli_image_failed(p, "verify", &e);
		return false;
	}
	if (cli_image_digest(fd, info->bytes, hex, &none, &e) == 0) {
		if (strcmp(hex, info->sha256) == 0)
			return true;
		err_set(&e, ERR_INTERNAL, 0,
			"it is not what was imported: its SHA-256 is %s now; import it anew", hex);
	}
	cli_image_failed(p, "verify", &e);
	return false;
}

/* Both of one moment: what is known of an image, and for --verify itself. */
static int read_image(const struct cli_image_place *p, struct cli_image_info *info, int *fd,
		      struct err *e)
{
	CLEANUP_FD int dir = cli_image_store_open(p->state_fd, p->kind, false, e);
	if (dir < 0 || cli_image_store_lock(dir, e) < 0 ||
	    cli_image_store_read(dir, p->kind, p->name, info, e) < 0)
		return -1;
	if (!p->o->verify)
		return 0;
	*fd = file_open_beneath(dir, p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, "image", e);
	return *fd < 0 ? -1 : 0;
}

static int command_inspect(struct cli_image_place *p)
{
	struct cli_image_uses uses;
	struct cli_image_info info;
	struct err e;
	bool verified = false;
	CLEANUP_FD int fd = -1;
	if (read_image(p, &info, &fd, &e) < 0)
		return cli_image_failed(p, "inspect", &e);
	if (p->o->verify)
		verified = verify(p, fd, &info);
	int code = cli_image_uses_read(&uses, p->o, p->config, p->state_fd);
	cJSON *image = cli_image_view(p->kind, &info, code == CLI_EXIT_OK ? &uses : NULL);
	if (image && p->o->verify)
		cJSON_AddBoolToObject(image, "verified", verified);
	if (!image || (p->o->json && print_json(image) != CLI_EXIT_OK))
		code = CLI_EXIT_FAILED;
	else if (!p->o->json)
		cli_output_flat(image);
	cJSON_Delete(image);
	cli_image_uses_clear(&uses);
	return p->o->verify && !verified ? CLI_EXIT_FAILED : code;
}

/* ------------------------------------------------------------------ rm */

static void complain_users(const cJSON *users, const char *what)
{
	const cJSON *user;
	cJSON_ArrayForEach(user, users)
		fprintf(stderr, "cloister:   %s %s\n", what, user->valuestring);
}

int cli_image_is_free(const struct cli_image_place *p, bool only_shared, struct cli_image_uses *u)
{
	int code = cli_image_uses_read(u, p->o, p->config, p->state_fd);
	if (code != CLI_EXIT_OK)
		return code;
	cJSON *users = cli_image_uses_find(u, p->kind, p->name, only_shared);
	const cJSON *boxes = cJSON_GetObjectItemCaseSensitive(users, "sandboxes");
	const cJSON *templates = cJSON_GetObjectItemCaseSensitive(users, "templates");
	if (!users || cJSON_GetArraySize(boxes) || cJSON_GetArraySize(templates)) {
		fprintf(stderr, "cloister: %s %s is in use%s:\n", cli_image_store_kind(p->kind),
			p->name, only_shared ? " as a read-only disk, and must stay as it is" : "");
		complain_users(boxes, "sandbox");
		complain_users(templates, "template");
		code = CLI_EXIT_FAILED;
	}
	cJSON_Delete(users);
	return code;
}

static int command_rm(const struct cli_image_place *p)
{
	struct cli_image_uses uses = CLI_IMAGE_USES_INIT;
	struct cli_image_info info;
	struct err e;
	CLEANUP_FD int dir = cli_image_store_open(p->state_fd, p->kind, false, &e);
	if (dir < 0 || cli_image_store_lock(dir, &e) < 0 ||
	    cli_image_store_read(dir, p->kind, p->name, &info, &e) < 0)
		return cli_image_failed(p, "remove", &e);
	int code = cli_image_is_free(p, false, &uses);
	if (code == CLI_EXIT_OK && cli_image_store_remove(dir, p->name, &e) < 0)
		code = cli_image_failed(p, "remove", &e);
	if (code == CLI_EXIT_OK && p->o->json) {
		cJSON *image = cli_image_view(p->kind, &info, &uses);
		code = image ? print_json(image) : CLI_EXIT_FAILED;
		cJSON_Delete(image);
	} else if (code == CLI_EXIT_OK) {
		printf("%s %s removed\n", cli_image_store_kind(p->kind), p->name);
	}
	cli_image_uses_clear(&uses);
	return code;
}

/* ------------------------------------------------------------------ the command */

static int kind_of(const char *word)
{
	for (int kind = 0; kind < CLI_IMAGE_KINDS; kind++)
		if (strcmp(word, cli_image_store_kind((enum cli_image_kind)kind)) == 0)
			return kind;
	return -1;
}

enum verb { LS, INSPECT, IMPORT, RM, VERBS };

/* -1 when the words are not those of any. */
static int parse(const struct cli_options *o, int *kind)
{
	static const struct {
		const char *word;
		int min_args, max_args;
		bool verify, replace;
	} verbs[VERBS] = {
		[LS] = {"ls", 0, 2, false, false},
		[INSPECT] = {"inspect", 3, 3, true, false},
		[IMPORT] = {"import", 4, 4, false, true},
		[RM] = {"rm", 3, 3, false, false},
	};
	const char *word = o->arg_count ? o->args[0] : "ls";
	int verb = 0;
	while (verb < VERBS && strcmp(verbs[verb].word, word) != 0)
		verb++;
	*kind = o->arg_count > 1 ? kind_of(o->args[1]) : -1;
	if (verb == VERBS || o->arg_count < verbs[verb].min_args ||
	    o->arg_count > verbs[verb].max_args || (o->arg_count > 1 && *kind < 0) ||
	    (o->verify && !verbs[verb].verify) || (o->replace && !verbs[verb].replace))
		return -1;
	return verb;
}

static int run(struct cli_image_place *p, enum verb verb, int kind)
{
	struct err e;
	const char *path = p->config->policy.state_dir;
	CLEANUP_FD int state = file_open_dir(path, &e);
	if (state < 0) {
		fprintf(stderr, "cloister: %s (cloisterd makes it at its first start)\n", e.text);
		return CLI_EXIT_FAILED;
	}
	p->state_fd = state;
	if (verb == LS)
		return command_ls(p, kind);
	p->kind = (enum cli_image_kind)kind;
	p->name = p->o->args[2];
	return verb == INSPECT	? command_inspect(p)
	       : verb == IMPORT ? cli_image_import(p)
				: command_rm(p);
}

int cli_image_manage(const struct cli_options *o)
{
	const char *path = o->config ? o->config : DEFAULT_CONFIG;
	struct config config = {0};
	struct cli_image_place place = {.o = o, .config = &config, .state_fd = -1};
	struct err e;
	char *report CLEANUP_FREE = NULL;
	int kind, verb = parse(o, &kind), code = CLI_EXIT_FAILED;
	if (verb < 0)
		return cli_usage_error(USAGE);
	if (verb != LS && !name_is_valid(o->args[2]))
		return cli_usage_error("\"%s\" is not a name of an image (%s)", o->args[2],
				       NAME_RULE);
	if (geteuid() != 0) {
		fputs("cloister: image works on STATE_DIR itself: run it as root\n", stderr);
		return CLI_EXIT_FAILED;
	}
	umask(022);
	if (config_load(&config, path, &report) < 0)
		fprintf(stderr, "cloister: %s\n", report ? report : path);
	/* Names of users are looked up before it. */
	else if (caps_drop_to_import(&e) < 0 || filter_load(FILTER_IMPORT, &e) < 0)
		fprintf(stderr, "cloister: %s\n", e.text);
	else
		code = run(&place, (enum verb)verb, kind);
	config_free(&config);
	return code;
}
