# SPDX-License-Identifier: Apache-2.0
"""Disks: the assembler guest on the real VMM and the stand-in's guest say and see the same."""
import json
import os
import re
import shutil
import struct
import subprocess
import time

import pytest

from test_snapshot import as_map, base, both, make_dir, needs_root, normal, start
from test_standin import needs_real
from vmm_harness import GUEST, MIB, REAL, STANDIN

assert base
MASK = 0xffffffff
SECTOR = 512


def words(seed, sector, count):
    """The pattern that dwrite puts into so many sectors."""
    return [(seed * 0x9e3779b1 + (sector * 128 + n) * 0x85ebca6b) & MASK
            for n in range(count * 128)]


def pattern(seed, sector, count):
    return struct.pack(f"<{count * 128}I", *words(seed, sector, count))


def checksum(data):
    total = 0
    for word in struct.unpack(f"<{len(data) // 4}I", data):
        total = (total * 33 + word) & MASK
    return f"{total:08x}"


def make_disk(path, size=MIB, head=b"", tail=b""):
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
        file.seek(size - len(tail))
        file.write(tail)
    return path


def entry(number, path, **more):
    """A disk as the shim asks for it."""
    return {"id": f"disk{number}", "path": path, "readonly": False, "image_type": "Raw",
            "disable_io_uring": True, **more}


def ask(vmm, line):
    """What the guest answers to a d-command, without the echo."""
    word = line.split()[0].upper()
    return vmm.ask(line, rf"^{word} .*\n")[0].rstrip("\n")


def booted(vmm, *disks, cmdline="tick=0", **more):
    vmm.boot(cmdline, disks=list(disks), **more)
    vmm.wait_text("^GUEST UP$")
    return vmm


def read_back(path, sector, count):
    with open(path, "rb") as file:
        file.seek(sector * SECTOR)
        return file.read(count * SECTOR)


# ---- the guest's words ----

@both
def test_two_disks(binary, base):
    one, two = make_disk(base + "/one", 4 * MIB), make_disk(base + "/two", 3 * SECTOR)
    with start(binary) as vmm:
        booted(vmm, entry(0, one), entry(1, two))
        assert [ask(vmm, f"dsize {n}") for n in range(3)] == [
            "DSIZE 0 8192", "DSIZE 1 3", "DSIZE 2 ERR 255"]
        assert ask(vmm, "dread 0 0 2048") == "DREAD 0 0 2048 00000000"
        for line, data in (("0 3 5 7", pattern(7, 3, 5)), ("1 0 3 4294967295",
                                                          pattern(MASK, 0, 3)),
                           ("0 8191 1 1", pattern(1, 8191, 1)),
                           ("0 100 300 9", pattern(9, 100, 300))):
            disk, sector, count, _ = (int(n) for n in line.split())
            assert ask(vmm, "dwrite " + line) == f"DWRITE {disk} {sector} {count} OK"
            assert read_back((one, two)[disk], sector, count) == data
            assert ask(vmm, f"dread {disk} {sector} {count}") == \
                f"DREAD {disk} {sector} {count} {checksum(data)}"
        assert [ask(vmm, f"dflush {n}") for n in range(3)] == [
            "DFLUSH 0 OK", "DFLUSH 1 OK", "DFLUSH 2 ERR 255"]
        assert ask(vmm, "dread 0 0 0") == "DREAD 0 0 0 00000000"
        assert ask(vmm, "dwrite 0 8192 0 5") == "DWRITE 0 8192 0 OK"
        for line in ("dwrite 0 8191 2 1", "dwrite 1 3 1 1", "dwrite 2 0 1 1", "dread 1 0 4",
                     "dread 0 0 2049", "dread 0 4294967295 2"):
            assert ask(vmm, line).endswith(" ERR 255")
        for line in ("dread 0 1", "dread 0  1 1", "dread 0 0 1 ", "dread 0 0 1 1", "dsize x",
                     "dwrite 0 0 1 4294967296"):  # no commands
            vmm.ask(line, f"^ECHO {line}$")
        assert ask(vmm, "dsize 0") == "DSIZE 0 8192"
        assert not re.search("^D(READ|WRITE|SIZE) .*\nECHO dsize 0$", vmm.stdout(), re.M)
        vmm.wait_event("virtio-device/activated", 2)
        assert vmm.names().count("virtio-device/activated") == 2


@both
def test_do_words(binary, base):
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        vmm.boot("tick=0 do=dwrite_0_1_2_3 do=dread_0_1_2", disks=[entry(0, disk)])
        vmm.wait_text(rf"^GUEST UP\nDWRITE 0 1 2 OK\nDREAD 0 1 2 {checksum(pattern(3, 1, 2))}\n")


@both
def test_readonly(binary, base):
    disk = make_disk(base + "/disk", head=pattern(5, 0, 4))
    os.chmod(disk, 0o444)
    with start(binary) as vmm, start(binary) as other:
        for each in vmm, other:  # readers do not keep one another out
            booted(each, entry(0, disk, readonly=True))
            assert ask(each, "dread 0 0 4") == "DREAD 0 0 4 " + checksum(pattern(5, 0, 4))
        assert ask(vmm, "dwrite 0 0 1 1") == "DWRITE 0 0 1 ERR 1"
        assert ask(vmm, "dflush 0") == "DFLUSH 0 OK"
        vmm.wait_err(r"<disk0_q0> WARN:.*Request check failed: Request .* ReadOnly\r$")
        assert read_back(disk, 0, 4) == pattern(5, 0, 4)


@both
def test_counters(binary, base):
    with start(binary) as vmm:
        booted(vmm, entry(0, make_disk(base + "/a")), entry(1, make_disk(base + "/b")))
        for line in ("dwrite 0 0 300 1", "dread 0 0 10", "dread 0 0 10", "dflush 0"):
            ask(vmm, line)
        counters = vmm.call("GET", "vm.counters").json()
        assert set(counters) == {"disk0", "disk1"}
        used, idle = counters["disk0"], counters["disk1"]
        assert set(used) == set(idle) == {
            f"{side}_{what}" for side in ("read", "write")
            for what in ("bytes", "ops", "latency_min", "latency_max", "latency_avg")}
        assert (used["write_bytes"], used["write_ops"]) == (300 * SECTOR, 3)
        assert (used["read_bytes"], used["read_ops"]) == (20 * SECTOR, 2)
        assert used["read_latency_min"] <= used["read_latency_avg"] <= used["read_latency_max"]
        assert idle["read_ops"] == 0 and idle["read_latency_min"] == 2 ** 64 - 1


# ---- pause, snapshot, reboot ----

@both
def test_pause_in_the_middle(binary, base):
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        booted(vmm, entry(0, disk))
        vmm.type("dwrite 0 0 2048 6")
        for _ in range(10):
            assert vmm.call("PUT", "vm.pause").status == 204
            vmm.watch(0.003)
            assert vmm.call("PUT", "vm.resume").status == 204
            vmm.watch(0.01)
        vmm.wait_text("^DWRITE 0 0 2048 OK$")
        assert read_back(disk, 0, 2048) == pattern(6, 0, 2048)


def snapshot(vmm, base, name="set"):
    vmm.call("PUT", "vm.pause")
    path = make_dir(base, name)
    assert vmm.snapshot(path).status == 204
    shutil.copy(vmm.ram, f"{base}/{name}.ram")
    as_map(path, f"{base}/{name}.ram")
    return path


@both
def test_snapshot(binary, base):
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        booted(vmm, entry(0, disk), entry(1, GUEST, readonly=True))
        ask(vmm, "dwrite 0 0 200 8")
        path = snapshot(vmm, base)
        with open(path + "/state.json", encoding="utf-8") as file:
            device = json.load(file)["snapshots"]["device-manager"]["snapshots"]["disk0"]
        assert json.loads(device["snapshot_data"]["state"])["disk_nsectors"] == 2048
        shutil.copy(disk, base + "/clone")
        vmm.call("PUT", "vm.resume")
        assert ask(vmm, "dread 0 0 200") == "DREAD 0 0 200 " + checksum(pattern(8, 0, 200))
    shutil.move(base + "/clone", disk)
    for _ in range(2):
        with start(binary) as vmm:
            assert vmm.restore(path, resume=True).status == 204
            assert vmm.names()[1:2] in ([], ["virtio-device/activated"])
            assert ask(vmm, "dread 0 0 200") == "DREAD 0 0 200 " + checksum(pattern(8, 0, 200))
            assert ask(vmm, "dwrite 0 50 100 9") == "DWRITE 0 50 100 OK"
            assert read_back(disk, 0, 200) == (pattern(8, 0, 50) + pattern(9, 50, 100) +
                                               pattern(8, 150, 50))
            make_disk(disk, head=pattern(8, 0, 200))
            assert vmm.call("GET", "vm.counters").json()["disk0"]["write_ops"] == 1
            vmm.wait_event("virtio-device/activated", 2)
            assert vmm.names().count("virtio-device/activated") == 2


@both
def test_snapshot_before_the_first_use(binary, base):
    disk = make_disk(base + "/disk", head=pattern(1, 0, 9))
    with start(binary) as vmm:
        path = snapshot(booted(vmm, entry(0, disk)), base)
    with start(binary) as vmm:
        assert vmm.restore(path, resume=True).status == 204
        assert "virtio-device/activated" not in vmm.names()
        assert ask(vmm, "dread 0 0 9") == "DREAD 0 0 9 " + checksum(pattern(1, 0, 9))


@needs_real
def test_snapshot_in_the_middle(base):
    """A guest that is being slowed down is caught with a request under way."""
    disk = make_disk(base + "/disk")
    with start(REAL) as vmm:
        booted(vmm, entry(0, disk, rate_limiter_config={"ops": {"size": 10, "refill_time": 1000}}))
        vmm.type("dwrite 0 0 2048 6")  # 16 requests: the last ones have to wait
        vmm.until(lambda: vmm.call("GET", "vm.counters").json()["disk0"]["write_ops"] >= 11)
        path = snapshot(vmm, base)
        assert "DWRITE" not in vmm.stdout()
    with start(REAL) as vmm:
        assert vmm.restore(path, resume=True).status == 204
        vmm.wait_text("^DWRITE 0 0 2048 OK$")
        assert read_back(disk, 0, 2048) == pattern(6, 0, 2048)


@both
@pytest.mark.parametrize("size, after", [(MIB // 2, MIB // 2 + 2 * SECTOR), (2 * MIB, 2 * MIB)])
def test_file_of_another_size(binary, base, size, after):
    """The guest sees the size of the snapshot whatever the file has: nobody checks."""
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        booted(vmm, entry(0, disk))
        ask(vmm, "dwrite 0 1000 48 8")
        path = snapshot(vmm, base)
    os.truncate(disk, size)
    with start(binary) as vmm:
        assert vmm.restore(path, resume=True).status == 204
        assert ask(vmm, "dsize 0") == "DSIZE 0 2048"
        there = read_back(disk, 1000, 48).ljust(48 * SECTOR, b"\0")
        assert ask(vmm, "dread 0 1000 48") == "DREAD 0 1000 48 " + checksum(there)
        assert ask(vmm, "dread 0 2000 48") == "DREAD 0 2000 48 00000000"
        assert ask(vmm, "dwrite 0 1024 2 4") == "DWRITE 0 1024 2 OK"  # a short one grows
        assert ask(vmm, "dwrite 0 2048 1 4") == "DWRITE 0 2048 1 ERR 255"
        assert os.stat(disk).st_size == after


@both
@pytest.mark.parametrize("how", ["reset", "triple", "vm.reboot"])
def test_reboot_in_place(binary, base, how):
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        booted(vmm, entry(0, disk))
        ask(vmm, "dwrite 0 7 70 7")
        if how == "vm.reboot":
            assert vmm.call("PUT", how).status == 204
        else:
            vmm.type(how)
        vmm.wait_event("vm/rebooted")
        vmm.until(lambda: vmm.stdout().count("GUEST UP") == 2)
        assert ask(vmm, "dread 0 7 70") == "DREAD 0 7 70 " + checksum(pattern(7, 7, 70))
        vmm.wait_event("virtio-device/activated", 2)
        assert vmm.names().count("virtio-device/activated") == 2
        assert vmm.call("GET", "vm.counters").json()["disk0"]["read_ops"] == 1


@both
@pytest.mark.parametrize("limit", [
    {"bandwidth": {"size": 64 * MIB, "refill_time": 1000}},
    {"ops": {"size": 1000, "one_time_burst": 100, "refill_time": 100}},
    {"bandwidth": {"size": MIB, "refill_time": 10}, "ops": {"size": 10, "refill_time": 10}}])
def test_rate_limiter(binary, base, limit):
    with start(binary) as vmm:
        booted(vmm, entry(0, make_disk(base + "/disk"), rate_limiter_config=limit))
        assert ask(vmm, "dwrite 0 0 1024 1") == "DWRITE 0 0 1024 OK"
        shown = vmm.call("GET", "vm.info").json()["config"]["disks"][0]["rate_limiter_config"]
        empty = {"size": 0, "refill_time": 0, "one_time_burst": None}
        assert shown == {part: limit.get(part) and {**empty, **limit[part]}
                         for part in ("bandwidth", "ops")}


@needs_real
def test_rate_limiter_slows_down(base):
    """v53 looks again every 100 ms and forgets fractions of a token: below 10 a second it would
    never let the guest go on."""
    with start(REAL) as vmm:
        booted(vmm, entry(0, make_disk(base + "/disk"),
                          rate_limiter_config={"ops": {"size": 4, "refill_time": 400}}))
        started = time.monotonic()
        ask(vmm, "dwrite 0 0 1024 1")  # 8 requests
        assert time.monotonic() - started > 0.35


# ---- what is refused, side by side ----

FOOTER = (b"conectix" + struct.pack(">II", 2, 0x10000) + b"\xff" * 8).ljust(60, b"\0") + \
    struct.pack(">I", 2)


def refusals(directory):
    """Changes of the disk's entry, and what its file is made of."""
    path = directory + "/disk"
    for size in 0, 100:
        yield {}, make_disk(path, size)
    yield {}, make_disk(path, head=b"QFI\xfb")
    yield {}, make_disk(path, head=b"vhdxfile")
    yield {}, make_disk(path, tail=FOOTER.ljust(512, b"\0"))
    make_disk(path)
    for change in ({"image_type": "Qcow2"}, {"image_type": "raw"}, {"path": None},
                   {"path": directory}, {"path": directory + "/none"},
                   {"path": directory + "/none", "readonly": True}, {"num_queues": 2},
                   {"queue_size": 2}, {"queue_size": 100}, {"rate_limit_group": "g"},
                   {"rate_limiter_config": {"ops": {"size": 1}}}, {"readonly": "yes"},
                   {"lock_granularity": "byte"}):
        yield change, path


def tried(vmm, disks, directory):
    """Every answer of a boot with these disks, and what is left of them."""
    out = [normal(vmm.call("PUT", "vm.create", vmm.config("tick=0", disks=disks)))]
    out.append(normal(vmm.call("PUT", "vm.boot")))
    info = vmm.call("GET", "vm.info")
    out.append(info.json()["config"].get("disks") if info.status == 200 else info.status)
    vmm.call("PUT", "vm.delete")
    vmm.drain()
    text = json.dumps(out, default=repr).replace(directory, "DIR")
    return re.sub(r"unknown variant [^\"]*|invalid type: [^\"]*", "BAD", text)


@needs_real
def test_refusals(base):
    with start(STANDIN) as fake, start(REAL) as real:
        for change, path in refusals(base):
            disks = [{**entry(0, path), **change}]
            assert tried(fake, disks, base) == tried(real, disks, base), change
        twice = [entry(0, base + "/disk"), entry(0, GUEST, readonly=True)]
        assert tried(fake, twice, base) == tried(real, twice, base)
        same_file = [entry(0, base + "/disk"), entry(1, base + "/disk")]
        assert tried(fake, same_file, base) == tried(real, same_file, base)


@needs_real
def test_defaults_shown(base):
    """Everything that v53 fills in, for a bare entry and for ours."""
    path = make_disk(base + "/disk", MIB + 700)
    shown, lines = [], []
    for binary in STANDIN, REAL:
        with start(binary) as vmm:
            booted(vmm, {"path": path}, entry(1, GUEST, readonly=True), cpus={
                "boot_vcpus": 1, "max_vcpus": 1, "nested": False})
            shown.append(vmm.call("GET", "vm.info").json()["config"]["disks"])
            assert ask(vmm, "dwrite 0 0 1 1") == "DWRITE 0 0 1 ERR 1"  # its type was not given
            assert ask(vmm, "dsize 0") == "DSIZE 0 2049"
            vmm.watch(0.05)
            lines.append(stderr_lines(vmm, "block.rs"))
    assert shown[0] == shown[1]
    assert lines[0] == lines[1] and len(lines[0]) == 5


def stderr_lines(vmm, where):
    """Lines from a source file, without what differs from run to run."""
    found = [line for line in vmm.stderr().split("\r\n") if where in line]
    return [re.sub(r"^cloud-hypervisor: +[\d.]+s|(?<=Instant \{).*?(?=\})|"
                   r"(?<=GuestAddress\()[0-9a-f]+", "", line) for line in found]


@both
def test_locks(binary, base):
    disk = make_disk(base + "/disk", 3 * MIB)
    refused = ["Error from API", "The VM could not boot",
               "Error locking disk images: Another instance likely holds a lock",
               "Cannot lock images of all block devices"]
    with start(binary) as vmm, start(binary) as other:
        booted(vmm, entry(0, disk))
        inode = os.stat(disk).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            assert re.search(rf"OFDLCK ADVISORY +WRITE .*:{inode} 0 {3 * MIB - 1}\n", file.read())
        for readonly, kind in (True, "Read"), (False, "Write"):
            other.call("PUT", "vm.create", other.config(disks=[entry(0, disk, readonly=readonly)]))
            answer = other.call("PUT", "vm.boot")
            assert answer.status == 500 and answer.json() == refused + [
                f"Failed to get {kind} lock for disk image: {disk}", "The file is already locked"]
            other.wait_err(f"ERROR:virtio-devices/src/block.rs:1032 -- Can't get {kind} lock for "
                           f"{disk} as there is already a ExclusiveWrite lock")
            other.call("PUT", "vm.delete")
        vmm.call("PUT", "vm.delete")
        booted(other, entry(0, disk))


@both
def test_failed_boot_loses_the_disks(binary, base):
    """The trap: the same vm.boot once more gives a machine without disks."""
    with start(binary) as vmm:
        disks = [entry(0, make_disk(base + "/a")), entry(1, base + "/none")]
        vmm.call("PUT", "vm.create", vmm.config("tick=0", disks=disks))
        assert vmm.call("PUT", "vm.boot").status == 500
        assert vmm.call("PUT", "vm.boot").status == 204
        vmm.wait_text("^GUEST UP$")
        assert ask(vmm, "dsize 0") == "DSIZE 0 ERR 255"


@both
def test_raw_disk_that_looks_like_another(binary, base):
    """What a guest writes to the first sector of its raw disk can keep it from booting again."""
    disk = make_disk(base + "/disk")
    with start(binary) as vmm:
        path = snapshot(booted(vmm, entry(0, disk)), base)
        with open(disk, "r+b") as file:
            file.write(b"QFI\xfb\0\0\0\x09")
        with start(binary) as other:
            vmm.call("PUT", "vm.delete")
            answer = other.restore(path)
            assert answer.status == 500
            assert answer.json()[-1] == "Unsupported version: 9"
            assert other.call("GET", "vm.info").status == 404
    make_disk(disk)
    with start(binary) as vmm:
        booted(vmm, entry(0, disk))
        with open(disk, "r+b") as file:
            file.write(b"QFI\xfb\0\0\0\x09")
        vmm.type("reset")
        assert vmm.wait_exit() == 1
        assert "Unsupported version: 9" in vmm.stderr()


# ---- a full file system ----

FULL = (r"cloud-hypervisor: +[\d.]+s: <disk0_q0> WARN:virtio-devices/src/block.rs:604 -- Request "
        r"failed: Request \{ request_type: Out, sector: %x, data_descriptors: \[\(GuestAddress"
        r"\([0-9a-f]+\), %x\)\], status_addr: GuestAddress\([0-9a-f]+\), writeback: true, start: "
        r"Instant \{ tv_sec: [0-9a-f]+, tv_nsec: [0-9a-f]+ \} \} Os \{ code: 28, kind: "
        r'StorageFull, message: "No space left on device" \}\r\n')


@needs_root
@both
def test_full_file_system(binary, base):
    full = make_dir(base, "full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", full], check=True)
    try:
        disk = make_disk(full + "/disk", 4 * MIB)
        with start(binary) as vmm:
            booted(vmm, entry(0, disk))
            assert ask(vmm, "dwrite 0 0 400 1") == "DWRITE 0 0 400 OK"
            assert "block.rs" not in vmm.stderr()
            # 512 sectors fit: v53 takes a short write for a whole one, and says nothing
            assert ask(vmm, "dwrite 0 400 128 1") == "DWRITE 0 400 128 OK"
            assert read_back(disk, 512, 16) == bytes(16 * SECTOR)
            assert "block.rs" not in vmm.stderr()
            for sector, count in (2000, 8), (3000, 600):
                assert ask(vmm, f"dwrite 0 {sector} {count} 1") == \
                    f"DWRITE 0 {sector} {count} ERR 1"
                vmm.wait_err(FULL % (sector, min(count, 128) * SECTOR))
            assert ask(vmm, "dread 0 0 512") == "DREAD 0 0 512 " + checksum(pattern(1, 0, 512))
            assert ask(vmm, "dwrite 0 0 512 2") == "DWRITE 0 0 512 OK"  # there is room for that
            assert ask(vmm, "dflush 0") == "DFLUSH 0 OK"
            assert vmm.state() == "Running"
            subprocess.run(["mount", "-o", "remount,size=8m", full], check=True)
            assert ask(vmm, "dwrite 0 3000 600 1") == "DWRITE 0 3000 600 OK"
            assert vmm.call("GET", "vm.counters").json()["disk0"]["write_ops"] == 4 + 1 + 4 + 5
    finally:
        subprocess.run(["umount", full], check=True)


# ---- the stand-in's own ----

@pytest.mark.parametrize("error, text", [
    ("eio", 'Os { code: 5, kind: Uncategorized, message: "Input/output error" }'),
    ("enospc", 'Os { code: 28, kind: StorageFull, message: "No space left on device" }'),
    ("edquot", 'Os { code: 122, kind: QuotaExceeded, message: "Disk quota exceeded" }')])
def test_order_disk(base, error, text):
    disk = make_disk(base + "/disk")
    with start(STANDIN, f"standin:disk={error}") as vmm:
        booted(vmm, entry(0, disk))
        for _ in range(2):
            assert ask(vmm, "dwrite 0 0 4 1") == "DWRITE 0 0 4 ERR 1"
        assert ask(vmm, "dread 0 0 4") == "DREAD 0 0 4 00000000"
        assert vmm.stderr().count(text) == 2
    with start(STANDIN) as vmm:  # the second request of the first command
        booted(vmm, entry(0, disk), cmdline=f"tick=0 standin:disk={error}@2")
        assert ask(vmm, "dwrite 0 0 200 1") == "DWRITE 0 0 200 ERR 1"
        assert read_back(disk, 0, 200) == pattern(1, 0, 128) + bytes(72 * SECTOR)
        assert ask(vmm, "dwrite 0 0 200 1") == "DWRITE 0 0 200 OK"


def test_taken_over(base):
    """What a hostile VMM may try on its own file."""
    disk = make_disk(base + "/disk")
    with start(STANDIN) as vmm:
        booted(vmm, entry(0, disk), entry(1, GUEST, readonly=True))
        assert ask(vmm, "dopen 0") == "DOPEN 0 OK"
        links = [os.readlink(f"/proc/{vmm.process.pid}/fd/{fd}")
                 for fd in os.listdir(f"/proc/{vmm.process.pid}/fd")]
        assert links.count(disk) == 2
        assert ask(vmm, "dtrunc 0 10") == "DTRUNC 0 10 OK"
        assert os.stat(disk).st_size == 10 * SECTOR
        assert ask(vmm, "dtrunc 0 10000") == "DTRUNC 0 10000 OK"
        assert ask(vmm, "dsize 0") == "DSIZE 0 2048"
        assert ask(vmm, "dtrunc 1 10") == "DTRUNC 1 10 ERR 22"
        assert ask(vmm, "dopen 7") == "DOPEN 7 ERR 255"


def test_bad_disk_orders():
    for order in "disk=", "disk=maybe", "disk=eio@0":
        with start(STANDIN, "standin:" + order) as vmm:
            assert vmm.wait_exit() == 1
