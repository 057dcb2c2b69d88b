# SPDX-License-Identifier: Apache-2.0
"""Hostile records towards a shim: what a taken-over supervisor could send.

The channel is closed with a logged reason, the VM lives on, and the next supervisor adopts it.
"""
import contextlib
import errno
import os
import random
import signal
import struct

import pytest

import harness
import wire
from harness import alive, wait_for

pytestmark = pytest.mark.standin
INVALID, VERSION, STATE = 1, 11, 3  # enum err_kind
# Of these each reason has one.
SAYS = ("record of", "record says", "record with", "record without", "record before", "record too",
        "record numbered", "out of turn", "unknown type")


@pytest.fixture
def orphan(host):
    """A running sandbox that no supervisor has a link to: (host, its record)."""
    box = host.create(id="one", cmdline="tick=20 standin:vm.pause=delay:300@2")
    host.wait_console("one", "COUNT 1")
    host.stop(signal.SIGKILL)
    yield host, box
    # Whatever was sent: the VM is as it was, and a supervisor can take it over.
    assert alive(box["vmm"]["pid"])
    host.start()
    found = host.get("one")
    assert (found["state"], found["adopted"], found["vmm"]) == ("running", True, box["vmm"])
    assert host.console("one").count("GUEST UP") == 1
    before = len(host.console("one"))
    wait_for(lambda: len(host.console("one")) > before, what="more of the console")
    host.send("one", "still here\n")
    host.wait_console("one", "ECHO still here")


def body(name, **change):
    """The right body of a request with bytes at offsets replaced: at_OFFSET=bytes."""
    raw = bytearray(wire.BODIES[name])
    for key, value in change.items():
        offset = int(key.split("_")[1])
        raw[offset:offset + len(value)] = value
    return bytes(raw)


def refused_records():
    """(what is wrong, whether HELLO comes first, the record)"""
    record, u32 = wire.record, lambda n: struct.pack("<I", n)
    yield from (
        ("empty", True, b"\0"),
        ("short header", True, record("HELLO")[:15]),
        ("header only", True, record("PAUSE", b"")),
        ("body too short", True, record("HELLO", bytes(31))),
        ("body too long", True, record("HELLO", bytes(33))),
        ("length says less", True, record("PAUSE", length=16)),
        ("length says more", True, record("PAUSE", length=24)),
        ("length 0", True, record("PAUSE", length=0)),
        ("length huge", True, record("PAUSE", length=2**32 - 1)),
        ("largest record", True, record("HELLO", bytes(65536 - 16))),
        ("larger than any", True, record("HELLO", bytes(65536))),
        ("type 0", True, record(0, b"")),
        ("unknown type", True, record(len(wire.TYPES), b"")),
        ("type 65535", True, record(65535, bytes(4))),
        ("reserved header field", True, record("PAUSE", zero=1)),
        ("reserved body field", True, record("PAUSE", u32(1))),
        ("request without a number", True, record("PAUSE", number=0)),
        ("hello without a number", False, record("HELLO", number=0)),
        ("acknowledgement with a number", True, record("EXIT_ACK", number=1)),
        ("request before HELLO", False, record("PAUSE")),
        ("kill before HELLO", False, record("KILL")),
        ("acknowledgement before HELLO", False, record("EXIT_ACK", number=0)),
        ("create again", True, record("CREATE")),
        ("build not ended", False, record("HELLO", b"x" * 32)),
        ("build not padded", False, record("HELLO", body("HELLO", at_20=b"x"))),
        ("build with an escape", False, record("HELLO", body("HELLO", at_0=b"\x1b[2J"))),
        ("build with high bytes", False, record("HELLO", body("HELLO", at_0=b"\xc3\xa9"))),
        ("grace too long", True, record("KILL", u32(3600001))),
        ("tail is no boolean", True, record("CONSOLE_READ", body("CONSOLE_READ", at_8=u32(2)))),
        ("wait is no boolean", True, record("CONSOLE_READ", body("CONSOLE_READ", at_12=u32(2)))),
        ("balloon larger than any guest", True, record("BALLOON", struct.pack("<II", 2**22, 0))),
        ("balloon with a reserved field", True, record("BALLOON", struct.pack("<II", 4, 1))),
        ("resize of nothing", True, record("RESIZE", bytes(8))),
        ("resize of both", True, record("RESIZE", struct.pack("<II", 1, 32))),
        ("too many vCPUs", True, record("RESIZE", struct.pack("<II", 255, 0))),
        ("counters with a reserved field", True, record("COUNTERS", u32(1))),
        ("debug with a reserved field", True, record("DEBUG", u32(1))),
        ("debug without a number", True, record("DEBUG", number=0)),
        ("no input", True, record("CONSOLE_WRITE", struct.pack("<II", 0, 0))),
        ("less input than said", True, record("CONSOLE_WRITE", struct.pack("<II", 0, 2) + b"x")),
        ("more input than said", True, record("CONSOLE_WRITE", struct.pack("<II", 0, 1) + b"xy")),
        ("input length huge", True, record("CONSOLE_WRITE", struct.pack("<II", 0, 2**32 - 1) + b"x")),
        ("input over the limit", True,
         record("CONSOLE_WRITE", struct.pack("<II", 0, 32769) + bytes(32769))),
        ("input with a reserved field", True,
         record("CONSOLE_WRITE", struct.pack("<II", 1, 1) + b"x")),
        ("input without its head", True, record("CONSOLE_WRITE", bytes(4))),
    )
    # Right records, of the other direction or of the other process.
    sizes = {"ERROR": 392, "DONE": 8, "HOST": 88, "START": 128, "STARTED": 8, "END": 128,
             "REMOVE": 132, "GONE": 524, "CREATED": 56, "EVENT": 8, "LOG": 520}
    for name, size in sizes.items():
        for number in (0, 1):
            yield f"{name} numbered {number}", True, record(name, bytes(size), number)


def test_malformed_records_close_the_channel(orphan):
    host, box = orphan
    shim, = host.shim_pids("admin:one")
    before = len(os.listdir(f"/proc/{shim}/fd"))
    for what, greet, raw in refused_records():
        with wire.Link(host, "admin:one") as link:
            if greet:
                assert link.hello() == "running"
            try:
                link.send(raw)
            except OSError as error:  # larger than the kernel lets through
                assert error.errno == errno.EMSGSIZE and what == "larger than any"
                continue
            assert link.is_closed(), f"{what}: the channel is open still"
            assert link.logs[-1].startswith("link to the supervisor closed: "), what
            assert any(word in link.logs[-1] for word in SAYS), (what, link.logs)
            assert alive(box["vmm"]["pid"]) and alive(shim), what
    # No request of a shim's carries descriptors; those that come are closed, not kept.
    for count in (1, 2, 9, 250):
        for raw in (wire.record("HELLO"), wire.record("PAUSE"), b"\0"):
            with wire.Link(host, "admin:one") as link, open("/dev/null") as null:
                assert link.hello() == "running"
                link.send(raw, [null.fileno()] * count)
                assert link.is_closed(), f"{count} descriptors"
                if raw != b"\0":
                    assert "descriptors" in link.logs[-1]
    wait_for(lambda: len(os.listdir(f"/proc/{shim}/fd")) <= before, what="no descriptor kept")


def test_another_version_is_answered_as_such(orphan):
    host, _ = orphan
    for version in (0, 2, 65535):
        for raw in (wire.record("HELLO", version=version, number=9),
                    # A body and a type that only that version knows.
                    wire.record(900, bytes(3), version=version, number=9)):
            with wire.Link(host, "admin:one") as link:
                link.send(raw)
                kind, number, answer = link.receive()
                assert (kind, number) == ("ERROR", 9)
                assert wire.error(answer)[0] == VERSION and str(version) in wire.error(answer)[2]
                # The text's field is padded: nothing of the shim's memory is in it.
                assert answer[8:].rstrip(b"\0").count(b"\0") == 0
                assert link.is_closed()


def test_devices_within_what_was_created(orphan):
    """The shim's own limits, whatever a supervisor asks for: 32 MiB, one vCPU, no maxima beyond."""
    host, _ = orphan

    def refused(name, kind, *numbers):
        answer = link.ask(name, struct.pack("<II", *numbers), 7)
        assert answer[:2] == ("ERROR", 7) and wire.error(answer[2])[0] == kind, answer
    with wire.Link(host, "admin:one") as link:
        link.hello()
        assert link.ask("BALLOON", struct.pack("<II", 16, 0), 7)[:2] == ("DONE", 7)
        refused("BALLOON", INVALID, 17, 0)
        refused("RESIZE", INVALID, 2, 0)
        refused("RESIZE", STATE, 0, 32)
        refused("RESIZE", STATE, 0, 64)
        assert link.ask("RESIZE", struct.pack("<II", 1, 0), 7)[:2] == ("DONE", 7)
        kind, number, data = link.ask("COUNTERS", bytes(4), 8)
        assert (kind, number, len(data)) == ("COUNTERS_DATA", 8, 16 + 160 * 72)
        assert struct.unpack_from("<QII", data) == (32 << 20, 0, 0)


def test_requests_that_are_not_possible_now_are_answered(orphan):
    """No fault of the peer's: the channel stays open."""
    host, _ = orphan
    with wire.Link(host, "admin:one") as link:
        assert link.hello() == "running" and link.hello() == "running"
        kind, number, answer = link.ask("RESUME", number=2**32 - 1)
        assert (kind, number) == ("ERROR", 2**32 - 1)
        assert wire.error(answer)[0] == STATE and "running" in wire.error(answer)[2]
        # Nothing to acknowledge, and nobody who waits for an answer.
        link.send(wire.record("EXIT_ACK", number=0))
        assert link.hello() == "running"
        # Numbers are the sender's business: one may be used again, answers tell them apart.
        assert link.ask("PAUSE", number=5)[:2] == ("DONE", 5)
        assert link.ask("PAUSE", number=5)[:2] == ("ERROR", 5)
        assert link.hello() == "paused"
        assert link.ask("RESUME", number=5)[:2] == ("DONE", 5)
        # Reads beyond either end give what there is.
        for offset in (2**63, 2**64 - 1):
            for tail in (0, 1):
                kind, _, data = link.ask("CONSOLE_READ", struct.pack("<QII", offset, tail, 0))
                at, end, eof, length = struct.unpack_from("<QQII", data)
                assert kind == "CONSOLE_DATA" and eof == 0 and at + length <= end
                assert length == len(data) - 24 and (length > 0) == (tail == 1)
        # Waiting readers are bounded, and go with the channel.
        for number in range(1, 9):
            link.send(wire.record("CONSOLE_READ", struct.pack("<QII", 2**62, 0, 1), number))
        kind, number, answer = link.ask("CONSOLE_READ", struct.pack("<QII", 2**62, 0, 1), 9)
        assert (kind, number) == ("ERROR", 9) and "8 readers" in wire.error(answer)[2]
    with wire.Link(host, "admin:one") as link:
        link.hello()
        link.send(wire.record("CONSOLE_READ", struct.pack("<QII", 2**62, 0, 1), 9))
        assert link.hello() == "running"
        # What the link asked for goes on without it, and the answer goes to no other.
        link.send(wire.record("PAUSE", number=5))
        assert link.hello() == "pausing"
    with wire.Link(host, "admin:one") as link:
        assert link.hello() == "pausing"
        wait_for(lambda: link.hello() == "paused", what="the end of the pause")
        assert link.ask("RESUME", number=6)[:2] == ("DONE", 6)


def test_who_may_connect(orphan):
    host, _ = orphan
    with wire.Link(host, "admin:one") as first:
        assert first.hello() == "running"
        # One link at a time: the second is closed, the first stays.
        with wire.Link(host, "admin:one") as second:
            assert second.is_closed()
        assert first.hello() == "running"
        # Root is let in to learn the shim's pid from the socket, and for nothing else.
        with wire.Link(host, "admin:one", uid=0) as root:
            root.send(wire.record("KILL"))
            assert root.is_closed()
        assert first.hello() == "running"
    with wire.Link(host, "admin:one", uid=0) as root:
        root.send(wire.record("HELLO"))
        assert root.is_closed()
    for uid in (harness.STRANGER_UID, *harness.TENANT_UIDS.values(), host.uid_base):
        with pytest.raises(PermissionError):
            wire.Link(host, "admin:one", uid=uid)
    # Even where the socket's mode does not stand in the way.
    path = os.path.join(host.run_dir, "shims", "admin:one.sock")
    os.chmod(path, 0o666)
    try:
        for uid in (harness.STRANGER_UID, *harness.TENANT_UIDS.values(), host.uid_base):
            with wire.Link(host, "admin:one", uid=uid) as link:
                link.send(wire.record("HELLO"))
                assert link.is_closed()
    finally:
        os.chmod(path, 0o600)
    # Connections that say nothing do not keep the next supervisor out once they are gone.
    for _ in range(20):
        wire.Link(host, "admin:one").sock.close()
    with wire.Link(host, "admin:one") as link:
        assert link.hello() == "running"


def test_mutated_records(orphan):
    """Right records with some bits changed: taken, answered or refused, and never the VM's end."""
    host, box = orphan
    dice = random.Random(20)
    shim, = host.shim_pids("admin:one")
    names = ["HELLO", "CONSOLE_READ", "CONSOLE_WRITE", "POWER_BUTTON", "CREATE", "PAUSE", "EXIT_ACK"]
    kill = wire.TYPES.index("KILL")
    outcomes = {"closed": 0, "answered": 0}
    for _ in range(200):
        raw = bytearray(wire.record(dice.choice(names), number=3))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(min(len(raw), 80))
            raw[at] = dice.choice((0, 1, 0x7f, 0x80, 0xff, raw[at] ^ 1 << dice.randrange(8)))
        if dice.random() < 0.2:
            raw = raw[:dice.randrange(1, len(raw))]
        if len(raw) >= 4 and struct.unpack_from("<HH", raw) == (1, kill):
            continue  # may be a right one: it does end the VM
        with wire.Link(host, "admin:one") as link:
            link.hello()
            link.send(bytes(raw))
            try:
                # Either an answer to this one, or to the next, or the end.
                link.ask("HELLO", number=8)
                outcomes["answered"] += 1
            except wire.Closed:
                outcomes["closed"] += 1
        assert alive(box["vmm"]["pid"]) and alive(shim), raw
    assert outcomes["closed"] > 50 and outcomes["answered"] > 10, outcomes

    def runs():  # some of them may have been a right PAUSE
        with wire.Link(host, "admin:one") as link:
            phase = link.hello()
            if phase == "paused":
                link.ask("RESUME")  # refused while it is still busy with one more PAUSE
            return phase == "running"
    wait_for(runs, what="a guest that runs")


def test_a_flood_is_no_harm(orphan):
    """Of a peer that asks and never reads no more requests are taken; the guest runs on meanwhile."""
    host, box = orphan
    shim, = host.shim_pids("admin:one")
    with wire.Link(host, "admin:one") as link:
        assert link.hello() == "running"
        link.sock.setblocking(False)
        sent = refused = 0
        ask = wire.record("CONSOLE_READ", struct.pack("<QII", 65536, 1, 0))

        def is_held_up():
            nonlocal sent, refused
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    link.sock.send(ask)
                    sent += 1
                    refused = 0
            refused += 1
            return refused > 20
        wait_for(is_held_up, timeout=20, what="a link that takes no more")
        assert sent > 10
    assert alive(box["vmm"]["pid"])
    with open(f"/proc/{shim}/status") as f:
        assert int(next(line for line in f if line.startswith("VmRSS")).split()[1]) < 64 * 1024
