# SPDX-License-Identifier: Apache-2.0
"""Hostile code inside the jail: a VMM (tests/attack/) that tries to get out of it, or to take more.

It is put in place of the VMM and goes through the whole product: a sandbox is created, and what its
console is told, it tries. Each case says what held it.
"""
import os
import re
import signal
import socket
import subprocess

import pytest

import harness
from conftest import need
from harness import alive, wait_for

pytestmark = pytest.mark.standin

# Like the stand-in never built with sanitizers.
ATTACK = os.path.join(harness.TOP, "build", "tests", "attack", "cloud-hypervisor")


@pytest.fixture
def vmm():
    need("root")
    return ATTACK, "standin"


def attack(host, line, box="one"):
    """Tells the VMM to try; gives what became of it, line by line, without its own name."""
    name = line.split()[0]
    before = len(host.console(box))
    host.send(box, f"attack {line}\n")
    wait_for(lambda: f"ATTACK {name} done" in host.console(box)[before:], 30,
             f"the end of {line!r}: {host.console(box)[before:]}")
    return parse(host.console(box)[before:], name)


def parse(text, name):
    found = re.findall(r"^ATTACK (\w+) (.*?)\r?$", text, re.M)
    return [rest if word == name else f"{word} {rest}" for word, rest in found if rest != "done"]


def ran(host, box="one"):
    """The sandbox, and so the shim and all above it, are as they were."""
    assert host.get(box)["state"] == "running"


# ------------------------------------------------------------------ the outer filter


def test_every_rule_of_the_filter(host):
    """Held by: seccomp. Each rule is broken by a process of its own, and bits that the kernel
    passes over carry nothing past a rule; i386 and x32 are no way round either."""
    listed = subprocess.run([ATTACK, "--rules"], capture_output=True, text=True, check=True)
    rules = listed.stdout.split("\n")[:-1]
    assert len(rules) > 120 and {r.split()[1] for r in rules} == {"KILL", "ENOSYS", "EAFNOSUPPORT"}
    host.create(id="one", cmdline="tick=0")
    assert attack(host, "rules") == [f"rule {r}" for r in rules]
    ran(host)


@pytest.mark.parametrize("rule", ["unshare", "ptrace", "prctl:SET_PDEATHSIG", "clone:NEWUSER"])
def test_a_denied_call_ends_the_vmm(host, rule):
    """Held by: seccomp, which ends the whole process, though it is init of a pid namespace."""
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.send("one", f"attack rule {rule}\n")
    event = events.wait(event="state", sandbox="one", to="crashed")
    assert event["reason"] == "seccomp"
    found = host.get("one")["exit"]
    assert (found["cause"], found["signal"]) == ("seccomp", signal.SIGSYS)
    assert "Bad system call" in found["detail"]
    host.destroy("one")
    assert host.residue() == []


def test_every_thread_is_under_the_filter(host):
    box = host.create(id="one", cmdline="tick=0")
    threads = os.listdir(f"/proc/{box['vmm']['pid']}/task")
    assert len(threads) >= 2
    for tid in threads:
        with open(f"/proc/{box['vmm']['pid']}/task/{tid}/status") as f:
            text = f.read()
        assert "\nSeccomp:\t2\n" in text and "\nSeccomp_filters:\t3\n" in text


# ------------------------------------------------------------------ reaching others


def test_sockets_of_others(host):
    """Held by: the private root (names), the empty net namespace (abstract names, IP);
    CVE-2020-15257."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    host.create(id="two", cmdline="tick=0", vsock=True)
    refused = {"ENOENT", "ECONNREFUSED", "EPROTOTYPE"}
    for path in (host.control, f"{host.run_dir}/shims/admin:two.sock",
                 f"{host.run_dir}/shims/admin:one.sock", "/run/systemd/private"):
        assert {r.split()[1] for r in attack(host, f"connect {path}")} == {"ENOENT"}, path
    name = f"cloister-attack-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + name)
        listener.listen()
        listener.setblocking(False)
        assert {r.split()[1] for r in attack(host, f"connect @{name}")} <= refused
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {r.split()[1] for r in attack(host, "internet")} == {"ENETUNREACH"}
    ran(host, "two")


def test_processes_of_others(host):
    """Held by: the pid namespace, of which the VMM is init and sees nobody else; ptrace and the
    rest by seccomp (see the rules)."""
    host.create(id="one", cmdline="tick=0")
    other = host.create(id="two", cmdline="tick=0")["vmm"]["pid"]
    shim, = host.shim_pids("admin:one")
    spawner, = host.spawner_pids()
    for pid in (other, shim, spawner, host.daemon.pid):
        # Pids in there are other ones: those below the few of its own are its own, say.
        assert attack(host, f"kill {pid}")[0] == "one ESRCH"
    assert all(map(alive, (other, shim, spawner, host.daemon.pid)))
    ran(host)
    ran(host, "two")


def test_an_orphan_goes_with_its_vmm(host):
    """Held by: the pid namespace, which ends with its init."""
    host.create(id="one", cmdline="tick=0")
    assert attack(host, "orphan") == ["0"]
    assert len(host.vmm_pids()) == 2
    host.destroy("one")
    wait_for(lambda: host.residue() == [], what="nothing left")


# ------------------------------------------------------------------ getting out, changing the jail


def test_ways_out(host):
    """Held by: pivot_root, no /proc, no /sys, no directory left open (CVE-2024-21626)."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    assert attack(host, "dots") == ["root the same"] + ["open ENOENT"] * 5
    found = attack(host, "fds")
    assert len(found) == 1 and found[0].startswith("0 directories, 0 lead outside")
    # Only what it is to have, and no way to make another.
    devices = attack(host, "devices")
    assert {d.split()[1] for d in devices if d.startswith("has ")} <= {
        "kvm", "null", "urandom", "userfaultfd"}
    assert devices[-6:] == ["open ENOENT"] * 5 + ["create EROFS"]


def test_what_is_read_only(host):
    """Held by: read-only mounts and root's ownership; CVE-2019-5736 (the VMM's own binary)."""
    host.add_image("initramfs", "tiny", harness.GUEST)
    pid = host.create(id="one", cmdline="tick=0", initramfs="tiny")["vmm"]["pid"]
    with open(f"/proc/{pid}/mountinfo") as f:
        libs = [line.split()[4] for line in f if "/lib" in line.split()[4]]
    assert len(libs) >= 2
    was = os.stat(ATTACK)
    for path in ("/vmm", "/kernel", "/initramfs", *libs):
        found = dict(line.split() for line in attack(host, f"change {path}"))
        assert found.pop("read") == "OK", path
        assert set(found.values()) <= {"EROFS", "EACCES", "EPERM"}, (path, found)
    now = os.stat(ATTACK)
    assert (was.st_mtime_ns, was.st_size, was.st_mode) == (now.st_mtime_ns, now.st_size, now.st_mode)


def test_code_of_its_own(host):
    """Held by: noexec on all that it may write, no /proc to name memory by, no shell; execveat by
    seccomp."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    assert attack(host, "exec /vsock") == ["create OK", "fill OK", "map EPERM", "file EACCES",
                                           "memory ENOENT", "shell ENOENT"]


def test_capabilities(host):
    """Held by: all five sets being empty (CVE-2022-24769: inheritable too), no_new_privs."""
    host.create(id="one", cmdline="tick=0")
    found = attack(host, "caps")
    assert found[:3] == ["effective 0 permitted 0 inheritable 0 bounding 0 ambient 0",
                         "raise EPERM", "no_new_privs off EINVAL"]
    uid, gid = map(int, found[3].split()[1:])
    assert uid == gid and host.uid_base <= uid < host.uid_base + 512
    limits = attack(host, "limits")
    assert len(limits) >= 6 and {line.split()[1] for line in limits} == {"EPERM"}


# ------------------------------------------------------------------ taking more


def test_filling_file_systems(host):
    """Held by: root's ownership, sizes and inodes of each tmpfs, RLIMIT_FSIZE."""
    host.create(id="one", cmdline="tick=0", vsock=True)
    amount, files = re.fullmatch(r"(\d+) bytes (\d+) files ENOSPC",
                                 attack(host, "fill /vsock")[0]).groups()
    assert int(amount) <= 65536 and int(files) < 64
    for path, why in (("/mem", "EACCES"), ("/snapshot", "EACCES"), ("/", "EROFS"),
                      ("/dev", "EROFS"), ("/restore", "EROFS")):
        assert attack(host, f"fill {path}") == [f"0 bytes 0 files {why}"], path
    assert attack(host, "grow") == ["truncate EFBIG", "allocate EFBIG", "write EFBIG"]
    ran(host)


def test_fork_bomb_and_memory_eater(host):
    """Held by: RLIMIT_NPROC, RLIMIT_AS, RLIMIT_MEMLOCK; by pids.max and memory.max where there is
    a cgroup."""
    host.create(id="one", cmdline="tick=0")
    count, why = attack(host, "fork")[0].split()
    assert 1 <= int(count) <= 65 and why == "EAGAIN"
    amount, lock = attack(host, "memory")
    size, unit, why = amount.split()
    assert int(size) <= 4096 + 64 + 32 and why == "ENOMEM" and lock == "lock EPERM"
    ran(host)


def test_shortened_memory(host):
    """Held by: the shim's check of the file: a set of less than the guest's memory is none."""
    host.create(id="one", cmdline="tick=0")
    found = dict(line.split() for line in attack(host, "change /mem/ram"))
    assert found["truncate"] == "OK"  # it is the VMM's own, after all
    for call in ("unlink", "rename", "link", "symlink", "mkdir", "create"):
        assert found[call] == "EACCES", call
    answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
    assert answer.status == 500 and "memory ends at 0 of" in answer.json["detail"]
    assert host.api("GET", "/v1/templates").json["templates"] == []
    host.destroy("one")
    assert host.residue() == []


def test_what_is_put_into_a_lent_snapshot_directory(host):
    """Held by: a tmpfs of 4 MiB and 16 inodes that is noexec and nodev; files are opened without
    following, links to other mounts cannot be made. The VMM spoils its own snapshot only."""
    host.create(id="one", cmdline="tick=0")
    host.create(id="two", cmdline="tick=0")
    attack(host, "lend")
    before = len(host.console("one"))
    answer = host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"})
    assert answer.status == 502, answer
    found = parse(host.console("one")[before:], "lend")
    assert found[:10] == [
        "mkdir OK", "symlink OK", "link EXDEV", "link memory EXDEV", "up EACCES", "exec create OK",
        "exec fill OK", "exec map EPERM", "exec file EACCES", "exec memory ENOENT"]
    amount, files = re.fullmatch(r"fill (\d+) bytes (\d+) files ENOSPC", found[-1]).groups()
    assert int(amount) <= 4 << 20 and int(files) <= 16
    assert host.api("GET", "/v1/templates").json["templates"] == []
    ran(host)
    # Nothing of that stays in the way: of this sandbox, or of another one.
    for box, template in (("one", "warm"), ("two", "other")):
        answer = host.api("POST", f"/v1/sandboxes/{box}/snapshot", {"template": template})
        assert answer.status in (200, 201), answer
        assert host.api("DELETE", f"/v1/templates/{template}").status in (200, 204)
