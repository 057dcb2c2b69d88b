// SPDX-License-Identifier: Apache-2.0
/*
 * What a VMM that was taken over may do to the files of a snapshot: after they are written and
 * before it answers ("attack after KIND" arms one), and from then on, while the shim copies them.
 */
#include "attack.h"

#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STATE  "/snapshot/state.json"
#define CONFIG "/snapshot/config.json"

/* The linker puts this before the stand-in's own (ld, --wrap). */
struct answer __real_snapshot_write(const char *url, const cJSON *config, const struct boot *boot,
				    const cJSON *devices);
struct answer __wrap_snapshot_write(const char *url, const cJSON *config, const struct boot *boot,
				    const cJSON *devices);

static char armed[32];

void attack_arm_after(const char *kind)
{
	snprintf(armed, sizeof(armed), "%s", kind);
}

static const char *outcome(long result)
{
	return attack_errno(result < 0 ? errno : 0);
}

static void say(const char *what, long result)
{
	attack_say("after %s %s", what, outcome(result));
}

static int state_file(int flags)
{
	return open(STATE, flags | O_CLOEXEC);
}

static void two_names(void)
{
	say("link", link(STATE, "/snapshot/second"));
}

static void sparse(void)
{
	int fd = state_file(O_RDWR);
	/* As far as RLIMIT_FSIZE lets it, then beyond. */
	say("grow", ftruncate(fd, 8l << 20));
	say("grow more", ftruncate(fd, 1l << 40));
	close(fd);
}

static void empty(void)
{
	say("truncate", truncate(STATE, 0));
}

static void gone(void)
{
	say("unlink", unlink(STATE));
}

static void directory(void)
{
	unlink(STATE);
	say("mkdir", mkdir(STATE, 0));
}

static void link_to(const char *target)
{
	unlink(STATE);
	say("symlink", symlink(target, STATE));
}

static void link_out(void)
{
	link_to("../../../../../../../../etc/passwd");
}

static void link_inside(void)
{
	rename(STATE, "/snapshot/real");
	link_to("real");
}

static void link_loop(void)
{
	link_to("state.json");
}

static void link_proc(void)
{
	link_to("/proc/self/fd/0");
}

static void a_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = STATE};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(STATE);
	say("bind", bind(fd, (struct sockaddr *)&address, sizeof(address)));
}

static void closed(void)
{
	say("chmod", chmod(STATE, 0));
}

/* Nobody can open it before the lease is given up, which takes a break of 45 s by default. */
static void lease(void)
{
	say("lease", fcntl(state_file(O_RDWR), F_SETLEASE, F_WRLCK));
}

static void lock(void)
{
	struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = state_file(O_RDWR);
	say("lock", fcntl(fd, F_OFD_SETLK, &all));
	say("flock", flock(fd, LOCK_EX | LOCK_NB));
}

/* What root and people may come to read in a list or a log. */
static void names(void)
{
	static const char *const all[] = {
		"a\nb", "\x1b[2Jescape", "\xff\xfe", "-rf", "$(reboot)", ".new-set", "..x", " ",
	};
	char path[300], longest[256] = "";
	memset(longest, 'n', 255);
	int made = 0;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		snprintf(path, sizeof(path), "/snapshot/%s", all[i]);
		made += open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
	}
	snprintf(path, sizeof(path), "/snapshot/%s", longest);
	made += open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
	attack_say("after names %d made", made);
}

/* Directories in directories, each closed to all; deeper than any path could name. */
static void deep(void)
{
	int at = open("/snapshot", O_RDONLY | O_DIRECTORY | O_CLOEXEC), depth = 0;
	while (at >= 0 && depth < 200 && mkdirat(at, "\x1b[31m\n", 0700) == 0) {
		int next = openat(at, "\x1b[31m\n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fchmod(at, depth ? 0 : 0700);
		close(at);
		at = next;
		depth++;
	}
	if (at >= 0)
		close(at);
	attack_say("after deep %s", depth >= 10 ? "OK" : "too shallow");
}

/* The configuration that the next start is to be made from: the host's files as disks. */
static void forge(void)
{
	static const char text[] =
		"{\"payload\":{\"kernel\":\"/etc/shadow\",\"cmdline\":\"forged\"},\"cpus\":"
		"{\"boot_vcpus\":64,\"max_vcpus\":64},\"memory\":{\"size\":1099511627776},"
		"\"disks\":[{\"path\":\"/etc/shadow\",\"image_type\":\"Qcow2\"}],"
		"\"fs\":[{\"tag\":\"root\",\"socket\":\"/run/forged\"}],"
		"\"vsock\":{\"cid\":3,\"socket\":\"/run/forged\"}}";
	int fd = open(CONFIG, O_WRONLY | O_TRUNC | O_CLOEXEC);
	say("forge", write(fd, text, sizeof(text) - 1));
	close(fd);
	fd = open("/snapshot/meta", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	say("forge meta", write(fd, text, sizeof(text) - 1));
	close(fd);
	fd = open("/snapshot/used", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	close(fd);
}

/* Whole, and as large as there is room for; each number a node for who makes a tree of it. */
static void many(void)
{
	static char numbers[4096];
	int fd = open(STATE, O_WRONLY | O_TRUNC | O_CLOEXEC);
	memset(numbers, '0', sizeof(numbers));
	for (size_t i = 1; i < sizeof(numbers); i += 2)
		numbers[i] = ',';
	say("many", write(fd, "{\"forged\":[", 11));
	for (int i = 0; i < 900; i++)
		if (write(fd, numbers, sizeof(numbers)) < 0)
			say("many", -1);
	say("many", write(fd, "0]}", 3));
	close(fd);
}

/* Nested far deeper than any state is. */
static void nested(void)
{
	static char text[20000];
	int fd = open(STATE, O_WRONLY | O_TRUNC | O_CLOEXEC);
	memset(text, '[', sizeof(text));
	say("nested", write(fd, "{\"a\":", 5));
	say("nested", write(fd, text, sizeof(text)));
	memset(text, ']', sizeof(text));
	say("nested", write(fd, text, sizeof(text)));
	say("nested", write(fd, "}", 1));
	close(fd);
}

/* ------------------------------------------------------------------ races */

/* A child that goes on with step until it is ended with its VMM. */
static void go_on(const char *what, void (*step)(int fd, unsigned turn), int fd)
{
	int pid = fork();
	if (pid == 0)
		for (unsigned turn = 0;; turn++)
			step(fd, turn);
	attack_say("after %s %s", what, attack_errno(pid < 0 ? errno : 0));
}

static void rewrite_step(int fd, unsigned turn)
{
	static const char one[] = "{\"forged\":1}", two[] = "{\"forged\":[2,2]}\n\n\n";
	const char *text = turn % 2 ? one : two;
	if (pwrite(fd, text, strlen(text), 0) < 0)
		pause();
}

static void shrink_step(int fd, unsigned turn)
{
	if (ftruncate(fd, turn % 2 ? 0 : 100000) < 0)
		pause();
}

static void swap_step(int fd, unsigned turn)
{
	(void)fd;
	(void)turn;
	/* Only while the directory is lent. */
	rename(STATE, "/snapshot/other");
	if (symlink("/vmm", STATE) < 0 && errno == EACCES)
		pause();
	unlink(STATE);
	rename("/snapshot/other", STATE);
}

static void ram_step(int fd, unsigned turn)
{
	if (ftruncate(fd, turn % 2 ? 32l << 20 : 0) < 0)
		pause();
}

static void rewrite(void)
{
	go_on("rewrite", rewrite_step, state_file(O_RDWR));
}

static void shrink(void)
{
	go_on("shrink", shrink_step, state_file(O_RDWR));
}

static void swap(void)
{
	go_on("swap", swap_step, -1);
}

static void ram(void)
{
	go_on("ram", ram_step, open("/mem/ram", O_RDWR | O_CLOEXEC));
}

/* ------------------------------------------------------------------ the table */

static const struct {
	const char *kind;
	void (*act)(void);
} acts[] = {
	{"two-names", two_names}, {"sparse", sparse},
	{"empty", empty},	  {"gone", gone},
	{"directory", directory}, {"link-out", link_out},
	{"link-in", link_inside}, {"link-loop", link_loop},
	{"link-proc", link_proc}, {"socket", a_socket},
	{"closed", closed},	  {"lease", lease},
	{"lock", lock},		  {"names", names},
	{"deep", deep},		  {"forge", forge},
	{"rewrite", rewrite},	  {"shrink", shrink},
	{"many", many},		  {"nested", nested},
	{"swap", swap},		  {"ram", ram},
};

struct answer __wrap_snapshot_write(const char *url, const cJSON *config, const struct boot *boot,
				    const cJSON *devices)
{
	struct answer answer = __real_snapshot_write(url, config, boot, devices);
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (strcmp(acts[i].kind, armed) != 0)
			continue;
		armed[0] = '\0';
		acts[i].act();
	}
	return answer;
}
