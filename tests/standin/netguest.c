// SPDX-License-Identifier: Apache-2.0
/*
 * What the pretend guest does with its network: as much of a host as it takes to be told apart from
 * none. At SLOT_GUEST (shim/slot.h) it answers ARP and ICMP echo requests, and serves TCP port 80:
 * a GET that comes in one segment is answered and ended in one segment. It keeps no connection, so
 * that one survives a snapshot, and a lost answer is given again; a client that cuts its request
 * gets a reset, as at any other port. A datagram to port 7 comes back, all are told on the console:
 *
 *   UDP FROM PORT TO-PORT BYTES      ICMP FROM TYPE CODE    (errors and echo replies)
 *
 * Console commands (and do= words):
 *   send DST PORT         a datagram with the text "from the guest"     SENT DST PORT
 *   spoof SRC DST PORT    the same with an address that is not its own  SENT DST PORT
 *   knock DST PORT        a SYN        KNOCK DST PORT OPEN | CLOSED, or nothing
 *   ping DST              an echo request
 *   net off | net on      it neither hears nor says anything, as with its interface down
 * Without a device the answer is NO NET. On the command line net=MS: port 80 is closed so long.
 */
#include "standin.h"

#include "../../shim/slot.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { ETH = 14, IP = 20, TCP = 20, UDP = 8, ICMP = 8, ARP = 28, MTU = 1500 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

#define PORT_HTTP  80
#define PORT_ECHO  7
#define PORT_OWN   4000 /* of what it sends itself */
#define FIRST_SEQ  0x5eed0000U
#define DATAGRAM   "from the guest"
#define PING_IDENT 0x4e34

static const unsigned char everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const unsigned char nobody[6];

static struct {
	bool off;
	int64_t serves_at;
	bool knows_gateway;
	unsigned char gateway[6];
	/* a packet that waits for the gateway's MAC address, and what the console is told then */
	unsigned char waiting[ETH + MTU];
	size_t waiting_len;
	char told[64];
} host;

/* ---- bytes ---- */

static unsigned get16(const unsigned char *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const unsigned char *at)
{
	return get16(at) << 16 | get16(at + 2);
}

static void put16(unsigned char *at, unsigned value)
{
	at[0] = (unsigned char)(value >> 8);
	at[1] = (unsigned char)value;
}

static void put32(unsigned char *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

/* RFC 1071, on top of sum. */
static uint32_t add_up(uint32_t sum, const unsigned char *at, size_t len)
{
	for (; len > 1; at += 2, len -= 2)
		sum += get16(at);
	if (len)
		sum += (uint32_t)at[0] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum over what follows the IP header: 0xffff when its checksum is right. */
static uint32_t add_up_inner(const unsigned char *ip, size_t len)
{
	unsigned protocol = ip[9];
	uint32_t sum = 0;
	if (protocol != IPPROTO_ICMP)
		sum = add_up(protocol + (uint32_t)len, ip + 12, 8);
	return add_up(sum, ip + IP, len);
}

static const char *name_of(uint32_t address, char text[INET_ADDRSTRLEN])
{
	struct in_addr in = {.s_addr = htonl(address)};
	return inet_ntop(AF_INET, &in, text, INET_ADDRSTRLEN);
}

/* ---- sending ---- */

static bool say(unsigned char *frame, size_t len)
{
	return !host.off && net_send(frame, len);
}

/* Fills both headers and the checksums around an inner packet of len bytes at ETH + IP. */
static size_t wrap(unsigned char *frame, const unsigned char *to, unsigned protocol, uint32_t src,
		   uint32_t dst, size_t len)
{
	static const unsigned at[] = {[IPPROTO_ICMP] = 2, [IPPROTO_TCP] = 16, [IPPROTO_UDP] = 6};
	unsigned char *ip = frame + ETH, *inner = ip + IP;
	memcpy(frame, to, 6);
	memcpy(frame + 6, net_mac(), 6);
	put16(frame + 12, ETHERTYPE_IP);
	memset(ip, 0, IP);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IP + len));
	put16(ip + 6, 0x4000); /* don't fragment */
	ip[8] = 64;
	ip[9] = (unsigned char)protocol;
	put32(ip + 12, src);
	put32(ip + 16, dst);
	put16(ip + 10, ~add_up(0, ip, IP) & 0xffff);
	put16(inner + at[protocol], 0);
	unsigned sum = ~add_up_inner(ip, len) & 0xffff;
	put16(inner + at[protocol], protocol == IPPROTO_UDP && !sum ? 0xffff : sum);
	return ETH + IP + len;
}

static size_t make_arp(unsigned char *frame, unsigned what, const unsigned char *to,
		       const unsigned char *target_mac, uint32_t target)
{
	unsigned char *arp = frame + ETH;
	memcpy(frame, to, 6);
	memcpy(frame + 6, net_mac(), 6);
	put16(frame + 12, ETHERTYPE_ARP);
	put16(arp, 1);
	put16(arp + 2, ETHERTYPE_IP);
	arp[4] = 6;
	arp[5] = 4;
	put16(arp + 6, what);
	memcpy(arp + 8, net_mac(), 6);
	put32(arp + 14, SLOT_GUEST);
	memcpy(arp + 18, target_mac, 6);
	put32(arp + 24, target);
	return ETH + ARP;
}

/* An own packet that is in host.waiting goes by way of the gateway, whose MAC address may have to
 * be asked for. */
static void by_gateway(void)
{
	unsigned char frame[ETH + ARP];
	if (!host.knows_gateway) {
		say(frame, make_arp(frame, 1, everybody, nobody, SLOT_GATEWAY));
		return;
	}
	memcpy(host.waiting, host.gateway, 6);
	if (host.waiting_len && say(host.waiting, host.waiting_len) && *host.told)
		guest_print("%s\n", host.told);
	host.waiting_len = 0;
}

/* A TCP segment without options. */
static size_t make_tcp(unsigned char *tcp, unsigned from, unsigned to, uint32_t seq, uint32_t ack,
		       unsigned flags, const char *data)
{
	size_t len = strlen(data);
	memset(tcp, 0, TCP);
	put16(tcp, from);
	put16(tcp + 2, to);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = TCP / 4 << 4;
	tcp[13] = (unsigned char)flags;
	put16(tcp + 14, 0xffff);
	memcpy(tcp + TCP, data, len);
	return TCP + len;
}

/* ---- what comes ---- */

static void take_arp(const unsigned char *frame, size_t len)
{
	const unsigned char *arp = frame + ETH;
	unsigned char answer[ETH + ARP];
	if (len < ETH + ARP || get16(arp) != 1 || get16(arp + 2) != ETHERTYPE_IP || arp[4] != 6 ||
	    arp[5] != 4 || get32(arp + 24) != SLOT_GUEST)
		return;
	if (get16(arp + 6) == 1) {
		say(answer, make_arp(answer, 2, arp + 8, arp + 8, get32(arp + 14)));
	} else if (get16(arp + 6) == 2 && get32(arp + 14) == SLOT_GATEWAY) {
		memcpy(host.gateway, arp + 8, 6);
		host.knows_gateway = true;
		by_gateway();
	}
}

static void take_icmp(const unsigned char *frame, const unsigned char *icmp, size_t len)
{
	unsigned char answer[ETH + MTU];
	char name[INET_ADDRSTRLEN];
	uint32_t from = get32(frame + ETH + 12);
	if (len < ICMP)
		return;
	if (icmp[0] != 8 || icmp[1]) {
		guest_print("ICMP %s %u %u\n", name_of(from, name), icmp[0], icmp[1]);
		return;
	}
	memcpy(answer + ETH + IP, icmp, len);
	answer[ETH + IP] = 0;
	say(answer, wrap(answer, frame + 6, IPPROTO_ICMP, SLOT_GUEST, from, len));
}

static void take_udp(const unsigned char *frame, const unsigned char *udp, size_t len)
{
	unsigned char answer[ETH + MTU];
	char name[INET_ADDRSTRLEN];
	uint32_t from = get32(frame + ETH + 12);
	if (len < UDP || get16(udp + 4) != len)
		return;
	guest_print("UDP %s %u %u %zu\n", name_of(from, name), get16(udp), get16(udp + 2),
		    len - UDP);
	if (get16(udp + 2) != PORT_ECHO)
		return;
	unsigned char *inner = answer + ETH + IP;
	memcpy(inner, udp, len);
	memcpy(inner, udp + 2, 2);
	memcpy(inner + 2, udp, 2);
	say(answer, wrap(answer, frame + 6, IPPROTO_UDP, SLOT_GUEST, from, len));
}

/* What port 80 answers to these bytes, or NULL when they are no whole request. */
static const char *serve(const char *data, size_t len)
{
	if (len < 18 || memcmp(data, "GET /", 5) != 0 || memcmp(data + len - 4, "\r\n\r\n", 4) != 0)
		return NULL;
	if (!memcmp(data, "GET / ", 6) || !memcmp(data, "GET /health ", 12))
		return "HTTP/1.0 200 OK\r\n\r\nok\n";
	return "HTTP/1.0 404 Not Found\r\n\r\nno\n";
}

/* The answer to a knock. */
static bool take_knock(const unsigned char *frame, const unsigned char *tcp)
{
	char name[INET_ADDRSTRLEN];
	uint32_t from = get32(frame + ETH + 12);
	unsigned flags = tcp[13] & (SYN | RST | ACK);
	if (get16(tcp + 2) != PORT_OWN)
		return false;
	if (flags == (SYN | ACK) || flags == (RST | ACK))
		guest_print("KNOCK %s %u %s\n", name_of(from, name), get16(tcp),
			    flags & SYN ? "OPEN" : "CLOSED");
	return flags != (SYN | ACK); /* which is answered with a reset */
}

static void take_tcp(const unsigned char *frame, const unsigned char *tcp, size_t len)
{
	unsigned char answer[ETH + MTU];
	if (len < TCP)
		return;
	size_t head = (size_t)(tcp[12] >> 4) * 4;
	unsigned flags = tcp[13] & (FIN | SYN | RST | ACK), back = 0;
	if (head < TCP || head > len || take_knock(frame, tcp) || (flags & RST))
		return;
	const char *text = "", *data = (const char *)tcp + head;
	size_t count = len - head;
	bool open = get16(tcp + 2) == PORT_HTTP && report_now() >= host.serves_at;
	uint32_t seq = flags & ACK ? get32(tcp + 8) : 0;
	if (open && flags == SYN) {
		back = SYN | ACK;
		seq = FIRST_SEQ;
	} else if (!open || (flags & SYN) || (count && !(text = serve(data, count)))) {
		back = flags & ACK ? RST : RST | ACK;
		text = "";
	} else if (count) {
		back = PSH | ACK | FIN;
	} else if (flags & FIN) {
		back = ACK;
	} else {
		return;
	}
	uint32_t ack = get32(tcp + 4) + (uint32_t)count + !!(flags & SYN) + !!(flags & FIN);
	size_t size = make_tcp(answer + ETH + IP, get16(tcp + 2), get16(tcp), seq,
			       back & ACK ? ack : 0, back, text);
	say(answer,
	    wrap(answer, frame + 6, IPPROTO_TCP, SLOT_GUEST, get32(frame + ETH + 12), size));
}

static void take_ip(const unsigned char *frame, size_t len)
{
	const unsigned char *ip = frame + ETH;
	if (len < ETH + IP || ip[0] != 0x45 || get16(ip + 2) < IP || get16(ip + 2) > len - ETH ||
	    get16(ip + 2) > MTU || (get16(ip + 6) & 0x3fff) || get32(ip + 16) != SLOT_GUEST ||
	    add_up(0, ip, IP) != 0xffff)
		return;
	size_t inner = get16(ip + 2) - IP;
	bool bare = ip[9] == IPPROTO_UDP && inner >= UDP && !get16(ip + IP + 6);
	if (!bare && add_up_inner(ip, inner) != 0xffff)
		return;
	if (ip[9] == IPPROTO_ICMP)
		take_icmp(frame, ip + IP, inner);
	else if (ip[9] == IPPROTO_UDP)
		take_udp(frame, ip + IP, inner);
	else if (ip[9] == IPPROTO_TCP)
		take_tcp(frame, ip + IP, inner);
}

void netguest_take(const unsigned char *frame, size_t len)
{
	if (host.off || len < ETH)
		return;
	if (memcmp(frame, net_mac(), 6) != 0 && memcmp(frame, everybody, 6) != 0)
		return;
	if (get16(frame + 12) == ETHERTYPE_ARP)
		take_arp(frame, len);
	else if (get16(frame + 12) == ETHERTYPE_IP)
		take_ip(frame, len);
}

/* ---- what the console asks for ---- */

static void command_send(uint32_t src, uint32_t dst, unsigned port)
{
	unsigned char *udp = host.waiting + ETH + IP;
	char name[INET_ADDRSTRLEN];
	size_t len = UDP + strlen(DATAGRAM);
	put16(udp, PORT_OWN);
	put16(udp + 2, port);
	put16(udp + 4, (unsigned)len);
	memcpy(udp + UDP, DATAGRAM, len - UDP);
	host.waiting_len = wrap(host.waiting, everybody, IPPROTO_UDP, src, dst, len);
	snprintf(host.told, sizeof(host.told), "SENT %s %u", name_of(dst, name), port);
	by_gateway();
}

static void command_knock(uint32_t dst, unsigned port)
{
	size_t len = make_tcp(host.waiting + ETH + IP, PORT_OWN, port, FIRST_SEQ, 0, SYN, "");
	host.waiting_len = wrap(host.waiting, everybody, IPPROTO_TCP, SLOT_GUEST, dst, len);
	*host.told = '\0';
	by_gateway();
}

static void command_ping(uint32_t dst)
{
	unsigned char *icmp = host.waiting + ETH + IP;
	memset(icmp, 0, ICMP);
	icmp[0] = 8;
	put16(icmp + 4, PING_IDENT);
	host.waiting_len = wrap(host.waiting, everybody, IPPROTO_ICMP, SLOT_GUEST, dst, ICMP);
	*host.told = '\0';
	by_gateway();
}

/* Reads "NAME ARGUMENTS": a letter of kinds each, a for an address, p for a port. */
static bool read_arguments(const char *line, const char *name, const char *kinds, uint32_t *values)
{
	char words[3][32], more;
	size_t len = strlen(name), wanted = strlen(kinds);
	if (strncmp(line, name, len) != 0 || line[len] != ' ' ||
	    sscanf(line + len, " %31s %31s %31s %c", words[0], words[1], words[2], &more) !=
		    (int)wanted)
		return false;
	for (size_t i = 0; i < wanted; i++) {
		struct in_addr address;
		if (kinds[i] == 'p' && (!guest_numbers(words[i], "", &values[i], 1) || !values[i] ||
					values[i] > UINT16_MAX))
			return false;
		if (kinds[i] == 'a' && inet_pton(AF_INET, words[i], &address) != 1)
			return false;
		if (kinds[i] == 'a')
			values[i] = ntohl(address.s_addr);
	}
	return true;
}

static bool command_packet(const char *line)
{
	uint32_t values[3];
	if (read_arguments(line, "send", "ap", values))
		command_send(SLOT_GUEST, values[0], values[1]);
	else if (read_arguments(line, "spoof", "aap", values))
		command_send(values[0], values[1], values[2]);
	else if (read_arguments(line, "knock", "ap", values))
		command_knock(values[0], values[1]);
	else if (read_arguments(line, "ping", "a", values))
		command_ping(values[0]);
	else
		return false;
	return true;
}

bool netguest_command(const char *line)
{
	static const char *const names[] = {"send ", "spoof ", "knock ", "ping "};
	if (!strcmp(line, "net off") || !strcmp(line, "net on")) {
		host.off = line[5] == 'f';
		return true;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strncmp(line, names[i], strlen(names[i])) != 0)
			continue;
		if (net_mac())
			return command_packet(line);
		guest_print("NO NET\n");
		return true;
	}
	return false;
}

bool netguest_setting(const char *word)
{
	uint32_t ms;
	if (!guest_numbers(word, "net=", &ms, 1))
		return false;
	host.serves_at = report_now() + ms;
	return true;
}

/* ---- where it goes on ---- */

void netguest_reset(void)
{
	memset(&host, 0, sizeof(host));
}

void netguest_save(cJSON *saved)
{
	cJSON_AddBoolToObject(saved, "net_off", host.off);
	if (host.knows_gateway)
		cJSON_AddNumberToObject(
			saved, "gateway",
			(double)((uint64_t)get16(host.gateway) << 32 | get32(host.gateway + 2)));
}

void netguest_load(const cJSON *saved)
{
	const cJSON *gateway = cJSON_GetObjectItem(saved, "gateway");
	netguest_reset();
	host.off = cJSON_IsTrue(cJSON_GetObjectItem(saved, "net_off"));
	if (!cJSON_IsNumber(gateway))
		return;
	uint64_t mac = (uint64_t)gateway->valuedouble;
	put16(host.gateway, (unsigned)(mac >> 32));
	put32(host.gateway + 2, (uint32_t)mac);
	host.knows_gateway = true;
}

void netguest_announce(void)
{
	unsigned char frame[ETH + ARP];
	if (net_mac())
		say(frame, make_arp(frame, 1, everybody, nobody, SLOT_GUEST));
}
