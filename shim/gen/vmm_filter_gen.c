// SPDX-License-Identifier: Apache-2.0
/*
 * Writes the outer seccomp filter of the VMM to stdout, as the rows of an array of sock_filter. Run
 * while building: libseccomp takes milliseconds for it, too long for every launch, and so it is not
 * needed in root code at all.
 */
#include "vmm_rules.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM_MAX 4096 /* instructions: BPF_MAXINSNS */

static const struct vmm_rule rules[] = {VMM_RULES_TABLE};

static int fail(const char *what, int rc)
{
	fprintf(stderr, "vmm_filter_gen: %s: %s\n", what, strerror(-rc));
	return rc;
}

static int add_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct vmm_rule *r = &rules[i];
		uint32_t how = r->how == VMM_RULE_KILL ? SCMP_ACT_KILL_PROCESS
						       : SCMP_ACT_ERRNO((unsigned)r->how);
		struct scmp_arg_cmp compare = {
			.arg = r->arg < 0 ? 0 : (unsigned)r->arg,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = r->mask,
			.datum_b = r->value,
		};
		int rc = seccomp_rule_add_array(filter, how, (int)r->nr, r->arg < 0 ? 0 : 1,
						&compare);
		if (rc < 0)
			return fail(r->name, rc);
	}
	return 0;
}

static int make(scmp_filter_ctx filter, int fd)
{
	int rc;
	/* Calls of i386 and x32 end the process, whatever they are. */
	if ((rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) < 0)
		return fail("bad architectures", rc);
	/* A tree: ioctl(2), which KVM_RUN is, is found in few steps. */
	if ((rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)) < 0)
		return fail("a binary tree", rc);
	if (add_rules(filter) < 0)
		return -1;
	if ((rc = seccomp_export_bpf(filter, fd)) < 0)
		return fail("export", rc);
	return 0;
}

static int print(FILE *from)
{
	static struct sock_filter program[PROGRAM_MAX];
	rewind(from);
	size_t n = fread(program, sizeof(program[0]), PROGRAM_MAX, from);
	if (n == 0 || n == PROGRAM_MAX)
		return fail("read the program back", -EIO);
	for (size_t i = 0; i < n; i++)
		printf("{0x%02x, %u, %u, 0x%08x},\n", (unsigned)program[i].code,
		       (unsigned)program[i].jt, (unsigned)program[i].jf, program[i].k);
	return ferror(stdout) || fflush(stdout) != 0 ? fail("write", -EIO) : 0;
}

int main(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	FILE *file = tmpfile();
	int rc = -1;
	if (!filter || !file)
		fail("start", -ENOMEM);
	else
		rc = make(filter, fileno(file)) < 0 ? -1 : print(file);
	if (file)
		fclose(file);
	seccomp_release(filter);
	return rc < 0 ? 1 : 0;
}
