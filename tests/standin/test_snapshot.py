# SPDX-License-Identifier: Apache-2.0
"""vm.snapshot, vm.restore and vm.resize: side by side with the real VMM, and by themselves."""
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess

import pytest

from test_standin import BINARIES, both, guest_sum, needs_real, normal
from vmm_harness import GUEST, MIB, PRELOAD, REAL, STANDIN, Vmm

assert BINARIES
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RAM = 24 * MIB
PRIVATE = {"size": 0, "zones": [{"id": "ram", "size": RAM}]}
ANONYMOUS = {"size": 0, "zones": [{"id": "ram", "size": RAM, "shared": True}]}
WHERE = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a tmpfs, as Cloister's is


def start(binary, orders="", mib=24):
    env = {"LD_PRELOAD": PRELOAD} if binary == REAL else {"STANDIN_ORDERS": orders}
    return Vmm(binary, mib, env=env, where=WHERE)


def make_dir(base, name):
    path = os.path.join(base, name)
    os.mkdir(path)
    return path


def edit(directory, change):
    path = os.path.join(directory, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    change(config)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def sizes(directory):
    return {name: os.lstat(os.path.join(directory, name)).st_size
            for name in os.listdir(directory)}


def paused(binary, cmdline="tick=10 do=touch_3", orders="", **more):
    vmm = start(binary, orders)
    vmm.boot(cmdline, **more)
    vmm.wait_text(r"^COUNT 3\n")
    assert vmm.call("PUT", "vm.pause").status == 204
    return vmm


def all_said(vmm):
    vmm.watch(0.05)
    return vmm.stdout()


def goes_on(vmm, said, touches=(3,)):
    """The restored guest counts on from there, and its memory is right. The pause may have cut a
    line in two: only both halves together count without a gap."""
    vmm.wait_text(r"^COUNT \d+\n(.*\n)*COUNT \d+\n")
    counts = [int(n) for n in re.findall(r"^COUNT (\d+)\n", said + vmm.stdout(), re.M)]
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 4
    assert vmm.ask("sum", r"^SUM ([0-9a-f]{8})\n")[1] == guest_sum(list(touches))


@pytest.fixture
def base():
    path = subprocess.run(["mktemp", "-d", *(["-p", WHERE] if WHERE else [])], check=True,
                          capture_output=True, text=True).stdout.strip()
    yield path
    shutil.rmtree(path)


def as_map(directory, ram, **more):
    edit(directory, lambda c: c["memory"]["zones"][0].update(file=ram, shared=False, **more))


def make_sets(binary, base):
    """Snapshots of each kind of memory; returns what the guests had said when they were taken."""
    said = {}
    for name, memory in (("private", PRIVATE), ("anonymous", ANONYMOUS), ("file", None)):
        with paused(binary, **({"memory": memory} if memory else {})) as vmm:
            assert vmm.snapshot(make_dir(base, name)).status == 204
            said[name] = all_said(vmm)
            if name == "file":
                shutil.copy(vmm.ram, os.path.join(base, "ram"))
    for name in "map", "own":
        shutil.copytree(os.path.join(base, "file"), os.path.join(base, name))
        said[name] = said["file"]
    as_map(os.path.join(base, "map"), os.path.join(base, "ram"))
    shutil.copy(os.path.join(base, "ram"), os.path.join(base, "own.ram"))
    edit(os.path.join(base, "own"),
         lambda c: c["memory"]["zones"][0].update(file=os.path.join(base, "own.ram")))
    return said


# ---- side by side ----

def compare(ours, theirs, fake, real, swap):
    """Two scripts step by step: the same answers, paths and wording of JSON errors apart."""
    def reply(vmm, step):
        shape = json.dumps(normal(vmm.call(*step)), default=repr)
        for path, name in ((swap[vmm is real], "BASE"), (vmm.dir, "DIR")):
            shape = shape.replace(path, name)
        shape = re.sub(r"(EOF while parsing|expected one of|expected|invalid \w+:) [^\"]*", "BAD",
                       shape)
        shape = json.loads(re.sub(r'\\"fds\\": \[[^]]*\]', "FDS", shape))
        for vmm_ in fake, real:  # else a full channel loses records
            vmm_.drain()
        return shape
    for mine, other in zip(ours, theirs):
        assert reply(fake, mine) == reply(real, other), mine


def snapshot_script(vmm):
    def snap(url):
        return "PUT", "vm.snapshot", {"destination_url": url}
    good = make_dir(vmm.dir, "good")
    yield snap("file://" + good)
    yield "PUT", "vm.create", vmm.config("tick=10", memory=PRIVATE)
    yield snap("file://" + good)
    yield "PUT", "vm.boot", None
    yield snap("file://" + good)
    assert not os.listdir(good)
    yield "PUT", "vm.pause", None
    yield snap("file://" + good)
    for name in "config.json", "state.json", "memory-ranges":
        assert os.stat(os.path.join(good, name)).st_mode == 0o100600
        yield snap("file://" + good)
        os.unlink(os.path.join(good, name))
        if name != "memory-ranges":
            continue
        for there in os.listdir(good):
            os.unlink(os.path.join(good, there))
    yield snap("file://" + good)
    yield snap("file://" + vmm.dir + "/none")
    yield snap("file://" + vmm.path)
    yield snap(good)
    yield "GET", "vm.info", None
    yield "PUT", "vm.resume", None
    yield "PUT", "vm.pause", None


def variants(base):
    """Name, changed copy of a set, what is asked for."""
    def variant(source, name, change):
        path = os.path.join(base, name)
        shutil.copytree(os.path.join(base, source), path)
        change(path)
        return path

    def to_dir(path, name):
        os.unlink(os.path.join(path, name))
        os.mkdir(os.path.join(path, name))

    def write(path, name, text):
        with open(os.path.join(path, name), "w", encoding="utf-8") as file:
            file.write(text)
    yield base + "/none", {}
    for name in "config.json", "state.json", "memory-ranges":
        yield variant("private", "no-" + name, lambda d: os.unlink(d + "/" + name)), {}
        yield variant("private", "dir-" + name, lambda d: to_dir(d, name)), {}
    yield base + "/no-memory-ranges", {"memory_restore_mode": "OnDemand"}
    for name in "config.json", "state.json":
        for size in 0, 100:
            yield variant("private", f"cut{size}-{name}",
                          lambda d: os.truncate(d + "/" + name, size)), {}
    yield variant("private", "empty", lambda d: write(d, "state.json", "{}")), {}
    for more in ({"memory_restore_mode": "OnDemand", "prefault": True},
                 {"memory_restore_mode": "ondemand"}, {"net_fds": [{"id": "n", "num_fds": 1}]},
                 {"resume": 1}, {"net_fds": {}}, {"net_fds": [{"num_fds": 1}]}):
        yield base + "/private", more
    for change in (lambda c: c["memory"]["zones"][0].update(file="/none/ram"),
                   lambda c: c["memory"]["zones"][0].update(file="/tmp"),
                   lambda c: c["memory"]["zones"][0].update(id="other"),
                   lambda c: c["rng"].update(src="/none"),
                   lambda c: c.update(disks=[{"id": "d", "path": GUEST, "readonly": True,
                                              "image_type": "Raw"}]),
                   lambda c: c.update(disks=[{"id": "d", "path": "/none", "readonly": True,
                                              "image_type": "Raw"}]),
                   lambda c: c["payload"].update(kernel="/none"),
                   lambda c: c["memory"]["zones"][0].update(size=2 * RAM)):
        shutil.rmtree(base + "/changed", ignore_errors=True)
        yield variant("map", "changed", lambda d: edit(d, change)), {}
    shutil.copy(base + "/ram", base + "/short.ram")
    os.truncate(base + "/short.ram", 17 * MIB)
    yield variant("map", "short", lambda d: as_map(d, base + "/short.ram")), {}
    for name in "private", "anonymous", "map", "own":
        yield base + "/" + name, {}
        yield base + "/" + name, {"resume": True, "prefault": True}
        yield base + "/" + name, {"resume": True, "memory_restore_mode": "OnDemand"}
    yield base + "/private", {"net_fds": [{"id": "n", "num_fds": 0}]}


def restore_script(vmm, base):
    yield "PUT", "vm.restore", {"source_url": "/tmp"}
    yield "PUT", "vm.restore", {}
    yield "PUT", "vm.create", vmm.config()
    yield "PUT", "vm.restore", {"source_url": "file:///tmp"}
    yield "PUT", "vm.delete", None
    for directory, more in variants(base):
        yield "PUT", "vm.restore", {"source_url": "file://" + directory, **more}
        yield "GET", "vm.info", None
        yield "PUT", "vm.restore", {"source_url": "file://" + base + "/map"}
        yield "GET", "vm.counters", None
        yield "PUT", "vm.delete", None
    yield "PUT", "vmm.shutdown", None


def resize_script(vmm):
    zone = {"id": "ram", "size": RAM, "file": vmm.ram, "shared": True, "hotplug_size": 256 * MIB}
    memory = {"size": 0, "hotplug_method": "VirtioMem", "zones": [zone]}

    def to(name, size):
        return "PUT", "vm.resize-zone", {"id": name, "desired_ram": size}

    def config(**more):
        return vmm.config("tick=0", cpus={"boot_vcpus": 1, "max_vcpus": 2, "nested": False},
                          memory={**memory, **more})

    def both_states():
        for body in ({"desired_vcpus": 2}, {"desired_vcpus": 1}, {"desired_vcpus": 0},
                     {"desired_vcpus": 2}, {"desired_vcpus": 3}, {"desired_balloon": 8 * MIB},
                     {"desired_vcpus": 1}, {"desired_balloon": 2**63}, {"desired_balloon": 0}):
            yield "PUT", "vm.resize", body
            yield "GET", "vm.info", None
        for step in (to("nope", 1), to("ram", -1), ("PUT", "vm.resize-zone", {"id": "ram"})):
            yield step
    yield to("ram", RAM)
    yield "PUT", "vm.create", config()
    yield from both_states()
    yield from (to("ram", 2 * RAM), ("GET", "vm.info", None), to("ram", RAM))
    yield "PUT", "vm.delete", None
    yield "PUT", "vm.create", config()
    yield "PUT", "vm.boot", None
    yield from both_states()
    for size in RAM + 128 * MIB, RAM + 129 * MIB, RAM - MIB, RAM + 512 * MIB:
        yield from (to("ram", size), ("GET", "vm.info", None))
    yield "PUT", "vm.resize", {"desired_ram": 2 * RAM}
    yield "PUT", "vm.pause", None
    yield to("ram", RAM + 256 * MIB)
    yield "PUT", "vm.snapshot", {"destination_url": "file://" + make_dir(vmm.dir, "hot")}
    assert sorted(os.listdir(vmm.dir + "/hot")) == ["config.json", "state.json"]
    yield "PUT", "vm.delete", None
    yield "PUT", "vm.restore", {"source_url": f"file://{vmm.dir}/hot", "resume": True}
    yield "GET", "vm.info", None
    yield from (to("ram", RAM), ("GET", "vm.info", None), ("PUT", "vm.delete", None))
    for more in ({"hotplug_method": "Acpi"}, {"zones": [{**zone, "hotplugged_size": 2**30}]}):
        yield from (("PUT", "vm.create", config(**more)), ("PUT", "vm.boot", None),
                    ("PUT", "vm.delete", None))
    yield "PUT", "vm.create", vmm.config()
    yield from (("PUT", "vm.boot", None), to("ram", 2 * RAM), ("PUT", "vm.delete", None))


@needs_real
@pytest.mark.parametrize("script", [snapshot_script, resize_script])
def test_every_answer_is_the_real_ones(script):
    with start(STANDIN) as fake, start(REAL) as real:
        compare(script(fake), script(real), fake, real, ("\0", "\0"))


@needs_real
def test_every_restore_is_the_real_ones(base):
    fakes, reals = make_dir(base, "fake"), make_dir(base, "real")
    for binary, where in ((STANDIN, fakes), (REAL, reals)):
        make_sets(binary, where)
    with start(STANDIN) as fake, start(REAL) as real:
        compare(restore_script(fake, fakes), restore_script(real, reals), fake, real,
                (fakes, reals))
        assert fake.wait_exit() == 0
        # v53 by itself, without any preload, sometimes falls over a thread's end after so many VMs
        assert real.wait_exit() == 0 or (real.process.returncode == -signal.SIGSYS and
                                         "local data has been destroyed" in real.stderr())
        assert fake.names()[:-2] == real.names()[:len(fake.names()) - 2]  # it may lose the last


# ---- the same on both ----

@both
def test_files_and_events(binary, base):
    with paused(binary) as vmm:
        good = make_dir(base, "good")
        info = vmm.call("GET", "vm.info").json()
        assert vmm.snapshot(good).status == 204
        assert sorted(os.listdir(good)) == ["config.json", "state.json"]  # ram is the file's
        with open(good + "/config.json", encoding="utf-8") as file:
            assert json.load(file) == info["config"]
        with open(good + "/state.json", encoding="utf-8") as file:
            assert set(json.load(file)) == {"snapshots", "snapshot_data"}
        assert 29000 < sizes(good)["state.json"] < 64000
        vmm.wait_event("vm/snapshotted")
        assert vmm.names()[-2:] == ["vm/snapshotting", "vm/snapshotted"]
        os.unlink(vmm.ram)  # a file without a name is written like memory without one
        assert vmm.snapshot(make_dir(base, "unnamed")).status == 204
        ranges = os.stat(base + "/unnamed/memory-ranges")
        assert ranges.st_size == RAM and 3 * MIB <= ranges.st_blocks * 512 < 4 * MIB
    make_sets(binary, base)
    dense, sparse = (os.stat(f"{base}/{name}/memory-ranges") for name in ("private", "anonymous"))
    assert dense.st_size == sparse.st_size == RAM
    assert dense.st_blocks * 512 >= RAM and sparse.st_blocks * 512 < 4 * MIB


@both
def test_restored_guests_go_on(binary, base):
    said = make_sets(binary, base)
    for name, more in (("private", {}), ("private", {"memory_restore_mode": "OnDemand"}),
                       ("anonymous", {}), ("map", {}), ("own", {}),
                       ("map", {"memory_restore_mode": "OnDemand"})):
        with start(binary) as vmm:
            assert vmm.restore(f"{base}/{name}", resume=name != "map", **more).status == 204
            if name == "map":
                assert vmm.state() == "Paused"
                assert vmm.call("PUT", "vm.resume").status == 204
            assert vmm.state() == "Running"
            goes_on(vmm, said[name])
            assert vmm.names()[1:5] == ["vm/restoring", "vm/restored", "vm/resuming", "vm/resumed"]
            vmm.ask("touch 2", r"^TOUCHED 2\n")  # the generation went on as well
            assert vmm.ask("sum", r"^SUM (\w+)\n")[1] == guest_sum([3, 2])


@both
def test_map_leaves_the_template_alone(binary, base):
    said = make_sets(binary, base)["map"]
    with open(base + "/ram", "rb") as file:
        before = file.read()
    with start(binary) as one, start(binary) as two:
        for vmm in one, two:
            assert vmm.restore(base + "/map", resume=True).status == 204
            with open(f"/proc/{vmm.process.pid}/maps", encoding="utf-8") as maps:
                assert re.search(rf"rw-p .*{base}/ram\n", maps.read())
            links = [os.readlink(f"/proc/{vmm.process.pid}/fd/{fd}")
                     for fd in os.listdir(f"/proc/{vmm.process.pid}/fd")]
            assert base + "/ram" in links
        one.ask("touch 4", r"^TOUCHED 4\n")
        goes_on(two, said)
        assert one.ask("sum", r"^SUM (\w+)\n")[1] == guest_sum([3, 4])
        one.call("PUT", "vm.pause")
        assert one.snapshot(make_dir(base, "clone")).status == 204  # dense, all of it
        assert sizes(base + "/clone")["memory-ranges"] == RAM
    with open(base + "/ram", "rb") as file:
        assert file.read() == before
    with start(binary) as vmm:
        assert vmm.restore(base + "/clone", resume=True).status == 204
        assert vmm.ask("sum", r"^SUM (\w+)\n")[1] == guest_sum([3, 4])


@both
def test_truncated_memory(binary, base):
    make_sets(binary, base)
    os.truncate(base + "/private/memory-ranges", 17 * MIB)
    with start(binary) as vmm:  # zeros, and nobody says so
        assert vmm.restore(base + "/private", resume=True).status == 204
        words = [page * 2654435761 + 1 if page < 256 else 0 for page in range(768)]
        total = 0
        for word in words:
            total = (total * 33 + word) & 0xffffffff
        assert vmm.ask("sum", r"^SUM (\w+)\n")[1] == f"{total:08x}"
    with start(binary) as vmm:
        assert vmm.restore(base + "/private", memory_restore_mode="OnDemand").status == 204
        vmm.wait_err("abandoning background prefault")
        answer = vmm.snapshot(make_dir(base, "never"))
        assert answer.status == 500 and answer.json()[-1].endswith("still in progress")
        assert not os.listdir(base + "/never")
        vmm.call("PUT", "vm.resume")
        vmm.type("sum")  # touches what the file does not have
        assert vmm.wait_exit() == 0
        assert re.search("ERROR:.*UFFD handler exited with error", vmm.stderr())


@both
def test_snapshot_while_loading(binary, base):
    make_sets(binary, base)
    orders = "standin:load=150" if binary == STANDIN else ""
    with start(binary, orders) as vmm:
        assert vmm.restore(base + "/private", memory_restore_mode="OnDemand").status == 204
        answer = vmm.snapshot(make_dir(base, "loaded"))
        assert answer.json() == ["Error from API", "The VM could not be snapshotted",
                                 "VM on-demand memory restore is still in progress"]
        vmm.until(lambda: vmm.snapshot(base + "/loaded").status == 204)
        with open(base + "/private/memory-ranges", "rb") as one, \
                open(base + "/loaded/memory-ranges", "rb") as two:
            assert one.read() == two.read()
        assert vmm.names().count("vm/snapshotting") <= 1  # a refusal is no event


@needs_root
@both
@pytest.mark.parametrize("size, names, what", [
    ("4k", {"config.json", "state.json"}, "Error writing VM state snapshot"),
    ("8k", {"config.json", "state.json", "memory-ranges"}, "Error writing dense memory"),
    ("1m", {"config.json", "state.json", "memory-ranges"}, "Error writing dense memory")])
def test_full_file_system(binary, base, size, names, what):
    full = make_dir(base, "full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", full], check=True)
    try:
        with paused(binary, memory=PRIVATE) as vmm:
            answer = vmm.snapshot(full)
            assert answer.status == 500 and "No space left on device" in answer.json()[-1]
            assert answer.json()[4].startswith(what)
            assert set(os.listdir(full)) == names
            assert sizes(full).get("memory-ranges", RAM) == RAM
            assert vmm.state() == "Paused"
            assert vmm.snapshot(make_dir(base, "later")).status == 204
            assert vmm.call("PUT", "vm.resume").status == 204
    finally:
        subprocess.run(["umount", full], check=True)


@both
def test_disk_locks(binary, base):
    disk = base + "/disk"
    with open(disk, "wb") as file:
        file.truncate(MIB)
    with paused(binary, disks=[{"id": "d0", "path": disk, "image_type": "Raw"}]) as vmm:
        assert vmm.snapshot(make_dir(base, "set")).status == 204
        shutil.copy(vmm.ram, base + "/ram")
        as_map(base + "/set", base + "/ram")
        with start(binary) as other:
            answer = other.restore(base + "/set")
            assert answer.json()[2:] == [
                "Error locking disk images: Another instance likely holds a lock",
                "Cannot lock images of all block devices",
                f"Failed to get Write lock for disk image: {disk}", "The file is already locked"]
            other.wait_event("vm/deleted")
            assert other.names()[1:] == ["vm/restoring", "vm/deleted"]
            vmm.call("PUT", "vm.delete")
            assert other.restore(base + "/set", resume=True).status == 204
            counters = other.call("GET", "vm.counters").body
            assert b'"read_latency_min":18446744073709551615' in counters
            assert json.loads(counters)["d0"]["read_ops"] == 0


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    # TUNSETIFF with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x5002))
    return fd


@needs_root
@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs taps")
@both
def test_net_fds(binary, base):
    one, two = tap("standin%d"), tap("standin%d")
    net = {"id": "n0", "mac": "12:34:56:78:90:ab", "num_queues": 2}
    with start(binary) as vmm:
        vmm.call("PUT", "vm.create", vmm.config("tick=10"))
        assert vmm.call("PUT", "vm.add-net", net, fds=[one]).status == 204
        assert vmm.call("PUT", "vm.boot").status == 204
        assert len(vmm.call("GET", "vm.info").json()["config"]["net"][0]["fds"]) == 1
        counters = {"n0": dict.fromkeys(("rx_bytes", "rx_frames", "tx_bytes", "tx_frames"), 0)}
        assert vmm.call("GET", "vm.counters").json() == counters
        vmm.call("PUT", "vm.pause")
        assert vmm.snapshot(make_dir(base, "set")).status == 204
        shutil.copy(vmm.ram, base + "/ram")
    as_map(base + "/set", base + "/ram")
    with start(binary) as vmm:
        def tried(fds, *given):
            asked = [{"id": name, "num_fds": count} for name, count in given]
            answer = vmm.restore(base + "/set", fds=fds, net_fds=asked)
            return answer.status, answer.json()[-1]
        required = "Net id n0 is associated with FDs and is required"
        assert vmm.restore(base + "/set").json()[-1] == required
        assert vmm.restore(base + "/set", fds=[one]).json()[-1] == required
        assert tried([], ("n0", 1)) == tried([one], ("n0", 2)) == (400, "Bad Request")
        assert tried([one], ("nx", 1)) == (500, required)
        assert tried([one, two], ("n0", 1), ("n0", 1)) == (500, "Identifier n0 is not unique")
        assert tried([one, two], ("n0", 2)) == (
            500, "Number of Net FDs passed for 'n0' during Restore: 2. Expected: 1")
        with open("/dev/null", "rb") as null:
            assert tried([null.fileno()], ("n0", 1)) == (
                500, "Inappropriate ioctl for device (os error 25)")
        assert vmm.call("GET", "vm.info").status == 404
        more = {"net_fds": [{"id": "n0", "num_fds": 1}, {"id": "zz", "num_fds": 0}]}
        assert vmm.restore(base + "/set", fds=[two], resume=True, **more).status == 204
        assert vmm.call("GET", "vm.counters").json() == counters
        vmm.wait_text(r"^COUNT \d+\n")
    os.close(one)
    os.close(two)


@needs_root
@both
def test_no_userfaultfd(binary, base):
    """Without the node and without the right to the system call OnDemand is refused."""
    with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="utf-8") as file:
        if file.read().strip() != "0" or not os.path.exists("/dev/userfaultfd"):
            pytest.skip("anybody may have a userfaultfd")
    make_sets(binary, base)
    hide = ("mount --bind /dev/null /dev/userfaultfd && exec setpriv --bounding-set -sys_ptrace "
            '--inh-caps -sys_ptrace "$@"')
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    if binary == REAL:
        env["LD_PRELOAD"] = PRELOAD
    with Vmm(binary, 24, env=env, prefix=("unshare", "-m", "sh", "-c", hide, "sh")) as vmm:
        answer = vmm.restore(base + "/private", memory_restore_mode="OnDemand")
        assert answer.json()[2:] == ["Memory manager error", "Cannot restore VM",
                                     "On-demand restore failed", "Failed to create userfaultfd",
                                     "Operation not permitted (os error 1)"]
        assert vmm.call("GET", "vm.info").status == 404
        assert vmm.restore(base + "/private").status == 204


# ---- the stand-in's own ----

def spoilt(trick, base, calls=1):
    with paused(STANDIN, orders=f"standin:snapshot={trick}@{calls}") as vmm:
        for n in range(1, calls):
            assert vmm.snapshot(make_dir(base, f"fine{n}")).status == 204
            json.load(open(f"{base}/fine{n}/state.json", encoding="utf-8"))
        assert vmm.snapshot(make_dir(base, "bad")).status == 204
        yield vmm, base + "/bad"


@pytest.mark.parametrize("trick, name", [("short-state", "state.json"),
                                         ("short-config", "config.json")])
def test_trick_short(base, trick, name):
    for _, bad in spoilt(trick, base, calls=2):
        with pytest.raises(ValueError), open(f"{bad}/{name}", encoding="utf-8") as file:
            json.load(file)
        assert sizes(bad)[name] == sizes(base + "/fine1")[name] // 2


@pytest.mark.parametrize("trick, kind", [("symlink", stat.S_IFLNK), ("fifo", stat.S_IFIFO),
                                         ("socket", stat.S_IFSOCK),
                                         ("huge", stat.S_IFREG), ("extra", stat.S_IFREG)])
def test_trick_kind(base, trick, kind):
    for _, bad in spoilt(trick, base):
        state = os.lstat(bad + "/state.json")
        assert stat.S_IFMT(state.st_mode) == kind
        assert (trick == "extra") == (len(os.listdir(bad)) == 3)
        if trick == "huge":
            assert state.st_size == 1 << 40 and state.st_blocks * 512 < MIB


def test_trick_noclose(base):
    for vmm, bad in spoilt("noclose", base):
        size = sizes(bad)["state.json"]

        def rewritten():
            with open(bad + "/state.json", encoding="utf-8") as file:
                found = re.match(r'\{"rewritten":(\d+)', file.read())
            return found and int(found[1]) > 2
        vmm.until(rewritten)
        vmm.until(lambda: sizes(bad)["state.json"] == size)


def test_trick_die(base):
    with paused(STANDIN, orders="standin:snapshot=die") as vmm:
        with pytest.raises((EOFError, ConnectionResetError)):
            vmm.snapshot(make_dir(base, "bad"))
        assert vmm.wait_exit() == -9
        assert sizes(base + "/bad")["state.json"] > 10000


def test_orders_travel_with_the_configuration(base):
    with paused(STANDIN, "tick=10 do=touch_3 standin:vm.snapshot=delay:1 "
                "standin:vm.restore=error:no_luck@1 standin:resume=ignored") as vmm:
        assert vmm.snapshot(make_dir(base, "set")).status == 204
        shutil.copy(vmm.ram, base + "/ram")
        as_map(base + "/set", base + "/ram")
    with start(STANDIN) as vmm:
        assert vmm.restore(base + "/set", resume=True).json()[-1] == "no luck"
        assert vmm.call("GET", "vm.info").status == 404
    edit(base + "/set", lambda c: c["payload"].update(
        cmdline="standin:resume=ignored standin:at=50:exit:7"))
    with start(STANDIN) as vmm:
        assert vmm.restore(base + "/set", resume=True).status == 204
        assert vmm.wait_exit() == 7
    edit(base + "/set", lambda c: c["payload"].update(cmdline="standin:resume=ignored"))
    with start(STANDIN) as vmm:
        assert vmm.restore(base + "/set", resume=True).status == 204
        assert vmm.state() == "Paused"


def test_unknown_keys(base):
    make_sets(STANDIN, base)
    edit(base + "/map", lambda c: c["memory"]["zones"][0].update(Shared=False))
    with start(STANDIN) as vmm:
        assert "`memory.zones[0].Shared`" in vmm.restore(base + "/map").json()[-1]
        answer = vmm.restore(base + "/own", memory_restore="Copy")
        assert "`memory_restore`" in answer.json()[-1]
        assert vmm.restore(base + "/own").status == 204
