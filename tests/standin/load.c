// SPDX-License-Identifier: Apache-2.0
/* Memory that an OnDemand restore still has to bring in. The real one lets a thread copy every
 * page, holes included, while userfaultfd serves what the guest touches first; here the loop copies
 * a piece at a time, and what the guest is about to touch is copied before it does. */
#include "standin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIECE	(256UL << 10)
#define WAIT_MS 2 /* between pieces when an order makes it slow */

static struct {
	const struct region *regions[BOOT_REGIONS];
	off_t from[BOOT_REGIONS]; /* its place in the file */
	size_t done[BOOT_REGIONS];
	int count;
	int fd;
	bool running, gave_up;
	int64_t started, due;
} load = {.fd = -1};

bool load_allowed(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;
	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(device);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

void load_add(const struct region *region, off_t from)
{
	load.regions[load.count] = region;
	load.from[load.count] = from;
	load.done[load.count++] = 0;
}

void load_start(int fd)
{
	load.fd = fd;
	load.running = true;
	load.gave_up = false;
	load.started = load.due = report_now();
}

void load_stop(void)
{
	if (load.fd >= 0)
		close(load.fd);
	memset(&load, 0, sizeof(load));
	load.fd = -1;
}

bool load_running(void)
{
	return load.running;
}

/* Copies the next len bytes of region i. False with errno 0 when the file ends before. */
static bool load_piece(int i, size_t len)
{
	const struct region *region = load.regions[i];
	while (len) {
		size_t at = load.done[i];
		errno = 0;
		ssize_t n = pread(load.fd, region->map + at, len, load.from[i] + (off_t)at);
		if (n <= 0)
			return false;
		load.done[i] += (size_t)n;
		len -= (size_t)n;
	}
	return true;
}

static size_t load_left(int i)
{
	return load.regions[i]->size - load.done[i];
}

/* How much may have been copied by now, when an order says how long it all takes. */
static bool load_may_go_on(void)
{
	size_t total = 0, done = 0;
	int64_t whole = orders_load_ms(), passed = report_now() - load.started;
	for (int i = 0; i < load.count; i++) {
		total += load.regions[i]->size;
		done += load.done[i];
	}
	return passed >= whole || (double)done * (double)whole < (double)total * (double)passed;
}

int64_t load_timeout(void)
{
	int64_t now = report_now();
	if (!load.running || load.gave_up)
		return -1;
	return load.due > now ? load.due - now : 0;
}

void load_work(void)
{
	static const char why[] = "failed to fill whole buffer";
	if (load_timeout() != 0)
		return;
	if (!load_may_go_on()) {
		load.due = report_now() + WAIT_MS;
		return;
	}
	for (int i = 0; i < load.count; i++) {
		size_t left = load_left(i);
		if (!left)
			continue;
		if (load_piece(i, left < PIECE ? left : PIECE))
			return;
		load.gave_up = true;
		report_log("uffd-handler", "WARN", "vmm/src/memory_manager.rs:1378",
			   "UFFD prefault: source error at %p: %s",
			   (void *)(load.regions[i]->map + load.done[i]), why);
		report_log("uffd-handler", "WARN", "vmm/src/memory_manager.rs:1386",
			   "UFFD prefault: abandoning background prefault after error");
		return;
	}
	load_stop();
}

void load_need(size_t end)
{
	if (!load.running)
		return;
	for (int i = 0; i < load.count; i++) {
		if (load.regions[i]->map != guest_memory() || load.done[i] >= end)
			continue;
		if (load_piece(i, end - load.done[i]))
			continue;
		report_log("uffd-handler", "ERROR", "vmm/src/memory_manager.rs:1090",
			   "UFFD handler exited with error: failed to fill whole buffer");
		report_log("vmm", "ERROR", "vmm/src/memory_manager.rs:1146",
			   "UFFD handler terminated with error: failed to fill whole buffer");
		vm_exit();
	}
}
