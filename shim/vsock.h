// SPDX-License-Identifier: Apache-2.0
/*
 * A connection to a vsock port of the guest, through the socket that Cloud Hypervisor binds in the
 * jail (its docs/vsock.md; Firecracker's is the same): the line "CONNECT PORT" is answered by "OK
 * NUMBER" once the guest has taken the connection, or by an end of the connection when it does not.
 * There is no answer while no driver runs in the guest or while it is paused.
 *
 * The socket's directory is the VMM's, so anything may lie there: a link is never followed, what is
 * no socket is left alone, and a peer may be silent, slow or lying. A stale socket cannot be there:
 * the directory is a new tmpfs in every jail.
 */
#ifndef SHIM_VSOCK_H
#define SHIM_VSOCK_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VSOCK_LINE_MAX 24 /* "CONNECT 4294967294\n" and "OK 4294967295\n" are shorter */

struct vsock_conn {
	int fd; /* -1: none */
	uint32_t port;
	size_t sent, got;
	char answer[VSOCK_LINE_MAX];
};

#define VSOCK_CONN_INIT                                                                            \
	{                                                                                          \
		.fd = -1                                                                           \
	}

enum vsock_result {
	VSOCK_MORE, /* watch c->fd, then step again */
	VSOCK_OPEN, /* c->fd is the guest's stream from its first byte on; fd_take() it */
	VSOCK_FAILED,
};

/*
 * Starts to connect to port. dir_fd: the directory of the socket (O_PATH will do); proc_fd: a /proc
 * that knows the calling process, since only through it can the one file be connected to that was
 * looked at. Takes the socket from the VMM's uid (CAP_CHOWN) and changes the working directory to
 * "/". -1: ERR_UNAVAILABLE where trying again may help, ERR_VMM where what lies there is wrong.
 */
int vsock_start(struct vsock_conn *c, int dir_fd, int proc_fd, uint32_t port, struct err *e);

/*
 * Goes on as far as it can without blocking. The caller has the deadline. After VSOCK_FAILED the
 * connection is closed; ERR_UNAVAILABLE: the guest takes none on that port, ERR_VMM: no such answer
 * exists.
 */
enum vsock_result vsock_step(struct vsock_conn *c, struct err *e);

/* Whether to watch the descriptor for writing too. */
bool vsock_wants_write(const struct vsock_conn *c);

void vsock_close(struct vsock_conn *c);

#endif
