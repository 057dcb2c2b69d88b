// SPDX-License-Identifier: Apache-2.0
/*
 * The supervisor's side of its links: records that a shim or a spawner sends it, one after another,
 * as answers to what it asked, again, out of turn. Each step is a type, an id, and patches over an
 * honest body.
 */
#include "fuzz.h"

#include "../unit/bodies.h"
#include "../unit/daemonworld.h"
#include "account.h"
#include "log.h"
#include "operate.h"
#include "snapshot.h"
#include "teardown.h"
#include "view.h"

static void drop_line(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	FUZZ_CHECK(fuzz_is_printable(line, LOG_LINE_MAX));
}

static void fill_honest(unsigned type)
{
	switch (type) {
#define X(upper, lower, fds, tail)                                                                 \
	case MSG_##upper:                                                                          \
		CHANGED(lower, fill_record(type, b, WIRE_##tail(b)), (void)b);                     \
		break;
		MSG_TABLE(X)
#undef X
	default:
		break;
	}
}

static void rename_all(const char *from, const char *to)
{
	for (char *at; (at = memmem(record.body, record.body_length, from, strlen(from) + 1));)
		memcpy(at, to, strlen(to) + 1);
}

/* An honest record about the sandbox that is there: alice:box, which has one disk. */
static void fill_ours(unsigned type)
{
	struct msg_created created = {.vmm_pid = 7, .vmm_version = "53.0", .disk_count = 1};
	fill_honest(type);
	rename_all("acme:web", "alice:box");
	rename_all("acme:base", "alice:base");
	created.disks[0] =
		(struct msg_disk){.image = "root", .size_mib = 40, .made = MSG_DISK_COPIED};
	if (type == MSG_CREATED)
		fill_record(type, &created, sizeof(created));
}

/* The ids of what was asked last, so that an answer can hit. */
static uint32_t asked[8];
static unsigned asked_count;

static void listen_to(struct chan *c)
{
	struct err ignored;
	while (c->fd >= 0 && msg_recv(c->fd, &m, &ignored) == MSG_GOT) {
		if (m.header.id)
			asked[asked_count++ % 8] = m.header.id;
		msg_close_fds(&m);
	}
}

static void say(struct fuzz_input *in)
{
	uint8_t how = fuzz_byte(in), type = fuzz_byte(in), id = fuzz_byte(in);
	struct chan *c = how & 1 ? &spawner : &shim;
	struct err ignored;
	size_t got;
	fill_ours(1 + type % (MSG_TYPE_COUNT - 1));
	size_t size = record.body_length;
	struct fuzz_input patches = *in;
	patches.at = fuzz_bytes(in, how >> 2, &got);
	patches.left = got;
	fuzz_patch(&patches, record.body, size);
	uint32_t number = id & 0x80 ? asked[id % 8] : id & 0x40 ? id : 0;
	int fd = -1;
	if (how & 2 && record.header.type == MSG_STARTED) {
		/* The link to the next shim. */
		chan_close(&shim);
		fd = pair_of(&shim);
	} else if (how & 2) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (c->fd >= 0)
		msg_send(c->fd, (enum msg_type)record.header.type, number, record.body, size, fd,
			 &ignored);
	fd_close(&fd);
	settle();
	listen_to(&shim);
	listen_to(&spawner);
}

/* Every request that began is told its end once. */
static unsigned begun, told_ends;

static void on_ended(void *arg, const struct sandbox *sb, const struct err *why)
{
	FUZZ_CHECK(!arg && sb && (!why || why->text[0]));
	told_ends++;
}

static unsigned accounts_asked, accounts_told;

static void on_account(void *arg, const struct sandbox *sb, const struct account_view *view,
		       const struct err *why)
{
	FUZZ_CHECK(!arg && sb && !(view && why) && (!why || why->text[0]));
	cJSON *shown = view_debug(sb, view, true);
	FUZZ_CHECK(shown);
	cJSON_Delete(shown);
	accounts_told++;
}

/* What a tenant might ask meanwhile. */
static int ask(struct sandbox *sb, uint8_t what)
{
	struct err ignored;
	switch (what % 8) {
	case 0:
		return teardown_destroy(sb, what >> 3, on_ended, NULL, &ignored);
	case 1:
		return operate_pause(sb, on_ended, NULL, &ignored);
	case 2:
		return operate_resume(sb, on_ended, NULL, &ignored);
	case 3:
		return operate_balloon(sb, 0, on_ended, NULL, &ignored);
	case 4:
		return operate_counters(sb, on_ended, NULL, &ignored);
	case 5:
		return snapshot_template(sb, "base", on_ended, NULL, &ignored);
	case 6:
		return snapshot_hibernate(sb, on_ended, NULL, &ignored);
	default:
		return sandbox_wake(sb, MSG_RESTORE_NONE, on_ended, NULL, &ignored);
	}
}

static void act(struct fuzz_input *in)
{
	struct sandbox *sb = box();
	uint8_t what = fuzz_byte(in);
	if (what == 0xff) {
		chan_close(&shim);
	} else if (what == 0xfe && sb) {
		accounts_asked++;
		account_ask(sb, 30000, on_account, NULL);
	} else if (sb && ask(sb, what) == 0) {
		begun++;
	}
	settle();
	listen_to(&shim);
	listen_to(&spawner);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int before = fuzz_free_fd();
	struct told told = {0};
	log_set_sink(drop_line, NULL);
	memset(asked, 0, sizeof(asked));
	asked_count = begun = told_ends = accounts_asked = accounts_told = 0;
	setup_daemon();
	uint8_t start = fuzz_byte(&in);
	if (start & 1)
		running();
	else
		asked[asked_count++] = begin(start & 2, &told);
	for (int steps = 0; in.left && steps < 32; steps++) {
		if (fuzz_byte(&in) & 0x80)
			act(&in);
		else
			say(&in);
	}
	for (struct sandbox *sb; (sb = TAILQ_FIRST(&d.registry.list));)
		teardown_forget(sb);
	teardown(NULL);
	FUZZ_CHECK(told.count <= 1 && told_ends == begun && accounts_told == accounts_asked);
	FUZZ_CHECK(fuzz_free_fd() == before);
	return 0;
}
