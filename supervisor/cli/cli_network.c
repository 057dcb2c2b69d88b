// SPDX-License-Identifier: Apache-2.0
#include "cli_network.h"

#include "cidr.h"
#include "msg.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_S 60 /* the supervisor's default */

static int no_memory(void)
{
	fputs("cloister: no memory for the request\n", stderr);
	return CLI_EXIT_FAILED;
}

bool cli_network_is_given(const struct cli_options *o)
{
	return o->network || o->allow_count || o->port_count || o->rate || o->vsock || o->wait;
}

/* ------------------------------------------------------------------ network */

static int add_allow(const struct cli_options *o, cJSON *network)
{
	cJSON *allow = o->allow_count ? cJSON_AddArrayToObject(network, "allow") : NULL;
	for (unsigned i = 0; i < o->allow_count; i++) {
		struct msg_cidr range;
		char meant[CIDR_TEXT_MAX];
		switch (cidr_read(o->allow[i], 0, 32, &range)) {
		case CIDR_BAD:
			return cli_usage_error("--allow: \"%s\" is not an IPv4 network like "
					       "192.0.2.0/24",
					       o->allow[i]);
		case CIDR_HOST_BITS:
			cidr_format(&range, meant);
			return cli_usage_error("--allow: \"%s\": is %s meant?", o->allow[i], meant);
		case CIDR_GOOD:
			break;
		}
		if (!cJSON_AddItemToArray(allow, cJSON_CreateString(o->allow[i])))
			return no_memory();
	}
	return 0;
}

/* [HOST:]GUEST[/PROTO]; text is changed. */
static int read_port(char *text, uint64_t *host, uint64_t *guest, const char **proto)
{
	char *slash = strchr(text, '/'), *colon = strchr(text, ':');
	*host = 0;
	*proto = slash ? slash + 1 : "tcp";
	if (slash)
		*slash = '\0';
	if (colon)
		*colon = '\0';
	if (strcmp(*proto, "tcp") != 0 && strcmp(*proto, "udp") != 0)
		return -1;
	if (colon && !str_to_u64(text, 1, UINT16_MAX, host))
		return -1;
	return str_to_u64(colon ? colon + 1 : text, 1, UINT16_MAX, guest) ? 0 : -1;
}

static int add_ports(const struct cli_options *o, cJSON *network)
{
	cJSON *ports = o->port_count ? cJSON_AddArrayToObject(network, "ports") : NULL;
	for (unsigned i = 0; i < o->port_count; i++) {
		uint64_t host, guest;
		const char *proto;
		CLEANUP_FREE char *copy = strdup(o->ports[i]);
		if (!copy)
			return no_memory();
		if (read_port(copy, &host, &guest, &proto) < 0)
			return cli_usage_error("--port: \"%s\" is not [HOST:]GUEST[/udp], two "
					       "ports of 1 to 65535",
					       o->ports[i]);
		cJSON *port = cJSON_CreateObject();
		if (!cJSON_AddItemToArray(ports, port)) {
			cJSON_Delete(port);
			return no_memory();
		}
		if (!cJSON_AddNumberToObject(port, "guest", (double)guest) ||
		    !cJSON_AddStringToObject(port, "proto", proto) ||
		    (host && !cJSON_AddNumberToObject(port, "host", (double)host)))
			return no_memory();
	}
	return 0;
}

static int add_rate(const struct cli_options *o, cJSON *network)
{
	CLEANUP_FREE char *copy = o->rate ? strdup(o->rate) : NULL;
	cJSON *rate = o->rate ? cJSON_AddObjectToObject(network, "rate") : NULL;
	char *rest = copy, *word;
	if (o->rate && (!copy || !rate))
		return no_memory();
	while (rest && (word = strsep(&rest, ",")) != NULL) {
		uint64_t mbps;
		bool rx = strncmp(word, "rx=", 3) == 0, tx = strncmp(word, "tx=", 3) == 0;
		const char *name = rx ? "rx_mbps" : "tx_mbps";
		if ((!rx && !tx) || !str_to_u64(word + 3, 1, MSG_NET_RATE_MAX, &mbps) ||
		    cJSON_GetObjectItemCaseSensitive(rate, name))
			return cli_usage_error("--rate: \"%s\" is not rx=MBPS, tx=MBPS or both "
					       "with a comma",
					       o->rate);
		if (!cJSON_AddNumberToObject(rate, name, (double)mbps))
			return no_memory();
	}
	return 0;
}

static int add_network(const struct cli_options *o, cJSON *root)
{
	if (!o->network && !o->allow_count && !o->port_count && !o->rate)
		return 0;
	cJSON *network = cJSON_AddObjectToObject(root, "network");
	if (!network)
		return no_memory();
	if (o->network && strcmp(o->network, "none") != 0 && strcmp(o->network, "internet") != 0 &&
	    strcmp(o->network, "list") != 0)
		return cli_usage_error("--network: \"%s\" is not none, internet or list",
				       o->network);
	if (o->network && !cJSON_AddStringToObject(network, "egress", o->network))
		return no_memory();
	int code = add_allow(o, network);
	if (!code)
		code = add_ports(o, network);
	return code ? code : add_rate(o, network);
}

/* ------------------------------------------------------------------ wait */

/* --wait in its parts: KIND=VALUE[,status=N][,timeout=S] */
struct wait {
	char text[MSG_WAIT_TEXT_MAX + 64];
	char *value;		  /* within text */
	uint64_t status, timeout; /* 0: not given */
};

/* Cuts ",name=NUMBER" off the end of text; false where there is none such. */
static bool cut_number(char *text, const char *name, uint64_t max, uint64_t *number)
{
	char *comma = strrchr(text, ',');
	size_t n = strlen(name);
	if (!comma || strncmp(comma + 1, name, n) != 0 || comma[1 + n] != '=' ||
	    !str_to_u64(comma + n + 2, 1, max, number))
		return false;
	*comma = '\0';
	return true;
}

static bool read_wait(const char *text, struct wait *w)
{
	*w = (struct wait){0};
	if (!str_copy(w->text, sizeof(w->text), text))
		return false;
	/* In any order; each once. What is left of a console's text may have commas. */
	for (int i = 0; i < 2; i++) {
		if (!w->timeout)
			cut_number(w->text, "timeout", MSG_WAIT_MS_MAX / 1000, &w->timeout);
		if (!w->status && strncmp(w->text, "http=", 5) == 0)
			cut_number(w->text, "status", 599, &w->status);
	}
	w->value = strchr(w->text, '=');
	if (!w->value)
		return false;
	*w->value++ = '\0';
	return true;
}

unsigned cli_network_wait_s(const struct cli_options *o)
{
	struct wait w;
	if (!o->wait)
		return 0;
	return read_wait(o->wait, &w) && w.timeout ? (unsigned)w.timeout : WAIT_S;
}

/* PORT[/PATH] */
static bool add_http(struct wait *w, cJSON *wait_for)
{
	uint64_t port;
	char path[MSG_WAIT_TEXT_MAX] = "/";
	char *slash = strchr(w->value, '/');
	if (slash && !str_copy(path, sizeof(path), slash))
		return false;
	if (slash)
		*slash = '\0';
	if (!str_to_u64(w->value, 1, UINT16_MAX, &port))
		return false;
	cJSON *http = cJSON_AddObjectToObject(wait_for, "http");
	return cJSON_AddNumberToObject(http, "port", (double)port) &&
	       cJSON_AddStringToObject(http, "path", path) &&
	       (!w->status || cJSON_AddNumberToObject(http, "status", (double)w->status));
}

static bool add_kind(struct wait *w, cJSON *wait_for)
{
	uint64_t port;
	bool tcp = strcmp(w->text, "tcp") == 0;
	if (strcmp(w->text, "http") == 0)
		return add_http(w, wait_for);
	if (strcmp(w->text, "console") == 0)
		return *w->value && cJSON_AddStringToObject(wait_for, "console", w->value);
	if (!tcp && strcmp(w->text, "vsock") != 0)
		return false;
	return str_to_u64(w->value, 1, tcp ? UINT16_MAX : UINT32_MAX - 1, &port) &&
	       cJSON_AddNumberToObject(wait_for, w->text, (double)port);
}

static int add_wait(const struct cli_options *o, cJSON *root)
{
	struct wait w;
	if (!o->wait)
		return 0;
	cJSON *wait_for = cJSON_AddObjectToObject(root, "wait_for");
	if (!wait_for)
		return no_memory();
	if (!read_wait(o->wait, &w) || !add_kind(&w, wait_for))
		return cli_usage_error("--wait: \"%s\" is not tcp=PORT, http=PORT[/PATH]"
				       "[,status=N], vsock=PORT or console=TEXT, and after it "
				       "[,timeout=SECONDS] of 1 to 3600",
				       o->wait);
	if (w.timeout && !cJSON_AddNumberToObject(wait_for, "timeout_s", (double)w.timeout))
		return no_memory();
	return 0;
}

int cli_network_add(const struct cli_options *o, cJSON *root)
{
	int code = add_network(o, root);
	if (!code && o->vsock && !cJSON_AddTrueToObject(root, "vsock"))
		code = no_memory();
	return code ? code : add_wait(o, root);
}
