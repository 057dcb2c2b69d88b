// SPDX-License-Identifier: Apache-2.0
/* The same console language as tests/guest/guest.S, over stdout and stdin, with the same memory
 * pattern, so that one test's expectations hold for both. Its disks are in diskio.c, its network in
 * netguest.c. */
#include "standin.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_LEN 120
#define TOUCH_BASE   (16UL << 20)
#define MIB	     (1UL << 20)
#define RESET_MS     15 /* what a reboot takes the real one, about */

static struct {
	bool up, paused, hung, console, acpi, pvpanic, deaf;
	int64_t listens_at; /* vsock=MS: it listens that long after its start */
	unsigned char *ram;
	size_t ram_size, ram_present; /* what is past ram_present a short file does not have */
	uint32_t count, generation, touched; /* touched in MiB */
	uint32_t tick_ms;
	int64_t next_tick;
	char line[LINE_MAX_LEN + 1];
	size_t line_len;
	enum guest_wish wish;
	int64_t wish_due;
} guest;

static bool stdout_closed;
static bool stdin_ended;

/* A non-blocking or full stdout loses bytes and never stops the machine. */
void guest_print(const char *format, ...)
{
	if (!guest.console || stdout_closed)
		return;
	va_list args;
	va_start(args, format);
	char text[1024];
	int len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};
	if (len <= 0 || poll(&fd, 1, 0) != 1)
		return;
	if (write(STDOUT_FILENO, text,
		  (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1) < 0)
		errno = 0;
}

void guest_close_stdout(void)
{
	stdout_closed = true;
	close(STDOUT_FILENO);
}

void guest_ask(enum guest_wish wish)
{
	guest.wish = wish;
	guest.wish_due = report_now() + (wish == GUEST_POWEROFF ? 0 : RESET_MS);
	guest.hung = true;
}

void guest_panic(void)
{
	if (!guest.pvpanic)
		guest_print("NO PVPANIC\n");
	else
		report_event("guest", "panic", "event", "panic");
}

/* MiB of memory from TOUCH_BASE on that 32-bit code without paging reaches. */
static uint32_t guest_touchable(void)
{
	size_t end = guest.ram_size < 0xc0000000UL ? guest.ram_size : 0xc0000000UL;
	return end > TOUCH_BASE ? (uint32_t)((end - TOUCH_BASE) / MIB) : 0;
}

static void guest_touch(uint32_t mib)
{
	if (mib > guest_touchable())
		mib = guest_touchable();
	uint32_t value = ++guest.generation;
	if (mib > guest.touched)
		guest.touched = mib;
	load_need(TOUCH_BASE + mib * MIB);
	for (size_t page = 0; page < mib * 256UL; page++) {
		if (TOUCH_BASE + page * 4096 < guest.ram_present)
			memcpy(guest.ram + TOUCH_BASE + page * 4096, &value, sizeof(value));
		value += 2654435761U;
	}
	guest_print("TOUCHED %u\n", mib);
}

static void guest_sum(void)
{
	uint32_t sum = 0, value;
	load_need(TOUCH_BASE + guest.touched * MIB);
	for (size_t page = 0; page < guest.touched * 256UL; page++) {
		value = UINT32_MAX; /* what no memory answers */
		if (TOUCH_BASE + page * 4096 < guest.ram_present)
			memcpy(&value, guest.ram + TOUCH_BASE + page * 4096, sizeof(value));
		sum = sum * 33 + value;
	}
	guest_print("SUM %08x\n", sum);
}

static void guest_set_tick(uint32_t ms)
{
	guest.tick_ms = ms;
	guest.next_tick = report_now() + ms;
}

static void guest_flood(uint32_t lines)
{
	for (uint32_t n = 0; n < lines; n++)
		report_log("vcpu0", "WARN", "devices/src/acpi.rs:57",
			   "Invalid sized write of ACPI shutdown device: 2");
	guest_print("FLOODED %u\n", lines);
}

bool guest_numbers(const char *line, const char *name, uint32_t *numbers, int count)
{
	size_t len = strlen(name);
	if (strncmp(line, name, len) != 0)
		return false;
	line += len;
	for (int i = 0; i < count; i++) {
		if (i && *line++ != ' ')
			return false;
		size_t digits = strspn(line, "0123456789");
		errno = 0;
		unsigned long value = strtoul(line, NULL, 10);
		if (!digits || errno || value > UINT32_MAX)
			return false;
		numbers[i] = (uint32_t)value;
		line += digits;
	}
	return !*line;
}

static bool guest_number(const char *line, const char *name, uint32_t *number)
{
	return guest_numbers(line, name, number, 1);
}

static void guest_command(const char *line)
{
	uint32_t number;
	if (!strcmp(line, "poweroff")) {
		guest_ask(GUEST_POWEROFF);
	} else if (!strcmp(line, "reset")) {
		guest_ask(GUEST_RESET);
	} else if (!strcmp(line, "triple")) {
		guest_ask(GUEST_TRIPLE);
	} else if (!strcmp(line, "panic")) {
		guest_panic();
	} else if (!strcmp(line, "sum")) {
		guest_sum();
	} else if (!strcmp(line, "vsock off") || !strcmp(line, "vsock on")) {
		guest.deaf = line[7] == 'f';
	} else if (!strcmp(line, "hang")) {
		guest.hung = true;
	} else if (!strcmp(line, "count")) {
		guest_print("COUNT %u\n", guest.count);
	} else if (guest_number(line, "touch ", &number)) {
		guest_touch(number);
	} else if (guest_number(line, "flood ", &number)) {
		guest_flood(number);
	} else if (guest_number(line, "tick ", &number)) {
		guest_set_tick(number);
	} else if (!netguest_command(line)) {
		diskio_command(line);
	}
}

/* Calls do_word for each blank-separated word. */
static void guest_each_word(const char *cmdline, void (*do_word)(char *word))
{
	char *copy = bytes_text("%s", cmdline), *save = NULL;
	for (char *word = strtok_r(copy, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save))
		do_word(word);
	free(copy);
}

static void guest_word_setting(char *word)
{
	uint32_t number;
	if (guest_number(word, "tick=", &number))
		guest.tick_ms = number;
	else if (guest_number(word, "vsock=", &number))
		guest.listens_at = report_now() + number;
	else if (!strcmp(word, "acpi=on"))
		guest.acpi = true;
	else
		netguest_setting(word);
}

static void guest_word_do(char *word)
{
	if (strncmp(word, "do=", 3) != 0 || guest.hung)
		return;
	for (char *c = word; (c = strchr(c, '_'));)
		*c = ' ';
	guest_command(word + 3);
}

static void guest_plug(const struct region *ram, bool console, bool pvpanic)
{
	memset(&guest, 0, sizeof(guest));
	guest.up = true;
	guest.ram = ram->map;
	guest.ram_size = ram->size;
	guest.ram_present = ram->present;
	guest.console = console;
	guest.pvpanic = pvpanic;
}

void guest_start(const char *cmdline, const struct region *ram, bool console, bool pvpanic)
{
	guest_plug(ram, console, pvpanic);
	netguest_reset();
	guest.tick_ms = 100;
	guest_each_word(cmdline, guest_word_setting);
	guest_print("GUEST UP\n");
	guest_each_word(cmdline, guest_word_do);
	guest_set_tick(guest.tick_ms);
}

const unsigned char *guest_memory(void)
{
	return guest.ram;
}

cJSON *guest_save(void)
{
	cJSON *saved = cJSON_CreateObject();
	cJSON_AddNumberToObject(saved, "count", guest.count);
	cJSON_AddNumberToObject(saved, "generation", guest.generation);
	cJSON_AddNumberToObject(saved, "touched", guest.touched);
	cJSON_AddNumberToObject(saved, "tick_ms", guest.tick_ms);
	cJSON_AddBoolToObject(saved, "hung", guest.hung);
	cJSON_AddBoolToObject(saved, "acpi", guest.acpi);
	cJSON_AddBoolToObject(saved, "deaf", guest.deaf);
	guest.line[guest.line_len] = '\0';
	cJSON_AddStringToObject(saved, "line", guest.line);
	netguest_save(saved);
	return saved;
}

static uint32_t guest_saved(const cJSON *saved, const char *key)
{
	const cJSON *item = cJSON_GetObjectItem(saved, key);
	return cJSON_IsNumber(item) ? (uint32_t)item->valuedouble : 0;
}

void guest_load(const cJSON *saved, const struct region *ram, bool console, bool pvpanic)
{
	const char *line = cJSON_GetStringValue(cJSON_GetObjectItem(saved, "line"));
	guest_plug(ram, console, pvpanic);
	netguest_load(saved);
	guest.paused = true;
	guest.count = guest_saved(saved, "count");
	guest.generation = guest_saved(saved, "generation");
	guest.touched = guest_saved(saved, "touched");
	if (guest.touched > guest_touchable())
		guest.touched = guest_touchable();
	guest.tick_ms = guest_saved(saved, "tick_ms");
	guest.hung = cJSON_IsTrue(cJSON_GetObjectItem(saved, "hung"));
	guest.acpi = cJSON_IsTrue(cJSON_GetObjectItem(saved, "acpi"));
	guest.deaf = cJSON_IsTrue(cJSON_GetObjectItem(saved, "deaf"));
	snprintf(guest.line, sizeof(guest.line), "%s", line ? line : "");
	guest.line_len = strlen(guest.line);
}

void guest_stop(void)
{
	memset(&guest, 0, sizeof(guest));
}

bool guest_runs(void)
{
	return guest.up && !guest.paused;
}

bool guest_answers(void)
{
	return guest_runs() && !guest.hung;
}

bool guest_listens(void)
{
	return guest_answers() && !guest.deaf && report_now() >= guest.listens_at;
}

void guest_pause(bool paused)
{
	guest.paused = paused;
	guest.next_tick = report_now() + guest.tick_ms;
}

bool guest_wants_input(void)
{
	return guest.up && guest.console && !guest.paused && !guest.hung && !stdin_ended &&
	       isatty(STDIN_FILENO);
}

static void guest_take_line(void)
{
	if (!guest.line_len)
		return; /* the second half of CR LF */
	guest.line[guest.line_len] = '\0';
	guest.line_len = 0;
	guest_print("ECHO %s\n", guest.line);
	guest_command(guest.line);
}

void guest_input(void)
{
	char c;
	while (guest_wants_input()) {
		struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
		if (poll(&fd, 1, 0) != 1)
			return;
		ssize_t n = read(STDIN_FILENO, &c, 1);
		if (n != 1) {
			stdin_ended = n == 0 || (errno != EINTR && errno != EAGAIN);
			return;
		}
		if (c == '\n' || c == '\r')
			guest_take_line();
		else if (guest.line_len < LINE_MAX_LEN)
			guest.line[guest.line_len++] = c;
	}
}

void guest_power_button(void)
{
	if (guest.acpi && !guest.hung)
		guest_ask(GUEST_POWEROFF);
}

int64_t guest_timeout(void)
{
	int64_t now = report_now(), due = -1;
	if (!guest.up || guest.paused)
		return -1;
	if (guest.wish != GUEST_CONTENT)
		due = guest.wish_due;
	else if (guest.tick_ms && !guest.hung)
		due = guest.next_tick;
	if (due < 0)
		return -1;
	return due > now ? due - now : 0;
}

void guest_tick(void)
{
	int64_t now = report_now();
	if (!guest.up || guest.paused || guest.hung || !guest.tick_ms || guest.next_tick > now)
		return;
	guest_print("COUNT %u\n", ++guest.count);
	guest.next_tick += guest.tick_ms;
	if (guest.next_tick <= now)
		guest.next_tick = now + guest.tick_ms;
}

enum guest_wish guest_take_wish(void)
{
	if (!guest.up || guest.paused || guest.wish == GUEST_CONTENT ||
	    guest.wish_due > report_now())
		return GUEST_CONTENT;
	enum guest_wish wish = guest.wish;
	guest.wish = GUEST_CONTENT;
	return wish;
}
