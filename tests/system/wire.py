# SPDX-License-Identifier: Apache-2.0
"""The records of common/msg.h, as far as tests speak them themselves: by hand, so that they can be wrong."""
import contextlib
import os
import select
import socket
import struct
import subprocess

import harness

VERSION = 1
TYPES = ["NONE", "HELLO", "ERROR", "DONE", "HOST", "START", "STARTED", "END", "REMOVE", "GONE",
         "STATUS", "CREATE", "CREATED", "PAUSE", "RESUME", "POWER_BUTTON", "SNAPSHOT", "SNAPSHOTTED",
         "PROGRESS", "TEMPLATE", "BALLOON", "RESIZE", "COUNTERS", "COUNTERS_DATA", "KILL",
         "CONSOLE_READ", "CONSOLE_DATA", "CONSOLE_WRITE", "CONNECT", "CONNECTED", "EVENT", "EXIT",
         "EXIT_ACK", "LOG", "DEBUG", "DEBUG_DATA", "TAKE", "CHECK", "FINDING"]
HEADER = struct.Struct("<HHIII")  # version, type, length, id, zero
PHASES = ["new", "setup", "starting", "running", "pausing", "paused", "resuming", "ending", "ended",
          "snapshotting"]

# Right bodies for each request that a shim takes; CREATE is one that is out of turn.
BODIES = {
    "HELLO": b"test".ljust(32, b"\0"),
    "PAUSE": bytes(4), "RESUME": bytes(4), "POWER_BUTTON": bytes(4), "EXIT_ACK": bytes(4),
    "BALLOON": struct.pack("<II", 4, 0), "RESIZE": struct.pack("<II", 1, 0), "COUNTERS": bytes(4),
    "DEBUG": bytes(4),
    "TAKE": struct.pack("<I", 13),
    "KILL": struct.pack("<I", 0),
    "CONSOLE_READ": struct.pack("<QII", 0, 0, 0),
    "CONSOLE_WRITE": struct.pack("<II", 0, 1) + b"\n",
    "CONNECT": struct.pack("<II", 1024, 1000),
    "CREATE": b"tiny".ljust(64, b"\0") + bytes(64) + bytes(2048) + struct.pack(
        "<10I", 1, 32, 1, 0, 0, 1, 32, 0, 0, 0) + bytes(8 * 88 + 280 + 144) + bytes(128),
}


def record(kind, body=None, number=1, version=VERSION, length=None, zero=0):
    """kind: a name of TYPES or a number."""
    kind = TYPES.index(kind) if isinstance(kind, str) else kind
    body = BODIES.get(TYPES[kind] if kind < len(TYPES) else "", b"") if body is None else body
    length = HEADER.size + len(body) if length is None else length
    return HEADER.pack(version, kind, length, number, zero) + body


def key(text):
    """A TENANT:ID key as START, END and CREATE's template have it."""
    return text.encode().ljust(128, b"\0")


def remove(kind, text):
    return struct.pack("<I", ["socket", "cgroup", "template", "sandbox"].index(kind) + 1) + key(text)


def network(slot, egress=0, allow=(), ports=(), rates=(0, 0), counts=None):
    """allow: (address, prefix); ports: (protocol, guest, host); counts: what is said of their numbers."""
    said = counts or (len(allow), len(ports))
    return b"".join((
        struct.pack("<3I", slot, egress, said[0]),
        b"".join(struct.pack("<2I", *a) for a in allow).ljust(128, b"\0"), struct.pack("<I", said[1]),
        b"".join(struct.pack("<IHH", *p) for p in ports).ljust(128, b"\0"),
        struct.pack("<2I", *rates)))


def create(kernel="tiny", cmdline="tick=0", **change):
    """A right CREATE, with numbers of its own: vcpus, memory_mib, flags, source, restore, max_vcpus,
    max_memory_mib, balloon_mib, plugged_mib, disk_count; template, disk (image), slot, network."""
    numbers = {"vcpus": 1, "memory_mib": 32, "flags": 0, "source": 0, "restore": 0, "max_vcpus": None,
               "max_memory_mib": None, "balloon_mib": 0, "plugged_mib": 0, "disk_count": 0}
    rest = {"template": "", "disk": "", "slot": 0, "initramfs": "", "network": None}
    for name, value in change.items():
        (numbers if name in numbers else rest)[name] = value
    for name in ("vcpus", "memory_mib"):
        if numbers["max_" + name] is None:
            numbers["max_" + name] = numbers[name]
    disks = (rest["disk"].encode().ljust(64, b"\0") + bytes(24)) if rest["disk"] else b""
    if disks:
        numbers["disk_count"] = 1
    return b"".join((
        kernel.encode().ljust(64, b"\0"), rest["initramfs"].encode().ljust(64, b"\0"),
        cmdline.encode().ljust(2048, b"\0"), struct.pack("<10I", *numbers.values()),
        disks.ljust(8 * 88, b"\0"), rest["network"] or network(rest["slot"]), bytes(144),
        key(rest["template"])))


class Closed(Exception):
    """The other end has closed the channel."""


class Channel:
    """One end of a SEQPACKET pair with one of ours at the other."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(10)
        self.logs = []  # lines of LOG records that came meanwhile
        self.fds = []   # descriptors that came, to be closed with it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()
        while self.fds:
            os.close(self.fds.pop())

    def send(self, raw, fds=()):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fds:
                socket.send_fds(self.sock, [raw], list(fds))
            else:
                self.sock.send(raw)

    def receive(self):
        """(type, id, body) of the next record that is not a LOG; Closed at the end."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 8)
            except ConnectionResetError:
                data, fds = b"", []
            self.fds += fds
            if not data:
                raise Closed
            version, kind, length, number, zero = HEADER.unpack_from(data)
            assert (version, length, zero) == (VERSION, len(data), 0)
            if TYPES[kind] != "LOG":
                return TYPES[kind], number, data[HEADER.size:]
            self.logs.append(data[HEADER.size + 8:].split(b"\0")[0].decode())

    def ask(self, kind, body=None, number=1):
        self.send(record(kind, body, number))
        return self.receive()

    def hello(self):
        """The phase that STATUS says."""
        kind, number, body = self.ask("HELLO", number=7)
        assert (kind, number) == ("STATUS", 7)
        return PHASES[struct.unpack_from("<I", body, 32)[0]]

    def is_closed(self):
        """Reads on to the end; False when the channel is still open after a while of nothing."""
        try:
            while select.select([self.sock], [], [], 5)[0]:
                self.receive()
        except Closed:
            return True
        return False


class Link(Channel):
    """A connection to RUN_DIR/shims/KEY.sock, as uid."""

    def __init__(self, host, key, uid=harness.USER_UID):
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        # As cloisterd does it, which has the directory open since before its drop.
        path = os.open(os.path.join(host.run_dir, "shims", key + ".sock"), os.O_PATH)
        try:
            with harness.as_user(uid) if uid else contextlib.nullcontext():
                harness.wait_for(lambda: self._connect(f"/proc/self/fd/{path}"), what="room")
        finally:
            os.close(path)

    def _connect(self, path):
        """False when too many connections wait to be taken."""
        try:
            self.sock.connect(path)
            return True
        except BlockingIOError:
            return False


class Spawner(Channel):
    """A spawner of the host's tree that takes us for its supervisor; cloisterd must have ended.

    What root's configuration said is a sealed memfd, which `policy` is a copy of (steal_policy)."""

    def __init__(self, host, policy):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(ours)
        self.host, self.number = host, 0
        self.log = open(host.log_path, "ab")
        high = [os.dup2(fd, 200 + i) for i, fd in enumerate((theirs.fileno(), policy))]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)
        self.process = subprocess.Popen(
            ["cloister-shim", "spawn"], executable=os.path.join(harness.BUILD, "cloister-shim"),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=(3, 4),
            preexec_fn=place, env={})
        theirs.close()
        for fd in high:
            os.close(fd)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def request(self, kind, body):
        """Asks under a number of its own; gives that answer, past what nobody asked for."""
        self.number += 1
        self.send(record(kind, body, self.number))
        while True:
            answer = self.receive()
            if answer[1] == self.number:
                return answer

    def start(self, text):
        """The channel to a new shim, or the ERROR's (kind, errno, text)."""
        kind, _, body = self.request("START", key(text))
        if kind == "ERROR":
            return error(body)
        assert kind == "STARTED" and len(self.fds) == 1
        return Channel(socket.socket(fileno=self.fds.pop()))

    def end(self, text):
        kind, _, body = self.request("END", key(text))
        assert kind == "DONE", error(body)

    def stop(self):
        """As when its supervisor goes; gives its exit status."""
        self.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait(10)
            self.log.close()


def steal_policy(host):
    """A descriptor of the policy that root's cloisterd has made for its spawner."""
    spawner, = host.spawner_pids()
    return os.open(f"/proc/{spawner}/fd/4", os.O_RDONLY | os.O_CLOEXEC)


def error(body):
    """(kind, errno, text) of an ERROR record's body."""
    kind, number = struct.unpack_from("<Ii", body)
    return kind, number, body[8:].split(b"\0")[0].decode()
