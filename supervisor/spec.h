// SPDX-License-Identifier: Apache-2.0
/* What a client asks of a new sandbox: the body of POST /v1/sandboxes, checked field by field. */
#ifndef SUPERVISOR_SPEC_H
#define SUPERVISOR_SPEC_H

#include "msg.h"

#include <cjson/cJSON.h>

#define SPEC_LABELS_MAX	     32
#define SPEC_LABEL_VALUE_MAX 128

struct spec {
	char *id; /* NULL: one is to be made up */
	char *kernel;
	char *initramfs; /* NULL: none */
	char *cmdline;	 /* "" where none was given */
	uint32_t vcpus;
	uint32_t memory_mib;
	bool balloon;
	cJSON *labels; /* object of strings; NULL: none */
};

/*
 * Takes a parsed body. NULL with ERR_INVALID: the message names the field, its value and what is
 * allowed. The caller frees it with spec_free().
 */
struct spec *spec_from_json(const cJSON *body, struct err *e);

/* From what an adopted shim says; it was checked when read. NULL: no memory. */
struct spec *spec_from_msg(const struct msg_create *m, struct err *e);

/* The message that asks a shim for it. */
void spec_to_msg(const struct spec *s, struct msg_create *out);

void spec_free(struct spec *s);

/* A fresh id: "sb-" and ten random characters (getrandom(2)). */
void spec_make_id(char id[NAME_SIZE]);

/* Whether K=V (with '=' inside) is among the labels. */
bool spec_has_label(const struct spec *s, const char *pair);

#endif
