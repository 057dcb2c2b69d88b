// SPDX-License-Identifier: Apache-2.0
/*
 * run DIRECTORY...: gives every file of the directories to the target that this is linked with, as
 * libFuzzer would, and names the file at which it goes wrong. For compilers without libFuzzer.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FILE_MAX       (1u << 20)
#define INPUT_DEADLINE 20 /* seconds for one input */

/* Shared with the child, which may die at any input. */
static struct progress {
	char file[512];
	unsigned count;
} * now;

static int run_file(int dir, const char *name)
{
	struct stat st;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > FILE_MAX) {
		fprintf(stderr, "%s cannot be read, or is too large\n", name);
		return -1;
	}
	/* Exactly as long as the input, for ASan to see what is read beyond it. */
	uint8_t *data = malloc(st.st_size ? (size_t)st.st_size : 1);
	ssize_t n = data ? read(fd, data, (size_t)st.st_size) : -1;
	close(fd);
	if (n == (ssize_t)st.st_size) {
		alarm(INPUT_DEADLINE);
		LLVMFuzzerTestOneInput(data, (size_t)n);
		alarm(0);
		now->count++;
	}
	free(data);
	return n == (ssize_t)st.st_size ? 0 : -1;
}

static int run_directory(const char *path)
{
	DIR *dir = opendir(path);
	int result = 0;
	if (!dir) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (const struct dirent *d; result == 0 && (d = readdir(dir));) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(now->file, sizeof(now->file), "%.255s/%.200s", path, d->d_name);
		result = run_file(dirfd(dir), d->d_name);
	}
	closedir(dir);
	return result;
}

static int run_all(int count, char **paths)
{
	for (int i = 0; i < count; i++)
		if (run_directory(paths[i]) < 0)
			return 1;
	now->file[0] = '\0';
	return 0;
}

int main(int argc, char **argv)
{
	int status = 0;
	now = mmap(NULL, sizeof(*now), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (now == MAP_FAILED || argc < 2) {
		fprintf(stderr, "usage: %s DIRECTORY...\n", argv[0]);
		return 2;
	}
	pid_t child = fork();
	if (child == 0)
		exit(run_all(argc - 1, argv + 1));
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 2;
	if (status == 0) {
		printf("%s: %u inputs\n", argv[0], now->count);
		return 0;
	}
	fprintf(stderr, "%s: %s at %s\n", argv[0],
		WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "no end in time" : "failed",
		now->file[0] ? now->file : "its end (a leak?)");
	return 1;
}
