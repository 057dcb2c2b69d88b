// SPDX-License-Identifier: Apache-2.0
/* What owners, modes and mounts let a VMM do in its jail, and Landlock does not. */
#include "attack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *what, long result)
{
	attack_say("landlock %s %s", what, attack_errno(result < 0 ? errno : 0));
}

static void list(const char *path)
{
	char what[64];
	DIR *dir = opendir(path);
	snprintf(what, sizeof(what), "list %s", path);
	tell(what, dir ? 0 : -1);
	if (dir)
		closedir(dir);
}

/* All ways to a shorter file; its size is given back afterwards. */
static void shorten(const char *path)
{
	char what[64];
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	snprintf(what, sizeof(what), "truncate %s", path);
	tell(what, truncate(path, 0));
	snprintf(what, sizeof(what), "ftruncate %s", path);
	tell(what, ftruncate(fd, 0));
	int other = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	snprintf(what, sizeof(what), "O_TRUNC %s", path);
	tell(what, other);
	close(other);
	if (ftruncate(fd, st.st_size) < 0)
		errno = 0;
	close(fd);
}

static void make_things(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/vsock/socket"};
	int fd = open("/vsock/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	tell("file", fd);
	close(fd);
	tell("directory", mkdir("/vsock/directory", 0700));
	tell("symlink", symlink("/vmm", "/vsock/symlink"));
	/* This one it may make, and remove. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	tell("socket", bind(fd, (struct sockaddr *)&address, sizeof(address)));
	tell("link", link("/vsock/socket", "/vsock/link"));
	tell("unlink socket", unlink("/vsock/socket"));
	close(fd);
}

static void bind_tcp(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(8080)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	tell("bind TCP", bind(fd, (struct sockaddr *)&any, sizeof(any)));
	close(fd);
}

void attack_landlock(void)
{
	list("/");
	list("/dev");
	list("/vsock");
	shorten("/mem/ram");
	shorten("/disk/0");
	make_things();
	bind_tcp();
}
