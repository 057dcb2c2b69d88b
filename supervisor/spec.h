// SPDX-License-Identifier: Apache-2.0
/*
 * What a client asks of a new sandbox: the body of POST /v1/sandboxes, checked field by field. From
 * a template most of it is not asked for but taken from there.
 */
#ifndef SUPERVISOR_SPEC_H
#define SUPERVISOR_SPEC_H

#include "msg.h"

#include <cjson/cJSON.h>

#define SPEC_LABELS_MAX	     32
#define SPEC_LABEL_VALUE_MAX 128

/* What a request says of a field for which leaving it out is not the same as null. */
enum spec_ask { SPEC_ABSENT, SPEC_NULL, SPEC_GIVEN };

struct spec {
	char *id; /* NULL: one is to be made up */
	char *kernel;
	char *initramfs; /* NULL: none */
	char *cmdline;	 /* "" where none was given */
	uint32_t vcpus;
	uint32_t memory_mib; /* at its start; see plugged_mib */
	uint32_t max_vcpus, max_memory_mib;
	bool balloon;
	uint32_t balloon_mib; /* the balloon's target */
	uint32_t plugged_mib; /* asked for beyond memory_mib since then */
	bool hotplug;	      /* MSG_CREATE_HOTPLUG */
	cJSON *labels;	      /* object of strings; NULL: none */
	uint32_t disk_count;
	struct msg_disk disks[MSG_DISKS_MAX]; /* see spec_disk.h; as they were made last */

	/* See spec_network.h and spec_wait.h. */
	bool networked;		    /* the guest has a network device */
	struct msg_network network; /* slot 0: its address is still to be given out (pool.h) */
	enum spec_ask network_asked;
	bool egress_asked;
	bool vsock;
	struct msg_wait wait; /* of its create only */

	char *template;		  /* its name, of the sandbox's tenant; NULL: none */
	enum msg_source source;	  /* what its VMM starts from, next or now */
	enum msg_restore restore; /* NONE: it boots, or the choice is still to be made */
};

struct template;

/*
 * Takes a parsed body. NULL with ERR_INVALID: the message names the field, its value and what is
 * allowed. The caller frees it with spec_free().
 */
struct spec *spec_from_json(const cJSON *body, struct err *e);

/* Reads the field "labels"; ERR_INVALID names what is wrong. */
int spec_read_labels(struct spec *s, const cJSON *v, struct err *e);

/* From what an adopted shim says; it was checked when read. NULL: no memory. */
struct spec *spec_from_msg(const struct msg_create *m, struct err *e);

/* The message that asks a shim of that tenant's for it; none of its disks is made yet. */
void spec_to_msg(const struct spec *s, const char *tenant, struct msg_create *out);

/*
 * Takes over what is baked into the template that s names, and settles how memory is restored:
 * map where the set has ram, else ondemand where the VMM (of that major version) can, else copy.
 * ERR_INVALID: what was asked for does not go with this set or VMM.
 */
int spec_use_template(struct spec *s, const struct template *t, uint32_t vmm_major, struct err *e);

/* Whether a set of that content (0: not known) can be restored so; ERR_INVALID otherwise. */
int spec_check_restore(enum msg_restore how, uint32_t content, uint32_t vmm_major, struct err *e);

/*
 * memory_restore as a client gives it: auto (MSG_RESTORE_NONE), map, copy, and ondemand where
 * with_ondemand.
 */
int spec_read_restore(const cJSON *v, bool with_ondemand, enum msg_restore *out, struct err *e);

/* "map", "copy", "ondemand"; NULL for MSG_RESTORE_NONE. */
const char *spec_restore_name(enum msg_restore how);

void spec_free(struct spec *s);

/* A fresh id: "sb-" and ten random characters (getrandom(2)). */
void spec_make_id(char id[NAME_SIZE]);

/* Whether K=V (with '=' inside) is among the labels. */
bool spec_has_label(const struct spec *s, const char *pair);

#endif
