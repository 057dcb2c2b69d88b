// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct answer answer_none(void)
{
	return (struct answer){.status = 204};
}

struct answer answer_text(int status, const char *text)
{
	return (struct answer){
		.status = status, .body = bytes_text("%s", text), .len = strlen(text)};
}

struct answer answer_json(int status, cJSON *json)
{
	struct answer answer = {.status = status, .body = cJSON_PrintUnformatted(json)};
	if (!answer.body)
		abort();
	answer.len = strlen(answer.body);
	cJSON_Delete(json);
	return answer;
}

struct answer answer_chain(int status, ...)
{
	cJSON *causes = cJSON_CreateArray();
	va_list args;
	va_start(args, status);
	for (const char *text; (text = va_arg(args, const char *));)
		cJSON_AddItemToArray(causes, cJSON_CreateString(text));
	va_end(args);
	return answer_json(status, causes);
}

void answer_free(struct answer *answer)
{
	free(answer->body);
	*answer = (struct answer){0};
}

void answer_head(struct bytes *out, int status, const char *server, long length)
{
	bytes_format(out, "HTTP/1.1 %d \r\nServer: %s\r\nConnection: keep-alive\r\n", status,
		     server);
	if (length >= 0)
		bytes_format(out, "Content-Type: application/json\r\nContent-Length: %ld\r\n",
			     length);
	bytes_format(out, "\r\n");
}

void answer_write(struct bytes *out, const struct answer *answer)
{
	answer_head(out, answer->status, "Cloud Hypervisor API",
		    answer->body ? (long)answer->len : -1);
	if (answer->body)
		bytes_add(out, answer->body, answer->len);
}

void answer_parse_error(struct bytes *out, const char *why)
{
	char *body = bytes_text(
		"{ \"error\": \"%s\nAll previous unanswered requests will be dropped.\" }", why);
	answer_head(out, 400, "Firecracker API", (long)strlen(body));
	bytes_add(out, body, strlen(body));
	free(body);
}
