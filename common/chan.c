// SPDX-License-Identifier: Apache-2.0
#include "chan.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chan_item {
	struct chan_item *next;
	enum msg_type type;
	uint32_t id;
	int fd;
	size_t length;
	unsigned char body[];
};

void chan_open(struct chan *c, int fd, size_t max_bytes)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	*c = (struct chan){.fd = fd, .max_bytes = max_bytes};
	c->tail = &c->head;
}

static void drop_head(struct chan *c)
{
	struct chan_item *item = c->head;
	c->head = item->next;
	if (!c->head)
		c->tail = &c->head;
	c->queued_bytes -= item->length;
	fd_close(&item->fd);
	free(item);
}

void chan_close(struct chan *c)
{
	while (c->head)
		drop_head(c);
	fd_close(&c->fd);
}

bool chan_wants_write(const struct chan *c)
{
	return c->head != NULL;
}

int chan_flush(struct chan *c, struct err *e)
{
	while (c->head) {
		struct chan_item *item = c->head;
		if (msg_send(c->fd, item->type, item->id, item->body, item->length, item->fd, e) <
		    0)
			return e->errnum == EAGAIN ? 0 : -1;
		drop_head(c);
	}
	return 0;
}

static int enqueue(struct chan *c, enum msg_type type, uint32_t id, const void *body, size_t length,
		   int fd, struct err *e)
{
	if (c->queued_bytes + length > c->max_bytes)
		return err_set(e, ERR_NO_SPACE, 0,
			       "%zu bytes wait for a peer that does not read; %s record not sent",
			       c->queued_bytes, msg_type_name(type));
	struct chan_item *item = malloc(sizeof(*item) + length);
	if (!item)
		return err_errno(e, ENOMEM, "queue %s record", msg_type_name(type));
	*item = (struct chan_item){.type = type, .id = id, .fd = -1, .length = length};
	memcpy(item->body, body, length);
	if (fd >= 0) {
		item->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (item->fd < 0) {
			err_errno(e, errno, "copy a descriptor for %s", msg_type_name(type));
			free(item);
			return -1;
		}
	}
	*c->tail = item;
	c->tail = &item->next;
	c->queued_bytes += length;
	return 0;
}

int chan_send(struct chan *c, enum msg_type type, uint32_t id, const void *body, size_t length,
	      int fd, struct err *e)
{
	if (c->fd < 0)
		return err_set(e, ERR_UNAVAILABLE, 0, "no peer for a %s record",
			       msg_type_name(type));
	/* Order is kept: nothing overtakes what is queued. */
	if (!c->head) {
		if (msg_send(c->fd, type, id, body, length, fd, e) == 0)
			return 0;
		if (e->errnum != EAGAIN)
			return -1;
	}
	return enqueue(c, type, id, body, length, fd, e);
}

#define X(upper, lower, fds, tail)                                                                 \
	int chan_send_##lower(struct chan *c, uint32_t id, const struct msg_##lower *body,         \
			      struct err *e)                                                       \
	{                                                                                          \
		ssize_t length = msg_write_##lower(body, e);                                       \
		if (length < 0)                                                                    \
			return -1;                                                                 \
		return chan_send(c, MSG_##upper, id, body, (size_t)length, -1, e);                 \
	}
MSG_TABLE(X)
#undef X

int chan_send_err(struct chan *c, uint32_t id, const struct err *why, struct err *e)
{
	struct msg_error body = {.kind = (uint32_t)why->kind, .errnum = why->errnum};
	if (body.kind == ERR_NONE || body.kind >= ERR_KIND_COUNT)
		body.kind = ERR_INTERNAL;
	if (body.errnum < 0 || body.errnum >= 4096)
		body.errnum = 0;
	snprintf(body.text, sizeof(body.text), "%s", why->text);
	str_clean(body.text);
	return chan_send_error(c, id, &body, e);
}
