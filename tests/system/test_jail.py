# SPDX-License-Identifier: Apache-2.0
"""What a VMM, its shim, the spawner and cloisterd may do, read back from the kernel."""
import contextlib
import ctypes
import fcntl
import os
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

import harness
from harness import alive, wait_for

NAMESPACES = ("pid", "mnt", "net", "ipc", "uts")
NO_CAPS = {c: "0" * 16 for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
LOADER = "ld-linux-x86-64.so.2"
SIOCGIFFLAGS, IFF_UP = 0x8913, 1


def status(pid, tid=None):
    with open(f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status") as f:
        return {key: value.strip() for key, value in (line.split(":", 1) for line in f)}


def namespaces(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}


def mounts(pid, once=True):
    """{mount point: (type, options, the file system's own options, what of it is mounted)}"""
    found = {}
    with open(f"/proc/{pid}/mountinfo") as f:
        for line in f:
            own, rest = line.rstrip("\n").split(" - ")
            _, _, _, root, point, options = own.split()[:6]
            kind, _, super_options = rest.split()[:3]
            assert point not in found or not once, f"{point} is mounted twice"
            found[point] = (kind, set(options.split(",")), set(super_options.split(",")), root)
    return found


def descriptors(pid):
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def fd_flags(pid, fd):
    with open(f"/proc/{pid}/fdinfo/{fd}") as f:
        return int(next(line for line in f if line.startswith("flags:")).split()[1], 8)


def limits(pid):
    with open(f"/proc/{pid}/limits") as f:
        next(f)
        return {m.group(1): (m.group(2), m.group(3)) for m in
                (re.match(r"(Max [a-z -]*?) {2,}(\S+) +(\S+)", line) for line in f)}


def tree(root):
    """{path: lstat} of everything below root."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            found[path[len(root):]] = os.lstat(path)
    return found


def libraries(binary):
    """What the loader needs for binary, as the host's own ldd says: {name: real path}."""
    text = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    paths = re.findall(r"(/\S+) \(0x", text)
    return {os.path.basename(path): os.path.realpath(path) for path in paths}


def inside(pid, kinds, function):
    """function() as seen from the namespaces of pid, in a child; its text comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fds = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds]
            text = "setns failed" if any(libc.setns(fd, 0) for fd in fds) else function()
        except BaseException as error:  # the child must not go on as a second pytest
            text = repr(error)
        os.write(write, str(text).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    os.waitpid(child, 0)
    return text


def interfaces():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        def flags(name):
            answer = fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
            return struct.unpack("16sH14x", answer)[1]
        return [(name, "up" if flags(name) & IFF_UP else "down")
                for _, name in socket.if_nameindex()]


def check_threads(host, pid, uid):
    names = os.listdir(f"/proc/{pid}/task")
    assert len(names) >= 2 and str(pid) in names
    for tid in names:
        s = status(pid, tid)
        assert s["Uid"].split() == [str(uid)] * 4 and s["Gid"].split() == [str(uid)] * 4
        assert s["Groups"] == "" and s["NoNewPrivs"] == "1"
        assert {c: s[c] for c in NO_CAPS} == NO_CAPS
        # Three are under every thread: the spawner's, set-up's, and the VMM's outer one. Cloud
        # Hypervisor has one of its own on all but the main one.
        own = host.name == "ch" and tid != str(pid)
        assert s["Seccomp"] == "2", f"thread {tid} {s['Name']}"
        filters = int(s["Seccomp_filters"])  # a thread has those of the one that made it, too
        assert filters >= 4 if own else filters == 3, f"thread {tid} {s['Name']}"


def check_mounts(host, pid, memory_mib, extra):
    code, data = {"ro", "nosuid", "nodev"}, {"ro", "nosuid", "nodev", "noexec"}
    scratch = {"rw", "nosuid", "nodev", "noexec"}
    expected = {
        "/": ("tmpfs", code), "/vmm": (None, code), "/dev": ("tmpfs", {"ro", "nosuid", "noexec"}),
        "/kernel": (None, data), "/mem": ("tmpfs", scratch), "/snapshot": ("tmpfs", scratch),
        "/vsock": ("tmpfs", scratch), **{path: (None, code) for path in extra}}
    found = mounts(pid)
    libs = {p: m for p, m in found.items() if p not in expected}
    wanted = libraries(host.vmm)
    assert {os.path.basename(p) for p in libs} == set(wanted)
    assert f"/lib64/{LOADER}" in libs
    for path, (_, options, _, root) in libs.items():
        assert re.fullmatch(r"/(usr/)?lib(32|64)?/.*", path), path
        assert options - {"relatime", "noatime"} == code, path
        # Not a look-alike: the very file that the host's loader would take.
        theirs, ours = os.stat(f"/proc/{pid}/root{path}"), os.stat(wanted[os.path.basename(path)])
        assert (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino), path
    assert set(found) == set(expected) | set(libs)
    for path, (kind, flags) in expected.items():
        assert found[path][1] - {"relatime", "noatime"} == flags, path
        if kind:
            assert found[path][0] == kind and found[path][3] == "/", path
    assert f"size={memory_mib * 1024}k" in found["/mem"][2]
    assert "size=4096k" in found["/snapshot"][2] and "nr_inodes=16" in found["/snapshot"][2]
    assert "size=64k" in found["/vsock"][2]
    return set(libs)


def check_tree(host, pid, uid, memory_mib, extra, libs):
    root = f"/proc/{pid}/root"
    found = tree(root)
    mode = lambda path: oct(found[path].st_mode)
    directories = {"/dev", "/disk", "/mem", "/restore", "/snapshot", "/vsock"}
    for path in libs | set(extra):
        while (path := os.path.dirname(path)) != "/":
            directories.add(path)
    devices = {p: os.stat(p).st_rdev for p in
               ("/dev/kvm", "/dev/null", "/dev/urandom", "/dev/userfaultfd") if os.path.exists(p)}
    files = {"/vmm", "/kernel", "/initramfs", "/mem/ram"} | libs | set(extra)
    assert set(found) == directories | set(devices) | files
    for path in directories:
        owner = uid if path == "/vsock" else 0
        # /snapshot is lent to the VMM only while it writes one.
        assert mode(path) == oct(stat.S_IFDIR | (0o700 if path == "/snapshot" else 0o755)), path
        assert (found[path].st_uid, found[path].st_gid) == (owner, owner), path
    for path, rdev in devices.items():
        st = found[path]
        assert mode(path) == oct(stat.S_IFCHR | 0o600), path
        assert (st.st_uid, st.st_gid, st.st_rdev) == (uid, uid, rdev), path
    for path in files - {"/mem/ram"}:
        assert stat.S_ISREG(found[path].st_mode) and not found[path].st_mode & 0o22, path
        assert found[path].st_uid == 0, path
    ram = found["/mem/ram"]
    assert mode("/mem/ram") == oct(stat.S_IFREG | 0o600)
    assert (ram.st_uid, ram.st_gid, ram.st_size) == (uid, uid, memory_mib << 20)
    assert found["/initramfs"].st_size == 0
    for path in (host.state_dir, host.run_dir, host.base, "/etc", "/proc", "/sys", "/tmp", "/root"):
        assert not os.path.lexists(root + path), path


def check_limits(pid, memory_mib, vcpus):
    memory = memory_mib << 20
    wanted = {"Max core file size": 0, "Max locked memory": 0, "Max file size": memory,
              "Max processes": vcpus + 64, "Max open files": 512,
              "Max address space": memory + (4 << 30) + vcpus * (64 << 20)}
    found = limits(pid)
    assert {k: found[k] for k in wanted} == {k: (str(v), str(v)) for k, v in wanted.items()}


def check_descriptors(host, pid, shim):
    """No way out of the jail, and none of the shim's own."""
    allowed = re.compile(r"/\d+|/dev/(kvm|urandom|null|userfaultfd)|/mem/ram|/kernel|(pipe|socket):.*"
                         r"|anon_inode:.*")
    theirs = descriptors(shim)
    sockets = {t for t in theirs.values() if t.startswith("socket:")}
    pipes = set()
    for fd, target in descriptors(pid).items():
        assert allowed.fullmatch(target), f"descriptor {fd} is {target}"
        assert not stat.S_ISDIR(os.stat(f"/proc/{pid}/fd/{fd}").st_mode)
        assert target not in sockets, f"descriptor {fd} is one of the shim's own sockets"
        if target.startswith("pipe:"):
            assert fd_flags(pid, fd) & os.O_ACCMODE == os.O_WRONLY
            pipes.add(target)
    assert len(pipes) == 2
    if not harness.SANITIZED:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            assert f.read().split(b"\0") == [
                b"cloud-hypervisor", b"--api-socket", b"fd=3", b"--event-monitor", b"fd=4",
                b"--seccomp", b"true", b""]


def test_the_vmm_is_confined(make_host):
    extra = os.path.join("/var/tmp", f"cloister-bind-{os.getpid()}")
    with open(extra, "w") as f:
        f.write("seen in the jail")
    os.chmod(extra, 0o644)
    try:
        host = make_host(vmm_config=f"env = A=B\nenv = C=D e\nbind_ro = {extra}")
        boxes = [host.create(id="one"), host.create(id="two", memory_mib=48, vcpus=2)]
        pids = [box["vmm"]["pid"] for box in boxes]
        uids = [int(status(pid)["Uid"].split()[0]) for pid in pids]
        assert len(set(uids)) == 2
        for box, pid, uid in zip(boxes, pids, uids):
            assert host.uid_base <= uid < host.uid_base + 511  # the last one is the probe's
            shim, = host.shim_pids(f"admin:{box['id']}")
            check_threads(host, pid, uid)
            libs = check_mounts(host, pid, box["memory_mib"], [extra])
            check_tree(host, pid, uid, box["memory_mib"], [extra], libs)
            check_limits(pid, box["memory_mib"], box["vcpus"])
            check_descriptors(host, pid, shim)
            with open(f"/proc/{pid}/environ", "rb") as f:
                assert f.read() == b"A=B\0C=D e\0"
            with open(f"/proc/{pid}/root{extra}") as f:
                assert f.read() == "seen in the jail"
            with open(f"/proc/{pid}/net/dev") as f:
                assert [line.split(":")[0].strip() for line in f][2:] == ["lo"]
            assert inside(pid, ["net"], interfaces) == "[('lo', 'down')]"
            assert inside(pid, ["uts"], lambda: os.uname().nodename) == "sandbox"
            if harness.CGROUP_MOUNT:
                with open(f"/proc/{pid}/cgroup") as f:
                    assert f"0::/{host.cgroup}/{host.instance()}/admin:{box['id']}\n" in f
                with open(host.cgroup_path(f"admin:{box['id']}") + "/cgroup.procs") as f:
                    assert f.read().split() == [str(pid)]
            s = status(pid)
            assert s["PPid"] == str(shim) and s["NSpid"].split() == [str(pid), "1"]
            assert s["Umask"] == "0077" and s["NSsid"].split()[-1] == "1"
        ours, *theirs = namespaces("self"), *map(namespaces, pids)
        for kind in NAMESPACES:
            assert len({n[kind] for n in (ours, *theirs)}) == 3, kind
    finally:
        os.unlink(extra)


def test_no_environment_unless_configured_and_images_are_read_only(host):
    """The mount is what protects an image, not its mode."""
    host.add_image("initramfs", "tiny", harness.GUEST)
    pid = host.create(id="one", initramfs="tiny")["vmm"]["pid"]
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert f.read() == b""
    assert mounts(pid)["/initramfs"][1] >= {"ro", "nosuid", "nodev", "noexec"}
    for path in ("/kernel", "/initramfs", "/vmm"):
        with pytest.raises(OSError) as error:
            os.open(f"/proc/{pid}/root{path}", os.O_WRONLY)
        assert error.value.errno == 30 or path == "/vmm" and error.value.errno == 26  # EROFS, ETXTBSY
    with pytest.raises(OSError, match="Read-only"):
        open(f"/proc/{pid}/root/new", "w")
    with pytest.raises(OSError, match="Read-only"):
        open(f"/proc/{pid}/root/dev/new", "w")
    # The VMM's own uid cannot put anything beside its memory, nor can anybody more than its size.
    with pytest.raises(OSError, match="No space"):
        with open(f"/proc/{pid}/root/mem/more", "wb") as f:
            with contextlib.ExitStack() as undo:
                undo.callback(os.unlink, f"/proc/{pid}/root/mem/more")
                ram = os.open(f"/proc/{pid}/root/mem/ram", os.O_RDWR)
                undo.callback(os.close, ram)
                os.posix_fallocate(ram, 0, 32 << 20)
                f.write(b"x" * 65536)
                f.flush()


def shim_kinds(pid, key):
    """How many descriptors of each kind the shim has; what is none of them stays as it is."""
    kinds = {}
    for fd, target in descriptors(pid).items():
        for pattern, kind in ((r"socket:.*", "socket"), (r"/memfd:cloister-policy .*", "policy"),
                              (r"anon_inode:\[(\w+)\]", r"\1"), (rf"/sys/fs/.*/{key}", "cgroup")):
            target = re.sub(f"^{pattern}$", kind, target)
        if target.startswith("pipe:"):
            target = "pipe-w" if fd_flags(pid, fd) & os.O_ACCMODE else "pipe-r"
        if target == "/":  # the host's /proc, but only to look names up in
            path = f"/proc/{pid}/fd/{fd}"
            assert fd_flags(pid, fd) & os.O_PATH and os.path.exists(path + "/self/status")
            target = "proc"
        if fd == 2 and harness.SANITIZED:
            target = "/dev/null"
        kinds[target] = kinds.get(target, 0) + 1
    return kinds


def test_the_shim_keeps_cap_both(host):
    vmm = host.create(id="one")["vmm"]["pid"]
    host.wait_console("one", "GUEST UP")
    pid, = host.shim_pids("admin:one")
    for tid in os.listdir(f"/proc/{pid}/task"):
        s = status(pid, tid)
        both = f"{1 << 5 | 1 << 0:016x}"  # CAP_KILL and CAP_CHOWN
        assert {c: s[c] for c in NO_CAPS} == {**NO_CAPS, "CapPrm": both, "CapEff": both}
        assert s["NoNewPrivs"] == "1" and s["Groups"] == "" and s["Uid"].split() == ["0"] * 4
    root, jail = os.stat(f"/proc/{pid}/root"), os.stat(f"/proc/{vmm}/root")
    assert (root.st_dev, root.st_ino) == (jail.st_dev, jail.st_ino)
    ours, its, vmms = namespaces("self"), namespaces(pid), namespaces(vmm)
    assert its["mnt"] == vmms["mnt"] and its["net"] == vmms["net"]
    assert all(its[kind] == ours[kind] for kind in ("pid", "ipc", "uts"))
    # Link, listener, API and events; the VMM's stdout and stderr, and the pipe that our death ends.
    expected = {"/dev/null": 3, "socket": 4, "pipe-r": 2, "pipe-w": 1, "policy": 1, "pidfd": 1,
                "eventpoll": 1, "/ptmx": 1, "/mem/ram": 1, "proc": 1, f"{host.run_dir}/uids": 1,
                # Where sets are made; of a mount that was let go, hence the short names.
                "/templates": 1, "/sandboxes": 1, "/snapshot": 1, "/vsock": 1}
    if harness.CGROUP_MOUNT:
        expected["cgroup"] = 1
    assert shim_kinds(pid, "admin:one") == expected
    with open(f"/proc/{pid}/environ", "rb") as f:
        assert harness.SANITIZED or f.read() == b""


@pytest.mark.standin
def test_cloisterd_and_spawner(make_host):
    """cloisterd has nothing of root's; the spawner's world does not grow with the host's."""
    host = make_host(start=False)
    plain_spawner, plain_vmm = None, None
    wrapper = os.path.join(host.base, "wrapper")
    many = os.path.join(host.base, "many")
    os.mkdir(many)
    with open(wrapper, "w") as f:
        f.write(f"""#!/bin/sh
exec unshare -m sh -c 'i=0; while [ $i -lt 100 ]; do i=$((i + 1))
mkdir {many}/$i && mount -t tmpfs -o size=4k none {many}/$i || exit 9; done
exec {harness.BUILD}/cloisterd "$@"' sh "$@"
""")
    os.chmod(wrapper, 0o755)
    for binary in (None, wrapper):
        host.start(binary=binary)
        s = status(host.daemon.pid)
        assert s["Uid"].split() == [str(harness.USER_UID)] * 4 == s["Gid"].split()
        assert {c: s[c] for c in NO_CAPS} == NO_CAPS
        assert s["Groups"] == "" and s["NoNewPrivs"] == "1"
        spawner, = host.spawner_pids()
        vmm = host.create(id="one")["vmm"]["pid"]
        assert namespaces(spawner)["mnt"] not in (namespaces(host.daemon.pid)["mnt"],
                                                 namespaces("self")["mnt"])
        if binary is None:
            plain_spawner, plain_vmm = set(mounts(spawner)), set(mounts(vmm))
        else:
            assert len(mounts(host.daemon.pid, once=False)) >= 100
            assert set(mounts(spawner)) == plain_spawner and set(mounts(vmm)) == plain_vmm
        host.destroy("one")
        assert set(mounts(spawner)) == plain_spawner and len(plain_spawner) < 40
        # No capability of the spawner's needs the host's root directory: it has one of its own.
        assert sorted(os.listdir(f"/proc/{spawner}/root")) == sorted(
            {p.split("/")[1] for p in plain_spawner if p != "/"} | {"jail", "devices"}
            | {d for d in ("lib", "lib32", "lib64") if os.path.islink("/" + d)})
        host.stop()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


def leaf_procs(host, key):
    """Who is in the sandbox's cgroup, whatever uid it has by now."""
    with contextlib.suppress(OSError):
        with open(os.path.join(host.cgroup_path(key), "cgroup.procs")) as f:
            return f.read().split()
    return []


def test_vmm_dies_with_its_shim(host):
    """By the kernel's hand: the spawner, which would clear up too, is stopped meanwhile."""
    box = host.create(id="one")
    shim, = host.shim_pids("admin:one")
    spawner, = host.spawner_pids()
    os.kill(spawner, signal.SIGSTOP)
    try:
        os.kill(shim, signal.SIGKILL)
        wait_for(lambda: not alive(box["vmm"]["pid"]), what="the VMM's end")
    finally:
        os.kill(spawner, signal.SIGCONT)
    box = host.wait_state("one", "crashed")
    assert box["exit"]["cause"] == "shim-lost" and box["vmm"] is None
    host.destroy("one")
    # Its cgroup is empty a moment before the last of its threads can be reaped.
    wait_for(lambda: host.residue() == [], what="nothing left")


@pytest.mark.standin
def test_no_orphan_however_early_the_shim_dies(host):
    spawner, = host.spawner_pids()
    dice = random.Random(3)
    for i in range(20):
        box, known = f"race{i}", set(children(spawner))
        assert host.api("POST", "/v1/sandboxes?wait=none",
                        {"kernel": "tiny", "memory_mib": 32, "id": box}).status == 202
        shim = wait_for(lambda: next(iter(set(children(spawner)) - known), None), what="a shim")
        end = time.monotonic() + dice.uniform(0, 0.008)
        while time.monotonic() < end:
            pass
        os.kill(spawner, signal.SIGSTOP)
        try:
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
            wait_for(lambda: not any(map(alive, host.vmm_pids())) and
                     not leaf_procs(host, f"admin:{box}"), what=f"no process of {box}")
        finally:
            os.kill(spawner, signal.SIGCONT)
        wait_for(lambda: host.get(box)["state"] in ("failed", "crashed"),
                 what=f"an end of {box}, now {host.get(box)}")
        assert host.destroy(box)["vmm"] is None
    wait_for(lambda: host.residue() == [], what="nothing left")
