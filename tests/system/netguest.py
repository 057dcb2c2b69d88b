# SPDX-License-Identifier: Apache-2.0
"""A guest as the tests of networks see it, and the table of what it may reach.

The stand-in's guest and the Linux one are told in different words to do the same.
"""
import re
import select
import socket
import time

from harness import wait_for
from networld import (GATEWAY, HOST, HOST_SIDE, IN_POOL, METADATA, PORT, PRIVATE, PUBLIC, RESOLVER,
                      SIDE, UDP, read_all)
from test_disk_sets import at_once

MULTICAST = "224.0.0.251"
# Who hears what is sent there, if anybody may.
HEARERS = {PUBLIC: "outside", RESOLVER: "outside", METADATA: "outside", IN_POOL: "outside",
           **{address: "outside" for address in PRIVATE}, SIDE: "side", HOST: "host",
           HOST_SIDE: "host", GATEWAY: None, MULTICAST: None}
# Public addresses, so only the host can know that they are its own or not behind the uplink.
HOSTS_TO_STOP = {HOST, HOST_SIDE, SIDE}


class StandinGuest:
    udp_port = 7  # what comes there is told, and goes back

    def __init__(self, host, box):
        self.host, self.box = host, box
        # So that it knows its gateway: it has room for one packet that has to wait.
        self._tell(["ping " + GATEWAY], rf"ICMP {GATEWAY} 0 0\n")

    def _said(self, start):
        return self.host.console(self.box)[start:]

    def _tell(self, lines, pattern):
        """What it says from the first of the lines on until the pattern comes."""
        start = len(self.host.console(self.box))
        self.host.send(self.box, "".join(line + "\n" for line in lines))
        wait_for(lambda: re.search(pattern, self._said(start)), 15, f"{pattern} after {lines[:3]}")
        return self._said(start)

    def _tell_and_settle(self, lines):
        """Until the gateway answers, which it does behind all that was to be answered before."""
        return self._tell([*lines, "ping " + GATEWAY], rf"ICMP {GATEWAY} 0 0\n")

    def udp(self, addresses, port=PORT):
        self._tell_and_settle([f"send {a} {port}" for a in addresses])

    def tcp(self, addresses, port=PORT):
        said = self._tell_and_settle([f"knock {a} {port}" for a in addresses])
        return set(re.findall(rf"KNOCK (\S+) {port} OPEN", said))

    def ping(self, addresses):
        said = self._tell_and_settle([f"ping {a}" for a in addresses if a != GATEWAY])
        return set(re.findall(r"ICMP (\S+) 0 0\n", said))

    def heard(self):
        """Who sent it datagrams, ever: (address, port)."""
        return [(a, int(p)) for a, p in
                re.findall(r"^UDP (\S+) (\d+) ", self.host.console(self.box), re.M)]


class LinuxGuest:
    udp_port = 5000

    def __init__(self, host, box):
        self.host, self.box = host, box
        self.tags = 0

    def _do(self, word, peers, ends):
        self.tags += 1
        tag = f"{self.box}.{self.tags}"
        return self.host.tell(self.box, f"{word} {tag} " + " ".join(peers), f"^{ends} {tag}( |$)")

    def udp(self, addresses, port=PORT):
        self._do("udp", [f"{a}:{port}" for a in addresses], "SENT")

    def tcp(self, addresses, port=PORT):
        said = self._do("tcp", [f"{a}:{port}" for a in addresses], "DONE")
        return set(re.findall(rf"^TCP \S+ (\S+):{port} (?!ERR)", said, re.M))

    def ping(self, addresses):
        return set(re.findall(r"^PONG \S+ (\S+)$", self._do("ping", addresses, "DONE"), re.M))

    def heard(self):
        return [(a, int(p)) for a, p in
                re.findall(r"^HEARD (\S+):(\d+) ", self.host.console(self.box), re.M)]


def send_all(guest, addresses):
    """By UDP, TCP and ICMP; gives what was answered: (UDP, TCP, ICMP)."""
    before = len(guest.heard())
    guest.udp(addresses)
    answers = guest.tcp(addresses), guest.ping(addresses)
    return sorted(guest.heard()[before:]), *answers


def check_egress(world, guests, others=()):
    """
    `guests` maps each guest to the addresses that it may reach. All send at once to all that there
    is, and to other sandboxes' addresses: what is allowed comes to its peer once and is answered,
    and of the rest nobody sees a single frame.
    """
    addresses = [*HEARERS, *others]
    world.clear()
    own = {g: g.host.get(g.box)["network"]["address"] for g in guests}
    answers = at_once([lambda g=g: send_all(g, addresses) for g in guests])
    for (guest, allowed), (udp, tcp, icmp) in zip(guests.items(), answers):
        assert udp == sorted((a, PORT) for a in allowed), (guest.box, udp)
        assert tcp == set(allowed) and icmp == {GATEWAY, *allowed}, (guest.box, tcp, icmp)
        # What its slot lets out, on its veth, and so before any rule of the host.
        left = {p.to for p in world.wires["host"].see()
                if p.source == own[guest] and not p.outgoing}
        assert left - (HOSTS_TO_STOP if allowed else set()) == set(allowed), (guest.box, left)
    for address in addresses:
        hearer = HEARERS.get(address)
        want = sum(address in allowed for allowed in guests.values())
        if hearer:
            heard = world.peers[hearer].got(to=address, protocol=UDP)
            assert len(heard) == want, (address, heard)
        for name in ("outside", "side"):
            frames = world.wires[name].count(to=address, outgoing=False)
            assert (frames > 0) == (want > 0 and hearer == name), (name, address)
    # Nobody out there sees an address of the pool or of the guests' own net.
    for name in ("outside", "side"):
        assert {p.source for p in world.wires[name].see() if not p.outgoing and p.source} <= \
            {HOST, HOST_SIDE}


def connects(namespace, pairs, timeout=0.4):
    """Of (address, port), those that take a TCP connection within that time, tried at once."""
    sockets = {}
    with namespace:
        for pair in pairs:
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(pair)
            sockets[s.fileno()] = s, pair
    poll = select.poll()
    for number in sockets:
        poll.register(number, select.POLLOUT)
    taken, left, end = set(), len(sockets), time.monotonic() + timeout
    while left and (ready := poll.poll(max(0, end - time.monotonic()) * 1000)):
        for number, _ in ready:
            s, pair = sockets[number]
            poll.unregister(number)
            left -= 1
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                taken.add(pair)
    for s, _ in sockets.values():
        s.close()
    return taken


def check_ingress(world, guest, host_port):
    """
    From each side: the forwarded ports (80 by TCP, guest.udp_port by UDP, host_port on the host's
    own address) lead to the guest and are answered, all others nowhere.
    """
    address = guest.host.get(guest.box)["network"]["address"]
    shut = [(address, 81), (address, PORT), (address, 1), (HOST, host_port + 1)]
    sides = world.outside, world.side, world.host
    assert at_once([lambda n=n: connects(n, shut) for n in sides]) == [set()] * 3
    for namespace in sides:
        for way in ((address, 80), (HOST, host_port)):
            status, body = namespace.get(*way)
            assert status == 200 and body, (way, status, body)
    before = len(guest.heard())
    with world.outside:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.sendto(b"shut", (address, guest.udp_port + 1))
        s.sendto(b"open", (address, guest.udp_port))
        wait_for(lambda: len(guest.heard()) > before, 5, "the datagram")
        if isinstance(guest, StandinGuest):
            s.settimeout(5)
            assert s.recvfrom(100) == (b"open", (address, guest.udp_port))
    assert [a for a, _ in guest.heard()[before:]] == ["8.8.0.2"]


def exchange(s, data):
    """Sends, ends its own direction, and reads what comes until the other is ended too."""
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    return read_all(s)
