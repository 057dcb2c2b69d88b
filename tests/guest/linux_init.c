// SPDX-License-Identifier: Apache-2.0
/*
 * The init, and the only process, of a Linux guest of the system tests: it mounts /dev/vda, an ext4
 * file system, at /d and does on it what the console says, a command a line, an answer a line.
 *
 *	fill NAME KIB SEED   writes a file, not synced	-> FILLED NAME KIB
 *	sum NAME	     reads it			-> SUM NAME BYTES HHHHHHHH
 *	sync		     everything			-> SYNCED
 *	ls					        -> FILES NAME...
 *	df					        -> DF FREE_KIB
 *	log NAME	     appends a number every few ms, synced, from then on -> LOG NAME
 *	last		     that number in memory, and the last in the file -> LAST N M
 *	umount, mount				        -> UMOUNTED, MOUNTED
 *
 * What fails is answered by ERR COMMAND ERRNO.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <termios.h>
#include <unistd.h>

#define DISK	   "/dev/vda"
#define PLACE	   "/d"
#define LOG_GAP_MS 20
#define PIECE	   4096

static int log_fd = -1;
static uint32_t log_count; /* numbers written */

/* 0, or -1 with errno. */
static int do_mount(void)
{
	return mount(DISK, PLACE, "ext4", 0, "");
}

static int do_umount(void)
{
	if (log_fd >= 0)
		close(log_fd);
	log_fd = -1;
	return umount(PLACE);
}

static uint32_t pattern(uint32_t seed, uint32_t at)
{
	return seed * 0x9E3779B1u + at * 0x85EBCA6Bu;
}

static int fill(const char *name, uint32_t kib, uint32_t seed)
{
	uint32_t words[PIECE / 4], at = 0;
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	for (uint32_t left = kib / (PIECE / 1024); left; left--) {
		for (uint32_t i = 0; i < PIECE / 4; i++)
			words[i] = pattern(seed, at++);
		if (write(fd, words, sizeof(words)) != (ssize_t)sizeof(words)) {
			close(fd);
			return -1;
		}
	}
	return close(fd);
}

static int sum(const char *name)
{
	uint32_t words[PIECE / 4], total = 0;
	size_t bytes = 0;
	ssize_t got;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while ((got = read(fd, words, sizeof(words))) > 0) {
		for (size_t i = 0; i < (size_t)got / 4; i++)
			total = total * 33 + words[i];
		bytes += (size_t)got;
	}
	close(fd);
	if (got < 0)
		return -1;
	printf("SUM %s %zu %08x\n", name, bytes, total);
	return 0;
}

static int list(void)
{
	DIR *d = opendir(".");
	const struct dirent *entry;
	if (!d)
		return -1;
	printf("FILES");
	while ((entry = readdir(d)) != NULL) {
		if (entry->d_type == DT_REG)
			printf(" %s", entry->d_name);
	}
	printf("\n");
	closedir(d);
	return 0;
}

static int df(void)
{
	struct statvfs st;
	if (statvfs(".", &st) < 0)
		return -1;
	printf("DF %lu\n", (unsigned long)(st.f_bfree * st.f_frsize / 1024));
	return 0;
}

static int log_start(const char *name)
{
	if (log_fd >= 0)
		close(log_fd);
	log_fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_DSYNC | O_CLOEXEC, 0644);
	log_count = 0;
	return log_fd < 0 ? -1 : 0;
}

/* The number counts once it is on the disk. */
static void log_next(void)
{
	uint32_t next = log_count + 1;
	off_t at = (off_t)(log_count * sizeof(next));
	if (pwrite(log_fd, &next, sizeof(next), at) == (ssize_t)sizeof(next)) {
		log_count = next;
		return;
	}
	printf("ERR log %d\n", errno);
	close(log_fd);
	log_fd = -1;
}

static int log_last(void)
{
	struct stat st;
	uint32_t last = 0;
	if (fstat(log_fd, &st) < 0)
		return -1;
	if (st.st_size >= (off_t)sizeof(last) &&
	    pread(log_fd, &last, sizeof(last), st.st_size - (off_t)sizeof(last)) < 0)
		return -1;
	printf("LAST %u %u\n", log_count, last);
	return 0;
}

static int outside(int (*call)(void), const char *answer)
{
	if (chdir("/") < 0 || call() < 0 || (call == do_mount && chdir(PLACE) < 0))
		return -1;
	printf("%s\n", answer);
	return 0;
}

static int obey(const char *word, const char *name, uint32_t first, uint32_t second)
{
	if (strcmp(word, "fill") == 0) {
		if (fill(name, first, second) < 0)
			return -1;
		printf("FILLED %s %u\n", name, first);
	} else if (strcmp(word, "sum") == 0) {
		return sum(name);
	} else if (strcmp(word, "sync") == 0) {
		sync();
		printf("SYNCED\n");
	} else if (strcmp(word, "ls") == 0) {
		return list();
	} else if (strcmp(word, "df") == 0) {
		return df();
	} else if (strcmp(word, "log") == 0) {
		if (log_start(name) < 0)
			return -1;
		printf("LOG %s\n", name);
	} else if (strcmp(word, "last") == 0) {
		return log_last();
	} else if (strcmp(word, "umount") == 0) {
		return outside(do_umount, "UMOUNTED");
	} else if (strcmp(word, "mount") == 0) {
		return outside(do_mount, "MOUNTED");
	} else {
		errno = ENOSYS;
		return -1;
	}
	return 0;
}

static void take_line(const char *line)
{
	char word[16] = "", name[64] = "";
	uint32_t first = 0, second = 0;
	if (sscanf(line, "%15s %63s %u %u", word, name, &first, &second) < 1)
		return;
	if (obey(word, name, first, second) < 0)
		printf("ERR %s %d\n", word, errno);
}

/* The line discipline hands over whole lines; without echo, the console holds our answers only. */
static void prepare_console(void)
{
	struct termios t;
	int fd = open("/dev/console", O_RDWR);
	if (fd >= 0 && fd != 0)
		dup2(fd, 0);
	dup2(0, 1);
	dup2(0, 2);
	if (tcgetattr(0, &t) == 0) {
		t.c_lflag &= (tcflag_t)~ECHO;
		t.c_oflag &= (tcflag_t)~OPOST;
		tcsetattr(0, TCSANOW, &t);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
}

int main(void)
{
	char line[256];
	prepare_console();
	mkdir("/dev", 0755);
	mkdir(PLACE, 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, "") < 0)
		printf("ERR devtmpfs %d\n", errno);
	if (do_mount() < 0 || chdir(PLACE) < 0)
		printf("ERR mount %d\n", errno);
	printf("GUEST UP\n");
	for (;;) {
		struct pollfd p = {.fd = 0, .events = POLLIN};
		int ready = poll(&p, 1, log_fd >= 0 ? LOG_GAP_MS : -1);
		if (ready > 0) {
			ssize_t got = read(0, line, sizeof(line) - 1);
			if (got > 0) {
				line[got] = '\0';
				take_line(line);
			}
		}
		if (log_fd >= 0)
			log_next();
	}
}
