// SPDX-License-Identifier: Apache-2.0
#include "store_json.h"

#include "util.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ writing */

void store_json_put_text(struct store_json_out *out, const char *name, const char *text)
{
	out->ok = out->ok && cJSON_AddStringToObject(out->o, name, text);
}

void store_json_put_bool(struct store_json_out *out, const char *name, bool value)
{
	out->ok = out->ok && cJSON_AddBoolToObject(out->o, name, value);
}

void store_json_put_number(struct store_json_out *out, const char *name, int64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRId64, value);
	out->ok = out->ok && cJSON_AddRawToObject(out->o, name, text);
}

static struct store_json_out below(struct store_json_out *out, const char *name, cJSON *fresh)
{
	struct store_json_out one = {.o = fresh};
	if (!out->ok || !fresh) {
		out->ok = false;
		cJSON_Delete(fresh);
		one.o = NULL;
		return one;
	}
	one.ok = name ? cJSON_AddItemToObject(out->o, name, fresh)
		      : cJSON_AddItemToArray(out->o, fresh);
	if (!one.ok) {
		cJSON_Delete(fresh);
		one.o = NULL;
	}
	return one;
}

struct store_json_out store_json_put_object(struct store_json_out *out, const char *name)
{
	return below(out, name, cJSON_CreateObject());
}

struct store_json_out store_json_put_array(struct store_json_out *out, const char *name)
{
	return below(out, name, cJSON_CreateArray());
}

void store_json_close(struct store_json_out *out, const struct store_json_out *one)
{
	out->ok = out->ok && one->ok;
}

/* ------------------------------------------------------------------ reading */

struct store_json_in store_json_open(const cJSON *o, const char *at, struct err *e)
{
	struct store_json_in in = {.o = o, .at = at, .e = e};
	if (!cJSON_IsObject(o)) {
		in.failed = true;
		err_set(e, ERR_INVALID, 0, "%s is missing, or no object", at);
	}
	return in;
}

const cJSON *store_json_take(struct store_json_in *in, const char *name)
{
	const cJSON *v = in->failed ? NULL : cJSON_GetObjectItemCaseSensitive(in->o, name);
	in->taken += v != NULL;
	return v;
}

int store_json_fail(struct store_json_in *in, const char *name)
{
	if (!in->failed)
		err_set(in->e, ERR_INVALID, 0, "%s.%s is missing or wrong", in->at, name);
	in->failed = true;
	return -1;
}

int64_t store_json_number(struct store_json_in *in, const char *name, int64_t min, int64_t max)
{
	const cJSON *v = store_json_take(in, name);
	if (cJSON_IsNumber(v) && v->valuedouble >= (double)min && v->valuedouble <= (double)max)
		return (int64_t)v->valuedouble;
	store_json_fail(in, name);
	return 0;
}

uint32_t store_json_u32(struct store_json_in *in, const char *name, uint32_t max)
{
	return (uint32_t)store_json_number(in, name, 0, max);
}

bool store_json_bool(struct store_json_in *in, const char *name)
{
	const cJSON *v = store_json_take(in, name);
	if (!cJSON_IsBool(v))
		store_json_fail(in, name);
	return cJSON_IsTrue(v);
}

void store_json_text(struct store_json_in *in, const char *name, char *buf, size_t size,
		     bool optional)
{
	const cJSON *v = store_json_take(in, name);
	memset(buf, 0, size);
	if ((v || !optional) && (!cJSON_IsString(v) || !str_copy(buf, size, v->valuestring)))
		store_json_fail(in, name);
}

uint32_t store_json_word(struct store_json_in *in, const char *name, const char *(*word)(unsigned),
			 unsigned count)
{
	const cJSON *v = store_json_take(in, name);
	for (unsigned i = 0; cJSON_IsString(v) && i < count; i++) {
		const char *one = word(i);
		if (one && strcmp(v->valuestring, one) == 0)
			return i;
	}
	store_json_fail(in, name);
	return 0;
}

int store_json_end(struct store_json_in *in)
{
	if (!in->failed && in->taken != cJSON_GetArraySize(in->o)) {
		in->failed = true;
		err_set(in->e, ERR_VERSION, 0,
			"%s has a member that this version does not know: a later one wrote it",
			in->at);
	}
	return in->failed ? -1 : 0;
}
