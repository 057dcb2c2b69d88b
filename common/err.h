// SPDX-License-Identifier: Apache-2.0
/*
 * Errors that say what failed, on what, with which errno, and what to do about it.
 *
 * A function that can fail takes a `struct err *` (never NULL) and returns -1 after filling it.
 * The kind says whose fault it is; it crosses the socketpair and becomes an HTTP status, so its
 * values are part of the message protocol: never renumber them.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

enum err_kind {
	ERR_NONE = 0,
	ERR_INVALID = 1,     /* the request is wrong: the caller can mend it */
	ERR_NOT_FOUND = 2,   /* what was named is not there */
	ERR_STATE = 3,	     /* not allowed in the present state, or the name is taken */
	ERR_QUOTA = 4,	     /* a limit of the tenant or of the host is reached */
	ERR_INTERNAL = 5,    /* our own fault, or the host's */
	ERR_VMM = 6,	     /* the VMM refused or broke */
	ERR_UNAVAILABLE = 7, /* not now: shutting down, or a helper process is gone */
	ERR_DEADLINE = 8,    /* took longer than it may */
	ERR_NO_SPACE = 9,    /* no disk, memory, descriptors or processes left */
	ERR_PROTOCOL = 10,   /* a record on a socketpair that is malformed or out of turn */
	ERR_VERSION = 11,    /* the peer speaks another protocol version */
	ERR_KIND_COUNT
};

#define ERR_TEXT_MAX 384

struct err {
	enum err_kind kind;
	int errnum; /* 0 where no system call failed */
	char text[ERR_TEXT_MAX];
};

/*
 * Fills *e with the formatted text, followed by ": " and the errno's name and meaning when errnum
 * is not 0. Always returns -1, so that `return err_set(...)` reads well. Long text is cut.
 */
int err_set(struct err *e, enum err_kind kind, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* err_set() with the kind that errnum stands for (ENOSPC -> ERR_NO_SPACE, else ERR_INTERNAL). */
int err_errno(struct err *e, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text that *e already has. Always returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The kind's name for logs, never NULL. */
const char *err_kind_name(enum err_kind kind);

#endif
