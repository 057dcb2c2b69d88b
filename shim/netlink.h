// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to the kernel over netlink(7): rtnetlink(7) and nf_tables, many in one send, each error
 * told with the name of the request that it belongs to and the kernel's own words (extended ack).
 *
 * rtnetlink does every request of a batch, also those after one that failed: what may only happen
 * when all before it went well belongs into a later batch. nf_tables does all of a batch or none.
 */
#ifndef SHIM_NETLINK_H
#define SHIM_NETLINK_H

#include "err.h"

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No request may take more bytes than this, header included. */
#define NETLINK_REQUEST_MAX 8192
/* Requests of one batch. */
#define NETLINK_BATCH_MAX 256

struct netlink {
	struct mnl_socket *socket; /* NULL: closed */
	int protocol;		   /* NETLINK_ROUTE or NETLINK_NETFILTER */
	uint32_t seq;
};

/*
 * Opens a socket (close-on-exec) that works on the network namespace that the calling thread is in
 * now, whichever it enters later. protocol: NETLINK_ROUTE or NETLINK_NETFILTER.
 */
int netlink_open(struct netlink *n, int protocol, struct err *e);

/* Safe on a closed one, and on one that is all zero. */
void netlink_close(struct netlink *n);

/* Requests that are sent together. */
struct netlink_batch {
	struct netlink *netlink;
	char *buf;
	size_t used, size;
	struct nlmsghdr *last; /* may still grow */
	uint32_t first_seq;
	unsigned count;
	bool full;			     /* more was added than there is room for */
	const char *what[NETLINK_BATCH_MAX]; /* strings that stay */
	int tolerated[NETLINK_BATCH_MAX];    /* an errno that is no failure of that request, or 0 */
};

/* An empty batch of at most `bytes`; netlink_batch_close() frees it, whatever comes of it. */
int netlink_batch_open(struct netlink_batch *b, struct netlink *n, size_t bytes, struct err *e);
void netlink_batch_close(struct netlink_batch *b);
#define CLEANUP_BATCH __attribute__((cleanup(netlink_batch_close)))

/*
 * Starts the next request, of that type (RTM_*, or NFT_MSG_* on nf_tables) and flags (NLM_F_CREATE
 * and so on; request and ack are added). what names it in errors ("add the default route"): a
 * string that stays. The caller puts its extra header (not the nfgenmsg) and attributes behind it,
 * before anything else is added. Never NULL: of a batch that is full, sending fails.
 */
struct nlmsghdr *netlink_batch_add(struct netlink_batch *b, uint16_t type, uint16_t flags,
				   const char *what);

/* The same for nf_tables: with the nfgenmsg of that family (NFPROTO_*). */
struct nlmsghdr *netlink_batch_add_nft(struct netlink_batch *b, uint16_t type, uint8_t family,
				       uint16_t flags, const char *what);

/* The request added last may fail with errnum: that is as good as done. */
void netlink_batch_tolerate(struct netlink_batch *b, int errnum);

/* Is called for each message that the kernel sends as the answer to a request. */
typedef void netlink_answer_fn(const struct nlmsghdr *nlh, void *arg);

/*
 * Sends all requests at once and reads what the kernel says to them, for timeout_ms at most. (It
 * does them within sendto(2): the time that it waits there for its own locks is not ours to bound.)
 * answer may be NULL. -1: *e tells the first that failed; kind ERR_STATE for EEXIST, so that the
 * caller can tell what is taken. The batch can then only be closed.
 */
int netlink_batch_send(struct netlink_batch *b, int timeout_ms, netlink_answer_fn *answer,
		       void *arg, struct err *e);

#endif
