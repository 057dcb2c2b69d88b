// SPDX-License-Identifier: Apache-2.0
#include "peers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct peers_entry {
	uint64_t inode; /* 0: free */
	uid_t uid;
};

static uint64_t inode_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static bool make_room(struct peers *p, size_t fd)
{
	if (fd < p->size)
		return true;
	size_t size = (fd + 64) & ~(size_t)63;
	struct peers_entry *more = realloc(p->entries, size * sizeof(*more));
	if (!more)
		return false;
	memset(more + p->size, 0, (size - p->size) * sizeof(*more));
	p->entries = more;
	p->size = size;
	return true;
}

bool peers_admit(struct peers *p, int fd, uid_t uid)
{
	if (fd < 0 || !make_room(p, (size_t)fd))
		return false;
	size_t count = 0;
	p->entries[fd].inode = 0;
	for (size_t i = 0; i < p->size; i++)
		count += p->entries[i].inode && p->entries[i].uid == uid;
	if (count >= PEERS_PER_UID) {
		/* Some may have ended since, or their numbers have passed to others: look. */
		count = 0;
		for (size_t i = 0; i < p->size; i++) {
			struct peers_entry *one = &p->entries[i];
			if (!one->inode || one->uid != uid)
				continue;
			if (inode_of((int)i) == one->inode)
				count++;
			else
				one->inode = 0;
		}
	}
	if (count >= PEERS_PER_UID)
		return false;
	p->entries[fd] = (struct peers_entry){.inode = inode_of(fd), .uid = uid};
	return true;
}

void peers_close(struct peers *p)
{
	free(p->entries);
	*p = (struct peers){0};
}
