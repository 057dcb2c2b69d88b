# SPDX-License-Identifier: Apache-2.0
"""Draining the host, and the end of cloisterd by a signal: what is refused, awaited and told."""
import json
import os
import signal

import pytest

from harness import TENANT_UIDS, alive, wait_for
from test_api import is_problem
from test_cli import cli, ok, refused
from test_exits import in_background

ALICE = TENANT_UIDS["alice"]


def drain(host, expect=202, **wishes):
    answer = host.api("POST", "/v1/drain", wishes or None)
    assert answer.status == expect, answer
    return answer.json


def status(host):
    answer = host.api("GET", "/v1/drain")
    assert answer.status == 200, answer
    return answer.json


def wait_drained(host, state="done", timeout=20):
    return wait_for(lambda: (lambda s: s if s["state"] == state else None)(status(host)), timeout,
                    f"the drain to be {state}: {status(host)}")


def undo(host):
    answer = host.api("DELETE", "/v1/drain")
    assert answer.status == 200 and answer.json["state"] == "off", answer


def start_create(host, box="late", timeout_s=60):
    """A create in flight: its guest is not ready before that time is over, and fails then."""
    join = in_background(host.api, "POST", "/v1/sandboxes", {
        "id": box, "kernel": "tiny", "memory_mib": 32, "cmdline": "tick=0",
        "wait_for": {"console": "NEVER", "timeout_s": timeout_s}})
    wait_for(lambda: host.api("GET", f"/v1/sandboxes/{box}").status == 200, what="the create")
    return join


# ------------------------------------------------------------------ what is refused


@pytest.mark.standin
def test_new_work_is_refused(host):
    host.create(id="one", cmdline="tick=0")
    host.create(id="sleeper", uid=ALICE, cmdline="tick=0")
    host.act("sleeper", "hibernate", uid=ALICE)
    assert host.api("GET", "/v1/info").json["draining"] is False
    assert status(host) == {"state": "off", "then": "nothing", "since": None, "deadline": None,
                            "in_flight": 0, "left": 0, "done": 0, "failed": []}
    drain(host)
    done = wait_drained(host)
    assert done["then"] == "nothing" and done["since"] < done["deadline"] and not done["failed"]
    for uid in (0, ALICE):
        answer = host.api("POST", "/v1/sandboxes", {"kernel": "tiny"}, uid=uid)
        is_problem(answer, 503, "drained", "another one")
        assert host.api("GET", "/v1/info", uid=uid).json["draining"] is True
    is_problem(host.api("POST", "/v1/sandboxes/sleeper/wake", uid=ALICE), 503, "drained")
    is_problem(host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "t"}), 503, "drained")
    # What runs goes on, and what makes it less is welcome.
    assert host.act("one", "pause")["state"] == "paused"
    assert host.act("one", "resume")["state"] == "running"
    host.destroy("one")
    host.create(id="two", expect=503)
    undo(host)
    host.act("sleeper", "wake", uid=ALICE)
    host.create(id="two", cmdline="tick=0")
    # It is this cloisterd's own: the next one serves again.
    drain(host)
    host.stop()
    host.start()
    assert status(host)["state"] == "off"
    host.create(id="three", cmdline="tick=0")


@pytest.mark.standin
def test_only_an_admin_may(host):
    for method in ("GET", "POST", "DELETE"):
        is_problem(host.api(method, "/v1/drain", uid=ALICE), 403, "admin")
    assert status(host)["state"] == "off"
    for body, word in (({"then": "nap"}, "then"), ({"then": 1}, "then"), ({"wait_s": 0}, "wait_s"),
                       ({"wait_s": 86401}, "wait_s"), ({"grace_s": 5}, "grace_s"),
                       ({"then": "destroy", "grace_s": 3601}, "grace_s"), ({"now": True}, "now")):
        is_problem(host.api("POST", "/v1/drain", body), 422, word)
    assert host.api("POST", "/v1/drain", raw=b"[]").status == 400
    assert status(host)["state"] == "off"


# ------------------------------------------------------------------ what is awaited


@pytest.mark.standin
def test_operations_in_flight_are_awaited(host):
    """A create that is not ready yet: the drain is done when it is, and not before."""
    join = start_create(host, timeout_s=2)
    assert drain(host)["in_flight"] == 1
    assert status(host)["state"] == "working"
    assert join().status == 504
    assert wait_drained(host)["in_flight"] == 0


@pytest.mark.standin
def test_its_time_is_bounded(host):
    join = start_create(host)
    drain(host, wait_s=1)
    late = wait_drained(host, "late")
    assert [(f["sandbox"], f["tenant"]) for f in late["failed"]] == [("late", "admin")], late
    assert "creating" in late["failed"][0]["detail"]
    assert host.get("late")["state"] == "creating"
    host.create(id="two", expect=503)
    host.destroy("late")
    assert join().status == 409


# ------------------------------------------------------------------ hibernate and destroy


@pytest.mark.standin
def test_all_are_hibernated_but_one(host):
    """What cannot be hibernated runs on, and is told; a second drain tries it again."""
    boxes = [host.create(id=f"box{i}", uid=ALICE if i % 2 else 0, cmdline="tick=0")
             for i in range(9)]
    host.act("box0", "pause")
    host.create(id="grown", cmdline="tick=0", memory_mib=64, max_memory_mib=192)
    assert host.api("POST", "/v1/sandboxes/grown/resize", {"memory_mib": 128}).status == 200
    pid = host.get("grown")["vmm"]["pid"]
    drain(host, then="hibernate")
    failed = wait_drained(host, "failed")
    assert failed["done"] == len(boxes) and failed["left"] == failed["in_flight"] == 0, failed
    assert [f["sandbox"] for f in failed["failed"]] == ["grown"], failed
    assert "memory was grown" in failed["failed"][0]["detail"]
    assert host.get("grown")["vmm"]["pid"] == pid and alive(pid)
    for tenant in (None, "alice"):
        for box in host.list(tenant):
            assert box["state"] == ("running" if box["id"] == "grown" else "hibernated")
    drain(host, then="destroy")
    done = wait_drained(host)
    # The ones that sleep are nobody's hurry.
    assert done["done"] == 1 and not done["failed"]
    assert host.api("GET", "/v1/sandboxes/grown").status == 404
    undo(host)
    assert host.act("box0", "wake")["state"] == "running"


@pytest.mark.fs("ext4")
def test_hibernated_by_the_client(disk_host):
    """The same on both VMMs, as an administrator does it."""
    host = disk_host
    for i in range(3):
        host.create(id=f"box{i}", cmdline="tick=0")
    said = ok(cli(host, "drain", "--hibernate", "--wait", "60"))
    assert said.splitlines()[-1] == "done: 0 in flight, 0 left, 3 done"
    assert {b["state"] for b in host.list()} == {"hibernated"}
    assert host.vmm_pids() == [] and host.shim_pids() == []
    ok(cli(host, "drain", "--undo"))
    for i in range(3):
        host.act(f"box{i}", "wake")


@pytest.mark.standin
def test_all_are_destroyed(host):
    """With their time to power off, and those that a policy would start again."""
    for i in range(6):
        host.create(id=f"box{i}", cmdline="tick=0")
    host.create(id="again", cmdline="tick=0", restart={"policy": "always", "backoff_ms": 86400000})
    host.create(id="dead", cmdline="tick=0")
    for box in ("again", "dead"):
        os.kill(host.get(box)["vmm"]["pid"], signal.SIGKILL)
        host.wait_state(box, "crashed")
    answer = cli(host, "drain", "--destroy", "--grace", "1", "--json")
    assert json.loads(ok(answer))["done"] == 7
    assert [b["id"] for b in host.list()] == ["dead"]


@pytest.mark.standin
def test_a_hibernate_that_fails(make_host):
    """The disk is full: that guest runs on, the other sleeps."""
    host = make_host(config="[tenant carol]\nusers = 64203\nmax_disk_mib = 40")
    host.create(id="good", cmdline="tick=0")
    host.create(id="big", uid=64203, cmdline="tick=0", memory_mib=256)
    answer = host.api("POST", "/v1/sandboxes/big/console?tenant=carol", raw=b"touch 60\n")
    assert answer.status == 200, answer
    wait_for(lambda: b"TOUCHED" in host.api("GET", "/v1/sandboxes/big/console?tenant=carol").body,
             what="its memory")
    said = cli(host, "drain", "--hibernate")
    assert said.returncode == 1 and "carol:big: " in said.stderr, said
    assert host.get("good")["state"] == "hibernated"
    assert host.get("big", uid=64203)["state"] == "running"
    host.destroy("big", uid=64203)


# ------------------------------------------------------------------ the client


@pytest.mark.standin
def test_drain_of_the_client(host):
    for args in (("--hibernate", "--destroy"), ("--grace", "1"), ("--undo", "--destroy"),
                 ("--status", "--undo"), ("--wait", "0"), ("--wait", "x"), ("now",)):
        refused(cli(host, "drain", *args), 2)
    refused(cli(host, "drain", uid=ALICE), 1, "admin")
    assert "state: off\n" in ok(cli(host, "drain", "--status"))
    assert "draining: false\n" in ok(cli(host, "info"))
    assert "state: " in ok(cli(host, "drain", "--no-wait"))
    wait_drained(host)
    assert "draining: true\n" in ok(cli(host, "info"))
    refused(cli(host, "create", "--kernel", "tiny"), 1, "drained")
    assert ok(cli(host, "drain")).splitlines()[-1] == "done: 0 in flight, 0 left, 0 done"
    assert json.loads(ok(cli(host, "drain", "--status", "--json"))) == status(host)
    assert "state: off\n" in ok(cli(host, "drain", "--undo"))
    refused(cli(None, "drain"), 3)


# ------------------------------------------------------------------ the end by a signal


@pytest.mark.standin
def test_an_end_waits_for_answers(make_host):
    """A hibernate and a create in flight get their answers; meanwhile nothing new is begun."""
    host = make_host(limits="stop_ms = 30000")
    box = host.create(id="one", cmdline="tick=0")
    join = start_create(host, timeout_s=2)
    host.daemon.send_signal(signal.SIGTERM)
    wait_for(lambda: "2 VMs are left running, 1 operations are in flight" in host.log(),
             what="the log's word")
    is_problem(host.api("POST", "/v1/sandboxes", {"kernel": "tiny"}), 503, "stopping")
    assert host.act("one", "pause")["state"] == "paused"
    assert join().status == 504, "the guest was not ready in time: the truth, not a closed connection"
    assert host.daemon.wait(10) == 0
    host.ready()
    assert b"STOPPING=1\nEXTEND_TIMEOUT_USEC=37000000" in host.notified
    assert alive(box["vmm"]["pid"])
    wait_for(lambda: not host.spawner_pids(), what="the spawner's end")
    host.start()
    assert host.get("one")["state"] == "paused"


@pytest.mark.standin
@pytest.mark.parametrize("how", ["its time is over", "a second signal"])
def test_an_end_is_bounded(make_host, how):
    host = make_host(limits="stop_ms = " + ("200" if how == "its time is over" else "60000"))
    box = host.create(id="one", cmdline="tick=0")
    join = start_create(host)
    host.daemon.send_signal(signal.SIGTERM)
    wait_for(lambda: "1 operations are in flight" in host.log(), what="the log's word")
    if how == "a second signal":
        host.daemon.send_signal(signal.SIGTERM)
    is_problem(join(), 503, "goes on without it")
    assert host.daemon.wait(10) == 0
    assert alive(box["vmm"]["pid"])
    wait_for(lambda: not host.spawner_pids(), what="the spawner's end")
    host.start()
    assert host.get("one")["state"] == "running"


@pytest.mark.standin
def test_hangup_changes_nothing(host):
    box = host.create(id="one", cmdline="tick=0")
    host.daemon.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP: nothing is read again" in host.log(), what="the log's word")
    assert host.get("one") == box and host.daemon.poll() is None


@pytest.mark.standin
def test_an_end_with_nothing_in_flight_does_not_wait(make_host):
    host = make_host(limits="stop_ms = 60000")
    box = host.create(id="one", cmdline="tick=0")
    assert host.stop(timeout=20) == 0
    assert alive(box["vmm"]["pid"])
    host.start()
