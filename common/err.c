// SPDX-License-Identifier: Apache-2.0
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* As much of more as there is room for. */
static void append(struct err *e, const char *more)
{
	size_t used = strlen(e->text);
	size_t len = strnlen(more, sizeof(e->text) - 1 - used);
	memcpy(e->text + used, more, len);
	e->text[used + len] = '\0';
}

static void append_errno(struct err *e)
{
	if (e->errnum == 0)
		return;
	const char *name = strerrorname_np(e->errnum);
	const char *meaning = strerrordesc_np(e->errnum);
	size_t used = strlen(e->text);
	snprintf(e->text + used, sizeof(e->text) - used, ": %s (%s)", name ? name : "errno",
		 meaning ? meaning : "unknown");
}

static void fill(struct err *e, enum err_kind kind, int errnum, const char *fmt, va_list ap)
{
	e->kind = kind;
	e->errnum = errnum;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	append_errno(e);
}

int err_set(struct err *e, enum err_kind kind, int errnum, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fill(e, kind, errnum, fmt, ap);
	va_end(ap);
	return -1;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
	enum err_kind kind = ERR_INTERNAL;
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
		kind = ERR_NO_SPACE;
		break;
	case ETIMEDOUT:
		kind = ERR_DEADLINE;
		break;
	default:
		break;
	}
	va_list ap;
	va_start(ap, fmt);
	fill(e, kind, errnum, fmt, ap);
	va_end(ap);
	return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	memcpy(old, e->text, sizeof(old));
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	append(e, ": ");
	append(e, old);
	return -1;
}

const char *err_kind_name(enum err_kind kind)
{
	static const char *const names[ERR_KIND_COUNT] = {
		[ERR_NONE] = "none",
		[ERR_INVALID] = "invalid",
		[ERR_NOT_FOUND] = "not-found",
		[ERR_STATE] = "state",
		[ERR_QUOTA] = "quota",
		[ERR_INTERNAL] = "internal",
		[ERR_VMM] = "vmm",
		[ERR_UNAVAILABLE] = "unavailable",
		[ERR_DEADLINE] = "deadline",
		[ERR_NO_SPACE] = "no-space",
		[ERR_PROTOCOL] = "protocol",
		[ERR_VERSION] = "version",
	};
	return (unsigned)kind < ERR_KIND_COUNT ? names[kind] : "unknown";
}
