// SPDX-License-Identifier: Apache-2.0
#include "http_trace.h"

#include "util.h"

#include <stdio.h>
#include <string.h>

void http_trace_begin(struct msg_exchange *x, const char *method, const char *path)
{
	*x = (struct msg_exchange){.at_real_us = clock_real_us()};
	snprintf(x->request, sizeof(x->request), "%s %s", method, path);
}

void http_trace_end(struct http_trace *t, struct msg_exchange *x, int64_t took_us,
		    const struct http_response *answer, bool late, const struct err *why)
{
	if (!t)
		return;
	x->took_us = took_us < 0 ? 0 : took_us > UINT32_MAX ? UINT32_MAX : (uint32_t)took_us;
	if (answer) {
		x->status = (uint16_t)answer->status;
		x->outcome = late ? MSG_EXCHANGE_LATE : MSG_EXCHANGE_ANSWERED;
		char text[MSG_EXCHANGE_ERROR_MAX] = "";
		if (answer->status >= 300)
			http_error_text(answer->body, answer->body_length, text, sizeof(text));
		/* Padded with zeros, as a field of a record has to be. */
		snprintf(x->error, sizeof(x->error), "%s", text);
	} else {
		x->outcome = MSG_EXCHANGE_LOST;
		snprintf(x->error, sizeof(x->error), "%.*s", (int)sizeof(x->error) - 1,
			 why ? why->text : "");
		str_clean(x->error);
	}
	t->ring[t->count++ % MSG_EXCHANGES_MAX] = *x;
}

uint32_t http_trace_read(const struct http_trace *t, struct msg_exchange out[MSG_EXCHANGES_MAX])
{
	uint64_t first = t->count > MSG_EXCHANGES_MAX ? t->count - MSG_EXCHANGES_MAX : 0;
	for (uint64_t i = first; i < t->count; i++)
		out[i - first] = t->ring[i % MSG_EXCHANGES_MAX];
	return (uint32_t)(t->count - first);
}
