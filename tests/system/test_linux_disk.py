# SPDX-License-Identifier: Apache-2.0
"""The real Linux with an ext4 file system on its disk: template, clones, hibernate, wake.

It is booted once. What it wrote it reads in every guest that comes of it, and what lies on the
host is a file system that fsck has nothing to say of.
"""
import lzma
import os
import shutil
import stat
import subprocess

import pytest

import filesystems
import harness
from conftest import need
from diskmodel import image_path, path_of, tell
from harness import LINUX_GUEST, wait_for
from test_disk_sets import at_once, set_disk
from test_snapshot import drop_template, restore, snapshot

INIT = os.path.join(harness.TOP, "build", "tests", "guest", "linux_init")


def cpio(entries):
    """An archive of the "newc" kind (the kernel's early-userspace/buffer-format.rst)."""
    out = bytearray()
    for inode, (name, mode, device, data) in enumerate(
            [*entries, ("TRAILER!!!", 0, 0, b"")], start=1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, os.major(device), os.minor(device),
                  len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields)
        out += name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def add_guest(host):
    """Kernel, initramfs and a file system in an image."""
    unpacked = os.path.join(host.base, "vmlinux")
    with lzma.open(os.path.join(LINUX_GUEST, "vmlinux.xz")) as packed, open(unpacked, "wb") as out:
        shutil.copyfileobj(packed, out)
    host.add_image("kernels", "linux", unpacked)
    archive = os.path.join(host.base, "initramfs")
    with open(INIT, "rb") as init, open(archive, "wb") as out:
        out.write(cpio([("dev", stat.S_IFDIR | 0o755, 0, b""),
                        ("dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1), b""),
                        ("init", stat.S_IFREG | 0o755, 0, init.read())]))
    host.add_image("initramfs", "linux", archive)
    root = os.path.join(host.base, "root")
    os.mkdir(root)
    with open(os.path.join(root, "given"), "wb") as f:
        f.write(b"\1\0\0\0" * 1024)
    image = os.path.join(host.base, "disk.img")
    filesystems.run("mkfs.ext4", "-q", "-d", root, image, "16m")
    host.add_image("disks", "linux", image)


def fill(host, box, name, kib, seed):
    tell(host, box, f"fill {name} {kib} {seed}", rf"FILLED {name} {kib}\n")


def sum_of(host, box, name):
    """Size and checksum, or the errno."""
    got = tell(host, box, f"sum {name}", rf"SUM {name} (\d+) ([0-9a-f]+)\n|ERR sum (\d+)\n")
    return (int(got.group(1)), got.group(2)) if got.group(1) else int(got.group(3))


def last_logged(host, box):
    """(the number in memory, the last one on the disk)"""
    got = tell(host, box, "last", r"LAST (\d+) (\d+)\n")
    return int(got.group(1)), int(got.group(2))


def fsck(path, option, allowed):
    """What it says; its exit status is one of those allowed (fsck.ext4(8): 1 means mended)."""
    done = subprocess.run(["fsck.ext4", "-f", option, path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode in allowed, done.stdout
    return done.stdout


def fsck_with_journal(path, host):
    """Of a copy, whose journal is replayed first, as a mount would."""
    copy = os.path.join(host.base, "fsck.img")
    subprocess.run(["cp", "--sparse=always", path, copy], check=True)
    fsck(copy, "-p", (0, 1))
    fsck(copy, "-n", (0,))


@pytest.mark.ch
@pytest.mark.fs("xfs")
def test_linux_on_a_disk_of_its_own(disk_host):
    need("linux")
    host = disk_host
    add_guest(host)
    host.create(id="src", kernel="linux", initramfs="linux", memory_mib=64,
                cmdline="console=ttyS0 quiet", disks=[{"image": "linux", "size_mib": 16}])
    host.wait_console("src", "GUEST UP", timeout=90)
    assert "ERR" not in host.console("src"), host.console("src")
    given = sum_of(host, "src", "given")
    assert given[0] == 4096
    fill(host, "src", "before", 16, 1)
    before = sum_of(host, "src", "before")
    # A log is being written when the template is taken: what memory says is on the disk.
    tell(host, "src", "log log", r"LOG log\n")
    wait_for(lambda: last_logged(host, "src")[0] > 5, 30, "a log")
    logged = last_logged(host, "src")[0]
    snapshot(host, "src", "t1")
    fsck_with_journal(set_disk(host, "t1"), host)
    host.destroy("src")
    at_once([lambda b=b: restore(host, b, "t1", m) for b, m in (("map", "map"), ("copy", "copy"))])
    for number, box in enumerate(("map", "copy")):
        memory, disk = last_logged(host, box)
        assert memory == disk >= logged, (box, memory, disk, logged)
        assert sum_of(host, box, "before") == before and sum_of(host, box, "given") == given
        fill(host, box, box, 16, 10 + number)
        tell(host, box, "sync", r"SYNCED\n")
    sums = {box: sum_of(host, box, box) for box in ("map", "copy")}
    assert sums["map"] != sums["copy"]
    assert sum_of(host, "map", "copy") == sum_of(host, "copy", "map") == 2  # ENOENT
    host.destroy("map")
    host.act("copy", "hibernate")
    host.act("copy", "wake")
    memory, disk = last_logged(host, "copy")
    assert memory == disk, (memory, disk)
    assert sum_of(host, "copy", "copy") == sums["copy"]
    assert sum_of(host, "copy", "before") == before
    # Unmounted, it needs no journal.
    tell(host, "copy", "umount", r"UMOUNTED\n")
    assert "recover" not in fsck(path_of(host, "copy", 0), "-n", (0,))
    tell(host, "copy", "mount", r"MOUNTED\n")
    files = tell(host, "copy", "ls", r"FILES (.*)\n").group(1).split()
    assert sorted(files) == ["before", "copy", "given", "log"], files
    fsck(image_path(host, "linux"), "-n", (0,))
    drop_template(host, "t1")
