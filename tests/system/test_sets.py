# SPDX-License-Identifier: Apache-2.0
"""Snapshot sets that are damaged, and faults while they are written: what the client is told, that
nothing starts from a damaged one, that no older set is lost, and that nothing half-made stays."""
import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import alive, wait_for
from test_snapshot import ask, checksum, drop_template, prepare, restore, snapshot
from test_snapshot import host as preloaded_host

_ = preloaded_host
MIB = 1 << 20
PARTS = ("config.json", "state.json", "ram", "meta")
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(name="host")
def fixture_host(preloaded_host):
    return preloaded_host


def templates(host):
    return sorted(os.listdir(os.path.join(host.state_dir, "templates")))


def set_of(host, name, hibernated=False):
    if hibernated:
        return os.path.join(host.state_dir, "sandboxes", f"admin:{name}", "set")
    return os.path.join(host.state_dir, "templates", f"admin:{name}")


def staging(host):
    found = []
    for path, dirs, _files in os.walk(host.state_dir):
        found += [os.path.join(path, d) for d in dirs if d.startswith(".new-")]
    return found


def left_behind(host):
    """The residue, but for the sets themselves."""
    return [r for r in host.residue() if not r.startswith(host.state_dir)] + staging(host)


def allocated(directory):
    return sum(os.stat(os.path.join(directory, n)).st_blocks * 512 for n in os.listdir(directory))


# ------------------------------------------------------------------ damage


@contextlib.contextmanager
def a_copy_of(directory):
    """Whatever is done to the directory, the copy takes its place at the end."""
    kept = directory + ".kept"
    subprocess.run(["cp", "-a", "--sparse=always", directory, kept], check=True)
    try:
        yield
    finally:
        if os.path.islink(directory) or not os.path.isdir(directory):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory)
        else:
            shutil.rmtree(directory)
        os.rename(kept, directory)


def remake(make):
    """A damage that puts something else in the part's place."""
    def damage(path, _other):
        os.rename(path, path + ".away")
        make(path)
        if os.path.lexists(path + ".away"):
            os.unlink(path + ".away")
    return damage


def truncate(path, _other):
    os.truncate(path, os.stat(path).st_size - 1)


def lengthen(path, _other):
    os.truncate(path, os.stat(path).st_size + 1)


def edit(path, _other):
    fd = os.open(path, os.O_RDWR)
    at = os.stat(path).st_size // 2
    old = os.pread(fd, 1, at)
    os.pwrite(fd, bytes([old[0] ^ 1]), at)
    os.close(fd)


def swap(path, other):
    theirs = os.path.join(other, os.path.basename(path))
    assert subprocess.run(["cmp", "-s", path, theirs], check=False).returncode == 1, theirs
    os.unlink(path)
    subprocess.run(["cp", "-a", "--sparse=always", theirs, path], check=True)


def symlink(path, _other):
    os.rename(path, path + ".away")
    os.symlink(os.path.basename(path) + ".away", path)


def bind_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(os.path.dirname(path), os.O_PATH)
        sock.bind(f"/proc/self/fd/{here}/{os.path.basename(path)}")
        os.close(here)
    os.chmod(path, 0o444)


def hard_link(path, _other):
    os.link(path, path + ".too")


DAMAGES = {
    "truncated": (truncate, {"ram": "bytes", "meta": "bytes", "": "not as it was written"}),
    "lengthened": (lengthen, {"ram": "bytes", "meta": "bytes", "": "not as it was written"}),
    "edited": (edit, {"ram": "was modified", "": "not as it was written"}),
    "swapped": (swap, {"ram": "was modified", "meta": "is that of admin:t2",
                       "": "not as it was written"}),
    "symlink": (symlink, {"": "symbolic link"}),
    "fifo": (remake(lambda p: os.mkfifo(p, 0o444)), {"": "not a regular file"}),
    "directory": (remake(lambda p: os.mkdir(p, 0o555)), {"": "not a regular file"}),
    "socket": (remake(bind_socket), {"": ""}),
    "device": (remake(lambda p: os.mknod(p, 0o020444, os.makedev(1, 5))),
               {"": "not a regular file"}),
    "hard link": (hard_link, {"": "links"}),
    "owner": (lambda p, _o: os.chown(p, 12345, 0), {"": "owned by uid 12345"}),
    "mode": (lambda p, _o: os.chmod(p, 0o644), {"": "mode"}),
    "missing": (lambda p, _o: os.unlink(p), {"": "is missing"}),
    "empty": (lambda p, _o: os.truncate(p, 0), {"": "bytes"}),
}


def other_template(host):
    """Of another guest of the same size."""
    host.create(id="other", cmdline="tick=0 unlike=yes", memory_mib=64)
    host.wait_console("other", "GUEST UP")
    ask(host, "other", "touch 2", r"TOUCHED (\d+)\n")
    snapshot(host, "other", "t2")
    host.destroy("other")


def rewrite_meta(path, offset, data):
    """A meta that is whole in itself, with other bytes in it."""
    with open(path, "rb") as f:
        meta = bytearray(f.read()[:-32])
    meta[offset:offset + len(data)] = data
    os.chmod(path, 0o644)
    with open(path, "wb") as f:
        f.write(meta + hashlib.sha256(meta).digest())
    os.chmod(path, 0o444)


# (offset, bytes, what is said of it): format, content, key; see struct msg_set.
META_DAMAGES = [
    (0, struct.pack("I", 77), "format 77"),
    (4, struct.pack("I", 0), "content"),
    (8, b"admin:zzz\0", "is that of admin:zzz"),
]


def set_becomes_a_link(path):
    os.rename(path, path + ".elsewhere")
    os.symlink(path + ".elsewhere", path)


def set_becomes_a_file(path):
    shutil.rmtree(path)
    with open(path, "w", encoding="ascii"):
        pass


WHOLE_SET_DAMAGES = [(shutil.rmtree, "missing"), (set_becomes_a_link, "not a directory"),
                     (set_becomes_a_file, "not a directory")]


def try_each_damage(host, attempt, directory):
    """attempt(words): a start that must fail, with each of these words in its detail."""
    other = set_of(host, "t2")
    for damage, words in DAMAGES.values():
        for part in PARTS:
            with a_copy_of(directory):
                damage(os.path.join(directory, part), other)
                attempt([part, words.get(part, words[""])])
    for offset, data, word in META_DAMAGES:
        with a_copy_of(directory):
            rewrite_meta(os.path.join(directory, "meta"), offset, data)
            attempt(["meta", word])
    for damage, word in WHOLE_SET_DAMAGES:
        with a_copy_of(directory):
            damage(directory)
            attempt([word])
            shutil.rmtree(directory + ".elsewhere", ignore_errors=True)


def test_nothing_starts_from_a_damaged_template(host):
    want = prepare(host)
    snapshot(host, "src", "t1")
    other_template(host)
    host.destroy("src")

    def attempt(words):
        for mode in ("map", "copy"):
            problem = restore(host, "bad", "t1", mode, 500)
            assert "admin:t1" in problem["detail"], problem
            for word in words:
                assert word in problem["detail"], (words, problem)
            assert host.api("GET", "/v1/sandboxes/bad").status == 404
        assert left_behind(host) == [], words

    try_each_damage(host, attempt, set_of(host, "t1"))
    # The damage is mended (by a copy that kept the times of modification): it is as good as ever.
    restore(host, "good", "t1")
    assert checksum(host, "good") == want
    drop_template(host, "t1")
    drop_template(host, "t2")


def test_no_sandbox_wakes_from_a_damaged_set(host):
    want = prepare(host)
    other_template(host)
    host.act("src", "hibernate")

    def attempt(words):
        problem = host.act("src", "wake", 500)
        assert "sandbox admin:src" in problem["detail"], problem
        for word in words:
            assert word in problem["detail"], (words, problem)
        assert host.get("src")["state"] == "hibernated", words
        assert left_behind(host) == [], words

    try_each_damage(host, attempt, set_of(host, "src", True))
    host.act("src", "wake")
    assert checksum(host, "src") == want
    drop_template(host, "t2")


@pytest.mark.standin
def test_a_damaged_set_can_be_removed(host):
    prepare(host)
    for part in PARTS:
        snapshot(host, "src", "t1")
        DAMAGES["directory"][0](os.path.join(set_of(host, "t1"), part), None)
        drop_template(host, "t1")
        assert templates(host) == []
    host.act("src", "hibernate")
    os.unlink(os.path.join(set_of(host, "src", True), "meta"))
    host.destroy("src")
    assert host.residue() == []


# ------------------------------------------------------------------ another version


def change_vmm_version(host, version):
    host.stop()
    with open(host.config_path, encoding="ascii") as f:
        lines = [l for l in f if "STANDIN_VERSION" not in l]
    at = lines.index("[limits]\n")
    lines.insert(at, f"env = STANDIN_VERSION={version}\n")
    with open(host.config_path, "w", encoding="ascii") as f:
        f.writelines(lines)
    host.start()


@pytest.mark.standin
def test_another_major_version_of_the_vmm_is_refused(host):
    want = prepare(host)
    snapshot(host, "src", "t1")
    host.act("src", "hibernate")
    for version in ("54.0", "52.1"):
        change_vmm_version(host, version)
        for mode in ("map", "copy"):
            problem = restore(host, "bad", "t1", mode, 409)
            for word in ("template admin:t1", "53.0", version, "major"):
                assert word in problem["detail"], problem
        assert host.api("GET", "/v1/sandboxes/bad").status == 404
        problem = host.act("src", "wake", 409)
        for word in ("sandbox admin:src", "53.0", version, "major"):
            assert word in problem["detail"], problem
        assert host.get("src")["state"] == "hibernated"
        assert left_behind(host) == []
    change_vmm_version(host, "53.2")
    restore(host, "good", "t1")
    host.act("src", "wake")
    assert checksum(host, "src") == want == checksum(host, "good")
    drop_template(host, "t1")


# ------------------------------------------------------------------ no room


@contextlib.contextmanager
def small_disk(host, size):
    """state_dir on a file system of its own while cloisterd runs."""
    os.makedirs(host.state_dir, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "small",
                    host.state_dir], check=True)
    try:
        host.start()
        yield
        for name in templates(host):
            drop_template(host, name.split(":")[1])
        for box in host.list():
            host.destroy(box["id"])
        problems = [r for r in host.residue() if not r.startswith("mount in self")]
        assert problems == []
    finally:
        if host.daemon and host.daemon.poll() is None:
            host.stop()
        subprocess.run(["umount", "-l", host.state_dir], check=True)


def advances(host, box):
    before = host.console(box)
    wait_for(lambda: host.console(box) != before, 10, f"output of {box}")


def fill(host):
    path = os.path.join(host.state_dir, "filler")
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(MIB))
    return path


@pytest.fixture(name="preload_config")
def fixture_preload_config(vmm):
    from test_snapshot import PRELOAD
    return f"bind_ro = {PRELOAD}\nenv = LD_PRELOAD={PRELOAD}" if vmm[1] == "ch" else ""


def test_no_space(make_host, preload_config):
    host = make_host(start=False, vmm_config=preload_config)
    with small_disk(host, "40m"):
        host.create(id="src", cmdline="tick=50", memory_mib=128)
        host.wait_console("src", "GUEST UP")
        ask(host, "src", "touch 4", r"TOUCHED (\d+)\n")
        host.act("src", "hibernate")
        host.act("src", "wake")
        first = checksum(host, "src")
        old = os.stat(set_of(host, "src", True)).st_ino
        ask(host, "src", "touch 60", r"TOUCHED (\d+)\n")
        want = checksum(host, "src")
        for _ in range(2):
            problem = snapshot(host, "src", "t1", 507)
            assert "ENOSPC" in problem["detail"] and "t1" not in templates(host)
            problem = host.act("src", "hibernate", 507)
            assert "ENOSPC" in problem["detail"], problem
            assert staging(host) == [] and templates(host) == []
            assert host.get("src")["state"] == "running"
            assert os.stat(set_of(host, "src", True)).st_ino == old
            assert checksum(host, "src") == want != first
        advances(host, "src")
        # With no room at all not even the small files can be written.
        filler = fill(host)
        assert snapshot(host, "src", "t1", 507)["status"] == 507
        assert host.act("src", "hibernate", 507)["status"] == 507
        assert staging(host) == [] and host.get("src")["state"] == "running"
        os.unlink(filler)
        # The older set wakes, once the newer guest is gone: it is the first generation, unharmed.
        assert os.stat(set_of(host, "src", True)).st_ino == old
        box = host.get("src")
        os.kill(box["vmm"]["pid"], signal.SIGKILL)
        host.wait_state("src", "crashed")
        assert os.stat(set_of(host, "src", True)).st_ino == old


def test_older_set_wakes_after_a_failed_hibernate(make_host, preload_config):
    """The supervisor knows of one set per sandbox: after a restart it finds the older one."""
    host = make_host(start=False, vmm_config=preload_config)
    with small_disk(host, "40m"):
        host.create(id="src", cmdline="tick=0", memory_mib=128)
        host.wait_console("src", "GUEST UP")
        ask(host, "src", "touch 4", r"TOUCHED (\d+)\n")
        first = checksum(host, "src")
        host.act("src", "hibernate")
        host.act("src", "wake")
        ask(host, "src", "touch 60", r"TOUCHED (\d+)\n")
        host.act("src", "hibernate", 507)
        shims = host.shim_pids()
        host.daemon.kill()
        host.daemon.wait(10)
        for pid in shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(alive(p) for p in shims) and not host.vmm_pids(), 10, "their end")
        host.start()
        host.wait_state("src", "hibernated")
        host.act("src", "wake")
        assert checksum(host, "src") == first


# ------------------------------------------------------------------ a VMM that misbehaves

SHORT = "snapshot_ms = 1500\nresume_ms = 400\npause_ms = 400\ndestroy_ms = 1500\nshutdown_ms = 300\n"
ORDERS = {  # status, state of the guest afterwards, a word of the answer
    "vm.snapshot=delay:50": (201, "running", ""),
    "vm.snapshot=100": (201, "running", ""),
    "vm.snapshot=stderr:50": (201, "running", ""),
    "vm.snapshot=badevent": (201, "running", ""),
    "vm.snapshot=error:The_moon_is_red": (502, "running", "The moon is red"),
    "vm.snapshot=status:418": (502, "running", "418"),
    "vm.snapshot=hang": (504, "failed", "vm.snapshot"),
    "vm.snapshot=drop": (502, "failed", "vm.snapshot"),
    "vm.snapshot=garbage": (502, "failed", "vm.snapshot"),
    "vm.snapshot=halfclose": (502, "failed", "vm.snapshot"),
    "vm.snapshot=exit:3": (502, "crashed", ""),
    "vm.snapshot=signal:11": (502, "crashed", ""),
    "vm.snapshot=delay:1800": (504, "running", "vm.snapshot"),
    "snapshot=short-state": (502, "running", "state.json"),
    "snapshot=short-config": (201, "running", ""),
    "snapshot=symlink": (502, "running", "state.json"),
    "snapshot=fifo": (502, "running", "state.json"),
    "snapshot=huge": (502, "running", "state.json"),
    "snapshot=extra": (201, "running", ""),
    "snapshot=noclose": (201, "running", ""),
    "snapshot=die": (502, "crashed", ""),
    "vm.pause=error:No": (502, "running", "vm.pause"),
    "vm.pause=hang": (504, "failed", "vm.pause"),
    "vm.resume=error:No": (502, "failed", "vm.resume"),
    "vm.resume=hang": (504, "failed", "vm.resume"),
}


@pytest.mark.standin
@pytest.mark.parametrize("order", ORDERS)
def test_snapshot_of_a_vmm_that_misbehaves(make_host, order):
    status, state, word = ORDERS[order]
    host = make_host(limits=SHORT)
    host.create(id="src", cmdline=f"tick=20 standin:{order}@1")
    host.wait_console("src", "GUEST UP")
    answer = snapshot(host, "src", "t1", status)
    if status != 201:
        assert word in answer["detail"], answer
        assert all(" " <= c <= "~" for c in answer["detail"]), answer
    box = host.wait_state("src", state)
    assert staging(host) == []
    assert templates(host) == (["admin:t1"] if status == 201 else [])
    if state != "running":
        assert box["vmm"] is None and box["exit"], box
        host.destroy("src")
        assert host.residue() == []
        return
    advances(host, "src")
    if status == 201:
        drop_template(host, "t1")
    # The next one is none the worse for it, and can be used.
    snapshot(host, "src", "t1")
    restore(host, "again", "t1")
    assert len(os.listdir(set_of(host, "t1"))) == 4
    drop_template(host, "t1")


@pytest.mark.standin
@pytest.mark.parametrize("order", [o for o in ORDERS if "resume" not in o])
def test_hibernate_of_a_vmm_that_misbehaves(make_host, order):
    status, state, word = ORDERS[order]
    host = make_host(limits=SHORT)
    host.create(id="src", cmdline=f"tick=20 standin:{order}@1")
    host.wait_console("src", "GUEST UP")
    answer = host.act("src", "hibernate", 200 if status == 201 else status)
    assert staging(host) == []
    if status == 201:
        assert answer["state"] == "hibernated"
        host.destroy("src")
        return
    assert word in answer["detail"], answer
    host.wait_state("src", state)
    assert not os.path.exists(set_of(host, "src", True))
    if state == "running":
        advances(host, "src")
        host.act("src", "hibernate")
        host.destroy("src")


# ------------------------------------------------------------------ deaths in the middle


def in_the_middle(host, action, body=None):
    """Begins it and comes back as soon as its memory is being copied."""
    answers = []

    def call():
        with contextlib.suppress(OSError):
            answers.append(host.api("POST", f"/v1/sandboxes/src/{action}", body, timeout=60))

    thread = threading.Thread(target=call)
    thread.start()
    end = time.monotonic() + 20
    while not staging(host):
        assert time.monotonic() < end and not answers, answers
    return thread, answers


def big_guest(host, mib):
    host.create(id="src", cmdline="tick=0", memory_mib=1024)
    host.wait_console("src", "GUEST UP")
    ask(host, "src", f"touch {mib}", r"TOUCHED (\d+)\n")
    return checksum(host, "src")


def end_one(host, victim):
    """Ends it, and gives its name to whoever must be started again."""
    if victim == "vmm":
        os.kill(host.get("src")["vmm"]["pid"], signal.SIGKILL)
    elif victim == "shim":
        os.kill(host.shim_pids()[0], signal.SIGKILL)
    elif victim == "supervisor":
        host.stop(signal.SIGKILL)
    else:
        os.kill(host.spawner_pids()[0], signal.SIGKILL)
        assert host.daemon.wait(10) != 0
    return victim in ("supervisor", "spawner")


@pytest.mark.parametrize("victim", ["vmm", "shim", "supervisor", "spawner"])
def test_a_death_in_mid_snapshot(host, victim):
    want = big_guest(host, 200)
    thread, answers = in_the_middle(host, "snapshot", {"template": "t1"})
    restart = end_one(host, victim)
    thread.join()
    if restart:
        host.start()
        host.wait_state("src", "running")
        assert checksum(host, "src") == want
    else:
        host.wait_state("src", "crashed")
        assert answers[0].status in (201, {"vmm": 502, "shim": 503}[victim]), answers
    # It is whole, or it is not there.
    wait_for(lambda: not staging(host), 10, f"no staging: {staging(host)}")
    known = [t["name"] for t in host.api("GET", "/v1/templates").json["templates"]]
    assert templates(host) == [f"admin:{n}" for n in known]
    if known:
        restore(host, "clone", "t1")
        assert checksum(host, "clone") == want
        drop_template(host, "t1")


@pytest.mark.parametrize("victim", ["vmm", "shim", "supervisor", "spawner"])
def test_a_death_in_mid_hibernate(host, victim):
    big_guest(host, 16)
    host.act("src", "hibernate")
    host.act("src", "wake")
    place = set_of(host, "src", True)
    old = os.stat(place).st_ino
    ask(host, "src", "touch 200", r"TOUCHED (\d+)\n")
    want = checksum(host, "src")
    thread, _answers = in_the_middle(host, "hibernate")
    restart = end_one(host, victim)
    thread.join()
    if restart:
        host.start()
        # The shim goes on with what it was asked for.
        host.wait_state("src", "hibernated", 30)
        assert os.stat(place).st_ino != old
        host.act("src", "wake")
        assert checksum(host, "src") == want
    else:
        host.wait_state("src", "crashed")
        assert sorted(os.listdir(place)) == sorted(PARTS)
    wait_for(lambda: not staging(host), 10, f"no staging: {staging(host)}")


# ------------------------------------------------------------------ memory on demand, chains


def test_snapshot_while_memory_is_loaded_on_demand(host):
    orders = "standin:load=1500" if host.name == "standin" else ""
    host.create(id="src", cmdline=f"tick=0 {orders}", memory_mib=512)
    host.wait_console("src", "GUEST UP")
    ask(host, "src", "touch 16", r"TOUCHED (\d+)\n")
    want = checksum(host, "src")
    snapshot(host, "src", "t1")
    restore(host, "mapped", "t1", "map")
    snapshot(host, "mapped", "t2")
    host.destroy("mapped")
    events = host.events()
    restore(host, "loading", "t2", "ondemand")
    assert snapshot(host, "loading", "t3")["content"] == ["ram"]
    told = events.wait(event="progress", sandbox="loading")
    assert told["total_bytes"] == 512 * MIB and 0 <= told["done_bytes"] <= 512 * MIB
    assert "progress" not in host.get("loading")
    assert checksum(host, "loading") == want
    restore(host, "last", "t3")
    assert checksum(host, "last") == want
    # What CH loaded as zero pages is not stored again.
    assert allocated(set_of(host, "t3")) < 1.05 * allocated(set_of(host, "t1"))
    for name in ("t1", "t2", "t3"):
        drop_template(host, name)


def test_a_chain_does_not_grow(host):
    want = prepare(host, 16)
    sizes = []
    for _ in range(3):
        host.act("src", "hibernate")
        sizes.append(allocated(set_of(host, "src", True)))
        host.act("src", "wake")
        assert checksum(host, "src") == want
    assert max(sizes) <= 1.05 * sizes[0], sizes
    # Over templates, and through every way to restore.
    snapshot(host, "src", "t0")
    for i, mode in enumerate(("copy", "map", "copy", "ondemand" if host.name == "ch" else "copy")):
        # A map clone's set is the VMM's own, and the next one is not.
        if mode == "ondemand":
            restore(host, "again", f"t{i}", "map")
            snapshot(host, "again", f"t{i}x")
            host.destroy("again")
            restore(host, f"c{i}", f"t{i}x", "ondemand")
            drop_template(host, f"t{i}x")
        else:
            restore(host, f"c{i}", f"t{i}", mode)
        snapshot(host, f"c{i}", f"t{i + 1}")
        assert checksum(host, f"c{i}") == want
        sizes.append(allocated(set_of(host, f"t{i + 1}")))
        host.destroy(f"c{i}")
    assert max(sizes) <= 1.05 * sizes[0], sizes
    for i in range(5):
        drop_template(host, f"t{i}")
