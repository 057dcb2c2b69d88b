# SPDX-License-Identifier: Apache-2.0
"""What went wrong elsewhere, as cases of ours: each names what it was, and what holds it here."""
import contextlib
import hashlib
import os
import re
import stat

import pytest

import diskmodel
import harness
from diskmodel import MIB, SECTOR
from harness import wait_for

SETS_OF_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status_of(task):
    with open(f"{task}/status") as f:
        return dict(re.findall(r"^(\w+):\t(.*)$", f.read(), re.M))


def tasks(pid):
    return [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]


@pytest.mark.standin
def test_cve_2026_1386_a_link_where_root_makes_files(make_host):
    """A jailer made and gave away files through a link that an unprivileged user had put into its
    directory. Held by: directories that nobody but root may write to (test_files.py, and the tenant's
    suite for what lies elsewhere), and openat2(2) with RESOLVE_NO_SYMLINKS where there is a link in
    them all the same."""
    host = make_host(limits="destroy_ms = 1000")
    elsewhere = os.path.join(host.base, "elsewhere")
    os.mkdir(elsewhere, 0o700)
    with open(os.path.join(elsewhere, "0"), "w") as f:
        f.write("precious")
    os.chmod(os.path.join(elsewhere, "0"), 0o600)
    diskmodel.make_image(host, "base", [(0, 8, 1)], MIB)

    def untouched(what):
        st = os.lstat(os.path.join(elsewhere, "0"))
        assert (st.st_uid, stat.S_IMODE(st.st_mode), st.st_nlink) == (0, 0o600, 1), what
        with open(os.path.join(elsewhere, "0")) as f:
            assert f.read() == "precious", what
        st = os.stat(elsewhere)
        assert (st.st_uid, stat.S_IMODE(st.st_mode)) == (0, 0o700), what
        assert os.listdir(elsewhere) == ["0"], what
    sandboxes = os.path.join(host.state_dir, "sandboxes")
    links = {
        "its directory": os.path.join(sandboxes, "admin:one"),
        "its disks": os.path.join(sandboxes, "admin:one", "disks"),
        "its scratch": os.path.join(sandboxes, "admin:one", "scratch"),
    }
    for what, path in links.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(elsewhere, path)
        answer = host.api("POST", "/v1/sandboxes", {
            "id": "one", "kernel": "tiny", "memory_mib": 32, "disks": [{"image": "base"}]})
        assert answer.status >= 400 or what == "its scratch", (what, answer)
        untouched(what)
        # With the link there it is not cleared up: said so, and nothing behind it is touched.
        answer = host.api("DELETE", "/v1/sandboxes/one")
        untouched(what)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if answer.status != 404:
            wait_for(lambda: host.api("DELETE", "/v1/sandboxes/one").status in (200, 404), 20, what)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(sandboxes, "admin:one"))
    # Where a template is to come, and where it is staged.
    host.create(id="one", cmdline="tick=0")
    for name in ("admin:warm", ".new-admin:warm"):
        path = os.path.join(host.state_dir, "templates", name)
        os.symlink(elsewhere, path)
        answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
        untouched(name)
        host.api("DELETE", "/v1/templates/warm")
        untouched(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    assert os.listdir(os.path.join(host.state_dir, "templates")) == []


def test_cve_2020_15257_abstract_sockets(host):
    """An abstract socket of root's could be reached from every container in the host's net namespace.
    Held by: none of our processes has one, and the VMM has a namespace of its own (what it sees by
    trying: test_attack.py)."""
    pid = host.create(id="one", vsock=True)["vmm"]["pid"]
    ours = [host.daemon.pid, *host.spawner_pids(), *host.shim_pids()]
    inodes = set()
    for process in ours:
        for fd in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                found = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{process}/fd/{fd}"))
                inodes |= {found.group(1)} if found else set()
    assert len(inodes) >= 5
    seen = 0
    for process in [*ours, pid]:
        with open(f"/proc/{process}/net/unix") as f:
            for line in f.readlines()[1:]:
                words = line.split()
                if words[6] in inodes:
                    seen += 1
                    assert len(words) < 8 or not words[7].startswith("@"), line
    assert seen >= 3
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    # All that it finds there by name or number is its own vsock, and the API's two ends.
    with open(f"/proc/{pid}/net/unix") as f:
        names = {words[7] for words in map(str.split, f.readlines()[1:]) if len(words) > 7}
    assert names <= {"/vsock/socket", "api"} | {n for n in names if n.startswith("/vsock/")}, names


def test_cve_2024_21626_a_directory_left_open(host):
    """A descriptor of a host directory was left open across the exec into a container. Held by:
    close_range(2) before the exec, and no directory is ever handed over."""
    pid = host.create(id="one", vsock=True)["vmm"]["pid"]
    root = os.stat(f"/proc/{pid}/root")
    for what in ("cwd", "root"):
        st = os.stat(f"/proc/{pid}/{what}")
        assert (st.st_dev, st.st_ino) == (root.st_dev, root.st_ino), what
    assert (root.st_dev, root.st_ino) != (os.stat("/").st_dev, os.stat("/").st_ino)
    with open(f"/proc/{pid}/mountinfo") as f:
        devices = {line.split()[2] for line in f}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        st = os.stat(f"/proc/{pid}/fd/{fd}")
        assert not stat.S_ISDIR(st.st_mode), fd
        if stat.S_ISREG(st.st_mode):
            device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
            assert device in devices or "memfd" in os.readlink(f"/proc/{pid}/fd/{fd}"), fd


def test_cve_2022_24769_inheritable_capabilities(host):
    """Containers began with a set of inheritable capabilities that was not empty. Held by: all five
    sets of the VMM are empty on every thread; ours have none that an exec would hand on."""
    pid = host.create(id="one", vcpus=2)["vmm"]["pid"]
    for task in tasks(pid):
        found = status_of(task)
        assert {int(found[name], 16) for name in SETS_OF_CAPABILITIES} == {0}, task
        assert found["NoNewPrivs"] == "1"
    for process in [host.daemon.pid, *host.spawner_pids(), *host.shim_pids()]:
        for task in tasks(process):
            found = status_of(task)
            assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0, (process, task)


def test_cve_2019_5736_the_own_binary(host):
    """A container wrote over the runtime's binary by way of /proc/self/exe. Held by: the VMM has no
    /proc; its binary is root's, on a mount that is read-only; and no process of ours runs in its
    namespaces after its exec."""
    def digest():
        with open(host.vmm, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    before = digest()
    pid = host.create(id="one")["vmm"]["pid"]
    with open(f"/proc/{pid}/mountinfo") as f:
        mounts = [(words[4], words[5].split(","), words[words.index("-") + 1])
                  for words in map(str.split, f)]
    assert not any(kind in ("proc", "sysfs", "cgroup", "cgroup2", "devpts")
                   for _, _, kind in mounts), mounts
    at = os.readlink(f"/proc/{pid}/exe")
    options, = [options for path, options, _ in mounts if path == at] or \
        [options for path, options, _ in mounts if path == "/"]
    assert {"ro", "nosuid"} <= set(options), options
    st = os.stat(f"/proc/{pid}/exe")
    assert st.st_uid == 0 and not st.st_mode & 0o022
    own = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "mnt")}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(process) != pid:
                assert os.readlink(f"/proc/{process}/ns/pid") != own["pid"], process
    host.destroy("one")
    assert digest() == before


def test_ghsa_jmr4_g2hv_mjj6_a_disk_that_names_another_file(host):
    """A guest wrote the header of a qcow2 image, which names a backing file, into its own raw disk,
    and the VMM opened that file at the next start. Held by: every disk is declared raw, which the
    shim reads back (ch_disks.c); the jail has no other file to name; what looks like another format
    is not imported."""
    name = b"/kernel"
    # Version 3, with the name of its backing file behind the header (qcow2's specification).
    header = b"".join(n.to_bytes(size, "big") for n, size in (
        (0x514649fb, 4), (3, 4), (112, 8), (len(name), 4), (16, 4), (MIB, 8), (0, 4), (1, 4),
        (3 << 16, 8), (1 << 16, 8), (1, 4), (0, 4), (0, 8), (0, 8), (0, 8), (0, 8), (4, 4),
        (104, 4), (0, 8))) + name
    data = (header.ljust(SECTOR, b"\0") + os.urandom(SECTOR)).ljust(MIB, b"\0")
    source = os.path.join(host.base, "wicked.img")
    with open(source, "wb") as f:
        f.write(data)
    # By hand, past what an import refuses.
    host.add_image("disks", "wicked", source)
    for readonly in (False, True):
        answer = host.api("POST", "/v1/sandboxes", {
            "id": "one", "kernel": "tiny", "memory_mib": 64, "cmdline": "tick=0",
            "disks": [{"image": "wicked", "readonly": readonly}]})
        # Cloud Hypervisor itself may refuse a raw disk that looks like another.
        assert answer.status in (201, 502), answer
        if answer.status == 502:
            assert host.api("GET", "/v1/sandboxes/one").status == 404
            continue
        host.wait_console("one", "GUEST UP")
        pid = answer.json["vmm"]["pid"]
        opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert [p for p in opened if "disk" in p] and "/kernel" not in opened, opened
        # The guest finds there what lies there, byte by byte, and no more of it.
        assert diskmodel.size(host, "one", 0) == MIB // SECTOR
        assert diskmodel.read(host, "one", 0, 0, 2) == diskmodel.checksum(data[:2 * SECTOR])
        host.destroy("one")
    wait_for(lambda: host.residue() == [], what="nothing left")
