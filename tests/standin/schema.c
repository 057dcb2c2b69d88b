// SPDX-License-Identifier: Apache-2.0
/* The fields of Cloud Hypervisor 53's vmm/src/vm_config.rs as built with its default features, in
 * the order in which vm.info shows them. */
#include "standin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum type { U8, U16, U32, U64, I32, BOOL, STR, MAC, ADDRESS, ENUM, OBJECT, LIST };

struct field {
	const char *name;
	enum type type;
	enum { OPTION, SHOWN_NULL, REQUIRED, DEFAULT, SKIP_FALSE } presence;
	const char *value;	 /* DEFAULT: as JSON */
	const struct field *sub; /* OBJECT: its fields; LIST: the field of an entry */
	const char *variants;	 /* ENUM: "`A`, `B`" */
	const char *alias;
};

#define END                                                                                        \
	{                                                                                          \
		.name = NULL                                                                       \
	}
#define FLAG(n)                                                                                    \
	{                                                                                          \
		.name = n, .type = BOOL, .presence = DEFAULT, .value = "false"                     \
	}
#define FLAG_ON(n)                                                                                 \
	{                                                                                          \
		.name = n, .type = BOOL, .presence = DEFAULT, .value = "true"                      \
	}
#define NUMBER(n, t, v)                                                                            \
	{                                                                                          \
		.name = n, .type = t, .presence = DEFAULT, .value = v                              \
	}
#define OPTIONAL(n, t)                                                                             \
	{                                                                                          \
		.name = n, .type = t                                                               \
	}
#define NEEDED(n, t)                                                                               \
	{                                                                                          \
		.name = n, .type = t, .presence = REQUIRED                                         \
	}
#define CHOICE(n, v, list)                                                                         \
	{                                                                                          \
		.name = n, .type = ENUM, .presence = DEFAULT, .value = "\"" v "\"",                \
		.variants = list                                                                   \
	}
#define LIST_OF(n, entry)                                                                          \
	{                                                                                          \
		.name = n, .type = LIST, .sub = entry                                              \
	}
#define PCI                                                                                        \
	OPTIONAL("id", STR), {.name = "iommu", .type = BOOL, .presence = SKIP_FALSE},              \
		NUMBER("pci_segment", U16, "0"), OPTIONAL("pci_device_id", U8)
#define CONSOLE_MODES "`Off`, `Pty`, `Tty`, `File`, `Socket`, `Null`"
#define MODE                                                                                       \
	{                                                                                          \
		.name = "mode", .type = ENUM, .presence = REQUIRED, .variants = CONSOLE_MODES      \
	}

static const struct field u16_entry[] = {NEEDED("", U16)};
static const struct field u32_entry[] = {NEEDED("", U32)};
static const struct field u64_entry[] = {NEEDED("", U64)};
static const struct field i32_entry[] = {NEEDED("", I32)};
static const struct field str_entry[] = {NEEDED("", STR)};
#define OBJECT_ENTRY(list)                                                                         \
	static const struct field list##_entry[] = {                                               \
		{.name = "", .type = OBJECT, .presence = REQUIRED, .sub = list}}

static const struct field topology[] = {
	NEEDED("threads_per_core", U16), NEEDED("cores_per_die", U16),
	NEEDED("dies_per_package", U16), NEEDED("packages", U16), END};
static const struct field affinity[] = {NEEDED("vcpu", U32), LIST_OF("host_cpus", u64_entry), END};
OBJECT_ENTRY(affinity);
static const struct field features[] = {FLAG("amx"), END};
static const struct field cpus[] = {
	NEEDED("boot_vcpus", U32),
	NEEDED("max_vcpus", U32),
	{.name = "topology", .type = OBJECT, .sub = topology},
	FLAG("kvm_hyperv"),
	NUMBER("max_phys_bits", U8, "46"),
	LIST_OF("affinity", affinity_entry),
	{.name = "features", .type = OBJECT, .presence = DEFAULT, .value = "{}", .sub = features},
	FLAG_ON("nested"),
	CHOICE("core_scheduling", "Vm", "`Vm`, `Vcpu`, `Off`"),
	CHOICE("profile", "Host", "`Host`"),
	END};

static const struct field zone[] = {NEEDED("id", STR),
				    NEEDED("size", U64),
				    OPTIONAL("file", STR),
				    FLAG("shared"),
				    FLAG("hugepages"),
				    OPTIONAL("hugepage_size", U64),
				    OPTIONAL("host_numa_node", U32),
				    OPTIONAL("hotplug_size", U64),
				    OPTIONAL("hotplugged_size", U64),
				    FLAG("prefault"),
				    FLAG("reserve"),
				    FLAG("mergeable"),
				    END};
OBJECT_ENTRY(zone);
static const struct field memory[] = {NEEDED("size", U64),
				      FLAG("mergeable"),
				      CHOICE("hotplug_method", "Acpi", "`Acpi`, `VirtioMem`"),
				      OPTIONAL("hotplug_size", U64),
				      OPTIONAL("hotplugged_size", U64),
				      FLAG("shared"),
				      FLAG("hugepages"),
				      OPTIONAL("hugepage_size", U64),
				      FLAG("prefault"),
				      FLAG("reserve"),
				      LIST_OF("zones", zone_entry),
				      FLAG_ON("thp"),
				      END};

static const struct field payload[] = {OPTIONAL("firmware", STR), OPTIONAL("kernel", STR),
				       OPTIONAL("cmdline", STR), OPTIONAL("initramfs", STR), END};

/* These two are the ones whose missing parts v53 shows as null. */
static const struct field bucket[] = {
	NEEDED("size", U64),
	{.name = "one_time_burst", .type = U64, .presence = SHOWN_NULL},
	NEEDED("refill_time", U64),
	END};
static const struct field limiter[] = {
	{.name = "bandwidth", .type = OBJECT, .presence = SHOWN_NULL, .sub = bucket},
	{.name = "ops", .type = OBJECT, .presence = SHOWN_NULL, .sub = bucket},
	END};
#define LIMITER                                                                                    \
	{                                                                                          \
		.name = "rate_limiter_config", .type = OBJECT, .sub = limiter                      \
	}
static const struct field limit_group[] = {NUMBER("id", STR, "\"\""), LIMITER, END};
OBJECT_ENTRY(limit_group);

static const struct field queue_affinity[] = {NEEDED("queue_index", U16),
					      LIST_OF("host_cpus", u64_entry), END};
OBJECT_ENTRY(queue_affinity);
static const struct field disk[] = {
	PCI,
	OPTIONAL("path", STR),
	FLAG("readonly"),
	FLAG("direct"),
	NUMBER("num_queues", U64, "1"),
	NUMBER("queue_size", U16, "128"),
	FLAG("vhost_user"),
	OPTIONAL("vhost_socket", STR),
	OPTIONAL("rate_limit_group", STR),
	LIMITER,
	FLAG("disable_io_uring"),
	FLAG("disable_aio"),
	OPTIONAL("serial", STR),
	LIST_OF("queue_affinity", queue_affinity_entry),
	FLAG("backing_files"),
	FLAG_ON("sparse"),
	CHOICE("image_type", "Unknown", "`FixedVhd`, `Qcow2`, `Raw`, `Vhdx`, `Unknown`"),
	CHOICE("lock_granularity", "ByteRange", "`ByteRange`, `Full`"),
	END};
OBJECT_ENTRY(disk);

static const struct field net[] = {
	PCI,
	OPTIONAL("tap", STR),
	OPTIONAL("ip", ADDRESS),
	OPTIONAL("mask", ADDRESS),
	{.name = "mac", .type = MAC, .presence = DEFAULT, .value = "\"2e:89:a8:e4:bf:95\""},
	OPTIONAL("host_mac", MAC),
	OPTIONAL("mtu", U16),
	NUMBER("num_queues", U64, "2"),
	NUMBER("queue_size", U16, "256"),
	FLAG("vhost_user"),
	OPTIONAL("vhost_socket", STR),
	CHOICE("vhost_mode", "Client", "`Client`, `Server`"),
	LIST_OF("fds", i32_entry),
	LIMITER,
	FLAG_ON("offload_tso"),
	FLAG_ON("offload_ufo"),
	FLAG_ON("offload_csum"),
	END};
OBJECT_ENTRY(net);

static const struct field rng[] = {PCI, NEEDED("src", STR), END};
static const struct field balloon[] = {PCI, NEEDED("size", U64), FLAG("deflate_on_oom"),
				       FLAG("free_page_reporting"), END};
static const struct field vhost_generic[] = {PCI, NEEDED("socket", STR),
					     LIST_OF("queue_sizes", u16_entry),
					     NEEDED("device_type", U32), END};
OBJECT_ENTRY(vhost_generic);
static const struct field fs[] = {PCI,
				  NEEDED("tag", STR),
				  NEEDED("socket", STR),
				  NUMBER("num_queues", U64, "1"),
				  NUMBER("queue_size", U16, "1024"),
				  END};
OBJECT_ENTRY(fs);
static const struct field pmem[] = {PCI, NEEDED("file", STR), OPTIONAL("size", U64),
				    FLAG("discard_writes"), END};
OBJECT_ENTRY(pmem);
static const struct field serial[] = {OPTIONAL("file", STR), MODE, OPTIONAL("socket", STR), END};
static const struct field console[] = {OPTIONAL("file", STR), MODE, OPTIONAL("socket", STR), PCI,
				       END};
static const struct field debug_console[] = {OPTIONAL("file", STR), MODE, OPTIONAL("iobase", U16),
					     END};
static const struct field device[] = {PCI,
				      OPTIONAL("path", STR),
				      OPTIONAL("fd", I32),
				      OPTIONAL("x_nv_gpudirect_clique", U8),
				      LIST_OF("x_exclude_mmap_bars", u64_entry),
				      END};
OBJECT_ENTRY(device);
static const struct field user_device[] = {PCI, NEEDED("socket", STR), END};
OBJECT_ENTRY(user_device);
static const struct field vdpa[] = {PCI, NEEDED("path", STR), NUMBER("num_queues", U64, "1"), END};
OBJECT_ENTRY(vdpa);
static const struct field vsock[] = {PCI, NEEDED("cid", U32), NEEDED("socket", STR), END};
static const struct field distance[] = {NUMBER("destination", U32, "0"),
					NUMBER("distance", U8, "0"), END};
OBJECT_ENTRY(distance);
static const struct field numa[] = {NEEDED("guest_numa_id", U32),
				    LIST_OF("cpus", u32_entry),
				    LIST_OF("distances", distance_entry),
				    LIST_OF("memory_zones", str_entry),
				    LIST_OF("pci_segments", u16_entry),
				    OPTIONAL("device_id", STR),
				    END};
OBJECT_ENTRY(numa);
static const struct field rtc[] = {PCI, END};
static const struct field segment[] = {NUMBER("pci_segment", U16, "0"),
				       NUMBER("mmio32_aperture_weight", U32, "1"),
				       NUMBER("mmio64_aperture_weight", U32, "1"), END};
OBJECT_ENTRY(segment);
static const struct field platform[] = {
	NUMBER("num_pci_segments", U16, "1"),
	LIST_OF("iommu_segments", u16_entry),
	NUMBER("iommu_address_width_bits", U8, "64"),
	{.name = "system_serial_number", .type = STR, .alias = "serial_number"},
	{.name = "system_uuid", .type = STR, .alias = "uuid"},
	LIST_OF("oem_strings", str_entry),
	OPTIONAL("system_manufacturer", STR),
	OPTIONAL("system_product_name", STR),
	OPTIONAL("system_version", STR),
	OPTIONAL("system_family", STR),
	OPTIONAL("system_sku_number", STR),
	OPTIONAL("chassis_asset_tag", STR),
	FLAG("iommufd"),
	OPTIONAL("iommufd_fd", I32),
	FLAG_ON("vfio_p2p_dma"),
	END};
static const struct field tpm[] = {NEEDED("socket", STR), END};
static const struct field landlock[] = {NEEDED("path", STR), NEEDED("access", STR), END};
OBJECT_ENTRY(landlock);

#define PART(n, fields)                                                                            \
	{                                                                                          \
		.name = n, .type = OBJECT, .sub = fields                                           \
	}
#define PART_WITH(n, fields, v)                                                                    \
	{                                                                                          \
		.name = n, .type = OBJECT, .presence = DEFAULT, .value = v, .sub = fields          \
	}
static const struct field config[] = {
	PART_WITH("cpus", cpus, "{\"boot_vcpus\":1,\"max_vcpus\":1}"),
	PART_WITH("memory", memory, "{\"size\":536870912}"),
	PART("payload", payload),
	LIST_OF("rate_limit_groups", limit_group_entry),
	LIST_OF("disks", disk_entry),
	LIST_OF("net", net_entry),
	PART_WITH("rng", rng, "{\"src\":\"/dev/urandom\"}"),
	PART("balloon", balloon),
	LIST_OF("generic_vhost_user", vhost_generic_entry),
	LIST_OF("fs", fs_entry),
	LIST_OF("pmem", pmem_entry),
	PART_WITH("serial", serial, "{\"mode\":\"Null\"}"),
	PART_WITH("console", console, "{\"mode\":\"Tty\"}"),
	PART_WITH("debug_console", debug_console, "{\"mode\":\"Off\",\"iobase\":233}"),
	LIST_OF("devices", device_entry),
	LIST_OF("user_devices", user_device_entry),
	LIST_OF("vdpa", vdpa_entry),
	PART("vsock", vsock),
	FLAG("pvpanic"),
	FLAG("iommu"),
	LIST_OF("numa", numa_entry),
	FLAG("watchdog"),
	PART("rtc", rtc),
	LIST_OF("pci_segments", segment_entry),
	PART("platform", platform),
	PART("tpm", tpm),
	FLAG("landlock_enable"),
	LIST_OF("landlock_rules", landlock_entry),
	END};
static const struct field config_root = PART("", config);

static const struct field net_fds[] = {NEEDED("id", STR), NUMBER("num_fds", U64, "0"),
				       LIST_OF("fds", i32_entry), END};
OBJECT_ENTRY(net_fds);
static const struct field restore[] = {
	NEEDED("source_url", STR),
	FLAG("prefault"),
	CHOICE("memory_restore_mode", "Copy", "`Copy` or `OnDemand`"),
	LIST_OF("net_fds", net_fds_entry),
	FLAG("resume"),
	END};
static const struct field zone_size[] = {NEEDED("id", STR), NEEDED("desired_ram", U64), END};
static const struct field bodies[] = {PART("vm.restore", restore),
				      PART("vm.resize-zone", zone_size), END};

struct reader {
	char *why, *unknown;
};

static cJSON *schema_read(struct reader *r, const char *path, const struct field *f,
			  const cJSON *in);

/* serde's words, without a useful column: cJSON keeps none. */
static cJSON *schema_bad(struct reader *r, const cJSON *in, const char *expected)
{
	if (r->why)
		return NULL;
	char *text = cJSON_PrintUnformatted(in);
	bool whole = cJSON_IsNumber(in) && in->valuedouble == floor(in->valuedouble);
	const char *kind = cJSON_IsString(in)	? "invalid type: string %s"
			   : whole		? "invalid value: integer `%s`"
			   : cJSON_IsNumber(in) ? "invalid type: floating point `%s`"
			   : cJSON_IsBool(in)	? "invalid type: boolean `%s`"
			   : cJSON_IsArray(in)	? "invalid type: sequence"
			   : cJSON_IsNull(in)	? "invalid type: null"
						: "invalid type: map";
	struct bytes why = {0};
	const char *hole = strstr(kind, "%s");
	bytes_format(&why, "%.*s%s%s, expected %s at line 1 column 0",
		     (int)(hole ? hole - kind : (long)strlen(kind)), kind, hole ? text : "",
		     hole ? hole + 2 : "", expected);
	free(text);
	r->why = why.data;
	return NULL;
}

static cJSON *schema_read_number(struct reader *r, const struct field *f, const cJSON *in)
{
	static const double most[] = {[U8] = UINT8_MAX,
				      [U16] = UINT16_MAX,
				      [U32] = UINT32_MAX,
				      [U64] = 18446744073709549568.0,
				      [I32] = INT32_MAX};
	static const char *const names[] = {
		[U8] = "u8", [U16] = "u16", [U32] = "u32", [U64] = "u64", [I32] = "i32"};
	double n = in->valuedouble;
	if (!cJSON_IsNumber(in) || n != floor(n) || n > most[f->type] ||
	    n < (f->type == I32 ? INT32_MIN : 0))
		return schema_bad(r, in, names[f->type]);
	return cJSON_Duplicate(in, false);
}

static cJSON *schema_read_enum(struct reader *r, const struct field *f, const cJSON *in)
{
	if (!cJSON_IsString(in))
		return schema_bad(r, in, "a variant");
	char *quoted = bytes_text("`%s`", in->valuestring);
	bool known = strstr(f->variants, quoted) != NULL;
	if (!known && !r->why)
		r->why = bytes_text("unknown variant %s, expected one of %s at line 1 column 0",
				    quoted, f->variants);
	free(quoted);
	return known ? cJSON_Duplicate(in, false) : NULL;
}

static const struct field *schema_find(const struct field *fields, const char *name)
{
	for (; fields->name; fields++) {
		if (!strcmp(fields->name, name) || (fields->alias && !strcmp(fields->alias, name)))
			return fields;
	}
	return NULL;
}

static void schema_note_unknown(struct reader *r, const char *path, const struct field *f,
				const cJSON *in)
{
	for (const cJSON *item = in->child; item && !r->unknown; item = item->next) {
		if (!schema_find(f->sub, item->string))
			r->unknown = bytes_text("%s%s%s", path, *path ? "." : "", item->string);
	}
}

/* One field of an object: what was given, its default, or nothing. */
static void schema_read_field(struct reader *r, const char *path, const struct field *f,
			      const cJSON *in, cJSON *out)
{
	const cJSON *given = cJSON_GetObjectItemCaseSensitive(in, f->name);
	if (!given && f->alias)
		given = cJSON_GetObjectItemCaseSensitive(in, f->alias);
	if ((f->presence == OPTION || f->presence == SHOWN_NULL) && cJSON_IsNull(given))
		given = NULL;
	if (!given && f->presence == SHOWN_NULL)
		cJSON_AddNullToObject(out, f->name);
	if (f->presence == SKIP_FALSE && cJSON_IsFalse(given))
		given = NULL;
	cJSON *standard = NULL;
	if (!given && f->presence == DEFAULT)
		given = standard = cJSON_Parse(f->value);
	if (!given && f->presence == REQUIRED && !r->why)
		r->why = bytes_text("missing field `%s` at line 1 column 0", f->name);
	if (given) {
		char *below = bytes_text("%s%s%s", path, *path ? "." : "", f->name);
		cJSON *value = schema_read(r, below, f, given);
		if (value)
			cJSON_AddItemToObject(out, f->name, value);
		free(below);
	}
	cJSON_Delete(standard);
}

static cJSON *schema_read_object(struct reader *r, const char *path, const struct field *f,
				 const cJSON *in)
{
	if (!cJSON_IsObject(in))
		return schema_bad(r, in, "a struct");
	schema_note_unknown(r, path, f, in);
	cJSON *out = cJSON_CreateObject();
	for (const struct field *field = f->sub; field->name; field++)
		schema_read_field(r, path, field, in, out);
	return out;
}

static cJSON *schema_read_list(struct reader *r, const char *path, const struct field *f,
			       const cJSON *in)
{
	if (!cJSON_IsArray(in))
		return schema_bad(r, in, "a sequence");
	cJSON *out = cJSON_CreateArray();
	int index = 0;
	for (const cJSON *item = in->child; item; item = item->next) {
		char *below = bytes_text("%s[%d]", path, index++);
		cJSON *value = schema_read(r, below, f->sub, item);
		if (value)
			cJSON_AddItemToArray(out, value);
		free(below);
	}
	return out;
}

static cJSON *schema_read(struct reader *r, const char *path, const struct field *f,
			  const cJSON *in)
{
	unsigned char mac[6];
	switch (f->type) {
	case BOOL:
		return cJSON_IsBool(in) ? cJSON_Duplicate(in, false)
					: schema_bad(r, in, "a boolean");
	case STR:
	case MAC:
	case ADDRESS:
		if (f->type == MAC && cJSON_IsString(in) && !net_is_mac(in->valuestring, mac))
			return schema_bad(r, in, "a MAC address");
		if (f->type == ADDRESS && cJSON_IsString(in) && !net_is_address(in->valuestring))
			return schema_bad(r, in, "an IP address");
		return cJSON_IsString(in) ? cJSON_Duplicate(in, false)
					  : schema_bad(r, in, "a string");
	case ENUM:
		return schema_read_enum(r, f, in);
	case OBJECT:
		return schema_read_object(r, path, f, in);
	case LIST:
		return schema_read_list(r, path, f, in);
	default:
		return schema_read_number(r, f, in);
	}
}

static cJSON *schema_finish(const char *path, const struct field *f, const cJSON *json, char **why,
			    char **unknown)
{
	struct reader r = {0};
	cJSON *out = schema_read(&r, path, f, json);
	*why = r.why;
	*unknown = r.unknown;
	if (!r.why)
		return out;
	free(r.unknown);
	*unknown = NULL;
	cJSON_Delete(out);
	return NULL;
}

cJSON *schema_config(const cJSON *json, char **why, char **unknown)
{
	return schema_finish("", &config_root, json, why, unknown);
}

cJSON *schema_device(const char *list, const cJSON *json, char **why, char **unknown)
{
	const struct field *f = schema_find(config, list);
	return schema_finish(list, f->sub, json, why, unknown);
}

cJSON *schema_body(const char *endpoint, const cJSON *json, char **why, char **unknown)
{
	return schema_finish("", schema_find(bodies, endpoint), json, why, unknown);
}
