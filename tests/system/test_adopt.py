# SPDX-License-Identifier: Apache-2.0
"""The supervisor or the spawner dies, stops, or is upgraded: the VMs run on and are taken over."""
import datetime
import os
import re
import signal
import socket
import time

import pytest

import harness
import wire
from harness import alive, wait_for

SAME = ("id", "tenant", "kernel", "initramfs", "cmdline", "vcpus", "memory_mib", "balloon", "vmm")


def spec_of(box):
    return {key: box[key] for key in SAME}


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def uid_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(line for line in f if line.startswith("Uid:")).split()[1]


def counted(console):
    """The last number that the guest has counted to; its last line may be half there."""
    return int(re.findall(r"COUNT (\d+)\n", console)[-1])


def replay(host, **want):
    """An event that was emitted already, perhaps before anybody could listen."""
    return host.events("?since=0").wait(**want)


def test_sandboxes_outlive_cloisterd(host):
    host.add_image("initramfs", "init", harness.GUEST)
    one = host.create(id="one", cmdline="tick=20 'a b'", vcpus=2, memory_mib=48, balloon=False,
                      initramfs="init")
    two = host.create(id="two", cmdline="tick=20")
    three = host.create(id="three", cmdline="tick=20")
    bobs = host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "memory_mib": 32, "id": "one"},
                    uid=harness.TENANT_UIDS["bob"]).json
    for box in ("one", "two", "three"):
        host.wait_console(box, "COUNT 2\n")
    host.act("two", "pause")
    before = {box: host.console(box) for box in ("one", "two", "three")}
    host.stop(signal.SIGKILL)
    assert all(alive(box["vmm"]["pid"]) for box in (one, two, three, bobs))
    os.kill(three["vmm"]["pid"], signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{three['vmm']['pid']}"), what="the VMM's end")
    dead_by = time.time()
    wait_for(lambda: time.time() > dead_by + 0.1, what="a later moment")

    host.start()
    found = {(b["tenant"], b["id"]): b for b in host.list()}
    assert sorted(found) == [("admin", "one"), ("admin", "three"), ("admin", "two"), ("bob", "one")]
    assert all(b["adopted"] for b in found.values())
    assert spec_of(found["admin", "one"]) == spec_of(one)
    assert found["admin", "one"]["state"] == "running"
    # The shim's word for the time: when the guest began to run, not when it was asked for.
    assert 0 <= seconds(found["admin", "one"]["created_at"]) - seconds(one["created_at"]) < 10
    assert spec_of(found["admin", "two"]) == spec_of(two)
    assert found["admin", "two"]["state"] == "paused"
    assert spec_of(found["bob", "one"]) == spec_of(bobs)
    assert host.api("GET", "/v1/sandboxes/one", uid=harness.TENANT_UIDS["alice"]).status == 404
    lost = host.wait_state("three", "crashed")
    assert {**spec_of(lost), "vmm": None} == {**spec_of(three), "vmm": None}
    assert lost["vmm"] is None and lost["exit"]["cause"] == "vmm-killed"
    assert (lost["exit"]["signal"], lost["exit"]["phase"]) == (9, "running")
    # The time is that of its end, not that of its being found.
    assert seconds(lost["exit"]["at"]) <= dead_by + 0.09
    assert replay(host, event="adopted", sandbox="two", tenant="admin")

    # The console was kept, and what the guest said meanwhile is in it.
    assert all(host.console(box).startswith(text) for box, text in before.items())
    assert host.console("two") == before["two"]
    wait_for(lambda: counted(host.console("one")) > counted(before["one"]) + 3, what="more output")
    for box, action, state in (("one", "pause", "paused"), ("two", "resume", "running"),
                               ("one", "resume", "running")):
        assert host.act(box, action)["state"] == state
    host.send("two", "hello\n")
    host.wait_console("two", "ECHO hello")
    # A new one gets an id that is free, and a uid that none of them has.
    assert host.create(expect=409, id="one")["status"] == 409
    new = host.create(id="four")
    pids = [box["vmm"]["pid"] for box in (one, two, bobs, new)]
    assert len({uid_of(pid) for pid in pids}) == 4
    assert host.destroy("three")["exit"]["cause"] == "vmm-killed"
    for box in ("one", "two", "four"):
        assert host.destroy(box)["exit"]["cause"] == "destroyed"
    assert host.destroy("one", tenant="bob")["exit"]["cause"] == "destroyed"
    assert host.residue() == []


def test_the_spawner_dies(host):
    box = host.create(id="one", cmdline="tick=20")
    spawner, = host.spawner_pids()
    os.kill(spawner, signal.SIGKILL)
    assert host.daemon.wait(10) == 1
    assert "spawner is gone" in host.log() and alive(box["vmm"]["pid"])
    host.start()
    assert spec_of(host.get("one")) == spec_of(box)
    assert host.destroy("one")["exit"]["cause"] == "destroyed"
    assert host.residue() == []


@pytest.mark.standin
def test_ten_restarts(host):
    boxes = [host.create(id=f"box{i}", cmdline="tick=20") for i in range(3)]
    host.wait_console("box0", "COUNT 1\n")
    count = 0
    for turn in range(10):
        if turn % 3 == 2:
            os.kill(host.spawner_pids()[0], signal.SIGKILL)
            host.daemon.wait(10)
        else:
            host.stop(signal.SIGKILL if turn % 3 else signal.SIGTERM)
        host.start()
        assert [spec_of(b) for b in sorted(host.list(), key=lambda b: b["id"])] == \
            [spec_of(b) for b in boxes]
        last, count = count, counted(host.console("box0"))
        assert count >= last
        shim, = host.shim_pids("admin:box0")
        assert len(os.listdir(f"/proc/{shim}/fd")) < 24, "a link for each supervisor it had"
    assert host.console("box0").count("GUEST UP") == 1
    host.destroy("box0")
    os.kill(boxes[1]["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("box1", "crashed")
    host.destroy("box1")
    host.destroy("box2")
    assert host.residue() == []


@pytest.mark.standin
def test_what_died_while_nobody_looked_leaves_a_record_only(host):
    """Shims that ended without a spawner: socket and cgroup are all that is left of them."""
    boxes = [host.create(id=f"box{i}") for i in range(2)]
    host.stop(signal.SIGKILL)
    shims = host.shim_pids()
    for pid in shims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in shims + [b["vmm"]["pid"] for b in boxes]),
             what="the end of shims and VMMs")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:  # one killed even earlier
        s.bind(os.path.join(host.run_dir, "new", "12345"))
    host.start()
    assert {b["id"]: (b["state"], b["exit"]["cause"]) for b in host.list()} == \
        {f"box{i}": ("crashed", "shim-lost") for i in range(2)}
    wait_for(lambda: host.residue() == [], what=f"nothing left; now {host.residue()}")
    assert host.create(expect=409, id="box0")
    host.destroy("box0")
    host.create(id="box0")


@pytest.mark.standin
def test_what_else_is_in_the_directory(host):
    """USER may be taken over, and its directory hold anything: each is named, none is trusted."""
    box = host.create(id="real")
    host.stop(signal.SIGKILL)
    shims = os.path.join(host.run_dir, "shims")
    here = os.getcwd()
    os.chdir(shims)  # sun_path is short
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mute = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with harness.as_user(harness.USER_UID):
            stale.bind("admin:stale.sock")
            stale.close()
            mute.bind("admin:mute.sock")
            mute.listen(4)
            open("admin:file.sock", "w").close()
            open("no-key.sock", "w").close()
            open("junk", "w").close()
            os.symlink("admin:real.sock", "admin:link.sock")
            os.mkfifo("admin:fifo.sock")
            os.mkdir("admin:dir.sock")
        host.start()
        assert [b["id"] for b in host.list()] == ["real"]
        assert spec_of(host.get("real")) == spec_of(box)
        wait_for(lambda: not os.path.lexists("admin:stale.sock"), what="the stale one's end")
        host.create(id="stale")
        # Somebody listens there, so it may be a VM that cannot be reached: left alone and taken.
        event = replay(host, event="reported", sandbox="mute", tenant="admin")
        assert event["reason"]
        assert "mute" in host.create(expect=409, id="mute")["detail"]
        assert os.path.exists("admin:mute.sock") and "admin:mute: its shim cannot" in host.log()
        # A link to another sandbox's socket is not that sandbox a second time.
        assert host.api("GET", "/v1/sandboxes/link").status == 404
        assert host.destroy("real")["exit"]["cause"] == "destroyed"
    finally:
        mute.close()
        for name in os.listdir("."):
            if name not in ("admin:real.sock", "admin:stale.sock"):
                os.rmdir(name) if os.path.isdir(name) else os.unlink(name)
        os.chdir(here)


@pytest.mark.standin
@pytest.mark.parametrize("ends", ["hangs", "succeeds", "fails"])
def test_restart_in_the_middle_of_a_create(host, ends):
    order = {"hangs": "standin:vm.boot=hang", "succeeds": "standin:vm.boot=delay:300",
             "fails": "standin:vm.boot=delay:300 standin:vm.boot=error:no"}[ends]
    answer = host.api("POST", "/v1/sandboxes?wait=none",
                      {"kernel": "tiny", "memory_mib": 32, "id": "one", "cmdline": order})
    assert answer.status == 202 and answer.json["state"] == "creating"
    wait_for(host.vmm_pids, what="a VMM")
    host.stop(signal.SIGKILL)
    shim, = host.shim_pids("admin:one")
    if ends == "hangs":
        with wire.Link(host, "admin:one") as link:
            assert link.hello() == "starting"
    elif ends == "succeeds":
        def running():
            with wire.Link(host, "admin:one") as link:
                return link.hello() == "running"
        wait_for(running, what="the guest's start")
    else:
        wait_for(lambda: not alive(shim), what="the shim's end")
    host.start()
    if ends == "succeeds":
        assert host.get("one")["state"] == "running" and host.get("one")["adopted"]
        host.destroy("one")
    else:
        # Its client was told 202: how that ended is there to be asked for.
        box = host.get("one")
        assert (box["state"], box["exit"]["cause"]) == ("failed", "start-failed"), box
        wait_for(lambda: host.residue() == [], what=f"nothing left; now {host.residue()}")
        host.destroy("one")
    assert host.residue() == []
    host.create(id="one")


# ------------------------------------------------------------------ the VMM's version


@pytest.mark.standin
@pytest.mark.parametrize("env,says", [
    ("STANDIN_VERSION=51.1", ("51.1", "CVE-2026-45782", "51.2")),
    ("STANDIN_VERSION=38.0", ("38.0", "CVE-2026-45782")),
    ("STANDIN_VERSION_TEXT=cloud-hypervisor", ("version",)),
    ("STANDIN_VERSION_TEXT=QEMU emulator version 7.2.0", ("version",)),
    ("STANDIN_VERSION_TEXT=cloud-hypervisor v99999999999999999999.1", ("version",)),
    ("STANDIN_VERSION_HANG=1", ("version", "in time")),
])
def test_bad_vmm_versions_are_refused(make_host, env, says):
    host = make_host(start=False, vmm_config=f"env = {env}", limits="version_ms = 300")
    daemon = host.spawn()
    assert daemon.wait(15) == 1
    wait_for(lambda: not host.spawner_pids(), what="the spawner's end")
    assert not host.ready() and not os.path.exists(host.control)
    last = [line for line in host.log().splitlines() if "error" in line][-1]
    assert all(word in last for word in says), last


@pytest.mark.standin
@pytest.mark.parametrize("version,ondemand", [
    ("51.2", False), ("51.10.3", False), ("52.0", False), ("53.0", True), ("53.0-dirty", True)])
def test_good_vmm_versions(make_host, version, ondemand):
    host = make_host(vmm_config=f"env = STANDIN_VERSION={version}")
    vmm = host.api("GET", "/v1/info").json["vmm"]
    assert vmm == {"version": version, "ondemand": ondemand}
    notice = [line for line in host.log().splitlines() if "on demand" in line]
    assert len(notice) == (not ondemand) and all(version in line for line in notice)
    host.create(id="one")
