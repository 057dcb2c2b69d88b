# SPDX-License-Identifier: Apache-2.0
"""Snapshot sets that are damaged, or of another VMM: each has its own answer and nothing starts.
And how sets grow, or do not, over generations."""
import contextlib
import hashlib
import os
import shutil
import socket
import struct
import subprocess

import pytest

from test_snapshot import ask, checksum, drop_template, host, prepare, restore, snapshot

__all__ = ["host"]  # the fixture
MIB = 1 << 20
PARTS = ("config.json", "state.json", "ram", "meta")


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
