// SPDX-License-Identifier: Apache-2.0
/*
 * The init of the Linux guest in the tests of networks: it starts /serve (the init of
 * CLOISTER_LINUX_GUEST, which sets up eth0 and serves HTTP) and does what the console says, a
 * command a line:
 *
 *	udp TAG IP:PORT...	a datagram "TAG" to each	-> SENT TAG COUNT
 *	tcp TAG IP:PORT...	connects to all at once, sends "TAG\n", reads to the end
 *				-> TCP TAG IP:PORT text | TCP TAG IP:PORT ERR errno; DONE TAG
 *	ping TAG IP...		-> PONG TAG IP for each that answers; DONE TAG
 *	pour IP:PORT KIB	sends that much by TCP		-> POURED KIB | ERR pour errno
 *	frame HEX		sends a frame as it is		-> FRAMED BYTES | ERR frame errno
 *
 * UDP goes from port 5000, and TCP from 6000, 6001 and so on: clones of one template use the same.
 * A datagram that comes to port 5000 is told: HEARD IP:PORT text. TCP port 81 and vsock port 2000
 * read to the end and answer "GOT BYTES SUM\n"; vsock port 10991 tells what it hears: TOLD text.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define UDP_PORT     5000
#define TCP_FROM     6000
#define SINK_PORT    81
#define SINK_VSOCK   2000
#define TOLD_VSOCK   10991
#define PEERS_MAX    32
#define CLIENTS_MAX  8
#define CONNECT_MS   800 /* without anything that comes of any connection */
#define PONG_MS	     500
#define LISTENER_MAX 3

struct client {
	int fd;
	int told; /* it came to TOLD_VSOCK: what was heard so far, else -1 */
	uint32_t bytes, sum;
	char text[600];
};

static int udp_fd = -1;
static uint16_t next_from = TCP_FROM;
static struct client clients[CLIENTS_MAX];
static unsigned client_count;

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

static int failed(const char *what)
{
	printf("ERR %s %d\n", what, errno);
	return -1;
}

/* "IP:PORT", or "IP" with port 0. */
static int parse_peer(const char *word, struct sockaddr_in *to)
{
	char ip[16];
	unsigned port = 0;
	*to = (struct sockaddr_in){.sin_family = AF_INET};
	if (sscanf(word, "%15[0-9.]:%u", ip, &port) < 1 || port > 65535)
		return -1;
	to->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, ip, &to->sin_addr) == 1 ? 0 : -1;
}

static unsigned parse_peers(char *words, struct sockaddr_in *peers)
{
	char *at = NULL;
	unsigned n = 0;
	for (char *word = strtok_r(words, " ", &at); word && n < PEERS_MAX;
	     word = strtok_r(NULL, " ", &at))
		if (parse_peer(word, &peers[n]) == 0)
			n++;
	return n;
}

static const char *show(const struct sockaddr_in *peer)
{
	static char text[32];
	char ip[16];
	inet_ntop(AF_INET, &peer->sin_addr, ip, sizeof(ip));
	snprintf(text, sizeof(text), "%s:%u", ip, ntohs(peer->sin_port));
	return text;
}

static void do_udp(const char *tag, char *rest)
{
	struct sockaddr_in peers[PEERS_MAX];
	unsigned n = parse_peers(rest, peers), sent = 0;
	for (unsigned i = 0; i < n; i++)
		sent += sendto(udp_fd, tag, strlen(tag), 0, (struct sockaddr *)&peers[i],
			       sizeof(peers[i])) >= 0;
	printf("SENT %s %u\n", tag, sent);
}

static void hear(void)
{
	char text[256];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(udp_fd, text, sizeof(text) - 1, MSG_DONTWAIT, (struct sockaddr *)&from,
			     &len);
	if (n < 0)
		return;
	text[n] = '\0';
	printf("HEARD %s %s\n", show(&from), text);
}

/* One of the connections of do_tcp(). */
struct
try {
	struct sockaddr_in peer;
	int fd, error;
	bool connected, over;
	char text[256];
	size_t used;
};

static void try_start(struct try *t)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(next_from++)};
	t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0 || bind(t->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    (connect(t->fd, (struct sockaddr *)&t->peer, sizeof(t->peer)) < 0 &&
	     errno != EINPROGRESS)) {
		t->error = errno;
		t->over = true;
	}
}

static void try_step(struct try *t, const char *tag)
{
	socklen_t len = sizeof(t->error);
	if (!t->connected) {
		getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &t->error, &len);
		t->over = t->error != 0;
		t->connected = !t->over;
		if (t->connected && dprintf(t->fd, "%s\n", tag) < 0)
			t->error = errno;
		return;
	}
	ssize_t n = read(t->fd, t->text + t->used, sizeof(t->text) - 1 - t->used);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		t->error = errno;
	if (n > 0)
		t->used += (size_t)n;
	t->over = n <= 0;
}

static void try_tell(const struct try *t, const char *tag)
{
	if (t->error || !t->over)
		printf("TCP %s %s ERR %d\n", tag, show(&t->peer), t->error ? t->error : ETIMEDOUT);
	else
		printf("TCP %s %s %.*s\n", tag, show(&t->peer), (int)strcspn(t->text, "\n"),
		       t->text);
}

static void do_tcp(const char *tag, char *rest)
{
	struct sockaddr_in peers[PEERS_MAX];
	static struct try tries[PEERS_MAX];
	unsigned n = parse_peers(rest, peers), left = n;
	for (unsigned i = 0; i < n; i++) {
		tries[i] = (struct try){.peer = peers[i]};
		try_start(&tries[i]);
	}
	int64_t end = now_ms() + CONNECT_MS;
	while (left && now_ms() < end) {
		struct pollfd p[PEERS_MAX];
		for (unsigned i = 0; i < n; i++)
			p[i] = (struct pollfd){
				.fd = tries[i].over ? -1 : tries[i].fd,
				.events = tries[i].connected ? POLLIN : POLLOUT,
			};
		if (poll(p, n, (int)(end - now_ms()) + 1) <= 0)
			break;
		end = now_ms() + CONNECT_MS;
		left = 0;
		for (unsigned i = 0; i < n; i++) {
			if (p[i].fd >= 0 && p[i].revents)
				try_step(&tries[i], tag);
			left += !tries[i].over;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		try_tell(&tries[i], tag);
		close(tries[i].fd);
	}
	printf("DONE %s\n", tag);
}

static uint16_t checksum(const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void await_pongs(int fd, const char *tag)
{
	int64_t end = now_ms() + PONG_MS, left;
	while ((left = end - now_ms()) > 0) {
		uint8_t in[512];
		char ip[16];
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, (int)left) <= 0)
			return;
		ssize_t got =
			recvfrom(fd, in, sizeof(in), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		inet_ntop(AF_INET, &from.sin_addr, ip, sizeof(ip));
		if (got >= 28 && in[20] == ICMP_ECHOREPLY)
			printf("PONG %s %s\n", tag, ip);
	}
}

static void do_ping(const char *tag, char *rest)
{
	struct sockaddr_in peers[PEERS_MAX];
	unsigned n = parse_peers(rest, peers);
	struct icmphdr echo = {.type = ICMP_ECHO, .un.echo = {.id = htons(99)}};
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (fd < 0) {
		failed("ping");
		return;
	}
	echo.checksum = checksum(&echo, sizeof(echo));
	for (unsigned i = 0; i < n; i++)
		(void)!sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&peers[i],
			      sizeof(peers[i]));
	await_pongs(fd, tag);
	close(fd);
	printf("DONE %s\n", tag);
}

static int pour(const char *peer, uint32_t kib)
{
	static char block[16384];
	struct sockaddr_in to;
	int result = -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && parse_peer(peer, &to) == 0 &&
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		size_t left = (size_t)kib * 1024;
		ssize_t n = 1;
		while (left && n > 0) {
			n = write(fd, block, left < sizeof(block) ? left : sizeof(block));
			left -= n > 0 ? (size_t)n : 0;
		}
		result = left ? -1 : 0;
	}
	close(fd);
	return result;
}

static void do_pour(const char *peer, const char *rest)
{
	uint32_t kib = (uint32_t)strtoul(rest, NULL, 10);
	if (pour(peer, kib) < 0)
		failed("pour");
	else
		printf("POURED %u\n", kib);
}

static void do_frame(const char *hex)
{
	uint8_t frame[1514];
	size_t n = 0;
	unsigned byte;
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
	for (; n < sizeof(frame) && sscanf(hex, "%2x", &byte) == 1 && hex[1]; hex += 2)
		frame[n++] = (uint8_t)byte;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	to.sll_ifindex = (int)if_nametoindex("eth0");
	if (fd < 0 || sendto(fd, frame, n, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		failed("frame");
	else
		printf("FRAMED %zu\n", n);
	close(fd);
}

static void take_line(char *line)
{
	char word[16] = "", tag[64] = "";
	int at = 0;
	if (sscanf(line, "%15s %63s %n", word, tag, &at) == 1 && strcmp(word, "frame") != 0)
		return;
	if (strcmp(word, "udp") == 0)
		do_udp(tag, line + at);
	else if (strcmp(word, "tcp") == 0)
		do_tcp(tag, line + at);
	else if (strcmp(word, "ping") == 0)
		do_ping(tag, line + at);
	else if (strcmp(word, "pour") == 0)
		do_pour(tag, line + at);
	else if (strcmp(word, "frame") == 0)
		do_frame(line + strlen("frame "));
	else
		printf("ERR %s\n", word);
}

/* The line discipline hands over whole lines, of 4095 characters at most. */
static void read_line(void)
{
	static char line[4096];
	ssize_t n = read(0, line, sizeof(line) - 1);
	if (n <= 0)
		return;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	take_line(line);
}

static void client_take(int listener, bool told)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (client_count == CLIENTS_MAX) {
		close(fd);
		return;
	}
	clients[client_count++] = (struct client){.fd = fd, .told = told ? 0 : -1};
}

static bool client_hear(struct client *c)
{
	size_t room = sizeof(c->text) - 1 - (size_t)c->told;
	ssize_t n = read(c->fd, c->text + c->told, room);
	if (n > 0) {
		c->told += (int)n;
		return (size_t)n < room;
	}
	c->text[c->told] = '\0';
	c->text[strcspn(c->text, "\n")] = '\0';
	printf("TOLD %s\n", c->text);
	return false;
}

/* False: it is over. */
static bool client_step(struct client *c)
{
	static uint8_t block[65536];
	if (c->told >= 0)
		return client_hear(c);
	ssize_t n = read(c->fd, block, sizeof(block));
	for (ssize_t i = 0; i < n; i++)
		c->sum = c->sum * 33 + block[i];
	if (n > 0) {
		c->bytes += (uint32_t)n;
		return true;
	}
	if (n < 0)
		failed("sink");
	else
		dprintf(c->fd, "GOT %u %08x\n", c->bytes, c->sum);
	return false;
}

static int listen_tcp(uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
		failed("listen");
	return fd;
}

static int listen_vsock(uint32_t port)
{
	struct sockaddr_vm at = {
		.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
		failed("vsock");
	return fd;
}

static int open_udp(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		failed("udp");
	return fd;
}

/* Without echo, the console holds answers only. */
static void prepare_console(void)
{
	struct termios t;
	int fd = open("/dev/console", O_RDWR);
	if (fd >= 0)
		dup2(fd, 0);
	dup2(0, 1);
	dup2(0, 2);
	if (tcgetattr(0, &t) == 0) {
		t.c_lflag &= (tcflag_t)~ECHO;
		t.c_oflag &= (tcflag_t)~OPOST;
		tcsetattr(0, TCSANOW, &t);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void start_server(void)
{
	char *const argv[] = {(char[]){"/serve"}, NULL};
	pid_t pid = vfork();
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0)
		failed("serve");
}

int main(void)
{
	prepare_console();
	start_server();
	udp_fd = open_udp();
	int listeners[LISTENER_MAX] = {listen_tcp(SINK_PORT), listen_vsock(SINK_VSOCK),
				       listen_vsock(TOLD_VSOCK)};
	printf("AGENT UP\n");
	for (;;) {
		struct pollfd p[2 + LISTENER_MAX + CLIENTS_MAX] = {
			{.fd = 0, .events = POLLIN}, {.fd = udp_fd, .events = POLLIN}};
		unsigned n = 2, count = client_count;
		for (unsigned i = 0; i < LISTENER_MAX; i++)
			p[n++] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
		for (unsigned i = 0; i < count; i++)
			p[n++] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		if (poll(p, n, -1) < 0)
			continue;
		for (unsigned i = count; i-- > 0;)
			if (p[2 + LISTENER_MAX + i].revents && !client_step(&clients[i])) {
				close(clients[i].fd);
				clients[i] = clients[--client_count];
			}
		for (unsigned i = 0; i < LISTENER_MAX; i++)
			if (p[2 + i].revents & POLLIN)
				client_take(listeners[i], i == 2);
		if (p[1].revents)
			hear();
		if (p[0].revents)
			read_line();
	}
}
