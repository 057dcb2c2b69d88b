# SPDX-License-Identifier: Apache-2.0
"""Balloon, resize and counters. The tiny guest drives none of these devices: what is tested is what
the VMM answers, what the record says, and that the rest goes on as before. (That a Linux guest's
balloon gives memory back is tested in test_linux_*.py.)
"""
import os
import signal
import subprocess
import threading

import pytest

import harness
from test_api import is_problem
from test_snapshot import PRELOAD, checksum, drop_template, prepare, restore, snapshot

SNAPSHOTS = f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}"


@pytest.fixture
def host(make_host, vmm):
    return make_host(vmm_config=SNAPSHOTS if vmm[1] == "ch" else "")


def change(host, box, action, **fields):
    return host.api("POST", f"/v1/sandboxes/{box}/{action}", fields)


def balloon(host, box, mib):
    answer = change(host, box, "balloon", target_mib=mib)
    assert answer.status == 200, answer
    assert answer.json["balloon"] is True and answer.json["balloon_target_mib"] == mib
    return answer.json


def resize(host, box, **fields):
    answer = change(host, box, "resize", **fields)
    assert answer.status == 200, answer
    for key, value in fields.items():
        assert answer.json[key] == value
    assert host.get(box) == answer.json
    return answer.json


def counters(host, box):
    answer = host.api("GET", f"/v1/sandboxes/{box}/counters")
    assert answer.status == 200, answer
    return answer.json


def test_balloon(host):
    events = host.events()
    box = host.create(id="one", cmdline="tick=0", memory_mib=64)
    assert (box["balloon_target_mib"], box["max_vcpus"], box["max_memory_mib"]) == (0, 1, 64)
    balloon(host, "one", 48)
    assert events.wait(event="balloon", sandbox="one")["target_mib"] == 48
    host.act("one", "pause")
    assert balloon(host, "one", 8)["state"] == "paused"
    for bad in (49, -1, 1.5, "8", None, True):
        answer = change(host, "one", "balloon", target_mib=bad)
        assert answer.status == (400 if bad == 1.5 else 422), answer
    is_problem(change(host, "one", "balloon", target_mib=49), 422, "target_mib: 49", "0 to 48")
    is_problem(change(host, "one", "balloon"), 422, "target_mib: missing")
    is_problem(change(host, "one", "balloon", target_mib=1, more=1), 422, 'unknown field "more"')
    assert host.get("one")["balloon_target_mib"] == 8
    host.act("one", "resume")
    assert counters(host, "one") == {"devices": {}, "memory_actual_mib": 64}
    is_problem(change(host, "nobody", "balloon", target_mib=1), 404)


def test_without_balloon(host):
    box = host.create(id="one", cmdline="tick=0", memory_mib=32, balloon=False)
    assert box["balloon"] is False and box["balloon_target_mib"] is None
    is_problem(change(host, "one", "balloon", target_mib=1), 409, "created without one")
    assert counters(host, "one")["memory_actual_mib"] == 32


def test_balloon_in_clones(host):
    """A map clone says 409; the target goes into a set and comes out of it."""
    want = prepare(host)
    balloon(host, "src", 8)
    assert snapshot(host, "src", "t1")["balloon_target_mib"] == 8
    for mode in ("map", "copy"):
        assert restore(host, mode, "t1", mode)["balloon_target_mib"] == 8
        assert checksum(host, mode) == want
    is_problem(change(host, "map", "balloon", target_mib=4), 409, "memory_restore copy")
    assert host.get("map")["balloon_target_mib"] == 8
    balloon(host, "copy", 4)
    host.act("copy", "hibernate")
    is_problem(change(host, "copy", "balloon", target_mib=1), 409, "hibernated")
    is_problem(host.api("GET", "/v1/sandboxes/copy/counters"), 409, "running or paused")
    assert host.get("copy")["balloon_target_mib"] == 4
    host.act("copy", "wake")
    assert host.get("copy")["balloon_target_mib"] == 4
    assert checksum(host, "copy") == want
    balloon(host, "copy", 0)
    # One that was woken has memory of its own, whatever it was before.
    host.act("map", "hibernate")
    host.act("map", "wake")
    balloon(host, "map", 2)
    drop_template(host, "t1")


def test_vcpus(host):
    box = host.create(id="one", cmdline="tick=0", memory_mib=64, max_vcpus=3)
    assert (box["vcpus"], box["max_vcpus"]) == (1, 3)
    resize(host, "one", vcpus=2)
    resize(host, "one", vcpus=2)
    for bad in (0, 4, -1, "2", None):
        is_problem(change(host, "one", "resize", vcpus=bad), 422, "vcpus: ", "1 to 3")
    is_problem(change(host, "one", "resize"), 422, "both are missing")
    is_problem(change(host, "one", "resize", cpus=2), 422, 'unknown field "cpus"')
    is_problem(host.api("POST", "/v1/sandboxes/one/resize", raw=b""), 400)
    # It is snapshot and woken with what it has by then.
    assert snapshot(host, "one", "t1")["vcpus"] == 2
    clone = restore(host, "clone", "t1", "copy")
    assert (clone["vcpus"], clone["max_vcpus"]) == (2, 3)
    resize(host, "clone", vcpus=3)
    host.act("one", "hibernate")
    host.act("one", "wake")
    resize(host, "one", vcpus=3)
    # No guest that does not know how gives a vCPU back, so no set could be right.
    resize(host, "one", vcpus=1)
    for action, body in (("snapshot", {"template": "t2"}), ("hibernate", {})):
        is_problem(host.api("POST", f"/v1/sandboxes/one/{action}", body), 409, "cannot be kept")
    assert host.get("one")["state"] == "running"
    drop_template(host, "t1")


def test_memory(host):
    want = None
    host.create(id="one", cmdline="tick=0", memory_mib=128, max_memory_mib=256)
    host.wait_console("one", "GUEST UP")
    # A zone that could grow and did not is in a set like any other.
    snapshot(host, "one", "t1")
    want = checksum(host, "one")
    for mode in ("map", "copy"):
        assert restore(host, mode, "t1", mode)["max_memory_mib"] == 256
        assert checksum(host, mode) == want
    resize(host, "one", memory_mib=130)
    resize(host, "one", memory_mib=256)
    for bad in (127, 126, 129, 257, 258, "130", None):
        is_problem(change(host, "one", "resize", memory_mib=bad), 422, "memory_mib: ",
                   "128 to 256, in steps of 2")
    resize(host, "map", memory_mib=160)
    resize(host, "one", memory_mib=128)
    # What the guest still has plugged nobody knows.
    for action, body in (("snapshot", {"template": "t2"}), ("hibernate", {})):
        is_problem(host.api("POST", f"/v1/sandboxes/one/{action}", body), 409, "cannot be kept")
    assert checksum(host, "one") == want
    host.act("copy", "hibernate")
    host.act("copy", "wake")
    assert resize(host, "copy", memory_mib=192)["max_memory_mib"] == 256
    assert checksum(host, "copy") == want
    drop_template(host, "t1")


def test_both_at_once_and_none(host):
    host.create(id="one", cmdline="tick=0", memory_mib=128, max_vcpus=2, max_memory_mib=256)
    events = host.events()
    resize(host, "one", vcpus=2, memory_mib=192)
    assert events.wait(event="resize", memory_mib=192)["vcpus"] == 2
    host.act("one", "pause")
    assert resize(host, "one", memory_mib=256)["state"] == "paused"
    host.act("one", "resume")
    host.create(id="fixed", cmdline="tick=0", memory_mib=32)
    resize(host, "fixed", vcpus=1)
    is_problem(change(host, "fixed", "resize", memory_mib=32), 409, "max_memory_mib")
    is_problem(change(host, "fixed", "resize", memory_mib=34), 422, "32 to 32")


def test_maxima_at_create(host):
    def refused(*words, **spec):
        is_problem(host.api("POST", "/v1/sandboxes", {"kernel": "tiny", **spec}), 422, *words)
    refused("max_vcpus: 1", "vcpus (2) to 254", vcpus=2, max_vcpus=1)
    refused("max_memory_mib: 128", memory_mib=256, max_memory_mib=128)
    refused("max_memory_mib: 300", "multiple of 128", memory_mib=256, max_memory_mib=300)
    refused("max_memory_mib: 300", max_memory_mib=300)
    box = host.create(id="one", memory_mib=128, max_vcpus=None, max_memory_mib=None)
    assert (box["max_vcpus"], box["max_memory_mib"]) == (1, 128)


def test_adopted(host):
    """The next supervisor knows what was changed."""
    host.create(id="one", cmdline="tick=0", memory_mib=128, max_vcpus=2, max_memory_mib=256)
    balloon(host, "one", 16)
    resize(host, "one", vcpus=2, memory_mib=130)
    host.stop(signal.SIGKILL)
    host.start()
    box = host.get("one")
    assert (box["balloon_target_mib"], box["vcpus"], box["memory_mib"]) == (16, 2, 130)
    assert (box["max_vcpus"], box["max_memory_mib"]) == (2, 256)
    is_problem(host.api("POST", "/v1/sandboxes/one/hibernate"), 409, "cannot be kept")


def test_quota_counts_the_maxima(make_host):
    host = make_host(config="[tenant carol]\nusers = 64203\nmax_vcpus = 4\nmax_memory_mib = 512\n")
    carol = 64203
    host.create(uid=carol, id="one", cmdline="tick=0", memory_mib=128, max_memory_mib=256,
                max_vcpus=3)
    for spec, word in (({"max_vcpus": 2}, "max_vcpus"), ({"memory_mib": 257}, "max_memory_mib"),
                       ({"memory_mib": 256, "max_memory_mib": 384}, "max_memory_mib")):
        is_problem(host.api("POST", "/v1/sandboxes", {"kernel": "tiny", **spec}, uid=carol), 429,
                   word)
    host.create(uid=carol, id="two", cmdline="tick=0", memory_mib=256)


@pytest.mark.standin
@pytest.mark.parametrize("order,status", [
    ("vm.resize=error:Not_today", 502), ("vm.resize=hang", 504), ("vm.resize=badjson", 200)])
def test_what_the_vmm_refuses_is_not_in_the_record(make_host, order, status):
    host = make_host(limits="resume_ms = 300\ndestroy_ms = 1500\nshutdown_ms = 300")
    host.create(id="one", cmdline=f"tick=0 standin:{order}", memory_mib=64, max_vcpus=2)
    assert change(host, "one", "balloon", target_mib=8).status == status
    if status != 200:
        assert host.get("one")["balloon_target_mib"] == 0
    if status != 504:
        assert change(host, "one", "resize", vcpus=2).status == status
        assert host.get("one")["vcpus"] == (2 if status == 200 else 1)


@pytest.mark.standin
@pytest.mark.parametrize("order,word", [
    ("vm.counters=error:Not_today", "Not today"), ("vm.counters=badjson", "vm.counters"),
    ("vm.info=badjson@2", "memory_actual_size"), ("vm.counters=hang", "")])
def test_counters_of_a_vmm_that_lies(make_host, order, word):
    host = make_host(limits="resume_ms = 300\ndestroy_ms = 1500\nshutdown_ms = 300")
    host.create(id="one", cmdline=f"tick=0 standin:{order}", memory_mib=64)
    answer = host.api("GET", "/v1/sandboxes/one/counters")
    is_problem(answer, 504 if order.endswith("hang") else 502, word)
    assert host.get("one")["state"] == "running"


@pytest.mark.standin
def test_late_change_is_undone(make_host):
    host = make_host(limits="resume_ms = 200")
    host.create(id="one", cmdline="tick=0 standin:vm.resize=delay:600@1", memory_mib=64)
    is_problem(change(host, "one", "balloon", target_mib=8), 504)
    harness.wait_for(lambda: "it is undone" in host.log(), 5, "the late answer")
    balloon(host, "one", 4)
    assert host.get("one")["balloon_target_mib"] == 4


@pytest.mark.standin
def test_one_at_a_time(host):
    host.create(id="one", cmdline="tick=0 standin:vm.pause=delay:700", memory_mib=64)

    def pause():
        # The counters that are asked for below may be in hand just now: then again.
        harness.wait_for(lambda: host.api("POST", "/v1/sandboxes/one/pause").status == 200, 10)

    slow = threading.Thread(target=pause)
    slow.start()
    harness.wait_for(lambda: host.api("GET", "/v1/sandboxes/one/counters").status == 409, 5)
    for action, body in (("balloon", {"target_mib": 1}), ("resize", {"vcpus": 1})):
        is_problem(change(host, "one", action, **body), 409, "a pause is under way")
    slow.join()
    balloon(host, "one", 1)


def test_client(host):
    def cloister(*words):
        return subprocess.run(
            [os.path.join(harness.BUILD, "cloister"), "-s", host.control, *words],
            capture_output=True, text=True, timeout=20)

    def ok(*words):
        done = cloister(*words)
        assert done.returncode == 0, done
        return done.stdout
    ok("create", "--id", "one", "--kernel", "tiny", "--memory", "128", "--max-memory", "256M",
       "--max-vcpus", "2")
    assert ok("balloon", "one", "8") == "one balloon 8M\n"
    assert ok("resize", "one", "--vcpus", "2", "--memory", "192M") == "one vcpus 2 memory 192M\n"
    # CH takes what is plugged for there, whether the guest has it or not.
    assert "memory_actual_mib: " in ok("counters", "one")
    assert '"devices":{}' in ok("--json", "counters", "one").replace(" ", "")
    assert cloister("balloon", "one", "x").returncode == 2
    assert cloister("balloon", "one").returncode == 2
    assert cloister("resize", "one").returncode == 2
    assert cloister("balloon", "one", "200").returncode == 1
    assert cloister("counters", "nobody").returncode == 4


def test_limits_follow_the_maxima(host):
    """A guest may grow to far more than it started with: no limit of the VMM's is in the way."""
    box = host.create(id="one", cmdline="tick=0", memory_mib=64, max_memory_mib=16448, max_vcpus=8)
    with open(f"/proc/{box['vmm']['pid']}/limits") as f:
        limits = {line[:25].strip(): line[26:].split()[0] for line in f}
    assert int(limits["Max file size"]) == 16448 << 20
    assert int(limits["Max address space"]) > 16448 << 20
    assert int(limits["Max processes"]) == 8 + 64
    if harness.CGROUP_MOUNT and os.path.exists(host.cgroup_path("admin:one/memory.max")):
        with open(host.cgroup_path("admin:one/memory.max")) as f:
            assert int(f.read()) > 16448 << 20
    resize(host, "one", vcpus=8, memory_mib=16448)
