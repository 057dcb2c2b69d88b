// SPDX-License-Identifier: Apache-2.0
/* supervisor/tenant and supervisor/peers: who a client is, and how many it may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "peers.h"
#include "tenant.h"

#include <sys/socket.h>
#include <unistd.h>

static uint32_t admin_users[] = {0}, admin_groups[] = {10};
static uint32_t acme_users[] = {100, 101}, acme_groups[] = {50};
static uint32_t beta_users[] = {200}, beta_groups[] = {50, 60};
static struct config_tenant tenants[] = {
	{.name = "acme", .users = {acme_users, 2}, .groups = {acme_groups, 1}},
	{.name = "beta", .users = {beta_users, 1}, .groups = {beta_groups, 2}},
};
static const struct config c = {
	.tenants = tenants,
	.tenant_count = 2,
	.admin_users = {admin_users, 1},
	.admin_groups = {admin_groups, 1},
};

static void expect(uid_t uid, gid_t group, const char *name, bool admin)
{
	struct tenant_peer peer;
	const gid_t groups[] = {999, group};
	bool found = tenant_find(&c, uid, groups, 2, &peer);
	assert_int_equal(found, name != NULL);
	if (!found)
		return;
	assert_string_equal(peer.name, name);
	assert_int_equal(peer.admin, admin);
	assert_true((peer.tenant == NULL) == admin);
}

static void test_find(void **unused)
{
	(void)unused;
	expect(0, 1, "admin", true);
	expect(5, 10, "admin", true);
	expect(100, 10, "admin", true);
	expect(101, 1, "acme", false);
	expect(200, 1, "beta", false);
	expect(200, 50, "beta", false); /* a user that is named goes before a group */
	expect(7, 50, "acme", false);	/* the first tenant that lists the group */
	expect(7, 60, "beta", false);
	expect(7, 1, NULL, false);
	expect((uid_t)-1, 1, NULL, false);
}

static void test_socket(void **unused)
{
	int pair[2];
	struct tenant_peer peer;
	struct err e;
	(void)unused;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	int rc = tenant_of_socket(&c, pair[0], &peer, &e);
	assert_int_equal(peer.uid, getuid());
	assert_true(rc == 0 || e.kind == ERR_NOT_FOUND);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(tenant_of_socket(&c, pair[0], &peer, &e), -1);
	assert_int_equal(e.kind, ERR_INTERNAL);
}

static void test_peers(void **unused)
{
	struct peers p = {0};
	int fds[PEERS_PER_UID + 1];
	(void)unused;
	for (int i = 0; i <= PEERS_PER_UID; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_true(fds[i] >= 0);
		assert_int_equal(peers_admit(&p, fds[i], 5), i < PEERS_PER_UID);
	}
	/* Another uid is not touched by that. */
	assert_true(peers_admit(&p, fds[PEERS_PER_UID], 6));
	/* One that ended makes room though nobody said so. */
	close(fds[3]);
	fds[3] = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(peers_admit(&p, fds[3], 5));
	for (int i = 0; i <= PEERS_PER_UID; i++)
		close(fds[i]);
	assert_false(peers_admit(&p, -1, 5));
	peers_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_peers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
