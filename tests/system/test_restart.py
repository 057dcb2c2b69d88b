# SPDX-License-Identifier: Apache-2.0
"""Restart policies: which ends they mend, how often, from what, and what stays as it was."""
import os
import signal

import pytest

import diskmodel
from diskmodel import check_file, check_read, path_of, write_both
from harness import alive, wait_for
from test_cli import cli, ok, refused
from test_disk_sets import PLACES, check_guest, prepare
from test_disks import PIECES, SIZE, start
from test_network import create as create_net, make_net, ports, small  # noqa: F401 (a fixture)
from test_snapshot import drop_template, snapshot

SOON = 100  # the shortest delay there is, in ms
DAY = 86400000


def policy(name="on-failure", backoff_ms=SOON, **more):
    return {"policy": name, "backoff_ms": backoff_ms, **more}


def kill_vmm(host, box):
    os.kill(host.get(box)["vmm"]["pid"], signal.SIGKILL)


def wait_restarted(host, box, count=1, timeout=20):
    """It runs, after so many restarts."""
    def there():
        b = host.get(box)
        return b if b["state"] == "running" and b["restart"]["count"] == count else None
    return wait_for(there, timeout, f"restart {count} of {box}: {host.get(box)}")


def wait_given_up(host, box, state, timeout=20):
    """It ended, and will not be started again."""
    def there():
        b = host.get(box)
        return b if b["state"] == state and b["restart"]["next_at"] is None else None
    return wait_for(there, timeout, f"the last {state} of {box}: {host.get(box)}")


def steps(events, box):
    return [(e["from"], e["to"]) for e in events.seen
            if e["sandbox"] == box and e["event"] == "state"]


# ------------------------------------------------------------------ which ends

ENDS = {  # what the guest or the VMM does: cause, whether it is a failure
    "standin:at=50:exit:3": ("vmm-error", True),
    "standin:at=50:vcpuerror": ("vmm-error", True),
    "standin:at=50:seccomp": ("seccomp", True),
    "standin:at=50:signal:11": ("vmm-killed", True),
    "do=panic": ("guest-panic", True),
    "do=reset": ("guest-reboot-loop", True),
    "do=poweroff": ("guest-shutdown", False),
}


@pytest.mark.standin
def test_ends_and_policies(make_host):
    """Each end under each policy: one restart where it is wanted, and the same end once more."""
    host = make_host(limits="reboots = 2\nreboot_period_s = 60")
    events = host.events()
    boxes = {}
    for i, (word, (cause, failure)) in enumerate(ENDS.items()):
        for name in ("never", "on-failure", "always"):
            box = f"{name}-{i}"
            boxes[box] = (cause, 1 if failure and name != "never" or name == "always" else 0)
            host.create(id=box, cmdline=f"tick=0 {word}", restart=policy(name, attempts=1),
                        query="?wait=none", expect=202)
    for box, (cause, count) in boxes.items():
        state = "stopped" if cause == "guest-shutdown" else "crashed"
        if box.startswith("never"):
            assert host.wait_state(box, state)["restart"] is None
            last = host.get(box)
        else:
            wait_for(lambda b=box, n=count: host.get(b)["restart"]["count"] == n,
                     what=f"{count} restarts of {box}")
            last = wait_given_up(host, box, state)
            assert last["restart"]["count"] == count, last
            before = last["restart"]["last_exit"]
            assert (before and before["cause"]) == (cause if count else None), last
            assert last["restart"]["attempts_left"] == 1 - count
        assert last["exit"]["cause"] == cause, last
        once = [(None, "creating"), ("creating", "running"), ("running", state)]
        again = [(state, "creating"), ("creating", "running"), ("running", state)]
        wait_for(lambda b=box, w=once + again * count: steps(events, b) == w,
                 what=f"the events of {box}: {steps(events, box)}")


def test_killed_panicked_and_off(host):
    """The same with guests that are told to; what the record is of stays."""
    events = host.events()
    made = host.create(id="one", cmdline="tick=0", labels={"a": "b"},
                       restart=policy("always", backoff_max_ms=SOON))
    other = host.create(id="other", cmdline="tick=0")
    host.wait_console("one", "GUEST UP")
    kill_vmm(host, "one")
    box = wait_restarted(host, "one")
    assert box["restart"]["last_exit"]["cause"] == "vmm-killed"
    assert box["restart"]["attempts_left"] is None and box["exit"] is None
    assert box["vmm"]["pid"] != made["vmm"]["pid"]
    assert (box["created_at"], box["labels"]) == (made["created_at"], {"a": "b"})
    for count, (word, cause) in enumerate([("panic", "guest-panic"),
                                           ("poweroff", "guest-shutdown")], 2):
        host.wait_console("one", "GUEST UP")
        host.send("one", word + "\n")
        assert wait_restarted(host, "one", count)["restart"]["last_exit"]["cause"] == cause
    shim, = host.shim_pids("admin:one")
    os.kill(shim, signal.SIGKILL)
    assert wait_restarted(host, "one", 4)["restart"]["last_exit"]["cause"] == "shim-lost"
    reasons = [e["reason"] for e in events.seen if e["sandbox"] == "one" and e.get("to") == "creating"]
    assert reasons == ["create was asked for", "restart 1", "restart 2", "restart 3", "restart 4"]
    assert host.get("other") == other
    assert host.act("one", "pause")["state"] == "paused"
    kill_vmm(host, "one")
    wait_restarted(host, "one", 5)
    host.destroy("one")
    host.destroy("other")
    wait_for(lambda: not host.residue(), what="the reaping of all")


@pytest.mark.standin
def test_a_destroy_is_no_end_to_mend(host):
    """Neither before the guest ends nor while it waits to be started again."""
    events = host.events()
    host.create(id="one", cmdline="tick=0", restart=policy("always"))
    assert host.destroy("one")["exit"]["cause"] == "destroyed"
    host.create(id="one", cmdline="tick=0", restart=policy("always", DAY, backoff_max_ms=DAY))
    kill_vmm(host, "one")
    told = events.wait(to="crashed")
    box = host.wait_state("one", "crashed")
    assert box["restart"]["next_at"] == told["restart"]["next_at"] > box["exit"]["at"]
    assert told["restart"]["count"] == 0 and told["restart"]["attempts_left"] is None
    assert host.destroy("one")["exit"]["cause"] == "vmm-killed"
    assert host.residue() == []
    assert not any(e.get("reason", "").startswith("restart") for e in events.seen)


@pytest.mark.standin
def test_what_the_events_say_of_attempts(host):
    """How many there were and are left; the delays themselves are a unit test's."""
    events = host.events()
    host.create(id="one", cmdline="tick=0 standin:at=10:exit:3",
                restart=policy(attempts=3, backoff_max_ms=150))
    wait_for(lambda: host.get("one")["restart"]["count"] == 3, what="three restarts")
    wait_given_up(host, "one", "crashed")

    def ends():
        return [e["restart"] for e in events.seen if e["event"] == "state" and e["to"] == "crashed"]
    wait_for(lambda: len(ends()) == 4, what="the last event")
    assert [(r["count"], r["attempts_left"]) for r in ends()] == [(0, 3), (1, 2), (2, 1), (3, 0)]
    assert [r["next_at"] is None for r in ends()] == [False, False, False, True]


@pytest.mark.standin
def test_asked_for_by_the_client(host):
    made = ok(cli(host, "create", "--id", "one", "--kernel", "tiny", "--memory", "32M",
                  "--restart", "on-failure:3"))
    assert made == "one\n"
    text = ok(cli(host, "inspect", "one"))
    for line in ("restart.policy: on-failure", "restart.attempts: 3", "restart.attempts_left: 3",
                 "restart.count: 0", "restart.next_at: -", "restart.from: boot"):
        assert line + "\n" in text, text
    ok(cli(host, "create", "--id", "two", "--kernel", "tiny", "--memory", "32M", "--restart", "never"))
    assert "restart: -\n" in ok(cli(host, "inspect", "two"))
    for wrong in ("", ":3", "always:", "always:x", "always:-1"):
        refused(cli(host, "create", "--kernel", "tiny", "--restart", wrong), 2, "--restart")
    refused(cli(host, "create", "--file", "-", "--restart", "always", data="{}"), 2, "--file")
    refused(cli(host, "create", "--kernel", "tiny", "--restart", "sometimes"), 1, "restart.policy")


# ------------------------------------------------------------------ starts that fail


@pytest.mark.standin
def test_a_start_that_fails_is_a_try(host):
    kernel = host.add_image("kernels", "other", os.path.join(host.state_dir, "images/kernels/tiny"))
    events = host.events()
    host.create(id="one", kernel="other", cmdline="tick=0", restart=policy(backoff_max_ms=SOON))
    host.create(id="two", kernel="other", cmdline="tick=0", restart=policy(attempts=2))
    host.wait_console("one", "GUEST UP")
    os.rename(kernel, kernel + ".away")
    kill_vmm(host, "one")
    kill_vmm(host, "two")
    wait_for(lambda: host.get("two")["restart"]["count"] == 2, what="both tries")
    box = wait_given_up(host, "two", "crashed")
    assert box["exit"]["cause"] == "start-failed" and "other" in box["exit"]["detail"], box
    assert steps(events, "two")[2:] == [("running", "crashed")] + \
        [("crashed", "creating"), ("creating", "crashed")] * 2
    # What it printed when it ran last can still be read.
    assert "GUEST UP" in host.console("one")
    os.rename(kernel + ".away", kernel)
    wait_for(lambda: host.get("one")["state"] == "running", what="a start that works")
    host.wait_console("one", "GUEST UP")
    assert host.get("one")["restart"]["last_exit"]["cause"] == "start-failed"
    # A create that fails is answered, and not tried again.
    os.rename(kernel, kernel + ".away")
    host.create(id="three", kernel="other", expect=422, restart=policy())
    assert host.api("GET", "/v1/sandboxes/three").status == 404


@pytest.mark.standin
def test_the_console_of_the_life_before(host):
    """It stays until the next guest runs, and then that one's begins at its first byte."""
    host.create(id="one", cmdline="tick=0", restart=policy(backoff_ms=DAY, backoff_max_ms=DAY))
    host.create(id="two", cmdline="tick=0", restart=policy())
    for box in ("one", "two"):
        host.wait_console(box, "GUEST UP")
        host.send(box, "touch 1\n")
        host.wait_console(box, "TOUCHED")
        kill_vmm(host, box)
    host.wait_state("one", "crashed")
    assert "TOUCHED" in host.console("one")
    wait_restarted(host, "two")
    host.wait_console("two", "GUEST UP")
    assert "TOUCHED" not in host.console("two")
    answer = host.api("GET", "/v1/sandboxes/two/console")
    assert int(answer.headers["X-Console-End"]) == len(answer.body)


@pytest.mark.standin
def test_a_wait_for_is_kept(host):
    """A guest that is not ready again in time has not been started."""
    host.create(id="one", cmdline="tick=0", wait_for={"console": "GUEST UP"}, restart=policy())
    kill_vmm(host, "one")
    assert wait_restarted(host, "one")["timings_us"]["ready_us"] > 0


# ------------------------------------------------------------------ from what


@pytest.mark.fs("xfs", "ext4")
def test_a_boot_keeps_the_disks(disk_host):
    host = disk_host
    model, _ = prepare(host, restart=policy(backoff_max_ms=SOON))
    inode = os.stat(path_of(host, "src", 0)).st_ino
    made = host.get("src")["disks"]
    for count in (1, 2):
        write_both(host, "src", 0, model, 100 * count, 10, count)
        kill_vmm(host, "src")
        box = wait_restarted(host, "src", count)
        assert box["disks"] == made and box["restart"]["from"] == "boot"
        host.wait_console("src", "GUEST UP")
        assert os.stat(path_of(host, "src", 0)).st_ino == inode
        assert os.stat(path_of(host, "src", 0)).st_uid == \
            os.stat(f"/proc/{box['vmm']['pid']}").st_uid
        check_file(host, "src", 0, model)
        check_read(host, "src", 0, model, [(98, 14), (198, 14)] + PLACES)
    # A disk that is not there is not made anew; what is there of it is left alone.
    os.rename(path_of(host, "src", 0), path_of(host, "src", 0) + ".away")
    kill_vmm(host, "src")
    wait_for(lambda: host.get("src")["restart"]["count"] >= 4, what="two tries")
    box = host.wait_state("src", "crashed")
    assert box["exit"]["cause"] == "start-failed" and "disk" in box["exit"]["detail"], box
    os.rename(path_of(host, "src", 0) + ".away", path_of(host, "src", 0))
    wait_for(lambda: host.get("src")["state"] == "running", what="a start that works")
    check_file(host, "src", 0, model)


@pytest.mark.fs("xfs")
def test_a_boot_after_a_wake(disk_host):
    """It was created from a kernel: so it boots, on the disks as they are, and sleeps again."""
    host = disk_host
    model, _ = prepare(host, restart=policy())
    host.act("src", "hibernate")
    host.act("src", "wake")
    write_both(host, "src", 0, model, 300, 10, 7)
    kill_vmm(host, "src")
    box = wait_restarted(host, "src")
    assert box["memory_restore"] is None and box["restart"]["from"] == "boot"
    host.wait_console("src", "GUEST UP")
    check_read(host, "src", 0, model, [(298, 14)])
    host.act("src", "hibernate")
    host.act("src", "wake")
    check_read(host, "src", 0, model, [(298, 14)])


@pytest.mark.fs("xfs")
def test_a_template_begins_anew(disk_host):
    """Memory and disks are the template's, which agree; what the guest wrote since is gone."""
    host = disk_host
    model, memory = prepare(host)
    snapshot(host, "src", "t1")
    host.destroy("src")
    for mode in ("map", "copy"):
        answer = host.api("POST", "/v1/sandboxes", {"id": mode, "template": "t1", "memory_restore":
                                                    mode, "restart": policy(attempts=5, backoff_max_ms=SOON)})
        assert answer.status == 201, answer
        changed = model.copy()
        write_both(host, mode, 0, changed, 0, 50, 77)
        if mode == "copy":
            # Also when it was something else in between.
            host.act(mode, "hibernate")
            host.act(mode, "wake")
        kill_vmm(host, mode)
        box = wait_restarted(host, mode)
        assert (box["memory_restore"], box["template"], box["restart"]["from"]) == \
            (mode, "t1", "template")
        check_guest(host, mode, model, memory)
    # Without its template there is nothing to start from; its disks stay for who wants them.
    drop_template(host, "t1")
    kill_vmm(host, "map")
    wait_for(lambda: host.get("map")["restart"]["attempts_left"] == 0, what="all tries")
    box = wait_given_up(host, "map", "crashed")
    assert "template" in box["exit"]["detail"], box
    check_file(host, "map", 0, model)


@pytest.mark.standin
def test_resized_and_ballooned(host):
    """It begins as it was created, within the same maxima."""
    made = host.create(id="one", cmdline="tick=0", vcpus=1, max_vcpus=3, memory_mib=64,
                       max_memory_mib=192, restart=policy())
    answer = host.api("POST", "/v1/sandboxes/one/resize", {"vcpus": 3, "memory_mib": 128})
    assert answer.status == 200, answer
    assert host.api("POST", "/v1/sandboxes/one/balloon", {"target_mib": 8}).status == 200
    kill_vmm(host, "one")
    box = wait_restarted(host, "one")
    for field in ("vcpus", "max_vcpus", "memory_mib", "max_memory_mib", "balloon_target_mib"):
        assert box[field] == made[field], field


@pytest.mark.standin
def test_address_and_ports_are_kept(make_net):  # noqa: F811
    world = small()
    host = make_net(world=world, config=world.config(ports=None))
    made = host.create(id="a", cmdline="tick=0", wait_for={"tcp": 80}, restart=policy(),
                       network={"egress": "none", "ports": ports(80)})
    mine = made["network"]["address"]
    kill_vmm(host, "a")
    other = create_net(host, "b")["network"]["address"]
    box = wait_restarted(host, "a")
    assert box["network"]["address"] == mine != other
    assert world.outside.get(mine, 80)[0] == 200


@pytest.mark.standin
def test_quotas_are_held_while_it_waits(make_host):
    host = make_host(config="[tenant carol]\nusers = 64203\nmax_vcpus = 1\nmax_sandboxes = 5")
    host.create(id="one", uid=64203, cmdline="tick=0",
                restart=policy(backoff_ms=DAY, backoff_max_ms=DAY))
    os.kill(host.get("one", uid=64203)["vmm"]["pid"], signal.SIGKILL)
    wait_for(lambda: host.get("one", uid=64203)["state"] == "crashed", what="its end")
    assert "max_vcpus" in host.create(id="two", uid=64203, expect=429)["detail"]
    host.destroy("one", uid=64203)
    host.create(id="two", uid=64203, cmdline="tick=0")
    host.destroy("two", uid=64203)


@pytest.mark.standin
@pytest.mark.fs("ext4")
def test_killed_in_every_hurry(disk_host):
    """VMM, shim and VMM again, as soon as each is there: no disk is lost, and it always comes back."""
    host = disk_host
    base = diskmodel.make_image(host, "base", PIECES, SIZE)
    start(host, "one", [{"image": "base", "size_mib": 4}],
          restart=policy("always", backoff_max_ms=SOON))
    model = diskmodel.Model(base.data, 4)
    write_both(host, "one", 0, model, 10, 10, 1)
    for turn in range(6):
        shims = wait_for(lambda: host.shim_pids("admin:one"), what="its shim")
        vmm = (host.get("one").get("vmm") or {}).get("pid")
        for pid in ([vmm] if turn % 2 and vmm else shims):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    wait_for(lambda: host.get("one")["state"] == "running", 20, "its last start")
    check_file(host, "one", 0, model)


# ------------------------------------------------------------------ the supervisor's end


def again(host, sig):
    host.stop(sig)
    host.start()


@pytest.mark.standin
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_waits_outlives_its_supervisor(host, sig):
    host.create(id="one", cmdline="tick=0", labels={"a": "b"},
                restart=policy(attempts=7, backoff_max_ms=SOON))
    for count in (1, 2):
        kill_vmm(host, "one")
        wait_restarted(host, "one", count)
    host.create(id="two", cmdline="tick=0", restart=policy(backoff_ms=DAY, backoff_max_ms=DAY))
    kill_vmm(host, "two")
    two = host.wait_state("two", "crashed")
    wait_for(lambda: not any(":two" in line for line in host.residue()), what="its clear-up")
    one = host.get("one")
    again(host, sig)
    now = host.get("one")
    assert (now["state"], now["vmm"], now["restart"]) == ("running", one["vmm"], one["restart"])
    now = host.get("two")
    assert (now["state"], now["exit"], now["restart"]) == ("crashed", two["exit"], two["restart"])
    assert now["restart"]["next_at"]
    # The count goes on.
    kill_vmm(host, "one")
    assert wait_restarted(host, "one", 3)["restart"]["attempts_left"] == 4
    host.destroy("two")


@pytest.mark.standin
def test_one_that_is_due_when_nobody_is_there(host):
    """Its time comes, or its VMM or its shim ends, while no supervisor runs."""
    delay = policy(backoff_ms=500, backoff_max_ms=500)
    for box in ("due", "vmm", "shim", "off"):
        host.create(id=box, cmdline="tick=0",
                    restart=delay if box == "due" else policy() if box != "off" else None)
    pids = {b["id"]: b["vmm"]["pid"] for b in host.list()}
    shim, = host.shim_pids("admin:shim")
    kill_vmm(host, "due")
    host.wait_state("due", "crashed")
    host.stop(signal.SIGKILL)
    for pid in (pids["vmm"], pids["off"], shim):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in pids.values()), what="the end of all")
    host.start()
    for box, cause in (("due", "vmm-killed"), ("vmm", "vmm-killed"), ("shim", "shim-lost")):
        assert wait_restarted(host, box)["restart"]["last_exit"]["cause"] == cause
    assert host.wait_state("off", "crashed")["restart"] is None


@pytest.mark.standin
@pytest.mark.fs("ext4")
def test_supervisor_is_killed_in_mid_restart(disk_host):
    """Wherever it is then: the guest comes back, on the disk that it had."""
    host = disk_host
    base = diskmodel.make_image(host, "base", PIECES, SIZE)
    start(host, "one", [{"image": "base", "size_mib": 4}],
          restart=policy("always", backoff_max_ms=SOON))
    model = diskmodel.Model(base.data, 4)
    for turn in range(5):
        write_both(host, "one", 0, model, 20 * turn, 10, turn)
        kill_vmm(host, "one")
        count = host.get("one")["restart"]["count"]
        wait_for(lambda n=count: host.get("one")["restart"]["count"] > n, what="its restart")
        again(host, signal.SIGKILL)
        wait_for(lambda: host.get("one")["state"] == "running", 20, f"it again, turn {turn}")
        host.wait_console("one", "GUEST UP")
        check_file(host, "one", 0, model)
