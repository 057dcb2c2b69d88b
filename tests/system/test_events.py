# SPDX-License-Identifier: Apache-2.0
"""GET /v1/events: order, replay, gaps, who sees what, readers of all kinds."""
import json
import os
import re
import socket

import pytest

import harness
from harness import STRANGER_UID, TENANT_UIDS, UnixConnection, wait_for

ALICE, BOB = TENANT_UIDS["alice"], TENANT_UIDS["bob"]
pytestmark = pytest.mark.standin


def life(host, box="one", uid=0):
    """A whole life: six events."""
    host.create(id=box, uid=uid, cmdline="tick=0")
    host.act(box, "pause", uid=uid)
    host.act(box, "resume", uid=uid)
    host.destroy(box, uid=uid)


LIFE = [(None, "creating"), ("creating", "running"), ("running", "paused"), ("paused", "running"),
        ("running", "destroying"), ("destroying", None)]


def steps(events):
    return [(e["from"], e["to"]) for e in events]


def test_order_and_shape(host):
    events = host.events()
    for n in range(3):
        life(host, f"box{n}")
    events.wait(sandbox="box2", to=None)
    seen = list(events.seen)
    assert [e["seq"] for e in seen] == list(range(1, 19))
    assert [e["sandbox"] for e in seen] == [f"box{n // 6}" for n in range(18)]
    for n in range(3):
        assert steps(seen[6 * n:6 * n + 6]) == LIFE
    assert [e["time"] for e in seen] == sorted(e["time"] for e in seen)
    for e in seen:
        assert e["event"] == "state" and e["tenant"] == "admin" and e["reason"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", e["time"]), e["time"]
    assert seen[5]["exit"]["cause"] == "destroyed"
    assert all("exit" not in e for e in seen[:5])


def test_the_event_is_there_before_the_answer(host):
    """Who reads an answer finds what led to it in the events."""
    for n in range(5):
        host.create(id=f"box{n}", cmdline="tick=0")
        replay = host.events("?since=0")
        replay.wait(sandbox=f"box{n}", to="running")
        replay.close()


def test_replay_since(host):
    live = host.events()
    for n in range(3):
        life(host, f"box{n}")
    live.wait(seq=18)
    for since in (0, 1, 7, 17):
        replay = host.events(f"?since={since}")
        replay.wait(seq=18)
        assert replay.seen == live.seen[since:]
    at_the_end, new = host.events("?since=18"), host.events()
    life(host, "next")
    for stream in (at_the_end, new):
        stream.wait(seq=24)
        assert [e["seq"] for e in stream.seen] == list(range(19, 25))
    # A number that this daemon never gave: it is from before a restart, all is told, with a gap.
    strange = host.events("?since=1000")
    strange.wait(seq=24)
    assert strange.seen[0]["event"] == "gap"
    assert [e["seq"] for e in strange.seen[1:]] == list(range(1, 25))


def test_gap(make_host):
    host = make_host(limits="event_backlog = 16")
    for n in range(5):
        life(host, f"box{n}")
    replay = host.events("?since=3")
    replay.wait(seq=30)
    assert replay.seen[0] == {"event": "gap", "from": 4, "to": 14}
    assert [e["seq"] for e in replay.seen[1:]] == list(range(15, 31))
    edge = host.events("?since=14")
    edge.wait(seq=30)
    assert [e["seq"] for e in edge.seen] == list(range(15, 31)), "nothing is missing here"
    edge = host.events("?since=13")
    edge.wait(seq=30)
    assert edge.seen[0] == {"event": "gap", "from": 14, "to": 14}


def test_tenants(host):
    streams = {"alice": host.events(uid=ALICE), "bob": host.events(uid=BOB), None: host.events(),
               "admin of alice": host.events("?tenant=alice"),
               "admin's own": host.events("?tenant=admin")}
    life(host, "one", ALICE)
    life(host, "one", BOB)
    life(host, "two", ALICE)
    life(host, "root")
    streams[None].wait(seq=24)
    for name, tenant in (("alice", "alice"), ("admin of alice", "alice")):
        streams[name].wait(sandbox="two", to=None)
        assert {e["tenant"] for e in streams[name].seen} == {tenant}
        assert steps(streams[name].seen) == LIFE * 2
    streams["bob"].wait(sandbox="one", to=None)
    assert {e["tenant"] for e in streams["bob"].seen} == {"bob"}
    assert steps(streams["bob"].seen) == LIFE
    streams["admin's own"].wait(sandbox="root", to=None)
    assert steps(streams["admin's own"].seen) == LIFE
    assert len(streams[None].seen) == 24
    replay = host.events("?since=0", uid=BOB)
    replay.wait(sandbox="one", to=None)
    assert replay.seen == streams["bob"].seen
    assert host.api("GET", "/v1/events?tenant=alice", uid=BOB).status == 403
    assert host.api("GET", "/v1/events", uid=STRANGER_UID).status == 403


def test_slow_reader(make_host):
    """It holds up nobody; what ran past it is told as a gap, and what follows is in order."""
    host = make_host(limits="event_backlog = 64")
    slow = UnixConnection(host.control)
    slow.request("GET", "/v1/events")
    response = slow.getresponse()  # and reads no more
    quick = host.events()
    host.create(id="one", cmdline="tick=0")
    for _ in range(800):
        host.act("one", "pause")
        host.act("one", "resume")
    quick.wait(seq=1602)
    assert [e["seq"] for e in quick.seen] == list(range(1, 1603))
    # It wakes up.
    seen = []
    while not seen or seen[-1].get("seq") != 1602:
        line = response.readline()
        assert line, "the stream was ended"
        if line.strip():
            seen.append(json.loads(line))
    expected = 1
    gaps = 0
    for e in seen:
        if e["event"] == "gap":
            assert e["from"] == expected and e["to"] >= e["from"]
            expected = e["to"] + 1
            gaps += 1
        else:
            assert e["seq"] == expected
            expected += 1
    assert gaps >= 1, "so much does not lie in a socket"
    # And gets what is new like everybody else.
    host.destroy("one")
    assert json.loads(response.readline())["to"] == "destroying"
    slow.close()
    with open(f"/proc/{host.daemon.pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
    assert rss < (128 if harness.SANITIZED else 64) * 1024, f"cloisterd grew to {rss} KiB"


def test_readers_come_and_go(host):
    """Streams that break off leave the others, and the daemon, as they are."""
    keeper = host.events()
    fds = f"/proc/{host.daemon.pid}/fd"
    before = len(os.listdir(fds))
    for n in range(60):
        connection = UnixConnection(host.control, ALICE if n % 2 else 0)
        connection.request("GET", "/v1/events?since=0")
        sock = connection.sock
        response = connection.getresponse() if n % 3 else None
        if n % 10 == 0:
            life(host, f"box{n}")
        sock.shutdown(socket.SHUT_RD if n % 5 == 0 else socket.SHUT_RDWR)
        if response:
            response.close()
        connection.close()
    keeper.wait(sandbox="box50", to=None)
    assert [e["seq"] for e in keeper.seen] == list(range(1, 37))
    wait_for(lambda: len(os.listdir(fds)) <= before, what="closed connections to be let go")


def test_many_readers(host):
    readers = [host.events(uid=ALICE) for _ in range(100)]
    life(host, "one", ALICE)
    for reader in readers:
        reader.wait(sandbox="one", to=None)
        assert steps(reader.seen) == LIFE


def test_streams_end_with_the_daemon(host):
    events = host.events()
    life(host)
    events.wait(sandbox="one", to=None)
    assert host.stop() == 0
    wait_for(lambda: events.closed, what="the stream's end")
    assert len(events.seen) == 6
