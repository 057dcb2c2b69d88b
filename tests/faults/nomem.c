// SPDX-License-Identifier: Apache-2.0
/*
 * The test build's malloc: the N-th allocation of a process has no memory, whoever makes it, libc,
 * libevent and cJSON included. The tests write nomem_at into the process (nomem.py); a shim that
 * does not live yet gets it from nomem_env, in the spawner: of an environment the spawner passes on
 * what sanitizers read, and nothing else.
 */
#include <errno.h>
#include <stdlib.h>

/* glibc's own, for those who stand before it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

extern volatile long nomem_at, nomem_count;
extern char nomem_env[32];

volatile long nomem_at; /* 0: there is always some */
volatile long nomem_count;
char nomem_env[32] = "LSAN_OPTIONS=0";

__attribute__((constructor)) static void nomem_begin(void)
{
	const char *text = getenv("LSAN_OPTIONS");
	nomem_at = text ? atol(text) : 0;
	nomem_count = 0;
	putenv(nomem_env);
}

static int fails(void)
{
	if (!nomem_at || __atomic_add_fetch(&nomem_count, 1, __ATOMIC_RELAXED) != nomem_at)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}
