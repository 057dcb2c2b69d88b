// SPDX-License-Identifier: Apache-2.0
#include "spawner_net.h"

#include "hostnet.h"
#include "log.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#define NEWS_BYTES 32768

static int ensure(const struct spawner_net *n, struct err *e)
{
	struct hostnet_config config;
	uint32_t mtu;
	hostnet_of_policy(n->policy, &config);
	return hostnet_ensure(&config, &mtu, e) < 0 ? err_prefix(e, "[network]") : 0;
}

/* Before the table is made: nothing that happens to it afterwards is missed. */
static int watch(struct spawner_net *n, struct err *e)
{
	n->watch = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!n->watch)
		return err_errno(e, errno, "watch nf_tables");
	int group = NFNLGRP_NFTABLES;
	if (mnl_socket_bind(n->watch, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_setsockopt(n->watch, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return err_errno(e, errno, "watch nf_tables");
	return 0;
}

int spawner_net_open(struct spawner_net *n, const struct policy *policy, struct err *e)
{
	*n = (struct spawner_net){.policy = policy};
	if (!policy->pool_bits)
		return 0;
	return watch(n, e) < 0 ? -1 : ensure(n, e);
}

int spawner_net_fd(const struct spawner_net *n)
{
	return n->watch ? mnl_socket_get_fd(n->watch) : -1;
}

static int pick_name(const struct nlattr *attr, void *arg)
{
	const char **name = arg;
	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*name = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* The last that is said of our table counts: making it anew says that it went and came. */
static int read_one(const struct nlmsghdr *nlh, void *arg)
{
	struct spawner_net *n = arg;
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	unsigned type = nlh->nlmsg_type;
	const char *name = NULL;
	if ((type >> 8) != NFNL_SUBSYS_NFTABLES || mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg) ||
	    nfg->nfgen_family != NFPROTO_INET)
		return MNL_CB_OK;
	type &= 0xff;
	if (type != NFT_MSG_NEWTABLE && type != NFT_MSG_DELTABLE)
		return MNL_CB_OK;
	mnl_attr_parse(nlh, sizeof(*nfg), pick_name, &name);
	if (name && strncmp(name, HOSTNET_TABLE_PREFIX, sizeof(HOSTNET_TABLE_PREFIX) - 1) == 0 &&
	    strcmp(name + sizeof(HOSTNET_TABLE_PREFIX) - 1, n->policy->instance) == 0)
		n->missing = type == NFT_MSG_DELTABLE;
	return MNL_CB_OK;
}

void spawner_net_read(struct spawner_net *n)
{
	static char news[NEWS_BYTES];
	struct err e;
	for (;;) {
		ssize_t got = mnl_socket_recvfrom(n->watch, news, sizeof(news));
		if (got < 0 && errno == EINTR)
			continue;
		/* So much happened that some of it was dropped: what, is not known. */
		if (got < 0 && errno == ENOBUFS) {
			n->missing = true;
			continue;
		}
		if (got <= 0)
			break;
		mnl_cb_run(news, (size_t)got, 0, 0, read_one, n);
	}
	if (!n->missing)
		return;
	if (ensure(n, &e) < 0) {
		log_error("the host's rules for sandboxes were removed and cannot be made again: "
			  "%s; sandboxes keep their own rules, but may reach services of the host",
			  e.text);
		return;
	}
	log_warning("the host's rules for sandboxes were removed by somebody, and are made again");
	n->missing = false;
}

void spawner_net_close(struct spawner_net *n, bool keep)
{
	struct hostnet_config config;
	struct err e;
	if (!n->watch)
		return;
	mnl_socket_close(n->watch);
	n->watch = NULL;
	hostnet_of_policy(n->policy, &config);
	if (!keep && hostnet_remove(&config, &e) < 0)
		log_warning("%s", e.text);
}
