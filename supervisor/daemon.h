// SPDX-License-Identifier: Apache-2.0
/* cloisterd as a whole: start-up, the loop, the end; and the context that its parts share. */
#ifndef SUPERVISOR_DAEMON_H
#define SUPERVISOR_DAEMON_H

#include "config.h"
#include "events.h"
#include "host.h"
#include "msg.h"
#include "pool.h"
#include "registry.h"
#include "template.h"

#include <event2/event.h>
#include <sys/queue.h>

struct control;
struct control_connect;
struct spawner;
struct store;
struct store_load;

struct adopt_candidate;

LIST_HEAD(daemon_connects, control_connect);
LIST_HEAD(daemon_candidates, adopt_candidate);

struct daemon {
	struct event_base *base;
	struct config config;
	struct host host;
	struct events events;
	struct registry registry;
	struct pool pool; /* addresses of sandboxes, and ports of the host */
	struct template_table templates;
	struct template_table sleeping; /* sets of hibernated sandboxes, until they have records */
	struct template_table left;	/* what is left of others: MSG_TEMPLATE_LEFT; until then */
	struct store *store;
	struct store_load *recorded; /* what the store had at start, until it is matched */
	struct spawner *spawner;
	struct control *control;
	struct daemon_connects connects;     /* connections of clients to guests */
	struct daemon_candidates candidates; /* shims that have not said who they are */
	struct msg_host vmm;		     /* what the spawner found out */
	int64_t started_real_us;	     /* CLOCK_REALTIME */
	int64_t started_us;		     /* CLOCK_MONOTONIC */
	bool stopping;
	int exit_code;
};

/* The whole program: its arguments, its exit status. */
int daemon_main(int argc, char **argv);

/* Ends the loop; the VMs are left running. */
void daemon_stop(struct daemon *d, int exit_code);

/* A deadline of the configuration, in milliseconds. */
uint32_t daemon_deadline(const struct daemon *d, enum policy_deadline which);

#endif
