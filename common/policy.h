// SPDX-License-Identifier: Apache-2.0
/*
 * What root's configuration file says to root code, in one flat block.
 *
 * cloisterd reads the file once, as root, before its drop, and hands the spawner a sealed memfd
 * that holds exactly this struct; spawner and shims map it read-only. So root code parses no text,
 * and a supervisor that is taken over later can change nothing in it (memfd_create(2),
 * F_ADD_SEALS).
 */
#ifndef COMMON_POLICY_H
#define COMMON_POLICY_H

#include "err.h"
#include "name.h"

#include <stdbool.h>
#include <stdint.h>

#define POLICY_MAGIC	     0x434c4f49u /* "CLOI" */
#define POLICY_PATH_MAX	     256
#define POLICY_BIND_MAX	     16
#define POLICY_ENV_MAX	     32
#define POLICY_ENV_SIZE	     512
#define POLICY_DEVICES_MAX   32
#define POLICY_INSTANCE_SIZE 17 /* 16 hexadecimal digits and the end */

/* The operations that have a deadline of their own. */
enum policy_deadline {
	POLICY_DEADLINE_CREATE, /* shim started -> guest runs */
	POLICY_DEADLINE_DISKS,	/* making its disks, on top of that */
	POLICY_DEADLINE_PAUSE,
	POLICY_DEADLINE_RESUME,
	POLICY_DEADLINE_SNAPSHOT, /* pause, CH's part, copy and sync of a set */
	POLICY_DEADLINE_POWER_BUTTON,
	POLICY_DEADLINE_SHUTDOWN, /* clean shutdown of the VMM, then SIGKILL */
	POLICY_DEADLINE_DESTROY,  /* SIGKILL -> nothing left */
	POLICY_DEADLINE_VERSION,  /* the VMM's --version at start-up */
	POLICY_DEADLINE_COUNT
};

/* A block device that the sandboxes of one tenant may have as a disk. */
struct policy_device {
	char key[NAME_KEY_SIZE]; /* TENANT:NAME */
	char path[POLICY_PATH_MAX];
};

struct policy {
	uint32_t magic;
	uint32_t size; /* sizeof(struct policy): both ends are of one build */

	/* [host] */
	char state_dir[POLICY_PATH_MAX];
	char run_dir[POLICY_PATH_MAX];
	char cgroup_mount[POLICY_PATH_MAX];  /* where cgroup v2 is mounted; empty: nowhere */
	char cgroup[POLICY_PATH_MAX];	     /* relative to cgroup_mount */
	char instance[POLICY_INSTANCE_SIZE]; /* of state_dir, made at its first use */
	uint32_t require_limits;	     /* 1: a limit that cannot be enforced is an error */
	uint32_t user_uid, user_gid;	     /* the supervisor's */
	uint32_t control_gid;

	/* [vmm] */
	char vmm_binary[POLICY_PATH_MAX];
	uint32_t bind_count;
	char bind_ro[POLICY_BIND_MAX][POLICY_PATH_MAX];
	uint32_t env_count;
	char env[POLICY_ENV_MAX][POLICY_ENV_SIZE];
	uint32_t uid_base, uid_count; /* the last one is kept for the --version probe */

	/* [limits] */
	uint32_t max_sandboxes;
	uint32_t deadline_ms[POLICY_DEADLINE_COUNT];
	uint32_t console_bytes;
	uint32_t reboots, reboot_period_s;

	/*
	 * [network]. pool_bits 0: there is no pool, and so no network for anybody. The slot with
	 * index i (1 and up) has the address pool + i; the last port_count addresses of the pool
	 * stand for the host's ports (shim/hostnet.h) and are no sandbox's, nor are the first and
	 * the last one.
	 */
	uint32_t pool, pool_bits;	 /* IPv4, host order; prefix length 8 to 30 */
	char uplink[16];		 /* the interface that sandboxes reach the world through */
	uint32_t port_first, port_count; /* [network] host_ports = FROM-TO */
	uint32_t resolver; /* where a guest's DNS goes, if its policy allows it; 0: nowhere */

	/* [tenant NAME] and [admin] */
	uint32_t device_count;
	struct policy_device devices[POLICY_DEVICES_MAX];
};

/* Writes *p into a new sealed memfd and returns it (CLOEXEC); the caller closes it. */
int policy_seal(const struct policy *p, struct err *e);

/*
 * Maps a policy from such a memfd for reading; the mapping lives as long as the process. Refuses
 * what is not sealed or not of this build's size.
 */
const struct policy *policy_map(int fd, struct err *e);

/* The deadline's key in [limits], e.g. "create_ms". */
const char *policy_deadline_key(enum policy_deadline which);

#endif
