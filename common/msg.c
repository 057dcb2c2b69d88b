// SPDX-License-Identifier: Apache-2.0
#include "msg.h"

#include "util.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct {
	const char *name;
	size_t size; /* of the body; of the largest one where it has a tail */
	size_t head; /* bytes before the tail, or 0 */
	unsigned fds;
} types[MSG_TYPE_COUNT] = {
#define MSG_HEAD_true(lower)  (sizeof(struct msg_##lower) - MSG_DATA_MAX)
#define MSG_HEAD_false(lower) 0
#define X(upper, lower, fd_count, tail)                                                            \
	[MSG_##upper] = {#upper, sizeof(struct msg_##lower), MSG_HEAD_##tail(lower), fd_count},
	MSG_TABLE(X)
#undef X
};

const char *msg_type_name(unsigned type)
{
	return type > MSG_NONE && type < MSG_TYPE_COUNT ? types[type].name : "unknown";
}

const char *msg_phase_name(unsigned phase)
{
	static const char *const names[MSG_PHASE_COUNT] = {
		"new",	  "setup",    "starting", "running", "pausing",
		"paused", "resuming", "ending",	  "ended",   "snapshotting",
	};
	return phase < MSG_PHASE_COUNT ? names[phase] : "unknown";
}

const char *msg_cause_name(unsigned cause)
{
	static const char *const names[MSG_CAUSE_COUNT] = {
		"none",	     "guest-shutdown", "guest-panic",	"guest-reboot-loop",
		"vmm-error", "vmm-killed",     "out-of-memory", "seccomp",
		"destroyed", "shim-lost",      "start-failed",	"hibernated",
	};
	return cause < MSG_CAUSE_COUNT ? names[cause] : "unknown";
}

/* ------------------------------------------------------------------ records */

void msg_close_fds(struct msg *m)
{
	for (unsigned i = 0; i < m->fd_count; i++)
		fd_close(&m->fds[i]);
	m->fd_count = 0;
}

/* Takes every descriptor out of the control data, also those we will refuse. */
static void collect_fds(struct msghdr *h, struct msg *m, unsigned *surplus)
{
	m->fd_count = 0;
	*surplus = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->fd_count < MSG_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				close(fd);
				(*surplus)++;
			}
		}
	}
}

static int check_shape(const struct msg *m, size_t got, unsigned surplus, struct err *e)
{
	const struct msg_header *h = &m->header;
	if (h->length != got)
		return err_set(e, ERR_PROTOCOL, 0, "record says %u bytes, has %zu", h->length, got);
	if (h->type <= MSG_NONE || h->type >= MSG_TYPE_COUNT)
		return err_set(e, ERR_PROTOCOL, 0, "record of unknown type %u", h->type);
	if (h->zero != 0)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with a reserved field set",
			       types[h->type].name);
	size_t size = types[h->type].size, head = types[h->type].head;
	if (head ? m->body_length < head || m->body_length > size : m->body_length != size)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with a body of %zu bytes, not %zu",
			       types[h->type].name, m->body_length, size);
	if (m->fd_count + surplus != types[h->type].fds)
		return err_set(e, ERR_PROTOCOL, 0, "%s record with %u descriptors, not %u",
			       types[h->type].name, m->fd_count + surplus, types[h->type].fds);
	return 0;
}

enum msg_result msg_recv(int sock, struct msg *m, struct err *e)
{
	/* Room for more descriptors than any type has, so that a surplus is seen as such. */
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[2] = {
		{.iov_base = &m->header, .iov_len = sizeof(m->header)},
		{.iov_base = m->body, .iov_len = sizeof(m->body)},
	};
	struct msghdr h = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n;
	bool reset = false;
	/*
	 * A peer that closed with records of ours unread gives ECONNRESET once, ahead of what it
	 * had sent before: that (a last word, say) is still to be taken.
	 */
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
	m->fd_count = 0;
	m->body_length = 0;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return MSG_AGAIN;
	if (n < 0 && errno == ECONNRESET)
		return MSG_EOF;
	if (n < 0) {
		err_errno(e, errno, "receive a record");
		return MSG_BAD;
	}
	unsigned surplus;
	collect_fds(&h, m, &surplus);
	/* A record of no bytes looks like the end, and yet can bring descriptors. */
	if (n == 0) {
		msg_close_fds(m);
		return MSG_EOF;
	}
	enum msg_result result = MSG_BAD;
	if (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		err_set(e, ERR_PROTOCOL, 0, "record too large, or with too many descriptors");
	} else if ((size_t)n < sizeof(m->header)) {
		err_set(e, ERR_PROTOCOL, 0, "record of %zd bytes is shorter than a header", n);
	} else if (m->header.version != MSG_VERSION) {
		err_set(e, ERR_VERSION, 0, "peer speaks protocol version %u, this one is %u",
			m->header.version, MSG_VERSION);
		result = MSG_OTHER_VERSION;
	} else {
		m->body_length = (size_t)n - sizeof(m->header);
		if (check_shape(m, (size_t)n, surplus, e) == 0)
			return MSG_GOT;
	}
	msg_close_fds(m);
	return result;
}

static int send_record(int sock, const struct msg_header *header, const void *body, size_t length,
		       int fd, struct err *e)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msg_header copy = *header;
	struct iovec iov[2] = {
		{.iov_base = &copy, .iov_len = sizeof(copy)},
		{.iov_base = (void *)(uintptr_t)body, .iov_len = length},
	};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		h.msg_control = control.buf;
		h.msg_controllen = sizeof(control.buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	ssize_t n;
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, errno, "send %s record", msg_type_name(header->type));
	return 0;
}

int msg_send(int sock, enum msg_type type, uint32_t id, const void *body, size_t length, int fd,
	     struct err *e)
{
	struct msg_header header = {
		.version = MSG_VERSION,
		.type = (uint16_t)type,
		.length = (uint32_t)(sizeof(header) + length),
		.id = id,
	};
	return send_record(sock, &header, body, length, fd, e);
}

int msg_send_version_error(int sock, const struct msg_header *theirs, struct err *e)
{
	struct msg_error body = {.kind = ERR_VERSION};
	err_set(e, ERR_VERSION, 0,
		"protocol version %u is not spoken here, %u is: use programs of one release",
		theirs->version, MSG_VERSION);
	/* Not all of e->text: behind its end lies whatever the stack held. */
	str_copy(body.text, sizeof(body.text), e->text);
	/* Header and ERROR body keep their shape for ever, so any version can read this. */
	struct msg_header header = {
		.version = MSG_VERSION,
		.type = MSG_ERROR,
		.length = (uint32_t)(sizeof(header) + sizeof(body)),
		.id = theirs->id,
	};
	return send_record(sock, &header, &body, sizeof(body), -1, e);
}
