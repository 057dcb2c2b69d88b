# SPDX-License-Identifier: Apache-2.0
"""Starts a VMM (the stand-in or the real one) as the shim does, and talks to it."""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tty

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CLOISTER_BUILD", os.path.join(HERE, "..", "..", "build"))
STANDIN = os.path.abspath(os.path.join(BUILD, "tests/standin/cloud-hypervisor"))
GUEST = os.path.abspath(os.path.join(BUILD, "tests/guest/guest.elf"))
PRELOAD = os.path.abspath(os.path.join(BUILD, "tests/preload/nested_state.so"))
REAL = shutil.which("cloud-hypervisor")
if REAL and (not os.access("/dev/kvm", os.R_OK | os.W_OK) or os.path.realpath(REAL) == STANDIN):
    REAL = None
MIB = 1 << 20


def request(method, path, body=None, version="1.1"):
    """The bytes of a request as the shim sends them."""
    head = f"{method} /api/v1/{path} HTTP/{version}\r\n"
    if body is None:
        return (head + "\r\n").encode()
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Answer:
    """One HTTP answer: status, head (raw bytes up to the blank line) and body."""

    def __init__(self, head, body):
        self.head, self.body = head, body
        self.status = int(head[9:12])

    def json(self):
        return json.loads(self.body)

    def shape(self):
        """What has to be equal on every VMM: the head without the length's value."""
        return re.sub(rb"Content-Length: [1-9]\d*", b"Content-Length: N", self.head)


class Connection:
    def __init__(self, vmm, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(vmm.path)
        self.got = bytearray()

    def send(self, data, fds=()):
        if fds:
            socket.send_fds(self.sock, [data], list(fds))
        else:
            self.sock.sendall(data)

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.got)
        self.got += data

    def read(self):
        while b"\r\n\r\n" not in self.got:
            self._more()
        head, self.got = self.got.split(b"\r\n\r\n", 1)
        head = bytes(head)
        found = re.search(rb"\r\nContent-Length: (\d+)", head)
        length = int(found[1]) if found else 0
        while len(self.got) < length:
            self._more()
        body, self.got = bytes(self.got[:length]), self.got[length:]
        return Answer(head, body)

    def rest(self):
        """Everything up to the end of the connection."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            pass
        data, self.got = self.got, bytearray()
        return bytes(data)

    def rest_or_answer(self):
        """The status of the first answer, whatever follows."""
        while b"\r\n\r\n" not in self.got:
            self._more()
        return int(self.got[9:12])

    def call(self, method, path, body=None, fds=()):
        self.send(request(method, path, body), fds)
        return self.read()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Vmm:
    """A VMM process with a pre-bound API socket, an event pair, a raw pty and two pipes."""

    def __init__(self, binary, mib=64, env=None, kernel=GUEST, prefix=(), seccomp="true",
                 where=None):
        self.dir = tempfile.mkdtemp(prefix="vmm-", dir=where)
        self.path = os.path.join(self.dir, "api.sock")
        self.ram = os.path.join(self.dir, "ram")
        self.kernel = kernel
        self.mib = mib
        with open(self.ram, "wb") as ram:
            ram.truncate(mib * MIB)
        api = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        api.bind(self.path)
        api.listen(16)
        self.events, events = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pty, slave = os.openpty()
        tty.setraw(slave)
        self.out, out = os.pipe2(os.O_CLOEXEC)
        self.err, err = os.pipe2(os.O_CLOEXEC)
        for fd in (out, err, self.out, self.err):
            os.set_blocking(fd, False)
        try:
            self.process = subprocess.Popen(
                [*prefix, binary, "--api-socket", f"fd={api.fileno()}", "--event-monitor",
                 f"fd={events.fileno()}", "--seccomp", seccomp],
                stdin=slave, stdout=out, stderr=err, pass_fds=(api.fileno(), events.fileno()),
                env=env or {}, start_new_session=True)
        except OSError:
            shutil.rmtree(self.dir, ignore_errors=True)
            raise
        # While we listen too: a VMM that ends at once would leave nobody to connect to.
        self.conn = Connection(self)
        api.close()
        events.close()
        for fd in (slave, out, err):
            os.close(fd)
        self.events.setblocking(False)
        self.text = {self.out: b"", self.err: b""}
        self.records, self.torn = [], []

    # -- configuration, as the shim sends it
    def config(self, cmdline="", **more):
        return {
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1, "nested": False},
            "memory": {"size": 0, "zones": [{"id": "ram", "size": self.mib * MIB,
                                            "file": self.ram, "shared": True}]},
            "payload": {"kernel": self.kernel, "cmdline": cmdline},
            "rng": {"src": "/dev/urandom"},
            "balloon": {"size": 0},
            "serial": {"mode": "Tty"}, "console": {"mode": "Off"},
            "pvpanic": True, **more}

    def boot(self, cmdline="", **more):
        self.conn.send(request("PUT", "vm.create", self.config(cmdline, **more)) +
                       request("PUT", "vm.boot"))
        answers = self.conn.read(), self.conn.read()
        assert [a.status for a in answers] == [204, 204], [a.body for a in answers]
        return self

    def call(self, method, path, body=None, fds=()):
        return self.conn.call(method, path, body, fds)

    def snapshot(self, directory):
        return self.call("PUT", "vm.snapshot", {"destination_url": f"file://{directory}"})

    def restore(self, directory, fds=(), **more):
        return self.call("PUT", "vm.restore", {"source_url": f"file://{directory}", **more}, fds)

    def state(self):
        return self.call("GET", "vm.info").json()["state"]

    # -- what comes out
    def _pump(self, deadline):
        """Waits a little at most; returns whether anything came."""
        came = False
        left = max(0, deadline - time.monotonic())
        fds = [self.events, self.out, self.err]
        for fd in select.select(fds, [], [], min(left, 0.2))[0]:
            try:
                data = self.events.recv(65536) if fd is self.events else os.read(fd, 65536)
            except (BlockingIOError, ConnectionResetError):
                continue
            came = came or bool(data)
            if fd is not self.events:
                self.text[fd] += data
            elif data not in (b"", b"\n\n"):
                try:
                    self.records.append(json.loads(data))
                except ValueError:
                    self.torn.append(data)
        return came

    def drain(self):
        """Takes what is there already."""
        while self._pump(time.monotonic()):
            pass

    def watch(self, seconds):
        """Collects for so long: to show that something does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._pump(deadline)

    def until(self, test, timeout=8):
        deadline = time.monotonic() + timeout
        while True:
            self._pump(deadline)
            got = test()
            if got:
                return got
            assert time.monotonic() < deadline, (self.stdout(), self.stderr(), self.names())

    def stdout(self):
        return self.text[self.out].decode(errors="replace")

    def stderr(self):
        return self.text[self.err].decode(errors="replace")

    def names(self):
        return [f"{r['source']}/{r['event']}" for r in self.records]

    def wait_text(self, pattern, timeout=8):
        return self.until(lambda: re.search(pattern, self.stdout(), re.M), timeout)

    def wait_err(self, pattern, timeout=8):
        return self.until(lambda: re.search(pattern, self.stderr(), re.M), timeout)

    def wait_event(self, name, count=1, timeout=8):
        return self.until(lambda: self.names().count(name) >= count, timeout)

    def wait_exit(self, timeout=8):
        self.until(lambda: self.process.poll() is not None, timeout)
        self.drain()
        return self.process.returncode

    def type(self, line):
        os.write(self.pty, line.encode() + b"\n")

    def ask(self, line, pattern, timeout=8):
        """Types a line and waits for an answer behind all that has been said so far."""
        start = len(self.stdout())
        self.type(line)
        return self.until(lambda: re.search(pattern, self.stdout()[start:], re.M), timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.conn.close()
        self.events.close()
        for fd in (self.pty, self.out, self.err):
            os.close(fd)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
