# SPDX-License-Identifier: Apache-2.0
"""Networks and vsock with the real Linux in the real Cloud Hypervisor.

It is booted once for the whole file; each case restores clones of its template. They all have the
same address, port numbers and memory inside.
"""
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

import harness
from conftest import need
from harness import alive, wait_for
from linuxguest import LinuxHost
from netguest import LinuxGuest, check_egress, check_ingress, connects, exchange
from networld import (ETH_ARP, ETH_IP, ETH_IP6, ETH_VLAN, GATEWAY, GUEST, GUEST_MAC, HOST, METADATA,
                      PORT, PORTS, PUBLIC, RESOLVER, TAP_MAC, UDP, World, frame, ipv4_udp, read_all)
from test_connect import Stream
from test_disk_sets import at_once
from test_network import POLICIES, ports

pytestmark = pytest.mark.ch
HTTP = {"http": {"port": 80, "path": "/health"}}


@pytest.fixture(scope="module")
def linux_host():
    for what in ("root", "ch", "kvm", "linux"):
        need(what)
    world = World()
    host = LinuxHost(world)
    try:
        yield host.start().make_template()
        host.close()
    finally:
        host.cleanup()
        world.close()


@pytest.fixture
def linux(linux_host):
    """Without any sandbox but the source; whatever a test leaves must go without a trace."""
    yield linux_host
    if linux_host.daemon.poll() is not None:
        linux_host.start()
    assert not linux_host.clear_clones()


def ready(linux, *boxes, **spec):
    """Clones that answer to HTTP, made at the same time."""
    at_once([lambda b=b: linux.clone(b, wait_for=HTTP, **spec) for b in boxes])


def open_ports(*extra):
    return [*ports(80, 81), *ports(5000, proto="udp"), *extra]


def test_memory_is_the_same_and_disks_are_apart(linux):
    # The source has gone on since, and writes what nobody else may see.
    assert linux.http("src", "/sum") == linux.sum
    assert linux.http("src", "/diskwrite/1") == "wrote 1\n"
    at_once([lambda b=b, m=m: linux.clone(b, wait_for=HTTP, memory_restore=m)
             for b, m in (("map", "map"), ("copy", "copy"))])
    for number, box in enumerate(("map", "copy"), start=2):
        assert linux.http(box, "/sum") == linux.sum
        assert linux.sector(box, 1) == bytes(512)
        assert linux.http(box, f"/diskwrite/{number}") == f"wrote {number}\n"
    for number, box in enumerate(("src", "map", "copy"), start=1):
        assert linux.sector(box, 1) == bytes([number]) * 512, box
    told = {}
    for box in ("map", "copy"):
        linux.wait_console(box, "TOLD ")
        told[box] = re.search(r"^TOLD (.*)$", linux.console(box), re.M).group(1)
        assert f'"id":"{box}"' in told[box]
    for key in ("generation", "entropy"):
        values = {re.search(rf'"{key}":"([0-9a-f]+)"', t).group(1) for t in told.values()}
        assert len(values) == 2, values
    # Fresh memory of one is not in the other.
    assert linux.http("map", "/dirty/1") == "dirty 1\n"
    assert linux.http("map", "/sum") != linux.http("copy", "/sum") == linux.sum


def test_flows_of_each_policy(linux):
    host_ports = dict(zip(POLICIES, PORTS[::2]))
    at_once([lambda n=n: linux.clone(n, wait_for=HTTP, network={
        "egress": n, **POLICIES[n][0], "ports": [*ports(80, host=host_ports[n]),
                                                 *ports(5000, proto="udp")]}) for n in POLICIES])
    guests = {LinuxGuest(linux, n): allowed for n, (_, allowed) in POLICIES.items()}
    check_egress(linux.world, guests, [linux.address("src")])
    at_once([lambda g=g: check_ingress(linux.world, g, host_ports[g.box]) for g in guests])


def test_names(linux):
    ready(linux, "a", network={"egress": "internet"})
    linux.world.clear()
    linux.tell("a", f"udp name {GATEWAY}:53", "^HEARD 10.177.0.1:53 name")
    [question] = linux.world.peers["outside"].heard
    assert (question.to, question.source) == (RESOLVER, HOST)


def test_frames_of_a_guest_that_lies(linux):
    ready(linux, "other", "a", network={"egress": "internet"})
    world, other, own = linux.world, linux.address("other"), linux.address("a")

    def udp(source, tag):
        return ipv4_udp(source, PUBLIC, 5000, PORT, tag)

    def arp(sender, target, mac=GUEST_MAC):
        return struct.pack("!HHBBH6s4s6s4s", 1, ETH_IP, 6, 4, 2, mac, socket.inet_aton(sender),
                           bytes(6), socket.inet_aton(target))

    strange_mac = bytes.fromhex("02c1015700ff")
    ip6 = struct.pack("!IHBB16s16s", 6 << 28, 0, 59, 64,
                      socket.inet_pton(socket.AF_INET6, "fe80::1"),
                      socket.inet_pton(socket.AF_INET6, "ff02::1"))
    lies = [frame(ETH_IP, udp(s, "lie"))
            for s in (other, own, HOST, PUBLIC, METADATA, "127.0.0.1", "0.0.0.0", GATEWAY)]
    lies += [
        frame(ETH_IP, udp(GUEST, "lie"), source=strange_mac),
        frame(ETH_IP, udp(GUEST, "lie"), source=TAP_MAC),
        frame(ETH_IP, udp(GUEST, "lie"), to=b"\xff" * 6),
        frame(ETH_IP, udp(GUEST, "lie"), to=strange_mac),
        frame(ETH_VLAN, struct.pack("!HH", 1, ETH_IP) + udp(GUEST, "lie")),
        frame(ETH_IP6, ip6), frame(0x88CC, bytes(46)),
        frame(ETH_ARP, arp(GATEWAY, GUEST)), frame(ETH_ARP, arp(HOST, GATEWAY, strange_mac)),
    ]
    world.clear()
    frames = [*lies, frame(ETH_IP, udp(GUEST, "truth"))]
    said = linux.tell("a", "\n".join("frame " + f.hex() for f in frames),
                      rf"(^FRAMED \d+\n[^F]*){{{len(frames)}}}")
    assert "ERR" not in said, said
    wait_for(lambda: world.peers["outside"].heard, 5, "the truth")
    linux.http("src", "/health")
    assert [h.text for h in world.peers["outside"].heard] == ["truth"]
    # On the host's side of its veth there was that one frame, and the answer.
    assert world.wires["host"].count(kind=ETH_IP, to=PUBLIC, outgoing=False) == 1
    # (What the host itself says in IPv6, on other interfaces, is no guest's.)
    came = [p for p in world.wires["host"].see() if p.interface.startswith("cl") and not p.outgoing]
    assert came and {p.kind for p in came} <= {ETH_IP, ETH_ARP}
    # Its own lies have not made it deaf.
    guest = LinuxGuest(linux, "a")
    assert guest.tcp([PUBLIC]) == {PUBLIC}


def test_two_clones_talk_to_the_same_peer_at_the_same_time(linux):
    boxes = ["one", "two"]
    ready(linux, *boxes, network={"egress": "internet", "ports": open_ports()})
    addresses = [linux.address(b) for b in boxes]
    assert len(set(addresses)) == len(boxes)
    linux.world.clear()

    def talk(box):
        for turn in range(2):
            tag = f"{box}-{turn}"
            to = f"{PUBLIC}:{PORT}"
            said = linux.tell(box, f"tcp {tag} {to}", f"^DONE {tag}")
            assert re.search(rf"^TCP {tag} {to} {tag} from {HOST}:\d+$", said, re.M), said
            linux.tell(box, f"udp {tag} {to}", f"^HEARD {to} {tag} from {HOST}$")

    at_once([lambda b=b: talk(b) for b in boxes])
    peer, wire = linux.world.peers["outside"], linux.world.wires["host"]
    for box in boxes:
        assert len([h for h in peer.heard if h.text.startswith(box + "-")]) == 4
    # The same port in each guest, and an address for each outside.
    for port in (5000, 6000):
        senders = {p.source for p in wire.see() if p.sport == port and p.to == PUBLIC
                   and not p.outgoing}
        assert senders == set(addresses), (port, senders)
    for box in boxes:
        heard = re.findall(r"^HEARD \S+ (\S+) from", linux.console(box), re.M)
        assert heard == [f"{box}-{turn}" for turn in range(2)]
    # And from outside, each is itself.
    bodies = {}
    def ask(address):
        with linux.world.outside:
            s = socket.create_connection((address, 81), 5)
        with s:
            bodies[address] = exchange(s, address.encode() * 100)
    at_once([lambda a=a: ask(a) for a in addresses])
    for address in addresses:
        assert bodies[address] == expected_sum(address.encode() * 100)


def expected_sum(data):
    """What the agent's ports answer to those bytes."""
    total = 0
    for byte in data:
        total = (total * 33 + byte) & 0xFFFFFFFF
    return f"GOT {len(data)} {total:08x}\n".encode()


def test_wait_for_each_kind_of_a_clone(linux):
    kinds = {"tcp": {"tcp": 81}, "http": HTTP, "vsock": {"vsock": 1024},
             "console": {"console": "TICK"}}
    at_once([lambda n=n, k=k: linux.clone(n, wait_for=k) for n, k in kinds.items()])
    for name in kinds:
        assert linux.get(name)["timings_us"]["ready_us"] > 0

    def fail(name, kind):
        detail = linux.clone(name, expect=504, wait_for={**kind, "timeout_s": 1})["detail"]
        assert name[2:] in detail, detail

    # Port 81 takes the request and never answers: its connection is open when time is up.
    never = {"tcp": {"tcp": 82}, "http": {"http": {"port": 81, "path": "/"}},
             "vsock": {"vsock": 1025}, "console": {"console": "never"}}
    links = linux.world.links()
    at_once([lambda n=n, k=k: fail("n-" + n, k) for n, k in never.items()])
    assert not [b for b in linux.list() if b["id"].startswith("n-")]
    wait_for(lambda: linux.world.links() == links, 5, "the end of their interfaces")


def test_hibernate_and_wake_keep_the_address(linux):
    ready(linux, "a", network={"egress": "internet", "ports": open_ports()}, memory_restore="copy")
    mine = linux.address("a")
    linux.tell("a", f"tcp before {PUBLIC}:{PORT}", "^DONE before")
    for turn in range(2):
        linux.act("a", "hibernate")
        assert connects(linux.world.outside, [(mine, 80)], 0.2) == set()
        linux.act("a", "wake")
        assert linux.address("a") == mine
        assert linux.world.outside.get(mine, 80)[0] == 200
    said = linux.tell("a", f"tcp after {PUBLIC}:{PORT} {METADATA}:{PORT}", "^DONE after")
    assert f" after from {HOST}:" in said and f"{METADATA}:{PORT} ERR" in said, said


def test_connections_outlive_cloisterd(linux):
    ready(linux, "a", network={"egress": "internet", "ports": open_ports()})
    mine = linux.address("a")
    with linux.world.outside:
        inward = socket.create_connection((mine, 81), 5)
    with inward:
        inward.sendall(b"first")
        linux.stop(signal.SIGKILL)
        assert linux.world.outside.get(mine, 80)[0] == 200
        inward.sendall(b"second")
        linux.start()
        assert linux.address("a") == mine
        assert exchange(inward, b"third") == expected_sum(b"firstsecondthird")
    assert f"late from {HOST}:" in linux.tell("a", f"tcp late {PUBLIC}:{PORT}", "^DONE late")
    linux.destroy("a")
    assert linux.clone("b", wait_for=HTTP)["network"]["address"] != mine


def test_nothing_is_left_of_the_killed(linux):
    ready(linux, "a", "b", network={"egress": "internet", "ports": open_ports()})
    links = len(linux.world.links())
    with linux.world.outside:
        sockets = [socket.create_connection((linux.address(b), 81), 5) for b in "ab"]
    for s in sockets:
        s.sendall(b"x" * 1000)
    pid = linux.get("a")["vmm"]["pid"]
    [shim] = linux.shim_pids("admin:b")
    os.kill(pid, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    for box in "ab":
        linux.wait_state(box, "crashed")
    wait_for(lambda: not alive(pid) and len(linux.world.links()) == links - 2, 10,
             "the end of their interfaces")
    for s in sockets:
        s.close()


# ------------------------------------------------------------------ rates

def timed_upload(linux, address, data):
    """Seconds that the guest takes to read it all, from the world outside."""
    with linux.world.outside:
        s = socket.create_connection((address, 81), 20)
    with s:
        start = time.monotonic()
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert read_all(s).startswith(f"GOT {len(data)} ".encode())
        return time.monotonic() - start


def timed_pour(linux, box, kib):
    """Seconds that the guest takes to send that much to the world outside."""
    with linux.world.outside:
        listener = socket.create_server(("8.8.0.2", 0))
    with listener:
        listener.settimeout(20)
        linux.send(box, f"pour 8.8.0.2:{listener.getsockname()[1]} {kib}\n")
        s, _ = listener.accept()
        with s:
            start = time.monotonic()
            assert len(read_all(s)) == kib << 10
            return time.monotonic() - start


def test_rates_are_kept_in_both_directions(linux):
    """The ratio of two rates is in test_network.py: how fast this guest is alone is the host's."""
    network = {"egress": "internet", "ports": open_ports(), "rate": {"rx_mbps": 1, "tx_mbps": 1}}
    ready(linux, "a", network=network)
    assert linux.get("a")["network"]["rate"] == network["rate"]
    kib, took = 160, {}
    at_once([lambda: took.update(to=timed_upload(linux, linux.address("a"), bytes(kib << 10))),
             lambda: took.update(of=timed_pour(linux, "a", kib))])
    # A bucket of 64 KiB goes at once.
    assert min(took.values()) > (kib - 64) * 1024 * 8 / 1e6 * 0.95, took


# ------------------------------------------------------------------ vsock

def test_vsock_both_ways_with_half_close(linux):
    linux.clone("a", wait_for=HTTP)
    data = hashlib.shake_128(b"vsock").digest(300_000)
    with Stream(linux, "a", 2000) as stream:
        assert exchange(stream.sock, data) == expected_sum(data)
    with Stream(linux, "a", 1024) as stream:
        stream.sock.sendall(b"GET /sum HTTP/1.0\r\n\r\n")
        assert stream.read().decode().endswith("\r\n\r\n" + linux.sum)
    assert Stream(linux, "a", 2001).status == 502


def test_cloister_connect(linux):
    linux.clone("a", wait_for=HTTP)
    data = hashlib.shake_128(b"cli").digest(100_000)

    def connect(port, stdin):
        return subprocess.run(
            [os.path.join(harness.BUILD, "cloister"), "-s", linux.control, "connect", "a",
             str(port)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
            check=False)

    done = connect(2000, data)
    assert (done.returncode, done.stdout) == (0, expected_sum(data)), done
    done = connect(1024, b"GET /health HTTP/1.0\r\n\r\n")
    assert done.returncode == 0 and b"hello" in done.stdout, done
    done = connect(2001, b"")
    assert done.returncode == 1 and done.stderr, done


def test_vsock_of_a_hibernated_and_of_a_woken_guest(linux):
    linux.clone("a", wait_for=HTTP, memory_restore="copy")
    with Stream(linux, "a", 2000) as cut:
        cut.sock.sendall(b"cut")
        linux.act("a", "hibernate")
        assert cut.read() == b""
    assert Stream(linux, "a", 2000).status == 409
    linux.act("a", "wake")

    def answers():
        with Stream(linux, "a", 2000) as stream:
            return stream.status == 101 and exchange(stream.sock, b"on") == expected_sum(b"on")

    # CH counts its ports from the start again, so until the guest has closed what was cut the first
    # one can be the port of that, and is refused or ended for it.
    wait_for(answers, 5, "the woken guest's answer")
