# SPDX-License-Identifier: Apache-2.0
"""A world for the tests of networks, in namespaces of its own: the machine's is not touched.

    sandboxes ===[ host   8.8.0.1 up0   ]=== [ i0 8.8.0.2: outside, with all of OUTSIDE ]
                 [        8.9.0.1 side0 ]=== [ s0 8.9.0.2: side, not by the uplink      ]

cloisterd runs in "host". Peers count what comes to them; a Wire counts frames, whatever they are.
"""
import collections
import contextlib
import ctypes
import ipaddress
import os
import select
import socket
import struct
import subprocess
import threading

import harness
from harness import wait_for

CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE, IP_PKTINFO, PACKET_OUTGOING = 33, 8, 4
ETH_IP, ETH_ARP, ETH_IP6, ETH_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, TCP, UDP = socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP

PORT = 7777
HOST, HOST_SIDE, SIDE = "8.8.0.1", "8.9.0.1", "8.9.0.2"
PUBLIC, RESOLVER, METADATA = "9.9.9.9", "1.1.1.1", "169.254.169.254"
PRIVATE = ["10.5.5.5", "172.16.3.3", "192.168.7.7", "100.70.0.1", "192.0.2.9", "198.18.1.1",
           "198.51.100.9", "203.0.113.9"]
POOL = ipaddress.ip_network("100.96.0.0/16")
IN_POOL = "100.96.3.3"  # which the world behind the uplink has too
OUTSIDE = [PUBLIC, RESOLVER, METADATA, IN_POOL, *PRIVATE]
GATEWAY, GUEST = "10.177.0.1", "10.177.0.2"
GUEST_MAC, TAP_MAC = bytes.fromhex("02c101570002"), bytes.fromhex("02c101570001")
PORTS = range(20000, 20100)

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function, *args):
    if function(*args) != 0:
        raise OSError(ctypes.get_errno(), function.__name__)


def _own_namespace():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """Held by a descriptor, pinned nowhere; `with` moves the calling thread (alone) into it."""

    def __init__(self):
        self.back = threading.local()

        def make():
            _call(_libc.unshare, CLONE_NEWNET)
            self.fd = _own_namespace()

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def __enter__(self):
        self.back.fd = _own_namespace()
        _call(_libc.setns, self.fd, CLONE_NEWNET)
        return self

    def __exit__(self, *_):
        _call(_libc.setns, self.back.fd, CLONE_NEWNET)
        os.close(self.back.fd)

    def ip(self, lines):
        self.run("ip", "-batch", "-", stdin=lines)

    def run(self, *argv, stdin=None):
        with self:
            done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
        assert done.returncode == 0, (argv, done.stdout)
        return done.stdout

    def sysctl(self, name, value):
        with self, open("/proc/sys/net/" + name, "w") as f:
            f.write(str(value))

    def connect(self, address, port, timeout=3, source=None):
        """A TCP socket; None when there is no connection."""
        with self:
            s = socket.socket()
        s.settimeout(timeout)
        if source:
            s.bind((source, 0))
        try:
            s.connect((address, port))
        except OSError:
            s.close()
            return None
        return s

    def get(self, address, port, path="/health", timeout=5):
        """(status, body) of an HTTP GET, or None."""
        s = self.connect(address, port, timeout)
        if not s:
            return None
        with s:
            s.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = read_all(s).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def raw(self, source, to, port, text, sport=4444):
        """A datagram with any source at all."""
        with self:
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with s:
            s.sendto(ipv4_udp(source, to, sport, port, text), (to, 0))

    def close(self):
        os.close(self.fd)


def read_all(s):
    out = b""
    while piece := s.recv(65536):
        out += piece
    return out


def _sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, to, protocol, payload):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + payload


def ipv4_udp(source, to, sport, dport, text):
    data = text.encode()
    return ipv4(source, to, UDP, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data)


def frame(kind, payload, source=GUEST_MAC, to=TAP_MAC):
    return to + source + struct.pack("!H", kind) + payload


Packet = collections.namedtuple("Packet", "interface kind source to protocol sport dport outgoing")


class Wire:
    """Sees each frame that an interface of a namespace (or any) receives or sends."""

    def __init__(self, namespace, interface=None):
        with namespace:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            if interface:
                self.socket.bind((interface, 3))
        self.socket.setblocking(False)
        self.packets = []

    def see(self):
        """All packets since the last clear()."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (interface, kind, direction, *_) = self.socket.recvfrom(2048)
                self.packets.append(self._parse(data[14:], interface, kind,
                                                direction == PACKET_OUTGOING))
        return self.packets

    @staticmethod
    def _parse(data, interface, kind, outgoing):
        if kind != ETH_IP or len(data) < 20:
            return Packet(interface, kind, None, None, None, None, None, outgoing)
        protocol, at = data[9], (data[0] & 15) * 4
        sport, dport = struct.unpack("!HH", data[at:at + 4]) if protocol in (TCP, UDP) \
            and len(data) >= at + 4 else (None, None)
        return Packet(interface, kind, socket.inet_ntoa(data[12:16]),
                      socket.inet_ntoa(data[16:20]), protocol, sport, dport, outgoing)

    def count(self, **want):
        return sum(all(getattr(p, k) == v for k, v in want.items()) for p in self.see())

    def clear(self):
        self.see()
        self.packets = []

    def close(self):
        self.socket.close()


Heard = collections.namedtuple("Heard", "protocol source sport to text")


class Peer:
    """
    UDP and TCP on PORT, and UDP on 53, of all addresses of a namespace: counts what comes, and
    answers with the tag that came and where it came from.
    """

    def __init__(self, namespace):
        self.heard = []
        self.stopped = False
        with namespace:
            self.udp = [self._udp(PORT), self._udp(53)]
            self.tcp = socket.socket()
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.tcp.bind(("", PORT))
        self.tcp.listen(64)
        self.clients = {}
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @staticmethod
    def _udp(port):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        s.bind(("", port))
        return s

    def _serve(self):
        while not self.stopped:
            ready, _, _ = select.select([self.woken, self.tcp, *self.udp, *self.clients], [], [], 5)
            for s in ready:
                with contextlib.suppress(OSError):
                    if s in self.udp:
                        self._answer_udp(s)
                    elif s is self.tcp:
                        client, _ = s.accept()
                        self.clients[client] = b""
                    elif s in self.clients:
                        self._answer_tcp(s)

    def _answer_udp(self, s):
        data, control, _, source = s.recvmsg(2048, 128)
        info = control[0][2]
        to = socket.inet_ntoa(info[8:12])
        self.heard.append(Heard(UDP, *source, to, data.decode(errors="replace")))
        # From the address that was asked.
        back = struct.pack("I4s4s", 0, info[8:12], info[8:12])
        s.sendmsg([data + f" from {source[0]}".encode()],
                  [(socket.IPPROTO_IP, IP_PKTINFO, back)], 0, source)

    def _answer_tcp(self, s):
        piece = s.recv(65536)
        text = self.clients[s] = self.clients[s] + piece
        if b"\n" in text:
            source, to = s.getpeername(), s.getsockname()
            tag = text.split(b"\n")[0].decode(errors="replace")
            self.heard.append(Heard(TCP, *source, to[0], tag))
            s.sendall(f"{tag} from {source[0]}:{source[1]}\n".encode())
        if b"\n" in text or not piece:
            del self.clients[s]
            s.close()

    def got(self, **want):
        """Those heard whose fields are as given."""
        return [h for h in list(self.heard)
                if all(getattr(h, k) == v for k, v in want.items())]

    def close(self):
        self.stopped = True
        self.wake.close()
        self.thread.join(10)
        for s in [self.woken, self.tcp, *self.udp, *self.clients]:
            s.close()


class World:
    """Takes about 0.1 s."""

    def __init__(self, forwarding=True, pool=POOL):
        self.pool = pool
        self.host, self.outside, self.side = (Namespace() for _ in range(3))
        self.host.ip(f"""link set dev lo up
link add up0 type veth peer name i0 netns {self.outside.path}
link add side0 type veth peer name s0 netns {self.side.path}
addr add {HOST}/24 dev up0
addr add {HOST_SIDE}/24 dev side0
link set dev up0 up
link set dev side0 up
route add default via 8.8.0.2
""")
        addresses = "".join(f"addr add {a}/32 dev lo\n" for a in OUTSIDE)
        # A neighbour that would like to be heard as a guest, and one that takes the pool's.
        self.outside.ip(f"""link set dev lo up
{addresses}addr add 8.8.0.2/24 dev i0
link set dev i0 up
route add {pool} via {HOST}
route add 10.177.0.0/30 via {HOST}
route add 8.9.0.0/24 via {HOST}
""")
        self.side.ip(f"""link set dev lo up
addr add {SIDE}/24 dev s0
link set dev s0 up
route add default via {HOST_SIDE}
""")
        # The tests' own packets with other sources must get as far as the rules.
        for name in ("all", "up0", "side0"):
            self.host.sysctl(f"ipv4/conf/{name}/rp_filter", 0)
        if forwarding:
            self.forward("up0", "side0")
        self.peers = {n: Peer(getattr(self, n)) for n in ("host", "outside", "side")}
        self.wires = {"outside": Wire(self.outside, "i0"), "side": Wire(self.side, "s0"),
                      "host": Wire(self.host)}

    def forward(self, *interfaces):
        for name in interfaces:
            self.host.sysctl(f"ipv4/conf/{name}/forwarding", 1)

    def config(self, egress=None, ports=PORTS, resolver=RESOLVER):
        lines = [f"pool = {self.pool}", "uplink = up0"]
        lines += [f"egress = {egress}"] if egress else []
        lines += [f"host_ports = {ports[0]}-{ports[-1]}"] if ports else []
        lines += [f"resolver = {resolver}"] if resolver else []
        lines += ["[admin]", f"host_ports = {ports[0]}-{ports[-1]}"] if ports else []
        return "[network]\n" + "\n".join(lines) + "\n"

    def clear(self):
        for peer in self.peers.values():
            peer.heard.clear()
        for wire in self.wires.values():
            wire.clear()

    def links(self):
        """The names of the sandboxes' veths on the host."""
        with self.host:
            return [name for _, name in socket.if_nameindex() if name.startswith("cl")]

    def residue(self, instance, running):
        """What networks left on the host; `running`: cloisterd is there, which keeps its table."""
        found = [f"interface {name}" for name in self.links()]
        found += [f"route {line}" for line in self.host.run("ip", "route").splitlines()
                  if " dev cl" in line]
        if running:
            return found
        tables = self.host.run("nft", "list", "tables").split("\n")
        found += [line for line in tables if instance in line]
        found += [f"route {line}" for line in self.host.run("ip", "route").splitlines()
                  if line.startswith("unreachable")]
        return found

    def close(self):
        for thing in [*self.peers.values(), *self.wires.values(), self.host, self.outside,
                      self.side]:
            thing.close()


class NetHost(harness.Host):
    """A cloisterd that runs in the world's host."""

    def __init__(self, vmm, name, world, config="", **options):
        self.world = world
        super().__init__(vmm, name, config=config or world.config(), **options)

    def spawn(self, *args, **options):
        with self.world.host:
            return super().spawn(*args, **options)

    def net_residue(self, running=True):
        """Namespaces go in the background."""
        def gone():
            return not self.world.residue(self.instance(), running)
        with contextlib.suppress(AssertionError, OSError):
            wait_for(gone, 5)
        return self.world.residue(self.instance(), running)

    def close(self):
        """Sandboxes' own things have gone with them; with cloisterd goes the rest."""
        problems = []
        if self.daemon and os.path.exists(os.path.join(self.state_dir, "instance")):
            if self.daemon.poll() is None:
                for tenant in [None, *harness.TENANT_UIDS]:
                    for box in self.list(tenant):
                        self.destroy(box["id"], tenant=box["tenant"])
                problems += self.net_residue()
                self.stop()
            problems += self.net_residue(running=False)
        super().close()
        assert not problems, problems
