# SPDX-License-Identifier: Apache-2.0
"""Hostile tenants, and strangers: on the control socket, and on every path that one can reach.

Those are few: RUN_DIR with control.sock in it (no more than that, see test_files.py), and what root
imports from a directory that a tenant may write to.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

import harness
from harness import CONTROL_GID, STRANGER_UID, TENANT_UIDS, USER_UID, alive, as_user, wait_for
from test_files import as_tenant
from test_image import command, files, folder

pytestmark = pytest.mark.standin
ALICE, BOB = TENANT_UIDS["alice"], TENANT_UIDS["bob"]


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# ------------------------------------------------------------------ who may speak

USERS = {
    # uid, groups: how far it comes. 403: it may connect, and is nobody there.
    "root without groups": (0, [], 200), "alice": (ALICE, [CONTROL_GID], 200),
    "alice without the group": (ALICE, [], "EACCES"), "stranger": (STRANGER_UID, [CONTROL_GID], 403),
    "stranger without the group": (STRANGER_UID, [], "EACCES"),
    "the supervisor's user": (USER_UID, [CONTROL_GID], 403),
    "nobody": (65534, [65534], "EACCES"), "uid -2": (2**32 - 2, [CONTROL_GID], 403),
    "many groups": (STRANGER_UID, [CONTROL_GID, *range(70000, 70060)], 403),
}


def speak(host, uid, groups):
    """In a child that is that user for good: the status of an answer, or the errno."""
    def ask():
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(host.control)
            except OSError as error:
                return "EACCES" if error.errno == 13 else repr(error)
            # Who one was, or what one says, counts for nothing.
            sock.sendall(b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX-User: root\r\n"
                         b"Authorization: Basic cm9vdDo=\r\nTenant: alice\r\n\r\n")
            return sock.recv(64).split()[1].decode()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups(groups)
            os.setresgid(uid or 0, uid or 0, uid or 0)
            os.setresuid(uid, uid, uid)
            os.write(write, ask().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    os.waitpid(child, 0)
    return int(text) if text.isdigit() else text


def test_who_may_speak(host):
    """Held by: RUN_DIR's mode and group, SO_PEERCRED of the connection."""
    for who, (uid, groups, expected) in USERS.items():
        assert speak(host, uid, groups) == expected, who


def test_a_connection_handed_on(host):
    """A socket that alice connected stays alice's, whoever writes on it: bob lends himself to her, no
    more. And one made by root is none that a tenant can come by."""
    host.create(id="hers", uid=ALICE, cmdline="tick=0")
    with socket.socket(socket.AF_UNIX) as sock:
        with as_user(ALICE, CONTROL_GID):
            sock.connect(host.control)
        with as_user(BOB, CONTROL_GID):
            sock.sendall(b"GET /v1/sandboxes HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert b'"hers"' in sock.makefile("rb").read()


def test_descriptors_to_the_control_socket(host):
    """Held by: read(2) has no room for them, the kernel lets them go."""
    before = fds(host.daemon.pid)
    with open("/dev/null") as null, socket.socket(socket.AF_UNIX) as sock:
        with as_user(ALICE, CONTROL_GID):
            sock.connect(host.control)
        for n in range(50):
            text = b"GET /v1/info HTTP/1.1\r\nX: %d\r\n\r\n" % n
            socket.send_fds(sock, [text], [null.fileno()] * 253)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        # In the midst of a head, and without any byte that counts.
        socket.send_fds(sock, [b"G"], [null.fileno()] * 253)
        assert fds(host.daemon.pid) <= before + 1
    wait_for(lambda: fds(host.daemon.pid) <= before, what="no descriptor kept")


@pytest.mark.parametrize("kind", ["connect", "half", "events", "console", "deaf"])
def test_floods_of_connections(host, kind):
    """Held by: so many connections of one uid, and no more; bounded buffers for who does not read."""
    host.create(id="own", uid=BOB, cmdline="tick=0")
    host.create(id="hers", uid=ALICE, cmdline="tick=5")
    text = {"connect": b"", "half": b"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{",
            "events": b"GET /v1/events HTTP/1.1\r\n\r\n",
            "console": b"GET /v1/sandboxes/hers/console?follow=1 HTTP/1.1\r\n\r\n",
            "deaf": b"GET /v1/sandboxes HTTP/1.1\r\n\r\n" * 200}[kind]
    before = fds(host.daemon.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            with as_user(ALICE, CONTROL_GID), contextlib.suppress(BlockingIOError):
                sock.connect(host.control)
            with contextlib.suppress(OSError):
                sock.send(text)
        assert host.act("own", "pause", uid=BOB)["state"] == "paused"
        assert host.create(id="new", uid=BOB, cmdline="tick=0")["state"] == "running"
        assert fds(host.daemon.pid) < before + 200
        with open(f"/proc/{host.daemon.pid}/status") as f:
            kib = int(next(x for x in f if x.startswith("VmRSS")).split()[1])
        assert kib < (256 if harness.SANITIZED else 64) * 1024
    wait_for(lambda: host.api("GET", "/v1/info", uid=ALICE).status == 200, what="a free place")


def test_names_that_are_paths(host):
    """Held by: one rule for names, applied by the supervisor, by the records' reader and by root
    code; a tenant has no other way to say what root is to open."""
    host.create(id="hers", uid=ALICE, cmdline="tick=0")
    wicked = ["../alice:hers", "..", "/etc/passwd", "a/../../b", "a\\..\\b", "alice:hers", "%2e%2e",
              "a\u0000b", "a\nb", "\u001b[2J", "x" * 64, "", ".hidden", "-rf", "a b", "\u202e", "~"]
    for name in wicked:
        for spec in ({"kernel": name}, {"kernel": "tiny", "initramfs": name},
                     {"kernel": "tiny", "disks": [{"image": name}]}, {"template": name},
                     {"kernel": "tiny", "id": name}):
            if name == "" and "initramfs" in spec:
                continue
            answer = host.api("POST", "/v1/sandboxes", {"memory_mib": 32, **spec} if "template" not in
                              spec else spec, uid=BOB)
            assert answer.status == (400 if "\0" in name else 422), (name, spec, answer)
            assert all(" " <= c <= "~" for c in answer.json["detail"])
        answer = host.api("POST", "/v1/sandboxes/hers/snapshot", {"template": name}, uid=ALICE)
        assert answer.status == (400 if "\0" in name else 422), (name, answer)
    assert [b["id"] for b in host.list()] == ["hers"]
    assert host.get("hers", uid=ALICE)["state"] == "running"


# ------------------------------------------------------------------ paths: races on imports

SECRET = b"S" * 512


class Yard:
    """A directory of bob's, and what he must not read: a file of root's, one of alice's."""

    def __init__(self, host):
        self.host = host
        top = pathlib.Path(host.base)
        self.path = top / "bob"
        self.path.mkdir()
        self.secrets = []
        for name, uid in (("roots", 0), ("alices", ALICE)):
            secret = top / name
            secret.write_bytes(SECRET * 64)
            os.chown(secret, uid, uid)
            secret.chmod(0o600)
            self.secrets.append(str(secret))
        self.own = self.path / "disk.img"
        self.own.write_bytes(b"b" * 32768)
        for path in (self.path, self.own):
            os.chown(path, BOB, BOB)

    def import_it(self, path=None, name="base"):
        """(exit status, what it said); what was imported is bob's own, or nothing was."""
        done = subprocess.run(command(self.host, "import", "--replace", "disk", name,
                                      path or self.own), stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        made = os.path.join(folder(self.host), name)
        if os.path.exists(made):
            with open(made, "rb") as f:
                data = f.read()
            assert SECRET not in data, done.stdout
            with open(os.path.join(folder(self.host), f".{name}.json")) as f:
                assert json.load(f)["sha256"] == hashlib.sha256(data).hexdigest()
        return done.returncode, done.stdout


@pytest.fixture
def yard(make_host):
    host = make_host(start=False)
    os.makedirs(host.state_dir, mode=0o700)
    return Yard(host)


@contextlib.contextmanager
def racer(uid, turn):
    """turn(n) again and again in a child that is uid for good."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            for n in range(10**9):
                with contextlib.suppress(OSError):
                    turn(n)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_links_of_a_tenant(yard):
    """Held by: cli_source.c, which follows symbolic links of root's only; CVE-2026-1386 (a jailer
    that followed a link in a directory that others could write to)."""
    def put(make):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(yard.own)
        os.setresuid(-1, BOB, -1)
        try:
            make()
        finally:
            os.setresuid(-1, 0, -1)
    elsewhere = yard.path.parent
    for target in (*yard.secrets, "/etc/shadow", "/proc/self/fd/0", "/proc/1/root/etc/shadow",
                   "disk.img", "/dev/sda", "/dev/zero", "nothing"):
        put(lambda t=target: os.symlink(t, yard.own))
        status, said = yard.import_it()
        assert status == 1 and "symbolic link of uid" in said, (target, said)
    # On the way to it.
    put(lambda: os.symlink(elsewhere, yard.path / "way"))
    for way in ("way/roots", "way/../roots", "./way//alices", "way/bob/way/roots"):
        status, said = yard.import_it(yard.path / way)
        assert status == 1 and "symbolic link of uid" in said, (way, said)
    # A hard link, where the kernel lets him make one.
    for secret in yard.secrets:
        os.link(secret, yard.own)
        status, said = yard.import_it()
        assert status == 1 and "links to a file" in said, said
        os.unlink(yard.own)
    for make, word in ((lambda: os.mkfifo(yard.own), "regular"), (lambda: os.mkdir(yard.own), "regular"),
                       (lambda: socket.socket(socket.AF_UNIX).bind(str(yard.own)), "ENXIO")):
        put(make)
        status, said = yard.import_it()
        assert status == 1 and word in said, said
        (os.rmdir if os.path.isdir(yard.own) else os.unlink)(yard.own)
    assert files(yard.host) == []
    # Links of root's own lead where they lead.
    (elsewhere / "image").write_bytes(b"i" * 4096)
    os.symlink("image", elsewhere / "current")
    os.symlink(elsewhere, elsewhere / "here")
    for path in ("current", "here/current", "here/here/image", "bob/../current"):
        assert yard.import_it(elsewhere / path)[0] == 0, path
    os.symlink("round", elsewhere / "round")
    assert "ELOOP" in yard.import_it(elsewhere / "round")[1]
    # A file of many links is no matter where only root writes.
    os.chmod(elsewhere, 0o700)
    os.link(elsewhere / "image", elsewhere / "twice")
    assert yard.import_it(elsewhere / "twice")[0] == 0


def swap_links(yard):
    own, other, link = str(yard.own), str(yard.path / "other"), str(yard.path / "link")
    shutil.copyfile(own, other)
    os.chown(other, BOB, BOB)

    def turn(n):
        """His own file, a link to a secret, his own file: always something there."""
        os.symlink(yard.secrets[n % 2], link)
        os.rename(link, own)
        os.link(other, link)
        os.rename(link, own)
    return turn


def swap_directories(yard):
    way, decoy = yard.path / "way", yard.path / "decoy"
    way.mkdir()
    shutil.copyfile(yard.own, way / "roots")
    for path in (way, way / "roots"):
        os.chown(path, BOB, BOB)

    def turn(_):
        os.rename(way, decoy)
        os.symlink(yard.path.parent, way)
        os.unlink(way)
        os.rename(decoy, way)
    return turn


def rewrite(yard):
    path = str(yard.own)

    def turn(n):
        with open(path, "r+b", buffering=0) as f:
            # The header of another format, for as long as it takes to look.
            f.write(b"QFI\xfb" if n % 2 else b"bbbb")
    return turn


def resize(yard):
    path = str(yard.own)

    def turn(n):
        os.truncate(path, (32768, 512, 8 << 20, 0)[n % 4])
    return turn


def swap_kinds(yard):
    own, other = str(yard.own), str(yard.path / "other")
    shutil.copyfile(own, other)
    os.chown(other, BOB, BOB)

    def turn(n):
        os.unlink(own)
        (os.mkfifo if n % 2 else os.mkdir)(own)
        (os.unlink if n % 2 else os.rmdir)(own)
        os.link(other, own)
    return turn


@pytest.mark.parametrize("race", [swap_links, swap_directories, rewrite, resize, swap_kinds])
def test_races_on_an_import(yard, race):
    """Bob changes what root imports from his directory, as fast as he can: it is his own file that is
    imported, whole and raw, or none; and it comes to an end."""
    turn = race(yard)
    path = yard.path / "way" / "roots" if race is swap_directories else yard.own
    outcomes = {0: 0, 1: 0}
    end = time.monotonic() + 1.2
    with racer(BOB, turn):
        while time.monotonic() < end or not outcomes[1]:
            status, said = yard.import_it(path)
            outcomes[status] += 1
            assert time.monotonic() < end + 20, (outcomes, said)
            made = os.path.join(folder(yard.host), "base")
            if os.path.exists(made):
                with open(made, "rb") as f:
                    assert not f.read(4).startswith(b"QFI"), said
                st = os.stat(made)
                assert (st.st_uid, st.st_nlink, st.st_mode & 0o777) == (0, 1, 0o444)
    assert outcomes[1] > 0
    # No staging is left, whatever became of each.
    assert [n for n in files(yard.host) if n.startswith(".new")] == []


def test_a_huge_sparse_source(yard):
    """Held by: it is copied with its holes, and can be called off."""
    os.truncate(yard.own, 1 << 40)
    process = subprocess.Popen(command(yard.host, "import", "disk", "base", yard.own),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: os.path.exists(os.path.join(folder(yard.host), ".new:base"))
             or process.poll() is not None, what="its start")
    process.terminate()
    assert process.wait(10) != 0 and files(yard.host) == []
    assert os.statvfs(yard.host.state_dir).f_bavail > 0


# ------------------------------------------------------------------ paths: races on a set's import


def import_set(host, path):
    done = subprocess.run(
        [os.path.join(harness.BUILD, "cloister"), "templates", "import", "--config",
         host.config_path, "--vmm-version", "53.0.0", "--tenant", "bob", "warm", str(path)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=30)
    return done.returncode, done.stdout


def make_set(path):
    config = {"cpus": {"boot_vcpus": 1, "max_vcpus": 1}, "memory": {"size": 16 << 20},
              "payload": {"kernel": "/k"}}
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "state.json").write_text("{}")
    with open(path / "memory-ranges", "wb") as f:
        f.write(b"m" * 4096)
        f.truncate(16 << 20)
    for name in (path, *path.iterdir()):
        os.chown(name, BOB, BOB)
    return path


def test_what_is_put_into_a_set(yard):
    """The directory of a set that root imports is bob's as well: its files are regular ones, reached
    without a link, or nothing is imported; none holds root up."""
    host = yard.host
    os.makedirs(os.path.join(host.state_dir, "templates"), mode=0o700)
    for name in ("config.json", "state.json", "memory-ranges"):
        for what in ("fifo", "symlink", "hard link", "directory", "socket", "huge", "empty"):
            path = make_set(yard.path / "set")
            victim = path / name
            if what == "huge":
                os.truncate(victim, 1 << 40)
            elif what == "empty":
                os.truncate(victim, 0)
            else:
                victim.unlink()
            if what == "fifo":
                os.mkfifo(victim)
            elif what == "symlink":
                victim.symlink_to(yard.secrets[0])
            elif what == "hard link":
                os.link(yard.secrets[0], victim)
            elif what == "directory":
                victim.mkdir()
            elif what == "socket":
                socket.socket(socket.AF_UNIX).bind(str(victim))
            status, said = import_set(host, path)
            assert status == 1, (name, what, said)
            assert os.listdir(os.path.join(host.state_dir, "templates")) == [], (name, what)
            shutil.rmtree(path)
    path = make_set(yard.path / "set")
    os.symlink(path, yard.path / "link")
    os.lchown(yard.path / "link", BOB, BOB)
    assert "symbolic link of uid" in import_set(host, yard.path / "link")[1]


def test_race_on_a_set(yard):
    host = yard.host
    os.makedirs(os.path.join(host.state_dir, "templates"), mode=0o700)
    path = make_set(yard.path / "set")
    memory, other = str(path / "memory-ranges"), str(path / "other")
    # As large as it must be, and root's.
    with open(yard.secrets[0], "r+b") as f:
        f.truncate(16 << 20)

    def turn(n):
        os.rename(memory, other)
        os.symlink(yard.secrets[0], memory)
        os.rename(other, memory)
        os.truncate(memory, (16 << 20) - n % 2 * 4096)
    seen = set()
    end = time.monotonic() + 1.2
    with racer(BOB, turn):
        while time.monotonic() < end:
            status, said = import_set(host, path)
            seen.add(status)
            made = os.path.join(host.state_dir, "templates", "bob:warm")
            if status == 0:
                with open(os.path.join(made, "memory-ranges"), "rb") as f:
                    assert SECRET not in f.read(1 << 20)
                shutil.rmtree(made)
            else:
                assert os.listdir(os.path.dirname(made)) == [], said
    assert seen <= {0, 1}


# ------------------------------------------------------------------ what a tenant leaves lying about


def test_a_run_dir_that_a_tenant_cannot_prepare(make_host):
    """Nothing in RUN_DIR can be made by one who may enter it, before or while cloisterd runs: names
    that it will use, locks that it takes, sockets in place of its own."""
    host = make_host()

    def try_all():
        done = []
        for name in ("control.sock", "control.sock.new", "lock", "uids", "shims", "new", "x"):
            path = os.path.join(host.run_dir, name)
            for what, call in (("mkdir", lambda p=path: os.mkdir(p)),
                               ("link", lambda p=path: os.symlink("/etc/passwd", p + "2")),
                               ("hard", lambda p=path: os.link(host.control, p + "3")),
                               ("unlink", lambda p=path: os.unlink(p)),
                               ("move", lambda p=path: os.rename(p, p + "4")),
                               ("chmod", lambda p=path: os.chmod(p, 0o777)),
                               ("bind", lambda p=path: socket.socket(socket.AF_UNIX).bind(p + "5"))):
                with contextlib.suppress(OSError):
                    call()
                    done.append(f"{what} {name}")
            with contextlib.suppress(OSError), open(path) as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                done.append(f"lock {name}")
        return done
    for uid in (ALICE, STRANGER_UID):
        assert as_tenant(uid, try_all) == "[]"
    assert host.api("GET", "/v1/info", uid=ALICE).status == 200


def test_the_clients_own_files(host, tmp_path):
    """What a person runs as themselves touches no file but standard output: a spec that is a FIFO or
    an endless one does not hold root up for ever, and nothing is written beside it."""
    client = [os.path.join(harness.BUILD, "cloister"), "-s", host.control]
    big = tmp_path / "big.json"
    with open(big, "wb") as f:
        f.truncate(1 << 30)
    done = subprocess.run(client + ["create", "--file", str(big)], capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode != 0 and "1 MiB" in done.stderr
    before = sorted(os.listdir(tmp_path))
    subprocess.run(client + ["ls", "--json"], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(os.listdir(tmp_path)) == before
    assert host.list() == [] and alive(host.daemon.pid)
