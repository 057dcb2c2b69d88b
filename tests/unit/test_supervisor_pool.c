// SPDX-License-Identifier: Apache-2.0
/* supervisor/pool: which slots there are, and that none of them is ever two sandboxes'. */
#include "unit.h"

#include "pool.h"
#include "util.h"

#define POOL(prefix, ports)                                                                        \
	{                                                                                          \
		.pool = 0x0a400000, .pool_bits = (prefix), .port_first = 8000,                     \
		.port_count = (ports)                                                              \
	}

static struct pool pool;

static void open_pool(const struct policy *p)
{
	struct err e;
	assert_int_equal(pool_open(&pool, p, &e), 0);
}

static void test_usable(void **unused)
{
	static const struct {
		struct policy policy;
		uint32_t usable;
	} cases[] = {
		{{.pool_bits = 0}, 0},
		{POOL(30, 0), 2},
		{POOL(30, 1), 2},
		{POOL(30, 2), 1},
		{POOL(29, 4), 3},
		{POOL(24, 0), 254},
		{POOL(16, 0), MSG_SLOT_MAX},
		{POOL(16, 100), 65435},
		{POOL(15, 4096), MSG_SLOT_MAX},
		{POOL(8, 0), MSG_SLOT_MAX},
	};
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (pool_usable(&cases[i].policy) != cases[i].usable)
			fail_msg("/%u with %u ports: %u", cases[i].policy.pool_bits,
				 cases[i].policy.port_count, pool_usable(&cases[i].policy));
}

/* One that was given back is given out again when all others have been. */
static void test_rest(void **unused)
{
	const struct policy policy = POOL(29, 0);
	struct msg_network n[7] = {0};
	struct err e;
	(void)unused;
	open_pool(&policy);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(pool_take(&pool, &n[i], &e), 0);
		assert_int_equal(n[i].slot, i + 1);
	}
	pool_release(&pool, &n[1]);
	for (uint32_t i = 3; i < 6; i++) {
		assert_int_equal(pool_take(&pool, &n[i], &e), 0);
		assert_int_equal(n[i].slot, i + 1);
	}
	assert_int_equal(pool_take(&pool, &n[1], &e), 0);
	assert_int_equal(n[1].slot, 2);
	assert_int_equal(pool_take(&pool, &n[6], &e), -1);
	assert_int_equal(e.kind, ERR_QUOTA);
	assert_says(e.text, "the pool of [network] has no address left: 6 used");
	assert_int_equal(n[6].slot, 0);
	pool_release(&pool, &n[4]);
	assert_int_equal(pool_take(&pool, &n[6], &e), 0);
	assert_int_equal(n[6].slot, 5);
	pool_close(&pool);
}

static void test_no_pool(void **unused)
{
	const struct policy policy = {0};
	struct msg_network n = {0};
	struct err e;
	(void)unused;
	open_pool(&policy);
	assert_int_equal(pool_take(&pool, &n, &e), -1);
	assert_int_equal(e.kind, ERR_INVALID);
	n.slot = 1;
	assert_false(pool_adopt(&pool, &n));
	pool_close(&pool);
}

static void test_ports(void **unused)
{
	const struct policy policy = POOL(24, 16);
	struct msg_network a = {.port_count = 3,
				.ports = {{MSG_PROTO_TCP, 80, 8001},
					  {MSG_PROTO_UDP, 80, 8001},
					  {MSG_PROTO_TCP, 81, 0}}};
	struct msg_network b = {.port_count = 2,
				.ports = {{MSG_PROTO_TCP, 81, 0}, {MSG_PROTO_UDP, 1, 8001}}};
	struct err e;
	(void)unused;
	open_pool(&policy);
	assert_int_equal(pool_take(&pool, &a, &e), 0);
	assert_int_equal(pool_take(&pool, &b, &e), -1);
	assert_int_equal(e.kind, ERR_STATE);
	assert_says(e.text, "network.ports[1].host: port 8001/udp of the host is taken");
	/* Nothing was taken by that. */
	assert_int_equal(pool.used, 1);
	b.slot = 9;
	assert_false(pool_adopt(&pool, &b));
	b.slot = 0;
	pool_release(&pool, &a);
	assert_int_equal(pool_take(&pool, &b, &e), 0);
	assert_int_equal(b.slot, 2);
	pool_close(&pool);
}

/* ------------------------------------------------------------------ histories */

#define BOXES 12

/* What stands for a sandbox: its network while there is a record, or a shim that was left. */
static struct box {
	bool there, hibernated, left;
	struct msg_network network;
} boxes[BOXES];

static unsigned steps[6];

static void check_model(void)
{
	unsigned there = 0;
	for (int i = 0; i < BOXES; i++) {
		const struct msg_network *n = &boxes[i].network;
		if (!boxes[i].there && !boxes[i].left)
			continue;
		there++;
		assert_true(n->slot >= 1 && n->slot <= pool.usable);
		for (int k = 0; k < i; k++) {
			const struct msg_network *o = &boxes[k].network;
			if (!boxes[k].there && !boxes[k].left)
				continue;
			assert_int_not_equal(n->slot, o->slot);
			for (uint32_t p = 0; p < n->port_count; p++)
				for (uint32_t q = 0; q < o->port_count; q++)
					assert_true(!n->ports[p].host ||
						    n->ports[p].host != o->ports[q].host);
		}
	}
	assert_int_equal(pool.used, there);
}

static bool port_is_free(uint16_t port)
{
	for (int i = 0; i < BOXES; i++)
		for (uint32_t p = 0; p < boxes[i].network.port_count; p++)
			if ((boxes[i].there || boxes[i].left) &&
			    boxes[i].network.ports[p].host == port)
				return false;
	return true;
}

static void create(struct box *box)
{
	struct err e;
	uint16_t port = (uint16_t)(8000 + rand() % 4);
	bool wants = rand() % 2, free = port_is_free(port);
	box->network = (struct msg_network){.port_count = wants};
	if (wants)
		box->network.ports[0] =
			(struct msg_port){rand() % 2 ? MSG_PROTO_TCP : MSG_PROTO_UDP, 5, port};
	box->there = pool_take(&pool, &box->network, &e) == 0;
	box->hibernated = false;
	if (!box->there && wants && !free)
		assert_int_equal(e.kind, ERR_STATE);
	else if (!box->there)
		assert_int_equal(pool.used, pool.usable);
	else
		assert_true(!wants || free);
}

/* A supervisor ends and the next one finds the shims, in any order, then what is hibernated. */
static void restart(const struct policy *policy)
{
	int order[BOXES];
	pool_close(&pool);
	open_pool(policy);
	for (int i = 0; i < BOXES; i++)
		order[i] = i;
	for (int i = BOXES - 1; i > 0; i--) {
		int k = rand() % (i + 1), swap = order[i];
		order[i] = order[k];
		order[k] = swap;
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < BOXES; i++) {
			struct box *box = &boxes[order[i]];
			if ((box->there || box->left) && box->hibernated == (round == 1))
				assert_true(pool_adopt(&pool, &box->network));
		}
	}
}

static void step(const struct policy *policy)
{
	struct box *box = &boxes[rand() % BOXES];
	int what = rand() % 40;
	if (what == 0) {
		restart(policy);
		steps[0]++;
	} else if (what == 1 && box->there && !box->hibernated) {
		/* It could not be adopted: no record, but its shim lives. */
		box->there = false;
		box->left = true;
		steps[1]++;
	} else if (box->left) {
		if (what == 2) {
			pool_release(&pool, &box->network);
			box->left = false;
			steps[2]++;
		}
	} else if (!box->there) {
		create(box);
		steps[3]++;
	} else if (what < 24) {
		box->hibernated = !box->hibernated;
		steps[4]++;
	} else {
		pool_release(&pool, &box->network);
		box->there = false;
		steps[5]++;
	}
}

static void test_histories(void **unused)
{
	/* More sandboxes than addresses, as many, and fewer. */
	static const struct policy policies[] = {POOL(29, 0), POOL(28, 3), POOL(24, 4)};
	(void)unused;
	srand(6);
	for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
		open_pool(&policies[p]);
		memset(boxes, 0, sizeof(boxes));
		for (int i = 0; i < 20000; i++) {
			step(&policies[p]);
			check_model();
		}
		pool_close(&pool);
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		assert_true(steps[i] > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usable),	  cmocka_unit_test(test_rest),
		cmocka_unit_test(test_no_pool),	  cmocka_unit_test(test_ports),
		cmocka_unit_test(test_histories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
