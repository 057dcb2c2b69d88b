// SPDX-License-Identifier: Apache-2.0
/*
 * standin.h - a stand-in for Cloud Hypervisor v53 that Cloister's tests can tell to misbehave.
 *
 * What it imitates was measured on v53.0 and read in its source and in that of its HTTP server
 * (micro-http). Where it is stricter than the real one: vm.boot refuses configuration keys that v53
 * does not know, and a memory file whose size is not the zone's.
 *
 * Threads: the main thread does everything in one poll loop; a second one only exists, because the
 * tests look at every thread of a VMM. Functions are grouped by the file they live in.
 */
#pragma once

#include <cjson/cJSON.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STANDIN_CONNECTIONS   10    /* micro-http's MAX_CONNECTIONS */
#define STANDIN_BUFFER	      1024  /* micro-http's BUFFER_SIZE: also the limit of a line */
#define STANDIN_BODY_MAX      51200 /* micro-http's MAX_PAYLOAD_SIZE */
#define STANDIN_FDS_MAX	      253   /* SCM_MAX_FD of the kernel */
#define STANDIN_VSOCK_STREAMS 16

/* ---- bytes.c: a growing buffer ---- */

struct bytes {
	char *data;
	size_t len, room;
};

/* Appends len bytes; ends the process when memory is out. */
void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_format(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees and empties. */
void bytes_free(struct bytes *b);
/* A formatted string on the heap, the caller's; ends the process when memory is out. */
char *bytes_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- report.c: the log on stderr and the event channel ---- */

/* Notes the start time, from which log lines and event records count. */
void report_start(void);
/* Milliseconds since the start. */
int64_t report_now(void);
/* Uses fd for event records (made non-blocking, as the real one does); -1 for none. */
void report_events_to(int fd);
/* One record and its "\n\n", dropped when the channel is full or gone. key NULL: no properties. */
void report_event(const char *source, const char *event, const char *key, const char *value);
/* Bytes on the event channel that are no record. */
void report_bad_event(void);
/* One log line. thread and where are those of the real one, e.g. "vcpu0", "devices/src/acpi.rs:57".
 */
void report_log(const char *thread, const char *level, const char *where, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The real one's last words for an error at start: status 1, or 101 when stderr cannot be
 * written. causes ends with NULL. */
_Noreturn void report_fatal(const char *const causes[]);

/* ---- parse.c: requests out of bytes, with micro-http's limits and its bad habits ---- */

enum http_method { HTTP_GET, HTTP_PUT, HTTP_PATCH };

struct conn;
struct request {
	struct request *next;
	struct conn *conn; /* NULL when the client has gone */
	enum http_method method;
	char *path;
	char *body; /* NUL-ended too; NULL when there is none */
	size_t body_len;
	int *fds; /* this request's descriptors, closed with it */
	int fd_count;
	int64_t due;  /* an ordered delay ends then */
	bool started; /* orders have been looked at */
};

enum parse_state { PARSE_LINE, PARSE_HEADERS, PARSE_BODY };

struct parser {
	enum parse_state state;
	char buffer[STANDIN_BUFFER];
	size_t cursor; /* bytes of the buffer that wait for more */
	struct request *pending;
	uint32_t length, left;
	bool expect;
	struct bytes body;
	int fds[STANDIN_FDS_MAX];
	int fd_count;
};

/*
 * Parses what p->buffer holds up to end. Complete requests are put at the end of *done, *interim
 * counts the 100s that are due. Returns 0, or -1 with the reason in why; after that the parser
 * stands where the real one would: often nothing more works on that connection.
 */
int parse_bytes(struct parser *p, size_t end, struct request **done, int *interim, char *why,
		size_t why_size);
void parse_free(struct parser *p);
/* Whether text is UTF-8 (RFC 3629), near enough: lead bytes and their number of followers. */
bool parse_is_utf8(const char *text);
void parse_free_request(struct request *request);

/* ---- answer.c: the bytes of an answer ---- */

struct answer {
	int status;
	char *body; /* NULL: none and no length (204); on the heap, goes with the answer */
	size_t len;
};

struct answer answer_none(void);			 /* 204 */
struct answer answer_text(int status, const char *text); /* text is copied */
struct answer answer_json(int status, cJSON *json);	 /* json goes with it */
/* The real one's error: an array of causes, outermost first, ended by NULL. */
struct answer answer_chain(int status, ...) __attribute__((sentinel));
void answer_free(struct answer *answer);
/* Appends the answer as the API gives it. */
void answer_write(struct bytes *out, const struct answer *answer);
/* Appends a status line and headers; type and length are left out when length is -1. */
void answer_head(struct bytes *out, int status, const char *server, long length);
/* Appends micro-http's own 400, with the raw newline in its string. */
void answer_parse_error(struct bytes *out, const char *why);

/* ---- conn.c: the listening socket and ten connections ---- */

/* Serves the listening socket fd. */
void conn_start(int fd);
/* Fills fds (room for STANDIN_CONNECTIONS + 1) and returns their number; none while a request is
 * being worked at. */
nfds_t conn_poll(struct pollfd *fds);
/* Does what poll() found. */
void conn_ready(const struct pollfd *fds, nfds_t count);
/* Milliseconds until a connection or a delayed request has something to do, -1: nothing. */
int64_t conn_timeout(void);
/* Works at the requests that are due and writes paced bytes. */
void conn_work(void);
/* Whether a request is being worked at: nobody else is served then, signals wait too. */
bool conn_busy(void);
/* Tries to write all that is outstanding (before the end). */
void conn_flush(void);

/* ---- api.c: endpoints ---- */

/* Version and build text, from STANDIN_VERSION. */
void api_start(void);
/* Prints what --version prints. */
void api_print_version(void);
/* Carries the request out. */
struct answer api_call(const struct request *request);
/* The last part of a path of the API ("vm.boot"), or NULL. */
const char *api_endpoint(const char *path);
/* Whether vmm.shutdown has been answered: the process ends. */
bool api_shut_down(void);

/* ---- schema.c: v53's configuration structures ---- */

/*
 * Reads json as v53 reads a VmConfig: missing fields get their defaults, known ones are checked,
 * unknown ones left out. Returns the configuration as vm.info shows it, or NULL with the reason
 * in *why (heap). *unknown becomes the path of the first key that v53 does not know (heap) or
 * NULL.
 */
cJSON *schema_config(const cJSON *json, char **why, char **unknown);
/* The same for the body of "vm.restore" or "vm.resize-zone". */
cJSON *schema_body(const char *endpoint, const cJSON *json, char **why, char **unknown);
/* The same for one entry of a list of the configuration: "net" or "disks". */
cJSON *schema_device(const char *list, const cJSON *json, char **why, char **unknown);

/* ---- vm.c: the state machine ---- */

struct answer vm_create(cJSON *config, char *unknown); /* takes both */
struct answer vm_boot(void);
/* Whether there is a configuration. */
bool vm_is_there(void);
struct answer vm_info(void);
struct answer vm_counters(void);
struct answer vm_pause(void);
struct answer vm_resume(void);
struct answer vm_shutdown(void);
struct answer vm_delete(void);
struct answer vm_reboot(void);
struct answer vm_power_button(void);
struct answer vm_nmi(void);
struct answer vm_resize(const cJSON *json);
/* Takes net and unknown; fds are duplicated. */
struct answer vm_add_net(cJSON *net, char *unknown, const int *fds, int fd_count);
struct answer vm_remove_device(const char *id);
struct answer vm_resize_zone(const cJSON *json);
struct answer vm_snapshot(const char *url);
/* order is a whole RestoreConfig; fds are duplicated. */
struct answer vm_restore(const cJSON *order, const int *fds, int fd_count);
/* "not created", "not running" and such for endpoints that this stand-in never does. what is the
 * real one's description of the failure; by_config says which of the two is missed first. */
struct answer vm_refuse(const char *what, bool by_config);
/* Shuts the VM down, deletes it, says so, and ends the process with status 0. */
_Noreturn void vm_exit(void);
/* Does what the guest asked for. */
void vm_serve_guest(void);

/* ---- resize.c: vCPUs, memory, balloon ---- */

/* Starts from what config says, at boot and at restore. */
void resize_start(const cJSON *config);
/* Both change config. exists: there is a machine, not only its configuration. */
struct answer resize_vm(cJSON *config, bool exists, const cJSON *json);
struct answer resize_zone(cJSON *config, bool exists, const cJSON *json);

/* ---- boot.c: what vm.boot and vm.restore open and check ---- */

#define BOOT_REGIONS 8

/* A zone of memory as it is mapped. Guest addresses run on from one region to the next. */
struct region {
	char id[64];
	unsigned char *map;
	size_t size;
	size_t present; /* less than size when its file is too short */
	int fd;		/* its file, a memfd for shared memory, or -1 */
	bool shared;
};

struct boot {
	struct region regions[BOOT_REGIONS]; /* the guest touches the first one only */
	int region_count;
	int fds[4]; /* kept open: the rng's */
	int fd_count;
};

/* saved: a snapshot's guest_ram_mappings, NULL at boot; it says how large zones are, and that a
 * kernel is not needed and a short file does not matter. what: as in "The VM could not boot". */
struct boot_order {
	const char *what;
	const cJSON *saved;
	const cJSON *devices; /* a snapshot's devices, NULL at boot */
	bool prefault;
};

/* errno in Rust's words; the caller's to free. */
char *boot_os_error(void);
/* What v53 checks before it opens anything: at boot, at restore, and when a device is added. */
bool boot_check(const cJSON *config, const char *what, struct answer *refusal);
/* The steps in the real one's order. Each returns false with the answer in *refusal. */
bool boot_memory(struct boot *boot, const cJSON *config, const struct boot_order *order,
		 struct answer *refusal);
/* *drop becomes the list of the configuration that is lost, as on the real one ("disks", "net"), or
 * NULL. */
bool boot_devices(struct boot *boot, cJSON *config, const struct boot_order *order,
		  struct answer *refusal, const char **drop);
/* From here on, and from disk_lock() before it, a failed boot leaves a machine. */
bool boot_payload(const cJSON *config, struct answer *refusal);
/* The region that starts at gpa, or NULL. */
const struct region *boot_region_at(const struct boot *boot, double gpa);
void boot_close(struct boot *boot);

/* ---- disk.c: disks as they are opened and locked ---- */

#define DISK_MAX 32 /* slots of a PCI bus */

/* Of one direction. Latencies are in microseconds, average in ten-thousandths of them; least and
 * most are UINT64_MAX while nothing was measured. */
struct disk_counter {
	uint64_t bytes, ops, least, most, average;
};

struct disk {
	char *id, *path;
	int fd, second_fd; /* second_fd: the guest's "dopen", else -1 */
	uint64_t sectors;  /* as the guest sees them */
	bool readonly;
	bool guard_first; /* no type was given: sector 0 is not written */
	bool whole;	  /* locks are not of a range */
	bool active;	  /* the guest's driver has set it up */
	struct disk_counter read, write;
};

/* Why v53 would not take the configuration's disks (heap), or NULL. */
char *disk_check(const cJSON *config);
/* Opens config's disks and completes their entries; what: as in "The VM could not boot"; saved: the
 * devices of a snapshot, NULL at boot. On failure some may be open. */
bool disk_open(cJSON *config, const char *what, const cJSON *saved, struct answer *refusal);
bool disk_lock(const char *what, struct answer *refusal);
void disk_close(void);
/* By number, in the order of the configuration; NULL: there is none. */
struct disk *disk_at(uint32_t number);
/* What a snapshot has of the device; empty for what is no disk. */
cJSON *disk_save(const char *id);
bool disk_is_active(const char *id);
/* Adds the counters of a disk, those of an untouched one when it is not open. */
void disk_count_into(cJSON *counters, const char *id);

/* ---- diskio.c: what the guest does with its disks ---- */

/* Counters as they are at the start. */
void diskio_reset(struct disk *disk);
/* Says that the guest's driver has set the disk up, once. */
void diskio_activate(struct disk *disk);
void diskio_count_into(cJSON *counters, const struct disk *disk);
/* Carries out a command about disks; false when line is none. */
bool diskio_command(const char *line);

/* ---- snapshot.c: the files of vm.snapshot ---- */

/* The directory that a file:// URL names (heap), or NULL with the reason in *why (heap). */
char *snapshot_directory(const char *url, char **why);
/* Writes config.json, state.json and, where the real one would, memory-ranges. The keys of devices
 * are the ids that the state knows. */
struct answer snapshot_write(const char *url, const cJSON *config, const struct boot *boot,
			     const cJSON *devices);
/* Milliseconds until a file has to be written again (order noclose), -1: never. */
int64_t snapshot_timeout(void);
void snapshot_work(void);

/* ---- restore.c: the files of vm.restore ---- */

struct restore {
	char *dir;
	cJSON *config; /* may be taken out */
	cJSON *state, *memory, *guest;
	bool ondemand, prefault;
};

/* The configuration in the directory that a file:// URL names, unchecked, or NULL. */
cJSON *restore_peek(const char *url);
/* Reads and checks configuration and state; nothing else has happened when it returns false. */
bool restore_open(struct restore *r, const cJSON *order, struct answer *refusal);
const cJSON *restore_mappings(const struct restore *r);
/* The devices of the state, by id. */
const cJSON *restore_saved_devices(const struct restore *r);
/* The state in one of them, or in another part of the state; the caller's, NULL when part is NULL
 * or has none. */
cJSON *restore_part(const cJSON *part);
/* Brings memory-ranges in, or starts to. */
bool restore_fill(const struct restore *r, const struct boot *boot, struct answer *refusal);
/* Whether the state knows all devices (their ids are the keys). */
bool restore_devices(const struct restore *r, const cJSON *devices, struct answer *refusal);
void restore_free(struct restore *r);

/* ---- load.c: memory of an OnDemand restore that is still to come ---- */

/* Whether this process may have a userfaultfd, with errno. */
bool load_allowed(void);
/* A region whose content begins at from in the file. */
void load_add(const struct region *region, off_t from);
/* Takes fd. */
void load_start(int fd);
/* Forgets all: before the regions go. */
void load_stop(void);
bool load_running(void);
int64_t load_timeout(void);
void load_work(void);
/* The guest is about to touch its memory up to end: brings that in, or ends the process as the real
 * one does when the file does not have it. */
void load_need(size_t end);

/* ---- net.c: the network device and its tap ---- */

bool net_is_address(const char *text);
bool net_is_mac(const char *text, unsigned char mac[6]);
/* Why v53 would not take the configuration's devices (heap), or NULL. */
char *net_check(const cJSON *config);
/* Duplicates fds, which become the device's; false: there are too many. */
bool net_keep(cJSON *device, const int *fds, int fd_count);
/* Closes what net_keep() has made. */
void net_forget(void);
/* The real one's warning when numbers of descriptors stand in a body. */
void net_ignore_body(const cJSON *device);
/* Opens the configuration's device; what, saved: as with disk_open(). */
bool net_open(const cJSON *config, const char *what, const cJSON *saved, struct answer *refusal);
/* The same for one that is added while the machine is there. */
bool net_plug_in(const cJSON *device, const char *what, struct answer *refusal);
void net_close(void);
/* What a snapshot has of the device; NULL for what is none. */
cJSON *net_save(const char *id);
bool net_is_active(const char *id);
/* Adds the counters of a device, zeros when it is not open. */
void net_count_into(cJSON *counters, const char *id);
/* A restored guest goes on: it and v53 tell the network where it is now. */
void net_announce(void);
/* The guest's MAC address, or NULL when there is no device. */
const unsigned char *net_mac(void);
/* A frame from the guest; false when the tap is full. Ends the process, as the real one does, when
 * the tap is down. */
bool net_send(const unsigned char *frame, size_t len);
/* Fills one of fds at most. */
nfds_t net_poll(struct pollfd *fds);
void net_work(void);

/* ---- netguest.c: the guest's end of the network ---- */

void netguest_take(const unsigned char *frame, size_t len);
/* Carries out a command about the network; false when line is none. */
bool netguest_command(const char *line);
/* A word of the command line about the network; false when it is none. */
bool netguest_setting(const char *word);
/* The guest starts anew; adds what it needs to go on elsewhere; goes on from that. */
void netguest_reset(void);
void netguest_save(cJSON *saved);
void netguest_load(const cJSON *saved);
void netguest_announce(void);

/* ---- vsock.c: the socket of a vsock device, and the guest's ports ---- */

/* What is wrong with the device's configuration (heap), or NULL. */
char *vsock_invalid(const cJSON *config);
/* Makes the socket, if there is such a device; why it could not (heap), or NULL. */
char *vsock_start(const cJSON *config);
/* Takes it away again. */
void vsock_stop(void);
/* Fills fds (room for STANDIN_VSOCK_STREAMS + 1) and returns their number. */
nfds_t vsock_poll(struct pollfd *fds);
void vsock_work(void);

/* ---- guest.c: the pretend guest ---- */

enum guest_wish { GUEST_CONTENT, GUEST_POWEROFF, GUEST_RESET, GUEST_TRIPLE };

/* Starts the guest. ram is its memory (physical address 0), console whether serial is the tty,
 * pvpanic whether it has that device. */
void guest_start(const char *cmdline, const struct region *ram, bool console, bool pvpanic);
/* What it needs to go on elsewhere, but for its memory; and the guest of that, paused. */
cJSON *guest_save(void);
void guest_load(const cJSON *saved, const struct region *ram, bool console, bool pvpanic);
/* Where its memory is mapped. */
const unsigned char *guest_memory(void);
/* Whether there is one and it is not paused. */
bool guest_runs(void);
/* Whether its drivers are at work too. */
bool guest_answers(void);
/* Whether it listens on its vsock ports. */
bool guest_listens(void);
void guest_stop(void);
void guest_pause(bool paused);
bool guest_wants_input(void);
void guest_input(void);
void guest_power_button(void);
/* Milliseconds to the next tick or wish, -1: none. */
int64_t guest_timeout(void);
void guest_tick(void);
/* What the guest wants of its machine, once it is due. */
enum guest_wish guest_take_wish(void);
void guest_ask(enum guest_wish wish);
void guest_panic(void);
/* The count numbers behind name, which ends with a blank or an equals sign: one blank between them
 * and nothing after them. */
bool guest_numbers(const char *line, const char *name, uint32_t *numbers, int count);
/* Text on the serial console, dropped when nobody takes it. */
void guest_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* stdout is closed, as a broken VMM might. */
void guest_close_stdout(void);

/* ---- orders.c, happen.c: how to misbehave ---- */

enum order_kind {
	ORDER_NONE,
	/* something more, then on */
	ORDER_DELAY,
	ORDER_STDERR,
	ORDER_BADEVENT,
	/* instead of doing it */
	ORDER_HANG,
	ORDER_STATUS,
	ORDER_ERROR,
	ORDER_FCERROR,
	ORDER_EXIT,
	ORDER_SIGNAL,
	ORDER_ABORT,
	/* done, but the answer is spoilt */
	ORDER_DROP,
	ORDER_GARBAGE,
	ORDER_HALF,
	ORDER_HALFCLOSE,
	ORDER_LENGTH,
	ORDER_NOLENGTH,
	ORDER_HUGE,
	ORDER_DRIBBLE,
	ORDER_BADJSON,
	ORDER_INTERIM,
	/* no endpoint's: "snapshot=", "load=", "resume=", "disk=" */
	ORDER_TRICK,
	ORDER_LOAD,
	ORDER_NORESUME,
	ORDER_DISK,
};

enum snapshot_trick {
	TRICK_NONE,
	TRICK_SHORT_STATE,
	TRICK_SHORT_CONFIG,
	TRICK_SYMLINK,
	TRICK_FIFO,
	TRICK_SOCKET,
	TRICK_EXTRA,
	TRICK_HUGE,
	TRICK_NOCLOSE,
	TRICK_DIE,
};

struct verdict {
	long delay_ms;
	enum order_kind kind;
	long number;
	const char *text;
};

/* Reads the words of text that begin with "standin:". Those of a command line replace the ones of
 * the command line before. Returns NULL or the word that makes no sense (heap). */
char *orders_read(const char *text, bool from_cmdline);
/* What the orders say for this call of endpoint; what comes before it (stderr, events) is done. */
struct verdict orders_judge(const char *endpoint);
/* Notes that a vm.snapshot begins, and what is to be done to its files. */
void orders_begin_snapshot(void);
enum snapshot_trick orders_trick(void);
/* Milliseconds that an OnDemand restore takes to load at least. */
int64_t orders_load_ms(void);
/* Whether vm.restore leaves the VM paused whatever was asked for. */
bool orders_no_resume(void);
/* The errno with which the guest's next write is to fail, 0: none. */
int orders_disk_error(void);
/* Ends this process by the signal, also as pid 1, where the kernel ignores most of them. */
_Noreturn void orders_die(int signal_number);

/* Reads WHAT of "at=MS:WHAT"; false when it makes no sense. */
bool happen_add(int64_t ms, const char *what, bool from_cmdline);
void happen_forget_cmdline(void);
/* The clock of the command line's happenings starts with vm.boot. */
void happen_booted(void);
/* Milliseconds to the next, -1: none. guest_runs: the guest's own can happen. */
int64_t happen_timeout(bool guest_runs);
void happen_work(bool guest_runs);
