// SPDX-License-Identifier: Apache-2.0
#include "spec.h"

#include "json.h"
#include "util.h"

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

static int take_balloon(struct spec *s, const cJSON *v, struct err *e)
{
	if (!cJSON_IsBool(v))
		return refuse(v, "true or false", e);
	s->balloon = cJSON_IsTrue(v);
	return 0;
}

static int take_labels(struct spec *s, const cJSON *v, struct err *e)
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

static int take_memory_restore(struct spec *s, const cJSON *v, struct err *e)
{
	if (cJSON_IsString(v) && strcmp(v->valuestring, "auto") == 0)
		return 0;
	return take_later(s, v, e);
}

static const struct {
	const char *name;
	field_fn *take;
} fields[] = {
	{"id", take_id},
	{"kernel", take_kernel},
	{"initramfs", take_initramfs},
	{"cmdline", take_cmdline},
	{"vcpus", take_vcpus},
	{"memory_mib", take_memory},
	{"balloon", take_balloon},
	{"labels", take_labels},
	{"memory_restore", take_memory_restore},
	{"max_vcpus", take_later},
	{"max_memory_mib", take_later},
	{"disks", take_later},
	{"network", take_later},
	{"vsock", take_later},
	{"template", take_later},
	{"ttl_s", take_later},
	{"restart", take_later},
	{"wait_for", take_later},
};

static int take_field(struct spec *s, const cJSON *v, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].name, v->string) == 0)
			return fields[i].take(s, v, e);
	err_set(e, ERR_INVALID, 0, "unknown field \"%.80s\"", v->string);
	str_clean(e->text);
	return -1;
}

static int check_whole(struct spec *s, struct err *e)
{
	if (!s->kernel)
		return err_set(e, ERR_INVALID, 0,
			       "kernel: missing; must be the name of a file in images/kernels");
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
	for (const cJSON *v = body->child; v; v = v->next) {
		if (take_field(s, v, e) < 0) {
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

struct spec *spec_from_msg(const struct msg_create *m, struct err *e)
{
	struct spec *s = calloc(1, sizeof(*s));
	if (s) {
		*s = (struct spec){.vcpus = m->vcpus,
				   .memory_mib = m->memory_mib,
				   .balloon = m->flags & MSG_CREATE_BALLOON};
		if (set_string(&s->kernel, m->kernel, e) == 0 &&
		    set_string(&s->cmdline, m->cmdline, e) == 0 &&
		    (!(m->flags & MSG_CREATE_INITRAMFS) ||
		     set_string(&s->initramfs, m->initramfs, e) == 0))
			return s;
	}
	spec_free(s);
	err_errno(e, ENOMEM, "no memory for an adopted sandbox");
	return NULL;
}

void spec_to_msg(const struct spec *s, struct msg_create *out)
{
	*out = (struct msg_create){
		.vcpus = s->vcpus,
		.memory_mib = s->memory_mib,
		.flags = (s->balloon ? MSG_CREATE_BALLOON : 0u) |
			 (s->initramfs ? MSG_CREATE_INITRAMFS : 0u),
	};
	str_copy(out->kernel, sizeof(out->kernel), s->kernel);
	str_copy(out->cmdline, sizeof(out->cmdline), s->cmdline);
	if (s->initramfs)
		str_copy(out->initramfs, sizeof(out->initramfs), s->initramfs);
}

void spec_free(struct spec *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->kernel);
	free(s->initramfs);
	free(s->cmdline);
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
