# SPDX-License-Identifier: Apache-2.0
"""Templates, restores in every mode, hibernate and wake, with every page's checksum compared."""
import os
import re
import signal
import threading

import pytest

import harness
from harness import wait_for

PRELOAD = os.path.join(harness.TOP, "build", "tests", "preload", "nested_state.so")


@pytest.fixture
def host(make_host, vmm):
    # Some hosts' KVM cannot save a vCPU's nested state; the preload answers that it is empty.
    config = f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}" if vmm[1] == "ch" else ""
    return make_host(vmm_config=config)


def ask(host, box, word, pattern):
    """Types a command and gives what the guest answers behind all that it has said so far."""
    before = len(host.console(box))
    host.send(box, word + "\n")
    return wait_for(lambda: re.search(pattern, host.console(box)[before:]), 15,
                    f"{pattern} after {word}").group(1)


def checksum(host, box):
    return ask(host, box, "sum", r"SUM ([0-9a-f]+)\n")


def count(host, box):
    return int(ask(host, box, "count", r"COUNT (\d+)\n"))


def prepare(host, mib=4, **spec):
    host.create(id="src", cmdline="tick=0", memory_mib=64, **spec)
    host.wait_console("src", "GUEST UP")
    assert ask(host, "src", f"touch {mib}", r"TOUCHED (\d+)\n") == str(mib)
    return checksum(host, "src")


def snapshot(host, box, name, expect=201):
    answer = host.api("POST", f"/v1/sandboxes/{box}/snapshot", {"template": name})
    assert answer.status == expect, answer
    return answer.json


def restore(host, box, template, mode="auto", expect=201):
    answer = host.api("POST", "/v1/sandboxes",
                      {"id": box, "template": template, "memory_restore": mode})
    assert answer.status == expect, answer
    return answer.json


def drop_template(host, name):
    answer = host.api("DELETE", f"/v1/templates/{name}")
    assert answer.status == 200, answer


def test_template_and_clones_in_each_mode(host):
    want = prepare(host)
    made = snapshot(host, "src", "t1")
    assert made["name"] == "t1" and made["content"] == ["ram"]
    assert made["apparent_bytes"] > 64 << 20 > made["allocated_bytes"]
    assert host.get("src")["state"] == "running"
    assert checksum(host, "src") == want
    for mode, shown in (("auto", "map"), ("map", "map"), ("copy", "copy")):
        box = restore(host, f"c-{mode}", "t1", mode)
        assert box["state"] == "running" and box["memory_restore"] == shown
        assert checksum(host, f"c-{mode}") == want
    assert restore(host, "bad", "t1", "ondemand", 422)["status"] == 422
    # A map clone's memory is private to the VMM, which writes it itself.
    second = snapshot(host, "c-map", "t2")
    assert second["content"] == ["memory-ranges"]
    for mode in ("copy", "ondemand"):
        restore(host, f"d-{mode}", "t2", mode)
        assert checksum(host, f"d-{mode}") == want
    # Clones live on without the template's name.
    drop_template(host, "t1")
    assert checksum(host, "c-auto") == want
    drop_template(host, "t2")
    assert host.api("GET", "/v1/templates").json == {"templates": []}


def test_snapshot_of_a_paused_guest_leaves_it_paused(host):
    prepare(host)
    host.act("src", "pause")
    snapshot(host, "src", "t1")
    assert host.get("src")["state"] == "paused"
    snapshot(host, "src", "t1", 409)
    host.act("src", "resume")
    drop_template(host, "t1")


def test_hibernate_and_wake_five_times(host):
    want = prepare(host)
    for _ in range(5):
        box = host.act("src", "hibernate")
        assert box["state"] == "hibernated" and box["vmm"] is None and box["exit"] is None
        assert host.shim_pids() == [] and host.vmm_pids() == []
        assert host.act("src", "wake")["state"] == "running"
        assert checksum(host, "src") == want
    host.act("src", "hibernate")
    host.stop()
    host.start()
    assert host.get("src")["state"] == "hibernated"
    host.act("src", "wake")
    assert checksum(host, "src") == want


def test_sixteen_clones_at_once(host):
    want = prepare(host)
    snapshot(host, "src", "t1")
    boxes = [f"c{i}" for i in range(16)]
    results = {}

    def one(box):
        results[box] = host.api("POST", "/v1/sandboxes", {"id": box, "template": "t1"}).status

    threads = [threading.Thread(target=one, args=(b,)) for b in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results.values()) == {201}, results
    assert {checksum(host, b) for b in boxes} == {want}
    drop_template(host, "t1")


def test_five_generations_of_sixteen_clones(host):
    """Each generation comes of a clone of the last one: counts go on, every page is right."""
    source = "g0"
    host.create(id=source, cmdline="tick=20", memory_mib=64)
    host.wait_console(source, "COUNT 3")
    for generation in range(1, 6):
        ask(host, source, f"touch {generation}", r"TOUCHED (\d+)\n")
        want = checksum(host, source)
        taken = count(host, source)
        template = f"t{generation}"
        snapshot(host, source, template)
        boxes = [f"g{generation}c{i}" for i in range(16)]
        answers = {}

        def one(box):
            answers[box] = host.api("POST", "/v1/sandboxes", {"id": box, "template": template})

        threads = [threading.Thread(target=one, args=(b,)) for b in boxes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {a.status for a in answers.values()} == {201}, answers
        for box in boxes:
            assert checksum(host, box) == want
            assert count(host, box) >= taken
        host.act(boxes[0], "hibernate")
        host.act(boxes[0], "wake")
        assert checksum(host, boxes[0]) == want
        for box in [source, *boxes[1:]]:
            host.destroy(box)
        drop_template(host, template)
        source = boxes[0]


def test_a_copy_has_every_page_of_its_template(host):
    prepare(host, 8)
    snapshot(host, "src", "t1")
    host.act("src", "pause")
    restore(host, "clone", "t1", "copy")
    host.act("clone", "pause")
    template = os.path.join(host.state_dir, "templates", "admin:t1", "ram")
    pid = host.get("clone")["vmm"]["pid"]
    differing = []
    with open(template, "rb") as ours, open(f"/proc/{pid}/root/mem/ram", "rb") as its:
        for page in range(64 << 8):
            if ours.read(4096) != its.read(4096):
                differing.append(page)
    # What the guest did between its restore and its pause: its own stack, data and queues.
    assert all(page < (16 << 8) for page in differing), differing
    assert len(differing) < 16, differing
    drop_template(host, "t1")


def test_vmm_killed_in_mid_snapshot_leaves_no_half_template(host):
    box = host.create(id="src", cmdline="tick=0", memory_mib=1024)
    host.wait_console("src", "GUEST UP")
    ask(host, "src", "touch 64", r"TOUCHED (\d+)\n")
    thread = threading.Thread(target=lambda: host.api(
        "POST", "/v1/sandboxes/src/snapshot", {"template": "t1"}))
    thread.start()
    wait_for(lambda: host.get("src")["state"] != "running", 5, "the snapshot's start")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    thread.join()
    left = os.listdir(os.path.join(host.state_dir, "templates"))
    assert left in ([], ["admin:t1"]), left
    if left:
        drop_template(host, "t1")
