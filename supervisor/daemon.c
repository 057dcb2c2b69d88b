// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"

#include "adopt.h"
#include "check.h"
#include "control.h"
#include "drop.h"
#include "filter.h"
#include "landlock.h"
#include "log.h"
#include "notify.h"
#include "sandbox.h"
#include "spawner.h"
#include "stop.h"
#include "store.h"
#include "store_load.h"
#include "survey.h"
#include "teardown.h"
#include "util.h"
#include "vmm_version.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define FLUSH_MS   5000 /* for what is not in the store yet, at the end */

struct arguments {
	const char *config;
	bool check;
	enum log_level level;
};

static const char usage[] =
	"usage: cloisterd --config FILE [--check] [--log-level error|warning|notice|info|debug]\n"
	"       cloisterd --version | --help\n"
	"Runs microVM sandboxes for the tenants of this host; must be started as root.\n"
	"--check validates the file and the host, changes nothing, and exits.\n";

/* Returns -1 to go on, or an exit status. */
static int read_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"log-level", required_argument, NULL, 'l'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	*a = (struct arguments){.level = LOG_LEVEL_INFO};
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		int level;
		switch (option) {
		case 'c':
			a->config = optarg;
			break;
		case 'k':
			a->check = true;
			break;
		case 'l':
			level = log_level_from_name(optarg);
			if (level < 0) {
				fprintf(stderr, "cloisterd: --log-level: \"%s\" is no level\n%s",
					optarg, usage);
				return EXIT_USAGE;
			}
			a->level = (enum log_level)level;
			break;
		case 'v':
			puts("cloisterd " CLOISTER_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc || !a->config) {
		fprintf(stderr, "cloisterd: %s\n%s",
			optind < argc ? "there are too many arguments" : "--config is missing",
			usage);
		return EXIT_USAGE;
	}
	return -1;
}

void daemon_stop(struct daemon *d, int exit_code)
{
	d->stopping = true;
	d->exit_code = exit_code;
	event_base_loopbreak(d->base);
}

uint32_t daemon_deadline(const struct daemon *d, enum policy_deadline which)
{
	return d->config.policy.deadline_ms[which];
}

static void on_libevent_log(int severity, const char *text)
{
	enum log_level level = severity == EVENT_LOG_ERR    ? LOG_LEVEL_ERROR
			       : severity == EVENT_LOG_WARN ? LOG_LEVEL_WARNING
							    : LOG_LEVEL_DEBUG;
	log_write(level, "libevent: %s", text);
}

static void on_libevent_fatal(int code)
{
	log_error("libevent gives up (%d): cloisterd ends, the VMs run on", code);
	_exit(1);
}

/* ------------------------------------------------------------------ start, after the drop */

static void on_adopted(struct daemon *d)
{
	struct err e;
	adopt_sleeping(d);
	store_load_settle(d);
	if (control_open(d, &e) < 0) {
		log_error("%s", e.text);
		daemon_stop(d, 1);
		return;
	}
	log_notice("ready: %s/control.sock, Cloud Hypervisor %s, %zu sandboxes adopted",
		   d->config.policy.run_dir, d->vmm.vmm_version, d->registry.count);
	notify_send("READY=1");
}

static void on_spawner_ready(struct daemon *d, const struct err *why)
{
	const struct msg_host *vmm = &d->vmm;
	struct err e;
	if (why) {
		log_error("spawner: %s", why->text);
	} else if (vmm_version_check(vmm->vmm_version, vmm->vmm_major, vmm->vmm_minor, &e) < 0) {
		log_error("%s", e.text);
	} else {
		if (!vmm_version_has_ondemand(vmm->vmm_major))
			log_notice("Cloud Hypervisor %s: memory cannot be restored on demand "
				   "(needs 53)",
				   vmm->vmm_version);
		if (adopt_all(d, on_adopted, &e) == 0)
			return;
		log_error("%s", e.text);
	}
	daemon_stop(d, 1);
}

static int run_loop(struct daemon *d, int link_fd, pid_t spawner, struct err *e)
{
	event_set_log_callback(on_libevent_log);
	event_set_fatal_callback(on_libevent_fatal);
	d->base = event_base_new();
	/* Two priorities: admission of connections (control.c) goes before all else. */
	if (d->base)
		event_base_priority_init(d->base, 2);
	struct stop *stop = d->base ? stop_open(d, e) : NULL;
	if (!stop) {
		fd_close(&link_fd);
		return err_errno(e, ENOMEM, "event loop");
	}
	registry_open(&d->registry);
	template_open(&d->templates);
	template_open(&d->sleeping);
	template_open(&d->left);
	if (events_open(&d->events, d->config.event_backlog, e) < 0 ||
	    pool_open(&d->pool, &d->config.policy, e) < 0 ||
	    !(d->store = store_open(d, d->host.store_dir, e)) ||
	    /* The store's thread is the last; what is read from here on others had a hand in. */
	    filter_load(FILTER_SUPERVISOR, e) < 0 || store_load_open(d, d->host.store_dir, e) < 0) {
		fd_close(&link_fd);
		return -1;
	}
	d->spawner = spawner_open(d, link_fd, spawner, on_spawner_ready, e);
	if (!d->spawner)
		return -1;
	event_base_dispatch(d->base);
	stop_answer(d);
	store_flush(d->store, FLUSH_MS);
	/* Their connections end. */
	control_close(d->control);
	adopt_close(d);
	survey_close(d);
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d->registry.list));)
		teardown_forget(sb);
	store_close(d->store);
	store_load_close(d);
	spawner_close(d->spawner);
	registry_close(&d->registry);
	template_close(&d->templates);
	template_close(&d->sleeping);
	template_close(&d->left);
	pool_close(&d->pool);
	events_close(&d->events);
	drain_close(d);
	stop_close(stop);
	event_base_free(d->base);
	return 0;
}

/* ------------------------------------------------------------------ start, as root */

static void raise_fd_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("the limit of open files stays low: %s", strerrordesc_np(errno));
}

static int start_as_root(struct daemon *d, int *link_fd, pid_t *spawner, struct err *e)
{
	struct policy *p = &d->config.policy;
	if (chdir("/") < 0)
		return err_errno(e, errno, "change to /");
	/* Now: it may not ask any more when it has narrowed itself down. */
	d->landlock_abi = landlock_abi();
	if (d->landlock_abi)
		log_info("Landlock ABI %u", d->landlock_abi);
	else
		log_warning("this kernel has no Landlock, or it is switched off (lsm=): VMMs and "
			    "cloisterd run without it");
	CLEANUP_FD int shim = host_open_shim(e);
	if (shim < 0 || host_prepare(&d->host, &d->config, e) < 0)
		return -1;
	CLEANUP_FD int policy = policy_seal(p, e);
	if (policy < 0 || host_bind_control(&d->host, p, e) < 0 ||
	    spawner_exec(&d->host, "spawn", shim, policy, spawner, link_fd, e) < 0)
		return -1;
	/* The spawner's copies hold the locks; ours would let a taken-over supervisor undo them. */
	for (int i = 0; i < HOST_LOCK_COUNT; i++)
		fd_close(&d->host.locks[i]);
	/* After the fork: the spawner keeps the limits that root gave. */
	raise_fd_limit();
	if (drop_root(p, e) < 0) {
		err_prefix(e, "the drop of root failed");
		fd_close(link_fd);
		return -1;
	}
	if (drop_access(&d->host, e) < 0) {
		fd_close(link_fd);
		return -1;
	}
	return 0;
}

static void log_report(char *report)
{
	char *save = NULL;
	for (char *line = strtok_r(report, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		log_error("%s", line);
	free(report);
}

/* Descriptors 0 to 2 are open in every sane start; in the others nothing else may get them. */
static int fill_standard_fds(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return -1;
	return close(fd);
}

int daemon_main(int argc, char **argv)
{
	static struct daemon d;
	struct arguments a;
	struct err e;
	char *report = NULL;
	int link_fd = -1;
	pid_t spawner;
	if (fill_standard_fds() < 0)
		return 1;
	int code = read_arguments(argc, argv, &a);
	if (code >= 0)
		return code;
	log_open("cloisterd", a.level);
	if (geteuid() != 0) {
		log_error("cloisterd must be started as root (it drops root by itself)");
		return 1;
	}
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	d.started_us = clock_us();
	d.started_real_us = clock_real_us();
	host_init(&d.host);
	code = 1;
	if (config_load(&d.config, a.config, &report) < 0) {
		if (report)
			log_report(report);
	} else if (a.check) {
		code = check_host(&d.config);
	} else if (start_as_root(&d, &link_fd, &spawner, &e) < 0 ||
		   run_loop(&d, link_fd, spawner, &e) < 0) {
		log_error("%s", e.text);
	} else {
		code = d.exit_code;
	}
	host_close(&d.host);
	config_free(&d.config);
	return code;
}
