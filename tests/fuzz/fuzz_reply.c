// SPDX-License-Identifier: Apache-2.0
/*
 * shim/ch_api: the VMM's JSON. The first byte chooses the guest that was asked for, the second the
 * status; the rest is the body of the answer, which every reader gets.
 */
#include "fuzz.h"

#include "ch_api.h"
#include "json_whole.h"
#include "util.h"

#include <cjson/cJSON.h>

static struct msg_create spec;

static void choose_guest(unsigned bits)
{
	spec = (struct msg_create){.kernel = "k",
				   .vcpus = 2,
				   .max_vcpus = 2,
				   .memory_mib = 256,
				   .max_memory_mib = 256};
	if (bits & 1) {
		spec.flags |= MSG_CREATE_BALLOON;
		spec.balloon_mib = 16;
	}
	if (bits & 2)
		spec.max_memory_mib += MSG_HOTPLUG_MIB;
	if (bits & 4) {
		spec.disk_count = 2;
		str_copy(spec.disks[0].image, sizeof(spec.disks[0].image), "root");
		spec.disks[1] = spec.disks[0];
		spec.disks[1].flags = MSG_DISK_READONLY;
		spec.disks[1].rate_iops = 100;
	}
	if (bits & 8)
		spec.network = (struct msg_network){.slot = 3};
	if (bits & 16)
		spec.flags |= MSG_CREATE_VSOCK | MSG_CREATE_INITRAMFS;
}

/* A VMM that says back what it was told is always believed. */
static void check_honest(uint8_t guest)
{
	struct err e;
	static bool done[256];
	if (done[guest])
		return;
	done[guest] = true;
	char *config = ch_api_config(&spec, MSG_RESTORE_NONE, &e), *text;
	FUZZ_CHECK(config);
	FUZZ_CHECK(asprintf(&text, "{\"config\":%s,\"state\":\"Created\"}", config) > 0);
	struct http_response r = {.status = 200, .body = text, .body_length = strlen(text)};
	FUZZ_CHECK(ch_api_check_config(&r, &spec, &e) == 0);
	FUZZ_CHECK(ch_api_check_state(&r, "Created", &e) == 0);
	free(text);
	free(config);
}

static void read_all(const struct http_response *r)
{
	char version[MSG_BUILD_MAX];
	uint64_t actual = 0;
	struct err e;
	if (ch_api_read_version(r, version, &e) == 0)
		FUZZ_CHECK(fuzz_is_printable(version, sizeof(version)));
	if (ch_api_read_actual(r, &actual, &e) == 0)
		FUZZ_CHECK(actual < UINT64_C(1) << 53);
	ch_api_is_still_loading(r);
	ch_api_check_state(r, "Running", &e);
	ch_api_check_config(r, &spec, &e);
	if (ch_api_check(CH_API_BOOT, r, &e) < 0)
		FUZZ_CHECK(fuzz_is_printable(e.text, sizeof(e.text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t guest = fuzz_byte(&in);
	choose_guest(guest);
	struct http_response r = {.status = fuzz_byte(&in) & 1 ? 500 : 200};
	char *body = fuzz_block(&in, &r.body_length);
	r.body = body;
	check_honest(guest);
	read_all(&r);
	/* What lies around a text decides nothing within it. */
	if (json_whole(body, r.body_length))
		FUZZ_CHECK(body[r.body_length - 1] != ',' && !memchr(body, '\0', r.body_length));
	free(body);
	return 0;
}
