// SPDX-License-Identifier: Apache-2.0
/*
 * Times Cloister through its control socket beside a floor: the same VMM started by hand with a
 * pre-connected API descriptor, no jail, create and boot sent at once. Both in one run, turn by
 * turn, so that only their ratio is worth quoting.
 *
 * usage: bench CONTROL_SOCKET VMM KERNEL_FILE KERNEL_NAME RUNS
 * Prints one line per row: name, median, minimum, maximum in microseconds.
 */
#include "http.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS_MAX    1000
#define MEMORY_MIB  64
#define DEADLINE_MS 30000

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerrordesc_np(errno));
	exit(1);
}

struct row {
	const char *name;
	int64_t us[RUNS_MAX];
	unsigned count;
};

static void add(struct row *row, int64_t us)
{
	row->us[row->count++] = us;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void print(struct row *row)
{
	qsort(row->us, row->count, sizeof(row->us[0]), compare);
	printf("%s %lld %lld %lld\n", row->name, (long long)row->us[row->count / 2],
	       (long long)row->us[0], (long long)row->us[row->count - 1]);
}

/* ------------------------------------------------------------------ HTTP over a unix socket */

struct wire {
	int fd;
	char buf[1 << 20];
	size_t used;
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!str_copy(address.sun_path, sizeof(address.sun_path), path) || fd < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(path);
	return fd;
}

static void write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
		if (n < 0)
			die("send");
		text += n;
		len -= (size_t)n;
	}
}

static void fill(struct wire *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLIN};
	if (w->used == sizeof(w->buf) - 1 || poll(&p, 1, DEADLINE_MS) != 1) {
		errno = ETIMEDOUT;
		die("wait for an answer");
	}
	ssize_t n = recv(w->fd, w->buf + w->used, sizeof(w->buf) - 1 - w->used, 0);
	if (n <= 0)
		die("receive");
	w->used += (size_t)n;
}

/* Reads one answer, copies its body (ended) to body, gives its status. */
static int answer(struct wire *w, char *body, size_t size)
{
	struct http_response r;
	struct err e;
	enum http_result result;
	while ((result = http_parse_response(w->buf, w->used, false, sizeof(w->buf), &r, &e)) ==
	       HTTP_MORE)
		fill(w);
	if (result != HTTP_DONE) {
		fprintf(stderr, "bench: %s\n", e.text);
		exit(1);
	}
	if (body)
		snprintf(body, size, "%.*s", (int)r.body_length, r.body_length ? r.body : "");
	w->used -= r.consumed;
	memmove(w->buf, w->buf + r.consumed, w->used);
	return r.status;
}

static int call(struct wire *w, const char *method, const char *path, const char *json, char *body,
		size_t size)
{
	char text[4096];
	int n = snprintf(text, sizeof(text),
			 "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", method, path,
			 json ? strlen(json) : 0, json ? json : "");
	write_all(w->fd, text, (size_t)n);
	return answer(w, body, size);
}

/* ------------------------------------------------------------------ the floor */

struct floor {
	const char *vmm;
	const char *kernel;
	char dir[64];
};

static void send_start(int fd, const struct floor *f)
{
	char json[2048], text[4096];
	int len = snprintf(
		json, sizeof(json),
		"{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":1,\"nested\":false},\"memory\":{"
		"\"size\":0,"
		"\"zones\":[{\"id\":\"ram\",\"size\":%llu,\"file\":\"%s/ram\",\"shared\":true}]},"
		"\"payload\":{\"kernel\":\"%s\",\"cmdline\":\"tick=0\"},\"serial\":{\"mode\":"
		"\"Tty\"},"
		"\"console\":{\"mode\":\"Off\"},\"rng\":{\"src\":\"/dev/"
		"urandom\"},\"pvpanic\":true,"
		"\"balloon\":{\"id\":\"balloon0\",\"size\":0,\"deflate_on_oom\":true,"
		"\"free_page_reporting\":true}}",
		(unsigned long long)MEMORY_MIB << 20, f->dir, f->kernel);
	int n = snprintf(text, sizeof(text),
			 "PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s"
			 "PUT /api/v1/vm.boot HTTP/1.1\r\n\r\n",
			 len, json);
	write_all(fd, text, (size_t)n);
}

static void make_ram(const struct floor *f)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/ram", f->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)MEMORY_MIB << 20) < 0)
		die(path);
	close(fd);
}

/* One VMM by hand: exec to "boot answered", then SIGKILL to reaped. */
static void run_floor(const struct floor *f, struct row *start, struct row *end)
{
	static struct wire w;
	char path[128];
	int pipes[2];
	posix_spawn_file_actions_t actions;
	char *argv[] = {(char *)(uintptr_t)f->vmm, (char *)(uintptr_t) "--api-socket",
			(char *)(uintptr_t) "fd=3", NULL};
	char *env[] = {NULL};
	pid_t pid;
	snprintf(path, sizeof(path), "%s/api", f->dir);
	unlink(path);
	make_ram(f);
	int64_t begin = clock_us();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	str_copy(address.sun_path, sizeof(address.sun_path), path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 || pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		die("floor");
	w.fd = connect_to(path);
	w.used = 0;
	send_start(w.fd, f);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
	posix_spawn_file_actions_adddup2(&actions, listener, 3);
	if (posix_spawn(&pid, f->vmm, &actions, NULL, argv, env) != 0)
		die(f->vmm);
	posix_spawn_file_actions_destroy(&actions);
	close(listener);
	if (answer(&w, NULL, 0) != 204 || answer(&w, NULL, 0) != 204) {
		fprintf(stderr, "bench: the VMM refused its floor run\n");
		exit(1);
	}
	int64_t booted = clock_us();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	int64_t ended = clock_us();
	close(w.fd);
	close(pipes[0]);
	close(pipes[1]);
	add(start, booted - begin);
	add(end, ended - booted);
}

/* ------------------------------------------------------------------ Cloister */

static long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

static void create(struct wire *w, const char *kernel, char *body, size_t size)
{
	char json[256];
	snprintf(json, sizeof(json),
		 "{\"id\":\"bench\",\"kernel\":\"%s\",\"memory_mib\":%d,\"cmdline\":\"tick=0\"}",
		 kernel, MEMORY_MIB);
	if (call(w, "POST", "/v1/sandboxes", json, body, size) != 201) {
		fprintf(stderr, "bench: create failed: %s\n", body);
		exit(1);
	}
}

static void expect(struct wire *w, const char *method, const char *path, char *body, size_t size)
{
	if (call(w, method, path, NULL, body, size) != 200) {
		fprintf(stderr, "bench: %s %s failed: %s\n", method, path, body);
		exit(1);
	}
}

/* Waits until the stream of events says that the sandbox crashed. */
static void await_crash(struct wire *w)
{
	for (;;) {
		w->buf[w->used] = '\0';
		if (strstr(w->buf, "\"to\":\"crashed\""))
			break;
		fill(w);
	}
	w->used = 0;
}

struct rows {
	struct row floor_start, floor_end, create, get, pause, resume, destroy, kill;
};

static void run_cloister(const char *control, const char *kernel, struct rows *rows)
{
	static struct wire w, events;
	static char body[65536];
	w.fd = connect_to(control);
	w.used = 0;
	int64_t t0 = clock_us();
	create(&w, kernel, body, sizeof(body));
	int64_t t1 = clock_us();
	expect(&w, "GET", "/v1/sandboxes/bench", body, sizeof(body));
	int64_t t2 = clock_us();
	expect(&w, "POST", "/v1/sandboxes/bench/pause", body, sizeof(body));
	int64_t t3 = clock_us();
	expect(&w, "POST", "/v1/sandboxes/bench/resume", body, sizeof(body));
	int64_t t4 = clock_us();
	expect(&w, "DELETE", "/v1/sandboxes/bench", body, sizeof(body));
	int64_t t5 = clock_us();
	create(&w, kernel, body, sizeof(body));
	long pid = number_after(body, "\"pid\":");
	events.fd = connect_to(control);
	events.used = 0;
	static const char ask[] = "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n";
	write_all(events.fd, ask, sizeof(ask) - 1);
	while (!memmem(events.buf, events.used, "\r\n\r\n", 4))
		fill(&events);
	events.used = 0;
	int64_t t6 = clock_us();
	if (pid <= 0 || kill((pid_t)pid, SIGKILL) < 0)
		die("kill the VMM");
	await_crash(&events);
	int64_t t7 = clock_us();
	close(events.fd);
	expect(&w, "DELETE", "/v1/sandboxes/bench", body, sizeof(body));
	close(w.fd);
	add(&rows->create, t1 - t0);
	add(&rows->get, t2 - t1);
	add(&rows->pause, t3 - t2);
	add(&rows->resume, t4 - t3);
	add(&rows->destroy, t5 - t4);
	add(&rows->kill, t7 - t6);
}

int main(int argc, char **argv)
{
	static struct rows rows = {
		.floor_start = {.name = "floor-create-boot"},
		.floor_end = {.name = "floor-kill-wait"},
		.create = {.name = "create"},
		.get = {.name = "get"},
		.pause = {.name = "pause"},
		.resume = {.name = "resume"},
		.destroy = {.name = "destroy"},
		.kill = {.name = "kill-to-event"},
	};
	uint64_t runs;
	if (argc != 6 || !str_to_u64(argv[5], 1, RUNS_MAX, &runs)) {
		fprintf(stderr, "usage: bench CONTROL_SOCKET VMM KERNEL_FILE KERNEL_NAME RUNS\n");
		return 2;
	}
	struct floor f = {.vmm = argv[2], .kernel = argv[3]};
	/* The floor's memory file lies on a tmpfs as the jail's does. */
	snprintf(f.dir, sizeof(f.dir), "/dev/shm/cloister-bench-XXXXXX");
	if (!mkdtemp(f.dir))
		die(f.dir);
	for (uint64_t i = 0; i < runs; i++) {
		run_floor(&f, &rows.floor_start, &rows.floor_end);
		run_cloister(argv[1], argv[4], &rows);
	}
	char path[128];
	snprintf(path, sizeof(path), "%s/ram", f.dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/api", f.dir);
	unlink(path);
	rmdir(f.dir);
	print(&rows.floor_start);
	print(&rows.create);
	print(&rows.floor_end);
	print(&rows.kill);
	print(&rows.get);
	print(&rows.pause);
	print(&rows.resume);
	print(&rows.destroy);
	return 0;
}
