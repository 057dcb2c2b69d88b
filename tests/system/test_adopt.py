# SPDX-License-Identifier: Apache-2.0
"""The supervisor or the spawner dies, stops, or is upgraded: the VMs run on and are taken over."""
import contextlib
import datetime
import http.client
import os
import re
import signal
import socket
import struct
import threading
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


# ------------------------------------------------------------------ in the middle of something


def in_background(call):
    """The client of a supervisor that is about to die: its connection breaks."""
    def run():
        with contextlib.suppress(OSError, http.client.HTTPException):
            call()
    threading.Thread(target=run, daemon=True).start()


def is_busy(host, box):
    """Asked for what it can never do, it says first that it has something in hand."""
    answer = host.api("POST", f"/v1/sandboxes/{box}/resize", {"memory_mib": 32})
    return "under way" in answer.json["detail"]


def phase(host, key="admin:one"):
    with wire.Link(host, key) as link:
        return link.hello()


# What is asked, of a guest in which state; the state in which it is found, and that it gets to.
MIDDLES = {
    "pause": ("running", "running", "paused"),
    "resume": ("paused", "paused", "running"),
    "snapshot": ("running", "snapshotting", "running"),
    "snapshot of a paused": ("paused", "snapshotting", "paused"),
    "hibernate": ("running", "hibernating", "hibernated"),
    "balloon": ("running", "running", "running"),
    "resize": ("running", "running", "running"),
    "counters": ("running", "running", "running"),
    "destroy": ("running", "destroying", None),
}


def begin(host, what):
    """Asks for it; returns when the shim has it."""
    calls = {
        "snapshot": ("POST", "/v1/sandboxes/one/snapshot", {"template": "t"}),
        "balloon": ("POST", "/v1/sandboxes/one/balloon", {"target_mib": 4}),
        "resize": ("POST", "/v1/sandboxes/one/resize", {"vcpus": 2}),
        "counters": ("GET", "/v1/sandboxes/one/counters", None),
        "destroy": ("DELETE", "/v1/sandboxes/one?grace_s=60", None),
    }
    call = calls.get(what.split()[0], ("POST", f"/v1/sandboxes/one/{what}", None))
    in_background(lambda: host.api(*call))
    found = MIDDLES[what][1]
    if found in ("running", "paused"):
        wait_for(lambda: is_busy(host, "one"), what=what)
    else:
        host.wait_state("one", found)


def told(host, box="one"):
    """[(from, to)] of every change of state so far; a mark of our own says that they are all in."""
    host.create(id="mark")
    events = host.events("?since=0")
    events.wait(event="state", sandbox="mark", to="running")
    return [(e["from"], e["to"]) for e in events.seen
            if e["event"] == "state" and e["sandbox"] == box]


@pytest.mark.standin
@pytest.mark.parametrize("over", [False, True], ids=["in hand", "over"])
@pytest.mark.parametrize("what", MIDDLES)
def test_restart_in_the_middle(host, what, over):
    """Its end is told once, to the next supervisor, be it before that comes or after."""
    before, found, then = MIDDLES[what]
    box = host.create(id="one", cmdline="tick=20 acpi=on", max_vcpus=2)
    host.wait_console("one", "GUEST UP")
    if before == "paused":
        host.act("one", "pause")
    pid, (shim,) = box["vmm"]["pid"], host.shim_pids("admin:one")
    os.kill(pid, signal.SIGSTOP)
    begin(host, what)
    host.stop(signal.SIGKILL)
    ends = then in (None, "hibernated")
    if over:
        os.kill(pid, signal.SIGCONT)
        if ends:
            wait_for(lambda: not alive(pid), what="the VMM's end")
        elif what != "counters":
            wait_for(lambda: phase(host) == then, what="the end of it")
        assert alive(shim)
    host.start()
    if not over:
        assert host.get("one")["state"] == found
        if found in ("running", "paused"):
            assert is_busy(host, "one")
        os.kill(pid, signal.SIGCONT)
    if then is None:
        wait_for(lambda: host.api("GET", "/v1/sandboxes/one").status == 404, what="its end")
    else:
        host.wait_state("one", then)
        wait_for(lambda: not is_busy(host, "one"), what="the end of it")
    # Each step once, and none that did not happen.
    want = [(None, found)] + ([(found, then)] if found != then else [])
    assert told(host) == want
    if not ends:
        assert host.get("one")["vmm"]["pid"] == pid and alive(pid)
    if what.startswith("snapshot"):
        assert replay(host, event="template", action="created", template="t", tenant="admin")
        clone = host.api("POST", "/v1/sandboxes", {"id": "clone", "template": "t"})
        assert clone.status == 201, clone
        host.destroy("clone")
        assert host.api("DELETE", "/v1/templates/t").status == 200
    if what == "balloon":
        assert host.get("one")["balloon_target_mib"] == 4
    if what == "resize":
        assert host.get("one")["vcpus"] == 2
    if what == "hibernate":
        assert host.act("one", "wake")["state"] == "running"


@pytest.mark.standin
@pytest.mark.parametrize("over", [False, True], ids=["in hand", "over"])
@pytest.mark.parametrize("end", ["ready", "refused", "killed"])
def test_restart_in_the_middle_of_a_create(host, end, over):
    """It goes on, and comes to its end: the guest runs, or its record tells why it does not."""
    refusal = "standin:vm.boot=delay:700 standin:vm.boot=error:no" if end == "refused" else ""
    wait = None if end == "refused" else {"console": "ECHO" if end == "killed" else "COUNT 20"}
    query = "?wait=none" if end == "refused" else ""
    spec = {"id": "one", "kernel": "tiny", "memory_mib": 32, "cmdline": f"tick=20 {refusal}",
            **({"wait_for": wait} if wait else {})}
    in_background(lambda: host.api("POST", "/v1/sandboxes" + query, spec))
    host.wait_state("one", "creating")
    if end == "refused":
        pid, = wait_for(host.vmm_pids, what="a VMM")
    else:
        host.wait_console("one", "GUEST UP")
        pid, = host.vmm_pids()
        os.kill(pid, signal.SIGSTOP)
    host.stop(signal.SIGKILL)
    shim, = host.shim_pids("admin:one")

    def come_to_its_end():
        os.kill(pid, signal.SIGKILL if end == "killed" else signal.SIGCONT)
    if over:
        come_to_its_end()
        if end == "ready":
            wait_for(lambda: phase(host) == "running", what="the guest's being ready")
        else:
            wait_for(lambda: not alive(pid), what="the VMM's end")
        # It waits for somebody to tell.
        assert alive(shim) and phase(host) == ("running" if end == "ready" else "starting")
    host.start()
    if not over:
        assert host.get("one")["state"] == "creating"
        come_to_its_end()
    # The client that waited for an answer gets none, and finds no record of a create that failed.
    if end == "killed":
        wait_for(lambda: host.api("GET", "/v1/sandboxes/one").status == 404, what="its end")
        last = replay(host, event="state", sandbox="one", to="failed")
        assert "signal 9" in last["reason"]
    else:
        box = host.wait_state("one", "running" if end == "ready" else "failed")
        assert box["adopted"]
    assert told(host) == [(None, "creating"), ("creating", "running" if end == "ready" else "failed")]
    if end == "ready":
        assert box["vmm"]["pid"] == pid and box["timings_us"]["ready_us"] > 0
        # It is a sandbox like any other from here on, also for the next supervisor.
        host.stop(signal.SIGKILL)
        host.start()
        assert host.get("one")["state"] == "running"
    if end == "refused":
        assert box["exit"]["cause"] == "start-failed" and "no" in box["exit"]["detail"]
    assert end == "ready" or not alive(shim)
    if end != "killed":
        host.destroy("one")
    host.create(id="one")


@pytest.mark.standin
@pytest.mark.parametrize("over", [False, True], ids=["in hand", "over"])
@pytest.mark.parametrize("good", [True, False], ids=["wakes", "fails"])
def test_restart_in_the_middle_of_a_wake(host, good, over):
    refusal = "" if good else " standin:vm.restore=error:no"
    delay = 400 if over else 1500
    host.create(id="one", cmdline=f"tick=20 standin:vm.restore=delay:{delay}{refusal}")
    host.wait_console("one", "GUEST UP")
    host.act("one", "hibernate")
    in_background(lambda: host.act("one", "wake"))
    pid, = wait_for(host.vmm_pids, what="a VMM")
    host.stop(signal.SIGKILL)
    if over and good:
        wait_for(lambda: phase(host) == "running", what="the wake")
    elif over:
        wait_for(lambda: not alive(pid), what="the VMM's end")
    host.start()
    if not over:
        assert host.get("one")["state"] == "waking"
    host.wait_state("one", "running" if good else "hibernated")
    assert told(host) == [(None, "waking"), ("waking", "running" if good else "hibernated")]
    assert host.destroy("one")["state"] == "destroying"
    host.destroy("mark")
    assert host.residue() == []


def reboots_told(host):
    """What one supervisor hears of reboots: their count, if it is news. CONSOLE_DATA comes last."""
    with wire.Link(host, "admin:one") as link:
        assert link.hello() == "running"
        link.send(wire.record("CONSOLE_READ", number=8))
        heard = []
        while (record := link.receive())[0] != "CONSOLE_DATA":
            assert record[0] == "EVENT"
            what, count = struct.unpack_from("<II", record[2])
            heard += [count] if what == 1 else []
        return heard, link.logs


@pytest.mark.standin
def test_what_happened_meanwhile_is_told_once(host):
    """Reboots that no supervisor was there to hear of, and lines of the shim's log."""
    pid = host.create(id="one", cmdline="tick=20 standin:at=500:reset standin:at=600:reset")["vmm"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    heard, logs = [], []

    def last():
        counts, lines = reboots_told(host)
        heard.extend(counts)
        logs.append(lines)
        return heard and heard[-1] == 2
    wait_for(last, what="two reboots")
    assert heard == sorted(set(heard)), "one was told twice"
    # Each is told that the one before it has gone.
    assert all(sum("the supervisor has gone" in line for line in lines) == 1 for lines in logs)
    assert reboots_told(host)[0] == []
    host.start()
    assert told(host) == [(None, "running")]
    assert not [e for e in host.events_open[-1].seen if e["event"] == "reboot"]


@pytest.mark.standin
def test_a_shim_that_is_stopped_is_adopted_when_it_goes_on(host):
    """No start waits for it, its name is taken, it comes back by itself; however often meanwhile."""
    box = host.create(id="one", cmdline="tick=20")
    host.create(id="two")
    stopped = host.shim_pids()
    for shim in stopped:
        os.kill(shim, signal.SIGSTOP)
    for _ in range(2):
        host.stop(signal.SIGKILL)
        host.start()
        assert host.list() == []
        assert replay(host, event="reported", sandbox="one")["reason"]
        assert "one" in host.create(expect=409, id="one")["detail"]
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGCONT)
    assert spec_of(host.wait_state("one", "running")) == spec_of(box)
    assert host.act("one", "pause")["state"] == "paused"
    # Of one that ends instead its record tells.
    os.kill(host.shim_pids("admin:two")[0], signal.SIGKILL)
    assert host.wait_state("two", "crashed")["exit"]["cause"] == "shim-lost"


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
