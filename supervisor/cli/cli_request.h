// SPDX-License-Identifier: Apache-2.0
/* What every command does with the control API: targets, calls, and errors told to people. */
#ifndef CLI_REQUEST_H
#define CLI_REQUEST_H

#include "cli_http.h"
#include "cli_options.h"

/* Path and query of a request; too long a one is noticed when it is used. */
struct cli_target {
	char text[8192 - 128]; /* the request line has to fit into a server's head limit */
	size_t length;
	bool query, too_long;
};

/* path, or path/id/action where these are not NULL; adds ?tenant= when it is an option. */
void cli_target_make(struct cli_target *t, const struct cli_options *o, const char *path,
		     const char *id, const char *action);

/* Adds key=value to the query, percent-encoded (RFC 3986). */
void cli_target_add(struct cli_target *t, const char *key, const char *value);
void cli_target_add_u64(struct cli_target *t, const char *key, uint64_t value);

/* What a request carries. */
struct cli_body {
	const char *type; /* NULL: no body */
	const char *data;
	size_t length;
};

/*
 * Starts a call for a caller's own poll loop; extra_s is added to --timeout. 0, or -1 with *e for
 * cli_request_broken().
 */
int cli_request_start(const struct cli_options *o, struct cli_call *c, const char *method,
		      const struct cli_target *t, const struct cli_body *body, unsigned extra_s,
		      struct err *e);

/* The same for a GET that asks for another protocol on the connection; it has timeout_s. */
int cli_request_start_upgrade(const struct cli_options *o, struct cli_call *c,
			      const struct cli_target *t, const char *protocol, unsigned timeout_s,
			      struct err *e);

/*
 * Does the whole call. CLI_EXIT_OK with *a filled (2xx), or the exit code after a complaint on
 * standard error; then *a is empty.
 */
int cli_request_call(const struct cli_options *o, const char *method, const struct cli_target *t,
		     const struct cli_body *body, unsigned extra_s, struct cli_answer *a);

/* Complains about a call that gave no answer; the exit code that it stands for. */
int cli_request_broken(const struct err *e);

/* Complains about an answer that is no 2xx; the exit code that it stands for. */
int cli_request_refused(const struct cli_options *o, int status, const char *body, size_t length);

/* The argument as a sandbox's id: 0, or CLI_EXIT_USAGE after a complaint. */
int cli_request_check_id(const char *id);

/* The same for the name of something else (what: "template"). */
int cli_request_check_name(const char *what, const char *name);

#endif
