// SPDX-License-Identifier: Apache-2.0
/*
 * Which files a program needs to start: its loader and, through all levels, its libraries. Read
 * from the ELF headers (elf(5)) of files that the host's administrator installed, so that no
 * loader or ldd has to be run for it.
 */
#ifndef SHIM_ELFDEPS_H
#define SHIM_ELFDEPS_H

#include "err.h"

#include <stddef.h>

#define ELFDEPS_MAX	 64
#define ELFDEPS_PATH_MAX 256

struct elfdeps {
	size_t count;
	char path[ELFDEPS_MAX][ELFDEPS_PATH_MAX]; /* absolute, as the loader will ask for them */
};

/*
 * Adds what the ELF file at path needs (not the file itself) to *deps, each once. A file that is
 * not ELF needs nothing. A library that is in none of the loader's default directories, nor in the
 * file's own DT_RUNPATH or DT_RPATH, is an error that names it.
 */
int elfdeps_add(struct elfdeps *deps, const char *path, struct err *e);

#endif
