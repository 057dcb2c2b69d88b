/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMM may not call, whatever its own filter says: the rules of the outer seccomp filter.
 * The filter (gen/vmm_filter_gen.c) and the attack suite (tests/attack/) are both made from this
 * table, so no rule is without a case that breaks it.
 *
 * It is a list of denials. Cloud Hypervisor has a strict filter of its own on each thread but the
 * main one; ours is under all of them, from before the first instruction of the VMM, so it must let
 * pass what those allow on their rarest path (v53: vmm/src and virtio-devices/src,
 * seccomp_filters.rs). A call stands here only when none of them names it, or when CH is known to
 * do without. The exceptions are the two families that are answered ENOSYS: clone3(2), for which
 * glibc takes clone(2), and io_uring, for which CH takes aio.
 *
 * execve(2) is not here: the filter is loaded just before the shim's own execve, which it cannot
 * tell from a later one. What a VMM could execute is what is mounted without noexec: itself, the
 * loader, its libraries. execveat(2), the way to execute memory, is denied.
 *
 *   CALL(system call, how)
 *   ARG(system call, name, argument, mask, value, how)    when (argument & mask) == value
 *
 * how is KILL (the whole process, by SIGSYS) or the errno that the call fails with. Masks have 32
 * bits where the kernel looks at no more: else a bit above would carry a value past a rule.
 */
#ifndef SHIM_VMM_RULES_H
#define SHIM_VMM_RULES_H

#include <asm/unistd.h>
#include <errno.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sys/ioctl.h>

/* Newer than the headers of some hosts; the same on all machines. */
#ifndef __NR_statmount
#define __NR_statmount 457
#endif
#ifndef __NR_listmount
#define __NR_listmount 458
#endif
#ifndef __NR_open_tree_attr
#define __NR_open_tree_attr 467
#endif

#define VMM_RULE_KILL 0
#define VMM_RULE_ALL  0xffffffffu

/* clang-format off */
#define VMM_RULES_NAMESPACES(CALL, ARG)                                                            \
	/* New namespaces, and with a user namespace all capabilities within it. */                \
	CALL(unshare, VMM_RULE_KILL)                                                               \
	/* The namespaces of others. */                                                            \
	CALL(setns, VMM_RULE_KILL)                                                                 \
	/* The same by clone; CH's threads share everything and ask for none of these. */          \
	ARG(clone, NEWUSER, 0, CLONE_NEWUSER, CLONE_NEWUSER, VMM_RULE_KILL)                        \
	ARG(clone, NEWNS, 0, CLONE_NEWNS, CLONE_NEWNS, VMM_RULE_KILL)                              \
	ARG(clone, NEWPID, 0, CLONE_NEWPID, CLONE_NEWPID, VMM_RULE_KILL)                           \
	ARG(clone, NEWNET, 0, CLONE_NEWNET, CLONE_NEWNET, VMM_RULE_KILL)                           \
	ARG(clone, NEWIPC, 0, CLONE_NEWIPC, CLONE_NEWIPC, VMM_RULE_KILL)                           \
	ARG(clone, NEWUTS, 0, CLONE_NEWUTS, CLONE_NEWUTS, VMM_RULE_KILL)                           \
	ARG(clone, NEWCGROUP, 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP, VMM_RULE_KILL)                  \
	/* Flags in memory, where no filter sees them. glibc and CH's tty listener fall back. */   \
	CALL(clone3, ENOSYS)

#define VMM_RULES_MOUNTS(CALL, ARG)                                                                \
	/* The jail's mounts stay as they are: the old interface. */                               \
	CALL(mount, VMM_RULE_KILL)                                                                 \
	CALL(umount2, VMM_RULE_KILL)                                                               \
	CALL(pivot_root, VMM_RULE_KILL)                                                            \
	/* Out of a root directory by way of another. */                                           \
	CALL(chroot, VMM_RULE_KILL)                                                                \
	/* The new interface. */                                                                   \
	CALL(open_tree, VMM_RULE_KILL)                                                             \
	CALL(open_tree_attr, VMM_RULE_KILL)                                                        \
	CALL(move_mount, VMM_RULE_KILL)                                                            \
	CALL(fsopen, VMM_RULE_KILL)                                                                \
	CALL(fsconfig, VMM_RULE_KILL)                                                              \
	CALL(fsmount, VMM_RULE_KILL)                                                               \
	CALL(fspick, VMM_RULE_KILL)                                                                \
	CALL(mount_setattr, VMM_RULE_KILL)                                                         \
	/* What is mounted where. */                                                               \
	CALL(statmount, VMM_RULE_KILL)                                                             \
	CALL(listmount, VMM_RULE_KILL)                                                             \
	/* Files by handle, past every directory (shocker). */                                     \
	CALL(name_to_handle_at, VMM_RULE_KILL)                                                     \
	CALL(open_by_handle_at, VMM_RULE_KILL)                                                     \
	/* Device nodes and FIFOs where the shim reads. CH makes sockets by bind(2) only. */       \
	CALL(mknodat, VMM_RULE_KILL)                                                               \
	/* Watching, and holding up, what others do on a file system. */                           \
	CALL(fanotify_init, VMM_RULE_KILL)                                                         \
	CALL(quotactl, VMM_RULE_KILL)                                                              \
	CALL(quotactl_fd, VMM_RULE_KILL)                                                           \
	CALL(swapon, VMM_RULE_KILL)                                                                \
	CALL(swapoff, VMM_RULE_KILL)                                                               \
	CALL(acct, VMM_RULE_KILL)

#define VMM_RULES_PROCESSES(CALL, ARG)                                                             \
	/* Other processes' memory, registers and descriptors. */                                  \
	CALL(ptrace, VMM_RULE_KILL)                                                                \
	CALL(process_vm_readv, VMM_RULE_KILL)                                                      \
	CALL(process_vm_writev, VMM_RULE_KILL)                                                     \
	CALL(process_madvise, VMM_RULE_KILL)                                                       \
	CALL(process_mrelease, VMM_RULE_KILL)                                                      \
	CALL(kcmp, VMM_RULE_KILL)                                                                  \
	CALL(pidfd_open, VMM_RULE_KILL)                                                            \
	CALL(pidfd_getfd, VMM_RULE_KILL)                                                           \
	CALL(pidfd_send_signal, VMM_RULE_KILL)                                                     \
	CALL(migrate_pages, VMM_RULE_KILL)                                                         \
	CALL(move_pages, VMM_RULE_KILL)                                                            \
	/* Running code from memory: no file of a VMM's own is executable. */                      \
	CALL(execveat, VMM_RULE_KILL)                                                              \
	/* Taking the parent death signal back, and so outliving the shim. */                      \
	ARG(prctl, SET_PDEATHSIG, 0, VMM_RULE_ALL, PR_SET_PDEATHSIG, VMM_RULE_KILL)                \
	/* Letting others trace it; moving its own text and data in what /proc shows. */           \
	ARG(prctl, SET_PTRACER, 0, VMM_RULE_ALL, PR_SET_PTRACER, VMM_RULE_KILL)                    \
	ARG(prctl, SET_MM, 0, VMM_RULE_ALL, PR_SET_MM, VMM_RULE_KILL)

#define VMM_RULES_IDS(CALL, ARG)                                                                   \
	/* Other users and groups, other capabilities: it has what it is to have. */               \
	CALL(setuid, VMM_RULE_KILL)                                                                \
	CALL(setgid, VMM_RULE_KILL)                                                                \
	CALL(setreuid, VMM_RULE_KILL)                                                              \
	CALL(setregid, VMM_RULE_KILL)                                                              \
	CALL(setresuid, VMM_RULE_KILL)                                                             \
	CALL(setresgid, VMM_RULE_KILL)                                                             \
	CALL(setfsuid, VMM_RULE_KILL)                                                              \
	CALL(setfsgid, VMM_RULE_KILL)                                                              \
	CALL(setgroups, VMM_RULE_KILL)                                                             \
	CALL(capset, VMM_RULE_KILL)

#define VMM_RULES_KERNEL(CALL, ARG)                                                                \
	/* Large parts of the kernel that no VMM uses and exploits do: keyrings, */                \
	CALL(add_key, VMM_RULE_KILL)                                                               \
	CALL(request_key, VMM_RULE_KILL)                                                           \
	CALL(keyctl, VMM_RULE_KILL)                                                                \
	/* eBPF, performance events, */                                                            \
	CALL(bpf, VMM_RULE_KILL)                                                                   \
	CALL(perf_event_open, VMM_RULE_KILL)                                                       \
	/* io_uring (CH tries it and takes aio; our disks ask for aio anyway), */                  \
	CALL(io_uring_setup, ENOSYS)                                                               \
	CALL(io_uring_enter, ENOSYS)                                                               \
	CALL(io_uring_register, ENOSYS)                                                            \
	/* pages moved between pipes and files, */                                                 \
	CALL(splice, VMM_RULE_KILL)                                                                \
	CALL(tee, VMM_RULE_KILL)                                                                   \
	CALL(vmsplice, VMM_RULE_KILL)                                                              \
	/* System V's and POSIX's queues, semaphores and segments, POSIX timers. */                \
	CALL(msgget, VMM_RULE_KILL)                                                                \
	CALL(semget, VMM_RULE_KILL)                                                                \
	CALL(shmget, VMM_RULE_KILL)                                                                \
	CALL(mq_open, VMM_RULE_KILL)                                                               \
	CALL(timer_create, VMM_RULE_KILL)                                                          \
	/* Another kernel, other code in this one, an end to it. */                                \
	CALL(kexec_load, VMM_RULE_KILL)                                                            \
	CALL(init_module, VMM_RULE_KILL)                                                           \
	CALL(finit_module, VMM_RULE_KILL)                                                          \
	CALL(delete_module, VMM_RULE_KILL)                                                         \
	CALL(reboot, VMM_RULE_KILL)                                                                \
	/* The kernel's log: its addresses, and the other sandboxes' faults. */                    \
	CALL(syslog, VMM_RULE_KILL)                                                                \
	/* The host's clock and name. */                                                           \
	CALL(settimeofday, VMM_RULE_KILL)                                                          \
	CALL(clock_settime, VMM_RULE_KILL)                                                         \
	CALL(clock_adjtime, VMM_RULE_KILL)                                                         \
	CALL(sethostname, VMM_RULE_KILL)                                                           \
	CALL(setdomainname, VMM_RULE_KILL)                                                         \
	/* Old executables' ways; addresses that are not random. */                                \
	CALL(personality, VMM_RULE_KILL)                                                           \
	/* Ending the session of whoever has the terminal. */                                      \
	CALL(vhangup, VMM_RULE_KILL)

#define VMM_RULES_TERMINAL(CALL, ARG)                                                              \
	/* Its stdin is a pty: keys put into it, the console's, and other line disciplines. */     \
	ARG(ioctl, TIOCSTI, 1, VMM_RULE_ALL, TIOCSTI, VMM_RULE_KILL)                               \
	ARG(ioctl, TIOCLINUX, 1, VMM_RULE_ALL, TIOCLINUX, VMM_RULE_KILL)                           \
	ARG(ioctl, TIOCSETD, 1, VMM_RULE_ALL, TIOCSETD, VMM_RULE_KILL)                             \
	ARG(ioctl, TIOCCONS, 1, VMM_RULE_ALL, TIOCCONS, VMM_RULE_KILL)

/*
 * CH has AF_UNIX (vsock), AF_INET (for a tap's ioctls) and AF_INET6: 1, 2 and 10. All others below
 * 64, by their lowest six bits; the kernel has none above. A libc may ask: netlink for addresses.
 */
#define VMM_RULES_FAMILIES(CALL, ARG, call)                                                        \
	ARG(call, AX25, 0, 0x0f, 3, EAFNOSUPPORT)         /* 3 */                                  \
	ARG(call, IPX_TO_BRIDGE, 0, 0x0c, 4, EAFNOSUPPORT)   /* 4 to 7 */                          \
	ARG(call, ATMPVC_X25, 0, 0x0e, 8, EAFNOSUPPORT)   /* 8, 9 */                               \
	ARG(call, ROSE, 0, 0x0f, 11, EAFNOSUPPORT)        /* 11 */                                 \
	ARG(call, DECNET_TO_KEY, 0, 0x0c, 12, EAFNOSUPPORT)  /* 12 to 15 */                        \
	ARG(call, NETLINK_TO_CAN_AND_TIPC, 0, 0x10, 16, EAFNOSUPPORT) /* 16 to 31 */               \
	ARG(call, ALG_VSOCK_XDP, 0, 0x20, 32, EAFNOSUPPORT)  /* 32 to 63 */

#ifdef __x86_64__
#define VMM_RULES_X86(CALL, ARG)                                                                   \
	/* I/O ports. */                                                                           \
	CALL(iopl, VMM_RULE_KILL)                                                                  \
	CALL(ioperm, VMM_RULE_KILL)                                                                \
	/* Segments of 16 bits. */                                                                 \
	CALL(modify_ldt, VMM_RULE_KILL)                                                            \
	CALL(uselib, VMM_RULE_KILL)                                                                \
	CALL(mknod, VMM_RULE_KILL)                                                                 \
	CALL(kexec_file_load, VMM_RULE_KILL)
#else
#define VMM_RULES_X86(CALL, ARG)
#endif

#define VMM_RULES(CALL, ARG)                                                                       \
	VMM_RULES_NAMESPACES(CALL, ARG)                                                            \
	VMM_RULES_MOUNTS(CALL, ARG)                                                                \
	VMM_RULES_PROCESSES(CALL, ARG)                                                             \
	VMM_RULES_IDS(CALL, ARG)                                                                   \
	VMM_RULES_KERNEL(CALL, ARG)                                                                \
	VMM_RULES_TERMINAL(CALL, ARG)                                                              \
	VMM_RULES_FAMILIES(CALL, ARG, socket)                                                      \
	VMM_RULES_FAMILIES(CALL, ARG, socketpair)                                                  \
	VMM_RULES_X86(CALL, ARG)
/* clang-format on */

struct vmm_rule {
	const char *name; /* of the call, with ":NAME" for an argument */
	long nr;
	int arg;	/* -1: whatever its arguments are */
	unsigned mask;	/* of the argument */
	unsigned value; /* what is denied, once masked */
	int how;	/* VMM_RULE_KILL or an errno */
};

#define VMM_RULE_OF_CALL(call, denial)                                                             \
	{.name = #call, .nr = __NR_##call, .arg = -1, .how = (denial)},
#define VMM_RULE_OF_ARG(call, label, argument, bits, is, denial)                                   \
	{.name = #call ":" #label,                                                                 \
	 .nr = __NR_##call,                                                                        \
	 .arg = (argument),                                                                        \
	 .mask = (bits),                                                                           \
	 .value = (is),                                                                            \
	 .how = (denial)},

/* The body of an array of struct vmm_rule. */
#define VMM_RULES_TABLE VMM_RULES(VMM_RULE_OF_CALL, VMM_RULE_OF_ARG)

#endif
