// SPDX-License-Identifier: Apache-2.0
#include "caps_sets.h"

#include "util.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>

#define SPAWNER (1u << CAPS_SPAWNER)
#define SETUP	(1u << CAPS_SETUP)
#define SERVING (1u << CAPS_SERVING)
#define IMPORT	(1u << CAPS_IMPORT)

/* tests/system/test_caps.py takes each of them away in turn, and something must break. */
static const struct {
	unsigned capability;
	unsigned roles;
	bool network; /* only where [network] pool is set */
} needs[] = {
	/* snapshot.c, vsock.c: what the VMM wrote is taken over before it is opened. And before
	 * that jail.c, disks.c, uplink.c: nodes, memory, vsock and disks become the sandbox's
	 * uid's, the shim's socket the supervisor's. */
	{CAP_CHOWN, SERVING, false},
	/* sets_clear.c: so is what a VMM that is gone left behind. */
	{CAP_CHOWN, SPAWNER, false},
	/* RUN_DIR/shims and the sockets in it belong to the supervisor's user: uplink.c moves one
	 * there, spawner_find.c connects to them, leash.c unlinks them. disks.c opens those of a
	 * hibernated sandbox, which are its uid's. */
	{CAP_DAC_OVERRIDE, SETUP, false},
	{CAP_DAC_OVERRIDE, SPAWNER, false},
	/* launch.c, ending.c: the VMM has a uid of its own. */
	{CAP_KILL, SERVING, false},
	/* jail.c: the nodes of the jail's /dev. */
	{CAP_MKNOD, SETUP, false},
	/* slot.c: tap, veth pair, addresses, rules; hostnet.c: the host's one table. */
	{CAP_NET_ADMIN, SETUP, true},
	{CAP_NET_ADMIN, SPAWNER, true},
	/* caps.c: the VMM's process changes to its uid and gid. */
	{CAP_SETGID, SETUP, false},
	{CAP_SETUID, SETUP, false},
	/* hostns.c, jail.c, launch.c: namespaces, mounts, pivot_root, the name of the host. */
	{CAP_SYS_ADMIN, SETUP, false},
	/* confine.c: /proc/PID/ns and /proc/PID/root of a process with another uid. */
	{CAP_SYS_PTRACE, SETUP, false},
	/* cli_image_import.c, cli_import.c: what is imported may be anybody's, even unreadable.
	 * cli_image_uses.c: a look at the shims' sockets, which are the supervisor's. */
	{CAP_DAC_OVERRIDE, IMPORT, false},
};

uint64_t caps_sets_of(enum caps_role role, const struct policy *policy)
{
	uint64_t set = 0;
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if ((needs[i].roles & 1u << role) && (!needs[i].network || policy->pool_bits))
			set |= 1ull << needs[i].capability;
	return set;
}
