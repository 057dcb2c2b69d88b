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
#include "template.h"
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

/* The templates that there are: with a network or without, with ram or the VMM's own ranges. */
static int from_template(struct spec *s, struct err *e)
{
	struct msg_create m = {
		.vcpus = 2, .max_vcpus = 2, .memory_mib = 64, .max_memory_mib = 192, .kernel = "k"};
	struct template t = {.content = MSG_SET_RAM};
	if (strchr(s->template, 'n'))
		m.network = (struct msg_network){
			.slot = 9, .port_count = 1, .ports = {{MSG_PROTO_TCP, 80, 8080}}};
	if (strchr(s->template, 'd')) {
		m.disk_count = 1;
		m.disks[0] =
			(struct msg_disk){.image = "root", .size_mib = 8, .made = MSG_DISK_COPIED};
	}
	if (strchr(s->template, 'r'))
		t.content = MSG_SET_RANGES;
	if (strchr(s->template, 'v'))
		m.flags |= MSG_CREATE_VSOCK;
	t.spec = spec_from_msg(&m, e);
	FUZZ_CHECK(t.spec);
	int result = spec_use_template(s, &t, 53, e);
	spec_free(t.spec);
	return result;
}

static void use(struct spec *s)
{
	const struct msg_network fallback = {.egress = MSG_EGRESS_INTERNET};
	struct err e;
	spec_has_label(s, "a=b");
	if ((s->template && from_template(s, &e) < 0) ||
	    spec_network_settle(s, &fallback, &e) < 0 || spec_wait_check(s, &e) < 0) {
		FUZZ_CHECK(e.kind == ERR_INVALID && fuzz_is_printable(e.text, sizeof(e.text)));
		return;
	}
	/* Its address is given out later. */
	if (s->networked)
		s->network.slot = 1;
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
