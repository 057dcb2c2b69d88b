# SPDX-License-Identifier: Apache-2.0
"""The records of common/msg.h, as far as tests speak them themselves: by hand, so that they can be wrong."""
import contextlib
import os
import select
import socket
import struct

import harness

VERSION = 1
TYPES = ["NONE", "HELLO", "ERROR", "DONE", "HOST", "START", "STARTED", "END", "REMOVE", "GONE",
         "STATUS", "CREATE", "CREATED", "PAUSE", "RESUME", "POWER_BUTTON", "SNAPSHOT", "SNAPSHOTTED",
         "PROGRESS", "TEMPLATE", "BALLOON", "RESIZE", "COUNTERS", "COUNTERS_DATA", "KILL",
         "CONSOLE_READ", "CONSOLE_DATA", "CONSOLE_WRITE", "CONNECT", "CONNECTED", "EVENT", "EXIT",
         "EXIT_ACK", "LOG", "TAKE"]
HEADER = struct.Struct("<HHIII")  # version, type, length, id, zero
PHASES = ["new", "setup", "starting", "running", "pausing", "paused", "resuming", "ending", "ended",
          "snapshotting"]

# Right bodies for each request that a shim takes; CREATE is one that is out of turn.
BODIES = {
    "HELLO": b"test".ljust(32, b"\0"),
    "PAUSE": bytes(4), "RESUME": bytes(4), "POWER_BUTTON": bytes(4), "EXIT_ACK": bytes(4),
    "TAKE": struct.pack("<I", 13), "BALLOON": struct.pack("<II", 4, 0), "RESIZE": struct.pack("<II", 1, 0), "COUNTERS": bytes(4),
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


class Closed(Exception):
    """The other end has closed the channel."""


class Link:
    """A connection to RUN_DIR/shims/KEY.sock, as uid."""

    def __init__(self, host, key, uid=harness.USER_UID):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.logs = []  # lines of LOG records that came meanwhile
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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

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
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
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


def error(body):
    """(kind, errno, text) of an ERROR record's body."""
    kind, number = struct.unpack_from("<Ii", body)
    return kind, number, body[8:].split(b"\0")[0].decode()
