// SPDX-License-Identifier: Apache-2.0
#include "calls.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum when {
	ALWAYS,	    /* a step */
	RESOURCE,   /* no step, but it can fail for want of something */
	BY_FLAGS,   /* open: a step if it creates or cuts, else RESOURCE */
	NO_LOG,	    /* a step unless it goes to descriptor 2 */
	NO_THREADS, /* a step unless it makes a thread */
	NO_QUERY,   /* ioctl: a step unless it only asks */
	LOCKS,	    /* fcntl: a step if it takes a lock, RESOURCE if it makes a descriptor */
	WATCHES,    /* epoll_ctl: RESOURCE if it adds */
	NEW_MEMORY, /* mmap: RESOURCE */
	LAST,	    /* a step, and cannot fail */
	NEVER,
};

#define NO_PATH (-1)

struct known {
	uint64_t number;
	const char *name;
	enum when when;
	int error;
	int path; /* which argument is one */
};

#define CALL(name, when, error, path)                                                              \
	{                                                                                          \
		SYS_##name, #name, when, error, path                                               \
	}

static const struct known table[] = {
	CALL(openat, BY_FLAGS, EMFILE, 1),
	CALL(openat2, BY_FLAGS, EMFILE, 1),
	CALL(mkdirat, ALWAYS, ENOSPC, 1),
	CALL(mknodat, ALWAYS, ENOSPC, 1),
	CALL(linkat, ALWAYS, ENOSPC, 1),
	CALL(symlinkat, ALWAYS, ENOSPC, 0),
	CALL(renameat2, ALWAYS, ENOSPC, 1),
	CALL(unlinkat, ALWAYS, EIO, 1),
	CALL(fchmod, ALWAYS, EIO, NO_PATH),
	CALL(fchmodat, ALWAYS, EIO, 1),
	CALL(fchown, ALWAYS, EIO, NO_PATH),
	CALL(fchownat, ALWAYS, EIO, 1),
	CALL(utimensat, ALWAYS, EIO, 1),
	CALL(truncate, ALWAYS, ENOSPC, 0),
	CALL(ftruncate, ALWAYS, ENOSPC, NO_PATH),
	CALL(fallocate, ALWAYS, ENOSPC, NO_PATH),
	CALL(write, NO_LOG, ENOSPC, NO_PATH),
	CALL(writev, NO_LOG, ENOSPC, NO_PATH),
	CALL(pwrite64, ALWAYS, ENOSPC, NO_PATH),
	CALL(pwritev, ALWAYS, ENOSPC, NO_PATH),
	CALL(pwritev2, ALWAYS, ENOSPC, NO_PATH),
	CALL(sendfile, ALWAYS, ENOSPC, NO_PATH),
	CALL(splice, ALWAYS, ENOSPC, NO_PATH),
	CALL(copy_file_range, ALWAYS, ENOSPC, NO_PATH),
	CALL(fsync, ALWAYS, EIO, NO_PATH),
	CALL(fdatasync, ALWAYS, EIO, NO_PATH),
	CALL(sync_file_range, ALWAYS, EIO, NO_PATH),
	CALL(syncfs, ALWAYS, EIO, NO_PATH),
	CALL(msync, ALWAYS, EIO, NO_PATH),
	CALL(fsetxattr, ALWAYS, ENOSPC, NO_PATH),
	CALL(flock, ALWAYS, ENOLCK, NO_PATH),
	CALL(fcntl, LOCKS, EMFILE, NO_PATH),
	CALL(ioctl, NO_QUERY, EIO, NO_PATH),
	CALL(mount, ALWAYS, ENOMEM, 1),
	CALL(umount2, ALWAYS, EBUSY, 0),
	CALL(pivot_root, ALWAYS, EBUSY, 1),
	CALL(open_tree, ALWAYS, EMFILE, 1),
	CALL(move_mount, ALWAYS, ENOMEM, 3),
	CALL(mount_setattr, ALWAYS, ENOMEM, 1),
	CALL(fsopen, ALWAYS, ENOMEM, 0),
	CALL(fsconfig, ALWAYS, ENOMEM, NO_PATH),
	CALL(fsmount, ALWAYS, ENOMEM, NO_PATH),
	CALL(unshare, ALWAYS, ENOSPC, NO_PATH),
	CALL(setns, ALWAYS, EPERM, NO_PATH),
	CALL(clone, NO_THREADS, EAGAIN, NO_PATH),
	CALL(clone3, NO_THREADS, EAGAIN, NO_PATH),
	CALL(execve, ALWAYS, ENOMEM, 0),
	CALL(execveat, ALWAYS, ENOMEM, 1),
	CALL(exit_group, LAST, 0, NO_PATH),
	CALL(kill, ALWAYS, EPERM, NO_PATH),
	CALL(tgkill, ALWAYS, EPERM, NO_PATH),
	CALL(pidfd_send_signal, ALWAYS, EPERM, NO_PATH),
	CALL(bind, ALWAYS, ENOSPC, NO_PATH),
	CALL(listen, ALWAYS, ENOMEM, NO_PATH),
	CALL(connect, ALWAYS, EAGAIN, NO_PATH),
	CALL(shutdown, ALWAYS, ENOTCONN, NO_PATH),
	CALL(sendto, ALWAYS, ENOBUFS, NO_PATH),
	CALL(sendmsg, ALWAYS, ENOBUFS, NO_PATH),
	CALL(sendmmsg, ALWAYS, ENOBUFS, NO_PATH),
	CALL(sethostname, ALWAYS, EPERM, NO_PATH),
	CALL(prlimit64, RESOURCE, EPERM, NO_PATH),
	CALL(setresuid, RESOURCE, EAGAIN, NO_PATH),
	CALL(setresgid, RESOURCE, EPERM, NO_PATH),
	CALL(setgroups, RESOURCE, EPERM, NO_PATH),
	CALL(capset, RESOURCE, EPERM, NO_PATH),
	CALL(prctl, RESOURCE, EINVAL, NO_PATH),
	CALL(seccomp, RESOURCE, ENOMEM, NO_PATH),
	CALL(setsid, RESOURCE, EPERM, NO_PATH),
	CALL(close_range, RESOURCE, ENOMEM, NO_PATH),
	CALL(socket, RESOURCE, EMFILE, NO_PATH),
	CALL(socketpair, RESOURCE, EMFILE, NO_PATH),
	CALL(setsockopt, RESOURCE, ENOMEM, NO_PATH),
	CALL(accept4, RESOURCE, EMFILE, NO_PATH),
	CALL(pipe2, RESOURCE, EMFILE, NO_PATH),
	CALL(dup, RESOURCE, EMFILE, NO_PATH),
	CALL(dup3, RESOURCE, EMFILE, NO_PATH),
	CALL(memfd_create, RESOURCE, EMFILE, NO_PATH),
	CALL(eventfd2, RESOURCE, EMFILE, NO_PATH),
	CALL(epoll_create1, RESOURCE, EMFILE, NO_PATH),
	CALL(epoll_ctl, WATCHES, ENOSPC, NO_PATH),
	CALL(timerfd_create, RESOURCE, EMFILE, NO_PATH),
	CALL(signalfd4, RESOURCE, EMFILE, NO_PATH),
	CALL(pidfd_open, RESOURCE, EMFILE, NO_PATH),
	CALL(fstat, RESOURCE, EIO, NO_PATH),
	CALL(newfstatat, RESOURCE, EIO, 1),
	CALL(statx, RESOURCE, EIO, 1),
	CALL(getdents64, RESOURCE, EIO, NO_PATH),
	CALL(mmap, NEW_MEMORY, ENOMEM, NO_PATH),
#ifdef SYS_open
	CALL(open, BY_FLAGS, EMFILE, 0),
	CALL(mkdir, ALWAYS, ENOSPC, 0),
	CALL(rmdir, ALWAYS, EIO, 0),
	CALL(unlink, ALWAYS, EIO, 0),
	CALL(rename, ALWAYS, ENOSPC, 0),
	CALL(link, ALWAYS, ENOSPC, 0),
	CALL(symlink, ALWAYS, ENOSPC, 0),
	CALL(mknod, ALWAYS, ENOSPC, 0),
	CALL(chmod, ALWAYS, EIO, 0),
	CALL(chown, ALWAYS, EIO, 0),
	CALL(lchown, ALWAYS, EIO, 0),
	CALL(renameat, ALWAYS, ENOSPC, 1),
	CALL(fork, ALWAYS, EAGAIN, NO_PATH),
	CALL(vfork, ALWAYS, EAGAIN, NO_PATH),
	CALL(dup2, RESOURCE, EMFILE, NO_PATH),
#endif
};

static bool read_memory(pid_t tid, uint64_t at, void *to, size_t size)
{
	struct iovec mine = {to, size}, theirs = {(void *)(uintptr_t)at, size};
	return process_vm_readv(tid, &mine, 1, &theirs, 1, 0) == (ssize_t)size;
}

static bool opens_for_change(const struct known *k, pid_t tid, const uint64_t args[6])
{
	uint64_t flags = args[k->path + 1];
	if (strcmp(k->name, "openat2") == 0) {
		struct open_how how;
		if (!read_memory(tid, args[2], &how, sizeof(how)))
			return true;
		flags = how.flags;
	}
	return flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE;
}

static bool makes_thread(const struct known *k, pid_t tid, const uint64_t args[6])
{
	uint64_t flags = args[0];
	if (strcmp(k->name, "clone3") == 0 && !read_memory(tid, args[0], &flags, sizeof(flags)))
		return false;
	return flags & CLONE_THREAD;
}

static bool only_asks(uint64_t request)
{
	return request == TCGETS || request == TIOCGPTN || request == FIONREAD ||
	       request == TIOCGWINSZ || request == TIOCINQ;
}

static enum when resolve(const struct known *k, pid_t tid, const uint64_t args[6])
{
	switch (k->when) {
	case BY_FLAGS:
		return opens_for_change(k, tid, args) ? ALWAYS : RESOURCE;
	case NO_LOG:
		return args[0] == STDERR_FILENO ? NEVER : ALWAYS;
	case NO_THREADS:
		return makes_thread(k, tid, args) ? RESOURCE : ALWAYS;
	case NO_QUERY:
		return only_asks(args[1]) ? RESOURCE : ALWAYS;
	case LOCKS:
		if (args[1] == F_SETLK || args[1] == F_OFD_SETLK)
			return ALWAYS;
		return args[1] == F_DUPFD || args[1] == F_DUPFD_CLOEXEC ? RESOURCE : NEVER;
	case WATCHES:
		return args[1] == EPOLL_CTL_ADD ? RESOURCE : NEVER;
	case NEW_MEMORY:
		return RESOURCE;
	default:
		return k->when;
	}
}

bool calls_count(enum calls_class class, pid_t tid, uint64_t number, const uint64_t args[6],
		 struct call *c)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct known *k = &table[i];
		if (k->number != number)
			continue;
		enum when when = resolve(k, tid, args);
		if (when != ALWAYS && !(when == LAST && class == CALLS_STEPS) &&
		    !(when == RESOURCE && class == CALLS_FALLIBLE))
			return false;
		c->name = k->name;
		c->error = k->error;
		memcpy(c->args, args, sizeof(c->args));
		return true;
	}
	return false;
}

void calls_describe(pid_t tid, const struct call *c, char *buf, size_t size)
{
	buf[0] = '\0';
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].name, c->name) != 0)
			continue;
		char text[160] = "";
		struct iovec mine = {text, sizeof(text) - 1};
		if (table[i].path == NO_PATH) {
			snprintf(buf, size, "(%llx, %llx)", (unsigned long long)c->args[0],
				 (unsigned long long)c->args[1]);
			return;
		}
		uint64_t at = c->args[table[i].path];
		/* Up to the end of the page: what comes after it may not be mapped. */
		size_t left = 4096 - (size_t)(at & 4095);
		if (left < mine.iov_len)
			mine.iov_len = left;
		struct iovec theirs = {(void *)(uintptr_t)at, mine.iov_len};
		process_vm_readv(tid, &mine, 1, &theirs, 1, 0);
		for (char *p = text; *p; p++)
			if (*p < ' ' || *p > '~')
				*p = '?';
		snprintf(buf, size, "\"%s\"", text);
		return;
	}
}
