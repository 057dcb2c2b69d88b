// SPDX-License-Identifier: Apache-2.0
#include "vmm_filter.h"

#include "util.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Made by gen/vmm_filter_gen.c while building. */
static const struct sock_filter program[] = {
#include "vmm_filter_bpf.h"
};

int vmm_filter_load(void)
{
	struct sock_fprog filter = {
		.len = ARRAY_SIZE(program),
		.filter = (struct sock_filter *)(uintptr_t)program,
	};
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

size_t vmm_filter_length(void)
{
	return ARRAY_SIZE(program);
}
