// SPDX-License-Identifier: Apache-2.0
/* supervisor/config: defaults, every key, and every fault with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "config_network.h"

#include <sys/stat.h>
#include <unistd.h>

#define USER "[host]\nuser = 4999\n"

static struct config c;

/* Parses text; gives the report (empty when it was accepted), to be freed. */
static char *parse(const char *text)
{
	char *report = NULL;
	FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	assert_non_null(file);
	int rc = config_parse(&c, file, "test.conf", &report);
	fclose(file);
	assert_true((rc == 0) == (report == NULL));
	return report ? report : strdup("");
}

static void accept(const char *text)
{
	char *report = parse(text);
	assert_string_equal(report, "");
	free(report);
}

static void refuse(const char *text, const char *part)
{
	char *report = parse(text);
	if (!strstr(report, part))
		fail_msg("\"%s\" is not in \"%s\"", part, report);
	free(report);
	config_free(&c);
}

static void test_defaults(void **unused)
{
	(void)unused;
	accept(USER "[vmm]\nbinary = /bin/true\n");
	const struct policy *p = &c.policy;
	assert_string_equal(p->state_dir, "/var/lib/cloister");
	assert_string_equal(p->run_dir, "/run/cloister");
	assert_string_equal(p->cgroup, "cloister");
	assert_int_equal(p->require_limits, 1);
	assert_int_equal(p->uid_base, 700000);
	assert_int_equal(p->uid_count, 4096);
	assert_int_equal(p->max_sandboxes, 1024);
	assert_int_equal(p->deadline_ms[POLICY_DEADLINE_CREATE], 30000);
	assert_int_equal(p->deadline_ms[POLICY_DEADLINE_SHUTDOWN], 2000);
	assert_int_equal(p->console_bytes, 65536);
	assert_int_equal(p->reboots, 16);
	assert_int_equal(c.event_backlog, 4096);
	assert_int_equal(c.stop_ms, 5000);
	assert_int_equal(p->user_uid, 4999);
	assert_int_equal(p->control_gid, p->user_gid);
	assert_true(config_ids_have(&c.admin_users, 0));
	config_free(&c);
}

static void test_everything(void **unused)
{
	(void)unused;
	accept("# comment\n; another\n[host]\nstate_dir=/a/b\nrun_dir = /c\nuser = 4999\n"
	       "control_group = 4998\ncgroup = x/y\nrequire_limits = no\n\n"
	       "[vmm]\nbinary = /bin/true\nbind_ro = /etc/a\nbind_ro = /etc/b\nenv = A=1\n"
	       "env = B_2=x; y = z\nuid_base = 5000\nuid_count = 10\n"
	       "[limits]\ncreate_ms = 100\ndisks_ms = 86400000\nmax_disk_mib = 7\nreboots = 0\n"
	       "[network]\npool = 10.64.0.0/16\nuplink = eth0\negress = 10.0.0.0/8, 1.2.3.4/32\n"
	       "resolver = 192.0.2.53\nhost_ports = 8000-8099\n"
	       "[tenant acme]\nusers = 4001, 4002 4001\ngroups = 77\nmax_sandboxes = 5\n"
	       "max_disk_mib = 9\nblock_device = fast /dev/vg/a\n"
	       "block_device = slow \t /dev/vg/b\nhost_ports = 8000-8000\n"
	       "[tenant beta]\nusers = 4003\nblock_device = fast /dev/vg/a\n"
	       "[admin]\nusers = 4000\ngroups = 0\nblock_device = fast /dev/vg/c\n"
	       "host_ports = 8050-8099\n");
	assert_string_equal(c.policy.state_dir, "/a/b");
	assert_int_equal(c.policy.control_gid, 4998);
	assert_int_equal(c.policy.require_limits, 0);
	assert_int_equal(c.policy.bind_count, 2);
	assert_string_equal(c.policy.env[1], "B_2=x; y = z");
	assert_int_equal(c.policy.max_sandboxes, 9); /* the default, cut to what the uids allow */
	assert_int_equal(c.tenant_count, 2);
	assert_string_equal(c.tenants[0].name, "acme");
	assert_int_equal(c.tenants[0].users.count, 2);
	assert_int_equal(c.tenants[0].max_sandboxes, 5);
	assert_int_equal(c.tenants[1].max_sandboxes, 0);
	assert_int_equal(c.policy.deadline_ms[POLICY_DEADLINE_DISKS], 86400000);
	assert_int_equal(c.max_disk_mib, 7);
	assert_int_equal(c.tenants[0].max_disk_mib, 9);
	assert_int_equal(c.policy.device_count, 4);
	assert_int_equal(c.policy.pool, 0x0a400000);
	assert_int_equal(c.policy.pool_bits, 16);
	assert_string_equal(c.policy.uplink, "eth0");
	assert_int_equal(c.policy.resolver, 0xc0000235);
	assert_int_equal(c.policy.port_first, 8000);
	assert_int_equal(c.policy.port_count, 100);
	assert_int_equal(c.egress.egress, MSG_EGRESS_LIST);
	assert_int_equal(c.egress.allow_count, 2);
	assert_int_equal(c.egress.allow[0].address, 0x0a000000);
	assert_int_equal(c.egress.allow[0].prefix, 8);
	assert_int_equal(c.egress.allow[1].prefix, 32);
	assert_int_equal(c.tenants[0].ports.first, 8000);
	assert_int_equal(c.tenants[0].ports.count, 1);
	assert_int_equal(c.tenants[1].ports.count, 0);
	assert_int_equal(c.admin_ports.first, 8050);
	assert_int_equal(c.admin_ports.count, 50);
	assert_string_equal(c.policy.devices[1].key, "acme:slow");
	assert_string_equal(c.policy.devices[1].path, "/dev/vg/b");
	assert_string_equal(c.policy.devices[2].key, "beta:fast");
	assert_string_equal(c.policy.devices[3].key, "admin:fast");
	assert_string_equal(c.policy.devices[3].path, "/dev/vg/c");
	assert_true(config_ids_have(&c.admin_users, 4000));
	assert_false(config_ids_have(&c.admin_users, 0));
	config_free(&c);
}

static void test_faults(void **unused)
{
	(void)unused;
	refuse("[host]\nuser = 4999\nstate_dir = relative\n",
	       "test.conf:3: state_dir = \"relative\": must be an absolute path");
	refuse(USER "run_dir = /a/../b\n", ":3: run_dir");
	refuse(USER "colour = red\n", ":3: unknown key \"colour\" in section [host]");
	refuse(USER "user = 4999\n", ":3: key \"user\" again: it is in line 2 already");
	refuse(USER "[hots]\nx = 1\n", ":3: unknown section [hots]");
	refuse(USER "[empty one]\n", ":3: unknown section [empty one]");
	refuse("x = 1\n" USER, ":1: key \"x\" stands before any [section]");
	refuse(USER "nonsense\n", ":3: neither [section], key = value, nor a comment");
	refuse(USER "[vmm\n", ":3: a section line must be [NAME]");
	refuse(USER "[limits]\ncreate_ms = 99\n",
	       ":4: create_ms = \"99\": must be a whole number of 100 to 600000");
	refuse(USER "[limits]\ncreate_ms = 1e3\n", ":4: create_ms");
	refuse(USER "[limits]\nmax_sandboxes = 5000\n", "must be below [vmm] uid_count");
	refuse(USER "require_limits = maybe\n", "must be yes or no");
	refuse("[host]\nuser = no-such-user-here\n", "there is no user");
	refuse("[host]\nuser = root\n", "is root");
	refuse(USER "[tenant a]\nusers = 5, no-such-user-here\n",
	       "\"no-such-user-here\" is not one");
	refuse(USER "[tenant A]\nusers = 5\n", ":3: tenant name \"A\"");
	refuse(USER "[tenant admin]\nusers = 5\n", ":3: tenant name \"admin\"");
	refuse(USER "[tenant a]\nusers = 5\n[tenant a]\nusers = 6\n",
	       ":5: second section [tenant a]");
	refuse(USER "[tenant a]\nusers = 5\n[tenant b]\nusers = 5\n", "uid 5 is in [tenant a] too");
	refuse(USER "[tenant a]\nusers = 700001\n", "uid 700001 lies in the range");
	refuse(USER "[tenant a]\nmax_vcpus = 2\n", "neither users nor groups");
	refuse(USER "[vmm]\nenv = 1A=x\n", "NAME=VALUE");
	refuse(USER "run_dir = /var/lib/cloister\n", "are the same directory");
}

#define NETWORK USER "[network]\nuplink = eth0\npool = 10.64.0.0/24\n"

static void test_network_faults(void **unused)
{
	char text[1024];
	(void)unused;
	refuse(USER "[network]\npool = 10.0.0.1/8\n",
	       ":4: pool = \"10.0.0.1/8\": must be an IPv4 network like 10.64.0.0/16, /8 to /30; "
	       "\"10.0.0.1/8\" lies in the network 10.0.0.0/8");
	refuse(USER "[network]\npool = 10.0.0.0/31\n", ":4: pool");
	refuse(USER "[network]\npool = 10.0.0.0\n", ":4: pool");
	refuse(USER "[network]\npool = 10.0.0/24\n", ":4: pool");
	refuse(USER "[network]\nuplink = much-too-long-a-name\n", "interface");
	refuse(USER "[network]\nresolver = 10.0.0.0/8\n", ":4: resolver");
	refuse(USER "[network]\nresolver = 10.0.0\n", ":4: resolver");
	refuse(USER "[network]\negress = all\n", "none, internet, or at most 16 IPv4 networks");
	refuse(USER "[network]\negress = 10.0.0.0/8 10.1.2.3/16\n",
	       "; \"10.1.2.3/16\" lies in the network 10.1.0.0/16");
	refuse(USER "[network]\negress = 10.0.0.0/8 none\n", "\"none\" is not one");
	int n = snprintf(text, sizeof(text), "%s[network]\negress =", USER);
	for (int i = 0; i <= MSG_ALLOW_MAX; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " 10.%d.0.0/16", i);
	snprintf(text + n, sizeof(text) - (size_t)n, "\n");
	refuse(text, "\"10.16.0.0/16\" is one too many");
	for (int i = 0; i < 5; i++) {
		static const char *const special[] = {"10.177.0.0/24", "127.0.0.0/16",
						      "169.254.128.0/20", "240.0.0.0/24",
						      "0.128.0.0/16"};
		snprintf(text, sizeof(text), "%s[network]\nuplink = e\npool = %s\n", USER,
			 special[i]);
		refuse(text, "[network] pool: holds addresses that no sandbox can have");
	}
	refuse(NETWORK "host_ports = 8000\n", ":6: host_ports = \"8000\": must be FROM-TO");
	refuse(NETWORK "host_ports = 0-5\n", ":6: host_ports");
	refuse(NETWORK "host_ports = 9-8\n", ":6: host_ports");
	refuse(NETWORK "host_ports = 9-65536\n", ":6: host_ports");
	refuse(NETWORK "host_ports = 1000-1128\n", "129 ports; at most 128 are possible with this");
	refuse(USER "[network]\nhost_ports = 1-2\n", "[network] host_ports: needs a pool");
	refuse(USER "[admin]\nhost_ports = 1-2\n",
	       "[admin] host_ports: needs [network] host_ports");
	refuse(NETWORK "host_ports = 1000-1009\n[tenant a]\nusers = 5\nhost_ports = 1009-1010\n",
	       "[tenant a] host_ports: must lie within those of [network], 1000-1009");
	refuse(NETWORK "host_ports = 1000-1009\n[tenant a]\nusers = 5\nhost_ports = 999-1000\n",
	       "[tenant a] host_ports: must lie within");
}

static void find_uplink(const char *routes, const char *uplink)
{
	char found[16];
	FILE *file = fmemopen((void *)(uintptr_t)routes, strlen(routes), "r");
	assert_non_null(file);
	config_network_find_uplink(file, found);
	fclose(file);
	assert_string_equal(found, uplink);
}

static void test_uplink(void **unused)
{
	(void)unused;
#define HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	find_uplink(HEAD "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "");
	find_uplink(HEAD "wifi\t00000000\t0102000A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
			 "down\t00000000\t0102000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n"
			 "none\t00000000\t0102000A\t0201\t0\t0\t1\t00000000\t0\t0\t0\n"
			 "half\t00000000\t0102000A\t0003\t0\t0\t1\t00000080\t0\t0\t0\n"
			 "eth7\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
		    "eth7");
	find_uplink("", "");
}

static void test_devices(void **unused)
{
	char text[4096];
	(void)unused;
	refuse(USER "[limits]\nmax_disk_mib = 0\n", ":4: max_disk_mib");
	refuse(USER "[limits]\nblock_device = a /dev/b\n", ":4: unknown key \"block_device\"");
	refuse(USER "[admin]\nblock_device = a\n",
	       ":4: block_device = \"a\": must be NAME PATH: a name and the absolute path");
	refuse(USER "[admin]\nblock_device = A /dev/b\n", "a name is 1 to 63 of");
	refuse(USER "[admin]\nblock_device = a dev/b\n", ":4: block_device");
	refuse(USER "[admin]\nblock_device = a /dev/../b\n", ":4: block_device");
	refuse(USER "[admin]\nblock_device = a /dev/b c\n", ":4: block_device");
	refuse(USER "[admin]\nblock_device = a /dev/b\nblock_device = a /dev/c\n",
	       ":5: block_device = \"a /dev/c\": must be NAME PATH: a name and the absolute path "
	       "of "
	       "a block device, at most 32 times; there is \"a\" for /dev/b already");
	refuse(USER "[admin]\nblock_device = a /dev/b\nblock_device = c /dev/b\n",
	       "there is \"a\" for /dev/b already");
	int n = snprintf(text, sizeof(text), "%s[admin]\n", USER);
	for (int i = 0; i <= POLICY_DEVICES_MAX; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "block_device = d%d /dev/d%d\n",
			      i, i);
	refuse(text, ":36: block_device");
}

static void test_all_faults_are_told(void **unused)
{
	(void)unused;
	char *report = parse(USER "a = 1\nb = 2\n[limits]\nreboots = x\n");
	assert_non_null(strstr(report, ":3: "));
	assert_non_null(strstr(report, ":4: "));
	assert_non_null(strstr(report, ":6: "));
	free(report);
	config_free(&c);
}

static void test_long_lines(void **unused)
{
	char text[2048];
	(void)unused;
	int n = snprintf(text, sizeof(text), "%s[vmm]\nbinary = /bin/true\nenv = A=", USER);
	memset(text + n, 'x', 500);
	strncpy(text + n + 500, "\n", 8);
	accept(text);
	assert_int_equal(strlen(c.policy.env[0]), 502);
	config_free(&c);
	memset(text + n, 'x', 600);
	strncpy(text + n + 600, "\nbad\n", 8);
	refuse(text, ":5: line longer than 512 bytes");
	refuse(text, ":6: neither");
}

static void test_file_checks(void **unused)
{
	char name[] = "/tmp/cloister-config-XXXXXX", *report;
	int fd = mkstemp(name);
	(void)unused;
	if (geteuid() != 0)
		skip();
	dprintf(fd, USER "[vmm]\nbinary = /bin/true\n");
	assert_int_equal(config_load(&c, name, &report), 0);
	config_free(&c);
	assert_int_equal(fchmod(fd, 0664), 0);
	assert_int_equal(config_load(&c, name, &report), -1);
	assert_non_null(strstr(report, "mode 0664"));
	free(report);
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(fchown(fd, 4999, 0), 0);
	assert_int_equal(config_load(&c, name, &report), -1);
	assert_non_null(strstr(report, "owned by uid 4999"));
	free(report);
	close(fd);
	unlink(name);
	assert_int_equal(config_load(&c, name, &report), -1);
	free(report);
	assert_int_equal(config_load(&c, "/", &report), -1);
	free(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),   cmocka_unit_test(test_everything),
		cmocka_unit_test(test_faults),	   cmocka_unit_test(test_all_faults_are_told),
		cmocka_unit_test(test_long_lines), cmocka_unit_test(test_file_checks),
		cmocka_unit_test(test_devices),	   cmocka_unit_test(test_network_faults),
		cmocka_unit_test(test_uplink),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
