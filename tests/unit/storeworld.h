// SPDX-License-Identifier: Apache-2.0
/*
 * Of daemonworld.h's one sandbox: what lies on disk for it, and ends of its VMM that are to be
 * recorded.
 */
#ifndef TESTS_UNIT_STOREWORLD_H
#define TESTS_UNIT_STOREWORLD_H

#include "daemonworld.h"

#include "snapshot.h"
#include "store_record.h"

/* Lets the loop run while the writer is held up. */
static inline void turns(void)
{
	for (int i = 0; i < 20; i++) {
		turn();
		usleep(500);
	}
}

static inline bool lies(const char *name)
{
	return faccessat(d.host.store_dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "a b": the names of all that is there, in order. */
static inline void expect_store(const char *want)
{
	char all[1024] = "";
	struct dirent **list;
	int n = scandir(store_path, &list, NULL, alphasort);
	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
			snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
				 all[0] ? " " : "", list[i]->d_name);
		free(list[i]);
	}
	free(list);
	assert_string_equal(all, want);
}

/* The record that lies there; its spec is to be freed. */
static inline struct store_record record(const char *name)
{
	struct store_record r;
	char bytes[8192];
	int fd = openat(d.host.store_dir, name, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ssize_t n = read(fd, bytes, sizeof(bytes));
	close(fd);
	if (store_record_decode(bytes, (size_t)n, "alice:box", &r, &e) < 0)
		fail_msg("%s: %s", name, e.text);
	return r;
}

static inline enum state recorded(void)
{
	struct store_record r = record("alice:box.json");
	spec_free(r.spec);
	return r.state;
}

static inline void exits(enum msg_cause cause)
{
	const struct msg_exit ended = {.cause = cause, .at_real_us = 1, .signal = 9};
	assert_int_equal(chan_send_exit(&shim, 0, &ended, &e), 0);
	turns();
}

static inline void tell_console(void)
{
	static const struct msg_console_data nothing = {.eof = 1};
	uint32_t id = expect(&shim, MSG_CONSOLE_READ);
	assert_int_equal(chan_send_console_data(&shim, id, &nothing, &e), 0);
	turns();
}

/* Up to the set that is safe and the VMM that has ended; the writer may be held up. */
static inline void hibernates(struct told *told)
{
	struct msg_snapshotted said = {0};
	assert_int_equal(snapshot_hibernate(box(), on_done, told, &e), 0);
	uint32_t id = expect(&shim, MSG_SNAPSHOT);
	said.set = (struct msg_set){.format = MSG_SET_FORMAT,
				    .content = MSG_SET_RAM,
				    .key = "alice:box",
				    .parent = "alice:box",
				    .created_real_us = 77,
				    .allocated_bytes = 4096};
	fill_guest(&said.set.spec, "root");
	said.set.spec.disks[0].made = MSG_DISK_COPIED;
	assert_int_equal(chan_send_snapshotted(&shim, id, &said, &e), 0);
	exits(MSG_CAUSE_HIBERNATED);
	tell_console();
	expect(&shim, MSG_EXIT_ACK);
	const struct msg_gone gone = {.key = "alice:box", .clear = 1};
	chan_close(&shim);
	turns();
	assert_int_equal(chan_send_gone(&spawner, 0, &gone, &e), 0);
	turns();
}

#endif
