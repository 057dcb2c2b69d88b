// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* clap's words and status for a command line that makes no sense. */
_Noreturn static void main_usage(const char *error, const char *detail)
{
	fprintf(stderr, "error: %s%s%s\n\nFor more information, try '--help'.\n", error, detail,
		*detail ? "' found" : "");
	_exit(2);
}

/* fd of "fd=N", or -1 when text is not of that form. */
static int main_fd(const char *option, const char *text)
{
	char *end;
	if (strncmp(text, "fd=", 3) != 0)
		return -1;
	errno = 0;
	long fd = strtol(text + 3, &end, 10);
	if (!errno && end != text + 3 && !*end && fd >= 0 && fd < 1 << 20)
		return (int)fd;
	char *what = bytes_text("Error parsing %s", option);
	const char *const causes[] = {what, "invalid digit found in string", NULL};
	report_fatal(causes);
}

_Noreturn static void main_fail(const char *what)
{
	char *os = bytes_text("%s (os error %d)", strerror(errno), errno);
	const char *const causes[] = {what, os, NULL};
	report_fatal(causes);
}

/* As the real one: a lock file for ever, a stale socket removed under it. */
static int main_bind(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char *lock_path = bytes_text("%s.lock", path);
	int lock_fd = open(lock_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (lock_fd < 0 || fcntl(lock_fd, F_OFD_SETLK, &lock) < 0)
		main_fail("Error starting the API server: the socket is in use");
	free(lock_path);
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 128) < 0)
		main_fail("Error starting the API server");
	return fd;
}

struct options {
	const char *api, *events, *seccomp;
	bool version;
};

static void main_options(int argc, char **argv, struct options *o)
{
	const struct {
		const char *name;
		const char **value;
	} known[] = {{"--api-socket", &o->api},
		     {"--event-monitor", &o->events},
		     {"--seccomp", &o->seccomp}};
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value = NULL;
		const char **slot = NULL;
		if (!strcmp(arg, "--version") || !strcmp(arg, "-V")) {
			o->version = true;
			continue;
		}
		if (arg[0] == '-' && arg[1] == 'v' && strspn(arg + 1, "v") == strlen(arg + 1))
			continue;
		for (size_t k = 0; k < 3; k++) {
			size_t len = strlen(known[k].name);
			if (strncmp(arg, known[k].name, len) != 0)
				continue;
			if (arg[len] == '=')
				value = arg + len + 1;
			else if (arg[len])
				continue;
			slot = known[k].value;
		}
		if (!slot)
			main_usage("unexpected argument '", arg);
		if (!value && ++i >= argc)
			main_usage("a value is required but none was supplied", "");
		if (*slot)
			main_usage("an argument cannot be used multiple times", "");
		*slot = value ? value : argv[i];
	}
	if (o->seccomp && strcmp(o->seccomp, "true") && strcmp(o->seccomp, "false") &&
	    strcmp(o->seccomp, "log") && strcmp(o->seccomp, "errno"))
		main_usage("invalid value for '--seccomp <seccomp>'", "");
	if (!o->version && !o->api)
		main_usage("no payload and no API socket", "");
}

static void main_open_events(const char *text)
{
	const char *path = strncmp(text, "path=", 5) ? NULL : text + 5;
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
		      : main_fd("--event-monitor", text);
	if (fd < 0 && !path) {
		const char *const causes[] = {"Error parsing --event-monitor", "unknown option",
					      NULL};
		report_fatal(causes);
	}
	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		main_fail("Failed to create event monitor");
	report_events_to(fd);
}

static int main_open_api(const char *text)
{
	int fd = main_fd("--api-socket", text);
	if (fd < 0)
		return main_bind(strncmp(text, "path=", 5) ? text : text + 5);
	if (fcntl(fd, F_GETFD) < 0)
		main_fail("Error creating the API server");
	return fd;
}

/* The real one cannot even start without it; a node whose driver is missing will do here, so that
 * the tests run on hosts without KVM. */
static void main_open_kvm(void)
{
	if (open("/dev/kvm", O_RDWR | O_CLOEXEC) >= 0 || errno == ENXIO || errno == ENODEV)
		return;
	main_fail("Failed to open hypervisor interface (is hypervisor interface available?)");
}

/* Does nothing: the tests look at all threads of a VMM. */
static void *main_idle(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "vmm");
	for (;;)
		pause();
	return NULL;
}

static int main_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int64_t main_least(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

_Noreturn static void main_loop(int signals)
{
	struct pollfd fds[STANDIN_CONNECTIONS + STANDIN_VSOCK_STREAMS + 5];
	for (;;) {
		bool runs = guest_runs();
		nfds_t http = conn_poll(fds), n = http;
		/* a request that is being worked at delays signals too */
		if (!conn_busy())
			fds[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
		if (guest_wants_input())
			fds[n++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
		n += vsock_poll(fds + n);
		n += net_poll(fds + n);
		int64_t wait = main_least(guest_timeout(), happen_timeout(runs));
		wait = main_least(wait, conn_timeout());
		wait = main_least(wait, main_least(load_timeout(), snapshot_timeout()));
		poll(fds, n, wait > 3600000 ? 3600000 : (int)wait);
		for (nfds_t i = http; i < n; i++) {
			if (fds[i].fd == signals && fds[i].revents)
				vm_exit();
		}
		conn_ready(fds, http);
		conn_work();
		if (api_shut_down())
			vm_exit();
		load_work();
		snapshot_work();
		guest_input();
		vsock_work();
		net_work();
		guest_tick();
		happen_work(runs);
		vm_serve_guest();
	}
}

int main(int argc, char **argv)
{
	struct options options = {0};
	report_start();
	api_start();
	main_options(argc, argv, &options);
	if (options.version) {
		if (getenv("STANDIN_VERSION_HANG"))
			main_idle(NULL);
		api_print_version();
		return 0;
	}
	umask(077);
	int signals = main_signals();
	if (options.events)
		main_open_events(options.events);
	main_open_kvm();
	char *bad = orders_read(getenv("STANDIN_ORDERS") ? getenv("STANDIN_ORDERS") : "", false);
	if (bad) {
		const char *const causes[] = {"no such order", bad, NULL};
		report_fatal(causes);
	}
	pthread_t thread;
	if (signals < 0 || pthread_create(&thread, NULL, main_idle, NULL) != 0)
		main_fail("Error spawning a thread");
	report_event("vmm", "starting", NULL, NULL);
	conn_start(main_open_api(options.api));
	main_loop(signals);
}
