// SPDX-License-Identifier: Apache-2.0
/* The hybrid vsock socket, and what the pretend guest does with its ports: 1024 speaks HTTP like
 * the Linux guest, 10991 tells the console what it was told, all others take no connection. While
 * the guest stands still nobody answers. */
#include "standin.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_HTTP    1024
#define PORT_TOLD    10991
#define LINE_MAX_LEN 32 /* of CONNECT, as the real one */
#define FIRST_LOCAL  (1U << 30)

struct stream {
	int fd;
	uint32_t port; /* 0: its CONNECT has not come yet */
	char in[1024];
	size_t used;
};

static struct stream streams[STANDIN_VSOCK_STREAMS];
static int stream_count;
static int listener = -1;
static char *path;
static uint32_t local_port;
static unsigned requests;

static const char *vsock_path(const cJSON *config)
{
	return cJSON_GetStringValue(
		cJSON_GetObjectItem(cJSON_GetObjectItem(config, "vsock"), "socket"));
}

char *vsock_invalid(const cJSON *config)
{
	const cJSON *vsock = cJSON_GetObjectItem(config, "vsock");
	double cid = cJSON_GetNumberValue(cJSON_GetObjectItem(vsock, "cid"));
	if (!vsock || (cid > 2 && cid < UINT32_MAX))
		return NULL;
	return bytes_text("%.0f is a special VSOCK CID", cid);
}

char *vsock_start(const cJSON *config)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *name = vsock_path(config);
	if (!name)
		return NULL;
	if (strlen(name) >= sizeof(address.sun_path))
		return bytes_text("path must be shorter than SUN_LEN");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 128) < 0) {
		char *os = boot_os_error();
		close(listener);
		listener = -1;
		return os;
	}
	path = bytes_text("%s", name);
	local_port = FIRST_LOCAL;
	return NULL;
}

static void vsock_end(int i)
{
	close(streams[i].fd);
	streams[i] = streams[--stream_count];
}

void vsock_stop(void)
{
	while (stream_count)
		vsock_end(0);
	if (listener < 0)
		return;
	close(listener);
	listener = -1;
	unlink(path);
	free(path);
	path = NULL;
}

nfds_t vsock_poll(struct pollfd *fds)
{
	nfds_t n = 0;
	if (listener < 0 || !guest_answers())
		return 0;
	if (stream_count < STANDIN_VSOCK_STREAMS)
		fds[n++] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (int i = 0; i < stream_count; i++)
		fds[n++] = (struct pollfd){.fd = streams[i].fd, .events = POLLIN};
	return n;
}

static void vsock_write(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		errno = 0; /* it has gone, or does not read */
}

/* "connect 1024" in any case and with any blanks, as the real one. False: it ends the stream. */
static bool vsock_connect(struct stream *s, char *line)
{
	char *save = NULL, *end, *word = strtok_r(line, " \t\r", &save);
	char *number = word ? strtok_r(NULL, " \t\r", &save) : NULL;
	if (!number || strcasecmp(word, "CONNECT") != 0 || !isdigit((unsigned char)*number))
		return false;
	unsigned long port = strtoul(number, &end, 10);
	if (*end || port > UINT32_MAX)
		return false;
	uint32_t local = local_port++;
	if (!guest_listens() || (port != PORT_HTTP && port != PORT_TOLD))
		return false;
	char *answer = bytes_text("OK %u\n", local);
	vsock_write(s->fd, answer);
	free(answer);
	s->port = (uint32_t)port;
	return true;
}

static void vsock_answer(const struct stream *s)
{
	bool known = !strncmp(s->in, "GET / ", 6) || !strncmp(s->in, "GET /health ", 12);
	char *body = known ? bytes_text("hello %u %.3f\n", ++requests, (double)report_now() / 1e3)
			   : bytes_text("no\n");
	char *text = bytes_text("HTTP/1.0 %d x\r\nContent-Length: %zu\r\n\r\n%s", known ? 200 : 404,
				strlen(body), body);
	vsock_write(s->fd, text);
	free(text);
	free(body);
}

/* What is in the buffer, as far as it is whole. False: the stream is over. */
static bool vsock_take(struct stream *s)
{
	char *end = memchr(s->in, '\n', s->used);
	if (!s->port) {
		if (!end)
			return s->used < LINE_MAX_LEN;
		*end = '\0';
		if (end - s->in >= LINE_MAX_LEN || !vsock_connect(s, s->in))
			return false;
		s->used -= (size_t)(end + 1 - s->in);
		memmove(s->in, end + 1, s->used);
		return !s->used || vsock_take(s);
	}
	s->in[s->used] = '\0';
	if (s->port == PORT_TOLD) {
		if (!end)
			return s->used < sizeof(s->in) - 1;
		*end = '\0';
		guest_print("TOLD %s\n", s->in);
		return false;
	}
	if (!strstr(s->in, "\r\n\r\n") && !strstr(s->in, "\n\n"))
		return s->used < sizeof(s->in) - 1;
	vsock_answer(s);
	return false;
}

static void vsock_read(int i)
{
	struct stream *s = &streams[i];
	ssize_t n = recv(s->fd, s->in + s->used, sizeof(s->in) - 1 - s->used, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		vsock_end(i);
		return;
	}
	s->used += (size_t)n;
	if (!vsock_take(s))
		vsock_end(i);
}

void vsock_work(void)
{
	if (listener < 0 || !guest_answers())
		return;
	while (stream_count < STANDIN_VSOCK_STREAMS) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			break;
		streams[stream_count++] = (struct stream){.fd = fd};
	}
	for (int i = stream_count; i-- > 0;)
		vsock_read(i);
}
