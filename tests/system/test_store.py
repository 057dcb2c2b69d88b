# SPDX-License-Identifier: Apache-2.0
"""What cloisterd knows of sandboxes outlives it, and no damage to that knowledge stops anything."""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading

import pytest

import harness
from harness import alive, wait_for

LABELS = {"team": "web", "odd": "a \\ and a \" and = all"}
# Of a record alone; a shim or a set tells the rest.
KEPT = ("id", "tenant", "created_at", "labels", "template", "kernel", "cmdline", "vcpus",
        "memory_mib", "exit", "state")


def kept(box):
    return {key: box[key] for key in KEPT}


def read(host, key):
    """(version, JSON) of a record that is whole."""
    with open(host.record_path(key), "rb") as f:
        head, body = f.read().split(b"\n", 1)
    name, version, digest, length = head.split()
    assert (name, digest, length) == (b"cloister-store", hashlib.sha256(body).hexdigest().encode(),
                                      str(len(body)).encode()), head
    return int(version), json.loads(body)


def recorded(host, key, state):
    """Changes of a live VM are written a little later."""
    def there():
        try:
            return read(host, key)[1]["state"] == state
        except FileNotFoundError:
            return False
    wait_for(there, what=f"record {key} in state {state}")


def store(host):
    return os.path.join(host.state_dir, "store")


def bad(host):
    path = os.path.join(store(host), "bad")
    return sorted(os.listdir(path)) if os.path.exists(path) else []


def end_of(host, boxes):
    """Ends their shims while no supervisor runs, and with them their VMMs."""
    shims = [p for box in boxes for p in host.shim_pids(f"{box['tenant']}:{box['id']}")]
    for pid in shims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in shims + [b["vmm"]["pid"] for b in boxes]),
             what="the end of shims and VMMs")


def replay(host, **want):
    return host.events("?since=0").wait(**want)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_known_survives(host, sig):
    before = {}
    host.create(id="runs", labels=LABELS, cmdline="tick=20", vcpus=2)
    host.create(id="rests", labels={"a": "b"})
    host.create(id="off", labels=LABELS)
    host.create(id="dead", labels={"c": "d"})
    host.act("rests", "pause")
    host.wait_console("off", "GUEST UP")
    host.send("off", "poweroff\n")
    host.wait_state("off", "stopped")
    os.kill(host.get("dead")["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("dead", "crashed")
    recorded(host, "admin:dead", "crashed")
    recorded(host, "admin:off", "stopped")
    before = {box["id"]: box for box in host.list()}
    assert len(before) == 4 and read(host, "admin:runs")[0] == 1
    for _ in range(2):
        host.stop(sig)
        host.start()
        after = {box["id"]: box for box in host.list()}
        assert {i: kept(b) for i, b in after.items()} == {i: kept(b) for i, b in before.items()}
        assert after["runs"]["vmm"] == before["runs"]["vmm"]
        assert after["dead"]["exit"]["cause"] == "vmm-killed"
        assert after["off"]["exit"]["cause"] == "guest-shutdown"
    # The quota still counts the dead, and their names are taken.
    assert "dead" in host.create(expect=409, id="dead")["detail"]
    assert [b["id"] for b in host.api("GET", "/v1/sandboxes?label=c=d").json["sandboxes"]] == ["dead"]
    for box in before:
        host.destroy(box)
    host.stop(sig)
    host.start()
    assert host.list() == [] and host.records() == []


@pytest.mark.standin
def test_a_failed_create_is_still_there_to_be_asked_for(host):
    answer = host.api("POST", "/v1/sandboxes?wait=none",
                      {"kernel": "tiny", "memory_mib": 32, "id": "one", "labels": LABELS,
                       "cmdline": "standin:vm.boot=error:The_moon_is_red"})
    assert answer.status == 202
    before = host.wait_state("one", "failed")
    recorded(host, "admin:one", "failed")
    assert "The moon is red" in before["exit"]["detail"]
    host.stop(signal.SIGKILL)
    host.start()
    assert kept(host.get("one")) == kept(before)
    # One whose client waited was told, and is not.
    assert host.create(expect=502, id="two", cmdline="standin:vm.boot=error:no")
    assert host.records() == ["admin:one.json"]


@pytest.mark.standin
def test_modes_of_what_is_stored(host):
    host.create(id="one")
    directory, record = os.stat(store(host)), os.stat(host.record_path("admin:one"))
    assert (directory.st_uid, directory.st_mode & 0o7777) == (harness.USER_UID, 0o700)
    assert (record.st_uid, record.st_mode & 0o7777) == (harness.USER_UID, 0o600)
    assert host.records() == ["admin:one.json"]
    assert os.listdir(store(host)) == ["admin:one.json"]


# ------------------------------------------------------------------ lost while nobody looked


@pytest.mark.standin
def test_a_vm_that_ended_unseen(host):
    boxes = [host.create(id="one", labels=LABELS), host.create(id="two", labels={})]
    host.stop(signal.SIGKILL)
    end_of(host, boxes[:1])
    host.start()
    one, two = host.get("one"), host.get("two")
    assert (one["state"], one["exit"]["cause"], one["labels"]) == ("crashed", "shim-lost", LABELS)
    assert one["created_at"] == boxes[0]["created_at"] and one["vmm"] is None
    assert two["state"] == "running" and two["vmm"] == boxes[1]["vmm"]
    events = host.events("?since=0")
    events.wait(sandbox="one", event="state", to="crashed", reason="shim-lost")
    events.wait(sandbox="two", event="adopted")
    assert [e["to"] for e in events.seen if e["sandbox"] == "one" and e["event"] == "state"] == \
        ["crashed"]


@pytest.mark.standin
def test_a_create_that_nobody_was_told_of(host):
    """Its client waited, and its shim failed after the supervisor had gone."""
    order = "standin:vm.boot=delay:300 standin:vm.boot=error:no"

    def create():
        try:
            host.create(id="one", cmdline=order)
        except (OSError, harness.http.client.HTTPException):
            pass
    client = threading.Thread(target=create)
    client.start()
    wait_for(host.vmm_pids, what="a VMM")
    host.stop(signal.SIGKILL)
    client.join()
    assert host.records() == ["admin:one.creating"]
    wait_for(lambda: not host.shim_pids(), what="the shim's end")
    host.start()
    wait_for(lambda: host.list() == [] and host.records() == [], what="nothing of it")
    host.create(id="one")


@pytest.mark.standin
def test_a_destroy_goes_on(host):
    boxes = [host.create(id="deaf", cmdline="tick=0"),
             host.create(id="gone")]
    clients = [threading.Thread(target=lambda i=b["id"]: host.api(
        "DELETE", f"/v1/sandboxes/{i}?grace_s=2")) for b in boxes]
    threading.excepthook, old = lambda _: None, threading.excepthook
    try:
        for client in clients:
            client.start()
        for box in boxes:
            recorded(host, f"admin:{box['id']}", "destroying")
        host.stop(signal.SIGKILL)
        for client in clients:
            client.join()
    finally:
        threading.excepthook = old
    end_of(host, boxes[1:])
    host.start()
    wait_for(lambda: host.list() == [], 15, "the end of both")
    assert host.records() == [] and host.residue() == []


# ------------------------------------------------------------------ damage


def flip(path):
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        data[-20] ^= 4
        f.seek(0)
        f.write(data)


def grow(path):
    with open(path, "ab") as f:
        f.write(b" " * (1 << 20))


def swap_for_link(path):
    os.rename(path, path + ".elsewhere")
    os.symlink(path + ".elsewhere", path)


def swap_for_directory(path):
    os.unlink(path)
    os.mkdir(path)
    os.chown(path, harness.USER_UID, harness.USER_UID)


@pytest.mark.standin
@pytest.mark.parametrize("damage", [
    flip, grow, swap_for_link, swap_for_directory, lambda p: os.truncate(p, 0),
    lambda p: os.truncate(p, os.stat(p).st_size - 1),
    lambda p: shutil.copyfile(os.path.join(os.path.dirname(p), "admin:other.json"), p), os.mkfifo],
    ids=["flip", "grow", "link", "directory", "empty", "short", "another's", "fifo"])
def test_damaged_records(host, damage):
    boxes = [host.create(id=i, labels=LABELS) for i in ("dead", "live", "other")]
    host.stop(signal.SIGKILL)
    end_of(host, boxes[:1])
    for box in boxes[:2]:
        path = host.record_path(f"admin:{box['id']}")
        if damage is os.mkfifo:
            os.unlink(path)
        damage(path)
    host.start()
    assert bad(host) == ["admin:dead.json.1", "admin:live.json.1"]
    # What nothing else is known of is not there; the name is free. The others are not touched.
    found = {b["id"]: b for b in host.list()}
    assert sorted(found) == ["live", "other"]
    assert found["live"]["vmm"] == boxes[1]["vmm"] and found["live"]["labels"] == {}
    assert kept(found["other"]) == kept(boxes[2])
    event = replay(host, event="reported", sandbox="dead", tenant="admin")
    assert "bad/admin:dead.json.1" in event["reason"], event
    host.create(id="dead", labels={"new": "one"})
    # It has a record again, and what was put aside stays.
    recorded(host, "admin:live", "running")
    host.stop(signal.SIGKILL)
    host.start()
    assert len(host.list()) == 3 and len(bad(host)) == 2
    assert host.get("dead")["labels"] == {"new": "one"}
    for name in os.listdir(store(host)):
        if name.endswith(".elsewhere"):
            os.unlink(os.path.join(store(host), name))


@pytest.mark.standin
def test_no_store_at_all(host):
    boxes = [host.create(id=f"box{i}", labels=LABELS) for i in range(2)]
    host.stop(signal.SIGKILL)
    shutil.rmtree(store(host))
    host.start()
    found = host.list()
    assert sorted(b["id"] for b in found) == ["box0", "box1"]
    assert all(b["state"] == "running" and b["labels"] == {} for b in found)
    for box in boxes:
        recorded(host, f"admin:{box['id']}", "running")


@pytest.mark.standin
def test_records_of_a_later_version(host):
    """Whoever tries an older version loses nothing by it."""
    boxes = [host.create(id=i, labels=LABELS) for i in ("gone", "here")]
    host.stop(signal.SIGKILL)
    end_of(host, boxes[:1])
    texts = {}
    for box in boxes:
        path = host.record_path(f"admin:{box['id']}")
        with open(path, "r+b") as f:
            texts[path] = f.read()
            f.seek(len(b"cloister-store "))
            f.write(b"2")
    host.start()
    assert [b["id"] for b in host.list()] == ["here"] and bad(host) == []
    assert replay(host, event="reported", sandbox="gone")["reason"]
    assert "gone" in host.create(expect=409, id="gone")["detail"]
    for action in ("pause", "resume"):
        host.act("here", action)
    host.stop()
    for path, text in texts.items():
        with open(path, "r+b") as f:
            assert f.read() == text.replace(b"store 1", b"store 2")
            f.seek(0)
            f.write(text)
    host.start()
    assert host.get("gone")["state"] == "crashed" and host.get("gone")["labels"] == LABELS
    assert host.get("here")["labels"] == LABELS


# ------------------------------------------------------------------ no room


@pytest.fixture
def small_store(make_host, vmm):
    """A host whose store is on a file system of its own, which can be filled up."""
    host = make_host(start=False)
    host.start()
    host.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "store", store(host)],
                   check=True)
    try:
        yield host.start()
        for box in host.list():
            host.destroy(box["id"])
        host.stop()
    finally:
        subprocess.run(["umount", "--lazy", store(host)], check=True)


def fill_up(host):
    with open(os.path.join(store(host), "ballast"), "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


@pytest.mark.standin
def test_a_store_without_room(small_store):
    host = small_store
    host.create(id="live", labels=LABELS)
    recorded(host, "admin:live", "running")
    fill_up(host)
    problem = host.create(expect=507, id="more")
    assert "record of admin:more" in problem["detail"] and "STATE_DIR/store" in problem["detail"]
    assert host.records() == ["admin:live.json"] and [b["id"] for b in host.list()] == ["live"]
    wait_for(lambda: len(host.shim_pids()) == 1, what="nothing of its shim")
    # The one that runs goes on, and so does what is done to it.
    for action in ("pause", "resume", "pause"):
        host.act("live", action)
    os.kill(host.get("live")["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("live", "crashed")
    wait_for(lambda: not host.shim_pids(), what="the end of its shim, recorded or not")
    said = [line for line in host.log().splitlines() if "is tried again every second" in line]
    assert len(said) == 1 and "ENOSPC" in said[0], said
    os.unlink(os.path.join(store(host), "ballast"))
    recorded(host, "admin:live", "crashed")
    assert "can be written again" in host.log()
    host.stop(signal.SIGKILL)
    host.start()
    assert host.get("live")["exit"]["cause"] == "vmm-killed"
    # To destroy takes no room.
    fill_up(host)
    host.destroy("live")
    assert host.records() == []
    os.unlink(os.path.join(store(host), "ballast"))
    host.create(id="more")


# ------------------------------------------------------------------ whenever it ends


@pytest.mark.standin
def test_killed_at_any_moment(host):
    """Clients are told things while it dies: what they were told is so afterwards."""
    rng = random.Random(8)
    alive_ids, unknown = set(), set()
    lock = threading.Lock()

    def client(number, stop):
        mine = []
        try:
            while not stop.is_set():
                box = f"c{number}-{rng.randrange(1 << 30)}"
                with lock:
                    unknown.add(box)
                host.create(id=box, labels={"of": box})
                with lock:
                    unknown.discard(box)
                    alive_ids.add(box)
                mine.append(box)
                host.act(box, "pause")
                if len(mine) > 2:
                    victim = mine.pop(0)
                    with lock:
                        unknown.add(victim)
                        alive_ids.discard(victim)
                    host.destroy(victim)
                    with lock:
                        unknown.discard(victim)
        except (OSError, harness.http.client.HTTPException):
            pass  # it died

    for _ in range(6):
        stop = threading.Event()
        clients = [threading.Thread(target=client, args=(n, stop)) for n in range(3)]
        told = len(alive_ids)
        for one in clients:
            one.start()
        wait_for(lambda: len(alive_ids) >= told + rng.randrange(2, 6), 20, "some creates")
        host.daemon.kill()
        stop.set()
        for one in clients:
            one.join()
        host.stop(signal.SIGKILL)
        host.start()
        assert bad(host) == []
        wait_for(lambda: not [b for b in host.list() if b["state"] in ("destroying", "creating")],
                 20, "the end of what was under way")
        found = {b["id"]: b for b in host.list()}
        assert alive_ids <= set(found) and set(found) - alive_ids <= unknown
        for name, box in found.items():
            # Of one that nobody was told of, not even a record may have been made.
            assert box["labels"] == {"of": name} or name in unknown and box["labels"] == {}, box
            assert box["state"] in ("running", "paused"), box
        for box in found:
            host.destroy(box)
        alive_ids.clear()
        unknown.clear()
        assert host.records() == []
