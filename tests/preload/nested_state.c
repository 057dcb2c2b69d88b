// SPDX-License-Identifier: Apache-2.0
/*
 * nested_state.c - a preload for a real VMM on hosts whose KVM cannot save nested state.
 *
 * Cloud Hypervisor asks every vCPU for it with KVM_GET_NESTED_STATE when it takes a snapshot,
 * whether or not KVM_CAP_NESTED_STATE is there. A KVM without that call, such as KVM_PVM, refuses,
 * and so does vm.snapshot. Where the call is there and no nested guest is, the answer is a header
 * with nothing behind it (KVM's API documentation on both calls), and this library says the same.
 * It is for tests only, and does nothing where KVM answers by itself.
 *
 * It runs inside the VMM's own system call filter and in a jail without /proc: the one system call
 * it makes is the ioctl that the VMM asked for.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a kernel says that does not know a vCPU's ioctl, or knows it and has no nested state. */
static int is_missing(int error)
{
	return error == EINVAL || error == ENOTTY || error == ENOSYS || error == EOPNOTSUPP;
}

/* The caller's size says what fits. The format is that of the caller: zero when it has not chosen.
 */
static int answer_empty(struct kvm_nested_state *state)
{
	if (state->size < sizeof(*state)) {
		state->size = sizeof(*state);
		errno = E2BIG; /* the kernel's own answer to too little room */
		return -1;
	}
	uint16_t format = state->format;
	memset(state, 0, sizeof(*state));
	state->format = format;
	state->size = sizeof(*state);
	return 0;
}

/* Only a state such as answer_empty() gives: anything else really needs the kernel. */
static int accept_empty(const struct kvm_nested_state *state)
{
	if (state->size == sizeof(*state) && state->flags == 0)
		return 0;
	errno = EINVAL;
	return -1;
}

/* ioctl(2). Stands before libc's: the third argument is one word, whatever its type was. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	long rc = syscall(SYS_ioctl, fd, request, argument);
	if (rc >= 0 || !argument || !is_missing(errno))
		return (int)rc;
	if (request == KVM_GET_NESTED_STATE)
		return answer_empty(argument);
	if (request == KVM_SET_NESTED_STATE)
		return accept_empty(argument);
	return -1;
}
