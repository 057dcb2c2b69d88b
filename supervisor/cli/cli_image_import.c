// SPDX-License-Identifier: Apache-2.0
#include "cli_image.h"

#include "cli_output.h"
#include "cli_source.h"
#include "diskmake.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TELL_US 200000 /* between two words on how far it is */

/* ------------------------------------------------------------------ signals and progress */

static volatile sig_atomic_t stopped_by;

static void on_signal(int number)
{
	stopped_by = number;
}

/* So that an import that is called off removes what it has made. */
static void catch_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction was, action = {.sa_handler = on_signal};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (sigaction(numbers[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
}

struct work {
	const char *doing;
	uint64_t total;
	int64_t told_us;
	bool tell, told;
};

static int step(void *arg, uint64_t done, struct err *e)
{
	struct work *w = arg;
	char now[32], all[32];
	if (stopped_by)
		return err_set(e, ERR_UNAVAILABLE, 0, "called off by signal %d", (int)stopped_by);
	if (!w->tell || clock_us() - w->told_us < TELL_US)
		return 0;
	w->told_us = clock_us();
	w->told = true;
	cli_output_size((double)done, now, sizeof(now));
	cli_output_size((double)w->total, all, sizeof(all));
	fprintf(stderr, "\r%s %s of %s (%.0f %%)\033[K", w->doing, now, all,
		100 * (double)done / (double)w->total);
	return 0;
}

/* ------------------------------------------------------------------ the source */

static int open_source(const struct cli_image_place *p, const char *path, struct stat *st,
		       uint64_t *bytes, struct err *e)
{
	CLEANUP_FD int fd = cli_source_open(path, 0, e);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) < 0)
		return err_errno(e, errno, "stat %s", path);
	bool device = p->kind == CLI_IMAGE_DISK && S_ISBLK(st->st_mode);
	if (!S_ISREG(st->st_mode) && !device)
		return err_set(e, ERR_INVALID, 0, "%s is no regular file%s", path,
			       p->kind == CLI_IMAGE_DISK ? " and no block device" : "");
	off_t end = device ? lseek(fd, 0, SEEK_END) : st->st_size;
	if (end < 0)
		return err_errno(e, errno, "find the end of %s", path);
	*bytes = (uint64_t)end;
	if (cli_image_check(p->kind, fd, *bytes, e) < 0)
		return err_prefix(e, "%s", path);
	return fd_take(&fd);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What was copied is looked at again: somebody may write the source. */
static int fill(const struct cli_image_place *p, const struct cli_image_staging *s,
		struct cli_image_info *info, enum msg_disk_made *made, struct err *e)
{
	struct work work = {.doing = "copying", .tell = !p->o->json && isatty(STDERR_FILENO)};
	const struct cli_image_watch watch = {step, &work};
	const char *path = p->o->args[3], *slash = strrchr(path, '/');
	struct stat before, after;
	CLEANUP_FD int from = open_source(p, path, &before, &info->bytes, e);
	if (from < 0)
		return -1;
	work.total = info->bytes;
	work.told_us = clock_us();
	int result = cli_image_copy(from, s->fd, info->bytes, made, &watch, e);
	if (result == 0 && fstat(from, &after) < 0)
		result = err_errno(e, errno, "stat it");
	else if (result == 0 && !is_same(&before, &after))
		result = err_set(e, ERR_STATE, 0, "it was changed while it was copied; try again");
	if (result == 0)
		result = cli_image_check(p->kind, s->fd, info->bytes, e);
	work.doing = "digesting";
	if (result == 0)
		result = cli_image_digest(s->fd, info->bytes, info->sha256, &watch, e);
	if (work.told)
		fputs("\r\033[K", stderr);
	snprintf(info->source, sizeof(info->source), "%s", slash ? slash + 1 : path);
	str_clean(info->source);
	return result < 0 ? err_prefix(e, "%s", path) : 0;
}

/* ------------------------------------------------------------------ the command */

/* Those who need the older image as it is are looked for where there may be one. */
static int check_users(const struct cli_image_place *p, struct cli_image_uses *uses)
{
	cli_image_uses_clear(uses);
	return p->o->replace ? cli_image_is_free(p, true, uses) : CLI_EXIT_OK;
}

static int begin(const struct cli_image_place *p, int dir, struct cli_image_staging *s)
{
	struct cli_image_uses uses = CLI_IMAGE_USES_INIT;
	struct err e;
	int code = check_users(p, &uses);
	cli_image_uses_clear(&uses);
	if (code != CLI_EXIT_OK)
		return code;
	if (cli_image_store_lock(dir, &e) < 0)
		return cli_image_failed(p, "import", &e);
	int begun = cli_image_store_begin(s, dir, p->name, p->o->replace, &e);
	cli_image_store_unlock(dir);
	return begun < 0 ? cli_image_failed(p, "import", &e) : CLI_EXIT_OK;
}

static int commit(const struct cli_image_place *p, struct cli_image_staging *s,
		  const struct cli_image_info *info)
{
	struct cli_image_uses uses = CLI_IMAGE_USES_INIT;
	struct err e;
	if (cli_image_store_lock(s->dir, &e) < 0)
		return cli_image_failed(p, "import", &e);
	/* Again: the copy may have taken long. */
	int code = check_users(p, &uses);
	if (code == CLI_EXIT_OK && cli_image_store_commit(s, info, &e) < 0)
		code = cli_image_failed(p, "import", &e);
	cli_image_store_unlock(s->dir);
	cli_image_uses_clear(&uses);
	return code;
}

static int report(const struct cli_image_place *p, int dir, enum msg_disk_made made)
{
	struct cli_image_info info;
	struct err e;
	char bytes[32], allocated[32];
	const char *how = diskmake_name(made);
	if (cli_image_store_read(dir, p->kind, p->name, &info, &e) < 0)
		return cli_image_failed(p, "import", &e);
	if (!p->o->json) {
		cli_output_size((double)info.bytes, bytes, sizeof(bytes));
		cli_output_size((double)info.allocated_bytes, allocated, sizeof(allocated));
		printf("%s %s imported by %s: %s, %s on disk, sha256 %s\n",
		       cli_image_store_kind(p->kind), p->name, how, bytes, allocated, info.sha256);
		return CLI_EXIT_OK;
	}
	cJSON *image = cli_image_view(p->kind, &info, NULL);
	char *text CLEANUP_FREE =
		cJSON_AddStringToObject(image, "made", how) ? cJSON_PrintUnformatted(image) : NULL;
	cJSON_Delete(image);
	if (!text)
		return CLI_EXIT_FAILED;
	cli_output_json(text, strlen(text));
	return CLI_EXIT_OK;
}

int cli_image_import(const struct cli_image_place *p)
{
	struct cli_image_staging staging = {.dir = -1, .fd = -1};
	struct cli_image_info info = {0};
	enum msg_disk_made made;
	struct err e;
	CLEANUP_FD int dir = cli_image_store_open(p->state_fd, p->kind, true, &e);
	if (dir < 0)
		return cli_image_failed(p, "import", &e);
	catch_signals();
	int code = begin(p, dir, &staging);
	if (code != CLI_EXIT_OK)
		return code;
	if (fill(p, &staging, &info, &made, &e) < 0) {
		code = cli_image_failed(p, "import", &e);
	} else {
		int64_t now = clock_real_us();
		clock_format(now, info.imported_at);
		code = cli_image_store_settle(&staging, now, &e) < 0
			       ? cli_image_failed(p, "import", &e)
			       : commit(p, &staging, &info);
	}
	cli_image_store_abandon(&staging);
	if (code == CLI_EXIT_OK)
		return report(p, dir, made);
	return stopped_by ? 128 + stopped_by : code;
}
