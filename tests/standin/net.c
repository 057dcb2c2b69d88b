// SPDX-License-Identifier: Apache-2.0
/* The network device as v53 checks it and opens its tap. One device with one pair of queues is all
 * that Cloister gives a guest: whatever else v53 would do (make a tap of its own, open one by name)
 * is refused by name. netguest.c has what the guest does with it. */
#include "standin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAILED(what) "Error from API", what
#define KEPT_MAX     64
#define HEADER	     12	   /* struct virtio_net_hdr_v1 */
#define FRAME_MAX    65550 /* the largest packet and its Ethernet header */
#define FRAMES_TURN  64	   /* that are read before others have their turn */
#define MTU_LEAST    1280
#define PCI_DEVICES  32
/* What v53 answers for its default features, with an MTU and without. */
#define FEATURES    4838358951.0
#define FEATURE_MTU 8

/* The descriptors of the configuration's devices, open until it goes. */
static int kept[KEPT_MAX];
static int kept_count;

static struct {
	char *id;
	int fd; /* -1: there is no device */
	unsigned char mac[6];
	bool active; /* the guest has used it */
	uint64_t rx_bytes, rx_frames, tx_bytes, tx_frames;
	int queue_size;
	int mtu; /* 0: unknown */
} net = {.fd = -1};

static const char *net_id(const cJSON *device)
{
	return cJSON_GetStringValue(cJSON_GetObjectItem(device, "id"));
}

static int net_number(const cJSON *device, const char *key)
{
	return (int)cJSON_GetNumberValue(cJSON_GetObjectItem(device, key));
}

static bool net_true(const cJSON *device, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItem(device, key));
}

/* ---- the descriptors ---- */

bool net_keep(cJSON *device, const int *fds, int fd_count)
{
	cJSON_DeleteItemFromObject(device, "fds");
	if (!fd_count)
		return true;
	if (kept_count + fd_count > KEPT_MAX)
		return false;
	cJSON *list = cJSON_AddArrayToObject(device, "fds");
	for (int i = 0; i < fd_count; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		kept[kept_count++] = fd;
		cJSON_AddItemToArray(list, cJSON_CreateNumber(fd));
	}
	return true;
}

void net_forget(void)
{
	while (kept_count)
		close(kept[--kept_count]);
}

void net_ignore_body(const cJSON *device)
{
	if (!cJSON_GetObjectItem(device, "fds"))
		return;
	const char *id = net_id(device);
	char *name = id ? bytes_text("Some(\"%s\")", id) : bytes_text("None");
	report_log("http-server", "WARN", "vmm/src/api/http/http_endpoint.rs:188",
		   "FD numbers were present in HTTP request body for device %s but will be ignored",
		   name);
	free(name);
}

/* ---- what v53 refuses before it opens anything ---- */

bool net_is_address(const char *text)
{
	unsigned char address[16];
	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

bool net_is_mac(const char *text, unsigned char mac[6])
{
	static const char digits[] = "0123456789abcdefABCDEF";
	if (strlen(text) != 17)
		return false;
	for (int i = 0; i < 6; i++) {
		const char *pair = text + 3 * i;
		if (!strchr(digits, pair[0]) || !strchr(digits, pair[1]) ||
		    (i < 5 && pair[2] != ':'))
			return false;
		mac[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
	return true;
}

static char *net_check_queues(const cJSON *config, const cJSON *device)
{
	const cJSON *cpus = cJSON_GetObjectItem(config, "cpus");
	int vcpus = net_number(cpus, "boot_vcpus"), queues = net_number(device, "num_queues");
	int fds = cJSON_GetArraySize(cJSON_GetObjectItem(device, "fds"));
	int size = net_number(device, "queue_size");
	if (queues < 2)
		return bytes_text("Number of queues (%d) to virtio_net should be higher than 2",
				  queues);
	if (cJSON_GetObjectItem(device, "fds") && queues != fds * 2)
		return bytes_text("Number of queues (%d) to virtio_net does not match the number "
				  "of FDs (%d)",
				  queues, fds * 2);
	if (queues / 2 > vcpus)
		return bytes_text("Queue count (%d) must not exceed boot vCPUs (%d)", queues,
				  vcpus);
	if (size < 1 || size > 32768 || (size & (size - 1)))
		return bytes_text("Queue size must be a power of 2 no greater than 32768: %d",
				  size);
	return NULL;
}

static char *net_check_place(const cJSON *config, const cJSON *device)
{
	const cJSON *platform = cJSON_GetObjectItem(config, "platform");
	int segments = platform ? net_number(platform, "num_pci_segments") : 1;
	const cJSON *place = cJSON_GetObjectItem(device, "pci_device_id");
	if (net_number(device, "pci_segment") >= segments)
		return bytes_text("Invalid PCI segment id: %d", net_number(device, "pci_segment"));
	if (place && place->valueint >= PCI_DEVICES)
		return bytes_text("Given PCI device ID (%d) is out of the supported range of "
				  "0..%d",
				  place->valueint, PCI_DEVICES);
	return place && !place->valueint ? bytes_text("Given PCI device ID (0) is reserved") : NULL;
}

static char *net_check_one(const cJSON *config, const cJSON *device)
{
	const cJSON *mtu = cJSON_GetObjectItem(device, "mtu");
	const cJSON *ip = cJSON_GetObjectItem(device, "ip");
	const cJSON *mask = cJSON_GetObjectItem(device, "mask");
	bool vhost = net_true(device, "vhost_user");
	char *why;
	if (vhost && !cJSON_GetObjectItem(device, "vhost_socket"))
		return bytes_text("No socket provided when using vhost-user");
	if (vhost && cJSON_GetObjectItem(device, "rate_limiter_config"))
		return bytes_text("Rate limiting is not supported with vhost-user");
	if ((why = net_check_place(config, device)) || (why = net_check_queues(config, device)))
		return why;
	if (vhost && net_true(device, "iommu"))
		return bytes_text("Device does not support being placed behind IOMMU");
	if (mtu && mtu->valueint < MTU_LEAST)
		return bytes_text("Provided MTU %d is lower than %d (expected by VIRTIO "
				  "specification)",
				  mtu->valueint, MTU_LEAST);
	if (!net_true(device, "offload_csum") &&
	    (net_true(device, "offload_tso") || net_true(device, "offload_ufo")))
		return bytes_text("\"offload_tso\" and \"offload_ufo\" depend on \"offload_csum\"");
	if (mask && !ip)
		return bytes_text("Mask provided without an IP");
	return ip && !mask ? bytes_text("IP provided without a mask") : NULL;
}

/* Whether a device of the list that comes before `before` (NULL: any) has the id. */
static bool net_has_id(const cJSON *list, const cJSON *before, const char *id)
{
	const cJSON *device;
	cJSON_ArrayForEach(device, list)
	{
		if (device == before)
			return false;
		if (net_id(device) && !strcmp(net_id(device), id))
			return true;
	}
	return false;
}

char *net_check(const cJSON *config)
{
	const cJSON *list = cJSON_GetObjectItem(config, "net"), *device;
	const cJSON *disks = cJSON_GetObjectItem(config, "disks");
	const char *vsock = net_id(cJSON_GetObjectItem(config, "vsock"));
	cJSON_ArrayForEach(device, list)
	{
		char *why = net_check_one(config, device);
		const char *id = net_id(device);
		if (why)
			return why;
		if (id && !strncmp(id, "__", 2))
			return bytes_text("Identifier %s is not invalid", id);
		if (id && (net_has_id(disks, NULL, id) || net_has_id(list, device, id)))
			return bytes_text("Identifier %s is not unique", id);
	}
	if (vsock && (net_has_id(disks, NULL, vsock) || net_has_id(list, NULL, vsock)))
		return bytes_text("Identifier %s is not unique", vsock);
	return NULL;
}

/* ---- the tap ---- */

/* What v53 would do and Cloister never asks for, or NULL. */
static const char *net_strange(const cJSON *device)
{
	static const char *const keys[] = {
		"tap", "ip", "mask", "host_mac", "mtu", "vhost_socket", "rate_limiter_config"};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (cJSON_GetObjectItem(device, keys[i]))
			return keys[i];
	}
	return net_true(device, "vhost_user") ? "vhost_user"
	       : net_true(device, "iommu")    ? "iommu"
					      : NULL;
}

static bool net_refuse(const char *what, const char *why, const char *id, struct answer *refusal)
{
	char *text = bytes_text("stand-in: net %s: %s", id ? id : "without an id", why);
	*refusal = answer_chain(500, FAILED(what), text, NULL);
	free(text);
	return false;
}

static bool net_ours(const char *what, const cJSON *device, struct answer *refusal)
{
	const cJSON *fds = cJSON_GetObjectItem(device, "fds");
	const char *key = net_strange(device);
	char *why = NULL;
	if (net.fd >= 0)
		why = bytes_text("a second one, where Cloister gives one at most");
	else if (!net_id(device))
		why = bytes_text("Cloister names its devices");
	else if (!fds)
		why = bytes_text("no descriptor came for it: v53 would make a tap of its own");
	else if (cJSON_GetArraySize(fds) != 1)
		why = bytes_text("several pairs of queues, where Cloister gives one");
	else if (key)
		why = bytes_text("Cloister never asks for \"%s\"", key);
	if (why)
		net_refuse(what, why, net_id(device), refusal);
	bool good = !why;
	free(why);
	return good;
}

/* The calls of v53's Tap::from_tap_fd(). What it never looks at is looked at here: without the
 * right flags it would take each frame's first bytes for a header. */
static bool net_open_tap(const char *what, int fd, const char *id, struct answer *refusal)
{
	struct ifreq request = {0};
	int size = HEADER;
	unsigned long call = TUNGETIFF;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	bool done = ioctl(fd, TUNGETIFF, &request) == 0;
	short flags = request.ifr_flags;
	if (done) {
		call = TUNSETVNETHDRSZ;
		done = ioctl(fd, TUNSETVNETHDRSZ, &size) == 0;
	}
	if (!done) {
		char *os = boot_os_error(), *text = bytes_text("Ioctl failed (%lu)", call);
		*refusal = answer_chain(500, FAILED(what), "Error from device manager",
					"Cannot create virtio-net device", "Using existing tap",
					text, os, NULL);
		free(text);
		free(os);
		return false;
	}
	/* (IFF_NO_PI is told of every one) */
	if ((flags & (IFF_TUN | IFF_TAP | IFF_VNET_HDR)) == (IFF_TAP | IFF_VNET_HDR))
		return true;
	return net_refuse(what, "its descriptor is no tap with IFF_VNET_HDR", id, refusal);
}

/* By name in the network namespace of this process, which need not be the tap's: v53 does so too,
 * warns, and goes on without. */
static int net_mtu(int fd)
{
	struct ifreq request = {0};
	int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool known = socket_fd >= 0 && ioctl(fd, TUNGETIFF, &request) == 0 &&
		     ioctl(socket_fd, SIOCGIFMTU, &request) == 0;
	if (socket_fd >= 0)
		close(socket_fd);
	if (!known)
		report_log("vmm", "WARN", "virtio-devices/src/net.rs:550",
			   "Failed to query tap MTU; not advertising VIRTIO_NET_F_MTU: Ioctl "
			   "failed (%d)",
			   SIOCGIFMTU);
	return known ? request.ifr_mtu : 0;
}

static void net_activate(void)
{
	if (!net.active)
		report_event("virtio-device", "activated", "id", net.id);
	net.active = true;
}

/* What the guest has of its device: at a restore that is the state's, not the configuration's. */
static void net_plug(const cJSON *device, const cJSON *saved)
{
	char *transport = bytes_text("_virtio-pci-%s", net.id);
	cJSON *state = saved ? restore_part(cJSON_GetObjectItem(saved, net.id)) : NULL;
	cJSON *pci = saved ? restore_part(cJSON_GetObjectItem(saved, transport)) : NULL;
	const cJSON *space = cJSON_GetObjectItem(state, "config");
	const cJSON *mac = cJSON_GetObjectItem(space, "mac");
	net_is_mac(cJSON_GetStringValue(cJSON_GetObjectItem(device, "mac")), net.mac);
	for (int i = 0; cJSON_GetArraySize(mac) == 6 && i < 6; i++)
		net.mac[i] = (unsigned char)cJSON_GetArrayItem(mac, i)->valueint;
	if (space)
		net.mtu = net_number(space, "mtu");
	if (net_true(pci, "device_activated"))
		net_activate();
	cJSON_Delete(state);
	cJSON_Delete(pci);
	free(transport);
}

static bool net_open_one(const cJSON *device, const char *what, const cJSON *saved,
			 struct answer *refusal)
{
	if (!net_ours(what, device, refusal))
		return false;
	int fd = cJSON_GetObjectItem(device, "fds")->child->valueint;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (!net_open_tap(what, fd, net_id(device), refusal)) {
		close(fd);
		return false;
	}
	net.fd = fd;
	net.id = bytes_text("%s", net_id(device));
	net.queue_size = net_number(device, "queue_size");
	net.mtu = net_mtu(fd);
	net_plug(device, saved);
	return true;
}

bool net_open(const cJSON *config, const char *what, const cJSON *saved, struct answer *refusal)
{
	const cJSON *device;
	cJSON_ArrayForEach(device, cJSON_GetObjectItem(config, "net"))
	{
		if (!net_open_one(device, what, saved, refusal))
			return false;
	}
	return true;
}

bool net_plug_in(const cJSON *device, const char *what, struct answer *refusal)
{
	return net_open_one(device, what, NULL, refusal);
}

void net_close(void)
{
	if (net.fd >= 0)
		close(net.fd);
	free(net.id);
	memset(&net, 0, sizeof(net));
	net.fd = -1;
}

/* ---- snapshots and counters ---- */

static bool net_is(const char *id)
{
	return net.fd >= 0 && !strcmp(net.id, id);
}

cJSON *net_save(const char *id)
{
	if (!net_is(id))
		return NULL;
	cJSON *state = cJSON_CreateObject();
	cJSON_AddNumberToObject(state, "avail_features", FEATURES + (net.mtu ? FEATURE_MTU : 0));
	cJSON_AddNumberToObject(state, "acked_features", 0);
	cJSON *space = cJSON_AddObjectToObject(state, "config");
	cJSON *mac = cJSON_AddArrayToObject(space, "mac");
	for (int i = 0; i < 6; i++)
		cJSON_AddItemToArray(mac, cJSON_CreateNumber(net.mac[i]));
	cJSON_AddNumberToObject(space, "status", 0);
	cJSON_AddNumberToObject(space, "max_virtqueue_pairs", 1);
	cJSON_AddNumberToObject(space, "mtu", net.mtu);
	cJSON_AddNumberToObject(space, "speed", 0);
	cJSON_AddNumberToObject(space, "duplex", 0);
	cJSON *sizes = cJSON_AddArrayToObject(state, "queue_size");
	for (int i = 0; i < 3; i++) /* both ways, and the one for control */
		cJSON_AddItemToArray(sizes, cJSON_CreateNumber(net.queue_size));
	return state;
}

bool net_is_active(const char *id)
{
	return net_is(id) && net.active;
}

void net_count_into(cJSON *counters, const char *id)
{
	bool open = net_is(id);
	cJSON_AddNumberToObject(counters, "rx_bytes", open ? (double)net.rx_bytes : 0);
	cJSON_AddNumberToObject(counters, "rx_frames", open ? (double)net.rx_frames : 0);
	cJSON_AddNumberToObject(counters, "tx_bytes", open ? (double)net.tx_bytes : 0);
	cJSON_AddNumberToObject(counters, "tx_frames", open ? (double)net.tx_frames : 0);
}

/* ---- frames ---- */

const unsigned char *net_mac(void)
{
	return net.fd >= 0 ? net.mac : NULL;
}

void net_announce(void)
{
	static const unsigned char start[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
	unsigned char frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	if (net.fd < 0 || !net.active)
		return;
	/* v53's own, a RARP request, whatever the guest does */
	memcpy(frame + 6, net.mac, 6);
	memcpy(frame + 12, start, sizeof(start));
	memcpy(frame + 22, net.mac, 6);
	memcpy(frame + 32, net.mac, 6);
	net_send(frame, sizeof(frame));
	netguest_announce();
}

bool net_send(const unsigned char *frame, size_t len)
{
	unsigned char header[HEADER] = {0};
	struct iovec parts[2] = {{.iov_base = header, .iov_len = HEADER},
				 {.iov_base = (void *)(uintptr_t)frame, .iov_len = len}};
	if (net.fd < 0)
		return false;
	net_activate();
	if (writev(net.fd, parts, 2) == (ssize_t)(HEADER + len)) {
		net.tx_bytes += len;
		net.tx_frames++;
		return true;
	}
	if (errno == EAGAIN)
		return false;
	/* a tap that is down, for one: v53's thread ends, and the machine with it */
	char *os = boot_os_error(), *thread = bytes_text("%s_qp0", net.id);
	report_log(thread, "ERROR", "net_util/src/queue_pair.rs:142",
		   "net: tx: failed writing to tap: %s", os);
	free(os);
	free(thread);
	vm_exit();
}

nfds_t net_poll(struct pollfd *fds)
{
	if (net.fd < 0 || !guest_answers())
		return 0;
	fds[0] = (struct pollfd){.fd = net.fd, .events = POLLIN};
	return 1;
}

void net_work(void)
{
	/* two bytes more, so that what follows the Ethernet header is aligned */
	static unsigned char header[HEADER], space[FRAME_MAX + 2] __attribute__((aligned(4)));
	unsigned char *frame = space + 2;
	struct iovec parts[2] = {{.iov_base = header, .iov_len = HEADER},
				 {.iov_base = frame, .iov_len = FRAME_MAX}};
	for (int i = 0; i < FRAMES_TURN && net.fd >= 0 && guest_answers(); i++) {
		ssize_t n = readv(net.fd, parts, 2);
		if (n < HEADER)
			return;
		net_activate();
		net.rx_bytes += (uint64_t)n - HEADER;
		net.rx_frames++;
		/* nobody has told the tap (TUNSETOFFLOAD) that the guest could do with less */
		if (header[0] || header[1])
			report_log("standin", "ERROR", "net.c",
				   "a frame without a checksum, or not cut (flags %u, gso %u)",
				   header[0], header[1]);
		else
			netguest_take(frame, (size_t)n - HEADER);
	}
}
