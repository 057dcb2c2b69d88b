// SPDX-License-Identifier: Apache-2.0
#include "host_cgroup.h"

#include "file.h"
#include "host.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned bit;
} controllers[] = {
	{"cpu", HOST_CGROUP_CPU},
	{"memory", HOST_CGROUP_MEMORY},
	{"pids", HOST_CGROUP_PIDS},
	{"io", HOST_CGROUP_IO},
};

int host_find_cgroup(char *mount, size_t size, struct err *e)
{
	char line[4096], point[1024], type[64];
	mount[0] = '\0';
	FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return err_errno(e, errno, "open /proc/self/mountinfo");
	while (fgets(line, sizeof(line), file)) {
		/* Fields: ids, device, root, mount point, options, optional ones, "-", type. */
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %*s %1023s", point) != 1 ||
		    sscanf(dash, " - %63s", type) != 1)
			continue;
		/* One whose name needs escapes (\040) would be a strange place; it is passed over.
		 */
		if (strcmp(type, "cgroup2") == 0 && !strchr(point, '\\') &&
		    str_copy(mount, size, point))
			break;
	}
	fclose(file);
	return 0;
}

unsigned host_cgroup_controllers(int dir, const char *name)
{
	char text[512];
	struct err e;
	unsigned bits = 0;
	if (file_read_text(dir, name, text, sizeof(text), &e) < 0)
		return 0;
	char *save = NULL;
	for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
			if (strcmp(word, controllers[i].name) == 0)
				bits |= controllers[i].bit;
	return bits;
}

void host_cgroup_names(unsigned bits, char *buf, size_t size)
{
	size_t used = 0;
	snprintf(buf, size, "none");
	for (size_t i = 0; i < ARRAY_SIZE(controllers) && used < size; i++) {
		if (!(bits & controllers[i].bit))
			continue;
		int n = snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
				 controllers[i].name);
		used += n > 0 ? (size_t)n : 0;
	}
}

/* Each by itself: one that cannot be passed down does not keep the others back. */
static void enable_below(int dir)
{
	char text[16];
	struct err ignored;
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		snprintf(text, sizeof(text), "+%s", controllers[i].name);
		file_write_text(dir, "cgroup.subtree_control", text, &ignored);
	}
}

static int open_or_make(int dir, const char *name, struct err *e)
{
	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return err_errno(e, errno, "make cgroup %s", name);
	return file_open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0, "cgroup", e);
}

static int refuse(const struct policy *p, unsigned have, struct err *e)
{
	char text[64];
	unsigned missing = (HOST_CGROUP_CPU | HOST_CGROUP_MEMORY | HOST_CGROUP_PIDS) & ~have;
	if (!p->require_limits || !missing)
		return 0;
	host_cgroup_names(missing, text, sizeof(text));
	return err_set(e, ERR_UNAVAILABLE, 0,
		       "cgroup v2 gives no %s controller %s%s, so limits cannot be enforced: boot "
		       "with the unified hierarchy, delegate the controllers, or set [host] "
		       "require_limits = no",
		       text, p->cgroup_mount[0] ? "at " : "(it is not mounted)", p->cgroup_mount);
}

int host_cgroup_make(const struct policy *p, int *cgroup, struct err *e)
{
	*cgroup = -1;
	if (!p->cgroup_mount[0])
		return refuse(p, 0, e);
	CLEANUP_FD int dir = open(p->cgroup_mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, errno, "open %s", p->cgroup_mount);
	char path[POLICY_PATH_MAX], *save = NULL;
	str_copy(path, sizeof(path), p->cgroup);
	for (char *name = strtok_r(path, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		enable_below(dir);
		int next = open_or_make(dir, name, e);
		if (next < 0)
			return -1;
		fd_close(&dir);
		dir = next;
	}
	enable_below(dir);
	CLEANUP_FD int own = open_or_make(dir, p->instance, e);
	if (own < 0)
		return -1;
	enable_below(own);
	if (refuse(p, host_cgroup_controllers(own, "cgroup.subtree_control"), e) < 0)
		return -1;
	*cgroup = fd_take(&dir);
	return 0;
}
