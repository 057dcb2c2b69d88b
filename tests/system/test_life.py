# SPDX-License-Identifier: Apache-2.0
"""A sandbox's life: created, paused, resumed, talked to, ended."""
import os
import signal

from harness import wait_for


def test_create_runs_and_prints(host):
    box = host.create(id="one", cmdline="tick=20", labels={"team": "red"})
    assert (box["state"], box["tenant"], box["id"]) == ("running", "admin", "one")
    assert box["exit"] is None and box["vmm"]["pid"] in host.vmm_pids()
    assert box["labels"] == {"team": "red"}
    assert all(box["timings_us"][k] > 0 for k in
               ("spawn_us", "setup_us", "launch_us", "boot_us", "total_us"))
    host.wait_console("one", "COUNT 3")
    assert host.get("one") == box


def test_pause_stops_the_guest_and_resume_goes_on(host):
    host.create(id="one", cmdline="tick=10")
    host.wait_console("one", "COUNT 2")
    assert host.act("one", "pause")["state"] == "paused"
    before = host.console("one")
    assert host.act("one", "pause", expect=409)["status"] == 409
    assert host.console("one") == before
    assert host.act("one", "resume")["state"] == "running"
    wait_for(lambda: host.console("one") != before, what="more output")
    assert host.act("one", "resume", expect=409)["status"] == 409


def test_console_input_reaches_the_guest(host):
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    assert host.send("one", "hello there\n") == {"written": 12}
    host.wait_console("one", "ECHO hello there")


def test_kill_is_seen_with_its_cause(host):
    events = host.events()
    box = host.create(id="one")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    event = events.wait(event="state", to="crashed")
    assert event["exit"]["cause"] == "vmm-killed" and event["exit"]["signal"] == 9
    box = host.wait_state("one", "crashed")
    assert box["vmm"] is None and box["exit"]["cause"] == "vmm-killed"
    assert box["exit"]["code"] is None and box["exit"]["phase"] == "running"
    assert host.destroy("one")["exit"]["cause"] == "vmm-killed"
    assert host.api("GET", "/v1/sandboxes/one").status == 404


def test_destroy_leaves_nothing(host):
    host.create(id="one")
    assert host.residue() != []
    last = host.destroy("one")
    assert last["exit"]["cause"] == "destroyed" and last["vmm"] is None
    # The answer is sent when nothing is left, so there is nothing to wait for here.
    assert host.shim_pids() == [] and host.vmm_pids() == []
    assert host.residue() == []
