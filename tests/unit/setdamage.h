// SPDX-License-Identifier: Apache-2.0
/* What may have become of a file of a set that lies on disk. */
#ifndef TESTS_UNIT_SETDAMAGE_H
#define TESTS_UNIT_SETDAMAGE_H

#include "unit.h"

static inline void drop(int dir, const char *name)
{
	assert_int_equal(unlinkat(dir, name, 0), 0);
}

static inline void to_symlink(int dir, const char *name)
{
	assert_int_equal(renameat(dir, name, dir, "away"), 0);
	assert_int_equal(symlinkat("away", dir, name), 0);
}

static inline void to_fifo(int dir, const char *name)
{
	drop(dir, name);
	assert_int_equal(mknodat(dir, name, S_IFIFO | 0444, 0), 0);
}

static inline void to_link(int dir, const char *name)
{
	assert_int_equal(linkat(dir, name, dir, "too", 0), 0);
}

static inline void to_stranger(int dir, const char *name)
{
	assert_int_equal(fchownat(dir, name, 12345, 0, 0), 0);
}

static inline void to_writable(int dir, const char *name)
{
	assert_int_equal(fchmodat(dir, name, 0644, 0), 0);
}

#endif
