// SPDX-License-Identifier: Apache-2.0
#include "spec_restart.h"

#include "json.h"
#include "util.h"

#include <string.h>

#define BACKOFF_MS     1000
#define BACKOFF_MAX_MS 60000

static const char *const names[SPEC_RESTART_COUNT] = {
	[SPEC_RESTART_NEVER] = "never",
	[SPEC_RESTART_ON_FAILURE] = "on-failure",
	[SPEC_RESTART_ALWAYS] = "always",
};

const char *spec_restart_name(enum spec_restart policy)
{
	return (unsigned)policy < SPEC_RESTART_COUNT ? names[policy] : "unknown";
}

static int refuse(const char *field, const cJSON *v, const char *rule, struct err *e)
{
	char shown[96];
	json_show(v, shown, sizeof(shown));
	return err_set(e, ERR_INVALID, 0, "%s: %s is not allowed; must be %s", field, shown, rule);
}

static int take_policy(struct spec_restart_rule *rule, const char *field, const cJSON *v,
		       struct err *e)
{
	for (unsigned i = 0; i < SPEC_RESTART_COUNT; i++) {
		if (cJSON_IsString(v) && strcmp(v->valuestring, names[i]) == 0) {
			rule->policy = (enum spec_restart)i;
			return 0;
		}
	}
	return refuse(field, v, "never, on-failure or always", e);
}

static int take_member(struct spec_restart_rule *rule, const cJSON *v, struct err *e)
{
	if (strcmp(v->string, "policy") == 0)
		return take_policy(rule, "restart.policy", v, e);
	if (strcmp(v->string, "attempts") == 0) {
		if (cJSON_IsNull(v) || json_u32(v, 0, SPEC_RESTART_ATTEMPTS_MAX, &rule->attempts))
			return 0;
		return refuse("restart.attempts", v, "a whole number of 0 (any) to 1000000", e);
	}
	bool most = strcmp(v->string, "backoff_max_ms") == 0;
	if (most || strcmp(v->string, "backoff_ms") == 0) {
		if (cJSON_IsNull(v) || json_u32(v, SPEC_RESTART_MS_MIN, SPEC_RESTART_MS_MAX,
						most ? &rule->backoff_max_ms : &rule->backoff_ms))
			return 0;
		return refuse(most ? "restart.backoff_max_ms" : "restart.backoff_ms", v,
			      "a whole number of 100 to 86400000", e);
	}
	err_set(e, ERR_INVALID, 0, "restart: unknown field \"%.80s\"", v->string);
	str_clean(e->text);
	return -1;
}

/* What was left out gets its default; the ceiling is never below the first delay by that. */
static int complete(struct spec_restart_rule *rule, struct err *e)
{
	if (!rule->backoff_ms && rule->backoff_max_ms)
		rule->backoff_ms =
			rule->backoff_max_ms < BACKOFF_MS ? rule->backoff_max_ms : BACKOFF_MS;
	if (!rule->backoff_ms)
		rule->backoff_ms = BACKOFF_MS;
	if (!rule->backoff_max_ms)
		rule->backoff_max_ms =
			rule->backoff_ms > BACKOFF_MAX_MS ? rule->backoff_ms : BACKOFF_MAX_MS;
	if (rule->backoff_max_ms < rule->backoff_ms)
		return err_set(e, ERR_INVALID, 0,
			       "restart.backoff_max_ms: %u is not allowed; must be backoff_ms (%u) "
			       "to %d",
			       rule->backoff_max_ms, rule->backoff_ms, SPEC_RESTART_MS_MAX);
	return 0;
}

int spec_restart_read(struct spec *s, const cJSON *v, struct err *e)
{
	struct spec_restart_rule *rule = &s->restart;
	if (cJSON_IsNull(v))
		return 0;
	if (cJSON_IsString(v)) {
		if (take_policy(rule, "restart", v, e) < 0)
			return -1;
		return complete(rule, e);
	}
	if (!cJSON_IsObject(v))
		return refuse("restart", v, "null, a policy, or an object with policy", e);
	if (!cJSON_GetObjectItemCaseSensitive(v, "policy"))
		return err_set(e, ERR_INVALID, 0,
			       "restart.policy: missing; must be never, on-failure or always");
	for (const cJSON *m = v->child; m; m = m->next)
		if (take_member(rule, m, e) < 0)
			return -1;
	return complete(rule, e);
}

void spec_restart_remember(struct spec *s)
{
	s->first.vcpus = s->vcpus;
	s->first.balloon_mib = s->balloon_mib;
	s->first.restore = s->restore;
}

void spec_restart_prepare(struct spec *s)
{
	s->source = s->template ? MSG_SOURCE_TEMPLATE : MSG_SOURCE_BOOT;
	s->restore = s->template ? s->first.restore : MSG_RESTORE_NONE;
	s->vcpus = s->first.vcpus;
	s->balloon_mib = s->first.balloon_mib;
	s->plugged_mib = 0;
	s->hotplug = false;
	/* A template's disks go with its memory; what boots finds its disks as it left them. */
	s->keep_disks = !s->template;
}
