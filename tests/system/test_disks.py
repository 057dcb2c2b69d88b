# SPDX-License-Identifier: Apache-2.0
"""A sandbox's disks: private files made from images, shared read-only images, block devices.

What is on them is compared block by block, from outside and by the guest.
"""
import contextlib
import os
import signal
import stat
import subprocess
import threading
import time

import pytest

import diskmodel
import filesystems
import harness
from diskmodel import (MIB, SECTOR, allocated, check_file, check_read, image_path, make_image,
                       path_of, write_both)
from harness import TENANT_UIDS, wait_for

ALICE = TENANT_UIDS["alice"]
# Data, a hole, data, and an end that is no whole MiB: 2 MiB and 5 sectors.
PIECES = [(0, 130, 3), (1000, 8, 5), (2048, 64, 7), (4096, 5, 9)]
SIZE = 2 * MIB + 5 * SECTOR
RANGES = [(0, 140), (996, 16), (2040, 80), (4090, 10)]
# What a file may allocate beside its data; xfs takes 128 KiB when a shared block is written to.
PLACE_FOR_METADATA = 192 << 10
GROWN_MIB = 64


def made_on(fs_kind):
    return "reflink" if fs_kind in filesystems.REFLINK else "copy"


def start(host, box="one", disks=(), **spec):
    made = host.create(id=box, cmdline="tick=0", disks=list(disks), **spec)
    host.wait_console(box, "GUEST UP")
    return made


def in_sandboxes(host):
    return sorted(os.path.join(d, n) for d, ds, fs in
                  os.walk(os.path.join(host.state_dir, "sandboxes")) for n in ds + fs)


def vmm_uid(box):
    return os.stat(f"/proc/{box['vmm']['pid']}").st_uid


def try_to_create(host, uid=0, **spec):
    return host.api("POST", "/v1/sandboxes", {"kernel": "tiny", "memory_mib": 32, "id": "bad",
                                              **spec}, uid=uid)


# ------------------------------------------------------------------ private disks


def check_outside(host, fs_kind, box):
    """The files as an administrator sees them."""
    uid = vmm_uid(box)
    directory = os.path.dirname(path_of(host, "one", 0))
    assert sorted(os.listdir(directory)) == ["0", "1", "meta"]
    st = os.stat(path_of(host, "one", 0))
    assert stat.S_ISREG(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600 and st.st_nlink == 1
    assert st.st_uid == uid and host.uid_base <= uid
    # Holes stayed holes, and growing allocates nothing.
    image = allocated(image_path(host, "base"))
    for disk in (0, 1):
        assert allocated(path_of(host, "one", disk)) <= image + PLACE_FOR_METADATA
    assert image < 600 << 10, "the image itself is sparse"
    jail = f"/proc/{box['vmm']['pid']}/root/disk"
    assert sorted(os.listdir(jail)) == ["0", "1", "2"]
    assert os.path.samefile(f"{jail}/1", path_of(host, "one", 1))
    assert os.path.samefile(f"{jail}/2", image_path(host, "base"))
    timings = box["timings_us"]
    assert 0 < timings["disks_us"] <= timings["setup_us"], timings
    assert made_on(fs_kind) == box["disks"][0]["made"]


def test_disks_are_private_and_whole(disk_host, fs_kind):
    host = disk_host
    base = make_image(host, "base", PIECES, SIZE)
    box = start(host, disks=[{"image": "base"}, {"image": "base", "size_mib": GROWN_MIB},
                             {"image": "base", "readonly": True}])
    made = made_on(fs_kind)
    assert box["disks"] == [
        {"id": "disk0", "image": "base", "size_mib": 3, "readonly": False, "made": made},
        {"id": "disk1", "image": "base", "size_mib": GROWN_MIB, "readonly": False, "made": made},
        {"id": "disk2", "image": "base", "size_mib": 3, "readonly": True, "made": "shared"}]
    check_outside(host, fs_kind, box)
    models = [diskmodel.Model(base.data, 3), diskmodel.Model(base.data, GROWN_MIB), base]
    assert [diskmodel.size(host, "one", d) for d in range(3)] == [m.sectors for m in models]
    for disk, model in enumerate(models):
        check_read(host, "one", disk, model, RANGES if disk < 2 else RANGES[:-1] + [(4090, 11)])
    # What one writes is in no other disk, nor in the image; and it reaches the ends.
    write_both(host, "one", 0, models[0], 999, 4, 11)
    write_both(host, "one", 1, models[1], models[1].sectors - 2, 2, 12)
    write_both(host, "one", 1, models[1], 999, 4, 13)
    diskmodel.write(host, "one", 2, 0, 1, 14, want="ERR")
    diskmodel.write(host, "one", 0, models[0].sectors, 1, 14, want="ERR")
    diskmodel.write(host, "one", 3, 0, 1, 14, want="ERR")
    for disk in (0, 1):
        diskmodel.flush(host, "one", disk)
        check_file(host, "one", disk, models[disk])
        check_read(host, "one", disk, models[disk], [(996, 16)])
    assert base.differs(image_path(host, "base")) is None
    start(host, "two", [{"image": "base"}])
    check_file(host, "two", 0, diskmodel.Model(base.data, 3))
    assert allocated(path_of(host, "one", 1)) < MIB
    host.destroy("one")
    assert in_sandboxes(host) == sorted(
        os.path.join(host.state_dir, "sandboxes", n)
        for n in ("admin:two", "admin:two/disks", "admin:two/disks/0", "admin:two/disks/meta"))
    host.destroy("two")
    assert in_sandboxes(host) == []


@pytest.mark.fs("xfs")
def test_eight_disks(disk_host):
    models, disks = [], []
    for i in range(8):
        model = make_image(disk_host, f"image{i}", [(0, 8, 20 + i), (2040, 8, 30 + i)], MIB)
        models.append(model)
        disks.append({"image": f"image{i}", "readonly": i % 4 == 3,
                      "size_mib": 1 if i % 4 == 3 else 1 + i})
    problem = try_to_create(disk_host, disks=[*disks, {"image": "image0"}])
    assert problem.status == 422 and "disks" in problem.json["detail"], problem
    box = start(disk_host, disks=disks)
    assert [d["id"] for d in box["disks"]] == [f"disk{i}" for i in range(8)]
    assert [d["size_mib"] for d in box["disks"]] == [1, 2, 3, 1, 5, 6, 7, 1]
    assert sorted(os.listdir(os.path.dirname(path_of(disk_host, "one", 0)))) == [
        "0", "1", "2", "4", "5", "6", "meta"]
    for i, model in enumerate(models):
        model = diskmodel.Model(model.data, box["disks"][i]["size_mib"])
        check_read(disk_host, "one", i, model, [(0, 9), (2039, 9)])
        if i % 4 != 3:
            write_both(disk_host, "one", i, model, 100, 3, 40 + i)
            check_file(disk_host, "one", i, model)


@pytest.mark.fs("xfs")
def test_a_reboot_in_place_keeps_the_disk(disk_host):
    base = make_image(disk_host, "base", PIECES, SIZE)
    start(disk_host, disks=[{"image": "base"}, {"image": "base", "readonly": True}])
    model = diskmodel.Model(base.data, 3)
    write_both(disk_host, "one", 0, model, 77, 3, 9)
    disk_host.send("one", "reset\n")
    wait_for(lambda: disk_host.console("one").count("GUEST UP") == 2, what="the reboot")
    check_read(disk_host, "one", 0, model, [(70, 20)])
    check_read(disk_host, "one", 1, base, [(70, 20)])
    write_both(disk_host, "one", 0, model, 80, 3, 10)
    check_file(disk_host, "one", 0, model)


@pytest.mark.fs("xfs")
def test_a_vmm_cannot_make_its_disk_longer(disk_host):
    """The kernel does not let it, and no set is made of a disk whose size has changed."""
    make_image(disk_host, "base", PIECES, SIZE)
    box = start(disk_host, disks=[{"image": "base", "size_mib": 8}])
    with open(f"/proc/{box['vmm']['pid']}/limits", encoding="ascii") as f:
        limit = next(line for line in f if line.startswith("Max file size")).split()[3]
    assert 8 * MIB <= int(limit) <= 64 * MIB, limit
    for size in (9 * MIB, 7 * MIB):
        os.truncate(path_of(disk_host, "one", 0), size)
        for action, body in (("snapshot", {"template": "t1"}), ("hibernate", None)):
            answer = disk_host.api("POST", f"/v1/sandboxes/one/{action}", body)
            assert answer.status == 502 and "disk0" in answer.json["detail"], answer
            assert disk_host.get("one")["state"] == "running"
    os.truncate(path_of(disk_host, "one", 0), 8 * MIB)
    disk_host.act("one", "hibernate")
    disk_host.destroy("one")


def cloister(host, *words):
    return subprocess.run([os.path.join(harness.BUILD, "cloister"), "-s", host.control, *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30,
                          check=False)


@pytest.mark.fs("xfs")
@pytest.mark.standin
def test_disks_on_the_command_line(disk_host, fs_kind):
    make_image(disk_host, "base", PIECES, SIZE)
    done = cloister(disk_host, "create", "--id", "one", "--kernel", "tiny", "--memory", "32",
                    "--disk", "image=base,size=8,iops=100", "--disk", "image=base,ro")
    assert done.returncode == 0, done.stdout
    made = made_on(fs_kind)
    assert disk_host.get("one")["disks"] == [
        {"id": "disk0", "image": "base", "size_mib": 8, "readonly": False, "made": made,
         "rate": {"iops": 100}},
        {"id": "disk1", "image": "base", "size_mib": 3, "readonly": True, "made": "shared"}]
    shown = cloister(disk_host, "inspect", "one").stdout
    for word in ("disk0", "base", made, "shared"):
        assert word in shown, shown
    for disk, word in (("image=base,size=1", "size"), ("image=none", "none"), ("ro", "image"),
                       ("image=base,colour=red", "colour"), ("image=base,device=x", "device")):
        done = cloister(disk_host, "create", "--id", "two", "--kernel", "tiny", "--disk", disk)
        assert done.returncode in (1, 2) and word in done.stdout, (disk, done.stdout)
    assert [b["id"] for b in disk_host.list()] == ["one"]


@pytest.mark.fs("ext4")
def test_what_may_not_be_asked_for(disk_host):
    make_image(disk_host, "base", PIECES, SIZE)
    disk = {"image": "base"}
    for disks, words in (
            ({}, ["disks"]), ([7], ["disks[0]"]), ([{}], ["disks[0]", "image"]),
            ([{"image": "base", "device": "x"}], ["disks[0]"]),
            ([disk, {"image": "none"}], ["disks[1]", "none"]),
            ([{"image": "../disks/base"}], ["disks[0].image"]),
            ([{"image": "base", "size_mib": 2}], ["disks[0].size_mib", "2", "3"]),
            ([{"image": "base", "size_mib": 0}], ["disks[0].size_mib"]),
            ([{"image": "base", "size_mib": "3"}], ["disks[0].size_mib"]),
            ([disk, disk, {"image": "base", "readonly": 1}], ["disks[2].readonly"]),
            ([{"image": "base", "rate": {"iops": 9}}], ["disks[0].rate.iops", "9", "10"]),
            ([{"image": "base", "rate": {"mib_s": "x"}}], ["disks[0].rate.mib_s"]),
            ([{"image": "base", "rate": {"x": 1}}], ["disks[0].rate"]),
            ([{"image": "base", "path": "/x"}], ["disks[0]", "path"]),
            ([{"device": "nothing"}], ["disks[0]", "nothing"])):
        answer = try_to_create(disk_host, disks=disks)
        assert answer.status == 422, (disks, answer)
        for word in words:
            assert word in answer.json["detail"], (disks, answer)
    assert disk_host.list() == [] and disk_host.residue() == []


@pytest.mark.fs("ext4")
@pytest.mark.ch
def test_rate_limits_hold(disk_host):
    """The same work with and without a limit."""
    model = make_image(disk_host, "base", PIECES, SIZE)
    took = {}
    for name, rate in (("slow", {"iops": 20, "mib_s": 64}), ("fast", {})):
        box = start(disk_host, name, [{"image": "base", **({"rate": rate} if rate else {})}])
        assert box["disks"][0].get("rate", {}) == rate
        before = time.monotonic()
        for _ in range(16):
            check_read(disk_host, name, 0, model, [(1000, 1)])
        took[name] = time.monotonic() - before
    # 16 operations at 20 a second, but for what a bucket holds at first.
    assert took["slow"] > 2 * took["fast"] and took["slow"] > 0.6, took


# ------------------------------------------------------------------ images that are not sound


def a_mount_over(path):
    filesystems.run("mount", "-t", "tmpfs", "-o", "size=64k", "over", path + ".dir")
    with open(path + ".dir/file", "wb") as f:
        f.truncate(MIB)
    os.chmod(path + ".dir/file", 0o444)
    filesystems.run("mount", "--bind", path + ".dir/file", path)


def replaced(make):
    def change(path):
        os.unlink(path)
        make(path)
    return change


WRONG_IMAGES = {  # how it is made wrong, words of the answer
    "owned": (lambda p: os.chown(p, 1234, 1234), ["owned by uid 1234"]),
    "writable": (lambda p: os.chmod(p, 0o464), ["mode 0464"]),
    "private": (lambda p: os.chmod(p, 0o400), ["0444"]),
    "linked": (lambda p: os.link(p, p + ".too"), ["links"]),
    "symlink": (replaced(lambda p: os.symlink("base", p)), ["regular file"]),
    "fifo": (replaced(lambda p: os.mkfifo(p, 0o444)), ["regular file"]),
    "directory": (replaced(os.mkdir), ["regular file"]),
    "device": (replaced(lambda p: os.mknod(p, stat.S_IFBLK | 0o444, os.makedev(7, 200))),
               ["regular file"]),
    "empty": (lambda p: os.truncate(p, 0), []),
    "odd": (lambda p: os.truncate(p, MIB + 100), ["512"]),
}


@pytest.mark.fs("xfs")
@pytest.mark.standin
def test_only_sound_images_are_taken(disk_host):
    make_image(disk_host, "base", PIECES, SIZE)
    for name, (change, words) in WRONG_IMAGES.items():
        make_image(disk_host, name, [(0, 8, 1)], MIB)
        change(image_path(disk_host, name))
        for more in ({}, {"readonly": True}):
            answer = try_to_create(disk_host, disks=[{"image": "base"}, {"image": name, **more}])
            assert answer.status == 422, (name, more, answer)
            for word in (name, *words):
                assert word in answer.json["detail"], (name, more, answer)
            assert in_sandboxes(disk_host) == [], name
    assert disk_host.list() == [] and disk_host.residue() == []


@pytest.mark.fs("xfs")
@pytest.mark.standin
def test_what_is_mounted_over_an_image_is_not_taken(make_disk_host):
    """The shim looks below its own directories only, whatever the host mounts there."""
    for before in (True, False):
        host = make_disk_host(start=False)
        images = os.path.join(host.state_dir, "images", "disks")
        os.makedirs(images, 0o755)
        if not before:
            host.start()
        make_image(host, "over", [(0, 8, 1)], MIB)
        os.mkdir(image_path(host, "over.dir"))
        a_mount_over(image_path(host, "over"))
        try:
            if before:
                host.start()
            answer = try_to_create(host, disks=[{"image": "over"}])
            # Mounted later, it may be unseen in the spawner's namespace: then the image is sound.
            assert answer.status == 422 or not before and answer.status == 201, answer
            if answer.status == 201:
                with open(path_of(host, "bad", 0), "rb") as f:
                    assert f.read(8 * SECTOR) == diskmodel.pattern(0, 8, 1)
                host.destroy("bad")
            assert in_sandboxes(host) == []
        finally:
            for point in (image_path(host, "over"), image_path(host, "over.dir")):
                filesystems.run("umount", "-l", point)


# ------------------------------------------------------------------ creates that fail, or are ended


@pytest.mark.fs("ext4")
def test_a_failed_create_leaves_nothing(disk_host):
    make_image(disk_host, "base", PIECES, SIZE)
    disk_host.add_image("kernels", "garbage", __file__)
    answer = try_to_create(disk_host, disks=[{"image": "base"}] * 2, kernel="garbage")
    assert answer.status >= 422, answer
    assert in_sandboxes(disk_host) == [] and disk_host.residue() == []
    assert disk_host.api("GET", "/v1/sandboxes/bad").status == 404


BIG_MIB = 96


def big_image(host):
    """Dense. What it holds does not matter."""
    with open(image_path(host, "big"), "xb") as f:
        block = os.urandom(MIB)
        for _ in range(BIG_MIB):
            f.write(block)
        os.fchmod(f.fileno(), 0o444)


@contextlib.contextmanager
def in_mid_copy(host, box, *disks):
    """A create whose shim stands still while its first disk is being copied."""
    host.create(id=box, query="?wait=none", expect=202, disks=list(disks))
    wait_for(lambda: os.path.exists(path_of(host, box, 0)), what="the beginning of the copy")
    shim, = host.shim_pids(f"admin:{box}")
    os.kill(shim, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shim, signal.SIGCONT)


@pytest.mark.fs("ext4", only=True)
def test_a_copy_takes_its_time(disk_host):
    """Meanwhile there is progress, others are served, and destroy works."""
    host = disk_host
    make_image(host, "base", PIECES, SIZE)
    big_image(host)
    events = host.events()
    with in_mid_copy(host, "slow", {"image": "big"}, {"image": "base", "size_mib": 8192}):
        box = host.get("slow")
        assert box["state"] == "creating" and [d["made"] for d in box["disks"]] == [None, None]
        start(host, "other", [{"image": "base"}])
        until = time.monotonic() + 0.6  # a shim tells twice a second
        wait_for(lambda: time.monotonic() > until, what="time to pass")
    told = events.wait(event="progress", sandbox="slow")
    # What there is to copy; that a disk has room to grow is nothing to wait for.
    assert BIG_MIB * MIB + SIZE <= told["total_bytes"] < 2 * BIG_MIB * MIB, told
    assert 0 < told["done_bytes"] <= told["total_bytes"]
    box = host.wait_state("slow", "running")
    assert [d["made"] for d in box["disks"]] == ["copy", "copy"] and "progress" not in box
    host.destroy("slow")
    with in_mid_copy(host, "slow", {"image": "big"}):
        pass
    before = time.monotonic()
    assert host.destroy("slow")["exit"]["cause"] == "destroyed"
    assert time.monotonic() - before < 2
    assert not [p for p in in_sandboxes(host) if "slow" in p]
    # Who waits for the create hears of its end.
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        try_to_create(host, disks=[{"image": "big"}])))
    thread.start()
    wait_for(lambda: os.path.exists(path_of(host, "bad", 0)), what="the beginning of the copy")
    host.destroy("bad")
    thread.join()
    assert answers[0].status in (409, 500, 503), answers
    host.destroy("other")
    assert host.residue() == []


@pytest.mark.fs("ext4", only=True)
@pytest.mark.parametrize("victim", ["shim", "spawner", "supervisor"])
@pytest.mark.standin
def test_a_death_while_a_disk_is_copied(disk_host, victim):
    host = disk_host
    big_image(host)
    with in_mid_copy(host, "slow", {"image": "big"}):
        if victim == "shim":
            for pid in host.shim_pids("admin:slow"):
                os.kill(pid, signal.SIGKILL)
        elif victim == "spawner":
            os.kill(host.spawner_pids()[0], signal.SIGKILL)
            assert host.daemon.wait(10) != 0
        else:
            host.stop(signal.SIGKILL)
    if victim == "shim":
        box = wait_for(lambda: host.get("slow").get("state") != "creating" and host.get("slow"))
        assert box["state"] in ("failed", "crashed"), box
    else:
        # A create that is found unfinished is ended, with what it has made; one that was faster
        # than the new cloisterd is adopted.
        host.start()
        wait_for(lambda: host.residue() == [] or
                 [b["state"] for b in host.list()] == ["running"], what="the end of it")
    if host.list():
        host.destroy("slow")
    start(host, "slow", [{"image": "big"}])
    host.destroy("slow")
    assert host.residue() == []


# ------------------------------------------------------------------ quotas


def quota_host(make_disk_host, tenant_mib, host_mib=0):
    return make_disk_host(
        tenants=False, limits=f"max_disk_mib = {host_mib}\n" if host_mib else "",
        config=f"[tenant alice]\nusers = {ALICE}\nmax_disk_mib = {tenant_mib}\n")


def refused_by_quota(answer, *words):
    assert answer.status == 429, answer
    for word in ("max_disk_mib", *words):
        assert word in answer.json["detail"], answer


@pytest.mark.fs("ext4")
def test_quota_of_disks(make_disk_host):
    host = quota_host(make_disk_host, 100, 160)
    make_image(host, "base", PIECES, SIZE)
    create = lambda uid, box, mib, **more: try_to_create(
        host, uid, id=box, disks=[{"image": "base", "size_mib": mib, **more}])
    refused_by_quota(create(ALICE, "a", 101), "101", "100")
    assert create(ALICE, "a", 60).status == 201
    for _ in range(2):
        refused_by_quota(create(ALICE, "b", 41), "60", "41", "100")
        host.stop(signal.SIGKILL)
        host.start()
    # What is shared is nobody's; what is asked for twice at once is granted once.
    assert create(ALICE, "c", 3, readonly=True).status == 201
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(create(ALICE, f"d{i}", 40)))
               for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status for a in answers) == [201, 429, 429, 429], answers
    # The host's own limit holds for all together, an administrator too.
    refused_by_quota(create(0, "x", 61), "100", "61", "160")
    assert create(0, "x", 60).status == 201
    # It is given back, once.
    for box in [b["id"] for b in host.list("alice")]:
        host.destroy(box, uid=ALICE)
    assert create(ALICE, "a", 100).status == 201
    host.destroy("a", uid=ALICE)
    # A create that fails gives back what it took.
    host.add_image("kernels", "garbage", __file__)
    for _ in range(3):
        answer = try_to_create(host, ALICE, kernel="garbage",
                               disks=[{"image": "base", "size_mib": 100}])
        assert answer.status not in (201, 429), answer
    assert create(ALICE, "a", 100).status == 201
    host.destroy("a", uid=ALICE)


@pytest.mark.fs("xfs")
def test_quota_of_sets(make_disk_host):
    """Templates and hibernated sets count what they allocate, clones what they may grow to."""
    host = quota_host(make_disk_host, 46)
    make_image(host, "base", PIECES, SIZE)
    api = lambda method, path, body=None: host.api(method, "/v1/" + path, body, uid=ALICE)
    made = try_to_create(host, ALICE, id="src", memory_mib=64, cmdline="tick=0 do=touch_12",
                         disks=[{"image": "base", "size_mib": 16}])
    assert made.status == 201, made
    wait_for(lambda: "TOUCHED 12" in host.console("src", uid=ALICE), what="memory that is written")
    taken = api("POST", "sandboxes/src/snapshot", {"template": "t1"})
    assert taken.status == 201, taken
    t1_mib = -(-taken.json["allocated_bytes"] // MIB)
    assert 12 <= t1_mib <= 14, taken
    # 16 of the source, t1's, 8 of another: no room for a second as large, nor for a clone.
    other = try_to_create(host, ALICE, id="other", disks=[{"image": "base", "size_mib": 8}])
    assert other.status == 201, other
    refused_by_quota(api("POST", "sandboxes/src/snapshot", {"template": "t2"}))
    refused_by_quota(api("POST", "sandboxes/src/hibernate"))
    assert api("GET", "sandboxes/src").json["state"] == "running"
    refused_by_quota(api("POST", "sandboxes", {"template": "t1", "id": "clone"}), "16", "46",
                     str(16 + t1_mib + 8))
    assert [t["name"] for t in api("GET", "templates").json["templates"]] == ["t1"]
    assert api("DELETE", "templates/t1").status == 200
    assert api("DELETE", "sandboxes/other").status == 200
    for _ in range(4):  # what an older set took is given back
        assert api("POST", "sandboxes/src/hibernate").status == 200
        assert api("POST", "sandboxes/src/wake").status == 200
    assert api("DELETE", "sandboxes/src").status == 200
    assert api("GET", "templates").json["templates"] == [] and in_sandboxes(host) == []


# ------------------------------------------------------------------ adoption


def test_disks_are_known_after_a_restart(disk_host, fs_kind):
    base = make_image(disk_host, "base", PIECES, SIZE)
    box = start(disk_host, disks=[{"image": "base", "size_mib": 8, "rate": {"mib_s": 100}},
                                  {"image": "base", "readonly": True}])
    model = diskmodel.Model(base.data, 8)
    write_both(disk_host, "one", 0, model, 5000, 10, 99)
    for sig in (signal.SIGKILL, signal.SIGTERM):
        disk_host.stop(sig)
        disk_host.start()
        found = disk_host.get("one")
        assert found["disks"] == box["disks"] and found["disks"][0]["made"] == made_on(fs_kind)
        assert found["state"] == "running" and found["adopted"]
    check_read(disk_host, "one", 0, model, [(0, 140), (4995, 20)])
    check_file(disk_host, "one", 0, model)
    # Its shim can do all that it could.
    answer = disk_host.api("POST", "/v1/sandboxes/one/snapshot", {"template": "t1"})
    assert answer.status == 201 and answer.json["disks"][0]["rate"] == {"mib_s": 100}, answer
    answer = disk_host.api("POST", "/v1/sandboxes", {"id": "two", "template": "t1"})
    assert answer.status == 201, answer
    assert answer.json["disks"] == box["disks"]
    check_file(disk_host, "two", 0, model)
    check_read(disk_host, "two", 0, model, [(4995, 20)])
    disk_host.destroy("two")
    assert disk_host.api("DELETE", "/v1/templates/t1").status == 200
    disk_host.destroy("one")
    assert in_sandboxes(disk_host) == []
