// SPDX-License-Identifier: Apache-2.0
/*
 * A cap on the connections of each uid, so that one that opens thousands takes no place from the
 * others. Connections are counted by descriptor and socket inode: no word of their end is needed.
 */
#ifndef SUPERVISOR_PEERS_H
#define SUPERVISOR_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEERS_PER_UID 128

struct peers {
	struct peers_entry *entries; /* by descriptor */
	size_t size;
};

/*
 * Notes a fresh connection. False: its uid has PEERS_PER_UID open ones besides it, or there is no
 * memory; it is not noted then.
 */
bool peers_admit(struct peers *p, int fd, uid_t uid);

void peers_close(struct peers *p);

#endif
