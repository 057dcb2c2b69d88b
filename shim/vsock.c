// SPDX-License-Identifier: Apache-2.0
#include "vsock.h"

#include "jail.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void vsock_close(struct vsock_conn *c)
{
	fd_close(&c->fd);
}

/*
 * The socket itself, ours from now on: CH makes it under umask 077, and we may not pass that over.
 * At every connection, since the guest's reboot makes a new one.
 */
static int take_socket(int dir_fd, struct err *e)
{
	struct stat st;
	CLEANUP_FD int at = openat(dir_fd, JAIL_VSOCK_NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return err_set(e, errno == ENOENT ? ERR_UNAVAILABLE : ERR_VMM, errno,
			       "open the VMM's vsock socket");
	if (fstat(at, &st) < 0)
		return err_errno(e, errno, "look at the VMM's vsock socket");
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_VMM, 0,
			       "what the VMM has put in place of its vsock socket is none");
	if (fchownat(at, "", 0, 0, AT_EMPTY_PATH) < 0)
		return err_errno(e, errno, "take the VMM's vsock socket");
	return fd_take(&at);
}

static int connect_to(int fd, int proc_fd, int at, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "self/fd/%d", at);
	if (fchdir(proc_fd) < 0)
		return err_errno(e, errno, "enter /proc");
	/* A Unix socket connects at once or not at all. */
	int failed = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	if (chdir("/") < 0)
		return err_errno(e, errno, "enter the root directory");
	if (failed == EAGAIN)
		return err_set(e, ERR_UNAVAILABLE, 0,
			       "too many connections wait for the VMM's vsock; try again");
	if (failed)
		return err_set(e, failed == ECONNREFUSED ? ERR_UNAVAILABLE : ERR_VMM, failed,
			       "connect to the VMM's vsock socket");
	return 0;
}

int vsock_start(struct vsock_conn *c, int dir_fd, int proc_fd, uint32_t port, struct err *e)
{
	*c = (struct vsock_conn){.fd = -1, .port = port};
	CLEANUP_FD int at = take_socket(dir_fd, e);
	if (at < 0)
		return -1;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "make a socket");
	if (connect_to(fd, proc_fd, at, e) < 0)
		return -1;
	c->fd = fd_take(&fd);
	return 0;
}

static enum vsock_result fail(struct vsock_conn *c)
{
	vsock_close(c);
	return VSOCK_FAILED;
}

/* CH ends the connection where the guest refuses it, and says nothing more about it. */
static enum vsock_result refused(struct vsock_conn *c, struct err *e)
{
	err_set(e, ERR_UNAVAILABLE, 0, "nothing in the guest takes a connection");
	return fail(c);
}

static enum vsock_result refused_by(struct vsock_conn *c, int errnum, struct err *e)
{
	if (errnum == EPIPE || errnum == ECONNRESET)
		return refused(c, e);
	err_set(e, ERR_VMM, errnum, "speak to the VMM's vsock socket");
	return fail(c);
}

static size_t request_line(const struct vsock_conn *c, char line[VSOCK_LINE_MAX])
{
	return (size_t)snprintf(line, VSOCK_LINE_MAX, "CONNECT %u\n", c->port);
}

bool vsock_wants_write(const struct vsock_conn *c)
{
	char line[VSOCK_LINE_MAX];
	return c->sent < request_line(c, line);
}

/* "OK " and a number of up to ten digits, nothing else. */
static bool is_ok(const char *line, size_t len)
{
	if (len < 4 || len > 13 || memcmp(line, "OK ", 3) != 0)
		return false;
	for (size_t i = 3; i < len; i++)
		if (line[i] < '0' || line[i] > '9')
			return false;
	return true;
}

/*
 * What follows the line is the guest's and has to stay in the socket, hence the look before each
 * read; and what was looked at is always read, or a part of a line would wake us for ever.
 */
static enum vsock_result read_answer(struct vsock_conn *c, struct err *e)
{
	char *to = c->answer + c->got;
	ssize_t n;
	do
		n = recv(c->fd, to, sizeof(c->answer) - c->got, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return VSOCK_MORE;
	if (n < 0)
		return refused_by(c, errno, e);
	if (n == 0)
		return refused(c, e);
	const char *end = memchr(to, '\n', (size_t)n);
	size_t take = end ? (size_t)(end - to) + 1 : (size_t)n;
	n = recv(c->fd, to, take, MSG_DONTWAIT);
	c->got += take;
	if (n == (ssize_t)take && end && is_ok(c->answer, c->got - 1))
		return VSOCK_OPEN;
	if (n == (ssize_t)take && !end && c->got < sizeof(c->answer))
		return VSOCK_MORE;
	err_set(e, ERR_VMM, 0, "the VMM's vsock answered with something other than OK");
	return fail(c);
}

enum vsock_result vsock_step(struct vsock_conn *c, struct err *e)
{
	char line[VSOCK_LINE_MAX];
	size_t len = request_line(c, line);
	while (c->sent < len) {
		ssize_t n = send(c->fd, line + c->sent, len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return VSOCK_MORE;
		if (n < 0)
			return refused_by(c, errno, e);
		c->sent += (size_t)n;
	}
	return read_answer(c, e);
}
