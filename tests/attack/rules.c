// SPDX-License-Identifier: Apache-2.0
#include "attack.h"

#include "vmm_rules.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct vmm_rule rules[] = {VMM_RULES_TABLE};
#define RULES (sizeof(rules) / sizeof(rules[0]))

/* Bits that the kernel passes over, where it takes an int: no way past a rule. */
#define HIGH_BITS 0x5500000000ul

static long break_rule(const struct vmm_rule *r, unsigned long high)
{
	unsigned long args[6] = {0};
	if (r->arg >= 0)
		args[r->arg] = r->value | high;
	return syscall(r->nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* The status of the child is the errno; it must not run on in the stand-in. */
static int in_child(const struct vmm_rule *r, unsigned long high)
{
	pid_t pid = fork();
	if (pid == 0) {
		errno = 0;
		long result = break_rule(r, high);
		_exit(result >= 0 ? 0 : errno);
	}
	return pid < 0 ? 999 : attack_wait(pid);
}

static void tell(const char *name, int status)
{
	if (status == 1000 + SIGSYS)
		attack_say("rule %s KILL", name);
	else if (status >= 1000)
		attack_say("rule %s signal %d", name, status - 1000);
	else
		attack_say("rule %s %s", name, attack_errno(status));
}

#ifdef __x86_64__
/* getpid(2) by the gates of i386 and x32. */
static int other_gate(bool x32)
{
	pid_t pid = fork();
	if (pid == 0) {
		long result = x32 ? 0x40000000 | __NR_getpid : 20;
		if (x32)
			__asm__ volatile("syscall" : "+a"(result)::"rcx", "r11", "memory");
		else
			__asm__ volatile("int $0x80" : "+a"(result)::"memory");
		_exit(result > 0 ? 0 : (int)-result);
	}
	return pid < 0 ? 999 : attack_wait(pid);
}
#endif

void attack_rules(void)
{
	for (size_t i = 0; i < RULES; i++) {
		tell(rules[i].name, in_child(&rules[i], 0));
		if (rules[i].arg >= 0) {
			char name[64];
			snprintf(name, sizeof(name), "%s:high", rules[i].name);
			tell(name, in_child(&rules[i], HIGH_BITS));
		}
	}
#ifdef __x86_64__
	tell("gate:i386", other_gate(false));
	tell("gate:x32", other_gate(true));
#endif
}

void attack_rule_here(const char *name)
{
	for (size_t i = 0; i < RULES; i++)
		if (!strcmp(rules[i].name, name))
			attack_say("rule %s here %s", name,
				   break_rule(&rules[i], 0) >= 0 ? "OK" : attack_errno(errno));
}

void attack_list_rules(void)
{
	for (size_t i = 0; i < RULES; i++) {
		const char *how =
			rules[i].how == VMM_RULE_KILL ? "KILL" : attack_errno(rules[i].how);
		printf("%s %s\n", rules[i].name, how);
		if (rules[i].arg >= 0)
			printf("%s:high %s\n", rules[i].name, how);
	}
#ifdef __x86_64__
	printf("gate:i386 KILL\ngate:x32 KILL\n");
#endif
}
