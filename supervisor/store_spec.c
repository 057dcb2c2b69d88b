// SPDX-License-Identifier: Apache-2.0
#include "store_spec.h"

#include "cidr.h"
#include "spec_network.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *source_word(unsigned source)
{
	static const char *const words[MSG_SOURCE_COUNT] = {
		[MSG_SOURCE_BOOT] = "boot",
		[MSG_SOURCE_TEMPLATE] = "template",
		[MSG_SOURCE_WAKE] = "wake",
	};
	return words[source];
}

static const char *restore_word(unsigned how)
{
	return how == MSG_RESTORE_NONE ? "none" : spec_restore_name((enum msg_restore)how);
}

static const char *made_word(unsigned made)
{
	static const char *const words[MSG_DISK_MADE_COUNT] = {
		[MSG_DISK_ASKED] = "asked",	[MSG_DISK_SHARED] = "shared",
		[MSG_DISK_REFLINK] = "reflink", [MSG_DISK_COPIED] = "copied",
		[MSG_DISK_OPENED] = "opened",
	};
	return words[made];
}

static const char *egress_word(unsigned egress)
{
	return spec_network_egress_name(egress);
}

static const char *wait_word(unsigned kind)
{
	static const char *const words[MSG_WAIT_COUNT] = {
		[MSG_WAIT_NONE] = "none",	[MSG_WAIT_TCP] = "tcp",
		[MSG_WAIT_HTTP] = "http",	[MSG_WAIT_VSOCK] = "vsock",
		[MSG_WAIT_CONSOLE] = "console",
	};
	return words[kind];
}

/* ------------------------------------------------------------------ writing */

static void write_disks(struct store_json_out *out, const struct spec *s)
{
	struct store_json_out disks = store_json_put_array(out, "disks");
	for (uint32_t i = 0; i < s->disk_count; i++) {
		const struct msg_disk *disk = &s->disks[i];
		struct store_json_out one = store_json_put_object(&disks, NULL);
		store_json_put_text(&one, "image", disk->image);
		store_json_put_bool(&one, "readonly", disk->flags & MSG_DISK_READONLY);
		store_json_put_bool(&one, "device", disk->flags & MSG_DISK_DEVICE);
		store_json_put_number(&one, "size_mib", disk->size_mib);
		store_json_put_text(&one, "made", made_word(disk->made));
		store_json_put_number(&one, "rate_mib_s", disk->rate_mib_s);
		store_json_put_number(&one, "rate_iops", disk->rate_iops);
		store_json_close(&disks, &one);
	}
	store_json_close(out, &disks);
}

static void write_network(struct store_json_out *out, const struct msg_network *n)
{
	struct store_json_out net = store_json_put_object(out, "network");
	store_json_put_number(&net, "slot", n->slot);
	store_json_put_text(&net, "egress", egress_word(n->egress));
	struct store_json_out allow = store_json_put_array(&net, "allow");
	for (uint32_t i = 0; i < n->allow_count; i++) {
		char text[CIDR_TEXT_MAX];
		cidr_format(&n->allow[i], text);
		allow.ok = allow.ok && cJSON_AddItemToArray(allow.o, cJSON_CreateString(text));
	}
	store_json_close(&net, &allow);
	struct store_json_out ports = store_json_put_array(&net, "ports");
	for (uint32_t i = 0; i < n->port_count; i++) {
		struct store_json_out one = store_json_put_object(&ports, NULL);
		store_json_put_number(&one, "proto", n->ports[i].proto);
		store_json_put_number(&one, "guest", n->ports[i].guest);
		store_json_put_number(&one, "host", n->ports[i].host);
		store_json_close(&ports, &one);
	}
	store_json_close(&net, &ports);
	store_json_put_number(&net, "rx_mbps", n->rx_mbps);
	store_json_put_number(&net, "tx_mbps", n->tx_mbps);
	store_json_close(out, &net);
}

static void write_wait(struct store_json_out *out, const struct msg_wait *w)
{
	struct store_json_out one = store_json_put_object(out, "wait");
	store_json_put_text(&one, "kind", wait_word(w->kind));
	store_json_put_number(&one, "port", w->port);
	store_json_put_number(&one, "status", w->status);
	store_json_put_number(&one, "timeout_ms", w->timeout_ms);
	store_json_put_text(&one, "text", w->text);
	store_json_close(out, &one);
}

void store_spec_write(struct store_json_out *out, const struct spec *s)
{
	store_json_put_text(out, "kernel", s->kernel);
	if (s->initramfs)
		store_json_put_text(out, "initramfs", s->initramfs);
	store_json_put_text(out, "cmdline", s->cmdline);
	store_json_put_number(out, "vcpus", s->vcpus);
	store_json_put_number(out, "memory_mib", s->memory_mib);
	store_json_put_number(out, "max_vcpus", s->max_vcpus);
	store_json_put_number(out, "max_memory_mib", s->max_memory_mib);
	store_json_put_bool(out, "balloon", s->balloon);
	store_json_put_number(out, "balloon_mib", s->balloon_mib);
	store_json_put_number(out, "plugged_mib", s->plugged_mib);
	store_json_put_bool(out, "hotplug", s->hotplug);
	store_json_put_bool(out, "vsock", s->vsock);
	store_json_put_text(out, "source", source_word(s->source));
	store_json_put_text(
		out, "restore",
		restore_word(s->source == MSG_SOURCE_BOOT ? MSG_RESTORE_NONE : s->restore));
	if (s->template)
		store_json_put_text(out, "template", s->template);
	if (s->disk_count)
		write_disks(out, s);
	if (s->networked)
		write_network(out, &s->network);
	if (s->wait.kind != MSG_WAIT_NONE)
		write_wait(out, &s->wait);
	if (s->labels && out->ok) {
		cJSON *labels = cJSON_Duplicate(s->labels, 1);
		out->ok = labels && cJSON_AddItemToObject(out->o, "labels", labels);
	}
}

/* ------------------------------------------------------------------ reading */

static int read_disk(struct msg_disk *disk, const cJSON *v, struct err *e)
{
	struct store_json_in in = store_json_open(v, "spec.disks[]", e);
	store_json_text(&in, "image", disk->image, sizeof(disk->image), false);
	disk->flags = (store_json_bool(&in, "readonly") ? MSG_DISK_READONLY : 0u) |
		      (store_json_bool(&in, "device") ? MSG_DISK_DEVICE : 0u);
	disk->size_mib = store_json_u32(&in, "size_mib", MSG_DISK_MIB_MAX);
	disk->made = store_json_word(&in, "made", made_word, MSG_DISK_MADE_COUNT);
	disk->rate_mib_s = store_json_u32(&in, "rate_mib_s", MSG_DISK_RATE_MIB_MAX);
	disk->rate_iops = store_json_u32(&in, "rate_iops", MSG_DISK_IOPS_MAX);
	return store_json_end(&in);
}

static int read_disks(struct store_json_in *in, struct msg_create *m)
{
	const cJSON *v = store_json_take(in, "disks");
	if (!v)
		return 0;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > MSG_DISKS_MAX)
		return store_json_fail(in, "disks");
	for (const cJSON *one = v->child; one; one = one->next)
		if (read_disk(&m->disks[m->disk_count++], one, in->e) < 0)
			return -1;
	return 0;
}

static int read_port(struct msg_port *port, const cJSON *v, struct err *e)
{
	struct store_json_in in = store_json_open(v, "spec.network.ports[]", e);
	port->proto = store_json_u32(&in, "proto", UINT8_MAX);
	port->guest = (uint16_t)store_json_u32(&in, "guest", UINT16_MAX);
	port->host = (uint16_t)store_json_u32(&in, "host", UINT16_MAX);
	return store_json_end(&in);
}

static int read_network(struct store_json_in *spec, struct msg_network *n)
{
	const cJSON *v = store_json_take(spec, "network");
	if (!v)
		return 0;
	struct store_json_in in = store_json_open(v, "spec.network", spec->e);
	n->slot = (uint32_t)store_json_number(&in, "slot", 1, MSG_SLOT_MAX);
	n->egress = store_json_word(&in, "egress", egress_word, MSG_EGRESS_COUNT);
	n->rx_mbps = store_json_u32(&in, "rx_mbps", MSG_NET_RATE_MAX);
	n->tx_mbps = store_json_u32(&in, "tx_mbps", MSG_NET_RATE_MAX);
	const cJSON *allow = store_json_take(&in, "allow");
	const cJSON *ports = store_json_take(&in, "ports");
	if (!cJSON_IsArray(allow) || cJSON_GetArraySize(allow) > MSG_ALLOW_MAX)
		return store_json_fail(&in, "allow");
	for (const cJSON *one = allow->child; one; one = one->next)
		if (!cJSON_IsString(one) ||
		    cidr_read(one->valuestring, 0, 32, &n->allow[n->allow_count++]) != CIDR_GOOD)
			return store_json_fail(&in, "allow");
	if (!cJSON_IsArray(ports) || cJSON_GetArraySize(ports) > MSG_PORTS_MAX)
		return store_json_fail(&in, "ports");
	for (const cJSON *one = ports->child; one; one = one->next)
		if (read_port(&n->ports[n->port_count++], one, in.e) < 0)
			return -1;
	return store_json_end(&in);
}

static int read_wait(struct store_json_in *spec, struct msg_wait *w)
{
	const cJSON *v = store_json_take(spec, "wait");
	if (!v)
		return 0;
	struct store_json_in in = store_json_open(v, "spec.wait", spec->e);
	w->kind = store_json_word(&in, "kind", wait_word, MSG_WAIT_COUNT);
	w->port = store_json_u32(&in, "port", UINT32_MAX);
	w->status = store_json_u32(&in, "status", 599);
	w->timeout_ms = store_json_u32(&in, "timeout_ms", MSG_WAIT_MS_MAX);
	store_json_text(&in, "text", w->text, sizeof(w->text), false);
	return store_json_end(&in);
}

static void read_scalars(struct store_json_in *in, struct msg_create *m)
{
	store_json_text(in, "kernel", m->kernel, sizeof(m->kernel), false);
	store_json_text(in, "initramfs", m->initramfs, sizeof(m->initramfs), true);
	store_json_text(in, "cmdline", m->cmdline, sizeof(m->cmdline), false);
	m->vcpus = store_json_u32(in, "vcpus", MSG_VCPUS_MAX);
	m->memory_mib = store_json_u32(in, "memory_mib", MSG_MEMORY_MIB_MAX);
	m->max_vcpus = store_json_u32(in, "max_vcpus", MSG_VCPUS_MAX);
	m->max_memory_mib = store_json_u32(in, "max_memory_mib", MSG_MEMORY_MIB_MAX);
	m->balloon_mib = store_json_u32(in, "balloon_mib", MSG_MEMORY_MIB_MAX);
	m->plugged_mib = store_json_u32(in, "plugged_mib", MSG_MEMORY_MIB_MAX);
	m->flags = (store_json_bool(in, "balloon") ? MSG_CREATE_BALLOON : 0u) |
		   (store_json_bool(in, "hotplug") ? MSG_CREATE_HOTPLUG : 0u) |
		   (store_json_bool(in, "vsock") ? MSG_CREATE_VSOCK : 0u) |
		   (m->initramfs[0] ? MSG_CREATE_INITRAMFS : 0u);
	m->source = store_json_word(in, "source", source_word, MSG_SOURCE_COUNT);
	m->restore = store_json_word(in, "restore", restore_word, MSG_RESTORE_COUNT);
}

/*
 * The checks of two messages together cover it: a shim's STATUS, which may have disks made and
 * memory plugged, and CREATE, which may wait for something.
 */
static int check(const struct msg_create *m, struct err *e)
{
	struct msg_status status = {.phase = MSG_PHASE_RUNNING, .spec = *m};
	struct msg_create create = *m;
	status.spec.wait = (struct msg_wait){0};
	create.flags &= ~(uint32_t)MSG_CREATE_HOTPLUG;
	create.plugged_mib = 0;
	for (uint32_t i = 0; i < create.disk_count; i++)
		create.disks[i].made = MSG_DISK_ASKED;
	if (msg_write_status(&status, e) >= 0 && msg_write_create(&create, e) >= 0)
		return 0;
	e->kind = ERR_INVALID;
	return err_prefix(e, "spec");
}

struct spec *store_spec_read(const cJSON *o, struct err *e)
{
	struct msg_create m = {0};
	char name[NAME_SIZE];
	struct store_json_in in = store_json_open(o, "spec", e);
	read_scalars(&in, &m);
	store_json_text(&in, "template", name, sizeof(name), true);
	const cJSON *labels = store_json_take(&in, "labels");
	if (in.failed || read_disks(&in, &m) < 0 || read_network(&in, &m.network) < 0 ||
	    read_wait(&in, &m.wait) < 0 || store_json_end(&in) < 0)
		return NULL;
	if (name[0] ? !name_is_valid(name) : m.source == MSG_SOURCE_TEMPLATE) {
		store_json_fail(&in, "template");
		return NULL;
	}
	/* Whose template it is goes without saying here: the sandbox's tenant's. */
	if (m.source == MSG_SOURCE_TEMPLATE)
		name_key_make(m.template, "x", name);
	struct spec *s = check(&m, e) == 0 ? spec_from_msg(&m, e) : NULL;
	if (!s)
		return NULL;
	s->wait = m.wait;
	if (name[0] && !s->template)
		s->template = strdup(name);
	if (name[0] && !s->template)
		err_errno(e, ENOMEM, "no memory for a record");
	else if (!labels || spec_read_labels(s, labels, e) == 0)
		return s;
	spec_free(s);
	return NULL;
}
