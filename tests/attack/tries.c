// SPDX-License-Identifier: Apache-2.0
#include "attack.h"

#include "standin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define FORKS_MAX 4096
#define FDS_MAX	  1024
#define CHUNK	  65536
#define EATEN	  (256ul << 20)

static const char *outcome(long result)
{
	return attack_errno(result < 0 ? errno : 0);
}

/* A socket by name; "@..." is an abstract one. */
static void try_connect(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(name);
	if (len == 0 || len >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, name, len);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
		int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
		attack_say("connect %d %s", type,
			   outcome(connect(fd, (struct sockaddr *)&address, size)));
		close(fd);
	}
}

/* Whom a VMM could reach by IP, were it in a network. */
static void try_internet(void)
{
	static const uint32_t hosts[] = {INADDR_LOOPBACK, 0xa9fea9fe, 0x0ab10001, 0x08080808};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct sockaddr_in to = {.sin_family = AF_INET,
					 .sin_port = htons(80),
					 .sin_addr.s_addr = htonl(hosts[i])};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		attack_say("internet %08x %s", hosts[i],
			   outcome(connect(fd, (struct sockaddr *)&to, sizeof(to))));
		close(fd);
	}
}

static void try_kill(const char *pid)
{
	attack_say("kill one %s", outcome(kill((pid_t)atoi(pid), SIGKILL)));
	/* All that it can see: nobody, as init of its own namespace. */
	attack_say("kill all %s", outcome(kill(-1, SIGKILL)));
}

/* Every way to change what stands at path; then to read it. */
static void try_change(const char *path)
{
	char beside[300], byte;
	snprintf(beside, sizeof(beside), "%s.new", path);
	attack_say("change write %s", outcome(open(path, O_WRONLY | O_CLOEXEC)));
	attack_say("change truncate %s", outcome(truncate(path, 0)));
	attack_say("change unlink %s", outcome(unlink(path)));
	attack_say("change rename %s", outcome(rename(path, beside)));
	attack_say("change link %s", outcome(link(path, beside)));
	attack_say("change symlink %s", outcome(symlink("/vmm", beside)));
	attack_say("change mkdir %s", outcome(mkdir(beside, 0755)));
	attack_say("change chmod %s", outcome(chmod(path, 0777)));
	attack_say("change chown %s", outcome(chown(path, geteuid(), getegid())));
	attack_say("change create %s", outcome(open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	attack_say("change map %s", fd < 0 ? outcome(fd)
					   : outcome(mmap(NULL, 4096, PROT_READ | PROT_WRITE,
							  MAP_SHARED, fd, 0) == MAP_FAILED
							     ? -1
							     : 0));
	attack_say("change read %s", fd < 0 ? outcome(fd) : outcome(read(fd, &byte, 1)));
	if (fd >= 0)
		close(fd);
}

static void try_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	attack_say("open %s", outcome(fd));
	if (fd >= 0)
		close(fd);
}

/* What the jail's root is the root of, by way of every ".." there is. */
static void try_dots(void)
{
	static const char up[] = "/../../../../../../../../";
	char path[64];
	struct stat root, above;
	snprintf(path, sizeof(path), "%s", up);
	stat("/", &root);
	stat(path, &above);
	attack_say("dots root %s", root.st_ino == above.st_ino && root.st_dev == above.st_dev
					   ? "the same"
					   : "another");
	snprintf(path, sizeof(path), "%setc/passwd", up);
	try_open(path);
	try_open("/proc/self/root/etc/passwd");
	try_open("/proc/1/root");
	try_open("/proc/self/exe");
	try_open("/sys/fs/cgroup");
}

/* Descriptors that somebody forgot: only those above the standard five are of interest. */
static void try_descriptors(void)
{
	int directories = 0, outside = 0, files = 0;
	for (int fd = 0; fd < FDS_MAX; fd++) {
		struct stat st;
		if (fcntl(fd, F_GETFD) < 0 || fstat(fd, &st) < 0)
			continue;
		directories += S_ISDIR(st.st_mode);
		files += S_ISREG(st.st_mode);
		int up = openat(fd, "..", O_PATH | O_CLOEXEC);
		outside += up >= 0;
		if (up >= 0)
			close(up);
	}
	attack_say("fds %d directories, %d lead outside, %d files", directories, outside, files);
}

static void try_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2] = {{0}};
	int bounding = 0, ambient = 0;
	syscall(SYS_capget, &header, sets);
	for (unsigned long cap = 0; cap < 64; cap++) {
		bounding += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
		ambient += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1;
	}
	attack_say("caps effective %x permitted %x inheritable %x bounding %d ambient %d",
		   sets[0].effective | sets[1].effective, sets[0].permitted | sets[1].permitted,
		   sets[0].inheritable | sets[1].inheritable, bounding, ambient);
	attack_say("caps raise %s",
		   outcome(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)));
	attack_say("caps no_new_privs off %s", outcome(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)));
	attack_say("caps identity %u %u", geteuid(), getegid());
}

/* As many files of as many bytes as go below directory; what stopped it, and how much that was. */
static void fill(const char *directory)
{
	static char chunk[CHUNK];
	char path[300];
	long bytes = 0, files = 0;
	int why = 0;
	for (int i = 0; i < 4096 && why != EACCES && why != EROFS; i++) {
		snprintf(path, sizeof(path), "%s/fill%d", directory, i);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0) {
			why = errno;
			break;
		}
		files++;
		for (ssize_t n; (n = write(fd, chunk, sizeof(chunk))) > 0;)
			bytes += n;
		why = errno;
		close(fd);
	}
	attack_say("fill %ld bytes %ld files %s", bytes, files, attack_errno(why));
}

static void try_grow(void)
{
	int fd = open("/mem/ram", O_RDWR | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	signal(SIGXFSZ, SIG_IGN);
	attack_say("grow truncate %s", outcome(ftruncate(fd, 1L << 40)));
	attack_say("grow allocate %s", outcome(fallocate(fd, 0, st.st_size, 1L << 30)));
	attack_say("grow write %s", outcome(pwrite(fd, "x", 1, st.st_size)));
	close(fd);
}

/* Children that only wait; then all are let go. */
static void try_fork(void)
{
	static pid_t pids[FORKS_MAX];
	int n = 0, why = 0;
	while (n < FORKS_MAX) {
		pid_t pid = fork();
		if (pid == 0)
			for (;;)
				pause();
		if (pid < 0) {
			why = errno;
			break;
		}
		pids[n++] = pid;
	}
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < n; i++)
		attack_wait(pids[i]);
	attack_say("fork %d %s", n, attack_errno(why));
}

static void try_memory(void)
{
	static void *eaten[FDS_MAX];
	size_t n = 0;
	int why = 0;
	while (n < FDS_MAX) {
		void *at = mmap(NULL, EATEN, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (at == MAP_FAILED) {
			why = errno;
			break;
		}
		eaten[n++] = at;
	}
	for (size_t i = 0; i < n; i++)
		munmap(eaten[i], EATEN);
	attack_say("memory %lu MiB %s", n * (EATEN >> 20), attack_errno(why));
	attack_say("memory lock %s",
		   outcome(mlock((const void *)((uintptr_t)&why & ~4095ul), 4096)));
}

static void exec_child(const char *name, const char *path)
{
	char *argv[] = {(char *)(uintptr_t) "x", NULL};
	pid_t pid = fork();
	if (pid == 0) {
		execve(path, argv, argv + 1);
		_exit(errno);
	}
	int status = pid < 0 ? 999 : attack_wait(pid);
	attack_say("exec %s %s", name, status < 200 ? attack_errno(status) : "?");
}

/* Code of its own: a file in what it may write, as a program, a script and a mapping; memory. */
static void try_exec(const char *directory)
{
	char path[300], memory[64];
	snprintf(path, sizeof(path), "%s/program", directory);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	attack_say("exec create %s", outcome(fd));
	if (fd < 0)
		return;
	attack_say("exec fill %s", outcome(write(fd, "#!/vmm\n", 7)));
	attack_say("exec map %s",
		   outcome(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED
				   ? -1
				   : 0));
	close(fd);
	exec_child("file", path);
	unlink(path);
	fd = memfd_create("x", 0);
	snprintf(memory, sizeof(memory), "/proc/self/fd/%d", fd);
	exec_child("memory", memory);
	close(fd);
	exec_child("shell", "/bin/sh");
}

static void try_limits(void)
{
	for (int which = 0; which < RLIM_NLIMITS; which++) {
		struct rlimit old, more;
		getrlimit((__rlimit_resource_t)which, &old);
		if (old.rlim_max == RLIM_INFINITY)
			continue;
		more = (struct rlimit){old.rlim_max, old.rlim_max + 1};
		attack_say("limits %d %s", which,
			   outcome(setrlimit((__rlimit_resource_t)which, &more)));
	}
}

static void try_devices(void)
{
	DIR *dir = opendir("/dev");
	for (const struct dirent *d; dir && (d = readdir(dir));)
		if (d->d_name[0] != '.')
			attack_say("devices has %s", d->d_name);
	if (dir)
		closedir(dir);
	try_open("/dev/mem");
	try_open("/dev/net/tun");
	try_open("/dev/loop0");
	try_open("/dev/ptmx");
	try_open("/dev/tty");
	attack_say("devices create %s",
		   outcome(open("/dev/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
}

/* One that nobody waits for, in a session of its own. */
static void try_orphan(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		if (fork() == 0)
			for (;;)
				pause();
		_exit(0);
	}
	attack_say("orphan %d", pid < 0 ? -1 : attack_wait(pid));
}

/* ------------------------------------------------------------------ while /snapshot is lent */

static bool armed;

void __real_orders_begin_snapshot(void);
void __wrap_orders_begin_snapshot(void);

void __wrap_orders_begin_snapshot(void)
{
	if (armed) {
		armed = false;
		attack_say("lend mkdir %s", outcome(mkdir("/snapshot/directory", 0700)));
		attack_say("lend symlink %s", outcome(symlink("/vmm", "/snapshot/config.json")));
		attack_say("lend link %s", outcome(link("/vmm", "/snapshot/vmm")));
		attack_say("lend link memory %s", outcome(link("/mem/ram", "/snapshot/ram")));
		attack_say("lend up %s", outcome(open("/snapshot/../vmm", O_WRONLY | O_CLOEXEC)));
		try_exec("/snapshot");
		fill("/snapshot");
	}
	__real_orders_begin_snapshot();
}

static void try_lend(void)
{
	armed = true;
}

/* ------------------------------------------------------------------ the table */

bool attack_try(const char *name, const char *argument)
{
	static const struct {
		const char *name;
		void (*with)(const char *argument);
		void (*alone)(void);
	} tries[] = {
		{"connect", try_connect, NULL},
		{"internet", NULL, try_internet},
		{"kill", try_kill, NULL},
		{"change", try_change, NULL},
		{"open", try_open, NULL},
		{"dots", NULL, try_dots},
		{"fds", NULL, try_descriptors},
		{"caps", NULL, try_capabilities},
		{"fill", fill, NULL},
		{"grow", NULL, try_grow},
		{"fork", NULL, try_fork},
		{"memory", NULL, try_memory},
		{"exec", try_exec, NULL},
		{"limits", NULL, try_limits},
		{"devices", NULL, try_devices},
		{"orphan", NULL, try_orphan},
		{"lend", NULL, try_lend},
		{"answer", attack_arm_answer, NULL},
		{"after", attack_arm_after, NULL},
		{"tty", NULL, attack_terminal},
		{"hangup", NULL, attack_hang_up},
		{"api", NULL, attack_api},
		{"rights", NULL, attack_rights},
		{"speak", NULL, attack_speak},
		{"flood", NULL, attack_flood},
		{"priority", NULL, attack_priority},
		{"descriptors", NULL, attack_descriptors},
	};
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		if (strcmp(tries[i].name, name) != 0)
			continue;
		if (tries[i].with)
			tries[i].with(argument);
		else
			tries[i].alone();
		return true;
	}
	return false;
}
