// SPDX-License-Identifier: Apache-2.0
/* What a VMM may do with what it was given: its terminal, its pipes, its sockets, its user. */
#include "attack.h"

#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define RIGHTS_MAX 253 /* SCM_MAX_FD of the kernel */

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

static const char *outcome(long result)
{
	return attack_errno(result < 0 ? errno : 0);
}

/* The lowest descriptor that is a socket of this type; listening or not. */
static int find_socket(int type, int listening)
{
	for (int fd = 0; fd < 1024; fd++) {
		int is = 0, accepts = 0;
		socklen_t len = sizeof(int);
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &len) == 0 && is == type &&
		    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 &&
		    accepts == listening)
			return fd;
	}
	return -1;
}

/* ------------------------------------------------------------------ the terminal */

void attack_terminal(void)
{
	struct termios modes;
	struct winsize size = {.ws_row = 65535, .ws_col = 65535};
	char key = 'x';
	int on = 1;
	attack_say("tty control %s", outcome(ioctl(STDIN_FILENO, TIOCSCTTY, 1)));
	attack_say("tty own %s", outcome(open("/dev/tty", O_RDWR | O_CLOEXEC)));
	attack_say("tty other end %s", outcome(ioctl(STDIN_FILENO, TIOCGPTPEER, O_RDWR)));
	attack_say("tty packets %s", outcome(ioctl(STDIN_FILENO, TIOCPKT, &on)));
	attack_say("tty lock %s", outcome(ioctl(STDIN_FILENO, TIOCSPTLCK, &on)));
	attack_say("tty exclusive %s", outcome(ioctl(STDIN_FILENO, TIOCEXCL)));
	attack_say("tty size %s", outcome(ioctl(STDIN_FILENO, TIOCSWINSZ, &size)));
	attack_say("tty hangup %s", outcome(ioctl(STDIN_FILENO, TIOCVHANGUP)));
	attack_say("tty write %s", outcome(write(STDIN_FILENO, &key, 1)));
	tcgetattr(STDIN_FILENO, &modes);
	modes.c_lflag |= ECHO | ISIG | TOSTOP | IEXTEN;
	modes.c_oflag |= OPOST | ONLCR;
	attack_say("tty modes %s", outcome(tcsetattr(STDIN_FILENO, TCSANOW, &modes)));
	/* Nobody reads its other end, so this fills it; and every key is echoed into it. */
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	static const char block[4096];
	long most = 0;
	for (ssize_t n; most < 8 << 20 && (n = write(fd, block, sizeof(block))) > 0;)
		most += n;
	attack_say("tty fill %s", most < 8 << 20 ? outcome(-1) : "endless");
	fcntl(fd, F_SETFL, flags);
	close(fd);
	attack_say("tty stop %s", outcome(tcflow(STDIN_FILENO, TCOOFF)));
}

/* From here on the terminal has no other end. */
void attack_hang_up(void)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	attack_say("hangup %s", outcome(dup2(null, STDIN_FILENO)));
}

/* ------------------------------------------------------------------ the sockets */

/* The listening API socket is its own; nobody else must come to it, nor it to anybody by it. */
void attack_api(void)
{
	struct sockaddr_un name = {0};
	socklen_t len = sizeof(name);
	int fd = find_socket(SOCK_STREAM, 1), flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	getsockname(fd, (struct sockaddr *)&name, &len);
	attack_say("api name %s", name.sun_path);
	int again = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	attack_say("api connect %s", outcome(connect(again, (struct sockaddr *)&name, len)));
	attack_say("api listen %s", outcome(listen(fd, 4096)));
	attack_say("api accept %s", outcome(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)));
	fcntl(fd, F_SETFL, flags);
	close(again);
	/* What an abstract name is worth that the kernel picked: nobody else's namespace has it. */
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	attack_say("api autobind %s",
		   outcome(bind(other, (struct sockaddr *)&any, sizeof(sa_family_t))));
	len = sizeof(any);
	getsockname(other, (struct sockaddr *)&any, &len);
	attack_say("api abstract %s", len > 3 ? any.sun_path + 1 : "none");
	listen(other, 1); /* kept open */
}

/* Descriptors on the event channel, which nobody there takes. */
void attack_rights(void)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * RIGHTS_MAX)];
		struct cmsghdr align;
	} control = {0};
	char text[] = "{\"source\":\"vm\",\"event\":\"rights\"}";
	struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * RIGHTS_MAX);
	for (int i = 0; i < RIGHTS_MAX; i++)
		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){0}, sizeof(int));
	int fd = find_socket(SOCK_SEQPACKET, 0), sent = 0;
	for (int i = 0; i < 50; i++)
		sent += sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
	attack_say("rights %s", sent ? "OK" : "none");
}

/* ------------------------------------------------------------------ what is read of it */

/* Lines and records that mean to reach a terminal, a log or a parser behind the shim. */
void attack_speak(void)
{
	static const char escapes[] =
		"cloud-hypervisor: 1.0s: <x> ERROR:a -- \x1b[2J\x1b]0;owned\x07 \x9b"
		"31m\x7f \xff\xfe end\n";
	static const char *const lines[] = {
		escapes,
		"Error: \x1b[31mfake\r\n<3>kernel: fake priority\r\rcloisterd: notice: fake\n",
		"cloud-hypervisor: panicked at %s%s%n%n%p\n",
	};
	static const char *const records[] = {
		"{\"source\":\"\\u001b[2J\",\"event\":\"\x1b[31m\\n\\r\"}",
		"{\"source\":\"vm\",\"event\":{\"event\":[[[[]]]]}}",
		"{\"source\":1e999,\"event\":null}",
		"[]",
		"{\"source\":\"vm\"",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (write(STDERR_FILENO, lines[i], strlen(lines[i])) < 0)
			attack_say("speak %s", outcome(-1));
	/* One without end. */
	static char block[4096];
	memset(block, 'e', sizeof(block));
	for (int i = 0; i < 64; i++)
		if (write(STDERR_FILENO, block, sizeof(block)) < 0 && errno != EAGAIN)
			attack_say("speak %s", outcome(-1));
	int fd = find_socket(SOCK_SEQPACKET, 0);
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		send(fd, records[i], strlen(records[i]), MSG_NOSIGNAL);
	/* Brackets far deeper than any parser should follow; a record larger than any. */
	memset(block, '[', sizeof(block));
	send(fd, block, sizeof(block), MSG_NOSIGNAL);
	static char large[100000];
	memset(large, '{', sizeof(large));
	send(fd, large, sizeof(large), MSG_NOSIGNAL);
	attack_say("speak OK");
}

/* Children that write as fast as they are let: one for each stream. */
void attack_flood(void)
{
	int event = find_socket(SOCK_SEQPACKET, 0);
	static char text[4096];
	memset(text, '\x1b', sizeof(text));
	memcpy(text, "cloud-hypervisor: 1.0s: <x> ERROR:a -- flood ", 45);
	for (size_t i = 63; i < sizeof(text); i += 64)
		text[i] = '\n';
	for (int which = 0; which < 3; which++) {
		if (fork() != 0)
			continue;
		for (;;) {
			if (which == 0)
				send(event, "{\"source\":\"vm\",\"event\":\"flood\"}", 32,
				     MSG_NOSIGNAL);
			else if (write(which, text, sizeof(text)) < 0 && errno == EPIPE)
				_exit(0);
		}
	}
	attack_say("flood OK");
}

/* ------------------------------------------------------------------ its user */

/* What became of a call that was tried in a child: the filter may end who makes it. */
static const char *fate(int status)
{
	return status == 1000 + SIGSYS ? "SIGSYS" : attack_errno(status);
}

static int be_nice(void)
{
	return setpriority(PRIO_PROCESS, 0, -20);
}

static int slow_root(void)
{
	return setpriority(PRIO_USER, 65534, 19);
}

static int be_fifo(void)
{
	struct sched_param realtime = {.sched_priority = 1};
	return sched_setscheduler(0, SCHED_FIFO, &realtime);
}

static int be_deadline(void)
{
	/* struct sched_attr: size, policy, flags, nice, priority, and three times of 64 bits. */
	const unsigned deadline[12] = {48, SCHED_DEADLINE, 0, 0,     0, 0, 100000,
				       0,  900000,	   0, 900000};
	return (int)syscall(SYS_sched_setattr, 0, deadline, 0);
}

static int be_first_on_disk(void)
{
	/* ioprio_set(2): this process, the real-time class. */
	return (int)syscall(SYS_ioprio_set, 1, 0, 1 << 13);
}

static int limit_another(void)
{
	struct rlimit limit = {0, 0};
	return (int)syscall(SYS_prlimit64, 100000, RLIMIT_CPU, &limit, NULL);
}

static int move_another(void)
{
	return (int)syscall(SYS_sched_setaffinity, 100000, sizeof(long), &(long){1});
}

static int be_spared(void)
{
	return open("/proc/self/oom_score_adj", O_WRONLY);
}

static int lock_memory(void)
{
	return mlockall(MCL_CURRENT | MCL_FUTURE);
}

static int take_huge_pages(void)
{
	void *at = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	return at == MAP_FAILED ? -1 : 0;
}

void attack_priority(void)
{
	static const struct {
		const char *name;
		int (*call)(void);
	} calls[] = {
		{"nice", be_nice},	    {"root", slow_root},      {"fifo", be_fifo},
		{"deadline", be_deadline},  {"io", be_first_on_disk}, {"other", limit_another},
		{"affinity", move_another}, {"oom", be_spared},	      {"lock", lock_memory},
		{"huge", take_huge_pages},
	};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int pid = fork();
		if (pid == 0)
			_exit(calls[i].call() < 0 ? errno : 0);
		attack_say("priority %s %s", calls[i].name, pid < 0 ? "?" : fate(attack_wait(pid)));
	}
}

static int open_null(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int open_inotify(void)
{
	return inotify_init1(IN_CLOEXEC);
}

static int open_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int open_pipe(void)
{
	int ends[2];
	return pipe(ends);
}

static int open_memory(void)
{
	return memfd_create("x", MFD_CLOEXEC);
}

static int open_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* In a child, which takes all it got away with it. */
static void use_up(const char *name, int (*open_one)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		int n = 0;
		while (n < 100000 && open_one() >= 0)
			n++;
		_exit(n < 1000 ? errno : 0);
	}
	attack_say("descriptors %s %s", name, fate(attack_wait(pid)));
}

void attack_descriptors(void)
{
	use_up("file", open_null);
	use_up("inotify", open_inotify);
	use_up("epoll", open_epoll);
	use_up("pipe", open_pipe);
	use_up("memory", open_memory);
	use_up("socket", open_socket);
	signal(SIGXFSZ, SIG_IGN);
	attack_say("descriptors large %s", outcome(ftruncate(open_memory(), 1l << 40)));
}
