// SPDX-License-Identifier: Apache-2.0
#include "spec.h"

#include "json.h"
#include "spec_disk.h"
#include "spec_network.h"
#include "spec_wait.h"
#include "template.h"
#include "util.h"
#include "vmm_version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef int field_fn(struct spec *s, const cJSON *v, struct err *e);

static int refuse(const cJSON *v, const char *rule, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s: %s is not allowed; must be %s", v->string, shown,
		       rule);
}

static int set_string(char **field, const char *value, struct err *e)
{
	*field = strdup(value);
	return *field ? 0 : err_errno(e, ENOMEM, "no memory for the request");
}

static int set_name(char **field, const cJSON *v, struct err *e)
{
	if (!cJSON_IsString(v) || !name_is_valid(v->valuestring))
		return refuse(v, "a string of " NAME_RULE, e);
	return set_string(field, v->valuestring, e);
}

static int take_id(struct spec *s, const cJSON *v, struct err *e)
{
	return set_name(&s->id, v, e);
}

static int take_kernel(struct spec *s, const cJSON *v, struct err *e)
{
	return set_name(&s->kernel, v, e);
}

static int take_initramfs(struct spec *s, const cJSON *v, struct err *e)
{
	return cJSON_IsNull(v) ? 0 : set_name(&s->initramfs, v, e);
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			return false;
	return true;
}

static int take_cmdline(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsString(v) || strlen(v->valuestring) >= MSG_CMDLINE_MAX ||
	    !is_printable(v->valuestring))
		return refuse(v, "a string of at most 2047 printable ASCII characters", e);
	return set_string(&s->cmdline, v->valuestring, e);
}

static int take_vcpus(struct spec *s, const cJSON *v, struct err *e)
{
	if (!json_u32(v, 1, MSG_VCPUS_MAX, &s->vcpus))
		return refuse(v, "a whole number of 1 to 254", e);
	return 0;
}

static int take_memory(struct spec *s, const cJSON *v, struct err *e)
{
	if (!json_u32(v, MSG_MEMORY_MIB_MIN, MSG_MEMORY_MIB_MAX, &s->memory_mib))
		return refuse(v, "a whole number of 16 to 4194304", e);
	return 0;
}

static int take_max_vcpus(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsNull(v) && !json_u32(v, 1, MSG_VCPUS_MAX, &s->max_vcpus))
		return refuse(v, "a whole number of 1 to 254", e);
	return 0;
}

static int take_max_memory(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsNull(v) &&
	    !json_u32(v, MSG_MEMORY_MIB_MIN, MSG_MEMORY_MIB_MAX, &s->max_memory_mib))
		return refuse(v, "a whole number of 16 to 4194304", e);
	return 0;
}

static int take_balloon(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsBool(v))
		return refuse(v, "true or false", e);
	s->balloon = cJSON_IsTrue(v);
	return 0;
}

int spec_read_labels(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > SPEC_LABELS_MAX)
		return refuse(v, "an object of at most 32 strings", e);
	for (const cJSON *l = v->child; l; l = l->next) {
		if (!name_is_valid(l->string)) {
			err_set(e, ERR_INVALID, 0, "labels: the key \"%.80s\" must be %s",
				l->string, NAME_RULE);
			str_clean(e->text);
			return -1;
		}
		if (!cJSON_IsString(l) || strlen(l->valuestring) > SPEC_LABEL_VALUE_MAX ||
		    !is_printable(l->valuestring)) {
			refuse(l, "a string of at most 128 printable ASCII characters", e);
			return err_prefix(e, "labels");
		}
	}
	if (!v->child)
		return 0;
	s->labels = cJSON_Duplicate(v, 1);
	return s->labels ? 0 : err_errno(e, ENOMEM, "no memory for the labels");
}

/* Known fields that later versions bring; only their "nothing" is taken. */
static int take_later(struct spec *s, const cJSON *v, struct err *e)
{
	(void)s;
	if (cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsArray(v) && !v->child))
		return 0;
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s: %s is not supported by this version; leave it out",
		       v->string, shown);
}

static int take_template(struct spec *s, const cJSON *v, struct err *e)
{
	return cJSON_IsNull(v) ? 0 : set_name(&s->template, v, e);
}

static int take_vsock(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsBool(v) && !cJSON_IsNull(v))
		return refuse(v, "true or false", e);
	s->vsock = cJSON_IsTrue(v);
	return 0;
}

static int take_memory_restore(struct spec *s, const cJSON *v, struct err *e)
{
	return spec_read_restore(v, true, &s->restore, e);
}

static const struct {
	const char *name;
	bool baked; /* a template brings its own */
	field_fn *take;
} fields[] = {
	{"id", false, take_id},
	{"template", false, take_template},
	{"memory_restore", false, take_memory_restore},
	{"kernel", true, take_kernel},
	{"initramfs", true, take_initramfs},
	{"cmdline", true, take_cmdline},
	{"vcpus", true, take_vcpus},
	{"memory_mib", true, take_memory},
	{"max_vcpus", true, take_max_vcpus},
	{"max_memory_mib", true, take_max_memory},
	{"balloon", true, take_balloon},
	{"labels", false, spec_read_labels},
	{"disks", true, spec_disk_read},
	{"network", false, spec_network_read},
	{"vsock", true, take_vsock},
	{"ttl_s", false, take_later},
	{"restart", false, take_later},
	{"wait_for", false, spec_wait_read},
};

static int take_field(struct spec *s, const cJSON *v, bool templated, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strcmp(fields[i].name, v->string) != 0)
			continue;
		if (!templated || !fields[i].baked || cJSON_IsNull(v))
			return fields[i].take(s, v, e);
		char shown[96];
		json_show(v, shown, sizeof(shown));
		return err_set(e, ERR_INVALID, 0,
			       "%s: %s is not allowed with a template, which has its own; leave it "
			       "out",
			       v->string, shown);
	}
	err_set(e, ERR_INVALID, 0, "unknown field \"%.80s\"", v->string);
	str_clean(e->text);
	return -1;
}

/* They are compared when all fields are there, in whatever order they came. */
static int check_maxima(struct spec *s, struct err *e)
{
	if (!s->max_vcpus)
		s->max_vcpus = s->vcpus;
	if (!s->max_memory_mib)
		s->max_memory_mib = s->memory_mib;
	if (s->max_vcpus < s->vcpus)
		return err_set(e, ERR_INVALID, 0,
			       "max_vcpus: %u is not allowed; must be vcpus (%u) to %d",
			       s->max_vcpus, s->vcpus, MSG_VCPUS_MAX);
	if (s->max_memory_mib < s->memory_mib ||
	    (s->max_memory_mib - s->memory_mib) % MSG_HOTPLUG_MIB)
		return err_set(e, ERR_INVALID, 0,
			       "max_memory_mib: %u is not allowed; must be memory_mib (%u), or "
			       "that and a multiple of %d, up to %u",
			       s->max_memory_mib, s->memory_mib, MSG_HOTPLUG_MIB,
			       MSG_MEMORY_MIB_MAX);
	return 0;
}

static int check_whole(struct spec *s, struct err *e)
{
	if (s->template) {
		s->source = MSG_SOURCE_TEMPLATE;
		return 0;
	}
	if (s->restore != MSG_RESTORE_NONE)
		return err_set(e, ERR_INVALID, 0,
			       "memory_restore: \"%s\" is not allowed without template; must be "
			       "auto, or absent",
			       spec_restore_name(s->restore));
	if (!s->kernel)
		return err_set(e, ERR_INVALID, 0,
			       "kernel: missing; must be the name of a file in images/kernels (or "
			       "give template)");
	if (check_maxima(s, e) < 0)
		return -1;
	if (!s->cmdline)
		return set_string(&s->cmdline, "", e);
	return 0;
}

struct spec *spec_from_json(const cJSON *body, struct err *e)
{
	struct spec *s = calloc(1, sizeof(*s));
	if (!s) {
		err_errno(e, ENOMEM, "no memory for the request");
		return NULL;
	}
	*s = (struct spec){.vcpus = 1, .memory_mib = 256, .balloon = true};
	const cJSON *named = cJSON_GetObjectItemCaseSensitive(body, "template");
	for (const cJSON *v = body->child; v; v = v->next) {
		if (take_field(s, v, named && !cJSON_IsNull(named), e) < 0) {
			spec_free(s);
			return NULL;
		}
	}
	if (check_whole(s, e) < 0) {
		spec_free(s);
		return NULL;
	}
	return s;
}

/* The strings of a message, into one whose numbers are set. */
static int copy_strings(struct spec *s, const struct msg_create *m, struct err *e)
{
	char tenant[NAME_SIZE], name[NAME_SIZE];
	if (set_string(&s->kernel, m->kernel, e) < 0 || set_string(&s->cmdline, m->cmdline, e) < 0)
		return -1;
	if ((m->flags & MSG_CREATE_INITRAMFS) && set_string(&s->initramfs, m->initramfs, e) < 0)
		return -1;
	if (m->source != MSG_SOURCE_TEMPLATE)
		return 0;
	name_key_split(m->template, tenant, name);
	return set_string(&s->template, name, e);
}

struct spec *spec_from_msg(const struct msg_create *m, struct err *e)
{
	struct spec *s = calloc(1, sizeof(*s));
	if (s) {
		*s = (struct spec){.vcpus = m->vcpus,
				   .memory_mib = m->memory_mib,
				   .max_vcpus = m->max_vcpus,
				   .max_memory_mib = m->max_memory_mib,
				   .balloon_mib = m->balloon_mib,
				   .plugged_mib = m->plugged_mib,
				   .hotplug = m->flags & MSG_CREATE_HOTPLUG,
				   .balloon = m->flags & MSG_CREATE_BALLOON,
				   .vsock = m->flags & MSG_CREATE_VSOCK,
				   .networked = m->network.slot > 0,
				   .network = m->network,
				   .source = (enum msg_source)m->source,
				   .restore = (enum msg_restore)m->restore};
		spec_disk_copy(s, m->disks, m->disk_count);
		if (copy_strings(s, m, e) == 0)
			return s;
	}
	spec_free(s);
	err_errno(e, ENOMEM, "no memory for what a sandbox is made of");
	return NULL;
}

void spec_to_msg(const struct spec *s, const char *tenant, struct msg_create *out)
{
	*out = (struct msg_create){
		.vcpus = s->vcpus,
		.memory_mib = s->memory_mib,
		.max_vcpus = s->max_vcpus,
		.max_memory_mib = s->max_memory_mib,
		.balloon_mib = s->balloon_mib,
		.flags = (s->balloon ? MSG_CREATE_BALLOON : 0u) |
			 (s->initramfs ? MSG_CREATE_INITRAMFS : 0u) |
			 (s->vsock ? MSG_CREATE_VSOCK : 0u),
		.source = s->source,
		.restore = s->source == MSG_SOURCE_BOOT ? MSG_RESTORE_NONE : s->restore,
		.disk_count = s->disk_count,
	};
	for (uint32_t i = 0; i < s->disk_count; i++) {
		out->disks[i] = s->disks[i];
		out->disks[i].made = MSG_DISK_ASKED;
	}
	if (s->networked)
		out->network = s->network;
	if (s->source != MSG_SOURCE_WAKE)
		out->wait = s->wait;
	str_copy(out->kernel, sizeof(out->kernel), s->kernel);
	str_copy(out->cmdline, sizeof(out->cmdline), s->cmdline);
	if (s->initramfs)
		str_copy(out->initramfs, sizeof(out->initramfs), s->initramfs);
	if (s->source == MSG_SOURCE_TEMPLATE)
		name_key_make(out->template, tenant, s->template);
}

/* ------------------------------------------------------------------ templates */

static const char *const restore_names[MSG_RESTORE_COUNT] = {
	[MSG_RESTORE_NONE] = "auto",
	[MSG_RESTORE_MAP] = "map",
	[MSG_RESTORE_COPY] = "copy",
	[MSG_RESTORE_ONDEMAND] = "ondemand",
};

const char *spec_restore_name(enum msg_restore how)
{
	return how == MSG_RESTORE_NONE || how >= MSG_RESTORE_COUNT ? NULL : restore_names[how];
}

int spec_read_restore(const cJSON *v, bool with_ondemand, enum msg_restore *out, struct err *e)
{
	int count = with_ondemand ? MSG_RESTORE_COUNT : MSG_RESTORE_ONDEMAND;
	for (int i = 0; i < count; i++) {
		if (cJSON_IsString(v) && strcmp(v->valuestring, restore_names[i]) == 0) {
			*out = (enum msg_restore)i;
			return 0;
		}
	}
	return refuse(v, with_ondemand ? "auto, map, copy or ondemand" : "auto, map or copy", e);
}

int spec_check_restore(enum msg_restore how, uint32_t content, uint32_t vmm_major, struct err *e)
{
	if (how == MSG_RESTORE_MAP && content && !(content & MSG_SET_RAM))
		return err_set(
			e, ERR_INVALID, 0,
			"memory_restore: \"map\" is not possible, the set has no ram file but "
			"only the VMM's own memory-ranges; use auto or copy");
	if (how != MSG_RESTORE_ONDEMAND)
		return 0;
	if (content && !(content & MSG_SET_RANGES))
		return err_set(e, ERR_INVALID, 0,
			       "memory_restore: \"ondemand\" is not possible, the set has no "
			       "memory-ranges of the VMM's own; use auto, map or copy");
	if (!vmm_version_has_ondemand(vmm_major))
		return err_set(
			e, ERR_INVALID, 0,
			"memory_restore: \"ondemand\" is not possible with this host's Cloud "
			"Hypervisor, version 53 is needed; use auto or copy");
	return 0;
}

int spec_use_template(struct spec *s, const struct template *t, uint32_t vmm_major, struct err *e)
{
	const struct spec *baked = t->spec;
	if (spec_check_restore(s->restore, t->content, vmm_major, e) < 0)
		return -1;
	if (s->restore == MSG_RESTORE_NONE)
		s->restore = t->content & MSG_SET_RAM		   ? MSG_RESTORE_MAP
			     : vmm_version_has_ondemand(vmm_major) ? MSG_RESTORE_ONDEMAND
								   : MSG_RESTORE_COPY;
	s->vcpus = baked->vcpus;
	s->memory_mib = baked->memory_mib;
	s->max_vcpus = baked->max_vcpus;
	s->max_memory_mib = baked->max_memory_mib;
	s->balloon = baked->balloon;
	s->balloon_mib = baked->balloon_mib;
	s->vsock = baked->vsock;
	spec_disk_copy(s, baked->disks, baked->disk_count);
	spec_disk_unmake(s);
	if (spec_network_use_template(s, baked, e) < 0)
		return -1;
	if (set_string(&s->kernel, baked->kernel, e) < 0 ||
	    set_string(&s->cmdline, baked->cmdline, e) < 0)
		return -1;
	return baked->initramfs ? set_string(&s->initramfs, baked->initramfs, e) : 0;
}

void spec_free(struct spec *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->kernel);
	free(s->initramfs);
	free(s->cmdline);
	free(s->template);
	cJSON_Delete(s->labels);
	free(s);
}

void spec_make_id(char id[NAME_SIZE])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32: five bits each */
	unsigned char random[10];
	/* Up to 256 bytes never fail or come short once the pool is ready (getrandom(2)). */
	ssize_t ignored = getrandom(random, sizeof(random), 0);
	(void)ignored;
	memcpy(id, "sb-", 3);
	for (size_t i = 0; i < sizeof(random); i++)
		id[3 + i] = letters[random[i] & 31];
	id[3 + sizeof(random)] = '\0';
}

bool spec_has_label(const struct spec *s, const char *pair)
{
	const char *equal = strchr(pair, '=');
	if (!equal || !s->labels)
		return false;
	size_t n = (size_t)(equal - pair);
	for (const cJSON *l = s->labels->child; l; l = l->next)
		if (strlen(l->string) == n && memcmp(l->string, pair, n) == 0)
			return strcmp(l->valuestring, equal + 1) == 0;
	return false;
}
