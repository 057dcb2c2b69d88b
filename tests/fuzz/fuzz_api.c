// SPDX-License-Identifier: Apache-2.0
/*
 * The body of POST /v1/sandboxes: supervisor/json and spec. What a client gets past them, a shim
 * takes; it comes back the same from what an adopted shim tells.
 */
#include "fuzz.h"

#include "json.h"
#include "spec.h"
#include "spec_network.h"
#include "spec_wait.h"
#include "util.h"

#include <math.h>

/* Every value as it is shown in a message; numbers are whole. */
static void walk(const cJSON *value)
{
	char shown[96];
	uint32_t number = 7;
	for (const cJSON *v = value->child; v; v = v->next) {
		json_show(v, shown, sizeof(shown));
		FUZZ_CHECK(fuzz_is_printable(shown, sizeof(shown)));
		if (json_u32(v, 5, 4000000000u, &number))
			FUZZ_CHECK(number >= 5 && number <= 4000000000u &&
				   (double)number == v->valuedouble);
		FUZZ_CHECK(!cJSON_IsNumber(v) || v->valuedouble == floor(v->valuedouble));
		walk(v);
	}
}

static void round_trip(const struct spec *s)
{
	struct msg_create m, again;
	struct err e;
	spec_to_msg(s, "acme", &m);
	FUZZ_CHECK(msg_write_create(&m, &e) == sizeof(m));
	struct spec *back = spec_from_msg(&m, &e);
	FUZZ_CHECK(back);
	back->wait = s->wait;
	spec_to_msg(back, "acme", &again);
	FUZZ_CHECK(memcmp(&m, &again, sizeof(m)) == 0);
	spec_free(back);
}

static void use(struct spec *s)
{
	const struct msg_network fallback = {.egress = MSG_EGRESS_INTERNET};
	struct err e;
	spec_has_label(s, "a=b");
	if (spec_network_settle(s, &fallback, &e) < 0 || spec_wait_check(s, &e) < 0) {
		FUZZ_CHECK(e.kind == ERR_INVALID && fuzz_is_printable(e.text, sizeof(e.text)));
		return;
	}
	/* Its address is given out later; a template brings the rest. */
	if (s->networked)
		s->network.slot = 1;
	if (!s->template)
		round_trip(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct err e;
	size_t length;
	char *text = fuzz_block(&in, &length);
	cJSON *body = json_parse_object(text, length, &e);
	free(text);
	if (!body) {
		FUZZ_CHECK(e.kind == ERR_INVALID && fuzz_is_printable(e.text, sizeof(e.text)));
		return 0;
	}
	walk(body);
	struct spec *s = spec_from_json(body, &e);
	if (s)
		use(s);
	else
		FUZZ_CHECK(e.kind == ERR_INVALID && fuzz_is_printable(e.text, sizeof(e.text)));
	spec_free(s);
	cJSON_Delete(body);
	return 0;
}
