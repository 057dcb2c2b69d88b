# SPDX-License-Identifier: Apache-2.0
"""The real Linux through the life of a set: template, clones in each mode, hibernate and wake.

It is booted once; its ticks go on from where they were in every guest that comes of it.
"""
import lzma
import os
import re

import pytest

from conftest import need
from harness import LINUX_GUEST, wait_for
from test_snapshot import host, restore, snapshot  # noqa: F401 (host is the fixture with the preload)


PADDING = 12 << 20  # bytes behind the initramfs


def last_tick(host, box):
    found = re.findall(r"^TICK (\d+)", host.console(box), re.M)
    return int(found[-1]) if found else 0


def ticks_on(host, box, above):
    return wait_for(lambda: last_tick(host, box) > above and last_tick(host, box), 60,
                    f"{box} ticks beyond {above}")


def allocated_kib(host, box):
    pid = host.get(box)["vmm"]["pid"]
    return os.stat(f"/proc/{pid}/root/mem/ram").st_blocks // 2


def give_memory_back(host, box):
    """
    The kernel has filled PADDING with a pattern and freed it: so much is allocated at least, until
    the balloon device gives it back, by the pages that the balloon takes or that are reported free.
    """
    answer = host.api("POST", f"/v1/sandboxes/{box}/balloon", {"target_mib": 40})
    assert answer.status == 200, answer
    wait_for(lambda: allocated_kib(host, box) < PADDING >> 10, 60,
             f"less than the {PADDING >> 20} MiB that were freed")
    answer = host.api("POST", f"/v1/sandboxes/{box}/balloon", {"target_mib": 0})
    assert answer.status == 200, answer
    # The map clone's cannot: its memory is private to the VMM.
    answer = host.api("POST", "/v1/sandboxes/map/balloon", {"target_mib": 16})
    assert answer.status == 409 and "copy" in answer.json["detail"], answer


@pytest.mark.ch
def test_linux_goes_on_from_its_own_count(host):  # noqa: F811
    need("linux")
    unpacked = os.path.join(host.base, "vmlinux")
    with lzma.open(os.path.join(LINUX_GUEST, "vmlinux.xz")) as packed, open(unpacked, "wb") as out:
        out.write(packed.read())
    host.add_image("kernels", "linux", unpacked)
    # What the kernel cannot read of its initramfs it gives back with the rest, full of a pattern:
    # free memory that is not zero, which is all that a balloon has to show for itself.
    padded = os.path.join(host.base, "initrd")
    with open(os.path.join(LINUX_GUEST, "initrd.cpio"), "rb") as cpio, open(padded, "wb") as out:
        out.write(cpio.read() + b"x" * PADDING)
    host.add_image("initramfs", "linux", padded)
    host.create(id="src", kernel="linux", initramfs="linux", memory_mib=64,
                cmdline="console=ttyS0 quiet tick=100")
    host.wait_console("src", "GUEST UP", timeout=90)
    made = snapshot(host, "src", "linux")
    assert 0 < made["allocated_bytes"] < made["apparent_bytes"]
    taken = last_tick(host, "src")
    for mode in ("map", "copy"):
        restore(host, mode, "linux", mode)
        first = ticks_on(host, mode, 0)
        assert abs(first - taken) < 20, (first, taken)
        ticks_on(host, mode, first)
    give_memory_back(host, "copy")
    # The copy is hibernated and goes on; the map clone's memory is private, CH writes it itself.
    for box in ("copy", "map"):
        host.act(box, "hibernate")
        host.act(box, "wake")
        ticks_on(host, box, 0)
    assert host.api("DELETE", "/v1/templates/linux").status == 200
