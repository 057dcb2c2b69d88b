// SPDX-License-Identifier: Apache-2.0
/* Stands before common/landlock.c (ld, --wrap), and is a kernel without Landlock. */
#include "landlock.h"

unsigned __wrap_landlock_abi(void);
int __wrap_landlock_open(uint64_t scope, int *fd, struct err *e);

unsigned __wrap_landlock_abi(void)
{
	return 0;
}

int __wrap_landlock_open(uint64_t scope, int *fd, struct err *e)
{
	(void)scope;
	(void)e;
	*fd = -1;
	return 0;
}
