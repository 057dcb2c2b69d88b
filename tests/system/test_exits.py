# SPDX-License-Identifier: Apache-2.0
"""Every way in which a sandbox ends, with its cause, code, signal, phase and detail."""
import os
import signal
import threading

import pytest

from harness import wait_for


def ended(host, events, box, state, cause, code, sig, phase="running"):
    """The event and the record of an end that nobody asked for; gives the exit object."""
    event = events.wait(event="state", sandbox=box, to=state)
    assert event["reason"] == cause and event["exit"]["cause"] == cause
    record = host.wait_state(box, state)
    found = record["exit"]
    assert found == event["exit"] and record["vmm"] is None
    assert (found["cause"], found["code"], found["signal"], found["phase"]) == \
        (cause, code, sig, phase), found
    assert found["at"] >= record["created_at"]
    return found


def gone(host, box, cause):
    """Destroys an ended one: its record is the last word on how it ended, nothing is left."""
    assert host.destroy(box)["exit"]["cause"] == cause
    assert host.api("GET", f"/v1/sandboxes/{box}").status == 404
    assert host.residue() == []


def in_background(call, *args, **options):
    """Runs call in a thread; the returned function waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(call(*args, **options)))
    thread.start()

    def join(timeout=20):
        thread.join(timeout)
        assert result, "the call has not come back"
        return result[0]
    return join


# ------------------------------------------------------------------ what a guest does


def test_guest_powers_off(host):
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "poweroff\n")
    found = ended(host, events, "one", "stopped", "guest-shutdown", 0, None)
    assert found["detail"] == "the guest powered off"
    for action in ("pause", "resume", "power-button"):
        assert "stopped" in host.act("one", action, expect=409)["detail"]
    gone(host, "one", "guest-shutdown")
    # Also one that is off again before anybody has seen it run.
    host.create(id="one", cmdline="do=poweroff")
    host.wait_state("one", "stopped")
    gone(host, "one", "guest-shutdown")


def test_guest_panics(host):
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "panic\n")
    found = ended(host, events, "one", "crashed", "guest-panic", 0, None)
    assert "panicked" in found["detail"]
    kinds = [e["event"] for e in events.seen if e["sandbox"] == "one"]
    assert kinds.index("panic") == len(kinds) - 2, "the panic comes before the end"
    gone(host, "one", "guest-panic")


def test_one_reboot_is_counted(host):
    events = host.events()
    box = host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    for count in (1, 2):
        host.send("one", "reset\n")
        assert events.wait(event="reboot", count=count)["sandbox"] == "one"
        wait_for(lambda: host.console("one").count("GUEST UP") == count + 1, what="a new start")
    assert host.get("one") == box, "a reboot leaves state, VMM and timings as they are"


def test_reboot_loop_is_ended(make_host):
    host = make_host(limits="reboots = 3\nreboot_period_s = 60")
    events = host.events()
    host.create(id="one", cmdline="tick=0 do=reset", query="?wait=none", expect=202)
    found = ended(host, events, "one", "crashed", "guest-reboot-loop", 0, None)
    assert found["detail"].endswith("more than 3 within 60 s")
    counts = [e["count"] for e in events.seen if e["event"] == "reboot"]
    assert counts[:4] == [1, 2, 3, 4]
    gone(host, "one", "guest-reboot-loop")


def test_triple_fault_is_a_reboot(host):
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "triple\n")
    events.wait(event="reboot", count=1)
    wait_for(lambda: host.console("one").count("GUEST UP") == 2, what="a new start")
    assert host.get("one")["state"] == "running"


def test_full_log_before_a_power_off(host):
    """The end is told right though the guest filled the VMM's log just before."""
    events = host.events()
    host.create(id="one", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    host.send("one", "flood 5000\n")
    host.wait_console("one", "FLOODED 5000", 30)
    host.send("one", "poweroff\n")
    ended(host, events, "one", "stopped", "guest-shutdown", 0, None)


def test_hung_guest(host):
    """A guest that does nothing any more can be paused, resumed and destroyed like any other."""
    host.create(id="one", cmdline="tick=0 do=hang")
    host.wait_console("one", "GUEST UP")
    assert host.act("one", "pause")["state"] == "paused"
    assert host.act("one", "resume")["state"] == "running"
    found = host.destroy("one", query="grace_s=1")["exit"]
    assert found["cause"] == "destroyed"
    assert host.residue() == []


# ------------------------------------------------------------------ what a VMM does


@pytest.mark.parametrize("word", ["signal", "paused"])
def test_vmm_is_killed(host, word):
    events = host.events()
    box = host.create(id="one", cmdline="tick=10")
    if word == "paused":
        host.act("one", "pause")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    phase = "paused" if word == "paused" else "running"
    found = ended(host, events, "one", "crashed", "vmm-killed", None, 9, phase)
    assert "signal 9" in found["detail"]
    gone(host, "one", "vmm-killed")


@pytest.mark.standin
def test_vmm_ends_by_itself(host):
    events = host.events()
    cases = {
        "exit3": ("exit:3", "vmm-error", 3, None, "status 3"),
        "vcpu": ("vcpuerror", "vmm-error", 0, None, "VCPU generated error"),
        "seccomp": ("seccomp", "seccomp", None, 11, "signal 11"),
        "segv": ("signal:11", "vmm-killed", None, 11, "signal 11"),
        # Told just before the end, read only after it.
        "panic": ("panic standin:at=100:exit:0", "guest-panic", 0, None, "panicked"),
        "clean": ("exit:0", "guest-shutdown", 0, None, "powered off"),
    }
    for box, case in cases.items():
        host.create(id=box, cmdline=f"tick=0 standin:at=100:{case[0]}")
    for box, (_, cause, code, sig, text) in cases.items():
        state = "stopped" if cause == "guest-shutdown" else "crashed"
        assert text in ended(host, events, box, state, cause, code, sig)["detail"]
    for box, case in cases.items():
        assert host.destroy(box)["exit"]["cause"] == case[1]
    assert host.residue() == []


def test_shim_is_lost(host):
    events = host.events()
    others = host.create(id="other", cmdline="tick=10")
    for paused in (False, True):
        box = host.create(id="one", cmdline="tick=10")
        if paused:
            host.act("one", "pause")
        shim, = host.shim_pids("admin:one")
        os.kill(shim, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{box['vmm']['pid']}"), what="the VMM's end")
        state = host.wait_state("one", "crashed")
        assert state["vmm"] is None
        assert (state["exit"]["cause"], state["exit"]["code"], state["exit"]["signal"],
                state["exit"]["phase"]) == \
            ("shim-lost", None, None, "paused" if paused else "running")
        assert events.wait(to="crashed", sandbox="one")["exit"]["cause"] == "shim-lost"
        # Cleared up by the spawner without any destroy.
        wait_for(lambda: not any("admin:one" in line for line in host.residue()),
                 what="the spawner's clear-up")
        assert host.destroy("one")["exit"]["cause"] == "shim-lost"
    assert host.get("other") == others
    host.destroy("other")
    wait_for(lambda: not host.residue(), what="the reaping of all")


# ------------------------------------------------------------------ power button, destroy


@pytest.mark.standin
def test_power_button(host):
    events = host.events()
    host.create(id="deaf", cmdline="tick=10")
    assert host.act("deaf", "power-button")["state"] == "running"
    host.create(id="one", cmdline="tick=10 acpi=on")
    host.act("one", "power-button")
    ended(host, events, "one", "stopped", "guest-shutdown", 0, None)
    gone_box = host.destroy("one")
    assert gone_box["state"] in ("destroying", "stopped")
    assert host.get("deaf")["state"] == "running"


@pytest.mark.standin
def test_destroy_with_grace(make_host):
    host = make_host(limits="shutdown_ms = 300\npower_button_ms = 300")
    # The guest ends itself well within its grace.
    host.create(id="clean", cmdline="acpi=on")
    found = host.destroy("clean", query="grace_s=20")["exit"]
    assert (found["cause"], found["code"], found["signal"]) == ("destroyed", 0, None)
    assert "clean shutdown" in found["detail"]
    # It takes no notice of the button: the VMM is shut down when the grace is over.
    host.create(id="deaf")
    found = host.destroy("deaf", query="grace_s=1")["exit"]
    assert (found["cause"], found["code"], found["signal"]) == ("destroyed", 0, None)
    # Nor does the VMM answer: killed.
    host.create(id="stuck", cmdline="standin:vm.power-button=hang")
    found = host.destroy("stuck", query="grace_s=1")["exit"]
    assert (found["cause"], found["code"], found["signal"]) == ("destroyed", None, 9)
    # A paused guest cannot react to a button: its grace is not waited for.
    host.create(id="paused", cmdline="acpi=on")
    host.act("paused", "pause")
    found = host.destroy("paused", query="grace_s=600")["exit"]
    assert (found["cause"], found["phase"]) == ("destroyed", "paused")
    # Without grace at once.
    host.create(id="now", cmdline="acpi=on")
    found = host.destroy("now")["exit"]
    assert (found["cause"], found["code"], found["signal"]) == ("destroyed", None, 9)
    assert host.residue() == []


@pytest.mark.ch
def test_destroy_with_grace_on_the_real_one(host):
    host.create(id="deaf")
    found = host.destroy("deaf", query="grace_s=1")["exit"]
    assert (found["cause"], found["code"], found["signal"]) == ("destroyed", 0, None)
    host.create(id="paused")
    host.act("paused", "pause")
    found = host.destroy("paused", query="grace_s=600")["exit"]
    assert (found["cause"], found["phase"]) == ("destroyed", "paused")
    assert host.residue() == []


def test_destroy_while_paused_and_of_ended_ones(host):
    host.create(id="paused")
    host.act("paused", "pause")
    found = host.destroy("paused")["exit"]
    assert (found["cause"], found["signal"], found["phase"]) == ("destroyed", 9, "paused")
    host.create(id="off", cmdline="do=poweroff")
    host.wait_state("off", "stopped")
    for query in ("grace_s=600",):
        assert host.destroy("off", query=query)["exit"]["cause"] == "guest-shutdown"
    assert host.destroy("off", expect=404)["status"] == 404
    # An id is free again at once, as often as wanted.
    for _ in range(3):
        host.create(id="off")
        host.destroy("off")
    assert host.residue() == []


def test_several_destroys_at_once(host):
    host.create(id="one", cmdline="tick=10")
    # The guest knows no button, so this one waits for its grace.
    patient = in_background(host.api, "DELETE", "/v1/sandboxes/one?grace_s=600")
    assert host.wait_state("one", "destroying")["vmm"] is not None
    assert "destroying" in host.act("one", "pause", expect=409)["detail"]
    answer = host.api("POST", "/v1/sandboxes", {"id": "one", "kernel": "tiny", "memory_mib": 32})
    assert answer.status == 409, answer
    hasty = [in_background(host.api, "DELETE", "/v1/sandboxes/one") for _ in range(4)]
    first = patient()
    assert first.status == 200 and first.json["exit"]["cause"] == "destroyed"
    answers = [join() for join in hasty]
    assert {a.status for a in answers} <= {200, 404} and 200 in [a.status for a in answers]
    assert all(a.body == first.body for a in answers if a.status == 200)
    assert host.residue() == []


# ------------------------------------------------------------------ creates that do not succeed


@pytest.mark.standin
def test_destroy_during_create(host):
    events = host.events()
    for tries in range(3):
        create = in_background(
            host.api, "POST", "/v1/sandboxes",
            {"id": "one", "kernel": "tiny", "memory_mib": 32,
             "cmdline": "standin:vm.boot=delay:20000"})
        wait_for(lambda: host.list() and host.list()[0]["state"] == "creating", what="a create")
        if tries:
            wait_for(lambda: host.vmm_pids(), what="a VMM")
        for action in ("pause", "resume", "power-button"):
            assert "creating" in host.act("one", action, expect=409)["detail"]
        last = host.destroy("one")
        assert last["exit"]["cause"] == "destroyed" and last["vmm"] is None
        answer = create()
        assert answer.status == 409 and "destroyed" in answer.json["detail"]
        assert answer.json["sandbox"] == "one"
        assert host.residue() == []
    states = [(e["from"], e["to"]) for e in events.seen]
    assert states[:3] == [(None, "creating"), ("creating", "destroying"), ("destroying", None)]


@pytest.mark.standin
def test_create_without_waiting(host):
    events = host.events()
    slow = host.create(id="slow", query="?wait=none", expect=202,
                       cmdline="standin:vm.boot=delay:300")
    assert slow["state"] == "creating" and slow["vmm"] is None and slow["exit"] is None
    bad = host.create(id="bad", query="?wait=none", expect=202,
                      cmdline="standin:vm.boot=error:No_such_luck")
    assert bad["state"] == "creating"
    event = events.wait(sandbox="bad", to="failed")
    assert event["from"] == "creating" and "No such luck" in event["reason"]
    bad = host.wait_state("bad", "failed")
    assert bad["exit"]["cause"] == "start-failed" and bad["exit"]["phase"] == "starting"
    assert "No such luck" in bad["exit"]["detail"] and bad["vmm"] is None
    assert "failed" in host.act("bad", "pause", expect=409)["detail"]
    assert host.destroy("bad")["exit"]["cause"] == "start-failed"
    slow = host.wait_state("slow", "running")
    assert slow["vmm"]["pid"] in host.vmm_pids()
    # CH hands over its answers to pipelined requests together, so only the sum is known.
    assert slow["timings_us"]["boot_us"] >= 290000
    host.destroy("slow")
    assert host.residue() == []


def test_a_kernel_that_does_not_boot(host):
    """The VMM's own words reach the client, and nothing is left of it."""
    path = host.add_image("kernels", "junk", "/dev/null")
    with open(path, "wb") as f:
        f.write(b"this is no kernel\n" * 300)
    spec = {"id": "one", "kernel": "junk", "memory_mib": 32}
    if host.name == "standin":  # which does not look into its kernels
        spec.update(kernel="tiny", cmdline="standin:vm.boot=error:Kernel_load")
    answer = host.api("POST", "/v1/sandboxes", spec)
    assert answer.status == 502, answer
    assert "ernel" in answer.json["detail"] and answer.json["detail"].startswith("vm.boot: ")
    assert host.api("GET", "/v1/sandboxes/one").status == 404
    assert host.residue() == []
