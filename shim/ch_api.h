// SPDX-License-Identifier: Apache-2.0
/*
 * Cloud Hypervisor's REST API (docs/api.md and its OpenAPI file in the CH repository) as far as the
 * shim uses it: what is sent, and what the answers mean. All answers are untrusted.
 */
#ifndef SHIM_CH_API_H
#define SHIM_CH_API_H

#include "err.h"
#include "http_client.h"
#include "msg.h"

enum ch_api_call {
	CH_API_PING,
	CH_API_CREATE,
	CH_API_INFO,
	CH_API_ADD_NET,
	CH_API_BOOT,
	CH_API_PAUSE,
	CH_API_RESUME,
	CH_API_POWER_BUTTON,
	CH_API_SNAPSHOT,     /* vm.snapshot into the jail's /snapshot */
	CH_API_RESTORE,	     /* vm.restore from the jail's /restore; the guest stays paused */
	CH_API_RESIZE,	     /* vm.resize: vCPUs or the balloon */
	CH_API_RESIZE_ZONE,  /* vm.resize-zone: memory */
	CH_API_COUNTERS,     /* vm.counters */
	CH_API_SHUTDOWN,     /* vm.shutdown: the guest's devices are flushed */
	CH_API_VMM_SHUTDOWN, /* vmm.shutdown: the process ends */
	CH_API_CALL_COUNT
};

/* "vm.boot" and so on. */
const char *ch_api_name(enum ch_api_call call);

/* Sends the call; body is for CH_API_CREATE, CH_API_SNAPSHOT and CH_API_RESTORE. */
int ch_api_send(struct http_client *c, enum ch_api_call call, const char *body, int64_t deadline_us,
		http_client_done_fn *done, struct err *e);

/*
 * vm.resize and vm.resize-zone: how much memory the balloon should hold; how many vCPUs; how much
 * memory in all, what is plugged included. CH answers when it has told the guest, not when the
 * guest has done it.
 */
int ch_api_send_balloon(struct http_client *c, uint32_t mib, int64_t deadline_us,
			http_client_done_fn *done, struct err *e);
int ch_api_send_vcpus(struct http_client *c, uint32_t vcpus, int64_t deadline_us,
		      http_client_done_fn *done, struct err *e);
int ch_api_send_memory(struct http_client *c, uint32_t mib, int64_t deadline_us,
		       http_client_done_fn *done, struct err *e);

/* vm.info's memory_actual_size, in bytes: the guest's memory less what its balloon holds. */
int ch_api_read_actual(const struct http_response *answer, uint64_t *out, struct err *e);

/*
 * vm.create's body for the guest: explicit ids, raw images, no nested virtualisation, memory as the
 * file of the jail's fixed layout. The string is malloc(3)ed, the caller frees it.
 */
char *ch_api_create_body(const struct msg_create *spec, struct err *e);

/*
 * The same as the file config.json of a set or a restore. CH reads both with one parser, and what
 * is left out has the same defaults, so nothing that a VMM wrote is needed for it. restore:
 * MSG_RESTORE_MAP names the set's ram, private; all others the guest's own ram file.
 */
char *ch_api_config(const struct msg_create *spec, enum msg_restore restore, struct err *e);

/* The body of vm.snapshot: a constant string. */
const char *ch_api_snapshot_body(void);

/* vm.add-net and vm.restore; tap_fd (-1 with vm.restore: none) rides on the request. */
int ch_api_send_net(struct http_client *c, int tap_fd, int64_t deadline_us,
		    http_client_done_fn *done, struct err *e);
int ch_api_send_restore(struct http_client *c, enum msg_restore restore, int tap_fd,
			int64_t deadline_us, http_client_done_fn *done, struct err *e);

/* Whether vm.snapshot was refused only because CH still loads memory on demand. */
bool ch_api_is_still_loading(const struct http_response *answer);

/* The state that vm.info tells, "Running" for instance, must be that; else ERR_VMM. */
int ch_api_check_state(const struct http_response *answer, const char *state, struct err *e);

/* 0 for a 2xx; else -1 with ERR_VMM and CH's own words, cleaned. */
int ch_api_check(enum ch_api_call call, const struct http_response *answer, struct err *e);

/* The version that vmm.ping tells, e.g. "53.0.0", as printable text. */
int ch_api_read_version(const struct http_response *answer, char out[MSG_BUILD_MAX], struct err *e);

/*
 * Compares vm.info's config with what ch_api_create_body() asked for: CH passes over keys that it
 * does not know, so that an older or newer one might have left out what the jail relies on.
 */
int ch_api_check_config(const struct http_response *answer, const struct msg_create *spec,
			struct err *e);

/* One record of --event-monitor, e.g. source "vm", event "booted". */
struct ch_api_event {
	char source[32];
	char event[32];
	char detail[32]; /* properties.event, for a guest's panic */
};

/* False when the bytes are no such record. */
bool ch_api_read_event(const char *bytes, size_t len, struct ch_api_event *out);

#endif
