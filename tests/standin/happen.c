// SPDX-License-Identifier: Apache-2.0
#include "standin.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HAPPEN_MAX 32

enum what {
	WHAT_POWEROFF,
	WHAT_RESET,
	WHAT_PANIC,
	WHAT_EXIT,
	WHAT_SIGNAL,
	WHAT_VCPUERROR,
	WHAT_SECCOMP,
	WHAT_STDERRFLOOD,
	WHAT_EVENTFLOOD,
	WHAT_STDOUTFLOOD,
	WHAT_CLOSESTDOUT,
};

static const struct {
	const char *name;
	enum what what;
	bool number;
} names[] = {
	{"poweroff", WHAT_POWEROFF, false},
	{"reset", WHAT_RESET, false},
	{"panic", WHAT_PANIC, false},
	{"exit", WHAT_EXIT, true},
	{"signal", WHAT_SIGNAL, true},
	{"vcpuerror", WHAT_VCPUERROR, false},
	{"seccomp", WHAT_SECCOMP, false},
	{"stderrflood", WHAT_STDERRFLOOD, true},
	{"eventflood", WHAT_EVENTFLOOD, true},
	{"stdoutflood", WHAT_STDOUTFLOOD, true},
	{"closestdout", WHAT_CLOSESTDOUT, false},
};

struct happening {
	int64_t after; /* from the start, or from vm.boot */
	int64_t due;   /* -1: its clock does not run yet */
	enum what what;
	long number;
	bool from_cmdline;
};

static struct happening happenings[HAPPEN_MAX];
static int happen_count;

bool happen_add(int64_t ms, const char *what, bool from_cmdline)
{
	const char *argument = strchr(what, ':');
	size_t len = argument ? (size_t)(argument - what) : strlen(what);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strlen(names[i].name) != len || memcmp(names[i].name, what, len) != 0)
			continue;
		char *end = NULL;
		long number = argument ? strtol(argument + 1, &end, 10) : 0;
		if (names[i].number != !!argument || (end && *end) || happen_count == HAPPEN_MAX)
			return false;
		happenings[happen_count++] = (struct happening){.after = ms,
								.due = from_cmdline ? -1 : ms,
								.what = names[i].what,
								.number = number,
								.from_cmdline = from_cmdline};
		return true;
	}
	return false;
}

void happen_forget_cmdline(void)
{
	int kept = 0;
	for (int i = 0; i < happen_count; i++) {
		if (!happenings[i].from_cmdline)
			happenings[kept++] = happenings[i];
	}
	happen_count = kept;
}

void happen_booted(void)
{
	for (int i = 0; i < happen_count; i++) {
		if (happenings[i].due < 0)
			happenings[i].due = report_now() + happenings[i].after;
	}
}

static bool happen_is_guest(const struct happening *h)
{
	return h->what == WHAT_POWEROFF || h->what == WHAT_RESET || h->what == WHAT_PANIC ||
	       h->what == WHAT_VCPUERROR;
}

int64_t happen_timeout(bool guest_runs)
{
	int64_t now = report_now(), least = -1;
	for (int i = 0; i < happen_count; i++) {
		const struct happening *h = &happenings[i];
		if (h->due < 0 || (happen_is_guest(h) && !guest_runs))
			continue;
		int64_t left = h->due > now ? h->due - now : 0;
		if (least < 0 || left < least)
			least = left;
	}
	return least;
}

/* What the real one prints before a filtered system call ends it. Its handler then raises SIGSYS;
 * as pid 1 that does nothing and abort() faults. */
_Noreturn static void happen_seccomp(void)
{
	static const char text[] =
		"\n==== Possible seccomp violation ====\n"
		"Syscall number: 41 (arch: 0xc000003e, tid: 1, thread: vmm)\n"
		"Try running with `strace -ff` to identify the cause and open an issue: "
		"https://github.com/cloud-hypervisor/cloud-hypervisor/issues/new\n";
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		errno = 0; /* nobody reads: it dies all the same */
	orders_die(SIGSYS);
}

static void happen_flood(const struct happening *h)
{
	for (long n = 1; n <= h->number; n++) {
		if (h->what == WHAT_STDERRFLOOD)
			report_log("vcpu0", "WARN", "devices/src/acpi.rs:57",
				   "Invalid sized write of ACPI shutdown device: 2");
		else if (h->what == WHAT_EVENTFLOOD)
			report_event("virtio-device", "activated", "id", "flood");
		else
			guest_print("FLOOD %ld of the console, by order of the test\n", n);
	}
}

static void happen_do(const struct happening *h)
{
	switch (h->what) {
	case WHAT_POWEROFF:
		guest_ask(GUEST_POWEROFF);
		break;
	case WHAT_RESET:
		guest_ask(GUEST_RESET);
		break;
	case WHAT_PANIC:
		guest_panic();
		break;
	case WHAT_EXIT:
		_exit((int)h->number);
	case WHAT_SIGNAL:
		orders_die((int)h->number);
	case WHAT_VCPUERROR:
		report_log("vcpu0", "ERROR", "vmm/src/cpu.rs:1460",
			   "VCPU generated error: VcpuRun(Failed to run vcpu: VM exit "
			   "not supported: ordered by the test)");
		vm_exit();
	case WHAT_SECCOMP:
		happen_seccomp();
	case WHAT_CLOSESTDOUT:
		guest_close_stdout();
		break;
	case WHAT_STDERRFLOOD:
	case WHAT_EVENTFLOOD:
	case WHAT_STDOUTFLOOD:
		happen_flood(h);
		break;
	}
}

void happen_work(bool guest_runs)
{
	for (int i = 0; i < happen_count; i++) {
		struct happening h = happenings[i];
		if (h.due < 0 || h.due > report_now() || (happen_is_guest(&h) && !guest_runs))
			continue;
		happenings[i] = happenings[--happen_count]; /* each happens once */
		i--;
		happen_do(&h);
	}
}
