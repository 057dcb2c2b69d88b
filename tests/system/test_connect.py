# SPDX-License-Identifier: Apache-2.0
"""Connections to a guest's vsock ports, by the API and by `cloister connect`, and creates that wait
for a guest. (How the bytes are passed on is tested in unit/test_supervisor_connect.c.)
"""
import os
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import TENANT_UIDS, wait_for
from test_api import is_problem
from test_cli import CLOISTER, cli, environment, start
from test_snapshot import drop_template, restore, snapshot

UPGRADE = "Connection: Upgrade\r\nUpgrade: cloister-stream\r\n"
GET = b"GET / HTTP/1.0\r\n\r\n"


class Stream:
    """A connection to the guest; `status` and `head` are those of the answer."""

    def __init__(self, host, box, port, query="", uid=0, headers=UPGRADE):
        connection = harness.UnixConnection(host.control, uid, 10)
        connection.connect()
        self.sock = connection.sock
        self.sock.sendall(f"GET /v1/sandboxes/{box}/connect?port={port}{query} HTTP/1.1\r\n"
                          f"Host: x\r\n{headers}\r\n".encode())
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            self.head += self.sock.recv(4096)
        self.head, self.early = self.head.split(b"\r\n\r\n", 1)
        self.status = int(self.head.split()[1])

    def read(self):
        """All up to the end of what the guest says."""
        data, self.early = self.early, b""
        while piece := self.sock.recv(65536):
            data += piece
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def connects(host, box, port=1024, query="", uid=0):
    return host.api("GET", f"/v1/sandboxes/{box}/connect?port={port}{query}", uid=uid,
                    headers={"Connection": "Upgrade", "Upgrade": "cloister-stream"})


@pytest.mark.standin
def test_http_through_vsock(host):
    assert host.create(id="one", vsock=True)["vsock"] is True
    with Stream(host, "one", 1024) as one, Stream(host, "one", 1024) as two:
        assert (one.status, two.status) == (101, 101)
        assert b"Upgrade: cloister-stream" in one.head
        two.sock.sendall(GET)
        assert two.read().startswith(b"HTTP/1.0 200 ")
        one.sock.sendall(GET[:5])
        one.sock.sendall(GET[5:])
        assert b"hello 2 " in one.read()


@pytest.mark.standin
def test_refusals(host):
    host.create(id="one", vsock=True)
    host.create(id="none")
    is_problem(connects(host, "one", 77), 502, "vsock port 77")
    is_problem(connects(host, "none"), 409, '"vsock": true')
    is_problem(connects(host, "nobody"), 404)
    is_problem(connects(host, "one", 0), 422, "port: ")
    is_problem(connects(host, "one", query="&timeout_ms=0"), 422, "timeout_ms: ")
    is_problem(connects(host, "one", query="&wait=1"), 400, "wait")
    answer = host.api("GET", "/v1/sandboxes/one/connect?port=1024")
    is_problem(answer, 426, "cloister-stream")
    assert answer.headers["Upgrade"] == "cloister-stream"
    host.act("one", "pause")
    is_problem(connects(host, "one"), 409, "must be running")
    host.act("one", "resume")
    with Stream(host, "one", 1024) as stream:
        assert stream.status == 101


@pytest.mark.standin
def test_tenants(host):
    alice, bob = TENANT_UIDS["alice"], TENANT_UIDS["bob"]
    host.create(id="one", vsock=True, uid=alice)
    is_problem(connects(host, "one", uid=bob), 404)
    for uid, query in ((alice, ""), (0, "&tenant=alice")):
        with Stream(host, "one", 1024, query, uid) as stream:
            stream.sock.sendall(GET)
            assert b"200" in stream.read()


@pytest.mark.standin
def test_ends_with_the_vmm(host):
    box = host.create(id="one", vsock=True)
    with Stream(host, "one", 1024) as stream:
        os.kill(box["vmm"]["pid"], signal.SIGKILL)
        assert stream.read() == b""
    host.wait_state("one", "crashed")
    is_problem(connects(host, "one"), 409, "it is crashed")
    host.create(id="two", vsock=True)
    with Stream(host, "two", 1024) as stream:
        host.destroy("two")
        assert stream.read() == b""


@pytest.mark.standin
def test_supervisor_ends(host):
    """Connections go with it, the guest does not."""
    host.create(id="one", vsock=True)
    with Stream(host, "one", 1024) as stream:
        host.stop()
        assert stream.read() == b""
    host.start()
    assert host.get("one")["vsock"] is True
    with Stream(host, "one", 1024) as stream:
        stream.sock.sendall(GET)
        assert b"hello 1 " in stream.read()


@pytest.mark.standin
def test_sets(host):
    """The device is baked into a set; connections are not."""
    host.create(id="one", vsock=True)
    with Stream(host, "one", 1024) as stream:
        assert snapshot(host, "one", "base")["vsock"] is True
        is_problem(host.api("POST", "/v1/sandboxes", {"template": "base", "vsock": True}), 422,
                   "vsock: true is not allowed with a template")
        restore(host, "two", "base")
        assert host.get("two")["vsock"] is True
        stream.sock.sendall(GET)
        assert b"200" in stream.read()
    for box in ("one", "two"):
        with Stream(host, box, 1024) as stream:
            stream.sock.sendall(GET)
            assert b"200" in stream.read()
    with Stream(host, "two", 1024) as stream:
        host.act("two", "hibernate")
        assert stream.read() == b""
    is_problem(connects(host, "two"), 409, "it is hibernated")
    host.act("two", "wake")
    with Stream(host, "two", 1024) as stream:
        stream.sock.sendall(GET)
        assert b"200" in stream.read()
    drop_template(host, "base")


# ------------------------------------------------------------------ wait_for


@pytest.mark.standin
def test_wait_for(host):
    events = host.events()
    box = host.create(id="one", vsock=True, wait_for={"vsock": 1024})
    assert box["timings_us"]["ready_us"] > 0 and "wait_for" not in box
    event = events.wait(event="state", sandbox="one", to="running")
    assert event["ready_us"] == box["timings_us"]["ready_us"]
    assert event["reason"] == "the guest is ready"
    host.create(id="two", cmdline="tick=20", wait_for={"console": "COUNT 3"})
    assert "COUNT 3" in host.console("two")
    host.create(id="three", query="?wait=none", expect=202, cmdline="tick=20",
                wait_for={"console": "COUNT 2", "timeout_s": 30})
    host.wait_state("three", "running")
    assert "COUNT 2" in host.console("three")


@pytest.mark.standin
def test_not_ready_in_time(host):
    def ask(query="", **spec):
        return host.api("POST", "/v1/sandboxes" + query, {"kernel": "tiny", "memory_mib": 32, **spec})

    start_s = time.monotonic()
    answer = ask(id="one", vsock=True, wait_for={"vsock": 77, "timeout_s": 1})
    assert 0.9 < time.monotonic() - start_s < 8
    is_problem(answer, 504, "vsock port 77")
    is_problem(host.api("GET", "/v1/sandboxes/one"), 404)
    ask("?wait=none", id="two", wait_for={"console": "never", "timeout_s": 1})
    box = host.wait_state("two", "failed")
    assert box["exit"]["cause"] == "start-failed" and "never" in box["exit"]["detail"]
    # Longer than [limits] create_ms may be waited for; a destroy does not wait.
    host.create(id="three", query="?wait=none", expect=202,
                wait_for={"console": "never", "timeout_s": 3600})
    wait_for(lambda: "COUNT" in host.console("three"), 10, "a guest that runs")
    assert host.get("three")["state"] == "creating"
    host.destroy("three")


@pytest.mark.standin
def test_wait_needs(host):
    for wait, word in (({"tcp": 80}, "without network"), ({"vsock": 5}, "without a vsock")):
        answer = host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "wait_for": wait})
        is_problem(answer, 422, word)
    answer = host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "network": {}})
    is_problem(answer, 422, "no [network] pool")


# ------------------------------------------------------------------ the client


@pytest.mark.standin
def test_client(host):
    host.create(id="one", vsock=True)
    done = cli(host, "connect", "one", "1024", data=GET.decode())
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout.startswith("HTTP/1.0 200 ") and "hello 1 " in done.stdout
    done = cli(host, "connect", "one", "77")
    assert done.returncode == 1 and "vsock port 77" in done.stderr, done
    assert cli(host, "connect", "nobody", "77").returncode == 4
    assert cli(host, "connect", "one").returncode == 2
    assert cli(host, "connect", "one", "0").returncode == 2
    assert cli(host, "connect", "one", "x").returncode == 2
    assert cli(None, "connect", "one", "1").returncode == 3


@pytest.mark.standin
def test_client_as_a_proxy(host):
    """As ssh runs it: a socket for standard input and output, and an end when the peer closes."""
    host.create(id="one", vsock=True)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen([CLOISTER, "connect", "one", "1024"], stdin=theirs,
                                       stdout=theirs, stderr=subprocess.PIPE, text=True,
                                       env=environment(host))
        ours.settimeout(10)
        ours.sendall(GET)
        data = b""
        while piece := ours.recv(4096):
            data += piece
        assert data.startswith(b"HTTP/1.0 200 ")
        assert process.wait(10) == 0, process.stderr.read()
        process.stderr.close()


@pytest.mark.standin
def test_client_is_ended(host):
    box = host.create(id="one", vsock=True)
    process = start(host, "connect", "one", "1024", stdin=subprocess.PIPE)
    wait_for(lambda: "connected to vsock port 1024" in host.log(), 10, "a connection")
    os.kill(box["vmm"]["pid"], signal.SIGKILL)
    assert process.wait(10) == 0
    process.communicate()
    # Nobody reads what the guest says.
    host.create(id="two", vsock=True)
    process = start(host, "connect", "two", "1024", stdin=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(10) == 1
    process.stdin.close()
    process.stderr.close()


@pytest.mark.standin
def test_client_options(host):
    def refused(*words):
        done = cli(host, "create", "--kernel", "tiny", *words)
        assert done.returncode == 2, (words, done)

    done = cli(host, "create", "--kernel", "tiny", "--memory", "32", "--id", "one", "--vsock",
               "--wait", "vsock=1024,timeout=20")
    assert done.returncode == 0, done
    done = cli(host, "create", "--kernel", "tiny", "--memory", "32", "--cmdline", "tick=20",
               "--wait", "console=COUNT 2")
    assert done.returncode == 0, done
    done = cli(host, "create", "--kernel", "tiny", "--memory", "32", "--wait",
               "console=a,b,timeout=1")
    assert done.returncode == 1 and "a,b" in done.stderr, done
    assert "vsock: true" in cli(host, "inspect", "one").stdout
    for words in (["--network", "all"], ["--allow", "10.0.0.1/8"], ["--allow", "x"],
                  ["--port", "0"], ["--port", "1:2:3"], ["--port", "80/sctp"], ["--port", "x:80"],
                  ["--rate", "5"], ["--rate", "rx=1,rx=2"], ["--rate", "rx=0"], ["--wait", "22"],
                  ["--wait", "tcp=0"], ["--wait", "udp=5"], ["--wait", "http=/x"],
                  ["--wait", "console="], ["--wait", "tcp=22,timeout=0"]):
        refused(*words)
    # As far as the supervisor, which has no pool here.
    done = cli(host, "create", "--kernel", "tiny", "--network", "list", "--allow", "10.0.0.0/8",
               "--port", "8080:80", "--port", "53/udp", "--rate", "rx=5,tx=6", "--wait",
               "http=80/health,status=204,timeout=5")
    assert done.returncode == 1 and "no [network] pool" in done.stderr, done
