// SPDX-License-Identifier: Apache-2.0
#include "netlink.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_BYTES 32768

/* What reading the answers has come to. */
struct reading {
	struct netlink_batch *batch;
	netlink_answer_fn *answer;
	void *arg;
	bool done;   /* the last request has been answered */
	bool failed; /* *err holds the first failure */
	struct err *err;
};

int netlink_open(struct netlink *n, int protocol, struct err *e)
{
	int one = 1;
	*n = (struct netlink){.protocol = protocol, .seq = 1};
	n->socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
	if (!n->socket)
		return err_errno(e, errno, "open a netlink socket of protocol %d", protocol);
	if (mnl_socket_bind(n->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		err_errno(e, errno, "bind a netlink socket of protocol %d", protocol);
		netlink_close(n);
		return -1;
	}
	/* Without them errors are only poorer in words. */
	(void)mnl_socket_setsockopt(n->socket, NETLINK_EXT_ACK, &one, sizeof(one));
	(void)mnl_socket_setsockopt(n->socket, NETLINK_CAP_ACK, &one, sizeof(one));
	return 0;
}

void netlink_close(struct netlink *n)
{
	if (n->socket)
		mnl_socket_close(n->socket);
	n->socket = NULL;
}

/* The frame of an nf_tables transaction; it counts as a request like any other. */
static void add_frame(struct netlink_batch *b, uint16_t type, const char *what)
{
	struct nlmsghdr *nlh = netlink_batch_add(b, type, 0, what);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = NFPROTO_UNSPEC;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
}

int netlink_batch_open(struct netlink_batch *b, struct netlink *n, size_t bytes, struct err *e)
{
	*b = (struct netlink_batch){.netlink = n, .size = bytes, .first_seq = n->seq};
	/* Behind the end lies room for one request: where one goes that does not fit any more. */
	b->buf = malloc(bytes + NETLINK_REQUEST_MAX);
	if (!b->buf)
		return err_errno(e, ENOMEM, "make room for netlink requests");
	if (n->protocol == NETLINK_NETFILTER)
		add_frame(b, NFNL_MSG_BATCH_BEGIN, "commit the rules");
	return 0;
}

void netlink_batch_close(struct netlink_batch *b)
{
	free(b->buf);
	b->buf = NULL;
}

/* The last request is complete: now it counts. */
static void settle(struct netlink_batch *b)
{
	if (b->last && !b->full)
		b->used += NLMSG_ALIGN(b->last->nlmsg_len);
	b->last = NULL;
	if (b->used > b->size)
		b->full = true;
}

struct nlmsghdr *netlink_batch_add(struct netlink_batch *b, uint16_t type, uint16_t flags,
				   const char *what)
{
	settle(b);
	if (b->count == NETLINK_BATCH_MAX)
		b->full = true;
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(b->buf + (b->full ? b->size : b->used));
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = b->netlink->seq++;
	if (!b->full) {
		b->what[b->count] = what;
		b->tolerated[b->count++] = 0;
	}
	b->last = nlh;
	return nlh;
}

struct nlmsghdr *netlink_batch_add_nft(struct netlink_batch *b, uint16_t type, uint8_t family,
				       uint16_t flags, const char *what)
{
	uint16_t full_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	struct nlmsghdr *nlh = netlink_batch_add(b, full_type, flags, what);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

void netlink_batch_tolerate(struct netlink_batch *b, int errnum)
{
	if (b->count > 0 && !b->full)
		b->tolerated[b->count - 1] = errnum;
}

static int pick_text(const struct nlattr *attr, void *arg)
{
	const char **text = arg;
	if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*text = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* The kernel's own words for an error, or "" (NLMSGERR_ATTR_MSG). */
static const char *ack_text(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);
	size_t skip = sizeof(*err);
	const char *text = "";
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += mnl_nlmsg_get_payload_len(&err->msg);
	if ((nlh->nlmsg_flags & NLM_F_ACK_TLVS) && skip < mnl_nlmsg_get_payload_len(nlh))
		mnl_attr_parse(nlh, (unsigned)skip, pick_text, &text);
	return text;
}

static void read_ack(struct reading *r, const struct nlmsghdr *nlh, unsigned at)
{
	const struct nlmsgerr *ack = mnl_nlmsg_get_payload(nlh);
	int errnum = -ack->error;
	if (errnum == 0 || errnum == r->batch->tolerated[at] || r->failed)
		return;
	const char *text = ack_text(nlh);
	r->failed = true;
	err_errno(r->err, errnum, "%s%s%s", r->batch->what[at], *text ? ": " : "", text);
	if (errnum == EEXIST)
		r->err->kind = ERR_STATE;
}

/* One message; what belongs to no request of this batch is left over from one that was given up. */
static void read_one(struct reading *r, const struct nlmsghdr *nlh, uint32_t last_seq)
{
	uint32_t at = nlh->nlmsg_seq - r->batch->first_seq;
	if (at >= r->batch->count)
		return;
	if (nlh->nlmsg_type != NLMSG_ERROR) {
		if (r->answer && nlh->nlmsg_type >= NLMSG_MIN_TYPE)
			r->answer(nlh, r->arg);
		return;
	}
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nlmsgerr))
		return;
	read_ack(r, nlh, at);
	if (nlh->nlmsg_seq == last_seq)
		r->done = true;
}

/* Reads one datagram. 1: done that; 0: there was none in time; -1: *e. */
static int receive(struct reading *r, int wait_ms, uint32_t last_seq, char *buf, struct err *e)
{
	int fd = mnl_socket_get_fd(r->batch->netlink->socket);
	struct sockaddr_nl from = {0};
	socklen_t from_len = sizeof(from);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int ready = poll(&p, 1, wait_ms);
	if (ready < 0 && errno != EINTR)
		return err_errno(e, errno, "wait for the kernel's answer");
	if (ready <= 0)
		return ready == 0 ? 0 : 1;
	ssize_t n = recvfrom(fd, buf, ANSWER_BYTES, MSG_DONTWAIT | MSG_TRUNC,
			     (struct sockaddr *)&from, &from_len);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 1
			       : err_errno(e, errno, "read the kernel's answer");
	if (n > ANSWER_BYTES)
		return err_set(e, ERR_INTERNAL, 0, "an answer of the kernel has %zd bytes", n);
	if (from.nl_pid != 0)
		return 1;
	int left = (int)n;
	for (const struct nlmsghdr *nlh = (const void *)buf; mnl_nlmsg_ok(nlh, left);
	     nlh = mnl_nlmsg_next(nlh, &left))
		read_one(r, nlh, last_seq);
	return 1;
}

/* Until the last request is answered, or one before it failed. */
static int read_answers(struct reading *r, uint32_t last_seq, int64_t deadline_us, struct err *e)
{
	char *buf CLEANUP_FREE = malloc(ANSWER_BYTES);
	if (!buf)
		return err_errno(e, ENOMEM, "read the kernel's answer");
	/*
	 * It has written all that it has to say by the time that sendto(2) returned: what is there
	 * is read to its end, since a transaction that was not committed may be told of last.
	 */
	for (;;) {
		int64_t left_us = deadline_us - clock_us();
		int wait_ms = r->failed || r->done || left_us <= 0 ? 0 : (int)(left_us / 1000) + 1;
		int got = receive(r, wait_ms, last_seq, buf, e);
		if (got < 0)
			return -1;
		if (got == 0 && (r->failed || r->done))
			break;
		if (got == 0 && left_us <= 0)
			return err_set(e, ERR_DEADLINE, 0, "the kernel did not answer in time: %s",
				       r->batch->what[r->batch->count - 1]);
	}
	return r->failed ? -1 : 0;
}

int netlink_batch_send(struct netlink_batch *b, int timeout_ms, netlink_answer_fn *answer,
		       void *arg, struct err *e)
{
	int64_t deadline_us = clock_us() + (int64_t)timeout_ms * 1000;
	/* Errors are always told, and in order: so the last one's ack speaks for all. */
	struct nlmsghdr *last = b->last;
	if (last)
		last->nlmsg_flags |= NLM_F_ACK;
	uint32_t last_seq = last ? last->nlmsg_seq : 0;
	if (b->netlink->protocol == NETLINK_NETFILTER)
		add_frame(b, NFNL_MSG_BATCH_END, "end the rules");
	settle(b);
	if (b->full)
		return err_set(e, ERR_INTERNAL, 0, "netlink requests of more than %zu bytes or %d",
			       b->size, NETLINK_BATCH_MAX);
	if (!last)
		return 0;
	if (mnl_socket_sendto(b->netlink->socket, b->buf, b->used) < 0)
		return err_errno(e, errno, "send %u netlink requests", b->count);
	struct reading r = {.batch = b, .answer = answer, .arg = arg, .err = e};
	return read_answers(&r, last_seq, deadline_us, e);
}
