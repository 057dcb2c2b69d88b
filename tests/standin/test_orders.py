# SPDX-License-Identifier: Apache-2.0
"""Each order to misbehave once, and the stand-in in a jail like the shim's."""
import os
import re
import select
import shutil
import subprocess
import time

import pytest

from vmm_harness import GUEST, MIB, STANDIN, Connection, Vmm, request

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def standin(orders="", mib=17, **env):
    return Vmm(STANDIN, mib, env={"STANDIN_ORDERS": orders, **env})


# ---- orders ----

def ordered(action, endpoint="vmm.ping", **more):
    return standin(f"standin:{endpoint}={action}", **more)


def raw(vmm, endpoint="vmm.ping"):
    """What comes in answer to one request, up to the end or to a silence."""
    with Connection(vmm, timeout=0.15) as conn:
        conn.send(request("GET", endpoint))
        try:
            return conn.rest(), "end"
        except TimeoutError:
            return bytes(conn.got), "silence"


def test_order_delay_blocks_all():
    with ordered("delay:150@1") as vmm:
        started = time.monotonic()
        vmm.conn.send(request("GET", "vmm.ping"))
        with Connection(vmm) as other:
            other.call("GET", "vm.info")
        assert 0.14 < time.monotonic() - started < 2
        assert vmm.conn.read().status == 200
        started = time.monotonic()
        assert vmm.call("GET", "vmm.ping").status == 200
        assert time.monotonic() - started < 0.14


def test_order_hang():
    with standin("standin:vm.pause=hang@2") as vmm:
        vmm.boot("tick=10")
        vmm.call("PUT", "vm.pause")
        vmm.call("PUT", "vm.resume")
        vmm.conn.send(request("PUT", "vm.pause"))
        seen = vmm.stdout().count("COUNT")
        vmm.until(lambda: vmm.stdout().count("COUNT") > seen + 2)  # the guest runs on
        vmm.process.terminate()  # waits behind the request
        assert raw(vmm) == (b"", "silence")
        assert vmm.process.poll() is None


SPOILT = {
    "drop": (rb"", "end"),
    "half": (rb"HTTP/1.1 200 .*[^}]", "silence"),
    "halfclose": (rb"HTTP/1.1 200 .*[^}]", "end"),
    "length:+7": (rb"HTTP/1.1 200 .*\}", "silence"),
    "length:-7": (rb"HTTP/1.1 200 .*\}", "silence"),
    "nolength": (rb"HTTP/1.1 200 ((?!Content-Length).)*\}", "silence"),
    "status:429": (rb"HTTP/1.1 429 .*", "silence"),
    "status:204": (rb"HTTP/1.1 204 \r\n((?!Content-Length).)*\r\n\r\n", "silence"),
    "error:no_more_memory": (rb'HTTP/1.1 500 .*\["Error from API","no more memory"\]', "silence"),
    "fcerror": (rb"HTTP/1.1 400 \r\nServer: Firecracker.*\n[^\n]*\}", "silence"),
    "badjson": (rb"HTTP/1.1 200 .*\r\n\r\n\{\"broken.*[^}]", "silence"),
    "100": (rb"HTTP/1.1 100 .*\r\n\r\nHTTP/1.1 200 .*\}", "silence"),
    "garbage": (rb"(?!HTTP).{256}", "silence"),
}


@pytest.mark.parametrize("action", SPOILT)
def test_order_spoils_the_answer(action):
    pattern, end = SPOILT[action]
    with ordered(action + "@1") as vmm:
        got = raw(vmm)
        assert re.fullmatch(pattern, got[0], re.S) and got[1] == end, got
        if action.startswith("length"):
            body = got[0].split(b"\r\n\r\n", 1)[1]
            said = int(re.search(rb"Content-Length: (\d+)", got[0])[1])
            assert said - len(body) == int(action.split(":")[1])
        vmm.conn.close()
        vmm.conn = Connection(vmm)
        assert vmm.call("GET", "vmm.ping").status == 200


def test_order_huge_and_dribble():
    with ordered("huge") as vmm:
        assert len(vmm.call("GET", "vmm.ping").json()) == 16 * MIB - 2
    with ordered("dribble:1") as vmm:
        vmm.conn.send(request("GET", "vmm.ping"))
        assert len(vmm.conn.sock.recv(4096)) < 20
        with Connection(vmm) as other:
            assert other.call("GET", "vm.info").status == 404  # others are served


def test_orders_that_go_on():
    with standin("standin:*=stderr:3 standin:*=badevent standin:vm.info=status:500") as vmm:
        assert vmm.call("GET", "vmm.ping").status == 200
        vmm.wait_err(r"(.*<vmm> ERROR:.*\n){3}")
        vmm.until(lambda: vmm.torn)
        assert vmm.call("GET", "vm.info").status == 500


@pytest.mark.parametrize("action, code", [("exit:7", 7), ("signal:9", -9), ("signal:15", -15),
                                          ("signal:11", -11), ("abort", -6)])
def test_order_ends_it(action, code):
    with ordered(action) as vmm:
        vmm.conn.send(request("GET", "vmm.ping"))
        assert vmm.wait_exit() == code
        with pytest.raises((EOFError, ConnectionResetError)):
            vmm.conn.read()


def test_orders_on_the_command_line():
    with standin() as vmm:
        vmm.boot("standin:vm.pause=error:out_of_luck@2 tick=0")
        assert vmm.call("PUT", "vm.pause").status == 204
        assert vmm.call("PUT", "vm.pause").json()[-1] == "out of luck"
        vmm.call("PUT", "vm.delete")
        vmm.boot("tick=0")  # a new command line, new orders
        assert [vmm.call("PUT", "vm.pause").status for _ in range(2)] == [204, 500]


# ---- happenings ----

@pytest.mark.parametrize("what, code", [("poweroff", 0), ("exit:9", 9), ("signal:6", -6),
                                        ("vcpuerror", 0), ("seccomp", -31)])
def test_happening_ends_it(what, code):
    with standin() as vmm:
        vmm.boot(f"tick=0 standin:at=20:{what}")
        assert vmm.wait_exit() == code
        if what == "vcpuerror":
            assert re.search("ERROR:.*VCPU generated error", vmm.stderr())
        if what == "seccomp":
            assert "==== Possible seccomp violation ====" in vmm.stderr()
        if code == 0:
            assert vmm.names()[-3:] == ["vm/shutdown", "vm/deleted", "vmm/shutdown"]


def test_happening_goes_on():
    with standin() as vmm:
        vmm.boot("tick=20 standin:at=1:reset standin:at=2:panic standin:at=40:stderrflood:20 "
                 "standin:at=40:eventflood:5 standin:at=40:stdoutflood:30 "
                 "standin:at=80:closestdout")
        vmm.wait_event("vm/rebooted")
        vmm.wait_event("guest/panic")
        vmm.wait_event("virtio-device/activated", 5)
        vmm.wait_text("FLOOD 30 ")
        vmm.wait_err(r"(.*Invalid sized write.*\n){20}")
        vmm.until(lambda: os.read(vmm.out, 65536) == b"" if _readable(vmm.out) else False)
        assert vmm.call("GET", "vm.info").json()["state"] == "Running"


def _readable(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    events = poll.poll(50)
    return bool(events) and (events[0][1] & select.POLLIN or events[0][1] & select.POLLHUP)


def test_happening_before_any_vm():
    with standin("standin:at=20:exit:5") as vmm:
        assert vmm.wait_exit() == 5


# ---- in a jail ----

@needs_root
@pytest.mark.parametrize("action, code", [("at=20:seccomp", -11), ("at=20:signal:11", -11),
                                          ("vmm.ping=abort", -11), ("vmm.ping=exit:3", 3)])
def test_as_pid_1(action, code):
    with Vmm(STANDIN, 16, env={"STANDIN_ORDERS": f"standin:{action}", "PATH": "/usr/bin:/bin"},
             prefix=("unshare", "--pid", "--fork", "--kill-child")) as vmm:
        vmm.conn.send(request("GET", "vmm.ping"))
        assert vmm.wait_exit() == code


@needs_root
def test_bare_root(tmp_path):
    uid = 123456
    root = tmp_path / "root"
    libs = subprocess.run(["ldd", STANDIN], capture_output=True, text=True, check=True).stdout
    for lib in re.findall(r"(/\S+) \(0x", libs):
        (root / lib[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lib, root / lib[1:])
    shutil.copy(STANDIN, root / "cloud-hypervisor")
    shutil.copy(GUEST, root / "kernel")
    (root / "dev").mkdir()
    for name, device in (("kvm", (10, 232)), ("urandom", (1, 9)), ("null", (1, 3))):
        os.mknod(root / "dev" / name, 0o20600, os.makedev(*device))
        os.chown(root / "dev" / name, uid, uid)
    (root / "ram").write_bytes(b"")
    os.truncate(root / "ram", 17 * MIB)
    os.chown(root / "ram", uid, uid)
    with Vmm("/cloud-hypervisor", 17, kernel="/kernel", env={"PATH": "/usr/sbin:/usr/bin"},
             prefix=("prlimit", "--nproc=64", "--nofile=256", "--memlock=0", "chroot",
                     f"--userspec={uid}:{uid}", str(root))) as vmm:
        vmm.ram = "/ram"
        vmm.boot("tick=0 do=touch_1")
        vmm.wait_text("^TOUCHED 1$")
        with open(f"/proc/{vmm.process.pid}/status", encoding="utf-8") as status:
            assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status.read()
        assert len(os.listdir(f"/proc/{vmm.process.pid}/task")) == 2
        vmm.ram = str(root / "ram")
        vmm.type("poweroff")
        assert vmm.wait_exit() == 0
