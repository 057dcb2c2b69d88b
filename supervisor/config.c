// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include "config_network.h"
#include "config_value.h"
#include "file.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512
#define SECTION_MAX    128
#define REPORT_MAX     (32 * 1024)

#define IN_POLICY(member) offsetof(struct config, policy.member)
#define DEADLINE(name)	  IN_POLICY(deadline_ms[POLICY_DEADLINE_##name])
#define TENANT(member)	  offsetof(struct config_tenant, member)

/* CONFIG_PORTS fills two numbers, one behind the other. */
_Static_assert(IN_POLICY(port_count) == IN_POLICY(port_first) + sizeof(uint32_t) &&
		       offsetof(struct config_ports, count) == sizeof(uint32_t),
	       "the same in all of them");

static const struct config_key keys[] = {
	{"host", "state_dir", CONFIG_PATH, false, IN_POLICY(state_dir), 0, 0},
	{"host", "run_dir", CONFIG_PATH, false, IN_POLICY(run_dir), 0, 0},
	{"host", "user", CONFIG_NAME, false, offsetof(struct config, user), 0, 0},
	{"host", "control_group", CONFIG_NAME, false, offsetof(struct config, control_group), 0, 0},
	{"host", "cgroup", CONFIG_SUBPATH, false, IN_POLICY(cgroup), 0, 0},
	{"host", "require_limits", CONFIG_YESNO, false, IN_POLICY(require_limits), 0, 0},
	{"vmm", "binary", CONFIG_PATH, false, IN_POLICY(vmm_binary), 0, 0},
	{"vmm", "bind_ro", CONFIG_BIND, true, 0, 0, 0},
	{"vmm", "env", CONFIG_ENV, true, 0, 0, 0},
	{"vmm", "uid_base", CONFIG_NUMBER, false, IN_POLICY(uid_base), 1000, 2147418112},
	{"vmm", "uid_count", CONFIG_NUMBER, false, IN_POLICY(uid_count), 2, 65536},
	{"limits", "max_sandboxes", CONFIG_NUMBER, false, IN_POLICY(max_sandboxes), 1, 65535},
	{"limits", "max_disk_mib", CONFIG_NUMBER, false, offsetof(struct config, max_disk_mib), 1,
	 1u << 30},
	{"limits", "create_ms", CONFIG_NUMBER, false, DEADLINE(CREATE), 100, 600000},
	{"limits", "disks_ms", CONFIG_NUMBER, false, DEADLINE(DISKS), 100, 86400000},
	{"limits", "pause_ms", CONFIG_NUMBER, false, DEADLINE(PAUSE), 100, 600000},
	{"limits", "resume_ms", CONFIG_NUMBER, false, DEADLINE(RESUME), 100, 600000},
	{"limits", "snapshot_ms", CONFIG_NUMBER, false, DEADLINE(SNAPSHOT), 100, 3600000},
	{"limits", "power_button_ms", CONFIG_NUMBER, false, DEADLINE(POWER_BUTTON), 100, 600000},
	{"limits", "shutdown_ms", CONFIG_NUMBER, false, DEADLINE(SHUTDOWN), 100, 600000},
	{"limits", "destroy_ms", CONFIG_NUMBER, false, DEADLINE(DESTROY), 100, 600000},
	{"limits", "version_ms", CONFIG_NUMBER, false, DEADLINE(VERSION), 100, 600000},
	{"limits", "console_bytes", CONFIG_NUMBER, false, IN_POLICY(console_bytes), 4096, 1048576},
	{"limits", "event_backlog", CONFIG_NUMBER, false, offsetof(struct config, event_backlog),
	 16, 65536},
	{"limits", "stop_ms", CONFIG_NUMBER, false, offsetof(struct config, stop_ms), 0, 60000},
	{"limits", "reboots", CONFIG_NUMBER, false, IN_POLICY(reboots), 0, 1000},
	{"limits", "reboot_period_s", CONFIG_NUMBER, false, IN_POLICY(reboot_period_s), 1, 86400},
	{"network", "pool", CONFIG_POOL, false, 0, 0, 0},
	{"network", "uplink", CONFIG_IFNAME, false, IN_POLICY(uplink), 0, 0},
	{"network", "resolver", CONFIG_ADDRESS, false, IN_POLICY(resolver), 0, 0},
	{"network", "host_ports", CONFIG_PORTS, false, IN_POLICY(port_first), 0, 0},
	{"network", "egress", CONFIG_EGRESS, false, offsetof(struct config, egress), 0, 0},
	{"tenant", "users", CONFIG_USERS, false, TENANT(users), 0, 0},
	{"tenant", "groups", CONFIG_GROUPS, false, TENANT(groups), 0, 0},
	{"tenant", "max_sandboxes", CONFIG_NUMBER, false, TENANT(max_sandboxes), 1, 65535},
	{"tenant", "max_vcpus", CONFIG_NUMBER, false, TENANT(max_vcpus), 1, 1000000},
	{"tenant", "max_memory_mib", CONFIG_NUMBER, false, TENANT(max_memory_mib), 16, 1u << 30},
	{"tenant", "max_disk_mib", CONFIG_NUMBER, false, TENANT(max_disk_mib), 1, 1u << 30},
	{"tenant", "max_templates", CONFIG_NUMBER, false, TENANT(max_templates), 1, 1000000},
	{"tenant", "max_ttl_s", CONFIG_NUMBER, false, TENANT(max_ttl_s), 1, 1u << 30},
	{"tenant", "block_device", CONFIG_DEVICE, true, TENANT(name), 0, 0},
	{"tenant", "host_ports", CONFIG_PORTS, false, TENANT(ports), 0, 0},
	{"admin", "users", CONFIG_USERS, false, offsetof(struct config, admin_users), 0, 0},
	{"admin", "groups", CONFIG_GROUPS, false, offsetof(struct config, admin_groups), 0, 0},
	{"admin", "block_device", CONFIG_DEVICE, true, 0, 0, 0},
	{"admin", "host_ports", CONFIG_PORTS, false, offsetof(struct config, admin_ports), 0, 0},
};

struct parser {
	struct config *c;
	FILE *file;
	const char *name;
	unsigned line;
	char section[SECTION_MAX]; /* "tenant" within [tenant NAME] */
	struct config_tenant *tenant;
	bool skip; /* keys of a section that is itself wrong */
	/* Which key was seen where: one line number each, per section instance for tenants. */
	unsigned seen[ARRAY_SIZE(keys)];
	char *report;
	size_t used;
};

bool config_ids_have(const struct config_ids *ids, uint32_t id)
{
	for (size_t i = 0; i < ids->count; i++)
		if (ids->ids[i] == id)
			return true;
	return false;
}

__attribute__((format(printf, 2, 3))) static void fault(struct parser *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	str_clean(text);
	if (p->used >= REPORT_MAX - 1)
		return;
	int n = p->line ? snprintf(p->report + p->used, REPORT_MAX - p->used, "%s:%u: %s\n",
				   p->name, p->line, text)
			: snprintf(p->report + p->used, REPORT_MAX - p->used, "%s: %s\n", p->name,
				   text);
	p->used += n > 0 ? (size_t)n : 0;
	if (p->used > REPORT_MAX - 1)
		p->used = REPORT_MAX - 1;
}

static struct config_tenant *add_tenant(struct parser *p, const char *name)
{
	struct config *c = p->c;
	if (!name_is_valid(name) || strcmp(name, CONFIG_ADMIN_TENANT) == 0) {
		fault(p, "tenant name \"%s\": must be %s, and not \"" CONFIG_ADMIN_TENANT "\"",
		      name, NAME_RULE);
		return NULL;
	}
	for (size_t i = 0; i < c->tenant_count; i++) {
		if (strcmp(c->tenants[i].name, name) == 0) {
			fault(p, "second section [tenant %s]: put its keys into the first", name);
			return NULL;
		}
	}
	struct config_tenant *more =
		realloc(c->tenants, (c->tenant_count + 1) * sizeof(*c->tenants));
	if (!more) {
		fault(p, "no memory for tenant %s", name);
		return NULL;
	}
	c->tenants = more;
	struct config_tenant *t = &c->tenants[c->tenant_count++];
	*t = (struct config_tenant){0};
	str_copy(t->name, sizeof(t->name), name);
	return t;
}

/* inih calls nobody for a section without keys, and cuts long names: so sections are read here. */
static void enter_section(struct parser *p, const char *line)
{
	size_t n = strcspn(line, "]");
	const char *rest = line + n;
	char name[SECTION_MAX];
	p->tenant = NULL;
	p->skip = true;
	if (*rest != ']' || rest[1 + strspn(rest + 1, " \t\r\n")] != '\0' || n >= sizeof(name)) {
		fault(p, "a section line must be [NAME] and nothing else");
		return;
	}
	memcpy(name, line, n);
	name[n] = '\0';
	if (strncmp(name, "tenant ", 7) == 0) {
		p->tenant = add_tenant(p, name + 7 + strspn(name + 7, " "));
		str_copy(p->section, sizeof(p->section), "tenant");
		p->skip = !p->tenant;
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			if (strcmp(keys[i].section, "tenant") == 0)
				p->seen[i] = 0;
		return;
	}
	static const char *const known[] = {"host", "vmm", "limits", "network", "admin"};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i], name) == 0)
			p->skip = !str_copy(p->section, sizeof(p->section), name);
	if (p->skip)
		fault(p,
		      "unknown section [%s]: must be host, vmm, limits, network, admin or "
		      "tenant NAME",
		      name);
}

/* ini_reader: one line at a time, so that every fault has its line number. */
static char *read_line(char *buf, int size, void *arg)
{
	struct parser *p = arg;
	char line[LINE_MAX_BYTES + 2]; /* with newline and end */
	if (!fgets(line, sizeof(line), p->file))
		return NULL;
	p->line++;
	snprintf(buf, (size_t)size, "\n");
	size_t length = strlen(line);
	if (length == LINE_MAX_BYTES + 1 && line[length - 1] != '\n') {
		fault(p, "line longer than %d bytes", LINE_MAX_BYTES);
		for (int ch = 0; ch != EOF && ch != '\n';)
			ch = fgetc(p->file);
		return buf;
	}
	const char *text = line + strspn(line, " \t");
	if (*text == '[') {
		enter_section(p, text + 1);
	} else if (*text && !strchr("\r\n;#", *text)) {
		if (strcspn(text, "=:") == strlen(text))
			fault(p, "neither [section], key = value, nor a comment");
		else
			snprintf(buf, (size_t)size, "%s", text);
	}
	return buf;
}

static int handle_key(void *arg, const char *section, const char *name, const char *value)
{
	struct parser *p = arg;
	(void)section;
	if (p->skip)
		return 1;
	if (!p->section[0]) {
		fault(p, "key \"%s\" stands before any [section]", name);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct config_key *key = &keys[i];
		if (strcmp(key->section, p->section) != 0 || strcmp(key->name, name) != 0)
			continue;
		if (p->seen[i] && !key->repeatable) {
			fault(p, "key \"%s\" again: it is in line %u already", name, p->seen[i]);
			return 1;
		}
		p->seen[i] = p->line;
		char rule[160], reason[POLICY_PATH_MAX + 160];
		void *base = p->tenant ? (void *)p->tenant : (void *)p->c;
		if (!config_value_set(p->c, base, key, value, reason, sizeof(reason))) {
			config_value_rule(key, rule, sizeof(rule));
			fault(p, "%s = \"%s\": must be %s%s%s", name, value, rule,
			      reason[0] ? "; " : "", reason);
		}
		return 1;
	}
	fault(p, "unknown key \"%s\" in section [%s]", name, p->section);
	return 1;
}

static bool was_set(const struct parser *p, const char *section, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return p->seen[i] != 0;
	return false;
}

static void set_defaults(struct config *c)
{
	static const uint32_t deadlines[POLICY_DEADLINE_COUNT] = {
		[POLICY_DEADLINE_CREATE] = 30000,    [POLICY_DEADLINE_DISKS] = 600000,
		[POLICY_DEADLINE_PAUSE] = 10000,     [POLICY_DEADLINE_RESUME] = 10000,
		[POLICY_DEADLINE_SNAPSHOT] = 120000, [POLICY_DEADLINE_POWER_BUTTON] = 5000,
		[POLICY_DEADLINE_SHUTDOWN] = 2000,   [POLICY_DEADLINE_DESTROY] = 10000,
		[POLICY_DEADLINE_VERSION] = 5000,
	};
	struct policy *p = &c->policy;
	*c = (struct config){.event_backlog = 4096, .stop_ms = 5000};
	p->magic = POLICY_MAGIC;
	p->size = sizeof(*p);
	str_copy(p->state_dir, sizeof(p->state_dir), "/var/lib/cloister");
	str_copy(p->run_dir, sizeof(p->run_dir), "/run/cloister");
	str_copy(p->cgroup, sizeof(p->cgroup), "cloister");
	str_copy(c->user, sizeof(c->user), "cloister");
	p->require_limits = 1;
	p->uid_base = 700000;
	p->uid_count = 4096;
	p->max_sandboxes = 1024;
	memcpy(p->deadline_ms, deadlines, sizeof(deadlines));
	p->console_bytes = 65536;
	p->reboots = 16;
	p->reboot_period_s = 60;
	c->admin_users.ids = calloc(1, sizeof(uint32_t)); /* root */
	c->admin_users.count = c->admin_users.ids ? 1 : 0;
}

static void find_binary(struct parser *p)
{
	static const char *const places[] = {"/usr/local/bin/cloud-hypervisor",
					     "/usr/bin/cloud-hypervisor"};
	struct policy *policy = &p->c->policy;
	for (size_t i = 0; i < ARRAY_SIZE(places) && !policy->vmm_binary[0]; i++)
		if (access(places[i], X_OK) == 0)
			str_copy(policy->vmm_binary, sizeof(policy->vmm_binary), places[i]);
	if (!policy->vmm_binary[0])
		fault(p,
		      "[vmm] binary: not given, and there is neither %s nor %s; install Cloud "
		      "Hypervisor or name its binary",
		      places[0], places[1]);
}

static void resolve_users(struct parser *p)
{
	struct config *c = p->c;
	struct policy *policy = &c->policy;
	if (!config_value_uid(c->user, &policy->user_uid, &policy->user_gid))
		fault(p,
		      "[host] user: there is no user \"%s\"; make it (a system user) or name "
		      "another",
		      c->user);
	else if (policy->user_uid == 0 || policy->user_gid == 0)
		fault(p, "[host] user: \"%s\" is root or in root's group; must be a plain user",
		      c->user);
	policy->control_gid = policy->user_gid;
	if (c->control_group[0] && !config_value_gid(c->control_group, &policy->control_gid))
		fault(p, "[host] control_group: there is no group \"%s\"", c->control_group);
}

static bool in_range(const struct policy *p, uint32_t uid)
{
	return uid >= p->uid_base && uid - p->uid_base < p->uid_count;
}

/* What single values cannot tell. */
static void check_whole(struct parser *p)
{
	struct config *c = p->c;
	struct policy *policy = &c->policy;
	char reason[256];
	if (strcmp(policy->state_dir, policy->run_dir) == 0)
		fault(p, "[host] state_dir and run_dir are the same directory: must be two");
	if (!was_set(p, "limits", "max_sandboxes") && policy->max_sandboxes > policy->uid_count - 1)
		policy->max_sandboxes = policy->uid_count - 1;
	if (policy->max_sandboxes > policy->uid_count - 1)
		fault(p, "[limits] max_sandboxes = %u: must be below [vmm] uid_count, which is %u",
		      policy->max_sandboxes, policy->uid_count);
	if (!config_network_finish(c, reason, sizeof(reason)))
		fault(p, "%s", reason);
	if (in_range(policy, policy->user_uid))
		fault(p, "[host] user: uid %u lies in the range of [vmm] uid_base and uid_count",
		      policy->user_uid);
	for (size_t i = 0; i < c->tenant_count; i++) {
		const struct config_tenant *t = &c->tenants[i];
		if (!t->users.count && !t->groups.count)
			fault(p, "[tenant %s] has neither users nor groups: nobody could use it",
			      t->name);
		for (size_t u = 0; u < t->users.count; u++) {
			uint32_t uid = t->users.ids[u];
			if (in_range(policy, uid))
				fault(p,
				      "[tenant %s] users: uid %u lies in the range of [vmm] "
				      "uid_base and uid_count",
				      t->name, uid);
			for (size_t j = 0; j < i; j++)
				if (config_ids_have(&c->tenants[j].users, uid))
					fault(p, "[tenant %s] users: uid %u is in [tenant %s] too",
					      t->name, uid, c->tenants[j].name);
		}
	}
}

int config_parse(struct config *c, FILE *file, const char *name, char **report)
{
	struct parser p = {.c = c, .file = file, .name = name, .report = calloc(1, REPORT_MAX)};
	set_defaults(c);
	*report = p.report;
	if (!p.report)
		return -1;
	/* A value says no more and no less than its line does. */
	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_use_stack = false;
	ini_max_line = ini_initial_alloc = LINE_MAX_BYTES + 4;
	int wrong = ini_parse_stream(read_line, &p, handle_key, &p);
	if (wrong && !p.used)
		fault(&p, "cannot be parsed (line %d)", wrong);
	if (ferror(file))
		fault(&p, "cannot be read to its end");
	p.line = 0;
	find_binary(&p);
	resolve_users(&p);
	check_whole(&p);
	if (p.used)
		return -1;
	free(p.report);
	*report = NULL;
	return 0;
}

int config_load(struct config *c, const char *path, char **report)
{
	struct err e;
	uint64_t bytes;
	const struct file_rule rule = {.owner = 0, .forbidden = 022, .max_bytes = 1 << 20};
	*c = (struct config){0};
	*report = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		err_errno(&e, errno, "open configuration file %s", path);
	else if (file_check_regular(fd, &rule, path, &bytes, &e) == 0) {
		FILE *file = fdopen(fd, "re");
		if (file) {
			fd_take(&fd);
			int rc = config_parse(c, file, path, report);
			fclose(file);
			return rc;
		}
		err_errno(&e, errno, "read configuration file %s", path);
	}
	*report = strdup(e.text);
	return -1;
}

void config_free(struct config *c)
{
	for (size_t i = 0; i < c->tenant_count; i++) {
		free(c->tenants[i].users.ids);
		free(c->tenants[i].groups.ids);
	}
	free(c->tenants);
	free(c->admin_users.ids);
	free(c->admin_groups.ids);
	c->tenants = NULL;
	c->tenant_count = 0;
	c->admin_users = c->admin_groups = (struct config_ids){0};
}
