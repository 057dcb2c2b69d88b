// SPDX-License-Identifier: Apache-2.0
#include "store_record.h"

#include "json.h"
#include "store_json.h"
#include "store_spec.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC	   "cloister-store "
#define HEAD_MAX   128 /* bytes of the first line and an end */
#define DIGEST_HEX (2 * SHA256_DIGEST_LENGTH)

static void digest(const char *body, size_t length, char hex[DIGEST_HEX + 1])
{
	uint8_t raw[SHA256_DIGEST_LENGTH];
	SHA256_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)body, length);
	SHA256Final(raw, &context);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

static const char *state_word(unsigned state)
{
	return state_name((enum state)state);
}

/* ------------------------------------------------------------------ writing */

static void write_exit(struct store_json_out *out, const struct msg_exit *x)
{
	char detail[sizeof(x->detail)];
	struct store_json_out one = store_json_put_object(out, "exit");
	store_json_put_text(&one, "cause", msg_cause_name(x->cause));
	store_json_put_number(&one, "code", x->code);
	store_json_put_number(&one, "signal", x->signal);
	store_json_put_text(&one, "phase", msg_phase_name(x->phase));
	store_json_put_number(&one, "at_us", x->at_real_us);
	store_json_put_number(&one, "console_end", (int64_t)x->console_end);
	/* What stands there of our own errors has not been through msg_check.c. */
	str_copy(detail, sizeof(detail), x->detail);
	str_clean(detail);
	store_json_put_text(&one, "detail", detail);
	store_json_close(out, &one);
}

static char *write_body(const struct store_record *r)
{
	struct store_json_out out = {.o = cJSON_CreateObject(), .ok = true};
	out.ok = out.o != NULL;
	store_json_put_text(&out, "key", r->key);
	store_json_put_text(&out, "state", state_name(r->state));
	store_json_put_number(&out, "created_us", r->created_real_us);
	store_json_put_text(&out, "boot", r->boot);
	store_json_put_bool(&out, "keep_failed", r->keep_failed);
	store_json_put_number(&out, "destroy_by_us", r->destroy_by_real_us);
	store_json_put_number(&out, "set_content", r->set_content);
	store_json_put_number(&out, "set_bytes", (int64_t)r->set_bytes);
	store_json_put_number(&out, "set_us", r->set_real_us);
	if (r->has_exit)
		write_exit(&out, &r->exit);
	struct store_json_out spec = store_json_put_object(&out, "spec");
	store_spec_write(&spec, r->spec);
	store_json_close(&out, &spec);
	char *body = out.ok ? cJSON_PrintUnformatted(out.o) : NULL;
	cJSON_Delete(out.o);
	return body;
}

char *store_record_encode(const struct store_record *r, size_t *length, struct err *e)
{
	char hex[DIGEST_HEX + 1];
	char *body = write_body(r);
	char *bytes = body ? malloc(HEAD_MAX + strlen(body)) : NULL;
	if (!bytes) {
		cJSON_free(body);
		err_errno(e, ENOMEM, "no memory for the record of %s", r->key);
		return NULL;
	}
	size_t n = strlen(body);
	digest(body, n, hex);
	int head = snprintf(bytes, HEAD_MAX, MAGIC "%d %s %zu\n", STORE_RECORD_VERSION, hex, n);
	memcpy(bytes + head, body, n);
	cJSON_free(body);
	*length = (size_t)head + n;
	if (*length <= STORE_RECORD_MAX)
		return bytes;
	free(bytes);
	err_set(e, ERR_INTERNAL, 0, "the record of %s has %zu bytes, may have %d", r->key, *length,
		STORE_RECORD_MAX);
	return NULL;
}

uint64_t store_record_hash(const char *bytes, size_t length)
{
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)bytes[i]) * 1099511628211u;
	return h ? h : 1;
}

/* ------------------------------------------------------------------ reading */

static int damaged(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, 0, "%s", what);
}

/* What is left of *line up to the next blank or its end; moves on behind it. */
static bool next_word(char **line, char **word)
{
	*word = *line;
	if (!*line || !**line)
		return false;
	*line = strchr(*line, ' ');
	if (*line)
		*(*line)++ = '\0';
	return true;
}

/* Checks the first line, and against it what follows. Gives where that begins. */
static int read_head(const char *bytes, size_t length, size_t *begin, struct err *e)
{
	char line[HEAD_MAX], hex[DIGEST_HEX + 1];
	char *rest = line + strlen(MAGIC), *number, *sum, *size;
	uint64_t version, want;
	size_t most = length < sizeof(line) ? length : sizeof(line);
	const char *end = memchr(bytes, '\n', most);
	if (!end)
		return damaged(e, length ? "its first line is none of a record" : "it is empty");
	size_t n = (size_t)(end - bytes);
	memcpy(line, bytes, n);
	line[n] = '\0';
	if (strncmp(line, MAGIC, strlen(MAGIC)) != 0 || !next_word(&rest, &number) ||
	    !str_to_u64(number, 1, UINT32_MAX, &version))
		return damaged(e, "its first line is none of a record");
	if (version != STORE_RECORD_VERSION)
		return err_set(e, ERR_VERSION, 0,
			       "it has version %" PRIu64 " of the store's format, this is %d",
			       version, STORE_RECORD_VERSION);
	if (!next_word(&rest, &sum) || !next_word(&rest, &size) || rest ||
	    !str_to_u64(size, 2, STORE_RECORD_MAX, &want))
		return damaged(e, "its first line is none of a record");
	*begin = n + 1;
	if (want != length - *begin)
		return err_set(e, ERR_INVALID, 0, "it has %zu bytes where there should be %" PRIu64,
			       length - *begin, want);
	digest(bytes + *begin, length - *begin, hex);
	if (strcmp(hex, sum) != 0)
		return damaged(e, "its digest does not fit its content");
	return 0;
}

static int read_exit(struct store_json_in *record, struct store_record *out)
{
	const cJSON *v = store_json_take(record, "exit");
	struct msg_exit *x = &out->exit;
	if (!v)
		return 0;
	struct store_json_in in = store_json_open(v, "exit", record->e);
	x->cause = store_json_word(&in, "cause", msg_cause_name, MSG_CAUSE_COUNT);
	x->code = (int32_t)store_json_number(&in, "code", -1, 255);
	x->signal = (int32_t)store_json_u32(&in, "signal", 64);
	x->phase = store_json_word(&in, "phase", msg_phase_name, MSG_PHASE_COUNT);
	x->at_real_us = store_json_number(&in, "at_us", 0, STORE_JSON_MAX);
	x->console_end = (uint64_t)store_json_number(&in, "console_end", 0, STORE_JSON_MAX);
	store_json_text(&in, "detail", x->detail, sizeof(x->detail), false);
	if (store_json_end(&in) < 0)
		return -1;
	out->has_exit = true;
	if (msg_write_exit(x, record->e) >= 0)
		return 0;
	record->e->kind = ERR_INVALID;
	return -1;
}

static int read_body(const cJSON *o, const char *key, struct store_record *out, struct err *e)
{
	struct store_json_in in = store_json_open(o, "record", e);
	store_json_text(&in, "key", out->key, sizeof(out->key), false);
	out->state = (enum state)store_json_word(&in, "state", state_word, STATE_NONE);
	out->created_real_us = store_json_number(&in, "created_us", 0, STORE_JSON_MAX);
	store_json_text(&in, "boot", out->boot, sizeof(out->boot), false);
	out->keep_failed = store_json_bool(&in, "keep_failed");
	out->destroy_by_real_us = store_json_number(&in, "destroy_by_us", 0, STORE_JSON_MAX);
	out->set_content = store_json_u32(&in, "set_content", MSG_SET_CONTENTS);
	out->set_bytes = (uint64_t)store_json_number(&in, "set_bytes", 0, STORE_JSON_MAX);
	out->set_real_us = store_json_number(&in, "set_us", 0, STORE_JSON_MAX);
	const cJSON *spec = store_json_take(&in, "spec");
	if (in.failed || read_exit(&in, out) < 0 || store_json_end(&in) < 0)
		return -1;
	if (strcmp(out->key, key) != 0)
		return damaged(e, "it is another sandbox's: its name and its content differ");
	out->spec = store_spec_read(spec, e);
	return out->spec ? 0 : -1;
}

int store_record_decode(const char *bytes, size_t length, const char *key, struct store_record *out,
			struct err *e)
{
	size_t begin = 0;
	*out = (struct store_record){0};
	if (length > STORE_RECORD_MAX)
		return damaged(e, "it is larger than any record");
	if (read_head(bytes, length, &begin, e) < 0)
		return -1;
	cJSON *o = json_parse_object(bytes + begin, length - begin, e);
	if (!o)
		return -1;
	int rc = read_body(o, key, out, e);
	cJSON_Delete(o);
	return rc;
}
