# SPDX-License-Identifier: Apache-2.0
"""What Landlock adds: attacks that all else lets pass, with it and (mark `bare`) without it.

/proc shows nothing of Landlock, so that a VMM must try. Which rights there are depends on the ABI.
"""
import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess

import pytest

import harness
from conftest import need
from harness import alive, wait_for
from networld import NetHost, World
from test_attack import ATTACK, attack, parse, ran
from test_jail import children, status
from test_snapshot import checksum, prepare, restore, snapshot

ABI = harness.landlock_abi()


@pytest.fixture
def vmm():
    need("root")
    need("landlock")
    return ATTACK, "standin"


def tried(host, line):
    """{attack: what became of it}"""
    return dict(text.rsplit(" ", 1) for text in attack(host, line))


def since(abi, without="OK", denied="EACCES"):
    return denied if ABI >= abi else without


def start(host):
    with open(os.path.join(host.state_dir, "images", "disks", "blank"), "wb") as f:
        f.truncate(1 << 20)
    os.chmod(f.name, 0o444)
    return host.create(id="one", cmdline="tick=0", vsock=True, disks=[{"image": "blank"}])


def expected(held):
    def get(abi, denied="EACCES", without="OK"):
        return since(abi, without, denied) if held else without
    files = {f"{how} {path}": get(3) for path in ("/mem/ram", "/disk/0")
             for how in ("truncate", "ftruncate", "O_TRUNC")}
    return {"list /": get(1), "list /dev": get(1), "list /vsock": get(1), **files,
            "file": get(1), "directory": get(1), "symlink": get(1), "socket": "OK",
            # Within one directory Landlock has nothing against it, but for what may be made there.
            "link": "OK", "unlink socket": "OK", "bind TCP": get(4)}


@pytest.mark.standin
def test_what_it_denies_in_the_jail(host):
    start(host)
    assert tried(host, "landlock") == expected(True)
    found = tried(host, "internet")
    assert set(found.values()) == {since(4, "ENETUNREACH")}
    ran(host)


@pytest.mark.standin
@pytest.mark.bare
def test_what_it_would_not_deny(host):
    """So that the cases above are those that nothing else holds."""
    start(host)
    assert tried(host, "landlock") == expected(False)


def listen_in(pid, name):
    """An abstract socket in the net namespace of pid, of somebody who is none of its making."""
    def make():
        with open(f"/proc/{pid}/ns/net") as net:
            assert harness._libc.setns(net.fileno(), 0) == 0
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0" + name)
        listener.listen()
        return listener
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


@contextlib.contextmanager
def sleeper_beside(pid, uid):
    """A process of the VMM's uid in its pid namespace, which it did not start."""
    with subprocess.Popen(["nsenter", "-t", str(pid), "-p", "setpriv", "--reuid", str(uid),
                           "--regid", str(uid), "--clear-groups", "sleep", "300"]) as nsenter:
        try:
            child = wait_for(lambda: children(nsenter.pid), what="its child")[0]
            wait_for(lambda: status(child)["Uid"].split()[0] == str(uid), what="its uid")
            yield child
        finally:
            nsenter.kill()
            with contextlib.suppress(ProcessLookupError, UnboundLocalError):
                os.kill(child, signal.SIGKILL)


def check_outsiders(host, held):
    """Were somebody else in the VMM's own pid and net namespaces, it could not reach them."""
    pid = start(host)["vmm"]["pid"]
    uid = int(status(pid)["Uid"].split()[0])
    name = f"cloister-landlock-{os.getpid()}"
    with listen_in(pid, name):
        found = [line.split() for line in attack(host, f"connect @{name}")]
        stream = next(result for number, result in found if number == str(socket.SOCK_STREAM.value))
        assert stream == held
    with sleeper_beside(pid, uid) as other:
        inner = status(other)["NSpid"].split()[-1]
        assert attack(host, f"kill {inner}")[0] == f"one {held}"
        if held == "EPERM":
            assert alive(other)
        else:
            wait_for(lambda: not alive(other), what="its end")
    ran(host)


@pytest.mark.standin
def test_outsiders(host):
    check_outsiders(host, since(6, "OK", "EPERM"))


@pytest.mark.standin
@pytest.mark.bare
def test_outsiders_without_it(host):
    check_outsiders(host, "OK")


# ------------------------------------------------------------------ while /snapshot is lent


@pytest.mark.standin
def test_only_files_go_into_a_lent_snapshot_directory(host):
    start(host)
    attack(host, "lend")
    before = len(host.console("one"))
    assert host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "warm"}).status == 502
    found = parse(host.console("one")[before:], "lend")
    assert found[:4] == ["mkdir EACCES", "symlink EACCES", "link EXDEV", "link memory EXDEV"]
    assert "exec create OK" in found
    ran(host)


# ------------------------------------------------------------------ cloisterd


@pytest.mark.standin
def test_the_abi_is_told(make_host):
    host = make_host()
    assert host.api("GET", "/v1/info").json["host"]["landlock_abi"] == ABI
    assert f"Landlock ABI {ABI}" in host.log()
    host.close()
    host = make_host(start=False)
    host.binary = harness.BARE
    host.start()
    assert host.api("GET", "/v1/info").json["host"]["landlock_abi"] == 0
    assert "this kernel has no Landlock" in host.log()


# ------------------------------------------------------------------ Cloud Hypervisor


@pytest.fixture
def world_host():
    for what in ("root", "ch", "kvm"):
        need(what)
    preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}\n"
    world = World()
    host = NetHost(harness.REAL, "ch", world, vmm_config=preload)
    try:
        yield host.start()
    finally:
        try:
            host.close()
        finally:
            world.close()


def test_cloud_hypervisor_needs_nothing_else(world_host):
    """Network, disk and vsock, and every way of restoring, in one; the parts are tested apart."""
    host = world_host
    with open(os.path.join(host.state_dir, "images", "disks", "blank"), "wb") as f:
        f.truncate(1 << 20)
    os.chmod(f.name, 0o444)
    with_all = {"vsock": True, "network": {"egress": "none"}, "disks": [{"image": "blank"}]}
    want = prepare(host, max_vcpus=2, **with_all)
    snapshot(host, "src", "t1")
    assert host.api("POST", "/v1/sandboxes/src/resize", {"vcpus": 2}).status == 200
    for mode, box in (("map", "a"), ("copy", "b")):
        restore(host, box, "t1", mode)
        assert checksum(host, box) == want
    # A map clone's memory is written by Cloud Hypervisor itself.
    snapshot(host, "a", "t2")
    restore(host, "c", "t2", "ondemand")
    assert checksum(host, "c") == want
    host.act("src", "hibernate")
    host.act("src", "wake")
    assert checksum(host, "src") == want
    for box in ("src", "a", "b", "c"):
        host.destroy(box)
    for template in ("t1", "t2"):
        assert host.api("DELETE", f"/v1/templates/{template}").status == 200
