// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/store_record: a file of STATE_DIR/store. The first byte says whether the rest is the
 * whole file, or a body that gets its first line here, so that the digest keeps nothing out.
 */
#include "fuzz.h"

#include "store_record.h"

#include <sha256.h>

#define KEY "alice:box"

static char *with_head(const char *body, size_t length, size_t *total)
{
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	uint8_t raw[SHA256_DIGEST_LENGTH];
	SHA256_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)body, length);
	SHA256Final(raw, &context);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	char *bytes = malloc(length + 128);
	FUZZ_CHECK(bytes);
	int n = snprintf(bytes, 128, "cloister-store 1 %s %zu\n", hex, length);
	memcpy(bytes + n, body, length);
	*total = (size_t)n + length;
	return bytes;
}

/* What the rest of the supervisor relies on. */
static void check(const struct store_record *r)
{
	FUZZ_CHECK(strcmp(r->key, KEY) == 0);
	FUZZ_CHECK((unsigned)r->state < STATE_NONE);
	FUZZ_CHECK(r->created_real_us >= 0 && r->destroy_by_real_us >= 0);
	FUZZ_CHECK(!r->has_exit || (r->exit.cause > 0 && r->exit.cause < MSG_CAUSE_COUNT));
	FUZZ_CHECK(fuzz_is_printable(r->exit.detail, sizeof(r->exit.detail)));
	FUZZ_CHECK(name_is_valid(r->spec->kernel));
	FUZZ_CHECK(!r->spec->initramfs || name_is_valid(r->spec->initramfs));
	FUZZ_CHECK(!r->spec->template || name_is_valid(r->spec->template));
	FUZZ_CHECK(r->spec->source != MSG_SOURCE_TEMPLATE || r->spec->template);
	FUZZ_CHECK(r->spec->disk_count <= MSG_DISKS_MAX);
	FUZZ_CHECK(r->spec->networked == (r->spec->network.slot > 0));
}

static void check_again(const struct store_record *r)
{
	struct store_record back;
	struct err e;
	size_t length, again;
	char *bytes = store_record_encode(r, &length, &e);
	/* Escapes may make what was just short enough too long. */
	if (!bytes)
		return;
	FUZZ_CHECK(store_record_decode(bytes, length, KEY, &back, &e) == 0);
	char *same = store_record_encode(&back, &again, &e);
	FUZZ_CHECK(same && length == again && memcmp(bytes, same, length) == 0);
	spec_free(back.spec);
	free(same);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct store_record r;
	struct err e = {0};
	size_t length, total;
	bool whole = fuzz_byte(&in) & 1;
	char *rest = fuzz_block(&in, &length);
	char *bytes = whole ? rest : with_head(rest, length, &total);
	if (store_record_decode(bytes, whole ? length : total, KEY, &r, &e) == 0) {
		check(&r);
		check_again(&r);
		spec_free(r.spec);
	} else {
		FUZZ_CHECK(e.text[0] && (e.kind == ERR_INVALID || e.kind == ERR_VERSION));
	}
	if (!whole)
		free(bytes);
	free(rest);
	return 0;
}
