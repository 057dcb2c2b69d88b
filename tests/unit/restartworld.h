// SPDX-License-Identifier: Apache-2.0
/* Of daemonworld.h's one sandbox: a restart policy, ends of its VMM, and the time for a restart. */
#ifndef TESTS_UNIT_RESTARTWORLD_H
#define TESTS_UNIT_RESTARTWORLD_H

#include "daemonworld.h"

#include "restart.h"

static inline struct sandbox *running_with(enum spec_restart policy, uint32_t attempts)
{
	struct sandbox *sb = running();
	sb->spec->restart = (struct spec_restart_rule){.policy = policy,
						       .attempts = attempts,
						       .backoff_ms = 1000000,
						       .backoff_max_ms = 4000000};
	return sb;
}

/* The time of the restart that is due has come. */
static inline void come(struct sandbox *sb)
{
	assert_true(sb->restart.due);
	sb->restart.next_real_us = 0;
	restart_shim_gone(sb);
}

/* Its VMM ends, and its shim has gone. */
static inline void end_with(enum msg_cause cause)
{
	const struct msg_exit said = {.cause = cause,
				      .code = 1,
				      .phase = MSG_PHASE_RUNNING,
				      .at_real_us = clock_real_us()};
	struct msg_console_data nothing = {.eof = 1};
	assert_int_equal(chan_send_exit(&shim, 0, &said, &e), 0);
	uint32_t id = expect(&shim, MSG_CONSOLE_READ);
	assert_int_equal(chan_send_console_data(&shim, id, &nothing, &e), 0);
	give_no_account();
	expect(&shim, MSG_EXIT_ACK);
	tell_gone();
}

#endif
