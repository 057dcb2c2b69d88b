// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct events_item {
	uint64_t seq;
	char tenant[NAME_SIZE];
	char line[];
};

int events_open(struct events *ev, uint32_t size, struct err *e)
{
	*ev = (struct events){.size = size};
	ev->ring = calloc(size, sizeof(*ev->ring));
	if (!ev->ring)
		return err_errno(e, ENOMEM, "ring of %u events", size);
	return 0;
}

void events_close(struct events *ev)
{
	for (uint32_t i = 0; ev->ring && i < ev->size; i++)
		free(ev->ring[i]);
	free(ev->ring);
	*ev = (struct events){0};
}

static struct events_item *make_item(uint64_t seq, const char *sandbox, const char *tenant,
				     const char *event, cJSON *more)
{
	char when[CLOCK_TEXT_MAX];
	clock_format(clock_real_us(), when);
	cJSON *o = cJSON_CreateObject();
	cJSON_AddNumberToObject(o, "seq", (double)seq);
	cJSON_AddStringToObject(o, "time", when);
	cJSON_AddStringToObject(o, "sandbox", sandbox);
	cJSON_AddStringToObject(o, "tenant", tenant);
	cJSON_AddStringToObject(o, "event", event);
	while (o && more && more->child) {
		cJSON *item = cJSON_DetachItemViaPointer(more, more->child);
		if (!cJSON_AddItemToObject(o, item->string, item))
			cJSON_Delete(item);
	}
	char *text = o ? cJSON_PrintUnformatted(o) : NULL;
	cJSON_Delete(o);
	size_t length = text ? strlen(text) : 0;
	struct events_item *item = text ? malloc(sizeof(*item) + length + 2) : NULL;
	if (item) {
		item->seq = seq;
		str_copy(item->tenant, sizeof(item->tenant), tenant);
		memcpy(item->line, text, length);
		memcpy(item->line + length, "\n", 2);
	}
	cJSON_free(text);
	return item;
}

void events_emit(struct events *ev, const char *sandbox, const char *tenant, const char *event,
		 cJSON *more)
{
	uint64_t seq = ++ev->last;
	struct events_item **slot = &ev->ring[seq % ev->size];
	free(*slot);
	*slot = make_item(seq, sandbox, tenant, event, more);
	cJSON_Delete(more);
	if (!*slot)
		log_error("event %" PRIu64 " (%s of %s:%s) is lost: no memory", seq, event, tenant,
			  sandbox);
	struct events_listener *next;
	for (struct events_listener *l = ev->listeners; l; l = next) {
		next = l->next;
		l->fn(l->arg);
	}
}

void events_reader_new(const struct events *ev, struct events_reader *r, const char *tenant)
{
	*r = (struct events_reader){.next = ev->last + 1, .tenant = tenant};
}

void events_reader_since(const struct events *ev, struct events_reader *r, const char *tenant,
			 uint64_t since)
{
	*r = (struct events_reader){.next = since + 1, .tenant = tenant};
	/* A number not given yet: it is from before a restart, the numbers began anew. */
	if (since > ev->last)
		*r = (struct events_reader){.next = 1, .tenant = tenant, .missed = since + 1};
}

const char *events_read(const struct events *ev, struct events_reader *r)
{
	uint64_t oldest = ev->last >= ev->size ? ev->last - ev->size + 1 : 1;
	if (r->next < oldest) {
		if (!r->missed)
			r->missed = r->next;
		r->next = oldest;
	}
	while (r->next <= ev->last || r->missed) {
		const struct events_item *item =
			r->next <= ev->last ? ev->ring[r->next % ev->size] : NULL;
		if (r->next <= ev->last && !item) {
			if (!r->missed)
				r->missed = r->next;
			r->next++;
			continue;
		}
		if (r->missed) {
			snprintf(r->gap, sizeof(r->gap),
				 "{\"event\":\"gap\",\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}\n",
				 r->missed, r->next - 1);
			r->missed = 0;
			return r->gap;
		}
		r->next++;
		if (!r->tenant || strcmp(r->tenant, item->tenant) == 0)
			return item->line;
	}
	return NULL;
}

void events_listen(struct events *ev, struct events_listener *l)
{
	l->next = ev->listeners;
	ev->listeners = l;
}

void events_unlisten(struct events *ev, struct events_listener *l)
{
	for (struct events_listener **at = &ev->listeners; *at; at = &(*at)->next) {
		if (*at == l) {
			*at = l->next;
			return;
		}
	}
}
