# SPDX-License-Identifier: Apache-2.0
"""Faults while a set is written: no room, a VMM that misbehaves, deaths in the middle. The client is
told, the guest goes on where it can, no older set is lost, and nothing half-made stays."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

from harness import alive, wait_for
from test_sets import MIB, PARTS, set_of, staging, templates
from test_snapshot import PRELOAD, ask, checksum, drop_template, host, restore, snapshot

__all__ = ["host"]  # the fixture


# ------------------------------------------------------------------ no room


@contextlib.contextmanager
def small_disk(host, size):
    """state_dir on a file system of its own while cloisterd runs."""
    os.makedirs(host.state_dir, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "small",
                    host.state_dir], check=True)
    try:
        host.start()
        yield
        for name in templates(host):
            drop_template(host, name.split(":")[1])
        for box in host.list():
            host.destroy(box["id"])
        problems = [r for r in host.residue() if not r.startswith("mount in self")]
        assert problems == []
    finally:
        if host.daemon and host.daemon.poll() is None:
            host.stop()
        subprocess.run(["umount", "-l", host.state_dir], check=True)


def advances(host, box):
    before = host.console(box)
    wait_for(lambda: host.console(box) != before, 10, f"output of {box}")


def fill(host):
    path = os.path.join(host.state_dir, "filler")
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(MIB))
    return path


@pytest.fixture(name="preload_config")
def fixture_preload_config(vmm):
    return f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}" if vmm[1] == "ch" else ""


def test_no_space(make_host, preload_config):
    host = make_host(start=False, vmm_config=preload_config)
    with small_disk(host, "40m"):
        host.create(id="src", cmdline="tick=50", memory_mib=128)
        host.wait_console("src", "GUEST UP")
        ask(host, "src", "touch 4", r"TOUCHED (\d+)\n")
        host.act("src", "hibernate")
        host.act("src", "wake")
        first = checksum(host, "src")
        old = os.stat(set_of(host, "src", True)).st_ino
        ask(host, "src", "touch 60", r"TOUCHED (\d+)\n")
        want = checksum(host, "src")
        for _ in range(2):
            problem = snapshot(host, "src", "t1", 507)
            assert "ENOSPC" in problem["detail"] and "t1" not in templates(host)
            problem = host.act("src", "hibernate", 507)
            assert "ENOSPC" in problem["detail"], problem
            assert staging(host) == [] and templates(host) == []
            assert host.get("src")["state"] == "running"
            assert os.stat(set_of(host, "src", True)).st_ino == old
            assert checksum(host, "src") == want != first
        advances(host, "src")
        # With no room at all not even the small files can be written.
        filler = fill(host)
        assert snapshot(host, "src", "t1", 507)["status"] == 507
        assert host.act("src", "hibernate", 507)["status"] == 507
        assert staging(host) == [] and host.get("src")["state"] == "running"
        os.unlink(filler)
        # The older set wakes, once the newer guest is gone: it is the first generation, unharmed.
        assert os.stat(set_of(host, "src", True)).st_ino == old
        box = host.get("src")
        os.kill(box["vmm"]["pid"], signal.SIGKILL)
        host.wait_state("src", "crashed")
        assert os.stat(set_of(host, "src", True)).st_ino == old


def test_older_set_wakes_after_a_failed_hibernate(make_host, preload_config):
    """The supervisor knows of one set per sandbox: after a restart it finds the older one."""
    host = make_host(start=False, vmm_config=preload_config)
    with small_disk(host, "40m"):
        host.create(id="src", cmdline="tick=0", memory_mib=128)
        host.wait_console("src", "GUEST UP")
        ask(host, "src", "touch 4", r"TOUCHED (\d+)\n")
        first = checksum(host, "src")
        host.act("src", "hibernate")
        host.act("src", "wake")
        ask(host, "src", "touch 60", r"TOUCHED (\d+)\n")
        host.act("src", "hibernate", 507)
        shims = host.shim_pids()
        host.daemon.kill()
        host.daemon.wait(10)
        for pid in shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(p) for p in shims), 10, "the shims' end")
        wait_for(lambda: not host.cgroup_is_used("admin:src"), 10, "the VMM's end")
        host.start()
        host.wait_state("src", "hibernated")
        host.act("src", "wake")
        assert checksum(host, "src") == first


# ------------------------------------------------------------------ a VMM that misbehaves

SHORT = "snapshot_ms = 1500\nresume_ms = 400\npause_ms = 400\ndestroy_ms = 1500\nshutdown_ms = 300\n"
ORDERS = {  # status, state of the guest afterwards, a word of the answer
    "vm.snapshot=delay:50": (201, "running", ""),
    "vm.snapshot=100": (201, "running", ""),
    "vm.snapshot=stderr:50": (201, "running", ""),
    "vm.snapshot=badevent": (201, "running", ""),
    "vm.snapshot=error:The_moon_is_red": (502, "running", "The moon is red"),
    "vm.snapshot=status:418": (502, "running", "418"),
    "vm.snapshot=hang": (504, "failed", "vm.snapshot"),
    "vm.snapshot=drop": (502, "failed", "vm.snapshot"),
    "vm.snapshot=garbage": (502, "failed", "vm.snapshot"),
    "vm.snapshot=halfclose": (502, "failed", "vm.snapshot"),
    "vm.snapshot=exit:3": (502, "crashed", ""),
    "vm.snapshot=signal:11": (502, "crashed", ""),
    "vm.snapshot=delay:1800": (504, "running", "vm.snapshot"),
    "snapshot=short-state": (502, "running", "state.json"),
    "snapshot=short-config": (201, "running", ""),
    "snapshot=symlink": (502, "running", "state.json"),
    # The VMM's outer filter has no FIFO made; a socket is the other kind that an open could hang in.
    "snapshot=fifo": (502, "crashed", "Bad system call"),
    "snapshot=socket": (502, "running", "state.json"),
    "snapshot=huge": (502, "running", "state.json"),
    "snapshot=extra": (201, "running", ""),
    "snapshot=noclose": (201, "running", ""),
    "snapshot=die": (502, "crashed", ""),
    "vm.pause=error:No": (502, "running", "vm.pause"),
    "vm.pause=hang": (504, "failed", "vm.pause"),
    "vm.resume=error:No": (502, "failed", "vm.resume"),
    "vm.resume=hang": (504, "failed", "vm.resume"),
}


def orders(without=""):
    """Landlock lets a VMM make neither links nor sockets there: the shim's checks must do alone."""
    return [pytest.param(o, marks=pytest.mark.bare) if o.split("=")[1] in ("symlink", "socket")
            else o for o in ORDERS if not without or without not in o]


@pytest.mark.standin
@pytest.mark.parametrize("order", orders())
def test_snapshot_of_a_vmm_that_misbehaves(make_host, order):
    status, state, word = ORDERS[order]
    # It dies in its own time, which on a busy host is not to be the deadline's.
    host = make_host(limits=SHORT.replace("1500", "15000", 1) if order == "snapshot=die" else SHORT)
    host.create(id="src", cmdline=f"tick=20 standin:{order}@1")
    host.wait_console("src", "GUEST UP")
    answer = snapshot(host, "src", "t1", status)
    if status != 201:
        assert word in answer["detail"], answer
        assert all(" " <= c <= "~" for c in answer["detail"]), answer
    box = host.wait_state("src", state)
    assert staging(host) == []
    assert templates(host) == (["admin:t1"] if status == 201 else [])
    if state != "running":
        assert box["vmm"] is None and box["exit"], box
        host.destroy("src")
        assert host.residue() == []
        return
    advances(host, "src")
    if status == 201:
        drop_template(host, "t1")
    # The next one is none the worse for it, and can be used.
    snapshot(host, "src", "t1")
    restore(host, "again", "t1")
    assert len(os.listdir(set_of(host, "t1"))) == 4
    drop_template(host, "t1")


@pytest.mark.standin
@pytest.mark.parametrize("order", orders(without="resume"))
def test_hibernate_of_a_vmm_that_misbehaves(make_host, order):
    status, state, word = ORDERS[order]
    # It dies in its own time, which on a busy host is not to be the deadline's.
    host = make_host(limits=SHORT.replace("1500", "15000", 1) if order == "snapshot=die" else SHORT)
    host.create(id="src", cmdline=f"tick=20 standin:{order}@1")
    host.wait_console("src", "GUEST UP")
    answer = host.act("src", "hibernate", 200 if status == 201 else status)
    assert staging(host) == []
    if status == 201:
        assert answer["state"] == "hibernated"
        host.destroy("src")
        return
    assert word in answer["detail"], answer
    host.wait_state("src", state)
    assert not os.path.exists(set_of(host, "src", True))
    if state == "running":
        advances(host, "src")
        host.act("src", "hibernate")
        host.destroy("src")


# ------------------------------------------------------------------ deaths in the middle


def in_the_middle(host, action, body=None):
    """Begins it and comes back as soon as its memory is being copied."""
    answers = []

    def call():
        with contextlib.suppress(OSError):
            answers.append(host.api("POST", f"/v1/sandboxes/src/{action}", body, timeout=60))

    thread = threading.Thread(target=call)
    thread.start()
    end = time.monotonic() + 20
    while not staging(host):
        assert time.monotonic() < end and not answers, answers
    return thread, answers


def big_guest(host, mib):
    host.create(id="src", cmdline="tick=0", memory_mib=1024)
    host.wait_console("src", "GUEST UP")
    ask(host, "src", f"touch {mib}", r"TOUCHED (\d+)\n")
    return checksum(host, "src")


def end_one(host, victim):
    """Ends it, and gives its name to whoever must be started again."""
    if victim == "vmm":
        os.kill(host.get("src")["vmm"]["pid"], signal.SIGKILL)
    elif victim == "shim":
        os.kill(host.shim_pids()[0], signal.SIGKILL)
    elif victim == "supervisor":
        host.stop(signal.SIGKILL)
    else:
        os.kill(host.spawner_pids()[0], signal.SIGKILL)
        assert host.daemon.wait(10) != 0
    return victim in ("supervisor", "spawner")


@pytest.mark.parametrize("victim", ["vmm", "shim", "supervisor", "spawner"])
def test_a_death_in_mid_snapshot(host, victim):
    want = big_guest(host, 200)
    thread, answers = in_the_middle(host, "snapshot", {"template": "t1"})
    restart = end_one(host, victim)
    thread.join()
    if restart:
        host.start()
        host.wait_state("src", "running")
        assert checksum(host, "src") == want
    else:
        host.wait_state("src", "crashed")
        assert answers[0].status in (201, {"vmm": 502, "shim": 503}[victim]), answers
    # It is whole, or it is not there.
    wait_for(lambda: not staging(host), 10, f"no staging: {staging(host)}")
    known = [t["name"] for t in host.api("GET", "/v1/templates").json["templates"]]
    assert templates(host) == [f"admin:{n}" for n in known]
    if known:
        restore(host, "clone", "t1")
        assert checksum(host, "clone") == want
        drop_template(host, "t1")


@pytest.mark.parametrize("victim", ["vmm", "shim", "supervisor", "spawner"])
def test_a_death_in_mid_hibernate(host, victim):
    big_guest(host, 16)
    host.act("src", "hibernate")
    host.act("src", "wake")
    place = set_of(host, "src", True)
    old = os.stat(place).st_ino
    ask(host, "src", "touch 200", r"TOUCHED (\d+)\n")
    want = checksum(host, "src")
    thread, _answers = in_the_middle(host, "hibernate")
    restart = end_one(host, victim)
    thread.join()
    if restart:
        host.start()
        # The shim goes on with what it was asked for.
        host.wait_state("src", "hibernated", 30)
        assert os.stat(place).st_ino != old
        host.act("src", "wake")
        assert checksum(host, "src") == want
    else:
        host.wait_state("src", "crashed")
        assert sorted(os.listdir(place)) == sorted(PARTS)
    wait_for(lambda: not staging(host), 10, f"no staging: {staging(host)}")
