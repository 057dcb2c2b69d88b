# SPDX-License-Identifier: Apache-2.0
"""Templates, clones, hibernate and wake of guests with disks.

The test keeps a model of every disk; every block of every disk is compared with it, from outside,
and the guest reads what it should.
"""
import contextlib
import os
import re
import shutil
import signal
import threading
import time

import pytest

import diskmodel
import filesystems
from diskmodel import (MIB, SECTOR, allocated, check_file, check_read, image_path, make_image,
                       path_of, write_both)
from harness import alive, wait_for
from test_disks import PIECES, SIZE, in_sandboxes, made_on, start
from test_sets import a_copy_of, left_behind, set_of
from test_snapshot import ask, checksum, drop_template, restore, snapshot

CLONES = 8
# Of what was there at first and what prepare() wrote; small, for guests read slowly.
PLACES = [(128, 4), (498, 4), (2048, 14), (4094, 4)]


def prepare(host, size_mib=4, **spec):
    """A guest with memory and a disk that were written to; gives (model, memory's checksum)."""
    base = make_image(host, "base", PIECES, SIZE)
    start(host, "src", [{"image": "base", "size_mib": size_mib},
                        {"image": "base", "readonly": True}], memory_mib=64, **spec)
    model = diskmodel.Model(base.data, size_mib)
    write_both(host, "src", 0, model, 500, 40, 50)
    write_both(host, "src", 0, model, 2050, 10, 51)
    assert ask(host, "src", "touch 2", r"TOUCHED (\d+)\n") == "2"
    return model, checksum(host, "src")


def set_disk(host, template):
    return os.path.join(set_of(host, template), "disk0")


def check_set(host, template, model):
    problem = model.differs(set_disk(host, template))
    assert problem is None, problem


def check_guest(host, box, model, memory):
    """What came of a set: its memory, its disk as it reads it, its disk from outside."""
    assert checksum(host, box) == memory
    check_file(host, box, 0, model)
    check_read(host, box, 0, model, PLACES)


def at_once(calls):
    """Runs them in threads; gives what each returned, or raises what one raised."""
    results = [None] * len(calls)

    def call(i):
        try:
            results[i] = calls[i]()
        except BaseException as error:  # handed to whoever waits
            results[i] = error
    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


# ------------------------------------------------------------------ the lifecycle


def write_apart(host, boxes, models):
    """Each writes where all do and where it alone does."""
    for i, box in enumerate(boxes):
        write_both(host, box, 0, models[box], 500, 30, 100 + i)
        write_both(host, box, 0, models[box], 4200 + 16 * i, 16, 200 + i)
    for box in boxes:
        check_file(host, box, 0, models[box])
        check_read(host, box, 0, models[box], [(498, 34), (4198, 16 * len(boxes) + 4)])


def test_clones_have_disks_of_their_own(disk_host, fs_kind):
    host = disk_host
    model, memory = prepare(host)
    made = snapshot(host, "src", "t1")
    assert [(d["id"], d["made"], d["readonly"]) for d in made["disks"]] == [
        ("disk0", made_on(fs_kind), False), ("disk1", "shared", True)]
    assert made["disks"][0]["size_mib"] == 4
    check_set(host, "t1", model)
    # The source goes on; the template stays as it was taken.
    later = model.copy()
    write_both(host, "src", 0, later, 0, 200, 60)
    check_file(host, "src", 0, later)
    boxes = [f"c{i}" for i in range(CLONES)]
    clones = at_once([lambda b=b, i=i: restore(host, b, "t1", ("auto", "copy")[i % 2])
                      for i, b in enumerate(boxes)])
    for clone in clones:
        assert [d["made"] for d in clone["disks"]] == [made_on(fs_kind), "shared"], clone
        assert clone["disks"][0]["image"] == "base" and clone["disks"][0]["size_mib"] == 4
    models = {box: model.copy() for box in boxes}
    for box in boxes:
        check_guest(host, box, models[box], memory)
    write_apart(host, boxes, models)
    check_set(host, "t1", model)
    # A chain: the parent's parent and its template go, the grandchildren do not notice.
    snapshot(host, "c0", "t2")
    drop_template(host, "t1")
    host.destroy("src")
    host.destroy("c0")
    restore(host, "d0", "t2")
    check_guest(host, "d0", models["c0"], memory)
    write_both(host, "d0", 0, models["c0"], 8000, 16, 70)
    snapshot(host, "d0", "t3")
    drop_template(host, "t2")
    host.destroy("d0")
    restore(host, "e0", "t3", "copy")
    check_guest(host, "e0", models["c0"], memory)
    drop_template(host, "t3")
    for box in boxes[1:]:
        check_file(host, box, 0, models[box])
    for box in host.list():
        host.destroy(box["id"])
    assert in_sandboxes(host) == [] and host.residue() == []


def test_hibernate_and_wake_keep_the_disk(disk_host):
    host = disk_host
    model, memory = prepare(host)
    place = path_of(host, "src", 0)
    inode = os.stat(place).st_ino
    for turn in range(3):
        box = host.act("src", "hibernate")
        assert box["state"] == "hibernated" and box["disks"][0]["size_mib"] == 4
        st = os.stat(place)
        assert (st.st_ino, st.st_uid, oct(st.st_mode & 0o777)) == (inode, 0, "0o600")
        assert not [n for n in os.listdir(set_of(host, "src", True)) if n.startswith("disk")]
        check_file(host, "src", 0, model)
        if turn == 1:
            host.stop()
            host.start()
            found = host.get("src")
            assert (found["state"], found["disks"]) == ("hibernated", box["disks"])
        box = host.act("src", "wake")
        assert box["state"] == "running"
        assert os.stat(place).st_uid == os.stat(f"/proc/{box['vmm']['pid']}").st_uid
        check_guest(host, "src", model, memory)
        write_both(host, "src", 0, model, 1000 + 10 * turn, 10, 80 + turn)
        ask(host, "src", f"touch {3 + turn}", r"TOUCHED (\d+)\n")
        memory = checksum(host, "src")
    check_file(host, "src", 0, model)
    # A template of one that was woken, and one that is paused.
    host.act("src", "pause")
    snapshot(host, "src", "t1")
    assert host.get("src")["state"] == "paused"
    restore(host, "clone", "t1")
    check_guest(host, "clone", model, memory)
    drop_template(host, "t1")


@pytest.mark.fs("ext4", "xfs")
def test_holes_stay_holes(disk_host):
    """However often it is cloned, a disk takes no more than what is on it."""
    host = disk_host
    make_image(host, "base", PIECES, SIZE)
    start(host, "src", [{"image": "base", "size_mib": 2048}])
    diskmodel.write(host, "src", 0, 2048 * 2048 - 8, 8, 52)
    diskmodel.flush(host, "src", 0)
    sizes = []
    host_room = filesystems.room(host.state_dir)
    box = "src"
    for turn in range(3):
        made = snapshot(host, box, f"t{turn}")
        sizes.append(allocated(set_disk(host, f"t{turn}")))
        assert os.stat(set_disk(host, f"t{turn}")).st_size == 2048 * MIB
        assert made["apparent_bytes"] > 2048 * MIB > made["allocated_bytes"]
        restore(host, f"c{turn}", f"t{turn}", "copy")
        box = f"c{turn}"
        assert diskmodel.read(host, box, 0, 2048 * 2048 - 8, 8) == diskmodel.checksum(
            diskmodel.pattern(2048 * 2048 - 8, 8, 52))
    assert max(sizes) < MIB and max(sizes) <= 1.1 * sizes[0], sizes
    assert host_room - filesystems.room(host.state_dir) < 100 * MIB
    for turn in range(3):
        drop_template(host, f"t{turn}")


# ------------------------------------------------------------------ memory and disk agree


@pytest.mark.fs("ext4")
def test_memory_and_disk_agree_amid_writes(disk_host, vmm_name):
    """One sector after another is written, each told when it is done; a template in the middle."""
    host = disk_host
    prepare(host)
    total = 120
    before = len(host.console("src"))
    done = lambda box, at=0: [int(n) for n in re.findall(
        r"DWRITE 0 (\d+) 1 OK", host.console(box)[at:])]
    host.send("src", "".join(f"dwrite 0 {4100 + n} 1 {n}\n" for n in range(total)))
    wait_for(lambda: len(done("src", before)) >= 10, what="the first writes")
    least = len(done("src", before))
    snapshot(host, "src", "t1")
    most = len(done("src", before)) + 1  # one may be written and not yet told
    with open(set_disk(host, "t1"), "rb") as f:
        f.seek(4100 * SECTOR)
        there = [f.read(SECTOR) == diskmodel.pattern(4100 + n, 1, n) for n in range(total)]
    written = there.index(False) if False in there else total
    assert not any(there[written:]) and least <= written <= most, (least, written, most)
    wait_for(lambda: len(done("src", before)) == total, 30, "all writes of the source")
    restore(host, "clone", "t1")
    if vmm_name == "ch" and written < total:
        # What the source was told is part of its UART's state: the clone goes on with it, where the
        # disk is. One that was under way may be done again.
        first = wait_for(lambda: done("clone"), 10, "what the clone has left to do")[0] - 4100
        assert written - 1 <= first <= written, (first, written)
    diskmodel.write(host, "clone", 0, 8000, 1, 7)
    drop_template(host, "t1")


# ------------------------------------------------------------------ a generation that was used


def crash(host, box):
    pid = host.get(box)["vmm"]["pid"]
    os.kill(pid, signal.SIGKILL)
    return host.wait_state(box, "crashed")


def refused_wake(host, box):
    problem = host.act(box, "wake", 409)
    assert "disk" in problem["detail"] and "destroy" in problem["detail"], problem
    assert host.get(box)["state"] == "crashed"


def restart(host, sig=signal.SIGTERM):
    host.stop(sig)
    host.start()


@pytest.mark.fs("xfs")
def test_a_used_generation_is_never_woken_again(disk_host):
    host = disk_host
    model, _memory = prepare(host)
    host.act("src", "hibernate")
    host.act("src", "wake")
    assert os.path.exists(os.path.join(set_of(host, "src", True), "used"))
    # Memory that fits no disk any more is not kept.
    left = set(os.listdir(set_of(host, "src", True)))
    assert left == {"config.json", "state.json", "meta", "used"}, left
    write_both(host, "src", 0, model, 0, 8, 90)
    crash(host, "src")
    refused_wake(host, "src")
    for sig in (signal.SIGTERM, signal.SIGKILL):
        restart(host, sig)
        box = host.get("src")
        assert box["state"] == "crashed" and box["exit"]["cause"] == "vmm-killed", box
        assert box["disks"][0]["size_mib"] == 4, box
        refused_wake(host, "src")
        check_file(host, "src", 0, model)  # kept for whoever wants to look
    # The supervisor is not trusted with it: the shim sees for itself. And it can be destroyed.
    assert host.destroy("src")["state"] in ("crashed", "destroying")
    assert in_sandboxes(host) == []


@pytest.mark.fs("xfs")
def test_a_new_generation_is_as_good_as_the_first(disk_host):
    """Hibernated again after a wake: the set that lies there is one that nobody has used."""
    host = disk_host
    model, memory = prepare(host)
    for turn in range(2):
        host.act("src", "hibernate")
        assert not os.path.exists(os.path.join(set_of(host, "src", True), "used"))
        restart(host, signal.SIGKILL)
        host.wait_state("src", "hibernated")
        host.act("src", "wake")
        check_guest(host, "src", model, memory)
        write_both(host, "src", 0, model, 10 * turn, 10, 91 + turn)
    # Everything dies at once, as with the host: what was used is used.
    shims = host.shim_pids()
    host.stop(signal.SIGKILL)
    for pid in shims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in shims) and not host.cgroup_is_used("admin:src"),
             what="the end of all")
    host.start()
    host.wait_state("src", "crashed")
    refused_wake(host, "src")
    host.destroy("src")
    assert in_sandboxes(host) == []


@pytest.mark.fs("ext4")
@pytest.mark.standin
def test_one_without_a_shim_is_shown_until_it_is_destroyed(disk_host):
    """It never hibernated: after a restart, and without its record, its disks are all there is."""
    host = disk_host
    model, _memory = prepare(host)
    crash(host, "src")
    assert host.act("src", "wake", 409)["status"] == 409
    host.stop()
    os.unlink(os.path.join(host.state_dir, "store", "admin:src.json"))
    host.start()
    box = host.get("src")
    assert (box["state"], box["exit"]["cause"]) == ("crashed", "shim-lost"), box
    assert "disk" in box["exit"]["detail"], box
    check_file(host, "src", 0, model)
    assert host.act("src", "wake", 409)["status"] == 409
    assert host.api("POST", "/v1/sandboxes", {"id": "src", "kernel": "tiny",
                                              "memory_mib": 32}).status == 409
    host.destroy("src")
    assert in_sandboxes(host) == []
    start(host, "src", [{"image": "base"}])


# ------------------------------------------------------------------ damage


def touch(path):
    os.utime(path, ns=(time.time_ns(), time.time_ns()))


def cut(path):
    os.truncate(path, os.stat(path).st_size - SECTOR)


def replace(path):
    """With one that is as long, of another time."""
    size = os.stat(path).st_size
    os.unlink(path)
    with open(path, "xb") as f:
        f.truncate(size)
    os.chmod(path, 0o444 if os.path.basename(path) == "disk0" else 0o600)


def become_link(path):
    os.rename(path, path + ".away")
    os.symlink(os.path.basename(path) + ".away", path)


DISK_DAMAGES = {
    "truncated": (cut, "bytes"),
    "lengthened": (lambda p: os.truncate(p, os.stat(p).st_size + SECTOR), "bytes"),
    "touched": (touch, "modified"),
    "replaced": (replace, "modified"),
    "hard link": (lambda p: os.link(p, p + ".too"), "links"),
    "symlink": (become_link, ""),
    "missing": (os.unlink, "missing"),
    "owner": (lambda p: os.chown(p, 12345, 0), "owned by uid 12345"),
    "mode": (lambda p: os.chmod(p, 0o666), "mode"),
}


@pytest.mark.fs("ext4")
def test_nothing_starts_from_a_damaged_disk(disk_host):
    host = disk_host
    model, memory = prepare(host)
    snapshot(host, "src", "t1")
    host.destroy("src")
    for name, (damage, word) in DISK_DAMAGES.items():
        with a_copy_of(set_of(host, "t1")):
            damage(set_disk(host, "t1"))
            problem = restore(host, "bad", "t1", expect=500)
            assert "admin:t1" in problem["detail"] and "disk0" in problem["detail"], (name, problem)
            assert word in problem["detail"], (name, problem)
            assert left_behind(host) == [] and in_sandboxes(host) == [], name
    restore(host, "good", "t1")
    check_guest(host, "good", model, memory)
    drop_template(host, "t1")


@pytest.mark.fs("ext4")
def test_no_sandbox_wakes_with_a_damaged_disk(disk_host):
    host = disk_host
    model, memory = prepare(host)
    host.act("src", "hibernate")
    directory = os.path.dirname(path_of(host, "src", 0))
    for name, (damage, word) in DISK_DAMAGES.items():
        with a_copy_of(directory):
            damage(path_of(host, "src", 0))
            before = time.monotonic()
            problem = host.act("src", "wake", 500)
            assert time.monotonic() - before < 5, (name, "the clearing up takes its time")
            assert "admin:src" in problem["detail"], (name, problem)
            # Another length is another file, as another time is.
            words = (word, "modified", "ENOENT")
            assert any(w in problem["detail"] for w in words), (name, problem)
            assert host.get("src")["state"] == "hibernated", name
            assert left_behind(host) == [], name
    host.act("src", "wake")
    check_guest(host, "src", model, memory)


@contextlib.contextmanager
def kept_aside(path):
    os.rename(path, path + ".kept")
    try:
        yield path + ".kept"
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.rename(path + ".kept", path)


@pytest.mark.fs("xfs")
def test_a_shared_image_must_be_the_one_it_was(disk_host):
    """The guest has parts of it in its memory: with another one they would not fit."""
    host = disk_host
    model, memory = prepare(host)
    snapshot(host, "src", "t1")
    host.act("src", "hibernate")
    place = image_path(host, "base")

    def refused():
        for answer in (host.api("POST", "/v1/sandboxes", {"id": "bad", "template": "t1"}),
                       host.api("POST", "/v1/sandboxes/src/wake")):
            assert answer.status in (409, 422, 500), answer
            assert "base" in answer.json["detail"], answer
        assert host.get("src")["state"] == "hibernated" and left_behind(host) == []

    with kept_aside(place) as old:
        refused()  # there is none
        shutil.copyfile(old, place)
        os.chmod(place, 0o444)
        refused()  # it has the same bytes, but who knows
    restore(host, "good", "t1")
    check_guest(host, "good", model, memory)
    host.act("src", "wake")
    check_guest(host, "src", model, memory)
    drop_template(host, "t1")
