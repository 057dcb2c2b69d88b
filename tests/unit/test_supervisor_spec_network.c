// SPDX-License-Identifier: Apache-2.0
/*
 * supervisor/spec_network, spec_wait, cidr, the network of supervisor/admit, and how
 * supervisor/view shows it.
 */
#include "unit.h"

#include "admit.h"
#include "cidr.h"
#include "json.h"
#include "spec_network.h"
#include "spec_wait.h"
#include "template.h"
#include "util.h"
#include "view.h"

static const struct msg_network closed; /* egress none */

/* A specification with those fields besides its kernel. */
static struct spec *parse(const char *fields, struct err *e)
{
	char text[4096];
	int n = snprintf(text, sizeof(text), "{\"kernel\":\"k\",%s}", fields);
	cJSON *body = json_parse_object(text, (size_t)n, e);
	assert_non_null(body);
	struct spec *s = spec_from_json(body, e);
	cJSON_Delete(body);
	return s;
}

static struct spec *parse_good(const char *fields, const struct msg_network *fallback)
{
	struct err e = {.text = ""};
	struct spec *s = parse(fields, &e);
	if (!s || spec_network_settle(s, fallback, &e) < 0 || spec_wait_check(s, &e) < 0)
		fail_msg("%s: %s", fields, e.text);
	return s;
}

static void refuse(const char *fields, const char *part)
{
	struct err e = {0};
	struct spec *s = parse(fields, &e);
	if (s) {
		assert_true(spec_network_settle(s, &closed, &e) < 0 || spec_wait_check(s, &e) < 0);
		spec_free(s);
	}
	assert_int_equal(e.kind, ERR_INVALID);
	assert_says(e.text, part);
}

/* ------------------------------------------------------------------ networks as text */

static void test_cidr(void **unused)
{
	static const struct {
		const char *text;
		enum cidr_result result;
		const char *meant;
	} cases[] = {
		{"10.64.0.0/16", CIDR_GOOD, "10.64.0.0/16"},
		{"0.0.0.0/0", CIDR_GOOD, "0.0.0.0/0"},
		{"255.255.255.255/32", CIDR_GOOD, "255.255.255.255/32"},
		{"10.64.0.1/16", CIDR_HOST_BITS, "10.64.0.0/16"},
		{"128.0.0.0/0", CIDR_HOST_BITS, "0.0.0.0/0"},
		{"1.2.3.5/31", CIDR_HOST_BITS, "1.2.3.4/31"},
		{"1.2.3.4", CIDR_HOST_BITS, "1.2.3.4/32"},
		{"1.2.3.4/", CIDR_BAD, NULL},
		{"1.2.3.4/33", CIDR_BAD, NULL},
		{"1.2.3.4/08", CIDR_BAD, NULL},
		{"1.2.3.0/+24", CIDR_BAD, NULL},
		{"1.2.3.0/24 ", CIDR_BAD, NULL},
		{" 1.2.3.0/24", CIDR_BAD, NULL},
		{"1.2.3/24", CIDR_BAD, NULL},
		{"01.2.3.0/24", CIDR_BAD, NULL},
		{"1.2.3.256/32", CIDR_BAD, NULL},
		{"::/0", CIDR_BAD, NULL},
		{"example.org/24", CIDR_BAD, NULL},
		{"1111111111.2222222222.3333.4/32", CIDR_BAD, NULL},
		{"", CIDR_BAD, NULL},
		{"/8", CIDR_BAD, NULL},
	};
	struct msg_cidr c;
	char text[CIDR_TEXT_MAX];
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cidr_read(cases[i].text, 0, 32, &c) != cases[i].result)
			fail_msg("%s", cases[i].text);
		if (!cases[i].meant)
			continue;
		cidr_format(&c, text);
		assert_string_equal(text, cases[i].meant);
	}
	assert_int_equal(cidr_read("10.0.0.0/7", 8, 30, &c), CIDR_BAD);
	assert_int_equal(cidr_read("10.0.0.0/8", 8, 30, &c), CIDR_GOOD);
	assert_int_equal(cidr_read("10.0.0.0/31", 8, 30, &c), CIDR_BAD);
	assert_int_equal(cidr_read("10.0.0.0", 8, 30, &c), CIDR_BAD);
}

/* ------------------------------------------------------------------ network */

static void test_accepted(void **unused)
{
	struct err e;
	struct msg_create m;
	const struct msg_network list = {.egress = MSG_EGRESS_LIST,
					 .allow_count = 1,
					 .allow = {{.address = 0x0a000000, .prefix = 8}}};
	(void)unused;
	struct spec *s = parse_good(
		"\"network\":{\"ports\":[{\"guest\":80},{\"host\":8080,\"guest\":80,\"proto\":"
		"\"udp\"},{\"guest\":65535,\"host\":null}],\"egress\":\"list\",\"allow\":["
		"\"192.0.2.0/24\",\"198.51.100.7/32\"],\"rate\":{\"tx_mbps\":25000,\"rx_mbps\":null"
		"}},\"vsock\":true",
		&closed);
	assert_true(s->networked && s->vsock);
	/* Its address is given out later. */
	assert_int_equal(s->network.slot, 0);
	assert_int_equal(s->network.egress, MSG_EGRESS_LIST);
	assert_int_equal(s->network.allow_count, 2);
	assert_int_equal(s->network.allow[1].address, 0xc6336407);
	assert_int_equal(s->network.port_count, 3);
	assert_int_equal(s->network.ports[0].proto, MSG_PROTO_TCP);
	assert_int_equal(s->network.ports[0].host, 0);
	assert_int_equal(s->network.ports[1].proto, MSG_PROTO_UDP);
	assert_int_equal(s->network.ports[1].host, 8080);
	assert_int_equal(s->network.rx_mbps, 0);
	assert_int_equal(s->network.tx_mbps, 25000);
	s->network.slot = 9;
	spec_to_msg(s, "alice", &m);
	assert_int_equal(msg_write_create(&m, &e), sizeof(m));
	struct spec *again = spec_from_msg(&m, &e);
	assert_true(again->networked && again->vsock);
	assert_memory_equal(&again->network, &s->network, sizeof(s->network));
	spec_free(again);
	spec_free(s);
	s = parse_good("\"network\":null,\"vsock\":null,\"wait_for\":null", &list);
	assert_false(s->networked || s->vsock);
	spec_to_msg(s, "alice", &m);
	assert_int_equal(msg_write_create(&m, &e), sizeof(m));
	spec_free(s);
	/* What is left out comes from the configuration. */
	s = parse_good("\"network\":{\"egress\":null}", &closed);
	assert_true(s->networked);
	assert_int_equal(s->network.egress, MSG_EGRESS_NONE);
	spec_free(s);
	s = parse_good("\"network\":{}", &list);
	assert_int_equal(s->network.egress, MSG_EGRESS_LIST);
	assert_int_equal(s->network.allow[0].prefix, 8);
	spec_free(s);
	s = parse_good("\"network\":{\"allow\":[\"1.2.3.4/32\"]}", &list);
	assert_int_equal(s->network.allow_count, 1);
	assert_int_equal(s->network.allow[0].prefix, 32);
	spec_free(s);
	s = parse_good("\"network\":{\"egress\":\"internet\"}", &list);
	assert_int_equal(s->network.egress, MSG_EGRESS_INTERNET);
	assert_int_equal(s->network.allow_count, 0);
	spec_free(s);
}

static void test_faults(void **unused)
{
	static const char *const cases[][2] = {
		{"true", "network: true is not allowed; must be null or an object"},
		{"{\"egress\":\"Internet\"}",
		 "network.egress: \"Internet\" is not allowed; must be none, internet or list"},
		{"{\"egress\":1}", "network.egress: 1"},
		{"{\"egress\":\"list\"}", "network.allow: missing"},
		{"{\"egress\":\"list\",\"allow\":[]}", "network.allow: missing"},
		{"{\"egress\":\"none\",\"allow\":[\"1.0.0.0/8\"]}",
		 "network.allow: goes with egress list only, not with none"},
		{"{\"allow\":[\"1.0.0.0/8\"]}", "not with none, this host's default"},
		{"{\"allow\":\"1.0.0.0/8\"}", "network.allow: \"1.0.0.0/8\" is not allowed; must "
					      "be an array of at most 16"},
		{"{\"allow\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "network.allow: an"},
		{"{\"egress\":\"list\",\"allow\":[\"1.0.0.0/8\",\"10.1.2.3/8\"]}",
		 "network.allow[1]: \"10.1.2.3/8\" is not allowed; must be 10.0.0.0/8"},
		{"{\"allow\":[\"1.2.3.4\"]}", "must be 1.2.3.4/32, if that is"},
		{"{\"allow\":[\"2001:db8::/32\"]}", "network.allow[0]: \"2001:db8::/32\""},
		{"{\"allow\":[7]}", "network.allow[0]: 7 is not allowed; must be an IPv4 network"},
		{"{\"allow\":[\"1.0.0.0/8\",\"1.0.0.0/8\"]}",
		 "network.allow[1]: 1.0.0.0/8 is allow[0] already"},
		{"{\"ports\":{}}", "network.ports: an object is not allowed"},
		{"{\"ports\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "network.ports: an"},
		{"{\"ports\":[80]}", "network.ports[0]: 80 is not allowed; must be an object"},
		{"{\"ports\":[{}]}", "network.ports[0].guest: missing"},
		{"{\"ports\":[{\"guest\":0}]}", "network.ports[0].guest: 0 is not allowed"},
		{"{\"ports\":[{\"guest\":65536}]}", "network.ports[0].guest: 65536"},
		{"{\"ports\":[{\"guest\":null}]}", "network.ports[0].guest: null"},
		{"{\"ports\":[{\"guest\":1,\"host\":\"2\"}]}", "network.ports[0].host: \"2\""},
		{"{\"ports\":[{\"guest\":1,\"proto\":\"sctp\"}]}",
		 "network.ports[0].proto: \"sctp\" is not allowed; must be tcp or udp"},
		{"{\"ports\":[{\"guest\":1,\"to\":2}]}", "network.ports[0]: unknown field \"to\""},
		{"{\"ports\":[{\"guest\":80},{\"guest\":81},{\"guest\":80,\"host\":7}]}",
		 "network.ports[2].guest: 80/tcp is ports[0] already"},
		{"{\"ports\":[{\"guest\":1,\"host\":7,\"proto\":\"udp\"},{\"guest\":2,\"host\":7,"
		 "\"proto\":\"udp\"}]}",
		 "network.ports[1].host: 7/udp is ports[0] already"},
		{"{\"rate\":5}", "network.rate: 5 is not allowed; must be an object"},
		{"{\"rate\":{\"rx_mbps\":0}}",
		 "network.rate.rx_mbps: 0 is not allowed; must be a whole number of 1 to 25000"},
		{"{\"rate\":{\"tx_mbps\":25001}}", "network.rate.tx_mbps: 25001"},
		{"{\"rate\":{\"mbps\":1}}", "network.rate: unknown field \"mbps\""},
		{"{\"address\":\"1.2.3.4\"}", "network: unknown field \"address\""},
	};
	char fields[1024];
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(fields, sizeof(fields), "\"network\":%s", cases[i][0]);
		refuse(fields, cases[i][1]);
	}
}

/* ------------------------------------------------------------------ wait_for */

static struct msg_wait wait_of(const char *fields)
{
	struct err e;
	struct msg_create m;
	struct spec *s = parse_good(fields, &closed);
	struct msg_wait w = s->wait;
	s->network.slot = s->networked;
	spec_to_msg(s, "alice", &m);
	assert_int_equal(msg_write_create(&m, &e), sizeof(m));
	assert_memory_equal(&m.wait, &w, sizeof(w));
	/* What wakes goes on where it was, ready or not. */
	s->source = MSG_SOURCE_WAKE;
	s->restore = MSG_RESTORE_COPY;
	spec_to_msg(s, "alice", &m);
	assert_int_equal(m.wait.kind, MSG_WAIT_NONE);
	assert_int_equal(msg_write_create(&m, &e), sizeof(m));
	spec_free(s);
	return w;
}

static void test_wait(void **unused)
{
	(void)unused;
	struct msg_wait w = wait_of("\"network\":{},\"wait_for\":{\"tcp\":22}");
	assert_int_equal(w.kind, MSG_WAIT_TCP);
	assert_int_equal(w.port, 22);
	assert_int_equal(w.timeout_ms, 60000);
	w = wait_of("\"wait_for\":{\"timeout_s\":3600,\"http\":{\"status\":204,\"path\":\"/a?b=c\","
		    "\"port\":80},\"tcp\":null},\"network\":{}");
	assert_int_equal(w.kind, MSG_WAIT_HTTP);
	assert_int_equal(w.status, 204);
	assert_int_equal(w.timeout_ms, 3600000);
	assert_string_equal(w.text, "/a?b=c");
	w = wait_of("\"network\":{},\"wait_for\":{\"http\":{\"port\":80,\"status\":null}}");
	assert_string_equal(w.text, "/");
	assert_int_equal(w.status, 0);
	w = wait_of("\"wait_for\":{\"vsock\":4294967294},\"vsock\":true");
	assert_int_equal(w.kind, MSG_WAIT_VSOCK);
	w = wait_of("\"wait_for\":{\"console\":\"login: \",\"timeout_s\":1}");
	assert_int_equal(w.kind, MSG_WAIT_CONSOLE);
	assert_string_equal(w.text, "login: ");
	assert_int_equal(w.timeout_ms, 1000);
}

static void test_wait_faults(void **unused)
{
	static const char *const cases[][2] = {
		{"\"ready\"", "wait_for: \"ready\" is not allowed; must be null or an object"},
		{"{}", "wait_for: does not say for what; must have one of tcp, http, vsock and"},
		{"{\"timeout_s\":5}", "wait_for: does not say for what"},
		{"{\"tcp\":22,\"console\":\"x\"}", "wait_for: has several of them"},
		{"{\"udp\":22}", "wait_for: unknown field \"udp\""},
		{"{\"tcp\":0}", "wait_for.tcp: 0 is not allowed; must be a whole number of 1 to "
				"65535"},
		{"{\"tcp\":22}", "wait_for.tcp: is not possible without network"},
		{"{\"http\":{\"port\":1}}", "wait_for.http: is not possible without network"},
		{"{\"http\":80}", "wait_for.http: 80 is not allowed; must be an object"},
		{"{\"http\":{\"path\":\"/\"}}", "wait_for.http.port: missing"},
		{"{\"http\":{\"port\":1,\"path\":\"a\"}}", "wait_for.http.path: \"a\""},
		{"{\"http\":{\"port\":1,\"path\":\"/a b\"}}", "wait_for.http.path: \"/a b\""},
		{"{\"http\":{\"port\":1,\"path\":\"/\\u00e4\"}}", "wait_for.http.path: "},
		{"{\"http\":{\"port\":1,\"status\":99}}", "wait_for.http.status: 99"},
		{"{\"http\":{\"port\":1,\"host\":\"x\"}}", "wait_for.http: unknown field \"host\""},
		{"{\"vsock\":4294967295}", "wait_for.vsock: 4294967295"},
		{"{\"vsock\":5}", "wait_for.vsock: is not possible without a vsock device; add"},
		{"{\"console\":\"\"}", "wait_for.console: \"\" is not allowed"},
		{"{\"console\":\"a\\nb\"}", "wait_for.console: \"a?b\""},
		{"{\"console\":\"x\",\"timeout_s\":0}", "wait_for.timeout_s: 0 is not allowed"},
		{"{\"console\":\"x\",\"timeout_s\":3601}", "wait_for.timeout_s: 3601"},
	};
	char fields[1024], text[MSG_WAIT_TEXT_MAX + 1];
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(fields, sizeof(fields), "\"wait_for\":%s", cases[i][0]);
		refuse(fields, cases[i][1]);
	}
	memset(text, 'x', sizeof(text));
	text[MSG_WAIT_TEXT_MAX] = '\0';
	snprintf(fields, sizeof(fields), "\"wait_for\":{\"console\":\"%s\"}", text);
	refuse(fields, "wait_for.console: \"xxx");
}

/* ------------------------------------------------------------------ templates */

/* A template whose guest has those fields. */
static struct template make_template(const char *fields)
{
	struct template t = {.content = MSG_SET_RAM};
	t.spec = parse_good(fields, &closed);
	t.spec->network.slot = t.spec->networked ? 7 : 0;
	return t;
}

static struct spec *use(const struct template *t, const char *fields, struct err *e)
{
	char text[1024];
	*e = (struct err){0};
	int n = snprintf(text, sizeof(text), "{\"template\":\"t\"%s}", fields);
	cJSON *body = json_parse_object(text, (size_t)n, e);
	struct spec *s = spec_from_json(body, e);
	cJSON_Delete(body);
	if (s && (spec_use_template(s, t, 53, e) < 0 || spec_network_settle(s, &closed, e) < 0 ||
		  spec_wait_check(s, e) < 0)) {
		spec_free(s);
		return NULL;
	}
	return s;
}

static void test_template_with_network(void **unused)
{
	struct err e;
	(void)unused;
	struct template t = make_template(
		"\"network\":{\"egress\":\"internet\",\"rate\":{\"rx_mbps\":7},\"ports\":["
		"{\"guest\":80,\"host\":8080}]},\"vsock\":true");
	/* Its policy, but neither its address nor its port of the host. */
	struct spec *s = use(&t, "", &e);
	assert_non_null(s);
	assert_true(s->networked && s->vsock);
	assert_int_equal(s->network.slot, 0);
	assert_int_equal(s->network.egress, MSG_EGRESS_INTERNET);
	assert_int_equal(s->network.rx_mbps, 7);
	assert_int_equal(s->network.ports[0].guest, 80);
	assert_int_equal(s->network.ports[0].host, 0);
	spec_free(s);
	/* Or all of what is asked for, and nothing of the template's. */
	s = use(&t, ",\"network\":{\"egress\":\"none\"},\"wait_for\":{\"vsock\":5}", &e);
	assert_int_equal(s->network.egress, MSG_EGRESS_NONE);
	assert_int_equal(s->network.rx_mbps, 0);
	assert_int_equal(s->network.port_count, 0);
	spec_free(s);
	s = use(&t, ",\"wait_for\":{\"tcp\":5}", &e);
	assert_non_null(s);
	spec_free(s);
	assert_null(use(&t, ",\"network\":null", &e));
	assert_int_equal(e.kind, ERR_INVALID);
	assert_says(e.text, "network: null is not allowed with this template");
	spec_free(t.spec);
}

static void test_template_without_network(void **unused)
{
	struct err e;
	(void)unused;
	struct template t = make_template("\"balloon\":true");
	struct spec *s = use(&t, ",\"network\":null", &e);
	assert_false(s->networked || s->vsock);
	spec_free(s);
	assert_null(use(&t, ",\"network\":{}", &e));
	assert_says(e.text, "network: an object is not allowed with this template");
	assert_null(use(&t, ",\"wait_for\":{\"tcp\":5}", &e));
	assert_says(e.text, "without network; the template's guest has none");
	assert_null(use(&t, ",\"wait_for\":{\"vsock\":5}", &e));
	assert_says(e.text, "without a vsock device; the template's guest has none");
	spec_free(t.spec);
}

/* ------------------------------------------------------------------ admission */

static struct config config = {
	.policy = {.pool = 0x0a400000, .pool_bits = 29, .port_first = 8000, .port_count = 4},
	.admin_ports = {.first = 8003, .count = 1},
};
static struct pool pool;

static void refuse_admission(const char *tenant, const char *fields, enum err_kind kind,
			     const char *part)
{
	struct err e = {0};
	struct spec *s = parse(fields, &e);
	assert_non_null(s);
	assert_int_equal(admit_network(&config, &pool, tenant, s, &e), -1);
	assert_int_equal(e.kind, kind);
	assert_says(e.text, part);
	spec_free(s);
}

#define PORT(host) "\"network\":{\"ports\":[{\"guest\":1},{\"guest\":2,\"host\":" host "}]}"

static void test_admission(void **unused)
{
	struct err e;
	struct config_tenant tenants[] = {
		{.name = "alice", .ports = {.first = 8001, .count = 2}},
		{.name = "bob"},
	};
	const struct msg_network other = {.port_count = 1, .ports = {{MSG_PROTO_TCP, 80, 8002}}};
	(void)unused;
	config.tenants = tenants;
	config.tenant_count = 2;
	config.egress.egress = MSG_EGRESS_INTERNET;
	assert_int_equal(pool_open(&pool, &config.policy, &e), 0);
	struct spec *s = parse("\"network\":{}", &e);
	assert_int_equal(admit_network(&config, &pool, "bob", s, &e), 0);
	assert_int_equal(s->network.egress, MSG_EGRESS_INTERNET);
	/* The address is given out at the making only. */
	assert_int_equal(s->network.slot, 0);
	assert_int_equal(pool.used, 0);
	spec_free(s);
	s = parse(PORT("8002"), &e);
	assert_int_equal(admit_network(&config, &pool, "alice", s, &e), 0);
	spec_free(s);
	s = parse(PORT("8003"), &e);
	assert_int_equal(admit_network(&config, &pool, "admin", s, &e), 0);
	spec_free(s);
	refuse_admission("alice", PORT("8000"), ERR_INVALID,
			 "network.ports[1].host: 8000 is not allowed; must be 8001 to 8002, the "
			 "host_ports of alice");
	refuse_admission("alice", PORT("8003"), ERR_INVALID, "must be 8001 to 8002");
	refuse_admission("bob", PORT("8001"), ERR_INVALID,
			 "network.ports[1].host: 8001 is not allowed, as bob may have no ports");
	struct msg_network taken = other;
	assert_int_equal(pool_take(&pool, &taken, &e), 0);
	refuse_admission("alice", PORT("8002"), ERR_STATE,
			 "network.ports[1].host: port 8002/tcp of the host is taken");
	pool_close(&pool);
	refuse_admission("alice", "\"network\":{}", ERR_INVALID,
			 "network: this host has no [network] pool");
	config.tenants = NULL;
	config.tenant_count = 0;
}

/* ------------------------------------------------------------------ view */

static void test_view(void **unused)
{
	static struct daemon d = {.config.policy = {.pool = 0x0a400000, .pool_bits = 16}};
	static struct sandbox sb = {.d = &d, .tenant = "alice", .id = "box"};
	(void)unused;
	sb.spec = parse_good(
		"\"network\":{\"egress\":\"list\",\"allow\":[\"192.0.2.0/24\"],\"ports\":["
		"{\"guest\":80},{\"guest\":53,\"proto\":\"udp\",\"host\":5353}],\"rate\":"
		"{\"rx_mbps\":7}},\"vsock\":true,\"wait_for\":{\"tcp\":80}",
		&closed);
	sb.spec->network.slot = 258;
	sb.vmm_pid = 1;
	sb.timings.shim = (struct msg_timings){.slot_us = 12, .ready_us = 34};
	cJSON *o = view_sandbox(&sb);
	char *text = cJSON_PrintUnformatted(o);
	assert_says(text, "\"network\":{\"address\":\"10.64.1.2\",\"egress\":\"list\",\"allow\":["
			  "\"192.0.2.0/24\"],\"ports\":[{\"guest\":80,\"proto\":\"tcp\"},"
			  "{\"guest\":53,\"proto\":\"udp\",\"host\":5353}],\"rate\":{\"rx_mbps\":7}"
			  ",\"guest_address\":\"10.177.0.2\",\"guest_prefix\":30,"
			  "\"guest_gateway\":\"10.177.0.1\",\"guest_mac\":\"02:c1:01:57:00:02\"},"
			  "\"vsock\":true");
	assert_says(text, "\"slot_us\":12");
	assert_says(text, "\"ready_us\":34");
	assert_null(strstr(text, "wait"));
	cJSON_free(text);
	cJSON_Delete(o);
	/* A template's has no address. */
	o = view_network(sb.spec, NULL);
	assert_null(cJSON_GetObjectItemCaseSensitive(o, "address"));
	cJSON_Delete(o);
	spec_free(sb.spec);
	sb.spec = parse_good("\"vsock\":false", &closed);
	o = view_sandbox(&sb);
	text = cJSON_PrintUnformatted(o);
	assert_says(text, "\"network\":null,\"vsock\":false");
	cJSON_free(text);
	cJSON_Delete(o);
	spec_free(sb.spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cidr),
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_wait_faults),
		cmocka_unit_test(test_template_with_network),
		cmocka_unit_test(test_template_without_network),
		cmocka_unit_test(test_admission),
		cmocka_unit_test(test_view),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
