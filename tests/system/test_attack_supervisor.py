# SPDX-License-Identifier: Apache-2.0
"""A supervisor that has been taken over: the test speaks in its place, to the spawner and to shims.

Whatever it sends: root code lives on, or ends as documented (a channel is closed with a reason),
does nothing that it was not made for, and another tenant's sandbox runs on. It may end any sandbox,
as it always may; SECURITY.md says so.
"""
import contextlib
import os
import random
import shutil
import socket
import struct

import pytest

import harness
import wire
from harness import TENANT_UIDS, alive, wait_for

STATE, QUOTA = 3, 4  # enum err_kind
ALICE = TENANT_UIDS["alice"]
LIMITS = "max_sandboxes = 6\ncreate_ms = 2500\nsnapshot_ms = 2000\ndestroy_ms = 2000\n"


class Taken:
    """A host whose cloisterd is ours now: alice's sandboxes run, and its spawner is gone."""

    def __init__(self, host):
        self.host = host
        self.victim = host.create(id="victim", uid=ALICE, cmdline="tick=20")
        answer = host.api("POST", "/v1/sandboxes/victim/snapshot", {"template": "warm"}, uid=ALICE)
        assert answer.status == 201, answer
        answer = host.api("POST", "/v1/sandboxes", {
            "id": "clone", "template": "warm", "memory_restore": "map"}, uid=ALICE)
        assert answer.status == 201, answer
        self.pids = [self.victim["vmm"]["pid"], answer.json["vmm"]["pid"],
                     *host.shim_pids("alice:victim"), *host.shim_pids("alice:clone")]
        self.policy = wire.steal_policy(host)
        host.stop()
        self.spawners = []

    def spawner(self):
        self.spawners.append(wire.Spawner(self.host, self.policy))
        return self.spawners[-1]

    def unharmed(self, what=""):
        assert all(map(alive, self.pids)), what

    def only_alices(self):
        """Nothing but alice's two is there."""
        return sorted(self.host.shim_pids()) == sorted(self.pids[2:]) and \
            sorted(self.host.vmm_pids()) == sorted(self.pids[:2]) and \
            sorted(os.listdir(os.path.join(self.host.run_dir, "shims"))) == \
            ["alice:clone.sock", "alice:victim.sock"] and \
            os.listdir(os.path.join(self.host.run_dir, "new")) == []

    def close(self):
        for spawner in self.spawners:
            spawner.stop()
        os.close(self.policy)


@pytest.fixture
def taken(make_host, vmm):
    preload = f"bind_ro = {harness.PRELOAD}\nenv = LD_PRELOAD={harness.PRELOAD}"
    host = make_host(limits=LIMITS, vmm_config=preload if vmm[1] == "ch" else "")
    taken = Taken(host)
    try:
        yield taken
        taken.unharmed("at the end")
        wait_for(taken.only_alices, what=f"an end of all else: {host.residue(running=False)}")
    finally:
        taken.close()
    # The next supervisor takes over what there is.
    host.start()
    for box in ("victim", "clone"):
        assert host.get(box, uid=ALICE)["state"] == "running"
    before = host.console("victim", uid=ALICE)
    wait_for(lambda: host.console("victim", uid=ALICE) != before, what="output of the victim")
    for box in ("victim", "clone"):
        host.destroy(box, tenant="alice")
    host.api("DELETE", "/v1/templates/warm?tenant=alice")


# ------------------------------------------------------------------ the spawner: what closes it

BAD_KEYS = [b"", b"a", b":b", b"a:", b"..:x", b"a:..", b"../x:y", b"a:../../x", b"a/b:c", b"a:b/c",
            b"/a:b", b"a:b:c", b"A:b", b"a:B", b"a:b c", b"a:b\n", b"a:\x1b[2J", b"a:-b", b"-a:b",
            b"a:.b", b"a:b..c", b"a:b\xff", b"a:b\0c", b"a:" + b"b" * 64, b"a" * 64 + b":b",
            b"a:b".ljust(128, b"x"), b"x" * 128, b"alice:victim\0\0x", b"a:%n%s", b"a:b\\c"]


def spawner_records():
    """(what is wrong, the record)"""
    record = wire.record
    good = wire.key("bob:x")
    yield from (("empty", b"\0"), ("half a header", record("START", good)[:9]),
                ("header only", record("START", b"")),
                ("a byte less", record("START", good[:-1])),
                ("a byte more", record("START", good + b"\0")),
                ("length less", record("START", good, length=16)),
                ("length 0", record("START", good, length=0)),
                ("length huge", record("START", good, length=2**32 - 1)),
                ("largest", record("START", bytes(65536 - 16))),
                ("reserved", record("START", good, zero=1)),
                ("no number", record("START", good, number=0)),
                ("end without a number", record("END", good, number=0)),
                ("hello not padded", record("HELLO", b"a\0b".ljust(32, b"\0"))),
                ("hello not ended", record("HELLO", b"a" * 32)))
    for number in (0, len(wire.TYPES), 255, 65535):
        yield f"type {number}", record(number, good)
    for kind in (0, 5, 2**31, 2**32 - 1):
        yield f"remove of kind {kind}", record("REMOVE", struct.pack("<I", kind) + good)
    # Of the other direction, or a shim's.
    for name in wire.TYPES[2:]:
        if name not in ("START", "END", "REMOVE"):  # those three are its own
            yield name, record(name, wire.BODIES.get(name, bytes(128)))
    for n, text in enumerate(BAD_KEYS):
        name = ("START", "END", "REMOVE")[n % 3]
        kind = struct.pack("<I", 1 + n % 4) if name == "REMOVE" else b""
        yield f"{name} {text[:20]!r}", record(name, kind + text.ljust(128, b"\0"))


@pytest.mark.standin
def test_what_closes_the_spawner(taken):
    """Held by: one exact reader for each type (common/msg_check.c), a table of three requests."""
    for what, raw in harness.some(spawner_records(), 4):
        spawner = taken.spawner()
        spawner.send(raw)
        assert spawner.is_closed(), what
        assert spawner.stop() == 1, what
        assert "link to the supervisor closed: " in taken.host.log().splitlines()[-1], what
    taken.unharmed()
    log = taken.host.log()
    assert "\x1b" not in log and "Sanitizer" not in log


def descriptors(host, stack):
    """(what it is, a descriptor)"""
    base = stack.enter_context(open(host.config_path, "rb"))
    yield "file", base.fileno()
    for what, flags, path in (("directory", os.O_RDONLY, host.base), ("path", os.O_PATH, "/"),
                              ("device", os.O_RDWR, "/dev/null")):
        fd = os.open(path, flags)
        stack.callback(os.close, fd)
        yield what, fd
    fd = os.memfd_create("x")
    stack.callback(os.close, fd)
    yield "memory", fd
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for sock in pair:
            stack.enter_context(sock)
        yield f"socket {int(kind)}", pair[0].fileno()
    fd = os.pidfd_open(os.getpid())
    stack.callback(os.close, fd)
    yield "process", fd


@pytest.mark.standin
def test_descriptors_that_nobody_asked_for(taken):
    """Held by: the count on a record is exact, and none of the requests has any."""
    with contextlib.ExitStack() as stack:
        for what, fd in descriptors(taken.host, stack):
            for count in (1, 253) if what == "file" and not harness.SANITIZED else (1,):
                spawner = taken.spawner()
                spawner.send(wire.record("START", wire.key("bob:x")), [fd] * count)
                assert spawner.is_closed() and spawner.stop() == 1, (what, count)
                assert "descriptor" in taken.host.log().splitlines()[-1]
                # And to a shim: with CREATE, and with any other.
                spawner = taken.spawner()
                with spawner.start("bob:x") as shim:
                    shim.send(wire.record("CREATE", wire.create()), [fd] * count)
                    assert shim.is_closed(), (what, count)
                spawner.end("bob:x")
                assert spawner.stop() == 0
                before = len(os.listdir(f"/proc/{taken.pids[2]}/fd"))
                with wire.Link(taken.host, "alice:victim") as link:
                    link.send(wire.record("HELLO"), [fd] * count)
                    assert link.is_closed(), (what, count)
                wait_for(lambda n=before: len(os.listdir(f"/proc/{taken.pids[2]}/fd")) <= n)


@pytest.mark.standin
def test_mutated_requests(taken):
    """Right requests with some bits changed, one after another to as few spawners as it takes."""
    dice = random.Random(7)
    keys = ["bob:a", "bob:b", "alice:nobody", "carol:c"]
    closed = answered = 0
    spawner = taken.spawner()
    for _ in harness.some(range(120)):
        kind = dice.choice(("START", "END", "REMOVE", "HELLO"))
        body = {"START": wire.key, "END": wire.key, "HELLO": lambda _: wire.BODIES["HELLO"],
                "REMOVE": lambda k: wire.remove(dice.choice(("socket", "cgroup", "sandbox")), k),
                }[kind](dice.choice(keys))
        raw = bytearray(wire.record(kind, body, dice.randrange(1, 2**32)))
        for _ in range(dice.randrange(3)):
            at = dice.choice((dice.randrange(16), dice.randrange(min(len(raw), 40))))
            raw[at] = dice.choice((0, 1, 0x7f, 0xff, raw[at] ^ 1 << dice.randrange(8)))
        if dice.random() < 0.1:
            raw = raw[:dice.randrange(1, len(raw))]
        spawner.send(bytes(raw))
        try:
            spawner.request("END", wire.key("bob:none"))
            answered += 1
        except wire.Closed:
            closed += 1
            assert spawner.stop() == 1
            spawner = taken.spawner()
    assert closed > 4 and answered > 15, (closed, answered)
    taken.unharmed()
    for box in keys:
        spawner.end(box)


# ------------------------------------------------------------------ the spawner: what it refuses


def test_ids_of_others(taken):
    """Held by: shims are known by their own sockets, before any request is read (spawner_find.c);
    what is alive is not removed."""
    spawner = taken.spawner()
    for box in ("alice:victim", "alice:clone"):
        assert spawner.start(box)[0] == STATE
        for kind in ("socket", "cgroup", "sandbox"):
            answer = spawner.request("REMOVE", wire.remove(kind, box))
            if kind == "cgroup" and not harness.CGROUP_MOUNT:
                continue
            assert answer[0] == "ERROR" and wire.error(answer[2])[0] == STATE, (box, kind, answer)
        taken.unharmed(box)
    # A template in use goes, and who runs of it has it still.
    assert spawner.request("REMOVE", wire.remove("template", "alice:warm"))[0] == "DONE"
    taken.unharmed("template")
    # What is not there is as good as removed.
    for kind in ("socket", "cgroup", "template", "sandbox"):
        assert spawner.request("REMOVE", wire.remove(kind, "bob:none"))[0] == "DONE"
    for _ in range(3):
        spawner.end("bob:none")
    # Two shims for one id.
    with spawner.start("bob:x") as shim:
        assert spawner.start("bob:x")[0] == STATE
        assert spawner.request("REMOVE", wire.remove("socket", "bob:x"))[0] == "ERROR"
        shim.send(wire.record("CREATE", wire.create()))
        assert shim.receive()[0] == "CREATED"
        assert spawner.start("bob:x")[0] == STATE
        # The same with another one ended in between, and with numbers used again.
        spawner.send(wire.record("END", wire.key("bob:x"), 900))
        spawner.send(wire.record("START", wire.key("bob:x"), 900))
        spawner.send(wire.record("END", wire.key("bob:x"), 900))
        answers = [spawner.receive()[0] for _ in range(4)]
        assert "GONE" in answers and answers.count("DONE") >= 1, answers
    spawner.end("bob:x")


@pytest.mark.standin
def test_sockets_moved_about(taken):
    """Their directory is the supervisor's: it may rename and remove them, and put anything there.
    Held by: O_PATH without following, peer credentials, a socket of the right owner; then the
    cgroup of that name, which is in use."""
    shims = os.path.join(taken.host.run_dir, "shims")
    path = lambda name: os.path.join(shims, name)
    hidden = os.path.join(taken.host.base, "hidden.sock")
    with contextlib.ExitStack() as stack:
        os.symlink("/etc/passwd", path("bob:link.sock"))
        os.symlink("alice:victim.sock", path("bob:alias.sock"))
        os.mkfifo(path("bob:fifo.sock"))
        os.mkdir(path("bob:dir.sock"))
        open(path("bob:file.sock"), "w").close()
        open(path("x" * 255), "w").close()
        open(path("a\x1b[2J\n:b.sock"), "w").close()
        # One of the supervisor's own, that takes connections and says nothing.
        mine = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        mine.bind(path("m"))
        mine.listen(1)
        os.rename(path("m"), path("bob:mine.sock"))
        for name in os.listdir(shims):
            os.chown(path(name), harness.USER_UID, harness.USER_UID, follow_symlinks=False)
        spawner = taken.spawner()
        kind, _, body = spawner.request("HELLO", wire.BODIES["HELLO"])
        # Root's own test process listens as root, so it counts; nobody else could.
        found = struct.unpack_from("<I", body, 80)[0]
        assert kind == "HOST" and found == 3, found
        assert spawner.stop() == 0
        taken.unharmed("found")
    for name in os.listdir(shims):
        if not name.startswith("alice:"):
            (os.rmdir if os.path.isdir(path(name)) and not os.path.islink(path(name))
             else os.unlink)(path(name))
    if not harness.CGROUP_MOUNT:
        return
    # A shim that the spawner cannot know of.
    os.rename(path("alice:victim.sock"), hidden)
    try:
        spawner = taken.spawner()
        found = spawner.start("alice:victim")
        assert found[0] == STATE and "cgroup" in found[2], found
        assert spawner.request("REMOVE", wire.remove("sandbox", "alice:clone"))[0] == "ERROR"
        taken.unharmed("second of its name")
        spawner.stop()
    finally:
        os.rename(hidden, path("alice:victim.sock"))


@pytest.mark.standin
def test_flood_of_starts(taken):
    """Held by: [limits] max_sandboxes, counted by the spawner itself, alice's two included."""
    spawner = taken.spawner()
    spawner.request("END", wire.key("bob:none"))
    before = spawner.descriptors()
    for _ in range(3):
        answers = [spawner.start(f"bob:n{n}") for n in range(20)]
        shims = [a for a in answers if isinstance(a, wire.Channel)]
        assert len(shims) == 4 and all(a[0] == QUOTA for a in answers if a not in shims)
        for shim in shims:
            shim.close()
        for n in range(4):
            spawner.end(f"bob:n{n}")
    assert spawner.descriptors() == before
    # All at once, none of the channels taken; then all are given up.
    for n in range(100):
        spawner.send(wire.record("START", wire.key(f"bob:m{n}"), n + 1000))
    spawner.end("bob:m0")
    spawner.close()
    assert spawner.process.wait(10) == 0
    wait_for(taken.only_alices, what="the end of shims that nobody took")


@pytest.mark.standin
def test_a_supervisor_that_never_reads(taken):
    """Held by: a bounded queue of what waits for it; then its channel is closed."""
    spawner = taken.spawner()
    spawner.sock.setblocking(False)
    peak = 0

    def cut_off():
        nonlocal peak
        try:
            for n in range(500):
                spawner.sock.send(wire.record("END", wire.key("bob:none"), n + 1))
        except BlockingIOError:
            pass
        except OSError:
            return True
        with contextlib.suppress(OSError, StopIteration):
            with open(f"/proc/{spawner.process.pid}/status") as f:
                peak = max(peak, int(next(x for x in f if x.startswith("VmRSS")).split()[1]))
        return False
    wait_for(cut_off, 30, "the channel's end")
    assert spawner.process.wait(10) == 1
    assert 0 < peak < 64 * 1024
    assert "wait for a peer that does not read" in taken.host.log()


# ------------------------------------------------------------------ a shim: CREATE

BIG = 2**32 - 1
CREATES = {
    "kernel above": {"kernel": "../tiny"}, "kernel path": {"kernel": "/etc/passwd"},
    "kernel below": {"kernel": "a/b"}, "kernel none": {"kernel": ""},
    "kernel dots": {"kernel": ".."}, "kernel upper": {"kernel": "TINY"},
    "kernel escape": {"kernel": "a\x1b[2J"}, "kernel long": {"kernel": "k" * 64},
    "initramfs unasked": {"initramfs": "tiny"}, "initramfs none": {"flags": 2},
    "initramfs above": {"flags": 2, "initramfs": "../kernels/tiny"},
    "cmdline newline": {"cmdline": "a\nb"}, "cmdline escape": {"cmdline": "\x1b[2J"},
    "cmdline whole": {"cmdline": "x" * 2048},
    "vcpus 0": {"vcpus": 0}, "vcpus 255": {"vcpus": 255}, "vcpus -1": {"vcpus": BIG},
    "memory 0": {"memory_mib": 0}, "memory 15": {"memory_mib": 15},
    "memory beyond": {"memory_mib": 2**22 + 1}, "memory -1": {"memory_mib": BIG},
    "maximum below": {"max_vcpus": 0}, "maximum beyond": {"max_vcpus": 255},
    "maximum memory below": {"max_memory_mib": 16}, "maximum memory -1": {"max_memory_mib": BIG},
    "balloon of all": {"flags": 1, "balloon_mib": 32}, "balloon -1": {"flags": 1, "balloon_mib": BIG},
    "plugged": {"plugged_mib": 2}, "flag of a told kind": {"flags": 4}, "flags -1": {"flags": BIG},
    "source unknown": {"source": 3}, "source -1": {"source": BIG}, "restore unknown": {"restore": 4},
    "restore of a boot": {"restore": 1}, "disks 9": {"disk_count": 9}, "disks -1": {"disk_count": BIG},
    "disks unnamed": {"disk_count": 1}, "disk above": {"disk": "../kernels/tiny"},
    "disk path": {"disk": "/dev/sda"}, "disk missing": {"disk": "nothing"},
    "slot without a pool": {"slot": 1}, "slot beyond": {"slot": 65535}, "slot -1": {"slot": BIG},
    "template unasked": {"template": "bob:warm"},
    "template above": {"kernel": "", "source": 1, "restore": 1, "template": "bob:../warm"},
    "template none": {"kernel": "", "source": 1, "restore": 1, "template": ""},
    "template missing": {"kernel": "", "source": 1, "restore": 1, "template": "bob:warm"},
    "template of another": {"kernel": "", "source": 1, "restore": 1, "template": "alice:warm"},
    "wake of nothing": {"kernel": "", "source": 2, "restore": 2},
}


def test_hostile_creates(taken):
    """Held by: every field is checked by the reader, whatever the supervisor says it has checked;
    images are opened by name below root's directories (RESOLVE_BENEATH, NO_SYMLINKS); a template is
    its tenant's, which the shim compares itself."""
    spawner = taken.spawner()
    spawner.request("END", wire.key("bob:none"))
    before = spawner.descriptors()
    for what, change in harness.some(CREATES.items()):
        with spawner.start("bob:x") as shim:
            shim.send(wire.record("CREATE", wire.create(**change)))
            answer = None
            with contextlib.suppress(wire.Closed):
                answer = shim.receive()
            assert answer is None or answer[0] == "ERROR", (what, answer)
            assert shim.is_closed(), what
        spawner.end("bob:x")
        wait_for(taken.only_alices, what=f"an end of {what}")
    assert spawner.descriptors() == before
    # One byte of what is reserved, or behind the end of a text, and a body of another size.
    body = wire.create()
    for at in (63, 64 + 63, 128 + 2047, 128 + 2048 + 39, len(body) - 1):
        with spawner.start("bob:x") as shim:
            shim.send(wire.record("CREATE", body[:at] + b"\x01" + body[at + 1:]))
            assert shim.is_closed(), at
        spawner.end("bob:x")
    for raw in (body[:-1], body + b"\0", b"", bytes(len(body)), b"\xff" * len(body)):
        with spawner.start("bob:x") as shim:
            shim.send(wire.record("CREATE", raw))
            assert shim.is_closed(), len(raw)
        spawner.end("bob:x")


@pytest.mark.standin
def test_a_shim_that_is_new(taken):
    """Its first record is CREATE, or it ends; with none at all, at the create's deadline."""
    spawner = taken.spawner()
    for kind in ("HELLO", "PAUSE", "KILL", "CONSOLE_READ", "EXIT_ACK", "START", "END", "CREATED", 0,
                 900):
        with spawner.start("bob:x") as shim:
            shim.send(wire.record(kind, None if isinstance(kind, str) and kind in wire.BODIES
                                  else bytes(128)))
            assert shim.is_closed(), kind
        spawner.end("bob:x")
    with spawner.start("bob:x") as shim:
        shim.send(wire.record("CREATE", wire.create(), version=2))
        assert wire.error(shim.receive()[2])[0] == 11 and shim.is_closed()
    spawner.end("bob:x")
    with spawner.start("bob:x") as shim:
        wait_for(lambda: taken.host.shim_pids("bob:x"), what="a shim")
        assert shim.is_closed()  # nothing was said
    spawner.end("bob:x")
    wait_for(taken.only_alices, what="an end of all")


# ------------------------------------------------------------------ a shim: in each phase

# How a sandbox comes into a phase: words of its command line, then records.
PHASES = {
    "starting": ("standin:vm.boot=delay:1200", []),
    "running": ("", []),
    "pausing": ("standin:vm.pause=delay:700", ["PAUSE"]),
    "paused": ("", ["PAUSE!"]),
    "resuming": ("standin:vm.resume=delay:700", ["PAUSE!", "RESUME"]),
    "snapshotting": ("standin:vm.snapshot=delay:700", ["SNAPSHOT"]),
    "ending": ("standin:vm.power-button=hang", ["KILL"]),
    "ended": ("do=poweroff", []),
}
BODIES = {**wire.BODIES, "KILL": struct.pack("<I", 700),
          "SNAPSHOT": struct.pack("<II", 1, 0) + b"stolen".ljust(64, b"\0") + bytes(8)}
# All that a shim is ever asked, but for its end, and what else there is.
ASKED = ["HELLO", "PAUSE", "RESUME", "POWER_BUTTON", "SNAPSHOT", "BALLOON", "RESIZE", "COUNTERS",
         "CONNECT", "CONSOLE_READ", "CONSOLE_WRITE"]


def reach(taken, spawner, phase):
    """A shim in that phase, and the channel to it."""
    words, steps = PHASES[phase]
    shim = spawner.start("bob:x")
    shim.send(wire.record("CREATE", wire.create(cmdline="tick=0 " + words), 1))
    if phase != "starting":
        assert shim.receive()[0] == "CREATED", phase
    for number, step in enumerate(steps, 2):
        shim.send(wire.record(step.strip("!"), BODIES[step.strip("!")], number))
        if step.endswith("!"):
            assert shim.receive()[0] == "DONE", (phase, step)
    if phase == "ended":
        assert shim.receive()[0] == "EXIT"
    return shim


@pytest.mark.standin
@pytest.mark.parametrize("phase", PHASES)
def test_a_shim_in_each_phase(taken, phase):
    """Held by: a table of which request is taken when (shim/ops.c); one operation at a time. Each
    is answered once, whatever comes beside it; a bad record closes the channel, and the sandbox is
    taken over by the next one, or ended."""
    dice = random.Random(phase)
    spawner = taken.spawner()
    with reach(taken, spawner, phase) as shim:
        # All of them, twice and in no order; under numbers of their own and under the same.
        asked = ASKED * 2
        dice.shuffle(asked)
        for number, kind in enumerate(asked, 100):
            shim.send(wire.record(kind, BODIES[kind], number if number % 5 else 100))
        shim.send(wire.record("HELLO", number=999))
        answers = {}
        while 999 not in answers:
            kind, number, _ = shim.receive()
            answers[number] = kind
        refused = [k for k in answers.values() if k == "ERROR"]
        assert len(refused) >= 2, answers
        taken.unharmed(phase)
        # And one that closes it.
        shim.send(dice.choice((wire.record("PAUSE", bytes(3)), wire.record("CREATE"), b"\0\1",
                               wire.record("GONE", bytes(524), 0))))
        assert shim.is_closed(), phase
    if taken.host.shim_pids("bob:x"):
        with wire.Link(taken.host, "bob:x") as link:
            assert link.hello() in wire.PHASES
            # Gone before its answer.
            link.send(wire.record(dice.choice(ASKED[1:8]), None, 5))
    taken.unharmed(phase)
    spawner.end("bob:x")
    shutil.rmtree(os.path.join(taken.host.state_dir, "templates", "bob:stolen"), ignore_errors=True)
    wait_for(taken.only_alices, what=f"an end of {phase}")


def test_connections_without_end(taken):
    """A thousand to one shim: said nothing, said hello, said half; two at once."""
    shim = taken.pids[2]
    before = len(os.listdir(f"/proc/{shim}/fd"))
    with wire.Link(taken.host, "alice:victim") as link:
        assert link.hello() == "running"
    with open(f"/proc/{shim}/status") as f:
        was = int(next(x for x in f if x.startswith("VmRSS")).split()[1])
    for n in range(1000):
        with wire.Link(taken.host, "alice:victim") as link:
            if n % 3 == 1:
                link.send(wire.record("HELLO"))
            elif n % 3 == 2:
                link.send(b"\1\0")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(wire.Link(taken.host, "alice:victim"))
    wait_for(lambda: len(os.listdir(f"/proc/{shim}/fd")) <= before, what="no descriptor kept")

    def runs():  # the one before may still count as the link
        with wire.Link(taken.host, "alice:victim") as link, contextlib.suppress(wire.Closed):
            return link.hello() == "running"
    wait_for(runs, what="a link")
    with open(f"/proc/{shim}/status") as f:
        assert int(next(x for x in f if x.startswith("VmRSS")).split()[1]) < was + 1024
