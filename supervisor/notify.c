// SPDX-License-Identifier: Apache-2.0
#include "notify.h"

#include "log.h"
#include "util.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	size_t length = strlen(path);
	if (length >= sizeof(sun.sun_path)) {
		log_warning("NOTIFY_SOCKET is too long");
		return;
	}
	memcpy(sun.sun_path, path, length);
	/* '@' stands for the NUL that begins an abstract name. */
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (fd < 0 ||
	    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun, size) < 0)
		log_warning("the service manager was not told \"%s\": %s", state,
			    strerrordesc_np(errno));
}
