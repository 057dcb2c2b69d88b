# SPDX-License-Identifier: Apache-2.0
"""No room for disks, and a host that crashes: who is told, who goes on, what is found then."""
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest

import diskmodel
import filesystems
from conftest import need
from diskmodel import MIB, check_file, check_read, make_image, path_of, write_both
from harness import alive, wait_for
from test_disk_sets import check_guest, prepare, set_disk
from test_disks import PIECES, SIZE, in_sandboxes, start, try_to_create
from test_sets import staging, templates
from test_snapshot import ask, checksum, drop_template, restore, snapshot


@contextlib.contextmanager
def host_on(make_disk_host, point, **options):
    """A host on a file system that goes afterwards; what it leaves there is looked for before."""
    host = make_disk_host(state_root=point, **options)
    try:
        yield host
        for box in host.list():
            host.destroy(box["id"])
        for name in templates(host):
            drop_template(host, name.split(":")[1])
        assert host.residue() == []
    finally:
        if host.daemon and host.daemon.poll() is None:
            host.stop()


def fill_up(host, leave):
    """Takes the room but for so many bytes; gives the file to remove."""
    path = os.path.join(host.state_dir, "filler")
    with open(path, "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while filesystems.room(host.state_dir) > leave:
                f.write(bytes(min(MIB, max(4096, filesystems.room(host.state_dir) - leave))))
    return path


# ------------------------------------------------------------------ no room while a guest writes


@pytest.mark.fs("ext4", only=True)
def test_a_guest_finds_the_disk_full(make_disk_host, fs_kind):
    """It gets I/O errors, and it alone: others go on where they have blocks, and it too, later."""
    with filesystems.mounts().small(fs_kind, 48) as (point, _image), \
            host_on(make_disk_host, point) as host:
        base = make_image(host, "base", PIECES, SIZE)
        models = {}
        for box in ("greedy", "other"):
            start(host, box, [{"image": "base", "size_mib": 128}])
            models[box] = diskmodel.Model(base.data, 128)
            write_both(host, box, 0, models[box], 8192, 256, 3)
            diskmodel.flush(host, box, 0)
        events = host.events()
        filler = fill_up(host, MIB // 2)
        at = 16384 + 128
        write_both(host, "greedy", 0, models["greedy"], 16384, 128, 4)
        while diskmodel.tell(host, "greedy", f"dwrite 0 {at} 128 4",
                             rf"DWRITE 0 {at} 128 (OK|ERR)").group(1) == "OK":
            models["greedy"].write(at, 128, 4)
            at += 128
            assert at < 16384 + 16 * 2048, "it never was full"
        told = events.wait(event="disk-full", sandbox="greedy")
        assert told["count"] >= 1
        assert not any(e["event"] == "disk-full" and e["sandbox"] == "other" for e in events.seen)
        assert {b["id"]: b["state"] for b in host.list()} == {"greedy": "running",
                                                              "other": "running"}
        # What was written is read; where there are blocks, both can write.
        for box in ("greedy", "other"):
            write_both(host, box, 0, models[box], 8200, 200, 5)
            check_read(host, box, 0, models[box], [(8192, 256)])
        check_read(host, "greedy", 0, models["greedy"], [(16384, 64), (0, 100)])
        os.unlink(filler)
        # Again the last one that was told to be whole: CH v53 takes a short write for a whole one.
        write_both(host, "greedy", 0, models["greedy"], at - 128, 512, 6)
        diskmodel.flush(host, "greedy", 0)
        check_read(host, "greedy", 0, models["greedy"], [(at, 128)])
        check_file(host, "greedy", 0, models["greedy"])
        check_file(host, "other", 0, models["other"])


@pytest.mark.fs("ext4")
@pytest.mark.standin
def test_what_a_full_disk_is_told_by(disk_host):
    """The VMM's word for it; that of a failing disk is another one."""
    host = disk_host
    make_image(host, "base", PIECES, SIZE)
    events = host.events()
    for error, told in (("eio", 0), ("enospc", 1), ("edquot", 1)):
        host.create(id=error, cmdline=f"tick=0 standin:disk={error}@2", disks=[{"image": "base"}])
        host.wait_console(error, "GUEST UP")
        diskmodel.write(host, error, 0, 0, 1, 1)
        diskmodel.write(host, error, 0, 1, 1, 1, want="ERR")
        diskmodel.write(host, error, 0, 2, 1, 1)
        if told:
            assert events.wait(event="disk-full", sandbox=error)["count"] == 1
        host.destroy(error)
        assert len([e for e in events.seen if e["event"] == "disk-full"
                    and e["sandbox"] == error]) == told


# ------------------------------------------------------------------ no room for what we make


def no_room(answer):
    assert answer.status == 507 and "ENOSPC" in answer.json["detail"], answer


def goes_on(host, box, model, memory):
    assert host.get(box)["state"] == "running"
    assert staging(host) == [] and "admin:t1" not in templates(host)
    check_guest(host, box, model, memory)


@pytest.mark.fs("ext4", only=True)
def test_no_room_for_copies(make_disk_host, fs_kind):
    with filesystems.mounts().small(fs_kind, 48) as (point, _image), \
            host_on(make_disk_host, point) as host:
        model, memory = prepare(host, 16)
        write_both(host, "src", 0, model, 16384, 600, 8)
        with open(os.path.join(host.state_dir, "images", "disks", "dense"), "wb") as f:
            f.write(os.urandom(8 * MIB))
            os.fchmod(f.fileno(), 0o444)
        before = in_sandboxes(host)
        filler = fill_up(host, 4 * MIB)
        for disks in ([{"image": "dense"}], [{"image": "base"}, {"image": "dense"}]):
            no_room(try_to_create(host, disks=disks))
            assert in_sandboxes(host) == before
        os.unlink(filler)
        filler = fill_up(host, MIB)
        no_room(host.api("POST", "/v1/sandboxes/src/snapshot", {"template": "t1"}))
        goes_on(host, "src", model, memory)
        no_room(host.api("POST", "/v1/sandboxes/src/hibernate"))
        goes_on(host, "src", model, memory)
        assert in_sandboxes(host) == before
        os.unlink(filler)
        # With room, all of it works.
        snapshot(host, "src", "t1")
        filler = fill_up(host, MIB)
        no_room(host.api("POST", "/v1/sandboxes", {"id": "clone", "template": "t1"}))
        os.unlink(filler)
        restore(host, "clone", "t1")
        check_guest(host, "clone", model, memory)
        host.act("src", "hibernate")
        host.act("src", "wake")
        check_guest(host, "src", model, memory)


# ------------------------------------------------------------------ a crash of the host


class CrashingHost:
    """
    A host whose file system lies on a loop device whose image lies on xfs: a clone of the image is
    the disk as it was at that moment. A crash is the end of all processes, and a mount of a clone.
    """

    def __init__(self, make_disk_host, kind, where):
        self.mounts, self.kind = filesystems.mounts(), kind
        self.image = self.mounted = self.mounts.make(kind, 64, where)
        self.point = self.mounts.mount(self.image)
        self.host = make_disk_host(state_root=self.point)
        self.clones = []

    def settle(self):
        """All that was done so far is on the disk."""
        subprocess.run(["sync", "-f", self.point], check=True)

    def clone(self):
        path = f"{self.image}.{len(self.clones)}"
        filesystems.clone(self.image, path)
        self.clones.append(path)
        return path

    def during(self, call, begun, points=3, gap=0.004):
        """Clones at some moments of the call, the first as soon as begun() says so; its answer."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(call()))
        thread.start()
        end = time.monotonic() + 20
        while not begun() and not answers:
            assert time.monotonic() < end
        for _ in range(points):
            if answers:
                break
            self.clone()
            time.sleep(gap)
        thread.join()
        return answers[0]

    def end_all(self):
        host = self.host
        shims = host.shim_pids()
        spawners = host.spawner_pids()
        host.daemon.kill()
        host.daemon.wait(10)
        for pid in shims + spawners:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(p) for p in shims + spawners) and not host.vmm_pids(),
                 what="the end of all")

    def crash_to(self, clone):
        """The host as it comes up after a crash at the moment of that clone."""
        self.end_all()
        self.mounts.umount(self.point)
        wait_for(lambda: self.mounts.has_gone(self.mounted), 10, "the unmounting")
        self.mounts.mount(clone, self.point)
        self.mounted = clone
        self.boot_anew()
        self.host.start()

    def boot_anew(self):
        """A host that comes up has another boot id than its records have."""
        store = os.path.join(self.host.state_dir, "store")
        for name in self.host.records():
            with open(os.path.join(store, name), "r+b") as f:
                head, body = f.read().split(b"\n", 1)
                if len(body) != int(head.split()[3]):
                    continue  # it is damaged
                body = re.sub(rb'"boot":"[^"]*"', b'"boot":"an-earlier-one"', body)
                f.seek(0)
                f.truncate()
                f.write(b"cloister-store 1 %s %d\n%s" % (
                    hashlib.sha256(body).hexdigest().encode(), len(body), body))

    def close(self):
        if self.host.daemon.poll() is None:
            self.host.stop()
        with contextlib.suppress(subprocess.CalledProcessError):
            self.mounts.umount(self.point)
        os.rmdir(self.point)
        for path in [self.image, *self.clones]:
            os.unlink(path)


@pytest.fixture
def crashing(make_disk_host, fs_kind, fs):
    need("xfs")
    made = CrashingHost(make_disk_host, fs_kind, filesystems.mounts().get("xfs"))
    yield made
    made.close()


def lost_sandbox(host, model, older=None):
    """Nobody runs; what the guest flushed is there, for whoever wants to look."""
    found = host.wait_state("src", "crashed")
    assert found["exit"]["cause"] == "shim-lost", found
    assert model.differs(path_of(host, "src", 0), older) is None
    assert host.act("src", "wake", 409)["status"] == 409
    assert staging(host) == []


def test_a_crash_in_mid_snapshot(crashing):
    """A template is whole, with all that was flushed before it, or it is not there."""
    host = crashing.host
    model, _memory = prepare(host)
    ask(host, "src", "touch 16", r"TOUCHED (\d+)\n")
    memory = checksum(host, "src")
    crashing.settle()
    write_both(host, "src", 0, model, 6000, 300, 21)
    diskmodel.flush(host, "src", 0)
    answer = crashing.during(lambda: host.api("POST", "/v1/sandboxes/src/snapshot",
                                              {"template": "t1"}), lambda: staging(host))
    assert answer.status == 201, answer
    last = crashing.clone()
    found = {}
    for path in crashing.clones:
        crashing.crash_to(path)
        lost_sandbox(host, model)
        known = [t["name"] for t in host.api("GET", "/v1/templates").json["templates"]]
        assert templates(host) == [f"admin:{n}" for n in known]
        found[path] = known
        if known:
            assert model.differs(set_disk(host, "t1")) is None
            restore(host, "clone", "t1")
            check_guest(host, "clone", model, memory)
            host.destroy("clone")
            drop_template(host, "t1")
        host.destroy("src")
        assert host.residue() == []
    # What was answered is there.
    assert found[last] == ["t1"], found


@pytest.mark.fs("ext4")
def test_a_crash_in_mid_hibernate_and_wake(crashing):
    host = crashing.host
    model, _memory = prepare(host)
    host.act("src", "hibernate")
    host.act("src", "wake")
    ask(host, "src", "touch 16", r"TOUCHED (\d+)\n")
    memory = checksum(host, "src")
    write_both(host, "src", 0, model, 6000, 300, 22)
    diskmodel.flush(host, "src", 0)
    crashing.settle()
    # Not flushed by the guest: that it is there when it wakes is for the hibernation to see to.
    flushed = model.copy()
    write_both(host, "src", 0, model, 7000, 100, 23)
    answer = crashing.during(lambda: host.api("POST", "/v1/sandboxes/src/hibernate"),
                             lambda: staging(host), 2)
    assert answer.status == 200, answer
    asleep = crashing.clone()
    host.act("src", "wake")
    woken = crashing.clone()
    for path in crashing.clones:
        crashing.crash_to(path)
        box = wait_for(lambda: host.get("src"), what="it")
        assert box["state"] == ("hibernated" if path == asleep else "crashed" if path == woken
                                else box["state"]), (path, crashing.clones, box)
        # Its older set was used, and the newer one is whole or not there.
        if box["state"] == "hibernated":
            host.act("src", "wake")
            check_guest(host, "src", model, memory)
        else:
            lost_sandbox(host, model, None if path == woken else flushed)
        host.destroy("src")
        assert host.residue() == []


@pytest.mark.fs("xfs")
@pytest.mark.standin
def test_a_crash_while_disks_are_made(crashing):
    """Nothing that is half made is taken for a disk; all of it can be removed."""
    host = crashing.host
    make_image(host, "base", PIECES, SIZE)
    crashing.settle()
    answer = crashing.during(
        lambda: try_to_create(host, disks=[{"image": "base", "size_mib": n + 3} for n in range(8)]),
        lambda: in_sandboxes(host), 2, 0.001)
    assert answer.status == 201, answer
    crashing.clone()
    for path in crashing.clones:
        crashing.crash_to(path)
        for box in host.list():
            assert box["state"] == "crashed", box
            assert host.act(box["id"], "wake", 409)["status"] == 409
            host.destroy(box["id"])
        assert in_sandboxes(host) == [] and host.residue() == []
        assert try_to_create(host, disks=[{"image": "base"}]).status == 201
        host.destroy("bad")


@pytest.mark.fs("ext4", "xfs", only=True)
@pytest.mark.standin
def test_what_was_answered_is_on_the_disk(crashing):
    """Whatever the host's next words are: what a client was told is so when it comes up again."""
    host = crashing.host
    labels = {"team": "x"}
    crashing.settle()
    moments = {}
    assert try_to_create(host, id="one", labels=labels).status == 201
    moments[crashing.clone()] = ("crashed", labels)
    host.act("one", "hibernate")
    moments[crashing.clone()] = ("hibernated", labels)
    host.destroy("one")
    moments[crashing.clone()] = None
    assert try_to_create(host, id="one").status == 201
    os.kill(host.get("one")["vmm"]["pid"], signal.SIGKILL)
    host.wait_state("one", "crashed")
    wait_for(lambda: not host.shim_pids(), what="the end of its shim")
    moments[crashing.clone()] = ("crashed", {})
    causes = []
    for path, want in moments.items():
        crashing.crash_to(path)
        found = host.list()
        assert [(b["state"], b["labels"]) for b in found] == ([want] if want else []), path
        assert not os.path.exists(os.path.join(host.state_dir, "store", "bad"))
        causes += [b["exit"]["cause"] for b in found if b["exit"]]
        for box in found:
            host.destroy(box["id"])
    # The shim of the last one was let go, so its end was on the disk.
    assert causes == ["shim-lost", "vmm-killed"], causes
