# SPDX-License-Identifier: Apache-2.0
"""The stand-in by itself, and side by side with the real VMM where there is one."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from vmm_harness import GUEST, MIB, REAL, STANDIN, Connection, Vmm, request

for needed in STANDIN, GUEST:
    if not os.path.exists(needed):
        pytest.exit(f"{needed} is missing: run make first", 2)
BINARIES = [pytest.param(STANDIN, id="standin")]
if REAL:
    BINARIES.append(pytest.param(REAL, id="real"))
both = pytest.mark.parametrize("binary", BINARIES)
needs_real = pytest.mark.skipif(not REAL, reason="no cloud-hypervisor on PATH")


def standin(orders="", mib=17, **env):
    return Vmm(STANDIN, mib, env={"STANDIN_ORDERS": orders, **env})


# ---- side by side ----

ENDPOINTS = ("vm.boot vm.pause vm.resume vm.shutdown vm.reboot vm.power-button vm.nmi "
             "vm.delete").split()
BODIES = ("vm.add-disk vm.add-net vm.add-fs vm.add-pmem vm.add-vsock vm.add-vdpa vm.add-device "
          "vm.add-user-device vm.add-generic-vhost-user vm.remove-device vm.resize vm.resize-disk "
          "vm.resize-zone vm.restore vm.snapshot vm.receive-migration vm.send-migration").split()


def script(vmm):
    """(method, endpoint, body) of a whole life with every refusal on the way."""
    def config(**more):
        return vmm.config("tick=0", **more)

    def broken(part, **more):
        made = config()
        made[part] = {**made[part], **more}
        return made
    yield from (("GET", p, None) for p in ("vmm.ping", "nope", "vmm.ping?x=1", "vm.info",
                                           "vm.counters", "vm.boot", "vm.create", "vm.coredump"))
    yield from (("PATCH", p, None) for p in ("vmm.ping", "vm.info", "vm.boot", "vm.create"))
    yield from (("PUT", p, None) for p in ["vmm.ping", "vm.info", "vm.counters", *ENDPOINTS])
    yield "GET", "vmm.ping", "{}"
    yield "PUT", "vm.boot", "{}"
    yield "PUT", "vm.create", None
    for body in ('{', '[]', '{"cpus":{"boot_vcpus":"x"}}', '{"cpus":{"boot_vcpus":1}}',
                 '{"serial":{"mode":"tty"}}', '{"pvpanic":1}', '{"memory":{"size":1.5}}',
                 '{"cpus":{"boot_vcpus":-1,"max_vcpus":1}}', '{"disks":{}}', '{"disks":[1]}'):
        yield "PUT", "vm.create", body
    for endpoint in BODIES:
        yield from (("GET", endpoint, None), ("PUT", endpoint, None), ("PUT", endpoint, "{}"))
    yield "PUT", "vm.resize", {"desired_balloon": 0}
    yield "PUT", "vm.snapshot", {"destination_url": "file:///nonexistent"}
    yield "PUT", "vm.restore", {"source_url": "file:///nonexistent"}
    for bad in ({}, broken("payload", kernel="/nonexistent"),
                broken("payload", kernel="/etc/passwd"), broken("payload", initramfs="/none"),
                broken("memory", zones=[{"id": "ram", "size": MIB, "file": "/none/ram",
                                         "shared": True}]),
                config(disks=[{"id": "d", "path": "/none", "image_type": "Raw"}]),
                config(rng={"src": "/none"}),
                *(config(vsock={"cid": cid, "socket": vmm.dir + "/vsock"})
                  for cid in (0, 1, 2, 2 ** 32 - 1, 2 ** 32)),
                config(vsock={"cid": 3}), config(vsock={"socket": "/x"}), config(vsock=[]),
                config(vsock={"cid": 3, "socket": "/none/vsock"}),
                config(vsock={"cid": 3, "socket": "/" + "x" * 120}),
                config(vsock={"cid": 3, "socket": vmm.ram})):
        yield from (("PUT", "vm.create", bad), ("PUT", "vm.boot", None), ("PUT", "vm.delete", None))
    yield "PUT", "vm.create", config(
        disks=[{"id": "d0", "path": GUEST, "readonly": True, "image_type": "Raw"}])
    yield from (("PUT", p, None) for p in ENDPOINTS[1:-1])
    yield "PUT", "vm.create", config(vsock={"id": "vsock0", "cid": 3,
                                            "socket": vmm.dir + "/vsock"})
    yield "GET", "vm.info", None
    yield "GET", "vm.counters", None
    yield "PUT", "vm.resize", {"desired_balloon": 1}
    yield "PUT", "vm.add-net", {"id": "n0", "mac": "12:34:56:78:90:ab"}
    yield from (("PUT", "vm.remove-device", {"id": "n0"}),) * 2
    for step in ("vm.boot", "vm.boot", "vm.resume", "vm.pause", "vm.pause", "vm.power-button",
                 "vm.resume", "vm.resume"):
        yield "PUT", step, None
    yield "GET", "vm.counters", None
    yield "PUT", "vm.create", config()
    for body in ({"desired_balloon": MIB}, {"desired_vcpus": 2}, {"desired_ram": 32 * MIB},
                 {"desired_balloon": -1}, {"desired_balloon": 1.5}, {}):
        yield "PUT", "vm.resize", body
    yield "PUT", "vm.remove-device", {"id": "zzz"}
    yield "PUT", "vm.snapshot", {"destination_url": "file:///nonexistent"}
    for step in ("vm.reboot", "vm.pause", "vm.reboot", "vm.shutdown", "vm.shutdown", "vm.pause",
                 "vm.boot", "vm.boot", "vm.delete", "vm.delete", "vm.boot"):
        yield "PUT", step, None
    yield "PUT", "vmm.shutdown", None


def normal(answer):
    body = re.sub(rb"line 1 column \d+", b"", answer.body)
    try:
        shape = json.loads(body)
    except ValueError:
        shape = body
    if isinstance(shape, list) and shape[0] == "Failed to deserialize JSON":
        shape = shape[:1] + [len(shape)]
    if isinstance(shape, dict):
        for key in ("build_version", "version", "pid", "device_tree"):
            shape.pop(key, None)
    return answer.shape(), shape


@needs_real
def test_every_answer_is_the_real_ones():
    with Vmm(STANDIN, 16) as fake, Vmm(REAL, 16) as real:
        for ours, theirs in zip(script(fake), script(real)):
            a, b = (normal(v.call(*step)) for v, step in ((fake, ours), (real, theirs)))
            b = json.loads(json.dumps(b, default=repr).replace(real.dir, fake.dir))
            a = json.loads(json.dumps(a, default=repr))
            assert a == b, ours[:2]
            for vmm in fake, real:  # else a full channel loses records
                vmm.drain()
        assert (fake.wait_exit(), real.wait_exit()) == (0, 0)
        assert fake.names()[:-2] == real.names()[:len(fake.names()) - 2]  # it may lose the last


@needs_real
def test_records_look_the_same():
    shapes = []
    for binary in (STANDIN, REAL):
        with Vmm(binary, 16) as vmm:
            vmm.call("GET", "vmm.ping")
            vmm.events.settimeout(5)
            record, end = vmm.events.recv(4096), vmm.events.recv(4096)
            shapes.append((re.sub(rb"\d+", b"N", record), end))
    assert shapes[0] == shapes[1]


@needs_real
@pytest.mark.parametrize("args", [["--version"], ["--nope"], ["--seccomp", "maybe"], ["extra"],
                                  ["--api-socket"], [], ["--api-socket", "fd=abc"],
                                  ["-v", "--bad"], ["--event-monitor", "x=1", "--api-socket",
                                                    "fd=0"]])
def test_command_line(args):
    fake, real = (subprocess.run([b, *args], capture_output=True, text=True, timeout=10,
                                 stdin=subprocess.DEVNULL) for b in (STANDIN, REAL))
    assert fake.returncode == real.returncode
    if args == ["--version"]:
        hide = re.compile(r"v53\S+")
        assert hide.sub("V", fake.stdout) == hide.sub("V", real.stdout)
        assert fake.stdout.count("\n") == 2


# ---- HTTP, the same on both ----

@both
def test_http_limits(binary):
    with Vmm(binary, 16) as vmm:
        def status(data):
            with Connection(vmm) as conn:
                conn.send(data)
                answer = conn.read()
                return answer.status, b"Firecracker" in answer.head
        ping = "GET /api/v1/vmm.ping HTTP/1.1\r\n"
        assert status(request("PUT", "vm.create", b" " * 51200)) == (400, False)
        assert status(request("PUT", "vm.create", b" " * 51201)) == (400, True)
        assert status((ping + "X: " + "y" * 1019 + "\r\n\r\n").encode()) == (200, False)
        assert status((ping + "X: " + "y" * 1020 + "\r\n\r\n").encode()) == (400, True)
        assert status((ping + "X: y\r\n" * 3000 + "\r\n").encode()) == (200, False)
        assert status(b"POST /api/v1/vmm.ping HTTP/1.1\r\n\r\n") == (400, True)
        assert status(b"GET /api/v1/vmm.ping HTTP/2.0\r\n\r\n") == (400, True)
        assert status(b"GET  HTTP/1.1\r\n\r\n") == (400, True)
        assert status(b"rubbish\r\n") == (400, True)
        assert status(request("GET", "vmm.ping", version="1.0")) == (200, False)
        assert status(b"GET http://x/api/v1/vmm.ping HTTP/1.1\r\n\r\n") == (200, False)
        assert status((ping + "Accept-Encoding: identity;q=0\r\n\r\n").encode()) == (400, True)
        assert status((ping + "Accept-Encoding: identity;q=0.5\r\n\r\n").encode()) == (200, False)
        assert status(ping.encode() + b"X: \xff\r\n\r\n") == (400, True)
        assert status((ping + "no colon\r\n\r\n").encode()) == (400, True)
        assert status((ping + "Content-Length: 1x\r\n\r\n").encode()) == (400, True)


@both
def test_exact_bytes(binary):
    with Vmm(binary, 16) as vmm:
        vmm.conn.send(b"PUT /api/v1/vm.delete HTTP/1.1\r\n\r\n")
        assert vmm.conn.read().head == (b"HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\n"
                                        b"Connection: keep-alive")
        vmm.conn.send(b"GET / HTTP/9\r\n\r\n")
        answer = vmm.conn.read()
        assert answer.body == (b'{ "error": "Invalid HTTP Version: Unsupported HTTP version.\n'
                               b'All previous unanswered requests will be dropped." }')
        ping = vmm.call("GET", "vmm.ping")
        assert re.fullmatch(rb'\{"build_version":"v53[^"]*","version":"53.0.0","pid":\d+,'
                            rb'"features":\["io_uring","kvm"\]\}', ping.body)


@both
def test_pipelining_and_poison(binary):
    with Vmm(binary, 16) as vmm:
        vmm.conn.send(request("GET", "vmm.ping") * 60)
        assert [vmm.conn.read().status for _ in range(60)] == [200] * 60
        vmm.conn.send(request("GET", "vmm.ping") + b"bad\r\n" + request("GET", "vmm.ping"))
        assert vmm.conn.read().status == 400  # the good one before it is dropped as well
        assert vmm.call("GET", "vmm.ping").status == 200
        vmm.conn.send(b"PUT /api/v1/vm.delete HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        assert vmm.conn.read().status == 400
        for _ in range(3):
            assert vmm.call("GET", "vmm.ping").status == 400


@both
def test_connections(binary):
    with Vmm(binary, 16) as vmm:
        others = [Connection(vmm) for _ in range(9)]
        for conn in [vmm.conn, *others]:
            assert conn.call("GET", "vmm.ping").status == 200
        with Connection(vmm) as one_more:
            assert one_more.rest() == (
                b"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
                b"Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }")
        others.pop().close()

        def free():
            with Connection(vmm) as conn:
                conn.send(request("GET", "vmm.ping"))
                return conn.rest_or_answer() == 200
        vmm.until(free)
        for conn in others:
            conn.close()


@both
def test_odd_clients(binary):
    with Vmm(binary, 16) as vmm:
        with Connection(vmm) as conn:  # half-close: dropped without an answer
            conn.send(request("GET", "vmm.ping"))
            conn.sock.shutdown(socket.SHUT_WR)
            conn.rest()
        with Connection(vmm, timeout=0.1) as conn:  # LF only: never answered
            conn.send(b"GET /api/v1/vmm.ping HTTP/1.1\n\n")
            with pytest.raises(TimeoutError):
                conn.read()
        with Connection(vmm) as conn:
            conn.send(b"PUT /api/v1/vm.create HTTP/1.1\r\nExpect: 100-continue\r\n"
                      b"Content-Length: 2\r\n\r\n")
            assert conn.read().head == (b"HTTP/1.1 100 \r\nServer: Firecracker API\r\n"
                                        b"Connection: keep-alive")
            conn.send(b"{}")
            assert conn.read().status == 204
        assert vmm.call("GET", "vmm.ping").status == 200


@both
def test_descriptors(binary):
    with Vmm(binary, 16) as vmm:
        read_end, write_end = os.pipe()
        vmm.call("PUT", "vm.create", vmm.config())
        net = {"id": "n0", "mac": "12:34:56:78:90:ab", "num_queues": 2}
        # two descriptors are four queues
        assert vmm.call("PUT", "vm.add-net", net, fds=[read_end] * 2).status == 500
        assert vmm.call("PUT", "vm.add-net", net, fds=[read_end]).status == 204
        chain = vmm.call("PUT", "vm.boot").json()
        assert chain[-1] == "Inappropriate ioctl for device (os error 25)", chain
        info = vmm.call("GET", "vm.info").json()
        assert info["state"] == "Created" and "net" not in info["config"]
        os.close(read_end)
        os.close(write_end)


# ---- the guest, the same on both ----

@both
def test_console_language(binary):
    with Vmm(binary, 24) as vmm:
        vmm.boot("nonsense tick=40 do=touch_2")
        vmm.wait_text(r"^GUEST UP\nTOUCHED 2\n(.*\n)*COUNT 1\n(.*\n)*COUNT 2\n")
        vmm.ask("hello there", r"^ECHO hello there\n")
        vmm.ask("x" * 130, r"^ECHO x{120}\n")
        vmm.ask("touch 3", r"^ECHO touch 3\n(.*\n)*TOUCHED 3\n")
        assert vmm.ask("sum", r"^SUM ([0-9a-f]{8})\n")[1] == guest_sum([2, 3])
        assert os.stat(vmm.ram).st_blocks * 512 >= 3 * MIB
        vmm.ask("touch 100", r"^TOUCHED 8\n")  # no more than there is
        vmm.ask("tick 0", r"^ECHO tick 0\n")
        count = vmm.ask("count", r"^COUNT (\d+)\n")[1]
        assert vmm.ask("count", r"^COUNT (\d+)\n")[1] == count
        vmm.ask("flood 3", r"^FLOODED 3\n")
        vmm.wait_err(r"(.*<vcpu0> WARN:devices/src/acpi.rs:57 -- Invalid sized write of ACPI "
                     r"shutdown device: 2\r\n){3}")
        vmm.type("panic")
        vmm.wait_event("guest/panic")
        assert vmm.records[-1]["properties"] == {"event": "panic"}
        assert vmm.call("GET", "vm.info").json()["state"] == "Running"
        assert vmm.call("PUT", "vm.power-button").status == 204  # it has no handler
        vmm.ask("still here", r"^ECHO still here\n")
        vmm.type("poweroff")
        assert vmm.wait_exit() == 0
        assert said_at_the_end(vmm, ["vm/shutdown", "vm/deleted", "vmm/shutdown"])


def said_at_the_end(vmm, names):
    """The real one may lose its last two records."""
    lost = 2 if vmm.process.args[0] == REAL else 0
    return any(vmm.names()[-n:] == names[:n] if n else lost
               for n in range(len(names), max(0, len(names) - lost) - 1, -1))


def guest_sum(touches):
    total, words = 0, {}
    for generation, mib in enumerate(touches, 1):
        for page in range(mib * 256):
            words[page] = page * 2654435761 + generation
    for page in range(max(touches) * 256):
        total = (total * 33 + words[page]) & 0xffffffff
    return f"{total:08x}"


@both
@pytest.mark.parametrize("mib, vcpus", [(16, 1), (256, 2), (4096, 2)])
def test_sizes(binary, mib, vcpus):
    with Vmm(binary, mib) as vmm:
        vmm.boot("tick=0 do=touch_2", cpus={"boot_vcpus": vcpus, "max_vcpus": vcpus,
                                            "nested": False})
        vmm.wait_text(r"^GUEST UP\nTOUCHED %d\n" % min(2, mib - 16))


@both
def test_reboots_in_place(binary):
    with Vmm(binary, 17) as vmm:
        vmm.boot("tick=0")
        vmm.wait_text("^GUEST UP$")
        pid = vmm.call("GET", "vmm.ping").json()["pid"]
        for n, how in enumerate(("reset", "triple"), 1):
            vmm.type(how)
            vmm.wait_event("vm/rebooted", n)
            vmm.until(lambda: vmm.stdout().count("GUEST UP") == n + 1)
        assert "Guest likely triple-faulted" in vmm.stderr()
        assert vmm.call("GET", "vmm.ping").json()["pid"] == pid
        vmm.ask("hang", "^ECHO hang$")
        vmm.type("nothing")
        assert vmm.call("GET", "vm.info").json()["state"] == "Running"
        assert "ECHO nothing" not in vmm.stdout()
    with Vmm(binary, 17) as vmm:
        vmm.boot("do=reset")
        vmm.wait_event("vm/rebooted", 3)


@both
def test_pause_stops_the_count(binary):
    with Vmm(binary, 17) as vmm:
        vmm.boot("tick=10")
        vmm.wait_text("^COUNT 2$")
        assert vmm.call("PUT", "vm.pause").status == 204
        vmm.wait_event("vm/paused")
        vmm.type("late")
        vmm.watch(0.15)
        before = vmm.stdout().count("COUNT")
        assert vmm.call("PUT", "vm.resume").status == 204
        vmm.wait_text("^ECHO late$")
        assert vmm.stdout().count("COUNT") - before < 10  # it has not caught up
        vmm.until(lambda: vmm.stdout().count("COUNT") > before + 2)


@both
@pytest.mark.parametrize("how", ["none", "created", "running", "paused", "api", "int"])
def test_ends(binary, how):
    with Vmm(binary, 16) as vmm:
        vmm.call("GET", "vmm.ping")
        if how == "created":
            vmm.call("PUT", "vm.create", vmm.config())
        elif how != "none":
            vmm.boot("tick=0")
        if how == "paused":
            vmm.call("PUT", "vm.pause")
        if how == "api":
            answer = vmm.call("PUT", "vmm.shutdown")
            assert (answer.status, answer.body) == (200, b"")
        else:
            vmm.process.send_signal(signal.SIGINT if how == "int" else signal.SIGTERM)
        assert vmm.wait_exit() == 0
        gone = {"none": [], "created": ["vm/deleted"]}.get(how, ["vm/shutdown", "vm/deleted"])
        assert said_at_the_end(vmm, gone + ["vmm/shutdown"])


# ---- vsock ----

@both
def test_vsock_socket_comes_and_goes(binary):
    with Vmm(binary, 16) as vmm:
        path = vmm.dir + "/vsock"

        def there():
            return os.path.exists(path) and oct(os.stat(path).st_mode)
        vmm.boot("tick=0", vsock={"id": "vsock0", "cid": 3, "socket": path})
        assert there() == "0o140700"
        assert "vsock0" in vmm.call("GET", "vm.info").json()["device_tree"]
        for step, left in (("vm.reboot", True), ("vm.pause", True), ("vm.resume", True),
                           ("vm.shutdown", False), ("vm.boot", True), ("vm.delete", False)):
            assert vmm.call("PUT", step).status == 204
            assert bool(there()) == left, step
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        vmm.call("PUT", "vm.create", vmm.config(vsock={"cid": 3, "socket": path}))
        assert vmm.call("PUT", "vm.boot").json()[2:] == [
            "Error from device manager", "Cannot create virtio-vsock backend",
            "Error binding to the host-side Unix socket", "Address already in use (os error 98)"]
        assert there()  # it is not his


class Vsock:
    """A client of the hybrid socket."""

    def __init__(self, vmm, line, timeout=3):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(vmm.dir + "/vsock")
        self.sock.sendall(line)

    def all(self):
        got = b""
        try:
            while data := self.sock.recv(4096):
                got += data
        except ConnectionResetError:
            pass
        self.sock.close()
        return got


def with_vsock(cmdline="tick=0", **env):
    vmm = standin(**env)
    return vmm.boot(cmdline, vsock={"id": "vsock0", "cid": 3, "socket": vmm.dir + "/vsock"})


def test_vsock_ports():
    get = b"GET /health HTTP/1.1\r\n\r\n"
    with with_vsock() as vmm:
        client = Vsock(vmm, b"CONNECT 1024\n")
        assert re.fullmatch(rb"OK \d{10}\n", client.sock.recv(100))
        client.sock.sendall(get)
        assert re.fullmatch(rb"HTTP/1.0 200 x\r\nContent-Length: \d+\r\n\r\nhello 1 [\d.]+\n",
                            client.all())
        assert b"hello 2" in Vsock(vmm, b"connect  1024 \r\n" + get).all()
        assert b" 404 x" in Vsock(vmm, b"CONNECT 1024\nGET /x HTTP/1.1\r\n\r\n").all()
        # nobody listens there, or no port at all
        for line in (b"CONNECT 10990\n", b"CONNECT 0\n", b"CONNECT\n", b"CONNECT x\n", b"\n",
                     b"CONNECT 4294967296\n", b"CONNECT -1\n", b"X" * 64):
            assert Vsock(vmm, line).all() == b"", line
        Vsock(vmm, b'CONNECT 10991\n{"cloister":1}\n').all()
        vmm.wait_text(r'^TOLD \{"cloister":1\}$')
        vmm.ask("vsock off", "ECHO")
        assert Vsock(vmm, b"CONNECT 1024\n").all() == b""
        assert Vsock(vmm, b"CONNECT 10991\n").all() == b""
        vmm.ask("vsock on", "ECHO")
        assert b"hello 3" in Vsock(vmm, b"CONNECT 1024\n" + get).all()


def test_vsock_waits_for_the_guest():
    with with_vsock("tick=0 vsock=700") as vmm:
        assert Vsock(vmm, b"CONNECT 1024\n").all() == b""
        time.sleep(0.8)
        assert Vsock(vmm, b"CONNECT 1024\n").sock.recv(100).startswith(b"OK ")
        vmm.call("PUT", "vm.pause")
        client = Vsock(vmm, b"CONNECT 1024\n", timeout=0.3)
        with pytest.raises(TimeoutError):
            client.sock.recv(100)
        vmm.call("PUT", "vm.resume")
        client.sock.settimeout(3)
        assert client.sock.recv(100).startswith(b"OK ")


def test_vsock_after_restore(tmp_path):
    with with_vsock() as vmm:
        vmm.call("PUT", "vm.pause")
        assert vmm.snapshot(tmp_path).status == 204
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["vsock"]["id"] == "vsock0"
    with standin() as again:
        config["vsock"]["socket"] = again.dir + "/vsock"
        config["memory"]["zones"][0]["file"] = again.ram
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert again.restore(tmp_path).status == 204
        client = Vsock(again, b"CONNECT 1024\n")  # before it runs: it waits
        again.call("PUT", "vm.resume")
        assert client.sock.recv(100).startswith(b"OK ")
    with standin() as other:  # one that is missing is not missed, as on the real one
        del config["vsock"]
        config["memory"]["zones"][0]["file"] = other.ram
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert other.restore(tmp_path).status == 204


@both
def test_socket_path(binary, tmp_path):
    path = tmp_path / "api"
    args = [binary, "--api-socket", f"path={path}"]
    with subprocess.Popen(args, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 5
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert (path.stat().st_mode & 0o777) == 0o700
        assert ((tmp_path / "api.lock").stat().st_mode & 0o777) == 0o600
        assert subprocess.run(args, stderr=subprocess.DEVNULL, timeout=5).returncode == 1
        first.kill()


# ---- the stand-in's strictness ----

@pytest.mark.parametrize("change, key", [
    ({"pvpanics": True}, "pvpanics"), ({"cpus": {"boot_vcpus": 1, "max_vcpus": 1, "nest": 1}},
                                       "cpus.nest"),
    ({"disks": [{"path": "/x", "readOnly": True}]}, "disks[0].readOnly"),
    ({"memory": {"size": 0, "zones": [{"id": "a", "size": 1, "Shared": True}]}},
     "memory.zones[0].Shared")])
def test_unknown_keys(change, key):
    with standin() as vmm:
        assert vmm.call("PUT", "vm.create", {**vmm.config(), **change}).status == 204
        answer = vmm.call("PUT", "vm.boot")
        assert answer.status == 500 and f"`{key}`" in answer.json()[-1]


def test_memory_file_must_fit():
    with standin() as vmm:
        os.truncate(vmm.ram, 16 * MIB)
        vmm.call("PUT", "vm.create", vmm.config())
        answer = vmm.call("PUT", "vm.boot")
        assert answer.status == 500 and vmm.ram in answer.json()[-1]
        assert vmm.call("GET", "vm.info").json()["state"] == "Created"


def test_version_knobs():
    def version(**env):
        return subprocess.run([STANDIN, "--version"], capture_output=True, text=True, env=env,
                              timeout=0.3).stdout
    assert version(STANDIN_VERSION="51.1") == ("cloud-hypervisor v51.1\n"
                                               "Migration Protocol Versions: 0\n")
    assert version(STANDIN_VERSION_TEXT="rubbish") == "rubbish"
    with pytest.raises(subprocess.TimeoutExpired):
        version(STANDIN_VERSION_HANG="1")
    with standin(STANDIN_VERSION="51.1") as vmm:
        ping = vmm.call("GET", "vmm.ping").json()
        assert (ping["build_version"], ping["version"]) == ("v51.1", "51.1.0")


def test_acpi_guest_obeys_the_button():
    with standin() as vmm:
        vmm.boot("acpi=on")
        vmm.call("PUT", "vm.power-button")
        assert vmm.wait_exit() == 0


def test_bad_order_is_loud():
    assert subprocess.run([STANDIN, "--api-socket", "fd=0"], stderr=subprocess.DEVNULL, timeout=5,
                          env={"STANDIN_ORDERS": "standin:vm.boot=nap"}).returncode == 1
