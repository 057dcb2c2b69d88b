# SPDX-License-Identifier: Apache-2.0
"""The network device: vm.add-net and net_fds side by side with the real VMM, and the frames of the
stand-in's guest in a network namespace of the test's own."""
import json
import os
import re
import shutil
import socket
import struct
import time

import pytest

from netslot import FAR, GATEWAY, GUEST_IP, NO_PI, TAP, TUN, VNET_HDR, Slot
from test_snapshot import as_map, base, both, edit, make_dir, needs_root, normal, start
from test_standin import needs_real
from vmm_harness import GUEST, REAL, STANDIN, request

assert base
pytestmark = [needs_root, pytest.mark.skipif(not os.path.exists("/dev/net/tun"),
                                             reason="needs taps")]
MAC = "02:c1:01:57:00:02"
NET = {"id": "net0", "mac": MAC, "num_queues": 2, "queue_size": 256}
FDS = [{"id": "net0", "num_fds": 1}]
ZERO = dict.fromkeys(("rx_bytes", "rx_frames", "tx_bytes", "tx_frames"), 0)


@pytest.fixture
def slot():
    with Slot() as made:
        yield made


def silent(call, *args, **more):
    with pytest.raises((TimeoutError, OSError)) as caught:
        call(*args, timeout=0.3, **more)
    assert caught.type is TimeoutError or caught.value.errno in (113, 110), caught.value


def booted(vmm, slot, cmdline="tick=0", **more):
    assert vmm.call("PUT", "vm.create", vmm.config(cmdline, **more)).status == 204
    assert vmm.call("PUT", "vm.add-net", NET, fds=[slot.tap]).status == 204
    answer = vmm.call("PUT", "vm.boot")
    assert answer.status == 204, answer.body
    vmm.wait_text("^GUEST UP$")
    return vmm


def snapshot(vmm, base, name="set"):
    vmm.call("PUT", "vm.pause")
    path = make_dir(base, name)
    assert vmm.snapshot(path).status == 204
    shutil.copy(vmm.ram, f"{base}/{name}.ram")
    as_map(path, f"{base}/{name}.ram")
    edit(path, lambda c: c["net"][0].update(fds=[-1]))  # as the shim writes it
    return path


def own_net(vmm):
    return vmm.call("GET", "vm.info").json()["config"]["net"]


def log(vmm, *where):
    """The lines from these source files, without their times."""
    vmm.watch(0.05)
    lines = [line for line in vmm.stderr().split("\r\n") if any(w in line for w in where)]
    return [re.sub(r"^cloud-hypervisor: +[\d.]+s", "", line) for line in lines]


# ---- side by side ----

def changes():
    """Bodies of vm.add-net, and how many descriptors ride on each."""
    for count in 0, 1, 2:
        for queues in 1, 2, 3, 4:
            yield {"num_queues": queues}, count
    for change in ({"id": "disk0"}, {"id": "vsock0"}, {"id": "net0"}, {"id": "__x"},
                   {"queue_size": 100}, {"queue_size": 0}, {"queue_size": 65536}, {"mtu": 1279},
                   {"mtu": 65536}, {"offload_csum": False},
                   {"offload_csum": False, "offload_tso": False}, {"ip": "10.0.0.1"},
                   {"mask": "255.0.0.0"}, {"ip": "x"}, {"ip": "::1", "mask": "10.0.0"},
                   {"mac": "zz"}, {"mac": "12:34:56:78:90:zz"}, {"mac": "12-34-56-78-90-ab"},
                   {"mac": 5}, {"host_mac": "x"}, {"vhost_user": True}, {"vhost_mode": "Serve"},
                   {"vhost_user": True, "vhost_socket": "/x", "iommu": True},
                   {"vhost_user": True, "vhost_socket": "/x",
                    "rate_limiter_config": {"ops": {"size": 1, "refill_time": 1}}},
                   {"pci_segment": 1}, {"pci_device_id": 0}, {"pci_device_id": 32},
                   {"fds": [1, 2]}, {"fds": "x"}, {"fds": None}, {"tap": 1}):
        yield change, 1


@needs_real
def test_every_refusal_of_add_net(slot):
    with start(STANDIN) as fake, start(REAL) as real:
        config = {"disks": [{"id": "disk0", "path": GUEST, "readonly": True, "image_type": "Raw"}],
                  "vsock": {"id": "vsock0", "cid": 3, "socket": "/none"}}
        for vmm in fake, real:
            vmm.call("PUT", "vm.create", vmm.config(**config))
        for change, count in [({}, 1), *changes()]:
            body = {**NET, "id": "new" if change else "net0", **change}
            got = [normal(v.call("PUT", "vm.add-net", body, fds=[slot.tap] * count))
                   for v in (fake, real)]
            assert got[0] == got[1], change
            for vmm in fake, real:
                vmm.call("PUT", "vm.remove-device", {"id": "new"})
        shown = [own_net(vmm) for vmm in (fake, real)]
        for each in shown:
            assert all(fd > 2 for fd in each[0].pop("fds"))
        assert shown[0] == shown[1]
        lines = [log(vmm, "http_endpoint.rs") for vmm in (fake, real)]
        assert lines[0] == lines[1] and len(lines[0]) == 1


@needs_real
def test_the_whole_configuration_is_checked(slot):
    """vm.create takes anything; the first vm.add-net finds fault with it."""
    with start(STANDIN) as fake, start(REAL) as real:
        def tried(create):
            out = []
            for vmm in fake, real:
                config = create(vmm)
                if config is not None:
                    vmm.call("PUT", "vm.create", config)
                out.append(normal(vmm.call("PUT", "vm.add-net", NET, fds=[slot.tap])))
                out[-1] += (vmm.call("GET", "vm.info").status,)
                vmm.call("PUT", "vm.delete")
                vmm.drain()
            return out
        for create in (lambda vmm: None, lambda vmm: {},
                       lambda vmm: vmm.config(disks=[{"id": "d", "path": "/x", "num_queues": 3}]),
                       lambda vmm: vmm.config(vsock={"cid": 2, "socket": "/x"}),
                       lambda vmm: vmm.config(net=[{**NET, "num_queues": 4}]),
                       lambda vmm: vmm.config(net=[{**NET, "fds": [5]}]),
                       lambda vmm: vmm.config(net=[{**NET, "id": "other"}])):
            got = tried(create)
            assert got[0] == got[1]


@both
def test_create_takes_no_descriptors(binary, slot):
    """They are dropped, the numbers in the body are too, and the answer is 204 all the same."""
    with start(binary) as vmm:
        config = vmm.config("tick=0", net=[{**NET, "fds": [slot.tap]}])
        assert vmm.call("PUT", "vm.create", config, fds=[slot.tap]).status == 204
        assert "fds" not in own_net(vmm)[0]
        assert log(vmm, "http_endpoint.rs") == [
            ': <http-server> WARN:vmm/src/api/http/http_endpoint.rs:188 -- FD numbers were present '
            'in HTTP request body for device Some("net0") but will be ignored']


@both
def test_descriptors_go_to_the_first_whole_request(binary, slot):
    with start(binary) as vmm:
        vmm.call("PUT", "vm.create", vmm.config("tick=0"))
        data = request("PUT", "vm.add-net", NET)
        for at in 1, len(data) // 2, len(data) - 1:  # with whatever part they come
            vmm.conn.send(data[:at], [slot.tap] if at != 1 else [])
            time.sleep(0.01)
            vmm.conn.send(data[at:], [slot.tap] if at == 1 else [])
            assert vmm.conn.read().status == 204
            assert len(own_net(vmm)[0]["fds"]) == 1
            vmm.call("PUT", "vm.remove-device", {"id": "net0"})
        vmm.conn.send(request("GET", "vmm.ping") + data, [slot.tap])
        assert [vmm.conn.read().status for _ in range(2)] == [200, 204]
        assert "fds" not in own_net(vmm)[0]


@both
def test_life(binary, base, slot):
    """As the shim goes about it: added before the boot, restored with another descriptor."""
    with start(binary) as vmm, Slot() as other:
        booted(vmm, slot)
        shown = own_net(vmm)
        assert len(shown) == 1 and len(shown[0]["fds"]) == 1 and "tap" not in shown[0]
        assert vmm.call("GET", "vm.counters").json() == {"net0": ZERO}
        assert vmm.call("PUT", "vm.reboot").status == 204
        vmm.until(lambda: vmm.stdout().count("GUEST UP") == 2)
        path = snapshot(vmm, base)
        with open(path + "/state.json", encoding="utf-8") as file:
            device = json.load(file)["snapshots"]["device-manager"]["snapshots"]["net0"]
        assert json.loads(device["snapshot_data"]["state"])["config"]["mac"] == [
            2, 0xc1, 1, 0x57, 0, 2]
        with start(binary) as clone:
            assert clone.restore(path, fds=[other.tap], net_fds=FDS, resume=True).status == 204
            back = own_net(clone)
            assert len(back[0]["fds"]) == 1
            del back[0]["fds"], shown[0]["fds"]
            assert back == shown
            assert clone.call("GET", "vm.counters").json() == {"net0": ZERO}
            assert clone.ask("hello", "^ECHO hello$")


@needs_real
def test_every_refusal_of_restore(base, slot):
    # The real one's tap is in another namespace, as in a jail, and both say so.
    paths, answers, lines = {}, {}, {}
    for binary in STANDIN, REAL:
        with start(binary) as vmm:
            paths[binary] = snapshot(booted(vmm, slot), base, os.path.basename(binary) +
                                     str(len(paths)))
            lines[binary] = log(vmm, "virtio-devices/src/net.rs")
    assert lines[STANDIN] == lines[REAL] and len(lines[REAL]) == 1
    for binary in STANDIN, REAL:
        answers[binary], path = [], paths[binary]

        def tried(vmm, count=1, path=path, binary=binary, **more):
            fds = [slot.tap] * count if isinstance(count, int) else count
            text = json.dumps(normal(vmm.restore(path, fds=fds, **more)), default=repr)
            answers[binary].append(text.replace(path, "SET"))
            vmm.drain()
        with start(binary) as vmm:
            tried(vmm)
            for count, fds in ((0, FDS), (2, FDS), (1, []), (1, [{"id": "nx", "num_fds": 1}]),
                               (2, FDS + FDS), (2, [{"id": "net0", "num_fds": 2}]),
                               (0, [{"id": "net0"}]), (1, [{"num_fds": 1}]), (1, {}),
                               (1, [{"id": "net0", "num_fds": -1}])):
                tried(vmm, count, net_fds=fds)
            with open("/dev/null", "rb") as null:
                tried(vmm, [null.fileno()], net_fds=FDS)
            edit(path, lambda c: c["net"][0].update(num_queues=4))
            tried(vmm, net_fds=FDS)
            edit(path, lambda c: c["net"][0].update(num_queues=2, queue_size=3))
            tried(vmm, net_fds=FDS)
            edit(path, lambda c: c["net"][0].update(queue_size=256))
            assert vmm.call("GET", "vm.info").status == 404
            more = [{"id": "net0", "num_fds": 1, "fds": [9]}, {"id": "zz"}]
            tried(vmm, net_fds=more)
            lines[binary] = log(vmm, "config.rs", "http_endpoint.rs")
    assert answers[STANDIN] == answers[REAL]
    assert lines[STANDIN] == lines[REAL] and len(lines[REAL]) >= 4


@both
def test_added_while_it_runs(binary, slot):
    with start(binary) as vmm:
        vmm.boot("tick=0")
        with open("/dev/null", "r+b") as null:
            chain = vmm.call("PUT", "vm.add-net", NET, fds=[null.fileno()]).json()
        assert chain[2:5] == ["Error from device manager", "Cannot create virtio-net device",
                              "Using existing tap"]
        answer = vmm.call("PUT", "vm.add-net", NET, fds=[slot.tap])
        assert (answer.status, answer.json()) == (200, {"id": "net0", "bdf": "0000:00:04.0"})
        again = vmm.call("PUT", "vm.add-net", NET, fds=[slot.tap])
        assert again.json()[-1] == "Identifier net0 is not unique"
        assert len(own_net(vmm)) == 1


@both
def test_no_tap(binary):
    with start(binary) as vmm:
        read_end, write_end = os.pipe()
        vmm.call("PUT", "vm.create", vmm.config())
        assert vmm.call("PUT", "vm.add-net", NET, fds=[read_end]).status == 204
        assert vmm.call("PUT", "vm.boot").json() == [
            "Error from API", "The VM could not boot", "Error from device manager",
            "Cannot create virtio-net device", "Using existing tap", "Ioctl failed (2147767506)",
            "Inappropriate ioctl for device (os error 25)"]
        assert "net" not in vmm.call("GET", "vm.info").json()["config"]
        os.close(read_end)
        os.close(write_end)


# ---- the stand-in's own: what Cloister never does is refused aloud ----

@pytest.mark.parametrize("change, count, why", [
    ({}, 0, "no descriptor came for it"), ({"tap": "tap0"}, 1, "asks for \"tap\""),
    ({"host_mac": MAC}, 1, "asks for \"host_mac\""), ({"mtu": 1400}, 1, "asks for \"mtu\""),
    ({"id": None}, 1, "without an id"), ({"num_queues": 4}, 2, "several pairs"),
    ({"iommu": True}, 1, "asks for \"iommu\""),
    ({"rate_limiter_config": {"ops": {"size": 1, "refill_time": 1}}}, 1, "rate_limiter_config"),
    ({"typo": 1}, 1, "does not know the key `net.typo`")])
def test_refused_aloud(slot, change, count, why):
    with start(STANDIN) as vmm:
        vmm.call("PUT", "vm.create", vmm.config(cpus={"boot_vcpus": 2, "max_vcpus": 2}))
        answer = vmm.call("PUT", "vm.add-net", {**NET, **change}, fds=[slot.tap] * count)
        assert answer.status == 204, answer.body
        answer = vmm.call("PUT", "vm.boot")
        assert answer.status == 500 and why in answer.json()[-1], answer.json()


@pytest.mark.parametrize("flags", [TAP | NO_PI, TUN | NO_PI | VNET_HDR])
def test_tap_of_another_kind(flags):
    """v53 would take it, and cut every frame in the wrong place."""
    with Slot(flags) as slot, start(STANDIN) as vmm:
        vmm.call("PUT", "vm.create", vmm.config())
        vmm.call("PUT", "vm.add-net", NET, fds=[slot.tap])
        assert "is no tap with IFF_VNET_HDR" in vmm.call("PUT", "vm.boot").json()[-1]


def test_two_devices(slot):
    with start(STANDIN) as vmm:
        vmm.call("PUT", "vm.create", vmm.config())
        for name in "net0", "net1":
            vmm.call("PUT", "vm.add-net", {**NET, "id": name}, fds=[slot.tap])
        assert "a second one" in vmm.call("PUT", "vm.boot").json()[-1]


# ---- the stand-in's guest on its network ----

def test_traffic(slot):
    with start(STANDIN) as vmm:
        booted(vmm, slot)
        assert slot.ping() and slot.ping(1472) and slot.ping(0)
        assert slot.get() == slot.get("/health") == "HTTP/1.0 200 OK\r\n\r\nok\n"
        assert slot.get("/none") == "HTTP/1.0 404 Not Found\r\n\r\nno\n"
        with pytest.raises(ConnectionRefusedError):
            slot.connect(81)
        for words in b"GET / HTTP/1.0\r\n", b"POST / HTTP/1.0\r\n\r\n":
            with slot.connect() as sock, pytest.raises(ConnectionResetError):
                sock.sendall(words)
                sock.recv(100)
        for _ in range(20):
            assert slot.get().endswith("ok\n")
        vmm.drain()
        assert vmm.names().count("virtio-device/activated") == 1
        counters = vmm.call("GET", "vm.counters").json()["net0"]
        assert counters["rx_frames"] > 80 and counters["tx_frames"] > 60
        assert counters["rx_bytes"] > 50 * counters["rx_frames"]
        assert counters["tx_bytes"] > 50 * counters["tx_frames"]


def test_datagrams(slot):
    with start(STANDIN) as vmm, slot.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        booted(vmm, slot)
        sock.bind((FAR, 53))
        assert vmm.ask(f"send {FAR} 53", rf"^SENT {re.escape(FAR)} 53$")
        assert sock.recvfrom(100) == (b"from the guest", (GUEST_IP, 4000))
        sock.sendto(b"hello", (GUEST_IP, 9))
        vmm.wait_text(rf"^UDP {re.escape(FAR)} 53 9 5$")
        sock.sendto(b"echo" * 300, (GUEST_IP, 7))
        assert sock.recvfrom(2000) == (b"echo" * 300, (GUEST_IP, 7))
        assert vmm.ask(f"send {FAR} 54", rf"^ICMP {re.escape(FAR)} 3 3$")  # nobody is there
        vmm.ask(f"ping {FAR}", rf"^ICMP {re.escape(FAR)} 0 0$")
        with slot.listen() as frames:
            vmm.ask(f"spoof 192.0.2.1 {FAR} 53", rf"^SENT {re.escape(FAR)} 53$")
            while True:
                frame = frames.recv(2000)
                if frame[26:30] == socket.inet_aton("192.0.2.1"):
                    break
        vmm.type("send 1.2.3.4")  # no command
        vmm.ask("again", "^ECHO again$")
        assert vmm.stdout().count("SENT") == 3


def test_knock(slot):
    with start(STANDIN) as vmm, slot.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        booted(vmm, slot, "tick=0 do=knock_203.0.113.9_99")  # the very first thing it does
        vmm.wait_text(rf"^KNOCK {re.escape(FAR)} 99 CLOSED$")
        sock.bind((FAR, 99))
        sock.listen()
        vmm.ask(f"knock {FAR} 99", rf"^KNOCK {re.escape(FAR)} 99 OPEN$")


def test_no_network():
    with start(STANDIN) as vmm:
        vmm.boot("tick=0")
        for line in f"send {FAR} 1", f"knock {FAR} 1", f"ping {FAR}", f"spoof {FAR} {FAR} 1":
            vmm.ask(line, "^NO NET$")


def test_off_and_on(slot):
    with start(STANDIN) as vmm:
        booted(vmm, slot, "tick=0 do=net_off")
        silent(slot.ping)
        silent(slot.get)
        vmm.ask("net on", "^ECHO net on$")
        vmm.until(slot.ping)
        assert slot.get().endswith("ok\n")
        vmm.ask("net off", "^ECHO net off$")
        silent(slot.get)


def test_closed_at_first(slot):
    """net=MS: it is on the network at once, its service is late."""
    with start(STANDIN) as vmm:
        started = time.monotonic()
        booted(vmm, slot, "tick=0 net=500")
        assert slot.ping()
        with pytest.raises(ConnectionRefusedError):
            slot.get()

        def served():
            try:
                return slot.get()
            except ConnectionRefusedError:
                return None
        assert vmm.until(served).endswith("ok\n")
        assert time.monotonic() - started > 0.45


def test_paused(slot):
    """What comes meanwhile waits in the tap."""
    with start(STANDIN) as vmm:
        booted(vmm, slot)
        assert slot.ping()
        vmm.call("PUT", "vm.pause")
        silent(slot.ping)
        with slot.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"early", (GUEST_IP, 9))
            vmm.call("PUT", "vm.resume")
            vmm.wait_text("^UDP .* 9 5$")
        assert slot.ping()


def ignored(slot, frame):
    """A frame to the guest, written at the kernel's end, brings no answer."""
    with slot.listen() as frames, slot.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("tap", 0))
        sock.send(frame)
        assert slot.ping()  # it has been read by now
        frames.settimeout(0.01)
        answers = []
        try:
            while True:
                data, at = frames.recvfrom(2000)
                if at[2] != 4:  # PACKET_OUTGOING
                    answers.append(data)
        except TimeoutError:
            pass
        return len(answers) == 1  # to the ping


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~total & 0xffff)


def packet(to=GUEST_IP, fragment=0, version=0x45, good=True, mac=MAC, kind=0x0800):
    """An echo request as a frame."""
    icmp = struct.pack("!BBHHH", 8, 0, 0, 9, 9)
    icmp = icmp[:2] + checksum(icmp) + icmp[4:]
    head = struct.pack("!BBHHHBBH4s4s", version, 0, 28, 1, fragment, 64, 1, 0,
                       socket.inet_aton(GATEWAY), socket.inet_aton(to))
    head = head[:10] + (checksum(head) if good else b"\1\2") + head[12:]
    return bytes.fromhex(mac.replace(":", "")) + b"\2\0\0\0\0\1" + struct.pack("!H", kind) + \
        head + icmp


def test_frames_that_are_not_for_it(slot):
    with start(STANDIN) as vmm:
        booted(vmm, slot)
        assert slot.ping()  # both know one another
        assert not ignored(slot, packet())
        for frame in (packet(to="10.177.0.3"), packet(fragment=0x2000), packet(fragment=1),
                      packet(version=0x46), packet(version=0x65), packet(good=False),
                      packet(mac="02:c1:01:57:00:03"), packet(kind=0x86dd), packet(kind=0x8035),
                      packet()[:30], packet()[:-1], packet()[:14]):
            assert ignored(slot, frame), frame


def test_restored_elsewhere(base, slot):
    """Its neighbour is known, its device is active, and the network is told where it is."""
    with start(STANDIN) as vmm, slot.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        booted(vmm, slot)
        sock.bind((FAR, 53))
        vmm.ask(f"send {FAR} 53", "^SENT ")
        assert slot.get().endswith("ok\n")
        path = snapshot(vmm, base)
    with Slot() as other, start(STANDIN) as vmm, other.listen() as frames:
        assert vmm.restore(path, fds=[other.tap], net_fds=FDS).status == 204
        silent(other.get)
        assert vmm.call("GET", "vm.counters").json()["net0"] == ZERO
        vmm.call("PUT", "vm.resume")
        vmm.wait_event("virtio-device/activated")
        assert other.get().endswith("ok\n") and other.ping()
        kinds = {}
        while len(kinds) < 3:
            frame = frames.recv(2000)
            if frame[6:12] == bytes.fromhex(MAC.replace(":", "")):
                kinds.setdefault(frame[12:14].hex(), frame)
        assert kinds["8035"][22:28] == kinds["8035"][6:12]
        arp = kinds["0806"]
        assert arp[28:32] == socket.inet_aton(GUEST_IP)


def test_tap_that_is_down(base, slot):
    """The guest's first word ends the VMM: as on the real one, up to v53."""
    with start(STANDIN) as vmm:
        booted(vmm, slot)
        assert slot.ping()
        path = snapshot(vmm, base)
    with Slot(up=False) as other, start(STANDIN) as vmm:
        assert vmm.restore(path, fds=[other.tap], net_fds=FDS).status == 204
        vmm.conn.send(request("PUT", "vm.resume"))
        assert vmm.wait_exit() == 0
        assert "net: tx: failed writing to tap: Input/output error (os error 5)" in vmm.stderr()


def test_off_is_kept(base, slot):
    with start(STANDIN) as vmm:
        path = snapshot(booted(vmm, slot, "tick=0 do=net_off"), base)
    with Slot() as other, start(STANDIN) as vmm:
        assert vmm.restore(path, fds=[other.tap], net_fds=FDS, resume=True).status == 204
        silent(other.ping)
        vmm.ask("net on", "^ECHO net on$")
        vmm.until(other.ping)
